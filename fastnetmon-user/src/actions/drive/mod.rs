//! What every action has in common: queue, order, retries, deadline, the one log line.
//!
//! Calls for one host keep their order; calls for different hosts run side by side, as many as
//! there are workers, so one that hangs holds up its own host and nobody else.
//!
//! **Invariant**: handing an errand over takes no longer than a lock. A full queue refuses, and
//! tells whom it refused; nothing is dropped in silence.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tracing::{error, info, warn};

use crate::actions::notes::{NOTED_WITHIN, Note, Notebook, Receipt};
use crate::actions::queue::{Job, Queue};
use crate::actions::{Action, ActionError, Errand, Sort};
use crate::verdicts::{Ban, Verdict};

/// Errands that wait, at most.
pub(super) const ROOM: usize = 65_536;

/// A verdict that found the queue full.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{ROOM} calls of `{action}` wait already, so this one is not made")]
pub struct Overflow {
    /// Which action.
    pub action: &'static str,
}

/// What was done about a verdict.
#[derive(Clone, Debug)]
pub struct Deed {
    /// By which action.
    pub action: &'static str,
    /// About which verdict. Shared: a verdict is large, and thousands of deeds may wait to be counted.
    pub errand: Arc<Errand>,
    /// With what outcome.
    pub outcome: Result<(), ActionError>,
    /// How long the last attempt took.
    pub took: Duration,
}

/// On what terms an action works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// Threads, each at another host.
    pub workers: u32,
    /// How long one attempt may take.
    pub patience: Duration,
    /// Attempts at what may work later.
    pub attempts: u32,
    /// Between the first two; then twice as long each time.
    pub pause: Duration,
    /// Between any two, at most.
    pub longest_pause: Duration,
}

impl Terms {
    /// How long to rest after so many attempts.
    fn rest(&self, attempts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.pause.saturating_mul(doubled).min(self.longest_pause)
    }
}

/// What the workers share.
#[derive(Debug)]
struct State<A> {
    queue: Queue,
    closed: bool,
    action: A,
    terms: Terms,
    /// Why what rests did not work.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Shared<A> {
    state: Mutex<State<A>>,
    changed: Condvar,
    notebook: Notebook,
    deeds: Sender<Box<Deed>>,
}

