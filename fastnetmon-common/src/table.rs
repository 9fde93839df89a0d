//! The one counter table, `[writer][direction][slot]`, and the one way into it.
//!
//! A line is 64 bytes and has one writer (a CPU in the kernel, a thread in user space), so nothing
//! is locked. Nobody ever zeroes a line: readers take differences.
//!
//! | word | 0–5 | 6 | 7 |
//! |---|---|---|---|
//! | holds | the classes | dropped by us | the running window |
//!
//! A counting word is `packets << 36 | bytes`, one addition for both, never torn apart. The window
//! word is `epoch (8) | packets (24) | bytes / 16 (32)`.
//!
//! Beside the lines, each 64 of them in a direction share a mark, which says that something was added
//! to one of them. The house's own lines have none: there are few, and they are always read.
//!
//! **Invariant**: [`count`] and [`unparsed`] between them add each frame exactly once to what the
//! totals are made of.

use crate::class::{Class, Direction, Sides, Unparsed};
use crate::directory::{FLAGGED, Found, INDEX, find4, leaf6, mix, resident, seek6};
use crate::parse::{Ends, Family, Packet, Payload};

/// Where the packets begin in a counting word.
pub const PACKET_SHIFT: u32 = 36;
/// Word of what the gate dropped; such packets are counted in their class as well.
pub const DROPPED: usize = 6;
/// Word of the running window.
pub const WINDOW: usize = 7;
/// Words in a line.
pub const WORDS: usize = 8;
/// Slots in a block.
pub const BLOCK: u32 = 256;
/// Slots that share a mark, see [`Tables::stir`].
pub const STIRRED: u32 = 64;
/// Marks of a direction. Of more lines than they reach, several share one.
pub const MARKS: u32 = 16_384;

/// House line (block 0) of traffic with no end that is ours and counted where it was seen.
pub const OTHER: u32 = 0;
/// House line of packets between two of our hosts, where one end was counted.
pub const INTERNAL: u32 = 1;
/// House line of packets between two of our hosts, where both ends were counted (mirror).
pub const MIRRORED: u32 = 2;
/// House line of the bytes that frames carry beyond their IP packet.
pub const PADDING: u32 = 3;
/// House line of what tunnels carried for our hosts: on their lines beside the tunnel's own
/// packets, so the totals leave it out.
pub const TUNNELLED: u32 = 4;
/// House line of what a rule has us not count, see [`ignore`](crate::ignore).
pub const IGNORED: u32 = 5;
/// House line of the first reason for refusal; the others follow.
pub const UNPARSED: u32 = 8;
/// House line of samples that found their ring full.
pub const SAMPLES_LOST: u32 = 16;
/// House line of hints that found their ring full.
pub const HINTS_LOST: u32 = 17;
/// House line of strangers that were not told, ring full or too many at once.
pub const STRANGERS_UNTOLD: u32 = 18;
/// House line in which an engine's writer keeps its notes, see [`Tables::notes`].
pub const NOTES: u32 = 24;

/// Word of the notes in which the writer counts down to its next sparse sample.
const COUNTDOWN: usize = 0;
/// Word of the notes in which the writer counts the strangers told in this window.
const STRANGERS_TOLD: usize = 1;

/// Strangers one writer may tell in one window (about 128 ms). A spray of addresses is thereby
/// no spray of events.
pub const STRANGERS_PER_WINDOW: u64 = 1024;

/// Limits within one window, for one row. 0 never fires.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limit {
    /// Packets.
    pub packets: u32,
    /// Bytes, in units of 16.
    pub bytes16: u32,
}

/// Eight words in one cache line, written by one writer.
pub trait Line: Copy {
    /// Reads a word.
    fn get(self, word: usize) -> u64;
    /// Writes a word.
    fn set(self, word: usize, value: u64);
    /// Adds to a word.
    #[inline(always)]
    fn add(self, word: usize, amount: u64) {
        self.set(word, self.get(word).wrapping_add(amount));
    }
}

