//! A hint is raised once a window; a spray of strangers is no spray of events.

use std::net::{Ipv4Addr, Ipv6Addr};

use fastnetmon_common::class::Direction::{self, Incoming, Outgoing};
use fastnetmon_common::class::{Class, Sides};
use fastnetmon_common::parse::{Packet, parse_ethernet};
use fastnetmon_common::table::{
    HINTS_LOST, Limit, STRANGERS_PER_WINDOW, STRANGERS_UNTOLD, WINDOW, count, window_packets,
};

use crate::frames::{Frame, halves};
use crate::naive::House;

const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const OTHERS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SLOT: u32 = 256 + 7;
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0);
const PREFIX_SLOT: u32 = 0x300;
const OTHERS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
const PROFILE: u32 = 5;

/// A house whose hosts have this limit for what comes in.
fn house(packets: u32, bytes16: u32) -> House {
    let mut house = House::default();
    house.guard4(OURS, 1, PROFILE);
    house.guard6(PREFIX, 6, PREFIX_SLOT, PROFILE);
    house.limit(Incoming, PROFILE, Limit { packets, bytes16 });
    house
}

fn incoming() -> Packet {
    parse_ethernet(Frame::ethernet().ipv4(OTHERS, OURS).udp().bytes()).unwrap()
}

/// One addition: the window, packets, bytes in all.
type Addition = (u64, u32, u32);

/// Makes the additions and compares which of them raised a hint.
#[track_caller]
fn check(packets: u32, bytes16: u32, additions: &[Addition], expected: &[usize]) {
    let house = house(packets, bytes16);
    let mut raised = Vec::new();
    for (number, (window, packets, bytes)) in additions.iter().enumerate() {
        count(&&house, &incoming(), *packets, *bytes, Sides::Destination, *window);
        for (direction, slot, word) in house.hints.borrow_mut().drain(..) {
            assert_eq!((direction, slot), (Incoming, SLOT));
            assert_eq!(word, house.word(Incoming, SLOT, WINDOW));
            raised.push(number);
        }
    }
    assert_eq!(raised, expected);
}

#[test]
fn the_packet_that_reaches_the_limit_raises_a_hint_and_no_other() {
    check(3, 0, &[(7, 1, 40); 10], &[2]);
    check(1, 0, &[(7, 1, 40); 10], &[0]);
    check(11, 0, &[(7, 1, 40); 10], &[]);
}

#[test]
fn the_bytes_that_reach_the_limit_raise_a_hint_and_no_others() {
    // 1,600 bytes are 100 units of 16.
    check(0, 300, &[(7, 1, 1600); 10], &[2]);
    check(0, 1001, &[(7, 1, 1600); 10], &[]);
    // Less than 16 bytes are none: the limit of packets is for those.
    check(0, 1, &[(7, 1, 15); 100], &[]);
}

#[test]
fn one_addition_that_steps_over_the_limit_raises_a_hint() {
    check(10, 0, &[(7, 4, 160), (7, 40, 1600), (7, 40, 1600)], &[1]);
    check(10, 0, &[(7, 1000, 40_000)], &[0]);
    check(0, 10, &[(7, 1, 100), (7, 45, 65_000), (7, 45, 65_000)], &[1]);
}

#[test]
fn packets_and_bytes_that_cross_at_once_raise_one_hint() {
    check(2, 2, &[(7, 1, 16), (7, 1, 16), (7, 1, 16)], &[1]);
    // Each on its own raises one.
    check(1, 2, &[(7, 1, 16), (7, 1, 16), (7, 1, 16)], &[0, 1]);
}

#[test]
fn a_limit_of_0_never_raises_a_hint() {
    check(0, 0, &[(7, 1, 1500); 100], &[]);
    check(0, 0, &[(7, u32::MAX, u32::MAX); 3], &[]);
}

#[test]
fn a_new_window_begins_at_zero() {
    check(3, 0, &[(1, 2, 80), (2, 2, 80), (3, 2, 80), (3, 1, 40)], &[3]);
    check(2, 0, &[(1, 2, 80), (1, 2, 80), (2, 1, 40), (2, 1, 40), (3, 5, 200)], &[0, 3, 4]);
    check(0, 10, &[(1, 1, 150), (2, 1, 150), (2, 1, 150)], &[2]);
}

