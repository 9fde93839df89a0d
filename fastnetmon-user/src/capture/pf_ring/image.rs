//! A ring of the kernel module as an image: a control block, a page of ours, and slots of packets.
//!
//! ```text
//!       0  version u16   4 min_num_slots u32   8 slot_len u32   16 tot_mem u64   24 insert_off u64
//!          40 tot_pkts u64   48 tot_lost u64   56 tot_insert u64        the module writes these
//!    4096  tot_read u64   4104 remove_off u64                           we write these
//!    8192  header, frame, two bytes; rounded up to eight; the next slot …
//! ```
//! A packet is there when `tot_insert` is not `tot_read`. Slots follow each other without a gap; where
//! no longest slot fits any more, the next one is the first again.
//!
//! **Invariant**: pure. Whatever the image says, nothing outside it is read, the walk ends, and a word
//! is read once: a module that writes it again meanwhile changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::IntoBytes as _;

/// What does not fit together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Nonsense {
    /// The control block does not describe a ring.
    #[error("its control block tells of {bytes} bytes with slots of {slot}, which is no ring")]
    Shape {
        /// Bytes of the whole ring.
        bytes: u64,
        /// Bytes of the longest slot.
        slot: u32,
    },
    /// The header's length is none that holds the fields we read.
    #[error("its packets have headers of {0} bytes")]
    Header(u16),
    /// More packets than fit into it.
    #[error("it tells of {0} packets, which is more than it holds")]
    Queue(u64),
    /// A packet that is longer than its slot.
    #[error("it tells of a packet of {0} bytes, which is more than a slot holds")]
    Slot(u32),
}

/// The first page of a ring: enough to know whether and how to map the rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Control {
    /// Its layout.
    pub(super) slot_version: u16,
    /// Bytes of the longest slot.
    pub(super) slot_bytes: u32,
    /// Bytes of the whole ring.
    pub(super) bytes: u64,
}

/// Where we are in a ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Reader {
    /// Bytes of a packet's header.
    header: u16,
    slot_bytes: u64,
    /// Bytes of all slots.
    room: u64,
    /// Packets that were handed over.
    read: u64,
    /// Where the next one lies, from the first slot on.
    at: u64,
    /// Losses that were told.
    lost: u64,
}

/// One packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Caught<'a> {
    /// What was captured of it, as far as we keep it.
    pub(super) bytes: &'a [u8],
    /// Its length on the wire.
    pub(super) wire_bytes: u32,
    /// The port received it; otherwise it sent it.
    pub(super) arrives: bool,
}

/// Room for one packet: its header and what we keep of it.
pub(super) type Room = [u64; 64];

impl Control {
    /// Reads the control block.
    pub(super) fn read(image: &[AtomicU64]) -> Self {
        let [low, high, ..] = word(image, 0, Ordering::Relaxed).to_ne_bytes();
        Self {
            slot_version: u16::from_ne_bytes([low, high]),
            slot_bytes: halves(word(image, SLOT_BYTES, Ordering::Relaxed))[0],
            bytes: word(image, BYTES, Ordering::Relaxed),
        }
    }

    /// How much is to be mapped, if that can be.
    pub(super) fn mapped(&self) -> Result<usize, Nonsense> {
        let shape = Nonsense::Shape { bytes: self.bytes, slot: self.slot_bytes };
        if self.bytes <= FIRST_SLOT || self.bytes > MOST_BYTES {
            return Err(shape);
        }
        usize::try_from(self.bytes).or(Err(shape))
    }
}

impl Reader {
    /// At the beginning of a ring that nobody has read from.
    ///
    /// # Errors
    /// When the image is no ring, or its headers lack what we read.
    pub(super) fn new(
        image: &[AtomicU64],
        control: Control,
        header: u16,
    ) -> Result<Self, Nonsense> {
        let Control { slot_bytes: slot, bytes, .. } = control;
        let shape = Nonsense::Shape { bytes, slot };
        if !(SHORTEST_HEADER..=LONGEST_HEADER).contains(&header) {
            return Err(Nonsense::Header(header));
        }
        let room = bytes.checked_sub(FIRST_SLOT).ok_or(shape)?;
        let slot_bytes = u64::from(slot);
        let mapped = u64::try_from(image.len()).unwrap_or(0).saturating_mul(8);
        if slot_bytes < slot_of(header, 0) || slot_bytes > room || mapped < bytes {
            return Err(shape);
        }
        Ok(Self { header, slot_bytes, room, read: 0, at: 0, lost: 0 })
    }

