//! `fastnetmon run`: the agent.

use std::path::PathBuf;

use clap::Args;
use tracing::warn;

use crate::commands::Failure;
use crate::daemon::{self, Settings, Source, StartError};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Configuration file; without it the defaults are in force
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ports to watch, instead of `interfaces` in the configuration
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    interface: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut settings = match &arguments.config {
        Some(file) => Settings::read(file).map_err(|error| Failure::Input(error.to_string()))?,
        None => Settings::default(),
    };
    if !arguments.interface.is_empty() {
        settings.capture.interfaces.clone_from(&arguments.interface);
    }
    // Before the first thread: each has rights of its own.
    daemon::become_user(&settings).map_err(|error| Failure::Input(error.to_string()))?;
    let _log = daemon::start_logging(settings.log.level.name());
    if arguments.config.is_none() {
        warn!("No configuration file was named; the defaults are in force.");
    }
    let Arguments { config, interface } = arguments;
    let source = Source { config: config.clone(), interfaces: interface.clone() };
    daemon::run(&settings, source).map_err(|error| match error {
        StartError::Thread(_) => Failure::Refused(error.to_string()),
        _ => Failure::Input(error.to_string()),
    })
}
