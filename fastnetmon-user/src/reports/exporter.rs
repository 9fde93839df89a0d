//! What every exporter is: a pure part that writes down, and one that carries it out.
//!
//! **Invariant**: the pure part keeps within bounds whatever happens to the other one, and counts
//! what it had to let go.

use std::future::Future;
use std::time::Duration;

use crate::reports::Report;

/// The pure part: reports become batches.
pub trait Exporter: Send + 'static {
    /// Its name in logs, `status` and metrics.
    const NAME: &'static str;
    /// The part that has sockets.
    type Carrier: Carrier;

    /// Writes down what it tells of a report.
    fn take(&mut self, report: &Report);
    /// What is to be carried next.
    fn next(&mut self) -> Option<Batch>;
    /// A batch that was not carried, and may be tried again.
    fn put_back(&mut self, batch: Batch);
    /// There are no more reports: what is being gathered is ready.
    fn finish(&mut self) {}
    /// What waits, and what was let go.
    fn backlog(&self) -> Backlog;
    /// A batch took longer than `patience`. Most sinks can be told twice.
    fn late(&self, _batch: &Batch, patience: Duration) -> ExportError {
        ExportError::retry(format!("no answer within {} s", patience.as_secs_f32()))
    }
}

/// The part that has sockets.
pub trait Carrier: Send + 'static {
    /// Carries a batch. Dropped when its time is over, it leaves nothing that could be taken for
    /// the next one's.
    fn carry(&mut self, batch: &Batch) -> impl Future<Output = Result<(), ExportError>> + Send;
}

/// Bytes on their way.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    /// Where within the sink: a table, say.
    pub to: &'static str,
    /// How many lines, rows or commands it holds.
    pub lines: u64,
    /// As the sink takes them.
    pub bytes: Vec<u8>,
}

/// What waits, and what was let go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backlog {
    /// Lines, rows or commands that wait.
    pub lines: u64,
    /// Their bytes, or how much memory they take.
    pub bytes: u64,
    /// Lines that found no room, since the agent started.
    pub dropped: u64,
    /// Where lines stand for bytes of traffic: how many bytes that were.
    pub dropped_traffic: u64,
}

/// Why a batch did not arrive, by what is done about it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ExportError {
    /// Nothing of it arrived, or it may arrive twice: it is tried again.
    #[error("{reason}")]
    Retry {
        /// Why.
        reason: String,
    },
    /// Some of it may have arrived, and must not arrive twice.
    #[error("{reason}; {lines} lines may have arrived or not and are not sent again")]
    Uncertain {
        /// Why.
        reason: String,
        /// How many of its lines nobody knows of.
        lines: u64,
    },
    /// The sink takes the rest, but never these.
    #[error("{reason}; {lines} lines are refused")]
    Refused {
        /// Why, and what to do about it.
        reason: String,
        /// How many of its lines.
        lines: u64,
    },
}

impl ExportError {
    /// It may work in a moment.
    pub fn retry(reason: impl ToString) -> Self {
        Self::Retry { reason: reason.to_string() }
    }
}
