//! Hosts that were hinted at, looked at every few milliseconds.
//!
//! A hint says that one row of a host crossed its share within one short window. Whether the
//! policy's window is exceeded only the true sum tells, so the host is watched: its lines are read
//! into a ring of snapshots, and the policy's window slides over them.
//!
//! **Invariant**: at most [`MOST`] hosts are watched; who finds no place is judged at the tick.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::counters::Counters;
use crate::model::{Counts, Direction, HostId, Moment, Tally};

/// Hosts watched at a time.
const MOST: usize = 4096;

/// How long a host stays without a new hint.
const CALM: Duration = Duration::from_secs(2);

/// One host within the sliding window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Glimpse {
    /// When.
    pub at: Moment,
    /// Whose.
    pub host: HostId,
    /// Which way.
    pub direction: Direction,
    /// What came within the window.
    pub within: Tally,
    /// How much of the window could be seen; shorter at first.
    pub span: Duration,
}

/// The watch list.
#[derive(Debug)]
pub struct Watch {
    window: Duration,
    hosts: HashMap<(HostId, Direction), Watched>,
}

#[derive(Debug)]
struct Watched {
    hinted: Moment,
    /// Gains between snapshots, oldest first: when each ended and what it brought.
    gains: VecDeque<(Moment, Moment, Tally)>,
    /// What this reading had brought at the last snapshot.
    seen: Tally,
    /// The reading in which that was.
    reading: Moment,
}

impl Watch {
    /// Watches with a window of this length.
    pub fn new(window: Duration) -> Self {
        Self { window, hosts: HashMap::new() }
    }

    /// Is nobody watched?
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// How many are watched.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// A hint came: watches the host from now on. What it gained since the last reading counts.
    pub fn add(&mut self, now: Moment, host: HostId, direction: Direction, counters: &Counters) {
        let full = self.hosts.len() >= MOST;
        match self.hosts.get_mut(&(host, direction)) {
            Some(watched) => watched.hinted = now,
            None if full => {}
            None => {
                let reading = counters.last();
                let watched = Watched {
                    hinted: now,
                    gains: VecDeque::new(),
                    seen: Tally::default(),
                    reading,
                };
                self.hosts.insert((host, direction), watched);
            }
        }
    }

    /// Looks at every watched host. To be called every few milliseconds.
    pub fn look(&mut self, now: Moment, counters: &Counters) -> Vec<Glimpse> {
        let window = self.window;
        self.hosts.retain(|_, watched| now.since(watched.hinted) < CALM);
        self.hosts
            .iter_mut()
            .map(|(&(host, direction), watched)| {
                let counts = counters.peek(host, direction);
                watched.take(now, counters.last(), counts, window);
                watched.glimpse(now, host, direction)
            })
            .collect()
    }

    /// A reading ended: what it brought in all closes the snapshots of its time.
    pub fn turn(&mut self, now: Moment, gain_of: impl Fn(HostId, Direction) -> Counts) {
        let window = self.window;
        for (&(host, direction), watched) in &mut self.hosts {
            watched.take(now, watched.reading, gain_of(host, direction), window);
            watched.reading = now;
            watched.seen = Tally::default();
        }
    }

    /// Forgets a host.
    pub fn forget(&mut self, host: HostId) {
        self.hosts.retain(|&(watched, _), _| watched != host);
    }
}

impl Watched {
    /// `counts` is what the reading that began at `reading` has brought until now.
    fn take(&mut self, now: Moment, reading: Moment, counts: Counts, window: Duration) {
        if reading != self.reading {
            self.reading = reading;
            self.seen = Tally::default();
        }
        let total = counts.total();
        let new = total.less(self.seen);
        let from = self.gains.back().map_or(reading, |&(_, until, _)| until);
        self.seen = total;
        self.gains.push_back((from, now, new));
        // A snapshot counts while any of it lies within the window: a burst is not to slip
        // between two, and 10 ms more or less is the grain of the looking.
        while self.gains.front().is_some_and(|&(_, until, _)| now.since(until) >= window) {
            self.gains.pop_front();
        }
        // The gain before the first look may be older than the window; it then counts for its
        // share of it.
        if let Some((from, until, tally)) = self.gains.front_mut() {
            let begin = now - window;
            if *from < begin {
                let whole = until.since(*from);
                let part = until.since(begin);
                *tally = share(*tally, part, whole);
                *from = begin;
            }
        }
    }

    fn glimpse(&self, now: Moment, host: HostId, direction: Direction) -> Glimpse {
        let mut within = Tally::default();
        for &(_, _, tally) in &self.gains {
            within += tally;
        }
        let from = self.gains.front().map_or(now, |&(from, _, _)| from);
        Glimpse { at: now, host, direction, within, span: now.since(from) }
    }
}

fn share(tally: Tally, part: Duration, whole: Duration) -> Tally {
    let of = |amount: u64| {
        let amount = u128::from(amount) * part.as_nanos() / whole.as_nanos().max(1);
        u64::try_from(amount).unwrap_or(u64::MAX)
    };
    Tally { packets: of(tally.packets), bytes: of(tally.bytes) }
}
