//! An address becomes a slot: two words for IPv4, a few more for IPv6, whatever the number of
//! prefixes.
//!
//! An entry is one `u32`, written by user space alone and always whole:
//!
//! | bits | meaning |
//! |---|---|
//! | 0–19 | leaf: block of 256 slots, or (`HASHED`) the prefix's own slot; node: element of `T2`. 0 = none |
//! | 22 `HASHED` | IPv6 leaf: look for the host in the buckets; not there → the prefix's own slot |
//! | 23 `NODE` | the index is an element of `T2`: go on with the next 8 bits |
//! | 24–30 | limit profile |
//! | 31 `FLAGGED` | some host behind this entry has a flag word |
//!
//! **Invariant**: element 0 is all zero and entry 0 means "not ours", so a walk that leaves the
//! tree ends at "not ours" and needs no check on the way.

use crate::table::{Line as _, Tables};

/// Mask of the index in an entry.
pub const INDEX: u32 = 0x000f_ffff;
/// IPv6 leaf whose hosts are in the buckets.
pub const HASHED: u32 = 1 << 22;
/// The index names an element of `T2`.
pub const NODE: u32 = 1 << 23;
/// Where the limit profile begins.
pub const PROFILE_SHIFT: u32 = 24;
/// How many limit profiles there are.
pub const PROFILES: u32 = 128;
/// Some host behind this entry has a flag word.
pub const FLAGGED: u32 = 1 << 31;
/// Bit of a bucket's last word: some host whose first bucket this is lives in its second one.
pub const OVERFLOWN: u64 = 1 << 63;
/// Keys a bucket holds.
pub const BUCKET_KEYS: usize = 3;
/// Steps of 8 bits behind the 16-bit root until an IPv6 address is used up.
pub const STEPS: usize = 14;

/// The host an address belongs to, or [`Found::NOBODY`].
///
/// Not an `Option`: the words behind a `None` would be undefined, and the verifier refuses a
/// program that so much as moves an undefined word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its line in the table.
    pub slot: u32,
    /// The entry that led there; 0: not ours.
    pub entry: u32,
    /// IPv6: the prefix is ours, and the host has no line of its own yet, or was not looked for yet.
    pub stranger: bool,
}

impl Found {
    /// The address is not ours.
    pub const NOBODY: Self = Self { slot: 0, entry: 0, stranger: false };

    /// Is the address ours?
    #[inline(always)]
    pub const fn is_ours(self) -> bool {
        self.entry != 0
    }

    /// The same as an option, for whoever is not the kernel.
    pub const fn ours(self) -> Option<Self> {
        if self.is_ours() { Some(self) } else { None }
    }

    /// Which limits apply.
    #[inline(always)]
    pub const fn profile(self) -> u32 {
        (self.entry >> PROFILE_SHIFT) & (PROFILES - 1)
    }
}

/// Looks an IPv4 address up.
#[inline(always)]
pub fn find4<T: Tables>(tables: &T, address: u32) -> Found {
    let root = tables.t1(address >> 16);
    // Most sources are others': a branch that is foreseen costs less than an element that is not.
    if root == 0 {
        return Found::NOBODY;
    }
    let mut entry = tables.t2(root & INDEX, (address >> 8) & 255);
    if entry & NODE != 0 {
        entry = tables.t2(entry & INDEX, address & 255);
    }
    if entry == 0 {
        return Found::NOBODY;
    }
    Found { slot: ((entry & INDEX) << 8) | (address & 255), entry, stranger: false }
}

/// Looks an IPv6 address up.
#[inline(always)]
pub fn find6<T: Tables>(tables: &T, address: [u64; 2]) -> Found {
    let entry = leaf6(tables, address);
    if entry == 0 { Found::NOBODY } else { seek6(tables, address, entry) }
}

