//! What every exporter has in common: deadline, retry, back-off, and the one log line.
//!
//! **Invariant**: reports are taken at once, whatever the sink does: a sink can be dead, slow or
//! full, and costs no more than the room of its backlog.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Sleep, sleep, timeout};
use tracing::{info, warn};

use crate::reports::{Backlog, Carrier as _, ExportError, Exporter, Subscription};

/// How patient the driver is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// How long one batch may take.
    pub patience: Duration,
    /// How long the driver rests after a first failure; each further one doubles it.
    pub first_rest: Duration,
    /// How long it rests at most.
    pub longest_rest: Duration,
}

impl Pace {
    /// With this deadline.
    pub const fn with_deadline(patience: Duration) -> Self {
        Self { patience, first_rest: Duration::from_secs(1), longest_rest: Duration::from_secs(30) }
    }

    /// Between a half and the whole of what `failures` in a row ask for, so that many agents do
    /// not come back at once.
    fn rest(&self, failures: u32) -> Duration {
        let doubled = self.first_rest.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let most = doubled.min(self.longest_rest);
        // The keys of a hash map are the random numbers std has.
        let random = RandomState::new().build_hasher().finish();
        let share = u32::try_from(random % 1024).unwrap_or(0);
        most / 2 + most / 2 * share / 1024
    }
}

/// How an export stands, for everybody to see.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Its name.
    pub name: &'static str,
    /// Where it goes.
    pub to: String,
    /// Does it work? Before the first attempt, nobody knows better.
    pub up: bool,
    /// What was wrong last; it stays when it works again.
    pub error: Option<String>,
    /// Lines that arrived.
    pub sent: u64,
    /// Lines that never will: no room, refused, or left when the agent ended.
    pub lost: u64,
    /// Lines that may have arrived or not, and are not sent again.
    pub uncertain: u64,
    /// Lines that wait.
    pub waiting: u64,
    /// Batches that did not arrive at an attempt.
    pub failures: u64,
    /// Bytes of traffic that found no room, where traffic is counted.
    pub lost_traffic: u64,
    /// Reports that found the exporter busy.
    pub missed: u64,
}

/// The same, shared.
pub type Shown = Arc<Mutex<Standing>>;

/// Where an export's standing is kept.
pub fn shown(name: &'static str, to: impl ToString) -> Shown {
    let standing = Standing { name, to: to.to_string(), up: true, ..Standing::default() };
    Arc::new(Mutex::new(standing))
}

/// Looks at one.
pub fn standing(shown: &Mutex<Standing>) -> Standing {
    lock(shown).clone()
}

fn lock(shown: &Mutex<Standing>) -> MutexGuard<'_, Standing> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries what `exporter` makes of the reports, until there are no more.
pub async fn drive<E: Exporter>(
    mut exporter: E,
    mut carrier: E::Carrier,
    mut subscription: Subscription,
    pace: Pace,
    shown: Shown,
) {
    let mut keeper = Keeper::new(E::NAME, pace, shown);
    let mut is_open = true;
    loop {
        keeper.note(exporter.backlog(), subscription.missed.load(Ordering::Relaxed));
        let batch = if keeper.is_resting() { None } else { exporter.next() };
        let Some(batch) = batch else {
            if !is_open {
                break;
            }
            tokio::select! {
                report = subscription.reports.recv() => if let Some(report) = report {
                    exporter.take(&report);
                } else {
                    exporter.finish();
                    is_open = false;
                },
                () = keeper.rest() => {}
            }
            continue;
        };
        let outcome = {
            let mut carrying = pin!(timeout(pace.patience, carrier.carry(&batch)));
            loop {
                tokio::select! {
                    outcome = &mut carrying => break outcome,
                    report = subscription.reports.recv(), if is_open => if let Some(report) = report {
                        exporter.take(&report);
                    } else {
                        exporter.finish();
                        is_open = false;
                    },
                }
            }
        };
        let outcome = outcome.unwrap_or_else(|_late| Err(exporter.late(&batch, pace.patience)));
        if keeper.judge(batch.lines, outcome, exporter.backlog()) == Next::Again {
            exporter.put_back(batch);
        }
    }
    keeper.end(exporter.backlog());
}

