//! The plan in force: who is who, written into every directory.
//!
//! **Invariant**: the one writer of the directories. The kernel's and an engine's get the same
//! entries, the same residents and the same flags, in the same order.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use crate::model::HostId;
use crate::networks::{Moved, Occupant, Plan, PlanError, PrefixSet, Residents};
use crate::tables::{Directory, Entry, Flags, Shape};

/// Our networks, as the tables know them.
#[derive(Debug)]
pub struct Territory {
    ours: PrefixSet,
    plan: Plan,
    residents: Residents,
    directories: Vec<Directory>,
    flags: Vec<Flags>,
    armed: BTreeSet<IpAddr>,
    reading: u64,
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
        let mut territory =
            Self { ours, plan, residents, directories, flags, armed: BTreeSet::new(), reading: 0 };
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
        if let Some(moved) = self.residents.settle(address, prefix, self.reading, false) {
            self.move_in(&moved);
        }
    }

    /// A reading was taken, and these lines moved in it.
    pub fn read(&mut self, moved: impl Iterator<Item = HostId>) {
        self.reading += 1;
        self.residents.rest();
        for host in moved {
            self.residents.stir(host.0, self.reading);
        }
    }

    /// Has packets of this host copied: so many, both ways. It keeps its line until
    /// [`Territory::disarm`].
    pub fn arm(&mut self, host: HostId, address: IpAddr, packets: u32) {
        self.residents.pin(host.0, true);
        for flags in &self.flags {
            flags.arm(host, packets);
        }
        self.armed.insert(address);
        self.flag(address, true);
    }

    /// Ends it.
    pub fn disarm(&mut self, host: HostId, address: IpAddr) {
        if !self.armed.remove(&address) {
            return;
        }
        self.flag(address, false);
        for flags in &self.flags {
            flags.disarm(host);
        }
        // One entry leads to many hosts: those still armed need the bit.
        for &armed in &self.armed {
            self.flag(armed, true);
        }
    }

    /// Lets an IPv6 host's line be lent to others again.
    pub fn release(&mut self, host: HostId, address: IpAddr) {
        let named = matches!(address, IpAddr::V6(address)
            if self.plan.singles().any(|single| single == u128::from(address)));
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
            let moved = self.residents.dismiss(address);
            self.move_in(&moved);
        }
        self.settle_singles();
        for &armed in &self.armed {
            self.flag(armed, true);
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
        for address in singles {
            // A second try lets one that was in the way move first.
            for _ in 0..2 {
                if self.residents.slot(address).is_some() {
                    break;
                }
                if let Some(moved) = self.residents.settle(address, 0, self.reading, true) {
                    self.move_in(&moved);
                }
                self.residents.rest();
            }
            self.residents.settle(address, 0, self.reading, true);
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
