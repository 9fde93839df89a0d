//! What is dropped: whether it may be, and what is told of it.
//!
//! **Invariant**: asked before anything is attached. Who wants packets dropped where they cannot be
//! is refused, never left in the belief that they are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use crate::actions::XdpDrop;
use crate::capture::{EgressName, EngineName, RoleName};
use crate::control;
use crate::counters::Reading;
use crate::daemon::{Settings, StartError};
use crate::kernel::Gates;
use crate::model::{Moment, Tally, Wall};
use crate::rates::Channel;
use crate::verdicts::{Ban, Judge};

/// What the programs may drop, by these settings.
pub(super) const fn gates(settings: &Settings) -> Gates {
    if !is_wanted(settings) {
        return Gates::NONE;
    }
    Gates { hosts: settings.xdp_drop.max_hosts.count(), outgoing: settings.xdp_drop.outgoing }
}

/// Does anybody want packets dropped?
pub(super) const fn is_wanted(settings: &Settings) -> bool {
    settings.xdp_drop.enabled
}

/// Refuses what can be seen to be impossible without asking the system.
///
/// # Errors
/// With the key that stands in the way.
pub fn check(settings: &Settings) -> Result<(), StartError> {
    let capture = &settings.capture;
    if !is_wanted(settings) {
        return Ok(());
    }
    match capture.engine {
        EngineName::Xdp | EngineName::XdpGeneric | EngineName::Auto => {}
        engine @ (EngineName::AfPacket
        | EngineName::Pcap
        | EngineName::Nflog
        | EngineName::PfRing) => {
            return Err(StartError::DropWithout { engine: engine.name(), reason: None });
        }
    }
    if capture.role == RoleName::Mirror {
        return Err(StartError::DropCopies);
    }
    if settings.xdp_drop.outgoing && capture.egress == EgressName::Clsact {
        return Err(StartError::DropByFilter);
    }
    Ok(())
}

/// What is dropped of those who are banned, since they are.
#[derive(Debug, Default)]
pub(super) struct Drops {
    by: Option<XdpDrop>,
    dropped: HashMap<IpAddr, Channel>,
}

impl Drops {
    /// By this action, where there is one.
    pub(super) fn new(by: Option<XdpDrop>) -> Self {
        Self { by, dropped: HashMap::new() }
    }

    /// Is packets being dropped any business of this ban's?
    pub(super) fn concerns(&self, ban: &Ban) -> bool {
        self.by.as_ref().is_some_and(|by| by.concerns(ban))
    }

    /// Adds up what a reading says.
    pub(super) fn read(&mut self, reading: &Reading, judge: &Judge) {
        let Some(by) = &self.by else { return };
        for ban in judge.standing().filter(|ban| by.concerns(ban)) {
            let dropped = reading.dropped(ban.host, ban.direction);
            self.dropped.entry(ban.address).or_default().take(dropped, reading.span);
        }
    }

    /// A ban is over: how many packets of it were dropped, as far as they were read.
    pub(super) fn forget(&mut self, address: IpAddr) -> Option<u64> {
        self.dropped.remove(&address).map(|dropped| dropped.total.packets)
    }

    /// Bans that stand and are not dropped any more, in a sentence.
    pub(super) fn alarm(&self, now: Moment, judge: &Judge) -> Option<String> {
        let by = self.by.as_ref()?;
        let is_over = |ban: &&Ban| by.rule(ban.address).is_some_and(|rule| rule.until <= now);
        let over = judge.standing().filter(is_over).count();
        (over > 0).then(|| {
            format!(
                "{over} bans stand and are not dropped any more: `max_secs` in `[xdp_drop]` is over."
            )
        })
    }

    /// What operators are told of a ban.
    pub(super) fn shown(&self, ban: &Ban, wall: Wall) -> Option<control::Dropping> {
        let rule = self.by.as_ref()?.rule(ban.address)?;
        let Channel { total, per_second } =
            self.dropped.get(&ban.address).copied().unwrap_or_default();
        let Tally { packets, bytes } = total;
        let (pps, bps) = (per_second.pps, per_second.bits());
        Some(control::Dropping {
            what: rule.signature.to_string(),
            rate_pps: rule.rate.map_or(0, NonZeroU32::get),
            until: wall.unix_secs(rule.until),
            dropped: control::Traffic { packets, bytes, pps, bps },
        })
    }
}
