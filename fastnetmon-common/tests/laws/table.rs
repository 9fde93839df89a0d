//! Each frame is added exactly once to what totals are made of.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastnetmon_common::class::Direction::{Incoming, Outgoing};
use fastnetmon_common::class::{Class, Direction, Sides, Unparsed};
use fastnetmon_common::parse::{Packet, parse_ethernet};
use fastnetmon_common::table::{
    INTERNAL, MIRRORED, OTHER, PACKET_SHIFT, PADDING, UNPARSED, WINDOW, count, gained, lost,
    packed, sparse, unparsed,
};

use crate::frames::{ACK, Frame, SYN};
use crate::naive::House;
use crate::random::Random;

/// Two hosts of ours and two of others, of one family.
struct Family {
    ours: [IpAddr; 2],
    slots: [u32; 2],
    others: [IpAddr; 2],
}

const V4: Family = Family {
    ours: [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9))],
    slots: [256 + 7, 512 + 9],
    others: [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V4(Ipv4Addr::new(203, 0, 112, 9))],
};

/// Hosts with a line of their own.
const V6: Family = Family {
    ours: [
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 9)),
    ],
    slots: [0x301, 0x302],
    others: [
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb9, 1, 0, 0, 0, 0, 7)),
    ],
};

/// Hosts of ours that are counted on the line of their prefix.
const STRANGERS: Family = Family {
    ours: [
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 8)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 1, 9)),
    ],
    slots: [0x311, 0x312],
    others: V6.others,
};

fn house() -> House {
    let mut house = House::default();
    house.guard4(Ipv4Addr::new(192, 0, 2, 0), 1, 1);
    house.guard4_host(Ipv4Addr::new(203, 0, 113, 9), 2, 2);
    for at in 0..2 {
        let (IpAddr::V6(host), slot) = (V6.ours[at], V6.slots[at]) else { unreachable!() };
        house.guard6(host, 6, STRANGERS.slots[at], 3);
        house.adopt(host, slot, at == 1, at);
    }
    house
}

fn frame(src: IpAddr, dst: IpAddr) -> Frame {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Frame::ethernet().ipv4(src, dst),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Frame::ethernet().ipv6(src, dst),
        _ => unreachable!("both ends are of one family"),
    }
}

fn packet(src: IpAddr, dst: IpAddr) -> Packet {
    parse_ethernet(frame(src, dst).udp().payload(100).bytes()).unwrap()
}

/// Counts one packet and compares the lines that were touched, each with just that packet.
#[track_caller]
fn check(sides: Sides, src: IpAddr, dst: IpAddr, expected: &[(Direction, u32)]) {
    let house = house();
    let packet = packet(src, dst);
    let touched = count(&&house, &packet, 1, packet.bytes, sides, 0);
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(house.touched(), expected);
    for (direction, slot) in &expected {
        assert_eq!(
            house.class(*direction, *slot, Class::Udp),
            (1, u64::from(packet.bytes)),
            "{direction:?} {slot}"
        );
    }
    // The caller is told of the hosts, and of no line of the house.
    let hosts: Vec<(Direction, u32)> = [
        touched.destination.ours().map(|found| (Incoming, found.slot)),
        touched.source.ours().map(|found| (Outgoing, found.slot)),
    ]
    .into_iter()
    .flatten()
    .collect();
    expected.retain(|(_, slot)| *slot >= 256);
    assert_eq!(hosts, expected);
}

#[test]
fn an_uplink_counts_what_arrives_for_its_destination() {
    for Family { ours: [a, b], slots: [_, b_slot], others: [x, y] } in [V4, V6, STRANGERS] {
        let sides = Sides::Destination;
        check(sides, x, b, &[(Incoming, b_slot)]);
        check(sides, a, b, &[(Incoming, b_slot), (Incoming, INTERNAL)]);
        check(sides, b, b, &[(Incoming, b_slot), (Incoming, INTERNAL)]);
        // What we send elsewhere is counted where it leaves.
        check(sides, a, x, &[(Incoming, OTHER)]);
        check(sides, x, y, &[(Incoming, OTHER)]);
    }
}

