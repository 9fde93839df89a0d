//! An independent decoder reads mutated frames the same way.
//!
//! etherparse is asked for addresses, lengths, fragments and transport headers. It knows neither
//! MPLS nor `PPPoE`, which a few lines here step over for it, and it is stricter than a counter may
//! be. Where it refuses, [`Excuse`] says why, what may differ, and nothing else may.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, Ipv4HeaderSlice, Ipv6ExtensionSlice, Ipv6ExtensionsSlice, LaxLinkExtSlice,
    LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice, ether_type, ip_number,
};
use fastnetmon_common::class::{Class, Unparsed};
use fastnetmon_common::parse::{Ends, Packet, parse_ethernet};

use crate::frames::{ACK, Frame, SYN, halves};
use crate::random::Random;

const FRAMES: usize = 200_000;

/// Why etherparse has no opinion of a packet's class. Addresses and length are compared all the
/// same.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Excuse {
    /// It reads a TCP header whole, options included, within the IP packet, or not at all; the
    /// parser reads as far as the flags. TCP it is for both.
    TcpNotWhole,
    /// It stops at hop-by-hop options that are not the first header (RFC 8200, section 4.1); the
    /// parser steps over them, as a router would that does not look.
    HopByHopLate,
    /// It stops at an extension header that is not whole within the IP packet, or an AH of length
    /// 0; the parser needs the first two bytes, within the frame.
    ExtensionNotWhole,
}

impl Excuse {
    const ALL: [Self; 3] = [Self::TcpNotWhole, Self::HopByHopLate, Self::ExtensionNotWhole];

    const fn allows(self, class: Class) -> bool {
        match self {
            Self::TcpNotWhole => matches!(class, Class::Tcp | Class::Syn),
            Self::HopByHopLate | Self::ExtensionNotWhole => true,
        }
    }
}

/// What etherparse makes of a frame.
#[derive(Debug)]
enum Theirs {
    Refused(Unparsed),
    Read { ends: Ends, bytes: usize, class: Result<Class, Excuse>, transport_at: Option<usize> },
}

fn theirs(frame: &[u8]) -> Theirs {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return Theirs::Refused(Unparsed::Short);
    };
    let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { unreachable!() };
    let mut ethertype = ethernet.ether_type();
    let mut rest = ethernet.payload_slice();
    let mut tags = 0;
    for extension in &packet.link_exts {
        // It also knows 0x9100 and MACsec, which are not IP here.
        let (ether_type::VLAN_TAGGED_FRAME | ether_type::PROVIDER_BRIDGING) = ethertype else {
            break;
        };
        let LaxLinkExtSlice::Vlan(tag) = extension else { unreachable!() };
        (ethertype, rest, tags) = (tag.ether_type(), tag.payload_slice(), tags + 1);
    }
    match ethertype {
        ether_type::IPV4 => ip(frame, rest, 4),
        ether_type::IPV6 => ip(frame, rest, 6),
        ether_type::ARP => Theirs::Refused(Unparsed::Arp),
        ether_type::VLAN_TAGGED_FRAME | ether_type::PROVIDER_BRIDGING if tags == 3 => {
            Theirs::Refused(Unparsed::Nested)
        }
        ether_type::VLAN_TAGGED_FRAME | ether_type::PROVIDER_BRIDGING => {
            Theirs::Refused(Unparsed::Short)
        }
        EtherType(0x8847 | 0x8848) => behind_labels(frame, rest),
        EtherType(0x8864) => match rest {
            [_, _, _, _, _, _, 0x00, 0x21, rest @ ..] => ip(frame, rest, 4),
            [_, _, _, _, _, _, 0x00, 0x57, rest @ ..] => ip(frame, rest, 6),
            [_, _, _, _, _, _, _, _, ..] => Theirs::Refused(Unparsed::NotIp),
            _ => Theirs::Refused(Unparsed::Short),
        },
        _ => Theirs::Refused(Unparsed::NotIp),
    }
}