/// Access to the tables: BPF maps in the kernel, memory of our own in an engine.
pub trait Tables {
    /// How a line is reached.
    type Line: Line;
    /// IPv4 root, by the upper 16 bits.
    fn t1(&self, high: u32) -> u32;
    /// IPv6 root, by the first 16 bits.
    fn t6(&self, high: u32) -> u32;
    /// One step of 8 bits; element 0 is all zero.
    fn t2(&self, element: u32, byte: u32) -> u32;
    /// The bucket of a hash: three keys and their slots. Of `n` buckets it is number
    /// `hash * n / 2^32`, so that `n` may be any number.
    fn bucket(&self, hash: u32) -> Option<Self::Line>;
    /// What the hash of the buckets is seeded with.
    fn seed(&self) -> u64;
    /// Number of this writer's line, for [`Tables::line_at`].
    fn place(&self, direction: Direction, slot: u32) -> u32;
    /// The line of this number.
    fn line_at(&self, place: u32) -> Option<Self::Line>;
    /// This writer's line.
    #[inline(always)]
    fn line(&self, direction: Direction, slot: u32) -> Option<Self::Line> {
        self.line_at(self.place(direction, slot))
    }
    /// What this writer notes down for itself from packet to packet. Nobody else reads it.
    fn notes(&self) -> Option<Self::Line>;
    /// Something was added to this slot: sets the mark of its neighbourhood, where it is not set
    /// already, so that whoever reads the lines may leave out those that did not move. After the
    /// addition, never before: a reader that finds the mark set takes it back, then reads.
    fn stir(&self, direction: Direction, slot: u32);
    /// The limit within one window.
    fn limit(&self, direction: Direction, profile: u32) -> Limit;
    /// Words that were put down, to be taken up one by one.
    type Down: Copy;
    /// Puts words down, in the kernel into memory the verifier knows nothing of.
    ///
    /// What it knows of a word, it knows for each way through the parser apart, and walks
    /// everything behind it once for each: a million instructions are soon used up. Behind this
    /// call all ways are one.
    fn put_down(&self, words: [u64; 6]) -> Self::Down;
    /// Takes one of them up, each time it is needed: from memory, and kept nowhere else.
    fn take_up(&self, down: Self::Down, word: usize) -> u64;
    /// All bits for 0, none for anything else. In the kernel without a jump.
    #[inline(always)]
    fn all_if_zero(&self, word: u64) -> u64 {
        if word == 0 { u64::MAX } else { 0 }
    }
    /// Whether additions wait for each other: then [`Tables::put_off`] takes them.
    #[inline(always)]
    fn puts_off(&self) -> bool {
        false
    }
    /// Takes an addition that is to be made later, in the steps of [`Waiting`]. Asked only of tables that say they
    /// do so.
    #[inline(always)]
    fn put_off(&self, _waiting: Waiting) {}
    /// Has a line on its way from memory.
    #[inline(always)]
    fn fetch(&self, _line: Self::Line) {}
    /// A line crossed its limit. Returns whether the hint found room.
    fn hint(&self, direction: Direction, slot: u32, window: u64) -> bool;
    /// An IPv6 host of ours has no line of its own. Returns whether the word found room.
    fn stranger(&self, direction: Direction, address: [u64; 2], prefix: u32) -> bool;
}

/// An addition to one host's line that waits for others: made together, their lines come from memory
/// together, where each by itself would be waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Waiting {
    /// What is added to the class, as in a counting word.
    pub amount: u64,
    /// What is added to the window, as in its word.
    pub gain: u64,
    /// IPv6: the host, to be looked for when it is `SOUGHT`.
    pub address: [u64; 2],
    /// Its slot; of one that is sought, the second half of its hash.
    pub slot: u32,
    /// Number of that slot's line; of one that is sought, the first half of its hash.
    pub place: u32,
    /// The entry of the directory that led there.
    pub entry: u32,
    /// Class, `OUTGOING`, `SOUGHT`.
    pub kind: u32,
}

/// Bit of [`Waiting::kind`]: from the host.
const OUTGOING: u32 = 1 << 3;
/// Bit of [`Waiting::kind`]: an IPv6 host that is to be looked for in the buckets; the line of its
/// prefix stands in for one that is not there.
const SOUGHT: u32 = 1 << 4;

