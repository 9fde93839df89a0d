//! The lines, to be read: sums over all rows.
//!
//! **Invariant**: no line is written here. Loads are relaxed: a word is one writer's and never
//! torn, and a reading that misses the latest packet sees it next time. Only marks are taken back.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use fastnetmon_common::table::{MARKS, WINDOW, WORDS};

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

    /// All rows of a direction, to read many slots of.
    pub fn rows(&self, direction: Direction) -> Rows<'_> {
        Rows(self.each_row(direction).collect())
    }

    fn each_row(&self, direction: Direction) -> impl Iterator<Item = &Row> {
        let words = self.mapping.words();
        (0..self.writers.get() as usize).map(move |row| {
            let first = (row * 2 + direction as usize) * self.slots as usize;
            let words = words.get(first * WORDS..(first + self.slots as usize) * WORDS);
            words.unwrap_or_default().as_chunks().0
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

    /// One slot, summed over all rows; zeros for a slot beyond the last one.
    pub fn sum(&self, direction: Direction, slot: u32) -> LineWords {
        sum(self.each_row(direction), slot)
    }
}

/// The lines of one writer in one direction, by slot.
type Row = [[AtomicU64; WORDS]];

/// The rows of one direction, one for each writer.
#[derive(Debug)]
pub struct Rows<'a>(Vec<&'a Row>);

impl<'a> Rows<'a> {
    /// Adds up these slots over all rows. Two rows at a time, in the order in which their lines stand
    /// in memory: processors look ahead over such, and a sum is put down half as often.
    #[inline]
    pub fn add_up(&self, slots: Range<usize>, sums: &mut [LineWords]) {
        let lines_of = |row: &&'a Row| row.get(slots.clone()).unwrap_or_default();
        let (pairs, last) = self.0.as_chunks::<2>();
        let mut pairs = pairs.iter().map(|[one, other]| lines_of(one).iter().zip(lines_of(other)));
        match pairs.next() {
            Some(lines) => {
                for (sum, (one, other)) in sums.iter_mut().zip(lines) {
                    for (sum, (one, other)) in sum.iter_mut().zip(one.iter().zip(other)) {
                        *sum = load(one).wrapping_add(load(other));
                    }
                }
            }
            None => sums.fill([0; WORDS]),
        }
        for lines in pairs {
            for (sum, (one, other)) in sums.iter_mut().zip(lines) {
                for (sum, (one, other)) in sum.iter_mut().zip(one.iter().zip(other)) {
                    *sum = sum.wrapping_add(load(one).wrapping_add(load(other)));
                }
            }
        }
        let last = last.first().map(lines_of).unwrap_or_default();
        for (sum, line) in sums.iter_mut().zip(last) {
            for (sum, word) in sum.iter_mut().zip(line) {
                *sum = sum.wrapping_add(load(word));
            }
        }
    }

    /// All counting words of these slots in one sum, over all rows. It grows whenever one of them
    /// does.
    #[inline]
    pub fn whole(&self, slots: Range<usize>) -> u64 {
        let mut wholes = [0; WINDOW];
        for line in self.0.iter().flat_map(|row| row.get(slots.clone()).unwrap_or_default()) {
            for (whole, word) in wholes.iter_mut().zip(line) {
                *whole = u64::wrapping_add(*whole, load(word));
            }
        }
        wholes.into_iter().fold(0, u64::wrapping_add)
    }

    /// One slot, summed over all rows; zeros for a slot beyond the last one.
    #[inline]
    pub fn sum(&self, slot: u32) -> LineWords {
        sum(self.0.iter().copied(), slot)
    }
}

#[expect(single_use_lifetimes, reason = "a lifetime within `impl Trait` must have a name")]
#[inline]
fn sum<'rows>(rows: impl Iterator<Item = &'rows Row>, slot: u32) -> LineWords {
    let mut sum: LineWords = [0; WORDS];
    for line in rows.filter_map(|row| row.get(slot as usize)) {
        for (sum, word) in sum.iter_mut().zip(line) {
            *sum = sum.wrapping_add(load(word));
        }
    }
    sum
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn take(mark: &AtomicU8) -> bool {
    // Most are not set, and what is only read stays in every CPU's cache.
    let set = mark.load(Ordering::Relaxed) != 0;
    if set {
        mark.store(0, Ordering::Relaxed);
    }
    set
}

#[cfg(test)]
mod tests {
    use fastnetmon_common::table::{Line as _, Tables as _};

    use super::*;
    use crate::tables::own;

    #[test]
    fn rows_are_added_up_whatever_their_number() {
        for writers in (1..=5).filter_map(NonZeroU32::new) {
            let shape = Shape { writers, slots: 256 + 70, elements: 1, buckets: 1, seed: 0 };
            let (parts, rows) = own(shape).unwrap();
            for (number, row) in (1_u64..).zip(&rows) {
                for slot in 250..326 {
                    for word in 0..WORDS {
                        let value = u64::MAX / number - u64::from(slot) * 1_000 - word as u64;
                        row.line(Direction::Outgoing, slot).unwrap().set(word, value);
                    }
                }
            }
            let read = parts.lines.rows(Direction::Outgoing);
            let mut sums = [[7; WORDS]; 76];
            read.add_up(250..326, &mut sums);
            for (slot, sum) in (250..).zip(sums) {
                assert_eq!(
                    (sum, sum),
                    (read.sum(slot), parts.lines.sum(Direction::Outgoing, slot))
                );
            }
            let whole = sums
                .iter()
                .flat_map(|words| &words[..WINDOW])
                .fold(0, |sum, word| word.wrapping_add(sum));
            assert_eq!(read.whole(250..326), whole);
        }
    }
}
