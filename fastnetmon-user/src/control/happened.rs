//! What happened, and what one host does, in the words of the wire.
//!
//! **Invariant**: bounded. A reply has at most [`EVENTS`] events; packets come with one of them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::control::{Ban, Way};

/// Events in one reply, at most.
pub const EVENTS: usize = 200;

/// What happened after a number.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// What time it is at the agent, in seconds since 1970.
    pub unix_secs: u64,
    /// The number of the last event there is; when it is not among these, ask again.
    pub last: u64,
    /// Oldest first.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, since the agent started.
    pub number: u64,
    /// Seconds since 1970.
    pub unix_secs: u64,
    /// `ban`, `attack_details`, `unban`, `alert`, `calm`, `alarm` or `alarm_over`.
    pub what: String,
    /// Whom it is about: an address or a prefix; `null`: the agent itself.
    pub about: Option<String>,
    /// Which way the attack goes.
    pub direction: Option<Way>,
    /// The rest, for people.
    pub text: String,
    /// The packets of the attack, a line each; only in the last such event of a host's view.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packets: Vec<String>,
}

/// One host.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// Its address.
    pub ip: IpAddr,
    /// Has it a line of its own? An IPv6 host that was never seen has none, and no speeds.
    pub has_line: bool,
    /// To it, by class.
    pub incoming: Vec<ClassSpeed>,
    /// From it, by class.
    pub outgoing: Vec<ClassSpeed>,
    /// Its ban, when one stands.
    pub ban: Option<Ban>,
    /// What happened to it, oldest first.
    pub events: Vec<Event>,
}

/// How much of one class.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ClassSpeed {
    /// `tcp` (without the first packets of connections), `tcp_syn`, `udp`, `icmp`, `fragment` or
    /// `other`.
    pub class: String,
    /// Packets a second.
    pub pps: u64,
    /// Bits a second.
    pub bps: u64,
}
