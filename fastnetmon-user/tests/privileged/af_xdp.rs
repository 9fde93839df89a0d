//! Mirror ports: packets of banned hosts are taken by AF_XDP sockets, everybody else's pass.

use std::net::Ipv4Addr;

use xtask::lab::{Lab, LabOptions};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Setup};

const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 78);

/// Without sparse samples, so that a packet of the dump was taken or copied for it.
const MIRROR: &str = "role = \"mirror\"\nsparse_every = 0";

/// The call with the dump, a line each; the first call's input is empty.
const RECORDER: &str = "[ \"$4\" = attack_details ] && cat > HERE/dump.tmp && \
                        mv HERE/dump.tmp HERE/dump; echo \"$1 $4\" >> HERE/calls";

fn setup<'a>() -> Setup<'a> {
    Setup { capture: MIRROR, hook: RECORDER, ..Setup::default() }
}

fn to(host: Ipv4Addr) -> Pool {
    Pool::new((1..=200).map(|last: u8| {
        let source = Ipv4Addr::new(203, 0, 113, last);
        Frame::udp(source, host, 40_000 + u16::from(last), 53).payload(18)
    }))
}

#[track_caller]
fn check_dump(agent: &Agent) {
    let dump = agent.folder.wait_for("dump", |text| !text.is_empty());
    assert_eq!(dump.lines().count(), 100, "{dump}");
    for line in dump.lines() {
        let (source, rest) = line.split_once(" > ").unwrap();
        assert!(source.starts_with("203.0.113."), "{line}");
        assert_eq!(rest, "192.0.2.77:53 protocol: udp size: 46 bytes", "{line}");
    }
}

/// A flood is counted to the last packet, banned, and told with a hundred of them.
#[track_caller]
fn flood(name: &str, queues: u32, capture: &str, evidence: &str, redirected: u64) {
    let lab = Lab::with(name, LabOptions { queues }).unwrap();
    let agent = Agent::start(&lab, &Setup { capture, ..setup() });
    assert_eq!(agent.status().evidence, evidence, "{}", agent.log());
    let mut sender = lab.sender_outside().unwrap();
    let mut sent = sender.send(&to(OTHER), 1_000, Pace::Pps(10_000)).unwrap();
    sent += sender.send(&to(VICTIM), 90_000, Pace::Pps(60_000)).unwrap();
    check_dump(&agent);
    sent += sender.send(&to(VICTIM), 5_000, Pace::Pps(50_000)).unwrap();
    sent += sender.send(&to(OTHER), 1_000, Pace::Pps(10_000)).unwrap();
    let status = agent.settled(sent);
    assert_eq!((status.totals.incoming.packets, status.packets.received), (sent, sent));
    assert_eq!(status.bans.len(), 1);
    let packets = status.packets;
    assert_eq!((packets.redirected, packets.samples_lost), (redirected, 0));
    assert_eq!(status.alarms, [""; 0]);
}

#[test]
fn a_flood_at_a_mirror_port_is_told_with_a_hundred_packets() {
    let (evidence, redirected) =
        if cfg!(feature = "af-xdp") { ("af_xdp (copy, 1 queue)", 100) } else { ("ring", 0) };
    flood("xsk", 1, MIRROR, evidence, redirected);
}

#[cfg(feature = "af-xdp")]
mod sockets {
    use std::time::Duration;

    use fastnetmon_common::abi::{Hint, Stranger, program};
    use fastnetmon_user::capture::{AfXdpEngine, Engine as _, Frame as Seen, Intake, Sample};
    use fastnetmon_user::control::{Request, Way};
    use fastnetmon_user::kernel::{self, Egress, Frozen, Mode, Object, Port, Role};
    use fastnetmon_user::model::{HostId, Moment, Prefix, Sides};
    use fastnetmon_user::networks::{Plan, PrefixSet, Territory};
    use fastnetmon_user::tables::Parts;
    use xtask::lab::{Attached, INSIDE_INTERFACE, Signal, Xdp};

    use super::*;
    use crate::agent::wait;

    const XDP_PASS: u32 = 2;
    const XDP_REDIRECT: u32 = 4;

