//! What the console shows, as a value.
//!
//! **Invariant**: pure. A message makes another state and at most one [`Intent`]; nothing here has
//! a terminal, a socket or a clock. What time it is, the agent says.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::client::history::History;
use crate::client::input::Key;
use crate::client::plain::Order;
use crate::control::{Event, Host, HostView, Request, Status, Way};
use crate::model::Prefix;

/// Events that are kept; as many as the agent keeps.
const EVENTS: usize = 1000;

/// What comes in.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// A key.
    Key(Key),
    /// The terminal has this size.
    Size(u16, u16),
    /// The agent told its state.
    Told(Box<Told>),
    /// The agent cannot be asked.
    Lost {
        /// Why.
        reason: String,
        /// After how many seconds it is tried again.
        again_secs: u64,
    },
    /// An order was obeyed, or not.
    Answer(Result<String, String>),
    /// The process is to end.
    Leave,
}

/// What the agent told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) status: Status,
    /// What time it is there.
    pub(super) unix_secs: u64,
    /// What happened since the last time.
    pub(super) events: Vec<Event>,
    /// It is another conversation: `events` are all there are.
    pub(super) is_first: bool,
    /// The host that is looked at, or why nothing is known of it.
    pub(super) host: Option<Result<HostView, String>>,
}

/// What is to be done about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Intent {
    /// Ask for this host as well, from now on.
    Watch(Option<IpAddr>),
    /// Give an order.
    Order(Request),
    /// Give the terminal back until the shell continues us.
    Suspend,
    /// Leave.
    Leave,
}

/// What is on the screen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum View {
    /// The loudest hosts, the bans, the totals.
    #[default]
    Top,
    /// One host.
    Host(IpAddr),
    /// The bans that stand.
    Bans,
    /// What happened.
    Events,
    /// Whence packets come.
    Origins,
    /// The keys.
    Help,
}

/// What the last line asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asking {
    /// For a filter.
    Filter(String),
    /// Whether an order is meant.
    Sure(Request),
}

/// Is the agent there?
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Link {
    /// Not known yet.
    #[default]
    Looking,
    /// It answers.
    Up,
    /// It does not.
    Lost {
        /// Why.
        reason: String,
        /// After how many seconds it is tried again.
        again_secs: u64,
    },
}

/// The console.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) link: Link,
    pub(super) status: Status,
    /// What time it is at the agent.
    pub(super) now: u64,
    pub(super) view: View,
    pub(super) order: Order,
    /// The direction that keys are about.
    pub(super) way: Way,
    /// Only this direction is shown.
    pub(super) alone: bool,
    pub(super) filter: String,
    pub(super) asking: Option<Asking>,
    /// What came of the last order, or why a key did nothing.
    pub(super) notice: Option<Result<String, String>>,
    /// The row that keys are about, and its host: rows move, the host stays chosen.
    pub(super) row: usize,
    chosen: Option<String>,
    /// Of the host that is looked at.
    pub(super) host: Option<Result<HostView, String>>,
    /// Newest first.
    pub(super) events: VecDeque<Event>,
    pub(super) history: History,
    pub(super) size: (u16, u16),
}

impl State {
    pub(super) fn new(order: Order, size: (u16, u16)) -> Self {
        Self {
            link: Link::default(),
            status: Status::default(),
            now: 0,
            view: View::default(),
            order,
            way: Way::Incoming,
            alone: false,
            filter: String::new(),
            asking: None,
            notice: None,
            row: 0,
            chosen: None,
            host: None,
            events: VecDeque::new(),
            history: History::default(),
            size,
        }
    }

    /// The next state, and what is to be done.
    pub(super) fn update(&mut self, message: Message) -> Option<Intent> {
        match message {
            Message::Key(key) => return self.press(key),
            Message::Size(columns, rows) => self.size = (columns, rows),
            Message::Told(told) => self.hear(*told),
            Message::Lost { reason, again_secs } => self.link = Link::Lost { reason, again_secs },
            Message::Answer(answer) => self.notice = Some(answer),
            Message::Leave => return Some(Intent::Leave),
        }
        None
    }

