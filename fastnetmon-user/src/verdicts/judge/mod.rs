//! The judge: who is banned, since when, until when.
//!
//! One pass over the hosts that moved finds who does more than its group may, keeps the bans that
//! stand up to date, and adds networks up. Hosts far below every threshold cost next to nothing.
//!
//! **Invariant**: one ban an address. A ban's details are asked for once, its end is told once, and
//! in that order.

mod walk;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use self::walk::{Found, Prepared, Walk, glance_window, of_direction, prepared};
use crate::counters::{Gains, Glimpse};
use crate::model::{Direction, HostId, Loads, Moment, Prefix, Seen, Tally};
use crate::networks::{Belonging, GroupId, Occupant};
use crate::rates::RateFrame;
use crate::verdicts::carpet::{Carpet, Court};
use crate::verdicts::fuse::Fuse;
use crate::verdicts::policy::Probe;
use crate::verdicts::rules::Exceeded;
use crate::verdicts::standing::{Bans, Released, Standing};
use crate::verdicts::{
    Alert, Attack, Ban, BanId, Cause, Deeds, Ending, Obeyed, Order, OrderError, Policy, Verdict,
};

/// Decides.
#[derive(Debug)]
pub struct Judge {
    policy: Policy,
    /// The rules for what one look within the window shows.
    glance: Vec<Prepared>,
    belonging: Belonging,
    bans: Bans,
    released: Released,
    fuse: Fuse,
    carpet: Carpet,
    /// The next ban's.
    next: BanId,
    /// The last reading that was judged.
    judged: Moment,
}

/// What a ban is made of.
#[derive(Debug)]
struct Charge {
    host: HostId,
    address: IpAddr,
    direction: Direction,
    group: GroupId,
    loads: Loads,
    cause: Cause,
    time: Option<Duration>,
    doubled: u32,
}

impl Judge {
    /// Goes by `policy`; `standing` are bans that were in force before.
    pub fn new(policy: Policy, standing: impl IntoIterator<Item = Ban>) -> Self {
        let mut judge = Self {
            glance: prepared(&policy, glance_window(&policy)),
            belonging: Belonging::new(policy.groups.clone()),
            bans: Bans::default(),
            released: Released::default(),
            fuse: Fuse::new(policy.max_bans_per_minute),
            carpet: Carpet::default(),
            next: BanId(1),
            judged: Moment::default(),
            policy,
        };
        for ban in standing {
            judge.next = judge.next.max(BanId(ban.id.0.saturating_add(1)));
            let group = judge.belonging.groups().of(ban.address);
            let doubled = judge.doubled_in(&ban, group);
            judge.bans.insert(Standing {
                ban,
                group,
                details_by: None,
                calm: Duration::ZERO,
                is_loud: false,
                doubled,
            });
        }
        judge
    }