/// What is done with a batch that was carried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// Nothing more.
    Done,
    /// It is tried again.
    Again,
}

/// Keeps the books of one export, and tells when it breaks and when it works again.
#[derive(Debug)]
struct Keeper {
    name: &'static str,
    pace: Pace,
    shown: Shown,
    /// Failures in a row.
    failures: u32,
    resting: Option<Pin<Box<Sleep>>>,
    /// Lines lost when the outage began.
    lost_before: u64,
    /// Lines a sink refused, or that may have arrived.
    refused: u64,
    uncertain: u64,
    /// The refusal that was told.
    told: Option<String>,
}

impl Keeper {
    const fn new(name: &'static str, pace: Pace, shown: Shown) -> Self {
        Self {
            name,
            pace,
            shown,
            failures: 0,
            resting: None,
            lost_before: 0,
            refused: 0,
            uncertain: 0,
            told: None,
        }
    }

    const fn is_resting(&self) -> bool {
        self.resting.is_some()
    }

    /// Until the rest is over; for ever when there is none.
    async fn rest(&mut self) {
        match &mut self.resting {
            Some(resting) => resting.await,
            None => std::future::pending().await,
        }
        self.resting = None;
    }

    fn note(&self, backlog: Backlog, missed: u64) {
        let mut shown = lock(&self.shown);
        shown.waiting = backlog.lines;
        shown.lost = self.refused + backlog.dropped;
        shown.uncertain = self.uncertain;
        shown.lost_traffic = backlog.dropped_traffic;
        shown.missed = missed;
    }

    /// What came of a batch.
    fn judge(&mut self, lines: u64, outcome: Result<(), ExportError>, backlog: Backlog) -> Next {
        match outcome {
            Ok(()) => {
                self.works(lines, backlog);
                Next::Done
            }
            Err(ExportError::Refused { reason, lines: refused }) => {
                self.refused += refused;
                if self.told.as_ref() != Some(&reason) {
                    warn!(export = self.name, reason, lines = refused, "Lines are refused.");
                    self.told = Some(reason.clone());
                }
                lock(&self.shown).error = Some(reason);
                self.works(lines.saturating_sub(refused), backlog);
                Next::Done
            }
            Err(ExportError::Uncertain { reason, lines: uncertain }) => {
                self.uncertain += uncertain;
                lock(&self.shown).sent += lines.saturating_sub(uncertain);
                self.fails(reason, backlog);
                Next::Done
            }
            Err(ExportError::Retry { reason }) => {
                self.fails(reason, backlog);
                Next::Again
            }
        }
    }

    fn works(&mut self, lines: u64, backlog: Backlog) {
        let mut shown = lock(&self.shown);
        shown.sent += lines;
        shown.up = true;
        drop(shown);
        if self.failures > 0 {
            let lost = self.lost(backlog) - self.lost_before;
            info!(export = self.name, lost, "The export works again.");
        }
        self.failures = 0;
    }

    fn fails(&mut self, reason: String, backlog: Backlog) {
        if self.failures == 0 {
            self.lost_before = self.lost(backlog);
            let waiting = backlog.lines;
            warn!(
                export = self.name,
                reason, waiting, "The export does not work; it is tried again."
            );
        }
        self.failures = self.failures.saturating_add(1);
        self.resting = Some(Box::pin(sleep(self.pace.rest(self.failures))));
        let mut shown = lock(&self.shown);
        shown.up = false;
        shown.failures += 1;
        shown.error = Some(reason);
        drop(shown);
    }

    const fn lost(&self, backlog: Backlog) -> u64 {
        self.refused + self.uncertain + backlog.dropped
    }

    /// There are no more reports.
    fn end(&mut self, backlog: Backlog) {
        if backlog.lines > 0 {
            warn!(export = self.name, lines = backlog.lines, "Not sent: the agent ends.");
            self.refused += backlog.lines;
        }
        let missed = lock(&self.shown).missed;
        self.note(Backlog { lines: 0, ..backlog }, missed);
    }
}
