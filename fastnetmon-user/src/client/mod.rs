//! The client side: asks the agent over the control socket and shows what it says.
//!
//! [`console()`] is what an operator sees at a terminal; [`Screen`] is the text for
//! scripts, which the first FastNetMon printed.
//!
//! **Invariant**: knows the words of the wire and nothing of the agent behind them; never root, the
//! group of the socket is enough.

mod asker;
mod connection;
mod console;
mod history;
mod input;
mod live;
mod plain;
mod render;
#[cfg(test)]
mod scene;
mod state;
mod theme;

pub use self::connection::{ClientError, Connection};
pub use self::console::{ConsoleError, run as console};
pub use self::live::watch;
pub use self::plain::{Order, Screen, bans};
pub use self::theme::Theme;
