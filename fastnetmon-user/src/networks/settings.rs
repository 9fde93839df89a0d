//! `[networks]`: where the prefixes come from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which addresses are ours.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The networks to guard. Refused at the start: a file that is missing, unreadable or empty
    /// (unless there are containers), a bad line.
    pub list: PathBuf,
    /// Networks that are counted and shown, and never banned by a threshold. May be absent. An
    /// operator can still ban them. Refused at the start: a bad line; unreadable.
    pub whitelist: PathBuf,
    /// Container addresses of an OpenVZ node. Read when a file `version` lies in the same folder,
    /// and every five seconds from then on: [OpenVZ](openvz.md). `""`: none. Refused at the start:
    /// a bad line; unreadable.
    pub openvz_veip: PathBuf,
    /// IPv6 hosts that have counters of their own at the same time, at most; addresses named one
    /// by one (/128) keep theirs: outside a listed network they come on top, within one they take
    /// a place of these. Idle ones make room. Each costs what an IPv4 address costs. Refused at
    /// the start: more than `max_table_mb` holds.
    pub ipv6_hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            list: PathBuf::from("/etc/networks_list"),
            whitelist: PathBuf::from("/etc/networks_whitelist"),
            openvz_veip: PathBuf::from("/proc/vz/veip"),
            ipv6_hosts: 32_768,
        }
    }
}
