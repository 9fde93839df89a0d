//! `[capture.pcap]` and `[capture.nflog]`: what single engines want to know besides.
//!
//! **Invariant**: a number that is out of bounds is refused where it is written.

use serde::{Deserialize, Serialize};

/// How libpcap captures.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PcapSettings {
    /// What is looked at of each frame; all headers must lie in it.
    pub snaplen_bytes: Bounded<64, 65_535, 256>,
    /// The ring of each capture, in 2²⁰ bytes; a port has two, in the role `"mirror"` one.
    pub buffer_mb: Bounded<1, 1024, 8>,
    /// Each frame is handed over at once, at the cost of a wake-up for each.
    pub immediate: bool,
    /// After so long, frames are handed over that do not fill a part of the ring.
    pub timeout_ms: Bounded<1, 1000, 10>,
}

/// How packets are taken from the firewall.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NflogSettings {
    /// The group that the rules log to. One program has a group at a time. Refused at the start:
    /// another has it.
    pub group: u16,
    /// A packet whose rule's prefix begins so arrives. Empty: its devices tell. Only an input
    /// device: it arrives; only an output device: it leaves; both, as in `FORWARD`: both ends are
    /// counted.
    pub prefix_in: String,
    /// The same for what leaves.
    pub prefix_out: String,
    /// What is looked at of each packet. A rule may ask for less; the length is always the IP
    /// header's.
    pub copy_bytes: Bounded<64, 65_535, 128>,
    /// How many the kernel gathers into one message, for 10 ms at most.
    pub threshold: Bounded<1, 1024, 64>,
    /// The socket's buffer, in 2²⁰ bytes.
    pub buffer_mb: Bounded<1, 1024, 16>,
    /// Without any packet for so long, there is an alarm, with the rules. 0: never.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
