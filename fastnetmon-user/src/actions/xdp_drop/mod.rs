//! The kernel drops, or lets through at a rate, what a ban describes.
//!
//! | verdict | deed |
//! |---|---|
//! | ban | everything of the host, in the direction of the attack |
//! | details | `mode = "signature"`: only what the packets have in common, if enough of them have |
//! | unban | nothing any more |
//!
//! **Invariant**: a rule never outlives `max_secs` counted from its ban's beginning, whoever is there
//! to end it: the deadline lies in the kernel with the rule. A restart does not make it longer.

mod settings;
mod signature;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

pub use self::settings::{Hosts, Lifetime, Mode, Percent, Settings};
pub use self::signature::{Common, tightest};
use crate::actions::{Action, ActionError, Errand, Sort};
use crate::kernel::{Gate, GateFull, Rule};
use crate::model::{Direction, Seen, Signature};
use crate::verdicts::{Ban, Verdict};

/// Has packets dropped. A copy is another handle of the same gate.
#[derive(Clone, Debug)]
pub struct XdpDrop {
    gate: Arc<Mutex<Gate>>,
    settings: Settings,
}

impl XdpDrop {
    /// By this gate.
    pub fn new(gate: Gate, settings: Settings) -> Self {
        Self { gate: Arc::new(Mutex::new(gate)), settings }
    }

    /// What is said of this host, if anything is.
    pub fn rule(&self, address: IpAddr) -> Option<Rule> {
        self.lock().rule(address).cloned()
    }

    /// Is this ban any business of the gate's?
    pub fn concerns(&self, ban: &Ban) -> bool {
        let way = ban.direction == Direction::Incoming || self.settings.outgoing;
        ban.deeds.xdp_drop && !ban.dry_run && way
    }

    /// Has the kernel drop again what it dropped for these bans before the agent was started anew:
    /// everything, as the dumps are gone, and no longer than it would have.
    ///
    /// # Errors
    /// When one of them finds no place; the others do.
    pub fn resume(&self, standing: &[Ban]) -> Result<(), ActionError> {
        let mut outcome = Ok(());
        for ban in standing.iter().filter(|ban| self.concerns(ban)) {
            // One that finds no place takes none from those behind it.
            outcome = self.begin(ban).and(outcome);
        }
        outcome
    }

    fn obey(&self, verdict: &Verdict) -> Result<(), ActionError> {
        match verdict {
            Verdict::Ban(ban) if self.concerns(ban) => self.begin(ban),
            Verdict::Details(ban, packets) if self.concerns(ban) => self.narrow(ban, packets),
            // Whatever is meant by now: what was begun is ended.
            Verdict::Unban(ban, _) => {
                self.lock().open(ban.address);
                Ok(())
            }
            Verdict::Ban(_) | Verdict::Details(..) | Verdict::Alert(_) | Verdict::Calm(_) => Ok(()),
        }
    }

    /// Everything, unless this very ban has a rule already, which may be narrower by now.
    fn begin(&self, ban: &Ban) -> Result<(), ActionError> {
        let rule = self.of(ban, Signature::default());
        let mut gate = self.lock();
        let is_there = gate
            .rule(ban.address)
            .is_some_and(|there| there.host == rule.host && there.until == rule.until);
        if is_there { Ok(()) } else { gate.shut(rule).map_err(full) }
    }

    fn narrow(&self, ban: &Ban, packets: &[Seen]) -> Result<(), ActionError> {
        if self.settings.mode == Mode::Host {
            return Ok(());
        }
        let (host, cover) = (ban.address, self.settings.cover_percent);
        let Some(Common { signature, described, of }) =
            tightest(packets, host, ban.direction, cover)
        else {
            warn!(%host, packets = packets.len(), "The packets have too little in common: everything is dropped.");
            return self.begin(ban);
        };
        info!(%host, %signature, described, of, "Only the signature is dropped.");
        self.lock().shut(self.of(ban, signature)).map_err(full)
    }

