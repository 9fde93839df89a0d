//! The scan: all lines of all rows, once a tick.
//!
//! Most hosts are idle most of the time, so only lines are looked at whose mark was set since the last
//! reading, or in the one before it: a writer sets the mark after it has added, and what it added may
//! reach us later than the mark it found set.
//!
//! **Invariant**: rows are summed first and differences taken of the sum, so that no order of
//! reading can count anything twice. What is written down of a line is what was read of it at once.

use std::time::Duration;

use fastnetmon_common::table::{
    BLOCK, DROPPED, HINTS_LOST, IGNORED, INTERNAL, MARKS, MIRRORED, OTHER, PADDING, SAMPLES_LOST,
    STIRRED, STRANGERS_UNTOLD, TUNNELLED, UNPARSED, WINDOW, WORDS, gained, mark_of,
};

use crate::counters::{Gain, Gains, Whole};
use crate::model::{Class, Counts, Direction, HostId, Moment, Tally, Unparsed};
use crate::tables::{LineWords, Lines, Rows};

/// Lines looked at together: those of one mark.
const CHUNK: usize = STIRRED as usize;

/// What the house's own lines gained.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct House {
    /// Traffic that touched none of our hosts.
    pub other: Tally,
    /// Between two of ours, where the destination was counted.
    pub internal_incoming: Tally,
    /// Between two of ours, where the source was counted.
    pub internal_outgoing: Tally,
    /// Between two of ours, where both were counted.
    pub mirrored: Tally,
    /// What tunnels carried to our hosts.
    pub tunnelled_incoming: Tally,
    /// What tunnels carried from our hosts.
    pub tunnelled_outgoing: Tally,
    /// What a rule has us not count for anybody.
    pub ignored: Tally,
    /// What could not be read, by reason.
    pub unparsed: [Tally; Unparsed::REASONS],
    /// Frames that carry more than their IP packet, and by how many bytes.
    pub padding: Tally,
    /// Samples that found their ring full.
    pub samples_lost: u64,
    /// Hints that found their ring full.
    pub hints_lost: u64,
    /// IPv6 hosts that were not told of.
    pub strangers_untold: u64,
}

/// What was gained between two moments.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// When it was taken.
    pub at: Moment,
    /// Since when.
    pub span: Duration,
    /// Hosts that moved, in the order of their slots, incoming first.
    pub gains: Gains,
    /// All of them together: added up while they are at hand.
    pub whole: Whole,
    /// The house's own lines.
    pub house: House,
}

impl Reading {
    /// Of these gains, in the order of their slots, incoming first.
    pub fn new(at: Moment, span: Duration, gains: Vec<Gain>, house: House) -> Self {
        let mut whole = Whole::default();
        for gain in &gains {
            whole.add(gain.direction, gain.total(), gain.dropped());
        }
        let gains = Gains::from(gains);
        Self { at, span, gains, whole, house }
    }

    /// Hosts that moved, of those from this slot on.
    pub fn moved_from(&self, slot: u32) -> impl Iterator<Item = HostId> + '_ {
        let split = self.gains.middle();
        let (incoming, outgoing) = self.gains.split_at_checked(split).unwrap_or_default();
        [incoming, outgoing].into_iter().flat_map(move |gains| {
            let first = gains.partition_point(|gain| gain.host.0 < slot);
            gains.get(first..).unwrap_or_default().iter().map(|gain| gain.host)
        })
    }

    /// What this host gained.
    pub fn of(&self, host: HostId, direction: Direction) -> Counts {
        Gain::find(&self.gains, host, direction).map(Gain::counts).unwrap_or_default()
    }

    /// What was dropped of this host's.
    pub fn dropped(&self, host: HostId, direction: Direction) -> Tally {
        Gain::find(&self.gains, host, direction).map(Gain::dropped).unwrap_or_default()
    }
}

/// The lines of one set of tables and what they held at the last reading.
#[derive(Debug)]
struct Table {
    lines: Lines,
    /// By direction.
    before: [Before; 2],
}

/// By slot. The words of a line that never moved are never written, and cost no memory.
#[derive(Debug)]
struct Before {
    words: Vec<LineWords>,
    /// By chunk: all its words in one sum, the window's left out.
    wholes: Vec<u64>,
    /// By mark: set since the last reading.
    marked: Vec<bool>,
    /// By mark: set in the reading before.
    again: Vec<bool>,
}

/// All counters.
#[derive(Debug)]
pub struct Counters {
    tables: Vec<Table>,
    last: Moment,
    /// Room for the next reading's gains, which came back from an earlier one.
    spare: Gains,
    /// How many gains the last reading had room for.
    room: usize,
}

impl Counters {
    /// Reads `lines` from now on: the kernel's, an engine's own, or both.
    pub fn new(lines: Vec<Lines>, now: Moment) -> Self {
        let tables = lines
            .into_iter()
            .map(|lines| {
                let before = Direction::BOTH.map(|direction| Before::of(&lines, direction));
                Table { lines, before }
            })
            .collect();
        Self { tables, last: now, spare: Gains::default(), room: 0 }
    }

