//! What is to be added, until Redis has it.
//!
//! A second that is sent in time is a list and stays one. When Redis is slow or dead, seconds are
//! added up by host, so that an outage of any length costs a place a host, and nothing is lost while
//! there are places.
//!
//! **Invariant**: pure. An increment is in one place: here, or in the batch that was taken out.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::{Direction, Tally};
use crate::reports::Report;

/// What a host is to be given: by direction.
pub(super) type Sums = [Tally; 2];

/// Bytes a place takes, about.
const PLACE: usize = 128;

/// Increments that wait.
#[derive(Debug)]
pub(super) struct Increments {
    /// The last report, not added up.
    fresh: Vec<(IpAddr, Sums)>,
    kept: HashMap<IpAddr, Sums>,
    places: usize,
    /// Hosts that found no place, and their bytes.
    dropped: (u64, u64),
}

impl Increments {
    /// With room for so many bytes.
    pub(super) fn new(room: usize) -> Self {
        let places = (room / PLACE).max(1);
        Self { fresh: Vec::new(), kept: HashMap::new(), places, dropped: (0, 0) }
    }

    /// Takes a report's hosts.
    pub(super) fn take(&mut self, report: &Report) {
        self.keep();
        self.fresh.reserve(report.hosts.len());
        for host in &report.hosts {
            self.fresh.push((host.address, Direction::BOTH.map(|way| host.total(way))));
        }
        // A second of more hosts than there are places is sent all the same, if it is sent at once.
    }

    /// Adds the last second to those before.
    fn keep(&mut self) {
        for (address, sums) in self.fresh.drain(..) {
            let room = self.kept.len() < self.places;
            match self.kept.get_mut(&address) {
                Some(kept) => {
                    for (kept, sum) in kept.iter_mut().zip(sums) {
                        *kept += sum;
                    }
                }
                None if room => {
                    self.kept.insert(address, sums);
                }
                None => {
                    let bytes: u64 = sums.iter().map(|sum| sum.bytes).sum();
                    self.dropped = (self.dropped.0 + 1, self.dropped.1 + bytes);
                }
            }
        }
    }

    /// Takes up to `count` hosts out, those that waited longest first.
    pub(super) fn out(&mut self, count: usize) -> Vec<(IpAddr, Sums)> {
        if self.kept.is_empty() {
            return self.fresh.split_off(self.fresh.len().saturating_sub(count));
        }
        let some: Vec<IpAddr> = self.kept.keys().take(count).copied().collect();
        some.into_iter()
            .filter_map(|address| Some((address, self.kept.remove(&address)?)))
            .collect()
    }

    /// Hosts that wait; one may be in both lists.
    pub(super) fn waiting(&self) -> usize {
        self.fresh.len() + self.kept.len()
    }

    /// Memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.waiting() * PLACE
    }

    /// Hosts that found no place, and their bytes.
    pub(super) const fn dropped(&self) -> (u64, u64) {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Gain;
    use crate::model::{Class, Counts, HostId};
    use crate::reports::HostLoad;

    fn report(hosts: &[(u8, u64)]) -> Report {
        let hosts: Vec<HostLoad> = hosts
            .iter()
            .map(|&(last, bytes)| {
                let mut counts = Counts::default();
                counts.0[Class::Udp as usize] = Tally { packets: 1, bytes };
                let gain = Gain::new(HostId(1), Direction::Incoming, &counts, Tally::default());
                HostLoad::new([192, 0, 2, last].into(), 0, Some(gain), None)
            })
            .collect();
        Report { hosts, ..Report::default() }
    }

    fn out(increments: &mut Increments, count: usize) -> Vec<(u8, u64)> {
        let mut all: Vec<(u8, u64)> = increments
            .out(count)
            .into_iter()
            .map(|(address, [incoming, _])| match address {
                IpAddr::V4(address) => (address.octets()[3], incoming.bytes),
                IpAddr::V6(_) => (0, 0),
            })
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn seconds_that_were_not_sent_are_one_sum_a_host() {
        let mut increments = Increments::new(1_000_000);
        increments.take(&report(&[(1, 10), (2, 20)]));
        increments.take(&report(&[(1, 5), (3, 7)]));
        increments.take(&report(&[(1, 1)]));
        assert_eq!(out(&mut increments, 9), [(1, 15), (2, 20), (3, 7)]);
        assert_eq!(out(&mut increments, 9), [(1, 1)]);
        assert_eq!(increments.waiting(), 0);
    }

    #[test]
    fn what_finds_no_place_is_told_with_its_bytes_and_the_rest_is_kept() {
        let mut increments = Increments::new(2 * PLACE);
        for _ in 0..10 {
            increments.take(&report(&[(1, 10), (2, 20), (3, 40)]));
        }
        increments.keep();
        assert_eq!(increments.dropped(), (10, 400));
        assert_eq!(out(&mut increments, 9), [(1, 100), (2, 200)]);
    }

    #[test]
    fn hosts_come_out_in_portions() {
        let mut increments = Increments::new(1_000_000);
        increments.take(&report(&[(1, 1), (2, 2), (3, 3)]));
        assert_eq!(out(&mut increments, 2).len(), 2);
        assert_eq!(out(&mut increments, 2).len(), 1);
        assert_eq!(out(&mut increments, 2), []);
    }
}
