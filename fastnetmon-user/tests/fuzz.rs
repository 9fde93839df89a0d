//! The targets of `fuzz/` on good input that is changed, a bounded number of times.
#![cfg(test)]

#[path = "../../fuzz/targets.rs"]
#[expect(unreachable_pub, reason = "written for the fuzzer's programs as well")]
mod targets;

#[path = "../src/origins/database.rs"]
mod database;

mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use xtask::traffic::Frame;

    use super::database::{Make, country, geolite, ipinfo};
    use super::targets;

    /// Changes of each seed.
    const CHANGES: u32 = 1_000;

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, bound: usize) -> usize {
            usize::try_from((self.next() >> 16) % bound.max(1) as u64).unwrap()
        }
    }

    /// Bytes set, taken out, doubled, cut off: one to four times.
    fn changed(random: &mut Random, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + random.below(9)).min(bytes.len()))),
                2 => {
                    let more = bytes[at..(at + random.below(30)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, more);
                }
                kind => {
                    let value = [0, 1, 0x7f, 0xff, random.next().to_be_bytes()[3]][kind - 3];
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = value;
                    }
                }
            }
        }
        bytes
    }

    fn bear(target: fn(&[u8]), seeds: &[Vec<u8>]) {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for seed in seeds {
            target(seed);
            for _ in 0..CHANGES {
                target(&changed(&mut random, seed));
            }
        }
        target(&[]);
    }

    fn frames() -> Vec<Vec<u8>> {
        let (ours, world) = (Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(203, 0, 113, 9));
        let ours6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let world6: Ipv6Addr = "2001:db9::1".parse().unwrap();
        let mut frames: Vec<Vec<u8>> = [
            Frame::udp(world, ours, 1, 2).payload(72),
            Frame::tcp_syn(ours, world, 1, 2).vlan(7).vlan(8),
            Frame::icmp(world6, ours6).payload(20),
            Frame::protocol(world6, ours6, 44).payload(30),
            Frame::protocol(world6, ours6, 0).payload(30),
            Frame::udp(ours, ours, 1, 2),
            Frame::protocol(world, ours, 47).payload(60),
        ]
        .map(|frame| frame.bytes())
        .into();
        let mut arp = frames[0].clone();
        arp[13] = 6;
        let labelled = [&frames[0][..12], &[0x88, 0x47, 0, 1, 1, 64], &frames[0][14..]].concat();
        frames.extend([arp, labelled]);
        frames
    }

    #[test]
    fn the_parser_bears_everything() {
        let mut seeds = frames();
        seeds.extend(frames().iter().map(|frame| frame[14..].to_vec()));
        bear(targets::parse, &seeds);
    }

    #[test]
    fn every_frame_is_counted_once_whatever_it_is() {
        let mut seed = Vec::new();
        for (number, frame) in (0..).zip(frames()) {
            for kind in 0..3 {
                seed.extend([number + 5 * kind, u8::try_from(frame.len()).unwrap()]);
                seed.extend(&frame);
            }
        }
        // Each makes tables of its own.
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for _ in 0..CHANGES / 4 {
            targets::count(&changed(&mut random, &seed));
        }
        targets::count(&seed);
    }

    fn pcap(magic: u32, link: u32) -> Vec<u8> {
        let mut file = magic.to_le_bytes().to_vec();
        file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
        file.extend(link.to_le_bytes());
        for frame in frames() {
            let len = u32::try_from(frame.len()).unwrap();
            for word in [5, 6, len, len] {
                file.extend(word.to_le_bytes());
            }
            file.extend(frame);
        }
        file
    }

    fn pcapng() -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let mut body = body.to_vec();
            body.resize(body.len().next_multiple_of(4), 0);
            let length = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
            [&kind.to_le_bytes()[..], &length, &body, &length].concat()
        };
        let magic = 0x1a2b_3c4d_u32.to_le_bytes();
        let section = [&magic[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let mut file = block(0x0a0d_0d0a, &section);
        for link in [1_u16, 113, 101] {
            let resolution = [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0];
            file.extend(block(1, &[&link.to_le_bytes()[..], &[0; 6], &resolution].concat()));
        }
        for (number, frame) in (0_u32..).zip(frames()) {
            let len = u32::try_from(frame.len()).unwrap();
            let mut body = Vec::new();
            for word in [number % 3, 0, 7, len, len] {
                body.extend(word.to_le_bytes());
            }
            body.extend(&frame);
            body.resize(body.len().next_multiple_of(4), 0);
            body.extend([2, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
            file.extend(block(6, &body));
            file.extend(block(3, &[&len.to_le_bytes()[..], &frame].concat()));
            file.extend(block(4, &[1, 0, 8, 0, 192, 0, 2, 7, b'a', 0, 0, 0, 0, 0, 0, 0]));
        }
        file
    }

    #[test]
    fn files_of_pcap_packed_or_not_are_read_within_bounds() {
        let plain = pcap(0xa1b2_c3d4, 1);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();
        bear(targets::pcap_file, &[plain, pcap(0xd4c3_b2a1, 113), pcap(0xa1b2_3c4d, 276), packed]);
    }

    #[test]
    fn files_of_pcapng_are_read_within_bounds() {
        bear(targets::pcapng_file, &[pcapng()]);
    }

    #[test]
    fn databases_of_origins_are_refused_or_have_an_answer() {
        let make = |record_bits| {
            Make { record_bits, ..Make::default() }.file(&[
                ("203.0.113.0/24", geolite(64_500, "Example Net")),
                ("198.51.100.0/24", country("country", "de")),
                ("2001:db8::/32", ipinfo("AS64501", "Example", "US", "United States")),
            ])
        };
        bear(targets::mmdb_file, &[make(24), make(28)]);
    }

    #[test]
    fn messages_of_nflog_are_read_within_bounds() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let mut read = Vec::new();
        for frame in frames() {
            let body = [
                vec![2, 0, 0, 1],
                attribute(1, &[8, 0, 0, 0]),
                attribute(10, b"prefix\0"),
                attribute(4, &[0, 0, 0, 3]),
                attribute(9, &frame[14..]),
                attribute(12, &[0, 0, 0, 9]),
            ]
            .concat();
            read.extend(u32::try_from(body.len() + 16).unwrap().to_ne_bytes());
            read.extend((4_u16 << 8).to_ne_bytes());
            read.extend([0; 10]);
            read.extend(body);
        }
        bear(targets::nflog_message, &[read]);
    }
}
