//! A recording judged as live traffic is: the same rooms, and the clock of the recording.
//!
//! Counters, rates and judge are those of the tick, in its order: a reading each tick, watched hosts
//! looked at every 10 ms, hints taken as they come. Nothing is done about a ban but to tell it.
//!
//! **Invariant**: pure but for the tables. Whoever plays the frames says what time it is; time that
//! goes back stands still.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::capture::{Intake as _, Opened, RoleName, Way};
use crate::counters::{Counters, Evidence, Rules, Watch, Writer};
use crate::daemon::engines::LaidOut;
use crate::daemon::tick::GLANCE;
use crate::daemon::{Settings, StartError, pipeline};
use crate::kernel::KernelError;
use crate::model::{Direction, HostId, Moment, Sides, Tally};
use crate::networks::{self, Guarded, Occupant, Territory};
use crate::rates::{RateFrame, RateTable, Totals, WINDOW};
use crate::tables::{self, Notice};
use crate::verdicts::{Alert, Ban, Judge, Verdict};

/// What a recording came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Bans and their ends, in the order in which they fell.
    pub verdicts: Vec<(Moment, Fell)>,
    /// Bans that stand at the end.
    pub standing: Vec<Ban>,
    /// Everything that was counted.
    pub totals: Totals,
    /// Who did how much, the loudest first, in each direction.
    pub talkers: [Vec<Talker>; 2],
    /// Addresses that did something, but found no more room to be remembered.
    pub forgotten: u64,
}

/// What fell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fell {
    /// A ban.
    Ban(Ban),
    /// Its end.
    Unban(Ban),
    /// A prefix is under attack.
    Alert(Alert),
    /// It is no more.
    Calm(Alert),
}

/// What one host did in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Talker {
    /// Who.
    pub address: IpAddr,
    /// In all.
    pub total: Tally,
    /// Packets a second at the worst tick.
    pub peak_pps: u64,
}

/// The rooms, and where in the recording they are.
#[derive(Debug)]
pub struct Replay {
    role: RoleName,
    tick: Duration,
    writer: Writer,
    noticed: Receiver<Notice>,
    now: Moment,
    rooms: Rooms,
}

/// What the tick holds.
#[derive(Debug)]
struct Rooms {
    counters: Counters,
    territory: Territory,
    rates: RateTable,
    latest: RateFrame,
    watch: Watch,
    judge: Judge,
    next_reading: Moment,
    next_glance: Moment,
    talkers: HashMap<(IpAddr, Direction), (Tally, u64)>,
    outcome: Outcome,
}

impl Replay {
    /// Sets the rooms up for a recording that begins at `begin`.
    ///
    /// # Errors
    /// When the networks cannot be known, or their tables not be had.
    pub fn new(settings: &Settings, begin: Moment) -> Result<Self, StartError> {
        let Guarded { ours, named, whitelist, .. } = networks::read(&settings.networks)?;
        let laid_out = LaidOut::new(settings, &ours, NonZeroU32::MIN)?;
        let (parts, rows) = tables::own(laid_out.shape).map_err(KernelError::from)?;
        let (counters, mut territory, hints) = laid_out.written(&ours, parts, 1, begin);
        let policy = pipeline::policy(settings, whitelist);
        hints.follow(&policy, &territory);
        territory.name(named);
        let (notices, noticed) = bounded(NOTICES);
        // Nothing is kept for a dump that nobody will be told.
        let rules = Rules { sparse_every: 0, decapsulate: settings.capture.decapsulate };
        let mut writer =
            Writer::new(Arc::<Evidence>::default(), notices, Arc::<AtomicU64>::default());
        if let Some(row) = rows.into_iter().next() {
            let ignores = networks::Ignores::of(&settings.ignore);
            writer = writer.counting(row, rules).ignoring(ignores);
        }
        let tick = settings.capture.tick_ms.duration();
        Ok(Self {
            role: settings.capture.role,
            tick,
            writer,
            noticed,
            now: begin,
            rooms: Rooms {
                counters,
                territory,
                rates: RateTable::new(policy.pace),
                latest: RateFrame::default(),
                watch: Watch::new(policy.pace.window().unwrap_or(WINDOW)),
                judge: Judge::new(policy, []),
                next_reading: begin + tick,
                next_glance: begin,
                talkers: HashMap::new(),
                outcome: Outcome::default(),
            },
        })
    }

    /// Counts a frame, after all that falls before it.
    pub fn frame(&mut self, at: Moment, opened: &Opened<'_>) {
        self.now = self.now.max(at);
        self.rooms.go_to(self.now, self.tick);
        self.writer.frame(self.now, sides(self.role, opened.way), &opened.frame);
        for notice in self.noticed.try_iter() {
            self.rooms.notice(self.now, notice);
        }
        self.rooms.glance_if_due(self.now);
    }

    /// What fell since this was asked the last time.
    pub fn fallen(&mut self) -> Vec<(Moment, Fell)> {
        std::mem::take(&mut self.rooms.outcome.verdicts)
    }

