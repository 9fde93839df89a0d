//! The gate as user space holds it: rules of what the programs drop.
//!
//! **Invariant**: a rule that is in force is never written again. A new one is written beside it, and
//! the host's flag word, a single one, says which of them counts; what was taken away rests until all
//! others were used. Dropping the gate opens it for everybody.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastnetmon_common::gate::{
    ALLOWED, CLASS_SHIFT, CONDITIONS, HOST, IS_OUTGOING, LENGTHS, MASK, PREFIX, PROTOCOL_SHIFT,
    RATE_WINDOW, RULE_WORDS, SOURCE_PORT_SHIFT, TARGET_PORT_SHIFT, UNTIL, rate_window,
};

use crate::model::{Direction, HostId, Moment, Signature, high64, low64};
use crate::tables::{Flags, Mapping};

/// What the programs of an uplink may drop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gates {
    /// Hosts that may have a rule at the same time; 0: there is no gate, and nothing is ever dropped.
    pub hosts: u32,
    /// What leaves may be dropped as well as what arrives.
    pub outgoing: bool,
}

impl Gates {
    /// Nothing is ever dropped.
    pub const NONE: Self = Self { hosts: 0, outgoing: false };
    /// More rules than that have no number in a flag word.
    pub const MOST: u32 = 32_768;

    /// Elements of the map: rules in force, as many beside them, and number 0, which is none.
    pub const fn rules(self) -> u32 {
        if self.hosts < Self::MOST { self.hosts * 2 + 1 } else { u16::MAX as u32 + 1 }
    }
}

/// What is dropped of one host's traffic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Its line.
    pub host: HostId,
    /// Its address: the rule is for nobody else, whoever has the line.
    pub address: IpAddr,
    /// Which way.
    pub direction: Direction,
    /// What of it.
    pub signature: Signature,
    /// Of that, packets a second that pass all the same; `None`: none.
    pub rate: Option<NonZeroU32>,
    /// When it ends, whether anybody is there to end it or not.
    pub until: Moment,
}

/// All rules are in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} hosts have a rule already")]
pub struct GateFull(pub u32);

/// The right to have packets dropped.
#[derive(Debug)]
pub struct Gate {
    rules: Arc<Mapping>,
    flags: Flags,
    most: u32,
    free: VecDeque<u16>,
    held: HashMap<IpAddr, Held>,
}

#[derive(Debug)]
struct Held {
    number: u16,
    rule: Rule,
}

impl Gate {
    /// Over the map of rules and the flag words of the same tables.
    pub fn new(rules: Arc<Mapping>, flags: Flags, gates: Gates) -> Self {
        let numbers = gates.rules().saturating_sub(1);
        let free = (1..=u16::try_from(numbers).unwrap_or(u16::MAX)).collect();
        Self { rules, flags, most: gates.hosts, free, held: HashMap::new() }
    }

    /// Over memory of its own, which no program reads.
    #[cfg(test)]
    pub(crate) fn of_nobody(hosts: u32) -> Self {
        let gates = Gates { hosts, outgoing: false };
        let bytes = gates.rules() as usize * RULE_WORDS * 8;
        let map = |what, bytes| Arc::new(Mapping::anonymous(what, bytes).unwrap());
        Self::new(map("rules", bytes), Flags::new(map("flags", 4096)), gates)
    }

    /// Drops what this rule says from now on, instead of what was said of the host before. Saying it
    /// twice does no harm.
    ///
    /// # Errors
    /// When as many hosts as may have a rule.
    pub fn shut(&mut self, rule: Rule) -> Result<(), GateFull> {
        let before = self.held.get(&rule.address);
        if before.is_some_and(|held| held.rule == rule) {
            return Ok(());
        }
        if before.is_none() && self.held.len() >= self.most as usize {
            return Err(GateFull(self.most));
        }
        let number = self.free.pop_front().ok_or(GateFull(self.most))?;
        self.write(number, &rule);
        let Rule { host, address, .. } = rule;
        if let Some(Held { number: before, rule: old }) =
            self.held.insert(address, Held { number, rule })
        {
            if old.host != host {
                self.flags.ungate(old.host, before);
            }
            self.flags.gate(host, number);
            self.rest(before);
        } else {
            self.flags.gate(host, number);
        }
        Ok(())
    }

