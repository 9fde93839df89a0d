//! A packet as evidence shows it.
//!
//! **Invariant**: made from the beginning of a frame, by the parser that counted it. What cannot
//! be read (ports behind a cut, say) is told as absent, never guessed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fastnetmon_common::parse::{Ends, Family, Packet, parse_ethernet, parse_ip, parse_typed};
use fastnetmon_common::wire::{Captured, Ipv4, Ipv6, Ports, Tcp, Wire as _};
use zerocopy::network_endian::U64;

use crate::model::{Class, Moment};

/// One line of the dump.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// When it was seen.
    pub at: Moment,
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub target: IpAddr,
    /// Source and target port, 0 where there are none.
    pub ports: (u16, u16),
    /// What it counted as.
    pub class: Class,
    /// IANA protocol number, behind IPv6 extension headers.
    pub protocol: u8,
    /// Length of the IP packet, in bytes.
    pub bytes: u32,
    /// Hops it had left; 0 where that cannot be read.
    pub ttl: u8,
    /// Flags of its TCP header, where there is one.
    pub tcp_flags: Option<u8>,
}

impl Seen {
    /// Reads an Ethernet frame, or what was captured of it.
    pub fn from_ethernet(at: Moment, frame: Captured<'_>) -> Option<Self> {
        Some(Self::from_packet(at, &frame, parse_ethernet(&frame).ok()?))
    }

    /// Reads a packet that begins with its IP header.
    pub fn from_ip(at: Moment, frame: Captured<'_>) -> Option<Self> {
        Some(Self::from_packet(at, &frame, parse_ip(&frame, 0).ok()?))
    }

    /// Reads what stands behind a link header that named its `EtherType`.
    pub fn from_typed(at: Moment, frame: Captured<'_>, ethertype: u16) -> Option<Self> {
        Some(Self::from_packet(at, &frame, parse_typed(&frame, ethertype).ok()?))
    }

    fn from_packet(at: Moment, frame: &Captured<'_>, packet: Packet) -> Self {
        // TCP, UDP, DCCP, SCTP and UDP-Lite begin with their ports; only first fragments do.
        let has_ports = matches!(packet.protocol, 6 | 17 | 33 | 132 | 136);
        let ports = usize::try_from(packet.transport_at)
            .ok()
            .filter(|_| has_ports && packet.class != Class::Fragment)
            .and_then(|transport| frame.header::<Ports>(transport))
            .map_or((0, 0), |ports| (ports.src.get(), ports.dst.get()));
        let tcp = usize::try_from(packet.transport_at)
            .ok()
            .filter(|_| packet.protocol == 6 && packet.class != Class::Fragment)
            .and_then(|transport| frame.header::<Tcp>(transport));
        let ttl = ttl(frame, &packet, tcp.as_ref());
        let Ends { family, src, dst } = packet.ends;
        let [source, target] = [src, dst].map(|address| match family {
            Family::V4 => ipv4(address),
            Family::V6 => ipv6(address),
        });
        Self {
            at,
            source,
            target,
            ports,
            class: packet.class,
            protocol: packet.protocol,
            bytes: packet.bytes,
            ttl,
            tcp_flags: tcp.map(|tcp| tcp.flags),
        }
    }

    /// The protocol's name in the dump.
    pub const fn protocol_name(&self) -> &'static str {
        match self.protocol {
            6 => "tcp",
            17 => "udp",
            1 | 58 => "icmp",
            _ => "unknown",
        }
    }
}

/// Hops left, from the IP header: `headers` reaches from there to the end of the transport header.
fn ttl(frame: &Captured<'_>, packet: &Packet, tcp: Option<&Tcp>) -> u8 {
    let transport = match (packet.class, tcp) {
        (Class::Tcp | Class::Syn, Some(tcp)) => u32::from(tcp.offset >> 4) * 4,
        (Class::Udp, _) => 8,
        _ => 0,
    };
    let at = (packet.transport_at + transport).checked_sub(packet.headers);
    let Some(at) = at.and_then(|at| usize::try_from(at).ok()) else { return 0 };
    match packet.ends.family {
        Family::V4 => frame
            .header::<Ipv4>(at)
            .filter(|ip| ip.version_ihl >> 4 == 4 && u64::from(ip.src.get()) == packet.ends.src[1])
            .map_or(0, |ip| ip.ttl),
        Family::V6 => frame
            .header::<Ipv6>(at)
            .filter(|ip| ip.src.map(U64::get) == packet.ends.src)
            .map_or(0, |ip| ip.hops),
    }
}

