//! What stays, and what must not.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use fastnetmon_user::client::Connection;
use fastnetmon_user::control::{Request, Way};
use xtask::lab::{Attached, GUARDED, Lab, Signal, Xdp};

use crate::agent::{Agent, Folder, Setup, command, configure};

const CLEAN: Attached = Attached { xdp: Xdp::None, tcx_ingress: 0, tcx_egress: 0 };

/// Pings, fast; all of them must be answered.
#[track_caller]
fn ping(lab: &Lab, when: &str) {
    let output = lab
        .command_outside("ping")
        .args(["-q", "-c", "20", "-i", "0.02", "-W", "2", &GUARDED.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(" 0% packet loss"), "{when}: {text}");
}

#[test]
fn a_killed_agent_leaves_the_interface_clean_and_traffic_flowing() {
    let lab = Lab::new("kill").unwrap();
    ping(&lab, "before");
    let mut agent = Agent::start(&lab, &Setup::default());
    let attached = Attached { xdp: Xdp::Native, tcx_ingress: 0, tcx_egress: 1 };
    assert_eq!(lab.attached_inside().unwrap(), attached);
    ping(&lab, "while it counts");
    agent.end(Signal::Kill);
    ping(&lab, "after kill -9");
    let clean = crate::agent::wait("the programs to go", || {
        Some(lab.attached_inside().unwrap()).filter(|attached| *attached == CLEAN)
    });
    assert_eq!(clean, CLEAN);

    // The socket it left does not keep the next one out.
    let socket = agent.socket();
    assert!(socket.exists());
    let config = agent.folder.path("fastnetmon.conf");
    let mut next = command(&lab, &config, "in0").spawn().unwrap();
    crate::agent::wait("the next agent to answer", || Connection::open(&socket).ok());
    ping(&lab, "with the next agent");
    xtask::lab::signal(next.id(), Signal::Terminate).unwrap();
    assert!(next.wait().unwrap().success());
}

#[test]
fn an_agent_that_is_told_to_end_detaches_and_exits_with_zero() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let lab = Lab::new("term").unwrap();
        let mut agent = Agent::start(&lab, &Setup::default());
        let status = agent.end(signal);
        assert!(status.success(), "{status}");
        assert_eq!(lab.attached_inside().unwrap(), CLEAN);
        assert!(!agent.socket().exists());
        ping(&lab, "after the end");
    }
}

#[test]
fn an_interface_that_goes_away_is_an_alarm() {
    let lab = Lab::new("gone").unwrap();
    let agent = Agent::start(&lab, &Setup::default());
    assert!(agent.status().alarms.is_empty());
    let down = lab.command_inside("ip").args(["link", "set", "in0", "down"]).status().unwrap();
    assert!(down.success());
    crate::agent::wait("an alarm", || {
        let alarms = agent.status().alarms;
        alarms.iter().any(|alarm| alarm.contains("`in0` is gone or down")).then_some(())
    });
}

#[test]
fn an_interface_that_is_made_anew_is_an_alarm_too() {
    let lab = Lab::new("anew").unwrap();
    let ip = |arguments: &str| {
        let done = lab.command_inside("ip").args(arguments.split(' ')).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    };
    let agent = Agent::start(&lab, &Setup::default());
    ip("link delete in0");
    ip("link add in0 type veth peer name other0");
    ip("link set in0 up");
    crate::agent::wait("an alarm", || {
        let alarms = agent.status().alarms;
        alarms.iter().any(|alarm| alarm.contains("`in0` was deleted and made anew")).then_some(())
    });
}

/// Starts an agent that logs to `log` and waits until it answers.
fn agent_that_logs_to(lab: &Lab, folder: &Folder, log: Stdio) -> (Child, PathBuf) {
    let config = configure(folder, &Setup::default());
    let child = command(lab, &config, "in0").stderr(log).spawn().unwrap();
    let socket = folder.path("control.sock");
    crate::agent::wait("the agent to answer", || Connection::open(&socket).ok());
    (child, socket)
}

fn ban(socket: &Path, ip: Ipv4Addr) {
    let request = Request::ban(ip.into(), Way::Incoming);
    Connection::open(socket).unwrap().order(&request).unwrap();
}

#[test]
fn a_log_that_cannot_be_written_or_is_not_read_holds_nobody_up() {
    let lab = Lab::new("log").unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    // Nobody reads the other end, which holds 64 KB.
    let (_unread, pipe) = std::io::pipe().unwrap();
    for log in [Stdio::from(full), Stdio::from(pipe)] {
        let folder = Folder::new();
        let (mut child, socket) = agent_that_logs_to(&lab, &folder, log);
        for last in 1..=200 {
            ban(&socket, Ipv4Addr::new(192, 0, 2, last));
            ban(&socket, Ipv4Addr::new(198, 51, 100, last));
        }
        let status = Connection::open(&socket).unwrap().status(0).unwrap();
        assert_eq!(status.bans.len(), 400);
        xtask::lab::signal(child.id(), Signal::Terminate).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_second_signal_ends_the_agent_at_once() {
    let lab = Lab::new("twice").unwrap();
    let hook = "echo begun >> HERE/calls; sleep 600";
    let mut agent = Agent::start(&lab, &Setup { hook, ..Setup::default() });
    ban(&agent.socket(), Ipv4Addr::new(192, 0, 2, 5));
    agent.folder.wait_for("calls", |text| text == "begun\n");
    xtask::lab::signal(agent.pid(), Signal::Terminate).unwrap();
    agent.folder.wait_for("log", |log| log.contains("The agent ends."));
    let status = agent.end(Signal::Terminate);
    assert_eq!(status.signal(), Some(15));
    assert_eq!(lab.attached_inside().unwrap(), CLEAN);
}
