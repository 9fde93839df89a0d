//! `[capture.pcap]` and `[capture.nflog]`: what single engines want to know besides.
//!
//! **Invariant**: a number that is out of bounds is refused where it is written.

use serde::{Deserialize, Serialize};

/// How libpcap captures.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PcapSettings {
    /// Bytes of each frame that are looked at.
    pub snaplen_bytes: Bounded<64, 65_535, 256>,
    /// Megabytes of each capture's ring; an interface has two, a mirror port one.
    pub buffer_mb: Bounded<1, 1024, 8>,
    /// Each frame is handed over at once, at the cost of a wake-up for each.
    pub immediate: bool,
    /// Milliseconds after which frames are handed over that do not fill a part of the ring.
    pub timeout_ms: Bounded<1, 1000, 10>,
}

/// How packets are taken from the firewall.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NflogSettings {
    /// Number of the group that the rules log to.
    pub group: u16,
    /// Prefix of the rules for what arrives; empty: the devices tell.
    pub prefix_in: String,
    /// Prefix of the rules for what leaves; empty: the devices tell.
    pub prefix_out: String,
    /// Bytes of each packet that are looked at.
    pub copy_bytes: Bounded<64, 65_535, 128>,
    /// Packets that the kernel gathers into one message, for a hundredth of a second at most.
    pub threshold: Bounded<1, 1024, 64>,
    /// Megabytes of the socket's buffer.
    pub buffer_mb: Bounded<1, 1024, 16>,
    /// Seconds without any packet after which something must be wrong with the rules; 0: never.
    pub quiet_secs: Bounded<0, 86_400, 60>,
}

impl Default for NflogSettings {
    fn default() -> Self {
        Self {
            group: 1,
            prefix_in: String::new(),
            prefix_out: String::new(),
            copy_bytes: Bounded::default(),
            threshold: Bounded::default(),
            buffer_mb: Bounded::default(),
            quiet_secs: Bounded::default(),
        }
    }
}

/// A number between two others, and what it is when nobody says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Bounded<const LEAST: u32, const MOST: u32, const USUAL: u32>(u32);

impl<const LEAST: u32, const MOST: u32, const USUAL: u32> Bounded<LEAST, MOST, USUAL> {
    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl<const LEAST: u32, const MOST: u32, const USUAL: u32> Default for Bounded<LEAST, MOST, USUAL> {
    fn default() -> Self {
        Self(USUAL)
    }
}

impl<const LEAST: u32, const MOST: u32, const USUAL: u32> TryFrom<u64>
    for Bounded<LEAST, MOST, USUAL>
{
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        match u32::try_from(number) {
            Ok(number) if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
            _ => Err(format!("{number} is out of bounds: it can be {LEAST} to {MOST}")),
        }
    }
}

impl<const LEAST: u32, const MOST: u32, const USUAL: u32> From<Bounded<LEAST, MOST, USUAL>>
    for u64
{
    fn from(bounded: Bounded<LEAST, MOST, USUAL>) -> Self {
        bounded.0.into()
    }
}