#[test]
fn an_uplink_counts_what_leaves_for_its_source() {
    for Family { ours: [a, b], slots: [a_slot, b_slot], others: [x, y] } in [V4, V6, STRANGERS] {
        let sides = Sides::Source;
        check(sides, a, x, &[(Outgoing, a_slot)]);
        check(sides, a, b, &[(Outgoing, a_slot), (Outgoing, INTERNAL)]);
        check(sides, b, b, &[(Outgoing, b_slot), (Outgoing, INTERNAL)]);
        check(sides, x, a, &[(Outgoing, OTHER)]);
        check(sides, x, y, &[(Outgoing, OTHER)]);
    }
}

#[test]
fn a_mirror_counts_both_ends() {
    for Family { ours: [a, b], slots: [a_slot, b_slot], others: [x, y] } in [V4, V6, STRANGERS] {
        let sides = Sides::Both;
        check(sides, a, x, &[(Outgoing, a_slot)]);
        check(sides, x, b, &[(Incoming, b_slot)]);
        check(sides, a, b, &[(Outgoing, a_slot), (Incoming, b_slot), (Incoming, MIRRORED)]);
        check(sides, b, b, &[(Outgoing, b_slot), (Incoming, b_slot), (Incoming, MIRRORED)]);
        check(sides, x, y, &[(Incoming, OTHER)]);
    }
}

#[test]
fn a_host_with_a_line_and_one_without_are_counted_alike() {
    let (known, stranger) = (V6.ours[0], STRANGERS.ours[1]);
    let (known_slot, stranger_slot) = (V6.slots[0], STRANGERS.slots[1]);
    check(
        Sides::Both,
        known,
        stranger,
        &[(Outgoing, known_slot), (Incoming, stranger_slot), (Incoming, MIRRORED)],
    );
    check(Sides::Destination, stranger, known, &[(Incoming, known_slot), (Incoming, INTERNAL)]);
    check(Sides::Source, stranger, known, &[(Outgoing, stranger_slot), (Outgoing, INTERNAL)]);
}

#[test]
fn a_class_has_a_word_of_its_own() {
    for class in Class::ALL {
        let house = house();
        let packet = Packet { class, ..packet(V4.others[0], V4.ours[0]) };
        count(&&house, &packet, 3, 500, Sides::Destination, 0);
        for word in Class::ALL {
            let expected = if word == class { (3, 500) } else { (0, 0) };
            assert_eq!(house.class(Incoming, V4.slots[0], word), expected, "{word:?} {class:?}");
        }
    }
}

#[test]
fn a_line_of_the_house_is_counted_by_class_too() {
    let house = house();
    for (src, dst, line) in
        [(V4.others[0], V4.others[1], OTHER), (V6.ours[0], V6.ours[1], MIRRORED)]
    {
        let syn = parse_ethernet(frame(src, dst).tcp(SYN).bytes()).unwrap();
        count(&&house, &syn, 1, syn.bytes, Sides::Both, 0);
        assert_eq!(house.class(Incoming, line, Class::Syn), (1, u64::from(syn.bytes)));
    }
}

#[test]
fn padding_is_counted_apart_where_it_was_seen() {
    for (sides, seen) in
        [(Sides::Destination, Incoming), (Sides::Source, Outgoing), (Sides::Both, Incoming)]
    {
        let house = house();
        let (x, a) = (V4.others[0], V4.ours[0]);
        let padded = parse_ethernet(frame(x, a).udp().payload(100).padding(40).bytes()).unwrap();
        count(&&house, &padded, 1, padded.bytes, sides, 0);
        assert_eq!(house.class(seen, PADDING, Class::Udp), (1, 40));
        assert_eq!(house.sum(seen.reversed(), PADDING), (0, 0));
        let bare = packet(x, a);
        count(&&house, &bare, 1, bare.bytes, sides, 0);
        assert_eq!(house.sum(seen, PADDING), (1, 40));
    }
}

