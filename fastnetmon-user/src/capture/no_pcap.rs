//! In place of `pcap.rs` in an agent that is built without libpcap.
//!
//! **Invariant**: says so; whoever asked for it by name gets no other engine instead.

use std::time::Duration;

use crate::capture::engine_settings::PcapSettings;
use crate::capture::{CaptureError, Engine, Intake, Polled};
use crate::kernel::Port;
use crate::model::Moment;

/// There is none.
#[derive(Debug)]
pub enum PcapEngine {}

impl PcapEngine {
    /// Opens nothing.
    ///
    /// # Errors
    /// Always, with the remedy.
    pub fn open(
        _: &[Port],
        _: usize,
        _: &PcapSettings,
        _: fn() -> Moment,
    ) -> Result<Vec<Self>, CaptureError> {
        let reason =
            "this agent was built without libpcap (the feature `pcap`), as static ones are: \
                      use `engine = \"af_packet\"`, or the package that is not static"
                .to_owned();
        Err(CaptureError::Broken { engine: Self::NAME, reason })
    }

    /// One, which will not be opened.
    pub const fn engines(_: usize, _: usize) -> usize {
        1
    }
}

impl Engine for PcapEngine {
    const NAME: &'static str = "pcap";

    fn poll(&mut self, _: Duration, _: &mut impl Intake) -> Result<Polled, CaptureError> {
        match *self {}
    }
}
