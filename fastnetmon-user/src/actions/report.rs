//! The report of an attack, in the layout that scripts of the incumbent's users read.
//!
//! **Invariant**: byte for byte that layout (lines, blanks, empty lines); what we do not count,
//! flows, is 0. IPv6 addresses are written the short way, in brackets before a port.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::actions::Errand;
use crate::model::{Class, Direction, Load, Loads, PerSecond, Seen, Wall};
use crate::verdicts::{Alert, AttackKind, Ban, Verdict};

/// Flows that are listed, at most: one more than packets in the incumbent's dump.
const FLOWS: usize = 101;

/// TCP flags in the order in which they are named.
const FLAGS: [(u8, &str); 6] =
    [(0x01, "fin"), (0x02, "syn"), (0x04, "rst"), (0x08, "psh"), (0x10, "ack"), (0x20, "urg")];

/// What a report is about, ban or alert.
struct Figures<'a> {
    kind: AttackKind,
    direction: Direction,
    pps: u64,
    peak_pps: u64,
    loads: &'a Loads,
}

impl<'a> Figures<'a> {
    fn of(verdict: &'a Verdict) -> Self {
        match verdict {
            Verdict::Ban(ban) | Verdict::Details(ban, _) | Verdict::Unban(ban, _) => {
                let Ban { direction, pps, peak_pps, loads, attack, .. } = ban;
                let (direction, pps, peak_pps) = (*direction, *pps, *peak_pps);
                Self { kind: attack.kind, direction, pps, peak_pps, loads }
            }
            Verdict::Alert(alert) | Verdict::Calm(alert) => {
                let Alert { direction, pps, peak_pps, loads, .. } = alert;
                let (direction, pps, peak_pps) = (*direction, *pps, *peak_pps);
                Self { kind: AttackKind::Unknown, direction, pps, peak_pps, loads }
            }
        }
    }
}

/// From `IP:` to the last counter, and an empty line.
pub fn header(errand: &Errand) -> String {
    let Figures { kind, direction, pps, peak_pps, loads } = Figures::of(&errand.verdict);
    let load = of(loads, direction);
    let mut text = format!(
        "IP: {}\n\
         Attack type: {}\n\
         Initial attack power: {pps} packets per second\n\
         Peak attack power: {peak_pps} packets per second\n\
         Attack direction: {}\n\
         Attack protocol: {}\n",
        errand.named(),
        kind.name(),
        direction.name(),
        protocol(load)
    );
    let ways =
        [("incoming", "Incoming", &loads.incoming), ("outgoing", "Outgoing", &loads.outgoing)];
    // Writing to a string cannot fail.
    for (way, _, load) in ways {
        let _infallible = writeln!(text, "Total {way} traffic: {} mbps", load.total().mbps());
    }
    for (way, _, load) in ways {
        let pps = load.total().pps;
        let _infallible = writeln!(text, "Total {way} pps: {pps} packets per second");
    }
    for (way, ..) in ways {
        let _infallible = writeln!(text, "Total {way} flows: 0 flows per second");
    }
    for (name, classes) in PARTS {
        for (_, way, load) in ways {
            let mbps = sum(load, classes).mbps();
            let _infallible = writeln!(text, "{way} {name} traffic: {mbps} mbps");
        }
        for (_, way, load) in ways {
            let pps = sum(load, classes).pps;
            let _infallible = writeln!(text, "{way} {name} pps: {pps} packets per second");
        }
    }
    text.push('\n');
    text
}

/// The header, then the packets, then the flows they are part of.
pub fn full(errand: &Errand) -> String {
    let mut text = header(errand);
    let Verdict::Details(ban, packets) = &errand.verdict else { return text };
    text.push_str("\n\nAttack traffic dump\n\n");
    for packet in packets.iter() {
        text.push_str(&packet_line(packet, errand.wall));
    }
    text.push_str("\n\nFlow dump\n\n");
    let incoming = flows(packets, ban.address, Direction::Incoming);
    let outgoing = flows(packets, ban.address, Direction::Outgoing);
    text.push_str(&incoming);
    if !incoming.is_empty() && !outgoing.is_empty() {
        text.push('\n');
    }
    text.push_str(&outgoing);
    text
}

/// What the lines of a report count apart, in order. We drop nothing, so there is no class for it.
const PARTS: [(&str, &[Class]); 6] = [
    ("ip fragmented", &[Class::Fragment]),
    ("dropped", &[]),
    ("tcp", &[Class::Tcp, Class::Syn]),
    ("syn tcp", &[Class::Syn]),
    ("udp", &[Class::Udp]),
    ("icmp", &[Class::Icmp]),
];

pub(super) const fn of(loads: &Loads, direction: Direction) -> &Load {
    match direction {
        Direction::Incoming => &loads.incoming,
        Direction::Outgoing => &loads.outgoing,
    }
}

/// Several classes together.
pub(super) fn sum(load: &Load, classes: &[Class]) -> PerSecond {
    classes.iter().fold(PerSecond::default(), |sum, class| sum.and(load.class(*class)))
}

