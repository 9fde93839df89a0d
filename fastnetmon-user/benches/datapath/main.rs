//! What the data path costs, beside what it must reach: `cargo xtask bench`.
//!
//! In this order: what a packet costs in the kernel ([`packets`]), what a tick costs in the agent
//! ([`tick`], [`judge`]), how soon an attack is found ([`latency`]), what a flood does to an agent
//! ([`flood`]), what each engine takes of it ([`engines`]), what exports cost ([`exports`]), what
//! the page and the API reach ([`web`]).
//! The first two load the programs themselves ([`programs`]); the others run the agent as it is
//! shipped ([`agent`]) in a lab, against a [`generator`].
//!
//! **Invariant**: a figure that is missed is shouted and no failure: machines differ, and a busy one
//! differs from itself. Only a bench that could not measure fails.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a bench prints, sleeps, starts programs and asks the clock"
)]

mod agent;
#[path = "../../tests/privileged/browser.rs"]
#[expect(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is the tests' own, which use all of it and may panic"
)]
mod browser;
mod cache;
mod engines;
mod exports;
mod flood;
mod generator;
mod judge;
mod latency;
mod machine;
mod packets;
mod programs;
mod report;
mod tick;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use xtask::lab::Lab;

use crate::machine::Machine;
use crate::report::Report;

#[derive(Parser)]
struct Arguments {
    /// The kernel programs with those of the bench; built when it is not given.
    #[arg(long)]
    object: Option<PathBuf>,
    /// Write the figures to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write them to this file, as a page.
    #[arg(long)]
    write: Option<PathBuf>,
    /// A tenth of the time: to try the bench itself, not to learn a figure.
    #[arg(long)]
    quick: bool,
    /// Only this part; may be repeated.
    #[arg(long)]
    only: Vec<Part>,
    /// Given by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Part {
    Packets,
    Tick,
    Judge,
    Latency,
    Flood,
    Engines,
    Exports,
    Web,
}

/// How long to measure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effort {
    Full,
    Quick,
}

impl Effort {
    /// `full`, or a small part of it.
    fn of(self, full: u32, quick: u32) -> u32 {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

fn main() -> ExitCode {
    // The agent in the lab calls this very program as its script.
    if latency::is_hook() {
        return latency::hook();
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = xtask::root();
    let object = match &arguments.object {
        Some(object) => object.clone(),
        None => xtask::object::build(&root, &["bench"])?,
    };
    let object =
        std::fs::read(&object).with_context(|| format!("`{}` cannot be read", object.display()))?;
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    Lab::sweep();

    let machine = Machine::here(&root);
    println!("{machine}");
    let mut report = Report::new(machine);
    cache::measure(&mut report)?;
    if wanted(Part::Packets) {
        packets::measure(&object, effort, &mut report)?;
    }
    if wanted(Part::Tick) {
        tick::measure(&object, effort, &mut report)?;
    }
    if wanted(Part::Judge) {
        judge::measure(effort, &mut report)?;
    }
    if wanted(Part::Latency) {
        latency::measure(&object, effort, &mut report)?;
    }
    if wanted(Part::Flood) {
        flood::measure(&object, effort, &mut report)?;
    }
    if wanted(Part::Engines) {
        engines::measure(&object, effort, &mut report)?;
    }
    if wanted(Part::Exports) {
        exports::measure(&object, effort, &mut report)?;
    }
    if wanted(Part::Web) {
        web::measure(&object, effort, &mut report)?;
    }
    println!("{}", report.verdict());
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.json()?)
            .with_context(|| format!("`{}` cannot be written", file.display()))?;
    }
    if let Some(file) = &arguments.write {
        std::fs::write(file, report.page())
            .with_context(|| format!("`{}` cannot be written", file.display()))?;
        println!("written: {}", file.display());
    }
    Ok(())
}
