//! Capture files: pcap and pcapng, gzip too, frame by frame.
//!
//! **Invariant**: memory is bounded whatever the file says. What was read before a file turns out to be
//! broken was handed over; the error says which packet it was, and where.

use std::io::{BufRead, Read as _};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use pcap_file::pcap::{PcapParseError, PcapParser, PcapTsResolution};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgParseError, PcapNgParser};

use crate::capture::link::{Link, LinkError, Opened, Way};

/// A capture file that is read from its beginning.
#[derive(Debug)]
pub struct CaptureFile<R> {
    window: Window<R>,
    format: Format,
    /// Frames handed over.
    frames: u64,
    /// When the last one was seen.
    last: Duration,
}

/// A frame of a file.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// When it was seen, since 1970.
    pub at: Duration,
    /// What it was, and which way it went where the file says so.
    pub opened: Opened<'a>,
}

/// Why a file cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is something else.
    #[error("it is neither pcap nor pcapng, nor one of them in gzip: {0}")]
    Foreign(String),
    /// It breaks off, or says what cannot be.
    #[error("packet {packet}, at byte {offset} of the capture: {reason}")]
    Broken {
        /// Number of the packet, from 1.
        packet: u64,
        /// Where it begins; in gzip, in what is in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Debug)]
enum Format {
    Pcap(PcapParser, Link),
    PcapNg {
        parser: PcapNgParser,
        /// Of the section's interfaces, in their order.
        links: Vec<Result<Link, LinkError>>,
        /// Bytes of what describes them, all of which the parser keeps.
        described: usize,
    },
}

/// Where a frame lies in the window.
#[derive(Clone, Copy, Debug)]
struct Found {
    at: Duration,
    begin: usize,
    end: usize,
    wire_bytes: u32,
    link: Link,
    way: Option<Way>,
}

/// What was made of the record at the beginning of the window.
enum Step {
    Frame(Found),
    /// Nothing that is counted.
    Other,
}

/// What is wrong with it.
enum Wrong {
    /// More bytes would help.
    Short,
    Broken(String),
}

impl<R: BufRead> CaptureFile<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// When it is no capture, or of a link type that is not read here.
    pub fn new(mut reader: R) -> Result<Self, FileError> {
        let foreign = |error: &dyn ToString| FileError::Foreign(error.to_string());
        let is_gzip = reader.fill_buf().map_err(|error| foreign(&error))?.starts_with(&GZIP);
        let source = if is_gzip {
            Source::Gzip(Box::new(MultiGzDecoder::new(reader)))
        } else {
            Source::Plain(reader)
        };
        let mut window = Window { source, bytes: Vec::new(), begin: 0, offset: 0 };
        loop {
            let here = window.here();
            let format = if here.starts_with(&SECTION) { section(here) } else { header(here) };
            match format {
                Ok((used, format)) => {
                    window.consume(used);
                    return Ok(Self { window, format, frames: 0, last: Duration::ZERO });
                }
                Err(Wrong::Broken(reason)) => return Err(foreign(&reason)),
                Err(Wrong::Short) => match window.fill() {
                    Ok(0) => return Err(foreign(&"it ends before its header does")),
                    Ok(_) => {}
                    Err(reason) => return Err(foreign(&reason)),
                },
            }
        }
    }

    /// The next frame, or `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read any further.
    pub fn next_frame(&mut self) -> Result<Option<Recorded<'_>>, FileError> {
        let Some(found) = self.find()? else { return Ok(None) };
        self.frames += 1;
        self.last = found.at;
        // `find` has looked there.
        let bytes = self.window.bytes.get(found.begin..found.end).unwrap_or_default();
        let mut opened = found.link.open(bytes, found.wire_bytes);
        opened.way = found.way.or(opened.way);
        Ok(Some(Recorded { at: found.at, opened }))
    }

    /// Frames that were handed over.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    fn find(&mut self) -> Result<Option<Found>, FileError> {
        loop {
            let here = self.window.here();
            let stepped =
                if here.is_empty() { Err(Wrong::Short) } else { self.format.step(here, self.last) };
            match stepped {
                Ok((used, step)) => {
                    let begin = self.window.begin;
                    self.window.consume(used);
                    if let Step::Frame(found) = step {
                        let (from, to) = (begin + found.begin, begin + found.end);
                        return Ok(Some(Found { begin: from, end: to, ..found }));
                    }
                }
                Err(Wrong::Broken(reason)) => return Err(self.broken(reason)),
                Err(Wrong::Short) => match self.window.fill() {
                    Ok(0) if self.window.here().is_empty() => return Ok(None),
                    Ok(0) => return Err(self.broken("the file ends within it".to_owned())),
                    Ok(_) => {}
                    Err(reason) => return Err(self.broken(reason)),
                },
            }
        }
    }

    fn broken(&self, reason: String) -> FileError {
        FileError::Broken { packet: self.frames + 1, offset: self.window.offset, reason }
    }
}

