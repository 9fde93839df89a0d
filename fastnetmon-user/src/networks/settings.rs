//! `[networks]`: where the prefixes come from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which addresses are ours.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// File with one network a line.
    pub list: PathBuf,
    /// File with networks that are counted and never banned.
    pub whitelist: PathBuf,
    /// Table of container addresses of an OpenVZ node.
    pub openvz_veip: PathBuf,
    /// IPv6 hosts that have lines of their own at the same time, at most.
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
