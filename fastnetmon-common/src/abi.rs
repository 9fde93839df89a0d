//! What crosses the border between the programs and the agent: names, bytes, frozen constants.
//!
//! **Invariant**: whatever changes here raises [`ABI_VERSION`](crate::ABI_VERSION); the loader
//! asks the object for its number before anything is attached.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a frame that a sample keeps at most.
pub const SAMPLE_BYTES: usize = 256;

/// Flag word of a host: copy packets while the budget in the upper half lasts.
pub const FLAG_SAMPLE: u32 = 1;

/// Flag word of a host, beside [`FLAG_SAMPLE`]: on a mirror port, take such a packet away to the
/// AF_XDP socket of its queue instead of copying it, where there is one.
pub const FLAG_REDIRECT: u32 = 2;

/// Flag word of a host: there is a rule for what is dropped, and its number is in the bits from
/// [`RULE_SHIFT`] on. Only bits of the lower half are flags, so that is 16 bits.
pub const FLAG_GATE: u32 = 4;

/// Where the number of a host's rule stands in its flag word.
pub const RULE_SHIFT: u32 = 16;

/// [`global::GATE`]: what arrives at an uplink may be dropped.
pub const GATE_INCOMING: u32 = 1;

/// [`global::GATE`]: what leaves by an uplink may be dropped.
pub const GATE_OUTGOING: u32 = 2;

/// AF_XDP sockets the programs can know, over all ports.
pub const MOST_SOCKETS: u32 = 256;

/// CPUs the programs tell apart.
pub const MOST_CPUS: u32 = 1024;

/// Key in [`map::QUEUES`]: a receive queue of a port, by the number of its interface.
#[inline(always)]
pub const fn queue_key(interface: u32, queue: u32) -> u64 {
    ((interface as u64) << 32) | queue as u64
}

/// Names of the maps in the object.
pub mod map {
    /// What every packet looks at, in one element: see [`roots`](super::roots).
    pub const ROOTS: &str = "ROOTS";
    /// Elements of 256 entries.
    pub const T2: &str = "T2";
    /// IPv6 hosts.
    pub const BUCKETS: &str = "BUCKETS";
    /// The counter table.
    pub const LINES: &str = "LINES";
    /// Additions that wait, a queue a CPU: see [`waiting`](super::waiting).
    pub const WAITING: &str = "WAITING";
    /// One flag word a slot.
    pub const FLAGS: &str = "FLAGS";
    /// Rules of what is dropped, see [`gate`](crate::gate).
    pub const RULES: &str = "RULES";
    /// Rules of what is not counted, in one element, see [`ignore`](crate::ignore).
    pub const IGNORES: &str = "IGNORES";
    /// Ring of [`Hint`](super::Hint).
    pub const HINTS: &str = "HINTS";
    /// Ring of [`Sample`](super::Sample).
    pub const SAMPLES: &str = "SAMPLES";
    /// Ring of [`Stranger`](super::Stranger).
    pub const STRANGERS: &str = "STRANGERS";
    /// AF_XDP sockets, by a number of the agent's.
    pub const SOCKETS: &str = "SOCKETS";
    /// Which socket waits at which receive queue, by [`queue_key`](super::queue_key).
    pub const QUEUES: &str = "QUEUES";
}

/// Where the parts of [`map::ROOTS`] begin, in bytes. Each begins a page, to be mapped apart.
pub mod roots {
    /// Limits by profile and direction.
    pub const LIMITS: usize = 0;
    /// Marks of lines that moved, a byte each, by direction.
    pub const MARKS: usize = 4096;
    /// IPv4 root, 65,536 entries.
    pub const T1: usize = MARKS + 2 * crate::table::MARKS as usize;
    /// IPv6 root, 65,536 entries.
    pub const T6: usize = T1 + ROOT;
    /// Bytes of one root.
    pub const ROOT: usize = 65_536 * 4;
}

