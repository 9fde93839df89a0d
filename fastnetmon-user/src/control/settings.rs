//! `[control]`: where the agent listens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The control socket.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Path of the socket; mode 0660, group `fastnetmon` where there is one.
    pub socket: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/fastnetmon/control.sock") }
    }
}
