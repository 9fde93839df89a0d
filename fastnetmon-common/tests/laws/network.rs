//! What stands in and behind the fixed IP header: the other rows of the parser's rules.

use std::net::{Ipv4Addr, Ipv6Addr};

use fastnetmon_common::class::{Class, Unparsed};
use fastnetmon_common::parse::{Ends, Family, Packet, parse_ethernet};
use fastnetmon_common::wire::Captured;

use crate::frames::{ACK, ECE, FIN, Frame, RST, SYN};

pub(crate) const A4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub(crate) const B4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 250);
pub(crate) const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6);
pub(crate) const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// What a row of a table expects beside the addresses, which the frame itself knows.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    Counted {
        class: Class,
        bytes: u32,
        protocol: u8,
        transport_at: u32,
        headers: u32,
        padding: u32,
    },
    Refused(Unparsed),
}

/// Counted as `class` with `bytes` IP bytes; `protocol` begins at `transport_at`; IP and transport
/// header are `headers` bytes long together.
pub(crate) const fn counted(
    class: Class,
    bytes: u32,
    protocol: u8,
    transport_at: u32,
    headers: u32,
) -> Expected {
    Expected::Counted { class, bytes, protocol, transport_at, headers, padding: 0 }
}

/// Not counted for any address, for this reason.
pub(crate) const fn refused(why: Unparsed) -> Expected {
    Expected::Refused(why)
}

#[track_caller]
pub(crate) fn check(frame: Frame, expected: Expected) {
    let expected = match expected {
        Expected::Refused(why) => Err(why),
        Expected::Counted { class, bytes, protocol, transport_at, headers, padding } => {
            let ends = frame.ends();
            Ok(Packet { ends, class, bytes, headers, protocol, transport_at, padding })
        }
    };
    assert_eq!(parse_ethernet(frame.bytes()), expected);
}

fn v4() -> Frame {
    Frame::ethernet().ipv4(A4, B4)
}

fn v6() -> Frame {
    Frame::ethernet().ipv6(A6, B6)
}

// ── addresses ──

#[test]
fn addresses_are_in_host_order_upper_half_first() {
    let packet = parse_ethernet(v4().udp().bytes()).unwrap();
    let (src, dst) = ([0, 0xc000_0207], [0, 0xc633_64fa]);
    assert_eq!(packet.ends, Ends { family: Family::V4, src, dst });
    let packet = parse_ethernet(v6().udp().bytes()).unwrap();
    let src = [0x2001_0db8_0001_0002, 0x0003_0004_0005_0006];
    let dst = [0x2001_0db8_ffff_0000, 0x0000_0000_0000_0001];
    assert_eq!(packet.ends, Ends { family: Family::V6, src, dst });
}

// ── the transport header refines the class ──

#[test]
fn a_syn_is_a_tcp_header_with_syn_and_without_ack() {
    for flags in 0..=u8::MAX {
        let class = if flags & SYN != 0 && flags & ACK == 0 { Class::Syn } else { Class::Tcp };
        check(v4().tcp(flags), counted(class, 40, 6, 34, 40));
        check(v6().tcp(flags), counted(class, 60, 6, 54, 60));
    }
    check(v4().tcp(SYN | FIN | RST | ECE), counted(Class::Syn, 40, 6, 34, 40));
}

#[test]
fn a_protocol_has_its_class_and_the_rest_is_other() {
    check(v4().udp(), counted(Class::Udp, 28, 17, 34, 28));
    check(v6().udp(), counted(Class::Udp, 48, 17, 54, 48));
    check(v4().icmp(), counted(Class::Icmp, 28, 1, 34, 20));
    check(v6().icmpv6(), counted(Class::Icmp, 48, 58, 54, 40));
    for protocol in (0..=u8::MAX).filter(|protocol| ![1, 6, 17, 58].contains(protocol)) {
        let frame = v4().protocol(protocol).payload(40);
        check(frame, counted(Class::Other, 60, protocol, 34, 20));
    }
    let extensions = [0, 43, 44, 51, 60];
    for protocol in (0..=u8::MAX).filter(|protocol| !extensions.contains(protocol)) {
        let class = match protocol {
            6 => continue,
            17 => Class::Udp,
            1 | 58 => Class::Icmp,
            _ => Class::Other,
        };
        let headers = if protocol == 17 { 48 } else { 40 };
        let frame = v6().protocol(protocol).payload(40);
        check(frame, counted(class, 80, protocol, 54, headers));
    }
}

