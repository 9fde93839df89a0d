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
    /// Of this report, which is none before the latest.
    fn of(&self, report: &Report) -> Arc<Text> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text.report != report.number {
            let after = text.events.last().map_or(text.after, |&(number, _)| number);
            *text = Arc::new(Text::of(report, after));
        }
        Arc::clone(&text)
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
        let text = self.office.bulletin.of(report);
        let missed = report.events_after(self.last).take_while(|event| event.number <= text.after);
        let missed = missed.map(|event| happening(event));
        let new = text.events.iter().filter(|(number, _)| *number > self.last);
        let new = new.map(|(_, event)| event.clone());
        self.waiting = [text.totals.clone()].into_iter().chain(missed).chain(new).collect();
        self.waiting.reverse();
        self.last = report.events.last().map_or(self.last, |event| event.number.max(self.last));
    }
}

/// Numbers and texts of ours are always JSON.
fn json(event: Event, value: &impl serde::Serialize) -> Event {
    event.json_data(value).unwrap_or_default()
}