    fn hear(&mut self, told: Told) {
        let Told { status, unix_secs, events, is_first, host } = told;
        self.link = Link::Up;
        self.now = unix_secs;
        self.history.add(unix_secs, &status);
        self.status = status;
        if is_first {
            self.events.clear();
        }
        if self.view == View::Events && self.row > 0 {
            // The event that is read stays under the cursor.
            self.row += events.len();
        }
        for event in events {
            self.events.push_front(event);
        }
        self.events.truncate(EVENTS);
        // What was asked for before another host was chosen is not shown as this one's.
        let is_shown = |host: &Result<HostView, String>| match (host, self.view) {
            (Ok(host), View::Host(ip)) => host.ip == ip,
            (Err(_), View::Host(_)) => true,
            _ => false,
        };
        if let Some(host) = host.filter(is_shown) {
            if let Ok(host) = &host {
                self.history.add_host(unix_secs, host);
            }
            self.host = Some(host);
        }
        self.find_chosen();
    }

    /// The hosts of a direction, as they are ordered and filtered.
    pub(super) fn hosts(&self, way: Way) -> Vec<&Host> {
        let hosts = &self.status.hosts;
        let list = match (way, self.order) {
            (Way::Incoming, Order::Packets) => &hosts.incoming_packets,
            (Way::Incoming, Order::Bytes) => &hosts.incoming_bytes,
            (Way::Outgoing, Order::Packets) => &hosts.outgoing_packets,
            (Way::Outgoing, Order::Bytes) => &hosts.outgoing_bytes,
        };
        let filter = Filter::new(&self.filter);
        list.iter().filter(|host| filter.takes(&host.ip)).collect()
    }

    /// How many rows the list of this view has.
    pub(super) fn rows(&self) -> usize {
        match self.view {
            View::Top => self.hosts(self.way).len(),
            View::Host(_) => self.packets().len(),
            View::Bans => self.status.bans.len(),
            View::Events => self.events.len(),
            View::Origins | View::Help => 0,
        }
    }

    /// The packets of the last dump of the host that is looked at.
    pub(super) fn packets(&self) -> &[String] {
        let Some(Ok(host)) = &self.host else { return &[] };
        let mut dumps = host.events.iter().rev().filter(|event| !event.packets.is_empty());
        dumps.next().map_or(&[], |event| event.packets.as_slice())
    }

    /// Goes to a row, as far as there is one.
    pub(super) fn go(&mut self, row: usize) {
        self.row = row.min(self.rows().saturating_sub(1));
        self.chosen = match self.view {
            View::Top => self.hosts(self.way).get(self.row).map(|host| host.ip.clone()),
            View::Bans => self.status.bans.get(self.row).map(|ban| ban.ip.to_string()),
            View::Host(_) | View::Events | View::Origins | View::Help => None,
        };
    }

    /// Shows something else.
    pub(super) fn show(&mut self, view: View) -> Option<Intent> {
        let before = std::mem::replace(&mut self.view, view);
        self.host = None;
        self.go(0);
        match (before, view) {
            (_, View::Host(ip)) => Some(Intent::Watch(Some(ip))),
            (View::Host(_), _) => Some(Intent::Watch(None)),
            _ => None,
        }
    }

    /// Rows may have moved: the same host stays chosen, or else the same row.
    fn find_chosen(&mut self) {
        let place = self.chosen.as_ref().and_then(|chosen| match self.view {
            View::Top => self.hosts(self.way).iter().position(|host| host.ip == *chosen),
            View::Bans => self.status.bans.iter().position(|ban| ban.ip.to_string() == *chosen),
            View::Host(_) | View::Events | View::Origins | View::Help => None,
        });
        match place {
            // The first row is first whoever is there, until somebody is chosen.
            Some(place) if self.row > 0 => self.row = place,
            _ => self.go(self.row),
        }
    }

