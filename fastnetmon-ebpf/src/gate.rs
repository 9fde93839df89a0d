//! The gate: drops, or lets through at a rate, what a rule describes of a banned host's traffic.
//!
//! **Invariant**: asked after counting, never instead of it, and a dropped packet is counted as
//! dropped as well. Only a host whose directory entry is flagged pays; only one with a rule is read
//! again. When the deadline of a rule has passed, on a clock that needs no agent, it does nothing.

use core::arch::asm;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::programs::{TcContext, XdpContext};
use fastnetmon_common::abi::{FLAG_GATE, GATE_INCOMING, GATE_OUTGOING, RULE_SHIFT};
use fastnetmon_common::class::Direction;
use fastnetmon_common::directory::{FLAGGED, Found};
use fastnetmon_common::gate::{
    ALLOWED, Facts, RATE_WINDOW, RULE_WORDS, Rule, SPENT, UNTIL, describes, has_ports, known_ports,
};
use fastnetmon_common::parse::{Payload, parse_ethernet};
use fastnetmon_common::table::{DROPPED, Line as _, Tables as _, packed};
use fastnetmon_common::wire::Ports;

use crate::frame::{Snapshot, TcFrame, XdpFrame};
use crate::maps::{FLAGS, RULES, RuleWords};
use crate::tables::{GATE, Kernel, frozen};

/// A rule in its map.
#[derive(Clone, Copy)]
struct InMap(*mut RuleWords);

impl Rule for InMap {
    #[inline(always)]
    fn get(self, word: usize) -> u64 {
        // SAFETY: the pointer came from a lookup that succeeded; the index is masked. Volatile,
        // because the agent and other CPUs write it.
        unsafe { read_volatile(&raw const (*self.0).0[word & (RULE_WORDS - 1)]) }
    }
}

impl InMap {
    /// Is there room for so many more packets in the running window? Takes it when there is.
    ///
    /// All CPUs share one count. Nothing is compared and exchanged: two that meet may both take the
    /// last place, or both begin the window, so each window lets through one packet more for each
    /// other CPU at most; a CPU that is held up between reading and beginning a window begins it
    /// once more.
    #[inline(always)]
    fn passes(self, now: u64, packets: u32) -> bool {
        let window = self.get(RATE_WINDOW);
        if window == 0 {
            return false;
        }
        let number = (now / window) << 32;
        let spent = self.get(SPENT);
        // SAFETY: the pointer came from a lookup that succeeded.
        let word = unsafe { &raw mut (*self.0).0[SPENT] };
        if spent & (0xffff_ffff << 32) != number {
            // SAFETY: as above; whole words only.
            unsafe { write_volatile(word, number | u64::from(packets)) };
            return true;
        }
        if spent & 0xffff_ffff >= self.get(ALLOWED) {
            return false;
        }
        let amount = u64::from(packets);
        // SAFETY: an atomic addition to the word found above.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) amount) };
        true
    }
}

/// Is this packet, which arrives for `host`, to be dropped?
#[inline(always)]
pub fn drops_arriving(kernel: &Kernel, ctx: &XdpContext, host: Found) -> bool {
    is_asked(host, GATE_INCOMING) && arriving(ctx.ctx, kernel.forgotten_number(host.slot)) != 0
}

/// Is this packet, which `host` sends, to be dropped?
#[inline(always)]
pub fn drops_leaving(kernel: &Kernel, ctx: &TcContext, host: Found) -> bool {
    is_asked(host, GATE_OUTGOING) && leaving(ctx.skb.skb, kernel.forgotten_number(host.slot)) != 0
}

#[inline(always)]
fn is_asked(host: Found, way: u32) -> bool {
    frozen(&GATE) & way != 0 && host.entry & FLAGGED != 0
}

/// A function of its own, so that packets of others do not make room for its registers.
#[inline(never)]
fn arriving(ctx: *mut xdp_md, slot: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    drops(&XdpFrame::new(&ctx), slot, Direction::Incoming).into()
}

#[inline(never)]
fn leaving(skb: *mut __sk_buff, slot: u32) -> u32 {
    let ctx = TcContext::new(skb);
    drops(&TcFrame::new(&ctx), slot, Direction::Outgoing).into()
}

/// Is this packet to be dropped? Then it is counted as dropped, too.
#[inline(always)]
fn drops<F: Snapshot>(frame: &F, slot: u32, way: Direction) -> bool {
    let Some(word) = FLAGS.get_ptr(slot) else { return false };
    // SAFETY: the lookup succeeded. Volatile, because other CPUs and the agent write the word.
    let flags = unsafe { read_volatile(word) } as u32;
    if flags & FLAG_GATE == 0 {
        return false;
    }
    let Some(rule) = RULES.get_ptr_mut(flags >> RULE_SHIFT).map(InMap) else { return false };
    let until = rule.get(UNTIL);
    if until == 0 {
        return false;
    }
    // Read again: what was known of the packet was let go, so that nobody else pays for keeping it.
    let Some(kernel) = Kernel::here() else { return false };
    let Ok(packet) = parse_ethernet(frame) else { return false };
    let (mut packets, bytes) = packet.segmented(frame.segments(&packet));
    if F::SEGMENTED {
        packets = kernel.forgotten_number(packets);
    }
    let (end, source) = match way {
        Direction::Incoming => (packet.ends.dst, packet.ends.src),
        Direction::Outgoing => (packet.ends.src, packet.ends.src),
    };
    // transport (14) | protocol (8) | class (8) from bit 32 on.
    let at = packet.transport_at & Payload::MOST;
    let kinds =
        (u64::from(at) << 48) | (u64::from(packet.protocol) << 40) | ((packet.class as u64) << 32);
    let amount = (u64::from(packets) << 32) | u64::from(bytes);
    // All ways through the parser are one from here on. What counting noted is needed no longer.
    let [end0, end1, source0, source1, kinds, amount] =
        kernel.forgotten([end[0], end[1], source[0], source[1], kinds, amount]);
    let (packets, bytes) = ((amount >> 32) as u32, amount as u32);
    let facts = Facts {
        host: [end0, end1],
        source: [source0, source1],
        protocol: (kinds >> 40) as u8,
        class: (kinds >> 32) as u8,
        bytes: if packets == 1 { bytes } else { 0 },
    };
    let ports = || {
        if !has_ports(facts.protocol) {
            return 0;
        }
        let at = (kinds >> 48) as u32 & Payload::MOST;
        match frame.header::<Ports>(at as usize) {
            Some(ports) => known_ports(ports.src.get(), ports.dst.get()),
            None => 0,
        }
    };
    if !describes(rule, way, &facts, ports) {
        return false;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now >= until || rule.passes(now, packets) {
        return false;
    }
    if let Some(line) = kernel.line(way, slot) {
        line.add(DROPPED, packed(packets, bytes));
        // Again: a reader may have taken the mark of the packet itself back meanwhile.
        kernel.stir(way, slot);
    }
    true
}
