//! `[[ignore]]`: what is not counted, as it is written and as the programs read it.
//!
//! **Invariant**: what is read here cannot be wrong by itself: a rule without a condition would
//! ignore everything, and is refused while the file is read, with the place.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fastnetmon_common::ignore::{
    IS_ICMP, IS_PACKET, IS_V6, KINDS, MASKS, MOST_RULES, PORTS_KNOWN, PROTOCOL_SHIFT, RULE_WORDS,
    Rules, SOURCE, SOURCE_PORT_SHIFT,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::{Prefix, high64, low64};

/// One rule: packets for which all of it holds are not counted.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(deny_unknown_fields))]
pub struct IgnoreRule {
    /// A prefix or an address of IPv4 or IPv6 that the packet comes from, whichever way it goes.
    /// Absent: any. Refused: host bits set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IgnoredSource>,
    /// `"tcp"`, `"udp"`, `"icmp"` (ICMP within IPv4, `ICMPv6` within IPv6) or the IANA number,
    /// behind IPv6 extension headers. Absent: any. Refused: with a port, a protocol that has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<IgnoredProtocol>,
    /// Source port of TCP, UDP, UDP-Lite, SCTP and DCCP. A fragment, or a packet whose ports
    /// cannot be read, is described by no rule that names a port, so it counts. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Target port, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// For whoever reads the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A rule as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    source: Option<IgnoredSource>,
    protocol: Option<IgnoredProtocol>,
    source_port: Option<u16>,
    target_port: Option<u16>,
    comment: Option<String>,
}

impl TryFrom<Written> for IgnoreRule {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { source, protocol, source_port, target_port, comment } = written;
        if source.is_none() && protocol.is_none() && source_port.is_none() && target_port.is_none()
        {
            return Err("a rule without a condition would ignore every packet: give `source`, \
                        `protocol`, `source_port` or `target_port`");
        }
        if let Some(protocol) = protocol
            && (source_port.is_some() || target_port.is_some())
            && !protocol.has_ports()
        {
            return Err("this protocol has no ports, so the rule would ignore nothing: leave \
                        `protocol` or the port out");
        }
        Ok(Self { source, protocol, source_port, target_port, comment })
    }
}

/// By way of its map, because what is refused there has the place of the rule, and what is refused
/// of a list has the place of its first one.
impl<'de> Deserialize<'de> for IgnoreRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InPlace;
        impl<'de> Visitor<'de> for InPlace {
            type Value = IgnoreRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rule of what to ignore")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IgnoreRule, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                written.try_into().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_map(InPlace)
    }
}

/// A prefix without host bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct IgnoredSource(pub Prefix);

impl TryFrom<String> for IgnoredSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (prefix, masked) = Prefix::parse_masked(&text).map_err(|error| error.to_string())?;
        if masked {
            return Err(format!("`{text}` has host bits: write `{prefix}`"));
        }
        Ok(Self(prefix))
    }
}

impl From<IgnoredSource> for String {
    fn from(source: IgnoredSource) -> Self {
        source.0.to_string()
    }
}

/// A protocol by its name or number.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "NameOrNumber", into = "NameOrNumber")]
pub enum IgnoredProtocol {
    /// ICMP within IPv4, `ICMPv6` within IPv6.
    Icmp,
    /// This one.
    Number(u8),
}

impl IgnoredProtocol {
    const fn has_ports(self) -> bool {
        match self {
            Self::Icmp => false,
            Self::Number(number) => fastnetmon_common::gate::has_ports(number),
        }
    }
}

#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
enum NameOrNumber {
    Number(i64),
    Name(String),
}

const TCP: u8 = 6;
const UDP: u8 = 17;

impl TryFrom<NameOrNumber> for IgnoredProtocol {
    type Error = String;

    fn try_from(written: NameOrNumber) -> Result<Self, String> {
        let refused = |written: String| {
            format!("`{written}` is no protocol: it can be \"tcp\", \"udp\", \"icmp\" or 0 to 255")
        };
        match written {
            NameOrNumber::Number(number) => {
                u8::try_from(number).map(Self::Number).map_err(|_other| refused(number.to_string()))
            }
            NameOrNumber::Name(name) => match name.as_str() {
                "tcp" => Ok(Self::Number(TCP)),
                "udp" => Ok(Self::Number(UDP)),
                "icmp" => Ok(Self::Icmp),
                _ => Err(refused(name)),
            },
        }
    }
}

