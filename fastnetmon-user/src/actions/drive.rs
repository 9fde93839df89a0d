//! What every action has in common: queue, order, retries, deadline, the one log line.
//!
//! Calls for one host keep their order; calls for different hosts run side by side, as many as
//! there are workers, so one that hangs holds up its own host and nobody else.
//!
//! **Invariant**: handing a verdict over takes no longer than a lock. A full queue refuses, and
//! tells whom it refused; nothing is dropped in silence.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use tracing::{error, info, warn};

use crate::actions::{Action, ActionError};
use crate::model::Prefix;
use crate::verdicts::Verdict;

/// Verdicts that wait, at most.
const ROOM: usize = 65_536;

/// Attempts at a deed that may work in a moment.
const ATTEMPTS: u32 = 5;

/// Between them.
const BREATH: Duration = Duration::from_millis(50);

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
    /// About which verdict.
    pub verdict: Verdict,
    /// With what outcome.
    pub outcome: Result<(), ActionError>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Verdict>,
    busy: HashSet<Prefix>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest verdict whose host nobody works on, or `None` when there will be none.
    fn next(&self) -> Option<Verdict> {
        let mut queue = self.lock();
        loop {
            let Queue { waiting, busy, closed } = &mut *queue;
            let free = waiting.iter().position(|verdict| !busy.contains(&verdict.about()));
            if let Some(verdict) = free.and_then(|at| waiting.remove(at)) {
                busy.insert(verdict.about());
                return Some(verdict);
            }
            if *closed && waiting.is_empty() {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, about: Prefix) {
        self.lock().busy.remove(&about);
        self.changed.notify_all();
    }
}

/// The workers of one action.
#[derive(Debug)]
pub struct Crew {
    action: &'static str,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Crew {
    /// Starts `workers` threads, each with a copy of `action`. What they did they tell `deeds`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start<A: Action + Clone>(
        action: &A,
        workers: u32,
        patience: Duration,
        deeds: &Sender<Deed>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut crew = Self { action: A::NAME, shared, workers: Vec::new() };
        for number in 0..workers {
            let (action, deeds) = (action.clone(), deeds.clone());
            let shared = Arc::clone(&crew.shared);
            let worker = std::thread::Builder::new()
                .name(format!("{}-{number}", A::NAME))
                .spawn(move || work(action, &shared, patience, &deeds))?;
            crew.workers.push(worker);
        }
        Ok(crew)
    }

    /// Hands a verdict over.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn hand(&self, verdict: Verdict) -> Result<(), Overflow> {
        let mut queue = self.shared.lock();
        if queue.waiting.len() >= ROOM {
            return Err(Overflow { action: self.action });
        }
        queue.waiting.push_back(verdict);
        drop(queue);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Lets what waits and what runs come to its end, within `patience`. Returns how many verdicts
    /// nobody came to.
    pub fn finish(self, patience: Duration) -> usize {
        let mut queue = self.shared.lock();
        queue.closed = true;
        self.shared.changed.notify_all();
        let busy = |queue: &mut Queue| !(queue.waiting.is_empty() && queue.busy.is_empty());
        queue = self
            .shared
            .changed
            .wait_timeout_while(queue, patience, busy)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let left = std::mem::take(&mut queue.waiting);
        let is_done = queue.busy.is_empty();
        drop(queue);
        self.shared.changed.notify_all();
        for verdict in &left {
            let (host, what) = (verdict.about().address(), verdict.name());
            warn!(%host, action = self.action, what, "Not done: the agent ends.");
        }
        // Who still works is past the deadline and ends with the process.
        for worker in self.workers.into_iter().filter(|_| is_done) {
            if worker.join().is_err() {
                error!(action = self.action, "A worker of an action panicked.");
            }
        }
        left.len()
    }
}

fn work<A: Action>(mut action: A, shared: &Shared, patience: Duration, deeds: &Sender<Deed>) {
    while let Some(verdict) = shared.next() {
        let outcome = attempt(&mut action, &verdict, patience);
        tell(A::NAME, &verdict, &outcome);
        shared.done(verdict.about());
        // The log has it; at the end of the agent nobody else listens.
        let deed = Deed { action: A::NAME, verdict, outcome };
        if let Err(TrySendError::Full(_)) = deeds.try_send(deed) {
            warn!(action = A::NAME, "The list of deeds is full.");
        }
    }
}

