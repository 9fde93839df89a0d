//! libpcap: the same counts, both directions, every loss told, and a port that comes back.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;

use fastnetmon_user::control::{Packets, Status};
use xtask::lab::{GUARDED, Lab, Signal, signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, command, command_by, configure, wait};
use crate::crowd::{Crowd, VICTIM, WORLD4, WORLD6, ours4, ours6};
use crate::engines::shell;
use crate::ports::{go_and_come_back, lay_cable};

const ENGINE: &str = "engine = \"pcap\"";

fn setup(capture: &str) -> Setup<'_> {
    Setup { capture, ..Setup::default() }
}

/// Everybody's traffic in both directions and families, tagged and not.
#[track_caller]
fn counts_to_the_last_packet(lab: &Lab, capture: &str, interface: &str) {
    const EACH: u64 = 20_000;
    let agent = Agent::start_by(lab, &[], &setup(capture), interface);
    let mut outside = lab.sender_outside().unwrap();
    let mut inside = lab.sender_inside().unwrap();
    let Crowd { in4, in6, out4, .. } = Crowd::in_steps_of(10);
    let out4: Vec<Frame> = out4.into_iter().map(|frame| frame.vlan(7)).collect();
    let bytes = |frames: &[Frame]| Crowd::bytes(frames, EACH);
    let (bytes_in, bytes_out) = (bytes(&in4) + bytes(&in6), bytes(&out4));
    for frames in [in4, in6] {
        outside.send(&Pool::new(frames), EACH, Pace::Pps(50_000)).unwrap();
    }
    inside.send(&Pool::new(out4), EACH, Pace::Pps(50_000)).unwrap();
    assert_eq!(inside.refused(), 0);
    let status = agent.settled(3 * EACH);
    let Status { totals, packets, .. } = &status;
    assert_eq!((totals.incoming.packets, totals.incoming.bytes), (2 * EACH, bytes_in));
    assert_eq!((totals.outgoing.packets, totals.outgoing.bytes), (EACH, bytes_out));
    assert_eq!((packets.received, packets.dropped, packets.unparsed.total()), (3 * EACH, 0, 0));
    assert_eq!(status.ipv6.hosts, 200);
    assert_eq!((status.engine.as_str(), status.evidence.as_str()), ("pcap", "pcap"));
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
}

#[test]
fn packets_are_counted_to_the_last_one_in_both_directions_and_families() {
    counts_to_the_last_packet(&Lab::new("pcap").unwrap(), ENGINE, "in0");
}

#[test]
fn each_frame_at_once_counts_the_same() {
    let capture = "engine = \"pcap\"\n[capture.pcap]\nimmediate = true\nsnaplen_bytes = 96";
    counts_to_the_last_packet(&Lab::new("pcapnow").unwrap(), capture, "in0");
}

#[test]
fn the_device_any_counts_the_same() {
    counts_to_the_last_packet(&Lab::new("pcapany").unwrap(), ENGINE, "any");
}

#[test]
fn what_finds_no_room_is_told_to_the_last_packet() {
    const SENT: u64 = 400_000;
    let lab = Lab::new("pcapover").unwrap();
    let agent = Agent::start(&lab, &setup(ENGINE));
    let (mut outside, mut inside) = (lab.sender_outside().unwrap(), lab.sender_inside().unwrap());
    signal(agent.id(), Signal::Stop).unwrap();
    let arriving = Frame::udp(WORLD4, VICTIM, 1, 2).payload(72);
    outside.send(&Pool::new([arriving.clone()]), SENT, Pace::Full).unwrap();
    // What leaves has a ring of its own: its losses are told once as well.
    let leaving = Frame::udp(VICTIM, WORLD4, 1, 2).payload(72).outwards();
    inside.send(&Pool::new([leaving]), SENT, Pace::Pps(200_000)).unwrap();
    let sent = 2 * SENT + inside.refused();
    signal(agent.id(), Signal::Continue).unwrap();
    let all = |packets: &Packets| packets.received + packets.dropped;
    let packets = wait("all of them to be counted or told", || {
        Some(agent.status().packets).filter(|packets| all(packets) >= sent)
    });
    assert!(packets.dropped > SENT / 10, "{packets:?}");
    assert!(packets.received > 10_000, "{packets:?}");
    // And goes on exactly.
    outside.send(&Pool::new([arriving]), 5_000, Pace::Pps(50_000)).unwrap();
    let status = agent.settled(packets.received + 5_000);
    eprintln!("{sent} sent: {:?}", status.packets);
    assert_eq!(all(&status.packets), sent + 5_000, "{:?}", status.packets);
    let Status { totals, packets, .. } = status;
    assert_eq!(totals.incoming.packets + totals.outgoing.packets, packets.received);
}

