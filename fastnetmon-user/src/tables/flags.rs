//! Flag words: what a host gets beyond being counted.
//!
//! **Invariant**: a flag word without the `FLAGGED` bit in its directory entry is never looked at,
//! so arming sets the word first and the bit second, and disarming goes the other way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastnetmon_common::abi::{FLAG_REDIRECT, FLAG_SAMPLE};

use crate::model::HostId;
use crate::tables::Mapping;

/// One word a slot: `budget (32, signed) | flags (32)`.
#[derive(Debug)]
pub struct Flags {
    mapping: Arc<Mapping>,
    /// What an armed host's word says beside its budget.
    armed: u32,
}

impl Flags {
    /// Over a mapping of one word a slot.
    pub const fn new(mapping: Arc<Mapping>) -> Self {
        Self { mapping, armed: FLAG_SAMPLE }
    }

    /// Of a mirror port: packets of armed hosts are taken away where a socket waits for them.
    #[must_use]
    pub fn redirecting(self) -> Self {
        Self { armed: FLAG_SAMPLE | FLAG_REDIRECT, ..self }
    }

    /// Lets so many packets of the host be copied, or taken.
    pub fn arm(&self, host: HostId, budget: u32) {
        let budget = u64::from(budget.min(i32::MAX.unsigned_abs()));
        self.set(host, (budget << 32) | u64::from(self.armed));
    }

    /// Ends it.
    pub fn disarm(&self, host: HostId) {
        self.set(host, 0);
    }

    fn set(&self, host: HostId, word: u64) {
        if let Some(flags) = self.mapping.words().get(host.0 as usize) {
            flags.store(word, Ordering::Release);
        }
    }

    /// Takes one from the host's budget, as the kernel does. Tells whether there was one.
    pub(crate) fn spend(&self, host: HostId) -> bool {
        let Some(flags) = self.mapping.words().get(host.0 as usize) else { return false };
        let word = flags.load(Ordering::Relaxed);
        if word & u64::from(FLAG_SAMPLE) == 0 || word.cast_signed() >> 32 <= 0 {
            return false;
        }
        flags.fetch_sub(1 << 32, Ordering::Relaxed);
        true
    }
}