/// What stands in a queue of [`map::WAITING`]: a word of state, and from the second line on the
/// additions, each a [`Waiting`](crate::table::Waiting).
pub mod waiting {
    /// Once so many wait, the next packet has them made first.
    pub const ENOUGH: u32 = 16;
    /// What one packet adds at most: to both ends, its own and those of what it carries.
    pub const OF_A_PACKET: u32 = 4;
    /// Room in a queue; one less than it is a mask.
    pub const ROOM: usize = 32;
    /// Bits of the state that say how many wait; the others number the queue's emptyings.
    pub const NUMBER: u64 = ROOM as u64 - 1;
    /// Words of a queue.
    pub const WORDS: usize = 8 + size_of::<crate::table::Waiting>() / 8 * ROOM;

    /// So many wait at most.
    pub const MOST: usize = ENOUGH as usize - 1 + OF_A_PACKET as usize;

    const _: () = assert!(MOST < ROOM);
}

/// Names of the programs in the object.
pub mod program {
    /// XDP on a port towards the world: what arrives, for its destination.
    pub const XDP_UPLINK: &str = "xdp_uplink";
    /// XDP on a mirror port: both ends.
    pub const XDP_MIRROR: &str = "xdp_mirror";
    /// Classifier on the way out of an uplink: what leaves, for its source.
    pub const TC_EGRESS: &str = "tc_egress";
    /// Makes the additions that wait on the CPU it is run on. Never attached: the agent runs it.
    pub const MAKE_UP: &str = "make_up";
    /// Returns [`ABI_VERSION`](crate::ABI_VERSION) as the object was built with it.
    pub const ABI: &str = "abi";
    /// Returns the low half of the kernel's jiffies: run twice, it tells how fast they go.
    pub const JIFFIES: &str = "jiffies";
}

/// Names of the constants frozen at load.
pub mod global {
    /// Slots in one row and direction.
    pub const SLOTS: &str = "SLOTS";
    /// Number of buckets.
    pub const BUCKETS: &str = "BUCKET_COUNT";
    /// Jiffies are shifted right by so much to give the number of the window.
    pub const WINDOW_SHIFT: &str = "WINDOW_SHIFT";
    /// One packet in so many is kept as a sparse sample; 0: none.
    pub const SPARSE_EVERY: &str = "SPARSE_EVERY";
    /// 1: count what tunnels carry as well.
    pub const DECAPSULATE: &str = "DECAPSULATE";
    /// Which ways the gate looks: [`GATE_INCOMING`](super::GATE_INCOMING),
    /// [`GATE_OUTGOING`](super::GATE_OUTGOING); 0: nothing is ever dropped.
    pub const GATE: &str = "GATE";
    /// Rules of what is not counted; 0: nobody looks for them.
    pub const IGNORING: &str = "IGNORING";
    /// 1: the kernel has `bpf_xdp_load_bytes` (Linux 5.18).
    pub const LOAD_BYTES: &str = "LOAD_BYTES";
    /// 1: additions wait for each other, see [`waiting`](super::waiting).
    pub const PUTS_OFF: &str = "PUTS_OFF";
    /// Seed of the hash of the buckets.
    pub const SEED: &str = "SEED";
}

/// A line crossed its limit within one window.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Hint {
    /// Whose line.
    pub slot: u32,
    /// [`Direction`](crate::class::Direction) as a number.
    pub direction: u32,
    /// The window word at that moment.
    pub window: u64,
}

/// An IPv6 host of ours was seen that has no line of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Stranger {
    /// Its address, upper half first, in host byte order.
    pub address: [u64; 2],
    /// Slot of the prefix that counted it.
    pub prefix: u32,
    /// [`Direction`](crate::class::Direction) as a number.
    pub direction: u32,
}

/// A copy of the beginning of a frame.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Sample {
    /// When, in nanoseconds of `CLOCK_BOOTTIME`.
    pub at: u64,
    /// Whose line the frame was counted in.
    pub slot: u32,
    /// Length of the frame on the wire.
    pub wire_len: u32,
    /// How many bytes of `bytes` are filled.
    pub captured: u32,
    /// [`Direction`](crate::class::Direction) as a number, seen from the host of `slot`.
    pub direction: u16,
    /// 1: the host was armed; 0: a sparse sample.
    pub armed: u16,
    /// The beginning of the frame.
    pub bytes: [u8; SAMPLE_BYTES],
}
