//! PF_RING by both ways, against the doubles of its library and of its kernel module.
//!
//! No test here meets the real module: what the doubles cannot prove is in `docs/pf_ring.md`.

use std::path::Path;
use std::process::Command;

use fastnetmon_user::control::{self, Packets, Status};
use xtask::lab::{Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, command_by, configure, wait};
use crate::crowd::{Crowd, VICTIM, WORLD4, ours4, send_in_pieces};
use crate::double::{Double, Way};
use crate::engines::{Attacks, RECORDER, flood, is_banned_told_and_let_go};
use crate::ports::{go_and_come_back, lay_cable, promiscuity};

#[track_caller]
fn start(lab: &Lab, by: &[String], setup: &Setup<'_>, interface: &str) -> Agent {
    let by: Vec<&str> = by.iter().map(String::as_str).collect();
    Agent::start_by(lab, &by, setup, interface)
}

/// Sends to and from 200 hosts of each family and demands that all of it is counted.
#[track_caller]
fn counts(label: &str, way: Way, script: &str, more: &str) -> (Status, String) {
    const EACH: u64 = 10_000;
    let lab = Lab::new(label).unwrap();
    let folder = Folder::new();
    let log = folder.path("calls");
    let capture = way.capture(more);
    let setup = Setup { capture: &capture, ..Setup::default() };
    // Room for all that may wait on a machine with more to do.
    let script = format!("ring=65536 {script}");
    let agent = start(&lab, &way.by(&script, Some(&log)), &setup, "in0");
    let mut outside = lab.sender_outside().unwrap();
    let mut inside = lab.sender_inside().unwrap();
    let Crowd { in4, in6, out4, out6 } = Crowd::in_steps_of(10);
    let out4: Vec<Frame> = out4.into_iter().map(|frame| frame.vlan(7)).collect();
    let bytes = |frames: &[Frame]| Crowd::bytes(frames, EACH);
    let (bytes_in, bytes_out) = (bytes(&in4) + bytes(&in6), bytes(&out4) + bytes(&out6));
    for frames in [in4, in6] {
        outside.send(&Pool::new(frames), EACH, Pace::Pps(20_000)).unwrap();
    }
    for frames in [out4, out6] {
        inside.send(&Pool::new(frames), EACH, Pace::Pps(20_000)).unwrap();
    }
    assert_eq!(inside.refused(), 0);
    let status = all_or_told(&agent, 4 * EACH);
    let Status { totals, packets, .. } = &status;
    let lost = packets.dropped;
    assert_eq!(packets.unparsed.total(), 0);
    let (incoming, outgoing) = (totals.incoming, totals.outgoing);
    assert_eq!(incoming.packets + outgoing.packets + lost, 4 * EACH);
    if lost == 0 {
        assert_eq!((incoming.packets, incoming.bytes), (2 * EACH, bytes_in));
        assert_eq!((outgoing.packets, outgoing.bytes), (2 * EACH, bytes_out));
    }
    assert_eq!((status.engine.as_str(), status.evidence.as_str()), ("pf_ring", "pf_ring"));
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
    let asked = folder.read("calls") + &agent.log();
    (status, asked)
}

/// The state when so many packets were counted or told. The double reads a packet socket, which may lose
/// one on its way; it tells, and so must we.
#[track_caller]
fn all_or_told(agent: &Agent, sent: u64) -> Status {
    let status = agent.settled_with_losses(sent);
    let Packets { received, dropped, .. } = status.packets;
    assert_eq!(received + dropped, sent);
    assert!(dropped <= sent / 100, "{dropped} of {sent} were lost");
    status
}

/// The calls are in this order, others between them.
#[track_caller]
fn in_order(asked: &str, expected: &[&str]) {
    let mut rest = asked.lines();
    for call in expected {
        assert!(rest.any(|line| line == *call), "`{call}` is missing or out of order: {asked}");
    }
}

