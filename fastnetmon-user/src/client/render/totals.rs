//! What touches none of the tables: the other traffic, what was lost, and who is banned.

use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::mbps;
use crate::client::plain::percent;
use crate::client::state::State;
use crate::client::theme::Theme;
use crate::control::Ban;

/// Lines.
pub(super) const ROWS: u16 = 3;

pub(super) fn draw(state: &State, theme: Theme, frame: &mut Frame<'_>, area: Rect) {
    let [other, packets, bans] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let totals = state.status.totals;
    let text = format!(
        "Internal traffic {} pps {} mbps   Other traffic {} pps {} mbps",
        totals.internal.pps,
        mbps(totals.internal.bps),
        totals.other.pps,
        mbps(totals.other.bps)
    );
    frame.render_widget(Line::raw(text), other);
    let seen = state.status.packets;
    let lost = format!("dropped {} ({} %)", seen.dropped, percent(seen.dropped, seen.received));
    let line = Line::from(vec![
        Span::raw(format!("Packets received {}  ", seen.received)),
        if seen.dropped > 0 { Span::styled(lost, theme.alarm()) } else { Span::raw(lost) },
        Span::raw(format!("  unparsed {}", seen.unparsed.total())),
    ]);
    frame.render_widget(line, packets);
    frame.render_widget(Line::styled(list(&state.status.bans, bans.width), theme.banned()), bans);
}

/// The seed's ban list, as far as it fits.
fn list(bans: &[Ban], width: u16) -> String {
    if bans.is_empty() {
        return "Ban list: nobody".to_owned();
    }
    let mut list = "Ban list:".to_owned();
    // Room for the word how many more there are.
    let room = usize::from(width.saturating_sub(18));
    for (number, ban) in bans.iter().enumerate() {
        let Ban { ip, pps, direction, .. } = ban;
        let entry = format!(" {ip}/{pps} pps {}", direction.name());
        if list.len() + entry.len() > room && number > 0 {
            // Writing to a string cannot fail.
            let _infallible = write!(list, " and {} more: B", bans.len() - number);
            break;
        }
        if number > 0 {
            list.push(',');
        }
        list.push_str(&entry);
    }
    list
}
