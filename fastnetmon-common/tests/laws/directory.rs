//! An address finds its slot, and no other address does.

use std::net::{Ipv4Addr, Ipv6Addr};

use fastnetmon_common::directory::{FLAGGED, Found, STEPS, find4, find6};

use crate::frames::halves;
use crate::naive::{House, bucket_of};

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Slot and profile of what was found.
type Place = Option<(u32, u32)>;

fn place(found: Option<Found>) -> Place {
    found.map(|found| (found.slot, found.profile()))
}

#[track_caller]
fn check4(house: &House, address: &str, expected: Place) {
    assert_eq!(place(find4(&house, v4(address).into()).ours()), expected, "{address}");
}

/// As above, and whether the host is one without a line.
#[track_caller]
fn check6(house: &House, address: &str, expected: Place, stranger: bool) {
    let found = find6(&house, halves(v6(address))).ours();
    assert_eq!(place(found), expected, "{address}");
    assert_eq!(found.is_some_and(|found| found.stranger), stranger, "{address}");
}

#[test]
fn each_address_of_a_network_has_a_slot_of_its_own() {
    let mut house = House::default();
    house.guard4(v4("192.0.2.0"), 1, 0);
    house.guard4(v4("192.0.4.0"), 2, 127);
    house.guard4(v4("255.254.253.0"), 3, 1);
    check4(&house, "192.0.2.0", Some((256, 0)));
    check4(&house, "192.0.2.255", Some((511, 0)));
    check4(&house, "192.0.4.1", Some((513, 127)));
    check4(&house, "255.254.253.252", Some((3 * 256 + 252, 1)));
    check4(&house, "255.254.125.252", None);
}

#[test]
fn a_neighbour_of_a_network_is_not_ours() {
    let mut house = House::default();
    house.guard4(v4("192.0.2.0"), 1, 0);
    for address in ["192.0.1.255", "192.0.3.0", "192.1.2.7", "191.255.2.7", "0.0.0.0"] {
        check4(&house, address, None);
    }
}

#[test]
fn a_neighbour_of_a_single_host_is_not_ours() {
    let mut house = House::default();
    house.guard4_host(v4("192.0.2.7"), 5, 3);
    house.guard4_host(v4("192.0.2.9"), 5, 4);
    check4(&house, "192.0.2.7", Some((5 * 256 + 7, 3)));
    check4(&house, "192.0.2.9", Some((5 * 256 + 9, 4)));
    for address in ["192.0.2.6", "192.0.2.8", "192.0.2.0", "192.0.3.7"] {
        check4(&house, address, None);
    }
}

#[test]
fn the_largest_block_is_reached() {
    let mut house = House::default();
    house.guard4(v4("10.0.0.0"), 0x000f_ffff, 64);
    check4(&house, "10.0.0.255", Some((0x0fff_ffff, 64)));
}

#[test]
fn an_empty_directory_guards_nobody() {
    let house = House::default();
    check4(&house, "192.0.2.7", None);
    check6(&house, "2001:db8::1", None, false);
    check6(&house, "::", None, false);
}

#[test]
fn a_prefix_of_any_whole_number_of_bytes_is_found_and_its_neighbour_is_not() {
    let host = v6("2001:db8:1122:3344:5566:7788:99aa:bbcc");
    for bytes in 2..=2 + STEPS {
        let mut house = House::default();
        house.guard6(host, bytes, 300, 9);
        check6(&house, &host.to_string(), Some((300, 9)), true);
        for changed in 0..16 {
            let mut neighbour = host.octets();
            neighbour[changed] ^= 0x10;
            let expected = if changed < bytes { None } else { Some((300, 9)) };
            let neighbour = Ipv6Addr::from(neighbour).to_string();
            check6(&house, &neighbour, expected, expected.is_some());
        }
    }
}