/// Whose lines a packet was added to, and what it may carry.
#[derive(Clone, Copy, Debug)]
pub struct Touched<Down = ()> {
    /// The source, as outgoing.
    pub source: Found,
    /// The destination, as incoming.
    pub destination: Found,
    /// What is known of the packet.
    down: Down,
}

impl<Down: Copy> Touched<Down> {
    /// What lies behind the packet's IP header. To be asked before another packet is counted.
    #[inline(always)]
    pub fn payload<T: Tables<Down = Down>>(&self, tables: &T) -> Payload {
        Known { tables, down: self.down }.payload()
    }

    /// Has one of the hosts, or a neighbour of theirs, a flag word that says something?
    #[inline(always)]
    pub const fn is_flagged(&self) -> bool {
        (self.source.entry | self.destination.entry) & FLAGGED != 0
    }
}

/// A counting word that adds so much.
#[inline(always)]
pub const fn packed(packets: u32, bytes: u32) -> u64 {
    ((packets as u64) << PACKET_SHIFT) | bytes as u64
}

/// Which of the marks of a direction is this slot's.
#[inline(always)]
pub const fn mark_of(slot: u32) -> usize {
    ((slot / STIRRED) & (MARKS - 1)) as usize
}

/// What a word gained between two readings, as `(packets, bytes)`.
///
/// A carry out of the byte field is undone by the subtraction. Exact while the gain stays below
/// 2^28 packets and 2^36 bytes.
#[inline]
pub const fn gained(before: u64, after: u64) -> (u64, u64) {
    let gain = after.wrapping_sub(before);
    (gain >> PACKET_SHIFT, gain & ((1 << PACKET_SHIFT) - 1))
}

/// Packets in a window word.
#[inline(always)]
pub const fn window_packets(word: u64) -> u32 {
    ((word >> 32) & 0x00ff_ffff) as u32
}

/// Adds `packets` packets of `bytes` bytes in all to the lines of `packet`'s ends.
///
/// `window` is the number of the running window; what is above 255 makes no difference.
#[inline(always)]
pub fn count<T: Tables>(
    tables: &T,
    packet: &Packet,
    packets: u32,
    bytes: u32,
    sides: Sides,
    window: u64,
) -> Touched<T::Down> {
    let seen = match sides {
        Sides::Source => Direction::Outgoing,
        Sides::Destination | Sides::Both => Direction::Incoming,
    };
    let known = known(tables, packet, bytes);
    // First, so that it need not be kept.
    let padding = known.padding();
    if padding != 0 {
        house(tables, seen, PADDING, known.class(), packed(packets, padding));
    }
    let (source, destination) = if known.is_ipv4() {
        // The destination first: of what arrives it is the one that is ours, and its line is the
        // one that has to be waited for.
        let destination = find4(tables, known.dst4());
        (find4(tables, known.src4()), destination)
    } else {
        let destination = locate6(tables, known.dst());
        (locate6(tables, known.src()), destination)
    };
    let (source, destination) = settle(&known, source, destination, sides, seen, packets, window);
    Touched { source, destination, down: known.down }
}

/// Looks an IPv6 address up, or leaves that to [`Waiting::sought`] where nobody has to know at once.
#[inline(always)]
fn locate6<T: Tables>(tables: &T, address: [u64; 2]) -> Found {
    let entry = leaf6(tables, address);
    if entry == 0 {
        return Found::NOBODY;
    }
    let own = entry & INDEX;
    if tables.puts_off() && own != 0 && entry & FLAGGED == 0 && !is_sparse_due(tables) {
        return Found { slot: own, entry, stranger: true };
    }
    seek6(tables, address, entry)
}

/// What counting needs to know of a packet, as it was put down.
struct Known<'tables, T: Tables> {
    tables: &'tables T,
    down: T::Down,
}

/// More padding than any frame has.
const MOST_PADDING: u32 = 0x0003_ffff;

