//! IPv6 hosts that have lines of their own.
//!
//! A prefix may hold more hosts than there is memory, so lines are lent: to the hosts that are
//! named one by one for good, to others while they are active. Who has none counts on the line of
//! its prefix, so nothing is uncounted.
//!
//! **Invariant**: at most `room` residents in all and `share` of one prefix; whatever is sprayed at
//! us, memory stays. What was freed rests before it is lent again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fastnetmon_common::directory::{BUCKET_KEYS, mix};

use crate::model::{Moment, high64, low64};
use crate::tables::Cell;

/// How long a host must not have moved before its line is lent to another, and how long a line or
/// a cell rests before it is lent again: longer than any window in which packets of the one could
/// be taken for the other's.
const IDLE: Duration = Duration::from_secs(3);

/// How many residents the hand passes, at most, in search of an idle one.
const REACH: usize = 64;

/// What is to be written: which buckets run over, settle, vacate, which do no longer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Moved {
    /// Host, cell and slot.
    pub settled: Vec<(u128, Cell, u32)>,
    /// Cells that are empty now.
    pub vacated: Vec<Cell>,
    /// Buckets, and whether hosts whose first one it is live in their second now.
    pub overflown: Vec<(u32, bool)>,
}

#[derive(Clone, Copy, Debug)]
struct Resident {
    address: u128,
    prefix: u32,
    cell: Cell,
    /// When it last moved.
    active: Moment,
    /// Named one by one, or banned: stays whatever it does.
    pinned: bool,
}

