//! Where reports are handed out.
//!
//! **Invariant**: who only shows gets the latest; who adds up gets every one, by a queue that is
//! short since they only write down what they want. Nobody is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};

use crate::reports::{Press, Report, Round, Wants};

/// Reports that wait for one who adds up.
const QUEUE: usize = 8;

/// What the tasks on the thread of the exports are given.
#[derive(Clone, Debug)]
pub struct Told {
    /// The latest report; `None` until there is one.
    pub latest: watch::Receiver<Option<Arc<Report>>>,
    /// To hold what is wanted of the next.
    pub wants: Arc<Wants>,
}

/// Every report, for one who adds up.
#[derive(Debug)]
pub struct Subscription {
    /// They come here.
    pub reports: mpsc::Receiver<Arc<Report>>,
    /// Those that found the queue full.
    pub missed: Arc<AtomicU64>,
}

/// Hands reports out.
#[derive(Debug)]
pub struct Desk {
    latest: watch::Sender<Option<Arc<Report>>>,
    adders: Vec<(mpsc::Sender<Arc<Report>>, Arc<AtomicU64>)>,
    wants: Arc<Wants>,
}

impl Desk {
    /// Makes reports as detailed as `wants` says.
    pub fn new(wants: Arc<Wants>) -> Self {
        Self { latest: watch::Sender::new(None), adders: Vec::new(), wants }
    }

    /// For those who show.
    pub fn told(&self) -> Told {
        Told { latest: self.latest.subscribe(), wants: Arc::clone(&self.wants) }
    }

    /// For one who adds up.
    pub fn subscribe(&mut self) -> Subscription {
        let (sender, reports) = mpsc::channel(QUEUE);
        let missed = Arc::new(AtomicU64::new(0));
        self.adders.push((sender, Arc::clone(&missed)));
        Subscription { reports, missed }
    }

    /// Makes and hands out a report for each round, until there are no more.
    pub async fn run(self, mut rounds: mpsc::Receiver<Round>) {
        let mut press = Press::default();
        while let Some(round) = rounds.recv().await {
            let report = Arc::new(press.print(round, self.wants.most()));
            for (adder, missed) in &self.adders {
                if adder.try_send(Arc::clone(&report)).is_err() {
                    missed.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.latest.send_replace(Some(report));
        }
    }
}