/// Puts down what there is to know of a packet of so many bytes.
#[inline(always)]
fn known<'tables, T: Tables>(tables: &'tables T, packet: &Packet, bytes: u32) -> Known<'tables, T> {
    let Ends { family, src, dst } = packet.ends;
    let payload = Payload::of(packet);
    // bytes (32) | where the payload begins (14) | padding (18)
    let sizes = (u64::from(bytes) << 32)
        | (u64::from(payload.at) << 18)
        | u64::from(if packet.padding > MOST_PADDING { MOST_PADDING } else { packet.padding });
    // protocol (8) | class (7) | IPv6 (1)
    let kinds = (u64::from(payload.protocol) << 8)
        | ((packet.class as u64) << 1)
        | u64::from(matches!(family, Family::V6));
    Known { tables, down: tables.put_down([src[0], src[1], dst[0], dst[1], sizes, kinds]) }
}

impl<T: Tables> Known<'_, T> {
    #[inline(always)]
    fn word(&self, word: usize) -> u64 {
        self.tables.take_up(self.down, word)
    }

    #[inline(always)]
    fn src(&self) -> [u64; 2] {
        [self.word(0), self.word(1)]
    }

    #[inline(always)]
    fn dst(&self) -> [u64; 2] {
        [self.word(2), self.word(3)]
    }

    #[inline(always)]
    fn src4(&self) -> u32 {
        low32(self.word(1))
    }

    #[inline(always)]
    fn dst4(&self) -> u32 {
        low32(self.word(3))
    }

    #[inline(always)]
    fn bytes(&self) -> u32 {
        low32(self.word(4) >> 32)
    }

    #[inline(always)]
    fn padding(&self) -> u32 {
        low32(self.word(4)) & MOST_PADDING
    }

    #[inline(always)]
    fn is_ipv4(&self) -> bool {
        self.word(5) & 1 == 0
    }

    #[inline(always)]
    fn class(&self) -> u64 {
        (self.word(5) >> 1) & 7
    }

    #[inline(always)]
    fn payload(&self) -> Payload {
        Payload {
            protocol: ((self.word(5) >> 8) & 255) as u8,
            at: low32(self.word(4) >> 18) & Payload::MOST,
        }
    }
}

/// What is added to a line.
#[derive(Clone, Copy)]
struct Amount {
    /// Word of the class.
    word: u64,
    packets: u32,
    bytes: u32,
    window: u64,
}

impl Amount {
    #[inline(always)]
    const fn packed(self) -> u64 {
        packed(self.packets, self.bytes)
    }

    /// For the word of the window.
    #[inline(always)]
    fn gain(self) -> u64 {
        (u64::from(self.packets.min(MOST_PACKETS)) << 32) | u64::from(self.bytes >> 4)
    }
}

/// Adds to the lines of the ends that are counted here, and to the house's. Returns the former.
#[inline(always)]
fn settle<T: Tables>(
    known: &Known<'_, T>,
    source: Found,
    destination: Found,
    sides: Sides,
    seen: Direction,
    packets: u32,
    window: u64,
) -> (Found, Found) {
    let tables = known.tables;
    let counted_source = if sides.source() { source } else { Found::NOBODY };
    let counted_destination = if sides.destination() { destination } else { Found::NOBODY };
    let amount = || Amount { word: known.class(), packets, bytes: known.bytes(), window };
    if counted_destination.is_ours() {
        credit(tables, Direction::Incoming, counted_destination, known.dst(), amount());
    }
    if counted_source.is_ours() {
        credit(tables, Direction::Outgoing, counted_source, known.src(), amount());
    }
    if !counted_source.is_ours() && !counted_destination.is_ours() {
        house(tables, seen, OTHER, known.class(), amount().packed());
    } else if source.is_ours() && destination.is_ours() {
        let line = if matches!(sides, Sides::Both) { MIRRORED } else { INTERNAL };
        house(tables, seen, line, known.class(), amount().packed());
    }
    (counted_source, counted_destination)
}

