//! NFLOG: what rules log is counted by its own length, and every loss told.

use std::net::UdpSocket;

use fastnetmon_user::capture::{NflogSettings, nflog_rules};
use fastnetmon_user::control::Packets;
use xtask::lab::{GUARDED, INSIDE_INTERFACE, Lab, Signal, signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, command, command_by, configure, wait};
use crate::crowd::{Crowd, FAR, VICTIM, WORLD4, ours4};
use crate::engines::{add_rules, shell};

const ENGINE: &str = "engine = \"nflog\"";

fn setup(capture: &str) -> Setup<'_> {
    Setup { capture, ..Setup::default() }
}

/// The inside sends so many datagrams of so many bytes to the world, and its packets pass the rules.
fn say(lab: &Lab, count: u32, bytes: usize) {
    lab.run_inside(|| {
        let socket = UdpSocket::bind((GUARDED, 5000)).unwrap();
        for _ in 0..count {
            assert_eq!(socket.send_to(&vec![7; bytes], (FAR, 9)).unwrap(), bytes);
        }
    })
    .unwrap();
}

/// Arriving packets of both families are longer than what comes of them, leaving ones as well.
#[track_caller]
fn counts_to_the_last_packet(lab: &Lab, capture: &str) {
    const EACH: u64 = 20_000;
    let agent = Agent::start(lab, &setup(capture));
    let mut outside = lab.sender_outside().unwrap();
    let Crowd { in4, in6, .. } = Crowd::in_steps_of(20);
    let bytes = |frames: &[Frame]| Crowd::bytes(frames, EACH);
    let bytes_in = bytes(&in4) + bytes(&in6);
    for frames in [in4, in6] {
        outside.send(&Pool::new(frames), EACH, Pace::Pps(50_000)).unwrap();
    }
    say(lab, 2_000, 1000);
    let status = agent.settled(2 * EACH + 2_000);
    let (incoming, outgoing) = (status.totals.incoming, status.totals.outgoing);
    assert_eq!((incoming.packets, incoming.bytes), (2 * EACH, bytes_in));
    assert_eq!((outgoing.packets, outgoing.bytes), (2_000, 2_000 * 1028));
    assert_eq!((status.packets.dropped, status.packets.unparsed.total()), (0, 0));
    assert_eq!((status.packets.padding_bytes, status.ipv6.hosts), (0, 200));
    assert_eq!((status.engine.as_str(), status.evidence.as_str()), ("nflog", "nflog"));
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
}

#[test]
fn the_printed_rules_show_every_packet_in_both_directions_and_families() {
    let lab = Lab::new("nflog").unwrap();
    add_rules(&lab);
    counts_to_the_last_packet(&lab, ENGINE);
}

#[test]
fn rules_of_iptables_that_cut_and_gather_show_the_same() {
    let lab = Lab::new("nflogipt").unwrap();
    let rules = nflog_rules(&NflogSettings::default(), &[INSIDE_INTERFACE.to_owned()]);
    let (_nft, iptables) = rules.split_once("or, with iptables:\n").unwrap();
    // A rule may ask for less than the agent does: as little as the seed did, and one at a time.
    shell(
        &lab,
        &iptables
            .replace("--nflog-size 128", "--nflog-size 64")
            .replace("threshold 64", "threshold 1"),
    );
    counts_to_the_last_packet(&lab, ENGINE);
}

#[test]
fn prefixes_tell_the_way_where_they_are_given() {
    let lab = Lab::new("nflogpre").unwrap();
    // Both are logged where packets arrive, so the devices would say that both do.
    shell(
        &lab,
        "nft add table inet t; nft add chain inet t c '{ type filter hook prerouting priority -500; }'
         nft add rule inet t c ip saddr 192.0.2.0/24 log prefix '\"mine-out\"' group 7
         nft add rule inet t c ip daddr 192.0.2.0/24 log prefix '\"mine-in\"' group 7",
    );
    let prefixes = "engine = \"nflog\"\n[capture.nflog]\ngroup = 7\nprefix_in = \"mine-in\"\n\
                    prefix_out = \"mine-out\"";
    let agent = Agent::start(&lab, &setup(prefixes));
    let mut outside = lab.sender_outside().unwrap();
    let frames = [Frame::udp(WORLD4, ours4(1), 1, 2), Frame::udp(ours4(1), WORLD4, 1, 2)];
    outside.send(&Pool::new(frames), 2_000, Pace::Pps(20_000)).unwrap();
    let totals = agent.settled(2_000).totals;
    assert_eq!((totals.incoming.packets, totals.outgoing.packets), (1_000, 1_000));
}

