//! What the tick hands over, and how: without waiting, and without looking at a single host.
//!
//! **Invariant**: costs the tick a few pointers. When the other side is busy, gains are kept for
//! the next round, for as long as lines keep their owners; what is given up then is counted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use crate::actions::Deed;
use crate::counters::Gains;
use crate::model::{Moment, Wall};
use crate::networks::Names;
use crate::rates::Totals;
use crate::reports::{Event, Events, Health, Shown, Standing, Wants, What, standing};
use crate::verdicts::{Ban, Verdict};

/// A round that is this long is as good as a second.
const NEARLY: Duration = Duration::from_millis(950);

/// How long gains are kept: a line of an IPv6 host that was freed rests for three seconds.
const KEPT: Duration = Duration::from_millis(2500);

/// What a report is made of.
#[derive(Debug)]
pub struct Round {
    pub(super) at: Moment,
    pub(super) unix: Duration,
    pub(super) span: Duration,
    pub(super) parts: Vec<Arc<Gains>>,
    pub(super) names: Names,
    pub(super) totals: Totals,
    /// The totals at the end of the round before.
    pub(super) before: Totals,
    pub(super) untold: u64,
    pub(super) banned: Vec<Ban>,
    pub(super) events: Arc<[Arc<Event>]>,
    pub(super) deeds: Vec<Deed>,
    pub(super) health: Health,
    pub(super) exports: Vec<Standing>,
}

/// The tick's side.
#[derive(Debug)]
pub struct Gatherer {
    wants: Arc<Wants>,
    /// `None`: nobody can be told.
    hand: Option<Sender<Round>>,
    /// How each export stands.
    exports: Vec<Shown>,
    events: Events,
    parts: Vec<Arc<Gains>>,
    span: Duration,
    before: Totals,
    untold: u64,
    deeds: Vec<Deed>,
}

impl Gatherer {
    /// Hands rounds to `hand`, as long as somebody wants them.
    pub fn new(wants: Arc<Wants>, hand: Option<Sender<Round>>, exports: Vec<Shown>) -> Self {
        Self {
            wants,
            hand,
            exports,
            events: Events::default(),
            parts: Vec::new(),
            span: Duration::ZERO,
            before: Totals::default(),
            untold: 0,
            deeds: Vec::new(),
        }
    }

    /// Does anybody listen?
    pub fn is_wanted(&self) -> bool {
        self.hand.is_some() && self.wants.any()
    }

