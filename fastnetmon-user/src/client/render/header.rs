//! What stands on every screen: the line at the top, what somebody should know, the keys.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::span;
use crate::client::plain::Order;
use crate::client::state::{Asking, Link, State, View};
use crate::client::theme::Theme;
use crate::control::{Request, Status};

/// The first line: the seed's, and who is asked.
pub(super) fn bar(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let Status { version, engine, role, interfaces, uptime_secs, .. } = &state.status;
    let order = match state.order {
        Order::Packets => "packets",
        Order::Bytes => "bytes",
    };
    let left = if version.is_empty() {
        "FastNetMon".to_owned()
    } else {
        format!("FastNetMon v{version} all IPs ordered by: {order}")
    };
    let right = if version.is_empty() {
        String::new()
    } else {
        format!("{engine} {role} {} up {}", interfaces.join(","), span(*uptime_secs))
    };
    frame.buffer_mut().set_style(area, Theme::bar());
    frame.render_widget(Line::raw(left.clone()), area);
    let width = |text: &str| u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    // Where both do not fit, the seed's line is the one that stays.
    if width(&left).saturating_add(width(&right)) < area.width {
        frame.render_widget(Line::raw(right).right_aligned(), area);
    }
}

/// The second line: the most important thing there is to say.
pub(super) fn remark(state: &State, theme: Theme, frame: &mut Frame<'_>, area: Rect) {
    let alarms = &state.status.alarms;
    let line = match (&state.link, &state.notice, alarms.first()) {
        (Link::Lost { reason, again_secs }, _, _) => {
            let text = format!("! The agent is lost, tried again in {again_secs} s: {reason}");
            Line::styled(text, theme.alarm())
        }
        (_, Some(Ok(done)), _) => Line::styled(format!("+ {done}"), theme.done()),
        (_, Some(Err(reason)), _) => Line::styled(format!("! {reason}"), theme.alarm()),
        (Link::Looking, None, _) => Line::styled("Asking the agent …", theme.quiet()),
        (_, None, Some(alarm)) => {
            let count = match alarms.len() {
                1 => String::new(),
                more => format!("{more} alarms, the first: "),
            };
            Line::styled(format!("! {count}{alarm}"), theme.alarm())
        }
        (_, None, None) => Line::default(),
    };
    frame.render_widget(line, area);
}

/// The last line: the keys of this view, or a question.
pub(super) fn keys(state: &State, theme: Theme, frame: &mut Frame<'_>, area: Rect) {
    match &state.asking {
        Some(Asking::Filter(text)) => {
            let explained = "  address, prefix or a part; Enter: filter, Esc: as it was";
            let line = Line::from(vec![
                Span::styled(format!("/{text}_"), theme.question()),
                Span::styled(explained, theme.quiet()),
            ]);
            frame.render_widget(line, area);
        }
        Some(Asking::Sure(request)) => {
            let line = Line::styled(question(request), theme.question());
            frame.render_widget(line, area);
        }
        None => {
            let mut spans = Vec::new();
            for (key, meaning) in pairs(state.view) {
                spans.push(Span::styled(*key, theme.title()));
                spans.push(Span::styled(format!(" {meaning}  "), theme.quiet()));
            }
            frame.render_widget(Line::from(spans), area);
        }
    }
}

fn question(request: &Request) -> String {
    match request {
        Request::Ban { ip, direction, .. } => {
            format!("Ban {ip} ({})? y: yes, n: no ", direction.name())
        }
        Request::Unban { ip, .. } => format!("Let {ip} go? y: yes, n: no "),
        other => format!("{other:?}? y: yes, n: no "),
    }
}

const fn pairs(view: View) -> &'static [(&'static str, &'static str)] {
    match view {
        View::Top => &[
            ("p", "packets"),
            ("b", "bytes"),
            ("/", "filter"),
            ("Enter", "host"),
            ("B", "bans"),
            ("e", "events"),
            ("?", "help"),
            ("q", "quit"),
        ],
        View::Host(_) => &[
            ("n", "ban"),
            ("u", "unban"),
            ("p b", "packets or bytes"),
            ("arrows", "packets"),
            ("Esc", "back"),
            ("q", "quit"),
        ],
        View::Bans => &[
            ("arrows", "choose"),
            ("Enter", "host"),
            ("u", "unban"),
            ("e", "events"),
            ("Esc", "back"),
            ("q", "quit"),
        ],
        View::Events => &[
            ("arrows f", "go on"),
            ("Enter", "host"),
            ("B", "bans"),
            ("Esc", "back"),
            ("q", "quit"),
        ],
        View::Origins => &[("B", "bans"), ("e", "events"), ("Esc", "back"), ("q", "quit")],
        View::Help => &[("Esc", "back"), ("q", "quit")],
    }
}
