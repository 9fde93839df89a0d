//! `[xdp_drop]`: what the kernel drops of a banned host's traffic.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether, what and how long.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Packets of banned hosts are dropped. Refused: with an `engine` that is not `xdp`,
    /// `xdp_generic` or `auto`, `role = "mirror"`; at the start, when `auto` finds no XDP.
    pub enabled: bool,
    /// `"host"`: everything of the host. `"signature"`: everything until the dump is there, then
    /// what its packets have in common.
    pub mode: Mode,
    /// How much of the dump a signature must describe; when none does, everything is dropped
    /// still.
    pub cover_percent: Percent,
    /// What passes all the same, of what is dropped, on all CPUs together. 0: none.
    pub rate_pps: u32,
    /// What a host sends is dropped as well, when it is banned for that. Refused: with `true`:
    /// `egress = "clsact"`; at the start, a kernel without TCX.
    pub outgoing: bool,
    /// Dropped at the same time. One more is refused with an error, and its ban stands without it.
    pub max_hosts: Hosts,
    /// After so long, counted from the beginning of the ban, the kernel itself ends the drop, be
    /// the agent alive or not.
    pub max_secs: Lifetime,
}

impl Settings {
    /// What passes all the same.
    pub const fn rate(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.rate_pps)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            mode: Mode::Host,
            cover_percent: Percent(90),
            rate_pps: 0,
            outgoing: false,
            max_hosts: Hosts(256),
            max_secs: Lifetime(3600),
        }
    }
}

/// What is dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything of the host.
    Host,
    /// Everything until the dump is there, then what its packets have in common.
    Signature,
}

/// How much of a sample: a half to all of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(u8);

impl Percent {
    /// How many of so many that is, at least.
    pub const fn of(self, count: usize) -> usize {
        (count * self.0 as usize).div_ceil(100)
    }
}

impl TryFrom<u8> for Percent {
    type Error = String;

    fn try_from(percent: u8) -> Result<Self, String> {
        if (50..=100).contains(&percent) {
            return Ok(Self(percent));
        }
        Err(format!("`cover_percent` is {percent}: it can be 50 to 100"))
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

/// Hosts with a rule: 1 to 16,384.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
pub struct Hosts(u32);

impl Hosts {
    /// How many.
    pub const fn count(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Hosts {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        if (1..=16_384).contains(&count) {
            return Ok(Self(count));
        }
        Err(format!("`max_hosts` is {count}: it can be 1 to 16384"))
    }
}

impl From<Hosts> for u32 {
    fn from(hosts: Hosts) -> Self {
        hosts.0
    }
}

/// How long a rule may last: a second to a week.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u64", into = "u64")]
pub struct Lifetime(u64);

impl Lifetime {
    /// As a span of time.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl TryFrom<u64> for Lifetime {
    type Error = String;

    fn try_from(secs: u64) -> Result<Self, String> {
        if (1..=604_800).contains(&secs) {
            return Ok(Self(secs));
        }
        Err(format!("`max_secs` is {secs}: it can be 1 to 604800, a week"))
    }
}

impl From<Lifetime> for u64 {
    fn from(lifetime: Lifetime) -> Self {
        lifetime.0
    }
}