/// Who lives where.
#[derive(Debug)]
pub struct Residents {
    first: u32,
    share: u32,
    seed: u64,
    buckets: u32,
    by_address: HashMap<u128, u32>,
    /// By slot less `first`.
    lodgers: Vec<Option<Resident>>,
    /// By bucket.
    cells: HashMap<u32, Bucket>,
    of_prefix: HashMap<u32, u32>,
    free: Vec<u32>,
    resting_slots: VecDeque<(Moment, u32)>,
    resting_cells: VecDeque<(Moment, Cell)>,
    hand: usize,
    evicted: u64,
    refused: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    tenants: [Tenant; BUCKET_KEYS],
    /// How many whose first bucket it is live in their second.
    elsewhere: u32,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Tenant {
    #[default]
    Nobody,
    Resting,
    Slot(u32),
}

impl Moved {
    /// The last word on a bucket is the one that is written.
    fn overflows(&mut self, bucket: u32, overflown: bool) {
        self.overflown.retain(|said| said.0 != bucket);
        self.overflown.push((bucket, overflown));
    }
}

impl Residents {
    /// Room for `room` hosts from slot `first` on, at most `share` of one prefix, in `buckets`
    /// buckets.
    pub fn new(first: u32, room: u32, share: u32, buckets: u32, seed: u64) -> Self {
        Self {
            first,
            share,
            seed,
            buckets,
            by_address: HashMap::new(),
            lodgers: vec![None; room as usize],
            cells: HashMap::new(),
            of_prefix: HashMap::new(),
            free: (first..first.saturating_add(room)).rev().collect(),
            resting_slots: VecDeque::new(),
            resting_cells: VecDeque::new(),
            hand: 0,
            evicted: 0,
            refused: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// How many had to leave for others, and how many found no room.
    pub const fn turned_away(&self) -> (u64, u64) {
        (self.evicted, self.refused)
    }

    /// The slot of a host.
    pub fn slot(&self, address: u128) -> Option<u32> {
        self.by_address.get(&address).copied()
    }

    /// The host of a slot.
    pub fn address(&self, slot: u32) -> Option<u128> {
        self.lodger(slot).map(|resident| resident.address)
    }

    /// Keeps a host where it is, or lets it go when it is idle.
    pub fn pin(&mut self, slot: u32, pinned: bool) {
        if let Some(resident) = self.lodger_mut(slot) {
            resident.pinned = pinned;
        }
    }

    /// The host moved.
    pub fn stir(&mut self, now: Moment, slot: u32) {
        if let Some(resident) = self.lodger_mut(slot) {
            resident.active = now;
        }
    }

    /// What has rested long enough may be lent again.
    pub fn rest(&mut self, now: Moment) {
        while let Some(&(since, slot)) = self.resting_slots.front()
            && now.since(since) >= IDLE
        {
            self.resting_slots.pop_front();
            self.free.push(slot);
        }
        while let Some(&(since, cell)) = self.resting_cells.front()
            && now.since(since) >= IDLE
        {
            self.resting_cells.pop_front();
            self.set_tenant(cell, Tenant::Nobody);
        }
    }

    /// Lends a host a line. `None` when it has one already, or there is none to lend.
    pub fn settle(
        &mut self,
        address: u128,
        prefix: u32,
        now: Moment,
        pinned: bool,
    ) -> Option<Moved> {
        if let Some(slot) = self.slot(address) {
            if pinned {
                self.pin(slot, true);
            }
            return None;
        }
        let mut moved = Moved::default();
        let crowded =
            !pinned && self.of_prefix.get(&prefix).is_some_and(|&held| held >= self.share);
        if self.free.is_empty() || crowded {
            let only = crowded.then_some(prefix);
            let Some(idle) = self.idle(now, only) else {
                self.refused += 1;
                return None;
            };
            self.leave(now, idle, &mut moved);
            self.evicted += 1;
            if self.free.is_empty() {
                // The line that was freed rests; the host is told of again and settles next time.
                return Some(moved);
            }
        }
        let Some(cell) = self.room(now, address, &mut moved) else {
            self.refused += 1;
            return Some(moved).filter(|moved| !moved.vacated.is_empty());
        };
        let slot = self.free.pop()?;
        let resident = Resident { address, prefix, cell, active: now, pinned };
        if let Some(place) = self.lodgers.get_mut((slot - self.first) as usize) {
            *place = Some(resident);
        }
        self.by_address.insert(address, slot);
        *self.of_prefix.entry(prefix).or_default() += 1;
        self.settled(address, cell, slot, &mut moved);
        Some(moved)
    }

    /// Takes a host's line back.
    pub fn dismiss(&mut self, now: Moment, address: u128) -> Moved {
        let mut moved = Moved::default();
        if let Some(slot) = self.slot(address) {
            self.leave(now, slot, &mut moved);
        }
        moved
    }

    /// All residents, as `(address, prefix)`.
    pub fn iter(&self) -> impl Iterator<Item = (u128, u32)> + '_ {
        self.lodgers.iter().flatten().map(|resident| (resident.address, resident.prefix))
    }

    /// All residents by slot, in rising order.
    pub fn slots(&self) -> impl Iterator<Item = (u32, u128)> + '_ {
        let lodgers = (self.first..).zip(&self.lodgers);
        lodgers.filter_map(|(slot, lodger)| lodger.as_ref().map(|lodger| (slot, lodger.address)))
    }

    fn leave(&mut self, now: Moment, slot: u32, moved: &mut Moved) {
        let place = self.lodgers.get_mut((slot.wrapping_sub(self.first)) as usize);
        let Some(resident) = place.and_then(Option::take) else { return };
        self.by_address.remove(&resident.address);
        if let Some(held) = self.of_prefix.get_mut(&resident.prefix) {
            *held = held.saturating_sub(1);
        }
        self.left(now, resident.address, resident.cell, moved);
        self.resting_slots.push_back((now, slot));
    }

    fn settled(&mut self, address: u128, cell: Cell, slot: u32, moved: &mut Moved) {
        self.set_tenant(cell, Tenant::Slot(slot));
        moved.settled.push((address, cell, slot));
        let [first, _] = self.buckets(address);
        if cell.bucket != first {
            let elsewhere = &mut self.cells.entry(first).or_default().elsewhere;
            *elsewhere += 1;
            moved.overflows(first, true);
        }
    }

