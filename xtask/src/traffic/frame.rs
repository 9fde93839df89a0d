//! Frames by name: what a packet should be, and the bytes it is on the wire.
//!
//! **Invariants**: lengths and checksums are right; pure, nothing here knows a socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::lab;

/// A frame described by what it should be; [`Frame::bytes`] is what it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    heading: Heading,
    tags: Vec<u16>,
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    payload: u16,
}

/// Which way along the lab's cable a frame goes; it decides about the hardware addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// From the outside in.
    Inwards,
    /// From the inside out.
    Outwards,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Transport {
    Udp { source: u16, destination: u16 },
    Tcp { source: u16, destination: u16, flags: u8 },
    Echo,
    Other(u8),
}

/// Flags of TCP, to be joined with `|`.
pub mod tcp {
    /// The sender has finished.
    pub const FIN: u8 = 0x01;
    /// A connection begins.
    pub const SYN: u8 = 0x02;
    /// A connection is refused.
    pub const RST: u8 = 0x04;
    /// Hand the data over at once.
    pub const PSH: u8 = 0x08;
    /// Something was received.
    pub const ACK: u8 = 0x10;
}

impl Frame {
    /// A UDP datagram; ends of different families are both written as IPv6.
    pub fn udp(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        source_port: u16,
        destination_port: u16,
    ) -> Self {
        let transport = Transport::Udp { source: source_port, destination: destination_port };
        Self::new(source.into(), destination.into(), transport)
    }

    /// A TCP segment with these flags, see [`tcp`].
    pub fn tcp(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        source_port: u16,
        destination_port: u16,
        flags: u8,
    ) -> Self {
        let transport =
            Transport::Tcp { source: source_port, destination: destination_port, flags };
        Self::new(source.into(), destination.into(), transport)
    }

    /// The first segment of a TCP connection.
    pub fn tcp_syn(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        source_port: u16,
        destination_port: u16,
    ) -> Self {
        Self::tcp(source, destination, source_port, destination_port, tcp::SYN)
    }

    /// A ping: an echo request, in the ICMP of its family.
    pub fn icmp(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        Self::new(source.into(), destination.into(), Transport::Echo)
    }

    /// An IP packet of another protocol, with nothing but payload.
    pub fn protocol(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        protocol: u8,
    ) -> Self {
        Self::new(source.into(), destination.into(), Transport::Other(protocol))
    }

    /// With this many bytes behind the last header.
    #[must_use]
    pub fn payload(mut self, bytes: u16) -> Self {
        self.payload = bytes;
        self
    }

    /// With a VLAN tag; the tag of the first call is the outermost.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.tags.push(id & 0x0fff);
        self
    }

    /// Going that way; the usual way is inwards.
    #[must_use]
    pub fn heading(mut self, heading: Heading) -> Self {
        self.heading = heading;
        self
    }

    /// Leaving the inside.
    #[must_use]
    pub fn outwards(self) -> Self {
        self.heading(Heading::Outwards)
    }

    /// The length of the IP packet, as the agent counts it.
    pub fn ip_len(&self) -> u64 {
        let ethernet = 14 + 4 * self.tags.len();
        self.bytes().len().saturating_sub(ethernet) as u64
    }

    /// The frame as it lies on the wire, without the checksum at its end.
    pub fn bytes(&self) -> Vec<u8> {
        let payload = vec![0x2e; usize::from(self.payload)];
        let (ether_type, packet) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (0x0800_u16, packet_v4(source, destination, &self.transport, &payload))
            }
            (source, destination) => {
                (0x86dd, packet_v6(as_v6(source), as_v6(destination), &self.transport, &payload))
            }
        };
        let (from, to) = match self.heading {
            Heading::Inwards => (lab::OUTSIDE_MAC, lab::INSIDE_MAC),
            Heading::Outwards => (lab::INSIDE_MAC, lab::OUTSIDE_MAC),
        };
        let mut frame = [to, from].concat();
        for (position, tag) in self.tags.iter().enumerate() {
            // The outer one of two tags is a service tag.
            let is_service = position + 1 < self.tags.len();
            frame.extend(if is_service { 0x88a8_u16 } else { 0x8100 }.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ether_type.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn new(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        Self {
            heading: Heading::Inwards,
            tags: Vec::new(),
            source,
            destination,
            transport,
            payload: 0,
        }
    }
}

fn packet_v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    transport: &Transport,
    payload: &[u8],
) -> Vec<u8> {
    let protocol = transport.protocol(1);
    let pseudo = |len: u16| {
        let mut pseudo = [source.octets(), destination.octets()].concat();
        pseudo.extend([0, protocol]);
        pseudo.extend(len.to_be_bytes());
        pseudo
    };
    let body = match transport {
        // The checksum of ICMP covers no addresses.
        Transport::Echo => with_checksum(8, transport, &[], payload),
        _ => with_checksum(0, transport, &pseudo(length(transport, payload)), payload),
    };
    let header = |checksum: u16| {
        let mut header = vec![0x45, 0];
        header.extend((20_u16.saturating_add(length(transport, payload))).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, protocol]);
        header.extend(checksum.to_be_bytes());
        header.extend(source.octets());
        header.extend(destination.octets());
        header
    };
    let checksum = checksum(&[&header(0)]);
    [header(checksum), body].concat()
}

