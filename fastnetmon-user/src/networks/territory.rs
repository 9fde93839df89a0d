//! The plan in force: who is who, written into every directory.
//!
//! **Invariant**: the one writer of the directories. The kernel's and an engine's get the same
//! entries, the same residents and the same flags, in the same order.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::model::{HostId, Moment};
use crate::networks::{Moved, Occupant, Plan, PlanError, PrefixSet, Residents};
use crate::tables::{Directory, Entry, Flags, Shape};

/// Longer than a cell rests.
const REST: Duration = Duration::from_secs(10);

/// Our networks, as the tables know them.
#[derive(Debug)]
pub struct Territory {
    ours: PrefixSet,
    plan: Plan,
    residents: Residents,
    directories: Vec<Directory>,
    flags: Vec<Flags>,
    armed: BTreeSet<IpAddr>,
    /// How many armed hosts may share a directory entry.
    sharing: HashMap<Shared, u32>,
    /// IPv6 hosts that are listed one by one: they keep their lines whatever they do.
    named: BTreeSet<u128>,
    now: Moment,
}

/// Armed hosts that may be led to by one entry: those of a /24, those of an IPv6 prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Shared {
    Block(u32),
    Prefix(u32),
}

impl Territory {
    /// Writes `writes`, the entries of `plan`, into every directory.
    pub fn new(
        ours: PrefixSet,
        plan: Plan,
        writes: &[(Entry, u32)],
        shape: Shape,
        directories: Vec<Directory>,
        flags: Vec<Flags>,
    ) -> Self {
        let room = plan.capacity().residents;
        // One prefix may have all but an eighth, so that the others find room whatever is sprayed.
        let share = if plan.prefixes() > 1 { room - room / 8 } else { room };
        let residents = Residents::new(plan.pool(), room, share, shape.buckets, shape.seed);
        let mut territory = Self {
            ours,
            plan,
            residents,
            directories,
            flags,
            armed: BTreeSet::new(),
            sharing: HashMap::new(),
            named: BTreeSet::new(),
            now: Moment::default(),
        };
        territory.write(writes);
        territory.settle_singles();
        territory
    }

    /// Whom a line belongs to.
    pub fn occupant(&self, host: HostId) -> Option<Occupant> {
        if host.0 >= self.plan.pool() {
            let address = self.residents.address(host.0)?;
            return Some(Occupant::Host(IpAddr::V6(Ipv6Addr::from(address))));
        }
        self.plan.occupant(host.0)
    }

    /// Whose line this is, when it is one host's.
    pub fn address(&self, host: HostId) -> Option<IpAddr> {
        match self.occupant(host)? {
            Occupant::Host(address) => Some(address),
            Occupant::Strangers(_) => None,
        }
    }

    /// The line of a host of ours. An IPv6 host that has none gets one, if there is any to lend.
    pub fn host(&mut self, address: IpAddr) -> Option<HostId> {
        if !self.ours.contains(address) {
            return None;
        }
        match address {
            IpAddr::V4(address) => self.plan.host4(address),
            IpAddr::V6(address) => {
                self.meet(u128::from(address));
                self.residents.slot(u128::from(address)).map(HostId)
            }
        }
    }

    /// Is this address ours?
    pub fn guards(&self, address: IpAddr) -> bool {
        self.ours.contains(address)
    }

    /// An IPv6 host without a line was seen.
    pub fn meet(&mut self, address: u128) {
        let host = Ipv6Addr::from(address);
        let Some(prefix) = self.plan.prefix_slot(host, &self.ours) else { return };
        if let Some(moved) =
            self.residents.settle(address, prefix, self.now, self.named.contains(&address))
        {
            self.move_in(&moved);
        }
    }

    /// A reading was taken, and these lines moved in it.
    pub fn read(&mut self, now: Moment, moved: impl Iterator<Item = HostId>) {
        self.now = now;
        self.residents.rest(now);
        for host in moved {
            self.residents.stir(now, host.0);
        }
    }

    /// These IPv6 hosts are listed one by one, maybe within a prefix that is listed as well: they
    /// get lines of their own now and keep them.
    pub fn name(&mut self, hosts: impl IntoIterator<Item = Ipv6Addr>) {
        self.named.extend(hosts.into_iter().map(u128::from));
        for address in self.named.clone() {
            self.meet(address);
        }
    }

    /// Has packets of this host copied: so many, both ways. It keeps its line until
    /// [`Territory::disarm`].
    pub fn arm(&mut self, host: HostId, address: IpAddr, packets: u32) {
        self.residents.pin(host.0, true);
        for flags in &self.flags {
            flags.arm(host, packets);
        }
        if self.armed.insert(address) {
            *self.sharing.entry(self.shared(address)).or_default() += 1;
        }
        self.flag(address, true);
    }

