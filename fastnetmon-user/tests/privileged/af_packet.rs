//! The packet sockets: the same counts, the same story, and every loss told.

use std::net::UdpSocket;
use std::process::Command;

use fastnetmon_user::control::{Packets, Status, Way};
use xtask::lab::{Attached, GUARDED, Lab, Signal, Xdp};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, command, command_by, configure, wait};
use crate::crowd::{Crowd, VICTIM, WORLD4, WORLD6, ours4, ours6, send_in_pieces};
use crate::engines::{Attacks, RECORDER, flood, is_banned_told_and_let_go};
use crate::ports::{go_and_come_back, ip, lay_cable, promiscuity};

const ENGINE: &str = "engine = \"af_packet\"";
const NOTHING: Attached = Attached { xdp: Xdp::None, tcx_ingress: 0, tcx_egress: 0 };

fn setup<'a>() -> Setup<'a> {
    Setup { capture: ENGINE, ..Setup::default() }
}

#[test]
fn packets_are_counted_to_the_last_one_in_both_directions_and_families() {
    const EACH: u64 = 50_000;
    let lab = Lab::new("afp").unwrap();
    let agent = Agent::start(&lab, &setup());
    assert_eq!(lab.attached_inside().unwrap(), NOTHING);
    let mut outside = lab.sender_outside().unwrap();
    let mut inside = lab.sender_inside().unwrap();
    let Crowd { in4, in6, out4, out6 } = Crowd::in_steps_of(10);
    let bytes = |frames: &[Frame]| Crowd::bytes(frames, EACH);
    let (bytes_in, bytes_out) = (bytes(&in4) + bytes(&in6), bytes(&out4) + bytes(&out6));
    for frames in [in4, in6] {
        outside.send(&Pool::new(frames), EACH, Pace::Pps(100_000)).unwrap();
    }
    for frames in [out4, out6] {
        inside.send(&Pool::new(frames), EACH, Pace::Pps(100_000)).unwrap();
    }
    assert_eq!(inside.refused(), 0);
    let status = agent.settled(4 * EACH);
    let Status { totals, packets, .. } = &status;
    assert_eq!((totals.incoming.packets, totals.incoming.bytes), (2 * EACH, bytes_in));
    assert_eq!((totals.outgoing.packets, totals.outgoing.bytes), (2 * EACH, bytes_out));
    assert_eq!((packets.received, packets.dropped, packets.unparsed.total()), (4 * EACH, 0, 0));
    assert_eq!(status.ipv6.hosts, 200);
    assert_eq!((status.engine.as_str(), status.evidence.as_str()), ("af_packet", "af_packet"));
    assert_eq!(status.engine_reason, "it is named in the configuration");
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
}

#[test]
fn what_finds_no_room_is_told_to_the_last_packet() {
    const SENT: u64 = 600_000;
    let lab = Lab::new("afpover").unwrap();
    for capture in [ENGINE, "engine = \"af_packet\"\nthreads = 1"] {
        let agent = Agent::start(&lab, &Setup { capture, ..Setup::default() });
        let signal = |name: &str| {
            let number = agent.id().to_string();
            assert!(Command::new("kill").args([name, &number]).status().unwrap().success());
        };
        let before = lab.statistics_inside().unwrap();
        let mut sender = lab.sender_outside().unwrap();
        signal("-STOP");
        let frame = Frame::udp(WORLD4, VICTIM, 1, 2).payload(72);
        sender.send(&Pool::new([frame]), SENT, Pace::Full).unwrap();
        signal("-CONT");
        let after = lab.statistics_inside().unwrap();
        assert_eq!(after.rx_packets - before.rx_packets, SENT);
        let all = |packets: &Packets| packets.received + packets.dropped;
        let packets = wait("all of them to be counted or told", || {
            Some(agent.status().packets).filter(|packets| all(packets) >= SENT)
        });
        assert!(packets.dropped > SENT / 10, "{packets:?}");
        assert!(packets.received > 10_000, "{packets:?}");
        // And goes on exactly.
        let more = Frame::udp(WORLD4, VICTIM, 1, 2);
        sender.send(&Pool::new([more]), 5_000, Pace::Pps(50_000)).unwrap();
        let status = agent.settled(packets.received + 5_000);
        assert_eq!(all(&status.packets), SENT + 5_000, "{:?}", status.packets);
        eprintln!("{capture:?}: {:?}", status.packets);
        assert_eq!(status.totals.incoming.packets, status.packets.received);
    }
}

#[track_caller]
fn banned_and_let_go(name: &str, way: Way) {
    const SENT: u64 = 120_000;
    let lab = Lab::new(name).unwrap();
    let rest = "[thresholds]\npps = 30000\n[ban]\ntime_secs = 2\nfinished_secs = 1\n";
    let setup = Setup { hook: RECORDER, rest, capture: ENGINE, ..Setup::default() };
    let agent = Agent::start(&lab, &setup);
    let sender = match way {
        Way::Incoming => lab.sender_outside(),
        Way::Outgoing => lab.sender_inside(),
    };
    sender.unwrap().send(&flood(way), SENT, Pace::Pps(60_000)).unwrap();
    is_banned_told_and_let_go(&agent, way, Attacks::OneAndMore);
    if way == Way::Incoming {
        // What the kernel refuses on its way out was seen, and is sent again.
        assert_eq!(agent.settled(SENT).packets.received, SENT);
    }
}

