//! One corpus through every engine: the same counters, for each host, direction and class.
//!
//! The reference is the parser and the table alone. What an engine cannot see, or sees otherwise, is in
//! [`DIFFERENCES`], with the reason, and nowhere else: the reference is then asked for what is left.
//! A new engine is a test here, and its rows there.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastnetmon_common::abi::program;
use fastnetmon_common::table::{NOTES, PACKET_SHIFT, STRANGERS_UNTOLD, UNPARSED};
use fastnetmon_user::capture::{
    AfPacketEngine, CaptureFile, Engine, Frame, Intake as _, NflogEngine, NflogSettings, Starts,
    Way,
};
use fastnetmon_user::counters::{Rules, Writer};
use fastnetmon_user::daemon::clock;
use fastnetmon_user::kernel::{self, Egress, Frozen, Mode, Port, Role};
use fastnetmon_user::model::{Direction, HostId, Moment, Prefix};
use fastnetmon_user::networks::{Plan, PrefixSet, Territory};
use fastnetmon_user::tables::{self, Lines, Parts, Row, Shape};
use xtask::lab::{INSIDE_INTERFACE, Lab};
use xtask::traffic::{Pace, Pool};

use crate::corpus::{HOSTS, Named, corpus, host6};
use crate::engines::add_rules;

/// What a frame is to an engine.
enum Seen {
    Not,
    As(fn(&[u8]) -> Vec<u8>),
}

/// Engines, which way the frames go, the frames (none: all of them), as what they are seen, why.
type Difference =
    (&'static [&'static str], &'static [Way], &'static [&'static str], Seen, &'static str);

const BOTH: &[Way] = &[Way::Arrives, Way::Leaves];

/// Differences that lie in the nature of an engine.
const DIFFERENCES: &[Difference] = &[
    (
        &["xdp test-run"],
        &[Way::Leaves],
        &["short"],
        Seen::Not,
        "the kernel's own test of a classifier wants the header that a frame's type promises",
    ),
    (
        &["af_packet"],
        &[Way::Arrives],
        &["in four tags"],
        Seen::As(without_a_tag),
        "the kernel takes the outermost tag off before packet sockets see a frame",
    ),
    (
        &["pcap any"],
        &[Way::Arrives],
        &["udp in two tags", "syn in three tags", "in four tags"],
        Seen::As(inner_type_outside),
        "since Linux 6.11 a cooked socket names the innermost type and leaves the inner tags in",
    ),
    (
        &["pcap any"],
        &[Way::Leaves],
        &["udp in two tags", "syn in three tags", "in four tags"],
        Seen::As(outermost_tag_alone),
        "and of what leaves it takes them all off but the outermost, which libpcap puts back",
    ),
    (
        &["nflog"],
        &[Way::Leaves],
        &[],
        Seen::Not,
        "frames that a program sends by a packet socket pass no rules",
    ),
    (
        &["nflog"],
        BOTH,
        &[
            "udp in a tag",
            "udp in two tags",
            "syn in three tags",
            "in four tags",
            "arp",
            "lldp",
            "mpls",
            "pppoe",
        ],
        Seen::Not,
        "rules of IP see IP packets alone, and tagged ones only on the tag's own interface",
    ),
    (
        &["nflog"],
        BOTH,
        &["another version", "short", "longer than it is", "wrong checksum"],
        Seen::Not,
        "the kernel drops packets that are not well formed before the rules",
    ),
    (
        &["nflog"],
        BOTH,
        &["padded"],
        Seen::As(without_padding),
        "the kernel cuts off what is behind the IP packet before the rules",
    ),
    (
        &["replay of raw IP"],
        BOTH,
        &[
            "udp in a tag",
            "udp in two tags",
            "syn in three tags",
            "in four tags",
            "arp",
            "lldp",
            "mpls",
            "pppoe",
            "another version",
            "short",
        ],
        Seen::Not,
        "such a capture holds IP packets alone",
    ),
    (
        &["replay of a loopback"],
        BOTH,
        &[
            "udp in a tag",
            "udp in two tags",
            "syn in three tags",
            "in four tags",
            "mpls",
            "arp",
            "pppoe",
        ],
        Seen::As(as_no_ip),
        "such a capture knows the families of its own system alone",
    ),
];

/// Engines that do not see Ethernet headers: what they cannot read counts by its other bytes.
const NO_ETHERNET: &[&str] = &["pcap any", "replay of cooked frames", "replay of a loopback"];

/// Where the innermost type of a tagged frame stands.
fn innermost(frame: &[u8]) -> usize {
    let mut at = 12;
    while [[0x81, 0], [0x88, 0xa8]].contains(&[frame[at], frame[at + 1]]) {
        at += 4;
    }
    at
}

