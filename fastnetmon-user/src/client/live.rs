//! The screen, refreshed each second until the operator leaves.
//!
//! **Invariant**: the terminal is given back as it was found; a lost agent is said and looked for
//! again.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::client::{ClientError, Connection, Order, Screen};

/// Between two pictures.
const REFRESH: Duration = Duration::from_secs(1);

/// Ctrl-C, as a key.
const INTERRUPT: u8 = 3;

/// Clear the screen, go to its beginning (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// The terminal's way of handing over keys, as it was found.
struct Keys(Termios);

impl Keys {
    /// Hands over each key at once and without an echo.
    fn raw() -> io::Result<Self> {
        let found = tcgetattr(io::stdin())?;
        let mut wanted = found.clone();
        // Ctrl-C comes as a key: the terminal is to be given back before the process ends.
        wanted.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        wanted.special_codes[SpecialCodeIndex::VMIN] = 0;
        wanted.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &wanted)?;
        Ok(Self(found))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Shows the screen until `q`. `p` orders by packets, `b` by bytes.
///
/// # Errors
/// When there is no agent at the beginning, or no terminal to write to.
pub fn watch(socket: &Path, mut order: Order, rows: usize) -> Result<(), anyhow::Error> {
    let mut connection = Some(Connection::open(socket)?);
    let keys = if io::stdin().is_terminal() { Some(Keys::raw()?) } else { None };
    loop {
        let text = match picture(&mut connection, socket, order, rows) {
            Ok(text) => text,
            Err(error) => {
                connection = None;
                format!("{error}\n\nLooking for it again; `q` leaves.\n")
            }
        };
        let mut out = io::stdout().lock();
        out.write_all(CLEAR.as_bytes())?;
        out.write_all(text.as_bytes())?;
        out.flush()?;
        drop(out);
        for key in wait(keys.is_some())? {
            match key {
                b'q' | INTERRUPT => return Ok(()),
                b'p' => order = Order::Packets,
                b'b' => order = Order::Bytes,
                _ => {}
            }
        }
    }
}

fn picture(
    connection: &mut Option<Connection>,
    socket: &Path,
    order: Order,
    rows: usize,
) -> Result<String, ClientError> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(socket)?),
    };
    let status = open.status(rows)?;
    Ok(Screen { status: &status, order, rows }.to_string())
}

/// Waits for a key or for the next picture.
fn wait(keys: bool) -> io::Result<Vec<u8>> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    let polled = if keys { &mut polled[..] } else { &mut [] };
    let refresh = Timespec::try_from(REFRESH).ok();
    match poll(polled, refresh.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(vec![]),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut buffer = [0; 16];
    let read = stdin.lock().read(&mut buffer)?;
    Ok(buffer.get(..read).unwrap_or_default().to_vec())
}