/// The header of a pcap file.
fn header(bytes: &[u8]) -> Result<(usize, Format), Wrong> {
    let (rest, parser) = PcapParser::new(bytes).map_err(wrong_pcap)?;
    // The upper half says how long the frames' checksums are.
    let number = u32::from(parser.header().datalink) & 0xffff;
    let link = link(number).map_err(|error| Wrong::Broken(error.to_string()))?;
    Ok((bytes.len() - rest.len(), Format::Pcap(parser, link)))
}

/// The first section of a pcapng file.
fn section(bytes: &[u8]) -> Result<(usize, Format), Wrong> {
    let (rest, parser) = PcapNgParser::new(bytes).map_err(wrong_pcapng)?;
    let format = Format::PcapNg { parser, links: Vec::new(), described: 0 };
    Ok((bytes.len() - rest.len(), format))
}

fn link(number: u32) -> Result<Link, LinkError> {
    Link::numbered(number, &format!("{:?}", pcap_file::DataLink::from(number)))
}

impl Format {
    /// Reads the record at the beginning, which takes so many bytes.
    fn step(&mut self, bytes: &[u8], last: Duration) -> Result<(usize, Step), Wrong> {
        match self {
            Self::Pcap(parser, link) => {
                let (rest, packet) = parser.next_raw_packet(bytes).map_err(wrong_pcap)?;
                let used = bytes.len() - rest.len();
                let nanos = match parser.header().ts_resolution {
                    PcapTsResolution::MicroSecond => packet.ts_frac.saturating_mul(1000),
                    PcapTsResolution::NanoSecond => packet.ts_frac,
                };
                let found = Found {
                    at: Duration::new(packet.ts_sec.into(), nanos.min(999_999_999)),
                    begin: PCAP_HEADER,
                    end: used,
                    wire_bytes: packet.orig_len,
                    link: *link,
                    way: None,
                };
                Ok((used, Step::Frame(found)))
            }
            Self::PcapNg { parser, links, described } => {
                let (rest, raw) = parser.next_raw_block(bytes).map_err(wrong_pcapng)?;
                let used = bytes.len() - rest.len();
                let step = match raw.type_ {
                    SECTION_HEADER => {
                        links.clear();
                        *described = 0;
                        Step::Other
                    }
                    INTERFACE => {
                        *described += used;
                        if *described > MOST_DESCRIBED {
                            let reason = format!(
                                "its interfaces are described with more than {MOST_DESCRIBED} bytes"
                            );
                            return Err(Wrong::Broken(reason));
                        }
                        let number = parser.interfaces().last().map(|last| last.linktype.into());
                        links.extend(number.map(link));
                        Step::Other
                    }
                    OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                        let block = raw
                            .try_into_block(parser.state())
                            .map_err(|error| Wrong::Broken(chain(&error)))?;
                        Step::Frame(found(&block, links, last)?)
                    }
                    _ => Step::Other,
                };
                Ok((used, step))
            }
        }
    }
}

