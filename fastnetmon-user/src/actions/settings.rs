//! `[notify]`: the script, its dump and its deadlines.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whom to tell, and how.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The program to call, see [operations](operations.md#what-the-script-gets). Where it is
    /// missing, bans are listed and logged, and each failed call is an alarm.
    pub script: PathBuf,
    /// Arguments of a call: 4, or 3 for a script of 2014 (`ip direction pps`). With 3 there is no
    /// `unban`: such a script would take it for a ban.
    pub args: Arguments,
    /// What comes on standard input, see [operations](operations.md#what-the-script-gets):
    /// `"seed"`, `"report"` or `"json"`.
    pub format: Format,
    /// Packets in the dump.
    pub packets: NonZeroU32,
    /// After so long the dump is told with the packets that are there, be it none.
    pub details_deadline_secs: Seconds,
    /// What one call may take; then it and everything it started gets SIGTERM, and SIGKILL a
    /// second later.
    pub timeout_secs: Seconds,
    /// Calls that run at the same time, each for another host. Each is a thread.
    pub concurrency: Workers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            script: PathBuf::from("/usr/local/bin/notify_about_attack.sh"),
            args: Arguments::Four,
            format: Format::Seed,
            packets: NonZeroU32::MIN.saturating_add(99),
            details_deadline_secs: Seconds(5),
            timeout_secs: Seconds(30),
            concurrency: Workers(8),
        }
    }
}

/// How many arguments a script is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u8", into = "u8")]
pub enum Arguments {
    /// `ip direction pps`, the form of 2014.
    Three,
    /// `ip direction pps action`.
    Four,
}

impl TryFrom<u8> for Arguments {
    type Error = String;

    fn try_from(count: u8) -> Result<Self, String> {
        match count {
            3 => Ok(Self::Three),
            4 => Ok(Self::Four),
            _ => Err(format!(
                "`args` is {count}: it can be 4 (ip direction pps action), or 3, the form of 2014"
            )),
        }
    }
}

impl From<Arguments> for u8 {
    fn from(arguments: Arguments) -> Self {
        match arguments {
            Arguments::Three => 3,
            Arguments::Four => 4,
        }
    }
}

/// What a script is given on standard input.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The packets, one a line, with the second call; else nothing.
    Seed,
    /// The incumbent's report: its header, then all of it, then nothing.
    Report,
    /// The event as JSON, each time.
    Json,
}

/// A deadline: one second to one hour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u64", into = "u64")]
pub struct Seconds(u64);

impl Seconds {
    /// Ten of them.
    pub(super) const TEN: Self = Self(10);

    /// As a span of time.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl TryFrom<u64> for Seconds {
    type Error = String;

    fn try_from(secs: u64) -> Result<Self, String> {
        if (1..=3600).contains(&secs) {
            return Ok(Self(secs));
        }
        Err(format!("{secs} is no deadline: it can be 1 to 3600 seconds"))
    }
}

impl From<Seconds> for u64 {
    fn from(seconds: Seconds) -> Self {
        seconds.0
    }
}

/// Calls side by side: 1 to 256, as each takes a thread and some descriptors.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
pub struct Workers(u32);

impl Workers {
    /// Two of them.
    pub(super) const TWO: Self = Self(2);

    /// How many.
    pub const fn count(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Workers {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        if (1..=256).contains(&count) {
            return Ok(Self(count));
        }
        Err(format!("`concurrency` is {count}: it can be 1 to 256"))
    }
}

impl From<Workers> for u32 {
    fn from(workers: Workers) -> Self {
        workers.0
    }
}
