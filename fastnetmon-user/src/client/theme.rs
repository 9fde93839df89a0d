//! How things look, with colours and without.
//!
//! **Invariant**: a colour never says anything by itself. What is red carries a word or a sign as
//! well, so nothing is lost without colours.

use ratatui::style::{Color, Modifier, Style};

/// The looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    /// With colours, or with what every terminal has.
    pub const fn new(colours: bool) -> Self {
        Self { colours }
    }

    const fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// The line at the top.
    pub(super) const fn bar() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What a table or a part is called.
    pub(super) const fn title(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Words that explain.
    pub(super) const fn quiet(self) -> Style {
        if self.colours {
            Style::new().fg(Color::DarkGray)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }

    /// A banned host.
    pub(super) const fn banned(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// What somebody should look at.
    pub(super) const fn alarm(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// What was done.
    pub(super) const fn done(self) -> Style {
        self.coloured(Color::Green)
    }

    /// Bars and lines of traffic to hosts.
    pub(super) const fn incoming(self) -> Style {
        self.coloured(Color::Blue)
    }

    /// Bars and lines of traffic from hosts.
    pub(super) const fn outgoing(self) -> Style {
        self.coloured(Color::Magenta)
    }

    /// The row the keys are about; it has a `>` before it as well.
    pub(super) const fn chosen() -> Style {
        Style::new().add_modifier(Modifier::BOLD.union(Modifier::UNDERLINED))
    }

    /// A question.
    pub(super) const fn question(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::REVERSED)
    }
}
