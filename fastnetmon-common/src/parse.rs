//! A frame becomes a [`Packet`], or a reason why it cannot.
//!
//! The fixed IP header decides: once it is read, the packet is counted for its addresses,
//! whatever follows. What lies behind it only refines the class, so no malformed transport header
//! hides a flood.
//!
//! **Invariant**: no allocation, no recursion, every loop bounded, and the same answer in the
//! kernel and in user space. What is looked through: three VLAN tags (IEEE 802.1Q, 802.1ad), four
//! MPLS labels (RFC 3032), one `PPPoE` session (RFC 2516), four IPv6 extension headers.

use zerocopy::network_endian::{U16, U32};

use crate::class::{Class, Unparsed};
use crate::wire::{Extension, Gre, Ipv4, Ipv6, Ipv6Fragment, Pppoe, Tcp, Vlan, Wire};

/// Which protocol the addresses belong to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Source and destination, in host byte order, upper half first. An IPv4 address is the lower
/// half.
///
/// One shape for both families: a payload that only one of them fills would be undefined in the
/// other, and the verifier refuses a program that so much as moves an undefined word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ends {
    /// Which kind of addresses they are.
    pub family: Family,
    /// Source address.
    pub src: [u64; 2],
    /// Destination address.
    pub dst: [u64; 2],
}

impl Ends {
    /// Between two IPv4 hosts.
    #[inline(always)]
    pub const fn v4(src: u32, dst: u32) -> Self {
        Self { family: Family::V4, src: [0, src as u64], dst: [0, dst as u64] }
    }

    /// Between two IPv6 hosts.
    #[inline(always)]
    pub const fn v6(src: [u64; 2], dst: [u64; 2]) -> Self {
        Self { family: Family::V6, src, dst }
    }
}

/// What a frame counts as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Between whom.
    pub ends: Ends,
    /// As what.
    pub class: Class,
    /// Length of the IP packet, in bytes.
    pub bytes: u32,
    /// IP and transport header together, in bytes: what each segment of a GSO frame repeats.
    pub headers: u32,
    /// Protocol of the transport header, behind extension headers (IANA number).
    pub protocol: u8,
    /// Where the transport header begins in the frame, if it is there.
    pub transport_at: u32,
    /// Bytes the frame carries beyond the IP packet and beyond Ethernet's own padding.
    pub padding: u32,
}

impl Packet {
    /// No packet at all; every packet that was read has bytes. A value of its own instead of
    /// `None`, behind which the words would be undefined: see [`Ends`].
    pub const NOTHING: Self = Self {
        ends: Ends::v4(0, 0),
        class: Class::Other,
        bytes: 0,
        headers: 0,
        protocol: 0,
        transport_at: 0,
        padding: 0,
    };

    /// How many segments offload will make of a frame whose payload it cuts into pieces of
    /// `piece` bytes (`gso_size`); 0 stands for a frame that is not cut.
    #[inline(always)]
    pub fn segments(&self, piece: u32) -> u32 {
        let payload = self.bytes.saturating_sub(self.headers);
        if piece == 0 || payload == 0 { 1 } else { payload.div_ceil(piece) }
    }

    /// What the packet is on the wire once it is cut into `segments`, as `(packets, bytes)`.
    ///
    /// A frame on its way to segmentation offload carries one pair of headers; the wire will
    /// carry one per segment.
    #[inline(always)]
    pub fn segmented(&self, segments: u32) -> (u32, u32) {
        let segments = if segments == 0 { 1 } else { segments };
        (segments, self.bytes.wrapping_add((segments - 1).wrapping_mul(self.headers)))
    }
}

/// What lies behind a packet's IP header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Payload {
    /// IANA protocol number; 0 when the packet is a fragment, whose payload stands for itself.
    pub protocol: u8,
    /// Where it begins in the frame.
    pub at: u32,
}

