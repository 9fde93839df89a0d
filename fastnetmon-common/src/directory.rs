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
    /// IPv6: the prefix is ours, the host has no line of its own yet.
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
    let mut entry = tables.t6(low32(address[0] >> 48));
    if entry == 0 {
        return Found::NOBODY;
    }
    let mut rest = address[0] << 16;
    for _ in 0..6 {
        if entry & NODE == 0 {
            break;
        }
        entry = tables.t2(entry & INDEX, low32(rest >> 56));
        rest <<= 8;
    }
    rest = address[1];
    for _ in 0..8 {
        if entry & NODE == 0 {
            break;
        }
        entry = tables.t2(entry & INDEX, low32(rest >> 56));
        rest <<= 8;
    }
    if entry == 0 {
        return Found::NOBODY;
    }
    let hash = mix(address, tables.seed());
    let mut slot = probe(tables, low32(hash), address);
    if slot == 0 {
        slot = probe(tables, low32(hash >> 32), address);
    }
    if slot != 0 {
        return Found { slot, entry, stranger: false };
    }
    let own = entry & INDEX;
    if own == 0 {
        return Found::NOBODY;
    }
    Found { slot: own, entry, stranger: true }
}

/// The two buckets an address may be in, as one number: low half and high half.
#[inline(always)]
pub const fn mix(key: [u64; 2], seed: u64) -> u64 {
    let x = (key[0] ^ key[1].rotate_left(29) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let x = (x ^ key[1].wrapping_mul(0xff51_afd7_ed55_8ccd)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 32)
}

/// The slot kept for `key` in one bucket, 0 when it is not there.
///
/// Words 0–5 are three keys, word 6 the slots of the first two, word 7 that of the third.
#[inline(always)]
fn probe<T: Tables>(tables: &T, hash: u32, key: [u64; 2]) -> u32 {
    let Some(bucket) = tables.bucket(hash) else { return 0 };
    let mut found = 0;
    for i in 0..BUCKET_KEYS {
        if bucket.get(2 * i) == key[0] && bucket.get(2 * i + 1) == key[1] {
            let slot = low32(bucket.get(6 + i / 2) >> (32 * (i & 1)));
            if slot != 0 {
                found = slot;
            }
        }
    }
    found
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low32(word: u64) -> u32 {
    word as u32
}
