//! Packets on demand: frames built by name, sent at a steady rate, counted exactly.
//!
//! **Invariant**: what is sent is known to the last packet, so that it can be compared with what was
//! counted.

mod frame;
mod sender;

pub use frame::{Frame, Heading, tcp};
pub use sender::{Pace, Sender};

/// Frames made ready beforehand; a sender goes round them.
#[derive(Debug, Clone)]
pub struct Pool {
    frames: Vec<Vec<u8>>,
}

impl Pool {
    /// The frames in the order in which they will be sent.
    pub fn new(frames: impl IntoIterator<Item = Frame>) -> Self {
        Self::raw(frames.into_iter().map(|frame| frame.bytes()))
    }

    /// Frames that are bytes already, such as ones that are broken on purpose.
    pub fn raw(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { frames: frames.into_iter().collect() }
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
