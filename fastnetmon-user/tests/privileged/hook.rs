//! From the flood to the script.

use std::net::Ipv4Addr;
use std::time::Instant;

use fastnetmon_user::control::{Request, Way};
use xtask::lab::{Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Setup, wait};

const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// Writes down each call: time, arguments, and the standard input behind it.
const RECORDER: &str = "{ echo \"call $(date +%s.%N) $*\"; [ -t 0 ] && echo tty; cat; \
                        echo end; } > HERE/$$.tmp; cat HERE/$$.tmp >> HERE/calls";

fn flood(victim: Ipv4Addr) -> Pool {
    let sources = 1..=250;
    Pool::new(sources.map(|last: u8| {
        Frame::udp(Ipv4Addr::new(203, 0, 113, last), victim, 40_000 + u16::from(last), 53)
            .payload(18)
    }))
}

fn calls(text: &str) -> Vec<Vec<&str>> {
    text.split("end\n").filter(|call| !call.is_empty()).map(|call| call.lines().collect()).collect()
}

fn arguments(call: &[&str]) -> Vec<String> {
    call[0].split(' ').skip(2).map(ToOwned::to_owned).collect()
}

#[test]
fn a_flood_is_banned_told_with_a_hundred_packets_and_let_go() {
    let lab = Lab::new("flood").unwrap();
    let rest = "[thresholds]\npps = 30000\n[ban]\ntime_secs = 2\nfinished_secs = 1\n";
    let agent = Agent::start(&lab, &Setup { hook: RECORDER, rest, ..Setup::default() });
    let mut sender = lab.sender_outside().unwrap();
    let begun = Instant::now();
    sender.send(&flood(VICTIM), 120_000, Pace::Pps(60_000)).unwrap();
    assert!(begun.elapsed().as_secs() >= 1);
    let text = agent.folder.wait_for("calls", |text| text.contains(" unban\n"));
    let calls = calls(&text);
    assert_eq!(calls.len(), 3, "{text}");

    let ban = arguments(&calls[0]);
    assert_eq!(
        (ban[0].as_str(), ban[1].as_str(), ban[3].as_str()),
        ("192.0.2.77", "incoming", "ban")
    );
    let pps: u64 = ban[2].parse().unwrap();
    assert!((30_001..=70_000).contains(&pps), "{pps}");
    assert_eq!(calls[0].len(), 1, "the first call's input is empty: {text}");

    assert_eq!(arguments(&calls[1])[3], "attack_details");
    let dump = &calls[1][1..];
    assert_eq!(dump.len(), 100, "{text}");
    for line in dump {
        let (source, rest) = line.split_once(" > ").unwrap();
        assert!(source.starts_with("203.0.113."), "{line}");
        assert_eq!(rest, "192.0.2.77:53 protocol: udp size: 46 bytes", "{line}");
    }

    assert_eq!(arguments(&calls[2])[3], "unban");
    assert_eq!(calls[2].len(), 1);
    wait("the ban list to be empty", || agent.status().bans.is_empty().then_some(()));
}

#[test]
fn an_ipv6_host_is_banned_like_any_other() {
    let lab = Lab::new("flood6").unwrap();
    let agent = Agent::start(&lab, &Setup { hook: RECORDER, ..Setup::default() });
    let victim: std::net::Ipv6Addr = "2001:db8:7::42".parse().unwrap();
    let world: std::net::Ipv6Addr = "2001:db9::1".parse().unwrap();
    let frame = Frame::tcp_syn(world, victim, 1024, 80);
    let mut sender = lab.sender_outside().unwrap();
    sender.send(&Pool::new([frame]), 90_000, Pace::Pps(60_000)).unwrap();
    let text = agent.folder.wait_for("calls", |text| text.contains(" attack_details\n"));
    let calls = calls(&text);
    assert_eq!(arguments(&calls[0])[..2], ["2001:db8:7::42", "incoming"]);
    assert_eq!(
        calls[1][1],
        "[2001:db9::1]:1024 > [2001:db8:7::42]:80 protocol: tcp size: 60 bytes"
    );
}

#[test]
fn an_outgoing_attack_is_found_on_its_way_out() {
    let lab = Lab::new("out").unwrap();
    let agent = Agent::start(&lab, &Setup { hook: RECORDER, ..Setup::default() });
    let frame = Frame::udp(VICTIM, Ipv4Addr::new(203, 0, 113, 9), 53, 80).payload(18).outwards();
    let mut sender = lab.sender_inside().unwrap();
    sender.send(&Pool::new([frame]), 90_000, Pace::Pps(60_000)).unwrap();
    let text = agent.folder.wait_for("calls", |text| text.contains(" attack_details\n"));
    let calls = calls(&text);
    assert_eq!(arguments(&calls[0])[..2], ["192.0.2.77", "outgoing"]);
    assert_eq!(calls[1][1], "192.0.2.77:53 > 203.0.113.9:80 protocol: udp size: 46 bytes");
    assert_eq!(calls[1].len(), 101);
}

