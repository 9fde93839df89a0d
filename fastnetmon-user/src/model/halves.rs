//! Numbers of 128 bits in words of 64, as tables and rules hold them.
//!
//! **Invariant**: the upper half goes first wherever both stand.

/// The upper half.
pub const fn high64(number: u128) -> u64 {
    (number >> 64) as u64
}

/// The lower half.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
pub const fn low64(number: u128) -> u64 {
    number as u64
}
