//! Which group a host belongs to: by the longest prefix that holds it, in both families.
//!
//! Looking a prefix up takes some hundred nanoseconds, which is too long for a million hosts a
//! second. An IPv4 block of 256 lines is a /24, so [`Belonging`] asks once a block and remembers.
//!
//! **Invariant**: what is remembered is checked against the address it was found for. Whoever moves
//! into a line is never judged by what its predecessor belonged to.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use fastnetmon_common::table::BLOCK;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use prefix_trie::PrefixMap;

use crate::model::{HostId, Prefix};

/// A group's place among all; 0 is everybody who is in none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupId(pub u16);

impl GroupId {
    /// Everybody who is in no group.
    pub const NONE: Self = Self(0);
}

/// Prefixes and the groups they belong to.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    v4: PrefixMap<Ipv4Network, GroupId>,
    v6: PrefixMap<Ipv6Network, GroupId>,
}

impl Groups {
    /// Of these prefixes.
    pub fn new(prefixes: impl IntoIterator<Item = (Prefix, GroupId)>) -> Self {
        let mut groups = Self::default();
        for (prefix, group) in prefixes {
            match prefix.network() {
                IpNetwork::V4(network) => drop(groups.v4.insert(network, group)),
                IpNetwork::V6(network) => drop(groups.v6.insert(network, group)),
            }
        }
        groups
    }

    /// The prefixes of a group, sorted, IPv4 first.
    pub fn members(&self, group: GroupId) -> Vec<Prefix> {
        let v4 = self.v4.iter().map(|(prefix, of)| (Prefix::from(IpNetwork::V4(prefix)), *of));
        let v6 = self.v6.iter().map(|(prefix, of)| (Prefix::from(IpNetwork::V6(prefix)), *of));
        let mut members: Vec<Prefix> =
            v4.chain(v6).filter(|(_, of)| *of == group).map(|(prefix, _)| prefix).collect();
        members.sort();
        members
    }

    /// The group of an address.
    pub fn of(&self, address: IpAddr) -> GroupId {
        self.holding(Prefix::host(address))
    }

    /// The group that holds the whole of a prefix.
    pub fn holding(&self, prefix: Prefix) -> GroupId {
        let found = match prefix.network() {
            IpNetwork::V4(network) => self.v4.get_lpm(&network).map(|(_, group)| *group),
            IpNetwork::V6(network) => self.v6.get_lpm(&network).map(|(_, group)| *group),
        };
        found.unwrap_or_default()
    }

    /// The group of all of a prefix, or `None` when there are several in it.
    pub fn throughout(&self, prefix: Prefix) -> Option<GroupId> {
        match prefix.network() {
            IpNetwork::V4(network) => self.of_block(network),
            IpNetwork::V6(network) => {
                let longer = self.v6.children(&network).any(|(prefix, _)| prefix != network);
                if longer { None } else { Some(self.holding(prefix)) }
            }
        }
    }

    fn of_block(&self, network: Ipv4Network) -> Option<GroupId> {
        let longer = self.v4.children(&network).any(|(prefix, _)| prefix != network);
        if longer { None } else { Some(self.holding(IpNetwork::V4(network).into())) }
    }
}

/// Whose the lines of a block are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tenants {
    /// Hosts of one /24 (its upper 24 bits), all of one group.
    One(u32, GroupId),
    /// Hosts of one /24, of several groups.
    Several(u32),
    /// IPv6 hosts and what is no host's: to be asked one by one.
    Mixed,
}

/// What was looked up already.
#[derive(Debug, Default)]
pub struct Belonging {
    groups: Groups,
    /// By block.
    blocks: Vec<Option<(u32, Option<GroupId>)>>,
    /// IPv6 hosts, of which there are no more than there are lines for them.
    hosts: HashMap<HostId, (u128, GroupId)>,
}

impl Belonging {
    /// Of these groups.
    pub fn new(groups: Groups) -> Self {
        Self { groups, blocks: Vec::new(), hosts: HashMap::new() }
    }