/// Where the frame lies in its block.
fn found(
    block: &Block<'_>,
    links: &[Result<Link, LinkError>],
    last: Duration,
) -> Result<Found, Wrong> {
    let (interface, at, wire_bytes, begin, bytes, way) = match block {
        Block::EnhancedPacket(packet) => {
            let way = packet.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Flags(flags) => match flags & 3 {
                    1 => Some(Way::Arrives),
                    2 => Some(Way::Leaves),
                    _ => None,
                },
                _ => None,
            });
            let (id, bytes) = (packet.interface_id, packet.data.len());
            (id, packet.timestamp, packet.original_len, PACKET_DATA, bytes, way)
        }
        Block::Packet(packet) => {
            let (id, bytes) = (packet.interface_id.into(), packet.data.len());
            (id, packet.timestamp, packet.original_len, PACKET_DATA, bytes, None)
        }
        Block::SimplePacket(packet) => {
            (0, last, packet.original_len, SIMPLE_DATA, packet.data.len(), None)
        }
        _ => return Err(Wrong::Broken("it is no packet".to_owned())),
    };
    let link = usize::try_from(interface).ok().and_then(|interface| links.get(interface));
    match link {
        Some(Ok(link)) => Ok(Found { at, begin, end: begin + bytes, wire_bytes, link: *link, way }),
        Some(Err(error)) => Err(Wrong::Broken(error.to_string())),
        None => Err(Wrong::Broken(format!("no interface {interface} was described before it"))),
    }
}

fn wrong_pcap(error: PcapParseError) -> Wrong {
    match error {
        PcapParseError::IncompleteBuffer(needed, _) => incomplete(needed),
        other @ PcapParseError::Validation(_) => Wrong::Broken(chain(&other)),
    }
}

fn wrong_pcapng(error: PcapNgParseError) -> Wrong {
    match error {
        PcapNgParseError::IncompleteBuffer(needed, _) => incomplete(needed),
        other => Wrong::Broken(chain(&other)),
    }
}

fn incomplete(needed: usize) -> Wrong {
    if needed > MOST {
        Wrong::Broken(format!("it says that it has {needed} bytes, and {MOST} are the most"))
    } else {
        Wrong::Short
    }
}

/// An error and why, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Where the bytes come from.
#[derive(Debug)]
enum Source<R> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
}

/// The part of the file that is looked at.
#[derive(Debug)]
struct Window<R> {
    source: Source<R>,
    bytes: Vec<u8>,
    /// Where what was not consumed begins.
    begin: usize,
    /// Where that is in the capture.
    offset: u64,
}

