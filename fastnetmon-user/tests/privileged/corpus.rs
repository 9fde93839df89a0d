//! Frames by name: what every engine must count alike, and what it cannot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastnetmon_user::capture::Way;
use xtask::traffic::{Frame, tcp};

/// A frame, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    /// From its Ethernet header on.
    pub(crate) bytes: Vec<u8>,
}

/// Addresses of ours that have lines of their own.
pub(crate) fn host4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

pub(crate) fn host6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, number.into())
}

const WORLD4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 1);

/// Hosts of each family.
pub(crate) const HOSTS: u8 = 40;

/// Thousands of frames: all kinds, for every host, arriving and leaving.
pub(crate) fn corpus() -> Vec<Named> {
    let mut corpus = Vec::new();
    for way in [Way::Arrives, Way::Leaves] {
        for host in 1..=HOSTS {
            let families: [(IpAddr, IpAddr); 2] =
                [(host4(host).into(), WORLD4.into()), (host6(host).into(), WORLD6.into())];
            for (ours, world) in families {
                let (from, to) = match way {
                    Way::Arrives => (world, ours),
                    Way::Leaves => (ours, world),
                };
                for (name, frame) in readable(from, to, u16::from(host) * 16) {
                    let frame = match way {
                        Way::Arrives => frame,
                        Way::Leaves => frame.outwards(),
                    };
                    corpus.push(Named { name, way, bytes: frame.bytes() });
                }
                let good = Frame::udp(from, to, 1, 2).payload(72);
                let good = if way == Way::Leaves { good.outwards() } else { good };
                for (name, bytes) in odd(&good.bytes(), ours.is_ipv4()) {
                    corpus.push(Named { name, way, bytes });
                }
            }
        }
    }
    corpus
}

fn readable(from: IpAddr, to: IpAddr, payload: u16) -> Vec<(&'static str, Frame)> {
    let udp = || Frame::udp(from, to, 1000, 53).payload(payload);
    vec![
        ("udp", udp()),
        ("tcp", Frame::tcp(from, to, 1000, 80, tcp::ACK | tcp::PSH).payload(payload)),
        ("syn", Frame::tcp_syn(from, to, 1000, 80)),
        ("syn-ack", Frame::tcp(from, to, 80, 1000, tcp::SYN | tcp::ACK)),
        ("icmp", Frame::icmp(from, to).payload(payload)),
        ("sctp", Frame::protocol(from, to, 132).payload(payload + 12)),
        ("udp in a tag", udp().vlan(7)),
        ("udp in two tags", udp().vlan(7).vlan(8)),
        ("syn in three tags", Frame::tcp_syn(from, to, 1, 2).vlan(7).vlan(8).vlan(9)),
    ]
}

/// Made of a datagram that is good: 72 bytes of payload, without tags.
fn odd(good: &[u8], is_v4: bool) -> Vec<(&'static str, Vec<u8>)> {
    let (link, packet) = good.split_at(14);
    let typed = |kind: [u8; 2], rest: &[u8]| [&link[..12], &kind, rest].concat();
    let padded = [good, &[0; 30]].concat();
    let four = typed([0x81, 0], &[&[0, 1, 0x81, 0].repeat(3)[..], &[0, 1], &good[12..]].concat());
    let mut version = good.to_vec();
    version[14] = if is_v4 { 0x65 } else { 0x45 };
    let mut odd = vec![
        ("padded", padded),
        ("in four tags", four),
        ("another version", version),
        ("short", good[..20].to_vec()),
        ("arp", typed([8, 6], &[0; 28])),
        ("lldp", typed([0x88, 0xcc], &[0; 40])),
        ("mpls", typed([0x88, 0x47], &[&[0, 1, 0, 64, 0, 1, 1, 64][..], packet].concat())),
        (
            "pppoe",
            typed(
                [0x88, 0x64],
                &[&[0x11, 0, 0, 1, 0, 102, 0, if is_v4 { 0x21 } else { 0x57 }], packet].concat(),
            ),
        ),
    ];
    if is_v4 {
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = packet.to_vec();
            change(&mut packet);
            checksum(&mut packet);
            [link, &packet].concat()
        };
        odd.push(("first fragment", with(&|packet| packet[6] = 0x20)));
        odd.push(("later fragment", with(&|packet| packet[6..8].copy_from_slice(&[0, 9]))));
        odd.push((
            "options",
            with(&|packet| {
                packet[0] = 0x46;
                packet[3] += 4;
                packet.splice(20..20, [1, 1, 1, 0]);
            }),
        ));
        odd.push(("longer than it is", with(&|packet| packet[2] = 9)));
        let mut wrong = good.to_vec();
        wrong[24] ^= 0x55;
        odd.push(("wrong checksum", wrong));
    } else {
        let extended = |next: u8, header: &[u8; 8]| {
            let mut packet = packet.to_vec();
            packet[5] += 8;
            packet[6] = next;
            packet.splice(40..40, *header);
            [link, &packet].concat()
        };
        odd.push(("first fragment", extended(44, &[17, 0, 0, 1, 0, 0, 0, 1])));
        odd.push(("later fragment", extended(44, &[17, 0, 0, 9, 0, 0, 0, 1])));
        odd.push(("options", extended(60, &[17, 0, 1, 4, 0, 0, 0, 0])));
    }
    odd
}

/// Makes the checksum of an IPv4 header right (RFC 1071).
fn checksum(packet: &mut [u8]) {
    packet[10..12].copy_from_slice(&[0, 0]);
    let words = usize::from(packet[0] & 15) * 2;
    let (words, _) = packet.as_chunks::<2>().0.split_at(words);
    let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}
