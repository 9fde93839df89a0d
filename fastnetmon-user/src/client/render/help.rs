//! The keys, and how to read the signs.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::client::theme::Theme;

const KEYS: [(&str, &str); 15] = [
    ("p  b", "order by packets, by bytes; lines and bars follow"),
    ("arrows, j k", "go to another row"),
    ("f, PageDown, PageUp", "a page on, a page back; Home and End"),
    ("i  o", "only incoming, only outgoing; the same key again: both"),
    ("Tab", "the other direction"),
    ("/", "show only an address, a prefix or a part of an address"),
    ("Enter", "one host: classes, five minutes, bans, packets"),
    ("B", "the bans that stand, why, and the time left"),
    ("e", "what happened"),
    ("a", "autonomous systems and countries, by samples"),
    ("n", "ban the chosen host, in the chosen direction; asks"),
    ("u", "let the chosen host go; asks"),
    ("Esc", "a step back"),
    ("Ctrl-Z", "to the shell; `fg` comes back"),
    ("q, Ctrl-C", "quit"),
];

const SIGNS: [(&str, &str); 4] = [
    ("▁▂▃▄▅▆▇█", "the last five minutes; a gap: nothing is known"),
    ("███▌", "this row beside the loudest one that is shown"),
    ("*banned*", "a ban stands for this host"),
    (">  !  +  -", "chosen; to be looked at; done; over"),
];

pub(super) fn draw(theme: Theme, frame: &mut Frame<'_>, body: Rect) {
    let pair = |&(key, meaning): &(&'static str, &'static str)| {
        Line::from(vec![Span::styled(format!("  {key:21}"), theme.title()), Span::raw(meaning)])
    };
    let mut lines = vec![Line::styled("Keys", theme.title())];
    lines.extend(KEYS.iter().map(pair));
    lines.push(Line::styled("Signs", theme.title()));
    lines.extend(SIGNS.iter().map(pair));
    frame.render_widget(Paragraph::new(lines), body);
}
