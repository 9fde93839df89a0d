//! The kernel programs, as the drawing has them: parse, count, gate, sample, pass.
//!
//! ```text
//! frame ─► parse ─┬─► count ─► lines of its hosts, one row a CPU ─► (limit crossed) HINTS
//!                 │     ├──► flagged, and a rule describes it ─► drop, counted as dropped
//!                 │     └──► flagged or one in N ─► copy ─► SAMPLES
//!                 └─► unparsed, by reason                    verdict: pass
//! ```
//!
//! **Invariant**: every path ends in `XDP_PASS` or `TCX_NEXT` but two; a packet is never held or
//! changed. `xdp_mirror`, whose port carries copies, may take one away: a banned host's, after it was
//! counted, to the AF_XDP socket of its queue. And where the agent was told to, the programs of an
//! uplink drop what a rule with a deadline describes, after it was counted.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[cfg(feature = "bench")]
mod bench;
mod frame;
mod gate;
mod ignore;
mod maps;
mod samples;
mod sockets;
mod tables;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use fastnetmon_common::abi::waiting;
use fastnetmon_common::class::{Direction, Sides};
use fastnetmon_common::parse::{parse_ethernet, parse_inner};
use fastnetmon_common::table::{Touched, count, count_inner, unparsed};

use crate::frame::{Snapshot, TcFrame, XdpFrame};
use crate::tables::{DECAPSULATE, Kernel, frozen};

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: go on with the next program of the hook (linux/bpf.h).
const NEXT: i32 = -1;

/// `TCX_DROP` and `TC_ACT_SHOT` (linux/bpf.h).
const SHOT: i32 = 2;

/// What becomes of a packet.
enum Fate {
    Pass,
    Drop,
    /// Is handed to this socket.
    Take(u32),
}

/// What arrives at a port towards the world: the destination, as incoming.
#[xdp]
#[inline(always)]
pub fn xdp_uplink(ctx: XdpContext) -> u32 {
    uplink(&ctx)
}

#[inline(always)]
fn uplink(ctx: &XdpContext) -> u32 {
    arrives(ctx, Touched::is_flagged)
}

/// As [`uplink`], where this says who is flagged.
#[inline(always)]
fn arrives(ctx: &XdpContext, is_flagged: impl Fn(&Touched) -> bool) -> u32 {
    if ignore::ignores_arriving(ctx) {
        return XDP_PASS;
    }
    let frame = XdpFrame::new(ctx);
    let gate =
        |kernel: &Kernel, touched: &Touched| gate::drops_arriving(kernel, ctx, touched.destination);
    match take(&frame, Sides::Destination, Direction::Incoming, is_flagged, gate, nowhere) {
        Fate::Drop => XDP_DROP,
        Fate::Pass | Fate::Take(_) => XDP_PASS,
    }
}

/// What a mirror port shows: both ends.
#[xdp]
#[inline(always)]
pub fn xdp_mirror(ctx: XdpContext) -> u32 {
    if ignore::ignores_arriving(&ctx) {
        return XDP_PASS;
    }
    let frame = XdpFrame::new(&ctx);
    let socket = || sockets::of(&ctx);
    match take(&frame, Sides::Both, Direction::Incoming, Touched::is_flagged, open, socket) {
        Fate::Take(index) => sockets::redirect(index),
        Fate::Pass | Fate::Drop => XDP_PASS,
    }
}

/// What leaves by a port towards the world: the source, as outgoing.
#[classifier]
#[inline(always)]
pub fn tc_egress(ctx: TcContext) -> i32 {
    if ignore::ignores_leaving(&ctx) {
        return NEXT;
    }
    let frame = TcFrame::new(&ctx);
    let gate =
        |kernel: &Kernel, touched: &Touched| gate::drops_leaving(kernel, &ctx, touched.source);
    match take(&frame, Sides::Source, Direction::Outgoing, Touched::is_flagged, gate, nowhere) {
        Fate::Drop => SHOT,
        Fate::Pass | Fate::Take(_) => NEXT,
    }
}

/// The low half of the kernel's jiffies. Never attached: the loader runs it twice to learn how
/// fast they go.
#[xdp]
#[inline(always)]
pub fn jiffies(_: XdpContext) -> u32 {
    tables::jiffies() as u32
}

/// Makes the additions that wait on this CPU. Never attached: the agent runs it where a CPU has gone
/// quiet.
#[xdp]
#[inline(always)]
pub fn make_up(_: XdpContext) -> u32 {
    Kernel::here().map_or(0, |kernel| kernel.make_up(1))
}

/// The version of the border this object was built for. Never attached: the loader runs it once.
#[xdp]
#[inline(always)]
pub fn abi(_: XdpContext) -> u32 {
    fastnetmon_common::ABI_VERSION
}

/// Counts the frame, keeps a copy when one is wanted, and asks the gate.
#[inline(always)]
fn take<F: Snapshot>(
    frame: &F,
    sides: Sides,
    seen: Direction,
    is_flagged: impl Fn(&Touched) -> bool,
    gate: impl Fn(&Kernel, &Touched) -> bool,
    socket: impl Fn() -> Option<u32>,
) -> Fate {
    let Some(kernel) = Kernel::here() else { return Fate::Pass };
    kernel.make_up(waiting::ENOUGH);
    match parse_ethernet(frame) {
        Ok(packet) => {
            let (mut packets, bytes) = packet.segmented(frame.segments(&packet));
            if F::SEGMENTED {
                // Elsewhere it is one, and the compiler makes something of that.
                packets = kernel.forgotten_number(packets);
            }
            let touched = count(&kernel, &packet, packets, bytes, sides, kernel.window);
            if frozen(&DECAPSULATE) != 0 {
                let inner = parse_inner(frame, touched.payload(&kernel));
                if inner.bytes != 0 {
                    count_inner(&kernel, &inner, packets, sides, kernel.window);
                }
            }
            // Nobody is armed or dropped, nearly always: one look at both ends, and that is all.
            if is_flagged(&touched) {
                return match samples::show(&kernel, frame, touched, socket) {
                    Some(index) => Fate::Take(index),
                    // Last, so that nothing has to be kept while it is asked.
                    None if gate(&kernel, &touched) => Fate::Drop,
                    None => Fate::Pass,
                };
            }
            samples::keep_sparse(&kernel, frame, touched);
            Fate::Pass
        }
        Err(why) => {
            unparsed(&kernel, why, seen, 1, frame.wire_len());
            frame.complain(why);
            Fate::Pass
        }
    }
}

/// A mirror port: there is nothing to be dropped.
#[inline(always)]
fn open(_: &Kernel, _: &Touched) -> bool {
    false
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
