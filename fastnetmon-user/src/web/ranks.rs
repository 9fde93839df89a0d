//! Hosts in order, once a report: who asks next finds them in order; and networks.
//!
//! **Invariant**: an order is that of the report it is asked with, never of the one before. What is
//! kept is one line a host and order, and only of orders that somebody asked for. No question sorts
//! all hosts: pages are put in order as they are asked for.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::model::{Direction, Prefix, Tally};
use crate::reports::{HostLoad, NetworkLoad, Report};
use crate::web::words::Sort;

/// The orders of the latest report that was asked for.
#[derive(Debug, Default)]
pub(super) struct Ranks(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    report: u64,
    orders: Vec<((Direction, Sort), Order)>,
    /// Room of orders of the report before: the next ones are as long.
    spare: Vec<Vec<Line>>,
}

/// Some hosts or networks of a report: how many match, and those that were asked for by their place in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) matching: usize,
    pub(super) places: Vec<usize>,
}

/// Hosts in parts of [`PART`] lines; those that are `sorted` are as if all were.
#[derive(Debug, Default)]
struct Order {
    lines: Vec<Line>,
    sorted: BTreeSet<usize>,
}

/// A host's loudness, its address and its place in the report.
type Line = (Reverse<u64>, IpAddr, u32);

/// Lines that are put in order together.
const PART: usize = 1024;

impl Ranks {
    /// The hosts from `offset` on, at most `limit` of them.
    pub(super) fn find(
        &self,
        report: &Report,
        by: (Direction, Sort),
        within: Option<Prefix>,
        range: (usize, usize),
    ) -> Found {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.find(report, by, within, range)
    }
}

impl Kept {
    fn find(
        &mut self,
        report: &Report,
        by: (Direction, Sort),
        within: Option<Prefix>,
        (offset, limit): (usize, usize),
    ) -> Found {
        if self.report != report.number {
            self.report = report.number;
            let rooms = self.orders.drain(..).map(|(_, order)| order.lines);
            self.spare = rooms
                .map(|mut room| {
                    room.clear();
                    // A carpet of attacks that is over shall not hold memory for ever.
                    room.shrink_to(report.hosts.len());
                    room
                })
                .collect();
        }
        let at = self.orders.iter().position(|(order, _)| *order == by).unwrap_or_else(|| {
            let room = self.spare.pop().unwrap_or_default();
            self.orders.push((by, Order::of(&report.hosts, by, room)));
            self.orders.len() - 1
        });
        let Some((_, order)) = self.orders.get_mut(at) else {
            return Found { matching: 0, places: Vec::new() };
        };
        let range = offset..offset.saturating_add(limit);
        match within {
            None => Found { matching: report.moved, places: order.places(range) },
            Some(prefix) => {
                let lines = order.lines.iter().filter(|(_, address, _)| prefix.contains(*address));
                let mut some = Order::from(lines.copied().collect::<Vec<_>>());
                Found { matching: some.lines.len(), places: some.places(range) }
            }
        }
    }
}

impl Order {
    /// All hosts, in the empty room of an order that is not needed any more.
    fn of(hosts: &[HostLoad], (direction, sort): (Direction, Sort), mut lines: Vec<Line>) -> Self {
        let line = |(place, host): (u32, &HostLoad)| {
            (Reverse(loudness(host.total(direction), sort)), host.address, place)
        };
        lines.extend((0..).zip(hosts).map(line));
        Self::from(lines)
    }

    /// The places of these, in order.
    fn places(&mut self, range: Range<usize>) -> Vec<usize> {
        let range = range.start.min(self.lines.len())..range.end.min(self.lines.len());
        for part in range.start / PART..range.end.div_ceil(PART) {
            self.sort(part);
        }
        let lines = self.lines.get(range).unwrap_or_default();
        lines.iter().map(|&(_, _, place)| place as usize).collect()
    }

    /// Puts a part in order, if it is not: of all hosts, its own between those before and after it.
    fn sort(&mut self, part: usize) {
        if !self.sorted.insert(part) {
            return;
        }
        // What lies beyond a sorted part stays beyond it.
        let from = self.sorted.range(..part).next_back().map_or(0, |before| (before + 1) * PART);
        let to = self.sorted.range(part + 1..).next().map_or(usize::MAX, |after| after * PART);
        let to = to.min(self.lines.len());
        let Some(lines) = self.lines.get_mut(from..to) else { return };
        let mut own = lines;
        let before = part * PART - from;
        if before > 0 && before < own.len() {
            own.select_nth_unstable(before);
            own = own.split_at_mut(before).1;
        }
        if PART < own.len() {
            own.select_nth_unstable(PART);
            own = own.split_at_mut(PART).0;
        }
        own.sort_unstable();
    }
}

impl From<Vec<Line>> for Order {
    fn from(lines: Vec<Line>) -> Self {
        Self { lines, sorted: BTreeSet::new() }
    }
}

/// The networks from `offset` on, at most `limit` of them; each report and each question has its own
/// order, since they are few.
pub(super) fn networks(
    report: &Report,
    by: (Direction, Sort),
    within: Option<Prefix>,
    (offset, limit): (usize, usize),
) -> Found {
    let lies_in = |outer: Prefix, inner: Prefix| {
        outer.len() <= inner.len() && outer.contains(inner.address())
    };
    let loads = (0..).zip(report.networks.iter());
    let matching = loads.filter(|(_, load)| within.is_none_or(|outer| lies_in(outer, load.prefix)));
    let line = |(place, load): (u32, &NetworkLoad)| {
        (Reverse(loudness(load.gained.of(by.0).total(), by.1)), load.prefix.address(), place)
    };
    let mut order = Order::from(matching.map(line).collect::<Vec<_>>());
    let places = order.places(offset..offset.saturating_add(limit));
    Found { matching: order.lines.len(), places }
}

