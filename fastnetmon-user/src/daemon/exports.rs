//! The thread of the exports: made when somebody outside is to be told.
//!
//! **Invariant**: one thread, one runtime; nothing on it is waited for by the tick. What blocks
//! runs beside it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::error;

use crate::control::Status;
use crate::daemon::Settings;
use crate::reports::{Desk, Gatherer, Health, Round, Told, Wants};

/// Rounds that wait for the thread.
const ROUNDS: usize = 2;

/// How long what is on its way may take when the agent ends.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// What the tick keeps, and what the thread is to do.
pub(super) fn prepare(settings: &Settings) -> (Gatherer, Option<Exports>) {
    let wants = Arc::new(Wants::default());
    if !is_needed(settings) {
        return (Gatherer::new(wants, None), None);
    }
    let (hand, rounds) = mpsc::channel(ROUNDS);
    (Gatherer::new(Arc::clone(&wants), Some(hand)), Some(Exports { wants, rounds }))
}

/// Is anybody outside to be told?
const fn is_needed(_settings: &Settings) -> bool {
    false
}

/// What the thread is given.
#[derive(Debug)]
pub(super) struct Exports {
    wants: Arc<Wants>,
    rounds: mpsc::Receiver<Round>,
}

impl Exports {
    /// Runs until the tick has ended, and a little longer.
    pub(super) fn run(self) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.serve());
                runtime.shutdown_timeout(FAREWELL);
            }
            Err(error) => error!(%error, "The exports cannot start."),
        }
    }

    async fn serve(self) {
        let Self { wants, rounds } = self;
        let desk = Desk::new(wants);
        let mut tasks = JoinSet::new();
        show(&desk.told(), &mut tasks);
        desk.run(rounds).await;
        // Who adds up sees its queue closed and sends what is left; who only shows is ended.
        let _late =
            tokio::time::timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} })
                .await;
    }
}

/// Starts those who show the latest report.
fn show(_told: &Told, _tasks: &mut JoinSet<()>) {}

/// How the agent is, as reports have it.
pub(super) fn health(status: &Status, notices_lost: u64, waiting: usize) -> Health {
    Health {
        version: status.version.as_str().into(),
        engine: status.engine.as_str().into(),
        role: status.role.as_str().into(),
        interfaces: status.interfaces.as_slice().into(),
        uptime: Duration::from_secs(status.uptime_secs),
        dropped: status.packets.dropped,
        redirected: status.packets.redirected,
        samples_lost: status.packets.samples_lost,
        notices_lost,
        tick: Duration::from_micros(status.tick_micros),
        residents: (status.ipv6.hosts, status.ipv6.room),
        turned_away: (status.ipv6.evicted, status.ipv6.refused),
        waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
        alarms: status.alarms.as_slice().into(),
        ..Health::default()
    }
}
