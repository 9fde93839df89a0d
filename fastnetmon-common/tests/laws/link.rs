//! What stands between Ethernet and IP: the first four rows of the parser's rules.

use fastnetmon_common::class::Class;
use fastnetmon_common::class::Unparsed::{Arp, Nested, NotIp, Short, Version};
use fastnetmon_common::parse::{parse_ethernet, parse_ip};
use fastnetmon_common::wire::Ports;
use fastnetmon_common::wire::Wire as _;

use crate::frames::{Frame, PORTS, SYN};
use crate::network::{A4, A6, B4, B6, check, counted, refused};

/// Bytes of an IPv4 packet with a UDP header and 18 bytes of payload: no padding needed.
const UDP4: u32 = 20 + 8 + 18;
/// Its counterpart.
const UDP6: u32 = 40 + 8 + 18;

fn udp4(frame: Frame) -> Frame {
    frame.ipv4(A4, B4).udp().payload(18)
}

fn udp6(frame: Frame) -> Frame {
    frame.ipv6(A6, B6).udp().payload(18)
}

/// An IPv4 packet behind so many bytes is read, and its ports are found.
#[track_caller]
fn looked_through(frame: Frame, link: u32) {
    let bytes = frame.bytes().to_vec();
    check(frame, counted(Class::Udp, UDP4, 17, link + 20, 28));
    let ports: Ports = bytes.as_slice().header(usize::try_from(link).unwrap() + 20).unwrap();
    assert_eq!((ports.src.get(), ports.dst.get()), PORTS);
}

#[test]
fn a_packet_right_behind_ethernet_is_read() {
    looked_through(udp4(Frame::ethernet()), 14);
    check(udp6(Frame::ethernet()), counted(Class::Udp, UDP6, 17, 54, 48));
}

#[test]
fn up_to_three_tags_are_looked_through() {
    looked_through(udp4(Frame::ethernet().vlan()), 18);
    looked_through(udp4(Frame::ethernet().service_vlan()), 18);
    looked_through(udp4(Frame::ethernet().service_vlan().vlan()), 22);
    looked_through(udp4(Frame::ethernet().vlan().vlan().vlan()), 26);
    looked_through(udp4(Frame::ethernet().service_vlan().service_vlan().vlan()), 26);
    check(
        udp6(Frame::ethernet().service_vlan().vlan().vlan()),
        counted(Class::Udp, UDP6, 17, 66, 48),
    );
}

#[test]
fn a_fourth_tag_is_nested() {
    check(udp4(Frame::ethernet().vlan().vlan().vlan().vlan()), refused(Nested));
    check(udp6(Frame::ethernet().service_vlan().vlan().vlan().service_vlan()), refused(Nested));
    check(Frame::ethernet().vlan().vlan().vlan().vlan().arp(), refused(Nested));
}

#[test]
fn a_tag_cut_off_is_short() {
    let frame = udp4(Frame::ethernet().service_vlan().vlan());
    for length in 14..22 {
        check(frame.clone().cut_to(length), refused(Short));
    }
}

#[test]
fn a_tag_of_no_standard_is_not_ip() {
    check(udp4(Frame::ethernet().tag(0x9100)), refused(NotIp));
    check(udp4(Frame::ethernet().vlan().tag(0x9200)), refused(NotIp));
}

#[test]
fn up_to_four_labels_are_looked_through() {
    for labels in 1..=4 {
        let link = 14 + 4 * u32::try_from(labels).unwrap();
        looked_through(udp4(Frame::ethernet().mpls(labels)), link);
        check(udp6(Frame::ethernet().mpls(labels)), counted(Class::Udp, UDP6, 17, link + 40, 48));
    }
    looked_through(udp4(Frame::ethernet().vlan().vlan().vlan().mpls(4)), 14 + 12 + 16);
}

#[test]
fn labels_for_many_receivers_are_labels() {
    looked_through(udp4(Frame::ethernet().mpls_multicast(2)), 22);
}

#[test]
fn a_fifth_label_is_nested() {
    check(udp4(Frame::ethernet().mpls(5)), refused(Nested));
    check(udp6(Frame::ethernet().vlan().mpls(6)), refused(Nested));
}

#[test]
fn behind_labels_the_first_nibble_decides() {
    check(udp4(Frame::ethernet().mpls(1)).version(5), refused(NotIp));
    // A pseudowire's control word (RFC 4385) begins with 0.
    check(Frame::ethernet().mpls(2).payload(60), refused(NotIp));
    check(udp4(Frame::ethernet().mpls(1)).version(0), refused(NotIp));
    // What calls itself IPv6 is read as IPv6, here with too few bytes for it.
    check(Frame::ethernet().mpls(1).ipv4(A4, B4).version(6), refused(Short));
}

