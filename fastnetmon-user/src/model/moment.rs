//! Points in time.
//!
//! **Invariant**: nobody here asks what time it is; `daemon::clock` does.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on `CLOCK_BOOTTIME`, which never jumps and runs on through a suspend. Unlike an
/// `Instant` it can be written down, and the kernel's samples carry the same clock.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Moment(Duration);

impl Moment {
    /// So long after the machine started.
    pub const fn after_boot(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the machine started.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// How long after `earlier`; zero when it was later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s after boot", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// How the calendar and the boot clock lie to each other at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wall {
    /// The moment at which both clocks were read.
    pub read_at: Moment,
    /// The calendar at that moment, as time since 1970 (UTC).
    pub unix: Duration,
}

impl Wall {
    /// Seconds since 1970 at `moment`.
    pub const fn unix_secs(self, moment: Moment) -> u64 {
        self.unix_at(moment).as_secs()
    }

    /// Time since 1970 at `moment`.
    pub const fn unix_at(self, moment: Moment) -> Duration {
        let later = moment.since(self.read_at);
        let earlier = self.read_at.since(moment);
        self.unix.saturating_add(later).saturating_sub(earlier)
    }

    /// The moment at which so much time had passed since 1970; the machine's start when that was
    /// before it.
    pub const fn moment_at(self, unix: Duration) -> Moment {
        let later = unix.saturating_sub(self.unix);
        let earlier = self.unix.saturating_sub(unix);
        Moment(self.read_at.0.saturating_add(later).saturating_sub(earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_follows_the_boot_clock_both_ways() {
        let at = |secs| Moment::after_boot(Duration::from_secs(secs));
        let wall = Wall { read_at: at(100), unix: Duration::from_secs(1_000_000) };
        assert_eq!(wall.unix_secs(at(100)), 1_000_000);
        assert_eq!(wall.unix_secs(at(90)), 999_990);
        assert_eq!(wall.unix_secs(at(160)), 1_000_060);
        for secs in [90, 100, 160] {
            assert_eq!(wall.moment_at(wall.unix_at(at(secs))), at(secs));
        }
        assert_eq!(wall.moment_at(Duration::from_secs(5)), Moment::default());
    }
}
