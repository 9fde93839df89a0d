//! Another configuration while packets are counted.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Output};

use fastnetmon_user::control::{Request, Way};
use xtask::lab::{Lab, Signal, signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Setup};

const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

fn reload(socket: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fastnetmon"))
        .arg("reload")
        .arg("--socket")
        .arg(socket)
        .output()
        .unwrap()
}

#[track_caller]
fn changes(agent: &Agent) -> String {
    let output = reload(&agent.socket());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[track_caller]
fn refused(agent: &Agent, expected: &str) {
    let output = reload(&agent.socket());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(expected), "`{expected}` is not in: {text}");
}

/// Changes the agent's configuration file.
fn edit(agent: &Agent, from: &str, to: &str) {
    let text = agent.folder.read("fastnetmon.conf");
    assert!(text.contains(from), "{text}");
    agent.folder.write("fastnetmon.conf", &text.replace(from, to));
}

#[test]
fn under_a_flood_no_packet_and_no_ban_is_lost() {
    const FRAMES: u64 = 300_000;
    let lab = Lab::new("reload").unwrap();
    let hook = "echo \"old $1 $4\" >> HERE/calls";
    let rest = "[thresholds]\npps = 1000000\n";
    let agent = Agent::start(&lab, &Setup { rest, hook, ..Setup::default() });
    let standing: IpAddr = "198.51.100.9".parse().unwrap();
    agent.order(&Request::ban(standing, Way::Incoming)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("old 198.51.100.9 attack_details"));
    let other = agent.folder.script("other", "echo \"new $1 $4\" >> HERE/calls");

    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let frames = (0..200_u8).map(|last| {
                let source = Ipv4Addr::new(203, 0, 113, last);
                Frame::udp(source, VICTIM, 40_000 + u16::from(last), 53).payload(18)
            });
            let mut sender = lab.sender_outside().unwrap();
            sender.send(&Pool::new(frames), FRAMES, Pace::Pps(40_000)).unwrap();
        });
        // Networks that come and go around the one that is flooded, again and again.
        for round in 0..6 {
            let list = if round % 2 == 0 {
                "192.0.2.0/24\n198.51.100.0/24\n10.20.0.0/24\n2001:db8:7::/48\n"
            } else {
                "192.0.2.0/24\n198.51.100.0/24\n2001:db8::/32\n"
            };
            agent.folder.write("networks_list", list);
            let text = changes(&agent);
            assert!(text.contains("guarded now: 2001:db8"), "{text}");
            assert!(text.contains("guarded no more: 2001:db8"), "{text}");
        }
        // A lower threshold and another script: the flood is an attack from now on.
        edit(&agent, "pps = 1000000", "pps = 20000");
        let hook = agent.folder.path("hook").display().to_string();
        edit(&agent, &hook, &other.display().to_string());
        let text = changes(&agent);
        assert!(text.contains("thresholds.pps: 1000000 -> 20000"), "{text}");
        assert!(text.contains("notify.script: "), "{text}");
        agent.folder.wait_for("calls", |text| text.contains("new 192.0.2.77 ban\n"));
        flood.join().unwrap();
    });
    let status = agent.settled(FRAMES);
    assert_eq!(status.totals.incoming.packets, FRAMES);
    assert!(status.bans.iter().any(|ban| ban.ip == standing));
    agent.order(&Request::unban(standing)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("new 198.51.100.9 unban\n"));
}

#[test]
fn what_cannot_be_used_is_refused_and_nothing_changes() {
    let lab = Lab::new("bad").unwrap();
    let hook = "echo \"$1 $4\" >> HERE/calls";
    let agent = Agent::start(&lab, &Setup { hook, ..Setup::default() });
    let good = agent.folder.read("fastnetmon.conf");
    assert_eq!(changes(&agent), "nothing changed\n");
    agent.folder.write("fastnetmon.conf", &good.replace("pps = 30000", "pps = 0"));
    refused(&agent, "0 would be exceeded by every packet");
    agent.folder.write("fastnetmon.conf", &good.replace("[notify]", "[notify]\nsrcipt = \"\""));
    refused(&agent, "unknown field `srcipt`");
    let webhook = format!("{good}[webhook]\nurl = \"https://x/\"\nca_file = \"/none\"\n");
    agent.folder.write("fastnetmon.conf", &webhook);
    refused(&agent, "`/none` (`ca_file` in `[webhook]`): No such file");
    agent.folder.write("fastnetmon.conf", &good);
    let networks = agent.folder.read("networks_list");
    agent.folder.write("networks_list", "192.0.2.0/99\n");
    refused(&agent, "networks_list:1: `192.0.2.0/99` is not");
    // More than there is room for: all of it is refused.
    agent.folder.write("networks_list", "10.0.0.0/8\n192.0.2.0/24\n");
    refused(&agent, "restart the agent");
    agent.folder.write("networks_list", &networks);
    assert_eq!(changes(&agent), "nothing changed\n");
    // By signal, it is in the log.
    agent.folder.write("fastnetmon.conf", "[nothing]\n");
    signal(agent.pid(), Signal::Hangup).unwrap();
    agent.folder.wait_for("log", |log| {
        log.contains("The configuration was not applied") && log.contains("unknown field `nothing`")
    });
    // What needs a restart is said, and the rest is applied.
    let wanted =
        good.replace("[capture]", "[capture]\ntick_ms = 500").replace("= 30000", "= 40000");
    agent.folder.write("fastnetmon.conf", &wanted);
    signal(agent.pid(), Signal::Hangup).unwrap();
    agent.folder.wait_for("log", |log| {
        log.contains("capture.tick_ms: 1000 stays until a restart")
            && log.contains("thresholds.pps: 30000 -> 40000")
    });
    // The agent goes on all the while.
    agent.order(&Request::ban(VICTIM.into(), Way::Incoming)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.77 ban\n"));
}

#[test]
fn a_ban_of_a_host_that_is_ours_no_more_stands_until_it_is_over() {
    let lab = Lab::new("held").unwrap();
    let hook = "echo \"$1 $4\" >> HERE/calls";
    let agent = Agent::start(&lab, &Setup { hook, ..Setup::default() });
    agent.order(&Request::ban(VICTIM.into(), Way::Incoming)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.77 attack_details\n"));
    agent.folder.write("networks_list", "198.51.100.0/24\n");
    let text = changes(&agent);
    assert!(text.contains("guarded until its ban is over: 192.0.2.77"), "{text}");
    assert_eq!(agent.status().bans.len(), 1);
    agent.order(&Request::unban(VICTIM.into())).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.77 unban\n"));
}
