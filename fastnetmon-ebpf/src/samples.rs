//! Copies of packets: of hosts that are armed, and of one packet in N.
//!
//! **Invariant**: the packet itself goes on. A copy that finds no room is counted, never waited
//! for.

use core::arch::asm;
use core::ptr::read_volatile;

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use fastnetmon_common::abi::{FLAG_SAMPLE, SAMPLE_BYTES, Sample};
use fastnetmon_common::class::Direction;
use fastnetmon_common::directory::{FLAGGED, Found};
use fastnetmon_common::table::{SAMPLES_LOST, Touched, lost, sparse};

use crate::frame::Snapshot;
use crate::maps::{FLAGS, SAMPLES};
use crate::tables::{Kernel, SPARSE_EVERY, frozen};

/// `BPF_RB_NO_WAKEUP` (linux/bpf.h): the agent drains sparse samples in its own time.
const NO_WAKEUP: u64 = 1;

/// Keeps a copy when one is wanted: at most one a packet, an armed host first.
#[inline(always)]
pub fn keep<F: Snapshot>(frame: &F, touched: Touched) {
    if let Some(host) = touched.destination
        && armed(host)
    {
        copy(frame, host, Direction::Incoming, true);
        return;
    }
    if let Some(host) = touched.source
        && armed(host)
    {
        copy(frame, host, Direction::Outgoing, true);
        return;
    }
    let (host, direction) = match (touched.destination, touched.source) {
        (Some(host), _) => (host, Direction::Incoming),
        (None, Some(host)) => (host, Direction::Outgoing),
        (None, None) => return,
    };
    if sparse(&Kernel, frozen(&SPARSE_EVERY)) {
        copy(frame, host, direction, false);
    }
}

/// Takes one packet from the host's budget, if it has one.
#[inline(always)]
fn armed(host: Found) -> bool {
    if host.entry & FLAGGED == 0 {
        return false;
    }
    let Some(word) = FLAGS.get_ptr_mut(host.slot) else { return false };
    // SAFETY: the lookup succeeded. Volatile, because other CPUs and the agent write the word.
    let flags = unsafe { read_volatile(word) };
    // Signed: two CPUs may both see 1 and take it below zero, where an unsigned budget never ends.
    if flags as u32 & FLAG_SAMPLE == 0 || (flags as i64) >> 32 <= 0 {
        return false;
    }
    let one_less: i64 = -1 << 32;
    // SAFETY: an atomic addition to the word found above.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) one_less) };
    true
}

#[inline(always)]
fn copy<F: Snapshot>(frame: &F, host: Found, direction: Direction, armed: bool) {
    let Some(mut room) = SAMPLES.reserve::<Sample>(0) else {
        lost(&Kernel, SAMPLES_LOST);
        return;
    };
    let sample = room.as_mut_ptr();
    let wire_len = frame.wire_len();
    let mut captured =
        if wire_len < SAMPLE_BYTES as u32 { wire_len } else { SAMPLE_BYTES as u32 };
    // SAFETY: registers only. 1..=256 in a form the verifier can follow: the compiler would fold
    // a mask of its own away, and the helper refuses a length that may be zero.
    unsafe { asm!("{0} += -1", "{0} &= 255", "{0} += 1", inlateout(reg) captured) };
    // SAFETY: a helper without arguments.
    let at = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: `room` is a whole `Sample`, reserved above and ours until it is submitted.
    let copied = unsafe {
        (&raw mut (*sample).at).write(at);
        (&raw mut (*sample).slot).write(host.slot);
        (&raw mut (*sample).wire_len).write(wire_len);
        (&raw mut (*sample).captured).write(captured);
        (&raw mut (*sample).direction).write(direction as u16);
        (&raw mut (*sample).armed).write(armed as u16);
        frame.copy((&raw mut (*sample).bytes).cast(), captured)
    };
    if copied {
        room.submit(if armed { 0 } else { NO_WAKEUP });
    } else {
        room.discard(NO_WAKEUP);
        lost(&Kernel, SAMPLES_LOST);
    }
}
