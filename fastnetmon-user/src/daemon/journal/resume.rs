//! What stood before the agent started, taken up again.
//!
//! **Invariant**: nothing is done twice that must not be. An action that began and did not come
//! back may have done it or not; if doing it twice could do harm, it is left at that, and said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tracing::info;

use crate::actions::{Errand, EventId, Occasion, Pending};
use crate::daemon::journal::Journal;
use crate::daemon::journal::book::{Entry, Progress};
use crate::model::{HostId, Wall};
use crate::verdicts::{Ban, BanId, Ending, Verdict};

/// What the rest of the agent is to know.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Resumed {
    /// Bans that stand.
    pub(in crate::daemon) standing: Vec<Ban>,
    /// Those of them whose packets are still to be told.
    pub(in crate::daemon) untold: BTreeSet<IpAddr>,
    /// Bans of hosts that are ours no more: to be ended.
    pub(in crate::daemon) gone: Vec<Ban>,
    /// What was to be done and was not, in order.
    pub(in crate::daemon) pending: Vec<Pending>,
    /// What was done, or begun.
    pub(in crate::daemon) done: BTreeMap<EventId, BTreeSet<String>>,
    /// The highest number a ban ever had.
    pub(in crate::daemon) last: BanId,
}

/// Takes up what the journal says. `host` finds the line of an address of ours.
pub(in crate::daemon) fn resume(
    journal: &Journal,
    wall: Wall,
    mut host: impl FnMut(IpAddr) -> Option<HostId>,
) -> Resumed {
    let mut resumed = Resumed { last: journal.book.last, ..Resumed::default() };
    for entry in journal.book.bans.values() {
        take_up(entry, wall, &mut host, &mut resumed);
    }
    let Resumed { standing, gone, pending, .. } = &resumed;
    if !(standing.is_empty() && gone.is_empty() && pending.is_empty()) {
        let (standing, gone, pending) = (standing.len(), gone.len(), pending.len());
        info!(standing, gone, pending, "Bans of before are taken up again.");
    }
    resumed
}

fn take_up(
    entry: &Entry,
    wall: Wall,
    host: &mut impl FnMut(IpAddr) -> Option<HostId>,
    resumed: &mut Resumed,
) {
    let Entry { ban: stored, ending, events } = entry;
    let line = host(stored.ip);
    // Who is ours no more has no line, and needs none: what follows is about its address.
    let ban = stored.ban(line.unwrap_or(HostId(0)), wall);
    for (occasion, told) in events {
        let event = EventId { ban: ban.id, occasion: *occasion };
        let mut left = BTreeSet::new();
        for (action, progress) in &told.to {
            match progress {
                Progress::Sent => drop(left.insert(action.clone())),
                Progress::Begun | Progress::Settled(_) => {
                    resumed.done.entry(event).or_default().insert(action.clone());
                }
            }
        }
        if left.is_empty() {
            continue;
        }
        let verdict = match (occasion, ending) {
            (Occasion::Ban, _) => Verdict::Ban(ban.clone()),
            // The packets are collected anew.
            (Occasion::AttackDetails, None) if line.is_some() => {
                resumed.untold.insert(ban.address);
                continue;
            }
            // They are gone, and the three calls keep their order.
            (Occasion::AttackDetails, _) => Verdict::Details(ban.clone(), [].into()),
            (Occasion::Unban, Some(ending)) => Verdict::Unban(ban.clone(), ending.into()),
            (Occasion::Unban, None) => Verdict::Unban(ban.clone(), Ending::Over),
            (Occasion::Alert | Occasion::Calm, _) => continue,
        };
        resumed.pending.push(Pending { errand: Errand { verdict, wall }, to: left });
    }
    match (ending, line) {
        (Some(_), _) => {}
        (None, None) => resumed.gone.push(ban),
        (None, Some(_)) => {
            if !events.contains_key(&Occasion::AttackDetails) {
                resumed.untold.insert(ban.address);
            }
            resumed.standing.push(ban);
        }
    }
}
