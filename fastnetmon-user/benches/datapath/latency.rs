//! How soon an attack is found: from its first packet to the first instruction of the script.
//!
//! **Invariant**: every flood begins at zero and goes to a host that had no traffic before. The
//! script is this program itself: a shell would be measured with it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use xtask::lab::Lab;

use crate::Effort;
use crate::agent::{Agent, CALLS, HOOK};
use crate::generator::{Generator, Order, Pace};
use crate::machine::{median, wall_nanos};
use crate::report::{Must, Report, Row};

/// The flood, in packets a second.
const ATTACK: u32 = 60_000;

/// What a host may have.
pub(crate) const THRESHOLD: u32 = 30_000;

/// Measures the latency of so many floods.
pub(crate) fn measure(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("detection (the agent in a lab, a flood from zero)");
    measure_with(object, effort, report, "", "")
}

/// The same, of an agent with other sections in its configuration.
pub(crate) fn measure_with(
    object: &[u8],
    effort: Effort,
    report: &mut Report,
    sections: &str,
    circumstance: &str,
) -> anyhow::Result<()> {
    let runs = effort.of(20, 3);
    let lab = Lab::new("bench")?;
    let mut generator = Generator::new(&lab, object)?;
    let agent = Agent::start_with(&lab, "192.0.2.0/24\n", THRESHOLD, "xdp", sections)?;
    let mut late = Vec::new();
    for run in 1..=runs {
        let victim = Ipv4Addr::new(192, 0, 2, u8::try_from(run)?);
        late.push(flood(&agent, &mut generator, victim)?);
        // Never the same place between two readings.
        std::thread::sleep(Duration::from_millis(200 + u64::from(run * 37 % 100)));
    }
    let worst = late.iter().copied().fold(f64::MIN, f64::max);
    let best = late.iter().copied().fold(f64::MAX, f64::min);
    let detail = format!(
        "{runs} floods of {ATTACK} pps against a threshold of {THRESHOLD}; best {best:.1} ms"
    );
    let what = "first packet → script started, less threshold ÷ rate";
    for (which, value, most) in [("median", median(late), 20.0), ("worst", worst, 120.0)] {
        report.add(Row {
            what: format!("{what}, {which}{circumstance}"),
            value,
            unit: "ms",
            must: Must::AtMost(most),
            detail: detail.clone(),
        });
    }
    Ok(())
}

/// One flood, until the script was called. Returns by how many milliseconds it was late.
pub(crate) fn flood(
    agent: &Agent,
    generator: &mut Generator<'_>,
    victim: Ipv4Addr,
) -> anyhow::Result<f64> {
    generator.order(Order { first: victim, mask: 0, protocols: [17; 4], cut: 0 })?;
    let stop = AtomicBool::new(false);
    let call = agent.calls().join(format!("{victim}.ban"));
    let (began, called) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let began = wall_nanos();
            generator.send_until(Pace::Pps(ATTACK), &stop).map(|()| began)
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut called = None;
        while called.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            called = fs::read_to_string(&call).ok().and_then(|text| text.parse::<u64>().ok());
        }
        stop.store(true, Ordering::Relaxed);
        let began = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok((began, called))
    })?;
    let Some(called) = called else { bail!("no ban of {victim} came: {}", agent.log()) };
    let reached = 1000.0 * f64::from(THRESHOLD) / f64::from(ATTACK);
    Ok(Duration::from_nanos(called.saturating_sub(began)).as_secs_f64() * 1e3 - reached)
}

/// Was this program called as the agent's script?
pub(crate) fn is_hook() -> bool {
    std::env::args_os().next().is_some_and(|name| PathBuf::from(name).ends_with(HOOK))
}

/// The script: writes down when it was called, under the host and the action.
pub(crate) fn hook() -> ExitCode {
    let now = wall_nanos();
    let mut arguments = std::env::args();
    let (program, ip) = (arguments.next().unwrap_or_default(), arguments.next());
    let (Some(ip), Some(action)) = (ip, arguments.nth(2)) else { return ExitCode::FAILURE };
    let folder = PathBuf::from(program).with_file_name(CALLS);
    let (unfinished, call) =
        (folder.join(format!("{ip}.new")), folder.join(format!("{ip}.{action}")));
    let written = fs::write(&unfinished, now.to_string());
    match written.and_then(|()| fs::rename(unfinished, call)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_no_folder) => ExitCode::FAILURE,
    }
}
