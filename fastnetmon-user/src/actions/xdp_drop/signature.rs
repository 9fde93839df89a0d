//! What the packets of an attack have in common: from a sample to the tightest simple signature.
//!
//! **Invariant**: pure. A signature that is told describes at least as much of the sample as was
//! asked for, counted over all of it; when none does, there is none.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::actions::xdp_drop::settings::Percent;
use crate::model::{Class, Direction, Prefix, Seen, Signature};

/// A sample that is smaller says too little.
const LEAST: usize = 20;

/// What was found in a sample.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Common {
    /// The signature.
    pub signature: Signature,
    /// How many packets it describes.
    pub described: usize,
    /// Of how many.
    pub of: usize,
}

/// What a condition can be about, beside protocol and class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trait {
    SourcePort,
    TargetPort,
    Source,
    /// Last: it fits what the others leave.
    Bytes,
}

const TRAITS: [Trait; 4] = [Trait::SourcePort, Trait::TargetPort, Trait::Source, Trait::Bytes];

/// The tightest signature that describes so much of the packets which flow that way at `host`.
pub fn tightest(
    packets: &[Seen],
    host: IpAddr,
    direction: Direction,
    cover: Percent,
) -> Option<Common> {
    let sample: Vec<&Seen> = packets
        .iter()
        .filter(|packet| match direction {
            Direction::Incoming => packet.target == host,
            Direction::Outgoing => packet.source == host,
        })
        .collect();
    if sample.len() < LEAST {
        return None;
    }
    let needed = cover.of(sample.len());
    let (protocol, class) =
        most_common(sample.iter().map(|packet| (packet.protocol, packet.class)))?;
    let base = Signature { protocol: Some(protocol), class: Some(class), ..Signature::default() };
    let mut best: Option<(u32, Common)> = None;
    // Each choice of traits, from none to all.
    for chosen in 0..1_u32 << TRAITS.len() {
        let traits =
            TRAITS.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, one)| *one);
        let Some((signature, bits)) = narrow(&base, &sample, traits, direction, needed) else {
            continue;
        };
        let described = sample.iter().filter(|packet| signature.describes(packet)).count();
        if described >= needed && best.as_ref().is_none_or(|(most, _)| bits > *most) {
            best = Some((bits, Common { signature, described, of: sample.len() }));
        }
    }
    best.map(|(_, common)| common)
}

/// Adds a condition for each trait, and tells by how many bits that is tighter.
fn narrow(
    base: &Signature,
    sample: &[&Seen],
    traits: impl Iterator<Item = Trait>,
    direction: Direction,
    needed: usize,
) -> Option<(Signature, u32)> {
    let (mut signature, mut tighter) = (base.clone(), 0);
    for one in traits {
        let left: Vec<&Seen> =
            sample.iter().copied().filter(|packet| signature.describes(packet)).collect();
        if left.len() < needed {
            return None;
        }
        // Nothing tells one fragment from another.
        if base.class == Some(Class::Fragment) {
            return None;
        }
        match one {
            Trait::SourcePort => {
                let port = most_common(left.iter().map(|packet| packet.ports.0))?;
                signature.source_port = Some(port).filter(|&port| port != 0);
                signature.source_port?;
                tighter += 16;
            }
            Trait::TargetPort => {
                let port = most_common(left.iter().map(|packet| packet.ports.1))?;
                signature.target_port = Some(port).filter(|&port| port != 0);
                signature.target_port?;
                tighter += 6;
            }
            // What a host of ours sends comes from that host.
            Trait::Source if direction == Direction::Outgoing => return None,
            Trait::Source => {
                let source = longest_prefix(&left, needed)?;
                tighter += u32::from(source.len());
                signature.source = Some(source);
            }
            Trait::Bytes => {
                let (bytes, bits) = narrowest(&left, needed)?;
                tighter += bits;
                signature.bytes = Some(bytes);
            }
        }
    }
    Some((signature, tighter))
}

fn most_common<T: Copy + Eq + Hash + Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: HashMap<T, usize> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    // The same sample gives the same answer, whatever the order of the map.
    counts.into_iter().max_by_key(|&(value, count)| (count, value)).map(|(value, _)| value)
}

/// The longest prefix that so many come from, unless it is so short that it says nothing.
fn longest_prefix(packets: &[&Seen], needed: usize) -> Option<Prefix> {
    let is_v4 = packets.first()?.source.is_ipv4();
    let (longest, shortest) = if is_v4 { (32, 8) } else { (128, 16) };
    for len in (shortest..=longest).rev() {
        let prefix = most_common(packets.iter().filter_map(|packet| within(packet.source, len)));
        let count =
            |prefix: Prefix| packets.iter().filter(|packet| prefix.contains(packet.source)).count();
        if let Some(prefix) = prefix.filter(|&prefix| count(prefix) >= needed) {
            return Some(prefix);
        }
    }
    None
}

fn within(address: IpAddr, len: u8) -> Option<Prefix> {
    Prefix::parse_masked(&format!("{address}/{len}")).ok().map(|(prefix, _)| prefix)
}