/// The largest of TCP, UDP and ICMP.
pub(super) fn protocol(load: &Load) -> &'static str {
    let pps = |classes: &[Class]| sum(load, classes).pps;
    let (tcp, udp, icmp) =
        (pps(&[Class::Tcp, Class::Syn]), pps(&[Class::Udp]), pps(&[Class::Icmp]));
    if tcp == 0 && udp == 0 && icmp == 0 {
        "unknown"
    } else if tcp >= udp && tcp >= icmp {
        "tcp"
    } else if udp >= icmp {
        "udp"
    } else {
        "icmp"
    }
}

fn packet_line(packet: &Seen, wall: Wall) -> String {
    let unix = wall.unix_at(packet.at);
    let micros = i64::try_from(unix.as_micros()).unwrap_or(i64::MAX);
    let at = Timestamp::from_microsecond(micros).unwrap_or_default();
    let at = at.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S.%6f");
    let (source, target) = ends(packet);
    let protocol = match packet.protocol {
        58 => "ipv6-icmp",
        _ => protocol_name(packet.protocol),
    };
    let flags = if packet.protocol == 6 {
        format!(" flags: {}", flags(packet.tcp_flags.unwrap_or_default()))
    } else {
        String::new()
    };
    let fragment = u8::from(packet.class == Class::Fragment);
    let (bytes, ttl) = (packet.bytes, packet.ttl);
    format!(
        "{at} {source} > {target} protocol: {protocol}{flags} frag: {fragment}  packets: 1 \
         size: {bytes} bytes ttl: {ttl} sample ratio: 1  \n"
    )
}

fn ends(packet: &Seen) -> (SocketAddr, SocketAddr) {
    let Seen { source, target, ports, .. } = *packet;
    (SocketAddr::new(source, ports.0), SocketAddr::new(target, ports.1))
}

/// The flags of a TCP header by name; `-` where there are none.
pub(super) fn flags(bits: u8) -> String {
    let named: Vec<&str> =
        FLAGS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if named.is_empty() { "-".to_owned() } else { named.join(",") }
}

/// A protocol as IANA names it, in lower case, as far as it is met in attacks.
pub(super) const fn protocol_name(number: u8) -> &'static str {
    match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipv4",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        89 => "ospfigp",
        103 => "pim",
        112 => "vrrp",
        115 => "l2tp",
        132 => "sctp",
        136 => "udplite",
        _ => "unknown",
    }
}

