//! What is not counted: rules by source, ports and protocol, and whether one of them matches.
//!
//! A packet is three words, its [`Facts`]; a rule is six, three it wants and three masks. It matches
//! when no bit under a mask differs, so a rule is compared without a question asked in between.
//!
//! | words of a rule | 0, 1 | 2 | 3, 4 | 5 |
//! |---|---|---|---|---|
//! | holds | source, upper half first | kinds | mask of the source | mask of the kinds |
//!
//! | bits of the kinds | 0–15 | 16–31 | 32–39 | 40 | 41 | 42 | 43 | 44–46 |
//! |---|---|---|---|---|---|---|---|---|
//! | hold | target port | source port | protocol | ports are known | IPv6 | ICMP of its family | a packet | class |
//!
//! **Invariant**: what cannot be read matches no rule that asks for it: a fragment has addresses and
//! a protocol, and no ports. And a rule that was never written, all zero, matches nothing.

use crate::class::{Class, Direction};
use crate::gate::has_ports;
use crate::parse::{Family, Packet, Payload};
use crate::table::{IGNORED, Line as _, Tables, packed};
use crate::wire::{Ports, Wire};

/// Rules there can be.
pub const MOST_RULES: u32 = 64;
/// Words of a rule: the last two are not read.
pub const RULE_WORDS: usize = 8;
/// First word of what a rule wants of the source.
pub const SOURCE: usize = 0;
/// Word of the kinds it wants.
pub const KINDS: usize = 2;
/// Words from what is wanted to its mask.
pub const MASKS: usize = 3;

/// Where the source port stands in the kinds.
pub const SOURCE_PORT_SHIFT: u32 = 16;
/// Where the protocol stands.
pub const PROTOCOL_SHIFT: u32 = 32;
/// The ports could be read.
pub const PORTS_KNOWN: u64 = 1 << 40;
/// The packet is IPv6.
pub const IS_V6: u64 = 1 << 41;
/// ICMP within IPv4, `ICMPv6` within IPv6.
pub const IS_ICMP: u64 = 1 << 42;
/// Every packet has it, and every rule wants it.
pub const IS_PACKET: u64 = 1 << 43;
/// Where the class stands, which no rule asks for.
const CLASS_SHIFT: u32 = 44;

/// The rules, wherever they lie.
pub trait Rules {
    /// Reads a word of a rule.
    fn word(&self, rule: u32, word: usize) -> u64;
}

/// What a rule may ask of a packet: the source, upper half first, and the kinds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts(pub [u64; 3]);

impl Facts {
    /// [`Class`] as a number.
    #[inline(always)]
    pub const fn class(&self) -> u64 {
        (self.0[2] >> CLASS_SHIFT) & 7
    }
}

/// What is known of a packet before its ports are read, without a question asked: so the kernel's
/// verifier walks what follows once. To be completed [`with_ports`].
///
/// Where the ports begin stands in the place of the target port.
#[inline(always)]
pub fn facts(packet: &Packet) -> Facts {
    let family = if matches!(packet.ends.family, Family::V6) { IS_V6 } else { 0 };
    let kinds = IS_PACKET
        | family
        | ((packet.class as u64) << CLASS_SHIFT)
        | (u64::from(packet.protocol) << PROTOCOL_SHIFT)
        | u64::from(packet.transport_at & Payload::MOST);
    Facts([packet.ends.src[0], packet.ends.src[1], kinds])
}

/// The same, when it is known whether it is ICMP and, where there are any, its ports.
#[inline(always)]
pub fn with_ports<W: Wire + ?Sized>(wire: &W, facts: Facts) -> Facts {
    let Facts([upper, lower, begun]) = facts;
    let protocol = (begun >> PROTOCOL_SHIFT) & 0xff;
    let icmp = if begun & IS_V6 == 0 { 1 } else { 58 };
    let mut kinds = begun & !0xffff_ffff;
    if protocol == icmp {
        kinds |= IS_ICMP;
    }
    #[expect(clippy::cast_possible_truncation, reason = "8 and 14 bits are left")]
    let (protocol, at) = (protocol as u8, begun as u32 & Payload::MOST);
    if has_ports(protocol)
        && facts.class() != Class::Fragment as u64
        && let Some(ports) = wire.header::<Ports>(at as usize)
    {
        kinds |= PORTS_KNOWN
            | (u64::from(ports.src.get()) << SOURCE_PORT_SHIFT)
            | u64::from(ports.dst.get());
    }
    Facts([upper, lower, kinds])
}

/// Does one of the first `number` rules match? Their order does not matter.
#[inline(always)]
pub fn matches<R: Rules>(rules: &R, number: u32, facts: &Facts) -> bool {
    let Facts([upper, lower, kinds]) = *facts;
    for rule in 0..MOST_RULES {
        if rule >= number {
            return false;
        }
        let word = |word| rules.word(rule, word);
        let differs = ((upper ^ word(SOURCE)) & word(SOURCE + MASKS))
            | ((lower ^ word(SOURCE + 1)) & word(SOURCE + 1 + MASKS))
            | ((kinds ^ word(KINDS)) & (word(KINDS + MASKS) | IS_PACKET));
        if differs == 0 {
            return true;
        }
    }
    false
}

/// Counts a packet that a rule matches, for nobody.
#[inline(always)]
pub fn count_ignored<T: Tables>(tables: &T, class: u64, seen: Direction, packets: u32, bytes: u32) {
    if let Some(line) = tables.line(seen, IGNORED) {
        line.add((class & 7) as usize, packed(packets, bytes));
    }
}