#[test]
fn who_is_whitelisted_is_counted_and_not_banned() {
    let lab = Lab::new("white").unwrap();
    let setup = Setup { hook: RECORDER, whitelist: "192.0.2.77\n", ..Setup::default() };
    let agent = Agent::start(&lab, &setup);
    let mut sender = lab.sender_outside().unwrap();
    sender.send(&flood(VICTIM), 120_000, Pace::Pps(60_000)).unwrap();
    let status = agent.settled(120_000);
    assert_eq!(status.totals.incoming.packets, 120_000);
    assert_eq!((status.bans.len(), agent.folder.read("calls").as_str()), (0, ""));
}

#[test]
fn a_script_that_hangs_does_not_delay_the_next_attack() {
    let lab = Lab::new("hang").unwrap();
    let hook = "echo \"$1 $4\" >> HERE/calls; [ \"$1\" = 192.0.2.77 ] && sleep 60";
    let agent = Agent::start(&lab, &Setup { hook, ..Setup::default() });
    let mut sender = lab.sender_outside().unwrap();
    sender.send(&flood(VICTIM), 50_000, Pace::Pps(60_000)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.77 ban\n"));
    let next = Ipv4Addr::new(192, 0, 2, 78);
    let begun = Instant::now();
    sender.send(&flood(next), 50_000, Pace::Pps(60_000)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.78 ban\n"));
    assert!(begun.elapsed().as_secs() < 4, "the first script still runs");
    // It is ended at its deadline, and said so.
    agent.folder.wait_for("log", |log| log.contains("not done within 5 s, so it was ended"));
}

#[test]
fn operators_ban_and_unban_and_are_told_what_is_wrong() {
    let lab = Lab::new("orders").unwrap();
    let agent = Agent::start(&lab, &Setup { hook: RECORDER, ..Setup::default() });
    let ban = |ip: &str| agent.order(&Request::ban(ip.parse().unwrap(), Way::Outgoing));
    let unban = |ip: &str| agent.order(&Request::unban(ip.parse().unwrap()));
    assert_eq!(ban("192.0.2.5"), Ok("`192.0.2.5` is banned".to_owned()));
    assert_eq!(ban("192.0.2.5"), Err("`192.0.2.5` is banned already".to_owned()));
    assert_eq!(ban("203.0.113.9"), Err("`203.0.113.9` is in none of our networks".to_owned()));
    assert_eq!(ban("2001:db8::5"), Ok("`2001:db8::5` is banned".to_owned()));
    let bans: Vec<String> = agent.status().bans.iter().map(|ban| ban.ip.to_string()).collect();
    assert_eq!(bans, ["192.0.2.5", "2001:db8::5"]);
    assert_eq!(unban("192.0.2.5"), Ok("`192.0.2.5` is let go".to_owned()));
    assert!(unban("192.0.2.5").unwrap_err().starts_with("`192.0.2.5` is not banned"));
    // The three calls, in order, however short the ban was.
    let text = agent.folder.wait_for("calls", |text| text.contains("192.0.2.5 outgoing 0 unban"));
    let mut order = Vec::new();
    for call in calls(&text) {
        let arguments = arguments(&call);
        if arguments[0] == "192.0.2.5" {
            order.push(arguments[3].clone());
        }
    }
    assert_eq!(order, ["ban", "attack_details", "unban"]);
}

#[test]
fn a_running_script_is_let_finish_when_the_agent_ends() {
    let lab = Lab::new("finish").unwrap();
    let hook = "echo begun >> HERE/calls; sleep 2; echo ended >> HERE/calls";
    let mut agent = Agent::start(&lab, &Setup { hook, ..Setup::default() });
    let ip = "192.0.2.5".parse().unwrap();
    agent.order(&Request::ban(ip, Way::Incoming)).unwrap();
    agent.folder.wait_for("calls", |text| text == "begun\n");
    let status = agent.end(Signal::Terminate);
    assert!(status.success(), "{status}");
    assert!(agent.folder.read("calls").starts_with("begun\nended\n"));
    assert!(!agent.socket().exists());
}

#[test]
fn the_shipped_script_takes_all_three_calls() {
    let folder = crate::agent::Folder::new();
    let script = xtask::root().join("scripts/notify_about_attack.sh");
    let log = folder.path("log");
    // No mail and no logger there: the file is what is left.
    std::fs::create_dir(folder.path("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/cat", folder.path("bin/cat")).unwrap();
    for action in ["ban", "attack_details", "unban", "nonsense"] {
        let output = std::process::Command::new(&script)
            .args(["192.0.2.7", "incoming", "40000", action])
            .env_clear()
            .env("PATH", folder.path("bin"))
            .env("FASTNETMON_LOG", &log)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let expected = if action == "nonsense" { Some(2) } else { Some(0) };
        assert_eq!(output.status.code(), expected, "{action}: {output:?}");
    }
    let told = folder.read("log");
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(told.starts_with("fastnetmon: 192.0.2.7 banned, incoming attack with 40000 pps\n"));
}
