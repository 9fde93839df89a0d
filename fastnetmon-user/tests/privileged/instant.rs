//! Found before the tick, wherever the packets arrive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastnetmon_user::counters::Counters;
use fastnetmon_user::daemon::clock;
use fastnetmon_user::kernel::{self, Frozen, Mode, Port, Role};
use fastnetmon_user::model::Prefix;
use fastnetmon_user::networks::{Guarded, Plan, PrefixSet, Territory};
use xtask::lab::{INSIDE_INTERFACE, Lab, LabOptions};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Setup, pin, wait};

const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const HOOK: &str = "echo \"$1 $4\" >> HERE/calls";

fn flood() -> Pool {
    Pool::new((1..=200).map(|port| Frame::udp(WORLD, VICTIM, 40_000 + port, 53).payload(18)))
}

/// Waits for a reading, so that what follows lies at a known place between two.
fn after_a_reading(agent: &Agent) {
    let uptime = agent.status().uptime_secs;
    wait("a reading", || (agent.status().uptime_secs > uptime).then_some(()));
}

/// As long as a poll of nothing takes.
fn let_pass(span: Duration) {
    let until = Instant::now() + span;
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

#[test]
fn a_flood_that_lies_across_two_readings_is_found_though_neither_shows_it() {
    let lab = Lab::new("straddle").unwrap();
    let agent = Agent::start(&lab, &Setup { hook: HOOK, ..Setup::default() });
    let mut sender = lab.sender_outside().unwrap();
    after_a_reading(&agent);
    let_pass(Duration::from_millis(700));
    // 18,000 before the next reading and 18,000 after it: 36,000 within 0.6 s.
    sender.send(&flood(), 36_000, Pace::Pps(60_000)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.77 ban\n"));
    assert_eq!(agent.settled(36_000).totals.incoming.packets, 36_000);
}

#[test]
fn what_a_group_forbids_is_found_between_two_readings_as_well() {
    let lab = Lab::new("group").unwrap();
    let rest = "[thresholds]\npps = 30000\n[[group]]\nname = \"small\"\n\
                networks = [\"192.0.2.64/26\"]\nthresholds = { udp = { pps = 3000 } }\n";
    let agent = Agent::start(&lab, &Setup { hook: HOOK, rest, ..Setup::default() });
    let mut sender = lab.sender_outside().unwrap();
    after_a_reading(&agent);
    let_pass(Duration::from_millis(700));
    // 1,800 before the next reading and 1,800 after it: neither shows more than is allowed.
    sender.send(&flood(), 3_600, Pace::Pps(6_000)).unwrap();
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.77 ban\n"));
    let bans = agent.status().bans;
    let told: Vec<(&str, &str)> =
        bans.iter().map(|ban| (ban.group.as_str(), ban.kind.as_str())).collect();
    assert_eq!(told, [("small", "udp_flood")]);
    assert!(bans[0].rule.starts_with("udp: 3"), "{}", bans[0].rule);
}

#[test]
fn a_flood_on_one_cpu_and_one_on_all_are_both_found() {
    for spread in [false, true] {
        let lab = Lab::with("spread", LabOptions { queues: 2 }).unwrap();
        let agent = Agent::start(&lab, &Setup { hook: HOOK, ..Setup::default() });
        let cpus: &[usize] = if spread { &[0, 1] } else { &[1] };
        let each = 36_000 / u64::try_from(cpus.len()).unwrap();
        let rate = 60_000 / u32::try_from(cpus.len()).unwrap();
        std::thread::scope(|scope| {
            for &cpu in cpus {
                let mut sender = lab.sender_outside().unwrap();
                scope.spawn(move || {
                    pin(cpu);
                    sender.send(&flood(), each, Pace::Pps(rate)).unwrap();
                });
            }
        });
        agent.folder.wait_for("calls", |text| text.contains("192.0.2.77 ban\n"));
        assert_eq!(agent.settled(36_000).totals.incoming.packets, 36_000, "spread: {spread}");
    }
}

#[test]
fn the_dump_begins_before_the_ban() {
    let lab = Lab::new("before").unwrap();
    // One packet in 16 is kept: when the ban comes, some of its packets are there already.
    let hook = "[ \"$4\" = attack_details ] && cat > HERE/dump.tmp && mv HERE/dump.tmp HERE/dump";
    let agent =
        Agent::start(&lab, &Setup { hook, capture: "sparse_every = 16", ..Setup::default() });
    let mut sender = lab.sender_outside().unwrap();
    // The source port tells which packet it is: 500 of each, in order.
    let numbered = Pool::new((0..36_000_u32).map(|number| {
        let port = u16::try_from(10_000 + number / 500).unwrap();
        Frame::udp(WORLD, VICTIM, port, 53).payload(18)
    }));
    sender.send(&numbered, 36_000, Pace::Pps(60_000)).unwrap();
    let dump = agent.folder.wait_for("dump", |text| text.lines().count() == 100);
    let first = dump.lines().next().unwrap();
    let port: u32 = first.split([':', ' ']).nth(1).unwrap().parse().unwrap();
    // The 30,001st packet made the ban; the dump begins before it.
    assert!((port - 10_000) * 500 < 30_000, "{first}");
}

#[test]
fn thousands_of_changes_under_traffic_cost_not_one_packet() {
    change(false);
}

/// The line of a network that went may be another's when an addition is made that waited for it.
#[test]
fn thousands_of_changes_cost_no_packet_whose_addition_waits() {
    change(true);
}

fn change(puts_off: bool) {
    let lab = Lab::new("change").unwrap();
    let set = |texts: &[&str]| {
        PrefixSet::merged(texts.iter().map(|text| Prefix::parse_masked(text).unwrap().0)).0
    };
    // What is flooded stays; everything around it changes shape.
    let plans = [
        set(&["192.0.2.0/24", "10.0.0.0/24", "2001:db8:1::/48"]),
        set(&["192.0.2.64/26", "10.1.0.0/23", "10.0.0.0/25", "2001:db8::/32"]),
        set(&["192.0.0.0/22", "2001:db8:1:0::/63", "2001:db8:2::/48", "198.51.100.7"]),
        set(&["192.0.2.77", "192.0.2.99", "2001:db8:1::/64", "10.0.0.0/22"]),
    ];
    let all = set(&["192.0.0.0/22", "10.0.0.0/21", "2001:db8::/32", "198.51.100.0/24"]);
    let (mut plan, mut writes) = Plan::new(&all, 64).unwrap();
    writes.extend(plan.replace(&plans[0]).unwrap());
    let shape = plan.shape(kernel::possible_cpus().unwrap(), 7);
    let frozen = Frozen { puts_off, ..Frozen::of(shape) };

    let counted = lab
        .run_inside(|| {
            let (object, parts, _rings) = kernel::load(frozen).unwrap();
            let mut territory = Territory::new(
                plans[0].clone(),
                plan,
                &writes,
                shape,
                vec![parts.directory],
                vec![parts.flags],
            );
            let port = Port {
                interface: INSIDE_INTERFACE.to_owned(),
                role: Role::Uplink,
                mode: Mode::Native,
            };
            let mut counters = Counters::new(vec![parts.lines], clock::now());
            let attached = kernel::attach(object, &[port], kernel::Egress::Tcx).unwrap();
            let mut backlog = attached.backlog().unwrap();
            let mut settle = move || {
                if let Some(backlog) = &mut backlog {
                    backlog.settle_all().unwrap();
                }
            };

            let stop = AtomicBool::new(false);
            let frames = [77, 99]
                .map(|last| Frame::udp(WORLD, Ipv4Addr::new(192, 0, 2, last), 1, 2).payload(18));
            let six: Ipv6Addr = "2001:db8:1::7".parse().unwrap();
            let world: Ipv6Addr = "2001:db9::1".parse().unwrap();
            let pool = Pool::new(frames.into_iter().chain([Frame::udp(world, six, 1, 2)]));
            let mut sender = lab.sender_outside().unwrap();
            let (sent, changes) = std::thread::scope(|scope| {
                let flood = scope.spawn(|| sender.send_until(&pool, Pace::Full, &stop).unwrap());
                let mut changes = 0_u32;
                let mut entries = 0;
                let begun = Instant::now();
                while changes < 4_000 && begun.elapsed() < Duration::from_secs(20) {
                    let next = &plans[usize::try_from(changes + 1).unwrap() % plans.len()];
                    let next = Guarded { ours: next.clone(), ..Guarded::default() };
                    settle();
                    entries += territory.apply(&next, []).unwrap().entries;
                    territory.read(clock::now(), std::iter::empty());
                    changes += 1;
                }
                stop.store(true, Ordering::Relaxed);
                assert!(entries > 10_000, "{entries} entries");
                (flood.join().unwrap(), changes)
            });
            assert!(changes >= 2_000, "{changes} changes");
            assert!(sent > 10_000, "{sent} packets");
            settle();
            let counted = wait("all packets to be counted", || {
                let reading = counters.read(clock::now());
                Some(reading).filter(|reading| !reading.gains.is_empty())
            });
            let mut packets = 0;
            let mut take = |reading: &fastnetmon_user::counters::Reading| {
                assert!(
                    reading.house.other.is_zero(),
                    "a packet of ours was nobody's: {:?}",
                    reading.house
                );
                packets += reading.gains.iter().map(|gain| gain.total().packets).sum::<u64>();
            };
            take(&counted);
            take(&counters.read(clock::now()));
            (packets, sent)
        })
        .unwrap();
    assert_eq!(counted.0, counted.1, "counted, sent");
}

#[test]
fn a_spray_over_an_ipv6_prefix_stays_within_its_room_and_nothing_is_uncounted() {
    let lab = Lab::new("spray").unwrap();
    let setup =
        Setup { networks: "2001:db8::/32\n", in_networks: "ipv6_hosts = 256", ..Setup::default() };
    let agent = Agent::start(&lab, &setup);
    let world: Ipv6Addr = "2001:db9::1".parse().unwrap();
    let base: u128 = "2001:db8:5::".parse::<Ipv6Addr>().unwrap().into();
    let spray = Pool::new(
        (0..20_000_u128)
            .map(|host| Frame::udp(world, Ipv6Addr::from(base + (host << 40) + host), 1, 2)),
    );
    let mut sender = lab.sender_outside().unwrap();
    sender.send(&spray, 60_000, Pace::Pps(20_000)).unwrap();
    let status = agent.settled(60_000);
    assert_eq!(status.totals.incoming.packets, 60_000);
    assert_eq!(status.ipv6.room, 256);
    assert!(status.ipv6.hosts <= 256);
    assert!(status.ipv6.evicted + status.ipv6.refused > 0, "{:?}", status.ipv6);

    // A host that is attacked in the midst of it finds a line and is banned.
    let victim: Ipv6Addr = "2001:db8:7::7".parse().unwrap();
    let attack = Pool::new([Frame::udp(world, victim, 1, 2)]);
    sender.send(&attack, 90_000, Pace::Pps(60_000)).unwrap();
    wait("the ban", || {
        agent.status().bans.iter().any(|ban| ban.ip == IpAddr::from(victim)).then_some(())
    });
}
