//! `[packets]`: packets of attacks as files.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is kept, and where.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Write packets of each attack into a pcapng file, see
    /// [operations](operations.md#packets-of-attacks). Only of bans whose `actions` have
    /// `"log_file"`.
    pub enabled: bool,
    /// Where to. It is made with mode 0750 when it is missing; its files have mode 0640. Both
    /// belong to the group `fastnetmon`, where there is one. A folder that cannot be written is an
    /// alarm.
    pub folder: PathBuf,
    /// How many of an attack, each with its first 128 bytes. With more than `packets` in
    /// `[notify]`, the dump is told when all of them are there, or at its deadline, and has no
    /// more than before. 0: as many as in the dump.
    pub packets_to_disk: Most,
    /// How many are kept. When there are more, the oldest are removed. Files that are not ours are
    /// left alone.
    pub keep: NonZeroU32,
    /// How much they may take together; a hundred packets take about 20 kB.
    pub keep_mb: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            folder: PathBuf::from("/var/lib/fastnetmon/packets"),
            packets_to_disk: Most(0),
            keep: NonZeroU32::MIN.saturating_add(999),
            keep_mb: NonZeroU32::MIN.saturating_add(63),
        }
    }
}

impl Settings {
    /// How many packets are to be collected, when the dump has so many.
    pub const fn wanted(&self, dump: u32) -> u32 {
        match self.packets_to_disk.0 {
            more if self.enabled && more > dump => more,
            _ => dump,
        }
    }

    /// How many of those that were collected go to disk.
    pub fn written(&self, dump: u32) -> usize {
        let many = if self.packets_to_disk.0 == 0 { dump } else { self.packets_to_disk.0 };
        usize::try_from(many.min(LIMIT)).unwrap_or(usize::MAX)
    }
}

/// Packets in a file, at most.
const LIMIT: u32 = 10_000;

/// How many packets go to disk: 0 to 10000.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
pub struct Most(u32);

impl TryFrom<u32> for Most {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        if count <= LIMIT {
            return Ok(Self(count));
        }
        Err(format!(
            "`packets_to_disk` is {count}: it can be 1 to {LIMIT}, or 0 for as many as in the dump"
        ))
    }
}

impl From<Most> for u32 {
    fn from(most: Most) -> Self {
        most.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_and_dump_are_counted_apart() {
        let of = |enabled, disk, dump| {
            let settings = Settings { enabled, packets_to_disk: Most(disk), ..Settings::default() };
            (settings.wanted(dump), settings.written(dump))
        };
        assert_eq!(of(true, 0, 100), (100, 100));
        assert_eq!(of(true, 500, 100), (500, 500));
        assert_eq!(of(true, 20, 100), (100, 20));
        assert_eq!(of(false, 500, 100), (100, 500));
        assert_eq!(of(true, 0, 50_000), (50_000, 10_000));
    }
}
