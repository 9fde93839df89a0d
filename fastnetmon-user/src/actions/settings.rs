//! `[notify]`: the script, its dump and its deadlines.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whom to tell, and how.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The program that is called: `ip direction pps ban|attack_details|unban`.
    pub script: PathBuf,
    /// Packets in the dump.
    pub packets: NonZeroU32,
    /// Seconds after which the dump is told with the packets that are there.
    pub details_deadline_secs: Seconds,
    /// Seconds a call of the script may take.
    pub timeout_secs: Seconds,
    /// Calls that may run at the same time, each for another host.
    pub concurrency: Workers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            script: PathBuf::from("/usr/local/bin/notify_about_attack.sh"),
            packets: NonZeroU32::MIN.saturating_add(99),
            details_deadline_secs: Seconds(5),
            timeout_secs: Seconds(30),
            concurrency: Workers(8),
        }
    }
}

/// A deadline: one second to one hour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Seconds(u64);

impl Seconds {
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
#[serde(try_from = "u32", into = "u32")]
pub struct Workers(u32);

impl Workers {
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
