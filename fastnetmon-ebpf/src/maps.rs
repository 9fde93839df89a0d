//! Every map, its size, who writes it and who reads it.
//!
//! | map | size | written by | read by |
//! |---|---|---|---|
//! | `T1`, `T6` | one element of 65,536 entries | agent | programs |
//! | `T2` | 1 KB per /16 in use, and per step below | agent | programs |
//! | `BUCKETS` | 64 bytes per three IPv6 hosts | agent | programs |
//! | `LINES` | `rows × 2 × slots` lines | programs | agent |
//! | `PROFILES` | 128 | agent | programs |
//! | `FLAGS` | one word a slot | both | both |
//! | `RULES` | one rule a host that is dropped | agent, what is spent: programs | programs |
//! | `FACTS` | one line a CPU: what the gate knows of a packet | programs | programs |
//! | `HINTS`, `SAMPLES`, `STRANGERS` | rings | programs | agent |
//! | `SOCKETS`, `QUEUES` | 256 AF_XDP sockets, and which queue each waits at | agent | programs |
//!
//! **Invariant**: a value is a multiple of eight bytes, because elements of an array lie
//! `round_up(value_size, 8)` apart in its mapping. Sizes given as 1 are set by the loader.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf, XskMap};
use fastnetmon_common::abi::MOST_SOCKETS;
use fastnetmon_common::gate::RULE_WORDS;
use fastnetmon_common::table::Limit;

/// `BPF_F_MMAPABLE` (linux/bpf.h, since 5.5).
const MMAPABLE: u32 = 1 << 10;

/// A root of the directory.
#[repr(C, align(8))]
pub struct Root(pub [u32; 65536]);

/// One step of the directory.
#[repr(C, align(8))]
pub struct Element(pub [u32; 256]);

/// A line or a bucket.
#[repr(C, align(64))]
pub struct Words(pub [u64; 8]);

/// Limits of one profile: incoming, outgoing.
#[repr(C, align(8))]
pub struct Profile(pub [Limit; 2]);

/// A rule of what is dropped: one line that is read, one that is written as well.
#[repr(C, align(64))]
pub struct RuleWords(pub [u64; RULE_WORDS]);

#[map]
pub static T1: Array<Root> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static T6: Array<Root> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static T2: Array<Element> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static BUCKETS: Array<Words> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static LINES: Array<Words> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static PROFILES: Array<Profile> = Array::with_max_entries(128, MMAPABLE);
#[map]
pub static FLAGS: Array<u64> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static RULES: Array<RuleWords> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static FACTS: PerCpuArray<Words> = PerCpuArray::with_max_entries(1, 0);
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