#[test]
fn a_flood_is_banned_told_with_a_hundred_packets_and_let_go() {
    banned_and_let_go("afpin", Way::Incoming);
}

#[test]
fn an_outgoing_attack_is_found_on_its_way_out() {
    banned_and_let_go("afpout", Way::Outgoing);
}

#[test]
fn a_mirror_port_is_promiscuous_counts_both_ends_and_is_left_clean() {
    let lab = Lab::new("afpmir").unwrap();
    let capture = "engine = \"af_packet\"\nrole = \"mirror\"\nthreads = 2";
    let mut agent = Agent::start(&lab, &Setup { capture, ..Setup::default() });
    assert_eq!(promiscuity(&lab), 2);
    let mut outside = lab.sender_outside().unwrap();
    let mut inside = lab.sender_inside().unwrap();
    let frames = [
        Frame::udp(WORLD4, ours4(1), 1, 2),
        Frame::udp(ours4(1), WORLD4, 1, 2),
        Frame::udp(ours4(1), ours4(2), 1, 2),
        Frame::udp(WORLD6, ours6(1), 1, 2),
        Frame::udp(ours6(1), WORLD6, 1, 2),
    ];
    outside.send(&Pool::new(frames), 5_000, Pace::Pps(20_000)).unwrap();
    let leaving = Frame::udp(ours4(1), WORLD4, 1, 2).outwards();
    inside.send(&Pool::new([leaving]), 100, Pace::Pps(10_000)).unwrap();
    let status = agent.settled(5_000);
    let totals = status.totals;
    assert_eq!(
        (totals.incoming.packets, totals.outgoing.packets, totals.internal.packets),
        (2_000, 2_000, 1_000)
    );
    assert_eq!(status.packets.received, 5_000);
    agent.end(Signal::Kill);
    wait("promiscuous mode to end", || (promiscuity(&lab) == 0).then_some(()));
    assert_eq!(lab.attached_inside().unwrap(), NOTHING);
}

#[test]
fn an_uplink_is_not_promiscuous() {
    let lab = Lab::new("afpup").unwrap();
    let _agent = Agent::start(&lab, &setup());
    assert_eq!(promiscuity(&lab), 0);
}

#[test]
fn tags_hide_nothing_and_what_cannot_be_read_is_counted_by_reason() {
    let lab = Lab::new("afptag").unwrap();
    let agent = Agent::start(&lab, &setup());
    let arriving = || Frame::udp(WORLD4, ours4(1), 1, 2).payload(72);
    let leaving = || Frame::udp(ours4(1), WORLD4, 1, 2).payload(72).outwards();
    let mut outside = lab.sender_outside().unwrap();
    let mut inside = lab.sender_inside().unwrap();
    let frames = [arriving(), arriving().vlan(7), arriving().vlan(7).vlan(8)];
    outside.send(&Pool::new(frames), 3_000, Pace::Pps(20_000)).unwrap();
    let frames = [leaving(), leaving().vlan(7), leaving().vlan(7).vlan(8)];
    inside.send(&Pool::new(frames), 1_500, Pace::Pps(20_000)).unwrap();
    let good = arriving().bytes();
    let mut other = good.clone();
    other[12..14].copy_from_slice(&[0x88, 0xcc]);
    let mut version = good.clone();
    version[14] = 0x65;
    // The kernel takes the outermost tag off, so one more than XDP looks through is too many.
    let mut nested = good[..12].to_vec();
    nested.extend([0x81, 0, 0, 1].repeat(5));
    nested.extend(&good[12..]);
    let unreadable = [other, version, nested, good[..20].to_vec()];
    outside.send(&Pool::raw(unreadable), 400, Pace::Pps(20_000)).unwrap();
    let status = agent.settled(4_900);
    let (incoming, outgoing) = (status.totals.incoming, status.totals.outgoing);
    assert_eq!((incoming.packets, incoming.bytes), (3_000, 300_000));
    assert_eq!((outgoing.packets, outgoing.bytes), (1_500, 150_000));
    let unparsed = status.packets.unparsed;
    assert_eq!(
        (unparsed.not_ip, unparsed.version, unparsed.short, unparsed.nested, unparsed.arp),
        (100, 100, 100, 100, 0),
    );
    assert_eq!(status.packets.received, 4_900);
}

#[test]
fn what_offload_will_cut_is_counted_to_the_segment() {
    let lab = Lab::new("afpgso").unwrap();
    let agent = Agent::start(&lab, &setup());
    send_in_pieces(&lab, 1000, 10_500);
    let outgoing = agent.settled(1_100).totals.outgoing;
    assert_eq!((outgoing.packets, outgoing.bytes), (1_100, 100 * (10_500 + 11 * 28)));
}