/// The narrowest range of lengths that so many have, and how many bits it is tighter than any.
fn narrowest(packets: &[&Seen], needed: usize) -> Option<(RangeInclusive<u32>, u32)> {
    /// Bits of a usual length.
    const USUAL: u32 = 11;
    /// A range that is less tight tells nothing.
    const LEAST_BITS: u32 = 3;
    let mut lengths: Vec<u32> = packets.iter().map(|packet| packet.bytes).collect();
    lengths.sort_unstable();
    let range = lengths
        .windows(needed.max(1))
        .filter_map(|window| Some(*window.first()?..=*window.last()?))
        .min_by_key(|range| range.end() - range.start())?;
    let bits = USUAL.saturating_sub((range.end() - range.start() + 1).ilog2());
    (bits >= LEAST_BITS).then_some((range, bits))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    fn packet(source: impl Into<IpAddr>, ports: (u16, u16), class: Class, bytes: u32) -> Seen {
        let protocol = match class {
            Class::Tcp | Class::Syn => 6,
            Class::Icmp => 1,
            _ => 17,
        };
        Seen { ports, class, protocol, bytes, ..Seen::of(source, HOST) }
    }

    fn from(number: u16) -> Ipv4Addr {
        // Spread over the whole address space.
        Ipv4Addr::from(u32::from(number).wrapping_mul(0x9e37_79b9))
    }

    #[track_caller]
    fn check(what: &str, packets: &[Seen], cover: u8, expected: Option<&str>) {
        let cover = Percent::try_from(cover).unwrap();
        let common = tightest(packets, HOST, Direction::Incoming, cover);
        let text = common.as_ref().map(|common| common.signature.to_string());
        assert_eq!(text.as_deref(), expected, "{what}");
        if let Some(Common { signature, described, of }) = common {
            assert_eq!(described, packets.iter().filter(|seen| signature.describes(seen)).count());
            assert!(described >= cover.of(of), "{what}: {described} of {of}");
        }
    }

    #[test]
    fn floods_are_told_by_what_they_have_in_common() {
        let hundred = |make: &dyn Fn(u16) -> Seen| (0..100).map(make).collect::<Vec<_>>();
        check(
            "reflected names, from everywhere",
            &hundred(&|n| packet(from(n), (53, 10_000 + n), Class::Udp, 1400 + u32::from(n % 50))),
            90,
            Some("udp, from port 53, 1400 to 1444 bytes"),
        );
        check(
            "connections, forged sources, one service",
            &hundred(&|n| packet(from(n), (n + 1, 443), Class::Syn, 60)),
            90,
            Some("tcp_syn, to port 443, 60 bytes"),
        );
        check(
            "one network, any port, any length",
            &hundred(&|n| {
                let source = [203, 0, 113, u8::try_from(n).unwrap()];
                packet(source, (n + 1, 5000 - n), Class::Udp, 64 + u32::from(n) * 14)
            }),
            100,
            Some("udp, from 203.0.113.0/25"),
        );
        check(
            "echoes",
            &hundred(&|n| packet(from(n), (0, 0), Class::Icmp, 84)),
            95,
            Some("icmp (protocol 1), 84 bytes"),
        );
        check(
            "fragments have nothing else",
            &hundred(&|n| packet(from(n), (0, 0), Class::Fragment, 1500)),
            90,
            Some("fragments of udp"),
        );
        let source: Ipv6Addr = "2001:db9::7".parse().unwrap();
        check(
            "one host of IPv6",
            &hundred(&|_| packet(source, (123, 9), Class::Udp, 468)),
            90,
            Some("udp, from port 123, to port 9, 468 bytes, from 2001:db9::7/128"),
        );
    }

    #[test]
    fn a_signature_is_never_weaker_than_was_asked_for() {
        // 85 reflected ones among 15 of a customer's.
        let mut packets: Vec<Seen> =
            (0..85).map(|n| packet(from(n), (53, 4000), Class::Udp, 1400)).collect();
        packets.extend((0..15).map(|n| packet(from(n), (50_000 + n, 443), Class::Tcp, 52)));
        check(
            "85 in 100 for 85",
            &packets,
            85,
            Some("udp, from port 53, to port 4000, 1400 bytes"),
        );
        check("85 in 100 for 86", &packets, 86, None);
        // Of two traits that exclude each other the tighter one is taken.
        let mut packets: Vec<Seen> = (0..90)
            .map(|n| packet(from(n), (53, 1 + n), Class::Udp, 1 + u32::from(n) * 16))
            .collect();
        packets.extend(
            (0..10).map(|n| packet(from(n), (9 + n, 77), Class::Udp, 1 + u32::from(n) * 16)),
        );
        check("the source port", &packets, 90, Some("udp, from port 53"));
        check("neither", &packets, 91, Some("udp"));
    }

    #[test]
    fn little_and_foreign_packets_say_nothing() {
        let packets: Vec<Seen> =
            (0..19).map(|n| packet(from(n), (53, 4000), Class::Udp, 1400)).collect();
        check("nineteen", &packets, 90, None);
        check("none", &[], 90, None);
        // What the host itself sends is in the dump as well, and no part of the attack.
        let mut packets: Vec<Seen> =
            (0..40).map(|n| packet(from(n), (53, 4000), Class::Udp, 1400)).collect();
        packets.extend((0..60).map(|n| Seen {
            source: HOST,
            target: from(n).into(),
            ..packet(from(n), (443, 50_000), Class::Tcp, 1500)
        }));
        let cover = Percent::try_from(100).unwrap();
        let common = tightest(&packets, HOST, Direction::Incoming, cover).unwrap();
        assert_eq!((common.described, common.of), (40, 40));
        let common = tightest(&packets, HOST, Direction::Outgoing, cover).unwrap();
        assert_eq!(common.signature.to_string(), "tcp, from port 443, to port 50000, 1500 bytes");
    }
}
