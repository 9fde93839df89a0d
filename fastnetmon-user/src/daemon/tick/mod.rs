//! The tick: the one thread that reads, decides and reports.
//!
//! It wakes for three things: the next reading is due, a notice of the capture engine came, an
//! operator asks. Only here are the pure rooms called, so nothing in them needs a lock.
//!
//! **Invariant**: nothing on this thread waits for an action, a client or a disk.

mod acts;
mod due;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, select_biased};
use fastnetmon_common::abi::{Hint, Stranger};
use tracing::{debug, error, info, warn};

use crate::actions::{Actions, Deed, Receipt};
use crate::capture;
use crate::control::{self, Status};
use crate::counters::{Counters, Evidence, Watch};
use crate::daemon::backlog::{Settler, Which};
use crate::daemon::containers::Containers;
use crate::daemon::drops::Drops;
use crate::daemon::hints::Hints;
use crate::daemon::journal::{Resumed, Trouble};
use crate::daemon::origins::Dump;
use crate::daemon::packets::Tray;
use crate::daemon::reload::Change;
use crate::daemon::service::Pulse;
use crate::daemon::shown::Shown;
use crate::daemon::{asked, clock, exports, sinks};
use crate::kernel::{self, Interface};
use crate::model::{Direction, HostId, Loads, Moment, Tally, plain};
use crate::networks::{Occupant, Territory};
use crate::origins::Origins;
use crate::rates::{Channel, Rate, RateFrame, RateTable, Totals, WINDOW};
use crate::reports::{Gatherer, Health, loudest};
use crate::tables::Notice;
use crate::verdicts::{Alert, Ban, Cause, Judge, Obeyed, Order, Verdict};

/// How often watched hosts are looked at.
pub(super) const GLANCE: Duration = Duration::from_millis(10);

/// Loudest hosts in a report, each direction and order.
const LOUDEST: usize = 100;

/// An operator's wish and where the answer goes.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) order: control::Request,
    pub(super) answer: Sender<Answer>,
}

/// What an operator is told.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: control::Reply,
    /// Tells when what was done is on disk.
    pub(super) written: Option<Receipt>,
}

/// What the tick is given.
#[derive(Debug)]
pub(super) struct Tick {
    pub(super) span: Duration,
    pub(super) counters: Counters,
    /// Has additions made that wait in the kernel, where they do.
    pub(super) backlog: Settler,
    pub(super) territory: Territory,
    pub(super) containers: Containers,
    pub(super) judge: Judge,
    pub(super) evidence: Arc<Evidence>,
    pub(super) packets: u32,
    /// Where packets of attacks go that are written to disk.
    pub(super) tray: Tray,
    /// Who looks up where the packets of a ban come from.
    pub(super) surveyor: Option<Sender<Dump>>,
    pub(super) origins: Origins,
    pub(super) actions: Actions,
    /// What the kernel drops, where it is to drop anything.
    pub(super) drops: Drops,
    /// What stood before the start.
    pub(super) resumed: Resumed,
    /// Why the journal is not written.
    pub(super) journal_trouble: Trouble,
    pub(super) lost_notices: Arc<AtomicU64>,
    /// The threads that drain the rings, the kernel's or their own.
    pub(super) rings: Vec<Arc<Lookout>>,
    /// The thread that takes packets from sockets, where there is one.
    pub(super) taker: Arc<Lookout>,
    pub(super) shown: Arc<Shown>,
    /// When the engine wakes this thread.
    pub(super) hints: Hints,
    pub(super) about: About,
    /// What the action did.
    pub(super) done: Receiver<Box<Deed>>,
    /// What those outside are told.
    pub(super) told: Gatherer,
    /// Longest span a reading may have; what is longer may have wrapped.
    pub(super) longest: Duration,
}

