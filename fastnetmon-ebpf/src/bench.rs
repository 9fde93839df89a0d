//! Programs of `cargo xtask bench`: the production path on packets that vary, what it is measured
//! against, and a generator of packets. Built with the feature `bench` only.
//!
//! | program | does |
//! |---|---|
//! | `empty` | passes: what everything is a multiple of |
//! | `only_vary4`, `only_vary6` | writes a random destination into the frame |
//! | `whole4`, `whole6` | the same, then the production path of an uplink |
//! | `ungated4` | the same without the look at flags |
//! | `usual4` | a random destination, then the design most others have |
//! | `floor4`, `floor6` | the random destination, and only the reads and writes of its line (and bucket) |
//! | `walk4` | the production path, one host after the other |
//! | `generate` | makes packets out of frames sent to itself and transmits them |
//!
//! **Invariant**: knows the production path as [`uplink`](crate::uplink) and changes nothing in it, so
//! that what is measured is what is shipped.

use core::arch::asm;
use core::cell::UnsafeCell;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_tail};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, LpmTrie, PerCpuArray, PerCpuHashMap};
use aya_ebpf::programs::XdpContext;
use fastnetmon_common::wire::{Ipv4, Wire as _};
use zerocopy::network_endian::U16;

use crate::frame::{XdpFrame, bounds};
use crate::maps::{BUCKETS, LINES};
use crate::tables::frozen;
use crate::{arrives, uplink};

// Destinations are `BENCH_FIRST` and whatever bits of `BENCH_MASK`; of IPv6 the second 32 bits.
#[unsafe(no_mangle)]
static BENCH_FIRST: u32 = 0;
#[unsafe(no_mangle)]
static BENCH_MASK: u32 = 0;

// The same hosts by number: how many less one, their first line in the first row, their buckets.
#[unsafe(no_mangle)]
static BENCH_HOSTS: u32 = 0;
#[unsafe(no_mangle)]
static BENCH_SLOT: u32 = 0;
#[unsafe(no_mangle)]
static BENCH_BUCKETS: u32 = 0;

/// A word that programs of one CPU at a time write.
#[repr(transparent)]
struct State(UnsafeCell<u64>);

// SAFETY: one thread runs the programs that use it, and says so in its own file.
unsafe impl Sync for State {}

static RANDOM: State = State(UnsafeCell::new(0x9e37_79b9_7f4a_7c15));
static WALKED: State = State(UnsafeCell::new(1));

impl State {
    #[inline(always)]
    fn replace(&self, with: impl Fn(u64) -> u64) -> u64 {
        // SAFETY: see `Sync`. Volatile, so that the word is read and written in every run.
        let next = with(unsafe { self.0.get().read_volatile() });
        // SAFETY: as above.
        unsafe { self.0.get().write_volatile(next) };
        next
    }
}

#[inline(always)]
const fn xorshift(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    x
}

/// Stores the lower `$width` of `$value`, in network byte order already, at a constant distance.
macro_rules! store {
    ($width:literal, $to:expr, $at:literal, $value:expr) => {{
        // SAFETY: the caller has proved that the place lies within the packet.
        unsafe {
            asm!(
                concat!("*(", $width, " *)({0} + ", $at, ") = {1}"),
                in(reg) $to,
                in(reg) u64::from($value),
                options(nostack),
            );
        }
    }};
}

/// Where the frame begins, when it has `$bytes` bytes.
#[inline(always)]
fn start(ctx: &XdpContext, bytes: usize) -> Option<usize> {
    let (start, end) = bounds(ctx);
    if start + bytes > end { None } else { Some(start) }
}

#[inline(always)]
fn vary4(ctx: &XdpContext, host: u32) {
    if let Some(start) = start(ctx, 34) {
        store!("u32", start, 30, (frozen(&BENCH_FIRST) + host).to_be());
    }
}

#[inline(always)]
fn vary6(ctx: &XdpContext, host: u32) {
    if let Some(start) = start(ctx, 54) {
        store!("u32", start, 42, (frozen(&BENCH_FIRST) + host).to_be());
    }
}

