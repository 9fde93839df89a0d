//! Additions that wait in the kernel for others, and having them made where a CPU has gone quiet.
//!
//! A CPU makes its additions sixteen or so at a time ([`Waiting`](fastnetmon_common::table::Waiting)). When
//! packets stop coming, up to nineteen are left, and nobody on that CPU will make them: then the agent
//! goes there and runs a program that does.
//!
//! **Invariant**: that program runs on the CPU whose additions they are, and with bottom halves
//! disabled (`bpf_test_run` in `net/bpf/test_run.c`, since Linux 6.3), like the programs that put them
//! off. So no two of them ever meet, and no addition is lost or made twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastnetmon_common::abi::{program, waiting};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::kernel::{KernelError, Object};
use crate::tables::Mapping;

/// A CPU that empties its queue so often in a second, for some two thousand additions, empties it again before
/// anybody could get there.
const BUSY: u128 = 128;

/// How long a CPU has to empty its queue by itself, before it is helped.
const PATIENCE: Duration = Duration::from_millis(1);

/// The queues of all CPUs.
#[derive(Debug)]
pub struct Backlog {
    object: Arc<Object>,
    queues: Arc<Mapping>,
    /// By CPU: the number of the last emptying that was seen.
    seen: Vec<u64>,
}

/// How often a queue was emptied.
const fn emptied(state: u64) -> u64 {
    state / waiting::ROOM as u64
}

impl Backlog {
    /// The queues of an object whose programs are loaded; `None`: nothing ever waits in it.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub fn of(object: &Arc<Object>) -> Result<Option<Self>, KernelError> {
        let Some(queues) = object.queues()? else { return Ok(None) };
        let cpus = queues.words().len() / waiting::WORDS;
        Ok(Some(Self { object: Arc::clone(object), queues, seen: vec![0; cpus] }))
    }

    /// By CPU, the state of its queue.
    fn states(&self) -> Vec<u64> {
        let firsts = self.queues.words().iter().step_by(waiting::WORDS);
        firsts.map(|state| state.load(Ordering::Acquire)).collect()
    }

    /// Has everything made that waits on a CPU that was not busy since the last call, which is so long
    /// ago. On one that was it does not wait for long.
    ///
    /// # Errors
    /// The last CPU whose additions still wait, because this thread may not run there.
    pub fn settle(&mut self, since: Duration) -> Result<(), KernelError> {
        let states = self.states();
        let is_quiet = |state: u64, seen: u64| {
            let emptied = u128::from(emptied(state).wrapping_sub(seen));
            emptied * 1_000_000_000 < BUSY * since.as_nanos().max(1)
        };
        let quiet = waiting_where(&states, &self.seen, is_quiet);
        self.seen = states.into_iter().map(emptied).collect();
        self.empty(&quiet)
    }

    /// Has everything made that was put off before this call, wherever.
    ///
    /// # Errors
    /// As [`Backlog::settle`].
    pub fn settle_all(&mut self) -> Result<(), KernelError> {
        let before = self.states();
        if before.iter().all(|state| state & waiting::NUMBER == 0) {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "a busy CPU is given time to help itself")]
        std::thread::sleep(PATIENCE);
        let has_stayed = |before, now| emptied(before) == emptied(now);
        let left = waiting_where(&before, &self.states(), has_stayed);
        self.empty(&left)
    }

    /// Goes to these CPUs and back. One that was taken offline keeps what waits there until it is back.
    fn empty(&self, cpus: &[usize]) -> Result<(), KernelError> {
        if cpus.is_empty() {
            return Ok(());
        }
        let home = sched_getaffinity(None).map_err(|source| stuck(0, source))?;
        let mut outcome = Ok(());
        for &cpu in cpus {
            let there = go_to(cpu).and_then(|()| self.run());
            if there.is_err() && is_online(cpu) {
                outcome = there;
            }
        }
        sched_setaffinity(None, &home).map_err(|source| stuck(0, source))?;
        outcome
    }

    fn run(&self) -> Result<(), KernelError> {
        self.object.repeat_xdp(program::MAKE_UP, &[0; 64], 1).map(drop)
    }
}

/// CPUs on which something waits, and whose state and other word are so.
fn waiting_where(states: &[u64], others: &[u64], are_so: impl Fn(u64, u64) -> bool) -> Vec<usize> {
    let words = (0..).zip(states.iter().zip(others));
    words
        .filter(|&(_, (&state, &other))| state & waiting::NUMBER != 0 && are_so(state, other))
        .map(|(cpu, _)| cpu)
        .collect()
}

/// Has this thread run on one CPU alone.
fn go_to(cpu: usize) -> Result<(), KernelError> {
    let mut only = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(stuck(cpu, rustix::io::Errno::INVAL));
    }
    only.set(cpu);
    sched_setaffinity(None, &only).map_err(|source| stuck(cpu, source))
}

fn is_online(cpu: usize) -> bool {
    aya::util::online_cpus()
        .map_or(true, |online| online.contains(&u32::try_from(cpu).unwrap_or(u32::MAX)))
}

/// May a thread of this process run on every CPU that is there? One that a `cpuset` keeps from some cannot
/// make the additions that wait on those.
///
/// Goes nowhere: asks for all of them at once, and looks what the kernel made of it. In a thread of its
/// own, as the asking cannot be undone (since Linux 6.2 a thread has the CPUs it asked for).
pub fn reaches_all_cpus() -> bool {
    std::thread::spawn(|| {
        let online = aya::util::online_cpus().ok()?;
        let mut all = CpuSet::new();
        for &cpu in &online {
            let cpu = usize::try_from(cpu).ok().filter(|&cpu| cpu < CpuSet::MAX_CPU)?;
            all.set(cpu);
        }
        sched_setaffinity(None, &all).ok()?;
        (sched_getaffinity(None).ok()? == all).then_some(())
    })
    .join()
    .is_ok_and(|reached| reached.is_some())
}

fn stuck(cpu: usize, source: rustix::io::Errno) -> KernelError {
    KernelError::Backlog { cpu, source: source.into() }
}
