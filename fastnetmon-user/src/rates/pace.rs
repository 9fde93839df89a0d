//! How speeds are made of counts: over a plain window, or as an exponential average.
//!
//! A window answers "how much came within the last second": one number explains a ban, and a flood is
//! found as soon as the window holds too much. An average answers "how much comes, as a rule": it
//! forgives bursts, and finds late what is only a little too much.
//!
//! **Invariant**: an average is kept for hosts that have one; who fell below a packet a second is
//! forgotten.

use std::time::Duration;

use crate::counters::Gain;
use crate::model::{Class, Counts, Direction, HostId, Tally};

/// How speeds are made of counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// What came within so long, divided by it.
    Window(Duration),
    /// An exponential average over so long.
    Average(Duration),
}

impl Default for Pace {
    fn default() -> Self {
        Self::Window(Duration::from_secs(1))
    }
}

impl Pace {
    /// The window, where there is one.
    pub const fn window(self) -> Option<Duration> {
        match self {
            Self::Window(window) => Some(window),
            Self::Average(_) => None,
        }
    }

    /// How long a flood of `tenths` tenths of a threshold goes on before it is found, when all was
    /// silent before it. An average is looked at once a tick.
    pub fn delay(self, tenths: u32, tick: Duration) -> Duration {
        match self {
            Self::Window(window) => window * 10 / tenths.max(1),
            Self::Average(over) => {
                let times = f64::from(tenths) / 10.0;
                if times <= 1.0 {
                    return Duration::MAX;
                }
                let after = -over.as_secs_f64() * (1.0 - 1.0 / times).ln();
                let tick = tick.as_secs_f64().max(1e-3);
                Duration::from_secs_f64((after / tick).ceil() * tick)
            }
        }
    }
}

/// The averages of everybody who has one.
#[derive(Debug, Default)]
pub(super) struct Averages {
    /// In the order of gains.
    hosts: Vec<Average>,
}

#[derive(Clone, Copy, Debug)]
struct Average {
    place: (Direction, HostId),
    /// Packets and bytes a second, by class.
    classes: [(f64, f64); Class::COUNTED],
}

impl Averages {
    /// Takes a reading: `avg = new + exp(−T/τ)·(avg − new)`, host by host. Returns what a second of
    /// each average would be.
    pub(super) fn take(&mut self, gains: &[Gain], span: Duration, over: Duration) -> Vec<Gain> {
        let span = span.as_secs_f64().max(1e-6);
        let kept = (-span / over.as_secs_f64().max(1e-6)).exp();
        let mut hosts = Vec::with_capacity(self.hosts.len().max(gains.len()));
        let mut old = self.hosts.iter().peekable();
        let mut new = gains.iter().peekable();
        loop {
            let place = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(old), None) => old.place,
                (None, Some(new)) => new.place(),
                (Some(old), Some(new)) => old.place.min(new.place()),
            };
            let before = old.next_if(|old| old.place == place);
            let counts = new.next_if(|new| new.place() == place).map(Gain::counts);
            let mut average =
                Average { place, classes: before.map_or_else(Default::default, |old| old.classes) };
            for ((packets, bytes), tally) in
                average.classes.iter_mut().zip(counts.unwrap_or_default().0)
            {
                *packets = blend(*packets, tally.packets, span, kept);
                *bytes = blend(*bytes, tally.bytes, span, kept);
            }
            if average.classes.iter().map(|(packets, _)| packets).sum::<f64>() >= 1.0 {
                hosts.push(average);
            }
        }
        self.hosts = hosts;
        self.hosts.iter().map(Average::gain).collect()
    }

    pub(super) fn forget(&mut self) {
        self.hosts.clear();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a speed needs no more than 52 bits")]
fn blend(average: f64, amount: u64, span: f64, kept: f64) -> f64 {
    let new = amount as f64 / span;
    new + kept * (average - new)
}

impl Average {
    fn gain(&self) -> Gain {
        let (direction, host) = self.place;
        let counts = Counts(
            self.classes
                .map(|(packets, bytes)| Tally { packets: whole(packets), bytes: whole(bytes) }),
        );
        Gain::new(host, direction, &counts, Tally::default())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a speed is no more than a link carries, and never below zero"
)]
fn whole(speed: f64) -> u64 {
    // What is a hair below a whole number by rounding is that number.
    (speed + 1e-6) as u64
}

/// A second's worth of averages.
pub(super) const AVERAGED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_secs(1);

    fn gains(packets: u64) -> Vec<Gain> {
        let mut counts = Counts::default();
        counts.0[Class::Udp as usize] = Tally { packets, bytes: packets * 100 };
        if packets == 0 {
            return Vec::new();
        }
        vec![Gain::new(HostId(300), Direction::Incoming, &counts, Tally::default())]
    }

    #[test]
    fn an_average_finds_as_late_as_arithmetic_says_and_a_window_sooner() {
        let tick = Duration::from_millis(1);
        for (secs, tenths, expected) in
            [(5, 11, 12.0), (5, 15, 5.5), (5, 20, 3.5), (5, 50, 1.1), (5, 100, 0.5), (15, 20, 10.4)]
        {
            let delay = Pace::Average(Duration::from_secs(secs)).delay(tenths, tick).as_secs_f64();
            assert!((delay - expected).abs() < 0.06, "{secs} {tenths}: {delay}");
        }
        assert_eq!(Pace::Average(Duration::from_secs(5)).delay(20, TICK), Duration::from_secs(4));
        assert_eq!(Pace::default().delay(20, tick), Duration::from_millis(500));
        assert_eq!(Pace::default().delay(100, tick), Duration::from_millis(100));
    }

    #[test]
    fn the_delay_that_is_told_is_the_delay_there_is() {
        for tenths in [11, 15, 20, 50, 100] {
            let over = Duration::from_secs(5);
            let mut averages = Averages::default();
            let mut ticks = 0;
            loop {
                ticks += 1;
                let told = averages.take(&gains(1000 * u64::from(tenths)), TICK, over);
                if told.first().is_some_and(|gain| gain.total().packets > 10_000) {
                    break;
                }
            }
            assert_eq!(TICK * ticks, Pace::Average(over).delay(tenths, TICK), "{tenths}");
        }
    }

    #[test]
    fn an_average_falls_as_it_rose_and_who_is_silent_is_forgotten() {
        let over = Duration::from_secs(5);
        let mut averages = Averages::default();
        for _ in 0..60 {
            averages.take(&gains(10_000), TICK, over);
        }
        let steady = averages.take(&gains(10_000), TICK, over);
        assert_eq!(steady.first().map(|gain| gain.total().packets), Some(9_999));
        let after = averages.take(&gains(0), TICK, over);
        assert_eq!(after.first().map(|gain| gain.total().packets), Some(8_187));
        for _ in 0..60 {
            averages.take(&gains(0), TICK, over);
        }
        assert!(averages.hosts.is_empty());
    }
}
