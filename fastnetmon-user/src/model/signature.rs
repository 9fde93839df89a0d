//! What an attack's packets have in common, as far as the kernel can tell a packet by it.
//!
//! **Invariant**: a condition that a packet cannot answer does not hold: a fragment has no ports and
//! no length of its own, so only protocol and class tell it.

use std::fmt;
use std::ops::RangeInclusive;

use fastnetmon_common::gate::{ASKS_CLASS, ASKS_LENGTH, ASKS_PROTOCOL, ASKS_SOURCE};
use fastnetmon_common::gate::{ASKS_SOURCE_PORT, ASKS_TARGET_PORT, has_ports};

use crate::model::{Class, Prefix, Seen};

/// Conditions, all of which hold. Without any it is everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Signature {
    /// IANA number, behind IPv6 extension headers.
    pub protocol: Option<u8>,
    /// What it counts as.
    pub class: Option<Class>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Target port.
    pub target_port: Option<u16>,
    /// Length of the IP packet, in bytes.
    pub bytes: Option<RangeInclusive<u32>>,
    /// Where it comes from.
    pub source: Option<Prefix>,
}

impl Signature {
    /// Is there no condition at all?
    pub const fn is_everything(&self) -> bool {
        self.asks() == 0
    }

    /// Which conditions there are, as the kernel's bits.
    pub const fn asks(&self) -> u64 {
        let Self { protocol, class, source_port, target_port, bytes, source } = self;
        let mut asks = 0;
        if protocol.is_some() {
            asks |= ASKS_PROTOCOL;
        }
        if class.is_some() {
            asks |= ASKS_CLASS;
        }
        if source_port.is_some() {
            asks |= ASKS_SOURCE_PORT;
        }
        if target_port.is_some() {
            asks |= ASKS_TARGET_PORT;
        }
        if bytes.is_some() {
            asks |= ASKS_LENGTH;
        }
        if source.is_some() {
            asks |= ASKS_SOURCE;
        }
        asks
    }

    /// Does it describe this packet? The kernel's answer, from what evidence knows.
    pub fn describes(&self, packet: &Seen) -> bool {
        let is_whole = packet.class != Class::Fragment;
        let has_ports = is_whole && has_ports(packet.protocol) && packet.ports != (0, 0);
        self.protocol.is_none_or(|protocol| protocol == packet.protocol)
            && self.class.is_none_or(|class| class == packet.class)
            && self.source_port.is_none_or(|port| has_ports && port == packet.ports.0)
            && self.target_port.is_none_or(|port| has_ports && port == packet.ports.1)
            && self.bytes.as_ref().is_none_or(|bytes| is_whole && bytes.contains(&packet.bytes))
            && self.source.is_none_or(|source| is_whole && source.contains(packet.source))
    }
}

/// `udp, from port 53, to port 4000, 1200 to 1500 bytes, from 203.0.113.0/24`.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match (self.class, self.protocol) {
            (Some(Class::Fragment), Some(protocol)) => {
                words.push(format!("fragments of {}", name(protocol)));
            }
            (Some(class @ (Class::Other | Class::Icmp)), Some(protocol)) => {
                words.push(format!("{} (protocol {protocol})", class.name()));
            }
            (Some(class), _) => words.push(class.name().to_owned()),
            (None, Some(protocol)) => words.push(name(protocol)),
            (None, None) => {}
        }
        words.extend(self.source_port.map(|port| format!("from port {port}")));
        words.extend(self.target_port.map(|port| format!("to port {port}")));
        words.extend(self.bytes.as_ref().map(|bytes| match (bytes.start(), bytes.end()) {
            (least, most) if least == most => format!("{least} bytes"),
            (least, most) => format!("{least} to {most} bytes"),
        }));
        words.extend(self.source.map(|source| format!("from {source}")));
        if words.is_empty() { f.write_str("everything") } else { f.write_str(&words.join(", ")) }
    }
}

fn name(protocol: u8) -> String {
    match protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        number => format!("protocol {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(signature: &Signature, expected: &str) {
        assert_eq!(signature.to_string(), expected);
    }

    #[test]
    fn a_signature_reads_as_a_sentence() {
        let everything = Signature::default();
        assert!(everything.is_everything());
        check(&everything, "everything");
        let udp = Signature { protocol: Some(17), ..everything.clone() };
        check(&udp, "udp");
        check(&Signature { class: Some(Class::Fragment), ..udp.clone() }, "fragments of udp");
        check(
            &Signature {
                class: Some(Class::Udp),
                source_port: Some(53),
                target_port: Some(4000),
                bytes: Some(1200..=1500),
                source: Prefix::parse_masked("203.0.113.0/24").ok().map(|(prefix, _)| prefix),
                ..udp
            },
            "udp, from port 53, to port 4000, 1200 to 1500 bytes, from 203.0.113.0/24",
        );
        let syn = Signature { protocol: Some(6), class: Some(Class::Syn), ..everything.clone() };
        check(&Signature { bytes: Some(40..=40), ..syn }, "tcp_syn, 40 bytes");
        check(&Signature { protocol: Some(47), ..everything }, "protocol 47");
    }
}
