//! The words of the house: hosts, counts, rates, moments, packets as evidence shows them.
//!
//! **Invariant**: values only. Nothing here reads a clock, a file or a socket.

mod caught;
mod counts;
#[cfg(test)]
pub(crate) mod dice;
mod halves;
mod host;
mod moment;
mod plain;
mod remotes;
mod seen;
mod signature;

pub use fastnetmon_common::class::{Class, Direction, Sides, Unparsed};

pub use self::caught::{Caught, Raw, Starts};
pub use self::counts::{Counts, Load, Loads, PerSecond, Tally};
pub use self::halves::{high64, low64};
pub use self::host::{HostId, Prefix, PrefixError};
pub use self::moment::{Moment, Wall};
pub use self::plain::{plain, plain_words};
pub use self::remotes::{CountryShare, Remotes, SystemShare};
pub use self::seen::Seen;
pub use self::signature::Signature;
