//! Autonomous systems and countries at the other end, by samples of the last minute.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{bar, mbps, style, wrapped};
use crate::client::state::State;
use crate::client::theme::Theme;
use crate::control::{Loudest, Way};

/// Said where nothing is known.
const NONE: &str = "No database says whence packets come: name some in `databases` of [origins], or \
                    wait until the first samples were looked up (`sparse_every` in [capture]).";

/// Countries that are shown, in one line.
const COUNTRIES: usize = 6;

pub(super) fn draw(state: &State, theme: Theme, frame: &mut Frame<'_>, body: Rect) {
    let Some(origins) = &state.status.origins else {
        return wrapped(frame, body, NONE.to_owned(), theme.quiet());
    };
    let [title, incoming, outgoing] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Fill(1)])
            .areas(body);
    let text = format!(
        "The other side, by one packet in {}, the last {} s: estimates",
        origins.sample_every, origins.span_secs
    );
    frame.render_widget(Line::styled(text, theme.title()), title);
    for (way, loudest, area) in
        [(Way::Incoming, &origins.incoming, incoming), (Way::Outgoing, &origins.outgoing, outgoing)]
    {
        direction(way, loudest, theme, frame, area);
    }
}

fn direction(way: Way, loudest: &Loudest, theme: Theme, frame: &mut Frame<'_>, area: Rect) {
    let heads = format!("{:10} {:>11} {:32} {:>9} {:>6}", way.name(), "AS", "name", "pps", "mbps");
    let mut lines = vec![Line::styled(heads, theme.quiet())];
    let most = loudest.systems.first().map_or(0, |system| system.pps);
    // A title, and a line for the countries.
    let rows = usize::from(area.height.saturating_sub(2));
    for system in loudest.systems.iter().take(rows) {
        let number = if system.asn == 0 { "-".to_owned() } else { format!("AS{}", system.asn) };
        let name: String = match system.name.as_str() {
            "" if system.asn == 0 => "not known".to_owned(),
            name => name.chars().take(32).collect(),
        };
        let text = format!("{number:>22} {name:32} {:>9} {:>6} ", system.pps, mbps(system.bps));
        let bar = bar(system.pps, most, area.width.saturating_sub(73).min(40));
        lines.push(Line::from(vec![Span::raw(text), Span::styled(bar, style(theme, way))]));
    }
    if loudest.systems.is_empty() {
        lines.push(Line::styled("  no sample in this time", theme.quiet()));
    }
    let share = |samples: u64| samples.saturating_mul(100) / loudest.samples.max(1);
    let countries = loudest.countries.iter().filter(|one| !one.country.is_empty());
    let countries: Vec<String> = countries
        .take(COUNTRIES)
        .map(|one| format!("{} {} %", one.country, share(one.samples)))
        .collect();
    if !countries.is_empty() {
        lines.push(Line::raw(format!("  {}", countries.join("  "))));
    }
    frame.render_widget(Paragraph::new(lines), area);
}
