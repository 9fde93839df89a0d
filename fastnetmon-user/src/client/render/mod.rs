//! The screen: a picture of the state.
//!
//! A line at the top, one for what somebody should know, the view, and the keys at the bottom.
//!
//! **Invariant**: a picture depends on the state, the theme and the size alone. It fits into 80
//! columns and 24 rows; what is smaller shows what fits.

mod bans;
mod events;
mod header;
mod help;
mod host;
mod hosts;
mod origins;
#[cfg(test)]
mod pictures;
mod totals;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline, SparklineBar, Wrap};

use crate::client::history::{Sample, Series};
use crate::client::plain::Order;
use crate::client::state::{State, View};
use crate::client::theme::Theme;
use crate::control::{Ban, Way};

/// Draws the state.
pub(super) fn draw(state: &State, theme: Theme, frame: &mut Frame<'_>) {
    let [top, remark, body, keys] = parts(frame.area());
    header::bar(state, frame, top);
    header::remark(state, theme, frame, remark);
    match state.view {
        View::Top => opening(state, theme, frame, body),
        View::Host(ip) => host::draw(state, theme, ip, frame, body),
        View::Bans => bans::draw(state, theme, frame, body),
        View::Events => events::draw(state, theme, frame, body),
        View::Origins => origins::draw(state, theme, frame, body),
        View::Help => help::draw(theme, frame, body),
    }
    header::keys(state, theme, frame, keys);
}

/// How many rows of its list a view shows.
pub(super) fn page(state: &State) -> u16 {
    let (columns, rows) = state.size;
    let [_, _, body, _] = parts(Rect::new(0, 0, columns, rows));
    let list = match state.view {
        View::Top => {
            let (tables, _) = tables(state, body);
            let shown = tables.iter().find(|(way, _)| *way == state.way);
            // The first line is its title.
            return shown.map_or(0, |(_, area)| area.height.saturating_sub(1));
        }
        View::Host(_) => host::packets(body),
        View::Bans => bans::list(body),
        View::Events => events::list(body),
        View::Origins | View::Help => body,
    };
    list.height
}

fn parts(area: Rect) -> [Rect; 4] {
    let rows = [1, 1].map(Constraint::Length);
    Layout::vertical([rows[0], rows[1], Constraint::Fill(1), Constraint::Length(1)]).areas(area)
}

/// The seed's screen: both directions, then the rest.
fn opening(state: &State, theme: Theme, frame: &mut Frame<'_>, body: Rect) {
    let (tables, rest) = tables(state, body);
    for (way, area) in tables {
        hosts::draw(state, theme, way, frame, area);
    }
    totals::draw(state, theme, frame, rest);
}

/// Where each direction that is shown is, and where the rest.
fn tables(state: &State, body: Rect) -> (Vec<(Way, Rect)>, Rect) {
    let [tables, rest] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(totals::ROWS)]).areas(body);
    if state.alone {
        return (vec![(state.way, tables)], rest);
    }
    let [incoming, _, outgoing, _] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(tables);
    (vec![(Way::Incoming, incoming), (Way::Outgoing, outgoing)], rest)
}

/// A line of the last five minutes, as high as there is room.
fn sparkline(
    series: Option<&Series>,
    state: &State,
    style: Style,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let columns = series
        .map(|series| series.columns(state.now, area.width.into(), measure(state.order)))
        .unwrap_or_default();
    // Whatever is there can be seen; what is not known is a gap.
    let most = columns.iter().flatten().copied().max().unwrap_or(0).max(1);
    let least = most.div_ceil(8 * u64::from(area.height.max(1)));
    let bars = columns.into_iter().map(|column| match column {
        Some(0) => SparklineBar::from(Some(0)),
        known => SparklineBar::from(known.map(|column| column.max(least))),
    });
    let line = Sparkline::default().data(bars.collect::<Vec<_>>()).max(most).style(style);
    frame.render_widget(line.absent_value_symbol(" "), area);
}

/// What hosts are ordered by, and lines show.
const fn measure(order: Order) -> fn(&Sample) -> u64 {
    match order {
        Order::Packets => |sample| sample.pps,
        Order::Bytes => |sample| sample.bps,
    }
}

/// A bar of so many columns and eighths of a column.
fn bar(part: u64, whole: u64, columns: u16) -> String {
    let eighths = u128::from(part) * u128::from(columns) * 8 / u128::from(whole.max(1));
    let eighths = usize::try_from(eighths).unwrap_or(0).min(usize::from(columns) * 8);
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(match eighths % 8 {
        0 if eighths == 0 && part > 0 => "▏",
        0 => "",
        1 => "▏",
        2 => "▎",
        3 => "▍",
        4 => "▌",
        5 => "▋",
        6 => "▊",
        _ => "▉",
    });
    bar
}

/// From which row on a list is shown, so that the chosen one is among its rows.
const fn first(row: usize, rows: usize) -> usize {
    match row.checked_div(rows) {
        Some(pages) => pages * rows,
        None => row,
    }
}

/// A title of so many lines, a list, and what is said of its chosen row.
fn listed(body: Rect, title: u16) -> [Rect; 3] {
    Layout::vertical([Constraint::Length(title), Constraint::Fill(1), Constraint::Length(4)])
        .areas(body)
}

/// A list with a sign before the chosen row, and what is said of that row below it.
fn list(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    rows: impl Iterator<Item = Line<'static>>,
) {
    let height = usize::from(area.height);
    let from = first(state.row, height);
    let lines: Vec<Line<'static>> = rows
        .enumerate()
        .skip(from)
        .take(height)
        .map(|(number, line)| choose(line, number == state.row))
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn choose(mut line: Line<'static>, is_chosen: bool) -> Line<'static> {
    let sign = if is_chosen { "> " } else { "  " };
    line.spans.insert(0, Span::raw(sign));
    if is_chosen { line.style(Theme::chosen()) } else { line }
}

/// A text over several lines.
fn wrapped(frame: &mut Frame<'_>, area: Rect, text: String, style: Style) {
    frame.render_widget(Paragraph::new(text).style(style).wrap(Wrap { trim: true }), area);
}

/// Decimal megabits.
const fn mbps(bps: u64) -> u64 {
    bps / 1_000_000
}

/// A span of time, in its two largest units.
fn span(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} m {:02} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes:02} m"),
        _ => format!("{days} d {hours:02} h"),
    }
}

/// Why a ban stands.
fn why(ban: &Ban) -> String {
    let Ban { rule, reason, kind, because, group, dry_run, .. } = ban;
    let mut why = if rule.is_empty() {
        match reason {
            Some(reason) => format!("by an operator: {reason}"),
            None => "by an operator".to_owned(),
        }
    } else {
        format!("{rule}; {kind}: {because}")
    };
    if !group.is_empty() {
        why.insert_str(0, &format!("group {group}; "));
    }
    if *dry_run {
        why.insert_str(0, "dry run, nothing is done; ");
    }
    why
}

/// What is left of a ban.
fn left(state: &State, until: Option<u64>) -> String {
    match until {
        None => "until unban".to_owned(),
        Some(until) if until <= state.now => "until calm".to_owned(),
        Some(until) => span(until - state.now),
    }
}

const fn style(theme: Theme, way: Way) -> Style {
    match way {
        Way::Incoming => theme.incoming(),
        Way::Outgoing => theme.outgoing(),
    }
}
