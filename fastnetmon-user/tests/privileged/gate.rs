//! The gate by itself: the loaded programs on one frame at a time (`BPF_PROG_TEST_RUN`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use fastnetmon_common::abi::program;
use fastnetmon_common::gate::rate_window;
use fastnetmon_common::table::{DROPPED, gained};
use fastnetmon_common::wire::Captured;
use fastnetmon_user::daemon::clock;
use fastnetmon_user::kernel::{self, Frozen, Gate, Gates, Object, Rings, Rule};
use fastnetmon_user::model::{Class, Direction, HostId, Moment, Prefix, Seen, Signature};
use fastnetmon_user::networks::{Plan, PrefixSet, Territory};
use fastnetmon_user::tables::Lines;
use xtask::traffic::{Frame, tcp};

use crate::agent::pin;

const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// In the same /24, behind the same entry.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 1);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8);

/// Verdicts (linux/bpf.h).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const TC_NEXT: u32 = u32::MAX;
const TC_SHOT: u32 = 2;

/// The programs with a gate, and two banned hosts that nothing is said of yet.
struct House {
    object: Object,
    gate: Gate,
    lines: Lines,
    territory: Territory,
    rings: Rings,
}

impl House {
    fn new() -> Self {
        Self::with(Gates { hosts: 8, outgoing: true })
    }

    fn with(gates: Gates) -> Self {
        let texts = ["192.0.2.0/24", "2001:db8::/32"];
        let ours = texts.iter().map(|text| Prefix::parse_masked(text).unwrap().0);
        let ours = PrefixSet::merged(ours).0;
        let (plan, writes) = Plan::new(&ours, 16).unwrap();
        let shape = plan.shape(kernel::possible_cpus().unwrap(), 7);
        let (sparse_every, decapsulate, load_bytes) = (1024, true, true);
        let frozen =
            Frozen { sparse_every, decapsulate, load_bytes, gate: gates, ..Frozen::of(shape) };
        let (object, parts, rings) = kernel::load(frozen).unwrap();
        let gate = object.gate(parts.flags.clone()).unwrap();
        let (directories, flags) = (vec![parts.directory], vec![parts.flags]);
        let mut territory = Territory::new(ours, plan, &writes, shape, directories, flags);
        for host in [HOST.into(), HOST6.into()] {
            let line = territory.host(host).unwrap();
            territory.gate(line, host);
        }
        territory.host(NEIGHBOUR6.into()).unwrap();
        Self { object, gate, lines: parts.lines, territory, rings }
    }

    fn line(&mut self, address: IpAddr) -> HostId {
        self.territory.host(address).unwrap()
    }

    fn rule(&mut self, address: impl Into<IpAddr>, signature: Signature) -> Rule {
        let address = address.into();
        Rule {
            host: self.line(address),
            address,
            direction: Direction::Incoming,
            signature,
            rate: None,
            until: clock::now() + Duration::from_mins(10),
        }
    }

    fn shut(&mut self, address: impl Into<IpAddr>, signature: Signature) {
        let rule = self.rule(address, signature);
        self.gate.shut(rule).unwrap();
    }

    /// Packets and bytes of a host's line so far: counted in a class, counted as dropped.
    fn counted(&self, direction: Direction, host: HostId) -> [(u64, u64); 2] {
        let words = self.lines.sum(direction, host.0);
        let (packets, bytes) = words[..Class::COUNTED].iter().fold((0, 0), |sum, &word| {
            let (packets, bytes) = gained(0, word);
            (sum.0 + packets, sum.1 + bytes)
        });
        [(packets, bytes), gained(0, words[DROPPED])]
    }

    /// Is the frame dropped? Either way it is counted once, and as dropped when it is.
    #[track_caller]
    fn drops(&mut self, what: &str, address: IpAddr, frame: &[u8]) -> bool {
        let host = self.line(address);
        let before = self.counted(Direction::Incoming, host);
        let verdict = self.object.run_xdp(program::XDP_UPLINK, frame).unwrap();
        let after = self.counted(Direction::Incoming, host);
        let bytes = seen(frame).bytes.into();
        let dropped = verdict == XDP_DROP;
        assert!(dropped || verdict == XDP_PASS, "{what}: {verdict}");
        let gain = |at: usize| (after[at].0 - before[at].0, after[at].1 - before[at].1);
        assert_eq!(gain(0), (1, bytes), "{what}: counted");
        let expected = if dropped { (1, bytes) } else { (0, 0) };
        assert_eq!(gain(1), expected, "{what}: counted as dropped");
        dropped
    }
}

