//! The scan: all lines of all rows, once a tick.
//!
//! **Invariant**: rows are summed first and differences taken of the sum, so that no order of
//! reading can count anything twice.

use std::time::Duration;

use fastnetmon_common::table::{
    BLOCK, DROPPED, HINTS_LOST, INTERNAL, MIRRORED, OTHER, PADDING, SAMPLES_LOST, STRANGERS_UNTOLD,
    TUNNELLED, UNPARSED, WINDOW, gained,
};

use crate::model::{Class, Counts, Direction, HostId, Moment, Tally, Unparsed};
use crate::tables::{LineWords, Lines};

/// Lines summed at a time: 16 KB, which stay in the first cache.
const CHUNK: usize = 256;

/// What one host gained in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gain {
    /// Whose.
    pub host: HostId,
    /// Which way.
    pub direction: Direction,
    /// By class.
    pub counts: Counts,
    /// Of these, how many we dropped.
    pub dropped: Tally,
}

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
    pub gains: Vec<Gain>,
    /// The house's own lines.
    pub house: House,
}

/// The lines of one set of tables and what they held at the last reading.
#[derive(Debug)]
struct Table {
    lines: Lines,
    /// By direction and slot.
    before: [Vec<LineWords>; 2],
}

/// All counters.
#[derive(Debug)]
pub struct Counters {
    tables: Vec<Table>,
    last: Moment,
}

impl Counters {
    /// Reads `lines` from now on: the kernel's, an engine's own, or both.
    pub fn new(lines: Vec<Lines>, now: Moment) -> Self {
        let tables = lines
            .into_iter()
            .map(|lines| {
                let before = Direction::BOTH.map(|direction| {
                    let mut words = vec![[0; 8]; lines.slots() as usize];
                    lines.add_into(direction, 0, &mut words);
                    words
                });
                Table { lines, before }
            })
            .collect();
        Self { tables, last: now }
    }

    /// When the last reading was taken.
    pub const fn last(&self) -> Moment {
        self.last
    }

    /// What every host gained since the last reading. Allocates only for hosts that moved.
    pub fn read(&mut self, now: Moment) -> Reading {
        let mut reading = Reading { at: now, span: now.since(self.last), ..Reading::default() };
        self.last = now;
        for table in &mut self.tables {
            for direction in Direction::BOTH {
                table.read(direction, &mut reading);
            }
        }
        if self.tables.len() > 1 {
            merge(&mut reading.gains);
        }
        reading
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
            if let Some(before) = before.get(host.0 as usize) {
                let after = table.lines.sum(direction, host.0);
                counts += &counted(before, &after);
            }
        }
        counts
    }
}

impl Table {
    fn read(&mut self, direction: Direction, reading: &mut Reading) {
        let [incoming, outgoing] = &mut self.before;
        let before = match direction {
            Direction::Incoming => incoming,
            Direction::Outgoing => outgoing,
        };
        let mut sums = [[0; 8]; CHUNK];
        let mut first = 0;
        for chunk in before.chunks_mut(CHUNK) {
            sums.fill([0; 8]);
            let Some(sums) = sums.get_mut(..chunk.len()) else { continue };
            self.lines.add_into(direction, first, sums);
            for (slot, (before, after)) in (first..).zip(chunk.iter_mut().zip(sums)) {
                if !moved(before, after) {
                    continue;
                }
                if slot < BLOCK {
                    reading.house.take(direction, slot, before, after);
                } else {
                    let (packets, bytes) = word(before, after, DROPPED);
                    reading.gains.push(Gain {
                        host: HostId(slot),
                        direction,
                        counts: counted(before, after),
                        dropped: Tally { packets, bytes },
                    });
                }
                *before = *after;
            }
            first += u32::try_from(CHUNK).unwrap_or(BLOCK);
        }
    }
}

/// Did any counting word change? The window word does not count.
#[inline]
fn moved(before: &LineWords, after: &LineWords) -> bool {
    let mut changed = 0;
    for (index, (before, after)) in before.iter().zip(after).enumerate() {
        if index != WINDOW {
            changed |= before ^ after;
        }
    }
    changed != 0
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
    fn take(&mut self, direction: Direction, slot: u32, before: &LineWords, after: &LineWords) {
        let total = counted(before, after).total();
        match (slot, direction) {
            (OTHER, _) => self.other += total,
            (INTERNAL, Direction::Incoming) => self.internal_incoming += total,
            (INTERNAL, Direction::Outgoing) => self.internal_outgoing += total,
            (MIRRORED, _) => self.mirrored += total,
            (TUNNELLED, Direction::Incoming) => self.tunnelled_incoming += total,
            (TUNNELLED, Direction::Outgoing) => self.tunnelled_outgoing += total,
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
fn merge(gains: &mut Vec<Gain>) {
    gains.sort_by_key(|gain| (gain.host, gain.direction));
    gains.dedup_by(|later, earlier| {
        let same = later.host == earlier.host && later.direction == earlier.direction;
        if same {
            earlier.counts += &later.counts;
            earlier.dropped += later.dropped;
        }
        same
    });
}