#[test]
fn the_librarys_double_is_counted_to_the_last_packet_in_both_directions() {
    let (status, asked) = counts("pfrlib", Way::Library, "", "threads = 1");
    let by = format!("`{}` (libpfring 8.9.0)", Double::Whole.path().display());
    assert_eq!(status.engine_reason, format!("it is named in the configuration; PF_RING by {by}"));
    let calls =
        ["open in0 256 0", "name fastnetmon", "direction 0", "mode 2", "watermark 1", "enable"];
    in_order(&asked, &calls);
    assert!(!asked.contains("cluster") && !asked.contains("blocking"), "{asked}");
}

#[test]
fn every_release_of_the_librarys_double_is_read_by_the_fields_that_never_moved() {
    for (version, header, opened, tried) in [
        // Its short header does not say which way a packet goes.
        ("6.0.3", 36, "open in0 256 4", true),
        ("7.4.0", 45, "open in0 256 0", true),
        ("9.2.0", 48, "open in0 256 0", false),
    ] {
        let script = format!("version={version} header={header}");
        let label = format!("pfrl{header}");
        let (_, asked) = counts(&label, Way::Library, &script, "threads = 1");
        in_order(&asked, &[opened, "enable"]);
        let untried = format!("(libpfring {version}) is of a release that was never tried");
        assert_eq!(asked.contains(&untried), !tried, "{asked}");
    }
}

#[test]
fn threads_share_the_packets_of_the_librarys_double_by_a_cluster() {
    let (_, asked) = counts("pfrlibs", Way::Library, "", "threads = 3");
    assert_eq!(asked.matches("open in0 256 0").count(), 3);
    assert_eq!(asked.matches("cluster 71 2\n").count(), 3);
    // All are in the cluster before the first one takes packets.
    let (before, _) = asked.split_once("enable\n").unwrap();
    assert_eq!(before.matches("cluster 71 2\n").count(), 3, "{asked}");
}

#[test]
fn a_library_double_without_anything_optional_counts_the_same() {
    let lab = Lab::new("pfrbare").unwrap();
    let folder = Folder::new();
    let log = folder.path("calls");
    let library = Double::Bare.path().display();
    let capture = format!(
        "engine = \"pf_ring\"\nthreads = 1\n[capture.pf_ring]\naccess = \"library\"\n\
         library = \"{library}\""
    );
    let setup = Setup { capture: &capture, ..Setup::default() };
    let agent = start(&lab, &Way::Library.by("", Some(&log)), &setup, "in0");
    let mut sender = lab.sender_outside().unwrap();
    let frame = Frame::udp(WORLD4, ours4(1), 1, 2);
    sender.send(&Pool::new([frame]), 5_000, Pace::Pps(20_000)).unwrap();
    let Status { totals, packets, .. } = all_or_told(&agent, 5_000);
    assert_eq!(totals.incoming.packets + packets.dropped, 5_000);
    // It does not tell its release: the header that was long enough in all of them.
    assert!(folder.read("calls").contains("open in0 256 4\n"));
    assert!(agent.log().contains("is of a release that was never tried"), "{}", agent.log());
}

#[test]
fn the_modules_double_is_counted_in_every_layout_that_is_known() {
    for (version, slots, header, tested) in [
        ("8.9.0", 21, 48, true),
        ("8.4.0", 20, 48, false),
        ("7.8.0", 18, 48, false),
        ("7.4.0", 17, 45, false),
        ("6.6.0", 16, 48, false),
        ("6.0.3", 16, 36, false),
    ] {
        let script = format!("version={version} slots={slots} header={header}");
        let label = format!("pfr{slots}h{header}");
        let (status, asked) = counts(&label, Way::Socket, &script, "threads = 1");
        assert_eq!(
            status.engine_reason,
            format!(
                "it is named in the configuration; PF_RING {version} (slot version {slots}) by its \
                 kernel socket"
            )
        );
        let untested = format!("PF_RING {version} (slot version {slots}): layout not tested");
        assert_eq!(asked.contains(&untested), !tested, "{asked}");
        let bind = if slots >= 20 { "bind 20" } else { "bind 16" };
        let calls = [
            "socket 524291 768",
            "option 107 [0, 1, 0, 0]",
            bind,
            "option 108 [255, 255, 255, 255, 255, 255, 255, 255]",
            "map 4096",
            "option 111 [0, 0, 0, 0]",
            "option 126 [2, 0, 0, 0]",
            "option 117 [1, 0]",
            "option 106 [1]",
        ];
        in_order(&asked, &calls);
        let sockets = if header == 36 { 2 } else { 1 };
        assert_eq!(asked.matches("socket 524291 768").count(), sockets, "{asked}");
    }
}

