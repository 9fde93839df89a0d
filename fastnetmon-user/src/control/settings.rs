//! `[control]`: where the agent listens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The control socket.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Path of the socket, mode 0660, given to the group `fastnetmon` where `/etc/group` has one.
    /// Its folder is made when it is missing. A socket there that nobody answers at is the rest of
    /// a killed agent and is replaced. Refused at the start: another agent answers there,
    /// something else than a socket lies there, or it cannot be made.
    pub socket: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/fastnetmon/control.sock") }
    }
}
