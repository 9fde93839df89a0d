//! Who is counted: the roots, the elements, the buckets of IPv6 hosts.
//!
//! **Invariant**: readers see a whole old word or a whole new one. Bit 31 of an entry belongs to
//! the flags, the rest to the plan; both change it without losing the other's part.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastnetmon_common::directory::{FLAGGED, INDEX, NODE, OVERFLOWN, PROFILE_SHIFT, PROFILES};

use crate::model::{high64, low64};
use crate::tables::Mapping;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Entry {
    /// In the IPv4 root.
    Root4(u16),
    /// In the IPv6 root.
    Root6(u16),
    /// In an element.
    Step {
        /// Which element.
        element: u32,
        /// Which of its 256 entries.
        byte: u8,
    },
}

/// Where an IPv6 host stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Cell {
    /// Which bucket.
    pub bucket: u32,
    /// Which of its three keys.
    pub key: u8,
}

/// The directory as its one writer holds it.
#[derive(Clone, Debug)]
pub struct Directory {
    pub(crate) root4: Arc<Mapping>,
    pub(crate) root6: Arc<Mapping>,
    pub(crate) elements: Arc<Mapping>,
    pub(crate) buckets: Arc<Mapping>,
}

impl Directory {
    /// Over the four parts.
    pub const fn new(
        root4: Arc<Mapping>,
        root6: Arc<Mapping>,
        elements: Arc<Mapping>,
        buckets: Arc<Mapping>,
    ) -> Self {
        Self { root4, root6, elements, buckets }
    }

    /// Writes an entry; its flag bit stays as it is.
    pub fn write(&self, at: Entry, entry: u32) {
        self.change(at, |old| (old & FLAGGED) | (entry & !FLAGGED));
    }

    /// Sets or clears the flag bit of the entry that leads to an IPv4 address.
    pub fn flag4(&self, address: u32, flagged: bool) {
        self.flag(self.leaf4(address), flagged);
    }

    /// Says which limits apply to the hosts that are led to by the entry of an IPv4 address. Whatever
    /// is written there anew has the first limits again.
    pub fn profile4(&self, address: u32, profile: u32) {
        let bits = (PROFILES - 1) << PROFILE_SHIFT;
        let profile = (profile << PROFILE_SHIFT) & bits;
        self.change(self.leaf4(address), |old| match old & !FLAGGED {
            0 => 0,
            _ => (old & !bits) | profile,
        });
    }

    fn leaf4(&self, address: u32) -> Entry {
        let root = self.read(Entry::Root4(high16(address)));
        let [_, _, third, last] = address.to_be_bytes();
        let at = Entry::Step { element: root & INDEX, byte: third };
        let entry = self.read(at);
        if entry & NODE == 0 {
            return at;
        }
        Entry::Step { element: entry & INDEX, byte: last }
    }

    /// Sets or clears the flag bit of the entry that leads to an IPv6 address.
    pub fn flag6(&self, address: u128, flagged: bool) {
        let bytes = address.to_be_bytes();
        let [first, second, rest @ ..] = bytes;
        let mut at = Entry::Root6(u16::from_be_bytes([first, second]));
        let mut entry = self.read(at);
        for byte in rest {
            if entry & NODE == 0 {
                break;
            }
            at = Entry::Step { element: entry & INDEX, byte };
            entry = self.read(at);
        }
        self.flag(at, flagged);
    }

    fn flag(&self, at: Entry, flagged: bool) {
        // Nobody's entry stays zero: zero means "not ours" and is looked at as a whole.
        self.change(at, |old| match (old & !FLAGGED, flagged) {
            (0, _) => 0,
            (entry, true) => entry | FLAGGED,
            (entry, false) => entry,
        });
    }

    /// Puts an IPv6 host into a cell: key first, slot last.
    pub fn settle(&self, cell: Cell, address: u128, slot: u32) {
        let base = cell.bucket as usize * 8;
        let key = usize::from(cell.key);
        for (word, half) in [(2 * key, high64(address)), (2 * key + 1, low64(address))] {
            if let Some(word) = self.buckets.words().get(base + word) {
                word.store(half, Ordering::Relaxed);
            }
        }
        self.slot(cell, slot);
    }

    /// Takes the host out of a cell. The key stays for one that looks it up right now.
    pub fn vacate(&self, cell: Cell) {
        self.slot(cell, 0);
    }

    /// Says of a bucket whether a host whose first one it is lives in its second. Said before the
    /// host settles there, and taken back after it has left.
    pub fn overflown(&self, bucket: u32, overflown: bool) {
        if let Some(word) = self.buckets.words().get(bucket as usize * 8 + 7) {
            let kept = word.load(Ordering::Relaxed) & !OVERFLOWN;
            word.store(kept | if overflown { OVERFLOWN } else { 0 }, Ordering::Release);
        }
    }

    fn slot(&self, cell: Cell, slot: u32) {
        let at = cell.bucket as usize * 8 + 6 + usize::from(cell.key / 2);
        let shift = 32 * u32::from(cell.key & 1);
        if let Some(word) = self.buckets.words().get(at) {
            let kept = word.load(Ordering::Relaxed) & !(0xffff_ffff << shift);
            word.store(kept | (u64::from(slot) << shift), Ordering::Release);
        }
    }

    fn read(&self, at: Entry) -> u32 {
        let (mapping, index) = self.place(at);
        mapping.halves().get(index).map_or(0, |entry| entry.load(Ordering::Relaxed))
    }

    fn change(&self, at: Entry, with: impl Fn(u32) -> u32) {
        let (mapping, index) = self.place(at);
        if let Some(entry) = mapping.halves().get(index) {
            entry.update(Ordering::Release, Ordering::Relaxed, with);
        }
    }

    fn place(&self, at: Entry) -> (&Mapping, usize) {
        match at {
            Entry::Root4(high) => (&self.root4, high as usize),
            Entry::Root6(high) => (&self.root6, high as usize),
            Entry::Step { element, byte } => {
                (&self.elements, element as usize * 256 + byte as usize)
            }
        }
    }
}

const fn high16(address: u32) -> u16 {
    let [first, second, _, _] = address.to_be_bytes();
    u16::from_be_bytes([first, second])
}
