//! Speeds by the incumbent's parts, and numbers as text, for all encoders.
//!
//! **Invariant**: pure and without allocation but for the text itself: an encoder writes a million
//! lines a second.

use std::time::Duration;

use crate::model::{Class, Counts, Direction, PerSecond, Tally};
use crate::reports::{Gained, HostLoad};

/// What the incumbent tells apart, beside the whole.
pub(super) const PARTS: [&str; 6] = ["dropped", "fragmented", "tcp", "tcp_syn", "udp", "icmp"];

/// Speeds of one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Speeds {
    pub(super) whole: PerSecond,
    /// In the order of [`PARTS`].
    pub(super) parts: [PerSecond; PARTS.len()],
}

impl Speeds {
    /// Of what came within `span`.
    pub(super) fn of(counts: &Counts, dropped: Tally, span: Duration) -> Self {
        let speed = |tally: Tally| {
            if tally.is_zero() { PerSecond::default() } else { tally.per_second(span) }
        };
        let mut tcp = counts.class(Class::Tcp);
        let syn = counts.class(Class::Syn);
        tcp += syn;
        let parts = [
            dropped,
            counts.class(Class::Fragment),
            tcp,
            syn,
            counts.class(Class::Udp),
            counts.class(Class::Icmp),
        ];
        Self { whole: speed(counts.total()), parts: parts.map(speed) }
    }

    /// Of a host, incoming and outgoing.
    pub(super) fn of_host(host: &HostLoad, span: Duration) -> [Self; 2] {
        Direction::BOTH.map(|way| Self::of(&host.counts(way), host.dropped(way), span))
    }

    /// Of a network or a family, incoming and outgoing.
    pub(super) fn of_gained(gained: &Gained, span: Duration) -> [Self; 2] {
        Direction::BOTH.map(|way| Self::of(gained.of(way), gained.dropped(way), span))
    }
}

/// A number in decimal.
pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Several words.
pub(super) fn words(out: &mut Vec<u8>, words: &[&str]) {
    for word in words {
        out.extend_from_slice(word.as_bytes());
    }
}

/// Which reports are told: one in so many seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    every: Duration,
    since: Duration,
}

impl Cadence {
    /// The first report is told.
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, since: every }
    }

    /// Is a report that covers `span` to be told?
    pub(super) fn is_due(&mut self, span: Duration) -> bool {
        self.since += span;
        // A second that came a little early is one.
        let due = self.since + Duration::from_millis(500) >= self.every;
        if due {
            self.since = Duration::ZERO;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syn_counts_as_tcp_and_by_itself() {
        let mut counts = Counts::default();
        counts.0[Class::Tcp as usize] = Tally { packets: 20, bytes: 2000 };
        counts.0[Class::Syn as usize] = Tally { packets: 10, bytes: 400 };
        let speeds = Speeds::of(&counts, Tally::default(), Duration::from_secs(2));
        let pps = speeds.parts.map(|part| part.pps);
        assert_eq!((speeds.whole.pps, speeds.whole.bits()), (15, 9600));
        assert_eq!(pps, [0, 0, 15, 5, 0, 0]);
    }

    #[test]
    fn one_report_in_ten_seconds_is_told() {
        let mut cadence = Cadence::new(Duration::from_secs(10));
        let told: Vec<bool> =
            (0..21).map(|_| cadence.is_due(Duration::from_millis(1001))).collect();
        let at: Vec<usize> = (0..21).filter(|&at| told[at]).collect();
        assert_eq!(at, [0, 10, 20]);
    }
}