#[test]
fn a_reason_for_refusal_has_a_line_of_its_own_in_each_direction() {
    for seen in Direction::BOTH {
        for why in Unparsed::ALL {
            let house = house();
            unparsed(&&house, why, seen, 2, 120);
            assert_eq!(house.touched(), [(seen, UNPARSED + why as u32)]);
            assert_eq!(house.sum(seen, UNPARSED + why as u32), (2, 120));
        }
    }
}

#[test]
fn a_loss_is_one_event() {
    let house = house();
    for _ in 0..3 {
        lost(&&house, 16);
    }
    assert_eq!(house.sum(Incoming, 16), (3, 0));
}

// ── the law ──

/// What the screen makes of the lines of one writer.
#[derive(Debug, Default, Eq, PartialEq)]
struct Totals {
    incoming: (u64, u64),
    outgoing: (u64, u64),
    internal: (u64, u64),
    other: (u64, u64),
    unparsed: (u64, u64),
}

impl Totals {
    fn of(house: &House) -> Self {
        let hosts = |direction| {
            house
                .touched()
                .into_iter()
                .filter(|(of, slot)| *of == direction && *slot >= 256)
                .map(|(_, slot)| house.sum(direction, slot))
                .fold((0, 0), plus)
        };
        let both = |slot| plus(house.sum(Incoming, slot), house.sum(Outgoing, slot));
        let mirrored = both(MIRRORED);
        let less = |sum, internal| minus(minus(sum, internal), mirrored);
        Self {
            incoming: less(hosts(Incoming), house.sum(Incoming, INTERNAL)),
            outgoing: less(hosts(Outgoing), house.sum(Outgoing, INTERNAL)),
            internal: plus(both(INTERNAL), mirrored),
            other: both(OTHER),
            unparsed: Unparsed::ALL
                .iter()
                .map(|why| both(UNPARSED + *why as u32))
                .fold((0, 0), plus),
        }
    }

    fn sum(&self) -> (u64, u64) {
        [self.incoming, self.outgoing, self.internal, self.other, self.unparsed]
            .into_iter()
            .fold((0, 0), plus)
    }
}

const fn plus(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}

const fn minus(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 - b.0, a.1 - b.1)
}

/// The line of an address, found by looking at it.
fn slot_of(address: IpAddr) -> Option<u32> {
    for family in [V4, V6] {
        if let Some(at) = family.ours.iter().position(|ours| *ours == address) {
            return Some(family.slots[at]);
        }
    }
    match address {
        IpAddr::V4(address) => match address.octets() {
            [192, 0, 2, host] => Some(256 + u32::from(host)),
            _ => None,
        },
        IpAddr::V6(address) => match address.segments() {
            [0x2001, 0xdb8, 1, ..] => Some(STRANGERS.slots[0]),
            [0x2001, 0xdb8, 2, ..] => Some(STRANGERS.slots[1]),
            _ => None,
        },
    }
}

fn address(random: &mut Random, v6: bool) -> IpAddr {
    if v6 {
        let mut segments = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0];
        segments[2] = u16::from(random.byte() % 4);
        segments[7] = u16::from(random.byte() % 16);
        IpAddr::V6(Ipv6Addr::from(segments))
    } else {
        let network = random.pick(&[[192, 0, 2], [203, 0, 113], [198, 51, 100]]);
        let [a, b, c] = network;
        IpAddr::V4(Ipv4Addr::new(a, b, c, random.byte() % 16))
    }
}

fn any_frame(random: &mut Random) -> (Frame, Option<(IpAddr, IpAddr)>) {
    match random.below(20) {
        0 => (Frame::ethernet().arp().padding(18), None),
        1 => (Frame::ethernet().of_type(0x88cc).payload(100), None),
        2 => (Frame::ethernet().vlan().vlan().vlan().vlan().payload(46), None),
        _ => {
            let v6 = random.percent(50);
            let (src, dst) = (address(random, v6), address(random, v6));
            let frame = frame(src, dst);
            let frame = match random.below(6) {
                0 => frame.tcp(SYN),
                1 => frame.tcp_with_options(ACK, 3),
                2 => frame.udp(),
                3 if v6 => frame.fragment_header(5, true),
                3 => frame.fragment(5, true),
                4 => frame.icmp(),
                _ => frame.gre(),
            };
            let payload = random.below(1400);
            (frame.payload(payload).padding(random.pick(&[0, 0, 0, 9, 60])), Some((src, dst)))
        }
    }
}

