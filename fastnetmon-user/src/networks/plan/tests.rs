//! A plan against a naive model: an address is ours when a prefix holds it.

use std::collections::HashMap;

use fastnetmon_common::directory::{find4, find6};
use fastnetmon_common::table::{Limit, Line, Tables};

use super::*;
use crate::model::Direction;

/// The entries of a plan, as memory.
#[derive(Default)]
struct Memory(HashMap<Entry, u32>);

impl Memory {
    fn apply(&mut self, writes: Vec<(Entry, u32)>) {
        self.0.extend(writes);
    }

    fn read(&self, at: Entry) -> u32 {
        self.0.get(&at).copied().unwrap_or(0)
    }
}

#[derive(Clone, Copy)]
struct NoLine;

impl Line for NoLine {
    fn get(self, _: usize) -> u64 {
        0
    }
    fn set(self, _: usize, _: u64) {}
}

impl Tables for Memory {
    type Line = NoLine;
    type Down = [u64; 6];
    fn t1(&self, high: u32) -> u32 {
        self.read(Entry::Root4(u16::try_from(high).unwrap()))
    }
    fn t6(&self, high: u32) -> u32 {
        self.read(Entry::Root6(u16::try_from(high).unwrap()))
    }
    fn t2(&self, element: u32, byte: u32) -> u32 {
        self.read(Entry::Step { element, byte: u8::try_from(byte).unwrap() })
    }
    fn bucket(&self, _: u32) -> Option<NoLine> {
        None
    }
    fn seed(&self) -> u64 {
        0
    }
    fn place(&self, _: Direction, _: u32) -> u32 {
        0
    }
    fn line_at(&self, _: u32) -> Option<NoLine> {
        None
    }
    fn notes(&self) -> Option<NoLine> {
        None
    }
    fn put_down(&self, words: [u64; 6]) -> [u64; 6] {
        words
    }

    fn take_up(&self, down: [u64; 6], word: usize) -> u64 {
        down.get(word).copied().unwrap_or_default()
    }

    fn stir(&self, _: Direction, _: u32) {}
    fn limit(&self, _: Direction, _: u32) -> Limit {
        Limit::default()
    }
    fn hint(&self, _: Direction, _: u32, _: u64) -> bool {
        true
    }
    fn stranger(&self, _: Direction, _: [u64; 2], _: u32) -> bool {
        true
    }
}

fn set_of(texts: &[&str]) -> PrefixSet {
    let prefixes = texts.iter().map(|text| Prefix::parse_masked(text).unwrap().0);
    PrefixSet::merged(prefixes).0
}

/// Does the walk find the slot the plan says, and only for addresses that are ours?
#[track_caller]
fn check(plan: &Plan, memory: &Memory, ours: &PrefixSet, address: &str) {
    let address: IpAddr = address.parse().unwrap();
    match address {
        IpAddr::V4(address) => {
            let expected = ours.contains(address.into()).then(|| plan.host4(address).unwrap().0);
            assert_eq!(
                find4(memory, address.into()).ours().map(|found| found.slot),
                expected,
                "{address}"
            );
            if let Some(slot) = expected {
                assert_eq!(plan.occupant(slot), Some(Occupant::Host(address.into())));
            }
        }
        IpAddr::V6(address) => {
            let [high, low] = *address.octets().as_chunks::<8>().0 else { unreachable!() };
            let found = find6(memory, [high, low].map(u64::from_be_bytes)).ours();
            let expected = plan.prefix_slot(address, ours);
            assert_eq!(found.map(|found| found.slot), expected, "{address}");
            assert!(found.is_none_or(|found| found.stranger));
        }
    }
}

const PREFIXES: &[&str] = &[
    "10.0.0.0/22",
    "192.0.2.128/25",
    "192.0.2.7/32",
    "198.51.100.255/32",
    "2001:db8::/32",
    "2001:db9:8000::/33",
    "2a00::/12",
    "2001:dba:1:2:3::/80",
    "2001:dba:1:2:4:5:6:0/115",
];

