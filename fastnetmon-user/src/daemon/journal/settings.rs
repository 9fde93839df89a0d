//! `[journal]`: where bans are written down.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The file that outlives the agent.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where bans are written down, so that they outlive the agent
    /// ([operations](operations.md#bans-that-last)). Its folder is made when it is missing;
    /// `.lock`, `.new` and `.damaged` are files beside it. Empty: bans end with the agent. Refused
    /// at the start: a path that cannot be written for another reason than a full or failing disk;
    /// another agent has it; another version.
    pub path: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: PathBuf::from("/var/lib/fastnetmon/journal") }
    }
}
