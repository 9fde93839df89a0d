//! What a flood does to an agent that guards a /16: is everything counted, at what cost, in how much
//! memory.
//!
//! **Invariant**: sent is what the generator's own program counted, lost what the cable's counters
//! say; between them and the agent no packet may be missing.
#![expect(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use xtask::lab::{Lab, LabOptions};

use crate::Effort;
use crate::agent::Agent;
use crate::generator::{Generator, Order, Pace};
use crate::machine::cpus;
use crate::report::{Must, Report, Row};

/// Floods 65,536 hosts and compares what was sent with what was counted.
pub(crate) fn measure(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("a flood as fast as this machine can (the agent in a lab, guarding a /16)");
    // A queue for each CPU, so that each sends into a ring that it empties itself.
    let lab = Lab::with("bench", LabOptions { queues: u32::try_from(cpus())? })?;
    let mut generator = Generator::new(&lab, object)?;
    let agent = Agent::start(&lab, "10.0.0.0/16\n", 1_000_000)?;
    generator.order(Order {
        first: Ipv4Addr::new(10, 0, 0, 0),
        mask: 0xffff,
        protocols: [17, 6, 1, 47],
        cut: 1023,
    })?;
    let span = Duration::from_secs(u64::from(effort.of(10, 2)));
    let before = (agent.settled()?, agent.usage()?, lab.statistics_inside()?);

    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let (took, used, memory) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let outcome = generator.send_until(Pace::Full, &stop);
            (outcome, begun.elapsed())
        });
        std::thread::sleep(span);
        // While it goes on: afterwards the agent has less to hold and nothing to do.
        let (used, memory) = (agent.usage(), agent.memory());
        stop.store(true, Ordering::Relaxed);
        let (outcome, took) =
            sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcome?;
        anyhow::Ok((took, used?, memory?))
    })?;
    let after = (agent.settled()?, lab.statistics_inside()?);

    let sent = generator.sent()?;
    let counted = after.0.packets.received - before.0.packets.received;
    let lost = after.1.rx_dropped - before.2.rx_dropped;
    let told = after.0.packets.dropped - before.0.packets.dropped;
    let missing = i128::from(sent.packets) - i128::from(counted) - i128::from(lost);
    let rate = sent.packets as f64 / took.as_secs_f64() / 1e6;
    report.add(Row {
        what: "packets sent that were neither counted nor told as lost".to_owned(),
        value: missing as f64,
        unit: "",
        must: Must::Be(0.0),
        detail: format!(
            "{} sent at {rate:.2} Mpps = {counted} counted + {lost} lost in the cable's ring",
            sent.packets
        ),
    });
    if lost == 0 {
        let bytes = after.0.totals.incoming.bytes - before.0.totals.incoming.bytes;
        report.add(Row {
            what: "bytes sent that were not counted".to_owned(),
            value: (i128::from(sent.bytes) - i128::from(bytes)) as f64,
            unit: "",
            must: Must::Be(0.0),
            detail: format!("{} sent, {bytes} counted", sent.bytes),
        });
    }
    let user = used.user.saturating_sub(before.1.user);
    let system = used.system.saturating_sub(before.1.system);
    let percent = |time: Duration| 100.0 * time.as_secs_f64() / span.as_secs_f64();
    report.add(Row {
        what: "agent user CPU during the flood, of one core".to_owned(),
        value: percent(user),
        unit: "%",
        must: Must::AtMost(2.0),
        detail: format!(
            "and {:.2} % in system calls; told by the agent as dropped: {told}",
            percent(system)
        ),
    });
    let megabytes = |kilobytes: u64| kilobytes as f64 / 1000.0 * 1.024;
    report.add(Row {
        what: format!("memory, 65 k hosts all active, {} CPUs: tables + agent", cpus()),
        value: megabytes(memory.tables + memory.own),
        unit: "MB",
        must: Must::AtMost(48.0),
        detail: format!(
            "{:.1} MB of maps, {:.1} MB resident beside them ({:.1} MB of the maps are mapped)",
            megabytes(memory.tables),
            megabytes(memory.own),
            megabytes(memory.mapped)
        ),
    });
    Ok(())
}
