//! The console at a terminal: keys and answers come in, pictures go out.
//!
//! **Invariant**: the terminal is given back as it was found, whether the operator leaves, a signal
//! comes or something panics. Nothing here waits for the agent.

use std::io;
use std::path::Path;

use crossbeam_channel::{Sender, TrySendError, bounded};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::client::asker::Asker;
use crate::client::state::{Intent, Message, State};
use crate::client::{ClientError, Connection, Order, Theme, input, render};

/// Messages that wait to be shown.
const WAITING: usize = 64;

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The agent cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The terminal cannot be used.
    #[error("the terminal cannot be used: {0}; `--plain` and `--once` need none")]
    Terminal(#[from] io::Error),
    /// A thread of the console ended.
    #[error("a thread of the console ended by itself, which is a bug")]
    Thread,
}

/// The terminal while it is ours.
struct Screen(DefaultTerminal);

impl Screen {
    /// From here on a panic gives it back as well, before it is told.
    fn take() -> io::Result<Self> {
        Ok(Self(ratatui::try_init()?))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _gone = ratatui::try_restore();
    }
}

/// Shows the agent until the operator leaves.
///
/// # Errors
/// When there is no agent at the beginning, or no terminal.
pub fn run(socket: &Path, order: Order, theme: Theme) -> Result<(), ConsoleError> {
    let connection = Connection::open(socket)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (say, told) = bounded(WAITING);
    let (want, wanted) = bounded(WAITING);
    let mut screen = Screen::take()?;
    let size = screen.0.size()?;
    let mut state = State::new(order, (size.width, size.height));
    let asker = Asker {
        socket: socket.to_owned(),
        connection: Some(connection),
        watched: None,
        last: None,
        failures: 0,
    };
    start("asker", {
        let last = Last(say.clone());
        move || asker.run(&wanted, &last.0)
    })?;
    start("signals", {
        let say = say.clone();
        move || {
            if signals.forever().next().is_some() {
                // When nobody listens, the console is leaving already.
                let _leaving = say.send(Message::Leave);
            }
        }
    })?;
    start("keys", move || read_keys(&say))?;
    loop {
        screen.0.draw(|frame| render::draw(&state, theme, frame))?;
        let first = told.recv().map_err(|_ended| ConsoleError::Thread)?;
        for message in std::iter::once(first).chain(told.try_iter().take(WAITING)) {
            match state.update(message) {
                None => {}
                Some(Intent::Leave) => return Ok(()),
                Some(Intent::Suspend) => {
                    drop(screen);
                    low_level::emulate_default_handler(SIGTSTP)?;
                    screen = Screen::take()?;
                }
                Some(intent) => pass(&mut state, &want, intent)?,
            }
        }
    }
}

/// Speaks when its thread ends, panic included: a console that shows nothing new is no console.
struct Last(Sender<Message>);

impl Drop for Last {
    fn drop(&mut self) {
        // When nobody listens, the console is leaving already.
        let _leaving = self.0.try_send(Message::Leave);
    }
}

/// Hands a wish to the asker, which may be waiting for the agent.
fn pass(state: &mut State, want: &Sender<Intent>, intent: Intent) -> Result<(), ConsoleError> {
    match want.try_send(intent) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(_)) => {
            let reason = "the agent does not answer: nothing was asked of it".to_owned();
            state.update(Message::Answer(Err(reason)));
            Ok(())
        }
        Err(TrySendError::Disconnected(_)) => Err(ConsoleError::Thread),
    }
}

/// Reads the terminal until it is gone.
fn read_keys(say: &Sender<Message>) {
    loop {
        let message = match event::read() {
            Ok(event) => input::read(&event),
            Err(_gone) => Some(Message::Leave),
        };
        if let Some(message) = message
            && say.send(message).is_err()
        {
            return;
        }
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // Ends with the process: one of them waits for a key that may never come.
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
