//! A look at the ports with eyes of our own: whose packets come by?
//!
//! The kernel programs keep copies of packets of our networks alone, so whose the others are nobody
//! has put down. Packet sockets see what XDP passes on, with or without an agent.
//!
//! **Invariant**: bounded by [`MOST`] packets, by [`PREFIXES`] prefixes and by the time it is given.
//! The sockets go with the look.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use fastnetmon_common::abi::{Hint, Stranger};
use fastnetmon_common::wire::Captured;

use crate::capture::{AfPacketEngine, Engine as _, Frame, Intake, RoleName, Sample, Starts};
use crate::doctor::Look;
use crate::kernel::{self, ANY, Mode};
use crate::model::{Moment, Prefix, Seen, Sides};
use crate::networks::PrefixSet;

/// Packets that are looked at, at most.
const MOST: u64 = 20_000;

/// Prefixes that are told apart, at most.
const PREFIXES: usize = 4096;

/// Between two questions whether to go on.
const PATIENCE: Duration = Duration::from_millis(20);

/// A prefix that is not ours, and how many packets had an end in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outside {
    /// A /24 or a /48.
    pub prefix: Prefix,
    /// How many packets.
    pub packets: u64,
}

impl Outside {
    /// Is it one of those that are not routed in the world?
    pub fn is_private(&self) -> bool {
        match self.prefix.address() {
            IpAddr::V4(address) => {
                let [first, second, ..] = address.octets();
                address.is_private() || (first == 100 && (64..128).contains(&second))
            }
            IpAddr::V6(address) => address.is_unique_local(),
        }
    }
}

/// What comes by, sorted by whose it is.
#[derive(Debug)]
struct Watcher<'a> {
    ours: &'a PrefixSet,
    packets: u64,
    touched: u64,
    outside: HashMap<Prefix, u64>,
}

/// Looks at these ports until `until`, or as long as `goes_on`.
pub(super) fn look(
    interfaces: &[String],
    role: RoleName,
    ours: &PrefixSet,
    until: Moment,
    now: fn() -> Moment,
    goes_on: impl Fn() -> bool,
) -> Look {
    let blind = |reason: String| Look { blind: Some(reason), ..Look::default() };
    let there = kernel::interfaces().unwrap_or_default();
    let ports: Vec<kernel::Port> = interfaces
        .iter()
        .filter(|name| *name != ANY && there.get(*name).is_some_and(|interface| interface.up))
        .map(|interface| kernel::Port {
            interface: interface.clone(),
            role: role.role(),
            mode: Mode::Native,
        })
        .collect();
    if ports.is_empty() {
        return blind("no port is there and up".to_owned());
    }
    let mut engine = match AfPacketEngine::open(&ports, NonZeroU32::MIN, now) {
        Ok(engines) => match engines.into_iter().next() {
            Some(engine) => engine,
            None => return blind("no socket was opened".to_owned()),
        },
        Err(error) => return blind(error.to_string()),
    };
    let mut watcher = Watcher { ours, packets: 0, touched: 0, outside: HashMap::new() };
    while now() < until && watcher.packets < MOST && goes_on() {
        if let Err(error) = engine.poll(PATIENCE, &mut watcher) {
            return blind(error.to_string());
        }
    }
    watcher.told()
}

impl Watcher<'_> {
    fn told(self) -> Look {
        let mut outside: Vec<Outside> =
            self.outside.into_iter().map(|(prefix, packets)| Outside { prefix, packets }).collect();
        outside.sort_by_key(|one| (std::cmp::Reverse(one.packets), one.prefix));
        Look { blind: None, packets: self.packets, ours: self.touched, outside }
    }

    fn take(&mut self, seen: &Seen, sides: Sides) {
        self.packets += 1;
        let ends = [(seen.target, sides.destination()), (seen.source, sides.source())];
        let ends = ends.into_iter().filter(|&(_, counts)| counts).map(|(end, _)| end);
        let ends: Vec<IpAddr> = ends.collect();
        if ends.iter().any(|&end| self.ours.contains(end)) {
            self.touched += 1;
            return;
        }
        for end in ends.into_iter().filter(is_somebodys) {
            let prefix = Prefix::around(end, if end.is_ipv4() { 24 } else { 48 });
            let is_full = self.outside.len() >= PREFIXES;
            match self.outside.get_mut(&prefix) {
                Some(packets) => *packets += 1,
                None if is_full => {}
                None => drop(self.outside.insert(prefix, 1)),
            }
        }
    }
}

