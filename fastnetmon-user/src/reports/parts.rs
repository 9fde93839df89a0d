//! Speeds by the incumbent's parts, numbers and addresses as text, for all encoders.
//!
//! **Invariant**: pure and without allocation but for the text itself: an encoder writes a million
//! lines a second.

use std::io::Write as _;
use std::net::IpAddr;
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

/// How the two numbers of a speed are written, with whatever stands around their names. Nearly all
/// parts of nearly all hosts are nothing, so nothing is one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) packets: &'static str,
    pub(super) bits: &'static str,
    pub(super) nothing: &'static str,
}

impl Pair {
    fn write(&self, out: &mut Vec<u8>, speed: PerSecond) {
        if speed == PerSecond::default() {
            out.extend_from_slice(self.nothing.as_bytes());
            return;
        }
        out.extend_from_slice(self.packets.as_bytes());
        number(out, speed.pps);
        out.extend_from_slice(self.bits.as_bytes());
        number(out, speed.bits());
    }
}

/// About how many bytes all numbers of a host take with its name: room that is there beforehand is not
/// copied about. What is not used costs nothing.
pub(super) const LINE: usize = 768;

/// The numbers of a host or a network: by direction, the whole and then the parts.
pub(super) type Pairs = [[Pair; PARTS.len() + 1]; 2];

/// The incumbent's names for them, each between an opening and a closing.
macro_rules! pairs {
    ($open:literal, $close:literal) => {
        [pairs!($open, $close, "_incoming"), pairs!($open, $close, "_outgoing")]
    };
    ($open:literal, $close:literal, $way:literal) => {
        [
            pairs!($open, $close, $way, ""),
            pairs!($open, $close, $way, "dropped_"),
            pairs!($open, $close, $way, "fragmented_"),
            pairs!($open, $close, $way, "tcp_"),
            pairs!($open, $close, $way, "tcp_syn_"),
            pairs!($open, $close, $way, "udp_"),
            pairs!($open, $close, $way, "icmp_"),
        ]
    };
    ($open:literal, $close:literal, $way:literal, $part:literal) => {
        $crate::reports::parts::Pair {
            packets: concat!($open, $part, "packets", $way, $close),
            bits: concat!($open, $part, "bits", $way, $close),
            nothing: concat!(
                concat!($open, $part, "packets", $way, $close, "0"),
                concat!($open, $part, "bits", $way, $close, "0"),
            ),
        }
    };
}
pub(super) use pairs;

/// The numbers of a host or a network.
pub(super) fn both_ways(out: &mut Vec<u8>, pairs: &Pairs, speeds: &[Speeds; 2]) {
    for (pairs, speeds) in pairs.iter().zip(speeds) {
        let [whole, parts @ ..] = pairs;
        whole.write(out, speeds.whole);
        for (pair, speed) in parts.iter().zip(speeds.parts) {
            pair.write(out, speed);
        }
    }
}

/// An address as everywhere.
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [first, others @ ..] = address.octets();
            number(out, first.into());
            for octet in others {
                out.push(b'.');
                number(out, octet.into());
            }
        }
        IpAddr::V6(address) => {
            // Writing to a vector cannot fail.
            let _infallible = write!(out, "{address}");
        }
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