/// What a capture thread tells of itself.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// Why it cannot see.
    pub(super) broken: Mutex<Option<String>>,
    /// Records or frames it handed over.
    pub(super) taken: AtomicU64,
    /// Of these, what it missed.
    pub(super) lost: AtomicU64,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) engine: &'static str,
    /// Why this one.
    pub(super) engine_reason: String,
    /// An interface that is made anew is seen again without our being restarted.
    pub(super) follows: bool,
    pub(super) role: &'static str,
    pub(super) evidence: String,
    pub(super) interfaces: Vec<String>,
    pub(super) started: Moment,
}

impl About {
    /// The state as far as it never changes.
    pub(super) fn status(&self) -> Status {
        let Self { engine, engine_reason, role, evidence, interfaces, .. } = self;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: (*engine).to_owned(),
            engine_reason: engine_reason.clone(),
            role: (*role).to_owned(),
            evidence: evidence.clone(),
            interfaces: interfaces.clone(),
            ..Status::default()
        }
    }
}

#[derive(Debug)]
struct State {
    tick: Tick,
    rates: RateTable,
    watch: Watch,
    latest: RateFrame,
    missed: Missed,
    gaps: u64,
    overflows: u64,
    /// Calls that failed, and why the last one did.
    failures: (u64, String),
    /// The fuse was blown at the last reading.
    is_blown: bool,
    /// Tells when the last verdict is on disk.
    written: Option<Receipt>,
    /// When the journal was told what stands.
    noted: Moment,
    /// A verdict that is not on disk yet, and since when it should be.
    unwritten: Option<(Moment, Receipt)>,
}

/// Frames the ports lost, from counters of 32 bits that go round.
#[derive(Debug, Default)]
struct Missed {
    last: HashMap<String, Interface>,
    total: u64,
    down: Vec<String>,
    anew: Vec<String>,
    /// When the system is asked again: it tells of every interface there is, wanted or not.
    next: Moment,
}

impl Tick {
    /// Runs until `stop` closes.
    pub(super) fn run(
        self,
        notices: &Receiver<Notice>,
        wishes: &Receiver<Wish>,
        changes: &Receiver<Change>,
        stop: &Receiver<()>,
    ) -> Actions {
        let pace = self.judge.policy().pace;
        let watch = Watch::new(pace.window().unwrap_or(WINDOW));
        let mut state = State {
            tick: self,
            rates: RateTable::new(pace),
            watch,
            latest: RateFrame::default(),
            missed: Missed::default(),
            gaps: 0,
            overflows: 0,
            failures: (0, String::new()),
            is_blown: false,
            written: None,
            noted: clock::now(),
            unwritten: None,
        };
        state.take_up(clock::now());
        state.missed.look(clock::now(), &state.tick.about);
        let mut next_reading = state.tick.counters.last() + state.tick.span;
        let mut next_glance = Moment::default();
        let mut pulse = Pulse::new();
        loop {
            let now = clock::now();
            if now >= next_reading {
                state.tick.backlog.settle(Which::OfTheQuiet);
                // That may have taken a moment, which the reading is to have seen.
                let now = clock::now();
                state.read(now);
                pulse.beat(now);
                next_reading = due::next(next_reading, now, state.tick.span);
            }
            // A reading takes its time: what came meanwhile belongs to a later moment.
            let now = clock::now();
            if state.is_restless() && now >= next_glance {
                state.glance(now);
                next_glance = now + GLANCE;
            }
            let now = clock::now();
            let mut patience = next_reading.since(now);
            if state.is_restless() {
                patience = patience.min(next_glance.since(now));
            }
            select_biased! {
                recv(stop) -> _ => break,
                recv(notices) -> notice => match notice {
                    Ok(notice) => {
                        state.notice(clock::now(), notice);
                        // Whatever else is there comes with it, within bounds.
                        for notice in notices.try_iter().take(4096) {
                            state.notice(clock::now(), notice);
                        }
                    }
                    Err(_closed) => break,
                },
                recv(wishes) -> wish => if let Ok(wish) = wish {
                    state.grant(clock::now(), wish);
                },
                recv(changes) -> change => if let Ok(change) = change {
                    let answer = change.answer.clone();
                    let outcome = state.change(clock::now(), change);
                    // Whoever asked may have gone; the change is made all the same.
                    let _unheard = answer.try_send(outcome);
                },
                recv(after(patience)) -> _ => {}
            }
        }
        state.note_standing();
        state.tick.actions
    }
}

