//! A packet that was kept: what it says, and the beginning of it as it was on the wire.
//!
//! **Invariant**: bytes are copied once, when a packet is kept, and never more than [`Raw::LONGEST`]
//! of them. What is only counted is never copied.

use std::sync::Arc;

use crate::model::Seen;

/// Where a frame begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Starts {
    /// With an Ethernet header.
    Ethernet,
    /// With its IP header.
    Ip,
    /// Behind a link header that named what follows by its `EtherType`.
    Typed(u16),
}

/// A packet of evidence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caught {
    /// What it says.
    pub seen: Seen,
    /// Its beginning.
    pub raw: Raw,
}

/// The beginning of a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Raw {
    /// With what it begins.
    pub starts: Starts,
    /// How long it was on the wire, never less than what is here.
    pub wire_bytes: u32,
    /// The beginning itself; clones share it.
    pub bytes: Arc<[u8]>,
}

impl Raw {
    /// Bytes that are kept. Ethernet, three VLAN tags, IPv6 and the longest TCP header are 126, so
    /// every header is whole; and a quarter of a million packets, the most that are held, take 32 MB.
    pub const LONGEST: usize = 128;

    /// Copies the beginning of a frame.
    pub fn of(starts: Starts, bytes: &[u8], wire_bytes: u32) -> Self {
        let kept = bytes.get(..Self::LONGEST).unwrap_or(bytes);
        let least = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        Self { starts, wire_bytes: wire_bytes.max(least), bytes: kept.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_stated_and_the_wire_is_never_shorter() {
        let raw = |bytes: &[u8], wire| {
            let raw = Raw::of(Starts::Ip, bytes, wire);
            (raw.bytes.len(), raw.wire_bytes)
        };
        assert_eq!(raw(&[7; 60], 1514), (60, 1514));
        assert_eq!(raw(&[7; 256], 1514), (128, 1514));
        assert_eq!(raw(&[7; 60], 0), (60, 60));
        assert_eq!(raw(&[], 0), (0, 0));
    }
}
