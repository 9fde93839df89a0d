//! Prefixes become blocks, slots and directory entries.
//!
//! | slots | hold |
//! |---|---|
//! | block 0 | the house's own lines |
//! | the next blocks | one line for each IPv6 prefix: what its strangers count on |
//! | then | one block of 256 for each IPv4 /24 in use |
//! | the last | the pool of IPv6 residents |
//!
//! A block that survives a change keeps its number, so no counter moves. What was freed rests
//! until the next change.
//!
//! **Invariant**: the plan never touches memory. It says which entries to write, elements before
//! the entries that lead to them, so that a reader meets an old tree or a new one, never half.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use fastnetmon_common::directory::{HASHED, INDEX, NODE};
use fastnetmon_common::table::BLOCK;

use crate::model::{HostId, Prefix};
use crate::networks::PrefixSet;
use crate::tables::{Entry, Shape};

/// How much room there is for change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// IPv4 blocks.
    pub blocks: u32,
    /// IPv6 prefixes.
    pub prefixes: u32,
    /// Elements of the directory.
    pub elements: u32,
    /// IPv6 residents.
    pub residents: u32,
}

/// Why prefixes cannot be laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No room left for what is asked.
    #[error(
        "the tables have room for {room} {what} and {wanted} are needed: restart the agent, it \
         makes room at start"
    )]
    Full {
        /// What there is not enough of.
        what: &'static str,
        /// How many there may be.
        room: u32,
        /// How many are needed.
        wanted: usize,
    },
    /// More than a directory entry can name.
    #[error("{wanted} {what} are needed and {room} can be told apart: guard fewer networks")]
    Beyond {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        room: u32,
        /// How many are needed.
        wanted: usize,
    },
}

/// Whom a slot belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Occupant {
    /// A host.
    Host(IpAddr),
    /// The strangers of an IPv6 prefix.
    Strangers(Prefix),
}

/// The layout in force.
#[derive(Debug)]
pub struct Plan {
    capacity: Capacity,
    /// Block of each /24 in use, by the upper 24 bits.
    blocks: Numbers<u32>,
    /// Slot of each IPv6 prefix.
    prefixes: Numbers<Prefix>,
    elements: Elements,
    /// Root entries that are not zero.
    roots: BTreeMap<Entry, u32>,
    /// IPv6 hosts named one by one: they are residents for good.
    singles: BTreeSet<u128>,
}

impl Plan {
    /// Lays prefixes out, with room for `residents` IPv6 hosts and some change.
    ///
    /// # Errors
    /// When they are more than the directory can name.
    pub fn new(
        prefixes: &PrefixSet,
        residents: u32,
    ) -> Result<(Self, Vec<(Entry, u32)>), PlanError> {
        let unbounded =
            Capacity { blocks: INDEX, prefixes: INDEX - BLOCK, elements: INDEX, residents: INDEX };
        // Laid out once without bounds to see what is needed, then for good.
        let mut trial = Self::empty(unbounded);
        trial.replace(prefixes).map_err(|error| match error {
            PlanError::Full { what, room, wanted } => PlanError::Beyond { what, room, wanted },
            beyond @ PlanError::Beyond { .. } => beyond,
        })?;
        let spare = |used: usize, part: u32, least: u32, most: u32| {
            let used = u32::try_from(used).unwrap_or(u32::MAX);
            used.saturating_add((used / part).max(least)).min(most)
        };
        let has_ipv6 = !trial.prefixes.is_empty();
        let singles = u32::try_from(trial.singles.len()).unwrap_or(u32::MAX);
        let mut plan = Self::empty(Capacity {
            blocks: // Memory that is charged, used or not: 32 KB a CPU for each.
                spare(trial.blocks.len(), 8, 32, unbounded.blocks),
            prefixes: spare(trial.prefixes.len(), 4, BLOCK, unbounded.prefixes)
                .next_multiple_of(BLOCK),
            // A changed element is written anew beside the old one.
            elements: spare(trial.elements.len() * 2, 4, 64, unbounded.elements),
            residents: if has_ipv6 {
                residents.saturating_add(singles)
            } else {
                // Containers come one by one, and a node may begin without any.
                singles.saturating_add((singles / 4).max(64))
            },
        });
        let changes = plan.replace(prefixes)?;
        Ok((plan, changes))
    }

