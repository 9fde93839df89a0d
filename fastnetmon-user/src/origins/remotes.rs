//! Packets grouped by the origin of their remote side.
//!
//! **Invariant**: pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{CountryShare, Remotes, Seen, SystemShare, Tally};
use crate::origins::{Atlas, Country, Origin};

impl Atlas {
    /// Groups the packets of this host.
    pub fn group(&self, packets: &[Seen], host: IpAddr) -> Remotes {
        let mut groups = Groups::default();
        for packet in packets {
            let remote = if packet.source == host { packet.target } else { packet.source };
            groups.add(self.find(remote), Tally { packets: 1, bytes: packet.bytes.into() });
        }
        groups.shown()
    }
}

/// Sums by origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    whole: Tally,
    systems: BTreeMap<u32, (Arc<str>, Tally)>,
    countries: BTreeMap<Option<Country>, Tally>,
}

impl Groups {
    /// Adds packets. There are a hundred thousand systems and 250 countries, whatever comes.
    pub(super) fn add(&mut self, origin: Origin, more: Tally) {
        let Origin { system, name, country } = origin;
        self.whole += more;
        // A database may name one system in many ways; the first is as good as any.
        self.systems.entry(system).or_insert_with(|| (name, Tally::default())).1 += more;
        *self.countries.entry(country).or_default() += more;
    }

    /// Adds another sum.
    pub(super) fn join(&mut self, other: &Self) {
        self.whole += other.whole;
        for (system, (name, tally)) in &other.systems {
            let new = || (Arc::clone(name), Tally::default());
            self.systems.entry(*system).or_insert_with(new).1 += *tally;
        }
        for (country, tally) in &other.countries {
            *self.countries.entry(*country).or_default() += *tally;
        }
    }

    /// The loudest.
    pub(super) fn shown(&self) -> Remotes {
        let mut systems: Vec<SystemShare> = self
            .systems
            .iter()
            .map(|(&asn, (name, Tally { packets, bytes }))| {
                let name = name.to_string();
                SystemShare { asn, name, packets: *packets, bytes: *bytes }
            })
            .collect();
        systems.sort_by_key(|one| Reverse((one.packets, one.bytes)));
        systems.truncate(Remotes::SHOWN);
        let mut countries: Vec<CountryShare> = self
            .countries
            .iter()
            .map(|(country, Tally { packets, bytes })| {
                let country = country.map(|country| country.to_string()).unwrap_or_default();
                CountryShare { country, packets: *packets, bytes: *bytes }
            })
            .collect();
        countries.sort_by_key(|one| Reverse((one.packets, one.bytes)));
        countries.truncate(Remotes::SHOWN);
        Remotes { packets: self.whole.packets, systems, countries }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::origins::Database;
    use crate::origins::database::{Make, geolite, ipinfo};

    fn seen(source: [u8; 4], target: [u8; 4]) -> Seen {
        Seen { bytes: 100, ..Seen::of(source, target) }
    }

    #[test]
    fn the_remote_side_is_grouped_whichever_way_a_packet_goes() {
        let file = Make::default().file(&[
            ("203.0.113.0/24", ipinfo("AS64500", "Example Net", "DE", "Germany")),
            ("198.51.100.0/24", geolite(64_501, "")),
        ]);
        let atlas = Atlas::new(vec![Arc::new(Database::of(Path::new("x"), file).unwrap())]);
        let host = [192, 0, 2, 7];
        let packets = [
            seen([203, 0, 113, 1], host),
            seen(host, [203, 0, 113, 2]),
            seen([198, 51, 100, 1], host),
            seen([10, 0, 0, 1], host),
            seen([203, 0, 113, 1], host),
        ];
        let remotes = atlas.group(&packets, host.into());
        let systems: Vec<(u32, u64, u64)> =
            remotes.systems.iter().map(|one| (one.asn, one.packets, one.bytes)).collect();
        assert_eq!(systems, [(64_500, 3, 300), (0, 1, 100), (64_501, 1, 100)]);
        let countries: Vec<(&str, u64)> =
            remotes.countries.iter().map(|one| (one.country.as_str(), one.packets)).collect();
        assert_eq!(countries, [("DE", 3), ("", 2)]);
        assert_eq!(remotes.words(9), "AS64500 Example Net 60 %, AS64501 20 %; DE 60 %");
        assert_eq!(remotes.words(1), "AS64500 Example Net 60 %; DE 60 %");
        assert_eq!(Remotes::default().words(9), "");
    }
}
