//! What is added up over reports: verdicts, calls of actions, how fast attacks are found.
//!
//! **Invariant**: numbers only rise while the agent runs; an event is counted once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::reports::{Report, What};

/// Bounds of the buckets of a histogram of seconds.
pub const LATENCIES: [f64; 10] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Sums since the agent started, or since somebody first wanted reports.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    last_event: u64,
    /// Verdicts that went out, by name.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Calls of actions by name of the action, of the verdict, and whether they succeeded.
    pub deeds: BTreeMap<(&'static str, &'static str, bool), u64>,
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
            let key = (deed.action, deed.verdict.name(), deed.outcome.is_ok());
            *self.deeds.entry(key).or_default() += 1;
        }
        self.ticks.observe(report.health.tick);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
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
        assert_eq!(meters.verdicts, BTreeMap::from([("ban", 1)]));
        assert_eq!((meters.latency.count(), meters.latency.buckets[1]), (1, 1));
        assert_eq!((meters.ticks.count(), meters.ticks.buckets[3]), (2, 2));
    }
}