    const fn empty(capacity: Capacity) -> Self {
        Self {
            capacity,
            blocks: Numbers::new("IPv4 blocks", 0),
            prefixes: Numbers::new("IPv6 prefixes", BLOCK),
            elements: Elements {
                numbers: Numbers::new("directory elements", 1),
                live: BTreeMap::new(),
            },
            roots: BTreeMap::new(),
            singles: BTreeSet::new(),
        }
    }

    /// The tables this plan needs.
    pub fn shape(&self, writers: NonZeroU32, seed: u64) -> Shape {
        let Capacity { elements, residents, .. } = self.capacity;
        // Three keys a bucket, at most half of them in use.
        let buckets = residents.saturating_mul(2).div_ceil(3).max(1);
        let slots = self.pool().saturating_add(residents);
        Shape { writers, slots, elements: elements + 1, buckets, seed }
    }

    /// The lines of all who are guarded now, in both directions, are more than the cache a CPU has for
    /// itself: 4,096 hosts, 512 KB. IPv6 hosts come and go, and count with all the room they have.
    pub fn outgrows_a_cache(&self) -> bool {
        let blocks = u32::try_from(self.blocks().count()).unwrap_or(u32::MAX);
        let residents = if self.prefixes.is_empty() { 0 } else { self.capacity.residents };
        blocks.saturating_mul(BLOCK).saturating_add(residents) > 4096
    }

    /// First slot of the IPv6 residents.
    pub const fn pool(&self) -> u32 {
        self.first_block() * BLOCK + self.capacity.blocks * BLOCK
    }

    /// How much room there is.
    pub const fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// How many IPv6 prefixes have a line for their strangers.
    pub fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// IPv6 hosts that are named one by one.
    pub fn singles(&self) -> impl Iterator<Item = u128> + '_ {
        self.singles.iter().copied()
    }

    /// The blocks in use, with the upper 24 bits of their addresses.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let first = self.first_block();
        self.blocks.holders.iter().map(move |(&block, &high)| (block + first, high))
    }

    /// The lines of IPv6 prefixes.
    pub(super) fn strangers(&self) -> impl Iterator<Item = (u32, Prefix)> + '_ {
        self.prefixes.holders.iter().map(|(&slot, &prefix)| (slot, prefix))
    }

    const fn first_block(&self) -> u32 {
        1 + self.capacity.prefixes / BLOCK
    }

    /// Whom a slot outside the pool belongs to.
    pub fn occupant(&self, slot: u32) -> Option<Occupant> {
        let block = slot / BLOCK;
        if block < self.first_block() {
            return self.prefixes.holder(slot).map(|&prefix| Occupant::Strangers(prefix));
        }
        let high = self.blocks.holder(block - self.first_block())?;
        let address = Ipv4Addr::from((high << 8) | (slot % BLOCK));
        Some(Occupant::Host(IpAddr::V4(address)))
    }

    /// The slot of an IPv4 host, if its /24 is in use.
    pub fn host4(&self, address: Ipv4Addr) -> Option<HostId> {
        let address = u32::from(address);
        let block = self.blocks.number(&(address >> 8))? + self.first_block();
        Some(HostId(block * BLOCK + (address & 255)))
    }

    /// The slot on which an IPv6 prefix's strangers count.
    pub fn prefix_slot(&self, address: Ipv6Addr, ours: &PrefixSet) -> Option<u32> {
        let prefix = ours.covering(Prefix::host(IpAddr::V6(address)))?;
        self.prefixes.number(&prefix)
    }

    /// Changes the layout to these prefixes. Returns the entries to write, in order.
    ///
    /// # Errors
    /// When there is no room. The plan is then as it was.
    pub fn replace(&mut self, prefixes: &PrefixSet) -> Result<Vec<(Entry, u32)>, PlanError> {
        let (v4, v6) = ranges(prefixes);
        let mut blocks = self.blocks.clone();
        blocks.keep(
            v4.iter().flat_map(|&(first, last)| (first >> 8)..=(last >> 8)),
            self.capacity.blocks,
        )?;
        let (singles, wide): (Vec<Range6>, Vec<Range6>) =
            v6.iter().copied().partition(|range| range.prefix.len() == 128);
        if singles.len() > self.capacity.residents as usize {
            return Err(PlanError::Full {
                what: "IPv6 hosts named one by one",
                room: self.capacity.residents,
                wanted: singles.len(),
            });
        }
        let mut own = self.prefixes.clone();
        own.keep(wide.iter().map(|range| range.prefix), self.capacity.prefixes)?;

        let mut builder = Builder {
            elements: self.elements.clone(),
            room: self.capacity.elements,
            writes: Vec::new(),
            kept: BTreeSet::new(),
        };
        builder.elements.numbers.release_resting();
        let mut roots = BTreeMap::new();
        let first_block = self.first_block();
        let block_of = |high: u32| blocks.number(&high).map_or(0, |block| block + first_block);
        builder.build4(&v4, &block_of, &mut roots)?;
        builder.build6(&v6, &|prefix| own.number(&prefix).unwrap_or(0), &mut roots)?;
        let Builder { mut elements, mut writes, kept, .. } = builder;
        elements.forget_all_but(&kept);

        // Old roots that are gone, new and changed ones, after all elements.
        for &root in self.roots.keys() {
            if !roots.contains_key(&root) {
                writes.push((root, 0));
            }
        }
        for (&root, &entry) in &roots {
            if self.roots.get(&root) != Some(&entry) {
                writes.push((root, entry));
            }
        }
        self.blocks = blocks;
        self.prefixes = own;
        self.elements = elements;
        self.roots = roots;
        self.singles = singles.iter().map(|range| range.first).collect();
        Ok(writes)
    }
}

