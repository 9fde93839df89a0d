//! Waiting for packets.
//!
//! **Invariant**: nobody waits longer than was asked for, and a signal is no failure: whoever it was
//! for will hear of it.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

use crate::capture::CaptureError;

/// Waits until one of these has something, at most `patience`.
pub(super) fn wait(polled: &mut [PollFd<'_>], patience: Duration) -> io::Result<()> {
    match poll(polled, Timespec::try_from(patience).ok().as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The engine of this name cannot wait, so it cannot go on.
pub(super) fn broken(engine: &'static str) -> impl Fn(io::Error) -> CaptureError {
    move |error| CaptureError::Broken { engine, reason: error.to_string() }
}
