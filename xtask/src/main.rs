//! The commands of the project: `cargo xtask <command>`.
//!
//! **Invariant**: every command but `tidy` and `changelog` first brings what the machine lacks, so that none of them
//! needs another one to have run before.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command-line tool prints, starts programs and asks the clock"
)]

mod bench;
mod build;
mod changelog;
mod ci;
mod demo;
mod lab_shell;
mod msrv;
mod package;
mod scene;
mod test;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use xtask::{
    root,
    setup::{self, Purpose},
};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The commands of the project")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what this machine lacks; says what it does
    Setup,
    /// Build the kernel programs and print where they are
    BuildEbpf,
    /// Build the agent with the kernel programs in it: target/release/fastnetmon
    Build,
    /// Show a flood, a ban and its end on real packets, in a minute
    Demo,
    /// The same two namespaces with the agent, left standing to work in
    Lab,
    /// Run all tests; they need root, and fail without it
    Test {
        /// Leave out the tests that need root
        #[arg(long)]
        unprivileged: bool,
    },
    /// Measure the data path, the tick, the memory and the detection beside what each must reach
    Bench {
        /// Write the figures to this file as well, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Write them to docs/performance.md
        #[arg(long)]
        write: bool,
        /// A tenth of the time: to try the bench itself, not to learn a figure
        #[arg(long)]
        quick: bool,
        /// Only this part: packets, tick, judge, latency, flood, engines, exports, web;
        /// may be repeated
        #[arg(long, value_name = "PART")]
        only: Vec<String>,
    },
    /// Make a .deb, an .rpm and a tarball with a static binary, in target/package
    Package {
        /// The tarball with the static binary alone
        #[arg(long = "static")]
        only_static: bool,
        /// Install each where nothing of ours is, and let it find an attack (root)
        #[arg(long)]
        check: bool,
        /// Build the commit a second time in another folder: every byte must be the same
        #[arg(long)]
        twice: bool,
    },
    /// Print the changelog with what is not released yet
    Changelog,
    /// Check what no compiler checks: order of rooms, length of files, links, imports
    Tidy,
    /// Run everything that must hold, in order
    Ci,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let root = root();
    match command {
        Command::Tidy | Command::Changelog => {}
        Command::Test { .. } | Command::Bench { .. } => setup::run(Purpose::Testing)?,
        Command::Package { check: false, twice: false, .. } => setup::run(Purpose::Packaging)?,
        Command::Package { .. } => setup::run(Purpose::Trying)?,
        Command::Ci => setup::run(Purpose::Everything)?,
        _ => setup::run(Purpose::Building)?,
    }
    match command {
        Command::Setup => Ok(()),
        Command::BuildEbpf => build::kernel_programs(&root),
        Command::Build => build::agent(&root).map(|agent| println!("{}", agent.display())),
        Command::Demo => demo::run(&root),
        Command::Lab => lab_shell::run(&root),
        Command::Test { unprivileged: false } => test::run(&root, test::Scope::All).map(drop),
        Command::Test { unprivileged: true } => {
            test::run(&root, test::Scope::Unprivileged).map(drop)
        }
        Command::Bench { json, write, quick, only } => {
            bench::run(&root, &bench::Options { json, write, quick, only })
        }
        Command::Package { only_static, check, twice } => {
            let scope = if only_static { package::Scope::Static } else { package::Scope::All };
            let packages = package::run(&root, scope)?;
            if twice {
                package::build_again(&root, &packages, scope)?;
            }
            if check { package::try_out(&root, &packages) } else { Ok(()) }
        }
        Command::Changelog => changelog::collected(&root).map(|text| print!("{text}")),
        Command::Tidy => tidy::run(&root),
        Command::Ci => ci::run(&root),
    }
}
