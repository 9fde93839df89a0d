//! What all hosts gained: one by one, and in runs that are added up.
//!
//! **Invariant**: every gain is in one run, and the hosts of a run live on lines of one mark. What a run
//! gained is no less than what any host in it did; so whoever looks for hosts that did much passes
//! most runs by, and touches none of their gains.

use std::ops::{Deref, Range};

use fastnetmon_common::table::{BLOCK, PACKET_SHIFT, STIRRED, WINDOW, WORDS};

use crate::counters::Gain;
use crate::counters::gain::apart;
use crate::model::{Direction, HostId, Tally};
use crate::tables::LineWords;

/// Gains in the order of their slots, incoming first.
#[derive(Clone, Debug, Default)]
pub struct Gains {
    all: Vec<Gain>,
    runs: Vec<Run>,
}

/// What hosts on lines of one mark gained in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// The first host that moved.
    pub first: HostId,
    /// Which way.
    pub direction: Direction,
    /// All classes of all of them.
    pub total: Tally,
    from: u32,
    upto: u32,
}

impl Run {
    /// Where its gains are among all.
    pub const fn range(&self) -> Range<usize> {
        self.from as usize..self.upto as usize
    }

    /// The slots its hosts may have.
    pub const fn slots(&self) -> Range<u32> {
        let first = self.first.0 - self.first.0 % STIRRED;
        first..first.saturating_add(STIRRED)
    }

    /// The block its hosts live in.
    pub const fn block(&self) -> u32 {
        self.first.0 / BLOCK
    }

    fn new(first: &Gain, total: Tally, range: Range<usize>) -> Self {
        // There are no more gains than a word of 32 bits can tell.
        let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
        let Gain { host: first, direction, .. } = *first;
        Self { first, direction, total, from: place(range.start), upto: place(range.end) }
    }
}

impl Gains {
    /// Those of one direction.
    pub fn runs(&self, direction: Direction) -> &[Run] {
        let middle = self.runs.partition_point(|run| run.direction == Direction::Incoming);
        let (incoming, outgoing) = self.runs.split_at_checked(middle).unwrap_or_default();
        match direction {
            Direction::Incoming => incoming,
            Direction::Outgoing => outgoing,
        }
    }

    /// The gains of a run.
    pub fn of(&self, run: &Run) -> &[Gain] {
        self.all.get(run.range()).unwrap_or_default()
    }

    /// Where those of outgoing traffic begin.
    pub fn middle(&self) -> usize {
        self.runs(Direction::Incoming).last().map_or(0, |run| run.range().end)
    }

    /// Room for as many lines, each of which may have moved, at once: what grows step by step leaves
    /// its former rooms behind it. It is memory only as far as it is written.
    pub(super) fn reserve(&mut self, lines: usize) {
        self.all.reserve_exact(lines);
        self.runs.reserve_exact(lines.div_ceil(STIRRED as usize));
    }

    /// Nothing, with room for so many lines at most.
    #[must_use]
    pub(super) fn emptied(mut self, lines: usize) -> Self {
        self.all.clear();
        self.all.shrink_to(lines);
        self.runs.clear();
        // Each direction may end with a run that is not a whole one: not to be made anew each time.
        self.runs.shrink_to(lines.div_ceil(STIRRED as usize).saturating_mul(2));
        self
    }

    /// Puts down what lines of one mark gained, from `first` on, and that they are now as `after`.
    /// The window is no gain.
    #[inline]
    pub(super) fn take(
        &mut self,
        direction: Direction,
        first: u32,
        before: &mut [LineWords],
        after: &[LineWords],
    ) -> Sum {
        let mut sum = Sum::default();
        let from = self.all.len();
        for (slot, (before, after)) in (first..).zip(before.iter_mut().zip(after)) {
            let mut words = [0; WORDS];
            for (word, (before, after)) in words.iter_mut().zip(before.iter().zip(after)) {
                *word = after.wrapping_sub(*before);
            }
            if let Some(window) = words.get_mut(WINDOW) {
                *window = 0;
            }
            // Written out: comparing arrays is a call of the C library, which takes longer than the
            // rest.
            if words.iter().fold(0, |any, word| any | word) == 0 {
                continue;
            }
            *before = *after;
            sum.add(&words);
            let [words @ .., _window] = words;
            self.all.push(Gain { host: HostId(slot), direction, words });
        }
        if let Some(first) = self.all.get(from) {
            self.runs.push(Run::new(first, sum.total(), from..self.all.len()));
        }
        sum
    }
}

