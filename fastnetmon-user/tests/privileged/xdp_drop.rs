//! A ban that drops: the agent, real packets, and what still arrives.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastnetmon_user::client::{Order, Screen};
use fastnetmon_user::control::{Request, Status, Way};
use xtask::lab::{GUARDED, GUARDED_V6, Lab, Signal, signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, configure, wait};

// Nobody there answers.
const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
/// Another host that answers, in the same /24 as the victim.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 253);

const HOOK: &str = "echo $1 $4 >> HERE/calls\ncat > HERE/$4";

/// A lab in which the neighbour answers too.
fn lab(label: &str) -> Lab {
    let lab = Lab::new(label).unwrap();
    let arguments = ["address", "add", "192.0.2.253/32", "dev", "lo"];
    assert!(lab.command_inside("ip").args(arguments).status().unwrap().success());
    lab
}

fn start(lab: &Lab, drop: &str, secs: u32) -> Agent {
    let rest = format!(
        "[thresholds]\npps = 2000\n[ban]\ntime_secs = {secs}\n[xdp_drop]\nenabled = true\n{drop}\n"
    );
    Agent::start(lab, &Setup { rest: &rest, hook: HOOK, ..Setup::default() })
}

/// How many of so many pings are answered.
fn pings(lab: &Lab, address: &str, count: u32) -> u32 {
    let output = lab
        .command_outside("ping")
        .args(["-q", "-c", &count.to_string(), "-i", "0.01", "-W", "0.3", address])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rest) = text.split_once("transmitted, ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[track_caller]
fn others_are_untouched(lab: &Lab, when: &str) {
    for other in [NEIGHBOUR.to_string(), GUARDED_V6.to_string()] {
        assert_eq!(pings(lab, &other, 50), 50, "{other}, {when}");
    }
}

/// IPv4 packets of UDP, with or without a socket, and echoes that reached the stack.
fn arrived(lab: &Lab) -> u64 {
    let output = lab.command_inside("cat").arg("/proc/net/snmp").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let of = |protocol: &str, wanted: &str| -> u64 {
        let mut rows = text.lines().filter(|line| line.starts_with(protocol));
        let names: Vec<&str> = rows.next().unwrap().split(' ').collect();
        let numbers: Vec<&str> = rows.next().unwrap().split(' ').collect();
        let at = names.iter().position(|name| *name == wanted).unwrap();
        numbers[at].parse().unwrap()
    };
    of("Udp:", "InDatagrams")
        + of("Udp:", "NoPorts")
        + of("Udp:", "InErrors")
        + of("Icmp:", "InEchos")
}

fn flood(source_port: u16) -> Pool {
    Pool::new([Frame::udp(WORLD, GUARDED, source_port, 9).payload(100)])
}

/// Sends until the agent says that it drops, and tells how many that were.
#[track_caller]
fn flood_until_dropped(lab: &Lab, agent: &Agent, pool: &Pool) -> u64 {
    let mut sender = lab.sender_outside().unwrap();
    let mut sent = 0;
    wait("the ban to drop", || {
        sent += sender.send(pool, 1_000, Pace::Pps(10_000)).unwrap();
        dropped(&agent.status()).filter(|&packets| packets > 0)
    });
    sent
}

/// Packets dropped of the one ban that stands.
fn dropped(status: &Status) -> Option<u64> {
    status.bans.first()?.drop.as_ref().map(|drop| drop.dropped.packets)
}

/// Everything that was sent to the lab's hosts over IPv4 and what became of it.
struct Account {
    flood: u64,
    echoes: u64,
    arrived: u64,
}

#[test]
fn a_flood_is_banned_dropped_and_let_go_and_every_packet_is_accounted_for() {
    let lab = lab("drop");
    let agent = start(&lab, "", 2);
    let victim = GUARDED.to_string();
    let pool = flood(53);
    let before = (arrived(&lab), agent.status().totals.incoming.packets);
    let over = AtomicBool::new(false);
    let mut account = Account { flood: 0, echoes: 0, arrived: 0 };
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sender = lab.sender_outside().unwrap();
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                sent += sender.send(&pool, 500, Pace::Pps(10_000)).unwrap();
            }
            sent
        });
        wait("the ban to drop", || dropped(&agent.status()).filter(|&packets| packets > 0));
        assert_eq!(pings(&lab, &victim, 10), 0, "everything of the host is dropped");
        account.echoes += 10;
        // For longer than the ban must last: what is dropped is seen, so the ban stands.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            others_are_untouched(&lab, "while it is dropped");
            account.echoes += 50;
            let status = agent.status();
            assert_eq!(status.bans.len(), 1, "the ban stands while the flood goes on");
            let (at_least, pps) = (5_000, status.bans[0].peak_pps);
            assert!(pps > at_least, "{pps}");
        }
        over.store(true, Ordering::Relaxed);
        account.flood = sending.join().unwrap();
    });
    wait("the end of the ban", || Some(()).filter(|()| agent.status().bans.is_empty()));
    wait("the rule to go", || {
        account.echoes += 5;
        Some(()).filter(|()| pings(&lab, &victim, 5) == 5)
    });
    assert_eq!(agent.folder.read("calls").matches(" ban\n").count(), 1, "banned once");

    let sent = account.flood + account.echoes;
    let status = agent.settled(before.1 + sent);
    account.arrived = arrived(&lab) - before.0;
    let (counted, dropped) = (status.totals.incoming.packets - before.1, status.totals.dropped);
    let Account { flood, echoes, arrived } = account;
    assert_eq!(sent, arrived + dropped.packets, "{flood} + {echoes} = {arrived} + {dropped:?}");
    assert!(dropped.packets > 40_000 && arrived > 100, "{arrived} arrived, {dropped:?}");
    // Dropped packets are counted as what came in, too. The IPv6 echoes come from our own prefix.
    assert_eq!(counted, sent, "counted of {sent}");
    assert_eq!(status.packets.dropped, 0, "nothing was lost");
    let screen = Screen { status: &status, order: Order::Packets, rows: 10 };
    let text = screen.to_string();
    assert!(text.contains(&format!("Dropped by ban:\t\t{}, now ", dropped.packets)), "{text}");
}

