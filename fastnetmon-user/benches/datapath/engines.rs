//! What each engine takes of a flood that is as fast as this machine can: CPU of the agent for a million
//! packets, and how many it loses.
//!
//! The incumbent's daemon stands beside them where its package is installed.
//!
//! **Invariant**: the same flood for all, in one run; between what was sent and what was counted no
//! packet may be missing that was not told as lost.
#![expect(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use xtask::lab::{INSIDE_INTERFACE, Lab, LabOptions};

use crate::Effort;
use crate::agent::{Agent, Usage};
use crate::generator::{Generator, Order, Pace, Sent};
use crate::machine::cpus;
use crate::report::{Must, Report, Row};

/// Where the incumbent's package puts its daemon.
const INCUMBENT: &str = "/usr/sbin/fastnetmon";

/// Floods 256 hosts under each engine in turn.
pub(crate) fn measure(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("the engines under one flood (the agent in a lab, guarding a /24)");
    let span = Duration::from_secs(u64::from(effort.of(10, 2)));
    for engine in ["xdp", "af_packet", "pcap"] {
        let lab = lab()?;
        let mut generator = Generator::new(&lab, object)?;
        let agent = Agent::with(&lab, NETWORK, 4_000_000, engine)?;
        ensure!(agent.status()?.engine == engine, "the agent runs another engine");
        generator.order(ORDER)?;
        let before = (agent.settled()?, agent.usage()?, lab.statistics_inside()?);
        let (sent, took) = flood(&generator, span)?;
        // With what it does when all of it has come: some engines are behind.
        let after = (agent.settled()?, agent.usage()?, lab.statistics_inside()?);
        let counted = after.0.packets.received - before.0.packets.received;
        let told = after.0.packets.dropped - before.0.packets.dropped;
        let cable = after.2.rx_dropped - before.2.rx_dropped;
        let came = sent.packets - cable;
        let rate = sent.packets as f64 / took.as_secs_f64() / 1e6;
        let detail = format!(
            "{} sent at {rate:.2} Mpps, {cable} of them lost in the cable; {counted} counted, {told} \
             told as lost",
            sent.packets
        );
        report.add(cost(engine, after.1.since(before.1), counted, &detail));
        report.add(Row {
            what: format!("{engine}: packets lost at that rate"),
            value: 100.0 * told as f64 / came.max(1) as f64,
            unit: "%",
            must: Must::Inform,
            detail: detail.clone(),
        });
        report.add(Row {
            what: format!("{engine}: packets that were neither counted nor told as lost"),
            value: (i128::from(came) - i128::from(counted) - i128::from(told)) as f64,
            unit: "",
            must: Must::Be(0.0),
            detail,
        });
    }
    if Path::new(INCUMBENT).exists() {
        incumbent(object, span, report)?;
    } else {
        println!("  the incumbent's daemon is not here: `apt-get install fastnetmon` brings it");
    }
    Ok(())
}

/// Nobody answers in it, so that nothing is counted but the flood.
const NETWORK: &str = "10.0.0.0/24\n";

const ORDER: Order =
    Order { first: Ipv4Addr::new(10, 0, 0, 0), mask: 0xff, protocols: [17, 6, 1, 47], cut: 1023 };

/// A queue for each CPU. Live frames come to an end that polls, as it does by XDP or by this.
fn lab() -> anyhow::Result<Lab> {
    let lab = Lab::with("bench", LabOptions { queues: u32::try_from(cpus())? })?;
    let arguments = ["-K", INSIDE_INTERFACE, "gro", "on"];
    xtask::process::run(lab.command_inside("ethtool").args(arguments))?;
    Ok(lab)
}

fn flood(generator: &Generator<'_>, span: Duration) -> anyhow::Result<(Sent, Duration)> {
    let before = generator.sent()?;
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| generator.send_until(Pace::Full, &stop));
        std::thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let after = generator.sent()?;
    let packets = after.packets - before.packets;
    Ok((Sent { packets, bytes: after.bytes - before.bytes }, begun.elapsed()))
}

