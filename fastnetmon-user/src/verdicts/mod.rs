//! The only place that decides: speeds and orders become bans, details and unbans.
//!
//! **Invariant**: pure. The clock is an argument, addresses are asked of whoever holds the plan,
//! and a verdict is a value: what is done with it is the next room's business.

mod judge;
mod order;
mod settings;

use std::net::IpAddr;
use std::sync::Arc;

pub use self::judge::{Judge, Policy};
pub use self::order::{Order, OrderError};
pub use self::settings::{BanSettings, PositivePps, Thresholds};
use crate::model::{Direction, HostId, Moment, Seen};

/// Why a host is banned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// More packets came within the window than the threshold allows.
    Packets {
        /// The threshold, in packets a second.
        threshold: u64,
    },
    /// An operator said so.
    Operator,
}

/// A ban that stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ban {
    /// Whose line.
    pub host: HostId,
    /// Whose address.
    pub address: IpAddr,
    /// Which way the attack goes.
    pub direction: Direction,
    /// Packets a second when it was found.
    pub pps: u64,
    /// Packets a second at the worst moment so far.
    pub peak_pps: u64,
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: Moment,
    /// Until when, at the earliest; `None`: until an operator says so.
    pub until: Option<Moment>,
}

/// What is to be done, or told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// A host is banned: call 1 of the script.
    Ban(Ban),
    /// The packets of its attack: call 2.
    Details(Ban, Arc<[Seen]>),
    /// It is let go: call 3.
    Unban(Ban),
}

impl Verdict {
    /// The ban it is about.
    pub const fn ban(&self) -> &Ban {
        match self {
            Self::Ban(ban) | Self::Details(ban, _) | Self::Unban(ban) => ban,
        }
    }

    /// The word for it that the script is given.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ban(_) => "ban",
            Self::Details(..) => "attack_details",
            Self::Unban(_) => "unban",
        }
    }
}
