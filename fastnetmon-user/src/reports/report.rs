//! The report: what the agent knows, as a value.
//!
//! **Invariant**: `gained` is exact. What it tells came within `span`, and nothing of it is in
//! another report; speeds are worked out of it.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::actions::Deed;
use crate::counters::Gain;
use crate::model::{Counts, Direction, Moment, PerSecond, Prefix, Tally};
use crate::rates::Totals;
use crate::reports::{Event, Standing};
use crate::verdicts::Ban;

/// What everybody is told, once a second.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// From 1, without a gap.
    pub number: u64,
    /// When, on the boot clock.
    pub at: Moment,
    /// The same, as time since 1970.
    pub unix: Duration,
    /// How long what was gained took to come: a second, more when a reading came late.
    pub span: Duration,
    /// Everything since the agent started, and the speeds of the last reading.
    pub totals: Totals,
    /// What came within the span, by kind of traffic.
    pub gained: Channels,
    /// Incoming and outgoing of it, by family and class.
    pub families: Families,
    /// Every network that is guarded, in order.
    pub networks: Arc<[NetworkLoad]>,
    /// Hosts that moved, as far as somebody wants them: all in the order of their lines, or the
    /// loudest, these first.
    pub hosts: Vec<HostLoad>,
    /// How many hosts moved, wanted or not.
    pub moved: usize,
    /// Lines whose hosts are not told of, since the exports were too busy to take them.
    pub untold: u64,
    /// Bans that stand, by address.
    pub banned: Vec<Ban>,
    /// The last thousand events, oldest first.
    pub events: Arc<[Arc<Event>]>,
    /// What actions did since the last report.
    pub deeds: Arc<[Deed]>,
    /// How the agent is.
    pub health: Health,
    /// How its exports stand.
    pub exports: Arc<[Standing]>,
}

/// The four kinds of traffic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Channels {
    /// To our hosts, from elsewhere.
    pub incoming: Tally,
    /// From our hosts, to elsewhere.
    pub outgoing: Tally,
    /// Between our hosts.
    pub internal: Tally,
    /// Touching none of our hosts.
    pub other: Tally,
}

/// Incoming and outgoing traffic by family. Both together are the totals; where packets between
/// our own hosts were counted, which belong to no direction, each family has its share of the rest.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Families {
    /// IPv4.
    pub v4: Gained,
    /// IPv6.
    pub v6: Gained,
}

impl Families {
    /// Both together.
    #[must_use]
    pub fn both(&self) -> Gained {
        let mut both = self.v4;
        both.incoming += &self.v6.incoming;
        both.outgoing += &self.v6.outgoing;
        both.dropped_incoming += self.v6.dropped_incoming;
        both.dropped_outgoing += self.v6.dropped_outgoing;
        both
    }
}

/// Both directions, by class, and what of them we dropped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Gained {
    /// To them.
    pub incoming: Counts,
    /// From them.
    pub outgoing: Counts,
    /// To them, and dropped.
    pub dropped_incoming: Tally,
    /// From them, and dropped.
    pub dropped_outgoing: Tally,
}

/// What a network gained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NetworkLoad {
    /// Which.
    pub prefix: Prefix,
    /// Within the span.
    pub gained: Gained,
    /// Hosts of it that moved.
    pub moved: u32,
}

/// What a host gained. Packed as it was read, since there may be a million of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HostLoad {
    /// Whose.
    pub address: IpAddr,
    /// The number of its network in the report.
    pub network: u32,
    pub(super) incoming: Option<Gain>,
    pub(super) outgoing: Option<Gain>,
}

/// How the agent is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Its version.
    pub version: Arc<str>,
    /// The engine that sees the packets.
    pub engine: Arc<str>,
    /// `uplink` or `mirror`.
    pub role: Arc<str>,
    /// The interfaces watched.
    pub interfaces: Arc<[String]>,
    /// Since the agent started.
    pub uptime: Duration,
    /// Packets lost before they were seen.
    pub dropped: u64,
    /// Packets of banned hosts that were taken from a mirror port.
    pub redirected: u64,
    /// Packets for the dump that found no room.
    pub samples_lost: u64,
    /// Notices that found the tick busy.
    pub notices_lost: u64,
    /// CPU time of the last reading, with rates and verdicts.
    pub tick: Duration,
    /// IPv6 hosts with lines of their own, and how many there may be.
    pub residents: (u64, u64),
    /// IPv6 hosts that had to leave for others, and those that found no room.
    pub turned_away: (u64, u64),
    /// Calls of actions that wait.
    pub waiting: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that were not made.
    pub overflows: u64,
    /// What an operator should know, in sentences.
    pub alarms: Arc<[String]>,
    /// Failures and warnings of the agent's own look for mistakes, once it was taken.
    pub self_check: Option<(u64, u64)>,
}

