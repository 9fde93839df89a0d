//! Counted = sent.

use std::net::Ipv4Addr;

use fastnetmon_user::control::{Host, Traffic};
use xtask::lab::{Lab, Xdp};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Setup};
use crate::crowd::{Crowd, WORLD4, WORLD6, ours4, ours6};

/// Foreign to a configuration that guards `2001:db8:0::/48`.
fn setup<'a>() -> Setup<'a> {
    Setup { networks: "192.0.2.0/24\n2001:db8:0::/48\n", ..Setup::default() }
}

#[track_caller]
fn check(what: &str, counted: Traffic, packets: u64, bytes: u64) {
    assert_eq!((counted.packets, counted.bytes), (packets, bytes), "{what}");
}

#[test]
fn a_million_packets_are_counted_to_the_last_one_in_both_directions_and_families() {
    const EACH: u64 = 260_000;
    let lab = Lab::new("million").unwrap();
    let agent = Agent::start(&lab, &setup());
    let mut outside = lab.sender_outside().unwrap();
    let mut inside = lab.sender_inside().unwrap();

    let Crowd { in4, in6, out4, out6 } = Crowd::in_steps_of(10);
    let bytes = |frames: &[Frame]| Crowd::bytes(frames, EACH);
    let (bytes_in, bytes_out) = (bytes(&in4) + bytes(&in6), bytes(&out4) + bytes(&out6));

    for frames in [in4, in6] {
        assert_eq!(outside.send(&Pool::new(frames), EACH, Pace::Full).unwrap(), EACH);
    }
    for frames in [out4, out6] {
        // Slow enough that the kernel refuses none: one that is refused after it was counted and
        // then sent again would be counted twice, and rightly.
        assert_eq!(inside.send(&Pool::new(frames), EACH, Pace::Pps(150_000)).unwrap(), EACH);
    }
    assert_eq!(inside.refused(), 0);

    let status = agent.settled(4 * EACH);
    check("incoming", status.totals.incoming, 2 * EACH, bytes_in);
    check("outgoing", status.totals.outgoing, 2 * EACH, bytes_out);
    check("internal", status.totals.internal, 0, 0);
    assert_eq!(status.packets.unparsed.total(), 0);
    assert_eq!(status.packets.dropped, 0);
    // IPv6 hosts get lines of their own while they are counted.
    assert_eq!(status.ipv6.hosts, 200);
}

#[test]
fn a_host_s_rate_is_its_own_in_both_families() {
    let lab = Lab::new("rate").unwrap();
    let agent = Agent::start(&lab, &setup());
    assert_eq!(lab.attached_inside().unwrap().xdp, Xdp::Native);
    let mut sender = lab.sender_outside().unwrap();
    let frames = [
        Frame::udp(WORLD4, ours4(7), 1, 2).payload(72),
        Frame::udp(WORLD6, ours6(7), 1, 2).payload(52),
        Frame::udp(WORLD4, ours4(7), 1, 2).payload(72),
    ];
    sender.send(&Pool::new(frames), 18_000, Pace::Pps(6_000)).unwrap();
    let status = agent.status();
    let find = |hosts: &[Host], ip: &str| hosts.iter().find(|host| host.ip == ip).cloned();
    let incoming = &status.hosts.incoming_packets;
    let four = find(incoming, "192.0.2.7").expect("the IPv4 host is listed");
    let six = find(incoming, "2001:db8:0:1::7").expect("the IPv6 host is listed");
    // Two thirds and one third of 6,000, at 800 bits a packet.
    assert!((3_800..=4_200).contains(&four.pps), "{four:?}");
    assert!((1_900..=2_100).contains(&six.pps), "{six:?}");
    // Each is rounded down by itself, so they differ by less than one packet.
    assert!((four.bps - four.pps * 800) < 800 && (six.bps - six.pps * 800) < 800);
    assert_eq!(incoming.first().map(|host| host.ip.as_str()), Some("192.0.2.7"));
}