impl From<IgnoredProtocol> for NameOrNumber {
    fn from(protocol: IgnoredProtocol) -> Self {
        match protocol {
            IgnoredProtocol::Icmp => Self::Name("icmp".to_owned()),
            IgnoredProtocol::Number(TCP) => Self::Name("tcp".to_owned()),
            IgnoredProtocol::Number(UDP) => Self::Name("udp".to_owned()),
            IgnoredProtocol::Number(number) => Self::Number(number.into()),
        }
    }
}

/// All rules.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<IgnoreRule>", into = "Vec<IgnoreRule>")]
pub struct IgnoreSettings(Vec<IgnoreRule>);

impl IgnoreSettings {
    /// One by one, as they are written.
    pub fn iter(&self) -> impl Iterator<Item = &IgnoreRule> {
        self.0.iter()
    }

    /// Is there none?
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<IgnoreRule>> for IgnoreSettings {
    type Error = String;

    fn try_from(rules: Vec<IgnoreRule>) -> Result<Self, String> {
        if rules.len() > MOST_RULES as usize {
            return Err(format!(
                "{} rules of what to ignore: there can be {MOST_RULES}",
                rules.len()
            ));
        }
        Ok(Self(rules))
    }
}

impl From<IgnoreSettings> for Vec<IgnoreRule> {
    fn from(settings: IgnoreSettings) -> Self {
        settings.0
    }
}

/// Words of one rule.
pub type IgnoreWords = [u64; RULE_WORDS];

/// All rules as they are compared. A clone is the same rules.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ignores(Arc<[IgnoreWords]>);

impl Ignores {
    /// As they are written.
    pub fn of(settings: &IgnoreSettings) -> Self {
        Self(settings.iter().map(words).collect())
    }

    /// How many there are.
    pub fn number(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(MOST_RULES)
    }

    /// All words, one rule after the other.
    pub fn words(&self) -> &[u64] {
        self.0.as_flattened()
    }
}

impl Rules for Ignores {
    #[inline]
    fn word(&self, rule: u32, word: usize) -> u64 {
        self.0.get(rule as usize).and_then(|words| words.get(word)).copied().unwrap_or(0)
    }
}

/// A rule as the programs read it.
fn words(rule: &IgnoreRule) -> IgnoreWords {
    let IgnoreRule { source, protocol, source_port, target_port, comment: _ } = rule;
    let (mut kinds, mut mask) = (IS_PACKET, IS_PACKET);
    let (mut address, mut bits) = (0, 0);
    if let Some(IgnoredSource(prefix)) = source {
        let (number, longest, family) = match prefix.address() {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32, 0),
            IpAddr::V6(address) => (u128::from(address), 128, IS_V6),
        };
        address = number;
        bits = u128::MAX.checked_shl(longest - u32::from(prefix.len())).unwrap_or(0);
        kinds |= family;
        mask |= IS_V6;
    }
    match protocol {
        Some(IgnoredProtocol::Icmp) => {
            kinds |= IS_ICMP;
            mask |= IS_ICMP;
        }
        Some(IgnoredProtocol::Number(number)) => {
            kinds |= u64::from(*number) << PROTOCOL_SHIFT;
            mask |= 0xff << PROTOCOL_SHIFT;
        }
        None => {}
    }
    for (port, shift) in [(source_port, SOURCE_PORT_SHIFT), (target_port, 0)] {
        if let Some(port) = port {
            kinds |= PORTS_KNOWN | (u64::from(*port) << shift);
            mask |= PORTS_KNOWN | (0xffff << shift);
        }
    }
    let mut words = [0; RULE_WORDS];
    for (at, word) in [
        (SOURCE, high64(address)),
        (SOURCE + 1, low64(address)),
        (KINDS, kinds),
        (SOURCE + MASKS, high64(bits)),
        (SOURCE + 1 + MASKS, low64(bits)),
        (KINDS + MASKS, mask),
    ] {
        if let Some(place) = words.get_mut(at) {
            *place = word;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use fastnetmon_common::ignore::{facts, matches, with_ports};
    use fastnetmon_common::parse::parse_ip;

    use super::*;

    #[derive(Debug, Deserialize, Serialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    struct File {
        ignore: IgnoreSettings,
    }

    fn rules(text: &str) -> Ignores {
        Ignores::of(&toml::from_str::<File>(text).unwrap().ignore)
    }

    fn rule(keys: &str) -> Ignores {
        rules(&format!("[[ignore]]\n{}\n", keys.replace(", ", "\n")))
    }

    /// A packet of this protocol, ports 53 to 4000; `fragment` is the word of the IPv4 header.
    fn v4(source: [u8; 4], protocol: u8, fragment: [u8; 2]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 1, fragment[0], fragment[1], 64, protocol, 0, 0];
        packet.extend(source);
        packet.extend([192, 0, 2, 7, 0, 53, 15, 160, 0, 8, 0, 0]);
        packet
    }

