//! A rule matches what its bits say, and what cannot be read matches none that asks for it.

use fastnetmon_common::ignore::{
    Facts, IS_ICMP, IS_PACKET, IS_V6, KINDS, MASKS, MOST_RULES, PORTS_KNOWN, PROTOCOL_SHIFT,
    RULE_WORDS, Rules, SOURCE, SOURCE_PORT_SHIFT, facts, matches, with_ports,
};
use fastnetmon_common::parse::parse_ethernet;

use crate::frames::{Frame, SYN, halves};
use crate::random::Random;

struct List(Vec<[u64; RULE_WORDS]>);

impl Rules for List {
    fn word(&self, rule: u32, word: usize) -> u64 {
        self.0[rule as usize][word]
    }
}

impl List {
    fn matches(&self, facts: &Facts) -> bool {
        matches(self, u32::try_from(self.0.len()).unwrap(), facts)
    }
}

#[test]
fn any_rule_matches_whose_bits_are_all_alike_and_their_order_does_not_matter() {
    let mut random = Random::new(7);
    let mut seen = [0; 2];
    for _ in 0..20_000 {
        // Few bits, so that they often meet.
        let mut few = |bits: u64| random.word() & bits;
        let mut rules: Vec<[u64; RULE_WORDS]> = Vec::new();
        for _ in 0..few(3) {
            let mut rule = [0; RULE_WORDS];
            for at in [SOURCE, SOURCE + 1, KINDS] {
                rule[at] = few(3);
                rule[at + MASKS] = few(3);
            }
            rule[KINDS] |= IS_PACKET;
            rules.push(rule);
        }
        let facts = Facts([few(3), few(3), few(3) | IS_PACKET]);
        let alike = |rule: &[u64; RULE_WORDS]| {
            (0..3).all(|at| {
                (0..64).all(|bit| {
                    (rule[at + 3] >> bit) & 1 == 0
                        || (rule[at] >> bit) & 1 == (facts.0[at] >> bit) & 1
                })
            })
        };
        let expected = rules.iter().any(alike);
        seen[usize::from(expected)] += 1;
        assert_eq!(List(rules.clone()).matches(&facts), expected, "{rules:?} {facts:?}");
        rules.reverse();
        assert_eq!(List(rules).matches(&facts), expected);
    }
    assert!(seen.iter().all(|&times| times > 2_000), "{seen:?}");
}

#[test]
fn no_rule_and_no_rule_that_was_never_written_matches_anything() {
    let mut random = Random::new(8);
    for _ in 0..1_000 {
        let facts = Facts([random.word(), random.word(), random.word() | IS_PACKET]);
        assert!(!List(Vec::new()).matches(&facts));
        assert!(!List(vec![[0; RULE_WORDS]; MOST_RULES as usize]).matches(&facts));
    }
}

/// The kinds of a frame, but for its class.
fn kinds(frame: &Frame) -> u64 {
    let bytes = frame.bytes();
    let Facts([_, _, kinds]) = with_ports(bytes, facts(&parse_ethernet(bytes).unwrap()));
    kinds & (IS_PACKET * 2 - 1)
}

#[test]
fn what_is_known_of_a_frame_is_what_can_be_read() {
    let v4 = || Frame::ethernet().ipv4([203, 0, 113, 9].into(), [192, 0, 2, 7].into());
    let v6 =
        || Frame::ethernet().ipv6("2001:db8::9".parse().unwrap(), "2001:db8::7".parse().unwrap());
    let protocol = |number: u64| IS_PACKET | (number << PROTOCOL_SHIFT);
    let bytes = v4().udp().payload(4);
    let at = bytes.bytes().len() - 12;
    let word =
        |at: usize| u64::from(u16::from_be_bytes([bytes.bytes()[at], bytes.bytes()[at + 1]]));
    let ports = PORTS_KNOWN | (word(at) << SOURCE_PORT_SHIFT) | word(at + 2);
    assert_ne!(ports & 0xffff, 0);
    for (frame, expected) in [
        (v4().udp().payload(4), protocol(17) | ports),
        (v6().udp().payload(4), protocol(17) | IS_V6 | ports),
        (v4().options(2).udp().payload(4), protocol(17) | ports),
        (v6().hop_by_hop(0).udp().payload(4), protocol(17) | IS_V6 | ports),
        (v4().fragment(0, true).udp().payload(4), protocol(17)),
        (v4().fragment(9, false).udp().payload(4), protocol(17)),
        (v6().fragment_header(0, true).udp().payload(4), protocol(17) | IS_V6),
        (v4().icmp(), protocol(1) | IS_ICMP),
        (v6().icmpv6(), protocol(58) | IS_V6 | IS_ICMP),
        (v4().protocol(58), protocol(58)),
        (v6().protocol(1), protocol(1) | IS_V6),
        (v4().gre().payload(8), protocol(47)),
        // Cut before its ports.
        (v4().tcp(SYN).cut_to(36), protocol(6)),
    ] {
        let found = kinds(&frame);
        assert_eq!(found, expected, "{found:#x} {:?}", frame.bytes());
    }
    let source = facts(&parse_ethernet(v6().udp().bytes()).unwrap()).0;
    assert_eq!(source[..2], halves("2001:db8::9".parse().unwrap()));
}
