//! Whence packets come, in the words of the wire.
//!
//! **Invariant**: estimates, made of one packet in `sample_every`; what they rest on is told with them.

use serde::{Deserialize, Serialize};

/// Autonomous systems and countries at the other end of the traffic of the last minute.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Origins {
    /// One packet in so many is a sample.
    pub sample_every: u32,
    /// Seconds in which the samples came, about 60 at most.
    pub span_secs: u64,
    /// Of what came in.
    pub incoming: Loudest,
    /// Of what went out.
    pub outgoing: Loudest,
}

/// The loudest of one direction.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Loudest {
    /// Packets that were looked at.
    pub samples: u64,
    /// Ten systems at most, in falling order.
    pub systems: Vec<System>,
    /// Ten countries at most, in falling order.
    pub countries: Vec<Country>,
}

/// An autonomous system.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Its number; 0: of addresses that no database knows.
    pub asn: u32,
    /// Who runs it.
    pub name: String,
    /// How many samples this rests on.
    pub samples: u64,
    /// Packets a second.
    pub pps: u64,
    /// Bits a second.
    pub bps: u64,
}

/// A country.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Country {
    /// Its two letters; empty: of addresses that no database knows.
    pub country: String,
    /// How many samples this rests on.
    pub samples: u64,
    /// Packets a second.
    pub pps: u64,
    /// Bits a second.
    pub bps: u64,
}