    /// Packets that wait.
    ///
    /// # Errors
    /// When they are more than fit.
    pub(super) fn waiting(&self, image: &[AtomicU64]) -> Result<u64, Nonsense> {
        let inserted = word(image, INSERTED, Ordering::Acquire);
        let waiting = inserted.wrapping_sub(self.read);
        if waiting > self.capacity() { Err(Nonsense::Queue(waiting)) } else { Ok(waiting) }
    }

    /// Takes the next packet, which must be [waiting](Self::waiting), and gives its slot back.
    ///
    /// # Errors
    /// When it is longer than a slot.
    pub(super) fn take<'a>(
        &mut self,
        image: &[AtomicU64],
        into: &'a mut Room,
    ) -> Result<Caught<'a>, Nonsense> {
        let begin = FIRST_SLOT / 8 + self.at / 8;
        let [captured, wire_bytes] = halves(word(image, begin + 2, Ordering::Relaxed));
        let slot = slot_of(self.header, captured);
        if slot > self.slot_bytes {
            return Err(Nonsense::Slot(captured));
        }
        let header = usize::from(self.header);
        let kept = usize::try_from(captured).unwrap_or(usize::MAX).min(usize::from(SNAP_BYTES));
        for (to, at) in into.iter_mut().take((header + kept).div_ceil(8)).zip(begin..) {
            *to = word(image, at, Ordering::Relaxed);
        }
        let next = self.at + slot;
        self.at = if next + self.slot_bytes > self.room { 0 } else { next };
        self.read = self.read.wrapping_add(1);
        store(image, REMOVED, self.at);
        store(image, READ, self.read);
        let bytes: &'a [u8] = into.as_bytes();
        Ok(Caught {
            bytes: bytes.get(header..header + kept).unwrap_or_default(),
            wire_bytes,
            arrives: bytes.get(DIRECTION) == Some(&1),
        })
    }

    /// Packets that found no room since this was asked last.
    pub(super) fn new_losses(&mut self, image: &[AtomicU64]) -> u64 {
        let lost = word(image, LOST, Ordering::Relaxed);
        let new = lost.saturating_sub(self.lost);
        self.lost = lost;
        new
    }

    /// Packets that wait and will not be read any more, as far as they can be believed.
    pub(super) fn abandoned(&self, image: &[AtomicU64]) -> u64 {
        self.waiting(image).unwrap_or(0)
    }

    /// The most packets that fit: all of them empty.
    fn capacity(&self) -> u64 {
        self.room / slot_of(self.header, 0)
    }
}

/// Bytes of a slot that holds so many of a packet: two more, rounded up to eight.
fn slot_of(header: u16, captured: u32) -> u64 {
    (u64::from(header) + u64::from(captured) + 2).next_multiple_of(8)
}

/// The word at this place, or zero behind the end of the image.
fn word(image: &[AtomicU64], at: u64, order: Ordering) -> u64 {
    let word = usize::try_from(at).ok().and_then(|at| image.get(at));
    word.map_or(0, |word| word.load(order))
}

fn store(image: &[AtomicU64], at: u64, value: u64) {
    if let Some(word) = usize::try_from(at).ok().and_then(|at| image.get(at)) {
        word.store(value, Ordering::Release);
    }
}

/// The two numbers of 32 bits in a word, as they lie.
const fn halves(word: u64) -> [u32; 2] {
    zerocopy::transmute!(word)
}

