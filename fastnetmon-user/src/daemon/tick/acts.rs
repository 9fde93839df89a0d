//! What the tick does about verdicts, and with what stood before the agent started.
//!
//! **Invariant**: as everywhere on this thread, nothing here waits for an action or a disk.

use std::net::IpAddr;
use std::time::Duration;

use tracing::{error, info};

use super::State;
use crate::actions::{Note, Overflow, Receipt};
use crate::daemon::backlog::Which;
use crate::daemon::clock;
use crate::daemon::reload::{Applied, Change};
use crate::model::{HostId, Moment};
use crate::verdicts::{Ending, Order, Verdict};

/// How often what is known of bans (peaks, totals) is written down while any stand.
const KNOWN_EVERY: Duration = Duration::from_mins(1);

/// A disk that takes longer is an alarm.
const SLOW: Duration = Duration::from_secs(5);

impl State {
    /// Goes on where the agent before this one stopped.
    pub(super) fn take_up(&mut self, now: Moment) {
        let resumed = std::mem::take(&mut self.tick.resumed);
        for pending in resumed.pending {
            let (ip, what) = (pending.errand.about().address(), pending.errand.verdict.name());
            if let Err(full) = self.tick.actions.resume(pending) {
                self.overflow(full, ip, what);
            }
        }
        for ban in resumed.gone {
            info!(ip = %ban.address, "Let go: it is in none of our networks any more.");
            let reason = Some("it is in none of our networks any more".into());
            self.act(Verdict::Unban(ban, Ending::Operator { reason }));
        }
        let by = now + self.tick.judge.policy().details_deadline;
        let untold = resumed.untold.into_iter();
        let armed: Vec<(HostId, IpAddr)> =
            untold.filter_map(|address| self.tick.judge.collect(address, by)).collect();
        self.arm(now, &armed);
    }

    /// Has packets of these hosts kept for their dumps.
    pub(super) fn arm(&mut self, now: Moment, armed: &[(HostId, IpAddr)]) {
        let super::Tick { evidence, territory, packets, tray, .. } = &mut self.tick;
        let wanted = tray.wanted(*packets);
        evidence.arm(now, armed, usize::try_from(wanted).unwrap_or(usize::MAX));
        for (host, address) in armed {
            territory.arm(*host, *address, wanted);
            self.watch.forget(*host);
        }
    }

    /// Sends the actions.
    pub(super) fn act(&mut self, verdict: Verdict) {
        let (ip, what) = (verdict.about().address(), verdict.name());
        self.note(&verdict);
        let is_over = matches!(verdict, Verdict::Unban(..));
        let forgotten = is_over.then(|| verdict.clone());
        match self.tick.actions.hand(verdict, clock::wall()) {
            Ok(receipt) => {
                self.unwritten.get_or_insert_with(|| (clock::now(), receipt.clone()));
                self.written = Some(receipt);
            }
            Err(full) => self.overflow(full, ip, what),
        }
        if let Some(verdict) = forgotten {
            self.tick.actions.forget(&verdict);
        }
    }

    fn overflow(&mut self, full: Vec<Overflow>, ip: IpAddr, what: &'static str) {
        for overflow in full {
            self.overflows += 1;
            error!(%ip, what, error = %overflow, "An action was not taken.");
        }
    }

    /// What an order's answer waits for: that it is on disk.
    pub(super) const fn receipt(&mut self) -> Option<Receipt> {
        self.written.take()
    }

    /// Tells the journal what stands: now and then, and whenever it missed something.
    pub(super) fn keep_notes(&mut self, now: Moment) {
        self.unwritten.take_if(|(_, receipt)| receipt.is_given());
        let is_behind = self.tick.actions.notebook().lost() > 0;
        if is_behind || now.since(self.noted) >= KNOWN_EVERY {
            self.noted = now;
            if is_behind || self.tick.judge.standing().next().is_some() {
                self.note_standing();
            }
        }
    }

    /// The last word: the next agent begins with it.
    pub(super) fn note_standing(&self) {
        let bans = self.tick.judge.standing().cloned().collect();
        // One that finds no room is made good at the next reading.
        self.tick.actions.notebook().put(Note::Standing { bans, wall: clock::wall() });
    }

    /// Goes by another configuration from now on, or by none of it.
    pub(super) fn change(&mut self, now: Moment, change: Change) -> Result<Applied, String> {
        let Change { policy, guarded, actions, packets, farewell, .. } = change;
        // What waits for a line that is given to somebody else is his.
        self.tick.backlog.settle(Which::All);
        let super::Tick { containers, territory, judge, .. } = &mut self.tick;
        let held = judge.standing().map(|ban| ban.address).collect();
        let networks =
            containers.relist(now, guarded, territory, &held).map_err(|error| error.to_string())?;
        // From here on nothing can go wrong but threads that cannot be started.
        let told = self.order(now, Order::Reload(Box::new(policy)))?;
        self.tick.packets = packets;
        let failed = self.tick.actions.replace(actions, farewell).err();
        if let Some(error) = &failed {
            error!(%error, "Not all threads of the actions could be started.");
        }
        self.noted = now;
        self.note_standing();
        Ok(Applied { networks, told, failed: failed.map(|error| error.to_string()) })
    }

    /// What an operator should know of journal and actions.
    pub(super) fn troubles(&self) -> Vec<String> {
        let mut troubles = self.tick.actions.troubles();
        troubles.extend(self.tick.backlog.trouble().map(str::to_owned));
        if let Some(reason) = self.journal_trouble() {
            troubles.push(format!(
                "The journal cannot be written, so bans would not outlive the agent: {reason}."
            ));
        }
        if let Some((since, _)) = &self.unwritten {
            let silent = clock::now().since(*since);
            if silent > SLOW {
                let silent = silent.as_secs();
                troubles.push(format!(
                    "The disk of the journal has not answered for {silent} s: bans would not \
                     outlive the agent, and each call of the script waits a moment for it."
                ));
            }
        }
        troubles
    }

    fn journal_trouble(&self) -> Option<String> {
        let Self { tick: super::Tick { journal_trouble, .. }, .. } = self;
        journal_trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
