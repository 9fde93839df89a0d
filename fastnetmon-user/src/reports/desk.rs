//! Where reports are handed out.
//!
//! **Invariant**: who only shows gets the latest; who adds up gets every one, by a queue that is
//! short since they only write down what they want. Nobody is waited for but, for a moment, those
//! who still read the report before: letting it go takes time, and is done here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::reports::{Book, Press, Report, Round, Wants};

/// Reports that wait for one who adds up.
const QUEUE: usize = 8;

/// How often it is looked whether the report before is still read, and for how long each time.
const LOOKS: u32 = 40;
const BREATH: Duration = Duration::from_millis(5);

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
    book: Option<Arc<Book>>,
}

impl Desk {
    /// Makes reports as detailed as `wants` says.
    pub fn new(wants: Arc<Wants>) -> Self {
        Self { latest: watch::Sender::new(None), adders: Vec::new(), wants, book: None }
    }

    /// Puts every report into a book, before it is handed out.
    pub fn keep(&mut self, book: Arc<Book>) {
        self.book = Some(book);
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

    /// Makes and hands out a report for each round, until there are no more. Takes a thread for
    /// itself: of 65,536 hosts, each step here is several milliseconds.
    pub fn run(self, mut rounds: mpsc::Receiver<Round>) {
        let mut press = Press::default();
        while let Some(round) = rounds.blocking_recv() {
            let report = Arc::new(press.print(round, self.wants.most()));
            if let Some(book) = &self.book {
                book.take(&report);
            }
            for (adder, missed) in &self.adders {
                if adder.try_send(Arc::clone(&report)).is_err() {
                    missed.fetch_add(1, Ordering::Relaxed);
                }
            }
            if let Some(before) = self.latest.send_replace(Some(report)) {
                let_go(before);
            }
        }
    }
}

/// Lets a report go, last of all who have it: whoever is the last to do it frees a line a host.
fn let_go(report: Arc<Report>) {
    for _ in 0..LOOKS {
        if Arc::strong_count(&report) == 1 {
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "a breath between two looks")]
        std::thread::sleep(BREATH);
    }
    drop(report);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Wall;
    use crate::networks::Names;
    use crate::rates::Totals;
    use crate::reports::{Gatherer, Health, Interest};

    #[test]
    fn reports_are_handed_out_and_put_into_the_book_until_there_are_no_more_rounds() {
        let wants = Arc::new(Wants::default());
        let _hold = wants.hold(Interest::NoHosts);
        let (hand, rounds) = mpsc::channel(2);
        let mut gatherer = Gatherer::new(Arc::clone(&wants), Some(hand), Vec::new());
        let (mut desk, book) = (Desk::new(wants), Arc::new(Book::default()));
        desk.keep(Arc::clone(&book));
        let (told, mut adder) = (desk.told(), desk.subscribe());
        for _ in 0..2 {
            let totals = Totals::default();
            gatherer.take(Duration::from_secs(1), &totals, None);
            gatherer.tell(Wall::default(), &totals, Vec::new, Names::default, Health::default);
        }
        drop(gatherer);
        desk.run(rounds);
        let all = std::iter::from_fn(|| adder.reports.try_recv().ok());
        assert_eq!(all.map(|report| report.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(told.latest.borrow().as_ref().map(|report| report.number), Some(2));
        assert_eq!(book.latest().map(|report| report.number), Some(2));
    }

    #[test]
    fn one_who_keeps_a_report_keeps_nobody_up_for_long() {
        let report = Arc::new(Report::default());
        let kept = Arc::clone(&report);
        let_go(report);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
