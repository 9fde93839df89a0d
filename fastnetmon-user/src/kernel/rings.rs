//! The three rings through which the programs speak.
//!
//! **Invariant**: what comes out of a ring is taken as a whole record or not at all.

use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use fastnetmon_common::abi::{Hint, Sample, Stranger};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use zerocopy::FromBytes as _;

use crate::kernel::KernelError;

#[cfg(feature = "ebpf-log")]
type Logger = aya_log::EbpfLogger<&'static dyn log::Log>;

/// Hints, samples and strangers, to be drained.
#[expect(missing_debug_implementations, reason = "a ring has nothing to show")]
pub struct Rings {
    hints: RingBuf<MapData>,
    samples: RingBuf<MapData>,
    strangers: RingBuf<MapData>,
    /// What the programs say for themselves.
    #[cfg(feature = "ebpf-log")]
    log: Logger,
}

/// One record out of a ring.
#[derive(Debug)]
pub enum Ring<'a> {
    /// A host crossed its limit within a window.
    Hint(Hint),
    /// An IPv6 host has no line of its own.
    Stranger(Stranger),
    /// A copy of a packet.
    Sample(&'a Sample),
}

impl Rings {
    pub(super) const fn new(
        hints: RingBuf<MapData>,
        samples: RingBuf<MapData>,
        strangers: RingBuf<MapData>,
        #[cfg(feature = "ebpf-log")] log: Logger,
    ) -> Self {
        Self {
            hints,
            samples,
            strangers,
            #[cfg(feature = "ebpf-log")]
            log,
        }
    }

    /// Waits until a ring asks for attention, at most `patience`.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait(&self, patience: Duration) -> Result<(), KernelError> {
        let mut polled = [&self.hints, &self.samples, &self.strangers]
            .map(|ring| PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN));
        let patience = Timespec::try_from(patience).ok();
        match poll(&mut polled, patience.as_ref()) {
            // A signal is no failure: whoever it was for will hear of it.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(KernelError::Wait(error.into())),
        }
    }

    /// Hands over what is there, hints first. Returns how many records there were.
    pub fn drain(&mut self, mut take: impl FnMut(Ring<'_>)) -> u64 {
        let mut taken = 0;
        #[cfg(feature = "ebpf-log")]
        self.log.flush();
        while let Some(record) = self.hints.next() {
            if let Ok(hint) = Hint::read_from_bytes(&record) {
                take(Ring::Hint(hint));
                taken += 1;
            }
        }
        while let Some(record) = self.strangers.next() {
            if let Ok(stranger) = Stranger::read_from_bytes(&record) {
                take(Ring::Stranger(stranger));
                taken += 1;
            }
        }
        while let Some(record) = self.samples.next() {
            if let Ok(sample) = Sample::ref_from_bytes(&record) {
                take(Ring::Sample(sample));
                taken += 1;
            }
        }
        taken
    }
}