/// Could a network be guarded that this address is in?
fn is_somebodys(end: &IpAddr) -> bool {
    let is_local = match end {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_local && !end.is_multicast() && !end.is_unspecified() && !end.is_loopback()
}

impl Intake for Watcher<'_> {
    fn frame(&mut self, at: Moment, sides: Sides, frame: &Frame<'_>) {
        let bytes = frame.bytes;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let captured = Captured { bytes, wire_len: frame.wire_bytes.unwrap_or(length) };
        let seen = match frame.starts {
            Starts::Ethernet => Seen::from_ethernet(at, captured),
            Starts::Ip => Seen::from_ip(at, captured),
            Starts::Typed(ethertype) => Seen::from_typed(at, captured, ethertype),
        };
        if let Some(seen) = seen {
            self.take(&seen, sides);
        }
    }

    fn sample(&mut self, _sample: &Sample<'_>) {}

    fn redirected(&mut self, _at: Moment, _frame: &Frame<'_>) {}

    fn hint(&mut self, _hint: Hint) {}

    fn stranger(&mut self, _stranger: Stranger) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(source: &str, target: &str) -> Seen {
        let [source, target]: [IpAddr; 2] = [source, target].map(|end| end.parse().unwrap());
        Seen::of(source, target)
    }

    #[track_caller]
    fn check(packets: &[(&str, &str, Sides)], touched: u64, outside: &[(&str, u64)]) {
        let ours = ["192.0.2.0/24", "2001:db8::/32"];
        let ours = PrefixSet::merged(ours.map(|text| Prefix::parse_masked(text).unwrap().0)).0;
        let mut watcher = Watcher { ours: &ours, packets: 0, touched: 0, outside: HashMap::new() };
        for (source, target, sides) in packets {
            watcher.take(&seen(source, target), *sides);
        }
        let look = watcher.told();
        assert_eq!((look.packets, look.ours), (u64::try_from(packets.len()).unwrap(), touched));
        let found: Vec<(String, u64)> =
            look.outside.iter().map(|one| (one.prefix.to_string(), one.packets)).collect();
        let outside: Vec<(String, u64)> =
            outside.iter().map(|(prefix, packets)| ((*prefix).to_owned(), *packets)).collect();
        assert_eq!(found, outside);
    }

    #[test]
    fn what_arrives_is_its_targets_and_what_leaves_its_sources() {
        let arrives = ("203.0.113.9", "198.51.100.7", Sides::Destination);
        let leaves = ("198.51.100.8", "203.0.113.9", Sides::Source);
        check(&[arrives, leaves, arrives], 0, &[("198.51.100.0/24", 3)]);
        check(&[("203.0.113.9", "192.0.2.7", Sides::Destination)], 1, &[]);
        // A spoofed source of ours makes no packet of ours.
        check(&[("192.0.2.7", "198.51.100.7", Sides::Destination)], 0, &[("198.51.100.0/24", 1)]);
        check(&[("2001:db8::1", "2001:db9:1:2::1", Sides::Both)], 1, &[]);
        check(&[("::1", "2001:db9:1:2::1", Sides::Destination)], 0, &[("2001:db9:1::/48", 1)]);
    }

    #[test]
    fn a_mirror_shows_both_ends_and_nobodys_addresses_are_not_named() {
        let both = ("203.0.113.9", "198.51.100.7", Sides::Both);
        check(&[both], 0, &[("198.51.100.0/24", 1), ("203.0.113.0/24", 1)]);
        for target in ["224.0.0.1", "255.255.255.255", "169.254.1.1", "ff02::1", "fe80::1"] {
            check(&[("203.0.113.9", target, Sides::Destination)], 0, &[]);
        }
    }

    #[test]
    fn prefixes_are_bounded() {
        let ours = PrefixSet::default();
        let mut watcher = Watcher { ours: &ours, packets: 0, touched: 0, outside: HashMap::new() };
        for number in 0..10_000_u32 {
            let target = std::net::Ipv4Addr::from(0x0b00_0000 + number * 256).to_string();
            watcher.take(&seen("203.0.113.9", &target), Sides::Destination);
        }
        assert_eq!(watcher.told().outside.len(), PREFIXES);
    }

    #[test]
    fn private_ranges_are_known() {
        for (prefix, expected) in [
            ("10.1.2.0/24", true),
            ("100.64.1.0/24", true),
            ("100.128.1.0/24", false),
            ("198.51.100.0/24", false),
            ("fd00::/48", true),
            ("2001:db8::/48", false),
        ] {
            let prefix = Prefix::parse_masked(prefix).unwrap().0;
            assert_eq!(Outside { prefix, packets: 1 }.is_private(), expected, "{prefix}");
        }
    }
}
