//! Counting words become readings: what every host gained since the last look.
//!
//! [`Counters`] reads all hosts at the tick, [`Watch`] a few of them every 10 ms, [`Evidence`]
//! keeps packets for the dump, [`Writer`] is where an engine puts what it saw.
//!
//! **Invariant**: nothing is ever zeroed and nothing is read twice into one sum: a gain is the
//! difference of two readings of the same words.

mod evidence;
mod gain;
mod gains;
mod scan;
mod watch;
mod writer;

pub use self::evidence::Evidence;
pub use self::gain::{Gain, Whole};
pub use self::gains::{Gains, Run};
pub use self::scan::{Counters, House, Reading};
pub use self::watch::{Glimpse, Watch};
pub use self::writer::{Rules, Writer};
