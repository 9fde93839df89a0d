//! The latest report and what was before it, for whoever asks now and then.
//!
//! **Invariant**: a reader holds the book for as long as it takes to copy what it wants, and never
//! the tick up: that hands its rounds over and is gone.

use std::sync::{Arc, Mutex, PoisonError};

use crate::reports::{History, Meters, Report, history};

/// What is read by the API, the page and the console.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    latest: Option<Arc<Report>>,
    history: History,
    meters: Meters,
}

impl Book {
    /// Puts a report down. The loudest are looked for before anybody could be waiting.
    pub fn take(&self, report: &Arc<Report>) {
        let loudest = report.loudest(1, history::HOSTS);
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.history.take(report, &loudest);
        pages.meters.take(report);
        pages.latest = Some(Arc::clone(report));
    }

    /// The latest report; `None` until there is one.
    pub fn latest(&self) -> Option<Arc<Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).latest.clone()
    }

    /// Reads in the history.
    pub fn history<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner).history)
    }

    /// What was added up since the agent started.
    pub fn meters(&self) -> Meters {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).meters.clone()
    }
}