impl Payload {
    /// Where a payload begins at the latest: four extension headers of 2 KB end before it. The
    /// verifier follows offsets up to 64 KB.
    pub const MOST: u32 = 0x3fff;

    /// The payload of a packet.
    #[inline(always)]
    pub const fn of(packet: &Packet) -> Self {
        // A fragment carries inner headers once and cannot be read after the first one.
        let protocol = if matches!(packet.class, Class::Fragment) { 0 } else { packet.protocol };
        Self { protocol, at: packet.transport_at & Self::MOST }
    }
}

const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const MPLS: u16 = 0x8847;
const MPLS_MULTICAST: u16 = 0x8848;
const PPPOE_SESSION: u16 = 0x8864;
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;
/// Transparent Ethernet bridging, in GRE.
const BRIDGED: u16 = 0x6558;

/// Version 4, header of five words: IPv4 without options.
const PLAIN: u8 = 0x45;

const IP_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;

const MAX_TAGS: usize = 3;
const MAX_LABELS: usize = 4;
const MAX_EXTENSIONS: usize = 4;

/// Bytes an Ethernet frame is padded to behind its header (IEEE 802.3, section 3.2.8).
const ETHERNET_MINIMUM: u32 = 46;

/// Parses a frame that begins with an Ethernet header.
#[inline(always)]
pub fn parse_ethernet<W: Wire + ?Sized>(wire: &W) -> Result<Packet, Unparsed> {
    let ethertype = wire.header::<U16>(12).ok_or(Unparsed::Short)?.get();
    // Nearly every frame: asked first, and with all distances known.
    match ethertype {
        IPV4 => parse_ipv4(wire, 14),
        IPV6 => parse_ipv6(wire, 14),
        _ => behind_link(wire, ethertype, 14),
    }
}

/// Parses what stands behind a link header that named its type (an `EtherType`), as cooked captures
/// hand it over.
pub fn parse_typed<W: Wire + ?Sized>(wire: &W, ethertype: u16) -> Result<Packet, Unparsed> {
    behind_link(wire, ethertype, 0)
}

/// Parses the packet that a tunnel's packet carries: IP in IP (RFC 2003, RFC 4213) and GRE
/// (RFC 2784, RFC 2890), with IP or Ethernet in it. [`Packet::NOTHING`] when it is no tunnel, or
/// cannot be read.
#[inline(always)]
pub fn parse_inner<W: Wire + ?Sized>(wire: &W, outer: Payload) -> Packet {
    let mut at = (outer.at & Payload::MOST) as usize;
    let mut ethertype = match outer.protocol {
        IP_IN_IP => IPV4,
        IPV6_IN_IP => IPV6,
        GRE => {
            let Some(gre) = wire.header::<Gre>(at) else { return Packet::NOTHING };
            let flags = gre.flags.get();
            // Version 0; checksum, key and sequence number are four bytes each where announced.
            if flags & 7 != 0 {
                return Packet::NOTHING;
            }
            let options = (flags >> 15) + ((flags >> 13) & 1) + ((flags >> 12) & 1);
            at += size_of::<Gre>() + usize::from(options) * 4;
            gre.ethertype.get()
        }
        _ => return Packet::NOTHING,
    };
    if ethertype == BRIDGED {
        let Some(inner) = wire.header::<U16>(at + 12) else { return Packet::NOTHING };
        ethertype = inner.get();
        at += 14;
    }
    let inner = match ethertype {
        IPV4 => parse_ipv4(wire, at),
        IPV6 => parse_ipv6(wire, at),
        _ => return Packet::NOTHING,
    };
    match inner {
        Ok(packet) => packet,
        Err(_) => Packet::NOTHING,
    }
}

