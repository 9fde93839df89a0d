//! How long a random read takes on this machine right now.
//!
//! **Invariant**: only told. The figures of large tables are the cache's and its neighbours' as much
//! as ours; a reader who sees this figure sees why.

use std::time::Duration;

use crate::machine::{median, on_cpu, quiet_cpu, thread_cpu};
use crate::report::{Must, Report, Row};

/// Measures reads within tables of the size of ours.
pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("this machine, now");
    for (what, megabytes) in [
        ("4 MB: 65 k hosts, one CPU, incoming", 4),
        ("8 MB: the same and 65 k IPv6 hosts' keys", 8),
        ("64 MB: 1 M hosts, one CPU, incoming", 64),
    ] {
        let nanos = on_cpu(quiet_cpu(), || Ok(median((0..5).map(|_| chase(megabytes)).collect())))?;
        report.add(Row {
            what: format!("a random read within {what}"),
            value: nanos,
            unit: "ns",
            must: Must::Inform,
            detail: String::new(),
        });
    }
    Ok(())
}

/// A cache line that names the next one.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Link(u32);

/// Follows a chain through all lines of a table; returns nanoseconds for one step.
fn chase(megabytes: u32) -> f64 {
    const STEPS: u32 = 400_000;
    let lines = megabytes * 1024 * 1024 / 64;
    let mut links: Vec<Link> = (0..lines).map(Link).collect();
    // A random cycle through all of them (Sattolo).
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..links.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = usize::try_from(random >> 20).unwrap_or_default() % last;
        links.swap(last, other);
    }
    let mut at = 0_u32;
    let follow = |mut at: u32, steps: u32| {
        for _ in 0..steps {
            at = links.get(at as usize).map_or(0, |link| link.0);
        }
        at
    };
    at = std::hint::black_box(follow(at, STEPS));
    let before = thread_cpu();
    std::hint::black_box(follow(at, STEPS));
    let spent: Duration = thread_cpu().saturating_sub(before);
    spent.as_secs_f64() * 1e9 / f64::from(STEPS)
}