#[test]
fn threads_share_the_packets_of_the_modules_double_by_a_cluster() {
    let more = "threads = 3";
    let (_, asked) = counts("pfrsocks", Way::Socket, "", more);
    let (before, _) = asked.split_once("option 106 [1]\n").unwrap();
    let cluster = "option 99 [71, 0, 0, 0, 2, 0, 0, 0]\n";
    assert_eq!(before.matches(cluster).count(), 3, "{asked}");
}

#[test]
fn what_finds_no_room_is_told_to_the_last_packet() {
    const SENT: u64 = 300_000;
    for way in Way::BOTH {
        let lab = Lab::new(&format!("pfrover{}", way.name())).unwrap();
        let capture = way.capture("threads = 2");
        let setup = Setup { capture: &capture, ..Setup::default() };
        let agent = start(&lab, &way.by("", None), &setup, "in0");
        let signal = |name: &str| {
            let number = agent.id().to_string();
            assert!(Command::new("kill").args([name, &number]).status().unwrap().success());
        };
        let before = lab.statistics_inside().unwrap();
        let mut sender = lab.sender_outside().unwrap();
        let frames = || {
            Pool::new((1..=100).map(|h| Frame::udp(WORLD4, ours4(h), u16::from(h), 2).payload(72)))
        };
        signal("-STOP");
        sender.send(&frames(), SENT, Pace::Full).unwrap();
        signal("-CONT");
        let after = lab.statistics_inside().unwrap();
        assert_eq!(after.rx_packets - before.rx_packets, SENT);
        let all = |packets: &Packets| packets.received + packets.dropped;
        let packets = wait("all of them to be counted or told", || {
            Some(agent.status().packets).filter(|packets| all(packets) >= SENT)
        });
        assert!(packets.dropped > SENT / 10, "{packets:?}");
        assert!(packets.received > 1_000, "{packets:?}");
        // And goes on exactly.
        sender.send(&frames(), 5_000, Pace::Pps(20_000)).unwrap();
        let status = agent.settled(packets.received + 5_000);
        assert_eq!(all(&status.packets), SENT + 5_000, "{:?}", status.packets);
        eprintln!("{way:?}: {:?}", status.packets);
        assert_eq!(status.totals.incoming.packets, status.packets.received);
    }
}

#[test]
fn a_small_ring_of_the_modules_double_overflows_under_load_and_tells_it_all() {
    const SENT: u64 = 300_000;
    let lab = Lab::new("pfrring").unwrap();
    let capture = Way::Socket.capture("threads = 1");
    let setup = Setup { capture: &capture, ..Setup::default() };
    let agent = start(&lab, &Way::Socket.by("ring=8", None), &setup, "in0");
    let mut sender = lab.sender_outside().unwrap();
    let frame = Frame::udp(WORLD4, VICTIM, 1, 2).payload(200);
    sender.send(&Pool::new([frame]), SENT, Pace::Full).unwrap();
    let all = |packets: &Packets| packets.received + packets.dropped;
    let packets = wait("all of them to be counted or told", || {
        Some(agent.status().packets).filter(|packets| all(packets) >= SENT)
    });
    assert_eq!(all(&packets), SENT, "{packets:?}");
    assert!(packets.dropped > 0, "{packets:?}");
    eprintln!("{packets:?}");
}

