//! What clients are shown: the state as of the last reading, and the bans as they stand now.
//!
//! **Invariant**: an order changes one ban here and copies nothing else, so that a thousand orders
//! between two readings cost what a thousand orders cost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::control::{self, SelfCheck, Status};
use crate::model::{Direction, Remotes, Wall};
use crate::origins::{Estimate, Loudest, Origins, Summary};
use crate::verdicts::{Ban, BanId, Cause};

/// Shared by the tick, which writes, and the clients' threads, which read.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Without the bans.
    status: Mutex<Arc<Status>>,
    bans: Mutex<BTreeMap<IpAddr, (BanId, control::Ban)>>,
    origins: Origins,
    /// Set once.
    self_check: OnceLock<Arc<SelfCheck>>,
}

impl Shown {
    /// Until the first reading.
    pub(super) fn new(status: Status) -> Self {
        Self { status: Mutex::new(Arc::new(status)), ..Self::default() }
    }

    /// Tells whence packets come, as far as that is known.
    pub(super) fn knowing(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// The agent has looked for mistakes.
    pub(super) fn checked(&self, found: SelfCheck) {
        // There is one look.
        let _again = self.self_check.set(Arc::new(found));
    }

    /// What that found, once it has.
    pub(super) fn self_check(&self) -> Option<Arc<SelfCheck>> {
        self.self_check.get().cloned()
    }

    /// The state without the bans.
    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of it, with no more hosts than were asked for.
    pub(super) fn whole(&self, hosts: usize) -> Status {
        let latest = self.status();
        // Nobody waits for the lock while systems and countries are looked up.
        let bans: Vec<control::Ban> = self.lock().values().map(|(_, ban)| ban.clone()).collect();
        let cut = |list: &[control::Host]| list.iter().take(hosts).cloned().collect();
        let lists = &latest.hosts;
        Status {
            hosts: control::Hosts {
                incoming_packets: cut(&lists.incoming_packets),
                outgoing_packets: cut(&lists.outgoing_packets),
                incoming_bytes: cut(&lists.incoming_bytes),
                outgoing_bytes: cut(&lists.outgoing_bytes),
            },
            bans: bans.into_iter().map(|ban| self.located(ban)).collect(),
            origins: self.origins.summary().map(|summary| Box::new(shown_origins(&summary))),
            self_check: self.self_check().map(|found| SelfCheck::clone(&found)),
            ..Status::clone(&latest)
        }
    }

    /// The ban of this host, when one stands.
    pub(super) fn standing(&self, address: IpAddr) -> Option<control::Ban> {
        let ban = self.lock().get(&address).map(|(_, ban)| ban.clone());
        ban.map(|ban| self.located(ban))
    }

    /// With what is known of where its packets come from.
    fn located(&self, ban: control::Ban) -> control::Ban {
        let remotes = self.origins.of_ban(ban.id).map(|remotes| Remotes::clone(&remotes));
        control::Ban { remotes, ..ban }
    }

    /// A reading was judged.
    #[expect(single_use_lifetimes, reason = "a lifetime within `impl Trait` must have a name")]
    pub(super) fn put<'bans>(
        &self,
        status: Status,
        standing: impl Iterator<Item = (&'bans Ban, Option<control::Dropping>)>,
        wall: Wall,
    ) {
        let mut bans = self.lock();
        let mut gone: BTreeSet<IpAddr> = bans.keys().copied().collect();
        for (ban, dropping) in standing {
            gone.remove(&ban.address);
            let (id, shown) =
                bans.entry(ban.address).or_insert_with(|| (ban.id, shown_ban(ban, wall)));
            if *id == ban.id {
                follow(shown, ban);
            } else {
                (*id, *shown) = (ban.id, shown_ban(ban, wall));
            }
            shown.drop = dropping;
        }
        for address in gone {
            bans.remove(&address);
        }
        drop(bans);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }

    /// Somebody is banned.
    pub(super) fn ban(&self, ban: &Ban, wall: Wall) {
        self.lock().insert(ban.address, (ban.id, shown_ban(ban, wall)));
    }

    /// Somebody is let go.
    pub(super) fn unban(&self, address: IpAddr) {
        self.lock().remove(&address);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, (BanId, control::Ban)>> {
        self.bans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown_origins(summary: &Summary) -> control::Origins {
    let loudest = |loudest: &Loudest<Estimate>| control::Loudest {
        samples: loudest.whole.samples,
        systems: loudest
            .systems
            .iter()
            .map(|&(asn, ref name, Estimate { samples, pps, bps })| control::System {
                asn,
                name: name.to_string(),
                samples,
                pps,
                bps,
            })
            .collect(),
        countries: loudest
            .countries
            .iter()
            .map(|&(ref country, Estimate { samples, pps, bps })| control::Country {
                country: country.clone(),
                samples,
                pps,
                bps,
            })
            .collect(),
    };
    control::Origins {
        sample_every: summary.every,
        span_secs: summary.span.as_secs(),
        incoming: loudest(&summary.incoming),
        outgoing: loudest(&summary.outgoing),
    }
}

/// What changes while a ban stands.
fn follow(shown: &mut control::Ban, ban: &Ban) {
    shown.peak_pps = ban.peak_pps;
    shown.peak_mbps = ban.peak_mbps;
    shown.packets = ban.total.packets;
    shown.bytes = ban.total.bytes;
    if *shown.because != *ban.attack.because {
        ban.attack.kind.name().clone_into(&mut shown.kind);
        (*ban.attack.because).clone_into(&mut shown.because);
    }
}

fn shown_ban(ban: &Ban, wall: Wall) -> control::Ban {
    let (cause, rule, reason) = match &ban.cause {
        Cause::Rule { subject, measure, threshold, measured } => {
            let (subject, unit) = (subject.name(), measure.name());
            ("threshold", format!("{subject}: {measured} of {threshold} {unit}"), None)
        }
        Cause::Operator { reason } => ("operator", String::new(), reason.as_deref()),
    };
    control::Ban {
        id: ban.id.0,
        ip: ban.address,
        direction: match ban.direction {
            Direction::Incoming => control::Way::Incoming,
            Direction::Outgoing => control::Way::Outgoing,
        },
        pps: ban.pps,
        peak_pps: ban.peak_pps,
        peak_mbps: ban.peak_mbps,
        packets: ban.total.packets,
        bytes: ban.total.bytes,
        cause: cause.to_owned(),
        rule,
        reason: reason.map(ToOwned::to_owned),
        kind: ban.attack.kind.name().to_owned(),
        because: (*ban.attack.because).to_owned(),
        group: (*ban.group).to_owned(),
        dry_run: ban.dry_run,
        since: wall.unix_secs(ban.since),
        until: ban.until.map(|until| wall.unix_secs(until)),
        drop: None,
        remotes: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bans_are_shown_as_they_stand_between_two_readings() {
        let shown = Shown::new(Status::default());
        let wall = Wall { unix: Duration::from_secs(1_000_000), ..Wall::default() };
        let mut ban = Ban::of([192, 0, 2, 7]);
        shown.ban(&ban, wall);
        let told = shown.whole(7).bans;
        assert_eq!((told.len(), told[0].rule.as_str()), (1, "total: 40000 of 30000 pps"));
        ban.peak_pps = 90_000;
        shown.put(Status::default(), [(&ban, None)].into_iter(), wall);
        assert_eq!(shown.whole(7).bans[0].peak_pps, 90_000);
        shown.unban(ban.address);
        assert!(shown.whole(7).bans.is_empty());
        shown.ban(&ban, wall);
        shown.put(Status::default(), [].into_iter(), wall);
        assert!(shown.whole(7).bans.is_empty());
    }
}
