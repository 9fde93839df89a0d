//! What the service manager is told: ready, alive, going.
//!
//! **Invariant**: says nothing where nobody asked (`NOTIFY_SOCKET` is not set), and never waits.
//! Ready means that packets are counted; alive means that a reading was taken. The protocol is that
//! of `sd_notify(3)`.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{debug, warn};

use crate::model::Moment;

/// The sign of life that each reading gives.
#[derive(Debug)]
pub(super) struct Pulse {
    /// Half of what the service manager waits for, when it waits.
    every: Option<Duration>,
    next: Moment,
}

impl Pulse {
    /// Asks whether the service manager waits for signs of life (`WATCHDOG_USEC`).
    pub(super) fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|patience| patience / 2);
        if let Some(every) = every.filter(|every| *every < LEAST) {
            warn!(
                ?every,
                "The service manager is more impatient than a slow reading: give `WatchdogSec` 5 s."
            );
        }
        Self { every, next: Moment::default() }
    }

    /// A reading was taken.
    pub(super) fn beat(&mut self, now: Moment) {
        let Some(every) = self.every else { return };
        if now >= self.next {
            self.next = now + every.min(MOST);
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Readings come once a second; a busy machine makes some of them late.
const LEAST: Duration = Duration::from_millis(2500);

/// No need to wait for longer.
const MOST: Duration = Duration::from_secs(1);

/// Packets are counted.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("counts packets")]);
}

/// The agent ends, and may take its time over script calls.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("waits for script calls to end")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "The service manager cannot be told.");
    }
}
