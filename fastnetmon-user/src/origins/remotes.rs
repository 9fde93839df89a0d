//! Packets grouped by the origin of their remote side.
//!
//! **Invariant**: pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::AddAssign;
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
        let Loudest { whole, systems, countries } =
            groups.loudest(|Tally { packets, bytes }| (packets, bytes));
        let system = |(asn, name, Tally { packets, bytes }): (u32, Arc<str>, Tally)| SystemShare {
            asn,
            name: name.to_string(),
            packets,
            bytes,
        };
        let country =
            |(country, Tally { packets, bytes })| CountryShare { country, packets, bytes };
        Remotes {
            packets: whole.packets,
            systems: systems.into_iter().map(system).collect(),
            countries: countries.into_iter().map(country).collect(),
        }
    }
}

/// Sums by origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups<T> {
    whole: T,
    systems: BTreeMap<u32, (Arc<str>, T)>,
    countries: BTreeMap<Option<Country>, T>,
}

/// The greatest of them, in falling order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loudest<T> {
    /// All together, those included that are not here.
    pub whole: T,
    /// Ten autonomous systems at most: number (0: not known), who runs it, and its sum.
    pub systems: Vec<(u32, Arc<str>, T)>,
    /// Ten countries at most, by two letters; none: not known.
    pub countries: Vec<(String, T)>,
}

impl<T: Copy + Default + AddAssign> Groups<T> {
    /// Adds to an origin. There are a hundred thousand systems and 250 countries, whatever comes.
    pub(super) fn add(&mut self, origin: Origin, more: T) {
        let Origin { system, name, country } = origin;
        self.whole += more;
        // A database may name one system in many ways; the first is as good as any.
        self.systems.entry(system).or_insert_with(|| (name, T::default())).1 += more;
        *self.countries.entry(country).or_default() += more;
    }

    /// Adds other sums, each as what is made `of` it.
    pub(super) fn join<U: Copy>(&mut self, other: &Groups<U>, of: impl Fn(U) -> T) {
        self.whole += of(other.whole);
        for (system, (name, sum)) in &other.systems {
            let new = || (Arc::clone(name), T::default());
            self.systems.entry(*system).or_insert_with(new).1 += of(*sum);
        }
        for (country, sum) in &other.countries {
            *self.countries.entry(*country).or_default() += of(*sum);
        }
    }

    /// The greatest by this.
    pub(super) fn loudest<K: Ord>(&self, key: impl Fn(T) -> K) -> Loudest<T> {
        let systems = self.systems.iter();
        let mut systems: Vec<_> =
            systems.map(|(&asn, (name, sum))| (asn, Arc::clone(name), *sum)).collect();
        systems.sort_by_key(|&(.., sum)| Reverse(key(sum)));
        systems.truncate(Remotes::SHOWN);
        let letters = |country: &Option<Country>| country.map(|country| country.to_string());
        let countries = self.countries.iter();
        let mut countries: Vec<_> =
            countries.map(|(country, sum)| (letters(country).unwrap_or_default(), *sum)).collect();
        countries.sort_by_key(|&(_, sum)| Reverse(key(sum)));
        countries.truncate(Remotes::SHOWN);
        Loudest { whole: self.whole, systems, countries }
    }
}

impl<T> Loudest<T> {
    /// The same with what is made `of` each sum.
    pub(super) fn map<U>(self, of: impl Fn(T) -> U) -> Loudest<U> {
        let systems = self.systems.into_iter();
        let countries = self.countries.into_iter();
        Loudest {
            whole: of(self.whole),
            systems: systems.map(|(asn, name, sum)| (asn, name, of(sum))).collect(),
            countries: countries.map(|(country, sum)| (country, of(sum))).collect(),
        }
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