fn inner_type_outside(frame: &[u8]) -> Vec<u8> {
    let at = innermost(frame);
    [&frame[..16], &frame[at..at + 2], &frame[18..]].concat()
}

fn outermost_tag_alone(frame: &[u8]) -> Vec<u8> {
    [&frame[..16], &frame[innermost(frame)..]].concat()
}

fn without_a_tag(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &frame[16..]].concat()
}

fn without_padding(frame: &[u8]) -> Vec<u8> {
    frame[..frame.len() - 30].to_vec()
}

fn as_no_ip(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0, 0], &frame[14..]].concat()
}

/// Lines that hold something, by direction and slot: the words of the classes and of what was dropped.
type Counts = BTreeMap<(Direction, u32), [u64; 7]>;

/// Who is counted, in whosever tables.
struct House {
    lines: Lines,
    shape: Shape,
    territory: Territory,
}

impl House {
    fn plan() -> (PrefixSet, Plan, Vec<(tables::Entry, u32)>) {
        let prefixes = ["192.0.2.0/24", "2001:db8::/32"];
        let prefixes = prefixes.map(|text| Prefix::parse_masked(text).unwrap().0);
        let ours = PrefixSet::merged(prefixes).0;
        let (plan, writes) = Plan::new(&ours, 128).unwrap();
        (ours, plan, writes)
    }

    fn fill(parts: Parts, shape: Shape) -> Self {
        let (ours, plan, writes) = Self::plan();
        let Parts { lines, directory, flags, .. } = parts;
        let mut territory =
            Territory::new(ours, plan, &writes, shape, vec![directory], vec![flags]);
        // Each of them has a line before the first frame comes.
        for host in 1..=HOSTS {
            territory.meet(host6(host).into());
        }
        Self { lines, shape, territory }
    }

    fn own() -> (Self, Row) {
        let shape = Self::plan().1.shape(NonZeroU32::MIN, 7);
        let (parts, mut rows) = tables::own(shape).unwrap();
        (Self::fill(parts, shape), rows.remove(0))
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for direction in Direction::BOTH {
            for slot in 0..self.shape.slots {
                if [STRANGERS_UNTOLD, NOTES].contains(&slot) {
                    continue;
                }
                let [words @ .., _window] = self.lines.sum(direction, slot);
                if words != [0; 7] {
                    counts.insert((direction, slot), words);
                }
            }
        }
        counts
    }
}

fn writer(row: Row) -> Writer {
    // Nobody listens.
    let (notices, _nobody) = crossbeam_channel::bounded(1);
    let rules = Rules { sparse_every: 0, decapsulate: false };
    Writer::new(Arc::default(), notices, Arc::default()).counting(row, rules)
}

/// The corpus as this engine sees it, by the table.
fn seen_by(engine: &str, corpus: &[Named]) -> Vec<Named> {
    let mut seen = corpus.to_vec();
    for (engines, ways, names, seen_as, _why) in DIFFERENCES {
        if !engines.contains(&engine) {
            continue;
        }
        seen = seen
            .into_iter()
            .filter_map(|frame| {
                let is_meant =
                    ways.contains(&frame.way) && (names.is_empty() || names.contains(&frame.name));
                match seen_as {
                    _ if !is_meant => Some(frame),
                    Seen::As(change) => Some(Named { bytes: change(&frame.bytes), ..frame }),
                    Seen::Not => None,
                }
            })
            .collect();
    }
    seen
}

/// What parser and table make of it.
fn expected(engine: &str) -> Counts {
    let (house, row) = House::own();
    let mut writer = writer(row);
    for Named { way, bytes, .. } in seen_by(engine, &corpus()) {
        let wire_bytes = u32::try_from(bytes.len()).ok();
        let frame = Frame { bytes: &bytes, starts: Starts::Ethernet, wire_bytes, piece: 0 };
        writer.frame(Moment::default(), way.sides(), &frame);
    }
    comparable(engine, house.counts())
}

/// Without the bytes of what could not be read, where they are others by nature.
fn comparable(engine: &str, mut counts: Counts) -> Counts {
    if NO_ETHERNET.contains(&engine) {
        for ((_, slot), words) in &mut counts {
            if (UNPARSED..UNPARSED + 8).contains(slot) {
                for word in words {
                    *word &= !((1 << PACKET_SHIFT) - 1);
                }
            }
        }
    }
    counts
}

