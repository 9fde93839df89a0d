//! The lines, to be read: sums over all rows.
//!
//! **Invariant**: no line is written here. Loads are relaxed: a word is one writer's and never
//! torn, and a reading that misses the latest packet sees it next time. Only marks are taken back.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use fastnetmon_common::table::{MARKS, WORDS};

use crate::model::Direction;
use crate::tables::{Mapping, Shape};

/// The words of one line, summed over all rows.
pub type LineWords = [u64; WORDS];

/// The counter table as its readers see it: `[row][direction][slot]`.
#[derive(Debug)]
pub struct Lines {
    mapping: Arc<Mapping>,
    marks: Arc<Mapping>,
    writers: NonZeroU32,
    slots: u32,
}

impl Lines {
    /// Bytes of the marks of both directions.
    pub const MARK_BYTES: usize = 2 * MARKS as usize;

    /// Reads `mapping`, which has this shape, and `marks`.
    pub const fn new(mapping: Arc<Mapping>, marks: Arc<Mapping>, shape: Shape) -> Self {
        Self { mapping, marks, writers: shape.writers, slots: shape.slots }
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

    /// Takes the marks of a direction back. What is added from now on sets them anew, and what was
    /// added before a mark was set is in the lines, or on its way there from another CPU.
    pub fn take_marks(&self, direction: Direction, taken: &mut [bool]) {
        let marks = self.marks.bytes().as_chunks::<{ MARKS as usize }>().0;
        let marks = marks.get(direction as usize).map_or(&[][..], |marks| marks.as_slice());
        for (taken, mark) in taken.iter_mut().zip(marks) {
            *taken = take(mark);
        }
        // No line is read before all marks are taken.
        fence(Ordering::SeqCst);
    }

    /// The slots from `first` on, summed over all rows.
    pub fn sum_into(&self, direction: Direction, first: u32, sums: &mut [LineWords]) {
        let mut rows = self.rows(direction, first);
        for (sum, line) in sums.iter_mut().zip(rows.next().unwrap_or_default()) {
            for (sum, word) in sum.iter_mut().zip(line) {
                *sum = word.load(Ordering::Relaxed);
            }
        }
        for row in rows {
            for (sum, line) in sums.iter_mut().zip(row) {
                for (sum, word) in sum.iter_mut().zip(line) {
                    *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
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

fn take(mark: &AtomicU8) -> bool {
    // Most are not set, and what is only read stays in every CPU's cache.
    let set = mark.load(Ordering::Relaxed) != 0;
    if set {
        mark.store(0, Ordering::Relaxed);
    }
    set
}
