//! The house as a process: reads the clock, owns the threads, sees every room.
//!
//! [`settings`] composes what the rooms want, [`engines`] chooses who sees the packets,
//! [`pipeline`] wires them, [`exports`] is the thread of
//! those who tell others, [`control`] lets operators in.
//!
//! **Invariant**: the agent runs whole or not at all. Whatever can fail is done before the first
//! thread is started, and a failure names the thing, the place and the remedy.

mod asked;
mod backlog;
pub mod clock;
mod containers;
mod control;
mod doctor;
mod drops;
mod engines;
mod exports;
mod hints;
mod journal;
mod logging;
mod memory;
mod origins;
mod packets;
mod people;
mod pipeline;
mod privileges;
mod reload;
mod replay;
mod rights;
mod screen;
mod service;
mod settings;
mod shown;
mod sinks;
mod tick;

use tracing::info;

pub use self::doctor::{missing_rights, wanted};
pub use self::drops::check as check_drops;
pub use self::engines::shape;
pub use self::journal::{JournalError, Settings as JournalSettings};
pub use self::logging::{Log, start as start_logging};
pub use self::pipeline::StartError;
pub use self::reload::Source;
pub use self::replay::{Fell, Outcome, Replay, Talker};
pub use self::rights::{Capabilities, RightsError, Settings as SecuritySettings, become_user};
pub use self::screen::{ScreenFile, Settings as ScreenSettings};
pub use self::settings::{Level, LogSettings, Settings, SettingsError};

/// Runs the agent until it is told to end.
///
/// # Errors
/// When it cannot start, or its capture breaks.
pub fn run(settings: &Settings, source: Source) -> Result<(), StartError> {
    privileges::check(settings.capture.engine)?;
    rights::remark(&source);
    let running = pipeline::start(settings, source)?;
    // Megabytes: the kernel's types were read and thrown away to load the programs.
    memory::give_back();
    info!(version = env!("CARGO_PKG_VERSION"), "The agent counts.");
    service::ready();
    running.wait()
}
