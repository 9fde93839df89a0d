//! `[notify]`: the script, its dump and its deadlines.

use std::num::NonZeroU32;
use std::path::PathBuf;

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
    pub details_deadline_secs: u64,
    /// Seconds a call of the script may take.
    pub timeout_secs: u64,
    /// Calls that may run at the same time, each for another host.
    pub concurrency: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            script: PathBuf::from("/usr/local/bin/notify_about_attack.sh"),
            packets: NonZeroU32::MIN.saturating_add(99),
            details_deadline_secs: 5,
            timeout_secs: 30,
            concurrency: NonZeroU32::MIN.saturating_add(7),
        }
    }
}
