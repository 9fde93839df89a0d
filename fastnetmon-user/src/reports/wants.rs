//! Who wants what in a report.
//!
//! **Invariant**: the tick asks one atomic; whoever wants something holds it for as long as they do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much of the hosts somebody wants. Totals, networks, bans and events are in every report.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Interest {
    /// No host.
    NoHosts,
    /// So many of the loudest, by packets in either direction.
    Loudest(usize),
    /// All that moved.
    AllHosts,
}

/// What is wanted. Nothing: no report is made.
#[derive(Debug, Default)]
pub struct Wants {
    any: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    last: u64,
    interests: BTreeMap<u64, Interest>,
}

/// Something is wanted until this is dropped.
#[derive(Debug)]
pub struct Hold {
    wants: Arc<Wants>,
    number: u64,
}

impl Wants {
    /// Wants this from the next report on.
    #[must_use]
    pub fn hold(self: &Arc<Self>, interest: Interest) -> Hold {
        let mut held = self.lock();
        held.last += 1;
        let number = held.last;
        held.interests.insert(number, interest);
        drop(held);
        self.any.store(true, Ordering::Relaxed);
        Hold { wants: Arc::clone(self), number }
    }

    /// Does anybody want a report?
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// The most anybody wants.
    pub fn most(&self) -> Interest {
        self.lock().interests.values().copied().max().unwrap_or(Interest::NoHosts)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.wants.lock();
        held.interests.remove(&self.number);
        self.wants.any.store(!held.interests.is_empty(), Ordering::Relaxed);
        drop(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_anybody_wants_counts_for_as_long_as_it_is_held() {
        let wants = Arc::new(Wants::default());
        assert_eq!((wants.any(), wants.most()), (false, Interest::NoHosts));
        let few = wants.hold(Interest::Loudest(7));
        let all = wants.hold(Interest::AllHosts);
        let more = wants.hold(Interest::Loudest(100));
        assert_eq!((wants.any(), wants.most()), (true, Interest::AllHosts));
        drop(all);
        assert_eq!(wants.most(), Interest::Loudest(100));
        drop((few, more));
        assert!(!wants.any());
    }
}
