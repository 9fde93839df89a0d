//! Sets of prefixes.
//!
//! **Invariant**: a set is merged: sorted, without duplicates, and no prefix lies within another.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use prefix_trie::PrefixSet as Trie;

use crate::model::Prefix;

/// Prefixes, merged.
#[derive(Clone, Debug, Default)]
pub struct PrefixSet {
    members: Vec<Prefix>,
    v4: Trie<Ipv4Network>,
    v6: Trie<Ipv6Network>,
}

/// A prefix that was left out, and the one that made it needless.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Covered {
    /// What was left out.
    pub prefix: Prefix,
    /// What holds it already; the same prefix when it was given twice.
    pub by: Prefix,
}

impl PrefixSet {
    /// Merges prefixes. What another one covers is left out and told, in the order given.
    pub fn merged(prefixes: impl IntoIterator<Item = Prefix>) -> (Self, Vec<Covered>) {
        let mut given: Vec<(usize, Prefix)> = prefixes.into_iter().enumerate().collect();
        // The widest first, so that whatever covers a prefix is in the set before it.
        given.sort_by_key(|&(order, prefix)| (prefix.len(), order));
        let mut set = Self::default();
        let mut covered = Vec::new();
        for (order, prefix) in given {
            match set.covering(prefix) {
                Some(by) => covered.push((order, Covered { prefix, by })),
                None => set.insert(prefix),
            }
        }
        set.members.sort();
        covered.sort_by_key(|&(order, _)| order);
        (set, covered.into_iter().map(|(_, covered)| covered).collect())
    }

    fn insert(&mut self, prefix: Prefix) {
        let new = match prefix.network() {
            IpNetwork::V4(network) => self.v4.insert(network),
            IpNetwork::V6(network) => self.v6.insert(network),
        };
        if new {
            self.members.push(prefix);
        }
    }

    /// The member that holds the whole of `prefix`.
    pub fn covering(&self, prefix: Prefix) -> Option<Prefix> {
        match prefix.network() {
            IpNetwork::V4(network) => self.v4.get_spm(&network).map(|found| found.to_string()),
            IpNetwork::V6(network) => self.v6.get_spm(&network).map(|found| found.to_string()),
        }
        .and_then(|found| Prefix::parse_masked(&found).ok())
        .map(|(found, _)| found)
    }

    /// Does a member hold this address?
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Network::from(address)).is_some(),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Network::from(address)).is_some(),
        }
    }

    /// The members, sorted, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.members.iter().copied()
    }

    /// How many members there are.
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Is there none?
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::parse_masked(text).unwrap().0
    }

    #[test]
    fn overlaps_are_merged_and_told() {
        let given = ["10.1.0.0/16", "10.0.0.0/8", "192.0.2.0/24", "192.0.2.0/24", "2001:db8::/32"];
        let (set, covered) = PrefixSet::merged(given.map(prefix));
        let members: Vec<String> = set.iter().map(|member| member.to_string()).collect();
        assert_eq!(members, ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
        let told: Vec<String> =
            covered.iter().map(|c| format!("{} by {}", c.prefix, c.by)).collect();
        assert_eq!(told, ["10.1.0.0/16 by 10.0.0.0/8", "192.0.2.0/24 by 192.0.2.0/24"]);
    }

    #[test]
    fn an_address_is_found_within_a_member_and_nowhere_else() {
        let (set, _) = PrefixSet::merged(["10.0.0.0/30", "2001:db8::/126"].map(prefix));
        for (address, expected) in
            [("10.0.0.3", true), ("10.0.0.4", false), ("2001:db8::3", true), ("2001:db8::4", false)]
        {
            assert_eq!(set.contains(address.parse().unwrap()), expected, "{address}");
        }
    }
}