#[test]
fn a_signature_leaves_the_rest_of_the_host_alone() {
    let lab = lab("signature");
    let agent = start(&lab, "mode = \"signature\"", 600);
    let pool = flood(53);
    let mut sender = lab.sender_outside().unwrap();
    let what = wait("the signature", || {
        sender.send(&pool, 1_000, Pace::Pps(10_000)).unwrap();
        let what = agent.status().bans.first()?.drop.as_ref()?.what.clone();
        Some(what).filter(|what| what != "everything")
    });
    assert_eq!(what, "udp, from port 53, to port 9, 128 bytes, from 203.0.113.99/32");
    assert_eq!(pings(&lab, &GUARDED.to_string(), 50), 50, "the host answers under attack");
    let before = arrived(&lab);
    let dropped_before = agent.status().totals.dropped.packets;
    sender.send(&pool, 10_000, Pace::Pps(20_000)).unwrap();
    // What looks like it and is not goes through.
    let other = Pool::new([Frame::udp(WORLD, GUARDED, 54, 9).payload(100)]);
    sender.send(&other, 500, Pace::Pps(1_000)).unwrap();
    wait("the counts", || {
        let gone = agent.status().totals.dropped.packets - dropped_before;
        (gone >= 10_000).then_some(gone)
    });
    assert_eq!(arrived(&lab) - before, 500);
    assert!(agent.log().contains("Only the signature is dropped."), "{}", agent.log());
}

#[test]
fn an_operators_ban_drops_at_once_and_an_unban_ends_it() {
    let lab = lab("operator");
    let agent = start(&lab, "", 600);
    let ip = GUARDED.into();
    agent.order(&Request::ban(ip, Way::Incoming)).unwrap();
    wait("it to be dropped", || Some(()).filter(|()| pings(&lab, &GUARDED.to_string(), 3) == 0));
    others_are_untouched(&lab, "while it is dropped");
    agent.order(&Request::unban(ip)).unwrap();
    wait("it to flow", || Some(()).filter(|()| pings(&lab, &GUARDED.to_string(), 3) == 3));
    // IPv6, a host with a line that is lent.
    let ip = GUARDED_V6.into();
    agent.order(&Request::ban(ip, Way::Incoming)).unwrap();
    wait("it to be dropped", || Some(()).filter(|()| pings(&lab, &GUARDED_V6.to_string(), 3) == 0));
    assert_eq!(pings(&lab, &GUARDED.to_string(), 20), 20);
    agent.order(&Request::unban(ip)).unwrap();
    wait("it to flow", || Some(()).filter(|()| pings(&lab, &GUARDED_V6.to_string(), 3) == 3));
}

#[test]
fn what_a_host_sends_is_dropped_only_when_asked_for() {
    for (drop, answered) in [("", 20), ("outgoing = true", 0)] {
        let lab = lab("outgoing");
        let agent = start(&lab, drop, 600);
        agent.order(&Request::ban(GUARDED.into(), Way::Outgoing)).unwrap();
        agent.folder.wait_for("calls", |text| text.contains("ban"));
        if answered == 0 {
            // The echo arrives and its answer does not leave.
            wait("it to be dropped", || {
                Some(()).filter(|()| pings(&lab, &GUARDED.to_string(), 3) == 0)
            });
        }
        assert_eq!(pings(&lab, &GUARDED.to_string(), 20), answered, "`{drop}`");
        others_are_untouched(&lab, "while it is dropped");
    }
}

