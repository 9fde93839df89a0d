//! One pass over the hosts that moved.
//!
//! **Invariant**: who exceeds a rule, or is banned already, is looked at closer, and nobody else. A run of
//! hosts that are below every threshold even together costs one comparison.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::counters::{Gain, Gains};
use crate::model::{Counts, Direction, HostId, Prefix};
use crate::networks::{Belonging, GroupId, Occupant, Tenants};
use crate::verdicts::Policy;
use crate::verdicts::carpet::{Bars, Sums};
use crate::verdicts::policy::Scope;
use crate::verdicts::rules::{Exceeded, Least, Ready, Rules};
use crate::verdicts::standing::Bans;

/// Somebody who is to be banned.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) host: HostId,
    pub(super) address: IpAddr,
    pub(super) direction: Direction,
    pub(super) group: GroupId,
    pub(super) exceeded: Exceeded,
    pub(super) packets: u64,
    pub(super) counts: Counts,
}

/// One pass over the hosts that moved.
pub(super) struct Walk<'a> {
    pub(super) rules: &'a [Prepared],
    pub(super) policy: &'a Policy,
    pub(super) belonging: &'a mut Belonging,
    pub(super) bans: &'a mut Bans,
    pub(super) window: Duration,
    pub(super) found: Vec<Found>,
    /// Networks are added up.
    pub(super) adds_up: bool,
    /// Groups are.
    pub(super) has_sums: bool,
    /// What moved is what the last reading gained.
    pub(super) takes_totals: bool,
}

impl Walk<'_> {
    /// Looks at everybody who moved in one direction, a block at a time.
    pub(super) fn over(
        &mut self,
        gains: &Gains,
        direction: Direction,
        occupant_of: &impl Fn(HostId) -> Option<Occupant>,
    ) -> Sums {
        let mut sums = Sums::default();
        // What is below everybody's rules is below those of each.
        let floor = self
            .rules
            .iter()
            .filter(|rules| rules.bans)
            .map(|rules| of_direction(&rules.host, direction).exceeded)
            .fold(Least::NEVER, Least::or);
        let runs = gains.runs(direction);
        let origin = runs.first().map_or(0, |run| run.range().start);
        for block in runs.chunk_by(|one, other| one.block() == other.block()) {
            let (Some(first), Some(last)) = (block.first(), block.last()) else { continue };
            let address = match occupant_of(first.first) {
                Some(Occupant::Host(address)) => Some(address),
                Some(Occupant::Strangers(_)) | None => None,
            };
            let tenants = self.belonging.tenants(first.first, address);
            let least = match tenants {
                Tenants::One(_, group) => match self.rules.get(usize::from(group.0)) {
                    Some(rules) if rules.bans => of_direction(&rules.host, direction).exceeded,
                    _ => Least::NEVER,
                },
                Tenants::Several(_) | Tenants::Mixed => floor,
            };
            for run in block {
                // Where all together do not reach it, nobody does.
                if !least.reached(run.total) && !self.bans.holds_any(&run.slots()) {
                    continue;
                }
                for gain in gains.of(run) {
                    if least.reached(gain.total()) || self.bans.holds(gain.host) {
                        self.look(gain, occupant_of);
                    }
                }
            }
            if self.adds_up {
                let of = |gain: &Gain| match occupant_of(gain.host)? {
                    Occupant::Host(address) => Some(Prefix::host(address)),
                    Occupant::Strangers(prefix) => Some(prefix),
                };
                let range = first.range().start..last.range().end;
                let from = range.start - origin;
                let gains = gains.get(range).unwrap_or_default();
                sums.take(gains, from, tenants, self.belonging, self.has_sums, of);
            }
        }
        sums
    }

    /// Looks closer at one.
    fn look(&mut self, gain: &Gain, occupant_of: &impl Fn(HostId) -> Option<Occupant>) {
        let Gain { host, direction, .. } = *gain;
        let Some(Occupant::Host(address)) = occupant_of(host) else { return };
        let counts = gain.counts();
        if let Some(standing) = self.bans.of(host)
            && standing.ban.address == address
        {
            if standing.ban.direction != direction {
                return;
            }
            let total = counts.total();
            let now = total.per_second(self.window);
            standing.ban.peak_pps = standing.ban.peak_pps.max(now.pps);
            standing.ban.peak_mbps = standing.ban.peak_mbps.max(now.mbps());
            if self.takes_totals {
                standing.ban.total += total;
            }
            if let Some(rules) = self.rules.get(usize::from(standing.group.0)) {
                standing.is_loud = of_direction(&rules.host, direction).is_loud(&counts);
            }
            return;
        }
        let group = self.belonging.of(host, address);
        let Some(rules) = self.rules.get(usize::from(group.0)).filter(|rules| rules.bans) else {
            return;
        };
        let Some(exceeded) = of_direction(&rules.host, direction).exceeded(&counts) else { return };
        if self.policy.whitelist.contains(address) || self.bans.at(address).is_some() {
            return;
        }
        let packets = counts.total().packets;
        self.found.push(Found { host, address, direction, group, exceeded, packets, counts });
    }
}

/// The rules of one group, as counts.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) name: Arc<str>,
    pub(super) bans: bool,
    pub(super) host: [Ready; 2],
    pub(super) prefix: [Ready; 2],
    pub(super) sum: [Ready; 2],
}

impl Prepared {
    pub(super) fn adds_up(&self) -> bool {
        self.prefix.iter().any(|ready| !ready.is_empty()) || self.has_sums()
    }

    pub(super) fn has_sums(&self) -> bool {
        self.sum.iter().any(|ready| !ready.is_empty())
    }
}

impl Bars for Vec<Prepared> {
    fn prefix(&self, group: GroupId, direction: Direction) -> Option<&Ready> {
        self.get(usize::from(group.0)).map(|rules| of_direction(&rules.prefix, direction))
    }

    fn sum(&self, group: GroupId, direction: Direction) -> Option<&Ready> {
        self.get(usize::from(group.0)).map(|rules| of_direction(&rules.sum, direction))
    }

    fn name(&self, group: GroupId) -> Arc<str> {
        self.get(usize::from(group.0)).map_or_else(|| "".into(), |rules| Arc::clone(&rules.name))
    }
}

/// The rules of all groups, for rates that stand for `window`.
pub(super) fn prepared(policy: &Policy, window: Duration) -> Vec<Prepared> {
    let percent = policy.finish.percent;
    let ready = |rules: &[Rules; 2]| {
        let [incoming, outgoing] = rules;
        [incoming.ready(window, percent), outgoing.ready(window, percent)]
    };
    let prepare = |scope: &Scope| Prepared {
        name: Arc::clone(&scope.name),
        bans: scope.bans,
        host: ready(&scope.host),
        prefix: ready(&scope.prefix),
        sum: ready(&scope.sum),
    };
    policy.scopes.iter().map(prepare).collect()
}

pub(super) fn glance_window(policy: &Policy) -> Duration {
    policy.pace.window().unwrap_or(Duration::from_secs(1))
}

pub(super) const fn of_direction<T>([incoming, outgoing]: &[T; 2], direction: Direction) -> &T {
    match direction {
        Direction::Incoming => incoming,
        Direction::Outgoing => outgoing,
    }
}
