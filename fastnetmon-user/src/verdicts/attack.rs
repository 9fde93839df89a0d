//! What kind of attack it is, and by what that is seen.
//!
//! First from the classes, which are there when the ban is; then from the packets of the dump, which
//! show ports.
//!
//! **Invariant**: pure, and told with its evidence: a kind without a reason is a guess.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Class, Direction, Load, Seen};
use crate::verdicts::{Cause, Subject};

/// A kind of attack.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
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
    /// Answers of quote servers.
    QotdAmplification,
    /// Answers of character generators.
    ChargenAmplification,
    /// Answers of name servers.
    DnsAmplification,
    /// Answers of TFTP servers.
    TftpAmplification,
    /// Answers of port mappers.
    PortmapAmplification,
    /// Answers of time servers.
    NtpAmplification,
    /// Answers of `NetBIOS` name services.
    NetbiosAmplification,
    /// Answers of SNMP agents.
    SnmpAmplification,
    /// Answers of CLDAP servers.
    CldapAmplification,
    /// Answers of RIP routers.
    RipAmplification,
    /// Answers of SQL Server browsers.
    MssqlAmplification,
    /// Answers of SSDP devices.
    SsdpAmplification,
    /// Answers of remote desktops of Apple.
    ArdAmplification,
    /// Answers of devices that speak WS-Discovery.
    WsdAmplification,
    /// Answers of multicast DNS.
    MdnsAmplification,
    /// Answers of `CoAP` devices.
    CoapAmplification,
    /// Answers of memcached.
    MemcachedAmplification,
    /// Nothing stands out.
    #[default]
    Unknown,
}

/// Whose answers come from which UDP port.
const AMPLIFIERS: [(u16, AttackKind); 17] = [
    (17, AttackKind::QotdAmplification),
    (19, AttackKind::ChargenAmplification),
    (53, AttackKind::DnsAmplification),
    (69, AttackKind::TftpAmplification),
    (111, AttackKind::PortmapAmplification),
    (123, AttackKind::NtpAmplification),
    (137, AttackKind::NetbiosAmplification),
    (161, AttackKind::SnmpAmplification),
    (389, AttackKind::CldapAmplification),
    (520, AttackKind::RipAmplification),
    (1434, AttackKind::MssqlAmplification),
    (1900, AttackKind::SsdpAmplification),
    (3283, AttackKind::ArdAmplification),
    (3702, AttackKind::WsdAmplification),
    (5353, AttackKind::MdnsAmplification),
    (5683, AttackKind::CoapAmplification),
    (11211, AttackKind::MemcachedAmplification),
];

impl AttackKind {
    /// The word for it in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynFlood => "syn_flood",
            Self::UdpFlood => "udp_flood",
            Self::IcmpFlood => "icmp_flood",
            Self::IpFragmentation => "ip_fragmentation",
            Self::QotdAmplification => "qotd_amplification",
            Self::ChargenAmplification => "chargen_amplification",
            Self::DnsAmplification => "dns_amplification",
            Self::TftpAmplification => "tftp_amplification",
            Self::PortmapAmplification => "portmap_amplification",
            Self::NtpAmplification => "ntp_amplification",
            Self::NetbiosAmplification => "netbios_amplification",
            Self::SnmpAmplification => "snmp_amplification",
            Self::CldapAmplification => "cldap_amplification",
            Self::RipAmplification => "rip_amplification",
            Self::MssqlAmplification => "mssql_amplification",
            Self::SsdpAmplification => "ssdp_amplification",
            Self::ArdAmplification => "ard_amplification",
            Self::WsdAmplification => "wsd_amplification",
            Self::MdnsAmplification => "mdns_amplification",
            Self::CoapAmplification => "coap_amplification",
            Self::MemcachedAmplification => "memcached_amplification",
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

/// So many percent of the UDP packets from one port make an amplification; the rest is what was
/// there before, and fragments, which show no port.
const MANY: u64 = 60;

/// Fewer packets than this show nothing.
const FEW: u64 = 10;

impl Attack {
    /// What the classes of one direction show; where nothing stands out, what the rule counts that
    /// was exceeded.
    pub fn new(load: &Load, cause: &Cause) -> Self {
        let attack = Self::from_load(load);
        let Cause::Rule { subject, .. } = cause else { return attack };
        let kind = match subject {
            Subject::Total | Subject::Tcp => return attack,
            Subject::TcpSyn => AttackKind::SynFlood,
            Subject::Udp => AttackKind::UdpFlood,
            Subject::Icmp => AttackKind::IcmpFlood,
            Subject::Fragment => AttackKind::IpFragmentation,
        };
        if attack.kind != AttackKind::Unknown {
            return attack;
        }
        let because =
            format!("the threshold of {} is exceeded; {}", subject.name(), attack.because);
        Self { kind, because: because.into() }
    }

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
        classes.sort_by_key(|&class| Reverse(load.class(class).pps));
        let parts = classes.map(|class| (share(class), class.name()));
        let parts: Vec<String> = parts
            .iter()
            .filter(|(share, _)| *share > 0)
            .map(|(share, name)| format!("{share} % {name}"))
            .collect();
        let because = format!("no class has more than {MOST} %: {}", parts.join(", "));
        Self { kind: AttackKind::Unknown, because: because.into() }
    }

