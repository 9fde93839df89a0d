//! What goes over an NFLOG socket, as bytes (`linux/netfilter/nfnetlink_log.h`, netlink(7)).
//!
//! One read brings many messages, and a message its attributes in any order. Of a packet only the
//! beginning comes, so its length is what its IP header says.
//!
//! **Invariant**: pure. Whatever the bytes say, nothing outside of them is read and the walk ends.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::capture::{Frame, Starts, Way};
use crate::kernel::{attributes, put_attribute};

/// One message.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// A packet that a rule logged.
    Packet(Logged<'a>),
    /// The answer to the request of this number: 0, or the system's error number.
    Answer(u32, i32),
    /// What cannot be read.
    Unreadable,
}

/// A packet that a rule logged.
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a> {
    /// Its beginning.
    pub frame: Frame<'a>,
    /// Which way it went past the devices that are named; a forwarded one has both.
    pub way: Option<Way>,
    /// What the rule says of it, without the zero at the end.
    pub prefix: &'a [u8],
    /// Its number among those of the group.
    pub number: Option<u32>,
}

/// What a group is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// The group.
    pub group: u16,
    /// Bytes of each packet.
    pub copy_bytes: u32,
    /// Packets that are gathered into one message at most.
    pub threshold: u32,
}

/// Hands over the messages of one read, in their order.
pub fn walk<'a>(received: &'a [u8], mut each: impl FnMut(Message<'a>)) {
    let mut rest = received;
    while !rest.is_empty() {
        let Ok((header, _)) = Header::read_from_prefix(rest) else {
            each(Message::Unreadable);
            return;
        };
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let Some(body) = rest.get(size_of::<Header>()..length) else {
            each(Message::Unreadable);
            return;
        };
        match header.kind {
            PACKET => each(packet(body).map_or(Message::Unreadable, Message::Packet)),
            ERROR => match i32::read_from_prefix(body) {
                Ok((error, _)) => each(Message::Answer(header.sequence, error.wrapping_neg())),
                Err(_short) => each(Message::Unreadable),
            },
            // The end of several messages, and what netlink may say besides.
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
}

fn packet(body: &[u8]) -> Option<Logged<'_>> {
    let [family, ..] = *body else { return None };
    let mut kind = PacketHeader { protocol: 0.into(), hook: u8::MAX, _padding: 0 };
    let (mut inwards, mut outwards) = (false, false);
    let (mut payload, mut prefix, mut number) = (None, [].as_slice(), None);
    for found in attributes(body.get(FAMILY_BYTES..)?) {
        // Of a packet that is cut it is not known what lacks.
        let (of, value) = found.ok()?;
        match of {
            attribute::HEADER => kind = read(value)?,
            attribute::INWARDS => inwards = read::<U32>(value)?.get() != 0,
            attribute::OUTWARDS => outwards = read::<U32>(value)?.get() != 0,
            attribute::PAYLOAD => payload = Some(value),
            attribute::PREFIX => prefix = value.strip_suffix(&[0]).unwrap_or(value),
            attribute::NUMBER => number = Some(read::<U32>(value)?.get()),
            _ => {}
        }
    }
    let bytes = payload?;
    let starts = match kind.protocol.get() {
        // Frames on their way out of a device still begin with their link header.
        _ if family == NETDEV && kind.hook == EGRESS => Starts::Ethernet,
        0 => Starts::Ip,
        ethertype => Starts::Typed(ethertype),
    };
    let way = match (inwards, outwards) {
        (true, false) => Some(Way::Arrives),
        (false, true) => Some(Way::Leaves),
        _ => None,
    };
    let frame = Frame { bytes, starts, wire_bytes: wire_bytes(bytes, starts), piece: 0 };
    Some(Logged { frame, way, prefix, number })
}

/// How long the packet was, by its own IP header; what has none that can be read is as long as what
/// came of it.
fn wire_bytes(bytes: &[u8], starts: Starts) -> Option<u32> {
    let here = u32::try_from(bytes.len()).ok()?;
    let mut at = 0;
    if starts == Starts::Ethernet {
        at = 12;
        // Three tags are looked through, and none else that an IP header could stand behind.
        for _ in 0..3 {
            match read::<U16>(bytes.get(at..)?).map(U16::get) {
                Some(0x8100 | 0x88a8) => at += 4,
                _ => break,
            }
        }
        at += 2;
    }
    let header = bytes.get(at..).unwrap_or_default();
    let said: u32 = match header.first().map(|first| first >> 4) {
        Some(4) => header.get(2..).and_then(read::<U16>).map_or(0, |length| length.get().into()),
        Some(6) => {
            let payload = header.get(4..).and_then(read::<U16>).map_or(0, U16::get);
            if payload == 0 { 0 } else { u32::from(payload) + 40 }
        }
        _ => 0,
    };
    if said == 0 { Some(here) } else { Some((said + u32::try_from(at).ok()?).max(here)) }
}

impl Request {
    /// The one message that binds the group to the socket and says what is wanted of it. It asks for
    /// an answer.
    pub fn bytes(self, sequence: u32) -> Vec<u8> {
        let mut attributes = Vec::new();
        let mut put = |kind: u16, value: &[u8]| put_attribute(&mut attributes, kind, value);
        put(config::COMMAND, &[BIND]);
        let [first, second, third, fourth] = self.copy_bytes.to_be_bytes();
        put(config::MODE, &[first, second, third, fourth, COPY_PACKET, 0]);
        put(config::BUFFER, &MESSAGE_BYTES.to_be_bytes());
        put(config::TIMEOUT, &HUNDREDTHS.to_be_bytes());
        put(config::THRESHOLD, &self.threshold.to_be_bytes());
        put(config::FLAGS, &NUMBERED.to_be_bytes());

        let length = size_of::<Header>() + FAMILY_BYTES + attributes.len();
        let mut message = u32::try_from(length).unwrap_or_default().to_ne_bytes().to_vec();
        message.extend(CONFIG.to_ne_bytes());
        message.extend((REQUEST | ACKNOWLEDGE).to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        let [high, low] = self.group.to_be_bytes();
        message.extend([0, 0, high, low]);
        message.extend(attributes);
        message
    }
}

fn read<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}

/// `struct nlmsghdr`.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    length: u32,
    kind: u16,
    _flags: u16,
    sequence: u32,
    _port: u32,
}