impl State {
    /// Is there anything to look at between two readings?
    fn is_restless(&self) -> bool {
        !self.watch.is_empty() || self.tick.judge.is_collecting()
    }

    fn notice(&mut self, now: Moment, notice: Notice) {
        match notice {
            Notice::Hint(Hint { slot, direction, .. }) => {
                let direction = if direction == Direction::Outgoing as u32 {
                    Direction::Outgoing
                } else {
                    Direction::Incoming
                };
                // Who is banned is not judged before the tick.
                if !self.tick.judge.holds(HostId(slot)) {
                    self.watch.add(now, HostId(slot), direction, &self.tick.counters);
                }
            }
            Notice::Stranger(Stranger { address: [high, low], .. }) => {
                self.tick.territory.meet((u128::from(high) << 64) | u128::from(low));
            }
        }
    }

    /// The whole round: counters, rates, verdicts, report.
    fn read(&mut self, now: Moment) {
        let cpu = clock::thread_cpu();
        // The last frame has had its time; its room is the next one's.
        self.latest = RateFrame::default();
        let room = self.rates.let_go(now.since(self.tick.counters.last()));
        self.tick.counters.take_back(room);
        let reading = self.tick.counters.read(now);
        self.tick.drops.read(&reading, &self.tick.judge);
        let is_late = reading.span > self.tick.longest;
        if is_late {
            self.gaps += 1;
            error!(span = ?reading.span, longest = ?self.tick.longest, "A reading came too late to tell speeds; its packets count in the totals only.");
        }
        let lent = self.tick.territory.lent_from();
        self.tick.territory.read(now, reading.moved_from(lent));
        if !self.watch.is_empty() {
            self.watch.turn(now, |host, direction| reading.of(host, direction));
        }
        let span = reading.span;
        let gains;
        if is_late {
            // Nobody is banned or let go by it.
            let totals = self.rates.skip(&reading);
            gains = Some(Arc::new(reading.gains));
            self.latest = RateFrame { at: now, totals, ..RateFrame::default() };
        } else {
            self.latest = self.rates.advance(reading);
            gains = self.rates.newest();
            let Tick { judge, territory, .. } = &mut self.tick;
            let verdicts = judge.weigh(&self.latest, |host| territory.occupant(host));
            self.pronounce_all(now, verdicts);
            self.tell_fuse();
        }
        self.tick.told.take(span, &self.latest.totals, gains);
        let Tick { containers, territory, judge, backlog, .. } = &mut self.tick;
        let banned = judge.standing().map(|ban| ban.address);
        let settle = || backlog.settle(Which::All);
        containers.follow(now, &self.latest, territory, banned, settle);
        self.missed.look(now, &self.tick.about);
        for deed in self.tick.done.try_iter() {
            if let Err(error) = &deed.outcome {
                self.failures = (self.failures.0 + 1, error.to_string());
            }
            self.tick.told.did(*deed);
        }
        self.keep_notes(now);
        let spent = clock::thread_cpu().saturating_sub(cpu);
        self.publish(now, spent);
        self.tell();
        debug!(hosts = self.latest.moved.len(), ?spent, "Reading done.");
    }

    /// Says once that the fuse is blown, and once that it is mended.
    fn tell_fuse(&mut self) {
        let alarms = self.tick.judge.alarms();
        match (alarms.first(), self.is_blown) {
            (Some(alarm), false) => error!("{alarm}"),
            (None, true) => info!("The fuse is mended."),
            _ => {}
        }
        self.is_blown = !alarms.is_empty();
    }

