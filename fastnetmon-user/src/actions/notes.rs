//! What the actions and those who send them put down, for whoever keeps it.
//!
//! **Invariant**: nobody here knows where notes are kept. Putting one down waits for nothing; only
//! who must know that it is safe waits, and not for long.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::actions::{Errand, EventId};
use crate::model::Wall;
use crate::verdicts::Ban;

/// How long an action waits for its note, and a call for its ban's line.
pub const NOTED_WITHIN: Duration = Duration::from_millis(100);

/// One thing that happened.
#[derive(Debug)]
pub enum Note {
    /// A verdict about a host was pronounced, and these actions were sent.
    Told {
        /// The errand.
        errand: Arc<Errand>,
        /// Who was sent.
        to: Vec<&'static str>,
        /// Dropped when the note is safe.
        written: Written,
    },
    /// An action that does nothing twice begins.
    Begun {
        /// About which event.
        event: EventId,
        /// Which action.
        action: &'static str,
        /// Dropped when the note is safe.
        written: Written,
    },
    /// An action came to its end.
    Settled {
        /// About which event.
        event: EventId,
        /// Which action.
        action: &'static str,
        /// Why it was not done; `None`: it was.
        failed: Option<String>,
    },
    /// These bans stand, and no others; this is what is known of them.
    Standing {
        /// The bans.
        bans: Vec<Ban>,
        /// Both clocks when they stood.
        wall: Wall,
    },
}

/// Held by a note until it is safe.
pub type Written = Sender<Infallible>;

/// Tells when a note is safe.
#[derive(Clone, Debug)]
pub struct Receipt(Receiver<Infallible>);

impl Receipt {
    /// A note's two ends.
    pub fn new() -> (Written, Self) {
        let (written, receipt) = bounded(0);
        (written, Self(receipt))
    }

    /// Waits until the note is safe, or nobody will write it. False when that took too long.
    pub fn wait(&self, patience: Duration) -> bool {
        use crossbeam_channel::RecvTimeoutError;
        self.0.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Receipt {
    /// Is the note safe, or will nobody write it?
    pub fn is_given(&self) -> bool {
        self.0.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected)
    }
}

/// Where notes are put.
#[derive(Clone, Debug, Default)]
pub struct Notebook {
    notes: Option<Sender<Box<Note>>>,
    lost: Arc<AtomicU64>,
}

impl Notebook {
    /// Notes go this way. In boxes: the channel has its room from the start, and in each place a
    /// pointer instead of a note.
    pub fn new(notes: Sender<Box<Note>>) -> Self {
        Self { notes: Some(notes), lost: Arc::default() }
    }

    /// Puts a note down. False when there is no room for it, or nobody who takes it.
    pub fn put(&self, note: Note) -> bool {
        let Some(notes) = &self.notes else { return true };
        let is_taken = notes.try_send(Box::new(note)).is_ok();
        if !is_taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }

    /// Puts a note down; waits a moment for room.
    pub(crate) fn put_patiently(&self, note: Note) {
        if let Some(notes) = &self.notes
            && notes.send_timeout(Box::new(note), NOTED_WITHIN).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that found no room since this was asked.
    pub fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_tells_when_a_note_is_safe_and_gives_up_in_time() {
        let (written, receipt) = Receipt::new();
        assert!(!receipt.wait(Duration::from_millis(1)) && !receipt.is_given());
        drop(written);
        assert!(receipt.wait(Duration::from_millis(1)) && receipt.is_given());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (sender, _full) = bounded(0);
        let notebook = Notebook::new(sender);
        let standing = || Note::Standing { bans: Vec::new(), wall: Wall::default() };
        assert!(!notebook.put(standing()));
        notebook.put_patiently(standing());
        assert_eq!((notebook.lost(), notebook.lost()), (2, 0));
        assert!(Notebook::default().put(standing()), "where nothing is kept, nothing is missing");
    }
}
