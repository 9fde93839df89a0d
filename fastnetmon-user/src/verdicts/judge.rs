//! The judge: who is banned, since when, until when.
//!
//! **Invariant**: one ban an address. A ban's details are asked for once, its end is told once, and
//! in that order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::counters::Glimpse;
use crate::model::{Direction, HostId, Loads, Moment, Tally};
use crate::networks::PrefixSet;
use crate::rates::{Rate, RateFrame, WINDOW};
use crate::verdicts::{
    Attack, Ban, BanId, Cause, Deeds, Ending, Measure, Order, OrderError, Subject, Verdict,
};

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
    /// The next ban's.
    next: BanId,
}

impl Judge {
    /// Goes by `policy`; `standing` are bans that were in force before.
    pub fn new(policy: Policy, standing: impl IntoIterator<Item = Ban>) -> Self {
        let standing: BTreeMap<IpAddr, Standing> = standing
            .into_iter()
            .map(|ban| (ban.address, Standing { ban, details_by: None }))
            .collect();
        let last = standing.values().map(|standing| standing.ban.id).max();
        let next = BanId(last.map_or(1, |last| last.0.saturating_add(1)));
        Self { policy, standing, next }
    }

    /// Numbers bans from `first`, or from behind those that stand.
    #[must_use]
    pub fn counting_from(self, first: BanId) -> Self {
        Self { next: self.next.max(first), ..self }
    }

    /// Judges every host at the tick. `address_of` gives `None` for lines that are no host's.
    pub fn weigh(
        &mut self,
        frame: &RateFrame,
        address_of: impl Fn(HostId) -> Option<IpAddr>,
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut still: Vec<(IpAddr, Direction)> = Vec::new();
        self.follow(frame);
        let allowed = self.policy.pps;
        for rate in frame.above(allowed) {
            let Some(address) = address_of(rate.host) else { continue };
            still.push((address, rate.direction));
            verdicts.extend(self.exceeded(frame, address, &rate));
        }
        verdicts.extend(self.release(frame.at, &still));
        verdicts
    }

    /// Judges one host between two ticks. `latest` tells what it does the other way.
    pub fn startle(
        &mut self,
        glimpse: &Glimpse,
        address: IpAddr,
        latest: &RateFrame,
    ) -> Option<Verdict> {
        let allowed = u128::from(self.policy.pps) * WINDOW.as_millis() / 1000;
        if u128::from(glimpse.within.total().packets) <= allowed {
            return None;
        }
        let Glimpse { at, host, direction, ref within, .. } = *glimpse;
        let against = latest.load(host, direction.reversed());
        let loads = Loads::new(direction, within.per_second(WINDOW), against);
        self.ban(at, host, address, direction, loads)
    }

    fn exceeded(&mut self, frame: &RateFrame, address: IpAddr, rate: &Rate) -> Option<Verdict> {
        let Rate { host, direction, load, .. } = *rate;
        let against = frame.load(host, direction.reversed());
        self.ban(frame.at, host, address, direction, Loads::new(direction, load, against))
    }

    /// Keeps peaks and totals up to date.
    fn follow(&mut self, frame: &RateFrame) {
        for Standing { ban, .. } in self.standing.values_mut() {
            let now = frame.load(ban.host, ban.direction).total();
            ban.peak_pps = ban.peak_pps.max(now.pps);
            ban.peak_mbps = ban.peak_mbps.max(now.mbps());
            ban.total += frame.gained(ban.host, ban.direction).total();
        }
    }

    fn ban(
        &mut self,
        now: Moment,
        host: HostId,
        address: IpAddr,
        direction: Direction,
        loads: Loads,
    ) -> Option<Verdict> {
        if self.standing.contains_key(&address) || self.policy.whitelist.contains(address) {
            return None;
        }
        let cause = Cause::Rule {
            subject: Subject::Total,
            measure: Measure::Pps,
            threshold: self.policy.pps,
            measured: loads.of(direction).total().pps,
        };
        let until = self.policy.ban_time.map(|time| now + time);
        Some(self.stand(now, host, address, direction, loads, cause, until))
    }

    #[expect(clippy::too_many_arguments, reason = "what a ban is made of")]
    fn stand(
        &mut self,
        now: Moment,
        host: HostId,
        address: IpAddr,
        direction: Direction,
        loads: Loads,
        cause: Cause,
        until: Option<Moment>,
    ) -> Verdict {
        let load = loads.of(direction);
        let total = load.total();
        let ban = Ban {
            id: self.next,
            host,
            address,
            direction,
            pps: total.pps,
            peak_pps: total.pps,
            peak_mbps: total.mbps(),
            cause,
            attack: Attack::from_load(load),
            loads,
            total: Tally::default(),
            group: "".into(),
            dry_run: false,
            deeds: Deeds::default(),
            since: now,
            until,
        };
        self.next = BanId(self.next.0.saturating_add(1));
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
            .map(|standing| Verdict::Unban(standing.ban, Ending::Over))
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
            Order::Ban { host, address, direction, loads, reason, time } => {
                if self.standing.contains_key(&address) {
                    return Err(OrderError::BannedAlready(address));
                }
                let until = time.or(self.policy.ban_time).map(|time| now + time);
                let cause = Cause::Operator { reason };
                Ok(self.stand(now, host, address, direction, *loads, cause, until))
            }
            Order::Unban { address, reason } => self
                .standing
                .remove(&address)
                .map(|standing| Verdict::Unban(standing.ban, Ending::Operator { reason }))
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
