//! The last five minutes, as the console saw them.
//!
//! **Invariant**: bounded in hosts and in samples, and pure. What was not seen is a gap, never a
//! zero: a host that is not among the loudest is not silent.

use std::collections::{HashMap, VecDeque};

use crate::control::{Host, HostView, Status, Way};

/// How far back it goes.
pub(super) const SECONDS: u64 = 300;

/// Hosts that are remembered, at most. As many as one status can name.
const HOSTS: usize = 400;

/// One second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sample {
    at: u64,
    /// Packets a second.
    pub(super) pps: u64,
    /// Bits a second.
    pub(super) bps: u64,
}

/// One thing over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(VecDeque<Sample>);

/// Everything that is remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    totals: Both,
    hosts: HashMap<String, Both>,
}

#[derive(Clone, Debug, Default)]
struct Both {
    incoming: Series,
    outgoing: Series,
}

impl Both {
    const fn of(&self, way: Way) -> &Series {
        match way {
            Way::Incoming => &self.incoming,
            Way::Outgoing => &self.outgoing,
        }
    }

    const fn of_mut(&mut self, way: Way) -> &mut Series {
        match way {
            Way::Incoming => &mut self.incoming,
            Way::Outgoing => &mut self.outgoing,
        }
    }

    fn last(&self) -> u64 {
        self.incoming.last().max(self.outgoing.last())
    }
}

impl Series {
    fn last(&self) -> u64 {
        self.0.back().map_or(0, |sample| sample.at)
    }

    /// A second that was seen before is replaced. One that lies before it means that the agent's
    /// clock was set back: what was seen until then belongs nowhere.
    fn add(&mut self, sample: Sample) {
        if sample.at < self.last() {
            self.0.clear();
        }
        if self.0.back().is_some_and(|last| last.at == sample.at) {
            self.0.pop_back();
        }
        self.0.push_back(sample);
        while self.0.front().is_some_and(|first| first.at + SECONDS <= sample.at) {
            self.0.pop_front();
        }
    }

    /// The span until `now`, cut into so many columns, oldest first: the most of each. `None`:
    /// nothing was seen.
    pub(super) fn columns(
        &self,
        now: u64,
        columns: u64,
        of: impl Fn(&Sample) -> u64,
    ) -> Vec<Option<u64>> {
        let mut most = vec![None; usize::try_from(columns).unwrap_or(0)];
        for sample in &self.0 {
            let age = now.saturating_sub(sample.at);
            if age >= SECONDS {
                continue;
            }
            let column = (SECONDS - 1 - age) * columns / SECONDS;
            let place = usize::try_from(column).ok().and_then(|column| most.get_mut(column));
            if let Some(place) = place {
                *place = (*place).max(Some(of(sample)));
            }
        }
        fill(&mut most, columns);
        most
    }

    /// The most of all.
    pub(super) fn peak(&self, of: impl Fn(&Sample) -> u64) -> u64 {
        self.0.iter().map(of).max().unwrap_or(0)
    }
}

/// With more columns than seconds, each second covers several.
fn fill(most: &mut [Option<u64>], columns: u64) {
    let reach = usize::try_from(columns.div_ceil(SECONDS)).unwrap_or(1);
    let mut since = usize::MAX;
    let mut last = None;
    for column in most {
        match column {
            Some(seen) => (last, since) = (Some(*seen), 0),
            None if since.saturating_add(1) < reach => {
                since += 1;
                *column = last;
            }
            None => since = usize::MAX,
        }
    }
}

impl History {
    /// A status came.
    pub(super) fn add(&mut self, at: u64, status: &Status) {
        let totals = status.totals;
        for (way, total) in [(Way::Incoming, totals.incoming), (Way::Outgoing, totals.outgoing)] {
            self.totals.of_mut(way).add(Sample { at, pps: total.pps, bps: total.bps });
        }
        let hosts = &status.hosts;
        for (way, list) in [
            (Way::Incoming, &hosts.incoming_packets),
            (Way::Incoming, &hosts.incoming_bytes),
            (Way::Outgoing, &hosts.outgoing_packets),
            (Way::Outgoing, &hosts.outgoing_bytes),
        ] {
            for Host { ip, pps, bps, .. } in list {
                self.host_mut(ip).of_mut(way).add(Sample { at, pps: *pps, bps: *bps });
            }
        }
        self.forget(at);
    }