#[test]
fn what_offload_will_cut_into_full_packets_is_counted_to_the_segment() {
    for way in Way::BOTH {
        let lab = Lab::new(&format!("pfrgso{}", way.name())).unwrap();
        let capture = way.capture("threads = 1");
        let setup = Setup { capture: &capture, ..Setup::default() };
        let agent = start(&lab, &way.by("", None), &setup, "in0");
        send_in_pieces(&lab, 1472, 14_820);
        let outgoing = agent.settled(1_100).totals.outgoing;
        assert_eq!((outgoing.packets, outgoing.bytes), (1_100, 100 * (14_820 + 11 * 28)));
    }
}

#[track_caller]
fn banned_and_let_go(way: Way, direction: control::Way) {
    let lab = Lab::new(&format!("pfrban{}", way.name())).unwrap();
    let rest = "[thresholds]\npps = 30000\n[ban]\ntime_secs = 2\n";
    let capture = way.capture("threads = 2");
    let setup = Setup { hook: RECORDER, rest, capture: &capture, ..Setup::default() };
    let agent = start(&lab, &way.by("", None), &setup, "in0");
    let sender = match direction {
        control::Way::Incoming => lab.sender_outside(),
        control::Way::Outgoing => lab.sender_inside(),
    };
    sender.unwrap().send(&flood(direction), 120_000, Pace::Pps(60_000)).unwrap();
    is_banned_told_and_let_go(&agent, direction, Attacks::One);
}

#[test]
fn a_flood_is_banned_told_with_a_hundred_packets_and_let_go() {
    banned_and_let_go(Way::Library, control::Way::Incoming);
    banned_and_let_go(Way::Socket, control::Way::Incoming);
}

#[test]
fn an_outgoing_attack_is_found_on_its_way_out() {
    banned_and_let_go(Way::Library, control::Way::Outgoing);
    banned_and_let_go(Way::Socket, control::Way::Outgoing);
}

#[test]
fn a_mirror_port_is_promiscuous_counts_both_ends_and_is_left_clean() {
    for (way, asked) in
        [(Way::Library, "open in0 256 8\n"), (Way::Socket, "option 111 [1, 0, 0, 0]\n")]
    {
        let lab = Lab::new(&format!("pfrmir{}", way.name())).unwrap();
        let folder = Folder::new();
        let log = folder.path("calls");
        let capture = way.capture("role = \"mirror\"\nthreads = 2");
        let setup = Setup { capture: &capture, ..Setup::default() };
        let mut agent = start(&lab, &way.by("", Some(&log)), &setup, "in0");
        assert_eq!(promiscuity(&lab), 2);
        assert!(folder.read("calls").contains(asked), "{}", folder.read("calls"));
        let mut outside = lab.sender_outside().unwrap();
        let mut inside = lab.sender_inside().unwrap();
        let frames = [
            Frame::udp(WORLD4, ours4(1), 1, 2),
            Frame::udp(ours4(1), WORLD4, 1, 2),
            Frame::udp(ours4(1), ours4(2), 1, 2),
        ];
        outside.send(&Pool::new(frames), 3_000, Pace::Pps(20_000)).unwrap();
        let leaving = Frame::udp(ours4(1), WORLD4, 1, 2).outwards();
        inside.send(&Pool::new([leaving]), 100, Pace::Pps(10_000)).unwrap();
        let Status { totals, packets, .. } = all_or_told(&agent, 3_000);
        let kinds = [totals.incoming, totals.outgoing, totals.internal].map(|kind| kind.packets);
        let lost = packets.dropped;
        assert_eq!(kinds.iter().sum::<u64>() + lost, 3_000, "{kinds:?}");
        assert!(kinds.iter().all(|packets| (1_000 - lost..=1_000).contains(packets)), "{kinds:?}");
        agent.end(Signal::Kill);
        wait("promiscuous mode to end", || (promiscuity(&lab) == 0).then_some(()));
    }
}

