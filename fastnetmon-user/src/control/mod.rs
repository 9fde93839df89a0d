//! What daemon and client say to each other over the control socket.
//!
//! The daemon greets with a [`Hello`]; then each request is one line of JSON and so is each reply.
//!
//! **Invariant**: these are the words of the wire. Whatever changes here raises
//! [`PROTOCOL_VERSION`].

mod checked;
mod codec;
mod happened;
mod origins;
mod settings;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::checked::{Finding, Networks, SelfCheck, Severity};
pub use self::codec::{CodecError, LONGEST_REQUEST, read_line, write_line};
pub use self::happened::{ClassSpeed, EVENTS, Event, Happened, HostView};
pub use self::origins::{Country, Loudest, Origins, System};
pub use self::settings::Settings;
use crate::model::Remotes;

/// Version of everything in this module.
pub const PROTOCOL_VERSION: u32 = 5;

/// The daemon's first line.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the agent.
    pub fastnetmon: String,
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
}

/// What a client asks.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "request")]
pub enum Request {
    /// The state of the agent, with the loudest hosts.
    Status {
        /// How many hosts of each direction and order.
        hosts: usize,
    },
    /// What one host does and what happened to it.
    Host {
        /// Its address.
        ip: IpAddr,
    },
    /// What happened, oldest first.
    Events {
        /// After the event of this number; 0: from the oldest that is kept.
        after: u64,
    },
    /// Networks for which nothing was counted.
    Networks,
    /// Ban a host.
    Ban {
        /// Its address.
        ip: IpAddr,
        /// Which way the attack goes.
        direction: Way,
        /// Why, for logs and reports.
        #[serde(default)]
        reason: Option<String>,
        /// For how many seconds at least; absent: as the policy says; 0: until somebody ends it.
        #[serde(default)]
        time_secs: Option<u64>,
    },
    /// Let a host go.
    Unban {
        /// Its address.
        ip: IpAddr,
        /// Why, for logs and reports.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Ban by rules again, although the fuse is blown.
    Resume,
    /// Read the configuration again and apply it.
    Reload,
}

impl Request {
    /// Bans a host as the policy says, without a word why.
    pub const fn ban(ip: IpAddr, direction: Way) -> Self {
        Self::Ban { ip, direction, reason: None, time_secs: None }
    }

    /// Lets a host go, without a word why.
    pub const fn unban(ip: IpAddr) -> Self {
        Self::Unban { ip, reason: None }
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// The state.
    Status(Box<Status>),
    /// One host.
    Host(Box<HostView>),
    /// What happened.
    Events(Happened),
    /// Networks for which nothing was counted.
    Networks(Networks),
    /// The order was obeyed.
    Done {
        /// What was done.
        what: String,
    },
    /// It was not.
    Refused {
        /// Why, and the remedy.
        reason: String,
    },
}

/// A direction, as JSON has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// To the host.
    Incoming,
    /// From the host.
    Outgoing,
}

impl Way {
    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }
}

/// The state of the agent.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// The engine that sees the packets.
    pub engine: String,
    /// Why this one.
    #[serde(default)]
    pub engine_reason: String,
    /// `uplink` or `mirror`.
    pub role: String,
    /// How packets of banned hosts reach the agent: `ring`, `af_xdp (copy, 2 queues)`.
    #[serde(default)]
    pub evidence: String,
    /// The interfaces watched.
    pub interfaces: Vec<String>,
    /// Seconds since the agent started.
    pub uptime_secs: u64,
    /// The four kinds of traffic.
    pub totals: Totals,
    /// Packets as the engine sees them.
    pub packets: Packets,
    /// Bans that stand, by address.
    pub bans: Vec<Ban>,
    /// The loudest hosts.
    pub hosts: Hosts,
    /// Networks that are guarded, after merging.
    pub networks: u64,
    /// IPv6 hosts with lines of their own.
    pub ipv6: Residents,
    /// Microseconds of CPU the last reading took, with rates and verdicts.
    pub tick_micros: u64,
    /// What an operator should know, in sentences.
    pub alarms: Vec<String>,
    /// Databases that are told.
    #[serde(default)]
    pub exports: Vec<Export>,
    /// Whence packets come; `null`: no database says.
    #[serde(default)]
    pub origins: Option<Box<Origins>>,
    /// What the agent's own look found; `null` until half a minute after its start.
    #[serde(default)]
    pub self_check: Option<SelfCheck>,
}

/// A database that is told.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// `redis`, `graphite`, `influxdb` or `clickhouse`.
    pub name: String,
    /// Where it is.
    pub to: String,
    /// Does it work?
    pub up: bool,
    /// What was wrong last.
    pub error: Option<String>,
    /// Lines, rows or commands that arrived.
    pub sent: u64,
    /// Those that never will.
    pub lost: u64,
    /// Those that may have arrived or not, and are not sent again.
    pub uncertain: u64,
    /// Those that wait.
    pub waiting: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Bytes of traffic that were not counted, of an export that counts traffic.
    pub lost_traffic_bytes: u64,
    /// Reports that found it busy.
    pub missed: u64,
}