    /// Drops nothing of this host any more. Tells whether anything was.
    pub fn open(&mut self, address: IpAddr) -> bool {
        let Some(Held { number, rule }) = self.held.remove(&address) else { return false };
        self.flags.ungate(rule.host, number);
        self.rest(number);
        true
    }

    /// What is said of this host.
    pub fn rule(&self, address: IpAddr) -> Option<&Rule> {
        self.held.get(&address).map(|held| &held.rule)
    }

    /// Hosts that something is said of.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.held.keys().copied()
    }

    fn rest(&mut self, number: u16) {
        self.put(number, UNTIL, 0);
        self.free.push_back(number);
    }

    fn write(&self, number: u16, rule: &Rule) {
        self.put(number, UNTIL, 0);
        let words = words(rule);
        for (at, &word) in words.iter().enumerate().skip(1) {
            self.put(number, at, word);
        }
        // Last: a rule without a deadline is none.
        if let Some(&until) = words.get(UNTIL) {
            self.put(number, UNTIL, until);
        }
    }

    fn put(&self, number: u16, word: usize, value: u64) {
        if let Some(word) = self.rules.words().get(usize::from(number) * RULE_WORDS + word) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        for (_, Held { number, rule }) in std::mem::take(&mut self.held) {
            self.flags.ungate(rule.host, number);
            self.rest(number);
        }
    }
}

/// A rule as the programs read it.
fn words(rule: &Rule) -> [u64; RULE_WORDS] {
    let Rule { address, direction, signature, rate, until, .. } = rule;
    let number = |value: Option<u16>| u64::from(value.unwrap_or(0));
    let way = if *direction == Direction::Outgoing { IS_OUTGOING } else { 0 };
    let conditions = signature.asks()
        | way
        | (u64::from(signature.protocol.unwrap_or(0)) << PROTOCOL_SHIFT)
        | (signature.class.map_or(0, |class| class as u64) << CLASS_SHIFT)
        | (number(signature.source_port) << SOURCE_PORT_SHIFT)
        | (number(signature.target_port) << TARGET_PORT_SHIFT);
    let lengths = signature
        .bytes
        .as_ref()
        .map_or(0, |bytes| (u64::from(*bytes.start()) << 32) | u64::from(*bytes.end()));
    let [prefix, mask] = signature.source.map_or([0, 0], |source| {
        let bits = if source.address().is_ipv4() { 32 } else { 128 };
        let free = bits - u32::from(source.len());
        [number_of(source.address()), u128::MAX.checked_shl(free).unwrap_or(0)]
    });
    let (window, allowed) = rate_window(rate.map_or(0, NonZeroU32::get));
    let until = u64::try_from(until.since_boot().as_nanos()).unwrap_or(u64::MAX).max(1);
    let host = number_of(*address);
    let mut words = [0; RULE_WORDS];
    for (at, word) in [
        (UNTIL, until),
        (CONDITIONS, conditions),
        (LENGTHS, lengths),
        (PREFIX, high64(prefix)),
        (PREFIX + 1, low64(prefix)),
        (MASK, high64(mask)),
        (MASK + 1, low64(mask)),
        (HOST, high64(host)),
        (HOST + 1, low64(host)),
        (RATE_WINDOW, window),
        (ALLOWED, u64::from(allowed)),
    ] {
        if let Some(place) = words.get_mut(at) {
            *place = word;
        }
    }
    words
}

