//! What kind of attack it is, and by what that is seen.
//!
//! **Invariant**: pure, and told with its evidence: a kind without a reason is a guess.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Class, Load};

/// A kind of attack.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttackKind {
    /// First packets of connections.
    SynFlood,
    /// UDP that no amplifier is known to send.
    UdpFlood,
    /// ICMP.
    IcmpFlood,
    /// Fragments.
    IpFragmentation,
    /// Answers of name servers.
    DnsAmplification,
    /// Answers of time servers.
    NtpAmplification,
    /// Answers of SSDP devices.
    SsdpAmplification,
    /// Answers of memcached.
    MemcachedAmplification,
    /// Answers of character generators.
    ChargenAmplification,
    /// Answers of CLDAP servers.
    CldapAmplification,
    /// Answers of SNMP agents.
    SnmpAmplification,
    /// Nothing stands out.
    #[default]
    Unknown,
}

impl AttackKind {
    /// The word for it in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynFlood => "syn_flood",
            Self::UdpFlood => "udp_flood",
            Self::IcmpFlood => "icmp_flood",
            Self::IpFragmentation => "ip_fragmentation",
            Self::DnsAmplification => "dns_amplification",
            Self::NtpAmplification => "ntp_amplification",
            Self::SsdpAmplification => "ssdp_amplification",
            Self::MemcachedAmplification => "memcached_amplification",
            Self::ChargenAmplification => "chargen_amplification",
            Self::CldapAmplification => "cldap_amplification",
            Self::SnmpAmplification => "snmp_amplification",
            Self::Unknown => "unknown",
        }
    }
}

/// A kind, and the evidence for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attack {
    /// The kind.
    pub kind: AttackKind,
    /// The evidence, in a sentence.
    pub because: Arc<str>,
}

/// So many percent of the packets make a kind.
const MOST: u64 = 90;

impl Attack {
    /// What the classes of one direction show.
    pub fn from_load(load: &Load) -> Self {
        let total = load.total().pps;
        if total == 0 {
            let because = "no packets were seen".into();
            return Self { kind: AttackKind::Unknown, because };
        }
        let share = |class: Class| load.class(class).pps.saturating_mul(100) / total;
        for (class, kind) in [
            (Class::Syn, AttackKind::SynFlood),
            (Class::Icmp, AttackKind::IcmpFlood),
            (Class::Fragment, AttackKind::IpFragmentation),
            (Class::Udp, AttackKind::UdpFlood),
        ] {
            if share(class) > MOST {
                let because = format!("{} % of the packets are {}", share(class), class.name());
                return Self { kind, because: because.into() };
            }
        }
        let mut classes = Class::ALL;
        classes.sort_by_key(|&class| std::cmp::Reverse(load.class(class).pps));
        let parts = classes.map(|class| (share(class), class.name()));
        let parts: Vec<String> = parts
            .iter()
            .filter(|(share, _)| *share > 0)
            .map(|(share, name)| format!("{share} % {name}"))
            .collect();
        let because = format!("no class has more than {MOST} %: {}", parts.join(", "));
        Self { kind: AttackKind::Unknown, because: because.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PerSecond;

    #[track_caller]
    fn check(classes: [u64; Class::COUNTED], kind: AttackKind, because: &str) {
        let attack = Attack::from_load(&Load(classes.map(|pps| PerSecond { pps, bytes: 0 })));
        assert_eq!((attack.kind, &*attack.because), (kind, because));
    }

    #[test]
    fn a_class_with_more_than_nine_tenths_names_the_kind() {
        check([0, 950, 50, 0, 0, 0], AttackKind::SynFlood, "95 % of the packets are tcp_syn");
        check([40, 0, 960, 0, 0, 0], AttackKind::UdpFlood, "96 % of the packets are udp");
        check([0, 0, 0, 1, 0, 0], AttackKind::IcmpFlood, "100 % of the packets are icmp");
        check([0, 0, 0, 0, 7, 0], AttackKind::IpFragmentation, "100 % of the packets are fragment");
        check(
            [900, 0, 95, 0, 0, 5],
            AttackKind::Unknown,
            "no class has more than 90 %: 90 % tcp, 9 % udp",
        );
        check([0; 6], AttackKind::Unknown, "no packets were seen");
    }
}