#[test]
fn what_is_internal_other_or_unreadable_is_told_apart() {
    let lab = Lab::new("kinds").unwrap();
    let agent = Agent::start(&lab, &setup());
    let mut outside = lab.sender_outside().unwrap();
    let internal = Frame::udp(ours4(1), ours4(2), 1, 2);
    let other = Frame::udp(WORLD4, Ipv4Addr::new(203, 0, 113, 77), 1, 2);
    // A source of ours that arrives from the world, for nobody of ours: forged, and nobody's.
    let forged = Frame::udp(ours4(1), Ipv4Addr::new(203, 0, 113, 77), 1, 2);
    let (internal_len, other_len) = (internal.ip_len(), other.ip_len() + forged.ip_len());
    outside.send(&Pool::new([internal, other, forged]), 3_000, Pace::Pps(20_000)).unwrap();

    let good = Frame::udp(WORLD4, ours4(3), 1, 2).payload(100).bytes();
    let ethertype = |frame: &[u8], kind: [u8; 2]| {
        let mut frame = frame.to_vec();
        frame[12..14].copy_from_slice(&kind);
        frame
    };
    let mut wrong_version = good.clone();
    wrong_version[14] = 0x65;
    let mut nested = good[..12].to_vec();
    nested.extend([0x81, 0, 0, 1].repeat(4));
    nested.extend(&good[12..]);
    let unreadable = [ethertype(&good, [0x88, 0xcc]), wrong_version, nested, good[..20].to_vec()];
    outside.send(&Pool::raw(unreadable), 400, Pace::Pps(20_000)).unwrap();

    let status = agent.settled(3_400);
    check("internal", status.totals.internal, 1_000, 1_000 * internal_len);
    check("other", status.totals.other, 2_000, 1_000 * other_len);
    check("incoming", status.totals.incoming, 0, 0);
    check("outgoing", status.totals.outgoing, 0, 0);
    let unparsed = status.packets.unparsed;
    assert_eq!(
        (unparsed.not_ip, unparsed.version, unparsed.short, unparsed.nested, unparsed.arp),
        (100, 100, 100, 100, 0),
        "{unparsed:?}"
    );
    assert_eq!(status.packets.received, 3_400);
}

#[test]
fn a_mirror_port_counts_both_ends_and_nothing_on_the_way_out() {
    let lab = Lab::new("mirror").unwrap();
    let agent = Agent::start(&lab, &Setup { capture: "role = \"mirror\"", ..setup() });
    assert_eq!(lab.attached_inside().unwrap().tcx_egress, 0);
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
    inside
        .send(&Pool::new([Frame::udp(ours4(1), WORLD4, 1, 2).outwards()]), 100, Pace::Pps(10_000))
        .unwrap();
    let status = agent.settled(5_000);
    let totals = status.totals;
    assert_eq!(
        (totals.incoming.packets, totals.outgoing.packets, totals.internal.packets),
        (2_000, 2_000, 1_000)
    );
    assert_eq!(status.packets.received, 5_000);
}

#[test]
fn generic_mode_counts_the_same_when_it_is_asked_for_by_name() {
    let lab = Lab::new("generic").unwrap();
    let agent = Agent::start(&lab, &Setup { capture: "engine = \"xdp_generic\"", ..setup() });
    assert_eq!(lab.attached_inside().unwrap().xdp, Xdp::Generic);
    let mut sender = lab.sender_outside().unwrap();
    let frame = Frame::udp(WORLD4, ours4(9), 1, 2).payload(40);
    let len = frame.ip_len();
    sender.send(&Pool::new([frame]), 20_000, Pace::Pps(50_000)).unwrap();
    let status = agent.settled(20_000);
    check("incoming", status.totals.incoming, 20_000, 20_000 * len);
    assert_eq!(status.engine, "xdp_generic");
}

#[test]
fn containers_of_an_openvz_node_are_guarded_one_by_one() {
    let lab = Lab::new("openvz").unwrap();
    let node = crate::agent::Folder::new();
    node.write("version", "3.10.0\n");
    let veip = node
        .write("veip", "Version: 2.5\n              192.0.2.9 101\n   2001:db8:0:1:0:0:0:9 102\n");
    let key = format!("openvz_veip = \"{}\"", veip.display());
    // The list and the containers are guarded together.
    let setup = Setup { networks: "198.51.100.0/24\n", in_networks: &key, ..Setup::default() };
    let agent = Agent::start(&lab, &setup);
    let mut sender = lab.sender_outside().unwrap();
    let frames = [
        Frame::udp(WORLD4, ours4(9), 1, 2),
        Frame::udp(WORLD4, ours4(10), 1, 2),
        Frame::udp(WORLD6, ours6(9), 1, 2),
        Frame::udp(WORLD6, ours6(10), 1, 2),
        Frame::udp(WORLD4, Ipv4Addr::new(198, 51, 100, 1), 1, 2),
    ];
    sender.send(&Pool::new(frames), 5_000, Pace::Pps(10_000)).unwrap();
    let totals = agent.settled(5_000).totals;
    assert_eq!((totals.incoming.packets, totals.other.packets), (3_000, 2_000));
    assert!(agent.log().contains("veip: 2 container addresses."));
}