#[derive(Clone, Copy, Debug)]
struct Range6 {
    prefix: Prefix,
    first: u128,
    last: u128,
}

/// First and last address of every prefix.
fn ranges(prefixes: &PrefixSet) -> (Vec<(u32, u32)>, Vec<Range6>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for prefix in prefixes.iter() {
        match prefix.address() {
            IpAddr::V4(address) => {
                let first = u32::from(address);
                let hosts = u32::MAX.checked_shr(u32::from(prefix.len())).unwrap_or(0);
                v4.push((first, first | hosts));
            }
            IpAddr::V6(address) => {
                let first = u128::from(address);
                let hosts = u128::MAX.checked_shr(u32::from(prefix.len())).unwrap_or(0);
                v6.push(Range6 { prefix, first, last: first | hosts });
            }
        }
    }
    (v4, v6)
}

/// Numbers given to keys: kept while the key stays, rested before they are given again.
#[derive(Clone, Debug)]
struct Numbers<K> {
    what: &'static str,
    first: u32,
    given: BTreeMap<K, u32>,
    holders: BTreeMap<u32, K>,
    free: BTreeSet<u32>,
    resting: Vec<u32>,
}

impl<K: Ord + Clone> Numbers<K> {
    const fn new(what: &'static str, first: u32) -> Self {
        Self {
            what,
            first,
            given: BTreeMap::new(),
            holders: BTreeMap::new(),
            free: BTreeSet::new(),
            resting: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.given.len()
    }

    fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    fn number(&self, key: &K) -> Option<u32> {
        self.given.get(key).copied()
    }

    fn holder(&self, number: u32) -> Option<&K> {
        self.holders.get(&number)
    }

    fn release_resting(&mut self) {
        self.free.extend(self.resting.drain(..));
    }

    fn give(&mut self, key: K, room: u32) -> Result<u32, PlanError> {
        let number = match self.free.pop_first() {
            Some(number) => number,
            // Every number below is given, free or resting.
            None => self.first + self.known(),
        };
        if number - self.first >= room {
            let wanted = self.given.len() + 1;
            return Err(PlanError::Full { what: self.what, room, wanted });
        }
        self.given.insert(key.clone(), number);
        self.holders.insert(number, key);
        Ok(number)
    }

    fn known(&self) -> u32 {
        let known = self.given.len() + self.free.len() + self.resting.len();
        u32::try_from(known).unwrap_or(u32::MAX)
    }

    fn take(&mut self, key: &K) {
        if let Some(number) = self.given.remove(key) {
            self.holders.remove(&number);
            self.resting.push(number);
        }
    }

    /// Gives every one of `keys` a number and takes all others back.
    fn keep(&mut self, keys: impl Iterator<Item = K>, room: u32) -> Result<(), PlanError> {
        self.release_resting();
        let wanted: BTreeSet<K> = keys.collect();
        let gone: Vec<K> = self.given.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in &gone {
            self.take(key);
        }
        for key in wanted {
            if !self.given.contains_key(&key) {
                self.give(key, room)?;
            }
        }
        Ok(())
    }
}

/// The way to an element: its root and the bytes behind it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Path(Entry, Vec<u8>);

type Content = Box<[u32; 256]>;

/// Elements by where they stand. One that changes is written anew under another number.
#[derive(Clone, Debug)]
struct Elements {
    numbers: Numbers<(Path, u32)>,
    /// Number and content of the element now in force at a path.
    live: BTreeMap<Path, (u32, u32, Content)>,
}

impl Elements {
    fn len(&self) -> usize {
        self.live.len()
    }

