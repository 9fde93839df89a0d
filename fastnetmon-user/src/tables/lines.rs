//! The lines, to be read: sums over all rows.
//!
//! **Invariant**: nothing is written here. Loads are relaxed: a word is one writer's and never
//! torn, and a reading that misses the latest packet sees it next time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

    /// The lines of each row from slot `first` on. A slot beyond the last one has none.
    fn rows(
        &self,
        direction: Direction,
        first: u32,
    ) -> impl Iterator<Item = &[[AtomicU64; WORDS]]> {
        let words = self.mapping.words();
        (0..self.writers.get()).filter_map(move |row| {
            let line = (row as usize * 2 + direction as usize) * self.slots as usize;
            let begin = (line + first as usize) * WORDS;
            let end = (line + self.slots as usize) * WORDS;
            words.get(begin..end).map(|row| row.as_chunks().0)
        })
    }

    /// Adds the digests of the slots from `first` on to `digests`, over all rows: the sum of a line's
    /// counting words, which is another as soon as anything was counted in it.
    pub fn digest_into(&self, direction: Direction, first: u32, digests: &mut [u64]) {
        for row in self.rows(direction, first) {
            for (digest, line) in digests.iter_mut().zip(row) {
                for word in line.iter().take(Class::COUNTED) {
                    *digest = digest.wrapping_add(word.load(Ordering::Relaxed));
                }
            }
        }
    }

    /// One slot, summed over all rows; zeros for a slot beyond the last one.
    pub fn sum(&self, direction: Direction, slot: u32) -> LineWords {
        let mut sum: LineWords = [0; WORDS];
        for line in self.rows(direction, slot).filter_map(|row| row.first()) {
            for (sum, word) in sum.iter_mut().zip(line) {
                *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
            }
        }
        sum
    }
}