#[test]
fn the_other_family_s_icmp_is_icmp_too() {
    check(v4().icmpv6(), counted(Class::Icmp, 28, 58, 34, 20));
    check(v6().icmp(), counted(Class::Icmp, 48, 1, 54, 40));
}

#[test]
fn options_of_tcp_belong_to_the_headers() {
    check(v4().tcp_with_options(ACK, 3).payload(100), counted(Class::Tcp, 152, 6, 34, 52));
    check(v6().tcp_with_options(SYN, 10), counted(Class::Syn, 100, 6, 54, 100));
}

#[test]
fn a_transport_header_cut_off_leaves_the_protocol_to_decide() {
    // Flags are the last byte that is read of TCP.
    for length in 34..48 {
        check(
            v4().tcp(SYN).cut_to(length),
            counted(Class::Tcp, u32::try_from(length).unwrap() - 14, 6, 34, 20),
        );
    }
    check(v4().tcp(SYN).cut_to(48), counted(Class::Syn, 34, 6, 34, 40));
    check(v4().udp().cut_to(34), counted(Class::Udp, 20, 17, 34, 28));
    check(v4().icmp().cut_to(34), counted(Class::Icmp, 20, 1, 34, 20));
    check(v6().tcp(SYN).cut_to(54), counted(Class::Tcp, 40, 6, 54, 40));
    check(v6().icmpv6().cut_to(54), counted(Class::Icmp, 40, 58, 54, 40));
}

// ── IPv4 ──

#[test]
fn options_of_ipv4_are_stepped_over() {
    for words in 0..=10 {
        let options = 4 * u32::from(words);
        let expected = counted(Class::Syn, 40 + options, 6, 34 + options, 40 + options);
        check(v4().options(words).tcp(SYN), expected);
    }
}

#[test]
fn a_header_length_below_5_leaves_the_protocol_to_decide() {
    for words in 0..5 {
        check(v4().tcp(SYN).header_words(words), counted(Class::Tcp, 40, 6, 34, 20));
        check(v4().udp().header_words(words), counted(Class::Udp, 28, 17, 34, 20));
        check(v4().icmp().header_words(words), counted(Class::Icmp, 28, 1, 34, 20));
        check(v4().gre().header_words(words), counted(Class::Other, 24, 47, 34, 20));
    }
}

#[test]
fn options_that_reach_beyond_the_frame_leave_the_protocol_to_decide() {
    check(v4().tcp(SYN).header_words(15), counted(Class::Tcp, 40, 6, 74, 60));
    check(v4().icmp().header_words(15), counted(Class::Icmp, 28, 1, 74, 60));
}

#[test]
fn a_fragment_is_a_fragment_the_first_one_included() {
    check(v4().fragment(0, true).tcp(SYN), counted(Class::Fragment, 40, 6, 34, 20));
    check(v4().fragment(185, true).udp(), counted(Class::Fragment, 28, 17, 34, 20));
    check(v4().fragment(1, false).payload(8), counted(Class::Fragment, 28, 255, 34, 20));
    check(v4().fragment(0x1fff, false).icmp(), counted(Class::Fragment, 28, 1, 34, 20));
    check(v4().options(2).fragment(0, true).udp(), counted(Class::Fragment, 36, 17, 42, 28));
}