#[inline(always)]
fn behind_link<W: Wire + ?Sized>(
    wire: &W,
    mut ethertype: u16,
    mut at: usize,
) -> Result<Packet, Unparsed> {
    for _ in 0..MAX_TAGS {
        if ethertype != VLAN && ethertype != SERVICE_VLAN {
            break;
        }
        ethertype = wire.header::<Vlan>(at).ok_or(Unparsed::Short)?.ethertype.get();
        at += 4;
    }
    match ethertype {
        IPV4 => parse_ipv4(wire, at),
        IPV6 => parse_ipv6(wire, at),
        ARP => Err(Unparsed::Arp),
        MPLS | MPLS_MULTICAST => parse_mpls(wire, at),
        PPPOE_SESSION => {
            let session: Pppoe = wire.header(at).ok_or(Unparsed::Short)?;
            match session.protocol.get() {
                PPP_IPV4 => parse_ipv4(wire, at + size_of::<Pppoe>()),
                PPP_IPV6 => parse_ipv6(wire, at + size_of::<Pppoe>()),
                _ => Err(Unparsed::NotIp),
            }
        }
        VLAN | SERVICE_VLAN => Err(Unparsed::Nested),
        _ => Err(Unparsed::NotIp),
    }
}

/// Parses a packet that begins with its IP header, as tunnel devices and NFLOG hand it over.
#[inline(always)]
pub fn parse_ip<W: Wire + ?Sized>(wire: &W, at: usize) -> Result<Packet, Unparsed> {
    match wire.header::<u8>(at).ok_or(Unparsed::Short)? >> 4 {
        4 => parse_ipv4(wire, at),
        6 => parse_ipv6(wire, at),
        _ => Err(Unparsed::Version),
    }
}

/// A label says nothing of what it carries: behind the last one the first nibble decides
/// (RFC 4928, section 2).
#[inline(always)]
fn parse_mpls<W: Wire + ?Sized>(wire: &W, mut at: usize) -> Result<Packet, Unparsed> {
    for _ in 0..MAX_LABELS {
        let label = wire.header::<U32>(at).ok_or(Unparsed::Short)?.get();
        at += 4;
        if label & 0x100 != 0 {
            return match parse_ip(wire, at) {
                Err(Unparsed::Version) => Err(Unparsed::NotIp),
                other => other,
            };
        }
    }
    Err(Unparsed::Nested)
}

/// The header's word for the length, unless it says nothing (offload, jumbogram) or more than
/// there is.
#[inline(always)]
const fn ip_bytes(said: u32, there: u32) -> u32 {
    // One comparison for both: 0 less 1 is more than there ever is.
    if said.wrapping_sub(1) < there { said } else { there }
}

#[inline(always)]
const fn padding(bytes: u32, there: u32) -> u32 {
    if there <= bytes || there <= ETHERNET_MINIMUM {
        return 0;
    }
    there - if bytes > ETHERNET_MINIMUM { bytes } else { ETHERNET_MINIMUM }
}

#[inline(always)]
fn parse_ipv4<W: Wire + ?Sized>(wire: &W, at: usize) -> Result<Packet, Unparsed> {
    let ip: Ipv4 = wire.header(at).ok_or(Unparsed::Short)?;
    let (said, header_len) = if ip.version_ihl == PLAIN {
        (size_of::<Ipv4>(), size_of::<Ipv4>())
    } else {
        if ip.version_ihl >> 4 != 4 {
            return Err(Unparsed::Version);
        }
        let said = usize::from(ip.version_ihl & 0x0f) * 4;
        (said, said.max(size_of::<Ipv4>()))
    };
    // MF or an offset: everything but DF (RFC 791).
    let transport = if ip.fragment.get() & 0x3fff != 0 {
        Transport { class: Class::Fragment, protocol: ip.protocol, at: at + header_len, len: 0 }
    } else if said < header_len {
        Transport::unread(ip.protocol, at + header_len)
    } else {
        transport(wire, ip.protocol, at + header_len)
    };
    let bytes = u32::from(ip.total_len.get());
    Ok(packet(wire, Ends::v4(ip.src.get(), ip.dst.get()), at, bytes, transport))
}