/// Packets and bytes by direction, slot and class.
type Model = HashMap<(Direction, u32, Class), (u64, u64)>;

/// Every frame is added exactly once to the totals, and to the lines of its addresses as often as
/// the side of the port says.
#[track_caller]
fn check_law(sides: Sides) {
    for puts_off in [false, true] {
        let mut house = house();
        house.puts_off = puts_off;
        check_law_of(&house, sides);
    }
}

#[track_caller]
fn check_law_of(house: &House, sides: Sides) {
    let mut random = Random::new(0x1a3_0001);
    let mut sent = (0, 0);
    let mut padding = (0, 0);
    let mut model = Model::new();
    let seen = if sides.destination() { Incoming } else { Outgoing };
    for number in 0..20_000_u64 {
        let (frame, ends) = any_frame(&mut random);
        let segments = random.pick(&[0, 0, 1, 1, 2, 45]);
        let window = (number / 100) % 256;
        let packet = match parse_ethernet(frame.bytes()) {
            Ok(packet) => packet,
            Err(why) => {
                let bytes = u32::try_from(frame.bytes().len()).unwrap();
                unparsed(&house, why, seen, 1, bytes);
                sent = plus(sent, (1, u64::from(bytes)));
                continue;
            }
        };
        let (packets, bytes) = packet.segmented(segments);
        count(&house, &packet, packets, bytes, sides, window);
        // Most are not sampled, and their hosts looked for when additions are made.
        sparse(&house, || 7);
        house.make_up(16, window);
        let amount = (u64::from(packets), u64::from(bytes));
        sent = plus(sent, amount);
        if packet.padding != 0 {
            padding = plus(padding, (amount.0, u64::from(packet.padding)));
        }
        let (src, dst) = ends.unwrap();
        let ends = [(Outgoing, src, sides.source()), (Incoming, dst, sides.destination())];
        for (direction, address, counted) in ends {
            if let (true, Some(slot)) = (counted, slot_of(address)) {
                let entry = model.entry((direction, slot, packet.class)).or_default();
                *entry = plus(*entry, amount);
            }
        }
    }
    house.make_up(0, 0);
    let totals = Totals::of(house);
    assert_eq!(totals.sum(), sent, "{totals:?}");
    assert_eq!(plus(house.sum(Incoming, PADDING), house.sum(Outgoing, PADDING)), padding);
    assert!(padding.0 > 1000, "{padding:?}");
    for ((direction, slot, class), expected) in &model {
        let counted = house.class(*direction, *slot, *class);
        assert_eq!(counted, *expected, "{direction:?} {slot} {class:?}");
    }
    let hosts = house.touched().into_iter().filter(|(_, slot)| *slot >= 256).count();
    let mut expected: Vec<(Direction, u32)> =
        model.keys().map(|(direction, slot, _)| (*direction, *slot)).collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(hosts, expected.len());
    // Whoever reads only the lines that are said to have moved misses none.
    assert_eq!(house.stirred.borrow().iter().copied().collect::<Vec<_>>(), expected);
    // Nothing above was about nothing.
    let Totals { incoming, outgoing, internal, other, unparsed } = totals;
    assert_eq!(incoming.0 > 1000, sides.destination());
    assert_eq!(outgoing.0 > 1000, sides.source());
    assert!(internal.0 > 1000 && other.0 > 1000 && unparsed.0 > 1000);
}

#[test]
fn each_frame_that_arrives_is_added_exactly_once() {
    check_law(Sides::Destination);
}

#[test]
fn each_frame_that_leaves_is_added_exactly_once() {
    check_law(Sides::Source);
}

#[test]
fn each_frame_of_a_mirror_is_added_exactly_once() {
    check_law(Sides::Both);
}