#[test]
fn a_host_with_a_line_is_found_in_any_cell_of_either_bucket() {
    for second in [false, true] {
        for cell in 0..3 {
            let mut house = House::default();
            house.guard6(v6("2001:db8:1::"), 6, 300, 9);
            house.adopt(v6("2001:db8:1::7"), 301, second, cell);
            check6(&house, "2001:db8:1::7", Some((301, 9)), false);
            check6(&house, "2001:db8:1::8", Some((300, 9)), true);
        }
    }
}

#[test]
fn the_second_bucket_is_looked_at_where_the_first_ran_over_and_nowhere_else() {
    let mut house = House::default();
    house.guard6(v6("2001:db8:1::"), 6, 300, 9);
    house.adopt(v6("2001:db8:1::7"), 301, true, 2);
    check6(&house, "2001:db8:1::7", Some((301, 9)), false);
    house.overflow(v6("2001:db8:1::7"), false);
    check6(&house, "2001:db8:1::7", Some((300, 9)), true);
    // The bit stands beside the third slot, and neither spoils the other.
    house.overflow(v6("2001:db8:1::7"), true);
    house.adopt(v6("2001:db8:1::7"), 302, false, 2);
    check6(&house, "2001:db8:1::7", Some((302, 9)), false);
}

#[test]
fn three_hosts_of_one_bucket_are_told_apart() {
    let mut house = House::default();
    house.guard6(v6("2001:db8:1::"), 6, 300, 9);
    let hosts: Vec<Ipv6Addr> = (0..)
        .map(|number| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number))
        .filter(|host| bucket_of(*host, false) == 7)
        .take(4)
        .collect();
    for (cell, slot) in (301..304).enumerate() {
        house.adopt(hosts[cell], slot, false, cell);
    }
    for (cell, slot) in (301..304).enumerate() {
        check6(&house, &hosts[cell].to_string(), Some((slot, 9)), false);
    }
    check6(&house, &hosts[3].to_string(), Some((300, 9)), true);
}

#[test]
fn two_hosts_that_differ_in_either_half_are_told_apart() {
    let known = Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 1);
    let mut house = House::default();
    house.guard6(known, 6, 300, 9);
    house.adopt(known, 301, false, 0);
    for other in 2..2000 {
        for stranger in [
            Ipv6Addr::new(0x2001, 0xdb8, 1, other, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, other),
        ] {
            check6(&house, &stranger.to_string(), Some((300, 9)), true);
        }
    }
}

#[test]
fn a_flagged_entry_leads_to_the_same_place() {
    let mut house = House::default();
    house.guard4(v4("192.0.2.0"), 1, 127);
    house.guard6(v6("2001:db8:1::"), 6, 300, 9);
    house.adopt(v6("2001:db8:1::7"), 301, false, 0);
    assert!(
        find4(&&house, v4("192.0.2.7").into())
            .ours()
            .is_some_and(|found| found.entry & FLAGGED == 0)
    );
    house.flag();
    assert!(
        find4(&&house, v4("192.0.2.7").into())
            .ours()
            .is_some_and(|found| found.entry & FLAGGED != 0)
    );
    check4(&house, "192.0.2.7", Some((256 + 7, 127)));
    check6(&house, "2001:db8:1::7", Some((301, 9)), false);
    check6(&house, "2001:db8:1::8", Some((300, 9)), true);
}

#[test]
fn a_key_without_a_slot_is_no_host() {
    let mut house = House::default();
    house.guard6(v6("2001:db8:1::"), 6, 300, 9);
    house.adopt(v6("2001:db8:1::7"), 0, false, 0);
    check6(&house, "2001:db8:1::7", Some((300, 9)), true);
    // An empty bucket holds the key of `::`, three times over.
    let mut house = House::default();
    house.guard6(v6("::"), 2, 300, 0);
    check6(&house, "::", Some((300, 0)), true);
}

#[test]
fn a_line_in_the_buckets_makes_no_host_ours() {
    let mut house = House::default();
    house.guard6(v6("2001:db8:1::"), 6, 300, 9);
    house.adopt(v6("2001:db8:2::7"), 301, false, 0);
    check6(&house, "2001:db8:2::7", None, false);
}