    /// When the last reading was taken.
    pub const fn last(&self) -> Moment {
        self.last
    }

    /// Takes the room of gains that nobody needs any more.
    pub fn take_back(&mut self, gains: Gains) {
        // A carpet of attacks that is over shall not hold memory for ever.
        self.spare = gains.emptied(self.room);
    }

    /// What every host gained since the last reading. Allocates only for hosts that moved, and not
    /// even for these when the last reading's gains were taken back.
    pub fn read(&mut self, now: Moment) -> Reading {
        let mut reading = Reading {
            at: now,
            span: now.since(self.last),
            gains: std::mem::take(&mut self.spare),
            whole: Whole::default(),
            house: House::default(),
        };
        self.last = now;
        self.room = 0;
        for table in &mut self.tables {
            for direction in Direction::BOTH {
                self.room += table.read(direction, &mut reading);
            }
        }
        if self.tables.len() > 1 {
            reading.gains = merged(std::mem::take(&mut reading.gains));
        }
        reading
    }

    /// Was anything ever counted in this line, until the last reading?
    pub fn moved(&self, host: HostId) -> bool {
        self.tables.iter().flat_map(|table| &table.before).any(|before| {
            let words = before.words.get(host.0 as usize);
            words.is_some_and(|words| words.iter().take(DROPPED).any(|&word| word != 0))
        })
    }

    /// What one host gained since the last reading, without ending it.
    pub fn peek(&self, host: HostId, direction: Direction) -> Counts {
        let mut counts = Counts::default();
        for table in &self.tables {
            let [incoming, outgoing] = &table.before;
            let before = match direction {
                Direction::Incoming => incoming,
                Direction::Outgoing => outgoing,
            };
            if let Some(before) = before.words.get(host.0 as usize) {
                let after = table.lines.sum(direction, host.0);
                counts += &counted(before, &after);
            }
        }
        counts
    }
}

impl Table {
    /// Returns for how many gains it made room.
    fn read(&mut self, direction: Direction, reading: &mut Reading) -> usize {
        let [incoming, outgoing] = &mut self.before;
        let before = match direction {
            Direction::Incoming => incoming,
            Direction::Outgoing => outgoing,
        };
        std::mem::swap(&mut before.marked, &mut before.again);
        self.lines.take_marks(direction, &mut before.marked);
        let rows = self.lines.rows(direction);
        let stirred = before.marked.iter().filter(|&&set| set).count();
        let most = stirred.saturating_mul(CHUNK).min(before.words.len());
        reading.gains.reserve(most);
        before.read(direction, &rows, reading);
        most
    }
}

impl Before {
    /// As the lines are now.
    fn of(lines: &Lines, direction: Direction) -> Self {
        let mut words = vec![[0; WORDS]; lines.slots() as usize];
        let rows = lines.rows(direction);
        for (slot, before) in (0..).zip(&mut words) {
            let now = rows.sum(slot);
            if now != [0; WORDS] {
                *before = now;
            }
        }
        let wholes = words.chunks(CHUNK).map(whole_of).collect();
        let marks = vec![false; MARKS as usize];
        Self { words, wholes, marked: marks.clone(), again: marks }
    }

    /// Reads the lines that are to be looked at, and puts down what they gained.
    fn read(&mut self, direction: Direction, rows: &Rows<'_>, reading: &mut Reading) {
        let Self { words, wholes, marked, again } = self;
        let mut sums = [[0; WORDS]; CHUNK];
        let chunks = words.chunks_mut(CHUNK).zip(wholes);
        for (first, (words, whole)) in (0..).step_by(CHUNK).zip(chunks) {
            let mark = mark_of(first);
            let is_set = |marks: &[bool]| marks.get(mark).is_some_and(|&set| set);
            let slots = first as usize..first as usize + words.len();
            let is_house = first < BLOCK;
            let is_stirred = is_house
                || is_set(marked)
                || (is_set(again) && rows.whole(slots.clone()) != *whole);
            if !is_stirred {
                continue;
            }
            let sums = sums.get_mut(..words.len()).unwrap_or_default();
            rows.add_up(slots, sums);
            if is_house {
                reading.house.take_all(direction, first, words, sums);
                continue;
            }
            let sum = reading.gains.take(direction, first, words, sums);
            *whole = whole.wrapping_add(sum.whole());
            reading.whole.add(direction, sum.total(), sum.dropped());
        }
    }
}

/// All words of some lines in one sum, the window's left out.
fn whole_of(lines: &[LineWords]) -> u64 {
    let mut wholes = [0_u64; WORDS];
    for line in lines {
        for (whole, word) in wholes.iter_mut().zip(line) {
            *whole = whole.wrapping_add(*word);
        }
    }
    wholes.into_iter().take(WINDOW).fold(0, u64::wrapping_add)
}

fn word(before: &LineWords, after: &LineWords, index: usize) -> (u64, u64) {
    match (before.get(index), after.get(index)) {
        (Some(&before), Some(&after)) => gained(before, after),
        _ => (0, 0),
    }
}