    fn left(&mut self, now: Moment, address: u128, cell: Cell, moved: &mut Moved) {
        self.vacate(now, cell, moved);
        let [first, _] = self.buckets(address);
        if cell.bucket != first {
            let elsewhere = &mut self.cells.entry(first).or_default().elsewhere;
            *elsewhere = elsewhere.saturating_sub(1);
            let still = *elsewhere > 0;
            moved.overflows(first, still);
        }
    }

    fn vacate(&mut self, now: Moment, cell: Cell, moved: &mut Moved) {
        self.set_tenant(cell, Tenant::Resting);
        self.resting_cells.push_back((now, cell));
        moved.vacated.push(cell);
    }

    /// One that did not move for a while: a second chance, as page replacement knows it.
    fn idle(&mut self, now: Moment, only: Option<u32>) -> Option<u32> {
        let room = self.lodgers.len();
        for _ in 0..REACH.min(room) {
            self.hand = (self.hand + 1) % room;
            if let Some(Some(resident)) = self.lodgers.get(self.hand)
                && !resident.pinned
                && now.since(resident.active) >= IDLE
                && only.is_none_or(|prefix| resident.prefix == prefix)
            {
                return u32::try_from(self.hand).ok().map(|hand| hand + self.first);
            }
        }
        None
    }

    fn buckets(&self, address: u128) -> [u32; 2] {
        let halves = [high64(address), low64(address)];
        let hash = mix(halves, self.seed);
        let among = |hash: u32| low32((u64::from(hash) * u64::from(self.buckets)) >> 32);
        [among(low32(hash)), among(low32(hash >> 32))]
    }

    fn vacancy(&self, bucket: u32) -> Option<Cell> {
        let tenants = self.cells.get(&bucket).copied().unwrap_or_default().tenants;
        let key = tenants.iter().position(|&tenant| tenant == Tenant::Nobody)?;
        u8::try_from(key).ok().map(|key| Cell { bucket, key })
    }

    fn taken(&self, bucket: u32) -> usize {
        let tenants = self.cells.get(&bucket).copied().unwrap_or_default().tenants;
        tenants.iter().filter(|&&tenant| tenant != Tenant::Nobody).count()
    }

    /// A cell in the host's first bucket, or in its second; when both are full, one that lives there moves to
    /// its other bucket, and when none can, one that is idle leaves.
    fn room(&mut self, now: Moment, address: u128, moved: &mut Moved) -> Option<Cell> {
        let mut buckets = self.buckets(address);
        // The first is looked at first, so it is better; but the last cell of it is kept for one
        // that finds its second full, or newcomers would wait for others to move.
        let [first, second] = buckets.map(|bucket| self.taken(bucket));
        if first + 1 >= BUCKET_KEYS && second < first {
            buckets.reverse();
        }
        if let Some(cell) = buckets.iter().find_map(|&bucket| self.vacancy(bucket)) {
            return Some(cell);
        }
        let tenants: Vec<u32> = buckets
            .iter()
            .filter_map(|bucket| self.cells.get(bucket))
            .flat_map(|bucket| &bucket.tenants)
            .filter_map(|tenant| match tenant {
                Tenant::Slot(slot) => Some(*slot),
                Tenant::Nobody | Tenant::Resting => None,
            })
            .collect();
        for &slot in &tenants {
            let Some(resident) = self.lodger(slot).copied() else { continue };
            let elsewhere =
                self.buckets(resident.address).into_iter().find_map(|bucket| self.vacancy(bucket));
            if let Some(cell) = elsewhere {
                self.settled(resident.address, cell, slot, moved);
                self.left(now, resident.address, resident.cell, moved);
                if let Some(resident) = self.lodger_mut(slot) {
                    resident.cell = cell;
                }
                // The cell left behind rests; the host settles when it is told of again.
                return None;
            }
        }
        let idle = tenants.into_iter().find(|&slot| {
            self.lodger(slot)
                .is_some_and(|resident| !resident.pinned && now.since(resident.active) >= IDLE)
        })?;
        self.leave(now, idle, moved);
        self.evicted += 1;
        None
    }

