//! Additions that wait in the kernel: the tick has them made by a thread that goes from CPU to CPU.
//!
//! **Invariant**: only that thread leaves home. On a CPU that a task of real-time priority holds, it may
//! never be let on: then the tick goes on without, and says so.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tracing::{info, warn};

use crate::daemon::clock;
use crate::kernel::{Backlog, KernelError};

/// How long a reading waits for it.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long a change of whom we guard waits for it: what it is rare for, and must not go without.
const LONG_PATIENCE: Duration = Duration::from_millis(200);

/// How it went.
type Made = Result<(), KernelError>;

/// What an operator is told when it does not work.
const BEHIND: &str = "Up to nineteen packets wait on a CPU to be added";

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
    ///
    /// A porter that is late for one reading is not waited for at the next one, and told of when it is
    /// late for that as well.
    pub(super) fn settle(&mut self, which: Which) {
        let patience = match which {
            Which::OfTheQuiet => PATIENCE,
            Which::All => LONG_PATIENCE,
        };
        let Some((ask, answers)) = &self.sides else { return };
        let was_owed = std::mem::take(&mut self.is_owed);
        // Under way still, to a CPU it was sent to before: no reading waits for that again.
        let mut outcome = was_owed.then(|| match which {
            Which::OfTheQuiet => answers.recv_timeout(Duration::ZERO),
            Which::All => answers.recv_timeout(patience),
        });
        if !matches!(outcome, Some(Err(_))) && ask.try_send(which).is_ok() {
            outcome = Some(answers.recv_timeout(patience));
        }
        let trouble = match outcome {
            Some(Ok(made)) => made.err().map(|error| format!("{BEHIND}: {error}.")),
            Some(Err(RecvTimeoutError::Timeout)) => {
                self.is_owed = true;
                was_owed.then(|| {
                    format!(
                        "{BEHIND}: one lets nobody on. A task of real-time priority may hold it."
                    )
                })
            }
            // The agent ends.
            Some(Err(RecvTimeoutError::Disconnected)) | None => None,
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
        let mut last = clock::now();
        for which in self.asked {
            let made = match which {
                Which::OfTheQuiet => {
                    let now = clock::now();
                    let since = now.since(last);
                    last = now;
                    self.backlog.settle(since)
                }
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

        settler.settle(Which::OfTheQuiet);
        assert_eq!(asked.try_recv(), Ok(Which::OfTheQuiet));
        assert_eq!(settler.trouble(), None, "once may be chance");
        settler.settle(Which::OfTheQuiet);
        assert!(asked.try_recv().is_err(), "it is not sent twice");
        assert!(settler.trouble().is_some_and(|trouble| trouble.contains("real-time")));

        // It is back, and whoever needs all of them made waits for it, and sends it again.
        let at_work = std::thread::spawn(move || {
            answer.send(Ok(())).unwrap();
            for which in &asked {
                answer.send(Ok(())).unwrap();
                if which == Which::All {
                    return;
                }
            }
        });
        settler.settle(Which::All);
        assert_eq!(settler.trouble(), None);
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