#[inline(always)]
fn random_host() -> u32 {
    (RANDOM.replace(xorshift) >> 20) as u32 & frozen(&BENCH_MASK)
}

/// The next number that has no bits but those of the mask.
#[inline(always)]
fn next_host() -> u32 {
    let mask = u64::from(frozen(&BENCH_MASK));
    WALKED.replace(|host| (host | !mask).wrapping_add(1) & mask) as u32
}

#[xdp]
#[inline(always)]
pub fn empty(_: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp]
#[inline(always)]
pub fn only_vary4(ctx: XdpContext) -> u32 {
    vary4(&ctx, random_host());
    XDP_PASS
}

#[xdp]
#[inline(always)]
pub fn only_vary6(ctx: XdpContext) -> u32 {
    vary6(&ctx, random_host());
    XDP_PASS
}

#[xdp]
#[inline(always)]
pub fn whole4(ctx: XdpContext) -> u32 {
    vary4(&ctx, random_host());
    uplink(&ctx)
}

#[xdp]
#[inline(always)]
pub fn whole6(ctx: XdpContext) -> u32 {
    vary6(&ctx, random_host());
    uplink(&ctx)
}

#[xdp]
#[inline(always)]
pub fn walk4(ctx: XdpContext) -> u32 {
    vary4(&ctx, next_host());
    uplink(&ctx)
}

#[xdp]
#[inline(always)]
pub fn ungated4(ctx: XdpContext) -> u32 {
    vary4(&ctx, random_host());
    arrives(&ctx, |_| false)
}

/// Only the memory of `whole4`: the line of a random host is found and written, and nothing else is
/// done. What the cache and the page tables take for it no program can save. Which host is next
/// depends on what was read, or the processor would read for several packets at a time, which no
/// driver hands over within so few instructions.
#[xdp]
#[inline(always)]
pub fn floor4(ctx: XdpContext) -> u32 {
    let host = random_host();
    vary4(&ctx, host);
    touch(0);
    XDP_PASS
}

/// Only the memory of `whole6`: a random bucket is read, and the line it leads to written.
#[xdp]
#[inline(always)]
pub fn floor6(ctx: XdpContext) -> u32 {
    let host = random_host();
    vary6(&ctx, host);
    let hash = host.wrapping_mul(0x9e37_79b1);
    let bucket = (u64::from(hash) * u64::from(frozen(&BENCH_BUCKETS))) >> 32;
    if let Some(bucket) = BUCKETS.get_ptr_mut(bucket as u32) {
        // SAFETY: the lookup succeeded. Volatile, so that the line has to wait for the bucket.
        let word = unsafe { (&raw const (*bucket).0[7]).read_volatile() };
        // A bit that is never set: the compiler and the processor do not know it.
        touch(((word >> 62) & 1) as u32);
    }
    XDP_PASS
}

/// Writes the line of the host whose number the last random word holds, and has the next one wait.
#[inline(always)]
fn touch(more: u32) {
    let host = (RANDOM.replace(|last| last) >> 20) as u32 & frozen(&BENCH_HOSTS);
    if let Some(line) = LINES.get_ptr_mut(frozen(&BENCH_SLOT) + host + more) {
        // SAFETY: the lookup succeeded, and one CPU at a time runs the bench.
        let class = unsafe { &mut (*line).0[2] };
        let read = *class;
        *class = read + 1;
        // A bit that is never set.
        RANDOM.replace(|last| last ^ (read >> 63));
        // SAFETY: as above.
        let window = unsafe { &mut (*line).0[7] };
        *window += 1;
    }
}

/// What the usual design keeps of a host.
#[repr(C)]
pub struct Usual {
    packets: u64,
    bytes: u64,
    by_protocol: [u64; 4],
    seen: u64,
}

/// Networks, by prefix; the key is an address in network byte order.
#[map]
static USUAL_NETWORKS: LpmTrie<u32, u32> = LpmTrie::with_max_entries(1, 1);
/// Hosts, by address in network byte order.
#[map]
static USUAL_HOSTS: PerCpuHashMap<u32, Usual> = PerCpuHashMap::with_max_entries(1, 0);