    /// How the exports stand.
    pub fn standings(&self) -> impl Iterator<Item = Standing> + '_ {
        self.exports.iter().map(|shown| standing(shown))
    }

    /// A reading was taken.
    pub fn take(&mut self, span: Duration, totals: &Totals, gains: Option<Arc<Gains>>) {
        if !self.is_wanted() {
            // Whoever comes is told what came since.
            self.before = *totals;
            self.parts.clear();
            self.deeds.clear();
            self.span = Duration::ZERO;
            return;
        }
        self.span += span;
        self.parts.extend(gains);
    }

    /// A verdict went out.
    pub fn note(&mut self, wall: Wall, verdict: &Verdict, latency: Option<Duration>) {
        let verdict = verdict.clone();
        self.events.note(wall.unix, What::Verdict { verdict, latency });
    }

    /// Which alarms stand now.
    pub fn alarms(&mut self, wall: Wall, alarms: &[String]) {
        self.events.alarms(wall.unix, alarms);
    }

    /// The last thousand events, oldest first, whoever listens.
    pub fn events(&mut self) -> Arc<[Arc<Event>]> {
        self.events.shown()
    }

    /// An action did something.
    pub fn did(&mut self, deed: Deed) {
        if self.is_wanted() {
            self.deeds.push(deed);
        }
    }

    /// Hands a round over, when it is time.
    pub fn tell(
        &mut self,
        wall: Wall,
        totals: &Totals,
        banned: impl FnOnce() -> Vec<Ban>,
        names: impl FnOnce() -> Names,
        health: impl FnOnce() -> Health,
    ) {
        let Some(hand) = self.hand.as_ref().filter(|_| self.wants.any()) else { return };
        if self.span < NEARLY {
            return;
        }
        let Ok(permit) = hand.try_reserve() else {
            if self.span > KEPT {
                let given_up: usize = self.parts.iter().map(|part| part.len()).sum();
                self.untold += u64::try_from(given_up).unwrap_or(u64::MAX);
                self.parts.clear();
            }
            return;
        };
        let health = health();
        self.events.alarms(wall.unix, &health.alarms);
        permit.send(Round {
            at: wall.read_at,
            unix: wall.unix,
            span: std::mem::take(&mut self.span),
            parts: std::mem::take(&mut self.parts),
            names: names(),
            totals: *totals,
            before: std::mem::replace(&mut self.before, *totals),
            untold: self.untold,
            banned: banned(),
            events: self.events.shown(),
            deeds: std::mem::take(&mut self.deeds),
            health,
            exports: self.exports.iter().map(|shown| standing(shown)).collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel, error::TryRecvError};

    use super::*;
    use crate::counters::Gain;
    use crate::model::{Class, Counts, Direction, HostId, Tally};
    use crate::rates::Channel;
    use crate::reports::{Hold, Interest, Press, Report};

    struct Scene {
        gatherer: Gatherer,
        rounds: Receiver<Round>,
        wants: Arc<Wants>,
        totals: Totals,
    }

    impl Scene {
        fn new() -> Self {
            let (hand, rounds) = channel(1);
            let wants = Arc::new(Wants::default());
            let gatherer = Gatherer::new(Arc::clone(&wants), Some(hand), Vec::new());
            Self { gatherer, rounds, wants, totals: Totals::default() }
        }

        fn want(&self) -> Hold {
            self.wants.hold(Interest::AllHosts)
        }

        /// A reading of so many milliseconds in which one host got so many packets.
        fn reading(&mut self, ms: u64, packets: u64) {
            let mut counts = Counts::default();
            counts.0[Class::Udp as usize] = Tally { packets, bytes: packets * 100 };
            let gain = Gain::new(HostId(512), Direction::Incoming, &counts, Tally::default());
            let total = &mut self.totals.incoming.total;
            *total += Tally { packets, bytes: packets * 100 };
            self.totals.incoming = Channel { total: *total, ..Channel::default() };
            let span = Duration::from_millis(ms);
            self.gatherer.take(span, &self.totals, Some(Arc::new(vec![gain].into())));
            let health = Health::default;
            self.gatherer.tell(Wall::default(), &self.totals, Vec::new, Names::default, health);
        }

        /// Span in milliseconds, packets by the totals, gains that came with it.
        fn round(&mut self) -> Option<(u128, u64, u64)> {
            let round = self.rounds.try_recv().ok()?;
            let gains = round.parts.iter().flat_map(|part| part.iter());
            let packets = gains.map(|gain| gain.total().packets).sum();
            let report: Report = Press::default().print(round, Interest::AllHosts);
            Some((report.span.as_millis(), report.gained.incoming.packets, packets))
        }
    }

    #[test]
    fn short_readings_make_one_round_of_a_second() {
        let mut scene = Scene::new();
        let _hold = scene.want();
        for _ in 0..9 {
            scene.reading(100, 5);
            assert_eq!(scene.round(), None);
        }
        scene.reading(100, 5);
        assert_eq!(scene.round(), Some((1000, 50, 50)));
        scene.reading(1000, 7);
        assert_eq!(scene.round(), Some((1000, 7, 7)));
    }

    #[test]
    fn what_nobody_wanted_is_in_no_round() {
        let mut scene = Scene::new();
        scene.reading(1000, 1_000_000);
        assert!(matches!(scene.rounds.try_recv(), Err(TryRecvError::Empty)));
        let _hold = scene.want();
        scene.reading(1000, 3);
        assert_eq!(scene.round(), Some((1000, 3, 3)));
    }

    #[test]
    fn a_busy_reader_gets_it_all_in_the_next_round_for_a_while() {
        let mut scene = Scene::new();
        let _hold = scene.want();
        for _ in 0..3 {
            scene.reading(1000, 1);
        }
        assert_eq!(scene.round(), Some((1000, 1, 1)));
        scene.reading(1000, 1);
        assert_eq!(scene.round(), Some((3000, 3, 3)));
        for _ in 0..4 {
            scene.reading(1000, 1);
        }
        assert_eq!(scene.round(), Some((1000, 1, 1)));
        scene.reading(1000, 1);
        assert_eq!(scene.round(), Some((4000, 4, 1)), "gains were given up, totals are not");
        assert_eq!(scene.gatherer.untold, 3);
    }
}
