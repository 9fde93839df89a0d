//! The client side: asks the agent over the control socket and shows what it says.
//!
//! **Invariant**: knows the words of the wire and nothing of the agent behind them; never root, the
//! group of the socket is enough.

mod connection;
mod live;
mod plain;

pub use self::connection::{ClientError, Connection};
pub use self::live::watch;
pub use self::plain::{Order, Screen, bans};
