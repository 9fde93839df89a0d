//! The machine the figures are of, its clocks and its CPUs.
//!
//! **Invariant**: CPU time is a thread's own. Wall clock counts what others do, and the kernel's own
//! `duration` of a test run is whole nanoseconds.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// What the figures depend on.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) commit: String,
    /// Days, as in ISO 8601.
    pub(crate) date: String,
    pub(crate) load: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or_else(|| "unknown CPU".to_owned(), |(_, name)| name.trim().to_owned());
        let git = |arguments: &[&str]| {
            xtask::process::output(Command::new("git").current_dir(root).args(arguments))
                .map(|text| text.trim().to_owned())
        };
        let mut commit =
            git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|_no_git| "unknown".into());
        if git(&["status", "--porcelain"]).is_ok_and(|changes| !changes.is_empty()) {
            commit.push_str(" and changes");
        }
        Self {
            cpu,
            cpus: cpus(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit,
            date: today(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cpus, kernel, commit, date, load } = self;
        write!(
            f,
            "{cpu}, {cpus} CPUs, Linux {kernel}, commit {commit}, {date}, load {load} at start"
        )
    }
}

/// CPUs that are there.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The CPU that is measured on: the last one, where the system has the least to do.
pub(crate) fn quiet_cpu() -> usize {
    cpus().saturating_sub(1)
}

/// Keeps the calling thread on this CPU.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// Does the work in a thread of its own on this CPU, before whatever else wants to run there, and
/// waits for it.
pub(crate) fn on_cpu<T: Send>(
    cpu: usize,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(cpu)?;
            setpriority_process(None, -20).context("cannot go before others")?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// CPU time this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Since 1970, in nanoseconds.
pub(crate) fn wall_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The civil date of today (UTC).
fn today() -> String {
    let days = i64::try_from(wall_nanos() / 1_000_000_000 / 86_400).unwrap_or_default();
    let (year, month, day) = civil(days);
    format!("{year}-{month:02}-{day:02}")
}

/// Days since 1970 as year, month and day: Howard Hinnant's `civil_from_days`.
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}