#[inline(always)]
fn parse_ipv6<W: Wire + ?Sized>(wire: &W, at: usize) -> Result<Packet, Unparsed> {
    let ip: Ipv6 = wire.header(at).ok_or(Unparsed::Short)?;
    if ip.version_class_flow.get() >> 28 != 6 {
        return Err(Unparsed::Version);
    }
    let payload = u32::from(ip.payload_len.get());
    let said = if payload == 0 { 0 } else { payload + 40 };
    let ends = Ends::v6([ip.src[0].get(), ip.src[1].get()], [ip.dst[0].get(), ip.dst[1].get()]);
    let transport = behind_extensions(wire, ip.next, at + size_of::<Ipv6>());
    Ok(packet(wire, ends, at, said, transport))
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "offsets stay far below 2^32")]
fn packet<W: Wire + ?Sized>(
    wire: &W,
    ends: Ends,
    at: usize,
    said: u32,
    transport: Transport,
) -> Packet {
    let there = wire.wire_len_from(at as u32);
    let bytes = ip_bytes(said, there);
    Packet {
        ends,
        class: transport.class,
        bytes,
        headers: (transport.at as u32).wrapping_sub(at as u32).wrapping_add(transport.len),
        protocol: transport.protocol,
        transport_at: transport.at as u32,
        padding: padding(bytes, there),
    }
}

/// Hop-by-hop options, routing, destination options (RFC 8200, section 4), AH (RFC 4302).
#[inline(always)]
fn behind_extensions<W: Wire + ?Sized>(wire: &W, mut next: u8, mut at: usize) -> Transport {
    for _ in 0..MAX_EXTENSIONS {
        match next {
            0 | 43 | 60 | 51 => {
                let Some(extension) = wire.header::<Extension>(at) else {
                    return Transport::unread(next, at);
                };
                at += if next == 51 {
                    (usize::from(extension.len) + 2) * 4
                } else {
                    (usize::from(extension.len) + 1) * 8
                };
                next = extension.next;
            }
            44 => {
                let Some(fragment) = wire.header::<Ipv6Fragment>(at) else {
                    return Transport { class: Class::Fragment, protocol: next, at, len: 0 };
                };
                at += size_of::<Ipv6Fragment>();
                next = fragment.next;
                // An atomic fragment (RFC 6946) is a whole packet.
                if fragment.offset.get() & 0xfff9 != 0 {
                    return Transport { class: Class::Fragment, protocol: next, at, len: 0 };
                }
            }
            _ => return transport(wire, next, at),
        }
    }
    match next {
        0 | 43 | 44 | 51 | 60 => Transport::unread(next, at),
        _ => transport(wire, next, at),
    }
}

/// What lies behind the IP header: its class, its protocol, where it begins, how long it is.
#[derive(Clone, Copy)]
struct Transport {
    class: Class,
    protocol: u8,
    at: usize,
    len: u32,
}

impl Transport {
    /// A header that could not be read: the protocol number alone decides.
    #[inline(always)]
    const fn unread(protocol: u8, at: usize) -> Self {
        Self { class: by_protocol(protocol), protocol, at, len: 0 }
    }
}

#[inline(always)]
fn transport<W: Wire + ?Sized>(wire: &W, protocol: u8, at: usize) -> Transport {
    match protocol {
        6 => match wire.header::<Tcp>(at) {
            Some(tcp) => Transport {
                // SYN without ACK (RFC 9293, section 3.1).
                class: if tcp.flags & 0x12 == 0x02 { Class::Syn } else { Class::Tcp },
                protocol,
                at,
                len: u32::from(tcp.offset >> 4) * 4,
            },
            None => Transport::unread(protocol, at),
        },
        17 => Transport { class: Class::Udp, protocol, at, len: 8 },
        _ => Transport::unread(protocol, at),
    }
}

#[inline(always)]
const fn by_protocol(protocol: u8) -> Class {
    match protocol {
        6 => Class::Tcp,
        17 => Class::Udp,
        1 | 58 => Class::Icmp,
        _ => Class::Other,
    }
}