/// Source and destination in an LPM trie, counters in a per-CPU hash, the time by the clock. It
/// reads Ethernet and IPv4 and nothing else, which flatters it.
#[xdp]
#[inline(always)]
pub fn usual4(ctx: XdpContext) -> u32 {
    vary4(&ctx, random_host());
    let frame = XdpFrame::new(&ctx);
    let Some(ip) = frame.header::<Ipv4>(14) else { return XDP_PASS };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let bytes = u64::from(ip.total_len.get());
    for address in [ip.src.get().to_be(), ip.dst.get().to_be()] {
        if USUAL_NETWORKS.get(&Key::new(32, address)).is_none() {
            continue;
        }
        let Some(host) = USUAL_HOSTS.get_ptr_mut(&address) else { continue };
        // SAFETY: the lookup succeeded, and this CPU alone writes its copy.
        let host = unsafe { &mut *host };
        host.packets += 1;
        host.bytes += bytes;
        host.by_protocol[usize::from(ip.protocol & 3)] += 1;
        host.seen = now;
    }
    XDP_PASS
}

/// What the generator is to send.
#[repr(C, align(8))]
pub struct Order {
    /// Destinations: this address and whatever bits of the mask.
    first: u32,
    mask: u32,
    /// Four protocol numbers, each as likely as the others.
    protocols: [u8; 4],
    /// Bytes to cut off at most, one less than a power of two.
    cut: u32,
}

/// What one CPU sent, and its random state.
#[repr(C, align(8))]
pub struct Sent {
    packets: u64,
    bytes: u64,
    random: u64,
}

#[map]
static ORDER: Array<Order> = Array::with_max_entries(1, 0);
#[map]
static SENT: PerCpuArray<Sent> = PerCpuArray::with_max_entries(1, 0);

/// Makes a packet of the frame and sends it out of the interface it seems to come from. Frames of
/// others pass: the generator's come from a source whose hardware address ends with a one.
#[xdp]
#[inline(always)]
pub fn generate(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    match frame.header::<U16>(10) {
        Some(end) if end.get() == 1 => {}
        _ => return XDP_PASS,
    }
    made(&ctx, frame.wire_len()).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn made(ctx: &XdpContext, wire_len: u32) -> Option<u32> {
    let order = ORDER.get(0)?;
    let sent = SENT.get_ptr_mut(0)?;
    // SAFETY: the lookup succeeded, and this CPU alone writes its copy.
    let sent = unsafe { &mut *sent };
    if sent.random == 0 {
        // SAFETY: a helper without arguments.
        sent.random = unsafe { bpf_ktime_get_ns() } | 1;
    }
    let random = xorshift(sent.random);
    sent.random = random;

    let cut = (random >> 52) as u32 & order.cut;
    let bytes = wire_len - 14 - cut;
    let protocol = order.protocols[(random >> 50) as usize & 3];
    // A block of addresses for tests (RFC 2544): nobody's of ours.
    let source = 0xc612_0000 | (random as u32 & 0xffff);
    let destination = order.first + ((random >> 18) as u32 & order.mask);
    let start = start(ctx, 42)?;
    let halves = |address: u32| (address >> 16) + (address & 0xffff);
    let mut sum = 0x4500 + bytes + 0x4000 + (0x4000 | u32::from(protocol));
    sum += halves(source) + halves(destination);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    store!("u16", start, 16, (bytes as u16).to_be());
    store!("u16", start, 22, (0x4000 | u16::from(protocol)).to_be());
    store!("u16", start, 24, (!(sum as u16)).to_be());
    store!("u32", start, 26, source.to_be());
    store!("u32", start, 30, destination.to_be());
    sent.packets += 1;
    sent.bytes += u64::from(bytes);
    // SAFETY: the context is the kernel's; the packet is not looked at any more.
    if cut != 0 && unsafe { bpf_xdp_adjust_tail(ctx.ctx, -(cut as i32)) } != 0 {
        return None;
    }
    Some(XDP_TX)
}