    fn lodger(&self, slot: u32) -> Option<&Resident> {
        self.lodgers.get(slot.checked_sub(self.first)? as usize)?.as_ref()
    }

    fn lodger_mut(&mut self, slot: u32) -> Option<&mut Resident> {
        self.lodgers.get_mut(slot.checked_sub(self.first)? as usize)?.as_mut()
    }

    fn set_tenant(&mut self, cell: Cell, tenant: Tenant) {
        let bucket = self.cells.entry(cell.bucket).or_default();
        if let Some(place) = bucket.tenants.get_mut(usize::from(cell.key)) {
            *place = tenant;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
const fn low32(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_boot(Duration::from_secs(1000 + secs))
    }

    #[test]
    fn every_host_finds_a_cell_of_its_own_at_half_load() {
        let mut residents = Residents::new(1000, 3072, u32::MAX, 2048, 7);
        let mut cells = std::collections::HashSet::new();
        let mut late = 0;
        for host in 0..3072_u128 {
            // One that had to wait for another to move settles at the next reading.
            while residents.slot(host).is_none() {
                if residents
                    .settle(host, 1, at(0), false)
                    .is_none_or(|moved| moved.settled.is_empty())
                {
                    residents.rest(at(3));
                    late += 1;
                    assert!(late < 100);
                }
            }
        }
        for (slot, lodger) in (1000..).zip(&residents.lodgers) {
            let resident = lodger.unwrap();
            assert_eq!(residents.slot(resident.address), Some(slot));
            assert!(residents.buckets(resident.address).contains(&resident.cell.bucket));
            assert!(cells.insert(resident.cell));
        }
    }

    #[test]
    fn a_spray_stays_within_the_room_and_the_pinned_stay() {
        let mut residents = Residents::new(0, 64, u32::MAX, 64, 7);
        assert!(residents.settle(u128::MAX, 1, at(0), true).is_some());
        for reading in 0..40 {
            residents.rest(at(reading));
            for host in 0..500_u128 {
                residents.settle(u128::from(reading) * 1000 + host, 1, at(reading), false);
            }
            assert!(residents.len() <= 64);
        }
        assert!(residents.slot(u128::MAX).is_some());
        let (evicted, refused) = residents.turned_away();
        assert!(evicted > 0 && refused > 0);
    }

    #[test]
    fn one_prefix_cannot_take_what_belongs_to_all() {
        let mut residents = Residents::new(0, 64, 32, 64, 7);
        for host in 0..64_u128 {
            residents.settle(host, 1, at(0), false);
        }
        assert_eq!(residents.len(), 32);
        assert!(residents.settle(1000, 2, at(0), false).is_some());
    }

    #[test]
    fn what_was_freed_rests_before_it_is_lent_again() {
        let mut residents = Residents::new(0, 1, u32::MAX, 2, 7);
        let first = residents.settle(1, 1, at(0), false).unwrap();
        let cell = first.settled[0].1;
        assert_eq!(residents.settle(2, 1, at(2), false), None, "not idle for long enough");
        // Idle: leaves, but its line is not lent at once.
        let moved = residents.settle(2, 1, at(3), false).unwrap();
        assert_eq!((moved.settled.len(), moved.vacated), (0, vec![cell]));
        residents.rest(at(5));
        assert_eq!(residents.settle(2, 1, at(5), false), None);
        residents.rest(at(6));
        assert_eq!(residents.settle(2, 1, at(6), false).unwrap().settled.len(), 1);
    }
}
