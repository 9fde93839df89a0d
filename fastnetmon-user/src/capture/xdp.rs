//! The kernel programs as an engine: it drains their rings and counts nothing.
//!
//! **Invariant**: every packet was counted in the kernel before anything of it arrives here.

use std::time::Duration;

use crate::capture::{CaptureError, Engine, Frame, Intake, Polled, Sample, Starts};
use crate::kernel::{Ring, Rings};
use crate::model::{Direction, HostId, Moment};

/// Hints, samples and strangers of the attached programs.
#[expect(missing_debug_implementations, reason = "a ring has nothing to show")]
pub struct XdpEngine {
    rings: Rings,
}

impl XdpEngine {
    /// Drains these rings.
    pub const fn new(rings: Rings) -> Self {
        Self { rings }
    }
}

impl Engine for XdpEngine {
    const NAME: &'static str = "xdp";

    fn poll(
        &mut self,
        patience: Duration,
        intake: &mut impl Intake,
    ) -> Result<Polled, CaptureError> {
        self.rings.wait(patience).map_err(|error| CaptureError::Broken {
            engine: Self::NAME,
            reason: error.to_string(),
        })?;
        let taken = self.rings.drain(|record| match record {
            Ring::Hint(hint) => intake.hint(hint),
            Ring::Stranger(stranger) => intake.stranger(stranger),
            Ring::Sample(sample) => {
                let captured = usize::try_from(sample.captured).unwrap_or(usize::MAX);
                let Some(bytes) = sample.bytes.get(..captured) else { return };
                intake.sample(&Sample {
                    at: Moment::after_boot(Duration::from_nanos(sample.at)),
                    host: HostId(sample.slot),
                    direction: if sample.direction == Direction::Outgoing as u16 {
                        Direction::Outgoing
                    } else {
                        Direction::Incoming
                    },
                    armed: sample.armed != 0,
                    frame: Frame {
                        bytes,
                        starts: Starts::Ethernet,
                        wire_bytes: Some(sample.wire_len),
                        piece: 0,
                    },
                });
            }
        });
        Ok(Polled { taken, lost: 0 })
    }
}
