//! What leaves, to the segment: offload, tags, guests, filters instead of links.

use std::net::{Ipv4Addr, Ipv6Addr};

use fastnetmon_common::abi::program;
use fastnetmon_common::class::Direction;
use fastnetmon_common::table::gained;
use fastnetmon_user::kernel::{self, Frozen};
use fastnetmon_user::model::Prefix;
use fastnetmon_user::networks::{Plan, PrefixSet, Territory};
use xtask::lab::{Attached, Lab, Signal, Xdp};
use xtask::traffic::{Frame, Pace, Pool, Sender};

use crate::agent::{Agent, Setup};
use crate::crowd::{FAR, send_in_pieces};
use crate::ports::ip;

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// Offsets in `struct __sk_buff` (linux/bpf.h).
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

#[test]
fn a_frame_on_its_way_to_segmentation_counts_as_its_segments() {
    let ours = PrefixSet::merged([Prefix::parse_masked("192.0.2.0/24").unwrap().0]).0;
    let (plan, writes) = Plan::new(&ours, 16).unwrap();
    let shape = plan.shape(kernel::possible_cpus().unwrap(), 7);
    let frozen = Frozen::of(shape);
    let (mut object, parts, _rings) = kernel::load(frozen).unwrap();
    let mut territory =
        Territory::new(ours, plan, &writes, shape, vec![parts.directory], vec![parts.flags]);
    let slot = territory.host(HOST.into()).unwrap().0;
    let tcp = Frame::tcp(HOST, FAR, 80, 1000, 0x10).payload(3000).bytes();
    let udp = Frame::udp(HOST, FAR, 80, 1000).payload(3000).bytes();
    let headers = 40;
    // What the guest or the stack says, and what the wire will carry: packets and bytes.
    for (frame, segs, size, expected) in [
        (&tcp, 0_u32, 0_u32, (1, 3040)),
        (&tcp, 3, 1000, (3, 3000 + 3 * headers)),
        (&tcp, 0, 1000, (3, 3000 + 3 * headers)),
        (&tcp, 0, 1448, (3, 3000 + 3 * headers)),
        (&tcp, 0, 2999, (2, 3000 + 2 * headers)),
        (&udp, 0, 500, (6, 3000 + 6 * 28)),
        (&udp, 6, 500, (6, 3000 + 6 * 28)),
    ] {
        let mut context = [0_u8; 192];
        context[GSO_SEGS..][..4].copy_from_slice(&segs.to_ne_bytes());
        context[GSO_SIZE..][..4].copy_from_slice(&size.to_ne_bytes());
        let before = parts.lines.sum(Direction::Outgoing, slot);
        object.run_classifier(program::TC_EGRESS, frame, &context).unwrap();
        let after = parts.lines.sum(Direction::Outgoing, slot);
        let sum = before[..6].iter().zip(&after[..6]).fold((0, 0), |(packets, bytes), (b, a)| {
            let gain = gained(*b, *a);
            (packets + gain.0, bytes + gain.1)
        });
        assert_eq!(sum, expected, "segs {segs} size {size}");
    }
}

#[test]
fn a_socket_that_uses_segmentation_offload_is_counted_to_the_segment() {
    let lab = Lab::new("gso").unwrap();
    let agent = Agent::start(&lab, &Setup::default());
    // Ten whole pieces and one of 500.
    send_in_pieces(&lab, 1000, 10_500);
    let outgoing = agent.settled(1_100).totals.outgoing;
    assert_eq!((outgoing.packets, outgoing.bytes), (1_100, 100 * (10_500 + 11 * 28)));
}

/// A bridge with the uplink in it and a guest's port beside it.
fn bridge(lab: &Lab) -> Sender {
    ip(lab, "link add br0 type bridge mcast_snooping 0 forward_delay 0");
    ip(lab, "link add vm0 type veth peer name guest0");
    ip(lab, "link set vm0 master br0");
    ip(lab, "link set in0 master br0");
    for port in ["br0", "vm0", "guest0"] {
        ip(lab, &format!("link set {port} up"));
    }
    lab.run_inside(|| Sender::open("guest0")).unwrap().unwrap()
}

#[test]
fn guests_behind_a_bridge_are_counted_at_the_uplink_both_ways() {
    let lab = Lab::new("bridge").unwrap();
    let mut from_guest = bridge(&lab);
    let agent = Agent::start(&lab, &Setup::default());
    let before = agent.status().packets.received;
    let guest = Frame::udp(HOST, FAR, 80, 1000).payload(72).outwards();
    from_guest.send(&Pool::new([guest]), 3_000, Pace::Pps(20_000)).unwrap();
    let mut from_world = lab.sender_outside().unwrap();
    let answer = Frame::udp(FAR, HOST, 1000, 80).payload(72);
    from_world.send(&Pool::new([answer]), 5_000, Pace::Pps(20_000)).unwrap();
    let status = agent.settled(before + 8_000);
    let (incoming, outgoing) = (status.totals.incoming, status.totals.outgoing);
    assert_eq!((incoming.packets, incoming.bytes), (5_000, 500_000));
    assert_eq!((outgoing.packets, outgoing.bytes), (3_000, 300_000));
}

/// A tagged frame that was received carries its tag beside its bytes, not in them, until the port
/// writes it (`skb_vlan_untag`).
#[test]
fn a_tag_that_the_port_will_write_does_not_hide_the_packet() {
    let lab = Lab::new("vlan").unwrap();
    let mut from_guest = bridge(&lab);
    let agent = Agent::start(&lab, &Setup::default());
    let tagged = Frame::udp(HOST, FAR, 80, 1000).payload(72).vlan(7).outwards();
    let twice = Frame::udp(HOST, FAR, 80, 1000).payload(72).vlan(7).vlan(8).outwards();
    from_guest.send(&Pool::new([tagged, twice]), 2_000, Pace::Pps(20_000)).unwrap();
    let status = agent.settled(2_000);
    let outgoing = status.totals.outgoing;
    assert_eq!((outgoing.packets, outgoing.bytes), (2_000, 200_000));
    assert_eq!(status.packets.unparsed.total(), 0);
}

