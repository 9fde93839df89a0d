//! `fastnetmon check`: what would be in force, without touching anything.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::actions;
use crate::commands::{Failure, say};
use crate::daemon::{self, Settings};
use crate::kernel;
use crate::networks;
use crate::verdicts::Policy;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn check(arguments: &Arguments) -> Result<(), Failure> {
    let input = |error: &dyn std::error::Error| Failure::Input(error.to_string());
    let settings = Settings::read(&arguments.config).map_err(|error| input(&error))?;
    daemon::check_drops(&settings).map_err(|error| input(&error))?;
    let guarded = networks::read(&settings.networks).map_err(|error| input(&error))?;
    let (plan, _) = networks::Plan::new(&guarded.ours, settings.networks.ipv6_hosts)
        .map_err(|error| input(&error))?;
    let cpus = kernel::possible_cpus().map_err(|error| input(&error))?;
    let shape =
        daemon::shape(&plan, cpus, settings.capture.max_table_mb).map_err(|error| input(&error))?;
    let in_force = toml::to_string(&settings).map_err(|error| input(&error))?;

    let mut text = format!("{}: understood. In force:\n\n{in_force}\n", arguments.config.display());
    let megabytes = shape.bytes().div_ceil(1_000_000);
    let (ours, excused) = (guarded.ours.len(), guarded.whitelist.len());
    // Writing to a string cannot fail.
    let _infallible = writeln!(
        text,
        "{ours} networks are guarded, {excused} never banned; the tables take {megabytes} MB."
    );
    let policy = settings.policy(guarded.whitelist.clone());
    for line in policy.in_words(settings.capture.tick_ms.duration()) {
        let _infallible = writeln!(text, "{line}");
    }
    for remark in Policy::remarks(&settings.group, &guarded.ours) {
        let _infallible = writeln!(text, "remark: {remark}");
    }
    for remark in &guarded.remarks {
        let _infallible = writeln!(text, "remark: {remark}");
    }
    let script = &settings.notify.script;
    if !script.exists() {
        let _infallible =
            writeln!(text, "remark: there is no script at `{}` yet", script.display());
    }
    if let Err(error) = actions::prepare(&settings.notify, &settings.webhook, &settings.attack_log)
    {
        let _infallible = writeln!(text, "remark: the agent would not start: {error}");
    }
    say(&text)?;
    Ok(())
}