fn behind_labels(frame: &[u8], labels: &[u8]) -> Theirs {
    for (number, label) in labels.chunks(4).enumerate() {
        match *label {
            _ if number == 4 => return Theirs::Refused(Unparsed::Nested),
            [_, _, bottom, _] if bottom & 1 == 1 => {
                let rest = &labels[4 * number + 4..];
                return match rest.first().map(|first| first >> 4) {
                    Some(version @ (4 | 6)) => ip(frame, rest, version),
                    Some(_) => Theirs::Refused(Unparsed::NotIp),
                    None => Theirs::Refused(Unparsed::Short),
                };
            }
            [_, _, _, _] => {}
            _ => return Theirs::Refused(Unparsed::Short),
        }
    }
    Theirs::Refused(if labels.len() == 16 { Unparsed::Nested } else { Unparsed::Short })
}

fn ip(frame: &[u8], rest: &[u8], version: u8) -> Theirs {
    let fixed = if version == 4 { 20 } else { 40 };
    if rest.len() < fixed {
        return Theirs::Refused(Unparsed::Short);
    }
    if rest[0] >> 4 != version {
        return Theirs::Refused(Unparsed::Version);
    }
    let Ok(packet) = LaxSlicedPacket::from_ip(rest) else {
        return misfit(rest);
    };
    let at = |part: &[u8]| part.as_ptr().addr() - frame.as_ptr().addr();
    let transport_at = packet.transport.as_ref().and_then(|transport| match transport {
        TransportSlice::Udp(udp) => Some(at(udp.slice())),
        TransportSlice::Tcp(tcp) => Some(at(tcp.slice())),
        _ => None,
    });
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ipv4)) => {
            let header = ipv4.header();
            let class = if header.is_fragmenting_payload() {
                Ok(Class::Fragment)
            } else if header.protocol() == ip_number::AUTH {
                // It looks behind AH here; the parser does so for IPv6 alone.
                return read4(rest, header, Ok(Class::Other), None);
            } else {
                by_transport(&packet, header.protocol().0)
            };
            read4(rest, header, class, transport_at)
        }
        Some(LaxNetSlice::Ipv6(ipv6)) => {
            let header = ipv6.header();
            let number = ipv6.payload().ip_number.0;
            let (class, transport_at) = match by_extensions(ipv6.extensions(), number) {
                Some(class) => (class, None),
                None => (by_transport(&packet, number), transport_at),
            };
            let said = match usize::from(header.payload_length()) {
                0 => 0,
                payload => payload + 40,
            };
            Theirs::Read {
                ends: ends6(header.source_addr(), header.destination_addr()),
                bytes: length(said, rest),
                class,
                transport_at,
            }
        }
        _ => unreachable!("the version is 4 or 6"),
    }
}

/// An IPv4 header with a length that cannot be. It is read again as if it had no options; then the
/// protocol alone decides.
fn misfit(rest: &[u8]) -> Theirs {
    assert!(usize::from(rest[0] & 0x0f) < 5 || usize::from(rest[0] & 0x0f) * 4 > rest.len());
    let mut header = [0; 20];
    header.copy_from_slice(&rest[..20]);
    header[0] = 0x45;
    let header = Ipv4HeaderSlice::from_slice(&header).unwrap();
    let class = if header.is_fragmenting_payload() {
        Class::Fragment
    } else {
        by_protocol(header.protocol().0)
    };
    read4(rest, header, Ok(class), None)
}

fn read4(
    rest: &[u8],
    header: Ipv4HeaderSlice<'_>,
    class: Result<Class, Excuse>,
    transport_at: Option<usize>,
) -> Theirs {
    Theirs::Read {
        ends: ends4(header.source_addr(), header.destination_addr()),
        bytes: length(header.total_len().into(), rest),
        class,
        transport_at,
    }
}

/// What the first four extension headers decide, if they do. `number` stands behind those that
/// etherparse could read.
fn by_extensions(
    extensions: &Ipv6ExtensionsSlice<'_>,
    number: u8,
) -> Option<Result<Class, Excuse>> {
    let mut unseen = extensions.slice().len();
    let mut headers = extensions.clone().into_iter();
    let mut seen = 0;
    // Its iterator goes on where a header could not be read: its bytes are counted here.
    while unseen > 0 && seen < 4 {
        unseen -= match headers.next().unwrap() {
            Ipv6ExtensionSlice::HopByHop(header)
            | Ipv6ExtensionSlice::Routing(header)
            | Ipv6ExtensionSlice::DestinationOptions(header) => header.slice().len(),
            Ipv6ExtensionSlice::Fragment(header) => {
                if header.is_fragmenting_payload() {
                    return Some(Ok(Class::Fragment));
                }
                header.slice().len()
            }
            Ipv6ExtensionSlice::Authentication(header) => header.slice().len(),
        };
        seen += 1;
    }
    let stuck = matches!(number, 0 | 43 | 44 | 51 | 60);
    match (seen, number) {
        (4, _) if unseen > 0 || stuck => Some(Ok(Class::Other)),
        (1.., 0) => Some(Err(Excuse::HopByHopLate)),
        _ if stuck => Some(Err(Excuse::ExtensionNotWhole)),
        _ => None,
    }
}