    /// Takes the last reading. What fell and was not asked for is in the outcome.
    pub fn finish(mut self) -> Outcome {
        let end = self.rooms.next_reading;
        self.rooms.go_to(end, self.tick);
        let Rooms { mut outcome, judge, talkers, latest, .. } = self.rooms;
        outcome.standing = judge.standing().cloned().collect();
        outcome.totals = latest.totals;
        for ((address, direction), (total, peak_pps)) in talkers {
            let [incoming, outgoing] = &mut outcome.talkers;
            let list = if direction == Direction::Incoming { incoming } else { outgoing };
            list.push(Talker { address, total, peak_pps });
        }
        for list in &mut outcome.talkers {
            list.sort_by_key(|talker| (std::cmp::Reverse(talker.total.packets), talker.address));
        }
        outcome
    }
}

impl Rooms {
    /// Does all that falls until this moment.
    fn go_to(&mut self, now: Moment, tick: Duration) {
        loop {
            let glance = Some(self.next_glance).filter(|_| self.is_restless());
            match glance {
                Some(at) if at <= now && at < self.next_reading => {
                    self.glance(at);
                    self.next_glance = at + GLANCE;
                }
                _ if self.next_reading <= now => {
                    let at = self.next_reading;
                    self.read(at);
                    self.next_reading = at + tick;
                    // What nobody can be judged by is not waited through, tick by tick.
                    if self.is_idle() && now.since(self.next_reading) > WINDOW * 2 {
                        let totals = self.rates.skip(&self.counters.read(now));
                        self.latest = RateFrame { at: now, totals, ..RateFrame::default() };
                        self.next_reading = now + tick;
                    }
                }
                _ => return,
            }
        }
    }

    /// Is there anything to look at between two readings?
    fn is_restless(&self) -> bool {
        !self.watch.is_empty() || self.judge.is_collecting()
    }

    /// Nothing moves, and no ban waits for its end.
    fn is_idle(&self) -> bool {
        self.latest.moved.is_empty()
            && !self.is_restless()
            && self.judge.standing().all(|ban| ban.until.is_none())
            && self.judge.alerts().next().is_none()
    }

    fn notice(&mut self, now: Moment, notice: Notice) {
        match notice {
            Notice::Hint(hint) => {
                let is_outgoing = hint.direction == Direction::Outgoing as u32;
                let direction = if is_outgoing { Direction::Outgoing } else { Direction::Incoming };
                if self.watch.is_empty() {
                    self.next_glance = now;
                }
                self.watch.add(now, HostId(hint.slot), direction, &self.counters);
            }
            Notice::Stranger(stranger) => {
                let [high, low] = stranger.address;
                self.territory.meet((u128::from(high) << 64) | u128::from(low));
            }
        }
    }

    fn read(&mut self, now: Moment) {
        self.latest = RateFrame::default();
        let room = self.rates.let_go(now.since(self.counters.last()));
        self.counters.take_back(room);
        let reading = self.counters.read(now);
        for gain in &reading.gains {
            let (address, more) = (self.territory.occupant(gain.host), gain.total());
            let Some(Occupant::Host(address)) = address else { continue };
            let is_full = self.talkers.len() >= MOST_TALKERS;
            match self.talkers.get_mut(&(address, gain.direction)) {
                Some((total, _)) => *total += more,
                None if is_full => self.outcome.forgotten += 1,
                None => drop(self.talkers.insert((address, gain.direction), (more, 0))),
            }
        }
        self.territory.read(now, reading.gains.iter().map(|gain| gain.host));
        if !self.watch.is_empty() {
            self.watch.turn(now, |host, direction| reading.of(host, direction));
        }
        self.latest = self.rates.advance(reading);
        for rate in self.latest.rates() {
            if let Some(address) = self.territory.address(rate.host)
                && let Some((_, peak)) = self.talkers.get_mut(&(address, rate.direction))
            {
                *peak = (*peak).max(rate.per_second.pps);
            }
        }
        let territory = &self.territory;
        for verdict in self.judge.weigh(&self.latest, |host| territory.occupant(host)) {
            self.pronounce(now, verdict);
        }
    }

    fn glance_if_due(&mut self, now: Moment) {
        if self.is_restless() && self.next_glance <= now {
            self.glance(now);
            self.next_glance = now + GLANCE;
        }
    }

    fn glance(&mut self, now: Moment) {
        for glimpse in self.watch.look(now, &self.counters) {
            let Some(address) = self.territory.address(glimpse.host) else { continue };
            if let Some(verdict) = self.judge.startle(&glimpse, address, &self.latest) {
                self.pronounce(now, verdict);
            }
        }
        // The details have their time, as if nothing had been kept for them.
        let _untold = self.judge.due(now, |_| false);
    }

    fn pronounce(&mut self, now: Moment, verdict: Verdict) {
        let fell = match verdict {
            Verdict::Ban(ban) => Fell::Ban(ban),
            Verdict::Unban(ban, _) => {
                self.watch.forget(ban.host);
                Fell::Unban(ban)
            }
            Verdict::Alert(alert) => Fell::Alert(alert),
            Verdict::Calm(alert) => Fell::Calm(alert),
            Verdict::Details(..) => return,
        };
        self.outcome.verdicts.push((now, fell));
    }
}

/// A recording shows each packet once, so both ends are counted, unless it says which way a packet
/// went and the port was one towards the world.
fn sides(role: RoleName, way: Option<Way>) -> Sides {
    match (role, way) {
        (RoleName::Uplink, Some(way)) => way.sides(),
        _ => Sides::Both,
    }
}

/// Notices that one frame can make, and some more.
const NOTICES: usize = 64;
/// Addresses that are remembered for the list of the loudest.
const MOST_TALKERS: usize = 1 << 20;