    /// The host that keys are about.
    pub(super) fn about(&self) -> Result<IpAddr, String> {
        let text = match self.view {
            View::Host(ip) => return Ok(ip),
            View::Top => self.hosts(self.way).get(self.row).map(|host| host.ip.as_str()),
            View::Bans => return self.status.bans.get(self.row).map(|ban| ban.ip).ok_or_else(none),
            View::Events => self.events.get(self.row).and_then(|event| event.about.as_deref()),
            View::Origins | View::Help => None,
        };
        // Of a host that is not loud, only the address is known.
        let text = text.or_else(|| Some(self.filter.as_str()).filter(|_| self.view == View::Top));
        let text = text.filter(|text| !text.is_empty()).ok_or_else(none)?;
        text.parse()
            .map_err(|_no_host| format!("`{text}` is no single host: `/` and an address name one"))
    }
}

fn none() -> String {
    "no host is chosen: go to one with the arrows, or name one with `/`".to_owned()
}

/// Which hosts are shown.
enum Filter<'a> {
    All,
    Within(Prefix),
    Part(&'a str),
}

impl<'a> Filter<'a> {
    fn new(text: &'a str) -> Self {
        if text.is_empty() {
            return Self::All;
        }
        Prefix::parse_masked(text).map_or(Self::Part(text), |(prefix, _)| Self::Within(prefix))
    }