#[test]
fn a_port_that_comes_back_is_seen_again_made_anew_or_not() {
    for way in Way::BOTH {
        let lab = Lab::new(&format!("pfrback{}", way.name())).unwrap();
        lay_cable(&lab);
        let capture = way.capture("threads = 2");
        let setup = Setup { capture: &capture, ..Setup::default() };
        let agent = start(&lab, &way.by("", None), &setup, "p0");
        let pool = Pool::new((1..=50).map(|h| Frame::udp(WORLD4, ours4(h), u16::from(h), 2)));
        let alarms = go_and_come_back(&lab, &agent, &pool);
        let expected =
            "The capture is broken: engine `pf_ring`: interface `p0`: it is down or gone.";
        assert!(alarms.iter().any(|alarm| alarm == expected), "{alarms:?}");
    }
}

#[test]
fn a_ring_that_tells_nonsense_is_let_go_opened_again_and_what_it_held_is_told() {
    let lab = Lab::new("pfrspoil").unwrap();
    let folder = Folder::new();
    let log = folder.path("calls");
    let capture = Way::Socket.capture("threads = 1");
    let setup = Setup { capture: &capture, ..Setup::default() };
    let agent = start(&lab, &Way::Socket.by("spoil=1000", Some(&log)), &setup, "in0");
    let mut sender = lab.sender_outside().unwrap();
    let mut sent = 0;
    let mut send = |packets| {
        let frame = Frame::udp(WORLD4, VICTIM, 1, 2);
        sender.send(&Pool::new([frame]), packets, Pace::Pps(20_000)).unwrap();
        sent += packets;
        wait("all of them to be counted or told", || {
            let Packets { received, dropped, .. } = agent.status().packets;
            (received + dropped >= sent).then_some(sent)
        })
    };
    // The thousandth that the double has is spoilt; what its own socket loses it never had. One at
    // a time towards it, as what comes while the ring is opened again is seen by nobody.
    send(999);
    wait("the ring to be spoilt", || {
        let spoilt = agent.log().contains("its ring is spoilt");
        if !spoilt {
            send(1);
        }
        spoilt.then_some(())
    });
    wait("the ring to be opened again", || {
        agent.log().contains("The capture works again.").then_some(())
    });
    let log = agent.log();
    let reason = "interface `in0`: its ring is spoilt: it tells of a packet of 4294967295 bytes, which \
                  is more than a slot holds";
    assert!(log.contains(reason), "{log}");
    let sent = send(1_000);
    assert!(all_or_told(&agent, sent).packets.dropped >= 1, "what the spoilt ring held is told");
    assert_eq!(folder.read("calls").matches("option 106").count(), 2);
}

#[test]
fn devices_that_only_the_library_knows_are_opened_by_it() {
    let lab = Lab::new("pfrzc").unwrap();
    let library = Double::Whole.path().display();
    let capture =
        format!("engine = \"pf_ring\"\nthreads = 1\n[capture.pf_ring]\nlibrary = \"{library}\"");
    let setup = Setup { capture: &capture, ..Setup::default() };
    let agent = start(&lab, &Way::Library.by("", None), &setup, "zc:in0");
    let mut sender = lab.sender_outside().unwrap();
    let frame = Frame::udp(WORLD4, ours4(1), 1, 2);
    sender.send(&Pool::new([frame]), 1_000, Pace::Pps(20_000)).unwrap();
    let status = all_or_told(&agent, 1_000);
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
}

/// An agent that refuses to start says so, and nothing is left.
#[track_caller]
fn refused(lab: &Lab, by: &[String], capture: &str, interface: &str, expected: &str) {
    let folder = Folder::new();
    let config = configure(&folder, &Setup { capture, ..Setup::default() });
    let by: Vec<&str> = by.iter().map(String::as_str).collect();
    let output = command_by(lab, &by, &config, interface).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(expected), "`{expected}` is not in: {text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(!folder.path("control.sock").exists());
}

