//! The plan in force: who is who, written into every directory.
//!
//! **Invariant**: the one writer of the directories. The kernel's and an engine's get the same
//! entries, the same residents and the same flags, in the same order.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{HostId, Moment, Prefix};
use crate::networks::names::Fixed;
use crate::networks::{Guarded, Moved, Names, Occupant, Plan, PlanError, PrefixSet, Residents};
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
    /// Hosts of whose traffic something may be dropped.
    gated: BTreeSet<IpAddr>,
    /// How many armed or gated hosts may share a directory entry.
    sharing: HashMap<Shared, u32>,
    /// IPv6 hosts that are listed one by one: they keep their lines whatever they do.
    named: BTreeSet<u128>,
    /// Of those, the ones that wait for a line: what others left has to rest first.
    waiting: BTreeSet<u128>,
    /// Who is who, but for the residents.
    fixed: Arc<Fixed>,
    now: Moment,
}

/// What a change of the networks did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// Prefixes that are guarded now and were not before.
    pub joined: Vec<Prefix>,
    /// Prefixes that were guarded before and are not now.
    pub left: Vec<Prefix>,
    /// Hosts that are in no network any more and stay guarded, because they are held.
    pub kept: Vec<IpAddr>,
    /// Entries of the directory that were written.
    pub entries: usize,
}

impl Applied {
    /// Did nothing change?
    pub const fn is_nothing(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty()
    }
}