fn seen(frame: &[u8]) -> Seen {
    let wire_len = u32::try_from(frame.len()).unwrap();
    Seen::from_ethernet(Moment::default(), Captured { bytes: frame, wire_len }).unwrap()
}

fn prefix(text: &str) -> Prefix {
    Prefix::parse_masked(text).unwrap().0
}

/// More fragments to come, or a fragment that is not the first.
fn fragment4(mut frame: Vec<u8>, field: u16) -> Vec<u8> {
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame
}

/// With a fragment header; `field` 0 is an atomic one, which is a whole packet.
fn fragment6(frame: &[u8], field: u16) -> Vec<u8> {
    let mut fragment = frame[..54].to_vec();
    let next = std::mem::replace(&mut fragment[20], 44);
    let payload = u16::from_be_bytes([frame[18], frame[19]]) + 8;
    fragment[18..20].copy_from_slice(&payload.to_be_bytes());
    fragment.extend([next, 0]);
    fragment.extend(field.to_be_bytes());
    fragment.extend([0, 0, 0, 9]);
    fragment.extend(&frame[54..]);
    fragment
}

/// Behind hop-by-hop options.
fn with_options6(frame: &[u8]) -> Vec<u8> {
    let mut whole = fragment6(frame, 0);
    whole[20] = 0;
    whole[55..62].copy_from_slice(&[0, 1, 4, 0, 0, 0, 0]);
    whole
}

/// What arrives for `host`, of every kind.
fn frames(world: IpAddr, far: IpAddr, host: IpAddr) -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    for (whence, source) in [("near", world), ("far", far)] {
        for (name, frame) in [
            ("dns", Frame::udp(source, host, 53, 4000).payload(100)),
            ("dns, longer", Frame::udp(source, host, 53, 4000).payload(400)),
            ("dns, other port", Frame::udp(source, host, 53, 4001).payload(100)),
            ("ntp", Frame::udp(source, host, 123, 4000).payload(100)),
            ("no ports to speak of", Frame::udp(source, host, 0, 0).payload(100)),
            ("syn", Frame::tcp_syn(source, host, 53, 4000)),
            ("ack", Frame::tcp(source, host, 53, 4000, tcp::ACK).payload(100)),
            ("echo", Frame::icmp(source, host)),
            ("gre", Frame::protocol(source, host, 47).payload(100)),
            ("sctp", Frame::protocol(source, host, 132).payload(100)),
        ] {
            let bytes = frame.bytes();
            frames.push((format!("{name}, {whence}"), bytes.clone()));
            if host.is_ipv4() {
                frames.push((
                    format!("{name}, {whence}, first of many"),
                    fragment4(bytes.clone(), 0x2000),
                ));
                frames.push((
                    format!("{name}, {whence}, fragment"),
                    fragment4(bytes.clone(), 0x20b9),
                ));
            } else {
                frames.push((format!("{name}, {whence}, atomic"), fragment6(&bytes, 0)));
                frames.push((format!("{name}, {whence}, first of many"), fragment6(&bytes, 1)));
                frames.push((format!("{name}, {whence}, fragment"), fragment6(&bytes, 0x05c9)));
                frames.push((format!("{name}, {whence}, options"), with_options6(&bytes)));
            }
        }
        let dns = Frame::udp(source, host, 53, 4000).payload(100);
        for (tags, frame) in [(1, dns.clone().vlan(7)), (2, dns.clone().vlan(7).vlan(8))] {
            frames.push((format!("dns, {whence}, {tags} tags"), frame.bytes()));
        }
        let whole = dns.bytes();
        let headers = if host.is_ipv4() { 34 } else { 54 };
        frames
            .push((format!("dns, {whence}, cut behind the IP header"), whole[..headers].to_vec()));
        frames.push((format!("dns, {whence}, cut in the ports"), whole[..headers + 3].to_vec()));
        if host.is_ipv4() {
            let mut short = whole;
            short[14] = 0x44;
            frames.push((format!("dns, {whence}, a header that is too short"), short));
        }
    }
    frames
}