    /// How often a ban's time was doubled, as far as it shows.
    fn doubled_in(&self, ban: &Ban, group: GroupId) -> u32 {
        let usual = self.policy.scope(group).and_then(|scope| scope.ban_time);
        match (ban.until, usual) {
            (Some(until), Some(usual)) => {
                let times = until.since(ban.since).as_secs() / usual.as_secs().max(1);
                times.checked_ilog2().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Numbers bans from `first`, or from behind those that stand.
    #[must_use]
    pub fn counting_from(self, first: BanId) -> Self {
        Self { next: self.next.max(first), ..self }
    }

    /// Judges every host at the tick. `occupant_of` tells whose a line is.
    pub fn weigh(
        &mut self,
        frame: &RateFrame,
        occupant_of: impl Fn(HostId) -> Option<Occupant>,
    ) -> Vec<Verdict> {
        let window = frame.window();
        let rules = prepared(&self.policy, window);
        // A reading that came late was not judged, and says nothing about its time.
        let step = frame.at.since(self.judged).min(frame.span);
        self.judged = frame.at;
        let mut walk = Walk {
            rules: &rules,
            policy: &self.policy,
            belonging: &mut self.belonging,
            bans: &mut self.bans,
            window,
            found: Vec::new(),
            adds_up: rules.iter().any(Prepared::adds_up),
            has_sums: rules.iter().any(Prepared::has_sums),
            takes_totals: Arc::ptr_eq(&frame.moved, &frame.fresh),
        };
        let sums = [
            walk.over(&frame.moved, Direction::Incoming, &occupant_of),
            walk.over(&frame.moved, Direction::Outgoing, &occupant_of),
        ];
        let (found, adds_up) = (std::mem::take(&mut walk.found), walk.adds_up);
        if !walk.takes_totals {
            self.take_totals(&frame.fresh);
        }
        let mut verdicts = self.banish(frame, found);
        verdicts.extend(self.release(frame.at, step));
        if adds_up {
            let court = Court {
                now: frame.at,
                window,
                moved: &frame.moved,
                middle: frame.moved.middle(),
                bars: &rules,
                bans: &self.bans,
                belonging: &self.belonging,
            };
            verdicts.extend(self.carpet.judge(sums, &court, &mut self.next));
        }
        verdicts.extend(self.carpet.calm(step, self.policy.finish.calm));
        verdicts
    }

    /// Judges one host between two ticks. `latest` tells what it does the other way.
    pub fn startle(
        &mut self,
        glimpse: &Glimpse,
        address: IpAddr,
        latest: &RateFrame,
    ) -> Option<Verdict> {
        let Glimpse { at, host, direction, ref within, .. } = *glimpse;
        // An average does not move within milliseconds.
        let window = self.policy.pace.window()?;
        if self.bans.holds(host) || self.bans.at(address).is_some() {
            return None;
        }
        let group = self.belonging.of(host, address);
        let rules = self.glance.get(usize::from(group.0))?;
        if !rules.bans {
            return None;
        }
        let ready = of_direction(&rules.host, direction);
        let exceeded = ready.exceeded(within)?;
        if self.policy.whitelist.contains(address) {
            return None;
        }
        if self.fuse.room(at) == 0 {
            self.fuse.blow(at, 1);
            return None;
        }
        let against = latest.load(host, direction.reversed());
        let loads = Loads::new(direction, within.per_second(window), against);
        Some(self.charge(at, host, address, direction, group, loads, exceeded))
    }

    /// What came since the last reading, where the frame does not say it.
    fn take_totals(&mut self, fresh: &Gains) {
        if self.bans.is_empty() {
            return;
        }
        for gain in fresh {
            if self.bans.holds(gain.host)
                && let Some(standing) = self.bans.of(gain.host)
                && standing.ban.direction == gain.direction
            {
                standing.ban.total += gain.total();
            }
        }
    }

    /// Bans who was found, as far as the fuse allows: the loudest first.
    fn banish(&mut self, frame: &RateFrame, mut found: Vec<Found>) -> Vec<Verdict> {
        let now = frame.at;
        let room = self.fuse.room(now);
        let wanted = found.len();
        if wanted > room {
            found.sort_by_key(|found| std::cmp::Reverse(found.packets));
        }
        let mut verdicts = Vec::new();
        for found in found {
            let Found { host, address, direction, group, exceeded, counts, .. } = found;
            if verdicts.len() == room {
                break;
            }
            if self.bans.at(address).is_some() {
                // Both directions were found.
                continue;
            }
            let against = frame.load(host, direction.reversed());
            let loads = Loads::new(direction, counts.per_second(frame.window()), against);
            verdicts.push(self.charge(now, host, address, direction, group, loads, exceeded));
        }
        if wanted > room {
            self.fuse.blow(now, wanted - room);
        }
        self.fuse.turn(now, wanted);
        verdicts
    }

    #[expect(clippy::too_many_arguments, reason = "what a charge is made of")]
    fn charge(
        &mut self,
        now: Moment,
        host: HostId,
        address: IpAddr,
        direction: Direction,
        group: GroupId,
        loads: Loads,
        exceeded: Exceeded,
    ) -> Verdict {
        self.fuse.count(now);
        let usual = self.policy.scope(group).and_then(|scope| scope.ban_time);
        let (mut time, mut doubled) = (usual, 0);
        if let (Some(Probe { within, longest }), Some(usual)) = (self.policy.probe, usual) {
            doubled = self.released.doubled(now, address, within);
            let times = 1_u32.checked_shl(doubled).unwrap_or(u32::MAX);
            time = Some(usual.saturating_mul(times).min(longest.max(usual)));
        }
        let cause = exceeded.cause();
        self.stand(now, Charge { host, address, direction, group, loads, cause, time, doubled })
    }

    fn stand(&mut self, now: Moment, charge: Charge) -> Verdict {
        let Charge { host, address, direction, group, loads, cause, time, doubled } = charge;
        let load = loads.of(direction);
        let total = load.total();
        let scope = self.policy.scope(group);
        let ban = Ban {
            id: self.next,
            host,
            address,
            direction,
            pps: total.pps,
            peak_pps: total.pps,
            peak_mbps: total.mbps(),
            attack: Attack::new(load, &cause),
            cause,
            loads,
            total: Tally::default(),
            group: scope.map_or_else(|| "".into(), |scope| Arc::clone(&scope.name)),
            dry_run: scope.is_some_and(|scope| scope.dry_run),
            deeds: scope.map_or_else(Deeds::default, |scope| scope.deeds.clone()),
            since: now,
            until: time.map(|time| now + time),
        };
        self.next = BanId(self.next.0.saturating_add(1));
        self.bans.insert(Standing {
            ban: ban.clone(),
            group,
            details_by: Some(now + self.policy.details_deadline),
            calm: Duration::ZERO,
            is_loud: true,
            doubled,
        });
        Verdict::Ban(ban)
    }

    /// Lets go whose time is over, unless the attack still goes on.
    fn release(&mut self, now: Moment, step: Duration) -> Vec<Verdict> {
        let finish = self.policy.finish;
        let mut over = Vec::new();
        for standing in self.bans.iter_mut() {
            if standing.is_loud {
                standing.calm = Duration::ZERO;
            } else {
                standing.calm = standing.calm.saturating_add(step);
            }
            standing.is_loud = false;
            let is_due = standing.ban.until.is_some_and(|until| until <= now);
            let is_calm =
                !finish.only || (standing.calm >= finish.calm && !standing.calm.is_zero());
            if is_due && is_calm && standing.details_by.is_none() {
                over.push(standing.ban.address);
            }
        }
        let mut verdicts = Vec::with_capacity(over.len());
        for address in over {
            let Some(Standing { ban, doubled, .. }) = self.bans.remove(address) else { continue };
            if let Some(Probe { within, .. }) = self.policy.probe {
                self.released.note(now, address, doubled, within);
            }
            verdicts.push(Verdict::Unban(ban, Ending::Over));
        }
        verdicts
    }

    /// Bans whose details are to be told now: all packets are there, or the deadline has come.
    /// `full` tells whether all packets are there. Each ban is given out once.
    pub fn due(&mut self, now: Moment, full: impl Fn(HostId) -> bool) -> Vec<Ban> {
        self.bans.due(now, full)
    }

    /// The details of a ban that stands are to be told, by then: again, or for the first time after
    /// a restart. Whose packets to collect; `None` when there is no such ban.
    pub fn collect(&mut self, address: IpAddr, by: Moment) -> Option<(HostId, IpAddr)> {
        self.bans.collect(address, by).map(|host| (host, address))
    }

    /// Are there details to be told?
    pub fn is_collecting(&self) -> bool {
        self.bans.is_collecting()
    }

    /// What the packets of a ban's dump show of the attack; the ban that stands learns it.
    #[must_use]
    pub fn learn(&mut self, ban: Ban, packets: &[Seen]) -> Ban {
        let attack = ban.attack.refined(ban.address, ban.direction, packets);
        if let Some(standing) = self.bans.at_mut(ban.address)
            && standing.ban.id == ban.id
        {
            standing.ban.attack = attack.clone();
        }
        Ban { attack, ..ban }
    }

    /// Obeys an operator.
    ///
    /// # Errors
    /// When there is nothing to do.
    pub fn obey(&mut self, now: Moment, order: Order) -> Result<Obeyed, OrderError> {
        match order {
            Order::Ban { host, address, direction, loads, reason, time } => {
                if self.bans.at(address).is_some() {
                    return Err(OrderError::BannedAlready(address));
                }
                let group = self.belonging.of(host, address);
                let usual = self.policy.scope(group).and_then(|scope| scope.ban_time);
                let charge = Charge {
                    host,
                    address,
                    direction,
                    group,
                    loads: *loads,
                    cause: Cause::Operator { reason },
                    time: match time {
                        Some(Duration::ZERO) => None,
                        time => time.or(usual),
                    },
                    doubled: 0,
                };
                Ok(Obeyed::of(self.stand(now, charge)))
            }
            Order::Unban { address, reason } => {
                let standing = self.bans.remove(address).ok_or(OrderError::NotBanned(address))?;
                Ok(Obeyed::of(Verdict::Unban(standing.ban, Ending::Operator { reason })))
            }
            Order::Resume => {
                if !self.fuse.mend() {
                    return Err(OrderError::NotBlown);
                }
                let told = vec!["hosts are banned by rules again".to_owned()];
                Ok(Obeyed { verdicts: Vec::new(), told })
            }
            Order::Reload(policy) => {
                Ok(Obeyed { verdicts: Vec::new(), told: self.reload(*policy) })
            }
        }
    }

    /// Goes by another policy from now on. Whoever is banned stays so; rules and groups that it is
    /// let go by are the new ones.
    fn reload(&mut self, policy: Policy) -> Vec<String> {
        let mut told = self.policy.difference(&policy);
        self.glance = prepared(&policy, glance_window(&policy));
        self.belonging = Belonging::new(policy.groups.clone());
        for standing in self.bans.iter_mut() {
            standing.group = self.belonging.groups().of(standing.ban.address);
            if policy.whitelist.contains(standing.ban.address)
                && !self.policy.whitelist.contains(standing.ban.address)
            {
                told.push(format!(
                    "`{0}` is on the whitelist now and still banned: `fastnetmon unban {0}` ends it",
                    standing.ban.address
                ));
            }
        }
        let groups = self.belonging.groups();
        self.carpet.regroup(|prefix: Prefix| groups.holding(prefix));
        self.fuse.set(policy.max_bans_per_minute);
        self.policy = policy;
        told
    }

    /// Does this host's ban still wait for its details?
    pub fn waits_for_details(&self, address: IpAddr) -> bool {
        self.bans.at(address).is_some_and(|standing| standing.details_by.is_some())
    }

    /// Is the host of this line banned? Costs next to nothing.
    pub fn holds(&self, host: HostId) -> bool {
        self.bans.holds(host)
    }

    /// Bans that stand, by address.
    pub fn standing(&self) -> impl Iterator<Item = &Ban> {
        self.bans.iter().map(|standing| &standing.ban)
    }

    /// The ban of an address.
    pub fn ban_of(&self, address: IpAddr) -> Option<&Ban> {
        self.bans.at(address).map(|standing| &standing.ban)
    }

    /// How many are banned.
    pub fn banned(&self) -> usize {
        self.bans.len()
    }

    /// Networks under attack.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.carpet.standing()
    }

    /// What an operator should know, in sentences.
    pub fn alarms(&self) -> Vec<String> {
        self.fuse.alarm().into_iter().collect()
    }

    /// What the judge goes by.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }
}

#[cfg(test)]
mod tests;