impl<R: BufRead> Window<R> {
    fn here(&self) -> &[u8] {
        self.bytes.get(self.begin..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.begin += bytes;
        self.offset += bytes as u64;
    }

    /// Reads on. Returns how many bytes came; 0 at the end.
    fn fill(&mut self) -> Result<usize, String> {
        self.bytes.drain(..self.begin.min(self.bytes.len()));
        self.begin = 0;
        let held = self.bytes.len();
        // A record that is as long as one may be has its header before it.
        if held > MOST + STEP {
            return Err(format!("it has more than {MOST} bytes"));
        }
        self.bytes.resize(held + STEP, 0);
        let room = self.bytes.get_mut(held..).unwrap_or_default();
        let outcome = loop {
            let read = match &mut self.source {
                Source::Plain(reader) => reader.read(room),
                Source::Gzip(reader) => reader.read(room),
            };
            match read {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.bytes.truncate(held + outcome.as_ref().map_or(0, |read| *read));
        outcome.map_err(|error| format!("it cannot be read: {error}"))
    }
}

/// The first bytes of a gzip member (RFC 1952) and of a pcapng section.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Bytes of a record at most: no capture's snapshot is longer.
const MOST: usize = 4 << 20;
/// Bytes read at a time.
const STEP: usize = 64 * 1024;
/// Bytes of what a section says of its interfaces, at most.
const MOST_DESCRIBED: usize = 1 << 20;
/// Types of blocks.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Where the frame begins in its record.
const PCAP_HEADER: usize = 16;
const PACKET_DATA: usize = 28;
const SIMPLE_DATA: usize = 12;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn pcap(magic: u32, link: u32, frames: &[(u32, u32, u32, &[u8])]) -> Vec<u8> {
        let mut file = magic.to_le_bytes().to_vec();
        file.extend([2, 0, 4, 0]);
        file.extend([0; 8]);
        file.extend(65_535_u32.to_le_bytes());
        file.extend(link.to_le_bytes());
        for &(secs, fraction, wire, bytes) in frames {
            for word in [secs, fraction, u32::try_from(bytes.len()).unwrap(), wire] {
                file.extend(word.to_le_bytes());
            }
            file.extend(bytes);
        }
        file
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &body, &length].concat()
    }

    fn section() -> Vec<u8> {
        let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        body.extend([1, 0, 0, 0]);
        body.extend([0xff; 8]);
        block(SECTION_HEADER, &body)
    }

    fn interface(link: u16) -> Vec<u8> {
        let mut body = link.to_le_bytes().to_vec();
        body.extend([0; 2]);
        body.extend(262_144_u32.to_le_bytes());
        block(INTERFACE, &body)
    }

    /// Microseconds, as without an option that says otherwise.
    fn enhanced(
        interface: u32,
        micros: u64,
        wire: u32,
        bytes: &[u8],
        flags: Option<u32>,
    ) -> Vec<u8> {
        let mut body = interface.to_le_bytes().to_vec();
        body.extend(u32::try_from(micros >> 32).unwrap().to_le_bytes());
        body.extend(u32::try_from(micros & 0xffff_ffff).unwrap().to_le_bytes());
        body.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        body.extend(wire.to_le_bytes());
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        if let Some(flags) = flags {
            body.extend([2, 0, 4, 0]);
            body.extend(flags.to_le_bytes());
            body.extend([0; 4]);
        }
        block(ENHANCED_PACKET, &body)
    }

    type Read = (Duration, Vec<u8>, Option<u32>, Option<Way>);

    fn read(bytes: &[u8]) -> (Vec<Read>, Option<String>) {
        let mut frames = Vec::new();
        let mut file = match CaptureFile::new(bytes) {
            Ok(file) => file,
            Err(error) => return (frames, Some(error.to_string())),
        };
        loop {
            match file.next_frame() {
                Ok(Some(Recorded { at, opened })) => {
                    let frame = opened.frame;
                    frames.push((at, frame.bytes.to_vec(), frame.wire_bytes, opened.way));
                }
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn pcap_is_read_in_both_resolutions_and_packed() {
        let bytes = [7; 60];
        let micro = pcap(0xa1b2_c3d4, 1, &[(5, 250_000, 1514, &bytes), (6, 0, 60, &bytes)]);
        let nano = pcap(0xa1b2_3c4d, 1, &[(5, 250_000_000, 1514, &bytes), (6, 0, 60, &bytes)]);
        let frame =
            |millis, wire| (Duration::from_millis(millis), bytes.to_vec(), Some(wire), None);
        let expected = (vec![frame(5250, 1514), frame(6000, 60)], None);
        assert_eq!(read(&micro), expected);
        assert_eq!(read(&nano), expected);
        // Two members, as of two files put together, are one.
        let (front, back) = micro.split_at(70);
        let mut packed = Vec::new();
        for part in [front, back] {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(part).unwrap();
            packed.extend(encoder.finish().unwrap());
        }
        assert_eq!(read(&packed), expected);
    }

    #[test]
    fn pcapng_has_its_link_type_and_way_by_interface_and_packet() {
        let mut cooked = vec![0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0];
        cooked.extend([0x45; 20]);
        let file = [
            section(),
            interface(1),
            interface(113),
            block(4, &[0; 8]),
            enhanced(0, 1_500_000, 99, &[7; 61], Some(1)),
            enhanced(0, 1_600_000, 99, &[7; 61], Some(2)),
            enhanced(1, 1_700_000, 500, &cooked, None),
            block(SIMPLE_PACKET, &[&61_u32.to_le_bytes()[..], &[7; 61]].concat()),
            section(),
            interface(101),
            enhanced(0, 2_000_000, 20, &[0x45; 20], None),
        ]
        .concat();
        let frame = |millis, bytes: &[u8], wire, way| {
            (Duration::from_millis(millis), bytes.to_vec(), Some(wire), way)
        };
        let expected = vec![
            frame(1500, &[7; 61], 99, Some(Way::Arrives)),
            frame(1600, &[7; 61], 99, Some(Way::Leaves)),
            frame(1700, &[0x45; 20], 484, Some(Way::Leaves)),
            frame(1700, &[7; 61], 61, None),
            frame(2000, &[0x45; 20], 20, None),
        ];
        assert_eq!(read(&file), (expected, None));
    }

    #[track_caller]
    fn check(file: &[u8], frames: usize, expected: &str) {
        let (read, error) = read(file);
        let error = error.unwrap_or_default();
        assert_eq!(read.len(), frames, "{error}");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_was_read_before_a_break_is_told_and_the_break_has_its_place() {
        let good = pcap(0xa1b2_c3d4, 1, &[(5, 0, 60, &[7; 60]), (6, 0, 60, &[7; 60])]);
        check(
            &good[..good.len() - 1],
            1,
            "packet 2, at byte 100 of the capture: the file ends within it",
        );
        check(&good[..107], 1, "packet 2, at byte 100 of the capture: the file ends within it");
        let mut huge = good.clone();
        huge[108..112].copy_from_slice(&u32::MAX.to_le_bytes());
        check(
            &huge,
            1,
            "packet 2, at byte 100 of the capture: it says that it has 4294967295 bytes",
        );
        check(&[], 0, "it is neither pcap nor pcapng, nor one of them in gzip: it ends before");
        check(b"# Fast and wrong", 0, "it is neither pcap nor pcapng");
        check(&pcap(0xa1b2_c3d4, 105, &[]), 0, "its link type is 105 (IEEE802_11)");

        let ng = [section(), interface(1), enhanced(0, 0, 61, &[7; 61], None)].concat();
        check(&[ng.clone(), enhanced(3, 0, 61, &[7; 61], None)].concat(), 1, "packet 2, at byte ");
        check(
            &ng[..ng.len() - 2],
            0,
            "packet 1, at byte 48 of the capture: the file ends within it",
        );
        check(&[section(), interface(105)].concat(), 0, "");
        let other = [section(), interface(105), enhanced(0, 0, 61, &[7; 61], None)].concat();
        check(&other, 0, "packet 1, at byte 48 of the capture: its link type is 105 (IEEE802_11)");
        let mut odd = ng.clone();
        odd[48 + 4] = 3;
        check(&odd, 0, "packet 1, at byte 48 of the capture: ");

        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&good).unwrap();
        let packed = encoder.finish().unwrap();
        let (read, error) = read(&packed[..packed.len() - 9]);
        assert!(read.len() <= 2 && error.unwrap().contains("it cannot be read"), "{}", read.len());
    }

    #[test]
    fn interfaces_without_end_are_refused() {
        let mut file = section();
        let one = interface(1);
        for _ in 0..=MOST_DESCRIBED / one.len() {
            file.extend(&one);
        }
        check(&file, 0, "its interfaces are described with more than 1048576 bytes");
    }

    #[test]
    fn no_bytes_make_it_read_without_end() {
        let frames: Vec<(u32, u32, u32, &[u8])> = vec![(5, 0, 60, &[7; 60]); 3];
        let one = pcap(0xa1b2_c3d4, 1, &frames);
        let packet = enhanced(0, 0, 61, &[7; 61], Some(1));
        let other = [section(), interface(1), packet.clone(), packet].concat();
        for good in [one, other] {
            for at in 0..good.len() {
                for value in [0, 0x7f, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = value;
                    assert!(read(&bad).0.len() <= bad.len() / 12);
                }
                read(&good[..at]);
            }
        }
    }
}
