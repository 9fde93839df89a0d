//! Link types: what a frame of libpcap or of a capture file begins with. The one place that knows.
//!
//! The numbers are those of <https://www.tcpdump.org/linktypes.html>. Where a link header names the
//! type of what follows, the parser goes on from there, so that tags and labels are looked through
//! behind every link header alike.
//!
//! **Invariant**: pure. What cannot be read is counted as `Short` or `NotIp`, never dropped; a link
//! type that is not known is refused by number and name.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::capture::{Frame, Starts};
use crate::model::Sides;

/// A kind of link header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Link {
    /// Ethernet (1).
    Ethernet,
    /// None: the IP header comes first (101, 228, 229; in live captures 12, on OpenBSD 14).
    Ip,
    /// Linux' cooked header, of the device `any` (113).
    Cooked,
    /// The same, with the number of the interface (276).
    CookedV2,
    /// BSD's loopback: the family, in the byte order of who captured (0) or of the network (108).
    Loopback,
}

/// A frame behind its link header.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// What is left.
    pub frame: Frame<'a>,
    /// Which way it went, where the header says so.
    pub way: Option<Way>,
}

/// Which way a frame went past the port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// It came from the link.
    Arrives,
    /// It went to the link.
    Leaves,
}

impl Way {
    /// The end that is counted at a port towards the world.
    pub const fn sides(self) -> Sides {
        match self {
            Self::Arrives => Sides::Destination,
            Self::Leaves => Sides::Source,
        }
    }
}

impl Link {
    /// By its number.
    ///
    /// # Errors
    /// With the link types that are read.
    pub fn numbered(number: u32, name: &str) -> Result<Self, LinkError> {
        Ok(match number {
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::Ip,
            113 => Self::Cooked,
            276 => Self::CookedV2,
            0 | 108 => Self::Loopback,
            _ => return Err(LinkError { number, name: name.to_owned() }),
        })
    }

    /// Takes the link header off. `wire_bytes` is the length on the wire, link header included.
    pub fn open(self, bytes: &[u8], wire_bytes: u32) -> Opened<'_> {
        match self {
            Self::Ethernet => whole(bytes, Starts::Ethernet, wire_bytes),
            Self::Ip => whole(bytes, Starts::Ip, wire_bytes),
            Self::Cooked => match read::<CookedHeader>(bytes) {
                Some((header, rest)) => {
                    let way = Some(way(header.packet_type.get()));
                    behind(rest, header.protocol.get(), wire_bytes, size_of::<CookedHeader>(), way)
                }
                None => cut(bytes, wire_bytes),
            },
            Self::CookedV2 => match read::<CookedV2Header>(bytes) {
                Some((header, rest)) => {
                    let way = Some(way(header.packet_type.into()));
                    behind(
                        rest,
                        header.protocol.get(),
                        wire_bytes,
                        size_of::<CookedV2Header>(),
                        way,
                    )
                }
                None => cut(bytes, wire_bytes),
            },
            Self::Loopback => match read::<U32>(bytes) {
                Some((family, rest)) => {
                    behind(rest, ethertype_of(family.get()), wire_bytes, size_of::<U32>(), None)
                }
                None => cut(bytes, wire_bytes),
            },
        }
    }
}

/// A link type nobody here reads.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "its link type is {number} ({name}), which is not read here; these are: Ethernet (1), raw IP \
     (12, 14, 101, 228, 229), Linux cooked (113, 276), BSD loopback (0, 108)"
)]
pub struct LinkError {
    /// Its number.
    pub number: u32,
    /// What it is called.
    pub name: String,
}

/// `LINKTYPE_LINUX_SLL`.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CookedHeader {
    packet_type: U16,
    _hardware: U16,
    _address_len: U16,
    _address: [u8; 8],
    protocol: U16,
}

/// `LINKTYPE_LINUX_SLL2`.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CookedV2Header {
    protocol: U16,
    _reserved: U16,
    _interface: U32,
    _hardware: U16,
    packet_type: u8,
    _address_len: u8,
    _address: [u8; 8],
}

fn read<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(bytes).ok()
}

const fn whole(bytes: &[u8], starts: Starts, wire_bytes: u32) -> Opened<'_> {
    let frame = Frame { bytes, starts, wire_bytes: Some(wire_bytes), piece: 0 };
    Opened { frame, way: None }
}