#[test]
fn refusals_name_the_thing_and_the_remedy() {
    let lab = Lab::new("pfrno").unwrap();
    let (library, socket) = (Way::Library, Way::Socket);
    let named =
        |access: &str| format!("engine = \"pf_ring\"\n[capture.pf_ring]\naccess = \"{access}\"");
    let no_module = "interface `in0`: cannot open it by PF_RING's socket: PF_RING's kernel module is not \
                     loaded: `modprobe pf_ring`, or take another `engine` (Address family not supported \
                     by protocol (os error 97))";
    // The kernel's own word, unless a module is loaded here; and the double's.
    if !Path::new("/proc/net/pf_ring").exists() {
        refused(&lab, &[], &named("socket"), "in0", no_module);
        refused(&lab, &[], &named("auto"), "in0", no_module);
    }
    refused(&lab, &socket.by("fails=97", None), &named("auto"), "in0", no_module);
    let double = Double::Whole.path().display();
    let open = format!(
        "interface `in0`: cannot open it by libpfring: `pfring_open` of `{double}` (libpfring 8.9.0) says"
    );
    for (script, says) in [
        (
            "fails=97",
            "Address family not supported by protocol (os error 97); PF_RING's kernel module is not \
             loaded: `modprobe pf_ring`, or take another `engine`",
        ),
        (
            "fails=1",
            "Operation not permitted (os error 1); it needs CAP_NET_RAW, and of older modules CAP_NET_ADMIN",
        ),
        (
            "mismatch",
            "Invalid argument (os error 22); either the kernel module is of another release than the \
             library (`/proc/net/pf_ring/info`), or the device is not one of PF_RING's",
        ),
    ] {
        let capture = library.capture("");
        refused(&lab, &library.by(script, None), &capture, "in0", &format!("{open} {says}"));
    }
    // The module tells its own release: then we know.
    let by = socket.by("version=8.4.0 slots=20 library=8.9.0 mismatch", None);
    let says = "Invalid argument (os error 22); libpfring 8.9.0 speaks slot version 21 and the kernel \
                module is PF_RING 8.4.0 (slot version 20): install library and module of the same release";
    refused(&lab, &by, &library.capture(""), "in0", &format!("{open} {says}"));
    refused(
        &lab,
        &[],
        &named("library"),
        "in0",
        "interface `in0`: cannot open it by libpfring: there is no libpfring: tried libpfring.so.9, \
         /usr/lib/libpfring.so.9, /usr/local/lib/libpfring.so.9, /opt/pf_ring/lib/libpfring.so.9, \
         libpfring.so.8",
    );
    let wrong =
        "engine = \"pf_ring\"\n[capture.pf_ring]\naccess = \"library\"\nlibrary = \"libc.so.6\"";
    refused(
        &lab,
        &[],
        wrong,
        "in0",
        "`libc.so.6` has no function `pfring_open`: it is no libpfring, or not from 6.0.3 or later",
    );
    // It names functions that nobody brings: it opens because it is bound lazily.
    let at_once = [library.by("", None), vec!["LD_BIND_NOW=1".to_owned()]].concat();
    let says = format!(
        "cannot open it by libpfring: `{double}` does not open: {double}: undefined \
                        symbol: pcap_that_nobody_brings"
    );
    refused(&lab, &at_once, &library.capture(""), "in0", &says);
    let capture = library.capture("");
    refused(
        &lab,
        &library.by("version=5.6.2", None),
        &capture,
        "in0",
        &format!("`{double}` is libpfring 5.6.2: 6.0.3 or later is needed"),
    );
    let unknown = "interface `in0`: cannot open it by PF_RING's socket: the kernel module's rings are of \
                   slot version 19; 16, 17, 18, 20 and 21 are known here, on x86_64: install libpfring \
                   and set `access = \"library\"` in `[capture.pf_ring]`";
    refused(&lab, &socket.by("version=8.1.0 slots=19", None), &named("socket"), "in0", unknown);
    let turned = "interface `in0`: cannot open it by PF_RING: by its socket: interface `in0`: cannot open \
                  it by PF_RING's socket: the kernel module's rings are of slot version 22";
    refused(&lab, &socket.by("version=9.3.0 slots=22", None), &named("auto"), "in0", turned);
    refused(
        &lab,
        &socket.by("fails=1", None),
        &named("socket"),
        "in0",
        "it needs CAP_NET_RAW, and of older modules CAP_NET_ADMIN (Operation not permitted (os error 1))",
    );
    refused(
        &lab,
        &[],
        &named("socket"),
        "zc:in0",
        "interface `zc:in0`: cannot open it by PF_RING's socket: only libpfring knows such devices: set \
         `access = \"library\"` in `[capture.pf_ring]`",
    );
    refused(
        &lab,
        &[],
        &named("auto"),
        "eth9",
        "interface `eth9` does not exist; there are: in0, lo",
    );
    let none = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-all"].map(str::to_owned);
    refused(&lab, &none, &named("auto"), "in0", "not permitted: CAP_NET_RAW missing");
}