/// An address as the parser has it: IPv4 in the lower half.
fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fastnetmon_common::gate::{Facts, describes, known_ports};

    use super::*;
    use crate::model::{Class, Prefix};

    fn rule(last: u8, signature: Signature) -> Rule {
        Rule {
            host: HostId(300 + u32::from(last)),
            address: [192, 0, 2, last].into(),
            direction: Direction::Incoming,
            signature,
            rate: None,
            until: Moment::after_boot(Duration::from_secs(100)),
        }
    }

    #[test]
    fn rules_are_bounded_and_a_host_has_one() {
        let mut gate = Gate::of_nobody(2);
        let udp = Signature { protocol: Some(17), ..Signature::default() };
        for last in [1, 2] {
            gate.shut(rule(last, Signature::default())).unwrap();
            gate.shut(rule(last, Signature::default())).unwrap();
        }
        assert_eq!(gate.shut(rule(3, Signature::default())), Err(GateFull(2)));
        // Narrowing takes no place, however often.
        for _ in 0..9 {
            gate.shut(rule(2, udp.clone())).unwrap();
            gate.shut(rule(2, Signature::default())).unwrap();
        }
        assert_eq!(gate.addresses().count(), 2);
        assert!(gate.open([192, 0, 2, 1].into()));
        assert!(!gate.open([192, 0, 2, 1].into()));
        gate.shut(rule(3, udp)).unwrap();
        assert!(gate.rule([192, 0, 2, 3].into()).is_some());
    }

    #[test]
    fn a_flag_word_keeps_its_rule_while_it_is_armed_and_disarmed() {
        let mut gate = Gate::of_nobody(4);
        let host = HostId(301);
        let flags = gate.flags.clone();
        gate.shut(rule(1, Signature::default())).unwrap();
        let number = flags.rule(host).unwrap();
        flags.arm(host, 100);
        assert_eq!(flags.rule(host), Some(number));
        assert!(flags.spend(host));
        gate.shut(rule(1, Signature { protocol: Some(6), ..Signature::default() })).unwrap();
        assert_ne!(flags.rule(host), Some(number));
        assert!(flags.spend(host), "the budget is still there");
        flags.disarm(host);
        assert!(!flags.spend(host));
        assert!(flags.rule(host).is_some());
        drop(gate);
        assert_eq!(flags.rule(host), None);
    }

    #[test]
    fn a_rule_is_read_as_it_was_written() {
        let whole = Signature {
            protocol: Some(17),
            class: Some(Class::Udp),
            source_port: Some(53),
            target_port: Some(4000),
            bytes: Some(100..=200),
            source: Prefix::parse_masked("203.0.113.0/24").ok().map(|(prefix, _)| prefix),
        };
        let words = words(&rule(7, whole));
        let facts = Facts {
            host: [0, 0xc000_0207],
            source: [0, 0xcb00_7163],
            protocol: 17,
            class: Class::Udp as u8,
            bytes: 100,
        };
        let ports = known_ports(53, 4000);
        let check =
            |facts: Facts, ports: u64| describes(&words, Direction::Incoming, &facts, || ports);
        assert!(check(facts, ports));
        assert!(check(Facts { bytes: 200, ..facts }, ports));
        assert!(!describes(&words, Direction::Outgoing, &facts, || ports), "the other way");
        for (what, facts, ports) in [
            ("another host on the line", Facts { host: [0, 0xc000_0208], ..facts }, ports),
            ("another protocol", Facts { protocol: 6, ..facts }, ports),
            ("another class", Facts { class: Class::Fragment as u8, ..facts }, ports),
            ("too short", Facts { bytes: 99, ..facts }, ports),
            ("too long", Facts { bytes: 201, ..facts }, ports),
            ("to be cut", Facts { bytes: 0, ..facts }, ports),
            ("from elsewhere", Facts { source: [0, 0xcb00_7263], ..facts }, ports),
            ("another source port", facts, known_ports(54, 4000)),
            ("another target port", facts, known_ports(53, 4001)),
            ("unreadable ports", facts, 0),
        ] {
            assert!(!check(facts, ports), "{what}");
        }
    }

    #[test]
    fn a_rate_is_exact_over_many_windows() {
        for pps in [1, 2, 3, 7, 9, 10, 11, 99, 105, 1000, 30_000, 14_880_952, u32::MAX] {
            let (window, allowed) = rate_window(pps);
            let per_second = f64::from(allowed) * 1e9 / f64::from(u32::try_from(window).unwrap());
            let error = (per_second - f64::from(pps)).abs() / f64::from(pps);
            assert!(error < 1e-6, "{pps}: {per_second}");
        }
        assert_eq!(rate_window(0), (0, 0));
    }
}
