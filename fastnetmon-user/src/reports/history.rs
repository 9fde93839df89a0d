//! What was: the last five minutes second by second, the last hour in steps of ten seconds.
//!
//! **Invariant**: bounded. A series takes at most [`SERIES_BYTES`]; there is one for the whole, one
//! for each of at most [`NETWORKS`] networks and [`HOSTS`] hosts, the loudest; about 31 MB when all
//! are full. A host that is not among the loudest for five minutes makes room.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Direction, PerSecond, Prefix, Tally};
use crate::reports::{HostLoad, Report};

/// Networks that have a series.
pub const NETWORKS: usize = 1000;

/// Hosts that have a series.
pub const HOSTS: usize = 1000;

/// Bytes of a full series.
pub const SERIES_BYTES: usize = (FINE + COARSE) * size_of::<Point>();

/// Points of a second.
const FINE: usize = 300;

/// Points of ten seconds: an hour, of which the fine ones tell the end better.
const COARSE: usize = 360;

/// Seconds in a coarse point.
const STEP: u64 = 10;

/// A series that nobody added to for so many seconds makes room.
const QUIET_SECS: u64 = 300;

/// The speeds at one time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Point {
    /// Seconds since 1970, at its end.
    pub unix: u64,
    /// Packets a second to us.
    pub incoming_pps: u32,
    /// Packets a second from us.
    pub outgoing_pps: u32,
    /// Bytes a second to us.
    pub incoming_bytes: u64,
    /// Bytes a second from us.
    pub outgoing_bytes: u64,
}

/// One line of a chart.
#[derive(Clone, Debug, Default)]
pub struct Series {
    fine: VecDeque<Point>,
    coarse: VecDeque<Point>,
    /// Points that will make the next coarse one.
    waiting: u64,
}

/// Which series keep more than five minutes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Depth {
    FiveMinutes,
    Hour,
}

/// All series.
#[derive(Debug, Default)]
pub struct History {
    totals: Series,
    networks: HashMap<Prefix, Series>,
    hosts: HashMap<IpAddr, Series>,
}

impl History {
    /// Takes what a report tells, of hosts that of its loudest: at most [`HOSTS`].
    pub fn take(&mut self, report: &Report, loudest: &[&HostLoad]) {
        let unix = report.unix.as_secs();
        let point = |incoming: Tally, outgoing: Tally| point(unix, report.span, incoming, outgoing);
        let gained = report.gained;
        self.totals.push(point(gained.incoming, gained.outgoing), Depth::Hour);
        for load in report.networks.iter() {
            let [incoming, outgoing] =
                Direction::BOTH.map(|direction| load.gained.of(direction).total());
            let is_quiet = incoming.is_zero() && outgoing.is_zero();
            if let Some(series) = self.networks.get_mut(&load.prefix) {
                series.push(point(incoming, outgoing), Depth::Hour);
            } else if !is_quiet && self.networks.len() < NETWORKS {
                let series = self.networks.entry(load.prefix).or_default();
                series.push(point(incoming, outgoing), Depth::Hour);
            }
        }
        self.take_hosts(report, loudest, unix);
        self.hosts.retain(|_, series| !series.is_over(unix));
        self.networks.retain(|prefix, series| {
            !series.is_silent() || report.networks.iter().any(|load| load.prefix == *prefix)
        });
    }

    fn take_hosts(&mut self, report: &Report, loudest: &[&HostLoad], unix: u64) {
        let point = |host: &HostLoad| {
            let [incoming, outgoing] = Direction::BOTH.map(|direction| host.total(direction));
            point(unix, report.span, incoming, outgoing)
        };
        let mut others = Vec::new();
        for &host in loudest {
            match self.hosts.get_mut(&host.address) {
                Some(series) => series.push(point(host), Depth::FiveMinutes),
                None => others.push(host),
            }
        }
        // Those that were quiet the longest make room for others, and none that was heard just now.
        let quiet = self.hosts.iter().map(|(&address, series)| (series.last().unix, address));
        let mut quiet: Vec<_> = quiet.filter(|&(heard, _)| heard < unix).collect();
        quiet.sort_unstable();
        let mut quiet = quiet.into_iter();
        for host in others {
            if self.hosts.len() >= HOSTS {
                let Some((_, address)) = quiet.next() else { break };
                self.hosts.remove(&address);
            }
            let series = self.hosts.entry(host.address).or_default();
            series.push(point(host), Depth::FiveMinutes);
        }
    }

    /// The whole.
    pub const fn totals(&self) -> &Series {
        &self.totals
    }

    /// A network, when it ever moved.
    pub fn network(&self, prefix: Prefix) -> Option<&Series> {
        self.networks.get(&prefix)
    }

    /// A host, when it was among the loudest in the last five minutes.
    pub fn host(&self, address: IpAddr) -> Option<&Series> {
        self.hosts.get(&address)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let series = self.networks.values().chain(self.hosts.values()).chain([&self.totals]);
        series.map(Series::bytes).sum()
    }
}

