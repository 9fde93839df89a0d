//! What stays, and what must not.

use xtask::lab::{Attached, GUARDED, Lab, Signal, Xdp};

use crate::agent::{Agent, Setup};

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
    let mut next = crate::agent::command(&lab, &config, "in0").spawn().unwrap();
    crate::agent::wait("the next agent to answer", || {
        fastnetmon_user::client::Connection::open(&socket).ok()
    });
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
