//! `[journal]`: where bans are written down.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The file that outlives the agent.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Path of the journal; empty: bans end with the agent.
    pub path: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: PathBuf::from("/var/lib/fastnetmon/journal") }
    }
}