impl Report {
    /// A speed of what was gained.
    pub fn per_second(&self, tally: Tally) -> PerSecond {
        tally.per_second(self.span)
    }

    /// The loudest hosts with at least `min_pps` in one direction, at most `count`, the loudest
    /// first.
    pub fn loudest(&self, min_pps: u64, count: usize) -> Vec<&HostLoad> {
        if count == 0 {
            return Vec::new();
        }
        // What they are ordered by is worked out once for each.
        let loud = |host: &&HostLoad| self.per_second(host.peak()).pps >= min_pps;
        let loud = self.hosts.iter().filter(loud);
        let mut lines: Vec<(Reverse<u64>, IpAddr, &HostLoad)> =
            loud.map(|host| (Reverse(host.peak().packets), host.address, host)).collect();
        let key = |line: &(Reverse<u64>, IpAddr, _)| (line.0, line.1);
        if lines.len() > count {
            lines.select_nth_unstable_by_key(count - 1, key);
            lines.truncate(count);
        }
        lines.sort_unstable_by_key(key);
        lines.into_iter().map(|(_, _, host)| host).collect()
    }

    /// Events after this number, oldest first.
    pub fn events_after(&self, number: u64) -> impl Iterator<Item = &Arc<Event>> + '_ {
        let from = self.events.partition_point(|event| event.number <= number);
        self.events.iter().skip(from)
    }
}

impl HostLoad {
    /// A host that gained this.
    pub const fn new(
        address: IpAddr,
        network: u32,
        incoming: Option<Gain>,
        outgoing: Option<Gain>,
    ) -> Self {
        Self { address, network, incoming, outgoing }
    }

    /// By class.
    pub fn counts(&self, direction: Direction) -> Counts {
        self.gain(direction).map(|gain| gain.counts()).unwrap_or_default()
    }

    /// All classes.
    pub fn total(&self, direction: Direction) -> Tally {
        self.gain(direction).map(|gain| gain.total()).unwrap_or_default()
    }

    /// What of it we dropped.
    pub fn dropped(&self, direction: Direction) -> Tally {
        self.gain(direction).map(|gain| gain.dropped()).unwrap_or_default()
    }

    /// The direction with more packets.
    pub fn peak(&self) -> Tally {
        let [incoming, outgoing] = Direction::BOTH.map(|direction| self.total(direction));
        if incoming.packets >= outgoing.packets { incoming } else { outgoing }
    }

    const fn gain(&self, direction: Direction) -> Option<Gain> {
        match direction {
            Direction::Incoming => self.incoming,
            Direction::Outgoing => self.outgoing,
        }
    }
}

impl Gained {
    /// One direction.
    pub const fn of(&self, direction: Direction) -> &Counts {
        match direction {
            Direction::Incoming => &self.incoming,
            Direction::Outgoing => &self.outgoing,
        }
    }

    /// What of one direction we dropped.
    pub const fn dropped(&self, direction: Direction) -> Tally {
        match direction {
            Direction::Incoming => self.dropped_incoming,
            Direction::Outgoing => self.dropped_outgoing,
        }
    }

    /// Adds what a line gained.
    pub(super) fn add(&mut self, gain: &Gain, counts: &Counts) {
        *self.of_mut(gain.direction) += counts;
        match gain.direction {
            Direction::Incoming => self.dropped_incoming += gain.dropped(),
            Direction::Outgoing => self.dropped_outgoing += gain.dropped(),
        }
    }

    pub(super) const fn of_mut(&mut self, direction: Direction) -> &mut Counts {
        match direction {
            Direction::Incoming => &mut self.incoming,
            Direction::Outgoing => &mut self.outgoing,
        }
    }
}
