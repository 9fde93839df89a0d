//! `[graphite]`.

use serde::{Deserialize, Serialize};

use crate::reports::settings::{Endpoint, Name, QueueMb, Span};

/// Where Graphite listens, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Is it told at all?
    pub enabled: bool,
    /// Its plain text listener.
    pub server: Endpoint,
    /// What every path begins with.
    pub prefix: Name,
    /// Seconds between two points.
    pub interval_secs: Span,
    /// Packets a second of a host, at least, to be told of.
    pub min_pps: u64,
    /// Hosts, at most.
    pub top_hosts: u32,
    /// Megabytes that may wait.
    pub queue_mb: QueueMb,
    /// Seconds a delivery may take.
    pub timeout_secs: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            server: Endpoint::here(2003),
            prefix: Name::from("fastnetmon"),
            interval_secs: Span::of(1),
            min_pps: 10,
            top_hosts: 1000,
            queue_mb: QueueMb::default(),
            timeout_secs: Span::of(5),
        }
    }
}
