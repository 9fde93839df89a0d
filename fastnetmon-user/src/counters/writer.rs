//! Where an engine puts what it saw.
//!
//! **Invariant**: never blocks the capture thread. What finds a channel full is counted as lost:
//! the tick's scan is the net under the hints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Sender;
use fastnetmon_common::abi::{Hint, Stranger};
use fastnetmon_common::wire::Captured;

use crate::capture::{Frame, Intake, Sample, Starts};
use crate::counters::Evidence;
use crate::model::{Moment, Seen};
use crate::tables::Notice;

/// The intake of an engine whose packets the kernel counts.
#[derive(Debug)]
pub struct Writer {
    evidence: Arc<Evidence>,
    notices: Sender<Notice>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    /// Puts samples into `evidence` and tells `notices`; what finds no room counts in `lost`.
    pub const fn new(
        evidence: Arc<Evidence>,
        notices: Sender<Notice>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        Self { evidence, notices, lost }
    }

    fn tell(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Intake for Writer {
    fn sample(&mut self, sample: &Sample<'_>) {
        if let Some(seen) = seen(sample.at, &sample.frame) {
            self.evidence.keep(sample.host, seen);
        }
    }

    fn redirected(&mut self, at: Moment, frame: &Frame<'_>) {
        if let Some(seen) = seen(at, frame) {
            self.evidence.keep_taken(seen);
        }
    }

    fn hint(&mut self, hint: Hint) {
        self.tell(Notice::Hint(hint));
    }

    fn stranger(&mut self, stranger: Stranger) {
        self.tell(Notice::Stranger(stranger));
    }
}

fn seen(at: Moment, frame: &Frame<'_>) -> Option<Seen> {
    let bytes = frame.bytes;
    let wire_len =
        frame.wire_bytes.unwrap_or_else(|| u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let captured = Captured { bytes, wire_len };
    match frame.starts {
        Starts::Ethernet => Seen::from_ethernet(at, captured),
        Starts::Ip => Seen::from_ip(at, captured),
    }
}