#[test]
fn what_finds_no_room_is_told_to_the_last_packet() {
    const SENT: u64 = 400_000;
    let lab = Lab::new("nflogover").unwrap();
    add_rules(&lab);
    let capture = "engine = \"nflog\"\n[capture.nflog]\nbuffer_mb = 4";
    let agent = Agent::start(&lab, &setup(capture));
    let mut sender = lab.sender_outside().unwrap();
    let pool = Pool::new([Frame::udp(WORLD4, VICTIM, 1, 2).payload(72)]);
    let before = lab.statistics_inside().unwrap();
    signal(agent.id(), Signal::Stop).unwrap();
    sender.send(&pool, SENT, Pace::Pps(150_000)).unwrap();
    signal(agent.id(), Signal::Continue).unwrap();
    // That there were losses is told at once, how many with the next packet.
    wait("a loss to be told", || (agent.status().packets.dropped > 0).then_some(()));
    sender.send(&pool, 5_000, Pace::Pps(20_000)).unwrap();
    // What the port's own queue had no room for never came to the rules.
    let after = lab.statistics_inside().unwrap();
    let logged = SENT + 5_000 - (after.rx_dropped - before.rx_dropped);
    let all = |packets: &Packets| packets.received + packets.dropped;
    let packets = wait("all of them to be counted or told", || {
        Some(agent.status().packets).filter(|packets| all(packets) >= logged)
    });
    let status = agent.settled(packets.received);
    eprintln!("{logged} logged: {:?}", status.packets);
    assert!(packets.dropped > SENT / 10 && packets.received > 10_000, "{packets:?}");
    assert_eq!(all(&status.packets), logged);
    assert_eq!(status.totals.incoming.packets, status.packets.received);
}

#[test]
fn an_agent_that_hears_nothing_says_so_with_the_rules() {
    let lab = Lab::new("nflogmute").unwrap();
    let capture = "engine = \"nflog\"\n[capture.nflog]\nquiet_secs = 1";
    let agent = Agent::start(&lab, &setup(capture));
    let alarms =
        wait("the alarm", || Some(agent.status().alarms).filter(|alarms| !alarms.is_empty()));
    let start = "The capture is broken: engine `nflog`: nothing came to group 1 for 1 s: are its rules \
                 there?\nnft add table inet fastnetmon\n";
    assert!(alarms[0].starts_with(start), "{alarms:?}");
    assert!(agent.log().contains("nft add rule inet fastnetmon arrives iifname"));
    // They help.
    add_rules(&lab);
    let mut sender = lab.sender_outside().unwrap();
    sender.send(&Pool::new([Frame::udp(WORLD4, ours4(1), 1, 2)]), 4_000, Pace::Pps(2_000)).unwrap();
    wait("the alarm to go", || agent.log().contains("The capture works again.").then_some(()));
    assert_eq!(agent.settled(4_000).totals.incoming.packets, 4_000);
}

#[test]
fn a_group_that_cannot_be_had_is_named_with_the_remedy() {
    let lab = Lab::new("nflogbad").unwrap();
    let _first = Agent::start(&lab, &setup(ENGINE));
    let refused = |by: &[&str], capture: &str, expected: &str| {
        let folder = Folder::new();
        let config = configure(&folder, &setup(capture));
        let output = command_by(&lab, by, &config, "in0").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    };
    let busy = "engine `nflog`: group 1 cannot be had: Operation not permitted (os error 1); another \
                program may have it: choose another `group`, or CAP_NET_ADMIN is missing";
    refused(&[], ENGINE, busy);
    let none = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-all"];
    refused(&none, ENGINE, "not permitted: CAP_NET_ADMIN missing");
    let beyond = "engine = \"nflog\"\n[capture.nflog]\ncopy_bytes = 20";
    refused(&[], beyond, "20 is out of bounds: it can be 64 to 65535");
    refused(
        &[],
        "engine = \"nflog\"\n[capture.nflog]\ngroup = 70000",
        "invalid value: integer `70000`",
    );
}

#[test]
fn it_needs_no_interface() {
    let lab = Lab::new("nflognone").unwrap();
    add_rules(&lab);
    let folder = Folder::new();
    let config = configure(&folder, &setup(ENGINE));
    let program = command(&lab, &config, "in0").get_program().to_owned();
    let mut child =
        lab.command_inside(program).args(["run", "--config"]).arg(config).spawn().unwrap();
    let status = wait("the agent to answer", || {
        fastnetmon_user::client::Connection::open(&folder.path("control.sock")).ok()?.status(1).ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((status.engine.as_str(), status.interfaces.len()), ("nflog", 0));
}
