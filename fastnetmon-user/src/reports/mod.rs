//! What everybody is told: one report a tick.
//!
//! **Invariant**: a report is a value; whoever is slow to read it misses reports and delays nobody.

mod top;

pub use self::top::{Loudest, loudest};
