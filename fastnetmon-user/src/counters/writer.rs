//! Where an engine puts what it saw.
//!
//! What the kernel counted already is evidence; what nobody counted yet is counted here, as the
//! kernel programs do it.
//!
//! **Invariant**: never blocks the capture thread, and allocates only for packets that are kept. What
//! finds a channel full is counted as lost: the tick's scan is the net under the hints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Sender;
use fastnetmon_common::abi::{Hint, Stranger};
use fastnetmon_common::directory::{FLAGGED, Found};
use fastnetmon_common::ignore::{count_ignored, facts, matches, with_ports};
use fastnetmon_common::parse::{parse_ethernet, parse_inner, parse_ip, parse_typed};
use fastnetmon_common::table::{Touched, count, count_inner, sparse, unparsed};
use fastnetmon_common::wire::Captured;

use crate::capture::{Frame, Intake, Sample, Starts};
use crate::counters::Evidence;
use crate::model::{Caught, Direction, HostId, Moment, Raw, Seen, Sides};
use crate::networks::Ignores;
use crate::tables::{Notice, Row};

/// The intake of an engine.
#[derive(Debug)]
pub struct Writer {
    counting: Option<Counting>,
    evidence: Arc<Evidence>,
    notices: Sender<Notice>,
    lost: Arc<AtomicU64>,
}

/// With what frames are counted that nobody counted yet.
#[derive(Debug)]
struct Counting {
    row: Row,
    rules: Rules,
    ignores: Ignores,
}

/// Why a packet is kept, and whose it is.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// The host is armed.
    Armed(HostId),
    /// It is one in so many; which way it went, seen from the host.
    Sparse(HostId, Direction),
}

/// How frames are counted beyond their own addresses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// One packet in so many is kept; 0: none.
    pub sparse_every: u32,
    /// What tunnels carry counts as well.
    pub decapsulate: bool,
}

impl Writer {
    /// Puts samples into `evidence` and tells `notices`; what finds no room counts in `lost`.
    pub const fn new(
        evidence: Arc<Evidence>,
        notices: Sender<Notice>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        Self { counting: None, evidence, notices, lost }
    }

    /// Counts frames into this row, and tells of its hints and strangers.
    #[must_use]
    pub fn counting(self, mut row: Row, rules: Rules) -> Self {
        row.notify(self.notices.clone());
        let ignores = Ignores::default();
        Self { counting: Some(Counting { row, rules, ignores }), ..self }
    }

    /// Does not count what these rules match.
    #[must_use]
    pub fn ignoring(mut self, ignores: Ignores) -> Self {
        if let Some(counting) = &mut self.counting {
            counting.ignores = ignores;
        }
        self
    }

