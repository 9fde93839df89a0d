//! The words of the API for whence packets come.
//!
//! **Invariant**: estimates say what they rest on.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{CountryShare, SystemShare};
use crate::origins::{Atlas, Estimate, Loudest as Grouped, Origins as Board};

/// Autonomous systems and countries at the other end of the traffic of the last minute
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct Origins {
    /// Databases in use; none: nothing below is known.
    databases: Vec<DatabaseFile>,
    /// One packet in so many is a sample: what is below is an estimate.
    sample_every: u32,
    /// Seconds in which the samples came.
    span_secs: u64,
    /// Of what came in.
    incoming: Loudest,
    /// Of what went out.
    outgoing: Loudest,
}

/// A database of autonomous systems or countries.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct DatabaseFile {
    /// Its file.
    file: String,
    /// What it says it is.
    kind: String,
    /// When it was made, in seconds since 1970.
    made: u64,
}

/// The loudest of one direction.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
struct Loudest {
    /// Packets that were looked at.
    samples: u64,
    /// In falling order.
    systems: Vec<SystemSpeed>,
    /// In falling order.
    countries: Vec<CountrySpeed>,
}

/// An autonomous system of the last minute.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct SystemSpeed {
    /// Its number; 0: of addresses that no database knows.
    asn: u32,
    /// Who runs it.
    name: String,
    /// How many samples this rests on.
    samples: u64,
    /// Packets a second.
    pps: u64,
    /// Bits a second.
    bps: u64,
}

/// A country of the last minute.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct CountrySpeed {
    /// Its two letters; empty: of addresses that no database knows.
    country: String,
    /// How many samples this rests on.
    samples: u64,
    /// Packets a second.
    pps: u64,
    /// Bits a second.
    bps: u64,
}

impl Origins {
    pub(super) fn of(board: &Board) -> Self {
        let database = |one: &crate::origins::Database| DatabaseFile {
            file: one.path().display().to_string(),
            kind: one.kind(),
            made: one.made(),
        };
        let databases = board.atlas().map(|atlas| Atlas::databases(&atlas).map(database).collect());
        let Some(summary) = board.summary() else {
            return Self { databases: databases.unwrap_or_default(), ..Self::default() };
        };
        Self {
            databases: databases.unwrap_or_default(),
            sample_every: summary.every,
            span_secs: summary.span.as_secs(),
            incoming: Loudest::of(&summary.incoming),
            outgoing: Loudest::of(&summary.outgoing),
        }
    }
}

impl Loudest {
    fn of(loudest: &Grouped<Estimate>) -> Self {
        let system = |&(asn, ref name, Estimate { samples, pps, bps }): &(u32, Arc<str>, _)| {
            SystemSpeed { asn, name: name.to_string(), samples, pps, bps }
        };
        let country = |&(ref country, Estimate { samples, pps, bps }): &(String, _)| CountrySpeed {
            country: country.clone(),
            samples,
            pps,
            bps,
        };
        Self {
            samples: loudest.whole.samples,
            systems: loudest.systems.iter().map(system).collect(),
            countries: loudest.countries.iter().map(country).collect(),
        }
    }
}

/// The packets of an attack by where they came from, or went to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Remotes {
    /// Packets that were looked at.
    packets: u64,
    /// Ten at most, in falling order.
    systems: Vec<SystemPackets>,
    /// Ten at most, in falling order.
    countries: Vec<CountryPackets>,
    /// The loudest in a few words.
    text: String,
}

/// What one autonomous system has of an attack's packets.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct SystemPackets {
    /// Its number; 0: of addresses that no database knows.
    asn: u32,
    /// Who runs it.
    name: String,
    packets: u64,
    bytes: u64,
}

/// What one country has of an attack's packets.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct CountryPackets {
    /// Its two letters; empty: of addresses that no database knows.
    country: String,
    packets: u64,
    bytes: u64,
}

impl Remotes {
    /// What is known of a ban's packets.
    pub(super) fn of(board: &Board, ban: u64) -> Option<Self> {
        let counted = board.of_ban(ban)?;
        let system = |one: &SystemShare| {
            let SystemShare { asn, name, packets, bytes } = one.clone();
            SystemPackets { asn, name, packets, bytes }
        };
        let country = |one: &CountryShare| {
            let CountryShare { country, packets, bytes } = one.clone();
            CountryPackets { country, packets, bytes }
        };
        Some(Self {
            packets: counted.packets,
            systems: counted.systems.iter().map(system).collect(),
            countries: counted.countries.iter().map(country).collect(),
            text: counted.words(3),
        })
    }
}
