//! Packets and bytes, and how many of them a second.
//!
//! **Invariant**: bytes are bytes of IP packets, everywhere.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Class, Direction};

/// Packets, and the bytes of their IP packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Tally {
    /// Nothing was counted.
    pub const fn is_zero(self) -> bool {
        self.packets == 0 && self.bytes == 0
    }

    /// How many a second, when so many came within `span`. An empty span gives zero.
    #[inline]
    pub fn per_second(self, span: Duration) -> PerSecond {
        PerSecond { pps: rate(self.packets, span), bytes: rate(self.bytes, span) }
    }

    /// What is left when a part is taken away; never below zero.
    #[must_use]
    pub const fn less(self, part: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(part.packets),
            bytes: self.bytes.saturating_sub(part.bytes),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

fn rate(amount: u64, span: Duration) -> u64 {
    let nanos = span.as_nanos();
    if nanos == 0 {
        return 0;
    }
    // Divisions of 64 bits are several times cheaper, and nearly always enough.
    match (amount.checked_mul(1_000_000_000), u64::try_from(nanos)) {
        (Some(amount), Ok(nanos)) => amount / nanos,
        _ => u64::try_from(u128::from(amount) * 1_000_000_000 / nanos).unwrap_or(u64::MAX),
    }
}

/// A speed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PerSecond {
    /// Packets a second.
    pub pps: u64,
    /// Bytes a second.
    pub bytes: u64,
}

impl PerSecond {
    /// Bits a second.
    pub const fn bits(self) -> u64 {
        self.bytes.saturating_mul(8)
    }

    /// Decimal megabits a second, rounded down once, at the end.
    pub const fn mbps(self) -> u64 {
        self.bits() / 1_000_000
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            pps: self.pps.saturating_add(other.pps),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// One tally for each class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts(pub [Tally; Class::COUNTED]);

impl Counts {
    /// The sum over all classes.
    pub fn total(&self) -> Tally {
        let mut sum = Tally::default();
        for tally in self.0 {
            sum += tally;
        }
        sum
    }

    /// One class.
    pub fn class(&self, class: Class) -> Tally {
        self.0.get(class as usize).copied().unwrap_or_default()
    }
}

impl Counts {
    /// What is left when a part is taken away, class by class; never below zero.
    #[must_use]
    pub fn less(&self, part: &Self) -> Self {
        let mut left = *self;
        for (left, part) in left.0.iter_mut().zip(part.0) {
            *left = left.less(part);
        }
        left
    }

    /// Each class a second, when so many came within `span`.
    pub fn per_second(&self, span: Duration) -> Load {
        Load(self.0.map(|tally| tally.per_second(span)))
    }
}

/// One speed for each class, in one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Load(pub [PerSecond; Class::COUNTED]);

impl Load {
    /// The sum over all classes.
    pub fn total(&self) -> PerSecond {
        self.0.iter().fold(PerSecond::default(), |sum, class| sum.and(*class))
    }

    /// One class.
    pub fn class(&self, class: Class) -> PerSecond {
        self.0.get(class as usize).copied().unwrap_or_default()
    }
}

/// What a host does, both ways.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Loads {
    /// To it.
    pub incoming: Load,
    /// From it.
    pub outgoing: Load,
}

impl Loads {
    /// One way, and the other.
    pub const fn new(direction: Direction, load: Load, against: Load) -> Self {
        match direction {
            Direction::Incoming => Self { incoming: load, outgoing: against },
            Direction::Outgoing => Self { incoming: against, outgoing: load },
        }
    }

    /// One way.
    pub const fn of(&self, direction: Direction) -> &Load {
        match direction {
            Direction::Incoming => &self.incoming,
            Direction::Outgoing => &self.outgoing,
        }
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_rounded_down_and_an_empty_span_gives_none() {
        let tally = Tally { packets: 999, bytes: 1_999_999 };
        let second = tally.per_second(Duration::from_secs(1));
        assert_eq!(second, PerSecond { pps: 999, bytes: 1_999_999 });
        assert_eq!(second.mbps(), 15);
        assert_eq!(tally.per_second(Duration::from_millis(500)).pps, 1998);
        assert_eq!(tally.per_second(Duration::ZERO), PerSecond::default());
    }
}