fn by_transport(packet: &LaxSlicedPacket<'_>, number: u8) -> Result<Class, Excuse> {
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) if tcp.syn() && !tcp.ack() => Ok(Class::Syn),
        Some(TransportSlice::Tcp(_)) => Ok(Class::Tcp),
        Some(TransportSlice::Udp(_)) => Ok(Class::Udp),
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => Ok(Class::Icmp),
        _ if number == 6 => Err(Excuse::TcpNotWhole),
        _ => Ok(by_protocol(number)),
    }
}

const fn by_protocol(number: u8) -> Class {
    match number {
        6 => Class::Tcp,
        17 => Class::Udp,
        1 | 58 => Class::Icmp,
        _ => Class::Other,
    }
}

const fn length(said: usize, rest: &[u8]) -> usize {
    if said == 0 || said > rest.len() { rest.len() } else { said }
}

fn ends4(src: Ipv4Addr, dst: Ipv4Addr) -> Ends {
    Ends::v4(src.into(), dst.into())
}

fn ends6(src: Ipv6Addr, dst: Ipv6Addr) -> Ends {
    Ends::v6(halves(src), halves(dst))
}

// ── the frames ──

fn any_frame(random: &mut Random) -> Frame {
    let mut frame = Frame::ethernet();
    for _ in 0..random.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4]) {
        frame = if random.percent(70) { frame.vlan() } else { frame.service_vlan() };
    }
    frame = match random.below(40) {
        0 => return frame.arp().padding(18),
        1 => return frame.of_type(random.pick(&[0x88cc, 0x9100, 0x88e5, 0x8863])).payload(46),
        2..=5 => frame.mpls(random.pick(&[1, 1, 1, 2, 2, 3, 4, 4, 5])),
        6..=9 => frame.pppoe(),
        _ => frame,
    };
    frame = packet(random, frame);
    // A tunnel, with GRE and without.
    frame = match random.below(12) {
        0 => packet(random, frame.gre()),
        1 => packet(random, frame),
        _ => frame,
    };
    frame = match random.below(16) {
        0..=2 => frame.tcp(SYN),
        3 => frame.tcp_with_options(SYN, random.byte() % 11),
        4..=5 => frame.tcp(ACK),
        6 => frame.tcp_with_options(random.byte(), random.byte() % 11),
        7..=10 => frame.udp(),
        11..=12 => frame.icmp(),
        13 => frame.icmpv6(),
        _ => frame.protocol(random.byte()),
    };
    let payload = random.below(60);
    frame.payload(payload).padding(random.pick(&[0, 0, 0, 6, 18, 40]))
}

/// An IP header, with all that may stand in and right behind it.
fn packet(random: &mut Random, frame: Frame) -> Frame {
    if random.percent(50) {
        let mut address = || Ipv4Addr::from([0; 4].map(|_: u8| random.byte()));
        let mut frame = frame.ipv4(address(), address());
        if random.percent(20) {
            frame = frame.options(random.byte() % 11);
        }
        match random.below(20) {
            0 => frame.fragment(0, true),
            1 => frame.fragment(u16::from(random.byte()), random.percent(50)),
            2 => frame.dont_fragment(),
            3 => frame.length(u16::from(random.byte())),
            4 => frame.header_words(random.byte() % 16),
            _ => frame,
        }
    } else {
        let mut address =
            || Ipv6Addr::from((u128::from(random.word()) << 64) | u128::from(random.word()));
        let mut frame = frame.ipv6(address(), address());
        if random.percent(5) {
            frame = frame.length(u16::from(random.byte()));
        }
        for _ in 0..random.pick(&[0, 0, 0, 0, 1, 1, 2, 3, 4, 5]) {
            let length = random.pick(&[0, 0, 1, 2]);
            frame = match random.below(8) {
                0 => frame.hop_by_hop(length),
                1 | 2 => frame.routing(length),
                3 | 4 => frame.destination(length),
                5 => frame.authentication(length + 1),
                6 => frame.fragment_header(0, false),
                _ => frame.fragment_header(u16::from(random.byte()), random.percent(50)),
            };
        }
        frame
    }
}