    /// The groups.
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The tenants of the block in which `host` lives at `address`.
    pub fn tenants(&mut self, host: HostId, address: Option<IpAddr>) -> Tenants {
        let Some(IpAddr::V4(address)) = address else { return Tenants::Mixed };
        let high = u32::from(address) >> 8;
        let block = (host.0 / BLOCK) as usize;
        if self.blocks.len() <= block {
            self.blocks.resize(block + 1, None);
        }
        let Some(known) = self.blocks.get_mut(block) else { return Tenants::Several(high) };
        let group = match known {
            Some((for_high, group)) if *for_high == high => *group,
            _ => {
                let network = Ipv4Network::new(Ipv4Addr::from(high << 8), 24).ok();
                let group = network.and_then(|network| self.groups.of_block(network));
                *known = Some((high, group));
                group
            }
        };
        group.map_or(Tenants::Several(high), |group| Tenants::One(high, group))
    }

    /// The group of a host.
    pub fn of(&mut self, host: HostId, address: IpAddr) -> GroupId {
        let key = match address {
            IpAddr::V4(_) => match self.tenants(host, Some(address)) {
                Tenants::One(_, group) => return group,
                Tenants::Several(_) | Tenants::Mixed => return self.groups.of(address),
            },
            IpAddr::V6(address) => u128::from(address),
        };
        match self.hosts.get(&host) {
            Some(&(for_address, group)) if for_address == key => group,
            _ => {
                let group = self.groups.of(address);
                self.hosts.insert(host, (key, group));
                group
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(given: &[(&str, u16)]) -> Groups {
        Groups::new(
            given
                .iter()
                .map(|&(text, group)| (Prefix::parse_masked(text).unwrap().0, GroupId(group))),
        )
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_names_the_group_in_both_families() {
        let groups = groups(&[
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 2),
            ("10.1.2.128/25", 3),
            ("2001:db8::/32", 4),
            ("2001:db8:0:1::/64", 5),
        ]);
        for (address, group) in [
            ("10.9.9.9", 1),
            ("10.1.9.9", 2),
            ("10.1.2.127", 2),
            ("10.1.2.128", 3),
            ("11.0.0.1", 0),
            ("2001:db8::1", 4),
            ("2001:db8:0:1::1", 5),
            ("2001:db9::1", 0),
        ] {
            assert_eq!(groups.of(ip(address)), GroupId(group), "{address}");
        }
    }

    #[test]
    fn a_block_is_asked_once_and_one_of_several_groups_host_by_host() {
        let mut belonging = Belonging::new(groups(&[("10.1.0.0/16", 2), ("10.1.2.128/25", 3)]));
        let block = |byte: u32| HostId(256 + 256 * byte);
        let tenants = belonging.tenants(block(0), Some(ip("10.1.1.0")));
        assert_eq!(tenants, Tenants::One(0x000a_0101, GroupId(2)));
        let tenants = belonging.tenants(block(1), Some(ip("10.1.2.0")));
        assert_eq!(tenants, Tenants::Several(0x000a_0102));
        assert_eq!(belonging.of(block(1), ip("10.1.2.0")), GroupId(2));
        assert_eq!(belonging.of(block(1), ip("10.1.2.200")), GroupId(3));
        assert_eq!(belonging.tenants(block(2), None), Tenants::Mixed);
    }

    #[test]
    fn who_moves_into_a_line_is_not_taken_for_who_left_it() {
        let mut belonging = Belonging::new(groups(&[("2001:db8::/64", 1), ("10.0.0.0/24", 2)]));
        let host = HostId(9_000);
        assert_eq!(belonging.of(host, ip("2001:db8::1")), GroupId(1));
        assert_eq!(belonging.of(host, ip("2001:db8:1::1")), GroupId(0));
        assert_eq!(belonging.of(HostId(300), ip("10.0.0.44")), GroupId(2));
        assert_eq!(belonging.of(HostId(300), ip("10.0.1.44")), GroupId(0));
    }
}
