//! Headers, events and classes are as long, and stand where, both sides of the border say.

use fastnetmon_common::abi::{Hint, Sample, Stranger};
use fastnetmon_common::class::{Class, Direction, Unparsed};
use fastnetmon_common::directory::{BUCKET_KEYS, FLAGGED, HASHED, INDEX, NODE};
use fastnetmon_common::directory::{PROFILE_SHIFT, PROFILES};
use fastnetmon_common::table::{
    BLOCK, DROPPED, HINTS_LOST, INTERNAL, Limit, MIRRORED, NOTES, OTHER, PADDING, SAMPLES_LOST,
    STRANGERS_UNTOLD, TUNNELLED, UNPARSED, WINDOW, WORDS,
};
use fastnetmon_common::wire::{
    Captured, Extension, Gre, Ipv4, Ipv6, Ipv6Fragment, Ports, Pppoe, Tcp, Vlan, Wire as _,
};
use zerocopy::network_endian::{U16, U32, U64};

#[test]
fn a_header_is_as_long_as_its_rfc_says() {
    assert_eq!(size_of::<Vlan>(), 4);
    assert_eq!(size_of::<Pppoe>(), 8);
    assert_eq!(size_of::<Ipv4>(), 20);
    assert_eq!(size_of::<Ipv6>(), 40);
    assert_eq!(size_of::<Extension>(), 2);
    assert_eq!(size_of::<Ipv6Fragment>(), 8);
    assert_eq!(size_of::<Tcp>(), 14);
    assert_eq!(size_of::<Ports>(), 4);
    assert_eq!(size_of::<Gre>(), 4);
}

#[test]
fn an_event_has_no_holes_and_fills_words_of_eight_bytes() {
    assert_eq!(size_of::<Hint>(), 4 + 4 + 8);
    assert_eq!(size_of::<Stranger>(), 16 + 4 + 4);
    assert_eq!(size_of::<Sample>(), 8 + 4 + 4 + 4 + 2 + 2 + 256);
    assert_eq!(size_of::<Limit>(), 8);
}

#[test]
fn a_discriminant_is_a_position() {
    for (at, class) in Class::ALL.into_iter().enumerate() {
        assert_eq!(class as usize, at, "{}", class.name());
    }
    for (at, why) in Unparsed::ALL.into_iter().enumerate() {
        assert_eq!(why as usize, at, "{}", why.name());
    }
    for (at, direction) in Direction::BOTH.into_iter().enumerate() {
        assert_eq!(direction as usize, at, "{}", direction.name());
        assert_eq!(direction.reversed() as usize, 1 - at);
    }
}

#[test]
fn a_name_means_one_thing() {
    let mut names: Vec<&str> = Class::ALL.iter().map(|class| class.name()).collect();
    names.extend(Direction::BOTH.iter().map(|direction| direction.name()));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Class::COUNTED + 2);
    let mut reasons: Vec<&str> = Unparsed::ALL.iter().map(|why| why.name()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), Unparsed::REASONS);
}

#[test]
fn the_words_of_a_line_do_not_overlap() {
    let mut words: Vec<usize> = Class::ALL.iter().map(|class| *class as usize).collect();
    words.extend([DROPPED, WINDOW]);
    assert_eq!(words, (0..WORDS).collect::<Vec<usize>>());
}

#[test]
fn the_lines_of_the_house_do_not_overlap_and_stay_in_block_0() {
    let mut lines = vec![OTHER, INTERNAL, MIRRORED, PADDING, TUNNELLED];
    lines.extend(Unparsed::ALL.iter().map(|why| UNPARSED + *why as u32));
    lines.extend([SAMPLES_LOST, HINTS_LOST, STRANGERS_UNTOLD, NOTES]);
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all);
    assert!(lines.iter().all(|line| *line < BLOCK), "{lines:?}");
}

#[test]
fn the_fields_of_an_entry_do_not_overlap() {
    let profile = (PROFILES - 1) << PROFILE_SHIFT;
    let fields = [INDEX, HASHED, NODE, profile, FLAGGED];
    let together = fields.iter().fold(0, |all, field| all | field);
    assert_eq!(together.count_ones(), fields.iter().map(|field| field.count_ones()).sum::<u32>());
    // Three keys of two words, and three slots of half a word, in the eight words of a line.
    assert!(2 * BUCKET_KEYS + BUCKET_KEYS.div_ceil(2) <= WORDS);
}

#[test]
fn a_header_is_read_whole_or_not_at_all() {
    let frame: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
    let frame = frame.as_slice();
    assert_eq!(frame.header::<U64>(0).map(U64::get), Some(0x0102_0304_0506_0708));
    assert_eq!(frame.header::<U32>(4).map(U32::get), Some(0x0506_0708));
    assert_eq!(frame.header::<U16>(3).map(U16::get), Some(0x0405));
    assert_eq!(frame.header::<u8>(7), Some(8));
    assert_eq!(frame.header::<U32>(5), None);
    assert_eq!(frame.header::<u8>(8), None);
    assert_eq!(frame.header::<u8>(9), None);
    assert_eq!(frame.header::<u8>(usize::MAX), None);
    assert_eq!(frame.wire_len(), 8);
}

#[test]
fn a_capture_knows_the_length_on_the_wire_and_reads_what_it_has() {
    let frame = Captured { bytes: &[1, 2, 3, 4], wire_len: 1500 };
    assert_eq!(frame.wire_len(), 1500);
    assert_eq!(frame.header::<U32>(0).map(U32::get), Some(0x0102_0304));
    assert_eq!(frame.header::<u8>(4), None);
}
