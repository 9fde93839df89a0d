//! Headers as they lie on the wire, and the one way to read them.
//!
//! **Invariant**: a header is read whole or not at all. The kernel's verifier accepts a bounds
//! check and a read only when they are one operation, and a user-space engine is safe for the
//! same reason.

use zerocopy::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Unaligned};

/// A frame that can be asked for headers.
pub trait Wire {
    /// The header at `at`, or `None` when the frame ends before it does.
    fn header<T: FromBytes + Unaligned + Copy>(&self, at: usize) -> Option<T>;

    /// Bytes that were on the wire, not bytes that were captured.
    fn wire_len(&self) -> u32;

    /// The same from `at` on, where a header was read.
    #[inline(always)]
    fn wire_len_from(&self, at: u32) -> u32 {
        self.wire_len().saturating_sub(at)
    }
}

impl Wire for [u8] {
    #[inline(always)]
    fn header<T: FromBytes + Unaligned + Copy>(&self, at: usize) -> Option<T> {
        T::read_from_prefix(self.get(at..)?).ok().map(|(header, _)| header)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }
}

/// A frame of which only the beginning was captured.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// What was captured, from the link header or the IP header on.
    pub bytes: &'a [u8],
    /// How long the frame was on the wire.
    pub wire_len: u32,
}

impl Wire for Captured<'_> {
    #[inline(always)]
    fn header<T: FromBytes + Unaligned + Copy>(&self, at: usize) -> Option<T> {
        self.bytes.header(at)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.wire_len
    }
}

/// Tag of IEEE 802.1Q, less its own type field, which stands in the header before it.
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Vlan {
    /// Priority and VLAN number.
    pub tci: U16,
    /// Type of what follows.
    pub ethertype: U16,
}

/// Session header of `PPPoE` (RFC 2516) and the protocol field of PPP (RFC 1661).
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Pppoe {
    /// Version and type, both 1.
    pub version_type: u8,
    /// 0 in a session.
    pub code: u8,
    /// Session number.
    pub session: U16,
    /// Bytes after this field.
    pub length: U16,
    /// 0x0021 IPv4, 0x0057 IPv6.
    pub protocol: U16,
}

/// IPv4 (RFC 791, section 3.1), without options.
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// Version (4) and header length in words of 4 bytes.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Header and payload, in bytes.
    pub total_len: U16,
    /// Identification.
    pub id: U16,
    /// Flags (3 bits) and fragment offset (13).
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    /// Source address.
    pub src: U32,
    /// Destination address.
    pub dst: U32,
}

/// IPv6 (RFC 8200, section 3).
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    /// Version (4 bits), traffic class, flow label.
    pub version_class_flow: U32,
    /// Bytes after this header; 0 for jumbograms.
    pub payload_len: U16,
    /// Type of what follows.
    pub next: u8,
    /// Hop limit.
    pub hops: u8,
    /// Source address, two halves.
    pub src: [U64; 2],
    /// Destination address, two halves.
    pub dst: [U64; 2],
}

/// First two bytes of most IPv6 extension headers (RFC 8200, section 4.3; AH: RFC 4302).
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Extension {
    /// Type of what follows.
    pub next: u8,
    /// Length; its unit depends on the header.
    pub len: u8,
}

/// IPv6 fragment header (RFC 8200, section 4.5).
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Ipv6Fragment {
    /// Type of what follows.
    pub next: u8,
    /// Reserved.
    pub reserved: u8,
    /// Offset (13 bits), reserved (2), more fragments (1).
    pub offset: U16,
    /// Identification.
    pub id: U32,
}

/// TCP up to its flags (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Tcp {
    /// Source port.
    pub src: U16,
    /// Destination port.
    pub dst: U16,
    /// Sequence number.
    pub sequence: U32,
    /// Acknowledgement number.
    pub acknowledgement: U32,
    /// Header length in words of 4 bytes, in the upper half.
    pub offset: u8,
    /// CWR ECE URG ACK PSH RST SYN FIN.
    pub flags: u8,
}

/// Ports, at the same place in TCP, UDP, UDP-Lite, SCTP and DCCP.
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Ports {
    /// Source port.
    pub src: U16,
    /// Destination port.
    pub dst: U16,
}

/// GRE (RFC 2784), with the flags of RFC 2890.
#[derive(Clone, Copy, Debug, FromBytes, Unaligned)]
#[repr(C)]
pub struct Gre {
    /// Checksum, key and sequence bits, version.
    pub flags: U16,
    /// Type of what follows.
    pub ethertype: U16,
}
