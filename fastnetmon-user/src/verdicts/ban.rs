//! What a ban and an alert tell.
//!
//! **Invariant**: values. What is in them was known when they were told; who wants to know more
//! waits for the next verdict.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Class, Direction, HostId, Loads, Moment, Prefix, Seen, Tally};
use crate::verdicts::Attack;

/// Which ban: unique among all that this agent ever made, as long as the judge counts on from a
/// number that only grows (nanoseconds since 1970 when the agent started).
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct BanId(pub u64);

/// What a rule counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// All packets.
    Total,
    /// TCP, SYN included.
    Tcp,
    /// TCP with SYN and without ACK.
    TcpSyn,
    /// UDP.
    Udp,
    /// `ICMPv4` and `ICMPv6`.
    Icmp,
    /// Fragments.
    Fragment,
}

impl Subject {
    /// All, in the order in which they are checked.
    pub const ALL: [Self; 6] =
        [Self::Total, Self::Tcp, Self::TcpSyn, Self::Udp, Self::Icmp, Self::Fragment];

    /// The word for it in keys and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Tcp => "tcp",
            Self::TcpSyn => "tcp_syn",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Fragment => "fragment",
        }
    }

    /// The classes that count for it.
    pub const fn classes(self) -> &'static [Class] {
        match self {
            Self::Total => &Class::ALL,
            Self::Tcp => &[Class::Tcp, Class::Syn],
            Self::TcpSyn => &[Class::Syn],
            Self::Udp => &[Class::Udp],
            Self::Icmp => &[Class::Icmp],
            Self::Fragment => &[Class::Fragment],
        }
    }
}

/// In what a rule counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Packets a second.
    Pps,
    /// Decimal megabits a second.
    Mbps,
}

impl Measure {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Pps, Self::Mbps];

    /// The word for it in keys and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pps => "pps",
            Self::Mbps => "mbps",
        }
    }
}

/// Why a host is banned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// It did more than a rule allows.
    Rule {
        /// What is counted.
        subject: Subject,
        /// In what.
        measure: Measure,
        /// What is allowed.
        threshold: u64,
        /// What was measured when it was found.
        measured: u64,
    },
    /// An operator said so.
    Operator {
        /// For this reason.
        reason: Option<Arc<str>>,
    },
}

/// Which actions are meant, among those that are configured.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each action by itself is meant or not")]
pub struct Deeds {
    /// The script is called.
    pub script: bool,
    /// This one instead of the one in `[notify]`.
    pub script_path: Option<Arc<Path>>,
    /// The kernel drops what the ban describes.
    pub xdp_drop: bool,
    /// The webhook is told.
    pub webhook: bool,
    /// A report is written.
    pub log_file: bool,
}

impl Default for Deeds {
    fn default() -> Self {
        Self { script: true, script_path: None, xdp_drop: true, webhook: true, log_file: true }
    }
}

/// A ban that stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ban {
    /// Which one.
    pub id: BanId,
    /// Whose line.
    pub host: HostId,
    /// Whose address.
    pub address: IpAddr,
    /// Which way the attack goes.
    pub direction: Direction,
    /// Packets a second, of that direction, when it was found.
    pub pps: u64,
    /// Packets a second at the worst moment so far.
    pub peak_pps: u64,
    /// Megabits a second at the worst moment so far.
    pub peak_mbps: u64,
    /// Why.
    pub cause: Cause,
    /// What it looks like.
    pub attack: Attack,
    /// What the host did, both ways, when it was found.
    pub loads: Loads,
    /// What came in that direction since then.
    pub total: Tally,
    /// The group whose rules apply; empty outside every `[[group]]`.
    pub group: Arc<str>,
    /// Everything but the deed.
    pub dry_run: bool,
    /// Which actions are meant.
    pub deeds: Deeds,
    /// Since when.
    pub since: Moment,
    /// Until when, at the earliest; `None`: until an operator says so.
    pub until: Option<Moment>,
}

/// How a ban ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Its time is over, and the attack.
    Over,
    /// An operator said so.
    Operator {
        /// For this reason.
        reason: Option<Arc<str>>,
    },
}

/// A prefix under attack that no single host explains.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alert {
    /// Which one; bans and alerts are counted together.
    pub id: BanId,
    /// The most specific prefix that explains the traffic.
    pub prefix: Prefix,
    /// Which way the attack goes.
    pub direction: Direction,
    /// How many hosts share it.
    pub hosts: u32,
    /// Why.
    pub cause: Cause,
    /// Packets a second, of that direction, when it was found.
    pub pps: u64,
    /// Packets a second at the worst moment so far.
    pub peak_pps: u64,
    /// What the prefix did, both ways, when it was found.
    pub loads: Loads,
    /// The group it lies in; empty outside every `[[group]]`.
    pub group: Arc<str>,
    /// Since when.
    pub since: Moment,
}

/// What is to be done, or told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// A host is banned: call 1 of the script.
    Ban(Ban),
    /// The packets of its attack: call 2.
    Details(Ban, Arc<[Seen]>),
    /// It is let go: call 3.
    Unban(Ban, Ending),
    /// A prefix is under attack. Told, and nothing is done about it.
    Alert(Alert),
    /// It is no more.
    Calm(Alert),
}

impl Verdict {
    /// The ban it is about, when it is about one.
    pub const fn ban(&self) -> Option<&Ban> {
        match self {
            Self::Ban(ban) | Self::Details(ban, _) | Self::Unban(ban, _) => Some(ban),
            Self::Alert(_) | Self::Calm(_) => None,
        }
    }

    /// Whom it is about: what is done about one of these is done in order.
    pub fn about(&self) -> Prefix {
        match self {
            Self::Ban(ban) | Self::Details(ban, _) | Self::Unban(ban, _) => {
                Prefix::host(ban.address)
            }
            Self::Alert(alert) | Self::Calm(alert) => alert.prefix,
        }
    }

    /// The word for it; for bans the one that the script is given.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ban(_) => "ban",
            Self::Details(..) => "attack_details",
            Self::Unban(..) => "unban",
            Self::Alert(_) => "alert",
            Self::Calm(_) => "calm",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Load, PerSecond};

    impl Ban {
        /// One for tests: a flood of 40,000 UDP packets a second to this address.
        pub(crate) fn of(address: impl Into<IpAddr>) -> Self {
            let mut load = Load::default();
            load.0[Class::Udp as usize] = PerSecond { pps: 40_000, bytes: 4_000_000 };
            Self {
                id: BanId(1),
                host: HostId(256),
                address: address.into(),
                direction: Direction::Incoming,
                pps: 40_000,
                peak_pps: 40_000,
                peak_mbps: 32,
                cause: Cause::Rule {
                    subject: Subject::Total,
                    measure: Measure::Pps,
                    threshold: 30_000,
                    measured: 40_000,
                },
                attack: Attack::from_load(&load),
                loads: Loads::new(Direction::Incoming, load, Load::default()),
                total: Tally::default(),
                group: "".into(),
                dry_run: false,
                deeds: Deeds::default(),
                since: Moment::default(),
                until: None,
            }
        }
    }
}