fn behind(
    bytes: &[u8],
    ethertype: u16,
    wire_bytes: u32,
    header: usize,
    way: Option<Way>,
) -> Opened<'_> {
    let header = u32::try_from(header).unwrap_or_default();
    let wire_bytes = Some(wire_bytes.saturating_sub(header));
    let frame = Frame { bytes, starts: Starts::Typed(ethertype), wire_bytes, piece: 0 };
    Opened { frame, way }
}

/// The link header is not whole: nothing of it is shown, so that it counts as too short.
const fn cut(_: &[u8], wire_bytes: u32) -> Opened<'_> {
    whole(&[], Starts::Ethernet, wire_bytes)
}

/// The packet types of both cooked headers: 4 leaves, all others arrive (`linux/if_packet.h`).
const fn way(packet_type: u16) -> Way {
    if packet_type == 4 { Way::Leaves } else { Way::Arrives }
}

/// The families of the systems that write such headers: 2 is IPv4 everywhere; IPv6 is 10 on Linux, 24
/// on NetBSD and OpenBSD, 28 on FreeBSD, 30 on Darwin. No family is as large as the other byte order
/// makes of it.
const fn ethertype_of(family: u32) -> u16 {
    let family = if family > 0xffff { family.swap_bytes() } else { family };
    match family {
        2 => 0x0800,
        10 | 24 | 28 | 30 => 0x86dd,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(link: u32, bytes: &[u8], starts: Starts, left: usize, way: Option<Way>) {
        let opened = Link::numbered(link, "").unwrap().open(bytes, 1000);
        assert_eq!(opened.frame.starts, starts);
        assert_eq!(opened.frame.bytes.len(), left);
        let header = u32::try_from(bytes.len() - left).unwrap();
        assert_eq!(opened.frame.wire_bytes, Some(1000 - if left == 0 { 0 } else { header }));
        assert_eq!(opened.way, way);
    }

    fn cooked(kind: u8, ethertype: [u8; 2]) -> Vec<u8> {
        let mut bytes = vec![0, kind, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        bytes.extend(ethertype);
        bytes.extend([0x45; 20]);
        bytes
    }

    fn cooked2(kind: u8, ethertype: [u8; 2]) -> Vec<u8> {
        let mut bytes = ethertype.to_vec();
        bytes.extend([0, 0, 0, 0, 0, 3, 0, 1, kind, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
        bytes.extend([0x45; 20]);
        bytes
    }

    #[test]
    fn every_header_says_where_the_packet_begins_and_which_way_it_went() {
        let (v4, v6, vlan) = (Starts::Typed(0x0800), Starts::Typed(0x86dd), Starts::Typed(0x8100));
        let (arrives, leaves) = (Some(Way::Arrives), Some(Way::Leaves));
        check(1, &[7; 60], Starts::Ethernet, 60, None);
        for raw in [12, 14, 101, 228, 229] {
            check(raw, &[0x45; 20], Starts::Ip, 20, None);
        }
        for kind in 0..4 {
            check(113, &cooked(kind, [8, 0]), v4, 20, arrives);
            check(276, &cooked2(kind, [0x86, 0xdd]), v6, 20, arrives);
        }
        check(113, &cooked(4, [0x81, 0]), vlan, 20, leaves);
        check(276, &cooked2(4, [8, 0]), v4, 20, leaves);
        let loopback = |family: [u8; 4]| [family.as_slice(), &[0x45; 20]].concat();
        for link in [0, 108] {
            check(link, &loopback([2, 0, 0, 0]), v4, 20, None);
            check(link, &loopback([0, 0, 0, 2]), v4, 20, None);
            for family in [10, 24, 28, 30] {
                check(link, &loopback([family, 0, 0, 0]), v6, 20, None);
                check(link, &loopback([0, 0, 0, family]), v6, 20, None);
            }
            check(link, &loopback([0, 0, 0, 7]), Starts::Typed(0), 20, None);
        }
    }

    #[test]
    fn a_header_that_is_not_whole_leaves_nothing() {
        check(113, &cooked(0, [8, 0])[..15], Starts::Ethernet, 0, None);
        check(276, &cooked2(0, [8, 0])[..19], Starts::Ethernet, 0, None);
        check(0, &[2, 0, 0], Starts::Ethernet, 0, None);
    }

    #[test]
    fn other_link_types_are_refused_by_number_and_name() {
        let error = Link::numbered(105, "IEEE802_11").unwrap_err().to_string();
        assert!(error.starts_with("its link type is 105 (IEEE802_11), which is not read here"));
    }
}