#[test]
fn without_tcx_a_filter_counts_what_leaves_and_goes_with_the_agent() {
    let lab = Lab::new("clsact").unwrap();
    let filters = || {
        let output =
            lab.command_inside("tc").args(["filter", "show", "dev", "in0", "egress"]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).matches("direct-action").count()
    };
    let setup = Setup { capture: "egress = \"clsact\"", ..Setup::default() };
    let mut agent = Agent::start(&lab, &setup);
    assert_eq!(lab.attached_inside().unwrap().tcx_egress, 0);
    assert_eq!(filters(), 1);
    let mut sender = lab.sender_inside().unwrap();
    let frame = Frame::udp(HOST, FAR, 80, 1000).payload(72).outwards();
    let pool = Pool::new([frame]);
    sender.send(&pool, 2_000, Pace::Pps(20_000)).unwrap();
    assert_eq!(agent.settled(2_000).totals.outgoing.packets, 2_000);
    assert!(agent.end(Signal::Terminate).success());
    assert_eq!(filters(), 0);

    // A killed agent leaves its filter, which passes everything on; the next one replaces it.
    let mut agent = Agent::start(&lab, &setup);
    agent.end(Signal::Kill);
    assert_eq!(filters(), 1);
    let before = lab.statistics_outside().unwrap().rx_packets;
    sender.send(&pool, 1_000, Pace::Pps(20_000)).unwrap();
    crate::agent::wait("the packets to pass", || {
        let passed = lab.statistics_outside().unwrap().rx_packets - before;
        (passed >= 1_000).then_some(())
    });
    let agent = Agent::start(&lab, &setup);
    assert_eq!(filters(), 1);
    sender.send(&pool, 500, Pace::Pps(20_000)).unwrap();
    assert_eq!(agent.settled(500).totals.outgoing.packets, 500);
    let native = Attached { xdp: Xdp::Native, tcx_ingress: 0, tcx_egress: 0 };
    assert_eq!(lab.attached_inside().unwrap(), native);
}

/// An IPv4 header in front of a packet, for a tunnel.
fn around(outer: (Ipv4Addr, Ipv4Addr), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Frame::protocol(outer.0, outer.1, protocol)
        .payload(u16::try_from(payload.len()).unwrap())
        .bytes();
    let start = frame.len() - payload.len();
    frame[start..].copy_from_slice(payload);
    frame
}

#[test]
fn what_tunnels_carry_counts_for_the_inner_hosts_when_asked_and_totals_stay_true() {
    let inner4 = Frame::udp(FAR, HOST, 1, 2).payload(72).bytes()[14..].to_vec();
    let six: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let world: Ipv6Addr = "2001:db9::1".parse().unwrap();
    let inner6 = Frame::tcp_syn(world, six, 1, 2).bytes()[14..].to_vec();
    let bridged = Frame::udp(FAR, HOST, 1, 2).payload(72).bytes();
    let gre = |flags: [u8; 2], kind: [u8; 2], options: usize, inner: &[u8]| {
        let mut gre = [flags, kind].concat();
        gre.extend(vec![0; options]);
        gre.extend(inner);
        gre
    };
    // The tunnel ends at one of ours, which is counted as well.
    let ends = (FAR, Ipv4Addr::new(198, 51, 100, 1));
    let frames = vec![
        around(ends, 4, &inner4),
        around(ends, 41, &inner6),
        around(ends, 47, &gre([0, 0], [0x08, 0], 0, &inner4)),
        around(ends, 47, &gre([0xb0, 0], [0x08, 0], 12, &inner4)),
        around(ends, 47, &gre([0, 0], [0x65, 0x58], 0, &bridged)),
        around(ends, 47, &gre([0x20, 0], [0x86, 0xdd], 4, &inner6)),
    ];
    for (decapsulate, expected4, expected6) in [(false, 0, 0), (true, 400, 200)] {
        let lab = Lab::new("tunnel").unwrap();
        let capture = format!("decapsulate = {decapsulate}");
        let agent = Agent::start(&lab, &Setup { capture: &capture, ..Setup::default() });
        let mut sender = lab.sender_outside().unwrap();
        // All in one tick's window, so that the rates are the counts.
        sender.send(&Pool::raw(frames.clone()), 600, Pace::Full).unwrap();
        let pps = |ip: &str| {
            let status = agent.status();
            let hosts = status.hosts.incoming_packets;
            hosts.iter().find(|host| host.ip == ip).map_or(0, |host| host.pps)
        };
        let mut seen = (0, 0, 0);
        let totals = crate::agent::wait("the tunnels' packets", || {
            seen.0 = seen.0.max(pps("198.51.100.1"));
            seen.1 = seen.1.max(pps("192.0.2.7"));
            seen.2 = seen.2.max(pps("2001:db8::7") + pps("2001:db8::/32"));
            let status = agent.status();
            (seen.0 > 590 && status.packets.received >= 600).then_some(status.totals)
        });
        assert_eq!(totals.incoming.packets, 600, "the tunnel's own packets, once");
        let near = |found: u64, expected: u64| found.abs_diff(expected) <= expected / 50;
        assert!(near(seen.1, expected4) && near(seen.2, expected6), "{seen:?}");
    }
}