/// Changes some bytes behind the MAC addresses, most of them among headers, and sometimes the end.
fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    if random.percent(35) {
        return;
    }
    for _ in 0..=random.below(3) {
        let end = if random.percent(80) { frame.len().min(80) } else { frame.len() };
        let at = 12 + random.below(end - 12);
        frame[at] = match random.below(4) {
            0 => frame[at] ^ (1 << random.below(8)),
            1 => random.pick(&[0, 6, 17, 0x45, 0x60, 0xff]),
            _ => random.byte(),
        };
    }
    if random.percent(15) {
        frame.truncate(random.below(frame.len() + 1));
    } else if random.percent(5) {
        frame.extend((0..random.below(64)).map(|_| random.byte()));
    }
}

/// What was compared, and how often.
#[derive(Debug, Default)]
struct Tally {
    classes: BTreeMap<Class, usize>,
    reasons: BTreeMap<&'static str, usize>,
    excuses: BTreeMap<Excuse, usize>,
    transports: usize,
}

impl Tally {
    fn compare(&mut self, frame: &[u8]) {
        let ours = parse_ethernet(frame);
        let theirs = theirs(frame);
        let agreed = match (&ours, &theirs) {
            (Err(ours), Theirs::Refused(theirs)) => {
                *self.reasons.entry(theirs.name()).or_default() += 1;
                ours == theirs
            }
            (Ok(ours), Theirs::Read { ends, bytes, class, transport_at }) => {
                let Packet { ends: our_ends, bytes: our_bytes, .. } = *ours;
                let same_class = match class {
                    Ok(class) => {
                        *self.classes.entry(*class).or_default() += 1;
                        ours.class == *class
                    }
                    Err(excuse) => {
                        *self.excuses.entry(*excuse).or_default() += 1;
                        excuse.allows(ours.class)
                    }
                };
                self.transports += usize::from(transport_at.is_some());
                our_ends == *ends
                    && usize::try_from(our_bytes) == Ok(*bytes)
                    && same_class
                    && transport_at.is_none_or(|at| usize::try_from(ours.transport_at) == Ok(at))
            }
            _ => false,
        };
        assert!(agreed, "ours: {ours:?}\ntheirs: {theirs:?}\nframe: {frame:02x?}");
    }
}

#[test]
fn mutated_frames_are_read_as_an_independent_decoder_reads_them() {
    let mut random = Random::new(0x0dd_f00d);
    let mut tally = Tally::default();
    for _ in 0..FRAMES {
        let mut frame = any_frame(&mut random).bytes().to_vec();
        mutate(&mut random, &mut frame);
        tally.compare(&frame);
    }
    // Nothing above was about nothing: every class, every reason and every excuse was met, nearly
    // all frames were compared in full, and transport headers were found where they are.
    for class in Class::ALL {
        assert!(tally.classes.get(&class) > Some(&(FRAMES / 50)), "{class:?}: {tally:?}");
    }
    for why in Unparsed::ALL {
        assert!(tally.reasons.get(why.name()) > Some(&(FRAMES / 200)), "{why:?}: {tally:?}");
    }
    for excuse in Excuse::ALL {
        assert!(tally.excuses.contains_key(&excuse), "{excuse:?}: {tally:?}");
    }
    let packets: usize = tally.classes.values().sum();
    let refused: usize = tally.reasons.values().sum();
    assert!(packets > FRAMES * 70 / 100, "{tally:?}");
    assert!(packets + refused > FRAMES * 90 / 100, "{tally:?}");
    assert!(tally.transports > FRAMES * 25 / 100, "{tally:?}");
}

#[test]
fn bytes_without_any_order_never_break_the_parser() {
    let mut random = Random::new(0x0dd_beef);
    for length in 0..20_000 {
        let frame: Vec<u8> = (0..length % 200).map(|_| random.byte()).collect();
        if let Ok(packet) = parse_ethernet(frame.as_slice()) {
            assert!(usize::try_from(packet.bytes).unwrap() <= frame.len());
        }
    }
}