/// The classes of one line.
pub(super) fn counted(before: &LineWords, after: &LineWords) -> Counts {
    Counts(Class::ALL.map(|class| {
        let (packets, bytes) = word(before, after, class as usize);
        Tally { packets, bytes }
    }))
}

impl House {
    /// Takes what its lines gained from `first` on.
    #[inline(never)]
    fn take_all(
        &mut self,
        direction: Direction,
        first: u32,
        before: &mut [LineWords],
        after: &[LineWords],
    ) {
        for (slot, (before, after)) in (first..).zip(before.iter_mut().zip(after)) {
            if before.iter().zip(after).any(|(before, after)| before != after) {
                self.take(direction, slot, before, after);
                *before = *after;
            }
        }
    }

    fn take(&mut self, direction: Direction, slot: u32, before: &LineWords, after: &LineWords) {
        let total = counted(before, after).total();
        match (slot, direction) {
            (OTHER, _) => self.other += total,
            (INTERNAL, Direction::Incoming) => self.internal_incoming += total,
            (INTERNAL, Direction::Outgoing) => self.internal_outgoing += total,
            (MIRRORED, _) => self.mirrored += total,
            (TUNNELLED, Direction::Incoming) => self.tunnelled_incoming += total,
            (TUNNELLED, Direction::Outgoing) => self.tunnelled_outgoing += total,
            (IGNORED, _) => self.ignored += total,
            (PADDING, _) => self.padding += total,
            (SAMPLES_LOST, _) => self.samples_lost += total.packets,
            (HINTS_LOST, _) => self.hints_lost += total.packets,
            (STRANGERS_UNTOLD, _) => self.strangers_untold += total.packets,
            _ => {
                let reason = slot.checked_sub(UNPARSED).map(|reason| reason as usize);
                if let Some(tally) = reason.and_then(|reason| self.unparsed.get_mut(reason)) {
                    *tally += total;
                }
            }
        }
    }
}

/// Adds up what several tables say of one host.
fn merged(gains: Gains) -> Gains {
    let mut gains = Vec::from(gains);
    gains.sort_by_key(Gain::place);
    gains.dedup_by(|later, earlier| {
        let same = later.place() == earlier.place();
        if same {
            let mut counts = earlier.counts();
            counts += &later.counts();
            let mut dropped = earlier.dropped();
            dropped += later.dropped();
            *earlier = Gain::new(earlier.host, earlier.direction, &counts, dropped);
        }
        same
    });
    Gains::from(gains)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use fastnetmon_common::table::{Line as _, PACKET_SHIFT, Tables as _};

    use super::*;
    use crate::tables::{Row, Shape, own};

    /// So many packets of 50 bytes, with their mark or before it is set.
    fn add(row: &Row, slot: u32, word: usize, packets: u64, is_marked: bool) {
        let line = row.line(Direction::Outgoing, slot).unwrap();
        line.set(word, line.get(word).wrapping_add((packets << PACKET_SHIFT) | (packets * 50)));
        if is_marked {
            row.stir(Direction::Outgoing, slot);
        }
    }

    #[test]
    fn what_comes_later_than_its_mark_is_found_once_by_the_next_reading() {
        // The last chunk is not a whole one.
        let writers = NonZeroU32::new(2).unwrap();
        let (parts, rows) =
            own(Shape { writers, slots: 256 + 70, elements: 1, buckets: 1, seed: 0 }).unwrap();
        let mut counters = Counters::new(vec![parts.lines], Moment::default());
        let mut now = Moment::default();
        let mut check = |expected: &[(u32, u64)]| {
            now = now + Duration::from_secs(1);
            let reading = counters.read(now);
            let of = |gain: &Gain| (gain.host.0, gain.total().packets + gain.dropped().packets);
            assert_eq!(reading.gains.iter().map(of).collect::<Vec<_>>(), expected);
            let again = Reading::new(now, reading.span, reading.gains.to_vec(), House::default());
            assert_eq!(reading.whole, again.whole);
            let sum = |of: fn(&Gain) -> Tally| {
                let mut sum = Tally::default();
                reading.gains.iter().for_each(|gain| sum += of(gain));
                sum
            };
            assert_eq!(
                (reading.whole.outgoing, reading.whole.dropped),
                (sum(Gain::total), sum(Gain::dropped))
            );
        };
        for slot in [256, 325] {
            add(&rows[0], slot, 2, 7, true);
            check(&[(slot, 7)]);
            let neighbour = slot ^ 1;
            add(&rows[1], neighbour, 0, 1, false);
            add(&rows[0], slot, DROPPED, 3, false);
            let mut expected = [(slot, 3), (neighbour, 1)];
            expected.sort_unstable();
            check(&expected);
            check(&[]);
            // Without a mark nobody looks; with one, nothing is missing.
            add(&rows[1], slot, 5, 2, false);
            check(&[]);
            add(&rows[0], slot, 5, 1, true);
            check(&[(slot, 3)]);
            check(&[]);
            check(&[]);
        }
    }
}
