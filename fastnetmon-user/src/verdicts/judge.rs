//! The judge: who is banned, since when, until when.
//!
//! **Invariant**: one ban an address. A ban's details are asked for once, its end is told once, and
//! in that order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::counters::Glimpse;
use crate::model::{Direction, HostId, Moment};
use crate::networks::PrefixSet;
use crate::rates::{Rate, RateFrame, WINDOW};
use crate::verdicts::{Ban, Cause, Order, OrderError, Verdict};

/// What the judge goes by.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Packets a second, strictly more than which is an attack.
    pub pps: u64,
    /// How long a ban lasts at least; `None`: until an operator ends it.
    pub ban_time: Option<Duration>,
    /// How long packets are collected before the details are told with what is there.
    pub details_deadline: Duration,
    /// Who is never banned.
    pub whitelist: PrefixSet,
}

#[derive(Clone, Debug)]
struct Standing {
    ban: Ban,
    /// By when its details are told; `None` once they are.
    details_by: Option<Moment>,
}

/// Decides.
#[derive(Debug)]
pub struct Judge {
    policy: Policy,
    standing: BTreeMap<IpAddr, Standing>,
}

impl Judge {
    /// Goes by `policy`; `standing` are bans that were in force before.
    pub fn new(policy: Policy, standing: impl IntoIterator<Item = Ban>) -> Self {
        let standing = standing
            .into_iter()
            .map(|ban| (ban.address, Standing { ban, details_by: None }))
            .collect();
        Self { policy, standing }
    }

    /// Judges every host at the tick. `address_of` gives `None` for lines that are no host's.
    pub fn weigh(
        &mut self,
        frame: &RateFrame,
        address_of: impl Fn(HostId) -> Option<IpAddr>,
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut still: Vec<(IpAddr, Direction)> = Vec::new();
        let allowed = self.policy.pps;
        for rate in frame.above(allowed) {
            let Some(address) = address_of(rate.host) else { continue };
            still.push((address, rate.direction));
            verdicts.extend(self.exceeded(frame.at, rate.host, address, &rate));
        }
        verdicts.extend(self.release(frame.at, &still));
        verdicts
    }

    /// Judges one host between two ticks.
    pub fn startle(&mut self, glimpse: &Glimpse, address: IpAddr) -> Option<Verdict> {
        let allowed = u128::from(self.policy.pps) * WINDOW.as_millis() / 1000;
        if u128::from(glimpse.within.packets) <= allowed {
            return None;
        }
        let per_second = glimpse.within.per_second(WINDOW);
        self.ban(glimpse.at, glimpse.host, address, glimpse.direction, per_second.pps)
    }

    fn exceeded(
        &mut self,
        now: Moment,
        host: HostId,
        address: IpAddr,
        rate: &Rate,
    ) -> Option<Verdict> {
        let pps = rate.per_second.pps;
        if let Some(standing) = self.standing.get_mut(&address) {
            if standing.ban.direction == rate.direction {
                standing.ban.peak_pps = standing.ban.peak_pps.max(pps);
            }
            return None;
        }
        self.ban(now, host, address, rate.direction, pps)
    }

    fn ban(
        &mut self,
        now: Moment,
        host: HostId,
        address: IpAddr,
        direction: Direction,
        pps: u64,
    ) -> Option<Verdict> {
        if self.standing.contains_key(&address) || self.policy.whitelist.contains(address) {
            return None;
        }
        let cause = Cause::Packets { threshold: self.policy.pps };
        Some(self.stand(now, host, address, direction, pps, cause))
    }

    fn stand(
        &mut self,
        now: Moment,
        host: HostId,
        address: IpAddr,
        direction: Direction,
        pps: u64,
        cause: Cause,
    ) -> Verdict {
        let until = self.policy.ban_time.map(|time| now + time);
        let ban = Ban { host, address, direction, pps, peak_pps: pps, cause, since: now, until };
        let details_by = Some(now + self.policy.details_deadline);
        self.standing.insert(address, Standing { ban: ban.clone(), details_by });
        Verdict::Ban(ban)
    }

    /// Lets go whose time is over, unless the attack still goes on.
    fn release(&mut self, now: Moment, still: &[(IpAddr, Direction)]) -> Vec<Verdict> {
        let over: Vec<IpAddr> = self
            .standing
            .values()
            .filter(|standing| {
                let Ban { address, direction, until, .. } = standing.ban;
                standing.details_by.is_none()
                    && until.is_some_and(|until| until <= now)
                    && !still.contains(&(address, direction))
            })
            .map(|standing| standing.ban.address)
            .collect();
        over.iter()
            .filter_map(|address| self.standing.remove(address))
            .map(|standing| Verdict::Unban(standing.ban))
            .collect()
    }

    /// Bans whose details are to be told now: all packets are there, or the deadline has come.
    /// `full` tells whether all packets are there. Each ban is given out once.
    pub fn due(&mut self, now: Moment, full: impl Fn(HostId) -> bool) -> Vec<Ban> {
        let mut due = Vec::new();
        for standing in self.standing.values_mut() {
            if let Some(deadline) = standing.details_by
                && (deadline <= now || full(standing.ban.host))
            {
                standing.details_by = None;
                due.push(standing.ban.clone());
            }
        }
        due
    }

    /// Are there details to be told?
    pub fn is_collecting(&self) -> bool {
        self.standing.values().any(|standing| standing.details_by.is_some())
    }

    /// Obeys an operator.
    ///
    /// # Errors
    /// When there is nothing to do.
    pub fn obey(&mut self, now: Moment, order: Order) -> Result<Verdict, OrderError> {
        match order {
            Order::Ban { host, address, direction, pps } => {
                if self.standing.contains_key(&address) {
                    return Err(OrderError::BannedAlready(address));
                }
                Ok(self.stand(now, host, address, direction, pps, Cause::Operator))
            }
            Order::Unban { address } => self
                .standing
                .remove(&address)
                .map(|standing| Verdict::Unban(standing.ban))
                .ok_or(OrderError::NotBanned(address)),
        }
    }

    /// Does this host's ban still wait for its details?
    pub fn waits_for_details(&self, address: IpAddr) -> bool {
        self.standing.get(&address).is_some_and(|standing| standing.details_by.is_some())
    }

    /// Bans that stand, by address.
    pub fn standing(&self) -> impl Iterator<Item = &Ban> {
        self.standing.values().map(|standing| &standing.ban)
    }

    /// What the judge goes by.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }
}
