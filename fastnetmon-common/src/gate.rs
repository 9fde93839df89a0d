//! What is dropped of a banned host's traffic: a rule, and whether it describes a packet.
//!
//! A rule is sixteen words, the first eight of which are only read by the programs:
//!
//! | word | 0 | 1 | 2 | 3, 4 | 5, 6 | 8, 9 | 10 | 11 | 12 |
//! |---|---|---|---|---|---|---|---|---|---|
//! | holds | deadline | conditions | lengths | source prefix | its mask | the host | window, ns | packets in it | spent |
//!
//! | bits of the conditions | 0–7 | 8–15 | 16–23 | 32–47 | 48–63 |
//! |---|---|---|---|---|---|
//! | hold | which are asked for, and which way | protocol | class | source port | target port |
//!
//! **Invariant**: what cannot be read is not described. A fragment has no ports and no length of its
//! own, so only a rule that asks for protocol or class at most describes it. And a rule is for one
//! address: a line that meanwhile serves another host finds it no more.

use crate::class::{Class, Direction};

/// Words of a rule.
pub const RULE_WORDS: usize = 16;
/// Word of the deadline, in nanoseconds of `CLOCK_BOOTTIME`; 0: there is no rule.
pub const UNTIL: usize = 0;
/// Word of the conditions.
pub const CONDITIONS: usize = 1;
/// Word of the IP lengths: least (32) | most (32).
pub const LENGTHS: usize = 2;
/// First word of the source prefix, upper half first.
pub const PREFIX: usize = 3;
/// First word of its mask.
pub const MASK: usize = 5;
/// First word of the address the rule is for.
pub const HOST: usize = 8;
/// Word of the length of a window, in nanoseconds; 0: nothing passes.
pub const RATE_WINDOW: usize = 10;
/// Word of the packets that pass in one window.
pub const ALLOWED: usize = 11;
/// Word of those that passed: number of the window (32) | packets (32). Written by the programs.
pub const SPENT: usize = 12;

/// The protocol is asked for.
pub const ASKS_PROTOCOL: u64 = 1;
/// The class is asked for.
pub const ASKS_CLASS: u64 = 1 << 1;
/// The source port is asked for.
pub const ASKS_SOURCE_PORT: u64 = 1 << 2;
/// The target port is asked for.
pub const ASKS_TARGET_PORT: u64 = 1 << 3;
/// The length is asked for.
pub const ASKS_LENGTH: u64 = 1 << 4;
/// The source address is asked for.
pub const ASKS_SOURCE: u64 = 1 << 5;
/// The rule is for what the host sends, not for what it gets.
pub const IS_OUTGOING: u64 = 1 << 6;
/// Where the protocol stands in the conditions.
pub const PROTOCOL_SHIFT: u32 = 8;
/// Where the class stands.
pub const CLASS_SHIFT: u32 = 16;
/// Where the source port stands.
pub const SOURCE_PORT_SHIFT: u32 = 32;
/// Where the target port stands.
pub const TARGET_PORT_SHIFT: u32 = 48;

const ASKS_PORTS: u64 = ASKS_SOURCE_PORT | ASKS_TARGET_PORT;
/// What no fragment answers.
const ASKS_WHOLE: u64 = ASKS_PORTS | ASKS_LENGTH | ASKS_SOURCE;

/// A rule, wherever it lies.
pub trait Rule: Copy {
    /// Reads a word.
    fn get(self, word: usize) -> u64;
}

impl Rule for &[u64; RULE_WORDS] {
    #[inline]
    fn get(self, word: usize) -> u64 {
        self.as_slice().get(word & (RULE_WORDS - 1)).copied().unwrap_or(0)
    }
}

/// What a rule may ask of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The end that is banned, upper half first.
    pub host: [u64; 2],
    /// The source address, upper half first.
    pub source: [u64; 2],
    /// IANA protocol number, behind extension headers.
    pub protocol: u8,
    /// [`Class`] as a number.
    pub class: u8,
    /// Length of the IP packet; 0: the frame will be cut into several.
    pub bytes: u32,
}

/// Do packets of this protocol begin with their ports? TCP, UDP, DCCP, SCTP and UDP-Lite do.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// Ports as [`describes`] asks for them.
#[inline(always)]
pub const fn known_ports(source: u16, target: u16) -> u64 {
    (1 << 32) | ((source as u64) << 16) | target as u64
}

/// Does the rule describe this packet, which flows that way? `ports` is only asked when they matter: [`known_ports`], or 0
/// where they cannot be read.
#[inline(always)]
pub fn describes<R: Rule>(rule: R, way: Direction, facts: &Facts, ports: impl Fn() -> u64) -> bool {
    if rule.get(HOST) != facts.host[0] || rule.get(HOST + 1) != facts.host[1] {
        return false;
    }
    let asks = rule.get(CONDITIONS);
    if (asks & IS_OUTGOING != 0) != matches!(way, Direction::Outgoing) {
        return false;
    }
    if asks & ASKS_PROTOCOL != 0 && (asks >> PROTOCOL_SHIFT) & 0xff != u64::from(facts.protocol) {
        return false;
    }
    if asks & ASKS_CLASS != 0 && (asks >> CLASS_SHIFT) & 0xff != u64::from(facts.class) {
        return false;
    }
    if asks & ASKS_WHOLE == 0 {
        return true;
    }
    if facts.class == Class::Fragment as u8 {
        return false;
    }
    if asks & ASKS_LENGTH != 0 {
        let lengths = rule.get(LENGTHS);
        let bytes = u64::from(facts.bytes);
        if bytes == 0 || bytes < lengths >> 32 || bytes > lengths & 0xffff_ffff {
            return false;
        }
    }
    if asks & ASKS_SOURCE != 0 {
        let upper = (facts.source[0] ^ rule.get(PREFIX)) & rule.get(MASK);
        let lower = (facts.source[1] ^ rule.get(PREFIX + 1)) & rule.get(MASK + 1);
        if upper | lower != 0 {
            return false;
        }
    }
    if asks & ASKS_PORTS == 0 {
        return true;
    }
    let ports = ports();
    if ports == 0 {
        return false;
    }
    let source_differs = (ports >> 16) & 0xffff != (asks >> SOURCE_PORT_SHIFT) & 0xffff;
    let target_differs = ports & 0xffff != (asks >> TARGET_PORT_SHIFT) & 0xffff;
    !(asks & ASKS_SOURCE_PORT != 0 && source_differs
        || asks & ASKS_TARGET_PORT != 0 && target_differs)
}

/// Windows a second at most: short ones keep what passes even, and each is exact to one packet.
const WINDOWS: u32 = 10;

/// The window that lets `pps` packets a second through, in nanoseconds, and how many pass in one.
/// Exact over any number of windows, whatever `pps` is. 0 lets nothing through.
pub const fn rate_window(pps: u32) -> (u64, u32) {
    if pps == 0 {
        return (0, 0);
    }
    let allowed = if pps < WINDOWS { 1 } else { pps / WINDOWS };
    (allowed as u64 * 1_000_000_000 / pps as u64, allowed)
}
