//! The only place that changes the world: verdicts become deeds.
//!
//! **Invariant**: an action never delays the next decision. It has a queue, a deadline and threads
//! of its own; whoever hands a verdict over does not wait.

mod drive;
mod script;
mod settings;
mod xdp_drop;

use std::time::Duration;

pub use self::drive::{Crew, Deed, Overflow};
pub use self::script::Script;
pub use self::settings::{Seconds, Settings, Workers};
pub use self::xdp_drop::{
    Common, Hosts, Lifetime, Mode as DropMode, Percent, Settings as XdpDropSettings, XdpDrop,
    tightest,
};
use crate::verdicts::Verdict;

/// Something that can be done about a verdict.
pub trait Action: Send + 'static {
    /// Its name in logs and reports.
    const NAME: &'static str;

    /// Does what the verdict says, within `patience`. Doing it twice does no harm.
    ///
    /// # Errors
    /// What the driver is to do about it: try again, give up, or tell.
    fn carry_out(&mut self, verdict: &Verdict, patience: Duration) -> Result<(), ActionError>;
}

/// What became of a deed, by what the driver does about it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ActionError {
    /// It may work in a moment.
    #[error("not now: {reason}")]
    Retry {
        /// Why.
        reason: String,
    },
    /// It took too long and was ended.
    #[error("not done within {} s, so it was ended", .0.as_secs())]
    Deadline(Duration),
    /// It will not work.
    #[error("{reason}")]
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
}