/// What goes before the address in this order.
const fn loudness(total: Tally, sort: Sort) -> u64 {
    match sort {
        Sort::Address => 0,
        Sort::Packets => total.packets,
        Sort::Bytes => total.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Gain;
    use crate::model::{Class, Counts, HostId};
    use crate::reports::Gained;

    /// Hosts of a /16 with loudnesses that stand in no order, and many of them alike.
    fn report(number: u64, hosts: u32) -> Report {
        let host = |at: u32| {
            let mut counts = Counts::default();
            let packets = u64::from(at.wrapping_mul(2_654_435_761) >> 20) + number;
            counts.0[Class::Udp as usize] = Tally { packets, bytes: 5000 - packets };
            let gain = Gain::new(HostId(at), Direction::Incoming, &counts, Tally::default());
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + at).into();
            HostLoad::new(address, 0, Some(gain), None)
        };
        let moved = usize::try_from(hosts).unwrap();
        Report { number, hosts: (0..hosts).map(host).collect(), moved, ..Report::default() }
    }

    /// What a plain sort of all of them says.
    fn plainly(
        report: &Report,
        (direction, sort): (Direction, Sort),
        within: Option<Prefix>,
        (offset, limit): (usize, usize),
    ) -> Found {
        let mut lines = Order::of(&report.hosts, (direction, sort), Vec::new()).lines;
        lines.retain(|(_, address, _)| within.is_none_or(|prefix| prefix.contains(*address)));
        lines.sort();
        let places = lines.iter().skip(offset).take(limit).map(|&(_, _, place)| place as usize);
        Found { matching: lines.len(), places: places.collect() }
    }

    #[test]
    fn whatever_was_asked_before_the_order_is_that_of_a_plain_sort() {
        let ranks = Ranks::default();
        let part = Prefix::parse_masked("10.0.4.0/22").unwrap().0;
        for (number, hosts) in [(1, 5000), (2, 5000), (3, 700), (4, 0)] {
            let report = report(number, hosts);
            for range in [
                (0, 20),
                (1000, 100),
                (0, 20),
                (4990, 50),
                (2000, 5),
                (2040, 1100),
                (6000, 9),
                (3071, 1),
                (0, 0),
                (0, 5000),
            ] {
                for by in [
                    (Direction::Incoming, Sort::Packets),
                    (Direction::Incoming, Sort::Bytes),
                    (Direction::Incoming, Sort::Address),
                    (Direction::Outgoing, Sort::Packets),
                ] {
                    for within in [None, Some(part)] {
                        let found = ranks.find(&report, by, within, range);
                        assert_eq!(found, plainly(&report, by, within, range), "{by:?} {range:?}");
                    }
                }
            }
        }
    }

    fn load((prefix, packets, bytes): (&str, u64, u64)) -> NetworkLoad {
        let mut gained = Gained::default();
        gained.outgoing.0[Class::Udp as usize] = Tally { packets, bytes };
        NetworkLoad { prefix: Prefix::parse_masked(prefix).unwrap().0, gained, moved: 0 }
    }

    #[test]
    fn networks_come_in_pages_the_loudest_first() {
        let networks = [
            ("198.51.100.0/24", 5, 900),
            ("10.0.0.0/8", 7, 800),
            ("10.9.0.0/16", 7, 100),
            ("2001:db8::/32", 9, 700),
            ("192.0.2.0/24", 0, 0),
        ];
        let report = Report { networks: networks.map(load).into(), ..Report::default() };
        let check = |sort, within: &str, range, expected: (usize, &[usize])| {
            let within = Prefix::parse_masked(within).ok().map(|(prefix, _masked)| prefix);
            let found = super::networks(&report, (Direction::Outgoing, sort), within, range);
            assert_eq!((found.matching, &found.places[..]), expected, "{sort:?} {within:?}");
        };
        check(Sort::Packets, "", (0, 3), (5, &[3, 1, 2]));
        check(Sort::Packets, "", (3, 3), (5, &[0, 4]));
        check(Sort::Packets, "", (5, 3), (5, &[]));
        check(Sort::Bytes, "", (0, 9), (5, &[0, 1, 3, 2, 4]));
        check(Sort::Packets, "10.0.0.0/8", (0, 9), (2, &[1, 2]));
        check(Sort::Packets, "10.9.0.0/12", (0, 9), (1, &[2]));
        check(Sort::Packets, "10.9.0.7", (0, 9), (0, &[]));
        check(Sort::Packets, "::/0", (0, 9), (1, &[3]));
    }

    #[test]
    fn by_address_all_networks_are_found_however_loud_they_are_at_each_page() {
        let prefixes = ["198.51.100.0/24", "10.0.0.0/8", "2001:db8::/32", "192.0.2.0/24"];
        let page = |loud: [u64; 4], sort, offset| {
            let networks =
                std::iter::zip(prefixes, loud).map(|(prefix, loud)| load((prefix, loud, loud)));
            let report = Report { networks: networks.collect(), ..Report::default() };
            super::networks(&report, (Direction::Outgoing, sort), None, (offset, 2)).places
        };
        // Between the two pages, the quiet became loud.
        let (before, then) = ([9, 8, 2, 1], [1, 2, 8, 9]);
        let pages = |sort| [page(before, sort, 0), page(then, sort, 2)].concat();
        assert_eq!(pages(Sort::Address), [1, 3, 0, 2]);
        assert_eq!(pages(Sort::Packets), [0, 1, 1, 0], "this is what it is for");
    }
}
