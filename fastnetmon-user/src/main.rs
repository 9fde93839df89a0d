//! Arguments → command → exit code.

use std::process::ExitCode;

use clap::Parser as _;
use fastnetmon_user::commands::{self, CommandLine};

fn main() -> ExitCode {
    commands::dispatch(CommandLine::parse())
}
