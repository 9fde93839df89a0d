//! What happened, newest first.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{list as rows, listed, span, wrapped};
use crate::client::state::State;
use crate::client::theme::Theme;
use crate::control::{Event, Way};

/// Lines above the list.
const TITLE: u16 = 1;

/// Where the list is.
pub(super) fn list(body: Rect) -> Rect {
    let [_, list, _] = listed(body, TITLE);
    list
}

pub(super) fn draw(state: &State, theme: Theme, frame: &mut Frame<'_>, body: Rect) {
    let [title, list, said] = listed(body, TITLE);
    let text = format!("Events, newest first: {}", state.events.len());
    frame.render_widget(Line::styled(text, theme.title()), title);
    let lines = state.events.iter().map(|event| line(event, state, theme));
    rows(frame, list, state, lines);
    if let Some(event) = state.events.get(state.row) {
        let about = event.about.as_deref().unwrap_or("the agent");
        let text = format!("{} {about}: {}", event.number, event.text);
        wrapped(frame, said, text, Style::new());
    } else {
        let none = "  Nothing happened since the agent was started.";
        frame.render_widget(Line::styled(none, theme.quiet()), list);
    }
}

/// One event with whom it is about.
fn line(event: &Event, state: &State, theme: Theme) -> Line<'static> {
    let mut line = of_host(event, state, theme);
    let about = format!("{:15} ", event.about.as_deref().unwrap_or(""));
    line.spans.insert(2, Span::raw(about));
    line
}

/// One event; how long ago, and a sign for what it is.
pub(super) fn of_host(event: &Event, state: &State, theme: Theme) -> Line<'static> {
    let ago = format!("{:>10} ago  ", span(state.now.saturating_sub(event.unix_secs)));
    let (sign, style) = match event.what.as_str() {
        "ban" | "alert" => ("!", theme.banned()),
        "alarm" => ("!", theme.alarm()),
        "unban" | "calm" | "alarm_over" => ("-", theme.done()),
        _ => (" ", Style::new()),
    };
    let what = format!("{sign} {:14} ", event.what);
    let way = match event.direction {
        Some(Way::Incoming) => "in  ",
        Some(Way::Outgoing) => "out ",
        None => "",
    };
    Line::from(vec![
        Span::styled(ago, theme.quiet()),
        Span::styled(what, style),
        Span::raw(format!("{way}{}", event.text)),
    ])
}