/// The entry of the prefix an IPv6 address is in; 0: not ours.
#[inline(always)]
pub fn leaf6<T: Tables>(tables: &T, address: [u64; 2]) -> u32 {
    let mut entry = tables.t6(low32(address[0] >> 48));
    // Written out, as far as prefixes are given out: a loop would carry its count.
    let rest = address[0] << 16;
    if entry & NODE != 0 {
        entry = step(tables, entry, rest);
        if entry & NODE != 0 {
            entry = step(tables, entry, rest << 8);
            if entry & NODE != 0 {
                entry = step(tables, entry, rest << 16);
                if entry & NODE != 0 {
                    entry = step(tables, entry, rest << 24);
                    if entry & NODE != 0 {
                        entry = lower_steps(tables, entry, address);
                    }
                }
            }
        }
    }
    entry
}

/// The host an IPv6 address belongs to, within the prefix of this entry.
#[inline(always)]
pub fn seek6<T: Tables>(tables: &T, address: [u64; 2], entry: u32) -> Found {
    let slot = resident(tables, mix(address, tables.seed()), address);
    if slot != 0 {
        return Found { slot, entry, stranger: false };
    }
    let own = entry & INDEX;
    if own == 0 {
        return Found::NOBODY;
    }
    Found { slot: own, entry, stranger: true }
}

/// The slot of an IPv6 host of this [`mix`] that has a line of its own; 0: it has none.
#[inline(always)]
pub fn resident<T: Tables>(tables: &T, hash: u64, address: [u64; 2]) -> u32 {
    let (slot, overflown) = probe(tables, low32(hash), address);
    // One bucket for nearly all hosts, known or not: a second one is another line of memory.
    if slot == 0 && overflown { probe(tables, low32(hash >> 32), address).0 } else { slot }
}

/// One step of 8 bits: the upper ones of `rest`.
#[inline(always)]
fn step<T: Tables>(tables: &T, entry: u32, rest: u64) -> u32 {
    tables.t2(entry & INDEX, low32(rest >> 56))
}

/// The steps behind the first 48 bits, where only long prefixes lead.
#[inline(always)]
fn lower_steps<T: Tables>(tables: &T, mut entry: u32, address: [u64; 2]) -> u32 {
    let mut rest = (address[0] << 48) | (address[1] >> 16);
    for _ in 0..8 {
        if entry & NODE == 0 {
            return entry;
        }
        entry = step(tables, entry, rest);
        rest <<= 8;
    }
    rest = address[1] << 48;
    for _ in 0..2 {
        if entry & NODE == 0 {
            return entry;
        }
        entry = step(tables, entry, rest);
        rest <<= 8;
    }
    entry
}

/// The two buckets an address may be in, as one number: the first in the low half, the second in
/// the high one.
///
/// The first product is nobody's to foresee, for want of the seed, so which addresses share a bucket
/// is not to be chosen; and should it be known, a full bucket costs a host its own line, no count.
#[inline(always)]
pub const fn mix(key: [u64; 2], seed: u64) -> u64 {
    let x = (key[0] ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 32) ^ key[1]).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// The slot kept for `key` in one bucket, 0 when it is not there; and whether the bucket ran over.
///
/// Words 0–5 are three keys, word 6 the slots of the first two, word 7 that of the third. Which of
/// them it is nobody foresees, so nothing is asked: all three are compared, and masked.
#[inline(always)]
fn probe<T: Tables>(tables: &T, hash: u32, key: [u64; 2]) -> (u32, bool) {
    let Some(bucket) = tables.bucket(hash) else { return (0, false) };
    let (slots, last) = (bucket.get(6), bucket.get(7));
    let differs = |i: usize| (bucket.get(2 * i) ^ key[0]) | (bucket.get(2 * i + 1) ^ key[1]);
    let found = (slots & tables.all_if_zero(differs(0)))
        | ((slots >> 32) & tables.all_if_zero(differs(1)))
        | (last & tables.all_if_zero(differs(2)));
    (low32(found), last & OVERFLOWN != 0)
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low32(word: u64) -> u32 {
    word as u32
}
