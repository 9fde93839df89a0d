//! Copies of packets: of hosts that are armed, and of one packet in N.
//!
//! **Invariant**: the packet itself goes on, except where a mirror port's own program takes it to a
//! socket; then it is not copied. A copy that finds no room is counted, never waited for.

use core::arch::asm;
use core::ptr::read_volatile;

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use fastnetmon_common::abi::{FLAG_REDIRECT, FLAG_SAMPLE, SAMPLE_BYTES, Sample};
use fastnetmon_common::class::Direction;
use fastnetmon_common::directory::{FLAGGED, Found};
use fastnetmon_common::table::{SAMPLES_LOST, Touched, lost, sparse};

use crate::frame::Snapshot;
use crate::maps::{FLAGS, SAMPLES};
use crate::tables::{Kernel, SPARSE_EVERY, frozen};

/// `BPF_RB_NO_WAKEUP` (linux/bpf.h): the agent drains sparse samples in its own time.
const NO_WAKEUP: u64 = 1;

/// Has a packet of an armed host shown: taken to a socket, which is returned, or copied where there
/// is none. At most one copy a packet, an armed host first, else the one in N.
#[inline(always)]
pub fn show<F: Snapshot>(
    kernel: &Kernel,
    frame: &F,
    touched: Touched,
    socket: impl Fn() -> Option<u32>,
) -> Option<u32> {
    for (host, direction) in
        [(touched.destination, Direction::Incoming), (touched.source, Direction::Outgoing)]
    {
        let flags = armed(host);
        if flags == 0 {
            continue;
        }
        if flags & FLAG_REDIRECT != 0
            && let Some(index) = socket()
        {
            return Some(index);
        }
        copy(kernel, frame, host, direction, true);
        return None;
    }
    keep_sparse(kernel, frame, touched);
    None
}

/// Keeps a copy of one packet in N.
#[inline(always)]
pub fn keep_sparse<F: Snapshot>(kernel: &Kernel, frame: &F, touched: Touched) {
    let Touched { source, destination, .. } = touched;
    let (host, direction) = if destination.is_ours() {
        (destination, Direction::Incoming)
    } else {
        (source, Direction::Outgoing)
    };
    if wanted(kernel, host) {
        copy(kernel, frame, host, direction, false);
    }
}

/// Is this packet the one in N that is kept? Of those that touched a host of ours.
#[inline(always)]
pub fn wanted(kernel: &Kernel, host: Found) -> bool {
    host.is_ours() && sparse(kernel, || frozen(&SPARSE_EVERY))
}

/// Takes one packet from the host's budget, if it has one, and returns its flags; 0: it has none.
#[inline(always)]
fn armed(host: Found) -> u32 {
    if host.entry & FLAGGED == 0 {
        return 0;
    }
    let Some(word) = FLAGS.get_ptr_mut(host.slot) else { return 0 };
    // SAFETY: the lookup succeeded. Volatile, because other CPUs and the agent write the word.
    let flags = unsafe { read_volatile(word) };
    // Signed: two CPUs may both see 1 and take it below zero, where an unsigned budget never ends.
    if flags as u32 & FLAG_SAMPLE == 0 || (flags as i64) >> 32 <= 0 {
        return 0;
    }
    let one_less: i64 = -1 << 32;
    // SAFETY: an atomic addition to the word found above.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) one_less) };
    flags as u32
}

#[inline(always)]
pub fn copy<F: Snapshot>(
    kernel: &Kernel,
    frame: &F,
    host: Found,
    direction: Direction,
    armed: bool,
) {
    let Some(mut room) = SAMPLES.reserve::<Sample>(0) else {
        lost(kernel, SAMPLES_LOST);
        return;
    };
    let sample = room.as_mut_ptr();
    let wire_len = frame.wire_len();
    let mut captured = if wire_len < SAMPLE_BYTES as u32 { wire_len } else { SAMPLE_BYTES as u32 };
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
        (&raw mut (*sample).direction).write(direction as u16);
        (&raw mut (*sample).armed).write(armed as u16);
        frame.copy((&raw mut (*sample).bytes).cast(), captured)
    };
    if copied != 0 {
        // SAFETY: as above.
        unsafe { (&raw mut (*sample).captured).write(copied) };
        room.submit(if armed { 0 } else { NO_WAKEUP });
    } else {
        room.discard(NO_WAKEUP);
        lost(kernel, SAMPLES_LOST);
    }
}
