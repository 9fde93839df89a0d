//! What a tick costs the agent: counters, rates, verdicts, on the kernel's own tables.
//!
//! **Invariant**: the rooms are those of the agent, called as its tick calls them; every host moves
//! on every CPU in one second, or none does.

use std::time::Duration;

use fastnetmon_user::counters::Counters;
use fastnetmon_user::model::Moment;
use fastnetmon_user::rates::RateTable;
use fastnetmon_user::verdicts::{Judge, Policy};

use crate::Effort;
use crate::machine::{cpus, median, on_cpu, quiet_cpu, thread_cpu};
use crate::programs::{Layout, Programs, XDP_PASS, frame4};
use crate::report::{Must, Report, Row};

/// Measures the tick at both sizes, everybody active and everybody idle.
pub(crate) fn measure(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("a tick, in the agent (CPU time of its thread)");
    for (name, layout, most_ms) in [
        ("65 k hosts", Layout::v4("65k", 128, 23), 1.0),
        ("1 M hosts", Layout::v4("1M", 16, 16), 30.0),
    ] {
        let times = run(object, &layout, effort)?;
        for (state, millis, detail) in [
            ("all of them active", times.active, "every host moved on every CPU, each second"),
            ("the first without traffic", times.after, "all hosts are looked at once more"),
            ("all of them idle", times.idle, "nothing moved, nor in the second before"),
        ] {
            report.add(Row {
                what: format!("agent CPU per tick, {name}, {} CPUs, {state}", cpus()),
                value: median(millis),
                unit: "ms",
                must: Must::AtMost(most_ms),
                detail: detail.to_owned(),
            });
        }
    }
    Ok(())
}

/// What the hosts did before a tick.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// All of them moved, as in the second before.
    Active,
    /// None did, and all of them in the second before: all are looked at once more.
    After,
    /// None did, and none in the second before.
    Idle,
}

/// Milliseconds.
#[derive(Default)]
struct Times {
    active: Vec<f64>,
    after: Vec<f64>,
    idle: Vec<f64>,
}

impl Times {
    const fn of(&mut self, state: State) -> &mut Vec<f64> {
        match state {
            State::Active => &mut self.active,
            State::After => &mut self.after,
            State::Idle => &mut self.idle,
        }
    }
}

fn run(object: &[u8], layout: &Layout, effort: Effort) -> anyhow::Result<Times> {
    let mut programs = Programs::load(object, layout)?;
    let lines = programs.lines()?;
    let mut judge = Judge::new(Policy::default(), []);
    let mut rates = RateTable::default();
    let mut now = Moment::after_boot(Duration::from_secs(1));
    let mut counters = Counters::new(vec![lines], now);
    let frame = frame4();

    let mut times = Times::default();
    for round in 0..=effort.of(7, 2) {
        // What comes first each time finds less room than it needs, or more: a second like any other
        // is the one after it.
        let course = [
            (None, true),
            (Some(State::Active), true),
            (Some(State::After), false),
            (None, false),
            (Some(State::Idle), false),
        ];
        for (measured, moves) in course {
            if moves {
                for cpu in 0..cpus() {
                    on_cpu(cpu, || {
                        programs.run("walk4", &frame, layout.hosts(), XDP_PASS)?;
                        programs.make_up()
                    })?;
                }
            }
            now = now + Duration::from_secs(1);
            let (spent, hosts) = on_cpu(quiet_cpu(), || {
                let before = thread_cpu();
                counters.take_back(rates.let_go(Duration::from_secs(1)));
                let reading = counters.read(now);
                let lent = programs.territory().lent_from();
                programs.territory().read(now, reading.moved_from(lent));
                let frame = rates.advance(reading);
                let hosts = frame.moved.len();
                let territory = &*programs.territory();
                let verdicts = judge.weigh(&frame, |host| territory.occupant(host));
                drop((frame, verdicts));
                Ok((thread_cpu().saturating_sub(before), hosts))
            })?;
            let expected = if moves { layout.hosts() as usize } else { 0 };
            if hosts != expected {
                anyhow::bail!("{hosts} hosts moved, and it should have been {expected}");
            }
            if let Some(state) = measured.filter(|_| round > 0) {
                times.of(state).push(spent.as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times)
}
