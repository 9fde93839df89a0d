//! Packets in: two traits and the engines behind them.
//!
//! An [`Engine`] hands over what it saw, an [`Intake`] takes it: `counters::Writer` is one, a
//! test's `Vec` another.
//!
//! **Invariant**: knows no counter. An engine decides what is shown, never how it is counted.

mod af_packet;
#[cfg(feature = "af-xdp")]
mod af_xdp;
#[cfg(not(feature = "af-xdp"))]
#[path = "no_af_xdp.rs"]
mod af_xdp;
mod bound;
mod engine_settings;
mod files;
mod link;
mod nflog;
pub mod nflog_message;
mod packet_ring;
#[cfg(feature = "pcap")]
mod pcap;
#[cfg(not(feature = "pcap"))]
#[path = "no_pcap.rs"]
mod pcap;
mod pf_ring;
mod settings;
mod trouble;
mod waiting;
mod xdp;

use std::ops::AddAssign;
use std::time::Duration;

use fastnetmon_common::abi::{Hint, Stranger};

pub use self::af_packet::AfPacketEngine;
pub use self::af_xdp::AfXdpEngine;
pub use self::bound::{Bound, RING, evidence_by};
pub use self::engine_settings::{Bounded, NflogSettings, PcapSettings};
pub use self::files::{CaptureFile, FileError, Recorded};
pub use self::link::{Link, LinkError, Opened, Way};
pub use self::nflog::{NflogEngine, nflog_rules};
pub use self::pcap::PcapEngine;
pub use self::pf_ring::{PfRingEngine, PfRingOpened, pf_ring_interface, pf_ring_module};
pub use self::settings::{
    AccessName, EgressName, EngineName, PfRing, RoleName, Settings, Threads, Tick,
};
pub use self::xdp::XdpEngine;
pub use crate::model::Starts;
use crate::model::{Direction, HostId, Moment, Sides};

/// A frame, or the beginning of one.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What was captured.
    pub bytes: &'a [u8],
    /// Where it begins.
    pub starts: Starts,
    /// Length on the wire; `None` when the engine cannot know.
    pub wire_bytes: Option<u32>,
    /// Bytes of payload in each packet that offload cuts it into, or put it together from; 0: it is
    /// one packet.
    pub piece: u32,
}

/// A copy of a packet that was counted already.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// When it was seen.
    pub at: Moment,
    /// Whose line it was counted in.
    pub host: HostId,
    /// Which way, seen from that host.
    pub direction: Direction,
    /// The host was armed; otherwise it is one in N.
    pub armed: bool,
    /// The packet.
    pub frame: Frame<'a>,
}

/// Where an engine puts what it saw.
pub trait Intake {
    /// Nobody counted it yet. These ends of it are to be counted.
    fn frame(&mut self, at: Moment, sides: Sides, frame: &Frame<'_>);
    /// The kernel counted it already: evidence only.
    fn sample(&mut self, sample: &Sample<'_>);
    /// A packet of an armed host was taken from the port. The kernel counted it already; which end
    /// of it is armed, the intake knows.
    fn redirected(&mut self, at: Moment, frame: &Frame<'_>);
    /// A host crossed its limit within a window.
    fn hint(&mut self, hint: Hint);
    /// An IPv6 host has no line of its own yet.
    fn stranger(&mut self, stranger: Stranger);
}

/// What came of one look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Polled {
    /// Records or frames handed over.
    pub taken: u64,
    /// What the engine knows it missed.
    pub lost: u64,
}

impl AddAssign for Polled {
    fn add_assign(&mut self, more: Self) {
        self.taken += more.taken;
        self.lost += more.lost;
    }
}

/// Why an engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The kernel's rings cannot be waited for.
    #[error("engine `{engine}`: {reason}")]
    Broken {
        /// Which engine.
        engine: &'static str,
        /// What happened.
        reason: String,
    },
    /// Nothing comes.
    #[error("engine `{engine}`: nothing came to {what} for {secs} s: {remedy}")]
    Silent {
        /// Which engine.
        engine: &'static str,
        /// Where it looks.
        what: String,
        /// For how long.
        secs: u64,
        /// What to do.
        remedy: String,
    },
    /// A port cannot be opened.
    #[error("interface `{interface}`: cannot {what}: {reason}")]
    Refused {
        /// Its interface.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// What the system says, and the remedy.
        reason: String,
    },
}

/// Something that sees packets.
pub trait Engine: Send + 'static {
    /// Its name in the configuration and in `status`.
    const NAME: &'static str;

    /// Hands over what arrived; waits at most `patience` for the first of it.
    ///
    /// # Errors
    /// When the engine cannot go on.
    fn poll(
        &mut self,
        patience: Duration,
        intake: &mut impl Intake,
    ) -> Result<Polled, CaptureError>;

    /// Why it sees less than it should, while it goes on with what is left and tries again.
    fn trouble(&self) -> Option<CaptureError> {
        None
    }
}