fn packet_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    transport: &Transport,
    payload: &[u8],
) -> Vec<u8> {
    let protocol = transport.protocol(58);
    let len = length(transport, payload);
    let mut pseudo = [source.octets(), destination.octets()].concat();
    pseudo.extend(u32::from(len).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    let body = with_checksum(128, transport, &pseudo, payload);

    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([protocol, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(body);
    packet
}

/// Header and payload, with the checksum over them and over what stands before them.
fn with_checksum(echo: u8, transport: &Transport, pseudo: &[u8], payload: &[u8]) -> Vec<u8> {
    let len = length(transport, payload);
    let blank = transport.header(echo, len, 0);
    let sum = match (transport, checksum(&[pseudo, &blank, payload])) {
        // In UDP a zero says that there is no checksum (RFC 768).
        (Transport::Udp { .. }, 0) => 0xffff,
        (_, sum) => sum,
    };
    [transport.header(echo, len, sum).as_slice(), payload].concat()
}

fn length(transport: &Transport, payload: &[u8]) -> u16 {
    u16::try_from(transport.header_len() + payload.len()).unwrap_or(u16::MAX)
}

impl Transport {
    fn protocol(&self, icmp: u8) -> u8 {
        match self {
            Self::Udp { .. } => 17,
            Self::Tcp { .. } => 6,
            Self::Echo => icmp,
            Self::Other(protocol) => *protocol,
        }
    }

    fn header_len(&self) -> usize {
        match self {
            Self::Udp { .. } | Self::Echo => 8,
            Self::Tcp { .. } => 20,
            Self::Other(_) => 0,
        }
    }

    fn header(&self, echo: u8, len: u16, checksum: u16) -> Vec<u8> {
        let mut header = Vec::with_capacity(self.header_len());
        match *self {
            Self::Udp { source, destination } => {
                for field in [source, destination, len, checksum] {
                    header.extend(field.to_be_bytes());
                }
            }
            Self::Tcp { source, destination, flags } => {
                header.extend(source.to_be_bytes());
                header.extend(destination.to_be_bytes());
                // Sequence and acknowledgement; five words of header; a window.
                header.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 0xff, 0xff]);
                header.extend(checksum.to_be_bytes());
                header.extend([0, 0]);
            }
            Self::Echo => {
                header.extend([echo, 0]);
                header.extend(checksum.to_be_bytes());
                header.extend([0, 1, 0, 1]);
            }
            Self::Other(_) => {}
        }
        header
    }
}

/// The checksum of the Internet (RFC 1071); every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2)).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    fn v6(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
    }

    #[track_caller]
    fn check_lengths(frame: Frame, ethernet: usize, ip: usize) {
        assert_eq!(frame.bytes().len(), ethernet + ip);
        assert_eq!(frame.ip_len(), ip as u64);
        let bytes = frame.bytes();
        let packet = &bytes[ethernet..];
        let told = match packet[0] >> 4 {
            4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
            _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        };
        assert_eq!(told, ip);
    }

    #[test]
    fn lengths_are_the_sum_of_the_parts() {
        check_lengths(Frame::udp(STRANGER, HOST, 1, 2), 14, 28);
        check_lengths(Frame::udp(STRANGER, HOST, 1, 2).payload(100), 14, 128);
        check_lengths(Frame::udp(v6(1), v6(2), 1, 2).payload(3), 14, 51);
        check_lengths(Frame::tcp_syn(STRANGER, HOST, 1, 2), 14, 40);
        check_lengths(Frame::tcp_syn(v6(1), v6(2), 1, 2).payload(7), 14, 67);
        check_lengths(Frame::icmp(STRANGER, HOST).payload(56), 14, 84);
        check_lengths(Frame::icmp(v6(1), v6(2)), 14, 48);
        check_lengths(Frame::protocol(STRANGER, HOST, 47).payload(30), 14, 50);
        check_lengths(Frame::udp(STRANGER, HOST, 1, 2).vlan(7), 18, 28);
        check_lengths(Frame::udp(v6(1), v6(2), 1, 2).vlan(7).vlan(8), 22, 48);
        check_lengths(Frame::udp(STRANGER, v6(2), 1, 2), 14, 48);
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // The example of RFC 1071, section 3.
        let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&words]), !0xddf2);
        assert_eq!(checksum(&[&[0xff]]), !0xff00);
        assert_eq!(checksum(&[]), 0xffff);
    }

    /// A receiver adds everything up, the checksum included, and must come to zero.
    #[track_caller]
    fn check_sums(frame: Frame) {
        let bytes = frame.bytes();
        let packet = &bytes[14 + 4 * frame.tags.len()..];
        let (pseudo, body, protocol) = if packet[0] >> 4 == 4 {
            assert_eq!(checksum(&[&packet[..20]]), 0, "header");
            (packet[12..20].to_vec(), &packet[20..], packet[9])
        } else {
            (packet[8..40].to_vec(), &packet[40..], packet[6])
        };
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        let tail = [0, protocol, len[0], len[1]];
        let sum = if protocol == 1 { checksum(&[body]) } else { checksum(&[&pseudo, &tail, body]) };
        assert_eq!(sum, 0, "protocol {protocol}");
    }

    #[test]
    fn checksums_add_up_to_nothing() {
        for payload in [0, 1, 2, 31, 100, 1400] {
            check_sums(Frame::udp(STRANGER, HOST, 53, 4000).payload(payload));
            check_sums(Frame::udp(v6(1), v6(2), 53, 4000).payload(payload).vlan(5));
            check_sums(Frame::tcp(STRANGER, HOST, 80, 4000, tcp::ACK | tcp::PSH).payload(payload));
            check_sums(Frame::tcp_syn(v6(1), v6(2), 80, 4000).payload(payload));
            check_sums(Frame::icmp(STRANGER, HOST).payload(payload));
            check_sums(Frame::icmp(v6(1), v6(2)).payload(payload));
        }
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_ones_in_udp() {
        // This source port makes the sum come out at zero.
        let frame = |port| Frame::udp(STRANGER, HOST, port, 0).bytes();
        let port = (0..=u16::MAX).find(|port| frame(*port)[40..42] == [0xff, 0xff]);
        check_sums(Frame::udp(STRANGER, HOST, port.unwrap(), 0));
    }

    #[test]
    fn hardware_addresses_follow_the_heading() {
        let inwards = Frame::udp(STRANGER, HOST, 1, 2).bytes();
        let outwards = Frame::udp(HOST, STRANGER, 1, 2).outwards().bytes();
        assert_eq!((&inwards[..6], &inwards[6..12]), (&lab::INSIDE_MAC[..], &lab::OUTSIDE_MAC[..]));
        assert_eq!(
            (&outwards[..6], &outwards[6..12]),
            (&lab::OUTSIDE_MAC[..], &lab::INSIDE_MAC[..])
        );
    }

    #[test]
    fn two_tags_are_a_service_tag_and_a_customer_tag() {
        let frame = Frame::udp(STRANGER, HOST, 1, 2).vlan(100).vlan(7).bytes();
        assert_eq!(frame[12..22], [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 0x08, 0]);
    }
}