    /// The host that is looked at was told of, whether it is loud or not.
    pub(super) fn add_host(&mut self, at: u64, host: &HostView) {
        if !host.has_line {
            return;
        }
        let ip = host.ip.to_string();
        for (way, classes) in [(Way::Incoming, &host.incoming), (Way::Outgoing, &host.outgoing)] {
            let pps = classes.iter().map(|class| class.pps).sum();
            let bps = classes.iter().map(|class| class.bps).sum();
            self.host_mut(&ip).of_mut(way).add(Sample { at, pps, bps });
        }
    }

    /// All hosts together.
    pub(super) const fn total(&self, way: Way) -> &Series {
        self.totals.of(way)
    }

    /// One host.
    pub(super) fn host(&self, ip: &str, way: Way) -> Option<&Series> {
        self.hosts.get(ip).map(|both| both.of(way))
    }

    fn host_mut(&mut self, ip: &str) -> &mut Both {
        if !self.hosts.contains_key(ip) {
            self.hosts.insert(ip.to_owned(), Both::default());
        }
        self.hosts.entry(ip.to_owned()).or_default()
    }

    fn forget(&mut self, now: u64) {
        self.hosts.retain(|_, both| both.last() + SECONDS > now);
        if self.hosts.len() <= HOSTS {
            return;
        }
        let mut lasts: Vec<(u64, String)> =
            self.hosts.iter().map(|(ip, both)| (both.last(), ip.clone())).collect();
        lasts.sort_unstable();
        for (_, ip) in lasts.iter().take(self.hosts.len() - HOSTS) {
            self.hosts.remove(ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Hosts;

    fn series(samples: &[(u64, u64)]) -> Series {
        let mut series = Series::default();
        for &(at, pps) in samples {
            series.add(Sample { at, pps, bps: 0 });
        }
        series
    }

    #[test]
    fn a_column_shows_the_most_of_its_seconds_and_a_gap_is_a_gap() {
        let series = series(&[(701, 5), (749, 7), (752, 1), (1000, 9)]);
        let expected = vec![Some(7), Some(1), None, None, None, Some(9)];
        assert_eq!(series.columns(1000, 6, |sample| sample.pps), expected);
        assert_eq!(series.peak(|sample| sample.pps), 9);
    }

    #[test]
    fn more_columns_than_seconds_have_no_holes() {
        let series = series(&[(998, 1), (999, 2), (1000, 3)]);
        let columns = series.columns(1000, 600, |sample| sample.pps);
        assert_eq!(&columns[594..], [Some(1), Some(1), Some(2), Some(2), Some(3), Some(3)]);
        assert_eq!(columns[593], None);
    }

    #[test]
    fn a_second_is_kept_once_and_five_minutes_are_kept() {
        let mut series = series(&[(1, 1), (1, 2)]);
        assert_eq!(series.0, [Sample { at: 1, pps: 2, bps: 0 }]);
        series.add(Sample { at: 0, pps: 9, bps: 0 });
        assert_eq!(series.0, [Sample { at: 0, pps: 9, bps: 0 }], "the clock was set back");
        for at in 2..=1000 {
            series.add(Sample { at, pps: at, bps: 0 });
        }
        assert_eq!((series.0.len(), series.0[0].at), (300, 701));
    }

    #[test]
    fn hosts_are_bounded_and_the_ones_seen_last_stay() {
        let mut history = History::default();
        for at in 0..50 {
            let hosts = (0..100_u64).map(|host| Host {
                ip: format!("2001:db8::{:x}", at * 100 + host),
                pps: 1,
                bps: 1,
                banned: false,
            });
            let hosts = Hosts { incoming_packets: hosts.collect(), ..Hosts::default() };
            history.add(at, &Status { hosts, ..Status::default() });
            assert!(history.hosts.len() <= HOSTS);
        }
        assert!(history.host("2001:db8::1387", Way::Incoming).is_some());
        assert!(history.host("2001:db8::0", Way::Incoming).is_none());
    }
}
