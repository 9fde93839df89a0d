//! `[thresholds]` and `[ban]`: what is too much, and for how long.

use serde::{Deserialize, Serialize};

/// What a host may do.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Packets a second, in each direction by itself. One more is an attack.
    pub pps: PositivePps,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { pps: PositivePps(30_000) }
    }
}

/// Packets a second, not zero: zero would ban everybody.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct PositivePps(u64);

impl TryFrom<u64> for PositivePps {
    type Error = String;

    fn try_from(pps: u64) -> Result<Self, String> {
        if pps == 0 {
            return Err("`pps` is 0, which would ban every host: give packets a second, such as \
                        30000"
                .to_owned());
        }
        Ok(Self(pps))
    }
}

impl From<PositivePps> for u64 {
    fn from(pps: PositivePps) -> Self {
        pps.0
    }
}

/// What a ban is like.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BanSettings {
    /// Seconds a ban lasts at least; it ends when the attack is over as well. 0: until an operator
    /// ends it.
    pub time_secs: u64,
}

impl Default for BanSettings {
    fn default() -> Self {
        Self { time_secs: 1900 }
    }
}
