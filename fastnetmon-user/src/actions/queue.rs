//! What waits for the workers of one action.
//!
//! Errands about one host or network keep their order; those about different ones do not wait for
//! each other. What failed and may work later rests, and what is behind it waits with it.
//!
//! **Invariant**: bounded by whoever fills it, and every step takes the same time however much
//! waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actions::Errand;
use crate::model::Prefix;

/// An errand, and how often it was tried.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) errand: Arc<Errand>,
    pub(super) attempts: u32,
}

/// What waits, by whom it is about. A host with an entry is in work, ready or resting.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: HashMap<Prefix, VecDeque<Job>>,
    ready: VecDeque<Prefix>,
    resting: BTreeMap<(Instant, u64), Prefix>,
    /// Tells apart what rests until the same moment.
    rests: u64,
    jobs: usize,
    busy: usize,
}

impl Queue {
    /// Adds an errand behind those about the same host.
    pub(super) fn push(&mut self, errand: Arc<Errand>) {
        let about = errand.about();
        self.jobs += 1;
        let job = Job { errand, attempts: 0 };
        if let Some(line) = self.waiting.get_mut(&about) {
            line.push_back(job);
            return;
        }
        self.waiting.insert(about, VecDeque::from([job]));
        self.ready.push_back(about);
    }

    /// The next one that can be worked at.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Job> {
        while let Some(rest) = self.resting.first_entry()
            && rest.key().0 <= now
        {
            self.ready.push_back(rest.remove());
        }
        while let Some(about) = self.ready.pop_front() {
            if let Some(job) = self.waiting.get_mut(&about).and_then(VecDeque::pop_front) {
                self.jobs -= 1;
                self.busy += 1;
                return Some(job);
            }
        }
        None
    }

    /// A job that was popped is over.
    pub(super) fn done(&mut self, about: Prefix) {
        self.busy = self.busy.saturating_sub(1);
        match self.waiting.get(&about) {
            Some(line) if !line.is_empty() => self.ready.push_back(about),
            _ => drop(self.waiting.remove(&about)),
        }
    }

    /// A job that was popped is tried again at `due`, before what waits behind it.
    pub(super) fn rest(&mut self, job: Job, due: Instant) {
        let about = job.errand.about();
        self.busy = self.busy.saturating_sub(1);
        self.jobs += 1;
        self.rests += 1;
        self.waiting.entry(about).or_default().push_front(job);
        self.resting.insert((due, self.rests), about);
    }

    /// How long until something that rests is due.
    pub(super) fn until_due(&self, now: Instant) -> Option<Duration> {
        self.resting.keys().next().map(|(due, _)| due.saturating_duration_since(now))
    }

    /// What rests is due now.
    pub(super) fn wake(&mut self) {
        self.ready.extend(std::mem::take(&mut self.resting).into_values());
    }

    /// How many wait or rest.
    pub(super) const fn len(&self) -> usize {
        self.jobs
    }

    /// Does something wait for another attempt?
    pub(super) fn is_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Does nothing wait, rest or go on?
    pub(super) const fn is_idle(&self) -> bool {
        self.jobs == 0 && self.busy == 0
    }

    /// Is nobody at work?
    pub(super) const fn is_quiet(&self) -> bool {
        self.busy == 0
    }

    /// Everything that waits, in no order.
    pub(super) fn clear(&mut self) -> Vec<Job> {
        self.ready.clear();
        self.resting.clear();
        self.jobs = 0;
        self.waiting.drain().flat_map(|(_, line)| line).collect()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "some instant is needed to count from")]
mod tests {
    use super::*;
    use crate::model::Wall;
    use crate::verdicts::{Ban, Ending, Verdict};

    fn errand(last: u8, is_ban: bool) -> Arc<Errand> {
        let ban = Ban::of([192, 0, 2, last]);
        let verdict = if is_ban { Verdict::Ban(ban) } else { Verdict::Unban(ban, Ending::Over) };
        Arc::new(Errand { verdict, wall: Wall::default() })
    }

    fn named(job: Option<Job>) -> Option<(String, &'static str)> {
        job.map(|job| (job.errand.named(), job.errand.verdict.name()))
    }

    #[test]
    fn one_host_at_a_time_and_all_hosts_at_once() {
        let start = Instant::now();
        let mut queue = Queue::default();
        for (last, is_ban) in [(1, true), (1, false), (2, true)] {
            queue.push(errand(last, is_ban));
        }
        assert_eq!(named(queue.pop(start)), Some(("192.0.2.1".to_owned(), "ban")));
        assert_eq!(named(queue.pop(start)), Some(("192.0.2.2".to_owned(), "ban")));
        assert_eq!(named(queue.pop(start)), None);
        queue.done(errand(1, true).about());
        assert_eq!(named(queue.pop(start)), Some(("192.0.2.1".to_owned(), "unban")));
        queue.done(errand(1, true).about());
        queue.done(errand(2, true).about());
        assert!(queue.is_idle() && queue.waiting.is_empty());
    }

    #[test]
    fn what_rests_holds_up_its_own_host_alone_until_it_is_due() {
        let start = Instant::now();
        let mut queue = Queue::default();
        queue.push(errand(1, true));
        queue.push(errand(1, false));
        let job = queue.pop(start).unwrap();
        let due = start + Duration::from_secs(1);
        queue.rest(Job { attempts: 1, ..job }, due);
        queue.push(errand(2, true));
        assert_eq!(named(queue.pop(start)), Some(("192.0.2.2".to_owned(), "ban")));
        assert_eq!(named(queue.pop(start)), None);
        assert_eq!(queue.until_due(start), Some(Duration::from_secs(1)));
        let again = queue.pop(due).unwrap();
        assert_eq!((again.attempts, again.errand.verdict.name()), (1, "ban"));
        queue.rest(again, due + Duration::from_secs(1));
        queue.wake();
        assert_eq!(named(queue.pop(due)), Some(("192.0.2.1".to_owned(), "ban")));
        assert_eq!(queue.clear().len(), 1);
    }
}
