//! `fastnetmon explain`: each frame of a capture, by the programs themselves.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Output};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use xtask::traffic::Frame;

use crate::agent::{Folder, Setup, configure};

const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

fn write(folder: &Folder, link: DataLink, frames: &[Vec<u8>]) {
    let file = File::create(folder.path("frames.pcap")).unwrap();
    let header = PcapHeader { datalink: link, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(file, header).unwrap();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        writer.write_packet(&PcapPacket::new(Duration::ZERO, len, frame).unwrap()).unwrap();
    }
}

fn explain(folder: &Folder, capture: &str) -> Output {
    let config = configure(folder, &Setup { capture, ..Setup::default() });
    Command::new(env!("CARGO_BIN_EXE_fastnetmon"))
        .arg("explain")
        .arg(folder.path("frames.pcap"))
        .arg("--config")
        .arg(config)
        .output()
        .unwrap()
}

#[test]
fn each_frame_is_explained_by_what_the_tables_gained() {
    let folder = Folder::new();
    let six: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let world6: Ipv6Addr = "2001:db9::1".parse().unwrap();
    let mut padded = Frame::udp(WORLD, HOST, 1, 2).payload(72).bytes();
    padded.extend([0; 30]);
    let mut version = Frame::udp(WORLD, HOST, 1, 2).payload(72).bytes();
    version[14] = 0x65;
    write(
        &folder,
        DataLink::ETHERNET,
        &[
            Frame::udp(WORLD, HOST, 1, 2).payload(72).bytes(),
            Frame::tcp_syn(HOST, WORLD, 1, 2).bytes(),
            Frame::udp(HOST, HOST, 1, 2).payload(72).vlan(7).bytes(),
            Frame::icmp(WORLD, WORLD).bytes(),
            Frame::tcp_syn(world6, six, 1, 2).bytes(),
            padded,
            version,
            vec![0; 9],
        ],
    );
    let output = explain(&folder, "");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = "\
1: arriving: incoming 192.0.2.7 udp, 100 bytes; leaving: other, 100 bytes
2: arriving: other, 40 bytes; leaving: outgoing 192.0.2.7 tcp_syn, 40 bytes
3: arriving: incoming 192.0.2.7 udp, 100 bytes + internal, 100 bytes; leaving: outgoing 192.0.2.7 udp, 100 bytes + internal, 100 bytes
4: arriving: other, 28 bytes; leaving: other, 28 bytes
5: arriving: incoming 2001:db8::/32 (no line of its own yet) tcp_syn, 60 bytes; leaving: other, 60 bytes
6: arriving: incoming 192.0.2.7 udp, 100 bytes + 30 bytes beyond the IP packet; leaving: other, 100 bytes + 30 bytes beyond the IP packet
7: arriving: not readable (version); leaving: not readable (version)
8: 9 bytes are no Ethernet frame
";
    assert_eq!(text, expected);
    let output = explain(&folder, "role = \"mirror\"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("1: seen: incoming 192.0.2.7 udp, 100 bytes\n2: seen: outgoing"));
}

#[test]
fn a_file_that_is_no_ethernet_capture_is_refused_by_name() {
    let folder = Folder::new();
    write(&folder, DataLink::RAW, &[vec![0x45; 40]]);
    let check = |expected: &str| {
        let output = explain(&folder, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    };
    check("its link type is RAW, and the programs read Ethernet frames");
    write(&folder, DataLink::ETHERNET, &[]);
    check("frames.pcap: there is no frame in it");
    folder.write("frames.pcap", "this is no capture at all");
    check("frames.pcap: ");
    std::fs::remove_file(folder.path("frames.pcap")).unwrap();
    check("frames.pcap: No such file or directory");
}
