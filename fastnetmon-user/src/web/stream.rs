//! `/api/v1/stream`: reports and events as they come (server-sent events, WHATWG HTML § 9.2).
//!
//! **Invariant**: a slow reader misses totals, never events: those are asked for by number.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;

use crate::reports::Report;
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
    let reader = Reader { reports: office.told.latest.clone(), last, waiting: Vec::new() };
    Sse::new(unfold(reader, next)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

struct Reader {
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
        let mut events = vec![json(Event::default().event("totals"), &Totals::of(report))];
        for event in report.events_after(self.last) {
            self.last = event.number;
            let told = Event::default().event("event").id(event.number.to_string());
            events.push(json(told, &Happening::of(event, Packets::Hidden)));
        }
        events.reverse();
        self.waiting = events;
    }
}

/// Numbers and texts of ours are always JSON.
fn json(event: Event, value: &impl serde::Serialize) -> Event {
    event.json_data(value).unwrap_or_default()
}