    fn takes(&self, ip: &str) -> bool {
        match self {
            Self::All => true,
            // A line of strangers stands for its prefix.
            Self::Within(within) => {
                Prefix::parse_masked(ip).is_ok_and(|(prefix, _)| within.contains(prefix.address()))
            }
            Self::Part(part) => ip.contains(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::scene::{NOW, VICTIM, console, press, status, tell_host, victim};

    const SIZE: (u16, u16) = (80, 24);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn chosen(state: &State) -> String {
        state.about().unwrap().to_string()
    }

    fn tell(state: &mut State, status: Status) {
        let told = Told { status, unix_secs: NOW + 1, ..Told::default() };
        state.update(Message::Told(Box::new(told)));
    }

    #[test]
    fn a_ban_is_ordered_only_after_yes() {
        let mut state = console(SIZE);
        assert_eq!(press(&mut state, "jn"), None);
        assert_eq!(press(&mut state, "x\n"), None, "no answer");
        let ban = Request::ban(ip("192.0.2.11"), Way::Incoming);
        assert_eq!(press(&mut state, "y"), Some(Intent::Order(ban)));
        assert_eq!(press(&mut state, "y"), None, "once");
        for no in ["jnn", "jn\x1b", "jnq"] {
            let mut state = console(SIZE);
            assert_eq!(press(&mut state, no), None);
            assert_eq!((state.asking, state.view), (None, View::Top), "{no:?}");
        }
    }

    #[test]
    fn the_question_is_about_the_host_it_named_whatever_moves() {
        let mut state = console(SIZE);
        press(&mut state, "jn");
        let mut moved = status(60_000);
        moved.hosts.incoming_packets.swap(1, 3);
        tell(&mut state, moved);
        let ban = Request::ban(ip("192.0.2.11"), Way::Incoming);
        assert_eq!(press(&mut state, "y"), Some(Intent::Order(ban)));
    }

    #[test]
    fn a_chosen_host_stays_chosen_when_rows_move() {
        let mut state = console(SIZE);
        press(&mut state, "j");
        assert_eq!(chosen(&state), "192.0.2.11");
        let mut moved = status(60_000);
        moved.hosts.incoming_packets.swap(1, 3);
        tell(&mut state, moved.clone());
        assert_eq!((state.row, chosen(&state)), (3, "192.0.2.11".to_owned()));
        moved.hosts.incoming_packets.truncate(2);
        tell(&mut state, moved);
        assert_eq!(state.row, 1, "it went, and the row stays inside");
    }

    #[test]
    fn who_is_not_banned_cannot_be_let_go_and_who_is_cannot_be_banned() {
        let mut state = console(SIZE);
        press(&mut state, "n");
        assert_eq!(state.asking, None);
        assert!(matches!(&state.notice, Some(Err(text)) if text.contains("banned already")));
        press(&mut state, "ju");
        assert_eq!(state.asking, None);
        assert!(matches!(&state.notice, Some(Err(text)) if text.contains("is not banned")));
        let unban = Intent::Order(Request::unban(ip(VICTIM)));
        assert_eq!(press(&mut state, "kuy"), Some(unban.clone()));
        assert_eq!(press(&mut state, "Buy"), Some(unban));
    }

    #[test]
    fn a_line_of_strangers_is_no_host() {
        let mut state = console(SIZE);
        press(&mut state, "jjjjj\n");
        assert_eq!(state.view, View::Top);
        assert!(matches!(&state.notice, Some(Err(text)) if text.contains("is no single host")));
    }

    #[test]
    fn a_quiet_host_is_reached_by_its_address() {
        let mut state = console(SIZE);
        press(&mut state, "/198.51.100.1\n");
        let host = ip("198.51.100.1");
        assert_eq!(press(&mut state, "\n"), Some(Intent::Watch(Some(host))));
        let ban = Request::ban(host, Way::Outgoing);
        assert_eq!(press(&mut state, "ony"), Some(Intent::Order(ban)));
        assert_eq!(press(&mut state, "\x1b"), Some(Intent::Watch(None)));
    }

    #[test]
    fn a_filter_is_an_address_a_prefix_or_a_part() {
        for (filter, expected) in [
            ("", 40),
            ("192.0.2.9", 1),
            ("192.0.2.0/24", 38),
            ("2001:DB8::/32", 2),
            ("2001:db8:0:40::/64", 1),
            ("0.2.1", 7),
            ("nobody", 0),
        ] {
            let mut state = console(SIZE);
            press(&mut state, &format!("/{filter}\n"));
            assert_eq!(state.hosts(Way::Incoming).len(), expected, "{filter}");
        }
        let mut state = console(SIZE);
        press(&mut state, "/192.0.2.9\n/\x08\x08\x1b");
        assert_eq!(state.filter, "192.0.2.9", "Esc leaves it as it was");
        press(&mut state, "\x1b");
        assert_eq!(state.filter, "", "and again takes it away");
    }

    #[test]
    fn pages_are_as_long_as_the_table_and_end_with_the_list() {
        let mut state = console(SIZE);
        let page = usize::from(crate::client::render::page(&state));
        press(&mut state, "f");
        assert_eq!(state.row, page);
        press(&mut state, "ffffffffffffff");
        assert_eq!(state.row, 39);
        press(&mut state, "i");
        let alone = usize::from(crate::client::render::page(&state));
        assert!(alone > 2 * page, "{alone} and {page}");
        state.update(Message::Key(Key::End));
        state.update(Message::Key(Key::PageUp));
        assert_eq!(state.row, 39 - alone);
        press(&mut state, "i");
        assert!(!state.alone);
    }

    #[test]
    fn a_host_that_was_left_is_not_shown_as_the_next_one() {
        let mut state = console(SIZE);
        press(&mut state, "j\n");
        tell_host(&mut state, Ok(victim()));
        assert_eq!(state.host, None, "that was told of another host");
        press(&mut state, "\x1b\n");
        press(&mut state, "\x1b");
        state.row = 0;
        press(&mut state, "\n");
        tell_host(&mut state, Ok(victim()));
        assert_eq!(state.packets().len(), 100);
    }

    #[test]
    fn a_lost_agent_is_said_and_its_return_begins_its_events_anew() {
        let mut state = console(SIZE);
        let lost = Message::Lost { reason: "gone".to_owned(), again_secs: 1 };
        state.update(lost);
        assert!(matches!(state.link, Link::Lost { .. }));
        assert_eq!(state.events.len(), 8);
        let told =
            Told { status: status(1), unix_secs: NOW + 9, is_first: true, ..Told::default() };
        state.update(Message::Told(Box::new(told)));
        assert_eq!((state.link, state.events.len()), (Link::Up, 0));
    }

    #[test]
    fn keys_that_leave() {
        let mut state = console(SIZE);
        assert_eq!(press(&mut state, "?q"), Some(Intent::Leave));
        press(&mut state, "jn");
        assert_eq!(state.update(Message::Key(Key::Interrupt)), Some(Intent::Leave));
        assert_eq!(state.update(Message::Key(Key::Suspend)), Some(Intent::Suspend));
        assert_eq!(state.update(Message::Leave), Some(Intent::Leave));
        assert_eq!(press(&mut console(SIZE), "/q"), None, "a letter of a filter");
    }
}