#[track_caller]
fn same(engine: &str, counts: &Counts, house: &House) {
    let (counts, expected) = (comparable(engine, counts.clone()), expected(engine));
    assert!(expected.len() > usize::from(HOSTS), "{engine}: {} lines", expected.len());
    let slots: BTreeSet<_> = expected.keys().chain(counts.keys()).collect();
    let wrong: Vec<String> = slots
        .into_iter()
        .filter(|slot| expected.get(slot) != counts.get(slot))
        .map(|slot| {
            let packed = |counts: &Counts| {
                let words = counts.get(slot).copied().unwrap_or_default();
                words.map(|word| format!("{}/{}", word >> 36, word & ((1 << 36) - 1)))
            };
            let whose = house.territory.occupant(HostId(slot.1));
            format!("{slot:?} {whose:?}: {:?}, not {:?}", packed(&counts), packed(&expected))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{engine}: {} lines differ: {:#?}",
        wrong.len(),
        wrong.iter().take(8).collect::<Vec<_>>()
    );
}

const PATIENCE: Duration = Duration::from_secs(10);
const CALM: Duration = Duration::from_millis(300);

/// Sends the corpus through the cable and asks until the counts are what they should be, and for a
/// while longer, in which nothing may come after.
fn send_and_settle(lab: &Lab, engine: &str, mut ask: impl FnMut() -> Counts) -> Counts {
    let expected = expected(engine);
    let corpus = corpus();
    assert!(corpus.len() > 2_000, "{} frames", corpus.len());
    let is_sent = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for way in BOTH {
                let frames: Vec<Vec<u8>> = corpus
                    .iter()
                    .filter(|frame| frame.way == *way)
                    .map(|frame| frame.bytes.clone())
                    .collect();
                let sender =
                    if *way == Way::Arrives { lab.sender_outside() } else { lab.sender_inside() };
                let mut sender = sender.unwrap();
                let count = frames.len() as u64;
                sender.send(&Pool::raw(frames), count, Pace::Pps(20_000)).unwrap();
                assert_eq!(sender.refused(), 0);
            }
            is_sent.store(true, Ordering::Release);
        });
        let begun = Instant::now();
        let mut equal_since = None;
        loop {
            // Asked before the counts are, so that none can come between.
            let all_sent = is_sent.load(Ordering::Acquire);
            let counts = ask();
            if all_sent && comparable(engine, counts.clone()) == expected {
                let since = *equal_since.get_or_insert_with(Instant::now);
                if since.elapsed() > CALM {
                    return counts;
                }
            } else {
                equal_since = None;
            }
            if begun.elapsed() > PATIENCE {
                return counts;
            }
        }
    })
}

/// An engine of ours, on the inner end of the cable or on another device.
#[track_caller]
fn by_engine<E: Engine>(name: &str, prepare: fn(&Lab), open: impl FnOnce() -> E + Send) {
    let lab = Lab::new(&name.replace(['_', ' '], "")).unwrap();
    prepare(&lab);
    let (house, counts) = lab
        .run_inside(|| {
            let (house, row) = House::own();
            let mut writer = writer(row);
            let mut engine = open();
            let counts = send_and_settle(&lab, name, || {
                engine.poll(Duration::from_millis(10), &mut writer).unwrap();
                house.counts()
            });
            (house, counts)
        })
        .unwrap();
    same(name, &counts, &house);
}

fn uplink(interface: &str) -> [Port; 1] {
    [Port { interface: interface.to_owned(), role: Role::Uplink, mode: Mode::Native }]
}

fn nothing(_: &Lab) {}

#[test]
fn packet_sockets_count_what_the_table_says() {
    by_engine("af_packet", nothing, || {
        AfPacketEngine::open(&uplink(INSIDE_INTERFACE), NonZeroU32::MIN, clock::now)
            .unwrap()
            .remove(0)
    });
}

#[test]
#[cfg(feature = "pcap")]
fn libpcap_counts_what_the_table_says() {
    by_engine("pcap", nothing, || {
        let settings = fastnetmon_user::capture::PcapSettings::default();
        fastnetmon_user::capture::PcapEngine::open(
            &uplink(INSIDE_INTERFACE),
            1,
            &settings,
            clock::now,
        )
        .unwrap()
        .remove(0)
    });
}

#[test]
#[cfg(feature = "pcap")]
fn libpcap_counts_the_same_on_all_interfaces_at_once() {
    by_engine("pcap any", nothing, || {
        let settings = fastnetmon_user::capture::PcapSettings::default();
        fastnetmon_user::capture::PcapEngine::open(&uplink(kernel::ANY), 1, &settings, clock::now)
            .unwrap()
            .remove(0)
    });
}

#[test]
#[cfg(feature = "pf-ring-library")]
fn pf_rings_double_counts_what_the_table_says() {
    by_engine("pf_ring", nothing, || {
        let settings = fastnetmon_user::capture::PfRing {
            access: fastnetmon_user::capture::AccessName::Library,
            library: crate::double::Double::Whole.path().to_owned(),
            ..fastnetmon_user::capture::PfRing::default()
        };
        let port = uplink(INSIDE_INTERFACE);
        let opened = fastnetmon_user::capture::PfRingEngine::open(
            &port,
            NonZeroU32::MIN,
            &settings,
            clock::now,
        );
        opened.unwrap().engines.remove(0)
    });
}