#[test]
fn a_packet_that_must_not_be_cut_is_whole() {
    check(v4().dont_fragment().tcp(SYN), counted(Class::Syn, 40, 6, 34, 40));
    // The reserved bit, too, says nothing of fragments (RFC 791, section 3.1).
    check(v4().flags(0x8000).udp(), counted(Class::Udp, 28, 17, 34, 28));
    check(v4().flags(0xc000).udp(), counted(Class::Udp, 28, 17, 34, 28));
}

#[test]
fn a_fragment_s_header_is_never_shorter_than_what_was_read() {
    for words in 0..5 {
        check(
            v4().fragment(3, false).udp().header_words(words),
            counted(Class::Fragment, 28, 17, 34, 20),
        );
    }
}

// ── IPv6 ──

#[test]
fn an_extension_header_is_stepped_over_by_its_own_measure() {
    for len in [0, 1, 2, 7, 255] {
        let eights = 8 * (u32::from(len) + 1);
        let expected = counted(Class::Syn, 60 + eights, 6, 54 + eights, 60 + eights);
        check(v6().hop_by_hop(len).tcp(SYN), expected);
        check(v6().routing(len).tcp(SYN), expected);
        check(v6().destination(len).tcp(SYN), expected);
        // AH counts words of 4 bytes, less 2 (RFC 4302, section 2.2).
        let fours = 4 * (u32::from(len) + 2);
        let expected = counted(Class::Syn, 60 + fours, 6, 54 + fours, 60 + fours);
        check(v6().authentication(len).tcp(SYN), expected);
    }
}

#[test]
fn four_extension_headers_are_stepped_over() {
    let four = || v6().hop_by_hop(0).destination(1).routing(2).authentication(4);
    let before = 8 + 16 + 24 + 24;
    check(four().tcp(SYN), counted(Class::Syn, 60 + before, 6, 54 + before, 60 + before));
    check(four().udp(), counted(Class::Udp, 48 + before, 17, 54 + before, 48 + before));
    check(four().icmpv6(), counted(Class::Icmp, 48 + before, 58, 54 + before, 40 + before));
    let atomic = v6().fragment_header(0, false).hop_by_hop(0).hop_by_hop(0).hop_by_hop(0);
    check(atomic.tcp(SYN), counted(Class::Syn, 92, 6, 86, 92));
}

#[test]
fn a_fifth_extension_header_is_other() {
    let four = || v6().hop_by_hop(0).destination(0).routing(0).destination(0);
    check(four().destination(0).tcp(SYN), counted(Class::Other, 100, 60, 86, 72));
    check(four().routing(0).udp(), counted(Class::Other, 88, 43, 86, 72));
    check(four().hop_by_hop(0).icmpv6(), counted(Class::Other, 88, 0, 86, 72));
    check(four().authentication(1).udp(), counted(Class::Other, 92, 51, 86, 72));
    check(four().fragment_header(0, true).udp(), counted(Class::Other, 88, 44, 86, 72));
}

#[test]
fn an_extension_header_cut_off_is_other() {
    // Without its length, nothing behind it can be found.
    for (number, frame) in [
        (0, v6().hop_by_hop(0).tcp(SYN)),
        (43, v6().routing(0).tcp(SYN)),
        (60, v6().destination(0).tcp(SYN)),
        (51, v6().authentication(0).tcp(SYN)),
    ] {
        check(frame.clone().cut_to(54), counted(Class::Other, 40, number, 54, 40));
        check(frame.cut_to(55), counted(Class::Other, 41, number, 54, 40));
    }
}

#[test]
fn an_extension_header_that_reaches_beyond_the_frame_leaves_the_protocol_to_decide() {
    let frame = v6().extension(60, 255, 8).tcp(SYN);
    check(frame, counted(Class::Tcp, 68, 6, 54 + 2048, 40 + 2048));
    let frame = v6().extension(0, 1, 8).protocol(17);
    check(frame, counted(Class::Udp, 48, 17, 70, 64));
}

