//! Findings on recorded facts: a healthy house, and one thing wrong at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::gather::{available, chosen, interpreter_in, process_in, softnet_in};
use super::*;
use crate::capture::{EngineName, RoleName};
use crate::control::{self, Severity, Status, Totals, Traffic};
use crate::kernel::{Counted, Described, Knob, Setting, Xdp};
use crate::model::Prefix;
use crate::networks::PrefixSet;

fn prefix(text: &str) -> Prefix {
    Prefix::parse_masked(text).unwrap().0
}

fn traffic(packets: u64) -> Traffic {
    Traffic { packets, ..Traffic::default() }
}

fn status(packets: u64) -> Status {
    Status {
        version: "0.1.0".to_owned(),
        engine: "xdp".to_owned(),
        engine_reason: "it is named in the configuration".to_owned(),
        role: "uplink".to_owned(),
        interfaces: vec!["eth0".to_owned()],
        uptime_secs: 60,
        totals: Totals {
            incoming: traffic(packets / 2),
            outgoing: traffic(packets / 2),
            ..Totals::default()
        },
        packets: control::Packets { received: packets, ..control::Packets::default() },
        tick_micros: 900,
        ..Status::default()
    }
}

/// A host on which nothing is wrong.
fn healthy() -> Facts {
    let knobs = [
        (Knob::Combined, Setting { now: 4, most: 8 }),
        (Knob::ReceiveRing, Setting { now: 4096, most: 8192 }),
        (Knob::Lro, Setting { now: 0, most: 1 }),
        (Knob::Gro, Setting { now: 1, most: 1 }),
        (Knob::ReceiveVlan, Setting { now: 0, most: 1 }),
    ];
    let counted = Counted { received: 10_000, sent: 9_000, ..Counted::default() };
    let file = File { mode: 0o100_755, uid: 0, gid: 0 };
    Facts {
        wanted: Wanted {
            file: PathBuf::from("/etc/fastnetmon.conf"),
            text: "[capture]\nengine = \"xdp\"\nrole = \"uplink\"\n[ban]\nenabled = true\n"
                .to_owned(),
            error: None,
            engine: EngineName::Xdp,
            role: RoleName::Uplink,
            interfaces: vec!["eth0".to_owned()],
            tick: Duration::from_secs(1),
            nflog_group: 1,
            nflog_rules: vec!["nft add table inet fastnetmon".to_owned()],
            networks: Networks {
                list: PathBuf::from("/etc/networks_list"),
                error: None,
                ours: PrefixSet::merged(["192.0.2.0/24", "2001:db8::/32"].map(prefix)).0,
                ends_with_line: true,
            },
            table_bytes: Ok(50_000_000),
            script: PathBuf::from("/usr/local/bin/notify_about_attack.sh"),
            journal: PathBuf::from("/var/lib/fastnetmon/journal"),
            attack_log: None,
            packets: None,
            socket: PathBuf::from("/run/fastnetmon/control.sock"),
            socket_group: Some(998),
            bans: true,
        },
        ports: vec![Port {
            name: "eth0".to_owned(),
            described: Some(Described {
                index: 2,
                up: true,
                carrier: true,
                state: "UP".to_owned(),
                mtu: 1500,
                promiscuity: 0,
                driver: Some("ixgbe".to_owned()),
                kind: None,
                xdp: Some(Xdp { mode: "native", id: 7, name: Some("xdp_uplink".to_owned()) }),
                runs_xdp: Some(true),
                counted,
            }),
            gained: Counted { received: 1000, sent: 900, ..Counted::default() },
            knobs: knobs.into_iter().collect(),
            losses: Vec::new(),
        }],
        there: vec!["eth0".to_owned(), "lo".to_owned()],
        agent: Agent::Answers(Box::new(Answer {
            before: status(10_000),
            after: status(12_000),
            networks: Some(control::Networks {
                guarded: 2,
                looked_at: 2,
                ..control::Networks::default()
            }),
        })),
        look: Look { blind: None, packets: 1900, ours: 1900, outside: Vec::new() },
        script: Script { file: Some(file), interpreter: Some((PathBuf::from("/bin/sh"), true)) },
        folders: vec![Folder {
            what: "the journal of bans",
            path: PathBuf::from("/var/lib/fastnetmon"),
            file: Some(File { mode: 0o040_750, uid: 998, gid: 998 }),
            is_made: false,
            is_read_only: false,
            free: 5 << 30,
            size: 50 << 30,
        }],
        process: Some(Process {
            is_agent: true,
            pid: 4711,
            uid: 998,
            gid: 998,
            groups: vec![998],
            missing: Vec::new(),
            overrides: false,
            open_files: Some(524_288),
            locked_memory: None,
        }),
        system: System {
            release: "6.18.44".to_owned(),
            refusal: None,
            remarks: Vec::new(),
            bpf_jit: Some(1),
            lockdown: Some("none".to_owned()),
            cpus: 4,
            memory: Some(8_000_000_000),
            softnet: Softnet { dropped: 0, squeezed: 12 },
            softnet_gained: Softnet::default(),
            unix_secs: 1_795_000_000,
            clock_kept: Some(true),
            logged: None,
            pf_ring: None,
        },
        span: Duration::from_secs(2),
    }
}

