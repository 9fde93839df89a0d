//! Keys: what the terminal says, and what it means.
//!
//! **Invariant**: an order is given only after `y`, and it is about the host that was named in the
//! question, whatever moved meanwhile.

use std::net::IpAddr;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::client::plain::Order;
use crate::client::render;
use crate::client::state::{Asking, Intent, Message, State, View};
use crate::control::{Request, Way};

/// Characters of a filter, at most: as long as an address with a length can be.
const LONGEST: usize = 43;

/// A key that means something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
}

/// What an event of the terminal is to us.
pub(super) fn read(event: &Event) -> Option<Message> {
    match event {
        Event::Resize(columns, rows) => Some(Message::Size(*columns, *rows)),
        Event::Key(key) if key.kind != KeyEventKind::Release => key_of(*key).map(Message::Key),
        _ => None,
    }
}

const fn key_of(key: KeyEvent) -> Option<Key> {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if with_control => Key::Interrupt,
        KeyCode::Char('z') if with_control => Key::Suspend,
        KeyCode::Char('f') if with_control => Key::PageDown,
        KeyCode::Char('b') if with_control => Key::PageUp,
        KeyCode::Char(_) if with_control => return None,
        KeyCode::Char(letter) => Key::Char(letter),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => Key::Tab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

impl State {
    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key) -> Option<Intent> {
        match key {
            Key::Interrupt => return Some(Intent::Leave),
            Key::Suspend => return Some(Intent::Suspend),
            _ => {}
        }
        match self.asking.take() {
            Some(Asking::Filter(text)) => self.type_filter(text, key),
            Some(Asking::Sure(request)) => return self.answer(request, key),
            None => {
                self.notice = None;
                return self.command(key);
            }
        }
        None
    }

    fn type_filter(&mut self, mut text: String, key: Key) {
        match key {
            Key::Enter => {
                text.trim().clone_into(&mut self.filter);
                self.go(0);
                return;
            }
            Key::Escape => return,
            Key::Backspace => {
                text.pop();
            }
            Key::Char(letter) if text.len() < LONGEST && letter.is_ascii_graphic() => {
                text.push(letter.to_ascii_lowercase());
            }
            _ => {}
        }
        self.asking = Some(Asking::Filter(text));
    }

    fn answer(&mut self, request: Request, key: Key) -> Option<Intent> {
        match key {
            Key::Char('y' | 'Y') => Some(Intent::Order(request)),
            Key::Char('n' | 'N' | 'q') | Key::Escape => {
                self.notice = Some(Ok("Nothing was done.".to_owned()));
                None
            }
            // Anything else is no answer.
            _ => {
                self.asking = Some(Asking::Sure(request));
                None
            }
        }
    }

    fn command(&mut self, key: Key) -> Option<Intent> {
        let page = usize::from(render::page(self)).max(1);
        match key {
            Key::Char('q') => return Some(Intent::Leave),
            Key::Escape => return self.back(),
            Key::Char('p') => self.sort(Order::Packets),
            Key::Char('b') => self.sort(Order::Bytes),
            Key::Char('i') => self.turn(Way::Incoming),
            Key::Char('o') => self.turn(Way::Outgoing),
            Key::Tab => {
                self.way = match self.way {
                    Way::Incoming => Way::Outgoing,
                    Way::Outgoing => Way::Incoming,
                };
                self.go(0);
            }
            Key::Char('/') => {
                let back = (self.view != View::Top).then(|| self.show(View::Top)).flatten();
                self.asking = Some(Asking::Filter(self.filter.clone()));
                return back;
            }
            Key::Char('B') => return self.switch(View::Bans),
            Key::Char('e') => return self.switch(View::Events),
            Key::Char('a') => return self.switch(View::Origins),
            Key::Char('?' | 'h') => return self.switch(View::Help),
            Key::Enter if !matches!(self.view, View::Host(_) | View::Origins | View::Help) => {
                match self.about() {
                    Ok(ip) => return self.show(View::Host(ip)),
                    Err(reason) => self.notice = Some(Err(reason)),
                }
            }
            Key::Char('n') => self.ask_ban(),
            Key::Char('u') => self.ask_unban(),
            Key::Up | Key::Char('k') => self.go(self.row.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.go(self.row + 1),
            Key::PageUp => self.go(self.row.saturating_sub(page)),
            Key::PageDown | Key::Char('f' | ' ') => self.go(self.row + page),
            Key::Home => self.go(0),
            Key::End => self.go(usize::MAX),
            _ => {}
        }
        None
    }

    /// One step back, to the opening view and its beginning.
    fn back(&mut self) -> Option<Intent> {
        if self.view != View::Top {
            return self.show(View::Top);
        }
        if self.filter.is_empty() {
            self.alone = false;
        } else {
            self.filter.clear();
        }
        self.go(0);
        None
    }

    /// The same key again leads back.
    fn switch(&mut self, view: View) -> Option<Intent> {
        self.show(if self.view == view { View::Top } else { view })
    }

    fn sort(&mut self, order: Order) {
        self.order = order;
        if self.view == View::Top {
            self.go(0);
        }
    }

    /// One direction, alone; the same key again shows both.
    fn turn(&mut self, way: Way) {
        self.alone = !(self.alone && self.way == way);
        self.way = way;
        if self.view == View::Top {
            self.go(0);
        }
    }

    fn ask_ban(&mut self) {
        match self.about() {
            Ok(ip) if self.is_banned(ip) => {
                self.notice = Some(Err(format!("`{ip}` is banned already: `u` lets it go")));
            }
            Ok(ip) => {
                self.asking = Some(Asking::Sure(Request::ban(ip, self.way)));
            }
            Err(reason) => self.notice = Some(Err(reason)),
        }
    }

    fn ask_unban(&mut self) {
        match self.about() {
            Ok(ip) if self.is_banned(ip) => {
                self.asking = Some(Asking::Sure(Request::unban(ip)));
            }
            Ok(ip) => {
                self.notice = Some(Err(format!("`{ip}` is not banned: `B` shows who is")));
            }
            Err(reason) => self.notice = Some(Err(reason)),
        }
    }

    fn is_banned(&self, ip: IpAddr) -> bool {
        self.status.bans.iter().any(|ban| ban.ip == ip)
    }
}