    /// Between two readings: watched hosts, and dumps that are ready.
    fn glance(&mut self, now: Moment) {
        let glimpses = self.watch.look(now, &self.tick.counters);
        let Tick { judge, territory, .. } = &mut self.tick;
        let startled = glimpses.iter().filter_map(|glimpse| {
            let address = territory.address(glimpse.host)?;
            judge.startle(glimpse, address, &self.latest)
        });
        let verdicts = startled.collect();
        self.pronounce_all(now, verdicts);
        let Tick { judge, evidence, .. } = &mut self.tick;
        if judge.is_collecting() {
            let full = evidence.full();
            for ban in judge.due(now, |host| full.contains(&host)) {
                self.tell_details(ban);
            }
        }
    }

    fn tell_details(&mut self, ban: Ban) {
        let caught = self.tick.evidence.take(ban.host);
        self.tick.territory.disarm(ban.host, ban.address);
        let dump = usize::try_from(self.tick.packets).unwrap_or(usize::MAX);
        let packets: Arc<[_]> = caught.iter().take(dump).map(|one| one.seen.clone()).collect();
        let ban = self.tick.judge.learn(ban, &packets);
        self.tick.tray.put(&ban, caught, self.tick.packets, clock::wall());
        if let Some(surveyor) = &self.tick.surveyor {
            let dump = Dump { ban: ban.id.0, host: ban.address, packets: Arc::clone(&packets) };
            if surveyor.try_send(dump).is_err() {
                debug!("Nobody has time to look up where packets come from.");
            }
        }
        let (ip, kind, because) = (ban.address, ban.attack.kind.name(), &*ban.attack.because);
        info!(%ip, packets = packets.len(), kind, because, "The packets of an attack.");
        self.act(Verdict::Details(ban, packets));
    }

    /// The bans go out first; the evidence follows, for all of them at once.
    fn pronounce_all(&mut self, now: Moment, verdicts: Vec<Verdict>) {
        let mut armed = Vec::new();
        for verdict in verdicts {
            if let Verdict::Ban(ban) = &verdict {
                armed.push((ban.host, ban.address, self.tick.drops.concerns(ban)));
            }
            self.pronounce(now, verdict);
        }
        if armed.is_empty() {
            return;
        }
        let hosts: Vec<_> = armed.iter().map(|&(host, address, _)| (host, address)).collect();
        self.arm(now, &hosts);
        for (host, address, is_dropped) in armed {
            if is_dropped {
                self.tick.territory.gate(host, address);
            }
        }
    }

    fn pronounce(&mut self, now: Moment, verdict: Verdict) {
        match verdict {
            Verdict::Ban(ban) => {
                self.act(Verdict::Ban(ban.clone()));
                self.tick.shown.ban(&ban, clock::wall());
                let dry_run = ban.dry_run.then_some(true);
                let group = Some(&*ban.group).filter(|group| !group.is_empty());
                let (ip, direction, pps) = (ban.address, ban.direction.name(), ban.pps);
                match &ban.cause {
                    Cause::Rule { subject, measure, threshold, measured } => {
                        let (subject, measure) = (subject.name(), measure.name());
                        let (kind, because) = (ban.attack.kind.name(), &*ban.attack.because);
                        warn!(%ip, direction, pps, subject, measure, threshold, measured, kind, because, group, dry_run, "Attack.");
                    }
                    Cause::Operator { reason } => {
                        info!(%ip, direction, pps, reason = reason.as_deref(), dry_run, "Banned by an operator.");
                    }
                }
            }
            Verdict::Details(ban, _) => self.tell_details(ban),
            Verdict::Unban(ban, ending) => {
                self.tick.territory.release(ban.host, ban.address);
                self.tick.shown.unban(ban.address);
                let lasted = now.since(ban.since);
                let Ban { address, peak_pps, peak_mbps, total, .. } = &ban;
                let Tally { packets, bytes } = total;
                let dropped = self.tick.drops.forget(*address);
                info!(ip = %address, ?lasted, peak_pps, peak_mbps, packets, bytes, dropped, "The ban is over.");
                self.act(Verdict::Unban(ban, ending));
            }
            Verdict::Alert(alert) => {
                self.act(Verdict::Alert(alert.clone()));
                let Alert { prefix, direction, hosts, pps, .. } = &alert;
                warn!(%prefix, direction = direction.name(), hosts, pps, "A network is under attack.");
            }
            Verdict::Calm(alert) => {
                self.act(Verdict::Calm(alert.clone()));
                let Alert { prefix, direction, peak_pps, since, .. } = &alert;
                let lasted = now.since(*since);
                info!(%prefix, direction = direction.name(), ?lasted, peak_pps, "A network is calm again.");
            }
        }
    }

