//! The only place that changes the world: verdicts become deeds.
//!
//! [`Actions`] knows all that are configured and sends each its errands; a [`Crew`] is the queue,
//! the order, the retries, the deadline and the log line of one; [`Notebook`] is where they put
//! down what they do.
//!
//! **Invariant**: an action never delays the next decision. It has a queue, a deadline and threads
//! of its own; whoever hands a verdict over does not wait.

mod crews;
mod drive;
mod errand;
mod event;
mod incumbent;
mod log_file;
mod notes;
mod packet_files;
mod poster;
mod queue;
mod report;
mod script;
mod settings;
mod unwritten;
mod webhook;
mod xdp_drop;

#[cfg(test)]
mod contract;

use std::time::Duration;

pub use self::crews::{Actions, Pending, Prepared, prepare};
pub use self::drive::{Crew, Deed, Overflow, Terms};
pub use self::errand::{Errand, EventId, Occasion};
pub use self::event::json as event_json;
pub(crate) use self::incumbent::{cause as cause_json, details as details_json};
pub use self::log_file::{LogFile, Settings as AttackLogSettings};
pub use self::notes::{NOTED_WITHIN, Note, Notebook, Receipt, Written};
pub use self::packet_files::{
    Attack, Most as MostPackets, PacketFolder, Settings as PacketSettings, Shelf as PacketShelf,
};
pub use self::poster::{Untrusted, poster};
pub use self::report::{full as report_text, header as report_header};
pub use self::script::Script;
pub use self::settings::{Arguments, Format, Seconds, Settings, Workers};
pub use self::webhook::{Address, Attempts, Settings as WebhookSettings, Webhook, WebhookError};
pub use self::xdp_drop::{
    Common, Hosts, Lifetime, Mode as DropMode, Percent, Settings as XdpDropSettings, XdpDrop,
    tightest,
};
use crate::verdicts::{Ban, Verdict};

/// All there are, by name.
pub const NAMES: [&str; 4] = [Script::NAME, XdpDrop::NAME, LogFile::NAME, Webhook::NAME];

/// Something that can be done about a verdict.
pub trait Action: Send + 'static {
    /// Its name in logs, reports and notes.
    const NAME: &'static str;

    /// What it is for.
    const SORT: Sort;

    /// Is this verdict any business of its?
    fn wants(&self, verdict: &Verdict) -> bool;

    /// Does what the verdict says, within `patience`. Unless it is a [`Sort::Once`], doing it twice
    /// does no harm.
    ///
    /// # Errors
    /// What the driver is to do about it: try again, give up, or tell.
    fn carry_out(&mut self, errand: &Errand, patience: Duration) -> Result<(), ActionError>;

    /// Makes the world agree with the bans that stand when the agent starts. For actions whose
    /// deeds end with the agent, such as announcements and drops; what was only told stays told.
    ///
    /// # Errors
    /// As [`Action::carry_out`].
    fn restore(&mut self, _standing: &[Ban], _patience: Duration) -> Result<(), ActionError> {
        Ok(())
    }
}

/// What an action is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sort {
    /// Does something to a host, and must not do it twice: nothing on a dry run, nothing for a
    /// network as a whole, and never again for an event it has begun with.
    Once,
    /// Does something to a host, and may do it twice, such as a drop in the kernel: nothing on a dry
    /// run, nothing for a network as a whole; what ends with the agent is restored at the start.
    Does,
    /// Tells somebody: on a dry run as well, and of networks. Again after a crash, if its end was
    /// not noted.
    Tells,
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
