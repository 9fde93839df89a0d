//! Containers of an OpenVZ node that come and go under the agent's eyes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fastnetmon_user::control::{Request, Way};
use xtask::lab::{Lab, OUTSIDE};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, wait};

const CONTAINER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 102);
const HEADER: &str = "Version: 2.5\n                           192.0.2.101 101\n";

/// A container as a node has them: a namespace of its own behind a cable of its own.
struct Guest(Child);

impl Guest {
    fn new(lab: &Lab) -> Self {
        let child = lab
            .command_inside("unshare")
            .args(["--net", "sleep", "120"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let guest = Self(child);
        let pid = guest.0.id();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let inside = lab.run_inside(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        wait("the guest to have a namespace of its own", || {
            let there = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
            (there != inside && there != own).then_some(())
        });
        let pid = pid.to_string();
        run(lab
            .command_inside("ip")
            .args(["link", "add", "ve102", "type", "veth", "peer", "name", "eth0", "netns", &pid]));
        run(lab.command_inside("ip").args(["link", "set", "ve102", "up"]));
        run(lab.command_inside("ip").args(["address", "add", "169.254.0.1/32", "dev", "ve102"]));
        run(lab.command_inside("ip").args(["route", "add", "192.0.2.102/32", "dev", "ve102"]));
        for words in [
            "ip link set eth0 up",
            "ip address add 192.0.2.102/32 dev eth0",
            "ip route add 169.254.0.1/32 dev eth0",
            "ip route add default via 169.254.0.1",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            run(guest.command().args(words));
        }
        lab.run_inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap()).unwrap();
        guest
    }

    /// A command in the container.
    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.id().to_string(), "--net"]);
        command
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// The node's table, beside its mark.
fn node(folder: &Folder, table: &str) -> String {
    folder.write("version", "");
    let veip = folder.write("veip", table);
    format!("openvz_veip = \"{}\"\n", veip.display())
}

#[test]
fn a_container_that_comes_is_counted_within_ten_seconds_and_one_that_goes_until_it_is_quiet() {
    let lab = Lab::new("openvz").unwrap();
    let vz = Folder::new();
    let in_networks = node(&vz, HEADER);
    let networks = "198.51.100.0/24\n";
    let setup = Setup { networks, in_networks: &in_networks, ..Setup::default() };
    let agent = Agent::start(&lab, &setup);
    assert_eq!(agent.status().networks, 2);
    let guest = Guest::new(&lab);
    // To somebody who does not answer.
    let says = "printf x > /dev/udp/198.18.0.9/9";
    let say = || run(guest.command().args(["bash", "-c", says]));
    say();
    wait("a packet of nobody", || (agent.status().totals.other.packets > 0).then_some(()));
    assert_eq!(agent.status().totals.outgoing.packets, 0);

    // It comes.
    let comes = format!(
        "{HEADER}                           {CONTAINER} 102\n                     \
         2001:db8:9:0:0:0:0:102 102\n"
    );
    let begun = Instant::now();
    vz.write("veip", &comes);
    wait("the container to be guarded", || (agent.status().networks == 4).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for _ in 0..7 {
        say();
    }
    wait("its packets", || (agent.status().totals.outgoing.packets == 7).then_some(()));
    let mut sender = lab.sender_outside().unwrap();
    let world: Ipv6Addr = "2001:db9::1".parse().unwrap();
    let six: Ipv6Addr = "2001:db8:9::102".parse().unwrap();
    sender.send(&Pool::new([Frame::udp(world, six, 1, 2)]), 11, Pace::Full).unwrap();
    wait("its IPv6 packets", || (agent.status().totals.incoming.packets == 11).then_some(()));

    // It is attacked, and suspended for it: gone from the table, and the attack goes on.
    let flood = Pool::new([Frame::udp(OUTSIDE, CONTAINER, 1, 2).payload(18)]);
    sender.send(&flood, 90_000, Pace::Pps(60_000)).unwrap();
    let is_banned =
        |agent: &Agent| agent.status().bans.iter().any(|ban| ban.ip == IpAddr::from(CONTAINER));
    wait("the ban", || is_banned(&agent).then_some(()));
    vz.write("veip", HEADER);
    wait("its IPv6 address to be let go", || (agent.status().networks == 3).then_some(()));
    assert!(is_banned(&agent));
    let before = agent.status().totals.incoming.packets;
    sender.send(&flood, 100, Pace::Full).unwrap();
    wait("what still comes to be counted", || {
        (agent.status().totals.incoming.packets == before + 100).then_some(())
    });
    agent.order(&Request::unban(CONTAINER.into())).unwrap();
    wait("the container to be let go", || (agent.status().networks == 2).then_some(()));
    let ban = Request::ban(CONTAINER.into(), Way::Incoming);
    assert_eq!(agent.order(&ban), Err(format!("`{CONTAINER}` is in none of our networks")));
}

#[test]
fn a_table_that_cannot_be_read_is_an_alarm_and_those_known_stay_guarded() {
    let lab = Lab::new("veip").unwrap();
    let vz = Folder::new();
    let in_networks = node(&vz, HEADER);
    let setup = Setup { in_networks: &in_networks, ..Setup::default() };
    let agent = Agent::start(&lab, &setup);
    vz.write("veip", "Version: 2.5\nnonsense 101\n");
    let alarm = wait("the alarm", || agent.status().alarms.into_iter().next());
    assert!(alarm.contains("veip:2: `nonsense 101` does not begin with a container's"), "{alarm}");
    vz.write("veip", "Version: 2.5\n       203.0.113.77 101\n");
    wait("it to be read again", || {
        let status = agent.status();
        (status.alarms.is_empty() && status.networks == 4).then_some(())
    });
}
