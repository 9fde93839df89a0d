//! Containers of an OpenVZ node come and go: a thread reads their table, the tick follows.
//!
//! **Invariant**: the tick never waits for the table. It is told of a change by a channel of one
//! place; while nothing changes and nobody is leaving, it does nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use tracing::{error, info};

use crate::model::{HostId, Moment};
use crate::networks::{self, Applied, Guarded, PlanError, Territory, Wards};
use crate::rates::RateFrame;

/// How often the table is read, and how often those that are leaving are looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// What the table says, or why it says nothing.
pub(super) type News = Result<BTreeSet<IpAddr>, String>;

/// Whom we guard, as it changes.
#[derive(Debug)]
pub(super) struct Containers {
    wards: Wards,
    news: Receiver<News>,
    next: Moment,
    /// Why the table cannot be followed.
    unread: Option<String>,
    /// Why those who came are not counted.
    refused: Option<String>,
}

impl Containers {
    /// Follows what `news` tells, from what was read at the start.
    pub(super) fn new(read: Guarded, news: Receiver<News>) -> Self {
        let (unread, refused) = (None, None);
        Self { wards: Wards::new(read), news, next: Moment::default(), unread, refused }
    }

    /// Applies what is new. `banned` are the hosts a ban stands for; `settle` is called before lines
    /// change hands.
    pub(super) fn follow(
        &mut self,
        now: Moment,
        latest: &RateFrame,
        territory: &mut Territory,
        banned: impl Iterator<Item = IpAddr>,
        settle: impl FnOnce(),
    ) {
        let is_told = match self.news.try_recv() {
            Ok(Ok(present)) => {
                self.unread = None;
                self.wards.meet(now, present);
                true
            }
            Ok(Err(reason)) => {
                error!(%reason, "The table of containers cannot be read; those known stay guarded.");
                self.unread = Some(reason);
                false
            }
            Err(_nothing) => false,
        };
        self.see_off(now, latest, territory);
        if !is_told && now < self.next {
            return;
        }
        self.next = now + PERIOD;
        let banned: BTreeSet<IpAddr> = banned.collect();
        let Some(guarded) = self.wards.changed(now, |host| banned.contains(&host)) else { return };
        settle();
        match territory.apply(&guarded, banned) {
            Ok(applied) => {
                self.refused = None;
                let (joined, left) = (applied.joined.len(), applied.left.len());
                info!(joined, left, entries = applied.entries, "Containers came or went.");
            }
            Err(error) => {
                error!(%error, "Containers came and are not counted.");
                self.refused = Some(error.to_string());
            }
        }
    }

    /// The files were read again: guards what they say from now on, or changes nothing.
    ///
    /// # Errors
    /// When there is no room.
    pub(super) fn relist(
        &mut self,
        now: Moment,
        read: Guarded,
        territory: &mut Territory,
        banned: &BTreeSet<IpAddr>,
    ) -> Result<Applied, PlanError> {
        let mut wards = self.wards.clone();
        wards.relist(now, read);
        let Some(guarded) = wards.changed(now, |host| banned.contains(&host)) else {
            return Ok(Applied::default());
        };
        let applied = territory.apply(&guarded, banned.iter().copied())?;
        self.wards = wards;
        self.refused = None;
        Ok(applied)
    }

    /// What an operator should know.
    pub(super) fn alarms(&self) -> impl Iterator<Item = String> + '_ {
        let unread = self.unread.as_ref().map(|reason| {
            format!(
                "The table of containers cannot be read, so new ones are not counted: {reason}."
            )
        });
        let refused = self
            .refused
            .as_ref()
            .map(|reason| format!("Containers came and are not counted: {reason}."));
        unread.into_iter().chain(refused)
    }

    /// Of whom is something seen that is gone from the table?
    fn see_off(&mut self, now: Moment, latest: &RateFrame, territory: &mut Territory) {
        let leaving: BTreeMap<HostId, IpAddr> = self
            .wards
            .leaving()
            .filter_map(|address| territory.host(address).map(|host| (host, address)))
            .collect();
        if leaving.is_empty() {
            return;
        }
        for gain in latest.moved.iter() {
            if let Some(&address) = leaving.get(&gain.host) {
                self.wards.stir(now, address);
            }
        }
    }
}

/// Reads the table until the agent ends, and tells when it says something new.
pub(super) fn read(file: PathBuf, first: Vec<IpAddr>, news: Sender<News>, stop: Receiver<()>) {
    let mut last: News = Ok(first.into_iter().collect());
    while stop.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        let table = networks::read_containers(&file)
            .map(|hosts| hosts.unwrap_or_default().into_iter().collect())
            .map_err(|error| error.to_string());
        if table == last {
            continue;
        }
        match news.try_send(table.clone()) {
            Ok(()) => last = table,
            // The tick is busy: the next round tells it.
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}