#[test]
fn a_fragment_behind_a_fragment_header_is_a_fragment_the_first_one_included() {
    check(v6().fragment_header(0, true).tcp(SYN), counted(Class::Fragment, 68, 6, 62, 48));
    check(v6().fragment_header(1, false).udp(), counted(Class::Fragment, 56, 17, 62, 48));
    check(v6().fragment_header(0x1fff, true).icmpv6(), counted(Class::Fragment, 56, 58, 62, 48));
    check(
        v6().hop_by_hop(0).routing(0).destination(0).fragment_header(0, true).udp(),
        counted(Class::Fragment, 80, 17, 86, 72),
    );
    // The fragmentable part may begin with a header of its own.
    check(
        v6().fragment_header(0, true).destination(0).udp(),
        counted(Class::Fragment, 64, 60, 62, 48),
    );
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    check(v6().fragment_header(0, false).tcp(SYN), counted(Class::Syn, 68, 6, 62, 68));
    check(v6().fragment_header(0, false).udp(), counted(Class::Udp, 56, 17, 62, 56));
    // The reserved bits say nothing of fragments (RFC 8200, section 4.5).
    check(v6().fragment_bits(0b110).udp(), counted(Class::Udp, 56, 17, 62, 56));
    check(v6().fragment_bits(0b111).udp(), counted(Class::Fragment, 56, 17, 62, 48));
}

#[test]
fn a_fragment_header_cut_off_is_a_fragment() {
    for length in 54..62 {
        check(
            v6().fragment_header(0, false).udp().cut_to(length),
            counted(Class::Fragment, u32::try_from(length).unwrap() - 14, 44, 54, 40),
        );
    }
}

// ── tunnels ──

#[test]
fn a_tunnel_counts_for_its_outer_addresses() {
    check(v4().gre().ipv4(B4, A4).tcp(SYN), counted(Class::Other, 64, 47, 34, 20));
    check(v6().gre().ipv6(B6, A6).udp(), counted(Class::Other, 92, 47, 54, 40));
    check(v4().ipv4(B4, A4).tcp(SYN), counted(Class::Other, 60, 4, 34, 20));
    check(v4().ipv6(B6, A6).tcp(SYN), counted(Class::Other, 80, 41, 34, 20));
    check(v6().ipv4(B4, A4).udp(), counted(Class::Other, 68, 4, 54, 40));
    check(v6().ipv6(B6, A6).udp(), counted(Class::Other, 88, 41, 54, 40));
}

// ── which length ──

#[track_caller]
fn check_length(frame: Frame, bytes: u32, padding: u32) {
    let packet = parse_ethernet(frame.bytes()).unwrap();
    assert_eq!((packet.bytes, packet.padding), (bytes, padding));
}

#[test]
fn the_header_s_word_is_the_length() {
    check_length(v4().udp().payload(1472), 1500, 0);
    check_length(v6().udp().payload(1452), 1500, 0);
    // Headers before the IP header do not count.
    check_length(Frame::ethernet().vlan().vlan().ipv4(A4, B4).udp().payload(1472), 1500, 0);
    check_length(Frame::ethernet().mpls(4).ipv6(A6, B6).udp().payload(1452), 1500, 0);
    check_length(Frame::ethernet().pppoe().ipv4(A4, B4).udp().payload(1464), 1492, 0);
}

#[test]
fn a_word_of_0_means_what_is_there() {
    check_length(v4().tcp(ACK).payload(2960).length(0), 3000, 0);
    check_length(v6().tcp(ACK).payload(2960).length(0), 3020, 0);
    // A jumbogram (RFC 2675), and an IPv6 packet of a header only, padded by Ethernet.
    check_length(v6().length(0).protocol(254).payload(70_000), 70_040, 0);
    check_length(v6().padding(6), 46, 0);
}

#[test]
fn a_word_larger_than_what_is_there_means_what_is_there() {
    check_length(v4().udp().payload(18).length(47), 46, 0);
    check_length(v4().udp().payload(18).length(u16::MAX), 46, 0);
    check_length(v6().udp().payload(18).length(27), 66, 0);
    check_length(v6().udp().payload(18).length(u16::MAX), 66, 0);
}

