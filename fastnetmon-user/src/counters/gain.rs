//! What one host gained, and what all gained together.
//!
//! **Invariant**: packed as in the table, so that a gain is one cache line: there may be a million of
//! them.

use fastnetmon_common::table::{DROPPED, PACKET_SHIFT, gained};

use crate::model::{Counts, Direction, HostId, Tally};

/// What one host gained in one direction. One cache line, since there may be a million of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gain {
    /// Whose.
    pub host: HostId,
    /// Which way.
    pub direction: Direction,
    /// Packed as in the table: the classes, and what of them we dropped.
    pub(super) words: [u64; DROPPED + 1],
}

impl Gain {
    /// Of so many packets and bytes.
    pub fn new(host: HostId, direction: Direction, counts: &Counts, dropped: Tally) -> Self {
        let mut words = [0; DROPPED + 1];
        for (word, tally) in words.iter_mut().zip(counts.0.into_iter().chain([dropped])) {
            *word = pack(tally);
        }
        Self { host, direction, words }
    }

    /// By class.
    pub fn counts(&self) -> Counts {
        let [tcp, syn, udp, icmp, fragment, other, _] = self.words;
        Counts([tcp, syn, udp, icmp, fragment, other].map(unpack))
    }

    /// All classes.
    #[inline]
    pub fn total(&self) -> Tally {
        let [classes @ .., _] = self.words;
        let packets = classes.iter().fold(0, |sum, word| sum + (word >> PACKET_SHIFT));
        apart(packets, classes.into_iter().fold(0, u64::wrapping_add))
    }

    /// Of these, how many we dropped.
    pub fn dropped(&self) -> Tally {
        let [.., dropped] = self.words;
        unpack(dropped)
    }

    /// Where it stands among others.
    pub const fn place(&self) -> (Direction, HostId) {
        (self.direction, self.host)
    }

    /// This host's among gains that stand in order.
    pub fn find(gains: &[Self], host: HostId, direction: Direction) -> Option<&Self> {
        let found = gains.binary_search_by_key(&(direction, host), Self::place);
        found.ok().and_then(|at| gains.get(at))
    }
}

/// What all hosts gained together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Whole {
    /// Incoming.
    pub incoming: Tally,
    /// Outgoing.
    pub outgoing: Tally,
    /// Of both, what we dropped.
    pub dropped: Tally,
}

impl Whole {
    /// Adds what hosts gained in one direction, and what of it was dropped.
    pub(super) fn add(&mut self, direction: Direction, total: Tally, dropped: Tally) {
        match direction {
            Direction::Incoming => self.incoming += total,
            Direction::Outgoing => self.outgoing += total,
        }
        self.dropped += dropped;
    }
}

/// As [`gained`] says it of a word, and back.
const fn unpack(word: u64) -> Tally {
    let (packets, bytes) = gained(0, word);
    Tally { packets, bytes }
}

/// Packets and bytes of words that were added up: whatever their packets carried out of the sum is
/// known from the packets.
pub(super) const fn apart(packets: u64, sum: u64) -> Tally {
    Tally { packets, bytes: sum.wrapping_sub(packets << PACKET_SHIFT) }
}

fn pack(tally: Tally) -> u64 {
    let most_bytes = (1 << PACKET_SHIFT) - 1;
    let most_packets = (1 << (u64::BITS - PACKET_SHIFT)) - 1;
    (tally.packets.min(most_packets) << PACKET_SHIFT) | tally.bytes.min(most_bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::counters::{House, Reading};
    use crate::model::Moment;

    #[test]
    fn a_gain_is_what_it_was_made_of_and_its_total_the_sum_of_its_classes() {
        let most = Tally { packets: (1 << 28) - 1, bytes: (1 << 36) - 1 };
        for tallies in [
            [most; 6],
            [Tally::default(); 6],
            [1, 2, 3, 4, 5, 6].map(|n| Tally { packets: n, bytes: 100 * n }),
        ] {
            let gain = Gain::new(HostId(300), Direction::Incoming, &Counts(tallies), most);
            assert_eq!((gain.counts(), gain.dropped()), (Counts(tallies), most));
            assert_eq!(gain.total(), Counts(tallies).total());
            let reading =
                Reading::new(Moment::default(), Duration::ZERO, vec![gain; 1000], House::default());
            let total = gain.total();
            let times =
                |tally: Tally| Tally { packets: tally.packets * 1000, bytes: tally.bytes * 1000 };
            assert_eq!(
                (reading.whole.incoming, reading.whole.dropped),
                (times(total), times(most))
            );
        }
    }
}