fn attempt<A: Action>(
    action: &mut A,
    verdict: &Verdict,
    patience: Duration,
) -> Result<(), ActionError> {
    let mut outcome = action.carry_out(verdict, patience);
    for _ in 1..ATTEMPTS {
        if !matches!(outcome, Err(ActionError::Retry { .. })) {
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "a breath between two attempts")]
        std::thread::sleep(BREATH);
        outcome = action.carry_out(verdict, patience);
    }
    outcome
}

fn tell(action: &'static str, verdict: &Verdict, outcome: &Result<(), ActionError>) {
    let (what, host) = (verdict.name(), verdict.about().address());
    let ban = verdict.ban();
    let direction = ban.map(|ban| ban.direction.name());
    let pps = ban.map(|ban| ban.pps);
    match outcome {
        Ok(()) => info!(%host, direction, pps, action, what, "Done."),
        Err(error) => error!(%host, direction, pps, action, what, %error, "Not done."),
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{bounded, unbounded};

    use super::*;
    use crate::verdicts::{Ban, Ending};

    fn ban(last: u8) -> Ban {
        Ban::of([192, 0, 2, last])
    }

    /// Waits for a word before it does anything about host 1.
    #[derive(Clone)]
    struct Slow {
        go: crossbeam_channel::Receiver<()>,
    }

    impl Action for Slow {
        const NAME: &'static str = "slow";

        fn carry_out(&mut self, verdict: &Verdict, _: Duration) -> Result<(), ActionError> {
            if verdict.about() == Prefix::host([192, 0, 2, 1].into()) && self.go.recv().is_err() {
                return Err(ActionError::Refused { reason: "nobody says go".into() });
            }
            Ok(())
        }
    }

    #[test]
    fn one_that_hangs_holds_up_its_own_host_and_nobody_else() {
        let (go, wait) = bounded(0);
        let (deeds, done) = bounded(16);
        let crew = Crew::start(&Slow { go: wait }, 2, Duration::from_secs(1), &deeds).unwrap();
        crew.hand(Verdict::Ban(ban(1))).unwrap();
        crew.hand(Verdict::Unban(ban(1), Ending::Over)).unwrap();
        for last in 2..10 {
            crew.hand(Verdict::Ban(ban(last))).unwrap();
        }
        for last in 2..10 {
            assert_eq!(done.recv().unwrap().verdict, Verdict::Ban(ban(last)));
        }
        go.send(()).unwrap();
        assert_eq!(done.recv().unwrap().verdict, Verdict::Ban(ban(1)));
        go.send(()).unwrap();
        assert_eq!(done.recv().unwrap().verdict, Verdict::Unban(ban(1), Ending::Over));
        assert_eq!(crew.finish(Duration::from_secs(9)), 0);
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (go, wait) = bounded(0);
        let (deeds, _done) = bounded(16);
        let crew = Crew::start(&Slow { go: wait }, 1, Duration::from_secs(1), &deeds).unwrap();
        for _ in 0..3 {
            crew.hand(Verdict::Ban(ban(1))).unwrap();
        }
        assert_eq!(crew.finish(Duration::from_millis(50)), 2);
        drop(go);
    }

    /// Fails until it was asked often enough.
    #[derive(Clone)]
    struct Stubborn(u32);

    impl Action for Stubborn {
        const NAME: &'static str = "stubborn";

        fn carry_out(&mut self, _: &Verdict, _: Duration) -> Result<(), ActionError> {
            self.0 = self.0.saturating_sub(1);
            if self.0 == 0 { Ok(()) } else { Err(ActionError::Retry { reason: "busy".into() }) }
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the channel must take all")]
    fn what_may_work_in_a_moment_is_tried_again_but_not_for_ever() {
        let (deeds, done) = unbounded();
        let crew = Crew::start(&Stubborn(3), 1, Duration::from_secs(1), &deeds).unwrap();
        crew.hand(Verdict::Ban(ban(1))).unwrap();
        assert_eq!(done.recv().unwrap().outcome, Ok(()));
        assert_eq!(crew.finish(Duration::from_secs(9)), 0);
        let crew = Crew::start(&Stubborn(99), 1, Duration::from_secs(1), &deeds).unwrap();
        crew.hand(Verdict::Ban(ban(1))).unwrap();
        assert!(matches!(done.recv().unwrap().outcome, Err(ActionError::Retry { .. })));
        assert_eq!(crew.finish(Duration::from_secs(9)), 0);
    }
}
