//! One direction: its total over time, and its loudest hosts.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{bar, choose, first, mbps, sparkline, style};
use crate::client::plain::Order;
use crate::client::state::State;
use crate::client::theme::Theme;
use crate::control::{Host, Way};

/// Columns of the sign, the speeds and the mark: the address and the bar share the rest.
const FIXED: u16 = 2 + 11 + 4 + 8 + 5 + 2 + 9;

/// An IPv4 address.
const SHORTEST: usize = 15;

pub(super) fn draw(state: &State, theme: Theme, way: Way, frame: &mut Frame<'_>, area: Rect) {
    let [title, rows] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    draw_title(state, theme, way, frame, title);
    let hosts = state.hosts(way);
    let height = usize::from(rows.height);
    let from = if way == state.way { first(state.row, height) } else { 0 };
    let shown: Vec<&Host> = hosts.into_iter().skip(from).take(height).collect();
    if shown.is_empty() {
        let none = if state.filter.is_empty() {
            "  nobody".to_owned()
        } else {
            "  none of the loudest; Enter looks at a single address all the same".to_owned()
        };
        frame.render_widget(Line::styled(none, theme.quiet()), rows);
        return;
    }
    let measure = |host: &Host| match state.order {
        Order::Packets => host.pps,
        Order::Bytes => host.bps,
    };
    let most = shown.iter().map(|host| measure(host)).max().unwrap_or(0);
    let longest = shown.iter().map(|host| host.ip.len()).max().unwrap_or(0).max(SHORTEST);
    let address = u16::try_from(longest).unwrap_or(0);
    let columns = rows.width.saturating_sub(FIXED + address);
    let lines: Vec<Line<'static>> = shown
        .into_iter()
        .zip(from..)
        .map(|(host, number)| {
            let Host { ip, pps, bps, banned } = host;
            let speeds = format!("{ip:longest$}{pps:>11} pps{:>8} mbps  ", mbps(*bps));
            let mark = if *banned { "*banned* " } else { "         " };
            let line = Line::from(vec![
                if *banned { Span::styled(speeds, theme.banned()) } else { Span::raw(speeds) },
                Span::styled(mark, theme.banned()),
                Span::styled(bar(measure(host), most, columns), style(theme, way)),
            ]);
            choose(line, way == state.way && number == state.row)
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), rows);
}

/// The seed's words (capitals as they were), and the last five minutes.
fn draw_title(state: &State, theme: Theme, way: Way, frame: &mut Frame<'_>, area: Rect) {
    let (name, total) = match way {
        Way::Incoming => ("Incoming Traffic", state.status.totals.incoming),
        Way::Outgoing => ("Outgoing traffic", state.status.totals.outgoing),
    };
    let filter = match state.filter.as_str() {
        "" => String::new(),
        filter => format!("  /{filter}"),
    };
    let text = format!("{name} {:>11} pps{:>8} mbps{filter}  ", total.pps, mbps(total.bps));
    let width = u16::try_from(text.chars().count()).unwrap_or(0);
    let [words, line] =
        Layout::horizontal([Constraint::Length(width), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Line::styled(text, theme.title()), words);
    sparkline(Some(state.history.total(way)), state, style(theme, way), frame, line);
}