fn no_agent(facts: &mut Facts) {
    facts.agent = Agent::Nobody("nobody answers at `/run/x`".to_owned());
    let process = facts.process.as_mut().unwrap();
    (process.is_agent, process.uid, process.overrides) = (false, 0, true);
    facts.ports[0].described.as_mut().unwrap().xdp = None;
}

fn described(facts: &mut Facts) -> &mut Described {
    facts.ports[0].described.as_mut().unwrap()
}

fn answer(facts: &mut Facts) -> &mut Answer {
    match &mut facts.agent {
        Agent::Answers(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn knob(facts: &mut Facts, knob: Knob, now: u32) {
    facts.ports[0].knobs.get_mut(&knob).unwrap().now = now;
}

#[test]
fn nothing_is_wrong_with_a_healthy_house() {
    let findings = examine(&healthy());
    let wrong: Vec<_> = findings.iter().filter(|finding| finding.severity > Severity::Ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(findings.len() > 20);
    assert_eq!(exit_code(worst(&findings)), 0);
    assert_eq!(summary(&findings), "nothing is wrong");
}

/// Spoils one thing. Exactly the expected finding must get that bad, with these words in what was
/// seen and these in the commands.
#[track_caller]
fn check(spoil: impl Fn(&mut Facts), id: Id, severity: Severity, seen: &str, mend: &str) {
    let mut facts = healthy();
    spoil(&mut facts);
    let findings = examine(&facts);
    let found = findings.iter().filter(|finding| finding.id == id.name());
    let found: Vec<_> = found.filter(|finding| finding.severity == severity).collect();
    assert!(!found.is_empty(), "no {severity:?} of {}: {findings:#?}", id.name());
    assert!(
        found.iter().any(|finding| finding.seen.contains(seen)
            && (mend.is_empty() || finding.mend.iter().any(|line| line.contains(mend)))),
        "{found:#?}"
    );
    // A warning without a way out is no use.
    for finding in &findings {
        let needs = finding.severity >= Warning;
        assert!(!needs || !finding.mend.is_empty(), "{finding:#?}");
        assert!(finding.mend.iter().all(|line| !line.contains('\n')), "{finding:#?}");
    }
    assert!(worst(&findings) >= severity);
}

use Severity::{Failure, Note, Warning};

#[test]
fn the_configuration_and_the_networks() {
    let bad = |facts: &mut Facts| facts.wanted.error = Some("Line 3: unknown field".to_owned());
    check(
        bad,
        Id::Configuration,
        Failure,
        "Line 3",
        "fastnetmon check --config /etc/fastnetmon.conf",
    );
    let none = |facts: &mut Facts| {
        facts.wanted.networks.error = Some("No such file".to_owned());
        facts.wanted.networks.ours = PrefixSet::default();
    };
    check(none, Id::NetworksList, Failure, "No such file", ">> /etc/networks_list");
    let empty = |facts: &mut Facts| facts.wanted.networks.ours = PrefixSet::default();
    check(empty, Id::NetworksList, Failure, "no network", ">> /etc/networks_list");
    let large =
        |facts: &mut Facts| facts.wanted.table_bytes = Err("the tables would take".to_owned());
    check(large, Id::TableMemory, Failure, "would take", "max_table_mb = 4096");
    let little = |facts: &mut Facts| {
        no_agent(facts);
        facts.system.memory = Some(10_000_000);
    };
    check(little, Id::TableMemory, Warning, "50 MB and programs can have 10 MB", "free -m");
    let off = |facts: &mut Facts| facts.wanted.bans = false;
    check(off, Id::Bans, Note, "Nobody is judged", "s|^enabled *=.*|enabled = true|");
}

#[test]
fn the_agent() {
    check(no_agent, Id::Agent, Failure, "No agent is running", "systemctl enable --now fastnetmon");
    let forbidden = |facts: &mut Facts| facts.agent = Agent::Forbidden("not permitted".to_owned());
    check(forbidden, Id::Agent, Failure, "not permitted", "usermod -aG fastnetmon");
    let foreign = |facts: &mut Facts| facts.agent = Agent::Foreign("version 3".to_owned());
    check(foreign, Id::Agent, Failure, "version 3", "systemctl restart fastnetmon");
    let lost = |facts: &mut Facts| facts.agent = Agent::Lost("it went away".to_owned());
    check(lost, Id::Agent, Failure, "went away", "journalctl -u fastnetmon");
    let alarm =
        |facts: &mut Facts| answer(facts).after.alarms = vec!["The fuse is blown: 3.".to_owned()];
    check(alarm, Id::Alarm, Warning, "The fuse is blown", "fastnetmon resume");
    let blind = |facts: &mut Facts| {
        answer(facts).after.alarms =
            vec!["Interface `eth0` was deleted and made anew: x".to_owned()];
    };
    check(blind, Id::Alarm, Failure, "made anew", "systemctl restart fastnetmon");
    let lossy = |facts: &mut Facts| answer(facts).after.packets.dropped = 100;
    check(
        lossy,
        Id::Loss,
        Warning,
        "100 packets were lost while we looked, 4.76 %",
        "fastnetmon tune --apply",
    );
    let once = |facts: &mut Facts| {
        answer(facts).before.packets.dropped = 3;
        answer(facts).after.packets.dropped = 3;
    };
    check(once, Id::Loss, Note, "3 of 12000 packets", "");
    let slow = |facts: &mut Facts| answer(facts).after.tick_micros = 600_000;
    check(slow, Id::Tick, Warning, "600000 µs", "tick_ms = 1000");
    let busy = |facts: &mut Facts| answer(facts).after.tick_micros = 150_000;
    check(busy, Id::Tick, Note, "150000 µs", "");
}

#[test]
fn frames_that_cannot_be_read_are_told_by_reason() {
    let nested = |facts: &mut Facts| answer(facts).after.packets.unparsed.nested = 2000;
    check(nested, Id::Unparsed, Warning, "2000 of 12000 frames", "fastnetmon explain frames.pcap");
    check(nested, Id::Unparsed, Warning, "three VLAN tags", "tcpdump -i eth0");
    let few = |facts: &mut Facts| answer(facts).after.packets.unparsed.not_ip = 20;
    check(few, Id::Unparsed, Note, "LLDP", "");
    let short = |facts: &mut Facts| answer(facts).after.packets.unparsed.short = 1;
    check(short, Id::Unparsed, Note, "end before their IP header", "");
    let version = |facts: &mut Facts| answer(facts).after.packets.unparsed.version = 1;
    check(version, Id::Unparsed, Note, "contradicts", "");
    let arp = |facts: &mut Facts| answer(facts).after.packets.unparsed.arp = 9000;
    check(arp, Id::Unparsed, Severity::Ok, "All but 9000 ARP frames", "");
}

fn blind(facts: &mut Facts) {
    let answer = answer(facts);
    answer.before = answer.after.clone();
}

#[test]
fn an_agent_that_sees_nothing_where_the_port_counts() {
    check(
        blind,
        Id::Packets,
        Failure,
        "1900 frames passed eth0 in 2.0 s and the agent counted none",
        "systemctl restart",
    );
    let bare = |facts: &mut Facts| {
        blind(facts);
        described(facts).xdp = None;
    };
    check(bare, Id::Packets, Failure, "no XDP program hangs on eth0", "");
    let broken = |facts: &mut Facts| {
        blind(facts);
        answer(facts).after.alarms = vec!["The capture is broken: no ring.".to_owned()];
    };
    check(broken, Id::Packets, Failure, "it says: The capture is broken: no ring", "");
    let by_rules = |facts: &mut Facts| {
        blind(facts);
        answer(facts).after.engine = "nflog".to_owned();
    };
    check(by_rules, Id::Packets, Failure, "no rule of the firewall", "");
    let quiet = |facts: &mut Facts| {
        blind(facts);
        facts.ports[0].gained = Counted::default();
    };
    check(quiet, Id::Packets, Note, "It is quiet", "");
    let never = |facts: &mut Facts| {
        quiet(facts);
        answer(facts).before = status(0);
        answer(facts).after = status(0);
    };
    check(never, Id::Packets, Warning, "traffic takes another interface", "ip -s link");
}

#[test]
fn packets_of_one_direction_only() {
    let one_way = |facts: &mut Facts| answer(facts).after.totals.outgoing = traffic(0);
    check(one_way, Id::Directions, Note, "may be a mirror", "role = \"mirror\"");
    let other_way = |facts: &mut Facts| answer(facts).after.totals.incoming = traffic(0);
    check(other_way, Id::Directions, Note, "Nothing incoming was ever seen", "ip -s link");
}

fn elsewhere(facts: &mut Facts) {
    for status in [(1000, true), (3000, false)] {
        let answer = answer(facts);
        let status_of = if status.1 { &mut answer.before } else { &mut answer.after };
        status_of.totals = Totals { other: traffic(status.0), ..Totals::default() };
    }
    facts.look = Look {
        blind: None,
        packets: 1000,
        ours: 0,
        outside: vec![
            Outside { prefix: prefix("198.51.100.0/24"), packets: 800 },
            Outside { prefix: prefix("2001:db9:1::/48"), packets: 150 },
            Outside { prefix: prefix("10.1.2.0/24"), packets: 50 },
        ],
    };
}

#[test]
fn networks_that_do_not_match_are_told_with_the_line_that_is_missing() {
    let add = "printf '198.51.100.0/24\\n' >> /etc/networks_list";
    check(elsewhere, Id::Match, Failure, "2000 of 2000 packets", add);
    check(
        elsewhere,
        Id::Match,
        Failure,
        "198.51.100.0/24 (80 %)",
        "printf '2001:db9:1::/48\\n' >>",
    );
    check(elsewhere, Id::Match, Failure, "touch none of the 2 networks", "fastnetmon reload");
    check(elsewhere, Id::PrivateRanges, Note, "10.1.2.0/24 (50 packets)", "");
    // Too few to be proposed.
    let findings = examine(&{
        let mut facts = healthy();
        elsewhere(&mut facts);
        facts
    });
    let found = findings.iter().find(|finding| finding.id == "match").unwrap();
    assert!(found.mend.iter().all(|line| !line.contains("10.1.2.0")), "{found:#?}");
    let unended = |facts: &mut Facts| {
        elsewhere(facts);
        facts.wanted.networks.ends_with_line = false;
        facts.wanted.socket = PathBuf::from("/tmp/a b/control.sock");
    };
    check(unended, Id::Match, Failure, "", "printf '\\n198.51.100.0/24\\n'");
    check(unended, Id::Match, Failure, "", "fastnetmon reload --socket '/tmp/a b/control.sock'");
    let some = |facts: &mut Facts| {
        elsewhere(facts);
        answer(facts).after.totals.incoming = traffic(500);
    };
    check(some, Id::Match, Warning, "2000 of 2500 packets", add);
    let cannot = |facts: &mut Facts| {
        elsewhere(facts);
        facts.look = Look { blind: Some("not permitted".to_owned()), ..Look::default() };
    };
    check(cannot, Id::Match, Failure, "not permitted", "sudo fastnetmon doctor");
    // Without an agent it is what we saw ourselves.
    let alone = |facts: &mut Facts| {
        elsewhere(facts);
        no_agent(facts);
    };
    check(alone, Id::Match, Failure, "1000 of 1000 packets (seen on the ports", add);
    let few = |facts: &mut Facts| {
        no_agent(facts);
        facts.look = Look { blind: Some("no rights".to_owned()), ..Look::default() };
    };
    check(few, Id::Match, Note, "no rights", "");
}

#[test]
fn networks_without_a_packet() {
    let silent = |facts: &mut Facts| {
        answer(facts).networks = Some(control::Networks {
            guarded: 9,
            looked_at: 8,
            silent: 5,
            first: ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]
                .map(ToOwned::to_owned)
                .to_vec(),
        });
    };
    let seen = "5 of 8 networks had no packet since the start: 10.0.0.0/24, 10.0.1.0/24, 10.0.2.0/24 and 2 more";
    check(silent, Id::SilentNetworks, Note, seen, "ip route show 10.0.0.0/24");
}

#[test]
fn interfaces() {
    let none = |facts: &mut Facts| facts.ports.clear();
    check(none, Id::Interface, Failure, "there are eth0, lo", "interfaces = [\"eth0\"]");
    let gone = |facts: &mut Facts| facts.ports[0].described = None;
    check(gone, Id::Interface, Failure, "no such interface", "ip -brief link");
    let down = |facts: &mut Facts| (described(facts).up, described(facts).carrier) = (false, false);
    check(down, Id::Link, Failure, "switched off (driver ixgbe)", "ip link set dev eth0 up");
    let unplugged = |facts: &mut Facts| described(facts).carrier = false;
    check(unplugged, Id::Link, Failure, "no carrier", "ethtool eth0");
    let odd = |facts: &mut Facts| {
        down(facts);
        facts.ports[0].name = "e;t$h".to_owned();
    };
    check(odd, Id::Link, Failure, "", "ip link set dev 'e;t$h' up");
}

#[test]
fn what_hangs_on_them() {
    let foreign = |facts: &mut Facts| {
        described(facts).xdp = Some(Xdp { mode: "native", id: 9, name: Some("xdp_lb".to_owned()) });
    };
    check(foreign, Id::Xdp, Failure, "`xdp_lb`, number 9", "ip link set dev eth0 xdpdrv off");
    let generic = |facts: &mut Facts| described(facts).xdp.as_mut().unwrap().mode = "generic";
    check(generic, Id::Xdp, Warning, "in the stack", "engine = \"xdp\"");
    let only_generic = |facts: &mut Facts| {
        generic(facts);
        described(facts).runs_xdp = Some(false);
    };
    check(only_generic, Id::Xdp, Note, "not known to run it", "");
    let bare = |facts: &mut Facts| described(facts).xdp = None;
    check(bare, Id::Xdp, Failure, "no XDP program hangs", "systemctl restart fastnetmon");
    let elsewhere = |facts: &mut Facts| {
        let xdp = described(facts).xdp.clone();
        no_agent(facts);
        described(facts).xdp = xdp;
    };
    check(elsewhere, Id::Xdp, Warning, "another agent runs, with another socket", "pgrep -a");
    let cannot = |facts: &mut Facts| {
        no_agent(facts);
        described(facts).runs_xdp = Some(false);
    };
    check(cannot, Id::Xdp, Failure, "does not run XDP natively", "engine = \"af_packet\"");
    let jumbo = |facts: &mut Facts| {
        no_agent(facts);
        described(facts).mtu = 9000;
    };
    check(jumbo, Id::Mtu, Failure, "The MTU is 9000", "xdp_generic");
    // What is attached fits.
    let fits = |facts: &mut Facts| described(facts).mtu = 9000;
    check(fits, Id::Mtu, Severity::Ok, "9000", "");
    let mirror = |facts: &mut Facts| facts.wanted.role = RoleName::Mirror;
    check(mirror, Id::Promiscuous, Warning, "promiscuity 0", "ip link set dev eth0 promisc on");
}

#[test]
fn how_they_are_set() {
    let single = |facts: &mut Facts| knob(facts, Knob::Combined, 1);
    check(single, Id::Queues, Warning, "1 queues receive for 4 CPUs", "ethtool -L eth0 combined 4");
    let two = |facts: &mut Facts| knob(facts, Knob::Combined, 2);
    check(two, Id::Queues, Note, "2 queues", "combined 4");
    let vlan = |facts: &mut Facts| knob(facts, Knob::ReceiveVlan, 1);
    check(vlan, Id::VlanOffload, Note, "before XDP sees", "ethtool -K eth0 rxvlan off");
    let lro = |facts: &mut Facts| knob(facts, Knob::Lro, 1);
    check(lro, Id::Lro, Warning, "LRO", "ethtool -K eth0 lro off");
    let gro = |facts: &mut Facts| answer(facts).after.engine = "pcap".to_owned();
    check(gro, Id::Gro, Warning, "the engine pcap", "ethtool -K eth0 gro off");
    let short = |facts: &mut Facts| knob(facts, Knob::ReceiveRing, 512);
    check(short, Id::Ring, Note, "512 frames of 8192", "ethtool -G eth0 rx 4096");
    let missing = |facts: &mut Facts| {
        short(facts);
        described(facts).counted.missed = 5;
    };
    check(missing, Id::Ring, Warning, "missed 5 so far", "ethtool -G eth0 rx 4096");
    let losing = |facts: &mut Facts| facts.ports[0].gained.missed = 40;
    check(
        losing,
        Id::Drops,
        Warning,
        "no room for 40 frames in 2.0 s",
        "fastnetmon tune --interface eth0",
    );
    let own = |facts: &mut Facts| {
        facts.ports[0].losses = vec![("rx_out_of_buffer".to_owned(), 9)];
    };
    check(
        own,
        Id::Drops,
        Warning,
        "(rx_out_of_buffer +9)",
        "fastnetmon tune --interface eth0 --apply",
    );
    let lost = |facts: &mut Facts| described(facts).counted.spoilt = 7;
    check(lost, Id::Drops, Note, "7 spoilt", "");
}

#[test]
fn the_script_and_the_folders() {
    let none = |facts: &mut Facts| facts.script = Script::default();
    check(none, Id::Script, Warning, "no script", "install -m 755");
    let plain = |facts: &mut Facts| facts.script.file.as_mut().unwrap().mode = 0o100_644;
    check(
        plain,
        Id::Script,
        Failure,
        "mode is 0644",
        "chmod 755 /usr/local/bin/notify_about_attack.sh",
    );
    // Root as well needs somebody's right to call it.
    let as_root = |facts: &mut Facts| {
        plain(facts);
        facts.process.as_mut().unwrap().overrides = true;
    };
    check(as_root, Id::Script, Failure, "may not call", "chmod 755");
    let others = |facts: &mut Facts| facts.script.file.as_mut().unwrap().mode = 0o100_700;
    check(others, Id::Script, Failure, "The agent (user 998) may not call it", "chmod 755");
    let by_group = |facts: &mut Facts| {
        facts.script.file = Some(File { mode: 0o100_750, uid: 0, gid: 998 });
    };
    check(by_group, Id::Script, Severity::Ok, "It can be called", "");
    let bare = |facts: &mut Facts| {
        facts.script.interpreter = Some((PathBuf::from("/bin/bash\r"), false));
    };
    check(bare, Id::Script, Failure, "there is none", "sed -i 's/\\r$//'");
    let foreign = |facts: &mut Facts| {
        facts.script.interpreter = Some((PathBuf::from("/usr/bin/python3"), false));
    };
    check(foreign, Id::Script, Failure, "there is none", "ls -l /usr/bin/python3");
    let folder = |facts: &mut Facts| facts.script.file.as_mut().unwrap().mode = 0o040_755;
    check(folder, Id::Script, Failure, "no file", "ls -ld");

    let gone = |facts: &mut Facts| facts.folders[0].file = None;
    check(
        gone,
        Id::Folder,
        Warning,
        "no such folder",
        "install -d -m 750 -o 998 /var/lib/fastnetmon",
    );
    let made = |facts: &mut Facts| (facts.folders[0].file, facts.folders[0].is_made) = (None, true);
    check(made, Id::Folder, Severity::Ok, "when the agent starts", "");
    let owned = |facts: &mut Facts| facts.folders[0].file.as_mut().unwrap().uid = 0;
    check(owned, Id::Folder, Failure, "may not write there", "chown 998 /var/lib/fastnetmon");
    let fixed = |facts: &mut Facts| facts.folders[0].is_read_only = true;
    check(fixed, Id::Folder, Failure, "takes no writes", "findmnt -T");
    let full = |facts: &mut Facts| facts.folders[0].free = 1 << 20;
    check(full, Id::Disk, Failure, "1 MB of 51200 MB", "du -xh /var/lib/fastnetmon");
    let little = |facts: &mut Facts| facts.folders[0].free = 100 << 20;
    check(little, Id::Disk, Warning, "100 MB", "du -xh");
}

#[test]
fn the_kernel_and_the_clock() {
    let old = |facts: &mut Facts| {
        no_agent(facts);
        facts.system.refusal = Some("the kernel is 4.19".to_owned());
    };
    check(old, Id::Kernel, Failure, "4.19", "engine = \"auto\"");
    let lesser = |facts: &mut Facts| facts.system.remarks = vec!["This kernel has no TCX."];
    check(lesser, Id::Kernel, Note, "no TCX", "");
    let slow = |facts: &mut Facts| facts.system.bpf_jit = Some(0);
    check(slow, Id::BpfJit, Warning, "interpreted", "sysctl -w net.core.bpf_jit_enable=1");
    let locked = |facts: &mut Facts| facts.system.lockdown = Some("confidentiality".to_owned());
    check(locked, Id::Lockdown, Note, "confidentiality", "");
    let early = |facts: &mut Facts| facts.system.unix_secs = 86_400;
    check(early, Id::Clock, Failure, "the year 1970", "timedatectl set-ntp true");
    let alone = |facts: &mut Facts| facts.system.clock_kept = Some(false);
    check(alone, Id::ClockKept, Note, "unsynchronised", "timedatectl");
    let losing = |facts: &mut Facts| facts.system.softnet_gained.dropped = 8;
    check(losing, Id::Softnet, Warning, "8 frames in 2.0 s", "netdev_max_backlog");
    let lost = |facts: &mut Facts| facts.system.softnet.dropped = 8;
    check(lost, Id::Softnet, Note, "lost 8 frames since", "");
}

#[test]
fn rights_and_limits() {
    let unprivileged = |facts: &mut Facts| {
        no_agent(facts);
        facts.process.as_mut().unwrap().missing = vec!["CAP_BPF", "CAP_NET_ADMIN"];
    };
    check(
        unprivileged,
        Id::Capabilities,
        Note,
        "has not got CAP_BPF, CAP_NET_ADMIN",
        "sudo fastnetmon doctor",
    );
    let few = |facts: &mut Facts| facts.process.as_mut().unwrap().open_files = Some(256);
    check(few, Id::OpenFiles, Warning, "may open 256 files", "LimitNOFILE=65536");
    let mirror = |facts: &mut Facts| {
        facts.wanted.role = RoleName::Mirror;
        facts.process.as_mut().unwrap().locked_memory = Some(65_536);
    };
    check(mirror, Id::LockedMemory, Warning, "may lock 64 kB", "LimitMEMLOCK=infinity");
    let old = |facts: &mut Facts| {
        facts.system.release = "5.10.0-30-amd64".to_owned();
        facts.process.as_mut().unwrap().locked_memory = Some(65_536);
    };
    check(old, Id::LockedMemory, Failure, "the tables take", "LimitMEMLOCK=infinity");
    let ungrouped = |facts: &mut Facts| facts.wanted.socket_group = None;
    check(ungrouped, Id::SocketGroup, Note, "no group", "groupadd --system fastnetmon");
}

#[test]
fn what_other_engines_need() {
    let rules = |groups: &'static [(u16, usize)]| {
        move |facts: &mut Facts| {
            facts.wanted.engine = EngineName::Nflog;
            facts.system.logged = Some(Ok(groups.iter().copied().collect::<BTreeMap<_, _>>()));
        }
    };
    check(rules(&[]), Id::NflogRules, Failure, "groups there are: none", "nft add table inet");
    check(rules(&[(7, 1)]), Id::NflogRules, Failure, "groups there are: 7", "nft add table inet");
    check(rules(&[(1, 2)]), Id::NflogRules, Severity::Ok, "2 rules", "");
    let unknown = |facts: &mut Facts| {
        facts.wanted.engine = EngineName::Nflog;
        facts.system.logged = Some(Err("nf_tables: not permitted".to_owned()));
    };
    check(unknown, Id::NflogRules, Note, "not permitted", "nft list ruleset");
    let pf_ring = |facts: &mut Facts| facts.wanted.engine = EngineName::PfRing;
    check(pf_ring, Id::PfRing, Failure, "not loaded", "modprobe pf_ring");
    let loaded = |facts: &mut Facts| {
        facts.wanted.engine = EngineName::PfRing;
        facts.system.pf_ring = Some("PF_RING 8.9.0".to_owned());
    };
    check(loaded, Id::PfRing, Severity::Ok, "PF_RING 8.9.0 is loaded", "");
}

#[test]
fn a_key_is_set_where_it_stands_where_its_section_is_or_with_its_section() {
    let mut wanted = healthy().wanted;
    let set = |wanted: &Wanted, section, key| wanted.set(section, key, "1");
    let here = "sed -i '/^\\[capture\\]/,/^\\[/ s|^role *=.*|role = 1|' /etc/fastnetmon.conf";
    assert_eq!(set(&wanted, "capture", "role"), here);
    let there = "sed -i '/^\\[capture\\]/a enabled = 1' /etc/fastnetmon.conf";
    assert_eq!(set(&wanted, "capture", "enabled"), there);
    wanted.file = PathBuf::from("/tmp/x y");
    let anew = "printf '\\n[web]\\nlisten = 1\\n' >> '/tmp/x y'";
    assert_eq!(set(&wanted, "web", "listen"), anew);
}

#[test]
fn recordings_of_the_system_are_read() {
    let status = "Name:\tfastnetmon\nPid:\t4711\nUid:\t998\t999\t998\t998\nGid:\t5\t6\t5\t5\n\
        Groups:\t6 27 \nCapEff:\t0000000000000002\n";
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max open files            1024                 524288               files     \n\
        Max locked memory         unlimited            unlimited            bytes     \n";
    let (process, held) = process_in(status, limits).unwrap();
    assert_eq!((process.pid, process.uid, process.gid, held), (4711, 999, 6, 2));
    assert_eq!((process.groups, process.overrides), (vec![6, 27], true));
    assert_eq!((process.open_files, process.locked_memory), (Some(1024), None));
    assert!(process_in("", limits).is_none());
    let softnet = "0000a1 0000000f 00000002 0 0\n0000a1 00000001 00000000 0 0\nx y\n";
    assert_eq!(softnet_in(softnet), Softnet { dropped: 16, squeezed: 2 });
    assert_eq!(chosen("none [integrity] confidentiality").as_deref(), Some("integrity"));
    assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    1000 kB\n"), Some(1_024_000));
    let named = |text: &str| interpreter_in(text.as_bytes());
    assert_eq!(named("#! /usr/bin/env python3\n"), Some(PathBuf::from("/usr/bin/env")));
    assert_eq!(named("#!/bin/sh\r\nx"), Some(PathBuf::from("/bin/sh\r")));
    assert_eq!(named("\x7fELF"), None);
}

#[test]
fn a_sheet_fits_80_columns_and_leaves_commands_whole() {
    let mut facts = healthy();
    elsewhere(&mut facts);
    let findings = examine(&facts);
    let plain = Sheet { findings: &findings, all: false, colours: false }.to_string();
    for line in plain.lines().filter(|line| !line.contains("$ ")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(plain.starts_with("failure  match\n"), "{plain}");
    assert!(plain.contains("\n         $ printf '198.51.100.0/24\\n' >> /etc/networks_list\n"));
    assert!(!plain.contains("ok       ") && plain.contains("`--all` shows them"), "{plain}");
    assert!(!plain.contains('\x1b'));
    let all = Sheet { findings: &findings, all: true, colours: true }.to_string();
    assert!(all.contains("\x1b[1;31mfailure \x1b[0m match"), "{all}");
    assert!(all.contains("\x1b[32mok      \x1b[0m link  eth0"), "{all}");
    let document: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
    assert_eq!(document["severity"], "failure");
    assert_eq!(document["findings"][0]["id"], "match");
    assert_eq!(document["findings"].as_array().unwrap().len(), findings.len());
}

#[test]
fn an_agent_shows_what_is_bad_and_no_more() {
    let mut facts = healthy();
    elsewhere(&mut facts);
    knob(&mut facts, Knob::Lro, 1);
    let shown = self_check(examine(&facts), 7);
    assert_eq!((shown.failures, shown.warnings, shown.unix_secs), (1, 1, 7));
    let ids: Vec<&str> = shown.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, ["match", "lro"]);
}

/// The document follows the findings: each has a section, and there is none without.
#[test]
fn each_finding_has_its_section_in_the_document() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    let document = std::fs::read_to_string(document).unwrap();
    let headings = document.lines().filter_map(|line| line.strip_prefix("### `"));
    let mut sections: Vec<&str> = headings.filter_map(|rest| rest.strip_suffix('`')).collect();
    let mut names: Vec<&str> = Id::ALL.iter().map(|id| id.name()).collect();
    sections.sort_unstable();
    names.sort_unstable();
    assert_eq!(sections, names);
}