/// One direction of the flow dump; empty when nothing went that way.
fn flows(packets: &[Seen], victim: IpAddr, direction: Direction) -> String {
    let (heading, arrow) = match direction {
        Direction::Incoming => ("Incoming", '<'),
        Direction::Outgoing => ("Outgoing", '>'),
    };
    let mut text = String::new();
    for (name, number) in [("TCP", 6), ("UDP", 17)] {
        let mut flows: BTreeMap<(SocketAddr, SocketAddr), (u64, u64)> = BTreeMap::new();
        for packet in packets.iter().filter(|packet| packet.protocol == number) {
            let (source, target) = ends(packet);
            let key = match direction {
                Direction::Incoming if packet.target == victim => (target, source),
                Direction::Outgoing if packet.source == victim => (source, target),
                _ => continue,
            };
            let (packets, bytes) = flows.entry(key).or_default();
            *packets += 1;
            *bytes += u64::from(packet.bytes);
        }
        if flows.is_empty() {
            continue;
        }
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{name} flows: {}", flows.len());
        for ((own, remote), (packets, bytes)) in flows.iter().take(FLOWS) {
            let _infallible =
                writeln!(text, "{own} {arrow} {remote} {bytes} bytes {packets} packets");
        }
        if flows.len() > FLOWS {
            text.push_str("Flows have cropped due to very long list.\n");
        }
        text.push('\n');
    }
    if text.is_empty() { text } else { format!("{heading}\n\n{text}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Moment;

    fn errand(verdict: Verdict) -> Errand {
        let wall = Wall {
            read_at: Moment::after_boot(Duration::from_secs(100)),
            unix: Duration::from_secs(1_795_367_873),
        };
        Errand { verdict, wall }
    }

    fn ban() -> Ban {
        let mut load = Load::default();
        load.0[Class::Udp as usize] = PerSecond { pps: 2089, bytes: 370_000 };
        load.0[Class::Syn as usize] = PerSecond { pps: 7, bytes: 420 };
        load.0[Class::Tcp as usize] = PerSecond { pps: 5, bytes: 400 };
        let mut back = Load::default();
        back.0[Class::Icmp as usize] = PerSecond { pps: 1, bytes: 100 };
        Ban {
            pps: 2101,
            peak_pps: 4800,
            loads: Loads { incoming: load, outgoing: back },
            ..Ban::of([10, 99, 0, 5])
        }
    }

    const HEADER: &str = "\
IP: 10.99.0.5
Attack type: udp_flood
Initial attack power: 2101 packets per second
Peak attack power: 4800 packets per second
Attack direction: incoming
Attack protocol: udp
Total incoming traffic: 2 mbps
Total outgoing traffic: 0 mbps
Total incoming pps: 2101 packets per second
Total outgoing pps: 1 packets per second
Total incoming flows: 0 flows per second
Total outgoing flows: 0 flows per second
Incoming ip fragmented traffic: 0 mbps
Outgoing ip fragmented traffic: 0 mbps
Incoming ip fragmented pps: 0 packets per second
Outgoing ip fragmented pps: 0 packets per second
Incoming dropped traffic: 0 mbps
Outgoing dropped traffic: 0 mbps
Incoming dropped pps: 0 packets per second
Outgoing dropped pps: 0 packets per second
Incoming tcp traffic: 0 mbps
Outgoing tcp traffic: 0 mbps
Incoming tcp pps: 12 packets per second
Outgoing tcp pps: 0 packets per second
Incoming syn tcp traffic: 0 mbps
Outgoing syn tcp traffic: 0 mbps
Incoming syn tcp pps: 7 packets per second
Outgoing syn tcp pps: 0 packets per second
Incoming udp traffic: 2 mbps
Outgoing udp traffic: 0 mbps
Incoming udp pps: 2089 packets per second
Outgoing udp pps: 0 packets per second
Incoming icmp traffic: 0 mbps
Outgoing icmp traffic: 0 mbps
Incoming icmp pps: 0 packets per second
Outgoing icmp pps: 1 packets per second

";

    fn packet(source: &str, target: &str, protocol: u8) -> Seen {
        let (source, target): (SocketAddr, SocketAddr) =
            (source.parse().unwrap(), target.parse().unwrap());
        Seen {
            at: Moment::after_boot(Duration::new(100, 135_105_000)),
            ports: (source.port(), target.port()),
            class: if protocol == 6 { Class::Tcp } else { Class::Udp },
            protocol,
            bytes: 142,
            tcp_flags: (protocol == 6).then_some(0x12),
            ..Seen::of(source.ip(), target.ip())
        }
    }

    #[test]
    fn the_header_is_the_incumbents() {
        assert_eq!(header(&errand(Verdict::Ban(ban()))), HEADER);
        assert_eq!(full(&errand(Verdict::Ban(ban()))), HEADER, "without packets that is all");
    }

    #[test]
    fn the_dump_is_the_incumbents() {
        let packets = [
            packet("10.98.0.1:15266", "10.99.0.5:53", 17),
            packet("10.98.0.1:15266", "10.99.0.5:53", 17),
            packet("10.98.0.1:443", "10.99.0.5:53", 6),
            packet("10.99.0.5:53", "10.98.0.1:443", 6),
        ];
        let errand = errand(Verdict::Details(ban(), packets.into()));
        let at = Timestamp::from_microsecond(1_795_367_873_135_105).unwrap();
        let at = at
            .to_zoned_datetime(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S.135105")
            .to_string();
        let expected = "\
Attack traffic dump

AT 10.98.0.1:15266 > 10.99.0.5:53 protocol: udp frag: 0  packets: 1 size: 142 bytes ttl: 64 sample ratio: 1  
AT 10.98.0.1:15266 > 10.99.0.5:53 protocol: udp frag: 0  packets: 1 size: 142 bytes ttl: 64 sample ratio: 1  
AT 10.98.0.1:443 > 10.99.0.5:53 protocol: tcp flags: syn,ack frag: 0  packets: 1 size: 142 bytes ttl: 64 sample ratio: 1  
AT 10.99.0.5:53 > 10.98.0.1:443 protocol: tcp flags: syn,ack frag: 0  packets: 1 size: 142 bytes ttl: 64 sample ratio: 1  


Flow dump

Incoming

TCP flows: 1
10.99.0.5:53 < 10.98.0.1:443 142 bytes 1 packets

UDP flows: 1
10.99.0.5:53 < 10.98.0.1:15266 284 bytes 2 packets


Outgoing

TCP flows: 1
10.99.0.5:53 > 10.98.0.1:443 142 bytes 1 packets

";
        let expected = format!("{HEADER}\n\n{}", expected.replace("AT", &at));
        assert_eq!(full(&errand), expected);
    }

    #[test]
    fn flags_are_named_in_order_and_no_flag_is_a_dash() {
        for (bits, named) in
            [(0, "-"), (0x02, "syn"), (0x3f, "fin,syn,rst,psh,ack,urg"), (0xc0, "-")]
        {
            assert_eq!(flags(bits), named);
        }
    }

    #[test]
    fn a_long_list_of_flows_is_cropped_and_an_ipv6_address_stands_in_brackets() {
        let packets: Vec<Seen> = (0..150)
            .map(|port| packet(&format!("[2001:db9::1]:{port}"), "[2001:db8::42]:53", 17))
            .collect();
        let text = flows(&packets, "2001:db8::42".parse().unwrap(), Direction::Incoming);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2..4],
            ["UDP flows: 150", "[2001:db8::42]:53 < [2001:db9::1]:0 142 bytes 1 packets"]
        );
        assert_eq!(lines.len(), 3 + FLOWS + 2);
        assert_eq!(lines[3 + FLOWS], "Flows have cropped due to very long list.");
    }
}