    fn of(&self, ban: &Ban, signature: Signature) -> Rule {
        let Settings { max_secs, .. } = self.settings;
        Rule {
            host: ban.host,
            address: ban.address,
            direction: ban.direction,
            signature,
            rate: self.settings.rate(),
            until: ban.since + max_secs.duration(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Action for XdpDrop {
    const NAME: &'static str = "xdp_drop";
    const SORT: Sort = Sort::Does;

    fn wants(&self, verdict: &Verdict) -> bool {
        verdict.ban().is_some_and(|ban| self.concerns(ban))
    }

    fn carry_out(&mut self, errand: &Errand, _: Duration) -> Result<(), ActionError> {
        self.obey(&errand.verdict)
    }

    fn restore(&mut self, standing: &[Ban], _: Duration) -> Result<(), ActionError> {
        self.resume(standing)
    }
}

fn full(GateFull(most): GateFull) -> ActionError {
    ActionError::Refused {
        reason: format!(
            "as many hosts as `max_hosts` in `[xdp_drop]` allows ({most}) are dropped already, so this \
             one is not: raise it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HostId, Moment};
    use crate::verdicts::{Deeds, Ending};

    fn ban(last: u8) -> Ban {
        Ban {
            host: HostId(300 + u32::from(last)),
            since: Moment::after_boot(Duration::from_secs(10)),
            ..Ban::of([192, 0, 2, last])
        }
    }

    fn action(hosts: u32, settings: Settings) -> XdpDrop {
        XdpDrop::new(Gate::of_nobody(hosts), settings)
    }

    fn what(action: &XdpDrop, last: u8) -> Option<String> {
        action.rule([192, 0, 2, last].into()).map(|rule| rule.signature.to_string())
    }

    /// Answers to names, all alike.
    fn packets(last: u8) -> Arc<[Seen]> {
        let packet = Seen::of([203, 0, 113, 9], [192, 0, 2, last]);
        let packet = Seen { ports: (53, 4000), bytes: 1400, ..packet };
        vec![packet; 50].into()
    }

    #[test]
    fn a_ban_drops_everything_and_its_details_what_they_have_in_common() {
        let settings = Settings { mode: Mode::Signature, ..Settings::default() };
        let action = action(2, settings);
        let udp = "udp, from port 53, to port 4000, 1400 bytes, from 203.0.113.9/32";
        // Everything twice: it is one deed.
        for _ in 0..2 {
            action.obey(&Verdict::Ban(ban(1))).unwrap();
        }
        assert_eq!(what(&action, 1).as_deref(), Some("everything"));
        for _ in 0..2 {
            action.obey(&Verdict::Details(ban(1), packets(1))).unwrap();
            assert_eq!(what(&action, 1).as_deref(), Some(udp));
        }
        // A ban that is told again does not widen what was narrowed.
        action.obey(&Verdict::Ban(ban(1))).unwrap();
        assert_eq!(what(&action, 1).as_deref(), Some(udp));
        for _ in 0..2 {
            action.obey(&Verdict::Unban(ban(1), Ending::Over)).unwrap();
            assert_eq!(what(&action, 1), None);
        }
        // Details that say nothing leave everything dropped.
        action.obey(&Verdict::Ban(ban(2))).unwrap();
        action.obey(&Verdict::Details(ban(2), [].into())).unwrap();
        assert_eq!(what(&action, 2).as_deref(), Some("everything"));
    }

    #[test]
    fn details_narrow_nothing_where_the_host_is_what_is_dropped() {
        let action = action(2, Settings::default());
        action.obey(&Verdict::Ban(ban(1))).unwrap();
        action.obey(&Verdict::Details(ban(1), packets(1))).unwrap();
        assert_eq!(what(&action, 1).as_deref(), Some("everything"));
    }

    #[test]
    fn who_is_not_meant_is_not_dropped() {
        let not_meant = Deeds { xdp_drop: false, ..Deeds::default() };
        for ban in [
            Ban { dry_run: true, ..ban(1) },
            Ban { deeds: not_meant, ..ban(1) },
            Ban { direction: Direction::Outgoing, ..ban(1) },
        ] {
            let action = action(2, Settings::default());
            assert!(!action.concerns(&ban));
            action.obey(&Verdict::Ban(ban.clone())).unwrap();
            action.obey(&Verdict::Details(ban.clone(), packets(1))).unwrap();
            action.resume(&[ban]).unwrap();
            assert_eq!(what(&action, 1), None);
        }
        let action = action(2, Settings { outgoing: true, ..Settings::default() });
        let outgoing = Ban { direction: Direction::Outgoing, ..ban(1) };
        action.obey(&Verdict::Ban(outgoing)).unwrap();
        let rule = action.rule([192, 0, 2, 1].into()).unwrap();
        assert_eq!(rule.direction, Direction::Outgoing);
    }

    #[test]
    fn one_host_too_many_is_refused_with_the_key_to_raise() {
        let action = action(1, Settings::default());
        action.obey(&Verdict::Ban(ban(1))).unwrap();
        let error = action.obey(&Verdict::Ban(ban(2))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "as many hosts as `max_hosts` in `[xdp_drop]` allows (1) are dropped already, so this one \
             is not: raise it"
        );
        action.obey(&Verdict::Unban(ban(1), Ending::Over)).unwrap();
        action.obey(&Verdict::Ban(ban(2))).unwrap();
    }

    #[test]
    fn a_restart_takes_bans_up_again_and_makes_none_longer() {
        let lifetime = Lifetime::try_from(100).unwrap();
        let settings = Settings { max_secs: lifetime, ..Settings::default() };
        let action = action(2, settings);
        let error = action.resume(&[ban(1), ban(2), ban(3)]).unwrap_err();
        assert!(matches!(error, ActionError::Refused { .. }));
        for last in [1, 2] {
            let rule = action.rule([192, 0, 2, last].into()).unwrap();
            assert!(rule.signature.is_everything());
            assert_eq!(rule.until, Moment::after_boot(Duration::from_secs(110)));
        }
        assert_eq!(what(&action, 3), None);
        action.obey(&Verdict::Ban(ban(1))).unwrap();
        let rule = action.rule([192, 0, 2, 1].into()).unwrap();
        assert_eq!(rule.until, Moment::after_boot(Duration::from_secs(110)));
    }
}