#[test]
fn nflog_counts_what_the_table_says() {
    by_engine("nflog", add_rules, || {
        NflogEngine::open(&NflogSettings::default(), Role::Uplink, &[], clock::now).unwrap()
    });
}

/// Programs and tables in the kernel.
fn kernel_house() -> (kernel::Object, House) {
    let shape = House::plan().1.shape(kernel::possible_cpus().unwrap(), 7);
    let frozen = Frozen::of(shape);
    let (object, parts, _rings) = kernel::load(frozen).unwrap();
    (object, House::fill(parts, shape))
}

#[test]
fn the_programs_count_what_the_table_says_on_a_cable() {
    let lab = Lab::new("xdp").unwrap();
    let (house, counts) = lab
        .run_inside(|| {
            let (object, house) = kernel_house();
            let _attached = kernel::attach(object, &uplink(INSIDE_INTERFACE), Egress::Tcx).unwrap();
            let counts = send_and_settle(&lab, "xdp", || house.counts());
            (house, counts)
        })
        .unwrap();
    same("xdp", &counts, &house);
}

#[test]
fn the_programs_count_what_the_table_says_in_the_kernels_own_test() {
    let (mut object, house) = kernel_house();
    for Named { way, bytes, .. } in seen_by("xdp test-run", &corpus()) {
        match way {
            Way::Arrives => object.run_xdp(program::XDP_UPLINK, &bytes).unwrap(),
            Way::Leaves => object.run_classifier(program::TC_EGRESS, &bytes, &[]).unwrap(),
        };
    }
    same("xdp test-run", &house.counts(), &house);
}

/// A capture file of this link type, with what tells the way of a frame in each header, is counted.
#[track_caller]
fn by_replay(name: &str, link: u32, header: impl Fn(&Named) -> Vec<u8>) {
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0]);
    file.extend([0; 8]);
    file.extend(65_535_u32.to_le_bytes());
    file.extend(link.to_le_bytes());
    let corpus = corpus();
    // Such a capture cannot hold what the table says it does not.
    let held: Vec<&Named> =
        corpus.iter().filter(|frame| !seen_by(name, &[(*frame).clone()]).is_empty()).collect();
    for frame in &held {
        let bytes =
            [header(frame), frame.bytes[if link == 1 { 0 } else { 14 }..].to_vec()].concat();
        let len = u32::try_from(bytes.len()).unwrap();
        for word in [1, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(bytes);
    }
    let (house, row) = House::own();
    let mut writer = writer(row);
    let mut file = CaptureFile::new(file.as_slice()).unwrap();
    for frame in held {
        let opened = file.next_frame().unwrap().unwrap().opened;
        // Where the header says it, it must say the same.
        assert_eq!(opened.way.unwrap_or(frame.way), frame.way);
        writer.frame(Moment::default(), frame.way.sides(), &opened.frame);
    }
    assert!(file.next_frame().unwrap().is_none());
    same(name, &house.counts(), &house);
}

fn kind(frame: &Named) -> [u8; 2] {
    [frame.bytes[12], frame.bytes[13]]
}

fn packet_type(frame: &Named) -> u8 {
    if frame.way == Way::Leaves { 4 } else { 0 }
}

#[test]
fn a_recording_counts_what_the_table_says_whatever_its_link_type() {
    by_replay("replay", 1, |_| Vec::new());
    by_replay("replay of cooked frames", 113, |frame| {
        let mut header = vec![0, packet_type(frame), 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        header.extend(kind(frame));
        header
    });
    by_replay("replay of cooked frames", 276, |frame| {
        let mut header = kind(frame).to_vec();
        header.extend([0, 0, 0, 0, 0, 3, 0, 1, packet_type(frame), 6, 2, 0, 0, 0, 0, 1, 0, 0]);
        header
    });
    for raw in [12, 14, 101] {
        by_replay("replay of raw IP", raw, |_| Vec::new());
    }
    let family = |frame: &Named| match kind(frame) {
        [0x08, 0x00] => 2,
        [0x86, 0xdd] => 10,
        _ => 7,
    };
    by_replay("replay of a loopback", 0, |frame| vec![family(frame), 0, 0, 0]);
    by_replay("replay of a loopback", 108, |frame| vec![0, 0, 0, family(frame)]);
}

#[test]
fn every_difference_says_why_and_names_frames_there_are() {
    let corpus = corpus();
    for (engines, ways, names, _, why) in DIFFERENCES {
        assert!(!engines.is_empty() && !ways.is_empty() && why.len() > 20, "{why}");
        for name in *names {
            assert!(corpus.iter().any(|frame| frame.name == *name), "no frame is `{name}`");
        }
    }
}
