//! The tables over the maps: what `count()` sees of the kernel.
//!
//! **Invariant**: a line belongs to the CPU the program runs on. Both hooks run with bottom halves
//! disabled, so no two programs write one line at a time and an addition needs no lock.

use core::ptr::read_volatile;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_jiffies64};
use fastnetmon_common::abi::{Hint, Stranger};
use fastnetmon_common::class::Direction;
use fastnetmon_common::table::{Limit, Line, SCRATCH, Tables};

use crate::maps::{BUCKETS, HINTS, LINES, PROFILES, STRANGERS, T1, T2, T6, Words};

// Constants to the verifier, set by the loader before the programs are verified.
#[unsafe(no_mangle)]
static SLOTS: u32 = 0;
#[unsafe(no_mangle)]
static BUCKET_MASK: u32 = 0;
#[unsafe(no_mangle)]
static WINDOW_SHIFT: u32 = 0;
#[unsafe(no_mangle)]
pub static SPARSE_EVERY: u32 = 0;
#[unsafe(no_mangle)]
pub static DECAPSULATE: u32 = 0;
#[unsafe(no_mangle)]
pub static GATE: u32 = 0;
#[unsafe(no_mangle)]
pub static LOAD_BYTES: u32 = 0;
#[unsafe(no_mangle)]
static SEED: u64 = 0;

/// Reads a constant of the loader's. Volatile, or the compiler would take the value above for it.
#[inline(always)]
pub fn frozen<T: Copy>(constant: &'static T) -> T {
    // SAFETY: a reference is valid, aligned and initialised.
    unsafe { read_volatile(constant) }
}

/// The kernel's tick counter.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

/// Number of the running window, modulo 256.
#[inline(always)]
pub fn window() -> u64 {
    (jiffies() >> (frozen(&WINDOW_SHIFT) & 63)) & 255
}

/// A line of this CPU, or a bucket.
#[derive(Clone, Copy)]
pub struct Pointer(*mut Words);

impl Line for Pointer {
    #[inline(always)]
    fn get(self, word: usize) -> u64 {
        // SAFETY: the pointer came from a map lookup that succeeded; the index is masked.
        unsafe { (&raw const (*self.0).0[word & 7]).read() }
    }

    #[inline(always)]
    fn set(self, word: usize, value: u64) {
        // SAFETY: as above; this CPU is the only writer.
        unsafe { (&raw mut (*self.0).0[word & 7]).write(value) }
    }
}

/// The maps, as tables.
pub struct Kernel;

impl Tables for Kernel {
    type Line = Pointer;

    #[inline(always)]
    fn t1(&self, high: u32) -> u32 {
        T1.get(0).map_or(0, |root| root.0[(high & 0xffff) as usize])
    }

    #[inline(always)]
    fn t6(&self, high: u32) -> u32 {
        T6.get(0).map_or(0, |root| root.0[(high & 0xffff) as usize])
    }

    #[inline(always)]
    fn t2(&self, element: u32, byte: u32) -> u32 {
        T2.get(element).map_or(0, |element| element.0[(byte & 255) as usize])
    }

    #[inline(always)]
    fn bucket(&self, hash: u32) -> Option<Pointer> {
        BUCKETS.get_ptr_mut(hash & frozen(&BUCKET_MASK)).map(Pointer)
    }

    #[inline(always)]
    fn seed(&self) -> u64 {
        frozen(&SEED)
    }

    #[inline(always)]
    fn line(&self, direction: Direction, slot: u32) -> Option<Pointer> {
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
        LINES.get_ptr_mut((cpu * 2 + direction as u32) * frozen(&SLOTS) + slot).map(Pointer)
    }

    #[inline(always)]
    fn limit(&self, direction: Direction, profile: u32) -> Limit {
        PROFILES.get(profile).map_or(Limit { packets: 0, bytes16: 0 }, |limits| {
            limits.0[direction as usize & 1]
        })
    }

    #[inline(always)]
    fn forgotten(&self, words: [u64; 6]) -> Option<[u64; 6]> {
        let Pointer(line) = self.line(Direction::Incoming, SCRATCH)?;
        let mut again = [0; 6];
        for (at, word) in words.into_iter().enumerate() {
            // SAFETY: the lookup succeeded, a line has eight words, and this CPU alone writes it.
            // Volatile, or the compiler would not go by way of memory.
            unsafe { (&raw mut (*line).0[at]).write_volatile(word) };
        }
        for (at, word) in again.iter_mut().enumerate() {
            // SAFETY: as above.
            *word = unsafe { (&raw const (*line).0[at]).read_volatile() };
        }
        Some(again)
    }

    #[inline(always)]
    fn hint(&self, direction: Direction, slot: u32, window: u64) -> bool {
        let Some(mut room) = HINTS.reserve::<Hint>(0) else { return false };
        room.write(Hint { slot, direction: direction as u32, window });
        room.submit(0);
        true
    }

    #[inline(always)]
    fn stranger(&self, direction: Direction, address: [u64; 2], prefix: u32) -> bool {
        let Some(mut room) = STRANGERS.reserve::<Stranger>(0) else { return false };
        room.write(Stranger { address, prefix, direction: direction as u32 });
        room.submit(0);
        true
    }
}
