//! Bans that stand, found by address and by line.
//!
//! **Invariant**: one ban an address. Whether a line has one is a bit, because a million lines are
//! asked each tick.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use crate::model::{HostId, Moment};
use crate::networks::GroupId;
use crate::verdicts::Ban;

/// A ban, and what the judge knows of it beside.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) ban: Ban,
    /// Whose rules say whether the attack is over.
    pub(super) group: GroupId,
    /// By when its details are told; `None` once they are.
    pub(super) details_by: Option<Moment>,
    /// How long it has been calm, in readings that were judged.
    pub(super) calm: Duration,
    /// The attack was seen in the reading that is being judged.
    pub(super) is_loud: bool,
    /// How often the ban time was doubled.
    pub(super) doubled: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_address: BTreeMap<IpAddr, Standing>,
    by_host: HashMap<HostId, IpAddr>,
    /// A bit for each line.
    marks: Vec<u64>,
    /// Whose details are still to be told.
    collecting: BTreeSet<IpAddr>,
}

impl Bans {
    pub(super) fn insert(&mut self, standing: Standing) {
        let (address, host) = (standing.ban.address, standing.ban.host);
        if standing.details_by.is_some() {
            self.collecting.insert(address);
        }
        self.mark(host, true);
        self.by_host.insert(host, address);
        self.by_address.insert(address, standing);
    }

    pub(super) fn remove(&mut self, address: IpAddr) -> Option<Standing> {
        let standing = self.by_address.remove(&address)?;
        self.collecting.remove(&address);
        self.mark(standing.ban.host, false);
        self.by_host.remove(&standing.ban.host);
        Some(standing)
    }

    pub(super) fn collect(&mut self, address: IpAddr, by: Moment) -> Option<HostId> {
        let standing = self.by_address.get_mut(&address)?;
        standing.details_by = Some(by);
        self.collecting.insert(address);
        Some(standing.ban.host)
    }

    fn mark(&mut self, host: HostId, is_marked: bool) {
        let (word, bit) = (host.0 as usize / 64, host.0 % 64);
        if self.marks.len() <= word {
            self.marks.resize(word + 1, 0);
        }
        if let Some(word) = self.marks.get_mut(word) {
            *word = (*word & !(1 << bit)) | (u64::from(is_marked) << bit);
        }
    }

    /// Has any of these lines a ban, or one that shares its word?
    pub(super) fn holds_any(&self, lines: &Range<u32>) -> bool {
        let words = lines.start as usize / 64..(lines.end as usize).div_ceil(64);
        // Lines beyond the last mark have none.
        let words = words.start.min(self.marks.len())..words.end.min(self.marks.len());
        self.marks.get(words).unwrap_or_default().iter().any(|&word| word != 0)
    }

    /// Has this line a ban?
    pub(super) fn holds(&self, host: HostId) -> bool {
        let word = self.marks.get(host.0 as usize / 64).copied().unwrap_or(0);
        word & (1 << (host.0 % 64)) != 0
    }

    /// The ban of this line.
    pub(super) fn of(&mut self, host: HostId) -> Option<&mut Standing> {
        let address = self.by_host.get(&host)?;
        self.by_address.get_mut(address)
    }

    pub(super) fn at(&self, address: IpAddr) -> Option<&Standing> {
        self.by_address.get(&address)
    }

    pub(super) fn at_mut(&mut self, address: IpAddr) -> Option<&mut Standing> {
        self.by_address.get_mut(&address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Standing> {
        self.by_address.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Standing> {
        self.by_address.values_mut()
    }

    /// Those from one address to another.
    pub(super) fn between(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = &Standing> {
        self.by_address.range(first..=last).map(|(_, standing)| standing)
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Is anybody's dump still to be told?
    pub(super) fn is_collecting(&self) -> bool {
        !self.collecting.is_empty()
    }

    /// Bans whose details are to be told now. Each is given out once.
    pub(super) fn due(&mut self, now: Moment, full: impl Fn(HostId) -> bool) -> Vec<Ban> {
        let mut due = Vec::new();
        let by_address = &mut self.by_address;
        self.collecting.retain(|address| {
            let Some(standing) = by_address.get_mut(address) else { return false };
            let is_due = standing
                .details_by
                .is_none_or(|deadline| deadline <= now || full(standing.ban.host));
            if is_due {
                standing.details_by = None;
                due.push(standing.ban.clone());
            }
            !is_due
        });
        due
    }
}

/// Who was let go a short while ago.
#[derive(Debug, Default)]
pub(super) struct Released(HashMap<IpAddr, (Moment, u32)>);

/// Remembered at a time.
const MOST_RELEASED: usize = 65_536;

impl Released {
    /// Remembers who was let go, and how often its ban time had been doubled.
    pub(super) fn note(&mut self, now: Moment, address: IpAddr, doubled: u32, within: Duration) {
        if self.0.len() >= MOST_RELEASED {
            self.0.retain(|_, (then, _)| now.since(*then) <= within);
        }
        if self.0.len() < MOST_RELEASED {
            self.0.insert(address, (now, doubled));
        }
    }

    /// How often the next ban time is to be doubled.
    pub(super) fn doubled(&mut self, now: Moment, address: IpAddr, within: Duration) -> u32 {
        match self.0.remove(&address) {
            Some((then, doubled)) if now.since(then) <= within => doubled.saturating_add(1),
            _ => 0,
        }
    }
}
