//! When a line is worth a hint.
//!
//! **Invariant**: a limit is a pair of halves written one after the other; a hint made of half an
//! old and half a new limit is early or late, never wrong, because the tick judges the true sum.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastnetmon_common::directory::PROFILES;
use fastnetmon_common::table::Limit;

use crate::model::Direction;
use crate::tables::Mapping;

/// Limits within one window and for one row, by profile and direction.
#[derive(Debug)]
pub struct Limits {
    mapping: Arc<Mapping>,
}

impl Limits {
    /// Bytes of all profiles.
    pub const BYTES: usize = PROFILES as usize * 16;

    /// Over a mapping of that size.
    pub const fn new(mapping: Arc<Mapping>) -> Self {
        Self { mapping }
    }

    /// Sets the limit of one profile and direction.
    pub fn set(&self, profile: u32, direction: Direction, limit: Limit) {
        let at = (profile as usize * 2 + direction as usize) * 2;
        for (half, value) in [(at, limit.packets), (at + 1, limit.bytes16)] {
            if let Some(half) = self.mapping.halves().get(half) {
                half.store(value, Ordering::Relaxed);
            }
        }
    }

    /// The limit of one profile and direction.
    pub(crate) fn of(&self, profile: u32, direction: Direction) -> Limit {
        let at = (profile as usize * 2 + direction as usize) * 2;
        let half = |at: usize| {
            self.mapping.halves().get(at).map_or(0, |half| half.load(Ordering::Relaxed))
        };
        Limit { packets: half(at), bytes16: half(at + 1) }
    }
}