/// Adds to a host's line, now or later.
#[inline(always)]
fn credit<T: Tables>(
    tables: &T,
    direction: Direction,
    found: Found,
    address: [u64; 2],
    amount: Amount,
) {
    if tables.puts_off() {
        let kind = low32(amount.word)
            | if matches!(direction, Direction::Outgoing) { OUTGOING } else { 0 }
            | if found.stranger { SOUGHT } else { 0 };
        let Found { slot, entry, .. } = found;
        let (slot, place) = if found.stranger {
            let hash = mix(address, tables.seed());
            (low32(hash >> 32), low32(hash))
        } else {
            (slot, tables.place(direction, slot))
        };
        let (amount, gain) = (amount.packed(), amount.gain());
        tables.put_off(Waiting { amount, gain, address, slot, place, entry, kind });
        return;
    }
    if found.stranger {
        tell(tables, direction, address, found.slot, amount.window);
    }
    if let Some(line) = tables.line(direction, found.slot) {
        line.add((amount.word & 7) as usize, amount.packed());
        turn(tables, line, direction, found, amount.gain(), amount.window);
    }
}

impl Waiting {
    #[inline(always)]
    const fn direction(self) -> Direction {
        if self.kind & OUTGOING == 0 { Direction::Incoming } else { Direction::Outgoing }
    }

    /// Is it still to be found out whose line it is?
    #[inline(always)]
    #[must_use]
    pub const fn is_sought(self) -> bool {
        self.kind & SOUGHT != 0
    }

    /// First of four steps, each done for all that wait before the next one, and of those that are
    /// sought: has the bucket on its way that is looked at next.
    ///
    /// A step that looks at memory is never one that asks for more: no processor looks ahead over so
    /// many instructions.
    #[inline(always)]
    pub fn fetch_bucket<T: Tables>(self, tables: &T) {
        if let Some(bucket) = tables.bucket(self.place) {
            tables.fetch(bucket);
        }
    }

    /// Second step, of those that are sought: finds the line.
    #[inline(always)]
    #[must_use]
    pub fn sought<T: Tables>(self, tables: &T, window: u64) -> Self {
        let kind = self.kind & !SOUGHT;
        let hash = u64::from(self.slot) << 32 | u64::from(self.place);
        let mut slot = resident(tables, hash, self.address);
        if slot == 0 {
            slot = self.entry & INDEX;
            tell(tables, self.direction(), self.address, slot, window);
        }
        Self { slot, place: tables.place(self.direction(), slot), kind, ..self }
    }

    /// Third step: has the line on its way.
    #[inline(always)]
    pub fn fetch_line<T: Tables>(self, tables: &T) {
        if let Some(line) = tables.line_at(self.place) {
            tables.fetch(line);
        }
    }

    /// Last step: adds to the line.
    #[inline(always)]
    pub fn add<T: Tables>(self, tables: &T, window: u64) {
        let Self { amount, gain, slot, place, entry, kind, .. } = self;
        let Some(line) = tables.line_at(place) else { return };
        line.add((kind & 7) as usize, amount);
        let found = Found { slot, entry, stranger: false };
        turn(tables, line, self.direction(), found, gain, window);
    }
}

/// Counts what a packet carries within itself for the hosts it is about. The packet itself is
/// counted before, for its own addresses.
#[inline(always)]
pub fn count_inner<T: Tables>(tables: &T, inner: &Packet, packets: u32, sides: Sides, window: u64) {
    let bytes = inner.bytes.wrapping_mul(packets);
    let known = known(tables, inner, bytes);
    if sides.source() {
        count_end(&known, Direction::Outgoing, packets, window);
    }
    if sides.destination() {
        count_end(&known, Direction::Incoming, packets, window);
    }
}

/// Counts one end of what a packet carries.
#[inline(always)]
fn count_end<T: Tables>(known: &Known<'_, T>, direction: Direction, packets: u32, window: u64) {
    let tables = known.tables;
    let leaves = matches!(direction, Direction::Outgoing);
    let address = || if leaves { known.src() } else { known.dst() };
    let found = if known.is_ipv4() {
        find4(tables, if leaves { known.src4() } else { known.dst4() })
    } else {
        locate6(tables, address())
    };
    if found.is_ours() {
        let amount = Amount { word: known.class(), packets, bytes: known.bytes(), window };
        credit(tables, direction, found, address(), amount);
        house(tables, direction, TUNNELLED, amount.word, amount.packed());
    }
}

/// Counts what has no IP header we can read, by reason.
#[inline(always)]
pub fn unparsed<T: Tables>(tables: &T, why: Unparsed, seen: Direction, packets: u32, bytes: u32) {
    house(tables, seen, UNPARSED + why as u32, Class::Other as u64, packed(packets, bytes));
}