#[test]
fn rings_that_are_not_known_here_are_left_to_the_library() {
    let lab = Lab::new("pfrturn").unwrap();
    let library = Double::Whole.path();
    let capture = turning(library);
    let setup = Setup { capture: &capture, ..Setup::default() };
    let agent = start(&lab, &Way::Socket.by("version=9.3.0 slots=22", None), &setup, "in0");
    let mut sender = lab.sender_outside().unwrap();
    let frame = Frame::udp(WORLD4, ours4(1), 1, 2);
    sender.send(&Pool::new([frame]), 1_000, Pace::Pps(20_000)).unwrap();
    let status = all_or_told(&agent, 1_000);
    assert_eq!(
        status.engine_reason,
        format!(
            "it is named in the configuration; PF_RING 9.3.0 (slot version 22) by `{}` (libpfring \
             9.3.0)",
            library.display()
        )
    );
}

fn turning(library: &Path) -> String {
    let library = library.display();
    format!("engine = \"pf_ring\"\nthreads = 2\n[capture.pf_ring]\nlibrary = \"{library}\"")
}

#[test]
fn a_module_that_hides_what_leaves_is_warned_of() {
    let lab = Lab::new("pfrhide").unwrap();
    let capture = Way::Socket.capture("");
    let setup = Setup { capture: &capture, ..Setup::default() };
    let agent = start(&lab, &Way::Socket.by("rx_only", None), &setup, "in0");
    let log = agent.log();
    let expected =
        "PF_RING's kernel module was loaded with `enable_tx_capture=0`: what leaves is not seen";
    assert!(log.contains(expected), "{log}");
}

#[test]
fn auto_takes_pf_ring_where_xdp_does_not_run_and_its_module_is_loaded() {
    let lab = Lab::new("pfrauto").unwrap();
    let setup = Setup { capture: "engine = \"auto\"", ..Setup::default() };
    let agent = start(&lab, &Way::Socket.by("", None), &setup, "in0,lo");
    let status = agent.status();
    assert_eq!(status.engine, "pf_ring");
    let (because, loaded) = (
        "the driver of `lo` does not run XDP natively",
        "; PF_RING 8.9.0 (slot version 21) by its kernel socket",
    );
    assert!(status.engine_reason.starts_with(because), "{}", status.engine_reason);
    assert!(status.engine_reason.ends_with(loaded), "{}", status.engine_reason);
    let log = agent.log();
    assert_eq!(log.matches("The engine is chosen.").count(), 1, "{log}");
    drop(agent);
    // A module that cannot be used is said, and packet sockets do it.
    let agent = start(&lab, &Way::Socket.by("slots=19", None), &setup, "in0,lo");
    let status = agent.status();
    assert_eq!(status.engine, "af_packet");
    let says = "PF_RING 8.9.0 (slot version 19) is loaded and cannot be used: interface `in0`: cannot open \
                it by PF_RING";
    assert!(status.engine_reason.contains(says), "{}", status.engine_reason);
    drop(agent);
    // And natively, XDP goes before it.
    let agent = start(&lab, &Way::Socket.by("", None), &setup, "in0");
    assert_eq!(agent.status().engine, "xdp");
}