#[test]
fn a_port_that_comes_back_is_seen_again_made_anew_or_not() {
    let lab = Lab::new("afpback").unwrap();
    lay_cable(&lab);
    let agent = Agent::start_by(&lab, &[], &setup(), "p0");
    let pool = Pool::new([Frame::udp(WORLD4, ours4(1), 1, 2)]);
    let alarms = go_and_come_back(&lab, &agent, &pool);
    let expected = "The capture is broken: engine `af_packet`: interface `p0`: Network is down";
    assert!(alarms.iter().any(|alarm| alarm.starts_with(expected)), "{alarms:?}");
    assert_eq!(alarms.len(), 2, "{alarms:?}");
}

#[test]
fn two_agents_on_one_port_both_see_everything() {
    let lab = Lab::new("afptwo").unwrap();
    let agents = [(); 2].map(|()| Agent::start(&lab, &setup()));
    let mut sender = lab.sender_outside().unwrap();
    let frame = Frame::udp(WORLD4, ours4(1), 1, 2);
    sender.send(&Pool::new([frame]), 2_000, Pace::Pps(20_000)).unwrap();
    for agent in &agents {
        assert_eq!(agent.settled(2_000).packets.received, 2_000);
    }
}

#[test]
fn auto_takes_xdp_where_it_runs_natively() {
    let lab = Lab::new("autox").unwrap();
    let agent = Agent::start(&lab, &Setup { capture: "engine = \"auto\"", ..Setup::default() });
    let status = agent.status();
    assert_eq!(status.engine, "xdp");
    assert_eq!(status.engine_reason, "every port runs XDP natively");
    assert_eq!(lab.attached_inside().unwrap().xdp, Xdp::Native);
}

#[test]
fn auto_takes_packet_sockets_where_xdp_does_not_run_and_says_why() {
    let lab = Lab::new("autop").unwrap();
    let capture = "engine = \"auto\"";
    // One port that can and one that cannot: the first is let go.
    let agent = Agent::start_by(&lab, &[], &Setup { capture, ..Setup::default() }, "in0,lo");
    let status = agent.status();
    assert_eq!(status.engine, "af_packet");
    let reason = "the driver of `lo` does not run XDP natively";
    assert!(status.engine_reason.starts_with(reason), "{}", status.engine_reason);
    let log = agent.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("engine is chosen")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("af_packet") && lines[0].contains(reason), "{log}");
    assert_eq!(lab.attached_inside().unwrap(), NOTHING);
    let mut sender = lab.sender_outside().unwrap();
    let frame = Frame::udp(WORLD4, ours4(1), 1, 2);
    sender.send(&Pool::new([frame]), 2_000, Pace::Pps(20_000)).unwrap();
    assert_eq!(agent.settled(2_000).totals.incoming.packets, 2_000);
    // What the other port shows is counted too: leaving and arriving, and the answers.
    lab.run_inside(|| {
        let socket = UdpSocket::bind((GUARDED, 5000)).unwrap();
        for _ in 0..100 {
            // Nobody listens there, which may be told by now.
            let _refused = socket.send_to(&[7; 100], (GUARDED, 9));
        }
    })
    .unwrap();
    let status = agent.settled(2_200);
    assert!(status.totals.internal.packets >= 200, "{status:?}");
}

#[test]
fn packet_sockets_need_one_capability_and_name_it() {
    let lab = Lab::new("afpcap").unwrap();
    let only_raw = ["setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all"];
    let capture = "engine = \"af_packet\"\nrole = \"mirror\"";
    let agent = Agent::start_by(&lab, &only_raw, &Setup { capture, ..Setup::default() }, "in0");
    let mut sender = lab.sender_outside().unwrap();
    let frame = Frame::udp(WORLD4, ours4(1), 1, 2);
    sender.send(&Pool::new([frame]), 2_000, Pace::Pps(20_000)).unwrap();
    assert_eq!(agent.settled(2_000).packets.received, 2_000);
    assert!(promiscuity(&lab) > 0);
    drop(agent);
    let auto = Setup { capture: "engine = \"auto\"", ..Setup::default() };
    let agent = Agent::start_by(&lab, &only_raw, &auto, "in0");
    let reason = "XDP needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, which is missing";
    assert_eq!(agent.status().engine_reason, reason);
    drop(agent);

    let folder = Folder::new();
    let config = configure(&folder, &setup());
    let none = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-all"];
    let output = command_by(&lab, &none, &config, "in0").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("not permitted: CAP_NET_RAW missing"), "{text}");
}

#[test]
fn a_port_that_cannot_be_opened_is_named_with_the_remedy() {
    let lab = Lab::new("afpbad").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &setup());
    ip(&lab, "link add d0 type veth peer name d1");
    for (interface, expected) in [
        ("eth9", "interface `eth9` does not exist; there are: d0, d1, in0, lo"),
        ("in0,d0", "interface `d0`: cannot watch it: it is down or gone: bring it up first"),
    ] {
        let output = command(&lab, &config, interface).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