    fn v6(source: [u8; 16], protocol: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, protocol, 64];
        packet.extend(source);
        packet.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        packet.extend([0, 53, 15, 160, 0, 8, 0, 0]);
        packet
    }

    fn is_ignored(rules: &Ignores, packet: &[u8]) -> bool {
        let facts = facts(&parse_ip(packet, 0).unwrap());
        matches(rules, rules.number(), &with_ports(packet, facts))
    }

    const WORLD: [u8; 4] = [203, 0, 113, 9];
    const WORLD_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    /// The bits of an IPv4 address in an IPv6 one, as the parser has both.
    const LOOKALIKE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 203, 0, 113, 9];

    #[track_caller]
    fn check(keys: &str, packet: &[u8], expected: bool) {
        assert_eq!(is_ignored(&rule(keys), packet), expected, "{keys}");
    }

    #[test]
    fn a_source_is_matched_within_its_family() {
        let (four, six) = (v4(WORLD, 17, [0, 0]), v6(WORLD_V6, 17));
        for (source, is_four, is_six) in [
            ("203.0.113.0/24", true, false),
            ("203.0.113.9", true, false),
            ("203.0.113.8", false, false),
            ("203.0.112.0/24", false, false),
            ("0.0.0.0/0", true, false),
            ("2001:db8:ff00::/40", false, true),
            ("2001:db8:ff00::1", false, true),
            ("2001:db8:ff00::2", false, false),
            ("2001:db8:ff01::/48", false, false),
            ("::/0", false, true),
        ] {
            check(&format!("source = \"{source}\""), &four, is_four);
            check(&format!("source = \"{source}\""), &six, is_six);
        }
        check("source = \"203.0.113.9\"", &v6(LOOKALIKE, 17), false);
        check("source = \"::cb00:7109\"", &v6(LOOKALIKE, 17), true);
        check("source = \"::cb00:7109\"", &four, false);
    }

    #[test]
    fn a_protocol_is_matched_by_name_and_number() {
        for (protocol, ignored) in [
            ("\"udp\"", [false, true, false, false]),
            ("\"tcp\"", [true, false, false, false]),
            ("\"icmp\"", [false, false, true, false]),
            ("17", [false, true, false, false]),
            ("1", [false, false, true, false]),
            ("47", [false, false, false, true]),
            ("0", [false, false, false, false]),
        ] {
            for (number, ignored) in [6, 17, 1, 47].into_iter().zip(ignored) {
                check(&format!("protocol = {protocol}"), &v4(WORLD, number, [0, 0]), ignored);
            }
        }
        check("protocol = \"icmp\"", &v6(WORLD_V6, 58), true);
        check("protocol = \"icmp\"", &v6(WORLD_V6, 1), false);
        check("protocol = \"icmp\"", &v4(WORLD, 58, [0, 0]), false);
        check("protocol = \"udp\"", &v6(WORLD_V6, 17), true);
    }

    #[test]
    fn a_port_is_matched_on_its_side_and_only_where_there_are_ports() {
        for packet in [v4(WORLD, 17, [0, 0]), v4(WORLD, 6, [0, 0]), v6(WORLD_V6, 17)] {
            check("source_port = 53", &packet, true);
            check("source_port = 4000", &packet, false);
            check("target_port = 4000", &packet, true);
            check("target_port = 53", &packet, false);
            check("source_port = 53, target_port = 4000", &packet, true);
            check("source_port = 53, target_port = 4001", &packet, false);
        }
        // The same bytes, where they are no ports.
        for number in [1, 47, 50] {
            check("source_port = 53", &v4(WORLD, number, [0, 0]), false);
        }
        // Cut before its ports, and port 0, which a packet without ports does not have.
        let whole = v4(WORLD, 17, [0, 0]);
        check("source_port = 53", &whole[..22], false);
        check("source_port = 0", &whole[..22], false);
        check("target_port = 0", &v4(WORLD, 1, [0, 0]), false);
    }

    #[test]
    fn a_fragment_has_a_source_and_a_protocol_and_no_ports() {
        for fragment in [[0x20, 0], [0, 1], [0x20, 1]] {
            let packet = v4(WORLD, 17, fragment);
            check("source_port = 53", &packet, false);
            check("target_port = 4000, source = \"203.0.113.9\"", &packet, false);
            check("source = \"203.0.113.9\"", &packet, true);
            check("protocol = \"udp\"", &packet, true);
        }
        check("source_port = 53", &v4(WORLD, 17, [0x40, 0]), true);
    }

    #[test]
    fn all_conditions_of_one_rule_hold_and_any_rule_will_do() {
        let packet = v4(WORLD, 17, [0, 0]);
        check("source = \"203.0.113.9\", protocol = \"udp\", source_port = 53", &packet, true);
        check("source = \"203.0.113.9\", protocol = \"tcp\", source_port = 53", &packet, false);
        check("source = \"203.0.113.8\", protocol = \"udp\", source_port = 53", &packet, false);
        let others = "[[ignore]]\nprotocol = 47\n".repeat(MOST_RULES as usize - 1);
        let mine = "[[ignore]]\nsource_port = 53\n";
        for text in [format!("{mine}{others}"), format!("{others}{mine}")] {
            assert!(is_ignored(&rules(&text), &packet));
        }
        assert!(!is_ignored(&rules(&others), &packet));
    }

    #[test]
    fn without_a_rule_and_with_rules_never_written_nothing_matches() {
        let packet = v4(WORLD, 17, [0, 0]);
        assert!(!is_ignored(&Ignores::default(), &packet));
        let facts = with_ports(&packet[..], facts(&parse_ip(&packet[..], 0).unwrap()));
        assert!(!matches(&Ignores::default(), MOST_RULES, &facts));
    }

    #[track_caller]
    fn refuse(text: &str, line: usize, expected: &str) {
        let error = toml::from_str::<File>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&format!("line {line},")), "{error}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        refuse("\n[[ignore]]\ncomment = \"all\"\n", 2, "a rule without a condition would ignore");
        refuse("[[ignore]]\nprotocol = 6\n[[ignore]]\n", 3, "a rule without a condition");
        refuse("[[ignore]]\nsource = \"203.0.113.9/24\"\n", 2, "write `203.0.113.0/24`");
        refuse("[[ignore]]\nsource = \"here\"\n", 2, "`here` is not");
        refuse("[[ignore]]\nprotocol = \"gre\"\n", 2, "`gre` is no protocol: it can be \"tcp\"");
        refuse("[[ignore]]\nprotocol = 256\n", 2, "`256` is no protocol");
        refuse("[[ignore]]\nsource_port = 65536\n", 2, "65536");
        refuse("[[ignore]]\nport = 53\n", 2, "unknown field `port`");
        refuse("[[ignore]]\nprotocol = \"icmp\"\nsource_port = 53\n", 1, "has no ports");
        let many = "[[ignore]]\nprotocol = 6\n".repeat(65);
        let error = toml::from_str::<File>(&many).unwrap_err().to_string();
        assert!(error.contains("65 rules of what to ignore: there can be 64"), "{error}");
    }

    #[test]
    fn rules_are_written_as_they_were_read() {
        let text = "[[ignore]]\nsource = \"203.0.113.0/24\"\nprotocol = \"udp\"\nsource_port = 53\n\
                    comment = \"our resolver\"\n\n[[ignore]]\nprotocol = 47\n";
        assert_eq!(toml::to_string(&toml::from_str::<File>(text).unwrap()).unwrap(), text);
    }
}