#[test]
fn padding_up_to_ethernet_s_minimum_is_explained() {
    check_length(v4().udp().padding(18), 28, 0);
    check_length(v4().tcp(SYN).padding(6), 40, 0);
    check_length(Frame::ethernet().vlan().ipv4(A4, B4).udp().padding(18), 28, 0);
}

#[test]
fn bytes_beyond_the_packet_and_the_minimum_are_padding() {
    check_length(v4().udp().padding(19), 28, 1);
    check_length(v4().udp().payload(18).padding(1), 46, 1);
    check_length(v4().udp().payload(972).padding(10), 1000, 10);
    check_length(v6().udp().padding(10), 48, 10);
    // A header that claims less than it carries does not hide the rest.
    check_length(v4().udp().payload(1472).length(28), 28, 1454);
    check_length(v4().udp().payload(1472).length(1), 1, 1454);
    check_length(v6().udp().payload(1452).length(8), 48, 1452);
}

// ── frames of which only the beginning is there ──

#[track_caller]
fn check_captured(frame: &Frame, captured: usize, class: Class, bytes: u32, padding: u32) {
    let wire_len = u32::try_from(frame.bytes().len()).unwrap();
    let beginning = Captured { bytes: &frame.bytes()[..captured], wire_len };
    let packet = parse_ethernet(&beginning).unwrap();
    assert_eq!(
        (packet.ends, packet.class, packet.bytes, packet.padding),
        (frame.ends(), class, bytes, padding)
    );
}

#[test]
fn a_capture_counts_what_was_on_the_wire() {
    let frame = v4().tcp(SYN).payload(1460);
    check_captured(&frame, 64, Class::Syn, 1500, 0);
    check_captured(&frame, 48, Class::Syn, 1500, 0);
    check_captured(&frame, 47, Class::Tcp, 1500, 0);
    check_captured(&frame, 34, Class::Tcp, 1500, 0);
    check_captured(&v6().udp().payload(1452), 54, Class::Udp, 1500, 0);
    check_captured(&v4().udp().payload(1472).length(0), 64, Class::Udp, 1500, 0);
    check_captured(&v4().udp().payload(1472).length(u16::MAX), 64, Class::Udp, 1500, 0);
    check_captured(&v4().udp().payload(972).padding(400), 64, Class::Udp, 1000, 400);
}

#[test]
fn a_capture_that_ends_before_the_fixed_ip_header_is_short() {
    let frame = v4().udp().payload(1472);
    for captured in 0..34 {
        let beginning = Captured { bytes: &frame.bytes()[..captured], wire_len: 1514 };
        assert_eq!(parse_ethernet(&beginning), Err(Unparsed::Short), "{captured} bytes");
    }
}

#[test]
fn a_length_on_the_wire_that_cannot_be_makes_no_endless_packet() {
    let frame = v4().udp().payload(18);
    for (wire_len, bytes) in [(0, 0), (13, 0), (14, 0), (20, 6), (60, 46)] {
        let packet = parse_ethernet(&Captured { bytes: frame.bytes(), wire_len }).unwrap();
        assert_eq!((packet.bytes, packet.padding), (bytes, 0), "{wire_len} on the wire");
    }
}

