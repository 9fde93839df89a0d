//! Flag words: what a host gets beyond being counted.
//!
//! **Invariant**: a flag word without the `FLAGGED` bit in its directory entry is never looked at,
//! so arming sets the word first and the bit second, and disarming goes the other way. A word has two
//! owners, who armed it and who gave it a rule; each changes its own part in one step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastnetmon_common::abi::{FLAG_GATE, FLAG_REDIRECT, FLAG_SAMPLE, RULE_SHIFT};

use crate::model::HostId;
use crate::tables::Mapping;

/// What belongs to the gate.
const GATED: u64 = (0xffff << RULE_SHIFT) | FLAG_GATE as u64;

/// One word a slot: `budget (32, signed) | rule (16) | flags (16)`.
#[derive(Clone, Debug)]
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
        let armed = (budget << 32) | u64::from(self.armed);
        self.change(host, |word| (word & GATED) | armed);
    }

    /// Ends it.
    pub fn disarm(&self, host: HostId) {
        self.change(host, |word| word & GATED);
    }

    /// From now on this rule says what is dropped of the host's traffic.
    pub fn gate(&self, host: HostId, rule: u16) {
        let gated = (u64::from(rule) << RULE_SHIFT) | u64::from(FLAG_GATE);
        self.change(host, |word| (word & !GATED) | gated);
    }

    /// This rule says nothing any more. Another one that took its place stays.
    pub fn ungate(&self, host: HostId, rule: u16) {
        let gated = (u64::from(rule) << RULE_SHIFT) | u64::from(FLAG_GATE);
        self.change(host, |word| if word & GATED == gated { word & !GATED } else { word });
    }

    /// The rule of this host, if it has one.
    #[cfg(test)]
    pub(crate) fn rule(&self, host: HostId) -> Option<u64> {
        let word = self.mapping.words().get(host.0 as usize)?.load(Ordering::Relaxed);
        (word & u64::from(FLAG_GATE) != 0).then_some((word & GATED) >> RULE_SHIFT)
    }

    fn change(&self, host: HostId, with: impl Fn(u64) -> u64) {
        if let Some(flags) = self.mapping.words().get(host.0 as usize) {
            flags.update(Ordering::Release, Ordering::Relaxed, with);
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