#[test]
fn windows_come_round_after_255() {
    check(2, 0, &[(255, 2, 80), (0, 2, 80), (0, 2, 80), (1, 2, 80)], &[0, 1, 3]);
    // The very first packets fall into a line of zeros, which looks like window 0.
    check(2, 0, &[(0, 1, 40), (0, 1, 40)], &[1]);
    check(2, 0, &[(128, 1, 40), (128, 1, 40)], &[1]);
}

#[test]
fn every_window_is_told_from_every_other() {
    for before in [0, 1, 127, 128, 254, 255] {
        for window in 0..=255 {
            let house = house(0, 0);
            count(&&house, &incoming(), 5, 160, Sides::Destination, before);
            count(&&house, &incoming(), 1, 32, Sides::Destination, window);
            let (packets, units) = if before == window { (6, 12) } else { (1, 2) };
            let expected = (window << 56) | (packets << 32) | units;
            assert_eq!(house.word(Incoming, SLOT, WINDOW), expected, "{before}, then {window}");
        }
    }
}

#[test]
fn the_packets_of_a_window_end_at_what_the_field_holds() {
    const MOST: u32 = 0x00ff_ffff;
    let house = house(MOST, 0);
    let word = |packets, bytes| {
        count(&&house, &incoming(), packets, bytes, Sides::Destination, 9);
        house.word(Incoming, SLOT, WINDOW)
    };
    assert_eq!(word(MOST - 1, 0), 9 << 56 | u64::from(MOST - 1) << 32);
    assert!(house.hints.borrow().is_empty());
    assert_eq!(word(1, 0), 9 << 56 | u64::from(MOST) << 32);
    assert_eq!(house.hints.borrow().len(), 1);
    assert_eq!(word(1, 16), 9 << 56 | u64::from(MOST) << 32 | 1);
    assert_eq!(word(MOST, 16), 9 << 56 | u64::from(MOST) << 32 | 2);
    assert_eq!(word(u32::MAX, 16), 9 << 56 | u64::from(MOST) << 32 | 3);
    // The full field raised one hint, and did not run over into the number of the window.
    assert_eq!(house.hints.borrow().len(), 1);
    assert_eq!(window_packets(word(0, 0)), MOST);
}

#[test]
fn the_bytes_of_a_window_end_at_what_the_field_holds() {
    let house = house(0, u32::MAX);
    // 2^28 - 1 units of 16 at most in one addition: 16 of them nearly fill the field.
    for _ in 0..16 {
        count(&&house, &incoming(), 1, u32::MAX, Sides::Destination, 9);
    }
    assert_eq!(house.word(Incoming, SLOT, WINDOW), 9 << 56 | 16 << 32 | 0xffff_fff0);
    assert!(house.hints.borrow().is_empty());
    for _ in 0..3 {
        count(&&house, &incoming(), 1, u32::MAX, Sides::Destination, 9);
    }
    assert_eq!(house.word(Incoming, SLOT, WINDOW), 9 << 56 | 19 << 32 | 0xffff_ffff);
    assert_eq!(house.hints.borrow().len(), 1);
}

#[test]
fn a_direction_has_its_own_limit() {
    let mut house = house(2, 0);
    house.limit(Outgoing, PROFILE, Limit { packets: 3, bytes16: 0 });
    let outgoing = parse_ethernet(Frame::ethernet().ipv4(OURS, OTHERS).udp().bytes()).unwrap();
    for _ in 0..5 {
        count(&&house, &incoming(), 1, 28, Sides::Both, 0);
        count(&&house, &outgoing, 1, 28, Sides::Both, 0);
    }
    let hints: Vec<(Direction, u64)> = house
        .hints
        .borrow()
        .iter()
        .map(|(direction, _, word)| (*direction, u64::from(window_packets(*word))))
        .collect();
    assert_eq!(hints, [(Incoming, 2), (Outgoing, 3)]);
}

#[test]
fn a_prefix_has_limits_too() {
    let house = house(3, 0);
    for host in 1..=5 {
        count(&&house, &stranger(host), 1, 48, Sides::Destination, 0);
    }
    let hints: Vec<(Direction, u32)> =
        house.hints.borrow().iter().map(|(direction, slot, _)| (*direction, *slot)).collect();
    assert_eq!(hints, [(Incoming, PREFIX_SLOT)]);
}