    fn forget_all_but(&mut self, kept: &BTreeSet<Path>) {
        let gone: Vec<(Path, u32)> = self
            .live
            .iter()
            .filter(|(path, _)| !kept.contains(path))
            .map(|(path, (version, _, _))| (path.clone(), *version))
            .collect();
        for key in gone {
            self.live.remove(&key.0);
            self.numbers.take(&key);
        }
    }
}

struct Builder {
    elements: Elements,
    room: u32,
    writes: Vec<(Entry, u32)>,
    kept: BTreeSet<Path>,
}

impl Builder {
    /// The number of the element with this content at this path.
    fn element(&mut self, path: Path, content: Content) -> Result<u32, PlanError> {
        self.kept.insert(path.clone());
        let version = match self.elements.live.get(&path) {
            Some((_, number, live)) if *live == content => return Ok(*number),
            Some((version, _, _)) => {
                let version = *version;
                self.elements.numbers.take(&(path.clone(), version));
                version.wrapping_add(1)
            }
            None => 0,
        };
        let number = self.elements.numbers.give((path.clone(), version), self.room)?;
        for (byte, &entry) in (0..=u8::MAX).zip(content.iter()) {
            self.writes.push((Entry::Step { element: number, byte }, entry));
        }
        self.elements.live.insert(path, (version, number, content));
        Ok(number)
    }

    fn build4(
        &mut self,
        ranges: &[(u32, u32)],
        block_of: &impl Fn(u32) -> u32,
        roots: &mut BTreeMap<Entry, u32>,
    ) -> Result<(), PlanError> {
        // Which addresses of which /24 are ours, by the upper 24 bits: all, or some.
        let mut cut: BTreeMap<u32, Vec<(u8, u8)>> = BTreeMap::new();
        let mut by_root: BTreeMap<u16, Content> = BTreeMap::new();
        for &(first, last) in ranges {
            for high in (first >> 8)..=(last >> 8) {
                let [root_high, root_low, third, _] = (high << 8).to_be_bytes();
                let root = u16::from_be_bytes([root_high, root_low]);
                let content = by_root.entry(root).or_insert_with(|| Box::new([0; 256]));
                let whole = first <= high << 8 && last >= (high << 8 | 255);
                if whole {
                    set(content, third, block_of(high));
                } else {
                    let [_, _, _, from] = first.to_be_bytes();
                    let [_, _, _, to] = last.to_be_bytes();
                    cut.entry(high).or_default().push((from, to));
                }
            }
        }
        for (high, parts) in cut {
            let [root_high, root_low, third, _] = (high << 8).to_be_bytes();
            let root = u16::from_be_bytes([root_high, root_low]);
            let mut inner: Content = Box::new([0; 256]);
            for (from, to) in parts {
                for byte in from..=to {
                    set(&mut inner, byte, block_of(high));
                }
            }
            let number = self.element(Path(Entry::Root4(root), vec![third]), inner)?;
            if let Some(content) = by_root.get_mut(&root) {
                set(content, third, number | NODE);
            }
        }
        for (root, content) in by_root {
            let number = self.element(Path(Entry::Root4(root), vec![]), content)?;
            roots.insert(Entry::Root4(root), number);
        }
        Ok(())
    }