/// An IPv4 address from the lower half.
fn ipv4([_, low]: [u64; 2]) -> IpAddr {
    let [.., first, second, third, fourth] = low.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(first, second, third, fourth))
}

/// An IPv6 address from its halves.
fn ipv6(halves: [u64; 2]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from((u128::from(halves[0]) << 64) | u128::from(halves[1])))
}

/// The line of the dump, without its end:
/// `192.0.2.1:80 > 198.51.100.7:46804 protocol: tcp size: 233 bytes`.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} > {} protocol: {} size: {} bytes",
            SocketAddr::new(self.source, self.ports.0),
            SocketAddr::new(self.target, self.ports.1),
            self.protocol_name(),
            self.bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Seen {
        /// One for tests: 46 bytes of UDP from port 53 of one to port 80 of the other.
        pub(crate) fn of(source: impl Into<IpAddr>, target: impl Into<IpAddr>) -> Self {
            Self {
                at: Moment::default(),
                source: source.into(),
                target: target.into(),
                ports: (53, 80),
                class: Class::Udp,
                protocol: 17,
                bytes: 46,
                ttl: 64,
                tcp_flags: None,
            }
        }
    }

    #[track_caller]
    fn check(frame: &[u8], wire_len: u32, expected: &str) {
        let seen =
            Seen::from_ethernet(Moment::default(), Captured { bytes: frame, wire_len }).unwrap();
        assert_eq!(seen.to_string(), expected);
    }

    fn ethernet(ethertype: u16, rest: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(ethertype.to_be_bytes());
        for part in rest {
            frame.extend_from_slice(part);
        }
        frame
    }

    const IPV4_TCP: [u8; 20] =
        [0x45, 0, 0, 233, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7];

    #[test]
    fn a_line_has_addresses_ports_protocol_and_ip_length() {
        let ports = [0, 80, 0xb6, 0xd4];
        check(
            &ethernet(0x0800, &[&IPV4_TCP, &ports, &[0; 16]]),
            247,
            "192.0.2.1:80 > 198.51.100.7:46804 protocol: tcp size: 233 bytes",
        );
    }

    #[test]
    fn hops_and_flags_are_read_where_they_are() {
        let seen = |frame: &[u8]| {
            let wire_len = u32::try_from(frame.len()).unwrap();
            let frame = Captured { bytes: frame, wire_len };
            let seen = Seen::from_ethernet(Moment::default(), frame).unwrap();
            (seen.ttl, seen.tcp_flags)
        };
        let tcp = [0, 80, 0xb6, 0xd4, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0, 0, 0, 0, 0, 0];
        assert_eq!(seen(&ethernet(0x0800, &[&IPV4_TCP, &tcp])), (64, Some(0x12)));
        // Cut before the flags.
        assert_eq!(seen(&ethernet(0x0800, &[&IPV4_TCP, &tcp[..8]])), (64, None));
        let mut udp = IPV4_TCP;
        (udp[9], udp[8]) = (17, 7);
        assert_eq!(seen(&ethernet(0x0800, &[&udp, &[0; 8]])), (7, None));
        udp[6] = 0x20;
        assert_eq!(seen(&ethernet(0x0800, &[&udp, &[0; 8]])), (7, None));
        let mut ip = vec![0x60, 0, 0, 0, 0, 20, 58, 63];
        ip.extend([1; 32]);
        assert_eq!(seen(&ethernet(0x86dd, &[&ip, &[128; 20]])), (63, None));
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let mut ip = vec![0x60, 0, 0, 0, 0, 20, 58, 64];
        ip.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        ip.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        check(
            &ethernet(0x86dd, &[&ip, &[128; 20]]),
            74,
            "[2001:db8::1]:0 > [2001:db8::2]:0 protocol: icmp size: 60 bytes",
        );
    }

    #[test]
    fn ports_behind_the_cut_or_in_a_fragment_are_zero() {
        check(
            &ethernet(0x0800, &[&IPV4_TCP]),
            247,
            "192.0.2.1:0 > 198.51.100.7:0 protocol: tcp size: 233 bytes",
        );
        let mut fragment = IPV4_TCP;
        fragment[6] = 0x20;
        check(
            &ethernet(0x0800, &[&fragment, &[9; 20]]),
            247,
            "192.0.2.1:0 > 198.51.100.7:0 protocol: tcp size: 233 bytes",
        );
    }
}