/// One of each kind, and all together.
fn signatures(near: Prefix) -> Vec<Signature> {
    let none = Signature::default();
    let all = Signature {
        protocol: Some(17),
        class: Some(Class::Udp),
        source_port: Some(53),
        target_port: Some(4000),
        bytes: Some(100..=200),
        source: Some(near),
    };
    vec![
        none.clone(),
        Signature { protocol: Some(17), ..none.clone() },
        Signature { protocol: Some(6), ..none.clone() },
        Signature { class: Some(Class::Syn), ..none.clone() },
        Signature { class: Some(Class::Fragment), ..none.clone() },
        Signature { class: Some(Class::Fragment), protocol: Some(17), ..none.clone() },
        Signature { source_port: Some(53), ..none.clone() },
        Signature { target_port: Some(4000), ..none.clone() },
        Signature { protocol: Some(17), target_port: Some(4001), ..none.clone() },
        Signature { bytes: Some(128..=128), ..none.clone() },
        Signature { bytes: Some(129..=65_535), ..none.clone() },
        Signature { bytes: Some(0..=127), ..none.clone() },
        Signature { source: Some(near), ..none.clone() },
        Signature { source: Some(Prefix::host(near.address())), ..none },
        Signature { source: None, ..all.clone() },
        Signature { bytes: None, ..all.clone() },
        all,
    ]
}

#[track_caller]
fn agrees(world: IpAddr, far: IpAddr, host: IpAddr, neighbour: IpAddr, near: &str) {
    let mut house = House::new();
    let frames = frames(world, far, host);
    let others = self::frames(world, far, neighbour);
    let (mut dropped, mut passed) = (0, 0);
    for signature in signatures(prefix(near)) {
        house.shut(host, signature.clone());
        for (name, frame) in &frames {
            let what = format!("`{signature}` on {name}");
            let expected = signature.describes(&seen(frame));
            assert_eq!(house.drops(&what, host, frame), expected, "{what}");
            if expected { dropped += 1 } else { passed += 1 }
        }
        for (name, frame) in &others {
            assert!(!house.drops(name, neighbour, frame), "a neighbour's {name}");
        }
    }
    assert!(dropped > 200 && passed > 200, "{dropped} dropped, {passed} passed");
    assert!(house.gate.open(host));
    for (name, frame) in &frames {
        assert!(!house.drops(name, host, frame), "opened, {name}");
    }
}

#[test]
fn the_kernel_drops_what_the_signature_describes_and_nothing_else() {
    agrees(WORLD.into(), FAR.into(), HOST.into(), NEIGHBOUR.into(), "203.0.113.0/24");
}

#[test]
fn the_kernel_drops_the_same_of_ipv6() {
    let far: Ipv6Addr = "3fff::1".parse().unwrap();
    agrees(WORLD6.into(), far.into(), HOST6.into(), NEIGHBOUR6.into(), "2001:db9::/33");
}

#[test]
fn fragments_go_only_with_everything_or_with_their_protocol() {
    let mut house = House::new();
    let host = IpAddr::from(HOST);
    let whole = Frame::udp(WORLD, HOST, 53, 4000).payload(100).bytes();
    let none = Signature::default();
    for (signature, expected) in [
        (none.clone(), true),
        (Signature { protocol: Some(17), ..none.clone() }, true),
        (Signature { protocol: Some(6), ..none.clone() }, false),
        (Signature { source_port: Some(53), ..none.clone() }, false),
        (Signature { bytes: Some(0..=u32::MAX), ..none.clone() }, false),
        (Signature { source: Some(prefix("203.0.113.0/24")), ..none }, false),
    ] {
        house.shut(host, signature.clone());
        for field in [0x2000, 0x2001, 0x0001] {
            let frame = fragment4(whole.clone(), field);
            assert_eq!(house.drops("fragment", host, &frame), expected, "{signature}");
        }
        assert_eq!(house.drops("whole", host, &whole), signature.describes(&seen(&whole)));
    }
}