/// Bytes of a frame that are copied: all headers that are looked at, tunnels included.
pub(super) const SNAP_BYTES: u16 = 256;
/// The direction is the last field we read.
pub(super) const SHORTEST_HEADER: u16 = 37;
/// Header and packet fit into a [`Room`].
const LONGEST_HEADER: u16 = 256;
/// Where the direction stands in a header.
const DIRECTION: usize = 36;
/// No ring is larger: 65,536 slots of the largest packet take less.
const MOST_BYTES: u64 = 8 << 30;

/// Where things stand, in words of 64 bits.
const SLOT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const LOST: u64 = 6;
const INSERTED: u64 = 7;
const READ: u64 = 512;
const REMOVED: u64 = 513;
/// Where the first slot lies, in bytes.
const FIRST_SLOT: u64 = 8192;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::dice::Dice;

    /// A module's side of a ring, laid out as the facts say.
    pub(in crate::capture::pf_ring) struct Module {
        header: u16,
        slot_bytes: u64,
        room: u64,
        insert_at: u64,
        inserted: u64,
        lost: u64,
    }

    fn put(image: &[AtomicU64], at: u64, bytes: &[u8]) {
        for (at, &byte) in (at..).zip(bytes) {
            let word = &image[usize::try_from(at / 8).unwrap()];
            let mut all = word.load(Ordering::Relaxed).to_ne_bytes();
            all[usize::try_from(at % 8).unwrap()] = byte;
            word.store(u64::from_ne_bytes(all), Ordering::Relaxed);
        }
    }

    impl Module {
        /// Writes the control block of a ring with room for so many of the longest packets.
        pub(in crate::capture::pf_ring) fn new(
            image: &[AtomicU64],
            slot_version: u16,
            header: u16,
            snap: u32,
            slots: u64,
        ) -> Self {
            let slot_bytes = slot_of(header, snap);
            let bytes = FIRST_SLOT + slot_bytes * slots;
            put(image, 0, &slot_version.to_ne_bytes());
            put(image, 4, &u32::try_from(slots).unwrap().to_ne_bytes());
            put(image, 8, &u32::try_from(slot_bytes).unwrap().to_ne_bytes());
            put(image, 16, &bytes.to_ne_bytes());
            Self {
                header,
                slot_bytes,
                room: bytes - FIRST_SLOT,
                insert_at: 0,
                inserted: 0,
                lost: 0,
            }
        }

        /// Inserts a packet as the module does, or counts it as lost.
        pub(in crate::capture::pf_ring) fn insert(
            &mut self,
            image: &[AtomicU64],
            bytes: &[u8],
            wire_bytes: u32,
            arrives: bool,
        ) {
            let remove_at = image[513].load(Ordering::Acquire);
            let queued = self.inserted - image[512].load(Ordering::Acquire);
            let free = match self.insert_at.cmp(&remove_at) {
                std::cmp::Ordering::Equal => queued == 0,
                std::cmp::Ordering::Less => remove_at - self.insert_at >= 2 * self.slot_bytes,
                std::cmp::Ordering::Greater => {
                    self.room - self.insert_at >= 2 * self.slot_bytes || remove_at > 0
                }
            };
            if !free {
                self.lost += 1;
                put(image, 48, &self.lost.to_ne_bytes());
                return;
            }
            let begin = FIRST_SLOT + self.insert_at;
            let captured = u32::try_from(bytes.len()).unwrap();
            put(image, begin, &[0xab; 36]);
            put(image, begin + 16, &captured.to_ne_bytes());
            put(image, begin + 20, &wire_bytes.to_ne_bytes());
            put(image, begin + 36, &[u8::from(arrives)]);
            put(image, begin + u64::from(self.header), bytes);
            put(image, begin + u64::from(self.header) + u64::from(captured), &[0x88, 0]);
            let next = self.insert_at + slot_of(self.header, captured);
            self.insert_at = if next + self.slot_bytes > self.room { 0 } else { next };
            put(image, 24, &self.insert_at.to_ne_bytes());
            self.inserted += 1;
            image[7].store(self.inserted, Ordering::Release);
        }
    }

    fn blank(bytes: u64) -> Vec<AtomicU64> {
        (0..bytes / 8).map(|_| AtomicU64::new(0)).collect()
    }

    /// Layouts by slot version: how long the header is that they write.
    const LAYOUTS: [(u16, u16); 6] = [(16, 200), (16, 48), (17, 45), (18, 48), (20, 48), (21, 48)];

    fn frame(number: u64, length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from((number * 7 + at as u64) % 251).unwrap()).collect()
    }

    #[test]
    fn every_layout_is_read_round_and_round_to_the_last_byte() {
        for (slot_version, header) in LAYOUTS {
            let image = blank(1 << 16);
            let mut module = Module::new(&image, slot_version, header, 256, 16);
            let control = Control::read(&image);
            assert_eq!(control.slot_version, slot_version);
            assert_eq!(control.mapped().unwrap() as u64, FIRST_SLOT + module.room);
            let mut reader = Reader::new(&image, control, header).unwrap();
            let (mut room, mut seen) = ([0; 64], 0);
            for number in 0..5_000_u64 {
                let length = usize::try_from(number * 37 % 257).unwrap();
                module.insert(&image, &frame(number, length), 1514, number % 3 == 0);
                // At times several wait.
                if number % 4 < 2 {
                    continue;
                }
                while reader.waiting(&image).unwrap() > 0 {
                    let caught = reader.take(&image, &mut room).unwrap();
                    let expected = frame(seen, usize::try_from(seen * 37 % 257).unwrap());
                    assert_eq!(caught.bytes, expected, "{slot_version} {seen}");
                    assert_eq!((caught.wire_bytes, caught.arrives), (1514, seen % 3 == 0));
                    seen += 1;
                }
                assert_eq!(reader.at, module.insert_at);
            }
            assert_eq!((seen, reader.new_losses(&image)), (5_000, 0));
            assert_eq!(image[512].load(Ordering::Relaxed), 5_000);
            assert_eq!(image[513].load(Ordering::Relaxed), module.insert_at);
        }
    }

    #[test]
    fn what_found_no_room_is_told_once_and_what_is_there_is_read() {
        let image = blank(1 << 16);
        let mut module = Module::new(&image, 21, 48, 256, 16);
        let mut reader = Reader::new(&image, Control::read(&image), 48).unwrap();
        let (mut room, mut taken, mut lost) = ([0; 64], 0, 0);
        for round in 1..=10_u64 {
            for number in 0..100 {
                module.insert(&image, &frame(number, 256), 300, true);
            }
            while reader.waiting(&image).unwrap() > 0 {
                assert_eq!(reader.take(&image, &mut room).unwrap().bytes.len(), 256);
                taken += 1;
            }
            lost += reader.new_losses(&image);
            assert_eq!(reader.new_losses(&image), 0);
            assert_eq!(taken + lost, round * 100);
        }
        assert!(taken >= 140 && lost > 500, "{taken} {lost}");
    }

    #[test]
    fn what_lies_between_two_rings_is_abandoned_and_counted() {
        let image = blank(1 << 16);
        let mut module = Module::new(&image, 21, 48, 256, 16);
        let reader = Reader::new(&image, Control::read(&image), 48).unwrap();
        for number in 0..5 {
            module.insert(&image, &frame(number, 60), 60, true);
        }
        assert_eq!(reader.abandoned(&image), 5);
        image[7].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(reader.abandoned(&image), 0);
    }

    #[test]
    fn packets_without_bytes_and_longer_ones_than_we_keep_are_packets() {
        let image = blank(1 << 20);
        let mut module = Module::new(&image, 21, 48, 9000, 16);
        let mut reader = Reader::new(&image, Control::read(&image), 48).unwrap();
        let mut room = [0; 64];
        for length in [0, 1, 255, 256, 257, 9000] {
            module.insert(&image, &frame(1, length), 9018, false);
            let caught = reader.take(&image, &mut room).unwrap();
            assert_eq!(caught.bytes, frame(1, length.min(256)), "{length}");
        }
        assert_eq!(reader.waiting(&image), Ok(0));
    }

    #[track_caller]
    fn refused(control: Control, header: u16, expected: &str) {
        let image = blank(1 << 16);
        let error = control.mapped().and_then(|_| Reader::new(&image, control, header));
        assert_eq!(error.unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_lying_control_block_is_refused() {
        let control = |bytes, slot_bytes| Control { slot_version: 21, slot_bytes, bytes };
        let shape = |bytes: u64, slot: u32| {
            format!(
                "its control block tells of {bytes} bytes with slots of {slot}, which is no ring"
            )
        };
        for (bytes, slot) in [
            (0, 312),
            (8192, 312),
            (8193, 312),
            (u64::MAX, 312),
            ((1 << 16) + 8, 312), // more than is mapped
            (1 << 16, 0),
            (1 << 16, 55), // no room for a header
            (1 << 16, u32::MAX),
        ] {
            refused(control(bytes, slot), 48, &shape(bytes, slot));
        }
        for header in [0, 36, 257, u16::MAX] {
            let expected = format!("its packets have headers of {header} bytes");
            refused(control(1 << 16, 312), header, &expected);
        }
        assert!(Reader::new(&[], control(1 << 16, 312), 48).is_err());
    }

    #[test]
    fn a_packet_longer_than_a_slot_and_more_packets_than_fit_are_nonsense() {
        let image = blank(1 << 16);
        let mut module = Module::new(&image, 21, 48, 256, 16);
        let mut reader = Reader::new(&image, Control::read(&image), 48).unwrap();
        module.insert(&image, &[1; 60], 60, true);
        for captured in [263_u32, 9000, u32::MAX] {
            put(&image, 8192 + 16, &captured.to_ne_bytes());
            let error = reader.take(&image, &mut [0; 64]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "it tells of a packet of {captured} bytes, which is more than a slot holds"
                )
            );
        }
        for inserted in [reader.capacity() + 1, u64::MAX] {
            image[7].store(inserted, Ordering::Relaxed);
            let error = reader.waiting(&image).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("it tells of {inserted} packets, which is more than it holds")
            );
        }
    }

    #[test]
    fn no_image_leads_the_reader_out_of_it_or_round_for_ever() {
        let mut dice = Dice::default();
        let (mut readers, mut packets) = (0_u64, 0_u64);
        for round in 0..2_000_u64 {
            let words = 1024 + dice.roll() % 4096;
            let image = blank(words * 8);
            for word in &image {
                // Small numbers lead further.
                let shift = if round % 2 == 0 { 54 + dice.roll() % 10 } else { dice.roll() % 64 };
                word.store(dice.roll() >> shift, Ordering::Relaxed);
            }
            if round % 4 != 0 {
                image[2].store(words * 8, Ordering::Relaxed);
                let slot = 56 + dice.roll() % 1500;
                image[1].store(slot, Ordering::Relaxed);
                image[7].store(dice.roll() % 80, Ordering::Relaxed);
            }
            let control = Control::read(&image);
            let header = u16::try_from(dice.roll() % 300).unwrap();
            let Ok(mut reader) = Reader::new(&image, control, header) else { continue };
            readers += 1;
            let mut room = [0; 64];
            for _ in 0..2 {
                let Ok(waiting) = reader.waiting(&image) else { break };
                assert!(waiting <= reader.capacity());
                for _ in 0..waiting {
                    let Ok(caught) = reader.take(&image, &mut room) else { break };
                    packets += 1;
                    assert!(caught.bytes.len() <= usize::from(SNAP_BYTES));
                    assert!(reader.at % 8 == 0 && reader.at + reader.slot_bytes <= reader.room);
                }
                let _losses = reader.new_losses(&image);
                // Somebody writes it anew between two looks.
                for _ in 0..100 {
                    let at = usize::try_from(dice.roll() % words).unwrap();
                    image[at].store(dice.roll(), Ordering::Relaxed);
                }
            }
        }
        assert!(readers > 500 && packets > 4_000, "{readers} {packets}");
    }
}
