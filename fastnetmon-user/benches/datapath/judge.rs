//! What judging costs: a million hosts in fifty groups, all of them active, or one in a hundred; and
//! ten thousand attacks in one reading.
//!
//! **Invariant**: hosts, blocks and groups are laid out by the agent's own plan; frames are made
//! before the clock runs.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fastnetmon_user::counters::{Gain, Gains};
use fastnetmon_user::model::{Class, Counts, Direction, HostId, Moment, Prefix, Tally};
use fastnetmon_user::networks::{Plan, PrefixSet, Territory};
use fastnetmon_user::rates::RateFrame;
use fastnetmon_user::verdicts::{BanSettings, GroupSettings, Judge, Policy};
use serde::Deserialize;

use crate::Effort;
use crate::machine::{median, on_cpu, quiet_cpu, thread_cpu};
use crate::report::{Must, Report, Row};

/// Measures the judge.
pub(crate) fn measure(effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("judging, in the agent (CPU time of its thread)");
    let town = Town::new()?;
    let (plain, full) = (policy(false)?, policy(true)?);
    let sums = "with sums of every /24 and of every group";
    for (what, policy, every, most_ms, detail) in [
        ("1 M hosts, 50 groups, all of them active", &full, 1, Some(40.0), sums),
        ("1 M hosts, 50 groups, 1 % of them active", &full, 100, Some(3.0), sums),
        ("the same, all active", &plain, 1, None, "without sums"),
        ("the same, 1 % active", &plain, 100, None, "without sums"),
    ] {
        let mut judge = Judge::new(policy.clone(), []);
        let mut times = Vec::new();
        for round in 0..=effort.of(9, 2) {
            let frame = town.frame(u64::from(round), every, 0, 100);
            let (spent, verdicts) = town.weigh(&mut judge, &frame)?;
            anyhow::ensure!(verdicts == 0, "{verdicts} verdicts, and nobody attacks");
            // The first one fills what is remembered.
            if round > 0 {
                times.push(spent);
            }
        }
        report.add(Row {
            what: format!("judging {what}"),
            value: median(times),
            unit: "ms",
            must: most_ms.map_or(Must::Inform, Must::AtMost),
            detail: detail.to_owned(),
        });
    }
    let attacked = 10_000;
    let mut judge = Judge::new(full, []);
    let (spent, verdicts) = town.weigh(&mut judge, &town.frame(0, 1, attacked, 100_000))?;
    anyhow::ensure!(
        judge.banned() == attacked as usize,
        "{} of {attacked} attacks were banned ({verdicts} verdicts)",
        judge.banned()
    );
    report.add(Row {
        what: "judging 10,000 attacks that begin in one reading, 1 M hosts active".to_owned(),
        value: spent,
        unit: "ms",
        must: Must::Inform,
        detail: "all of them are banned in it".to_owned(),
    });
    let (spent, _) = town.weigh(&mut judge, &town.frame(1, 1, attacked, 100_000))?;
    report.add(Row {
        what: "judging 1 M hosts with 10,000 bans whose attacks go on".to_owned(),
        value: spent,
        unit: "ms",
        must: Must::Inform,
        detail: "peaks, totals and ends are kept up to date".to_owned(),
    });
    Ok(())
}

/// 10.0.0.0/12: a million hosts.
struct Town {
    territory: Territory,
}

const HOSTS: u32 = 1 << 20;

impl Town {
    fn new() -> anyhow::Result<Self> {
        let ours = PrefixSet::merged([prefix("10.0.0.0/12")?, prefix("2001:db8::/32")?]).0;
        let (plan, writes) = Plan::new(&ours, 1024)?;
        let shape = plan.shape(NonZeroU32::MIN, 7);
        Ok(Self { territory: Territory::new(ours, plan, &writes, shape, vec![], vec![]) })
    }

    /// One host in `every` got 50 packets, and the first `attacked` of them `packets`.
    fn frame(&self, second: u64, every: u32, attacked: u32, packets: u64) -> RateFrame {
        let counts = |packets: u64| {
            let of = |class| match class {
                Class::Tcp | Class::Udp => Tally { packets, bytes: packets * 400 },
                _ => Tally::default(),
            };
            Counts(Class::ALL.map(of))
        };
        let (calm, attack) = (counts(25), counts(packets));
        let mut gains = Vec::new();
        // The first line of an address tells those of all: blocks follow each other in order.
        for number in (0..HOSTS).step_by(every as usize) {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            let Some(host) = self.host(address) else { continue };
            let counts = if number < attacked { &attack } else { &calm };
            gains.push(Gain::new(host, Direction::Incoming, counts, Tally::default()));
        }
        gains.sort_by_key(Gain::place);
        let moved = Arc::new(Gains::from(gains));
        let fresh = Arc::clone(&moved);
        let span = Duration::from_secs(1);
        let at = Moment::after_boot(Duration::from_secs(1000 + second));
        RateFrame { at, span, least: span, moved, fresh, ..RateFrame::default() }
    }

    fn host(&self, address: std::net::Ipv4Addr) -> Option<HostId> {
        self.territory.host4(address)
    }

    /// Milliseconds of CPU, and how many verdicts there were.
    fn weigh(&self, judge: &mut Judge, frame: &RateFrame) -> anyhow::Result<(f64, usize)> {
        on_cpu(quiet_cpu(), || {
            let before = thread_cpu();
            let verdicts = judge.weigh(frame, |host| self.territory.occupant(host));
            let spent = thread_cpu().saturating_sub(before);
            Ok((spent.as_secs_f64() * 1e3, verdicts.len()))
        })
    }
}

fn prefix(text: &str) -> anyhow::Result<Prefix> {
    Ok(Prefix::parse_masked(text)?.0)
}

/// Fifty groups: wide ones, narrow ones within them, and some that cut a /24.
fn policy(adds_up: bool) -> anyhow::Result<Policy> {
    #[derive(Deserialize)]
    struct File {
        group: GroupSettings,
    }
    let mut text = String::new();
    for number in 0..50_u32 {
        let (address, length) = match number % 3 {
            0 => (0x0a00_0000 + (number << 14), 18),
            1 => (0x0a00_0000 + (number << 14) + (1 << 12), 22),
            _ => (0x0a00_0000 + (number << 14) + (5 << 8), 26),
        };
        let address = std::net::Ipv4Addr::from(address & (u32::MAX << (32 - length)));
        // Writing to a string cannot fail.
        let _infallible = write!(
            text,
            "[[group]]\nname = \"g{number}\"\nnetworks = [\"{address}/{length}\"]\n\
             thresholds = {{ pps = {}, mbps = 900, tcp_syn = {{ pps = 5000, share_percent = 50 }}, \
             udp = {{ pps = 9000 }}, outgoing = {{ pps = 700 }} }}\n",
            20_000 + 100 * number
        );
        if adds_up {
            text.push_str("sum = { pps = 100000000 }\n");
        }
    }
    let file: File = toml::from_str(&text).context("the groups cannot be read")?;
    let thresholds = if adds_up { "prefix = { pps = 100000000 }" } else { "" };
    Ok(Policy::new(
        &toml::from_str(thresholds)?,
        &BanSettings { max_bans_per_minute: 0, ..BanSettings::default() },
        &file.group,
        PrefixSet::default(),
        Duration::from_secs(5),
    ))
}
