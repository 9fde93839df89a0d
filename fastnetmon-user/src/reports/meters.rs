//! What is added up over reports: verdicts, calls of actions, how fast attacks are found.
//!
//! **Invariant**: numbers only rise while the agent runs; an event is counted once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::actions;
use crate::reports::{Report, What};

/// Bounds of the buckets of a histogram of seconds.
pub const LATENCIES: [f64; 10] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Sums since the agent started, or since somebody first wanted reports.
#[derive(Clone, Debug)]
pub struct Meters {
    last_event: u64,
    /// Verdicts that went out, by name.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Calls of actions by name of the action, of the verdict, and whether they succeeded.
    pub deeds: BTreeMap<(&'static str, &'static str, bool), u64>,
    /// How long calls of actions took, by name of the action.
    pub calls: BTreeMap<&'static str, Histogram>,
    /// From the first hint at a host to its ban.
    pub latency: Histogram,
    /// CPU time of readings.
    pub ticks: Histogram,
}

/// How often a value was at most so large.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// By bucket of [`LATENCIES`], each for itself; the last one is beyond all.
    pub buckets: [u64; LATENCIES.len() + 1],
    /// Sum of all values, in seconds.
    pub sum: f64,
}

impl Histogram {
    fn observe(&mut self, value: Duration) {
        let seconds = value.as_secs_f64();
        let at = LATENCIES.iter().position(|bound| seconds <= *bound).unwrap_or(LATENCIES.len());
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.sum += seconds;
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Verdicts of a ban's life, and those about networks.
const VERDICTS: [&str; 5] = ["ban", "attack_details", "unban", "alert", "calm"];

impl Default for Meters {
    /// Everything at nothing: who asks how much a number rose has missed the first one when the
    /// number was not there before.
    fn default() -> Self {
        let deeds = actions::NAMES.into_iter().flat_map(|action| {
            VERDICTS
                .into_iter()
                .flat_map(move |verdict| [true, false].map(|is_done| (action, verdict, is_done)))
        });
        Self {
            last_event: 0,
            verdicts: VERDICTS.map(|verdict| (verdict, 0)).into(),
            deeds: deeds.map(|key| (key, 0)).collect(),
            calls: actions::NAMES.map(|action| (action, Histogram::default())).into(),
            latency: Histogram::default(),
            ticks: Histogram::default(),
        }
    }
}

impl Meters {
    pub(super) fn take(&mut self, report: &Report) {
        for event in report.events_after(self.last_event) {
            self.last_event = event.number;
            if let What::Verdict { verdict, latency } = &event.what {
                *self.verdicts.entry(verdict.name()).or_default() += 1;
                if let Some(latency) = latency {
                    self.latency.observe(*latency);
                }
            }
        }
        for deed in report.deeds.iter() {
            let key = (deed.action, deed.errand.verdict.name(), deed.outcome.is_ok());
            *self.deeds.entry(key).or_default() += 1;
            self.calls.entry(deed.action).or_default().observe(deed.took);
        }
        self.ticks.observe(report.health.tick);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::actions::{Deed, Errand};
    use crate::model::Wall;
    use crate::reports::{Event, Health};
    use crate::verdicts::{Ban, Verdict};

    #[test]
    fn an_event_is_counted_once_however_often_it_is_told() {
        let ban = Verdict::Ban(Ban::of([192, 0, 2, 7]));
        let latency = Some(Duration::from_millis(7));
        let what = What::Verdict { verdict: ban, latency };
        let event = Arc::new(Event { number: 1, unix: Duration::ZERO, what });
        let health = Health { tick: Duration::from_millis(30), ..Health::default() };
        let report = Report { events: [event].into(), health, ..Report::default() };
        let mut meters = Meters::default();
        meters.take(&report);
        meters.take(&report);
        let counted: Vec<_> = meters.verdicts.iter().filter(|(_, number)| **number > 0).collect();
        assert_eq!(counted, [(&"ban", &1)]);
        assert_eq!((meters.latency.count(), meters.latency.buckets[1]), (1, 1));
        assert_eq!((meters.ticks.count(), meters.ticks.buckets[3]), (2, 2));
    }

    #[test]
    fn what_is_counted_was_there_before_at_nothing() {
        let ban = Verdict::Ban(Ban::of([192, 0, 2, 7]));
        let verdicts = [ban.clone(), Verdict::Details(Ban::of([192, 0, 2, 7]), [].into())];
        let took = Duration::from_millis(7);
        let errand = |verdict| Arc::new(Errand { verdict, wall: Wall::default() });
        let deeds = verdicts.map(|verdict| Deed {
            action: "script",
            errand: errand(verdict),
            outcome: Ok(()),
            took,
        });
        let what = What::Verdict { verdict: ban, latency: None };
        let event = Arc::new(Event { number: 1, unix: Duration::ZERO, what });
        let report = Report { events: [event].into(), deeds: deeds.into(), ..Report::default() };
        let before = Meters::default();
        let mut after = before.clone();
        after.take(&report);
        assert!(after.verdicts.keys().eq(before.verdicts.keys()));
        assert!(after.deeds.keys().eq(before.deeds.keys()));
        assert!(after.calls.keys().eq(before.calls.keys()));
        assert_eq!(after.deeds[&("script", "ban", true)], 1);
        assert_eq!(after.calls["script"].count(), 2);
    }
}
