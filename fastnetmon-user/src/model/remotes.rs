//! Packets by where they came from, or went to.
//!
//! **Invariant**: the loudest first, and at most [`Remotes::SHOWN`] of each.

use serde::{Deserialize, Serialize};

/// The packets of an attack by where they came from, or went to.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Remotes {
    /// Packets that were looked at.
    pub packets: u64,
    /// By autonomous system, the loudest first.
    pub systems: Vec<SystemShare>,
    /// By country, the loudest first.
    pub countries: Vec<CountryShare>,
}

/// What one autonomous system has of them.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct SystemShare {
    /// Its number; 0: of addresses that no database knows.
    pub asn: u32,
    /// Who runs it.
    pub name: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What one country has of them.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct CountryShare {
    /// Its two letters; empty: of addresses that no database knows.
    pub country: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Remotes {
    /// Of each, at most.
    pub const SHOWN: usize = 10;

    /// The loudest in a few words: `AS64500 Example Net 43 %, AS64501 20 %; DE 60 %, FR 3 %`; empty
    /// when nothing is known.
    pub fn words(&self, most: usize) -> String {
        let share = |packets: u64| packets.saturating_mul(100) / self.packets.max(1);
        let systems = self.systems.iter().filter(|one| one.asn != 0).take(most).map(|one| {
            let SystemShare { asn, name, packets, .. } = one;
            let blank = if name.is_empty() { "" } else { " " };
            format!("AS{asn}{blank}{name} {} %", share(*packets))
        });
        let countries = self.countries.iter().filter(|one| !one.country.is_empty()).take(most);
        let countries = countries.map(|one| format!("{} {} %", one.country, share(one.packets)));
        let parts =
            [systems.collect::<Vec<_>>().join(", "), countries.collect::<Vec<_>>().join(", ")];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}