    /// The same, when packets were caught that show more. Amplifiers are told by the port they answer
    /// from, where most of the UDP comes from one.
    #[must_use]
    pub fn refined(&self, address: IpAddr, direction: Direction, packets: &[Seen]) -> Self {
        let mut ours = 0;
        let (mut udp, mut fragments) = (0, 0);
        let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
        for packet in packets {
            let (victim, remote) = match direction {
                Direction::Incoming => (packet.target, packet.source),
                Direction::Outgoing => (packet.source, packet.target),
            };
            if victim != address {
                continue;
            }
            ours += 1;
            match packet.class {
                Class::Udp => {
                    udp += 1;
                    let port = ports.entry(packet.ports.0).or_default();
                    port.packets += 1;
                    port.bytes += u64::from(packet.bytes);
                    port.remotes.insert(remote);
                }
                Class::Fragment => fragments += 1,
                Class::Tcp | Class::Syn | Class::Icmp | Class::Other => {}
            }
        }
        let amplifier = AMPLIFIERS
            .iter()
            .filter_map(|&(number, kind)| Some((number, kind, ports.get(&number)?)))
            .max_by_key(|(_, _, port)| port.packets);
        let Some((number, kind, port)) = amplifier else { return self.clone() };
        let most_is_udp = (udp + fragments) * 100 > ours * MOST;
        if ours < FEW || !most_is_udp || port.packets * 100 <= udp * MANY {
            return self.clone();
        }
        let Port { packets, bytes, ref remotes } = *port;
        let mean = bytes / packets.max(1);
        let whom = match direction {
            Direction::Incoming => format!("of {} hosts", remotes.len()),
            Direction::Outgoing => format!("to {} hosts", remotes.len()),
        };
        let mut because = format!(
            "{packets} of {ours} packets come from UDP port {number} {whom}, {mean} bytes each"
        );
        if fragments > 0 {
            // Writing to a string cannot fail.
            let _infallible = write!(because, ", and {fragments} are fragments");
        }
        Self { kind, because: because.into() }
    }
}

/// What came from one port.
#[derive(Debug, Default)]
struct Port {
    packets: u64,
    bytes: u64,
    remotes: BTreeSet<IpAddr>,
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

    const VICTIM: [u8; 4] = [192, 0, 2, 7];

    /// Packets of one kind, each from another host.
    fn packets(count: u8, class: Class, port: u16, bytes: u32) -> Vec<Seen> {
        (0..count)
            .map(|number| Seen {
                ports: (port, 40_000),
                class,
                protocol: if class == Class::Tcp { 6 } else { 17 },
                bytes,
                ..Seen::of([203, 0, 113, number], VICTIM)
            })
            .collect()
    }

    #[track_caller]
    fn refine(direction: Direction, packets: &[Seen], expected: (AttackKind, &str)) {
        let mut load = Load::default();
        load.0[Class::Udp as usize].pps = 1;
        let attack = Attack::from_load(&load).refined(VICTIM.into(), direction, packets);
        assert_eq!((attack.kind, &*attack.because), expected);
    }

    const PLAIN: (AttackKind, &str) = (AttackKind::UdpFlood, "100 % of the packets are udp");

    #[test]
    fn an_amplification_is_told_by_the_port_that_answers() {
        for (port, kind) in AMPLIFIERS {
            let because = format!(
                "100 of 100 packets come from UDP port {port} of 100 hosts, 1400 bytes each"
            );
            refine(Direction::Incoming, &packets(100, Class::Udp, port, 1400), (kind, &because));
        }
        let mut mixed = packets(40, Class::Udp, 53, 1300);
        mixed.extend(packets(55, Class::Fragment, 0, 1500));
        mixed.extend(packets(5, Class::Tcp, 443, 60));
        refine(
            Direction::Incoming,
            &mixed,
            (
                AttackKind::DnsAmplification,
                "40 of 100 packets come from UDP port 53 of 40 hosts, 1300 bytes each, and 55 are \
                 fragments",
            ),
        );
    }

    #[test]
    fn what_does_not_stand_out_stays_what_the_classes_said() {
        refine(Direction::Incoming, &packets(9, Class::Udp, 53, 1400), PLAIN);
        refine(Direction::Incoming, &packets(100, Class::Udp, 4444, 1400), PLAIN);
        refine(Direction::Outgoing, &packets(100, Class::Udp, 53, 1400), PLAIN);
        let mut half = packets(60, Class::Udp, 53, 1400);
        half.extend(packets(40, Class::Udp, 4444, 1400));
        refine(Direction::Incoming, &half, PLAIN);
        let mut tcp = packets(60, Class::Udp, 53, 1400);
        tcp.extend(packets(40, Class::Tcp, 443, 60));
        refine(Direction::Incoming, &tcp, PLAIN);
    }

    #[test]
    fn a_host_of_ours_that_amplifies_is_told_as_well() {
        let mut answers = packets(30, Class::Udp, 11211, 1428);
        for packet in &mut answers {
            std::mem::swap(&mut packet.source, &mut packet.target);
        }
        refine(
            Direction::Outgoing,
            &answers,
            (
                AttackKind::MemcachedAmplification,
                "30 of 30 packets come from UDP port 11211 to 30 hosts, 1428 bytes each",
            ),
        );
    }
}
