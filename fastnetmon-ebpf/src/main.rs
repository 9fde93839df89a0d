//! The kernel programs, as the drawing has them: parse, count, sample, pass.
//!
//! ```text
//! frame ─► parse ─┬─► count ─► lines of its hosts, one row a CPU ─► (limit crossed) HINTS
//!                 │     └──► flagged or one in N ─► copy ─► SAMPLES
//!                 └─► unparsed, by reason                    verdict: pass
//! ```
//!
//! **Invariant**: every path ends in `XDP_PASS` or `TCX_NEXT`; a packet is never held or changed. Only
//! `xdp_mirror`, whose port carries copies, may take one away: a banned host's, after it was counted,
//! to the AF_XDP socket of its queue.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[cfg(feature = "bench")]
mod bench;
mod frame;
mod maps;
mod samples;
mod sockets;
mod tables;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use fastnetmon_common::class::{Direction, Sides};
use fastnetmon_common::parse::{parse_ethernet, parse_inner};
use fastnetmon_common::table::{count, count_inner, unparsed};

use crate::frame::{Snapshot, TcFrame, XdpFrame};
use crate::tables::{DECAPSULATE, Kernel, frozen, window};

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: go on with the next program of the hook (linux/bpf.h).
const NEXT: i32 = -1;

/// What arrives at a port towards the world: the destination, as incoming.
#[xdp]
pub fn xdp_uplink(ctx: XdpContext) -> u32 {
    take(&XdpFrame::new(&ctx), Sides::Destination, Direction::Incoming, nowhere);
    XDP_PASS
}

/// What a mirror port shows: both ends.
#[xdp]
pub fn xdp_mirror(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    match take(&frame, Sides::Both, Direction::Incoming, || sockets::of(&ctx)) {
        Some(index) => sockets::redirect(index),
        None => XDP_PASS,
    }
}

/// What leaves by a port towards the world: the source, as outgoing.
#[classifier]
pub fn tc_egress(ctx: TcContext) -> i32 {
    take(&TcFrame::new(&ctx), Sides::Source, Direction::Outgoing, nowhere);
    NEXT
}

/// The low half of the kernel's jiffies. Never attached: the loader runs it twice to learn how
/// fast they go.
#[xdp]
pub fn jiffies(_: XdpContext) -> u32 {
    tables::jiffies() as u32
}

/// The version of the border this object was built for. Never attached: the loader runs it once.
#[xdp]
pub fn abi(_: XdpContext) -> u32 {
    fastnetmon_common::ABI_VERSION
}

/// Counts the frame and keeps a copy when one is wanted. Returns the socket that is to have it.
#[inline(always)]
fn take<F: Snapshot>(
    frame: &F,
    sides: Sides,
    seen: Direction,
    socket: impl Fn() -> Option<u32>,
) -> Option<u32> {
    match parse_ethernet(frame) {
        Ok(packet) => {
            let (packets, bytes) = packet.segmented(frame.segments(&packet));
            let touched = count(&Kernel, &packet, packets, bytes, sides, window());
            if frozen(&DECAPSULATE) != 0 {
                let inner = parse_inner(frame, touched.payload);
                if inner.bytes != 0 {
                    count_inner(&Kernel, &inner, packets, sides, window());
                }
            }
            samples::keep(frame, touched, socket)
        }
        Err(why) => {
            unparsed(&Kernel, why, seen, 1, frame.wire_len());
            frame.complain(why);
            None
        }
    }
}

/// A port that carries the host's own traffic: nothing is taken away from it.
#[inline(always)]
fn nowhere() -> Option<u32> {
    None
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends some of its helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
