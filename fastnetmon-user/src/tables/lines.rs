//! The lines, to be read: sums over all rows.
//!
//! **Invariant**: nothing is written here. Loads are relaxed: a word is one writer's and never
//! torn, and a reading that misses the latest packet sees it next time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastnetmon_common::table::WORDS;

use crate::model::{Class, Direction};
use crate::tables::{Mapping, Shape};

/// The words of one line, summed over all rows.
pub type LineWords = [u64; WORDS];

/// The counter table as its readers see it: `[row][direction][slot]`.
#[derive(Debug)]
pub struct Lines {
    mapping: Arc<Mapping>,
    writers: NonZeroU32,
    slots: u32,
}

impl Lines {
    /// Reads `mapping`, which has this shape.
    pub const fn new(mapping: Arc<Mapping>, shape: Shape) -> Self {
        Self { mapping, writers: shape.writers, slots: shape.slots }
    }

    /// Slots in one row and direction.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Adds the words of the slots from `first` on to `sums`, over all rows. What lies beyond the
    /// last slot adds nothing.
    pub fn add_into(&self, direction: Direction, first: u32, sums: &mut [LineWords]) {
        let words = self.mapping.words();
        for row in 0..self.writers.get() {
            let line = (row as usize * 2 + direction as usize) * self.slots as usize;
            let begin = (line + first as usize) * WORDS;
            let end = (line + self.slots as usize) * WORDS;
            let Some(row) = words.get(begin..end) else { continue };
            for (sum, line) in sums.iter_mut().zip(row.as_chunks::<WORDS>().0) {
                for (sum, word) in sum.iter_mut().zip(line) {
                    *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
                }
            }
        }
    }

    /// Adds the digests of the slots from `first` on to `digests`, over all rows: the sum of a line's
    /// counting words, which is another as soon as anything was counted in it.
    pub fn digest_into(&self, direction: Direction, first: u32, digests: &mut [u64]) {
        let words = self.mapping.words();
        for row in 0..self.writers.get() {
            let line = (row as usize * 2 + direction as usize) * self.slots as usize;
            let begin = (line + first as usize) * WORDS;
            let end = (line + self.slots as usize) * WORDS;
            let Some(row) = words.get(begin..end) else { continue };
            for (digest, line) in digests.iter_mut().zip(row.as_chunks::<WORDS>().0) {
                for word in line.iter().take(Class::COUNTED) {
                    *digest = digest.wrapping_add(word.load(Ordering::Relaxed));
                }
            }
        }
    }

    /// One slot, summed over all rows.
    pub fn sum(&self, direction: Direction, slot: u32) -> LineWords {
        let mut sums = [[0; WORDS]];
        self.add_into(direction, slot, &mut sums);
        let [sum] = sums;
        sum
    }
}
