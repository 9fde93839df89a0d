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

/// A word of at most `N` bytes. All of them are copied and what is not its own is cut off again: a copy
/// whose length the compiler knows is no call, and a line has many words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Word<N> {
    /// Does not compile when the text is longer.
    pub(super) const fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        let (own, _rest) = bytes.split_at_mut(text.len());
        own.copy_from_slice(text.as_bytes());
        Self { bytes, length: text.len() }
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }

    /// As it was made.
    pub(super) fn text(&self) -> &str {
        self.bytes.get(..self.length).and_then(|own| str::from_utf8(own).ok()).unwrap_or_default()
    }
}

/// How the two numbers of a speed are written, with whatever stands around their names. Nearly all
/// parts of nearly all hosts are nothing, so nothing is one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) packets: Word<32>,
    pub(super) bits: Word<32>,
    pub(super) nothing: Word<64>,
}

impl Pair {
    #[inline]
    fn write(&self, out: &mut Vec<u8>, speed: PerSecond) {
        if speed == PerSecond::default() {
            self.nothing.write(out);
            return;
        }
        self.packets.write(out);
        number(out, speed.pps);
        self.bits.write(out);
        number(out, speed.bits());
    }
}

/// About how many bytes all numbers of a host take with its name: room that is there beforehand is not
/// copied about. What is not used costs nothing.
pub(super) const LINE: usize = 768;

/// The numbers of a host or a network: by direction, the whole and then the parts.
pub(super) type Pairs = [[Pair; PARTS.len() + 1]; 2];

/// The incumbent's names for them, each between an opening and a closing; with a third text they are
/// written when they are nothing as well, with that text behind each.
macro_rules! pairs {
    (@ways $($how:literal),+) => {
        [pairs!(@parts "_incoming", $($how),+), pairs!(@parts "_outgoing", $($how),+)]
    };
    (@parts $way:literal, $($how:literal),+) => {
        [
            pairs!(@pair "", $way, $($how),+),
            pairs!(@pair "dropped_", $way, $($how),+),
            pairs!(@pair "fragmented_", $way, $($how),+),
            pairs!(@pair "tcp_", $way, $($how),+),
            pairs!(@pair "tcp_syn_", $way, $($how),+),
            pairs!(@pair "udp_", $way, $($how),+),
            pairs!(@pair "icmp_", $way, $($how),+),
        ]
    };
    (@pair $part:literal, $way:literal, $open:literal, $close:literal $(, $zero:literal)?) => {
        $crate::reports::parts::Pair {
            packets: Word::new(concat!($open, $part, "packets", $way, $close)),
            bits: Word::new(concat!($open, $part, "bits", $way, $close)),
            nothing: Word::new(concat!(
                "" $(, $open, $part, "packets", $way, $close, $zero)?
                $(, $open, $part, "bits", $way, $close, $zero)?
            )),
        }
    };
    ($($how:literal),+) => {
        pairs!(@ways $($how),+)
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

/// `0.`, `1.`, … `255.`
static OCTETS: [Word<4>; 256] = {
    let mut words = [Word { bytes: [b'.'; 4], length: 4 }; 256];
    let mut left: &mut [Word<4>] = &mut words;
    let mut octet = 0_u8;
    while let Some((word, others)) = left.split_first_mut() {
        let digits = [b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10];
        let [hundreds, tens, ones] = digits;
        *word = match octet {
            0..10 => Word { bytes: [ones, b'.', 0, 0], length: 2 },
            10..100 => Word { bytes: [tens, ones, b'.', 0], length: 3 },
            100.. => Word { bytes: [hundreds, tens, ones, b'.'], length: 4 },
        };
        octet = octet.wrapping_add(1);
        left = others;
    }
    words
};

/// An address as everywhere.
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for octet in address.octets() {
                if let Some(word) = OCTETS.get(usize::from(octet)) {
                    word.write(out);
                }
            }
            // The last one has its dot as well.
            out.pop();
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
    fn addresses_are_written_as_std_writes_them() {
        let fours = (0..=255_u8).map(|octet| IpAddr::from([octet, 255 - octet, 0, octet / 3]));
        let sixes = ["::", "2001:db8::7", "::ffff:192.0.2.7"].map(|text| text.parse().unwrap());
        for ip in fours.chain(sixes) {
            let mut out = b"host=".to_vec();
            address(&mut out, ip);
            assert_eq!(String::from_utf8(out).unwrap(), format!("host={ip}"));
        }
    }

    #[test]
    fn words_are_written_without_what_they_are_padded_with() {
        const WITH_ZEROS: Pairs = pairs!(",", "=", "0");
        const WITHOUT: Pairs = pairs!(",", "=");
        let speed = |pps| PerSecond { pps, bytes: 10 * pps };
        let mut speeds = [Speeds::default(); 2];
        speeds[1].parts[3] = speed(7);
        let written = |pairs| {
            let mut out = Vec::new();
            both_ways(&mut out, pairs, &speeds);
            String::from_utf8(out).unwrap()
        };
        let moved = ",tcp_syn_packets_outgoing=7,tcp_syn_bits_outgoing=560";
        assert_eq!(written(&WITHOUT), moved);
        let all = written(&WITH_ZEROS);
        assert_eq!((all.matches('=').count(), all.matches("=0").count()), (28, 26));
        assert!(all.contains(moved) && all.contains(",fragmented_packets_incoming=0,"), "{all}");
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
