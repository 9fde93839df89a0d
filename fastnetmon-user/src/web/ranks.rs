//! Hosts in order, once a report: who asks next finds them in order; and networks.
//!
//! **Invariant**: an order is that of the report it is asked with, never of the one before. What is
//! kept is one line a host and order, and only of orders that somebody asked for.

use std::cmp::Reverse;
use std::net::IpAddr;
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
}

/// Some hosts or networks of a report: how many match, and those that were asked for by their place in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) matching: usize,
    pub(super) places: Vec<usize>,
}

/// A host's loudness, its address and its place in the report; the first in order as far as `sorted`
/// says.
#[derive(Debug, Default)]
struct Order {
    lines: Vec<Line>,
    sorted: usize,
}

type Line = (Reverse<u64>, IpAddr, usize);

/// Lines that are put in order when fewer are asked for.
const AT_LEAST: usize = 1024;

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
            *self = Self { report: report.number, orders: Vec::new() };
        }
        let at = self.orders.iter().position(|(order, _)| *order == by).unwrap_or_else(|| {
            self.orders.push((by, Order::of(&report.hosts, by)));
            self.orders.len() - 1
        });
        let Some((_, order)) = self.orders.get_mut(at) else {
            return Found { matching: 0, places: Vec::new() };
        };
        let end = offset.saturating_add(limit);
        match within {
            None => {
                order.sort(end);
                Found { matching: report.moved, places: places(&order.lines, offset, limit) }
            }
            Some(prefix) => {
                let lines = order.lines.iter().filter(|(_, address, _)| prefix.contains(*address));
                let mut some = Order { lines: lines.copied().collect(), sorted: 0 };
                some.sort(end);
                Found { matching: some.lines.len(), places: places(&some.lines, offset, limit) }
            }
        }
    }
}

impl Order {
    fn of(hosts: &[HostLoad], (direction, sort): (Direction, Sort)) -> Self {
        let line = |(place, host): (usize, &HostLoad)| {
            (Reverse(loudness(host.total(direction), sort)), host.address, place)
        };
        Self { lines: hosts.iter().enumerate().map(line).collect(), sorted: 0 }
    }

    /// Puts so many of the first in order, if they are not.
    fn sort(&mut self, end: usize) {
        let end = end.max(AT_LEAST);
        if self.sorted >= end.min(self.lines.len()) {
            return;
        }
        if end < self.lines.len() && self.sorted == 0 {
            self.lines.select_nth_unstable(end);
            if let Some(first) = self.lines.get_mut(..end) {
                first.sort_unstable();
            }
            self.sorted = end;
        } else {
            self.lines.sort_unstable();
            self.sorted = self.lines.len();
        }
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
    let loads = report.networks.iter().enumerate();
    let matching = loads.filter(|(_, load)| within.is_none_or(|outer| lies_in(outer, load.prefix)));
    let line = |(place, load): (usize, &NetworkLoad)| {
        (Reverse(loudness(load.gained.of(by.0).total(), by.1)), load.prefix.address(), place)
    };
    let mut order = Order { lines: matching.map(line).collect(), sorted: 0 };
    order.sort(offset.saturating_add(limit));
    Found { matching: order.lines.len(), places: places(&order.lines, offset, limit) }
}

/// What goes before the address in this order.
const fn loudness(total: Tally, sort: Sort) -> u64 {
    match sort {
        Sort::Address => 0,
        Sort::Packets => total.packets,
        Sort::Bytes => total.bytes,
    }
}

fn places(lines: &[Line], offset: usize, limit: usize) -> Vec<usize> {
    lines.iter().skip(offset).take(limit).map(|(_, _, place)| *place).collect()
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
        let order = Order::of(&report.hosts, (direction, sort));
        let mut lines = order.lines;
        lines.retain(|(_, address, _)| within.is_none_or(|prefix| prefix.contains(*address)));
        lines.sort();
        Found { matching: lines.len(), places: places(&lines, offset, limit) }
    }

    #[test]
    fn whatever_was_asked_before_the_order_is_that_of_a_plain_sort() {
        let ranks = Ranks::default();
        let part = Prefix::parse_masked("10.0.4.0/22").unwrap().0;
        for (number, hosts) in [(1, 5000), (2, 5000), (3, 700), (4, 0)] {
            let report = report(number, hosts);
            for range in [(0, 20), (1000, 100), (0, 20), (4990, 50), (2000, 5), (6000, 9), (0, 0)] {
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