    /// Ends it.
    pub fn disarm(&mut self, host: HostId, address: IpAddr) {
        if !self.armed.remove(&address) {
            return;
        }
        for flags in &self.flags {
            flags.disarm(host);
        }
        // One entry leads to many hosts: while one of them is armed, the bit stays.
        let shared = self.shared(address);
        let left = self.sharing.get(&shared).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            self.sharing.remove(&shared);
            self.flag(address, false);
        } else {
            self.sharing.insert(shared, left);
        }
    }

    fn shared(&self, address: IpAddr) -> Shared {
        match address {
            IpAddr::V4(address) => Shared::Block(u32::from(address) >> 8),
            IpAddr::V6(address) => {
                Shared::Prefix(self.plan.prefix_slot(address, &self.ours).unwrap_or(0))
            }
        }
    }

    /// Lets an IPv6 host's line be lent to others again.
    pub fn release(&mut self, host: HostId, address: IpAddr) {
        let named = matches!(address, IpAddr::V6(address)
            if self.named.contains(&u128::from(address))
                || self.plan.singles().any(|single| single == u128::from(address)));
        self.residents.pin(host.0, named);
    }

    /// Guards these networks from now on. Returns how many entries were written.
    ///
    /// # Errors
    /// When there is no room; everything is then as it was.
    pub fn replace(&mut self, ours: PrefixSet) -> Result<usize, PlanError> {
        let writes = self.plan.replace(&ours)?;
        self.ours = ours;
        self.write(&writes);
        let strangers: Vec<u128> = self
            .residents
            .iter()
            .map(|(address, _)| address)
            .filter(|&address| !self.ours.contains(IpAddr::V6(Ipv6Addr::from(address))))
            .collect();
        for address in strangers {
            let moved = self.residents.dismiss(self.now, address);
            self.move_in(&moved);
        }
        self.settle_singles();
        self.sharing.clear();
        for &armed in &self.armed {
            self.flag(armed, true);
            *self.sharing.entry(self.shared(armed)).or_default() += 1;
        }
        Ok(writes.len())
    }

    /// Networks that are guarded.
    pub const fn ours(&self) -> &PrefixSet {
        &self.ours
    }

    /// IPv6 hosts with lines of their own.
    pub const fn residents(&self) -> &Residents {
        &self.residents
    }

    /// IPv6 hosts that may have lines of their own.
    pub const fn room(&self) -> u32 {
        self.plan.capacity().residents
    }

    fn settle_singles(&mut self) {
        let singles: Vec<u128> = self.plan.singles().collect();
        // The first round may have to move one that is in the way; what it leaves must rest before
        // the second. Nobody else takes a cell meanwhile, so the moment may be made up.
        for round in 0..3 {
            let now = self.now + REST * round;
            self.residents.rest(now);
            for &address in &singles {
                if let Some(moved) = self.residents.settle(address, 0, now, true) {
                    self.move_in(&moved);
                }
            }
        }
    }

    fn move_in(&self, moved: &Moved) {
        for directory in &self.directories {
            for &(address, cell, slot) in &moved.settled {
                directory.settle(cell, address, slot);
            }
            for &cell in &moved.vacated {
                directory.vacate(cell);
            }
        }
    }

    fn write(&self, writes: &[(Entry, u32)]) {
        for directory in &self.directories {
            for &(at, entry) in writes {
                directory.write(at, entry);
            }
        }
    }

    fn flag(&self, address: IpAddr, flagged: bool) {
        for directory in &self.directories {
            match address {
                IpAddr::V4(address) => directory.flag4(u32::from(address), flagged),
                IpAddr::V6(address) => directory.flag6(u128::from(address), flagged),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use fastnetmon_common::directory::{FLAGGED, find4};

    use super::*;
    use crate::model::Prefix;
    use crate::tables::{Row, own};

    fn territory(texts: &[&str], residents: u32) -> (Territory, Vec<Row>) {
        let ours = texts.iter().map(|text| Prefix::parse_masked(text).unwrap().0);
        let ours = PrefixSet::merged(ours).0;
        let (plan, writes) = Plan::new(&ours, residents).unwrap();
        let shape = plan.shape(NonZeroU32::MIN, 7);
        let (parts, rows) = own(shape).unwrap();
        let (directories, flags) = (vec![parts.directory], vec![parts.flags]);
        (Territory::new(ours, plan, &writes, shape, directories, flags), rows)
    }

    #[test]
    fn a_host_that_is_listed_keeps_its_line_within_a_listed_prefix_too() {
        let (mut territory, _rows) = territory(&["2001:db8:1::/48"], 2);
        let named: Ipv6Addr = "2001:db8:1::7".parse().unwrap();
        territory.name([named]);
        let line = territory.host(named.into()).unwrap();
        for second in 0..100_u64 {
            territory.read(Moment::after_boot(Duration::from_secs(second)), std::iter::empty());
            territory.meet((0x2001_0db8_0001_u128 << 80) + 1000 + u128::from(second));
        }
        assert_eq!(territory.address(line), Some(named.into()));
        territory.arm(line, named.into(), 1);
        territory.disarm(line, named.into());
        territory.release(line, named.into());
        territory.read(Moment::after_boot(Duration::from_secs(999)), std::iter::empty());
        territory.meet((0x2001_0db8_0001_u128 << 80) + 1);
        assert_eq!(territory.address(line), Some(named.into()));
    }

    #[test]
    fn the_bit_of_an_entry_stays_while_one_of_its_hosts_is_armed() {
        let (mut territory, rows) = territory(&["192.0.2.0/24"], 0);
        let hosts: [Ipv4Addr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let lines = hosts.map(|host| territory.host(host.into()).unwrap());
        let flagged = || find4(&&rows[0], u32::from(hosts[0])).entry & FLAGGED != 0;
        for (line, host) in lines.into_iter().zip(hosts) {
            territory.arm(line, host.into(), 9);
        }
        // Armed twice is armed once.
        territory.arm(lines[0], hosts[0].into(), 9);
        territory.disarm(lines[0], hosts[0].into());
        assert!(flagged());
        territory.disarm(lines[1], hosts[1].into());
        assert!(!flagged());
    }
}
