//! `[capture]`: which packets, and how.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capture::engine_settings::{NflogSettings, PcapSettings};

/// How packets are seen.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which engine.
    pub engine: EngineName,
    /// What the interfaces show.
    pub role: RoleName,
    /// How the classifier of what leaves is held to its port.
    pub egress: EgressName,
    /// Names of the interfaces.
    pub interfaces: Vec<String>,
    /// Threads of an engine that counts by itself.
    pub threads: Threads,
    /// Milliseconds between two readings.
    pub tick_ms: Tick,
    /// One packet in so many is kept, so that evidence begins before the attack; 0: none.
    pub sparse_every: u32,
    /// Count what IP-in-IP and GRE tunnels carry, for the inner addresses as well.
    pub decapsulate: bool,
    /// Megabytes the tables may take, at most.
    pub max_table_mb: u64,
    /// What the engine `pcap` wants besides.
    pub pcap: PcapSettings,
    /// What the engine `nflog` wants besides.
    pub nflog: NflogSettings,
    /// How PF_RING is reached.
    pub pf_ring: PfRing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: EngineName::Xdp,
            role: RoleName::Uplink,
            egress: EgressName::Auto,
            interfaces: Vec::new(),
            threads: Threads::default(),
            tick_ms: Tick::default(),
            sparse_every: 1024,
            decapsulate: false,
            max_table_mb: 2048,
            pcap: PcapSettings::default(),
            nflog: NflogSettings::default(),
            pf_ring: PfRing::default(),
        }
    }
}

/// How PF_RING is reached.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PfRing {
    /// By its kernel socket or by its library.
    pub access: AccessName,
    /// Where the library is; empty: where libraries are.
    pub library: PathBuf,
    /// Number of the cluster of the first port's threads; the next ports take the following ones. In
    /// the module 0 is no cluster.
    pub cluster_id: NonZeroU16,
}

impl Default for PfRing {
    fn default() -> Self {
        Self { access: AccessName::Auto, library: PathBuf::new(), cluster_id: CLUSTER }
    }
}

/// Ways to PF_RING by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessName {
    /// The socket where the module's rings are known, else the library.
    Auto,
    /// The library.
    Library,
    /// The kernel socket.
    Socket,
}

/// Engines by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    /// XDP in the driver where all ports can, else PF_RING where it is loaded, else packet sockets.
    Auto,
    /// XDP in the driver.
    Xdp,
    /// XDP in the stack.
    XdpGeneric,
    /// Packet sockets.
    AfPacket,
    /// libpcap.
    Pcap,
    /// Packets that rules of the firewall log.
    Nflog,
    /// PF_RING.
    PfRing,
}

impl EngineName {
    /// As the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp_generic",
            Self::AfPacket => "af_packet",
            Self::Pcap => "pcap",
            Self::Nflog => "nflog",
            Self::PfRing => "pf_ring",
        }
    }
}

/// Roles by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleName {
    /// A port towards the world.
    Uplink,
    /// A mirror port.
    Mirror,
}

/// Ways to hold the classifier of what leaves, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressName {
    /// TCX where the kernel has it, else `clsact`.
    Auto,
    /// A TCX link (Linux 6.6).
    Tcx,
    /// A filter of the `clsact` qdisc.
    Clsact,
}

/// Capture threads: up to 64, or 0 for one for each CPU and eight at most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Threads(u32);

impl Threads {
    /// How many that is where so many CPUs are.
    pub fn number(self, cpus: NonZeroU32) -> NonZeroU32 {
        NonZeroU32::new(self.0).unwrap_or_else(|| cpus.min(EIGHT))
    }
}

/// Not one of the small numbers that everybody takes.
const CLUSTER: NonZeroU16 = NonZeroU16::new(71).unwrap();
const EIGHT: NonZeroU32 = NonZeroU32::new(8).unwrap();

impl TryFrom<u64> for Threads {
    type Error = String;

    fn try_from(threads: u64) -> Result<Self, String> {
        match u32::try_from(threads) {
            Ok(threads @ 0..=64) => Ok(Self(threads)),
            _ => Err(format!("`threads` is {threads}: it can be 1 to 64, or 0 for one a CPU")),
        }
    }
}

impl From<Threads> for u64 {
    fn from(threads: Threads) -> Self {
        threads.0.into()
    }
}

/// Milliseconds between two readings: 10 to 1000. A counting word is exact for a second at
/// 100 Gbit/s, not for longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Tick(u64);

impl Tick {
    /// As a span of time.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl Default for Tick {
    fn default() -> Self {
        Self(1000)
    }
}

impl TryFrom<u64> for Tick {
    type Error = String;

    fn try_from(millis: u64) -> Result<Self, String> {
        if (10..=1000).contains(&millis) {
            return Ok(Self(millis));
        }
        Err(format!("`tick_ms` is {millis}: it can be 10 to 1000"))
    }
}

impl From<Tick> for u64 {
    fn from(tick: Tick) -> Self {
        tick.0
    }
}