#[test]
fn an_agent_that_hangs_drops_no_longer_than_it_said() {
    let lab = lab("hangs");
    let mut agent = start(&lab, "max_secs = 4", 600);
    agent.order(&Request::ban(GUARDED.into(), Way::Incoming)).unwrap();
    let start = Instant::now();
    wait("it to be dropped", || Some(()).filter(|()| pings(&lab, &GUARDED.to_string(), 1) == 0));
    signal(agent.pid(), Signal::Stop).unwrap();
    assert_eq!(pings(&lab, &GUARDED.to_string(), 3), 0, "nobody took the rule away");
    assert!(start.elapsed() < Duration::from_secs(3), "too slow to tell");
    wait("it to flow", || Some(()).filter(|()| pings(&lab, &GUARDED.to_string(), 1) == 1));
    let lasted = start.elapsed();
    assert!((Duration::from_millis(3_500)..Duration::from_secs(6)).contains(&lasted), "{lasted:?}");
    assert_eq!(pings(&lab, &GUARDED.to_string(), 20), 20);
    signal(agent.pid(), Signal::Continue).unwrap();
    assert!(agent.end(Signal::Terminate).success());
}

#[test]
fn a_killed_agent_drops_nothing() {
    let lab = lab("killed");
    for end in [Signal::Kill, Signal::Terminate] {
        let mut agent = start(&lab, "", 600);
        agent.order(&Request::ban(GUARDED.into(), Way::Incoming)).unwrap();
        wait("it to be dropped", || {
            Some(()).filter(|()| pings(&lab, &GUARDED.to_string(), 3) == 0)
        });
        agent.end(end);
        wait("it to flow", || Some(()).filter(|()| pings(&lab, &GUARDED.to_string(), 3) == 3));
        assert_eq!(pings(&lab, &GUARDED.to_string(), 50), 50);
    }
}

#[test]
fn a_rate_lets_some_of_a_flood_through() {
    let lab = lab("limit");
    let agent = start(&lab, "rate_pps = 500", 600);
    let pool = flood(53);
    flood_until_dropped(&lab, &agent, &pool);
    let before = arrived(&lab);
    let start = Instant::now();
    let mut sender = lab.sender_outside().unwrap();
    sender.send(&pool, 40_000, Pace::Pps(10_000)).unwrap();
    let elapsed = start.elapsed();
    let passed = arrived(&lab) - before;
    let meant = 500 * u64::try_from(elapsed.as_millis()).unwrap() / 1000;
    // A tenth of a second's worth at either end.
    assert!(passed.abs_diff(meant) <= 110, "{passed} passed in {elapsed:?}");
}

#[test]
fn where_nothing_can_be_dropped_the_agent_refuses() {
    let check = |capture: &str, drop: &str, expected: &str| {
        let folder = Folder::new();
        let rest = format!("[xdp_drop]\nenabled = true\n{drop}\n");
        let setup = Setup { capture, rest: &rest, ..Setup::default() };
        let config = configure(&folder, &setup);
        for words in [&["check"][..], &["run", "--interface", "lo"][..]] {
            let output = Command::new(env!("CARGO_BIN_EXE_fastnetmon"))
                .args(words)
                .arg("--config")
                .arg(&config)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{words:?}: {text}");
            assert!(text.contains(expected), "{words:?}: {text}");
        }
    };
    check(
        "engine = \"af_packet\"",
        "",
        "`xdp_drop` needs the engine `xdp` or `xdp_generic`, and it is `af_packet`: set `engine`",
    );
    check("engine = \"pcap\"", "", "and it is `pcap`: set `engine` in `[capture]`");
    check("role = \"mirror\"", "", "`xdp_drop` does nothing at a mirror port, which shows copies");
    check("egress = \"clsact\"", "outgoing = true", "`outgoing` in `[xdp_drop]` needs TCX");
    check("", "max_hosts = 20000", "`max_hosts` is 20000: it can be 1 to 16384");
}

#[test]
fn a_dry_run_is_counted_and_drops_nothing() {
    // With `enabled = false` the programs have no gate at all.
    let lab = lab("dry");
    let rest = "[thresholds]\npps = 2000\n[ban]\ntime_secs = 600\n";
    let agent = Agent::start(&lab, &Setup { rest, hook: HOOK, ..Setup::default() });
    agent.order(&Request::ban(GUARDED.into(), Way::Incoming)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("ban"));
    assert_eq!(pings(&lab, &GUARDED.to_string(), 50), 50);
    assert_eq!(agent.status().bans.first().unwrap().drop, None);
}
