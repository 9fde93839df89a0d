//! One host: what it does by class, five minutes of it, what happened to it, its last packets.

use std::net::IpAddr;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{events, first, left, mbps, measure, span, sparkline, style, why, wrapped};
use crate::client::plain::Order;
use crate::client::state::State;
use crate::client::theme::Theme;
use crate::control::{ClassSpeed, HostView, Way};

/// Its line, the classes, the lines over time, what happened, the packets.
fn parts(body: Rect) -> [Rect; 5] {
    let [chart, events] = if body.height > 30 { [7, 9] } else { [4, 4] };
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(8),
        Constraint::Length(chart),
        Constraint::Length(events),
        Constraint::Fill(1),
    ])
    .areas(body)
}

/// Where the packets are.
pub(super) fn packets(body: Rect) -> Rect {
    let [.., packets] = parts(body);
    let [_, packets] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(packets);
    packets
}

pub(super) fn draw(state: &State, theme: Theme, ip: IpAddr, frame: &mut Frame<'_>, body: Rect) {
    let [name, classes, charts, happened, dump] = parts(body);
    let host = match &state.host {
        Some(Ok(host)) => host,
        Some(Err(reason)) => {
            return wrapped(frame, body, format!("{ip}: {reason}"), theme.alarm());
        }
        None => {
            let text = Line::styled(format!("{ip}: asking the agent …"), theme.quiet());
            return frame.render_widget(text, name);
        }
    };
    frame.render_widget(title(state, theme, host), name);
    draw_classes(theme, host, frame, classes);
    let halves = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2);
    let [incoming, outgoing] = halves.areas(charts);
    chart(state, theme, Way::Incoming, ip, frame, incoming);
    chart(state, theme, Way::Outgoing, ip, frame, outgoing);
    draw_events(state, theme, host, frame, happened);
    draw_packets(state, theme, frame, dump, packets(body));
}

fn title(state: &State, theme: Theme, host: &HostView) -> Line<'static> {
    let name = Span::styled(format!("{}  ", host.ip), theme.title());
    let Some(ban) = &host.ban else {
        let line = if host.has_line { "not banned" } else { "not banned; no traffic was seen" };
        return Line::from(vec![name, Span::raw(line)]);
    };
    let since = span(state.now.saturating_sub(ban.since));
    let text = format!(
        "*banned* {} since {since}, left: {}  ",
        ban.direction.name(),
        left(state, ban.until)
    );
    let why = Span::raw(why(ban));
    Line::from(vec![name, Span::styled(text, theme.banned()), why])
}

fn draw_classes(theme: Theme, host: &HostView, frame: &mut Frame<'_>, area: Rect) {
    let heads = format!(
        "  {:10}{:>12} pps{:>8} mbps{:>6}{:>12} pps{:>8} mbps",
        "", "incoming", "", "", "outgoing", ""
    );
    let mut lines = vec![Line::styled(heads, theme.quiet())];
    let row = |name: &str, incoming: (u64, u64), outgoing: (u64, u64)| {
        format!(
            "  {name:10}{:>12} pps{:>8} mbps{:>6}{:>12} pps{:>8} mbps",
            incoming.0,
            mbps(incoming.1),
            "",
            outgoing.0,
            mbps(outgoing.1)
        )
    };
    let sum = |classes: &[ClassSpeed]| {
        classes.iter().fold((0, 0), |(pps, bps), class| (pps + class.pps, bps + class.bps))
    };
    let most = host.incoming.iter().chain(&host.outgoing).map(|class| class.pps).max();
    for (incoming, outgoing) in host.incoming.iter().zip(&host.outgoing) {
        let text = row(&incoming.class, (incoming.pps, incoming.bps), (outgoing.pps, outgoing.bps));
        let is_most =
            incoming.pps.max(outgoing.pps) > 0 && Some(incoming.pps.max(outgoing.pps)) == most;
        let mark = if is_most { "  <" } else { "" };
        lines.push(Line::from(vec![Span::raw(text), Span::styled(mark, theme.alarm())]));
    }
    let all = row("all", sum(&host.incoming), sum(&host.outgoing));
    lines.push(Line::styled(all, theme.title()));
    frame.render_widget(Paragraph::new(lines), area);
}

fn chart(state: &State, theme: Theme, way: Way, ip: IpAddr, frame: &mut Frame<'_>, area: Rect) {
    let [words, line] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let series = state.history.host(&ip.to_string(), way);
    let peak = series.map_or(0, |series| series.peak(measure(state.order)));
    let (peak, unit) = match state.order {
        Order::Packets => (peak, "pps"),
        Order::Bytes => (mbps(peak), "mbps"),
    };
    let text = format!("{}, five minutes, peak {peak} {unit}", way.name());
    frame.render_widget(Line::styled(text, theme.title()), words);
    sparkline(series, state, style(theme, way), frame, line);
}

fn draw_events(state: &State, theme: Theme, host: &HostView, frame: &mut Frame<'_>, area: Rect) {
    let mut lines = vec![Line::styled("What happened to it, newest first", theme.title())];
    lines.extend(host.events.iter().rev().map(|event| events::of_host(event, state, theme)));
    if host.events.is_empty() {
        lines.push(Line::styled("  nothing since the agent was started", theme.quiet()));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_packets(state: &State, theme: Theme, frame: &mut Frame<'_>, area: Rect, list: Rect) {
    let packets = state.packets();
    let height = usize::from(list.height);
    let from = first(state.row, height);
    let count = packets.len();
    let text = if count == 0 {
        "Packets of its last attack: none".to_owned()
    } else {
        let to = (from + height).min(count);
        let ban = state.host.as_ref().and_then(|host| host.as_ref().ok()?.ban.as_ref());
        let whence = ban.and_then(|ban| ban.remotes.as_ref()).map(|remotes| remotes.words(2));
        let whence = whence.filter(|words| !words.is_empty());
        let whence = whence.map(|words| format!("; {words}")).unwrap_or_default();
        format!("Packets of its last attack: {} to {to} of {count}{whence}", from + 1)
    };
    frame.render_widget(
        Line::styled(text, theme.title()),
        Rect { height: area.height.min(1), ..area },
    );
    let lines: Vec<Line<'_>> = packets
        .iter()
        .skip(from)
        .take(height)
        .map(|packet| Line::raw(format!("  {packet}")))
        .collect();
    frame.render_widget(Paragraph::new(lines), list);
}