#[test]
fn what_leaves_by_one_uplink_and_comes_back_by_another_is_no_incoming_attack_of_its_source() {
    // A forged source of ours, from outside: counted for its destination alone.
    let house = house();
    let forged = packet(V4.ours[0], V4.ours[1]);
    count(&&house, &forged, 1, forged.bytes, Sides::Destination, 0);
    for direction in Direction::BOTH {
        assert_eq!(house.sum(direction, V4.slots[0]), (0, 0));
    }
}

// ── words ──

#[test]
fn a_gain_is_exact_although_bytes_carry_into_packets() {
    let mut random = Random::new(0x6a1_0001);
    for _ in 0..2_000 {
        let before = random.word();
        let mut word = before;
        let mut expected = (0, 0);
        for _ in 0..random.below(200) {
            let packets = u32::from(random.byte());
            let bytes = u32::try_from(random.below(1 << 28)).unwrap();
            word = word.wrapping_add(packed(packets, bytes));
            expected = plus(expected, (u64::from(packets), u64::from(bytes)));
        }
        assert_eq!(gained(before, word), expected, "from {before:#018x}");
    }
}

#[test]
fn a_gain_is_exact_up_to_its_limits() {
    let most_packets = (1_u64 << (64 - PACKET_SHIFT)) - 1;
    let most_bytes = (1_u64 << PACKET_SHIFT) - 1;
    for before in [0, 1, most_bytes, u64::MAX, 1 << 63] {
        let after = before.wrapping_add((most_packets << PACKET_SHIFT) | most_bytes);
        assert_eq!(gained(before, after), (most_packets, most_bytes));
        assert_eq!(gained(before, before), (0, 0));
    }
    assert_eq!(gained(0, packed(u32::MAX >> 4, u32::MAX)), (0x0fff_ffff, 0xffff_ffff));
}

#[test]
fn gains_of_several_writers_are_summed_before_the_difference() {
    let mut random = Random::new(0x6a1_0002);
    let rows: Vec<u64> = (0..64).map(|_| random.word()).collect();
    let before = rows.iter().fold(0_u64, |sum, row| sum.wrapping_add(*row));
    let after = rows
        .iter()
        .fold(0_u64, |sum, row| sum.wrapping_add(row.wrapping_add(packed(1000, 64_000))));
    assert_eq!(gained(before, after), (64_000, 64 * 64_000));
}

#[test]
fn a_count_leaves_the_words_it_has_no_business_with() {
    let house = house();
    let packet = packet(V4.others[0], V4.ours[0]);
    count(&&house, &packet, 1, packet.bytes, Sides::Destination, 7);
    let words: Vec<usize> =
        (0..8).filter(|word| house.word(Incoming, V4.slots[0], *word) != 0).collect();
    assert_eq!(words, [Class::Udp as usize, WINDOW]);
    // Lines of the house have no window.
    count(&&house, &packet, 1, packet.bytes, Sides::Source, 7);
    assert_eq!(house.word(Outgoing, OTHER, WINDOW), 0);
}

// ── sparse samples ──

#[track_caller]
fn check_sparse(every: u32, packets: usize, expected: usize) {
    let house = house();
    let kept = (0..packets).filter(|_| sparse(&&house, || every)).count();
    assert_eq!(kept, expected);
}

#[test]
fn exactly_one_in_n_is_kept() {
    check_sparse(1, 1000, 1000);
    check_sparse(2, 1000, 500);
    check_sparse(3, 999, 333);
    check_sparse(1024, 10 * 1024, 10);
    // The first one is among them, so that a short flood leaves a trace.
    check_sparse(1024, 1, 1);
    check_sparse(1024, 1024, 1);
    check_sparse(1024, 1025, 2);
    check_sparse(u32::MAX, 5000, 1);
}

#[test]
fn kept_packets_are_evenly_apart() {
    let house = house();
    let kept: Vec<usize> = (0..40).filter(|_| sparse(&&house, || 8)).collect();
    assert_eq!(kept, [0, 8, 16, 24, 32]);
}

#[test]
fn none_in_0_is_kept() {
    check_sparse(0, 5000, 0);
}
