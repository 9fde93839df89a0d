//! `[graphite]`.

use serde::{Deserialize, Serialize};

use crate::reports::settings::{Endpoint, Name, QueueMb, Span};

/// Where Graphite listens, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether it is told.
    pub enabled: bool,
    /// Its plain text listener, `host:port`.
    pub server: Endpoint,
    /// What paths begin with.
    pub prefix: Name,
    /// Between two points of one host, network or direction.
    pub interval_secs: Span,
    /// What a host must have in one direction to be told.
    pub min_pps: u64,
    /// Hosts that are told in one interval, at most: the loudest. Totals and networks always are.
    /// 0: no host.
    pub top_hosts: u32,
    /// What may wait while the database is slow or dead. The newest are kept; what was dropped is
    /// counted in `fastnetmon status`.
    pub queue_mb: QueueMb,
    /// What one delivery may take.
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
