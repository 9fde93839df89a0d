//! The stage before counting: a packet that a rule of `[[ignore]]` matches is counted for nobody.
//!
//! **Invariant**: without rules it is not there. It is a function of its own that reads the frame
//! itself and leaves nothing behind but its answer, so that counting has no more to keep, for the
//! verifier or in registers, than without it. An ignored packet passes.

use core::ptr::read_volatile;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use fastnetmon_common::class::Direction;
use fastnetmon_common::ignore::{
    Facts, MOST_RULES, RULE_WORDS, Rules, count_ignored, facts, matches, with_ports,
};
use fastnetmon_common::parse::{Packet, parse_ethernet};

use crate::frame::{Snapshot, TcFrame, XdpFrame};
use crate::maps::{IGNORES, Ignores};
use crate::tables::{IGNORING, Kernel, frozen};

/// The rules in their map.
struct InMap(*const Ignores);

impl Rules for InMap {
    #[inline(always)]
    fn word(&self, rule: u32, word: usize) -> u64 {
        let at = (rule & (MOST_RULES - 1)) as usize * RULE_WORDS + (word & (RULE_WORDS - 1));
        // SAFETY: the pointer came from a lookup that succeeded; the index is masked. Volatile,
        // because the agent writes it.
        unsafe { read_volatile(&raw const (*self.0).0[at]) }
    }
}

/// Is this packet, which arrives or which a mirror shows, not to be counted? Then it is counted as
/// ignored.
#[inline(always)]
pub fn ignores_arriving(ctx: &XdpContext) -> bool {
    frozen(&IGNORING) != 0 && arriving(ctx.ctx) != 0
}

/// Is this packet, which leaves, not to be counted? Then it is counted as ignored.
#[inline(always)]
pub fn ignores_leaving(ctx: &TcContext) -> bool {
    frozen(&IGNORING) != 0 && leaving(ctx.skb.skb) != 0
}

#[inline(never)]
fn arriving(ctx: *mut xdp_md) -> u32 {
    let ctx = XdpContext::new(ctx);
    ignores(&XdpFrame::new(&ctx), Direction::Incoming).into()
}

#[inline(never)]
fn leaving(skb: *mut __sk_buff) -> u32 {
    let ctx = TcContext::new(skb);
    ignores(&TcFrame::new(&ctx), Direction::Outgoing).into()
}

#[inline(always)]
fn ignores<F: Snapshot>(frame: &F, seen: Direction) -> bool {
    let Some(kernel) = Kernel::here() else { return false };
    let Ok(packet) = parse_ethernet(frame) else { return false };
    let Facts([upper, lower, kinds]) = facts(&packet);
    // All ways through the parser are one from here on...
    let sizes = (u64::from(packet.headers) << 32) | u64::from(packet.bytes);
    let [upper, lower, kinds, sizes, ..] = kernel.forgotten([upper, lower, kinds, sizes, 0, 0]);
    let Facts([upper, lower, kinds]) = with_ports(frame, Facts([upper, lower, kinds]));
    // ...and those to the ports as well, before each rule is walked.
    let [upper, lower, kinds, sizes, ..] = kernel.forgotten([upper, lower, kinds, sizes, 0, 0]);
    let Some(rules) = IGNORES.get_ptr(0).map(InMap) else { return false };
    let facts = Facts([upper, lower, kinds]);
    if !matches(&rules, frozen(&IGNORING), &facts) {
        return false;
    }
    let packet = Packet { headers: (sizes >> 32) as u32, bytes: sizes as u32, ..Packet::NOTHING };
    let (packets, bytes) = packet.segmented(frame.segments(&packet));
    count_ignored(&kernel, facts.class(), seen, packets, bytes);
    true
}