#[test]
fn a_rule_ends_by_itself_at_its_deadline() {
    let mut house = House::new();
    let frame = Frame::udp(WORLD, HOST, 53, 4000).bytes();
    let until = clock::now() + Duration::from_millis(300);
    let rule = Rule { until, ..house.rule(HOST, Signature::default()) };
    house.gate.shut(rule.clone()).unwrap();
    let mut last_dropped = Moment::default();
    let mut first_passed = None;
    while first_passed.is_none() {
        let before = clock::now();
        if house.drops("until then", HOST.into(), &frame) {
            last_dropped = before;
        } else {
            first_passed = Some(clock::now());
        }
        assert!(before.since(until) < Duration::from_secs(5), "it does not end");
    }
    assert!(last_dropped < until && first_passed.unwrap() >= until);
    // Nobody came to take it away, and one that is over already does nothing.
    assert_eq!(house.gate.rule(HOST.into()), Some(&rule));
    let past = Rule { until: Moment::after_boot(Duration::from_secs(1)), ..rule };
    house.gate.shut(past).unwrap();
    assert!(!house.drops("over", HOST.into(), &frame));
}

#[test]
fn a_rule_is_for_one_address_whoever_has_its_line() {
    let mut house = House::new();
    // As if the line had been another one's when the rule was made.
    let rule = Rule { address: NEIGHBOUR.into(), ..house.rule(HOST, Signature::default()) };
    house.gate.shut(rule).unwrap();
    let frame = Frame::udp(WORLD, HOST, 53, 4000).bytes();
    assert!(!house.drops("another one's rule", HOST.into(), &frame));
}

#[test]
fn each_way_has_rules_of_its_own_and_a_mirror_port_none() {
    let mut house = House::new();
    let arriving = Frame::udp(WORLD, HOST, 53, 4000).bytes();
    let leaving = Frame::udp(HOST, WORLD, 4000, 53).outwards().bytes();
    let host = house.line(HOST.into());
    let verdicts = |house: &mut House| {
        let object = &mut house.object;
        [
            object.run_xdp(program::XDP_UPLINK, &arriving).unwrap(),
            object.run_xdp(program::XDP_MIRROR, &arriving).unwrap(),
            object.run_xdp(program::XDP_MIRROR, &leaving).unwrap(),
            object.run_classifier(program::TC_EGRESS, &leaving, &[]).unwrap(),
        ]
    };
    assert_eq!(verdicts(&mut house), [XDP_PASS, XDP_PASS, XDP_PASS, TC_NEXT]);
    house.shut(HOST, Signature::default());
    assert_eq!(verdicts(&mut house), [XDP_DROP, XDP_PASS, XDP_PASS, TC_NEXT]);
    let rule = house.rule(HOST, Signature::default());
    house.gate.shut(Rule { direction: Direction::Outgoing, ..rule.clone() }).unwrap();
    let [_, before] = house.counted(Direction::Outgoing, host);
    assert_eq!(verdicts(&mut house), [XDP_PASS, XDP_PASS, XDP_PASS, TC_SHOT]);
    let [_, after] = house.counted(Direction::Outgoing, host);
    assert_eq!(after.0 - before.0, 1);

    // Without the key, what leaves is never looked at.
    let mut house = House::with(Gates { hosts: 8, outgoing: false });
    let rule = house.rule(HOST, Signature::default());
    house.gate.shut(Rule { direction: Direction::Outgoing, ..rule.clone() }).unwrap();
    assert_eq!(verdicts(&mut house), [XDP_PASS, XDP_PASS, XDP_PASS, TC_NEXT]);
    // And without a gate nothing is.
    let mut house = House::with(Gates { hosts: 0, outgoing: true });
    assert!(house.gate.shut(rule).is_err());
    assert_eq!(verdicts(&mut house), [XDP_PASS, XDP_PASS, XDP_PASS, TC_NEXT]);
}

/// Offsets in `struct __sk_buff` (linux/bpf.h).
const GSO_SEGS: usize = 164;

