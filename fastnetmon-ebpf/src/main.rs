//! The kernel programs, as the drawing has them: parse, count, sample, pass.
//!
//! ```text
//! frame ─► parse ─┬─► count ─► lines of its hosts, one row a CPU ─► (limit crossed) HINTS
//!                 │     └──► flagged or one in N ─► copy ─► SAMPLES
//!                 └─► unparsed, by reason                    verdict: always pass
//! ```
//!
//! **Invariant**: every path ends in `XDP_PASS` or `TCX_NEXT`; a packet is never held, changed or
//! taken away.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod frame;
mod maps;
mod samples;
mod tables;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use fastnetmon_common::class::{Direction, Sides};
use fastnetmon_common::parse::parse_ethernet;
use fastnetmon_common::table::{count, unparsed};

use crate::frame::{Snapshot, TcFrame, XdpFrame};
use crate::tables::{Kernel, window};

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: go on with the next program of the hook (linux/bpf.h).
const NEXT: i32 = -1;

/// What arrives at a port towards the world: the destination, as incoming.
#[xdp]
pub fn xdp_uplink(ctx: XdpContext) -> u32 {
    take(&XdpFrame::new(&ctx), Sides::Destination, Direction::Incoming, 1);
    XDP_PASS
}

/// What a mirror port shows: both ends.
#[xdp]
pub fn xdp_mirror(ctx: XdpContext) -> u32 {
    take(&XdpFrame::new(&ctx), Sides::Both, Direction::Incoming, 1);
    XDP_PASS
}

/// What leaves by a port towards the world: the source, as outgoing.
#[classifier]
pub fn tc_egress(ctx: TcContext) -> i32 {
    let frame = TcFrame::new(&ctx);
    take(&frame, Sides::Source, Direction::Outgoing, frame.segments());
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

#[inline(always)]
fn take<F: Snapshot>(frame: &F, sides: Sides, seen: Direction, segments: u32) {
    match parse_ethernet(frame) {
        Ok(packet) => {
            let (packets, bytes) = packet.segmented(segments);
            let touched = count(&Kernel, &packet, packets, bytes, sides, window());
            samples::keep(frame, touched);
        }
        Err(why) => unparsed(&Kernel, why, seen, segments.max(1), frame.wire_len()),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends some of its helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
