//! The only place that decides: speeds and orders become bans, details and unbans.
//!
//! **Invariant**: pure. The clock is an argument, addresses are asked of whoever holds the plan,
//! and a verdict is a value: what is done with it is the next room's business.

mod attack;
mod ban;
mod carpet;
mod fuse;
mod judge;
mod order;
mod policy;
mod rules;
mod settings;
mod standing;

pub use self::attack::{Attack, AttackKind};
pub use self::ban::{Alert, Ban, BanId, Cause, Deeds, Ending, Measure, Subject, Verdict};
pub use self::judge::Judge;
pub use self::order::{Obeyed, Order, OrderError};
pub use self::policy::{Policy, PolicyRemark};
pub use self::settings::{
    ActionName, AverageSecs, BanSettings, Ceiling, ClassLimits, Group, GroupName, GroupNetworks,
    GroupSettings, Limits, Percent, Thresholds, Ways, WindowMs,
};