const ADDRESSES: &[&str] = &[
    "10.0.0.0",
    "10.0.3.255",
    "10.0.4.0",
    "9.255.255.255",
    "192.0.2.127",
    "192.0.2.128",
    "192.0.2.255",
    "192.0.2.7",
    "192.0.2.8",
    "198.51.100.255",
    "198.51.100.254",
    "2001:db8::",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db7:ffff::",
    "2001:db9:7fff::",
    "2001:db9:8000::",
    "2a0f:ffff::1",
    "2a10::",
    "2001:dba:1:2:3:ffff::",
    "2001:dba:1:2:4::",
    "2001:dba:1:2:4:5:6:1fff",
    "2001:dba:1:2:4:5:6:2000",
];

#[test]
fn an_address_is_found_when_a_prefix_holds_it_and_only_then() {
    let ours = set_of(PREFIXES);
    let (plan, writes) = Plan::new(&ours, 16).unwrap();
    let mut memory = Memory::default();
    memory.apply(writes);
    for address in ADDRESSES {
        check(&plan, &memory, &ours, address);
    }
}

#[test]
fn a_change_keeps_what_stays_and_forgets_what_goes() {
    let before = set_of(PREFIXES);
    let (mut plan, writes) = Plan::new(&before, 16).unwrap();
    let mut memory = Memory::default();
    memory.apply(writes);
    let kept = plan.host4("10.0.1.9".parse().unwrap());
    for after in [
        set_of(&["10.0.1.0/24", "192.0.2.0/24", "2001:db8:1::/48", "2001:dba:1:2:3::/80"]),
        set_of(&["10.0.1.0/24", "192.0.2.7"]),
        set_of(PREFIXES),
        set_of(&["10.0.0.0/23", "2001:db8::/47"]),
    ] {
        memory.apply(plan.replace(&after).unwrap());
        for address in ADDRESSES {
            check(&plan, &memory, &after, address);
        }
        assert_eq!(plan.host4("10.0.1.9".parse().unwrap()), kept);
    }
}

#[test]
fn hosts_named_one_by_one_are_singles_and_their_neighbours_are_not_ours() {
    let ours = set_of(&["2001:db8:1:2::1", "2001:db8:1:2::2"]);
    let (plan, writes) = Plan::new(&ours, 1000).unwrap();
    let mut memory = Memory::default();
    memory.apply(writes);
    assert_eq!(plan.singles().count(), 2);
    // Room for more of them to come.
    assert_eq!(plan.capacity().residents, 2 + 64);
    let (one, other) = (0x2001_0db8_0001_0002, 0x2001_0db8_0001_0003);
    // The bucket is empty here, so the walk ends at "not ours" for both.
    assert_eq!(find6(&memory, [one, 1]).ours(), None);
    assert_eq!(find6(&memory, [other, 1]).ours(), None);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_plan_as_it_was() {
    let before = set_of(&["10.0.0.0/24"]);
    let (mut plan, writes) = Plan::new(&before, 16).unwrap();
    let mut memory = Memory::default();
    memory.apply(writes);
    let error = plan.replace(&set_of(&["10.0.0.0/16"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tables have room for 33 IPv4 blocks and 34 are needed: restart the agent, it makes \
         room at start"
    );
    check(&plan, &memory, &before, "10.0.0.9");
    let hosts: Vec<String> = (0..65).map(|host| format!("2001:db8::{host:x}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).chain(["10.0.0.0/24"]).collect();
    let (mut plan, _) = Plan::new(&before, 16).unwrap();
    assert_eq!(
        plan.replace(&set_of(&hosts)).unwrap_err().to_string(),
        "the tables have room for 64 IPv6 hosts named one by one and 65 are needed: restart the \
         agent, it makes room at start"
    );
}

#[test]
fn few_hosts_stay_in_the_cache_and_many_do_not() {
    let outgrows = |texts: &[&str], residents| {
        let ours =
            PrefixSet::merged(texts.iter().map(|text| Prefix::parse_masked(text).unwrap().0)).0;
        Plan::new(&ours, residents).unwrap().0.outgrows_a_cache()
    };
    assert!(!outgrows(&[], 65_536));
    assert!(!outgrows(&["192.0.2.0/24"], 65_536));
    assert!(!outgrows(&["10.0.0.0/20"], 65_536));
    assert!(outgrows(&["10.0.0.0/19"], 65_536));
    assert!(outgrows(&["2001:db8::/32"], 65_536));
    assert!(!outgrows(&["2001:db8::/32"], 1024));
}
