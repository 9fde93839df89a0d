//! Additions that wait in the kernel: made together, made where a CPU has gone quiet, never lost.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use fastnetmon_common::abi::program;
use fastnetmon_common::table::gained;
use fastnetmon_user::kernel::{self, Backlog, Frozen, Object};
use fastnetmon_user::model::{Direction, Prefix};
use fastnetmon_user::networks::{Guarded, Plan, PrefixSet, Territory};
use fastnetmon_user::tables::{Lines, Parts};
use rustix::thread::sched_getaffinity;
use xtask::traffic::Frame;

use crate::agent::pin;

const SECOND: Duration = Duration::from_secs(1);

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// Programs that put additions off, and the line of a host.
struct House {
    object: Arc<Object>,
    backlog: Backlog,
    lines: Lines,
    slot: u32,
    territory: Territory,
}

impl House {
    fn new() -> Self {
        let ours = PrefixSet::merged([Prefix::parse_masked("192.0.2.0/24").unwrap().0]).0;
        let (plan, writes) = Plan::new(&ours, 16).unwrap();
        let shape = plan.shape(kernel::possible_cpus().unwrap(), 7);
        let frozen = Frozen { puts_off: true, ..Frozen::of(shape) };
        let (object, parts, _rings) = kernel::load(frozen).unwrap();
        let object = Arc::new(object);
        let backlog = Backlog::of(&object).unwrap().unwrap();
        let Parts { lines, directory, flags, .. } = parts;
        let mut territory =
            Territory::new(ours, plan, &writes, shape, vec![directory], vec![flags]);
        let slot = territory.host(HOST.into()).unwrap().0;
        Self { object, backlog, lines, slot, territory }
    }

    /// So many packets arrive on a CPU.
    fn arrive(&self, cpu: usize, packets: u32) {
        let frame = Frame::udp([198, 18, 0, 1], HOST, 53, 4000).payload(18).bytes();
        let arrive = || {
            pin(cpu);
            self.object.repeat_xdp(program::XDP_UPLINK, &frame, packets).unwrap();
        };
        std::thread::scope(|scope| scope.spawn(arrive).join().unwrap());
    }

    /// Packets and bytes that were added.
    fn counted(&self) -> (u64, u64) {
        let words = self.lines.sum(Direction::Incoming, self.slot);
        words[..6].iter().fold((0, 0), |(packets, bytes), &word| {
            let (more_packets, more_bytes) = gained(0, word);
            (packets + more_packets, bytes + more_bytes)
        })
    }
}

#[test]
fn what_is_left_on_quiet_cpus_is_made_there_and_this_thread_is_back_home() {
    let mut house = House::new();
    house.arrive(0, 3);
    house.arrive(1, 5);
    assert_eq!(house.counted(), (0, 0), "they wait");
    let home = sched_getaffinity(None).unwrap();
    house.backlog.settle(SECOND).unwrap();
    assert_eq!(house.counted(), (8, 8 * 46));
    assert_eq!(sched_getaffinity(None).unwrap(), home);
    // There is nothing left, and nothing is made twice.
    house.backlog.settle(SECOND).unwrap();
    house.backlog.settle_all().unwrap();
    assert_eq!(house.counted().0, 8);
}

#[test]
fn a_packet_makes_what_waits_once_there_are_sixteen() {
    let mut house = House::new();
    for arrived in 1..=80_u64 {
        house.arrive(0, 1);
        // The seventeenth packet finds sixteen, the thirty-third sixteen more.
        assert_eq!(house.counted().0, (arrived - 1) / 16 * 16, "{arrived}");
    }
    house.backlog.settle(SECOND).unwrap();
    assert_eq!(house.counted().0, 80);
}

#[test]
fn a_busy_cpu_is_left_alone_until_it_is_quiet_or_lines_change_hands() {
    let mut house = House::new();
    house.arrive(0, 5_003);
    assert_eq!(house.counted().0, 4_992);
    house.backlog.settle(SECOND).unwrap();
    assert_eq!(house.counted().0, 4_992, "it was busy");
    house.backlog.settle(SECOND).unwrap();
    assert_eq!(house.counted().0, 5_003, "and is not any more");
    house.arrive(1, 5_003);
    house.backlog.settle_all().unwrap();
    assert_eq!(house.counted().0, 10_006);
}

/// A network goes while an addition for it waits on a CPU that is quiet, and another one gets its lines.
#[test]
fn what_waits_is_made_before_its_line_is_somebody_elses() {
    for is_settled in [true, false] {
        let mut house = House::new();
        let other = Ipv4Addr::new(198, 51, 100, 7);
        let only = |network: &str| {
            let prefix = Prefix::parse_masked(network).unwrap().0;
            Guarded { ours: PrefixSet::merged([prefix]).0, ..Guarded::default() }
        };
        house.arrive(1, 3);
        for network in ["203.0.113.0/24", "198.51.100.0/24"] {
            if is_settled {
                house.backlog.settle_all().unwrap();
            }
            house.territory.apply(&only(network), []).unwrap();
        }
        assert_eq!(house.territory.host(other.into()).unwrap().0, house.slot, "it has his line");
        let when_it_came = house.counted().0;
        house.backlog.settle_all().unwrap();
        // Without settling first, three packets are counted for somebody who had none.
        assert_eq!(house.counted().0 - when_it_came, if is_settled { 0 } else { 3 });
        assert_eq!(house.counted().0, 3, "and nothing is lost");
    }
}

#[test]
fn this_thread_may_run_on_every_cpu_and_is_back_home() {
    let home = sched_getaffinity(None).unwrap();
    assert!(kernel::reaches_all_cpus());
    assert_eq!(sched_getaffinity(None).unwrap(), home);
}