#[test]
fn a_mirror_port_counts_both_ends_of_what_arrives() {
    let lab = Lab::new("pcapmir").unwrap();
    let agent = Agent::start(&lab, &setup("engine = \"pcap\"\nrole = \"mirror\""));
    let (mut outside, mut inside) = (lab.sender_outside().unwrap(), lab.sender_inside().unwrap());
    let frames = [
        Frame::udp(WORLD4, ours4(1), 1, 2),
        Frame::udp(ours4(1), WORLD4, 1, 2),
        Frame::udp(ours4(1), ours4(2), 1, 2),
    ];
    outside.send(&Pool::new(frames), 3_000, Pace::Pps(20_000)).unwrap();
    let leaving = Frame::udp(ours4(1), WORLD4, 1, 2).outwards();
    inside.send(&Pool::new([leaving]), 100, Pace::Pps(10_000)).unwrap();
    let Status { totals, packets, .. } = agent.settled(3_000);
    let ways = [totals.incoming, totals.outgoing, totals.internal].map(|way| way.packets);
    assert_eq!((ways, packets.received), ([1_000; 3], 3_000));
}

/// The program's end of a tunnel device: what is written to it arrives there.
#[expect(unsafe_code, reason = "TUNSETIFF has no safe form")]
fn tunnel(lab: &Lab) -> File {
    shell(
        lab,
        "ip tuntap add dev t0 mode tun; ip link set t0 up; ip route add 100.100.0.0/16 dev t0",
    );
    lab.run_inside(|| {
        let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        // SAFETY: all zero is a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"t0") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
        // SAFETY: the request is of the type that TUNSETIFF takes, and outlives the call.
        let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        assert_eq!(set, 0);
        file
    })
    .unwrap()
}

#[test]
fn an_interface_without_link_headers_is_read_as_ip() {
    let lab = Lab::new("pcapraw").unwrap();
    let mut file = tunnel(&lab);
    let agent = Agent::start_by(&lab, &[], &setup(ENGINE), "t0");
    let arriving = [
        Frame::udp(WORLD4, ours4(1), 1, 2).payload(72).bytes(),
        Frame::tcp_syn(WORLD6, ours6(1), 1, 2).bytes(),
    ];
    for packet in arriving.iter().cycle().take(1_000) {
        file.write_all(&packet[14..]).unwrap();
    }
    lab.run_inside(|| {
        let socket = UdpSocket::bind((GUARDED, 5000)).unwrap();
        for _ in 0..200 {
            socket.send_to(&[7; 72], (Ipv4Addr::new(100, 100, 0, 1), 9)).unwrap();
        }
    })
    .unwrap();
    let Status { totals, packets, .. } = agent.settled(1_200);
    assert_eq!((totals.incoming.packets, totals.incoming.bytes), (1_000, 500 * (100 + 60)));
    assert_eq!((totals.outgoing.packets, totals.outgoing.bytes), (200, 200 * 100));
    assert_eq!((packets.received, packets.unparsed.total()), (1_200, 0));
}

#[test]
fn a_port_that_comes_back_is_seen_again_made_anew_or_not() {
    let lab = Lab::new("pcapback").unwrap();
    lay_cable(&lab);
    let agent = Agent::start_by(&lab, &[], &setup(ENGINE), "p0");
    let pool = Pool::new([Frame::udp(WORLD4, ours4(1), 1, 2)]);
    let alarms = go_and_come_back(&lab, &agent, &pool);
    let expected = "The capture is broken: engine `pcap`: interface `p0`: ";
    assert!(alarms.iter().any(|alarm| alarm.starts_with(expected)), "{alarms:?}");
    assert_eq!(agent.status().packets.dropped, 0);
}

#[test]
fn libpcap_needs_one_capability_and_names_it() {
    let lab = Lab::new("pcapcap").unwrap();
    let only_raw = ["setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all"];
    let agent = Agent::start_by(&lab, &only_raw, &setup(ENGINE), "in0");
    let mut sender = lab.sender_outside().unwrap();
    sender
        .send(&Pool::new([Frame::udp(WORLD4, ours4(1), 1, 2)]), 2_000, Pace::Pps(20_000))
        .unwrap();
    assert_eq!(agent.settled(2_000).packets.received, 2_000);
    drop(agent);
    let folder = Folder::new();
    let config = configure(&folder, &setup(ENGINE));
    let none = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-all"];
    let output = command_by(&lab, &none, &config, "in0").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("not permitted: CAP_NET_RAW missing"), "{text}");
}

#[test]
fn a_port_that_cannot_be_opened_is_named_with_the_remedy() {
    let lab = Lab::new("pcapbad").unwrap();
    let folder = Folder::new();
    shell(&lab, "ip link add d0 type veth peer name d1");
    for (capture, interface, expected) in [
        (ENGINE, "eth9", "interface `eth9` does not exist; there are: d0, d1, in0, lo"),
        (
            ENGINE,
            "in0,d0",
            "interface `d0`: cannot watch it: it is down or gone: bring it up first",
        ),
        ("engine = \"xdp\"", "any", "interface `any` does not exist"),
        (
            "engine = \"pcap\"\n[capture.pcap]\nsnaplen_bytes = 63",
            "in0",
            "63 is out of bounds: it can be 64 to 65535",
        ),
        ("engine = \"pcap\"\n[capture.pcap]\nsnaplen = 64", "in0", "unknown field `snaplen`"),
    ] {
        let config = configure(&folder, &setup(capture));
        let output = command(&lab, &config, interface).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