    /// Pings an address inside; all of them must be answered.
    #[track_caller]
    fn ping(lab: &Lab, when: &str) {
        let guarded = xtask::lab::GUARDED.to_string();
        let output = lab
            .command_outside("ping")
            .args(["-q", "-c", "20", "-i", "0.02", "-W", "2", &guarded])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(" 0% packet loss"), "{when}: {text}");
    }

    #[derive(Default)]
    struct Taken(u64);

    impl Intake for Taken {
        fn frame(&mut self, _: Moment, _: Sides, _: &Seen<'_>) {}
        fn sample(&mut self, _: &Sample<'_>) {}
        fn redirected(&mut self, _: Moment, frame: &Seen<'_>) {
            assert_eq!(frame.bytes.len(), 60);
            self.0 += 1;
        }
        fn hint(&mut self, _: Hint) {}
        fn stranger(&mut self, _: Stranger) {}
    }

    fn port(interface: &str, mode: Mode) -> Port {
        Port { interface: interface.to_owned(), role: Role::Mirror, mode }
    }

    /// The programs with `192.0.2.0/24`, of a mirror port, and the victim's line.
    fn guarding() -> (Object, kernel::Rings, Territory, HostId) {
        let (network, _) = Prefix::parse_masked("192.0.2.0/24").unwrap();
        let ours = PrefixSet::merged([network]).0;
        let (plan, writes) = Plan::new(&ours, 64).unwrap();
        let shape = plan.shape(kernel::possible_cpus().unwrap(), 7);
        let (object, parts, rings) = kernel::load(Frozen::of(shape)).unwrap();
        let Parts { directory, flags, .. } = parts;
        let flags = vec![flags.redirecting()];
        let mut territory = Territory::new(ours, plan, &writes, shape, vec![directory], flags);
        let host = territory.host(VICTIM.into()).unwrap();
        (object, rings, territory, host)
    }

    #[test]
    fn the_stack_s_mode_has_sockets_too() {
        let capture = format!("engine = \"xdp_generic\"\n{MIRROR}");
        flood("xskgen", 1, &capture, "af_xdp (copy, 1 queue)", 100);
    }

    #[test]
    fn two_queues_have_two_sockets_and_both_take_packets() {
        let lab = Lab::with("xsk2", LabOptions { queues: 2 }).unwrap();
        let agent = Agent::start(&lab, &setup());
        assert_eq!(agent.status().evidence, "af_xdp (copy, 2 queues)");
        ping(&lab, "before the ban");
        agent.order(&Request::ban(VICTIM.into(), Way::Incoming)).unwrap();
        // Armed until its dump is full: others pass, in the same /24, whoever is taken.
        ping(&lab, "while another host is armed");
        let mut sender = lab.sender_outside().unwrap();
        let sent = 40 + sender.send(&to(VICTIM), 400, Pace::Pps(2_000)).unwrap();
        check_dump(&agent);
        let status = agent.settled(sent);
        assert_eq!(status.packets.received, sent);
        assert_eq!((status.packets.redirected, status.packets.samples_lost), (100, 0));
        let output = lab.command_inside("ethtool").args(["-S", "in0"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let redirected: Vec<u64> = (0..2)
            .map(|queue| {
                let name = format!("rx_queue_{queue}_xdp_redirect: ");
                let line = text.lines().find_map(|line| line.trim().strip_prefix(&name));
                line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
            })
            .collect();
        assert!(redirected.iter().all(|&queue| queue > 0), "{redirected:?}");
        assert_eq!(redirected.iter().sum::<u64>(), 100);
        ping(&lab, "after the dump");
    }

    #[test]
    fn a_killed_agent_leaves_a_mirror_port_clean_and_the_next_one_has_its_sockets() {
        let lab = Lab::new("xskkill").unwrap();
        let clean = Attached { xdp: Xdp::None, tcx_ingress: 0, tcx_egress: 0 };
        for _ in 0..3 {
            let mut agent = Agent::start(&lab, &setup());
            assert_eq!(agent.status().evidence, "af_xdp (copy, 1 queue)", "{}", agent.log());
            agent.order(&Request::ban(VICTIM.into(), Way::Incoming)).unwrap();
            agent.end(Signal::Kill);
            wait("the programs to go", || {
                Some(lab.attached_inside().unwrap()).filter(|attached| *attached == clean)
            });
            ping(&lab, "after kill -9");
        }
    }

    #[test]
    fn a_mirror_port_that_goes_away_is_an_alarm_and_the_agent_still_ends() {
        let lab = Lab::new("xskgone").unwrap();
        let mut agent = Agent::start(&lab, &setup());
        let gone = lab.command_inside("ip").args(["link", "delete", "in0"]).status().unwrap();
        assert!(gone.success());
        wait("an alarm", || {
            let alarms = agent.status().alarms;
            alarms.iter().any(|alarm| alarm.contains("`in0` is gone or down")).then_some(())
        });
        let status = agent.end(Signal::Terminate);
        assert!(status.success(), "{status}");
    }

    #[test]
    fn a_queue_that_is_taken_already_keeps_its_copies() {
        let lab = Lab::new("xskbusy").unwrap();
        let (mut object, _rings, _territory, _host) = guarding();
        let sockets = object.sockets().unwrap();
        let ports = [port(INSIDE_INTERFACE, Mode::Native)];
        let (squatter, _) =
            lab.run_inside(move || AfXdpEngine::open(sockets, &ports, Moment::default)).unwrap();
        assert!(squatter.is_some());
        let agent = Agent::start(&lab, &setup());
        assert_eq!(agent.status().evidence, "ring");
        let log = agent.log();
        assert!(
            log.contains("Queues have no AF_XDP socket; copies come through the ring."),
            "{log}"
        );
        assert!(log.contains("busy"), "{log}");
        let mut sender = lab.sender_outside().unwrap();
        let sent = sender.send(&to(VICTIM), 60_000, Pace::Pps(60_000)).unwrap();
        check_dump(&agent);
        let status = agent.settled(sent);
        assert_eq!((status.packets.received, status.packets.redirected), (sent, 0));
        drop(squatter);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        const SENT: u64 = 2_000;
        let lab = Lab::new("xskfull").unwrap();
        let (mut object, _rings, mut territory, host) = guarding();
        let ports = [port(INSIDE_INTERFACE, Mode::Native)];
        let sockets = object.sockets().unwrap();
        let (attached, engine) = lab
            .run_inside(move || {
                let attached = kernel::attach(object, &ports, Egress::Tcx).unwrap();
                (attached, AfXdpEngine::open(sockets, &ports, Moment::default).0)
            })
            .unwrap();
        let mut engine = engine.unwrap();
        territory.arm(host, VICTIM.into(), 1_500);
        let mut sender = lab.sender_outside().unwrap();
        sender.send(&to(VICTIM), SENT, Pace::Pps(20_000)).unwrap();
        wait("all of them to arrive", || {
            (lab.statistics_inside().unwrap().rx_packets >= SENT).then_some(())
        });
        // Nobody took anything meanwhile, so the first 512 fill the memory there is.
        let (mut taken, mut lost) = (Taken::default(), 0);
        while engine
            .poll(Duration::from_millis(100), &mut taken)
            .map(|polled| {
                lost += polled.lost;
                polled.taken > 0
            })
            .unwrap()
        {}
        assert_eq!((taken.0, lost), (512, 1_500 - 512));
        // And it goes on when there is room again.
        territory.arm(host, VICTIM.into(), 10);
        sender.send(&to(VICTIM), 20, Pace::Pps(20_000)).unwrap();
        wait("the rest", || {
            let polled = engine.poll(Duration::from_millis(20), &mut taken).unwrap();
            assert_eq!(polled.lost, 0);
            (taken.0 == 522).then_some(())
        });
        drop((attached, engine));
    }

    #[test]
    fn only_a_mirror_port_s_program_takes_packets_away() {
        let lab = Lab::new("xskwho").unwrap();
        let (mut object, mut rings, mut territory, host) = guarding();
        lab.run_inside(move || {
            let frame = Frame::udp(Ipv4Addr::new(203, 0, 113, 9), VICTIM, 1, 2).payload(18).bytes();
            let other = Frame::udp(Ipv4Addr::new(203, 0, 113, 9), OTHER, 1, 2).payload(18).bytes();
            let sockets = object.sockets().unwrap();
            // A test run's frames come by the first queue of the loopback interface.
            let ports = [port("lo", Mode::Generic)];
            let (engine, bound) = AfXdpEngine::open(sockets, &ports, Moment::default);
            assert!(engine.is_some(), "{bound:?}");
            let mut copies = || rings.drain(|_| {});
            let mut run = |name, frame: &[u8]| object.run_xdp(name, frame).unwrap();
            territory.arm(host, VICTIM.into(), 2);
            assert_eq!(run(program::XDP_UPLINK, &frame), XDP_PASS);
            assert_eq!(copies(), 1);
            assert_eq!(run(program::XDP_MIRROR, &other), XDP_PASS);
            assert_eq!(run(program::XDP_MIRROR, &frame), XDP_REDIRECT);
            // The budget is used up; what was taken is not copied as well.
            assert_eq!(run(program::XDP_MIRROR, &frame), XDP_PASS);
            assert_eq!(copies(), 0);
            territory.arm(host, VICTIM.into(), 20_000);
            for length in 0..frame.len() {
                for byte in 0..=255 {
                    let mut changed = frame.clone();
                    changed[length] = byte;
                    assert_eq!(run(program::XDP_UPLINK, &changed), XDP_PASS);
                }
            }
            copies();
            drop(engine);
            // Where nobody waits any more, the packet goes on and a copy is kept.
            territory.arm(host, VICTIM.into(), 1);
            assert_eq!(run(program::XDP_MIRROR, &frame), XDP_PASS);
            assert_eq!(copies(), 1);
        })
        .unwrap();
    }
}