#[test]
fn labels_cut_off_are_short() {
    let frame = udp4(Frame::ethernet().mpls(3));
    // Within a label, and with nothing behind the last one.
    for length in 14..=26 {
        check(frame.clone().cut_to(length), refused(Short));
    }
}

#[test]
fn a_session_is_looked_through() {
    looked_through(udp4(Frame::ethernet().pppoe()), 22);
    looked_through(udp4(Frame::ethernet().service_vlan().vlan().pppoe()), 30);
    check(udp6(Frame::ethernet().pppoe()), counted(Class::Udp, UDP6, 17, 62, 48));
}

#[test]
fn a_session_without_ip_is_not_ip() {
    // Echo requests of LCP, MPLS within PPP, and what has no number at all.
    check(Frame::ethernet().pppoe().of_type(0xc021).payload(40), refused(NotIp));
    check(Frame::ethernet().pppoe().mpls(1).payload(40), refused(NotIp));
    check(Frame::ethernet().pppoe().of_type(0).payload(40), refused(NotIp));
}

#[test]
fn a_session_within_a_session_is_not_ip() {
    check(Frame::ethernet().pppoe().of_type(0x8864).payload(40), refused(NotIp));
}

#[test]
fn the_discovery_of_sessions_is_not_ip() {
    check(Frame::ethernet().of_type(0x8863).payload(46), refused(NotIp));
}

#[test]
fn a_session_cut_off_is_short() {
    let frame = udp4(Frame::ethernet().pppoe());
    for length in 14..22 {
        check(frame.clone().cut_to(length), refused(Short));
    }
}

#[test]
fn arp_is_counted_apart() {
    check(Frame::ethernet().arp().padding(18), refused(Arp));
    check(Frame::ethernet().vlan().vlan().vlan().arp(), refused(Arp));
    check(Frame::ethernet().arp().cut_to(14), refused(Arp));
}

#[test]
fn what_is_not_ip_is_told() {
    // LLDP, MACsec, a length instead of a type (IEEE 802.3), and no type at all.
    for ethertype in [0x88cc, 0x88e5, 0x0026, 0x0000] {
        check(Frame::ethernet().of_type(ethertype).payload(46), refused(NotIp));
        check(Frame::ethernet().vlan().of_type(ethertype).payload(46), refused(NotIp));
    }
}

#[test]
fn a_frame_that_ends_before_its_type_is_short() {
    let frame = udp4(Frame::ethernet());
    for length in 0..14 {
        check(frame.clone().cut_to(length), refused(Short));
    }
}

#[test]
fn a_frame_that_ends_before_its_fixed_ip_header_is_short() {
    for length in 14..34 {
        check(udp4(Frame::ethernet()).cut_to(length), refused(Short));
    }
    for length in 14..54 {
        check(udp6(Frame::ethernet()).cut_to(length), refused(Short));
    }
}

#[test]
fn a_version_that_contradicts_the_type_is_told() {
    for version in (0..16).filter(|version| *version != 4) {
        check(udp4(Frame::ethernet()).version(version), refused(Version));
        check(udp4(Frame::ethernet().vlan()).version(version), refused(Version));
        check(udp4(Frame::ethernet().pppoe()).version(version), refused(Version));
    }
    for version in (0..16).filter(|version| *version != 6) {
        check(udp6(Frame::ethernet()).version(version), refused(Version));
        check(udp6(Frame::ethernet().pppoe()).version(version), refused(Version));
    }
}

#[test]
fn without_a_link_header_the_first_nibble_decides() {
    let frame = Frame::bare().ipv4(A4, B4).tcp(SYN);
    let packet = parse_ip(frame.bytes(), 0).unwrap();
    assert_eq!((packet.ends, packet.class), (frame.ends(), Class::Syn));
    assert_eq!((packet.transport_at, packet.headers), (20, 40));

    let frame = Frame::bare().ipv6(A6, B6).tcp(SYN);
    let packet = parse_ip(frame.bytes(), 0).unwrap();
    assert_eq!((packet.ends, packet.class), (frame.ends(), Class::Syn));
    assert_eq!((packet.transport_at, packet.headers), (40, 60));

    for version in (0..16).filter(|version| *version != 4 && *version != 6) {
        let frame = Frame::bare().ipv4(A4, B4).udp().version(version);
        assert_eq!(parse_ip(frame.bytes(), 0), Err(Version));
    }
    assert_eq!(parse_ip([].as_slice(), 0), Err(Short));
}

#[test]
fn an_ip_header_may_stand_anywhere() {
    let frame = udp4(Frame::ethernet().mpls(2));
    assert_eq!(parse_ip(frame.bytes(), 22), parse_ethernet(frame.bytes()));
    assert_eq!(parse_ip(frame.bytes(), frame.bytes().len()), Err(Short));
    assert_eq!(parse_ip(frame.bytes(), frame.bytes().len() + 1), Err(Short));
}