fn cost(engine: &str, used: Duration, packets: u64, detail: &str) -> Row {
    Row {
        what: format!("{engine}: agent CPU for a million packets"),
        value: used.as_secs_f64() * 1000.0 / (packets.max(1) as f64 / 1e6),
        unit: "ms",
        must: Must::Inform,
        detail: detail.to_owned(),
    }
}

/// A daemon that is ended when this is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The incumbent's daemon with its packet sockets, on the same flood.
fn incumbent(object: &[u8], span: Duration, report: &mut Report) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut generator = Generator::new(&lab, object)?;
    let folder = std::env::temp_dir().join(format!("fnm-incumbent-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let at = |name: &str| folder.join(name);
    fs::write(at("networks_list"), NETWORK)?;
    fs::write(at("networks_whitelist"), "")?;
    let config = format!(
        "mirror_afpacket = on\ninterfaces = {INSIDE_INTERFACE}\nenable_ban = off\n\
         monitor_local_ip_addresses = off\nnetworks_list_path = {}\nwhite_list_path = {}\n\
         cli_stats_file_path = {}\ncli_stats_ipv6_file_path = {}\npid_path = {}\n\
         logging_level = error\n",
        at("networks_list").display(),
        at("networks_whitelist").display(),
        at("screen").display(),
        at("screen6").display(),
        at("pid").display(),
    );
    fs::write(at("conf"), config)?;
    let log = fs::File::create(at("log"))?;
    let child = lab
        .command_inside(INCUMBENT)
        .arg(format!("--configuration_file={}", at("conf").display()))
        .arg(format!("--log_file={}", at("daemon.log").display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("the incumbent's daemon cannot be started")?;
    let mut daemon = Daemon(child);
    let screen = || fs::read_to_string(at("screen")).unwrap_or_default();
    let begun = Instant::now();
    while !screen().contains("Incoming traffic") {
        if let Some(status) = daemon.0.try_wait()? {
            let said = fs::read_to_string(at("log")).unwrap_or_default();
            println!("  the incumbent's daemon ended with {status}: {}", said.trim_end());
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("the incumbent's daemon shows no screen in `{}`", at("screen").display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    generator.order(ORDER)?;
    // It opens its sockets a moment later, and it is never idle.
    std::thread::sleep(Duration::from_secs(2));
    let pid = daemon.0.id();
    let (rest, begun) = (Usage::of(pid)?, Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let idle = Usage::of(pid)?.since(rest).as_secs_f64() / begun.elapsed().as_secs_f64();
    let (before, rest, begun) = (lab.statistics_inside()?, Usage::of(pid)?, Instant::now());
    let (sent, took) = flood(&generator, span)?;
    // Its screen is an average, some seconds late.
    let mut shown = (0, String::new());
    while begun.elapsed() < took + Duration::from_secs(5) {
        let screen = screen();
        let line = screen.lines().find(|line| line.starts_with("Incoming traffic"));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        let pps: u64 = words.get(2).and_then(|word| word.parse().ok()).unwrap_or_default();
        if pps > shown.0 {
            shown = (pps, words.join(" "));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let (shown_pps, shown) = shown;
    ensure!(shown_pps > 0, "the incumbent's daemon shows nothing of the flood");
    let used = Usage::of(pid)?.since(rest).as_secs_f64();
    let used = Duration::from_secs_f64((used - idle * begun.elapsed().as_secs_f64()).max(0.0));
    let came = sent.packets - (lab.statistics_inside()?.rx_dropped - before.rx_dropped);
    let rate = sent.packets as f64 / took.as_secs_f64() / 1e6;
    let detail = format!(
        "{} sent at {rate:.2} Mpps, {came} came; it shows `{shown}` at most, and does not tell what it \
         loses; what it takes without packets ({:.1} % of a core) is left out",
        sent.packets,
        100.0 * idle
    );
    report.add(cost("the incumbent (packet sockets), of all that came", used, came, &detail));
    drop(daemon);
    fs::remove_dir_all(&folder)?;
    Ok(())
}