impl From<Vec<Gain>> for Gains {
    fn from(mut all: Vec<Gain>) -> Self {
        if !all.is_sorted_by_key(Gain::place) {
            all.sort_by_key(Gain::place);
        }
        let mark = |gain: &Gain| (gain.direction, gain.host.0 / STIRRED);
        let mut runs = Vec::new();
        let mut from = 0;
        for gains in all.chunk_by(|one, other| mark(one) == mark(other)) {
            let mut total = Tally::default();
            for gain in gains {
                total += gain.total();
            }
            let upto = from + gains.len();
            runs.extend(gains.first().map(|first| Run::new(first, total, from..upto)));
            from = upto;
        }
        Self { all, runs }
    }
}

impl From<Gains> for Vec<Gain> {
    fn from(gains: Gains) -> Self {
        gains.all
    }
}

impl Deref for Gains {
    type Target = [Gain];

    fn deref(&self) -> &[Gain] {
        &self.all
    }
}

impl<'a> IntoIterator for &'a Gains {
    type Item = &'a Gain;
    type IntoIter = std::slice::Iter<'a, Gain>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

/// Words of gains, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    packets: LineWords,
    words: LineWords,
}

impl Sum {
    #[inline]
    fn add(&mut self, words: &LineWords) {
        for ((packets, sum), word) in self.packets.iter_mut().zip(&mut self.words).zip(words) {
            *packets += word >> PACKET_SHIFT;
            *sum = sum.wrapping_add(*word);
        }
    }

    /// All classes.
    pub(super) fn total(&self) -> Tally {
        let ([classes @ .., _, _], [packets @ .., _, _]) = (self.words, self.packets);
        apart(packets.into_iter().sum(), classes.into_iter().fold(0, u64::wrapping_add))
    }

    /// What we dropped.
    pub(super) fn dropped(&self) -> Tally {
        let ([.., sum, _], [.., packets, _]) = (self.words, self.packets);
        apart(packets, sum)
    }

    /// By so much all words together are more now.
    pub(super) fn whole(&self) -> u64 {
        self.words.into_iter().fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use fastnetmon_common::table::DROPPED;

    use super::*;
    use crate::model::dice::Dice;

    #[test]
    fn every_gain_is_in_one_run_and_a_run_is_what_its_gains_are_together() {
        let mut dice = Dice::default();
        let mut gains = Gains::default();
        let mut dropped = Tally::default();
        let mut expected = Vec::new();
        let chunk = STIRRED as usize;
        for direction in Direction::BOTH {
            // The last mark's lines are not all there, one mark's did not move, and one's moved as
            // much as a word can tell.
            for (first, lines) in [(256, chunk), (320, chunk), (384, chunk), (448, 5)] {
                let mut before: Vec<LineWords> =
                    (0..lines).map(|_| std::array::from_fn(|_| dice.roll())).collect();
                let mut after = before.clone();
                for (slot, words) in (first..).zip(&mut after) {
                    words[WINDOW] = dice.roll();
                    if first == 320 || dice.roll().is_multiple_of(3) {
                        continue;
                    }
                    let mut gain = [0; DROPPED + 1];
                    for (word, gained) in words.iter_mut().zip(&mut gain) {
                        *gained = if first == 384 { u64::MAX } else { dice.roll() >> 20 };
                        *word = word.wrapping_add(*gained);
                    }
                    expected.push(Gain { host: HostId(slot), direction, words: gain });
                }
                let sum = gains.take(direction, first, &mut before, &after);
                let is_same =
                    |(before, after): (&LineWords, &LineWords)| before[..WINDOW] == after[..WINDOW];
                assert!(before.iter().zip(&after).all(is_same), "what was read is put down");
                dropped += sum.dropped();
            }
        }
        assert_eq!(gains.to_vec(), expected);
        let mut sum = Tally::default();
        for gain in &expected {
            sum += gain.dropped();
        }
        assert_eq!(dropped, sum);

        let mut at = 0;
        for run in Direction::BOTH.into_iter().flat_map(|direction| gains.runs(direction)) {
            assert_eq!(run.range().start, at);
            at = run.range().end;
            let mut total = Tally::default();
            for gain in gains.of(run) {
                assert!(run.slots().contains(&gain.host.0) && gain.direction == run.direction);
                total += gain.total();
            }
            assert_eq!((run.total, run.first), (total, gains.of(run)[0].host));
        }
        assert_eq!((at, gains.runs.len()), (gains.len(), 6));
        assert_eq!(gains[gains.middle()].direction, Direction::Outgoing);
        assert_eq!(gains[gains.middle() - 1].direction, Direction::Incoming);
        assert_eq!(Gains::from(expected).runs, gains.runs);
    }
}
