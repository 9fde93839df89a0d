//! The house as a process: reads the clock, owns the threads, sees every room.
//!
//! [`settings`] composes what the rooms want, [`pipeline`] wires them, [`control`] lets operators
//! in.
//!
//! **Invariant**: the agent runs whole or not at all. Whatever can fail is done before the first
//! thread is started, and a failure names the thing, the place and the remedy.

pub mod clock;
mod control;
mod logging;
mod pipeline;
mod privileges;
mod settings;
mod tick;

use std::path::Path;

use tracing::{info, warn};

pub use self::logging::start as start_logging;
pub use self::pipeline::StartError;
pub use self::settings::{Level, LogSettings, Settings, SettingsError};

/// Runs the agent until it is told to end.
///
/// # Errors
/// When it cannot start, or its capture breaks.
pub fn run(settings: &Settings) -> Result<(), StartError> {
    privileges::check()?;
    let running = pipeline::start(settings)?;
    info!(version = env!("CARGO_PKG_VERSION"), "The agent counts.");
    running.wait()
}

/// Reads a configuration file, or takes the defaults when `path` is `None`.
///
/// # Errors
/// With file, line, column and what was expected.
pub fn read_settings(path: Option<&Path>) -> Result<Settings, SettingsError> {
    let Some(path) = path else {
        warn!("No configuration file was named; the defaults are in force.");
        return Ok(Settings::default());
    };
    Settings::read(path)
}
