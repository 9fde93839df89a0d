//! Every screen as a picture: what an operator sees, in files beside this one.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::draw;
use crate::client::scene::{NOW, VICTIM, console, press, status, tell_host, victim};
use crate::client::state::{Message, State, Told};
use crate::client::theme::Theme;

const SMALL: (u16, u16) = (80, 24);
const WIDE: (u16, u16) = (160, 50);

fn terminal(state: &State, theme: Theme, (columns, rows): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(state, theme, frame)).unwrap();
    terminal
}

fn text(state: &State, theme: Theme, size: (u16, u16)) -> String {
    terminal(state, theme, size).backend().to_string()
}

/// The screens, each with the keys that lead to it.
fn screens(size: (u16, u16)) -> Vec<(&'static str, State)> {
    let at = |keys: &str| {
        let mut state = console(size);
        press(&mut state, keys);
        state
    };
    let mut host = at("\n");
    tell_host(&mut host, Ok(victim()));
    let mut refused = at("/198.51.100.1\n\n");
    tell_host(&mut refused, Err("`198.51.100.1` is in none of our networks".to_owned()));
    let mut lost = at("");
    let reason = "no agent answers at `/run/fastnetmon/control.sock`".to_owned();
    lost.update(Message::Lost { reason, again_secs: 4 });
    let mut alarmed = at("jj");
    let alarms = vec!["Interface `eth0` is gone or down: nothing is seen there.".to_owned(); 2];
    let told = Told {
        status: crate::control::Status { alarms, ..status(60_000) },
        unix_secs: NOW,
        ..Told::default()
    };
    alarmed.update(Message::Told(Box::new(told)));
    let mut young = State::new(crate::client::plain::Order::Packets, size);
    young.update(Message::Size(size.0, size.1));
    vec![
        ("opening", at("")),
        ("bytes", at("b")),
        ("incoming_alone_second_page", at("if")),
        ("filtered", at("/2001:db8::/32\n")),
        ("nobody_is_left_by_the_filter", at("/198.51.100.1\n")),
        ("filter_is_typed", at("/192.0.2")),
        ("ban_asks", at("\tjn")),
        ("unban_asks", at("u")),
        ("host", host),
        ("host_of_others", refused),
        ("bans", at("B")),
        ("events", at("ej")),
        ("origins", at("a")),
        ("help", at("?")),
        ("lost", lost),
        ("alarms", alarmed),
        ("before_the_first_answer", young),
    ]
}

#[test]
fn every_screen_fits_into_80_columns_and_24_rows() {
    for (name, state) in screens(SMALL) {
        insta::assert_snapshot!(format!("80x24_{name}"), text(&state, Theme::new(true), SMALL));
    }
}

#[test]
fn a_wide_terminal_shows_more() {
    for (name, state) in screens(WIDE) {
        if ["opening", "host", "bans", "events"].contains(&name) {
            insta::assert_snapshot!(format!("160x50_{name}"), text(&state, Theme::new(true), WIDE));
        }
    }
}

#[test]
fn without_colours_every_word_and_sign_is_there_and_no_colour_is() {
    for (name, state) in screens(SMALL) {
        let plain = terminal(&state, Theme::new(false), SMALL);
        let coloured = terminal(&state, Theme::new(true), SMALL);
        assert_eq!(plain.backend().to_string(), coloured.backend().to_string(), "{name}");
        for cell in &plain.backend().buffer().content {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{name}");
        }
        let has_colour = |cell: &ratatui::buffer::Cell| cell.fg != Color::Reset;
        assert!(coloured.backend().buffer().content.iter().any(has_colour), "{name}");
    }
}

#[test]
fn without_colours_the_opening_view_and_the_host_look_like_this() {
    for (name, state) in screens(SMALL) {
        if ["opening", "host"].contains(&name) {
            let picture = text(&state, Theme::new(false), SMALL);
            insta::assert_snapshot!(format!("80x24_no_colour_{name}"), picture);
        }
    }
}

#[test]
fn without_a_database_the_screen_of_origins_says_how_to_have_one() {
    let mut state = console(SMALL);
    press(&mut state, "a");
    let told = Told {
        status: crate::control::Status { origins: None, ..status(60_000) },
        unix_secs: NOW,
        ..Told::default()
    };
    state.update(Message::Told(Box::new(told)));
    let picture = text(&state, Theme::new(true), SMALL);
    assert!(picture.contains("name some in `databases` of [origins]"), "{picture}");
}

#[test]
fn any_size_can_be_drawn() {
    for size in [(1, 1), (2, 3), (10, 5), (40, 12), (79, 23), (300, 100), (500, 3)] {
        for (name, state) in screens(size) {
            let picture = text(&state, Theme::new(true), size);
            assert_eq!(picture.lines().count(), usize::from(size.1), "{name} at {size:?}");
        }
    }
}

#[test]
fn a_host_that_is_looked_at_is_named_on_its_screen() {
    let mut state = console(SMALL);
    press(&mut state, "\n");
    let before = text(&state, Theme::new(true), SMALL);
    assert!(before.contains(VICTIM) && before.contains("asking the agent"), "{before}");
}