#[test]
fn a_frame_that_will_be_cut_is_dropped_as_its_segments() {
    let mut house = House::new();
    let host = house.line(HOST.into());
    let frame = Frame::tcp(HOST, WORLD, 80, 1000, tcp::ACK).payload(3000).outwards().bytes();
    let mut context = [0_u8; 192];
    context[GSO_SEGS..][..4].copy_from_slice(&3_u32.to_ne_bytes());
    let whole = Rule {
        direction: Direction::Outgoing,
        ..house.rule(HOST, Signature { protocol: Some(6), ..Signature::default() })
    };
    // Its length is nobody's on the wire.
    let length = Signature { bytes: Some(0..=u32::MAX), ..Signature::default() };
    for (rule, verdict, dropped) in [
        (Rule { signature: length, ..whole.clone() }, TC_NEXT, (0, 0)),
        (whole, TC_SHOT, (3, 3000 + 3 * 40)),
    ] {
        house.gate.shut(rule).unwrap();
        let before = house.counted(Direction::Outgoing, host);
        let found = house.object.run_classifier(program::TC_EGRESS, &frame, &context).unwrap();
        let after = house.counted(Direction::Outgoing, host);
        assert_eq!(found, verdict);
        assert_eq!((after[1].0 - before[1].0, after[1].1 - before[1].1), dropped);
        assert_eq!((after[0].0 - before[0].0, after[0].1 - before[0].1), (3, 3120));
    }
}

#[test]
fn what_is_dropped_is_shown_in_the_dump_as_well() {
    let mut house = House::new();
    house.shut(HOST, Signature::default());
    let host = house.line(HOST.into());
    house.territory.arm(host, HOST.into(), 10);
    let frame = Frame::udp(WORLD, HOST, 53, 4000).bytes();
    for _ in 0..25 {
        assert!(house.drops("armed", HOST.into(), &frame));
    }
    let mut copies = 0;
    house.rings.drain(|record| {
        copies += u32::from(matches!(record, kernel::Ring::Sample(sample) if sample.armed == 1));
    });
    assert_eq!(copies, 10);
    // Who ends the dump leaves the rule as it is.
    house.territory.disarm(host, HOST.into());
    assert!(house.drops("disarmed", HOST.into(), &frame));
    house.territory.release(host, HOST.into());
    assert!(!house.drops("released", HOST.into(), &frame));
}

/// Runs the program on so many threads for `span` and tells `(sent, passed, elapsed)`.
fn limited(house: &mut House, threads: usize, span: Duration) -> (u64, u64, Duration) {
    let host = house.line(HOST.into());
    let frame = Frame::udp(WORLD, HOST, 53, 4000).bytes();
    let before = house.counted(Direction::Incoming, host);
    let start = Instant::now();
    let object = &house.object;
    std::thread::scope(|scope| {
        for cpu in 0..threads {
            let frame = &frame;
            scope.spawn(move || {
                pin(cpu);
                while start.elapsed() < span {
                    object.repeat_xdp(program::XDP_UPLINK, frame, 20_000).unwrap();
                }
            });
        }
    });
    let elapsed = start.elapsed();
    let after = house.counted(Direction::Incoming, host);
    let sent = after[0].0 - before[0].0;
    let dropped = after[1].0 - before[1].0;
    (sent, sent - dropped, elapsed)
}

#[test]
fn a_rate_lets_through_what_it_says_on_one_cpu_and_on_two() {
    let mut house = House::new();
    for pps in [7, 1_000, 50_000] {
        let rate = NonZeroU32::new(pps);
        for threads in [1, 2] {
            let rule = Rule { rate, ..house.rule(HOST, Signature::default()) };
            house.gate.open(HOST.into());
            house.gate.shut(rule).unwrap();
            let (sent, passed, elapsed) = limited(&mut house, threads, Duration::from_secs(2));
            eprintln!("{pps} pps, {threads} threads: {passed} of {sent} in {elapsed:?}");
            assert!(sent > 4 * u64::from(pps), "{sent} sent");
            // A window that was cut at either end may have been full; in each, one packet more may
            // have passed on the other CPU.
            let (nanos, allowed) = rate_window(pps);
            let windows = u64::try_from(elapsed.as_nanos()).unwrap() / nanos;
            let least = windows.saturating_sub(1) * u64::from(allowed);
            let most = (windows + 2) * (u64::from(allowed) + threads as u64 - 1);
            assert!((least..=most).contains(&passed), "{passed} passed, not {least} to {most}");
        }
    }
}
