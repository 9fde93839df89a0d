//! Ports in a lab: what is done to them, and that a port which goes and comes is seen again.

use xtask::lab::Lab;
use xtask::traffic::{Pace, Pool, Sender};

use crate::agent::{Agent, wait};

/// `ip` in the inner namespace.
#[track_caller]
pub(crate) fn ip(lab: &Lab, arguments: &str) -> String {
    let output = lab.command_inside("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many want the port to take frames that are not for it.
pub(crate) fn promiscuity(lab: &Lab) -> u32 {
    let text = ip(lab, "-d link show dev in0");
    let (_, rest) = text.split_once("promiscuity ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// A cable within the inner namespace, from `p0` to `p1`.
pub(crate) fn lay_cable(lab: &Lab) {
    ip(lab, "link add p0 type veth peer name p1");
    for port in ["p0", "p1"] {
        ip(lab, &format!("link set {port} up"));
    }
}

/// The agent watches `p0`, which goes down and up, and away and is made anew; a thousand of these
/// arrive before, between and after. Returns the alarms while it was down.
#[track_caller]
pub(crate) fn go_and_come_back(lab: &Lab, agent: &Agent, pool: &Pool) -> Vec<String> {
    let send = |all: u64| {
        let mut sender = lab.run_inside(|| Sender::open("p1")).unwrap().unwrap();
        sender.send(pool, 1_000, Pace::Pps(20_000)).unwrap();
        wait("a thousand more", || (agent.status().totals.incoming.packets == all).then_some(()));
    };
    let broken = |is: bool| {
        wait("the alarm to come or go", || {
            let alarms = agent.status().alarms;
            let there = alarms.iter().any(|alarm| alarm.contains("The capture is broken"));
            (there == is && (is || alarms.is_empty())).then_some(alarms)
        })
    };
    send(1_000);
    ip(lab, "link set p0 down");
    let alarms = broken(true);
    ip(lab, "link set p0 up");
    broken(false);
    send(2_000);
    ip(lab, "link delete p0");
    broken(true);
    lay_cable(lab);
    broken(false);
    send(3_000);
    assert!(agent.log().contains("The capture works again."));
    alarms
}