    /// Puts down what is told, for those outside.
    fn note(&mut self, verdict: &Verdict) {
        let latency = match verdict {
            Verdict::Ban(Ban { host, direction, .. }) => {
                self.watch.since(*host, *direction).map(|since| clock::now().since(since))
            }
            _ => None,
        };
        self.tick.told.note(clock::wall(), verdict, latency);
    }

    fn grant(&mut self, now: Moment, wish: Wish) {
        self.written = None;
        let reply = match self.obey(now, wish.order) {
            Ok(reply) => reply,
            Err(reason) => control::Reply::Refused { reason },
        };
        let written = self.receipt();
        // The client may have gone away; its order is obeyed all the same.
        if wish.answer.try_send(Answer { reply, written }).is_err() {
            debug!("Nobody waits for the answer.");
        }
    }

    fn obey(&mut self, now: Moment, order: control::Request) -> Result<control::Reply, String> {
        match order {
            control::Request::Status { .. } | control::Request::Reload => {
                Err("that is answered elsewhere".to_owned())
            }
            control::Request::Events { after } => {
                Ok(asked::events(&mut self.tick.told, clock::wall(), after))
            }
            control::Request::Networks => {
                Ok(asked::networks(&self.tick.counters, &self.tick.territory))
            }
            control::Request::Host { ip } => {
                let Tick { told, territory, shown, .. } = &mut self.tick;
                asked::host(told, territory, &self.latest, ip, shown.standing(ip))
            }
            control::Request::Ban { ip, direction, reason, time_secs } => {
                let direction = match direction {
                    control::Way::Incoming => Direction::Incoming,
                    control::Way::Outgoing => Direction::Outgoing,
                };
                if !self.tick.territory.guards(ip) {
                    return Err(format!("`{ip}` is in none of our networks"));
                }
                let host = self
                    .tick
                    .territory
                    .host(ip)
                    .ok_or_else(|| format!("`{ip}` finds no line right now: try again"))?;
                let loads = Box::new(Loads {
                    incoming: self.latest.load(host, Direction::Incoming),
                    outgoing: self.latest.load(host, Direction::Outgoing),
                });
                let (reason, time) = (reason.map(line), time_secs.map(Duration::from_secs));
                let order = Order::Ban { host, address: ip, direction, loads, reason, time };
                self.order(now, order)?;
                Ok(control::Reply::Done { what: format!("`{ip}` is banned") })
            }
            control::Request::Unban { ip, reason } => {
                // The three calls keep their order, however short the ban was.
                if self.tick.judge.waits_for_details(ip)
                    && let Some(ban) = self.tick.judge.ban_of(ip).cloned()
                {
                    self.tell_details(ban);
                }
                self.order(now, Order::Unban { address: ip, reason: reason.map(line) })?;
                Ok(control::Reply::Done { what: format!("`{ip}` is let go") })
            }
            control::Request::Resume => {
                let told = self.order(now, Order::Resume)?;
                Ok(control::Reply::Done { what: told.join("; ") })
            }
        }
    }

