//! Packets of an attack as a pcapng file.
//!
//! **Invariant**: pure. One section; an interface for each link type that the packets have, all with
//! the same name; times in nanoseconds since 1970.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};

use crate::actions::packet_files::Attack;
use crate::model::{Caught, Raw, Starts};

/// In the flags of a packet: it arrived, or left.
const ARRIVES: u32 = 1;
const LEAVES: u32 = 2;

/// Bytes of Linux' cooked header, with which a packet is written whose own link header is not known.
const COOKED: usize = 16;

/// The whole file.
///
/// # Errors
/// When a time or a length is none that the format has.
pub(super) fn encode(attack: &Attack<'_>, interface: &str) -> io::Result<Vec<u8>> {
    let comment = attack.to_string();
    let said = || CommonOption::Comment(Cow::Borrowed(comment.as_str()));
    let section = SectionHeaderBlock {
        options: vec![
            SectionHeaderOption::Common(said()),
            SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
                "fastnetmon ",
                env!("CARGO_PKG_VERSION")
            ))),
        ],
        ..SectionHeaderBlock::default()
    };
    let mut file =
        PcapNgWriter::with_section_header(Vec::new(), section).map_err(io::Error::other)?;
    let mut interfaces: BTreeMap<u32, u32> = BTreeMap::new();
    for (number, packet) in attack.packets.iter().enumerate() {
        let Caught { seen, raw } = packet;
        let leaves = seen.source == attack.ban.address && seen.target != attack.ban.address;
        let (link, data) = framed(raw, leaves);
        let next = u32::try_from(interfaces.len()).unwrap_or(u32::MAX);
        let interface_id = if let Some(known) = interfaces.get(&link.into()) {
            *known
        } else {
            file.write_pcapng_block(described(link, interface)).map_err(io::Error::other)?;
            interfaces.insert(link.into(), next);
            next
        };
        let mut options = vec![EnhancedPacketOption::Flags(if leaves { LEAVES } else { ARRIVES })];
        // Where every reader shows it; some do not show what a section says.
        if number == 0 {
            options.push(EnhancedPacketOption::Common(said()));
        }
        let added = u32::try_from(data.len().saturating_sub(raw.bytes.len())).unwrap_or_default();
        file.write_pcapng_block(EnhancedPacketBlock {
            interface_id,
            timestamp: attack.wall.unix_at(seen.at),
            original_len: raw.wire_bytes.saturating_add(added),
            data,
            options,
        })
        .map_err(io::Error::other)?;
    }
    Ok(file.into_inner())
}

fn described(link: DataLink, interface: &str) -> InterfaceDescriptionBlock<'_> {
    InterfaceDescriptionBlock {
        linktype: link,
        snaplen: u32::try_from(Raw::LONGEST + COOKED).unwrap_or_default(),
        options: vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(interface)),
            InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
        ],
    }
}

/// With the header of its link type. What came without one and is not plainly IP, a VLAN tag say, gets
/// a cooked header that says what follows and nothing else.
fn framed(raw: &Raw, leaves: bool) -> (DataLink, Cow<'_, [u8]>) {
    match raw.starts {
        Starts::Ethernet => (DataLink::ETHERNET, Cow::Borrowed(&raw.bytes)),
        Starts::Ip | Starts::Typed(0x0800 | 0x86dd) => (DataLink::RAW, Cow::Borrowed(&raw.bytes)),
        Starts::Typed(ethertype) => {
            let mut bytes = vec![0; COOKED - 2];
            if let Some(kind) = bytes.get_mut(1) {
                *kind = if leaves { 4 } else { 0 };
            }
            bytes.extend(ethertype.to_be_bytes());
            bytes.extend_from_slice(&raw.bytes);
            (DataLink::LINUX_SLL, Cow::Owned(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fastnetmon_common::wire::Captured;

    use super::*;
    use crate::capture::{CaptureFile, Way};
    use crate::model::{Moment, Seen, Wall};
    use crate::verdicts::{Ban, BanId};

    const HOST: [u8; 4] = [192, 0, 2, 7];
    const WORLD: [u8; 4] = [203, 0, 113, 9];

    fn udp(source: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0];
        packet.extend(source);
        packet.extend(target);
        packet.extend([0, 53, 0, 80, 0, 26, 0, 0]);
        packet.extend([7; 18]);
        packet
    }

    fn at(millis: u64) -> Moment {
        Moment::after_boot(Duration::from_millis(millis))
    }

    fn caught(at: Moment, starts: Starts, bytes: &[u8]) -> Caught {
        let wire_len = u32::try_from(bytes.len()).unwrap();
        let captured = Captured { bytes, wire_len };
        let seen = match starts {
            Starts::Ethernet => Seen::from_ethernet(at, captured),
            Starts::Ip => Seen::from_ip(at, captured),
            Starts::Typed(ethertype) => Seen::from_typed(at, captured, ethertype),
        };
        Caught { seen: seen.unwrap(), raw: Raw::of(starts, bytes, wire_len) }
    }

    #[test]
    fn what_is_written_is_read_again_whatever_it_began_with() {
        let ether = [&[2; 12][..], &[8, 0], &udp(WORLD, HOST)].concat();
        let back = udp(HOST, WORLD);
        let tagged = [&[0, 5, 8, 0][..], &udp(WORLD, HOST)].concat();
        let long = [&[2; 12][..], &[8, 0], &udp(WORLD, HOST), &[0; 200]].concat();
        let packets = [
            caught(at(100_000), Starts::Ethernet, &ether),
            caught(at(100_001), Starts::Ip, &back),
            caught(at(100_002), Starts::Typed(0x8100), &tagged),
            caught(at(100_003), Starts::Typed(0x0800), &back),
            caught(at(100_004), Starts::Ethernet, &long),
        ];
        let ban = Ban { id: BanId(77), ..Ban::of(HOST) };
        let wall = Wall { read_at: at(100_000), unix: Duration::from_secs(1_795_367_873) };
        let attack = Attack { ban: &ban, packets: &packets, wall };
        let file = encode(&attack, "eth7").unwrap();
        assert!(file.len() as u64 <= attack.longest());
        let text = String::from_utf8_lossy(&file);
        assert!(text.contains("eth7") && text.contains("ban 77"), "{text}");
        let mut read = CaptureFile::new(&file[..]).unwrap();
        let mut frames = Vec::new();
        while let Some(recorded) = read.next_frame().unwrap() {
            let opened = recorded.opened;
            let millis = recorded.at.saturating_sub(wall.unix).as_millis();
            let frame = opened.frame;
            let shown = (frame.bytes.to_vec(), frame.starts, frame.wire_bytes.unwrap());
            frames.push((millis, opened.way, shown));
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let shown = |bytes: &[u8], starts| (bytes.to_vec(), starts, length(bytes));
        let cut = (long[..Raw::LONGEST].to_vec(), Starts::Ethernet, length(&long));
        assert_eq!(
            frames,
            [
                (0, Some(Way::Arrives), shown(&ether, Starts::Ethernet)),
                (1, Some(Way::Leaves), shown(&back, Starts::Ip)),
                (2, Some(Way::Arrives), shown(&tagged, Starts::Typed(0x8100))),
                (3, Some(Way::Leaves), shown(&back, Starts::Ip)),
                (4, Some(Way::Arrives), cut),
            ]
        );
    }
}