impl<A: Action + Clone> Shared<A> {
    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest errand whose host nobody works on, with the action as it is now; `None` when
    /// there will be none for this worker.
    fn next(&self, worker: u32) -> Option<(Job, A, Terms)> {
        let mut state = self.lock();
        loop {
            if worker >= state.terms.workers {
                return None;
            }
            let now = now();
            if state.closed {
                state.queue.wake();
            }
            if let Some(job) = state.queue.pop(now) {
                return Some((job, state.action.clone(), state.terms));
            }
            if state.closed && state.queue.len() == 0 {
                return None;
            }
            state = match state.queue.until_due(now) {
                Some(until) => {
                    self.changed
                        .wait_timeout(state, until)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Sends an errand to rest; false when the agent ends, and it is not. The reason is kept for the alarm.
    fn rest(&self, job: Job, pause: Duration, reason: &str) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.trouble = Some(reason.to_owned());
        state.queue.rest(job, now() + pause);
        drop(state);
        self.changed.notify_one();
        true
    }

    fn done(&self, errand: &Errand, worked: bool) {
        let mut state = self.lock();
        // While something else rests, its trouble lasts.
        if worked && !state.queue.is_resting() {
            state.trouble = None;
        }
        state.queue.done(errand.about());
        drop(state);
        self.changed.notify_all();
    }
}

/// The workers of one action.
#[derive(Debug)]
pub struct Crew<A> {
    shared: Arc<Shared<A>>,
    workers: Vec<JoinHandle<()>>,
}

impl<A: Action + Clone> Crew<A> {
    /// Starts the workers, each with a copy of `action`, after it made the world agree with the
    /// bans that stand. What they do they put into the notebook and tell `deeds`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        mut action: A,
        terms: Terms,
        standing: &[Ban],
        notebook: &Notebook,
        deeds: &Sender<Box<Deed>>,
    ) -> std::io::Result<Self> {
        if let Err(error) = action.restore(standing, terms.patience) {
            error!(action = A::NAME, %error, "What stood before the start could not be restored.");
        }
        let state = State { queue: Queue::default(), closed: false, action, terms, trouble: None };
        let (notebook, deeds) = (notebook.clone(), deeds.clone());
        let changed = Condvar::new();
        let shared = Arc::new(Shared { state: Mutex::new(state), changed, notebook, deeds });
        let mut crew = Self { shared, workers: Vec::new() };
        crew.staff(terms.workers)?;
        Ok(crew)
    }

    /// Starts workers until there are so many. A worker that is one too many ends by itself.
    fn staff(&mut self, workers: u32) -> std::io::Result<()> {
        let there = u32::try_from(self.workers.len()).unwrap_or(u32::MAX);
        self.workers.truncate(usize::try_from(workers).unwrap_or(usize::MAX));
        for number in there..workers {
            let shared = Arc::clone(&self.shared);
            let worker = std::thread::Builder::new()
                .name(format!("{}-{number}", A::NAME))
                .spawn(move || work(&shared, number))?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Goes on with another action and other terms: whoever begins from now on goes by them, and
    /// what waits does as well.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn replace(&mut self, action: A, terms: Terms) -> std::io::Result<()> {
        let mut state = self.shared.lock();
        (state.action, state.terms) = (action, terms);
        drop(state);
        self.shared.changed.notify_all();
        self.staff(terms.workers)
    }

    /// Is this verdict any business of the action's?
    pub fn wants(&self, verdict: &Verdict) -> bool {
        self.shared.lock().action.wants(verdict)
    }

    /// Hands an errand over.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn hand(&self, errand: Arc<Errand>) -> Result<(), Overflow> {
        let mut state = self.shared.lock();
        if state.queue.len() >= ROOM {
            return Err(Overflow { action: A::NAME });
        }
        state.queue.push(errand);
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// How many wait, and why, when they wait for something that did not work.
    pub fn waiting(&self) -> (usize, Option<String>) {
        let state = self.shared.lock();
        (state.queue.len(), state.trouble.clone())
    }

    /// Lets what waits and what runs come to its end, within `patience`. What rests is tried once
    /// more, at once. Returns how many errands nobody came to.
    pub fn finish(self, patience: Duration) -> usize {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        state = self
            .shared
            .changed
            .wait_timeout_while(state, patience, |state| !state.queue.is_idle())
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let left = state.queue.clear();
        let is_done = state.queue.is_quiet();
        drop(state);
        self.shared.changed.notify_all();
        for job in &left {
            let (about, what) = (job.errand.named(), job.errand.verdict.name());
            warn!(%about, action = A::NAME, what, "Not done: the agent ends.");
        }
        // Who still works is past the deadline and ends with the process.
        for worker in self.workers.into_iter().filter(|_| is_done) {
            if worker.join().is_err() {
                error!(action = A::NAME, "A worker of an action panicked.");
            }
        }
        left.len()
    }
}

fn work<A: Action + Clone>(shared: &Shared<A>, worker: u32) {
    while let Some((job, mut action, terms)) = shared.next(worker) {
        let Job { errand, attempts } = job;
        if A::SORT == Sort::Once && attempts == 0 {
            begin::<A>(&shared.notebook, &errand);
        }
        let begun = now();
        let outcome = action.carry_out(&errand, terms.patience);
        let took = begun.elapsed();
        let attempts = attempts + 1;
        if let Err(ActionError::Retry { reason }) = &outcome
            && attempts < terms.attempts
        {
            let pause = terms.rest(attempts);
            if attempts == 1 {
                let (about, what) = (errand.named(), errand.verdict.name());
                warn!(%about, action = A::NAME, what, %reason, again_in = ?pause, "Not done yet.");
            }
            let job = Job { errand: Arc::clone(&errand), attempts };
            if shared.rest(job, pause, reason) {
                continue;
            }
            // The agent ends: whoever starts next may find it in the journal.
            shared.done(&errand, false);
            tell(A::NAME, &errand, &outcome);
            continue;
        }
        tell(A::NAME, &errand, &outcome);
        settle(&shared.notebook, A::NAME, &errand, outcome.as_ref().err());
        shared.done(&errand, outcome.is_ok());
        // The log has it; who counts deeds may be slow, or gone at the end.
        let _unheard =
            shared.deeds.try_send(Box::new(Deed { action: A::NAME, errand, outcome, took }));
    }
}

/// Notes that an errand is begun, and waits until that is safe, but not for long: the ban goes
/// first.
fn begin<A: Action>(notebook: &Notebook, errand: &Errand) {
    let (written, receipt) = Receipt::new();
    notebook.put_patiently(Note::Begun { event: errand.event(), action: A::NAME, written });
    if !receipt.wait(NOTED_WITHIN) {
        let (about, what) = (errand.named(), errand.verdict.name());
        warn!(%about, action = A::NAME, what, "Begun before that was noted: the disk is slow.");
    }
}

/// Notes how an errand ended. Of alerts nothing is kept.
pub(super) fn settle(
    notebook: &Notebook,
    action: &'static str,
    errand: &Errand,
    error: Option<&ActionError>,
) {
    if errand.verdict.ban().is_some() {
        let failed = error.map(ToString::to_string);
        notebook.put_patiently(Note::Settled { event: errand.event(), action, failed });
    }
}

fn tell(action: &'static str, errand: &Errand, outcome: &Result<(), ActionError>) {
    let (what, host) = (errand.verdict.name(), errand.named());
    let ban = errand.verdict.ban();
    let direction = ban.map(|ban| ban.direction.name());
    let pps = ban.map(|ban| ban.pps);
    match outcome {
        Ok(()) => info!(%host, direction, pps, action, what, "Done."),
        Err(error) => error!(%host, direction, pps, action, what, %error, "Not done."),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a pause between attempts needs a clock, and nothing is decided here"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