    /// Has the judge obey, and does what follows. Returns what changed, in lines.
    fn order(&mut self, now: Moment, order: Order) -> Result<Vec<String>, String> {
        let is_reload = matches!(order, Order::Reload(_));
        let Obeyed { verdicts, told } =
            self.tick.judge.obey(now, order).map_err(|error| error.to_string())?;
        self.pronounce_all(now, verdicts);
        if is_reload {
            let policy = self.tick.judge.policy();
            self.tick.hints.follow(policy, &self.tick.territory);
            self.rates.turn_to(policy.pace);
            self.watch.slide(policy.pace.window().unwrap_or(WINDOW));
        }
        for line in &told {
            info!("The policy changed: {line}.");
        }
        Ok(told)
    }

    fn publish(&self, now: Moment, spent: Duration) {
        let Tick { about, judge, territory, .. } = &self.tick;
        let wall = clock::wall();
        let totals = &self.latest.totals;
        let banned: Vec<IpAddr> = judge.standing().map(|ban| ban.address).collect();
        let show = |rates: Vec<Rate>| -> Vec<control::Host> {
            rates
                .into_iter()
                .filter_map(|rate| {
                    let (ip, banned) = match territory.occupant(rate.host)? {
                        Occupant::Host(address) => {
                            (address.to_string(), banned.binary_search(&address).is_ok())
                        }
                        Occupant::Strangers(prefix) => (prefix.to_string(), false),
                    };
                    let (pps, bps) = (rate.per_second.pps, rate.per_second.bits());
                    Some(control::Host { ip, pps, bps, banned })
                })
                .collect()
        };
        let incoming = loudest(&self.latest, Direction::Incoming, LOUDEST);
        let outgoing = loudest(&self.latest, Direction::Outgoing, LOUDEST);
        let (evicted, refused) = territory.residents().turned_away();
        let status = Status {
            uptime_secs: now.since(about.started).as_secs(),
            totals: control::Totals {
                incoming: traffic(totals.incoming),
                outgoing: traffic(totals.outgoing),
                internal: traffic(totals.internal),
                other: traffic(totals.other),
                dropped: traffic(totals.dropped),
            },
            packets: packets(totals, self.dropped(), &self.tick.taker),
            hosts: control::Hosts {
                incoming_packets: show(incoming.by_packets),
                outgoing_packets: show(outgoing.by_packets),
                incoming_bytes: show(incoming.by_bytes),
                outgoing_bytes: show(outgoing.by_bytes),
            },
            networks: u64::try_from(territory.ours().len()).unwrap_or(u64::MAX),
            ipv6: control::Residents {
                hosts: u64::try_from(territory.residents().len()).unwrap_or(u64::MAX),
                room: territory.room().into(),
                evicted,
                refused,
            },
            tick_micros: u64::try_from(spent.as_micros()).unwrap_or(u64::MAX),
            alarms: self.alarms(),
            exports: self.tick.told.standings().map(sinks::shown_export).collect(),
            // Bans, origins and what a look for mistakes found are shown as they stand when somebody
            // asks.
            ..about.status()
        };
        let drops = &self.tick.drops;
        let standing = judge.standing().map(|ban| (ban, drops.shown(ban, wall)));
        self.tick.shown.put(status, standing, wall);
    }

    /// Tells those outside, if it is time and anybody listens. The verdicts are out.
    fn tell(&mut self) {
        let Tick { told, judge, territory, actions, lost_notices, shown, .. } = &mut self.tick;
        let status = shown.status();
        told.alarms(clock::wall(), &status.alarms);
        let (failures, overflows) = (self.failures.0, self.overflows);
        let health = || Health {
            failures,
            overflows,
            self_check: shown.self_check().map(|found| (found.failures, found.warnings)),
            ..exports::health(&status, lost_notices.load(Ordering::Relaxed), actions.waiting())
        };
        let totals = &self.latest.totals;
        let banned = || judge.standing().cloned().collect();
        told.tell(clock::wall(), totals, banned, || territory.names(), health);
    }

