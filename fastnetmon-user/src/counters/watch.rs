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

/// Snapshots that make a window.
const SNAPSHOTS: u32 = 100;

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
    /// What came within the window, by class.
    pub within: Counts,
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
    /// When it was hinted at first.
    since: Moment,
    hinted: Moment,
    /// Gains between snapshots, oldest first: when each ended and what it brought.
    gains: VecDeque<(Moment, Moment, Counts)>,
    /// Their sum.
    within: Counts,
    /// What this reading had brought at the last snapshot.
    seen: Counts,
    /// The reading in which that was.
    reading: Moment,
}

impl Watch {
    /// Watches with a window of this length.
    pub fn new(window: Duration) -> Self {
        Self { window, hosts: HashMap::new() }
    }

    /// Watches with another window from now on.
    pub fn slide(&mut self, window: Duration) {
        if window != self.window {
            self.window = window;
            self.hosts.clear();
        }
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
                    since: now,
                    hinted: now,
                    gains: VecDeque::new(),
                    within: Counts::default(),
                    seen: Counts::default(),
                    reading,
                };
                self.hosts.insert((host, direction), watched);
            }
        }
    }

    /// When a host was hinted at first.
    pub fn since(&self, host: HostId, direction: Direction) -> Option<Moment> {
        self.hosts.get(&(host, direction)).map(|watched| watched.since)
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
            watched.seen = Counts::default();
        }
    }

    /// Forgets a host.
    pub fn forget(&mut self, host: HostId) {
        for direction in Direction::BOTH {
            self.hosts.remove(&(host, direction));
        }
    }
}

impl Watched {
    /// `counts` is what the reading that began at `reading` has brought until now.
    fn take(&mut self, now: Moment, reading: Moment, counts: Counts, window: Duration) {
        if reading != self.reading {
            self.reading = reading;
            self.seen = Counts::default();
        }
        let new = counts.less(&self.seen);
        let from = self.gains.back().map_or(reading, |&(_, until, _)| until);
        self.seen = counts;
        self.within += &new;
        // However long the window is, it is made of no more than so many snapshots.
        let grain = window / SNAPSHOTS;
        match self.gains.back_mut() {
            Some((from, until, counts)) if now.since(*from) <= grain => {
                *until = now;
                *counts += &new;
            }
            _ => self.gains.push_back((from, now, new)),
        }
        // A snapshot counts while any of it lies within the window: a burst is not to slip
        // between two, and 10 ms more or less is the grain of the looking.
        while let Some((_, _, gone)) =
            self.gains.pop_front_if(|(_, until, _)| now.since(*until) >= window)
        {
            self.within = self.within.less(&gone);
        }
        // The gain before the first look may be older than the window; it then counts for its
        // share of it.
        if let Some((from, until, counts)) = self.gains.front_mut() {
            let begin = now - window;
            if *from < begin {
                let whole = until.since(*from);
                let part = until.since(begin);
                let kept = Counts(counts.0.map(|tally| share(tally, part, whole)));
                self.within = self.within.less(&counts.less(&kept));
                *counts = kept;
                *from = begin;
            }
        }
    }

    fn glimpse(&self, now: Moment, host: HostId, direction: Direction) -> Glimpse {
        let from = self.gains.front().map_or(now, |&(from, _, _)| from);
        Glimpse { at: now, host, direction, within: self.within, span: now.since(from) }
    }
}

fn share(tally: Tally, part: Duration, whole: Duration) -> Tally {
    let of = |amount: u64| {
        let amount = u128::from(amount) * part.as_nanos() / whole.as_nanos().max(1);
        u64::try_from(amount).unwrap_or(u64::MAX)
    };
    Tally { packets: of(tally.packets), bytes: of(tally.bytes) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use fastnetmon_common::table::{Line as _, Tables as _, packed};

    use super::*;
    use crate::tables::{Row, Shape, own};

    const HOST: HostId = HostId(300);
    const WINDOW: Duration = Duration::from_secs(1);

    /// Two rows, as two CPUs would have them, a reading each second and a look each 10 ms.
    struct House {
        rows: Vec<Row>,
        counters: Counters,
        watch: Watch,
        now: Moment,
    }

    impl House {
        fn new() -> Self {
            let writers = NonZeroU32::new(2).unwrap();
            let shape = Shape { writers, slots: 512, elements: 1, buckets: 2, seed: 0 };
            let (parts, rows) = own(shape).unwrap();
            let now = Moment::after_boot(Duration::from_secs(100));
            let counters = Counters::new(vec![parts.lines], now);
            Self { rows, counters, watch: Watch::new(WINDOW), now }
        }

        /// So many packets come within 10 ms, spread over the rows.
        fn pass(&mut self, packets: u32) -> Option<u64> {
            self.now = self.now + Duration::from_millis(10);
            for row in &self.rows {
                let line = (&row).line(Direction::Incoming, HOST.0).unwrap();
                line.add(2, packed(packets / 2, packets / 2 * 46));
                (&row).stir(Direction::Incoming, HOST.0);
            }
            if self.now.since(self.counters.last()) >= WINDOW {
                let reading = self.counters.read(self.now);
                self.watch.turn(self.now, |host, direction| reading.of(host, direction));
            }
            let glimpses = self.watch.look(self.now, &self.counters);
            glimpses.first().map(|glimpse| glimpse.within.total().packets)
        }

        fn hint(&mut self) {
            self.watch.add(self.now, HOST, Direction::Incoming, &self.counters);
        }
    }

    #[test]
    fn what_came_since_the_last_reading_counts_from_the_first_look_on() {
        let mut house = House::new();
        for _ in 0..50 {
            assert_eq!(house.pass(100), None);
        }
        house.hint();
        assert_eq!(house.pass(100), Some(5100));
        assert_eq!(house.pass(100), Some(5200));
    }

    #[test]
    fn the_window_slides_over_the_end_of_a_reading() {
        let mut house = House::new();
        for _ in 0..70 {
            house.pass(0);
        }
        house.hint();
        for look in 1..=60 {
            // What came before the first look counts as if spread since the reading, so as the
            // window slides over it some of those 600 are let go early.
            let within = house.pass(600).unwrap();
            assert!((look * 600 - 600..=look * 600).contains(&within), "look {look}: {within}");
        }
        // A second after the flood began its first packets leave the window, one look's worth each.
        for _ in 61..=99 {
            house.pass(0);
        }
        let within = house.pass(0).unwrap();
        assert!((34_800..=36_000).contains(&within), "{within}");
        house.hint();
        for _ in 0..60 {
            house.pass(0);
        }
        assert_eq!(house.pass(0), Some(0));
    }

    #[test]
    fn a_host_that_is_calm_is_watched_no_longer() {
        let mut house = House::new();
        house.hint();
        for _ in 0..199 {
            assert!(house.pass(2).is_some());
        }
        assert_eq!(house.pass(2), None);
        assert!(house.watch.is_empty());
    }

    #[test]
    fn no_more_are_watched_than_there_is_room_for() {
        let mut house = House::new();
        for slot in 0..u32::try_from(MOST).unwrap() + 9 {
            let now = house.now;
            house.watch.add(now, HostId(slot), Direction::Incoming, &house.counters);
        }
        assert_eq!(house.watch.len(), MOST);
    }
}