/// Good frames of all shapes, each with the classes it may have when its end is missing.
fn good_frames() -> Vec<(Frame, &'static [Class])> {
    vec![
        (v4().tcp(SYN).payload(10), &[Class::Tcp]),
        (v4().options(10).tcp_with_options(SYN, 10), &[Class::Tcp]),
        (v4().fragment(0, true).udp().payload(40), &[]),
        (v4().gre().ipv4(B4, A4).tcp(SYN), &[]),
        (Frame::ethernet().service_vlan().vlan().vlan().ipv4(A4, B4).icmp().padding(18), &[]),
        (Frame::ethernet().mpls(4).ipv4(A4, B4).tcp(SYN | ACK), &[]),
        (Frame::ethernet().vlan().mpls(2).ipv6(A6, B6).udp().payload(3), &[]),
        (Frame::ethernet().vlan().pppoe().ipv6(A6, B6).tcp(SYN), &[Class::Tcp]),
        (Frame::ethernet().pppoe().ipv4(A4, B4).udp().payload(1), &[]),
        (
            v6().hop_by_hop(1).routing(2).destination(0).authentication(4).tcp(SYN),
            &[Class::Other, Class::Tcp],
        ),
        (v6().hop_by_hop(0).fragment_header(0, false).udp(), &[Class::Other, Class::Fragment]),
        (v6().destination(0).fragment_header(9, true).payload(9), &[Class::Other]),
        (v6().hop_by_hop(0).icmpv6().payload(56), &[Class::Other]),
        (v6().ipv4(B4, A4).udp(), &[]),
    ]
}

#[test]
fn a_frame_cut_anywhere_is_short_or_counted_for_the_same_addresses() {
    for (number, (frame, unrefined)) in good_frames().into_iter().enumerate() {
        let whole = parse_ethernet(frame.bytes()).unwrap();
        let length = frame.bytes().len();
        let mut was_read = false;
        for cut in 0..=length {
            let beginning = &frame.bytes()[..cut];
            let place = format!("frame {number}, {cut} of {length} bytes");
            match parse_ethernet(beginning) {
                Err(why) => {
                    assert_eq!(why, Unparsed::Short, "{place}");
                    assert!(!was_read, "{place}");
                }
                Ok(packet) => {
                    was_read = true;
                    assert_eq!(packet.ends, whole.ends, "{place}");
                    assert!(packet.bytes <= whole.bytes, "{place}");
                    assert!(
                        packet.class == whole.class || unrefined.contains(&packet.class),
                        "{place}: {:?}",
                        packet.class
                    );
                    // The same beginning of a whole frame differs in nothing but its length.
                    let wire_len = u32::try_from(length).unwrap();
                    let captured = parse_ethernet(&Captured { bytes: beginning, wire_len });
                    let (bytes, padding) = (whole.bytes, whole.padding);
                    assert_eq!(captured, Ok(Packet { bytes, padding, ..packet }), "{place}");
                }
            }
        }
        assert!(was_read, "frame {number}");
    }
}

// ── offload ──

#[track_caller]
fn check_segments(frame: Frame, segments: u32, expected: (u32, u32)) {
    let packet = parse_ethernet(frame.bytes()).unwrap();
    assert_eq!(packet.segmented(segments), expected);
}

#[test]
fn a_frame_without_segments_is_one_packet() {
    check_segments(v4().tcp(ACK).payload(100), 0, (1, 140));
    check_segments(v4().tcp(ACK).payload(100), 1, (1, 140));
    check_segments(v6().udp().payload(100), 0, (1, 148));
}

#[test]
fn each_segment_repeats_the_headers() {
    // 40 segments of 1,448 bytes with 12 bytes of TCP options make 40 packets of 1,500.
    let frame = v4().tcp_with_options(ACK, 3).payload(40 * 1448);
    check_segments(frame, 40, (40, 40 * 1500));
    let frame = v6().tcp_with_options(ACK, 3).payload(40 * 1428);
    check_segments(frame, 40, (40, 40 * 1500));
    let frame = v4().udp().payload(10 * 1472);
    check_segments(frame, 10, (10, 10 * 1500));
    // The last segment may be shorter; more than 65,535 bytes leave 0 in the header.
    check_segments(v4().tcp(ACK).payload(2 * 1460 + 1), 3, (3, 1500 + 1500 + 41));
    check_segments(v6().length(0).tcp(ACK).payload(100 * 1440), 100, (100, 100 * 1500));
    // Options of IPv4 and extension headers are copied into each.
    check_segments(v4().options(2).tcp(ACK).payload(2 * 1000), 2, (2, 2 * 1048));
    check_segments(v6().hop_by_hop(0).tcp(ACK).payload(2 * 1000), 2, (2, 2 * 1068));
}