    /// What was lost before it was counted: at the ports, and in rings of our own.
    fn dropped(&self) -> u64 {
        let rings = self.tick.rings.iter();
        self.missed.total + rings.map(|ring| ring.lost.load(Ordering::Relaxed)).sum::<u64>()
    }

    fn alarms(&self) -> Vec<String> {
        let mut alarms = self.tick.judge.alarms();
        alarms.extend(self.tick.drops.alarm(clock::now(), &self.tick.judge));
        for lookout in self.tick.rings.iter().chain([&self.tick.taker]) {
            let broken = lookout.broken.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(reason) = broken.as_ref() {
                alarms.push(format!("The capture is broken: {reason}."));
            }
        }
        // Threads that look at one port say the same.
        alarms.dedup();
        for interface in &self.missed.down {
            alarms.push(format!("Interface `{interface}` is gone or down: nothing is seen there."));
        }
        for interface in &self.missed.anew {
            alarms.push(format!(
                "Interface `{interface}` was deleted and made anew: nothing is seen there until the \
                 agent is started again."
            ));
        }
        if self.gaps > 0 {
            alarms.push(format!("{} readings came too late to tell speeds.", self.gaps));
        }
        let lost = self.tick.lost_notices.load(Ordering::Relaxed);
        if lost > 0 {
            alarms.push(format!("{lost} notices found the tick busy; the next reading saw them."));
        }
        let (failures, last) = &self.failures;
        if *failures > 0 {
            alarms.push(format!("{failures} calls of actions failed, the last one: {last}."));
        }
        alarms.extend(self.tick.tray.alarms());
        alarms.extend(self.tick.origins.troubles());
        alarms.extend(self.tick.containers.alarms());
        for export in self.tick.told.standings().filter(|export| !export.up) {
            let error = export.error.unwrap_or_default();
            alarms.push(format!("The export `{}` does not work: {error}.", export.name));
        }
        alarms.extend(self.troubles());
        if self.overflows > 0 {
            alarms.push(format!("{} calls of actions were not made.", self.overflows));
        }
        alarms
    }
}

impl Missed {
    fn look(&mut self, now: Moment, about: &About) {
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_secs(1);
        let Ok(there) = kernel::interfaces() else { return };
        self.down.clear();
        self.anew.clear();
        for name in about.interfaces.iter().filter(|name| *name != kernel::ANY) {
            let Some(interface) =
                there.get(capture::pf_ring_interface(name)).filter(|interface| interface.up)
            else {
                self.down.push(name.clone());
                continue;
            };
            match self.last.get_mut(name) {
                Some(last) if last.index != interface.index && about.follows => *last = *interface,
                // The programs hang on the one that is gone.
                Some(last) if last.index != interface.index => self.anew.push(name.clone()),
                Some(last) => {
                    self.total += u64::from(interface.missed.wrapping_sub(last.missed));
                    *last = *interface;
                }
                None => {
                    self.last.insert(name.clone(), *interface);
                }
            }
        }
    }
}

/// What an operator wrote, for one line of a log: no novel.
fn line(reason: String) -> Arc<str> {
    plain(&reason, 256).trim().into()
}

const fn traffic(channel: Channel) -> control::Traffic {
    let Channel { total: Tally { packets, bytes }, per_second } = channel;
    control::Traffic { packets, bytes, pps: per_second.pps, bps: per_second.bits() }
}

fn packets(totals: &Totals, dropped: u64, taker: &Lookout) -> control::Packets {
    let [short, not_ip, version, nested, arp] = totals.unparsed.map(|tally| tally.packets);
    control::Packets {
        received: totals.received(),
        dropped,
        unparsed: control::Unparsed { short, not_ip, version, nested, arp },
        padding_bytes: totals.padding.bytes,
        ignored_packets: totals.ignored.packets,
        ignored_bytes: totals.ignored.bytes,
        redirected: taker.taken.load(Ordering::Relaxed),
        samples_lost: totals.samples_lost + taker.lost.load(Ordering::Relaxed),
        hints_lost: totals.hints_lost,
    }
}