/// Flagged hosts that may be led to by one entry: those of a /24, those of an IPv6 prefix.
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
        let fixed = Arc::new(Fixed::of(&plan, &ours));
        let mut territory = Self {
            fixed,
            ours,
            plan,
            residents,
            directories,
            flags,
            armed: BTreeSet::new(),
            gated: BTreeSet::new(),
            sharing: HashMap::new(),
            named: BTreeSet::new(),
            waiting: BTreeSet::new(),
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

    /// Who is who right now, for another thread.
    pub fn names(&self) -> Names {
        let residents =
            if self.residents.is_empty() { Vec::new() } else { self.residents.slots().collect() };
        Names::new(Arc::clone(&self.fixed), residents)
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

    /// The line of an IPv4 host, which it has for good.
    pub fn host4(&self, address: Ipv4Addr) -> Option<HostId> {
        self.plan.host4(address)
    }

    /// The line of a host of ours, if it has one; nobody is lent one for being looked at.
    pub fn line(&self, address: IpAddr) -> Option<HostId> {
        if !self.ours.contains(address) {
            return None;
        }
        match address {
            IpAddr::V4(address) => self.plan.host4(address),
            IpAddr::V6(address) => self.residents.slot(u128::from(address)).map(HostId),
        }
    }

    /// Is this address ours?
    pub fn guards(&self, address: IpAddr) -> bool {
        self.ours.contains(address)
    }

    /// The lines of a network of ours: of an IPv4 one those of its hosts, of an IPv6 one the line on
    /// which each of its hosts begins.
    pub fn lines_of(&self, network: Prefix) -> impl Iterator<Item = HostId> + '_ {
        let (hosts, prefix) = match network.address() {
            IpAddr::V4(first) => {
                let first = u32::from(first);
                let last = first | u32::MAX.checked_shr(network.len().into()).unwrap_or(0);
                (Some(first..=last), None)
            }
            IpAddr::V6(address) => {
                let own = self.plan.prefix_slot(address, &self.ours);
                (None, own.or_else(|| self.residents.slot(u128::from(address))))
            }
        };
        let hosts = hosts.into_iter().flatten();
        let hosts = hosts.filter_map(|address| self.plan.host4(Ipv4Addr::from(address)));
        hosts.chain(prefix.map(HostId))
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

    /// First of the lines that are lent to IPv6 hosts; the ones before it are somebody's for good.
    pub const fn lent_from(&self) -> u32 {
        self.plan.pool()
    }

    /// A reading was taken, and these lines moved in it; of those that are not lent nothing is kept.
    pub fn read(&mut self, now: Moment, moved: impl Iterator<Item = HostId>) {
        self.now = now;
        self.residents.rest(now);
        for host in moved {
            self.residents.stir(now, host.0);
        }
        if !self.waiting.is_empty() {
            self.settle_waiting();
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

    /// The line of a host a ban stands for: it keeps it until [`Territory::release`].
    pub fn hold(&mut self, address: IpAddr) -> Option<HostId> {
        let host = self.host(address)?;
        self.residents.pin(host.0, true);
        Some(host)
    }

    /// Has packets of this host copied: so many, both ways. It keeps its line until
    /// [`Territory::disarm`].
    pub fn arm(&mut self, host: HostId, address: IpAddr, packets: u32) {
        self.residents.pin(host.0, true);
        for flags in &self.flags {
            flags.arm(host, packets);
        }
        if self.armed.insert(address) && !self.gated.contains(&address) {
            self.share(address);
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
        if !self.gated.contains(&address) {
            self.unshare(address);
        }
    }

    /// Has the programs ask the gate about this host's packets. It keeps its line until
    /// [`Territory::release`]. What is dropped is the gate's business.
    pub fn gate(&mut self, host: HostId, address: IpAddr) {
        self.residents.pin(host.0, true);
        if self.gated.insert(address) && !self.armed.contains(&address) {
            self.share(address);
        }
        self.flag(address, true);
    }

    fn share(&mut self, address: IpAddr) {
        *self.sharing.entry(self.shared(address)).or_default() += 1;
    }

    fn unshare(&mut self, address: IpAddr) {
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

    /// Ends the gate's business with this host, and lets an IPv6 host's line be lent to others again.
    pub fn release(&mut self, host: HostId, address: IpAddr) {
        if self.gated.remove(&address) && !self.armed.contains(&address) {
            self.unshare(address);
        }
        let named = matches!(address, IpAddr::V6(address)
            if self.named.contains(&u128::from(address))
                || self.plan.singles().any(|single| single == u128::from(address)));
        self.residents.pin(host.0, named);
    }

    /// Guards these networks from now on, while packets flow. Who stays keeps its line and what was
    /// counted there. Hosts that are `held`, such as those a ban stands for, stay guarded even when
    /// no network holds them any more, each as a host named by itself; the next change that does not
    /// hold them lets them go.
    ///
    /// # Errors
    /// When there is no room; everything is then as it was.
    pub fn apply(
        &mut self,
        guarded: &Guarded,
        held: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Applied, PlanError> {
        let ours = &guarded.ours;
        let held: BTreeSet<IpAddr> = held.into_iter().collect();
        let is_homeless = |host: IpAddr| !ours.contains(host) && self.ours.contains(host);
        let kept: Vec<IpAddr> = held.iter().copied().filter(|&host| is_homeless(host)).collect();
        let ours = if kept.is_empty() {
            ours.clone()
        } else {
            PrefixSet::merged(ours.iter().chain(kept.iter().copied().map(Prefix::host))).0
        };
        let writes = self.plan.replace(&ours)?;
        let before = std::mem::replace(&mut self.ours, ours);
        let gone_from = |of: &PrefixSet, other: &PrefixSet| -> Vec<Prefix> {
            let theirs: BTreeSet<Prefix> = other.iter().collect();
            of.iter().filter(|prefix| !theirs.contains(prefix)).collect()
        };
        let applied = Applied {
            joined: gone_from(&self.ours, &before),
            left: gone_from(&before, &self.ours),
            kept,
            entries: writes.len(),
        };
        self.fixed = Arc::new(Fixed::of(&self.plan, &self.ours));
        self.write(&writes);
        self.change_residents(guarded, &held);
        self.sharing.clear();
        for &flagged in self.armed.union(&self.gated) {
            self.flag(flagged, true);
            *self.sharing.entry(self.shared(flagged)).or_default() += 1;
        }
        Ok(applied)
    }

    /// Takes back the lines of IPv6 hosts that are ours no more, and gives lines to those that are
    /// named now.
    fn change_residents(&mut self, guarded: &Guarded, held: &BTreeSet<IpAddr>) {
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
        let named: BTreeSet<u128> = guarded.named.iter().copied().map(u128::from).collect();
        let before = std::mem::replace(&mut self.named, named);
        let lasting: BTreeSet<u128> =
            self.named.iter().copied().chain(self.plan.singles()).collect();
        // Named no more, but within a network: a host like any other.
        for address in before.difference(&lasting) {
            let host = IpAddr::V6(Ipv6Addr::from(*address));
            let is_needed =
                self.armed.contains(&host) || self.gated.contains(&host) || held.contains(&host);
            if let Some(slot) = self.residents.slot(*address).filter(|_| !is_needed) {
                self.residents.pin(slot, false);
            }
        }
        self.waiting = lasting;
        self.settle_waiting();
    }

    /// Gives lines to hosts that are named one by one, as far as lines have rested.
    fn settle_waiting(&mut self) {
        for address in std::mem::take(&mut self.waiting) {
            let prefix = self.plan.prefix_slot(Ipv6Addr::from(address), &self.ours).unwrap_or(0);
            if let Some(moved) = self.residents.settle(address, prefix, self.now, true) {
                self.move_in(&moved);
            }
            if self.residents.slot(address).is_none() {
                self.waiting.insert(address);
            }
        }
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

    /// Says which limits apply in each IPv4 block; elsewhere the first ones do.
    pub fn limit(&self, profile_of: impl Fn(Prefix) -> u32) {
        for prefix in self.ours.iter() {
            let IpAddr::V4(first) = prefix.address() else { continue };
            let first = u32::from(first);
            let last = first | u32::MAX.checked_shr(u32::from(prefix.len())).unwrap_or(0);
            for block in (first >> 8)..=(last >> 8) {
                let address = IpAddr::V4(Ipv4Addr::from(block << 8));
                let profile = profile_of(Prefix::around(address, 24));
                // A block that longer prefixes cut has an entry for each address.
                let (from, to) = (first.max(block << 8), last.min((block << 8) | 255));
                let whole = to - from == 255;
                for address in if whole { from..=from } else { from..=to } {
                    for directory in &self.directories {
                        directory.profile4(address, profile);
                    }
                }
            }
        }
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
        let overflown = |state| moved.overflown.iter().filter(move |of| of.1 == state);
        for directory in &self.directories {
            for &(bucket, _) in overflown(true) {
                directory.overflown(bucket, true);
            }
            for &(address, cell, slot) in &moved.settled {
                directory.settle(cell, address, slot);
            }
            for &cell in &moved.vacated {
                directory.vacate(cell);
            }
            for &(bucket, _) in overflown(false) {
                directory.overflown(bucket, false);
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
        // Armed twice is armed once, and gated beside it is no other reason.
        territory.gate(lines[0], hosts[0].into());
        territory.arm(lines[0], hosts[0].into(), 9);
        territory.disarm(lines[0], hosts[0].into());
        assert!(flagged());
        territory.disarm(lines[1], hosts[1].into());
        assert!(flagged(), "gated still");
        territory.release(lines[0], hosts[0].into());
        assert!(!flagged());
        territory.gate(lines[1], hosts[1].into());
        territory.arm(lines[1], hosts[1].into(), 9);
        territory.release(lines[1], hosts[1].into());
        assert!(flagged(), "armed still");
        territory.disarm(lines[1], hosts[1].into());
        assert!(!flagged());
    }
    fn guarded(texts: &[&str]) -> Guarded {
        let prefixes: Vec<Prefix> =
            texts.iter().map(|text| Prefix::parse_masked(text).unwrap().0).collect();
        let named = prefixes
            .iter()
            .filter_map(|prefix| match prefix.address() {
                IpAddr::V6(address) if prefix.len() == 128 => Some(address),
                _ => None,
            })
            .collect();
        Guarded { ours: PrefixSet::merged(prefixes).0, named, ..Guarded::default() }
    }

    fn texts(prefixes: &[Prefix]) -> Vec<String> {
        prefixes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_change_tells_what_joined_and_left_and_keeps_the_lines_of_who_stays() {
        let (mut territory, _rows) = territory(&["192.0.2.0/24", "198.51.100.7"], 0);
        let stays: IpAddr = "192.0.2.9".parse().unwrap();
        let line = territory.host(stays).unwrap();
        let applied = territory.apply(&guarded(&["192.0.2.0/25", "203.0.113.0/24"]), []).unwrap();
        assert_eq!(texts(&applied.joined), ["192.0.2.0/25", "203.0.113.0/24"]);
        assert_eq!(texts(&applied.left), ["192.0.2.0/24", "198.51.100.7/32"]);
        assert!(applied.kept.is_empty());
        assert_eq!(territory.host(stays), Some(line));
        assert_eq!(territory.host("198.51.100.7".parse().unwrap()), None);
        let again = territory.apply(&guarded(&["203.0.113.0/24", "192.0.2.0/25"]), []).unwrap();
        assert!(again.is_nothing());
    }

    #[test]
    fn a_host_that_is_held_keeps_its_line_until_a_change_that_does_not_hold_it() {
        let (mut territory, _rows) = territory(&["192.0.2.0/24", "2001:db8:1::/48"], 8);
        for text in ["192.0.2.9", "2001:db8:1::9"] {
            let host: IpAddr = text.parse().unwrap();
            let neighbour: IpAddr = text.replace(":9", ":8").replace(".9", ".8").parse().unwrap();
            let line = territory.host(host).unwrap();
            territory.arm(line, host, 9);
            let elsewhere: IpAddr = "203.0.113.9".parse().unwrap();
            let next = guarded(&["198.51.100.0/24"]);
            let applied = territory.apply(&next, [host, host, elsewhere]).unwrap();
            assert_eq!(applied.kept, [host]);
            assert_eq!(territory.host(host), Some(line));
            assert!(!territory.guards(neighbour));
            // Its ban ends, nobody holds it.
            territory.disarm(line, host);
            territory.release(line, host);
            assert_eq!(territory.apply(&next, []).unwrap().kept, Vec::<IpAddr>::new());
            assert!(!territory.guards(host));
            territory.apply(&guarded(&["192.0.2.0/24", "2001:db8:1::/48"]), []).unwrap();
        }
    }

    #[test]
    fn named_hosts_come_and_go_and_what_they_leave_rests_before_it_is_lent() {
        let at = |secs: u64| Moment::after_boot(Duration::from_secs(secs));
        let (mut territory, _rows) = territory(&["2001:db8:1::7"], 8);
        let first: IpAddr = "2001:db8:1::7".parse().unwrap();
        let line = territory.host(first).unwrap();
        // All there is room for, and then all others.
        let some: Vec<String> =
            (0x100..0x141).map(|host| format!("2001:db8:1::{host:x}")).collect();
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        territory.apply(&guarded(&some), []).unwrap();
        let lines: BTreeSet<HostId> =
            some.iter().filter_map(|host| territory.host(host.parse().unwrap())).collect();
        assert_eq!(lines.len(), 64, "one has to wait");
        assert!(!lines.contains(&line), "a line that was left a moment ago is not lent");
        territory.read(at(10), std::iter::empty());
        assert_eq!(territory.residents().len(), 65);
        assert_eq!(territory.host(first), None);
    }

    #[test]
    fn one_that_is_named_no_more_may_have_to_make_room_unless_it_is_held() {
        let at = |secs: u64| Moment::after_boot(Duration::from_secs(secs));
        for (held, stays) in [(true, true), (false, false)] {
            let (mut territory, _rows) = territory(&["2001:db8:1::/48"], 1);
            let host: Ipv6Addr = "2001:db8:1::7".parse().unwrap();
            let prefix = guarded(&["2001:db8:1::/48"]);
            let named = Guarded { named: vec![host], ..prefix.clone() };
            territory.apply(&named, []).unwrap();
            let line = territory.host(host.into()).unwrap();
            territory.apply(&prefix, held.then_some(host.into())).unwrap();
            for second in 10..20 {
                territory.read(at(second), std::iter::empty());
                territory.meet((0x2001_0db8_0001_u128 << 80) + 1);
            }
            assert_eq!(territory.address(line) == Some(host.into()), stays);
        }
    }

    #[test]
    fn what_finds_no_room_changes_nothing() {
        let (mut territory, _rows) = territory(&["192.0.2.0/24"], 0);
        let line = territory.host("192.0.2.9".parse().unwrap());
        let error = territory.apply(&guarded(&["10.0.0.0/8"]), []).unwrap_err();
        assert!(error.to_string().contains("restart the agent"), "{error}");
        assert_eq!(territory.host("192.0.2.9".parse().unwrap()), line);
        assert!(!territory.guards("10.0.0.1".parse().unwrap()));
    }
}