/// The four kinds of traffic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// To our hosts, from elsewhere.
    pub incoming: Traffic,
    /// From our hosts, to elsewhere.
    pub outgoing: Traffic,
    /// Between our hosts.
    pub internal: Traffic,
    /// Touching none of our hosts.
    pub other: Traffic,
    /// Of what came in and went out: what `xdp_drop` dropped.
    #[serde(default)]
    pub dropped: Traffic,
}

/// One kind of traffic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets since the agent started.
    pub packets: u64,
    /// Bytes since the agent started.
    pub bytes: u64,
    /// Packets a second.
    pub pps: u64,
    /// Bits a second.
    pub bps: u64,
}

/// Packets as the engine sees them, since the agent started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Packets {
    /// Seen, readable or not.
    pub received: u64,
    /// Lost before they were seen, as far as the system tells.
    pub dropped: u64,
    /// Not readable, by reason.
    pub unparsed: Unparsed,
    /// Bytes that frames carry beyond their IP packet.
    pub padding_bytes: u64,
    /// Packets that a rule of `[[ignore]]` matches: received, and counted for nobody.
    #[serde(default)]
    pub ignored_packets: u64,
    /// Their bytes.
    #[serde(default)]
    pub ignored_bytes: u64,
    /// Packets of banned hosts that were taken from a mirror port.
    #[serde(default)]
    pub redirected: u64,
    /// Packets for the dump that found no room.
    pub samples_lost: u64,
    /// Hints that found no room; the tick is the net under them.
    pub hints_lost: u64,
}

/// Frames without an IP header that can be read, by reason.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Unparsed {
    /// The frame ends too early.
    pub short: u64,
    /// No IP in it.
    pub not_ip: u64,
    /// The version contradicts the link header.
    pub version: u64,
    /// Too many tags, labels or sessions around it.
    pub nested: u64,
    /// ARP.
    pub arp: u64,
}

impl Unparsed {
    /// All together.
    pub const fn total(&self) -> u64 {
        self.short + self.not_ip + self.version + self.nested + self.arp
    }
}

/// A ban that stands.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ban {
    /// Which one, among all that the agent ever made.
    pub id: u64,
    /// Whose.
    pub ip: IpAddr,
    /// Which way the attack goes.
    pub direction: Way,
    /// Packets a second when it was found.
    pub pps: u64,
    /// Packets a second at the worst moment so far.
    pub peak_pps: u64,
    /// Megabits a second at the worst moment so far.
    pub peak_mbps: u64,
    /// Packets of that direction since the ban.
    pub packets: u64,
    /// Bytes of that direction since the ban.
    pub bytes: u64,
    /// `threshold` or `operator`.
    pub cause: String,
    /// What was measured and what is allowed: `total: 41022 of 30000 pps`; empty for an operator's.
    pub rule: String,
    /// What the operator said.
    pub reason: Option<String>,
    /// `syn_flood`, `dns_amplification`, `unknown` …
    pub kind: String,
    /// By what that is seen.
    pub because: String,
    /// The group whose rules apply; empty outside every group.
    pub group: String,
    /// Nothing was done about it.
    pub dry_run: bool,
    /// Seconds since 1970.
    pub since: u64,
    /// Seconds since 1970, at the earliest; `null`: until an operator ends it.
    pub until: Option<u64>,
    /// What the kernel drops of it; `null`: nothing.
    #[serde(default)]
    pub drop: Option<Dropping>,
    /// Where the packets of its dump came from, or went to; `null`: not known.
    #[serde(default)]
    pub remotes: Option<Remotes>,
}

/// What the kernel drops of a banned host's traffic.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Dropping {
    /// Of what: `everything`, or the signature in words.
    pub what: String,
    /// Packets a second of that which pass all the same.
    pub rate_pps: u32,
    /// Seconds since 1970: when the kernel ends it by itself.
    pub until: u64,
    /// What was dropped since the ban.
    pub dropped: Traffic,
}

/// IPv6 hosts with lines of their own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Residents {
    /// How many there are.
    pub hosts: u64,
    /// How many there may be.
    pub room: u64,
    /// Idle ones that had to leave for others.
    pub evicted: u64,
    /// Those that found no room, again and again, and count on their prefix's line.
    pub refused: u64,
}

/// The loudest hosts, each list in falling order.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hosts {
    /// By packets to them.
    pub incoming_packets: Vec<Host>,
    /// By packets from them.
    pub outgoing_packets: Vec<Host>,
    /// By bytes to them.
    pub incoming_bytes: Vec<Host>,
    /// By bytes from them.
    pub outgoing_bytes: Vec<Host>,
}

/// One host in one direction.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its address, or the prefix whose strangers these are.
    pub ip: String,
    /// Packets a second.
    pub pps: u64,
    /// Bits a second.
    pub bps: u64,
    /// Is it banned?
    pub banned: bool,
}
