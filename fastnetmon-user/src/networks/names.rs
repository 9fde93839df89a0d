//! Who is who at one moment, to be looked up on another thread.
//!
//! **Invariant**: a copy. It says whose a line was when it was made; a line that was freed rests
//! longer than anybody keeps such a copy.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use fastnetmon_common::table::BLOCK;

use crate::model::{HostId, Prefix};
use crate::networks::{Occupant, Plan, PrefixSet};

/// Whose line is whose.
#[derive(Clone, Debug, Default)]
pub struct Names {
    fixed: Arc<Fixed>,
    /// IPv6 residents, by slot.
    residents: Vec<(u32, u128)>,
}

/// What changes only when other networks are guarded.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    /// By block: the upper 24 bits of its addresses.
    blocks: Vec<Option<u32>>,
    strangers: BTreeMap<u32, Prefix>,
    ours: Vec<Prefix>,
}

impl Fixed {
    pub(super) fn of(plan: &Plan, ours: &PrefixSet) -> Self {
        let mut blocks = Vec::new();
        for (block, high) in plan.blocks() {
            let at = block as usize;
            if blocks.len() <= at {
                blocks.resize(at + 1, None);
            }
            if let Some(place) = blocks.get_mut(at) {
                *place = Some(high);
            }
        }
        Self { blocks, strangers: plan.strangers().collect(), ours: ours.iter().collect() }
    }
}

impl Names {
    pub(super) const fn new(fixed: Arc<Fixed>, residents: Vec<(u32, u128)>) -> Self {
        Self { fixed, residents }
    }

    /// Whom a line belongs to.
    pub fn occupant(&self, host: HostId) -> Option<Occupant> {
        let block = self.fixed.blocks.get((host.0 / BLOCK) as usize);
        if let Some(&Some(high)) = block {
            let address = Ipv4Addr::from((high << 8) | (host.0 % BLOCK));
            return Some(Occupant::Host(IpAddr::V4(address)));
        }
        if let Ok(at) = self.residents.binary_search_by_key(&host.0, |&(slot, _)| slot) {
            let &(_, address) = self.residents.get(at)?;
            return Some(Occupant::Host(IpAddr::V6(Ipv6Addr::from(address))));
        }
        self.fixed.strangers.get(&host.0).map(|&prefix| Occupant::Strangers(prefix))
    }

    /// Networks that are guarded, sorted, IPv4 first; none lies within another.
    pub fn networks(&self) -> &[Prefix] {
        &self.fixed.ours
    }

    /// The number of the network an address is in.
    pub fn network_of(&self, address: IpAddr) -> Option<usize> {
        let after = self.fixed.ours.partition_point(|prefix| prefix.address() <= address);
        let at = after.checked_sub(1)?;
        self.fixed.ours.get(at).filter(|prefix| prefix.contains(address)).map(|_| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(texts: &[&str]) -> (Plan, PrefixSet) {
        let prefixes = texts.iter().map(|text| Prefix::parse_masked(text).unwrap().0);
        let (ours, _) = PrefixSet::merged(prefixes);
        (Plan::new(&ours, 64).unwrap().0, ours)
    }

    #[test]
    fn a_copy_says_of_every_line_what_the_plan_says() {
        let (plan, ours) = plan(&["192.0.2.0/25", "10.1.0.0/22", "2001:db8::/32", "2001:db9::/48"]);
        let names = Names::new(Arc::new(Fixed::of(&plan, &ours)), vec![(plan.pool() + 3, 7)]);
        for slot in 0..plan.pool() {
            assert_eq!(names.occupant(HostId(slot)), plan.occupant(slot), "{slot}");
        }
        let lodger = Occupant::Host("::7".parse().unwrap());
        assert_eq!(names.occupant(HostId(plan.pool() + 3)), Some(lodger));
        assert_eq!(names.occupant(HostId(plan.pool() + 4)), None);
    }

    #[test]
    fn an_address_is_in_the_network_that_holds_it_or_in_none() {
        let (plan, ours) = plan(&["192.0.2.0/25", "10.1.0.0/22", "2001:db8::/32"]);
        let names = Names::new(Arc::new(Fixed::of(&plan, &ours)), Vec::new());
        for (address, expected) in [
            ("192.0.2.127", Some("192.0.2.0/25")),
            ("192.0.2.128", None),
            ("10.1.3.255", Some("10.1.0.0/22")),
            ("2001:db8::1", Some("2001:db8::/32")),
            ("9.9.9.9", None),
        ] {
            let found = names.network_of(address.parse().unwrap());
            let found = found.map(|at| names.networks()[at].to_string());
            assert_eq!(found.as_deref(), expected, "{address}");
        }
    }
}
