//! Numbers that look random and are the same in every run.
//!
//! **Invariant**: knows no clock and no seed but the one it is given.

/// Marsaglia's xorshift with 64 bits of state.
pub(crate) struct Random(u64);

impl Random {
    /// A sequence of its own for each seed but 0.
    pub(crate) const fn new(seed: u64) -> Self {
        assert!(seed != 0, "xorshift never leaves zero");
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) const fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next 8 bits.
    pub(crate) fn byte(&mut self) -> u8 {
        self.word().to_le_bytes()[3]
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.word() >> 11) % u64::try_from(end).unwrap()).unwrap()
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