impl Series {
    /// All points, the oldest first.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        let from = self.fine.front().map_or(u64::MAX, |point| point.unix);
        let older = self.coarse.iter().filter(move |point| point.unix < from);
        older.chain(&self.fine).copied()
    }

    fn push(&mut self, point: Point, depth: Depth) {
        if self.fine.capacity() == 0 {
            self.fine.reserve_exact(FINE);
        }
        if self.fine.len() == FINE {
            self.fine.pop_front();
        }
        self.fine.push_back(point);
        if depth == Depth::FiveMinutes {
            return;
        }
        self.waiting += 1;
        if self.waiting == STEP {
            self.waiting = 0;
            if self.coarse.capacity() == 0 {
                self.coarse.reserve_exact(COARSE);
            }
            if self.coarse.len() == COARSE {
                self.coarse.pop_front();
            }
            let latest = self.fine.iter().rev().take(usize::try_from(STEP).unwrap_or(1));
            self.coarse.push_back(mean(latest.copied()));
        }
    }

    fn last(&self) -> Point {
        self.fine.back().copied().unwrap_or_default()
    }

    fn is_over(&self, now: u64) -> bool {
        self.last().unix.saturating_add(QUIET_SECS) < now
    }

    fn is_silent(&self) -> bool {
        self.points().all(|point| Point { unix: 0, ..point } == Point::default())
    }

    fn bytes(&self) -> usize {
        (self.fine.capacity() + self.coarse.capacity()) * size_of::<Point>()
    }
}

fn point(unix: u64, span: Duration, incoming: Tally, outgoing: Tally) -> Point {
    let pps = |rate: PerSecond| u32::try_from(rate.pps).unwrap_or(u32::MAX);
    let (incoming, outgoing) = (incoming.per_second(span), outgoing.per_second(span));
    Point {
        unix,
        incoming_pps: pps(incoming),
        outgoing_pps: pps(outgoing),
        incoming_bytes: incoming.bytes,
        outgoing_bytes: outgoing.bytes,
    }
}

/// The mean of points of which the first is the latest.
fn mean(points: impl Iterator<Item = Point>) -> Point {
    let (mut sums, mut unix, mut number) = ([0_u64; 4], 0, 0_u64);
    for point in points {
        unix = unix.max(point.unix);
        number += 1;
        let values = [
            u64::from(point.incoming_pps),
            u64::from(point.outgoing_pps),
            point.incoming_bytes,
            point.outgoing_bytes,
        ];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = sum.saturating_add(value);
        }
    }
    let [incoming_pps, outgoing_pps, incoming_bytes, outgoing_bytes] =
        sums.map(|sum| sum / number.max(1));
    let narrow = |pps| u32::try_from(pps).unwrap_or(u32::MAX);
    Point {
        unix,
        incoming_pps: narrow(incoming_pps),
        outgoing_pps: narrow(outgoing_pps),
        incoming_bytes,
        outgoing_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Gain;
    use crate::model::{Class, Counts, HostId};
    use crate::reports::{Channels, Gained, NetworkLoad};

    fn report(second: u64, hosts: &[(u16, u64)]) -> Report {
        let counts = |packets| {
            let mut counts = Counts::default();
            counts.0[Class::Udp as usize] = Tally { packets, bytes: packets * 10 };
            counts
        };
        let load = |&(host, packets): &(u16, u64)| {
            let [high, low] = host.to_be_bytes();
            let address = IpAddr::from([192, 0, high, low]);
            let id = HostId(u32::from(host));
            let gain = Gain::new(id, Direction::Incoming, &counts(packets), Tally::default());
            HostLoad::new(address, 0, Some(gain), None)
        };
        let all = hosts.iter().map(|(_, packets)| packets).sum();
        let prefix = Prefix::parse_masked("192.0.0.0/16").unwrap().0;
        let gained = Gained { incoming: counts(all), ..Gained::default() };
        Report {
            unix: Duration::from_secs(1_000_000 + second),
            span: Duration::from_secs(1),
            gained: Channels { incoming: counts(all).total(), ..Channels::default() },
            networks: [NetworkLoad { prefix, gained, moved: 0 }].into(),
            hosts: hosts.iter().map(load).collect(),
            ..Report::default()
        }
    }

    fn take(history: &mut History, report: &Report) {
        history.take(report, &report.loudest(1, HOSTS));
    }

    #[test]
    fn an_hour_is_kept_fine_at_its_end_and_coarse_before() {
        let mut history = History::default();
        for second in 0..4000 {
            take(&mut history, &report(second, &[(7, second)]));
        }
        let points: Vec<Point> = history.totals().points().collect();
        let first = points.first().unwrap();
        let fine: Vec<&Point> = points.iter().rev().take(FINE).collect();
        assert_eq!(fine.last().unwrap().unix, 1_003_700);
        assert!((1_000_390..1_000_420).contains(&first.unix), "{first:?}");
        // The mean of ten seconds is half a step before its end.
        assert_eq!(u64::from(first.incoming_pps), first.unix - 1_000_000 - 5);
        assert_eq!(first.incoming_bytes, u64::from(first.incoming_pps) * 10 + 5);
        assert!(points.is_sorted_by_key(|point| point.unix));
        let host = history.host([192, 0, 0, 7].into()).unwrap();
        assert_eq!(host.points().count(), FINE);
        assert!(history.bytes() <= 3 * SERIES_BYTES, "{}", history.bytes());
    }

    #[test]
    fn hosts_are_bounded_and_those_that_went_quiet_make_room() {
        let mut history = History::default();
        let many: Vec<(u16, u64)> = (0..3000).map(|host| (host, 10 + u64::from(host))).collect();
        take(&mut history, &report(0, &many));
        assert_eq!(history.hosts.len(), HOSTS);
        assert!(history.host([192, 0, 11, 183].into()).is_some(), "the loudest is there");
        assert!(history.host([192, 0, 0, 0].into()).is_none());
        take(&mut history, &report(1, &[(1, 5)]));
        assert_eq!(history.hosts.len(), HOSTS);
        assert!(history.host([192, 0, 0, 1].into()).is_some());
        take(&mut history, &report(400, &[(2, 5)]));
        assert_eq!(history.hosts.len(), 1);
        assert!(history.network(Prefix::parse_masked("192.0.0.0/16").unwrap().0).is_some());
    }
}