#[test]
fn a_hint_that_finds_no_room_is_counted() {
    let house = house(1, 0);
    house.hints_full.set(true);
    for window in 0..4 {
        count(&&house, &incoming(), 1, 28, Sides::Destination, window);
        count(&&house, &incoming(), 1, 28, Sides::Destination, window);
    }
    assert_eq!(house.class(Incoming, HINTS_LOST, Class::Other), (4, 0));
    assert_eq!(house.sum(Incoming, SLOT), (8, 8 * 28));
}

// ── strangers ──

/// A packet for a host of ours that has no line.
fn stranger(host: u64) -> Packet {
    parse_ethernet(Frame::ethernet().ipv6(OTHERS6, numbered(host)).udp().bytes()).unwrap()
}

fn numbered(host: u64) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(PREFIX) | u128::from(host))
}

/// How many strangers were told since the last time.
fn told(house: &House) -> u64 {
    u64::try_from(house.strangers.borrow_mut().drain(..).count()).unwrap()
}

#[test]
fn a_stranger_is_told_with_its_address_and_its_prefix() {
    let house = house(0, 0);
    count(&&house, &stranger(77), 1, 48, Sides::Destination, 0);
    let back = parse_ethernet(Frame::ethernet().ipv6(numbered(78), OTHERS6).udp().bytes()).unwrap();
    count(&&house, &back, 1, 48, Sides::Source, 0);
    assert_eq!(
        *house.strangers.borrow(),
        [
            (Incoming, halves(numbered(77)), PREFIX_SLOT),
            (Outgoing, halves(numbered(78)), PREFIX_SLOT),
        ]
    );
}

#[test]
fn a_stranger_on_the_side_that_is_not_counted_is_not_told() {
    let house = house(0, 0);
    count(&&house, &stranger(77), 1, 48, Sides::Source, 0);
    let back = parse_ethernet(Frame::ethernet().ipv6(numbered(78), OTHERS6).udp().bytes()).unwrap();
    count(&&house, &back, 1, 48, Sides::Destination, 0);
    assert_eq!(told(&house), 0);
    assert_eq!(house.sum(Incoming, STRANGERS_UNTOLD), (0, 0));
}

#[test]
fn a_host_with_a_line_and_a_host_of_others_are_no_strangers() {
    let mut house = house(0, 0);
    house.adopt(numbered(77), 0x301, false, 0);
    count(&&house, &stranger(77), 1, 48, Sides::Both, 0);
    assert_eq!(told(&house), 0);
}

#[test]
fn a_window_tells_so_many_strangers_and_counts_the_rest() {
    let house = house(0, 0);
    let mut untold = 0;
    for window in [0, 1, 2, 255, 0] {
        for host in 0..STRANGERS_PER_WINDOW + 500 {
            count(&&house, &stranger(host + 1), 1, 48, Sides::Destination, window);
        }
        untold += 500;
        assert_eq!(told(&house), STRANGERS_PER_WINDOW, "window {window}");
        assert_eq!(house.class(Incoming, STRANGERS_UNTOLD, Class::Other), (untold, 0));
    }
    // Told or not, all of them are counted.
    let packets = 5 * (STRANGERS_PER_WINDOW + 500);
    assert_eq!(house.sum(Incoming, PREFIX_SLOT), (packets, packets * 48));
}

#[test]
fn both_directions_share_what_may_be_told() {
    let house = house(0, 0);
    for host in 0..STRANGERS_PER_WINDOW {
        let frame = Frame::ethernet().ipv6(numbered(host + 1), numbered(host + 100_000)).udp();
        let packet = parse_ethernet(frame.bytes()).unwrap();
        count(&&house, &packet, 1, 48, Sides::Both, 3);
    }
    assert_eq!(told(&house), STRANGERS_PER_WINDOW);
    assert_eq!(house.sum(Incoming, STRANGERS_UNTOLD), (STRANGERS_PER_WINDOW, 0));
}

#[test]
fn a_stranger_that_finds_no_room_is_counted_and_does_not_use_up_the_window() {
    let house = house(0, 0);
    house.strangers_full.set(true);
    for host in 0..2 * STRANGERS_PER_WINDOW {
        count(&&house, &stranger(host + 1), 1, 48, Sides::Destination, 3);
    }
    assert_eq!(house.sum(Incoming, STRANGERS_UNTOLD), (2 * STRANGERS_PER_WINDOW, 0));
    house.strangers_full.set(false);
    count(&&house, &stranger(1), 1, 48, Sides::Destination, 3);
    assert_eq!(told(&house), 1);
}