/// Is this packet the one in `every` that is kept? Counts down in the writer's own notes.
#[inline(always)]
pub fn sparse<T: Tables>(tables: &T, every: impl Fn() -> u32) -> bool {
    let Some(notes) = tables.notes() else { return false };
    let left = notes.get(COUNTDOWN);
    if left != 0 {
        notes.set(COUNTDOWN, left - 1);
        return false;
    }
    let every = every();
    // None: not within the life of this kernel.
    notes.set(COUNTDOWN, if every == 0 { u64::MAX } else { u64::from(every) - 1 });
    every != 0
}

/// Will [`sparse`] keep the next packet it is asked about?
#[inline(always)]
fn is_sparse_due<T: Tables>(tables: &T) -> bool {
    tables.notes().is_none_or(|notes| notes.get(COUNTDOWN) == 0)
}

/// Counts an event of the house itself, such as a sample that found no room.
#[inline(always)]
pub fn lost<T: Tables>(tables: &T, slot: u32) {
    house(tables, Direction::Incoming, slot, Class::Other as u64, packed(1, 0));
}

#[inline(always)]
fn house<T: Tables>(tables: &T, seen: Direction, slot: u32, word: u64, amount: u64) {
    if let Some(line) = tables.line(seen, slot) {
        line.add((word & 7) as usize, amount);
    }
}

/// Tells of an IPv6 host without a line, at most so many times a window.
#[inline(always)]
fn tell<T: Tables>(tables: &T, direction: Direction, address: [u64; 2], own: u32, window: u64) {
    let Some(notes) = tables.notes() else { return };
    let old = notes.get(STRANGERS_TOLD);
    let already = if old >> EPOCH_SHIFT == window & 255 { old & 0xffff_ffff } else { 0 };
    let heard = already < STRANGERS_PER_WINDOW && tables.stranger(direction, address, own);
    notes.set(STRANGERS_TOLD, (window << EPOCH_SHIFT) | (already + u64::from(heard)));
    if !heard {
        lost(tables, STRANGERS_UNTOLD);
    }
}

/// Adds to the running window of a line, says that the line moved, and raises the hint when the window
/// passes its limit.
#[inline(always)]
fn turn<T: Tables>(
    tables: &T,
    line: T::Line,
    direction: Direction,
    found: Found,
    gain: u64,
    window: u64,
) {
    // What the running window held, without its number.
    let held = line.get(WINDOW) ^ (window << EPOCH_SHIFT);
    let old = if held >> EPOCH_SHIFT == 0 { held } else { 0 };
    let mut new = old + gain;
    // Either field ran over: carries are where the sum differs from what it would be without them.
    if (old ^ gain ^ new) & CARRIES != 0 {
        let packets = ((old >> 32) + (gain >> 32)).min(u64::from(MOST_PACKETS));
        new = (packets << 32) | u64::from(low32(old).saturating_add(low32(gain)));
    }
    line.set(WINDOW, new | (window << EPOCH_SHIFT));
    tables.stir(direction, found.slot);

    let limit = tables.limit(direction, found.profile());
    // Most packets stay below both limits, and are asked no more.
    if (window_packets(new) >= limit.packets || low32(new) >= limit.bytes16)
        && (crossed(window_packets(old), window_packets(new), limit.packets)
            || crossed(low32(old), low32(new), limit.bytes16))
        && !tables.hint(direction, found.slot, new | (window << EPOCH_SHIFT))
    {
        lost(tables, HINTS_LOST);
    }
}

/// Where the number of the window begins in its word.
const EPOCH_SHIFT: u32 = 56;
const MOST_PACKETS: u32 = 0x00ff_ffff;
/// Bits of a window word into which only a carry out of the field below can come.
const CARRIES: u64 = (0xff << EPOCH_SHIFT) | (1 << 32);

/// True once a window, also when one addition steps over the limit.
#[inline(always)]
const fn crossed(old: u32, new: u32, limit: u32) -> bool {
    old < limit && limit <= new
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low32(word: u64) -> u32 {
    word as u32
}
