//! `fastnetmon replay`: a recording brings the bans that live traffic would have brought.
#![cfg(test)]

mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests start programs and ask the clock")]

    use std::fs;
    use std::io::Write as _;
    use std::net::Ipv4Addr;
    use std::path::PathBuf;
    use std::process::{Command, Output};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::{Value, json};
    use xtask::traffic::Frame;

    const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
    const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
    /// When the recordings begin, since 1970.
    const BEGIN: u64 = 1_767_225_600;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("fnm-replay-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("list"), "192.0.2.0/24\n2001:db8::/32\n").unwrap();
            fs::write(path.join("white"), "192.0.2.1\n").unwrap();
            let (list, white) = (path.join("list"), path.join("white"));
            let config = format!(
                "[networks]\nlist = \"{}\"\nwhitelist = \"{}\"\n[ban]\ntime_secs = 10\n",
                list.display(),
                white.display()
            );
            fs::write(path.join("conf"), config).unwrap();
            Self(path)
        }

        fn replay(&self, file: &[u8], arguments: &[&str]) -> Output {
            fs::write(self.0.join("file"), file).unwrap();
            Command::new(env!("CARGO_BIN_EXE_fastnetmon"))
                .arg("replay")
                .arg(self.0.join("file"))
                .arg("--config")
                .arg(self.0.join("conf"))
                .args(arguments)
                .output()
                .unwrap()
        }

        fn document(&self, file: &[u8]) -> Value {
            let output = self.replay(file, &["--json"]);
            assert!(output.status.success(), "{output:?}");
            serde_json::from_slice(&output.stdout).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    type Packet = (Duration, Vec<u8>);

    fn pcap(link: u32, packets: &[Packet]) -> Vec<u8> {
        let mut file = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
        file.extend([2, 0, 4, 0]);
        file.extend([0; 8]);
        file.extend(65_535_u32.to_le_bytes());
        file.extend(link.to_le_bytes());
        for (at, bytes) in packets {
            let len = u32::try_from(bytes.len()).unwrap();
            let secs = u32::try_from(BEGIN + at.as_secs()).unwrap();
            // The beginning alone, as with a snapshot length.
            let kept = bytes.len().min(96);
            for word in [secs, at.subsec_nanos(), u32::try_from(kept).unwrap(), len] {
                file.extend(word.to_le_bytes());
            }
            file.extend(&bytes[..kept]);
        }
        file
    }

    fn block(kind: u32, mut body: Vec<u8>) -> Vec<u8> {
        body.resize(body.len().next_multiple_of(4), 0);
        let length = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &body, &length].concat()
    }

    /// In nanoseconds (option 9).
    fn pcapng(link: u16, packets: &[Packet]) -> Vec<u8> {
        let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let options = [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let interface = [&link.to_le_bytes()[..], &[0; 6], &options].concat();
        let mut file = [block(0x0a0d_0d0a, section), block(1, interface)].concat();
        for (at, bytes) in packets {
            let nanos = u64::try_from(at.as_nanos()).unwrap() + BEGIN * 1_000_000_000;
            let kept = bytes.len().min(96);
            let mut body = vec![0; 4];
            for word in [
                u32::try_from(nanos >> 32).unwrap(),
                u32::try_from(nanos & 0xffff_ffff).unwrap(),
                u32::try_from(kept).unwrap(),
                u32::try_from(bytes.len()).unwrap(),
            ] {
                body.extend(word.to_le_bytes());
            }
            body.extend(&bytes[..kept]);
            file.extend(block(6, body));
        }
        file
    }

    fn packed(file: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(file).unwrap();
        encoder.finish().unwrap()
    }

    /// So many packets a second to the victim, for so long, from so many seconds on.
    fn flood(victim: Ipv4Addr, from: u64, millis: u64, pps: u64) -> Vec<Packet> {
        let bytes = Frame::udp(WORLD, victim, 40_000, 53).payload(1000).bytes();
        (0..pps * millis / 1000)
            .map(|number| {
                let nanos = number * 1_000_000_000 / pps;
                (Duration::from_secs(from) + Duration::from_nanos(nanos), bytes.clone())
            })
            .collect()
    }

    #[test]
    fn a_flood_is_banned_in_the_recordings_time_and_let_go() {
        let folder = Folder::new();
        let mut packets = flood(VICTIM, 0, 2_000, 60_000);
        // Everyday traffic after it, so that time goes on.
        packets.extend(flood(VICTIM, 2, 15_000, 10));
        let document = folder.document(&pcap(1, &packets));
        let verdicts = document["verdicts"].as_array().unwrap();
        assert_eq!(verdicts.len(), 2, "{document:#}");
        let [ban, unban] = &verdicts[..] else { panic!("{document:#}") };
        assert_eq!((&ban["action"], &ban["ip"]), (&json!("ban"), &json!("192.0.2.77")));
        assert_eq!(ban["direction"], "incoming");
        // 30,001 packets are there after 500 ms, and a watched host is looked at each 10 ms.
        let after = ban["at"].as_f64().unwrap() - 1_767_225_600.0;
        assert!((0.5..0.515).contains(&after), "{after}");
        let pps = ban["pps"].as_u64().unwrap();
        assert!((30_001..=30_700).contains(&pps), "{pps}");
        assert_eq!(unban["action"], "unban");
        let after = unban["at"].as_f64().unwrap() - 1_767_225_600.0;
        assert!((10.5..12.0).contains(&after), "{after}");
        let peak = unban["peak_pps"].as_u64().unwrap();
        assert!((59_900..=60_100).contains(&peak), "{peak}");
        assert_eq!(document["standing"], json!([]));
        let all = 120_000 + 150;
        assert_eq!(document["totals"]["incoming"], json!({ "packets": all, "bytes": all * 1028 }));
        let loudest = &document["loudest"]["incoming"][0];
        assert_eq!((&loudest["ip"], &loudest["packets"]), (&json!("192.0.2.77"), &json!(all)));
    }

    #[test]
    fn a_flood_that_is_too_short_or_excused_bans_nobody() {
        let folder = Folder::new();
        for packets in
            [flood(VICTIM, 0, 480, 60_000), flood(Ipv4Addr::new(192, 0, 2, 1), 0, 2_000, 60_000)]
        {
            let document = folder.document(&pcap(1, &packets));
            assert_eq!(document["verdicts"], json!([]), "{document:#}");
        }
    }

    #[test]
    fn a_flood_in_the_last_second_is_found_and_stands() {
        let folder = Folder::new();
        let document = folder.document(&pcap(1, &flood(VICTIM, 3, 900, 40_000)));
        assert_eq!(document["standing"], json!(["192.0.2.77"]), "{document:#}");
    }

    #[test]
    fn every_format_gives_the_same() {
        let folder = Folder::new();
        let packets = flood(VICTIM, 0, 1_500, 40_000);
        let one = pcap(1, &packets);
        let expected = folder.document(&one);
        assert_eq!(expected["verdicts"].as_array().unwrap().len(), 1);
        let other = pcapng(1, &packets);
        for file in [packed(&one), packed(&other), other] {
            assert_eq!(folder.document(&file), expected);
        }
    }

    #[test]
    fn every_link_type_counts_the_same() {
        let folder = Folder::new();
        let packets = flood(VICTIM, 0, 100, 10_000);
        let with = |header: &[u8], link: u32| {
            let packets: Vec<Packet> =
                packets.iter().map(|(at, bytes)| (*at, [header, &bytes[14..]].concat())).collect();
            folder.document(&pcap(link, &packets))["totals"].clone()
        };
        let expected = folder.document(&pcap(1, &packets))["totals"].clone();
        assert_eq!(expected["incoming"]["packets"], 1_000);
        for raw in [12, 14, 101, 228] {
            assert_eq!(with(&[], raw), expected, "{raw}");
        }
        let cooked = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0];
        assert_eq!(with(&cooked, 113), expected);
        let cooked2 = [8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(with(&cooked2, 276), expected);
        assert_eq!(with(&[2, 0, 0, 0], 0), expected);
        assert_eq!(with(&[0, 0, 0, 2], 108), expected);
        // What leaves is not counted for where it goes.
        let mut leaving = cooked;
        leaving[1] = 4;
        assert_eq!(with(&leaving, 113)["other"]["packets"], 1_000);
    }

    #[test]
    fn a_broken_file_is_reported_up_to_where_it_breaks() {
        let folder = Folder::new();
        let file = pcap(1, &flood(VICTIM, 0, 1_000, 40_000));
        let output = folder.replay(&file[..file.len() - 5], &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(text.starts_with("2026-01-01 00:00:00.7"), "{text}");
        assert!(text.contains("  ban    192.0.2.77 incoming, power 30"), "{text}");
        assert!(
            text.contains("packets   39999 in 0.999 s, from 2026-01-01 00:00:00.000 UTC"),
            "{text}"
        );
        let place = "packet 40000, at byte 4479912 of the capture: the file ends within it; the \
                     packets before it are reported";
        assert!(error.contains(place), "{error}");
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        let folder = Folder::new();
        for (file, expected) in [
            (b"no capture at all, but long enough".to_vec(), "it is neither pcap nor pcapng"),
            (Vec::new(), "it ends before its header does"),
            (pcap(1, &[]), "there is no packet in it"),
            (pcap(105, &[]), "its link type is 105 (IEEE802_11), which is not read here"),
        ] {
            let output = folder.replay(&file, &[]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_year_without_packets_takes_no_time() {
        let folder = Folder::new();
        let mut packets = flood(VICTIM, 0, 1_000, 40_000);
        packets.extend(flood(VICTIM, 31_536_000, 1_000, 40_000));
        // Time that goes back stands still.
        packets.extend(flood(VICTIM, 5, 10, 1_000));
        let begun = Instant::now();
        let document = folder.document(&pcap(1, &packets));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(document["verdicts"].as_array().unwrap().len(), 3, "{document:#}");
        assert_eq!(document["packets"], 80_010);
    }

    #[test]
    fn it_can_be_played_in_its_own_time() {
        let folder = Folder::new();
        let file = pcap(1, &flood(VICTIM, 0, 500, 100));
        let begun = Instant::now();
        assert!(folder.replay(&file, &["--speed", "real"]).status.success());
        assert!(begun.elapsed() >= Duration::from_millis(490), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_cannot_be_read_is_told_by_reason() {
        let folder = Folder::new();
        let good = Frame::udp(WORLD, VICTIM, 1, 2).payload(72).bytes();
        let mut other = good.clone();
        other[12..14].copy_from_slice(&[0x88, 0xcc]);
        let mut version = good.clone();
        version[14] = 0x65;
        let mut nested = good[..12].to_vec();
        nested.extend([0x81, 0, 0, 1].repeat(4));
        nested.extend(&good[12..]);
        let mut arp = good.clone();
        arp[13] = 6;
        let short = good[..20].to_vec();
        let packets: Vec<Packet> =
            [other, version, nested, arp, short, good].map(|bytes| (Duration::ZERO, bytes)).into();
        let document = folder.document(&pcap(1, &packets));
        let expected = json!({ "short": 1, "not_ip": 1, "version": 1, "nested": 1, "arp": 1 });
        assert_eq!(document["unparsed"], expected);
        assert_eq!(document["packets"], 6);
    }

    #[test]
    fn a_recording_is_read_inside_a_sandbox() {
        let folder = Folder::new();
        let pipe = folder.0.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut child = Command::new(env!("CARGO_BIN_EXE_fastnetmon"))
            .arg("replay")
            .arg(&pipe)
            .arg("--config")
            .arg(folder.0.join("conf"))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Opens when the other end does, and from then on it waits for the first byte.
        let writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        let status = format!("/proc/{}/status", child.id());
        let begun = Instant::now();
        // The kernel shuts nobody in who could still get rights by starting a program.
        while !fs::read_to_string(&status).unwrap().contains("NoNewPrivs:\t1") {
            assert!(begun.elapsed() < Duration::from_secs(30), "it is not in a sandbox");
            std::thread::yield_now();
        }
        drop(writer);
        assert!(!child.wait().unwrap().success(), "an empty file is no recording");
    }
}