    fn build6(
        &mut self,
        ranges: &[Range6],
        own: &impl Fn(Prefix) -> u32,
        roots: &mut BTreeMap<Entry, u32>,
    ) -> Result<(), PlanError> {
        let touched: BTreeSet<u16> =
            ranges.iter().flat_map(|range| root_of(range.first)..=root_of(range.last)).collect();
        let mut from = 0;
        for root in touched {
            let first = u128::from(root) << 112;
            let last = first | (u128::MAX >> 16);
            let within = overlapping(ranges, &mut from, first, last);
            let path = Path(Entry::Root6(root), vec![]);
            let entry = self.entry6(&path, within, first, 16, own)?;
            roots.insert(Entry::Root6(root), entry);
        }
        Ok(())
    }

    /// The entry for the addresses that begin with the first `depth` bits of `base`.
    fn entry6(
        &mut self,
        path: &Path,
        ranges: &[Range6],
        base: u128,
        depth: u8,
        own: &impl Fn(Prefix) -> u32,
    ) -> Result<u32, PlanError> {
        let last = base | u128::MAX.checked_shr(u32::from(depth)).unwrap_or(0);
        match ranges {
            [] => return Ok(0),
            [one] if one.prefix.len() < 128 && one.first <= base && last <= one.last => {
                return Ok(HASHED | own(one.prefix));
            }
            // Hosts named one by one: the buckets know them, and nobody else is ours here.
            hosts if depth >= 64 && hosts.iter().all(|range| range.prefix.len() == 128) => {
                return Ok(HASHED);
            }
            _ => {}
        }
        let mut content: Content = Box::new([0; 256]);
        let mut from = 0;
        let shift = 120 - u32::from(depth);
        for byte in 0..=u8::MAX {
            let first = base | (u128::from(byte) << shift);
            let last = first | ((1 << shift) - 1);
            let within = overlapping(ranges, &mut from, first, last);
            if within.is_empty() {
                continue;
            }
            let mut child = path.clone();
            child.1.push(byte);
            let entry = self.entry6(&child, within, first, depth + 8, own)?;
            set(&mut content, byte, entry);
        }
        Ok(NODE | self.element(path.clone(), content)?)
    }
}

/// The ranges that meet `first..=last`; `from` goes on from call to call, as the ranges are sorted.
fn overlapping<'a>(
    ranges: &'a [Range6],
    from: &mut usize,
    first: u128,
    last: u128,
) -> &'a [Range6] {
    while ranges.get(*from).is_some_and(|range| range.last < first) {
        *from += 1;
    }
    let rest = ranges.get(*from..).unwrap_or_default();
    let count = rest.iter().take_while(|range| range.first <= last).count();
    rest.get(..count).unwrap_or_default()
}

fn root_of(address: u128) -> u16 {
    let [first, second, ..] = address.to_be_bytes();
    u16::from_be_bytes([first, second])
}

fn set(content: &mut Content, byte: u8, entry: u32) {
    if let Some(place) = content.get_mut(usize::from(byte)) {
        *place = entry;
    }
}

#[cfg(test)]
mod tests;
