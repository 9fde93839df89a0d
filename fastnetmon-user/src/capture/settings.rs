//! `[capture]`: which packets, and how.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capture::engine_settings::{NflogSettings, PcapSettings};
use crate::kernel::Role;

/// How packets are seen.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `"xdp"`: XDP in the driver. `"xdp_generic"`: XDP in the stack, slower, for drivers that
    /// cannot run it; never chosen by itself. `"af_packet"`: packet sockets. `"pf_ring"`: PF_RING,
    /// see [there](pf_ring.md). `"pcap"`: libpcap. `"nflog"`: what rules of the firewall log. All
    /// see below. `"auto"`: `xdp` where every port can, else `pf_ring` where its module is loaded,
    /// else `af_packet`.
    pub engine: EngineName,
    /// What the interfaces show, see below.
    pub role: RoleName,
    /// How what leaves an uplink is counted. `"tcx"`: a link that ends with the agent (Linux 6.6).
    /// `"clsact"`: a filter, which a killed agent leaves behind until the next start. `"auto"`:
    /// `tcx` from 6.6 on, else `clsact`. Refused at the start: what the kernel does not have.
    pub egress: EgressName,
    /// The ports to watch, all in the same role. Blanks around a name are ignored. `"any"` with
    /// `"pcap"`: all of them. Refused at the start: none named (but for `"nflog"`), one named
    /// twice, one that does not exist.
    pub interfaces: Vec<String>,
    /// Threads that count, with `"af_packet"` and `"pf_ring"`; each has a row of counters, and a
    /// ring at each port (8 MB with `"af_packet"`, what the module is told with `"pf_ring"`). 0:
    /// one for each CPU, eight at most.
    pub threads: Threads,
    /// Between two readings of all counters. Rates are those of one second whatever the tick is,
    /// and attacks are found between two readings as well.
    pub tick_ms: Tick,
    /// One packet in so many that touch a guarded host, on each CPU or thread, is kept, so that a
    /// dump can begin before the attack. 0: none.
    pub sparse_every: u32,
    /// Count what IP-in-IP and GRE tunnels carry for the inner addresses as well; the outer ones
    /// always are. The totals leave it out, so nothing is in them twice.
    pub decapsulate: bool,
    /// What the counter tables may take. The agent refuses to start above it and prints the
    /// arithmetic.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PfRing {
    /// `"socket"`: the kernel module's own socket, without any library. `"library"`: libpfring,
    /// opened at run time. `"auto"`: `socket`; and `library` for interfaces that only it knows
    /// (`zc:eth0`, `eth0@1`) or where the agent does not know the module's slot version. Refused
    /// at the start: what cannot be had.
    pub access: AccessName,
    /// File of the library. Empty: `libpfring.so.9`, `.8`, `.1`, `libpfring.so`, each where the
    /// system looks and in `/usr/lib`, `/usr/local/lib`, `/opt/pf_ring/lib`. Refused at the start:
    /// a file that does not open, or is no libpfring.
    pub library: PathBuf,
    /// Number of the cluster in which the threads of the first port share its packets; the next
    /// ports take the following numbers. Whoever else uses one of these takes packets away. Unused
    /// with one thread.
    pub cluster_id: NonZeroU16,
}

impl Default for PfRing {
    fn default() -> Self {
        Self { access: AccessName::Auto, library: PathBuf::new(), cluster_id: CLUSTER }
    }
}

/// Ways to PF_RING by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RoleName {
    /// A port towards the world.
    Uplink,
    /// A mirror port.
    Mirror,
}

impl RoleName {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Mirror => "mirror",
        }
    }

    /// What it means for a port.
    pub const fn role(self) -> Role {
        match self {
            Self::Uplink => Role::Uplink,
            Self::Mirror => Role::Mirror,
        }
    }
}

/// Ways to hold the classifier of what leaves, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
