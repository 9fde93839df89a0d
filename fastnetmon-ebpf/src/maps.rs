//! Every map, its size, who writes it and who reads it.
//!
//! | map | size | written by | read by |
//! |---|---|---|---|
//! | `ROOTS` | one element: 128 limits, the marks, the roots of both families, 65,536 entries each | agent; marks: both | programs; marks: agent |
//! | `T2` | 1 KB per /16 in use, and per step below | agent | programs |
//! | `BUCKETS` | 64 bytes per three IPv6 hosts | agent | programs |
//! | `LINES` | `rows × 2 × slots` lines | programs | agent |
//! | `WAITING` | one queue a CPU | programs | agent |
//! | `FLAGS` | one word a slot | both | both |
//! | `RULES` | one rule a host that is dropped | agent, what is spent: programs | programs |
//! | `IGNORES` | one element: 64 rules of what is not counted | agent | programs |
//! | `HINTS`, `SAMPLES`, `STRANGERS` | rings | programs | agent |
//! | `SOCKETS`, `QUEUES` | 256 AF_XDP sockets, and which queue each waits at | agent | programs |
//!
//! **Invariant**: a value is a multiple of eight bytes, because elements of an array lie
//! `round_up(value_size, 8)` apart in its mapping. Sizes given as 1 are set by the loader.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, RingBuf, XskMap};
use fastnetmon_common::abi::{MOST_SOCKETS, roots, waiting};
use fastnetmon_common::gate::RULE_WORDS;
use fastnetmon_common::ignore;
use fastnetmon_common::table::{Limit, MARKS, Waiting};

/// `BPF_F_MMAPABLE` (linux/bpf.h, since 5.5).
const MMAPABLE: u32 = 1 << 10;

/// What every packet looks at, in one piece: found once, and then a distance away.
#[repr(C, align(8))]
pub struct Roots {
    /// Limits by profile: incoming, outgoing.
    pub limits: [[Limit; 2]; 128],
    /// The others begin pages of their own.
    _fill: [u8; roots::MARKS - 128 * 16],
    /// Which lines moved, by direction. Written by the programs, taken back by the agent.
    pub marks: [[u8; MARKS as usize]; 2],
    pub t1: [u32; 65536],
    pub t6: [u32; 65536],
}

const _: () = {
    assert!(core::mem::offset_of!(Roots, limits) == roots::LIMITS);
    assert!(core::mem::offset_of!(Roots, marks) == roots::MARKS);
    assert!(core::mem::offset_of!(Roots, t1) == roots::T1);
    assert!(core::mem::offset_of!(Roots, t6) == roots::T6);
};

/// One step of the directory.
#[repr(C, align(8))]
pub struct Element(pub [u32; 256]);

/// A line or a bucket.
#[repr(C, align(64))]
pub struct Words(pub [u64; 8]);

/// Additions of one CPU that wait for each other: what [`abi::waiting`](fastnetmon_common::abi::waiting)
/// says of it.
#[repr(C, align(64))]
pub struct Queue {
    pub state: u64,
    /// Not 0: some of them are sought first.
    pub sought: u64,
    _fill: [u64; 6],
    pub waiting: [Waiting; waiting::ROOM],
}

const _: () = assert!(size_of::<Queue>() == waiting::WORDS * 8);

/// A rule of what is dropped: one line that is read, one that is written as well.
#[repr(C, align(64))]
pub struct RuleWords(pub [u64; RULE_WORDS]);

/// All rules of what is not counted, in one piece.
#[repr(C, align(64))]
pub struct Ignores(pub [u64; ignore::MOST_RULES as usize * ignore::RULE_WORDS]);

#[map]
pub static ROOTS: Array<Roots> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static T2: Array<Element> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static BUCKETS: Array<Words> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static LINES: Array<Words> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static WAITING: Array<Queue> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static FLAGS: Array<u64> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static RULES: Array<RuleWords> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static IGNORES: Array<Ignores> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static HINTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(2 * 1024 * 1024, 0);
#[map]
pub static STRANGERS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);
#[map]
pub static SOCKETS: XskMap = XskMap::with_max_entries(MOST_SOCKETS, 0);
#[map]
pub static QUEUES: HashMap<u64, u32> = HashMap::with_max_entries(MOST_SOCKETS, 0);