    fn tell(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Intake for Writer {
    fn frame(&mut self, at: Moment, sides: Sides, frame: &Frame<'_>) {
        let Some(counting) = &self.counting else {
            // The kernel counts for this one: a frame here belongs to nobody, and is not hidden.
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Some(kept) = counting.take(window(at), sides, frame) else { return };
        let Some(caught) = caught(at, frame) else { return };
        match kept {
            Kept::Armed(host) => self.evidence.keep(host, caught),
            Kept::Sparse(host, direction) => self.evidence.keep_sparse(host, direction, caught),
        }
    }

    fn sample(&mut self, sample: &Sample<'_>) {
        let Some(caught) = caught(sample.at, &sample.frame) else { return };
        if sample.armed {
            self.evidence.keep(sample.host, caught);
        } else {
            self.evidence.keep_sparse(sample.host, sample.direction, caught);
        }
    }

    fn redirected(&mut self, at: Moment, frame: &Frame<'_>) {
        if let Some(caught) = caught(at, frame) {
            self.evidence.keep_taken(caught);
        }
    }

    fn hint(&mut self, hint: Hint) {
        self.tell(Notice::Hint(hint));
    }

    fn stranger(&mut self, stranger: Stranger) {
        self.tell(Notice::Stranger(stranger));
    }
}

impl Counting {
    /// Counts a frame. Returns for whose dump it is to be kept.
    fn take(&self, window: u64, sides: Sides, frame: &Frame<'_>) -> Option<Kept> {
        let (row, captured) = (&self.row, captured(frame));
        let parsed = match frame.starts {
            Starts::Ethernet => parse_ethernet(&captured),
            Starts::Ip => parse_ip(&captured, 0),
            Starts::Typed(ethertype) => parse_typed(&captured, ethertype),
        };
        let leaves = matches!(sides, Sides::Source);
        let seen = if leaves { Direction::Outgoing } else { Direction::Incoming };
        match parsed {
            Ok(packet) => {
                let (packets, bytes) = packet.segmented(packet.segments(frame.piece));
                let ignoring = self.ignores.number();
                if ignoring > 0
                    && matches(&self.ignores, ignoring, &with_ports(&captured, facts(&packet)))
                {
                    count_ignored(&row, packet.class as u64, seen, packets, bytes);
                    return None;
                }
                let touched = count(&row, &packet, packets, bytes, sides, window);
                if self.rules.decapsulate {
                    let inner = parse_inner(&captured, touched.payload(&row));
                    if inner.bytes != 0 {
                        count_inner(&row, &inner, packets, sides, window);
                    }
                }
                self.wants(touched)
            }
            Err(why) => {
                unparsed(&row, why, seen, 1, captured.wire_len);
                None
            }
        }
    }

    /// Whose dump wants it: an armed host's, the target first, or one packet in so many.
    fn wants<Down>(&self, touched: Touched<Down>) -> Option<Kept> {
        let Touched { source, destination, .. } = touched;
        for end in [destination, source] {
            if end.entry & FLAGGED != 0 && self.row.spend(HostId(end.slot)) {
                return Some(Kept::Armed(HostId(end.slot)));
            }
        }
        let (end, direction) = match Found::ours(destination) {
            Some(end) => (end, Direction::Incoming),
            None => (source.ours()?, Direction::Outgoing),
        };
        let is_kept = sparse(&&self.row, || self.rules.sparse_every);
        is_kept.then_some(Kept::Sparse(HostId(end.slot), direction))
    }
}

/// Number of the running window of 128 ms.
fn window(at: Moment) -> u64 {
    let since = at.since_boot();
    let millis = since.as_secs() * 1000 + u64::from(since.subsec_millis());
    (millis >> 7) & 255
}

fn captured<'a>(frame: &Frame<'a>) -> Captured<'a> {
    let bytes = frame.bytes;
    let wire_len =
        frame.wire_bytes.unwrap_or_else(|| u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    Captured { bytes, wire_len }
}

/// A packet that is kept; only here is anything of it copied.
fn caught(at: Moment, frame: &Frame<'_>) -> Option<Caught> {
    let captured = captured(frame);
    let seen = match frame.starts {
        Starts::Ethernet => Seen::from_ethernet(at, captured),
        Starts::Ip => Seen::from_ip(at, captured),
        Starts::Typed(ethertype) => Seen::from_typed(at, captured, ethertype),
    }?;
    Some(Caught { seen, raw: Raw::of(frame.starts, frame.bytes, captured.wire_len) })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use fastnetmon_common::table::{IGNORED, gained, packed};

    use super::*;
    use crate::model::Prefix;
    use crate::networks::{IgnoreRule, Plan, PrefixSet, Territory};
    use crate::tables::{Lines, own};

    const HOST: [u8; 4] = [192, 0, 2, 7];
    const WORLD: [u8; 4] = [203, 0, 113, 9];

    struct House {
        writer: Writer,
        evidence: Arc<Evidence>,
        lines: Lines,
        territory: Territory,
        host: HostId,
        lost: Arc<AtomicU64>,
    }

    fn house(sparse_every: u32) -> House {
        let ours = PrefixSet::merged([Prefix::parse_masked("192.0.2.0/24").unwrap().0]).0;
        let (plan, writes) = Plan::new(&ours, 16).unwrap();
        let shape = plan.shape(NonZeroU32::MIN, 7);
        let (parts, mut rows) = own(shape).unwrap();
        let mut territory =
            Territory::new(ours, plan, &writes, shape, vec![parts.directory], vec![parts.flags]);
        let host = territory.host(HOST.into()).unwrap();
        let (evidence, lost) = (Arc::new(Evidence::default()), Arc::new(AtomicU64::new(0)));
        let (notices, _) = crossbeam_channel::bounded(4);
        let rules = Rules { sparse_every, decapsulate: false };
        let writer = Writer::new(Arc::clone(&evidence), notices, Arc::clone(&lost))
            .counting(rows.remove(0), rules);
        House { writer, evidence, lines: parts.lines, territory, host, lost }
    }

    /// The beginning of a UDP packet of so many bytes.
    fn udp(source: [u8; 4], target: [u8; 4], bytes: u16) -> Vec<u8> {
        let [high, low] = bytes.to_be_bytes();
        let mut packet = vec![0x45, 0, high, low, 0, 1, 0, 0, 64, 17, 0, 0];
        packet.extend(source);
        packet.extend(target);
        packet.extend([0, 53, 0, 80, 0, 0, 0, 0]);
        packet
    }

    impl House {
        fn show(&mut self, sides: Sides, bytes: &[u8], wire_bytes: u32, piece: u32) {
            let wire_bytes = Some(wire_bytes);
            let frame = Frame { bytes, starts: Starts::Ip, wire_bytes, piece };
            self.writer.frame(Moment::after_boot(Duration::from_secs(9)), sides, &frame);
        }

        fn counted(&self, direction: Direction) -> (u64, u64) {
            let words = self.lines.sum(direction, self.host.0);
            let gains = words[..6].iter().map(|&word| gained(0, word));
            gains.fold((0, 0), |sum, (packets, bytes)| (sum.0 + packets, sum.1 + bytes))
        }
    }

    #[test]
    fn only_the_asked_sides_are_counted_with_the_length_of_the_wire() {
        let mut house = house(0);
        let to = udp(WORLD, HOST, 1400);
        house.show(Sides::Destination, &to, 1400, 0);
        house.show(Sides::Source, &to, 1400, 0);
        assert_eq!(house.counted(Direction::Incoming), (1, 1400));
        let from = udp(HOST, WORLD, 500);
        house.show(Sides::Both, &from, 500, 0);
        assert_eq!(house.counted(Direction::Outgoing), (1, 500));
    }

    #[test]
    fn an_offloaded_frame_counts_as_its_segments() {
        for (piece, expected) in [
            (0, (1, 3028)),
            (1000, (3, 3000 + 3 * 28)),
            (2999, (2, 3000 + 2 * 28)),
            (4000, (1, 3028)),
        ] {
            let mut house = house(0);
            house.show(Sides::Source, &udp(HOST, WORLD, 3028), 3028, piece);
            assert_eq!(house.counted(Direction::Outgoing), expected, "{piece}");
        }
    }

    #[test]
    fn armed_hosts_spend_their_budget_and_of_the_others_one_in_so_many_is_kept() {
        let mut house = house(10);
        let to = udp(WORLD, HOST, 46);
        for _ in 0..30 {
            house.show(Sides::Destination, &to, 46, 0);
        }
        let now = Moment::after_boot(Duration::from_secs(9));
        house.evidence.arm(now, &[(house.host, HOST.into())], 100);
        assert_eq!(house.evidence.collected(house.host), Some((3, 100)));
        house.territory.arm(house.host, HOST.into(), 5);
        for _ in 0..15 {
            house.show(Sides::Destination, &to, 46, 0);
        }
        // Five of the budget, and one of the ten that followed.
        assert_eq!(house.evidence.collected(house.host), Some((9, 100)));
        assert_eq!(house.counted(Direction::Incoming), (45, 45 * 46));
        assert_eq!(house.lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_a_rule_matches_is_counted_for_nobody_and_kept_for_no_dump() {
        let rules = "source = \"203.0.113.9\"\nsource_port = 53\n";
        let rule: IgnoreRule = toml::from_str(rules).unwrap();
        let mut house = house(1);
        let ignores = Ignores::of(&vec![rule].try_into().unwrap());
        house.writer = house.writer.ignoring(ignores);
        house.territory.arm(house.host, HOST.into(), 5);
        let line = |house: &House, direction| house.lines.sum(direction, IGNORED)[..6].to_vec();
        house.show(Sides::Destination, &udp(WORLD, HOST, 1400), 1400, 0);
        assert_eq!(house.counted(Direction::Incoming), (0, 0));
        assert_eq!(line(&house, Direction::Incoming)[2], packed(1, 1400));
        let now = Moment::after_boot(Duration::from_secs(9));
        house.evidence.arm(now, &[(house.host, HOST.into())], 100);
        assert_eq!(house.evidence.collected(house.host), Some((0, 100)));
        // As its segments, where offload will cut it.
        house.show(Sides::Source, &udp(WORLD, HOST, 3028), 3028, 1000);
        assert_eq!(line(&house, Direction::Outgoing)[2], packed(3, 3000 + 3 * 28));
        // Another source.
        house.show(Sides::Destination, &udp([203, 0, 113, 8], HOST, 500), 500, 0);
        assert_eq!(house.counted(Direction::Incoming), (1, 500));
    }

    #[test]
    fn windows_last_128_milliseconds_and_come_round() {
        let at = |millis| window(Moment::after_boot(Duration::from_millis(millis)));
        assert_eq!([at(0), at(127), at(128), at(255 * 128), at(256 * 128)], [0, 0, 1, 255, 0]);
    }
}
