//! What is fuzzed, and the law of each: `cargo fuzz` calls these functions, and so does the ordinary
//! test run (`fastnetmon-user/tests/fuzz.rs`), with frames and files that are good and then changed.
//!
//! **Invariant**: a target panics when its law is broken, and for nothing else.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use fastnetmon_common::class::{Sides, Unparsed};
use fastnetmon_common::parse::{Packet, parse_ethernet, parse_ip, parse_typed};
use fastnetmon_user::capture::nflog_message::{Message, walk};
use fastnetmon_user::capture::{CaptureFile, Frame, Intake as _, Link, Starts};
use fastnetmon_user::counters::{Counters, Rules, Writer};
use fastnetmon_user::model::{Moment, Prefix};
use fastnetmon_user::networks::{Plan, PrefixSet, Territory};
use fastnetmon_user::origins::{Atlas, Database};
use fastnetmon_user::rates::RateTable;
use fastnetmon_user::tables;

/// A frame is read whole or refused with a reason; behind its link header it reads the same, only
/// nearer to the beginning.
pub fn parse(bytes: &[u8]) {
    let there = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let shape = |packet: &Packet, cut: u32| {
        let Packet { ends, class, bytes, headers, protocol, transport_at, padding } = *packet;
        (ends, class, bytes, headers, protocol, transport_at - cut, padding)
    };
    let whole = parse_ethernet(bytes);
    if let Ok(packet) = &whole {
        assert!(packet.bytes > 0 && packet.bytes <= there, "{packet:?} of {there} bytes");
        assert!(packet.padding < there, "{packet:?} of {there} bytes");
    }
    if let (Some(kind), Some(behind)) = (bytes.get(12..14), bytes.get(14..)) {
        let kind = u16::from_be_bytes([kind[0], kind[1]]);
        let typed = parse_typed(behind, kind);
        let whole = whole.as_ref().map(|packet| shape(packet, 14));
        assert_eq!(whole, typed.as_ref().map(|packet| shape(packet, 0)));
    }
    // What begins with its IP header is one of the two kinds, or of neither.
    match (parse_ip(bytes, 0), bytes.first().map(|first| first >> 4)) {
        (ip, Some(4)) => assert_eq!(ip, parse_typed(bytes, 0x0800)),
        (ip, Some(6)) => assert_eq!(ip, parse_typed(bytes, 0x86dd)),
        (ip, Some(_)) => assert_eq!(ip, Err(Unparsed::Version)),
        (ip, None) => assert_eq!(ip, Err(Unparsed::Short)),
    }
}

/// Every frame is counted once: for a host, between hosts, for nobody, or by the reason why it cannot
/// be. The bytes are frames: a link type and a side, the length, and what there is of them.
pub fn count(bytes: &[u8]) {
    let prefixes = ["192.0.2.0/24", "2001:db8::/32", "10.0.0.0/30", "10.0.0.7"];
    let prefixes = prefixes.into_iter().filter_map(|text| Prefix::parse_masked(text).ok());
    let ours = PrefixSet::merged(prefixes.map(|(prefix, _)| prefix)).0;
    let Ok((plan, writes)) = Plan::new(&ours, 16) else { return };
    let shape = plan.shape(NonZeroU32::MIN, 7);
    let Ok((parts, rows)) = tables::own(shape) else { return };
    let at = Moment::after_boot(Duration::from_secs(9));
    let mut counters = Counters::new(vec![parts.lines], at);
    let (directory, flags) = (vec![parts.directory], vec![parts.flags]);
    let _territory = Territory::new(ours, plan, &writes, shape, directory, flags);
    let (notices, _noticed) = crossbeam_channel::bounded(4);
    let mut writer = Writer::new(Arc::default(), notices, Arc::default());
    for row in rows {
        writer = writer.counting(row, Rules { sparse_every: 3, decapsulate: false });
    }
    let (mut rest, mut frames) = (bytes, 0);
    while let [kind, length, behind @ ..] = rest {
        let (frame, after) = behind.split_at(behind.len().min((*length).into()));
        rest = after;
        let links = [Link::Ethernet, Link::Ip, Link::Cooked, Link::CookedV2, Link::Loopback];
        let wire_bytes = u32::from(*length) * 3;
        let opened = links[usize::from(kind % 5)].open(frame, wire_bytes);
        let sides = [Sides::Destination, Sides::Source, Sides::Both][usize::from(kind / 5 % 3)];
        writer.frame(at, sides, &opened.frame);
        frames += 1;
    }
    let reading = counters.read(at + Duration::from_secs(1));
    let totals = RateTable::default().advance(reading).totals;
    assert_eq!(totals.received(), frames);
}

/// A file is read to its end or to where it breaks; nothing is handed over that is not in it.
pub fn pcap_file(bytes: &[u8]) {
    let Ok(mut file) = CaptureFile::new(bytes) else { return };
    let mut shown = 0;
    while let Ok(Some(recorded)) = file.next_frame() {
        let Frame { bytes: frame, starts, .. } = recorded.opened.frame;
        shown += 1;
        if !is_packed(bytes) {
            assert!(frame.len() < bytes.len(), "{} of {} bytes", frame.len(), bytes.len());
            // A record has a header of 12 bytes at least.
            assert!(shown <= bytes.len() / 12, "{shown} frames of {} bytes", bytes.len());
        }
        assert!(matches!(starts, Starts::Ethernet | Starts::Ip | Starts::Typed(_)));
        // What is packed may be long.
        if shown > 100_000 {
            break;
        }
    }
    assert!(file.frames() >= shown as u64);
}

/// The same reader; the seeds and the dictionary of `cargo fuzz` are those of pcapng.
pub fn pcapng_file(bytes: &[u8]) {
    const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
    // Most changes would else be spent on the first four bytes.
    let whole = [&SECTION, bytes.get(4..).unwrap_or_default()].concat();
    pcap_file(&whole);
}

fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Every packet lies within what was read, and there are no more messages than headers fit in.
pub fn nflog_message(bytes: &[u8]) {
    let within = bytes.as_ptr_range();
    let mut messages = 0;
    walk(bytes, |message| {
        messages += 1;
        if let Message::Packet(packet) = message {
            let shown = packet.frame.bytes.as_ptr_range();
            assert!(within.start <= shown.start && shown.end <= within.end);
            assert!(packet.prefix.len() < bytes.len());
            let here = u32::try_from(packet.frame.bytes.len()).unwrap_or(u32::MAX);
            assert!(packet.frame.wire_bytes.is_none_or(|wire_bytes| wire_bytes >= here));
        }
    });
    assert!(messages <= bytes.len() / 16 + 1, "{messages} messages of {} bytes", bytes.len());
}

/// A database is refused, or has an answer for every address; its names can be shown.
pub fn mmdb_file(bytes: &[u8]) {
    let Ok(database) = Database::of("mmdb".as_ref(), bytes.to_vec()) else { return };
    assert!(database.kind().len() <= 60);
    let atlas = Atlas::new(vec![Arc::new(database)]);
    for address in ["203.0.113.7", "198.51.100.9", "2001:db8::1", "::", "255.255.255.255"] {
        let Ok(address) = address.parse() else { continue };
        let name = atlas.find(address).name;
        assert!(name.chars().count() <= 60 && !name.contains(char::is_control), "{name:?}");
    }
}