/// `struct nfulnl_msg_packet_hdr`.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PacketHeader {
    protocol: U16,
    hook: u8,
    _padding: u8,
}

/// Attributes of a packet (`enum nfulnl_attr_type`).
mod attribute {
    pub(super) const HEADER: u16 = 1;
    pub(super) const INWARDS: u16 = 4;
    pub(super) const OUTWARDS: u16 = 5;
    pub(super) const PAYLOAD: u16 = 9;
    pub(super) const PREFIX: u16 = 10;
    pub(super) const NUMBER: u16 = 12;
}

/// Attributes of a request (`enum nfulnl_attr_config`).
mod config {
    pub(super) const COMMAND: u16 = 1;
    pub(super) const MODE: u16 = 2;
    pub(super) const BUFFER: u16 = 3;
    pub(super) const TIMEOUT: u16 = 4;
    pub(super) const THRESHOLD: u16 = 5;
    pub(super) const FLAGS: u16 = 6;
}

/// Netlink aligns everything so.
const ALIGNMENT: usize = 4;
/// `struct nfgenmsg`.
const FAMILY_BYTES: usize = 4;
/// The subsystem of NFLOG, and its two messages.
const SUBSYSTEM: u16 = 4 << 8;
const PACKET: u16 = SUBSYSTEM;
const CONFIG: u16 = SUBSYSTEM | 1;
/// `NLMSG_ERROR`, `NLM_F_REQUEST`, `NLM_F_ACK`.
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
/// `NFPROTO_NETDEV` and its hook for what leaves.
const NETDEV: u8 = 5;
const EGRESS: u8 = 1;
/// `NFULNL_CFG_CMD_BIND`, `NFULNL_COPY_PACKET`, `NFULNL_CFG_F_SEQ`.
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const NUMBERED: u16 = 1;
/// Messages are as large as the kernel lets them be, and wait for a hundredth of a second at most.
const MESSAGE_BYTES: u32 = 128 * 1024;
const HUNDREDTHS: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_attribute(&mut bytes, kind, value);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    fn logged(family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        message(PACKET, &[vec![family, 0, 0, 1], attributes.concat()].concat())
    }

    /// The beginning of an IPv4 packet of 1400 bytes.
    fn payload() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 5, 0x78];
        packet.resize(32, 7);
        packet
    }

    fn attributes() -> Vec<Vec<u8>> {
        vec![
            attribute(attribute::HEADER, &[8, 0, 0, 0]),
            attribute(attribute::INWARDS, &3_u32.to_be_bytes()),
            attribute(attribute::PAYLOAD, &payload()),
            attribute(attribute::PREFIX, b"fnm-in\0"),
            attribute(attribute::NUMBER, &9_u32.to_be_bytes()),
            attribute(99, &[1, 2, 3]),
        ]
    }

    #[track_caller]
    fn packets(bytes: &[u8], expected: usize) -> Vec<Logged<'_>> {
        let mut packets = Vec::new();
        walk(bytes, |message| {
            if let Message::Packet(packet) = message {
                packets.push(packet);
            }
        });
        assert_eq!(packets.len(), expected);
        packets
    }

    #[test]
    fn attributes_are_read_in_any_order() {
        let mut attributes = attributes();
        for turn in 0..attributes.len() {
            let bytes = logged(2, &attributes);
            let [packet] = packets(&bytes, 1)[..] else { panic!("{turn}") };
            assert_eq!(packet.frame.bytes, payload());
            assert_eq!(packet.frame.starts, Starts::Typed(0x0800));
            assert_eq!(packet.frame.wire_bytes, Some(1400));
            assert_eq!((packet.way, packet.number), (Some(Way::Arrives), Some(9)));
            assert_eq!(packet.prefix, b"fnm-in");
            attributes.rotate_left(1);
        }
    }

    #[test]
    fn many_messages_come_in_one_read() {
        let one = logged(2, &attributes());
        let done = message(3, &[0; 4]);
        let bytes = [one.clone(), one.clone(), one, done].concat();
        packets(&bytes, 3);
    }

    #[test]
    fn devices_tell_the_way_and_a_forwarded_packet_has_none_of_its_own() {
        let inwards = attribute(attribute::INWARDS, &1_u32.to_be_bytes());
        let outwards = attribute(attribute::OUTWARDS, &2_u32.to_be_bytes());
        let payload = attribute(attribute::PAYLOAD, &payload());
        for (attributes, way) in [
            (vec![inwards.clone(), payload.clone()], Some(Way::Arrives)),
            (vec![payload.clone(), outwards.clone()], Some(Way::Leaves)),
            (vec![inwards, payload.clone(), outwards], None),
            (vec![payload], None),
        ] {
            let bytes = logged(2, &attributes);
            let [packet] = packets(&bytes, 1)[..] else { panic!() };
            assert_eq!((packet.way, packet.frame.starts), (way, Starts::Ip));
        }
    }

    #[test]
    fn the_length_is_the_ip_headers_wherever_it_stands() {
        let v6 = [&[0x60, 0, 0, 0, 4, 0][..], &[7; 40]].concat();
        let jumbo = [&[0x60, 0, 0, 0, 0, 0][..], &[7; 40]].concat();
        let tagged = [&[2; 12][..], &[0x81, 0, 0, 7, 8, 0], &payload()].concat();
        let leaves = [8, 0, EGRESS, 0];
        for (family, kind, bytes, expected) in [
            (2, [8, 0, 0, 0], payload(), 1400),
            (10, [0x86, 0xdd, 0, 0], v6, 1024 + 40),
            (10, [0x86, 0xdd, 0, 0], jumbo, 46),
            (NETDEV, leaves, tagged, 18 + 1400),
            (NETDEV, leaves, vec![2; 13], 13),
            (2, [8, 0, 0, 0], vec![0x45, 0, 5], 3),
            (2, [8, 0, 0, 0], vec![], 0),
        ] {
            let attributes =
                [attribute(attribute::HEADER, &kind), attribute(attribute::PAYLOAD, &bytes)];
            let message = logged(family, &attributes);
            let [packet] = packets(&message, 1)[..] else { panic!() };
            assert_eq!(packet.frame.wire_bytes, Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn a_request_says_all_in_one_message_and_its_answer_is_found() {
        let bytes = Request { group: 300, copy_bytes: 128, threshold: 64 }.bytes(5);
        assert_eq!(
            bytes.len(),
            usize::try_from(u32::from_ne_bytes(bytes[..4].try_into().unwrap())).unwrap()
        );
        assert_eq!(bytes[16..20], [0, 0, 1, 44]);
        let refused = message(ERROR, &[(-16_i32).to_ne_bytes().to_vec(), bytes].concat());
        let mut answers = Vec::new();
        walk(&refused, |message| {
            if let Message::Answer(sequence, errno) = message {
                answers.push((sequence, errno));
            }
        });
        assert_eq!(answers, [(7, 16)]);
    }

    #[test]
    fn what_is_cut_or_false_is_told_and_leads_nowhere() {
        let good = [logged(2, &attributes()), logged(2, &attributes())].concat();
        for at in 0..good.len() {
            walk(&good[..at], |_| {});
            for value in [0, 1, 3, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let mut told = 0;
                walk(&bad, |_| told += 1);
                assert!(told <= 2 + bad.len() / 16);
            }
        }
        // A message that is whole, with an attribute that is not.
        let cut = [attributes().concat(), vec![9, 0, 10, 0, 7, 7]].concat();
        packets(&logged(2, &[cut]), 0);
        let mut unreadable = 0;
        let mut short = good.clone();
        short[..4].copy_from_slice(&3_u32.to_ne_bytes());
        for bytes in [&good[..good.len() - 1], &[1, 2, 3], &short] {
            walk(bytes, |message| unreadable += u32::from(matches!(message, Message::Unreadable)));
        }
        assert_eq!(unreadable, 3);
    }
}
