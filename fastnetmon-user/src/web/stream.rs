//! `/api/v1/stream`: reports and events as they come (server-sent events, WHATWG HTML § 9.2).
//!
//! **Invariant**: a slow reader misses totals, never events: those are asked for by number. What a
//! report tells is made once, however many read.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;

use crate::reports::{self, Report};
use crate::web::Office;
use crate::web::words::{Happening, Packets, Totals};

/// Totals each second (`event: totals`) and what happens (`event: event`, with its number as `id`)
#[utoipa::path(get, path = "/api/v1/stream",
    params(("Last-Event-ID" = Option<String>, Header, description = "Events after this number come first")),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn stream(
    State(office): State<Arc<Office>>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let known = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let newest = || {
        let report = office.book.latest()?;
        report.events.last().map(|event| event.number)
    };
    let last = known.or_else(newest).unwrap_or(0);
    let reports = office.told.latest.clone();
    let reader = Reader { office, reports, last, waiting: Vec::new() };
    Sse::new(unfold(reader, next)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// What the latest report tells, for all who read the stream.
#[derive(Debug, Default)]
pub(super) struct Bulletin(Mutex<Arc<Text>>);

/// The same, once it is made.
#[derive(Debug, Default)]
struct Text {
    report: u64,
    totals: Event,
    /// The last event that an earlier one told.
    after: u64,
    events: Vec<(u64, Event)>,
}

impl Bulletin {
    /// What a report tells one who knows of all events up to this one, in order.
    fn after(&self, known: u64, report: &Report) -> Vec<Event> {
        let text = self.of(report);
        // Only one who comes back, or comes first, does not know what earlier ones told.
        let missed = report.events_after(known).take_while(|event| event.number <= text.after);
        let missed = missed.map(|event| happening(event));
        let new = text.events.iter().filter(|(number, _)| *number > known);
        let new = new.map(|(_, event)| event.clone());
        [text.totals.clone()].into_iter().chain(missed).chain(new).collect()
    }

    /// Of this report, which is none before the latest.
    fn of(&self, report: &Report) -> Arc<Text> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text.report != report.number {
            let after = text.events.last().map_or(text.after, |&(number, _)| number);
            *text = Arc::new(Text::of(report, after));
        }
        let told = Arc::clone(&text);
        drop(text);
        told
    }
}

impl Text {
    fn of(report: &Report, after: u64) -> Self {
        Self {
            report: report.number,
            totals: json(Event::default().event("totals"), &Totals::of(report)),
            after,
            events: report
                .events_after(after)
                .map(|event| (event.number, happening(event)))
                .collect(),
        }
    }
}

fn happening(event: &reports::Event) -> Event {
    let told = Event::default().event("event").id(event.number.to_string());
    json(told, &Happening::of(event, Packets::Hidden))
}

struct Reader {
    office: Arc<Office>,
    reports: watch::Receiver<Option<Arc<Report>>>,
    /// The last event that was told.
    last: u64,
    /// What is to be told, the next one last.
    waiting: Vec<Event>,
}

async fn next(mut reader: Reader) -> Option<(Result<Event, Infallible>, Reader)> {
    loop {
        if let Some(event) = reader.waiting.pop() {
            return Some((Ok(event), reader));
        }
        reader.reports.changed().await.ok()?;
        let report = reader.reports.borrow_and_update().clone();
        if let Some(report) = report {
            reader.put_down(&report);
        }
    }
}

impl Reader {
    fn put_down(&mut self, report: &Report) {
        self.waiting = self.office.bulletin.after(self.last, report);
        self.waiting.reverse();
        self.last = report.events.last().map_or(self.last, |event| event.number.max(self.last));
    }
}

/// Numbers and texts of ours are always JSON.
fn json(event: Event, value: &impl serde::Serialize) -> Event {
    event.json_data(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::What;

    /// A report whose last events have these numbers.
    fn report(number: u64, events: std::ops::RangeInclusive<u64>) -> Report {
        let event = |number| {
            let what = What::Alarm(format!("Alarm {number}.").into());
            Arc::new(reports::Event { number, unix: Duration::ZERO, what })
        };
        Report { number, events: events.map(event).collect(), ..Report::default() }
    }

    /// The numbers of the events that one is told who knows of those up to `known`.
    fn told(bulletin: &Bulletin, known: u64, report: &Report) -> Vec<u64> {
        let events = bulletin.after(known, report);
        let texts: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
        let (totals, events) = texts.split_first().unwrap();
        assert!(totals.contains("event: totals"), "{totals}");
        let number = |text: &String| {
            let (_, after) = text.split_once("id: ").unwrap();
            let number = after.split(|letter: char| !letter.is_ascii_digit()).next().unwrap();
            assert!(text.contains(&format!("Alarm {number}.")), "{text}");
            number.parse().unwrap()
        };
        events.iter().map(number).collect()
    }

    #[test]
    fn each_reader_is_told_each_event_once_whatever_the_others_know() {
        let bulletin = Bulletin::default();
        let first = report(1, 1..=3);
        assert_eq!(told(&bulletin, 3, &first), Vec::<u64>::new());
        assert_eq!(told(&bulletin, 0, &first), [1, 2, 3]);
        let second = report(2, 2..=5);
        for (known, expected) in [(3, vec![4, 5]), (0, vec![2, 3, 4, 5]), (4, vec![5]), (9, vec![])]
        {
            assert_eq!(told(&bulletin, known, &second), expected, "{known}");
        }
        // Nobody read in between.
        assert_eq!(told(&bulletin, 5, &report(9, 40..=42)), [40, 41, 42]);
    }

    #[test]
    fn a_report_is_put_into_words_once() {
        let bulletin = Bulletin::default();
        let (one, other) = (bulletin.of(&report(1, 1..=3)), bulletin.of(&report(1, 1..=3)));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &bulletin.of(&report(2, 1..=3))));
    }
}
