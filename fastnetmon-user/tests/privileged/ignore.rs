//! What is ignored bans nobody, and is accounted for to the last packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastnetmon_user::control::Status;
use xtask::lab::{Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Setup, command, configure, wait};

const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
const RESOLVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 1);
/// In the same network as the resolver, and in no rule.
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);

const RULES: &str = "[thresholds]\npps = 2000\n\
    [[ignore]]\nsource = \"203.0.113.99\"\nprotocol = \"udp\"\nsource_port = 53\n\
    comment = \"our resolver\"\n\
    [[ignore]]\nsource = \"2001:db9::/64\"\n\
    [[ignore]]\nprotocol = 47\n\
    [[ignore]]\ntarget_port = 4789\n";

const HOOK: &str = "echo $1 $4 >> HERE/calls";

fn ours(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn ours6(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last).into()
}

fn pool(frames: impl IntoIterator<Item = Frame>) -> (Pool, u64) {
    let frames: Vec<Frame> = frames.into_iter().collect();
    let bytes = frames.iter().map(Frame::ip_len).sum();
    (Pool::new(frames), bytes)
}

#[track_caller]
fn ignored(status: &Status) -> (u64, u64) {
    (status.packets.ignored_packets, status.packets.ignored_bytes)
}

/// A flood that is ignored, one that is not quite like it, and what leaves.
fn story(label: &str, capture: &str) {
    const FLOOD: u64 = 40_000;
    const QUIET: u64 = 1_000;
    let lab = Lab::new(label).unwrap();
    let setup = Setup { capture, rest: RULES, hook: HOOK, ..Setup::default() };
    let mut agent = Agent::start(&lab, &setup);
    let mut outside = lab.sender_outside().unwrap();
    let mut inside = lab.sender_inside().unwrap();

    // Far above the threshold, on four hosts, each packet described by one rule or another.
    let (flood, flood_bytes) = pool([
        Frame::udp(RESOLVER, ours(1), 53, 4000).payload(100),
        Frame::udp(RESOLVER6, ours6(2), 1, 2).payload(60),
        Frame::protocol(OTHER, ours(3), 47).payload(30),
        Frame::udp(OTHER, ours(4), 9, 4789).payload(10),
    ]);
    assert_eq!(outside.send(&flood, FLOOD, Pace::Pps(20_000)).unwrap(), FLOOD);
    // Alike but for one condition of each rule, below the threshold.
    let (quiet, quiet_bytes) = pool([
        Frame::udp(RESOLVER, ours(1), 54, 4000).payload(100),
        Frame::tcp_syn(RESOLVER, ours(1), 53, 4000),
        Frame::udp(OTHER, ours(1), 53, 4000).payload(20),
        Frame::udp(OTHER, ours(4), 4789, 9).payload(10),
    ]);
    assert_eq!(outside.send(&quiet, QUIET, Pace::Pps(1_000)).unwrap(), QUIET);
    // What leaves is looked at as well.
    let (away, away_bytes) = pool([
        Frame::udp(ours(5), OTHER, 1000, 4789).payload(50).outwards(),
        Frame::udp(ours(5), OTHER, 1000, 4790).payload(40).outwards(),
    ]);
    let away_half = Frame::udp(ours(5), OTHER, 1000, 4789).payload(50).ip_len();
    assert_eq!(inside.send(&away, QUIET, Pace::Pps(1_000)).unwrap(), QUIET);

    let status = agent.settled(FLOOD + QUIET * 2);
    let totals = status.totals;
    assert_eq!(
        ignored(&status),
        (FLOOD + QUIET / 2, flood_bytes * FLOOD / 4 + away_half * QUIET / 2),
    );
    assert_eq!((totals.incoming.packets, totals.incoming.bytes), (QUIET, quiet_bytes * QUIET / 4),);
    assert_eq!(
        (totals.outgoing.packets, totals.outgoing.bytes),
        (QUIET / 2, (away_bytes - away_half) * QUIET / 2),
    );
    // Nothing else was sent but what the lab's own stack says (neighbours), which is told apart.
    let [internal, other] = [totals.internal.packets, totals.other.packets];
    assert_eq!(
        status.packets.received,
        FLOOD + QUIET * 2 + internal + other + status.packets.unparsed.total(),
    );
    assert_eq!((status.packets.dropped, internal), (0, 0));
    assert_eq!(status.bans, []);
    assert_eq!(agent.folder.read("calls"), "");

    // Any other source is banned for less.
    let (attack, _) = pool([Frame::udp(OTHER, ours(1), 53, 4000).payload(100)]);
    wait("the ban of the other source's victim", || {
        outside.send(&attack, 1_000, Pace::Pps(10_000)).unwrap();
        Some(agent.status()).filter(|status| !status.bans.is_empty())
    });
    let banned = agent.status().bans;
    assert_eq!(banned.len(), 1);
    assert_eq!(banned[0].ip, ours(1));
    agent.folder.wait_for("calls", |calls| calls.contains("192.0.2.1 ban"));
    assert_eq!(ignored(&agent.status()).0, FLOOD + QUIET / 2);
    assert!(agent.end(Signal::Terminate).success());
}

#[test]
fn an_ignored_flood_bans_nobody_by_xdp_and_every_packet_is_accounted_for() {
    story("ignx", "engine = \"xdp\"");
}

#[test]
fn an_ignored_flood_bans_nobody_by_packet_sockets_and_every_packet_is_accounted_for() {
    story("ignp", "engine = \"af_packet\"");
}

#[test]
fn a_mirror_ignores_for_both_ends_and_status_says_so_in_words() {
    const SENT: u64 = 5_000;
    let lab = Lab::new("ignm").unwrap();
    let capture = "engine = \"xdp\"\nrole = \"mirror\"";
    let agent = Agent::start(&lab, &Setup { capture, rest: RULES, ..Setup::default() });
    let mut outside = lab.sender_outside().unwrap();
    let (mixed, _) = pool([
        Frame::udp(RESOLVER, ours(1), 53, 4000).payload(100),
        Frame::udp(ours(1), OTHER, 4789, 4000).payload(100),
    ]);
    assert_eq!(outside.send(&mixed, SENT, Pace::Pps(2_000)).unwrap(), SENT);
    let status = agent.settled(SENT);
    assert_eq!(ignored(&status), (SENT / 2, SENT / 2 * 128));
    assert_eq!((status.totals.outgoing.packets, status.totals.incoming.packets), (SENT / 2, 0));
    let output = lab
        .command_inside(env!("CARGO_BIN_EXE_fastnetmon"))
        .args(["status", "--socket"])
        .arg(agent.socket())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ignored   2500 packets, 320000 bytes\n"), "{text}");
}

#[test]
fn a_rule_without_a_condition_is_refused_with_file_and_line() {
    let lab = Lab::new("ignr").unwrap();
    let folder = crate::agent::Folder::new();
    let rest = "[[ignore]]\ncomment = \"everything\"\n";
    let config = configure(&folder, &Setup { rest, ..Setup::default() });
    let text = std::fs::read_to_string(&config).unwrap();
    let line = text.lines().position(|line| line == "[[ignore]]").unwrap() + 1;
    let output = command(&lab, &config, "in0").output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("fastnetmon.conf:{line}: ")), "{error}");
    assert!(error.contains("a rule without a condition would ignore every packet"), "{error}");
}
