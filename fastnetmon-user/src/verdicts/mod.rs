//! The only place that decides: speeds and orders become bans, details and unbans.
//!
//! **Invariant**: pure. The clock is an argument, addresses are asked of whoever holds the plan,
//! and a verdict is a value: what is done with it is the next room's business.

mod attack;
mod ban;
mod judge;
mod order;
mod settings;

pub use self::attack::{Attack, AttackKind};
pub use self::ban::{Alert, Ban, BanId, Cause, Deeds, Ending, Measure, Subject, Verdict};
pub use self::judge::{Judge, Policy};
pub use self::order::{Order, OrderError};
pub use self::settings::{BanSettings, PositivePps, Thresholds};
