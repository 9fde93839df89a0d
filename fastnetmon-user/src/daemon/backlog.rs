//! Additions that wait in the kernel: the tick has them made by a thread that goes from CPU to CPU.
//!
//! **Invariant**: only that thread leaves home. On a CPU that a task of real-time priority holds, it may
//! never be let on: then the tick goes on without, and says so.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tracing::{info, warn};

use crate::kernel::{Backlog, KernelError};

/// How long the tick waits for it.
const PATIENCE: Duration = Duration::from_millis(20);

/// How it went.
type Made = Result<(), KernelError>;

/// What an operator is told when it does not work.
const BEHIND: &str = "Up to eleven packets wait on a CPU to be added";

/// Which additions are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Which {
    /// Those of CPUs that are not busy: before a reading.
    OfTheQuiet,
    /// All that were put off: before lines change hands.
    All,
}

/// The tick's side.
#[derive(Debug)]
pub(super) struct Settler {
    /// `None`: nothing ever waits.
    sides: Option<(Sender<Which>, Receiver<Made>)>,
    /// An answer is still to come.
    is_owed: bool,
    trouble: Option<String>,
}

/// The thread's side.
#[derive(Debug)]
pub(super) struct Porter {
    backlog: Backlog,
    asked: Receiver<Which>,
    answer: Sender<Made>,
}

/// Both sides; no porter where nothing ever waits.
pub(super) fn prepare(backlog: Option<Backlog>) -> (Settler, Option<Porter>) {
    let (sides, porter) = match backlog {
        None => (None, None),
        Some(backlog) => {
            let (ask, asked) = bounded(1);
            let (answer, answers) = bounded(1);
            (Some((ask, answers)), Some(Porter { backlog, asked, answer }))
        }
    };
    (Settler { sides, is_owed: false, trouble: None }, porter)
}

impl Settler {
    /// Has additions made, and waits for it a moment.
    pub(super) fn settle(&mut self, which: Which) {
        let Some((ask, answers)) = &self.sides else { return };
        let ask = |which| ask.try_send(which).is_ok();
        let outcome = if self.is_owed {
            // It is still under way, to a CPU it was sent to before.
            answers.recv_timeout(Duration::ZERO).and_then(|_late| {
                self.is_owed = ask(which);
                answers.recv_timeout(PATIENCE)
            })
        } else {
            self.is_owed = ask(which);
            answers.recv_timeout(PATIENCE)
        };
        let trouble = match outcome {
            Ok(made) => {
                self.is_owed = false;
                made.err().map(|error| format!("{BEHIND}: {error}."))
            }
            Err(RecvTimeoutError::Timeout) => Some(format!(
                "{BEHIND}: one lets nobody on, as it may be held by a task of real-time priority."
            )),
            // The agent ends.
            Err(RecvTimeoutError::Disconnected) => None,
        };
        match (&self.trouble, &trouble) {
            (None, Some(trouble)) => warn!("{trouble}"),
            (Some(_), None) => info!("Nothing waits to be added any more."),
            _ => {}
        }
        self.trouble = trouble;
    }

    /// What an operator should know.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Porter {
    /// Makes additions until the tick has ended.
    pub(super) fn run(mut self) {
        for which in self.asked {
            let made = match which {
                Which::OfTheQuiet => self.backlog.settle(),
                Which::All => self.backlog.settle_all(),
            };
            if self.answer.send(made).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_porter_that_is_held_up_holds_nobody_up_and_is_told_of_until_it_is_back() {
        let (ask, asked) = bounded(1);
        let (answer, answers) = bounded(1);
        let mut settler = Settler { sides: Some((ask, answers)), is_owed: false, trouble: None };

        answer.send(Ok(())).unwrap();
        settler.settle(Which::OfTheQuiet);
        assert_eq!(asked.try_recv(), Ok(Which::OfTheQuiet));
        assert_eq!(settler.trouble(), None);

        settler.settle(Which::All);
        assert_eq!(asked.try_recv(), Ok(Which::All));
        assert!(settler.trouble().is_some_and(|trouble| trouble.contains("real-time")));
        // It is not sent twice.
        settler.settle(Which::All);
        assert!(asked.try_recv().is_err());
        assert!(settler.trouble().is_some());

        answer.send(Ok(())).unwrap();
        settler.settle(Which::OfTheQuiet);
        assert_eq!(asked.try_recv(), Ok(Which::OfTheQuiet), "it is back, and is sent again");
        answer.send(Ok(())).unwrap();
        let at_work = std::thread::spawn(move || {
            for _ in asked {
                answer.send(Ok(())).unwrap();
            }
        });
        settler.settle(Which::OfTheQuiet);
        assert_eq!(settler.trouble(), None);
        drop(settler);
        at_work.join().unwrap();
    }

    #[test]
    fn where_nothing_waits_nobody_is_asked() {
        let (mut settler, porter) = prepare(None);
        assert!(porter.is_none());
        settler.settle(Which::All);
        assert_eq!(settler.trouble(), None);
    }
}
