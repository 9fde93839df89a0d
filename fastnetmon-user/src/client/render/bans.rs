//! The bans that stand: since when, for how long, and why.

use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};

use super::{left, list as rows, listed, span, why, wrapped};
use crate::client::state::State;
use crate::client::theme::Theme;
use crate::control::{Ban, Dropping};

/// Lines above the list.
const TITLE: u16 = 2;

/// Where the list is.
pub(super) fn list(body: Rect) -> Rect {
    let [_, list, _] = listed(body, TITLE);
    list
}

pub(super) fn draw(state: &State, theme: Theme, frame: &mut Frame<'_>, body: Rect) {
    let [title, list, said] = listed(body, TITLE);
    let bans = &state.status.bans;
    let longest = bans.iter().map(|ban| ban.ip.to_string().len()).max().unwrap_or(0).max(15);
    let heads = format!(
        "  {:longest$} {:8} {:>10} {:>10} {:>10}  {:11}",
        "host", "way", "pps", "peak", "since", "left"
    );
    let count = Line::styled(format!("Ban list: {}", bans.len()), theme.title());
    frame.render_widget(Text::from(vec![count, Line::styled(heads, theme.quiet())]), title);
    let width = usize::from(list.width).saturating_sub(longest + 58);
    let lines = bans.iter().map(|ban| {
        let Ban { ip, direction, pps, peak_pps, since, until, .. } = ban;
        let since = span(state.now.saturating_sub(*since));
        let text = format!(
            "{:longest$} {:8} {pps:>10} {peak_pps:>10} {since:>10}  {:11}",
            ip.to_string(),
            direction.name(),
            left(state, *until)
        );
        // A few letters of a sentence say nothing; the whole of it is below.
        let width = if width < 12 { 0 } else { width };
        let why: String = why(ban).chars().take(width).collect();
        Line::from(vec![Span::styled(text, theme.banned()), Span::raw(format!(" {why}"))])
    });
    rows(frame, list, state, lines);
    if let Some(ban) = bans.get(state.row) {
        let mut text = format!("Why {}: {}.", ban.ip, why(ban));
        if let Some(Dropping { what, dropped, .. }) = &ban.drop {
            // Writing to a string cannot fail.
            let _infallible = write!(
                text,
                " The kernel drops {what}: {} packets so far, {} pps now.",
                dropped.packets, dropped.pps
            );
        }
        if let Some(from) = ban.remotes.as_ref().map(|remotes| remotes.words(3))
            && !from.is_empty()
        {
            let _infallible = write!(text, " The other side: {from}.");
        }
        wrapped(frame, said, text, Style::new());
    } else {
        frame.render_widget(Line::styled("  Nobody is banned.", theme.quiet()), list);
    }
}
