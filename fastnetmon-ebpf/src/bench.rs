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
use fastnetmon_common::class::{Direction, Sides};
use fastnetmon_common::parse::parse_ethernet;
use fastnetmon_common::table::count;
use fastnetmon_common::wire::{Ipv4, Wire as _};
use zerocopy::network_endian::U16;

use crate::frame::XdpFrame;
use crate::tables::{Kernel, frozen, window};
use crate::{samples, uplink};

// Destinations are `BENCH_FIRST` and whatever bits of `BENCH_MASK`; of IPv6 the second 32 bits.
#[unsafe(no_mangle)]
static BENCH_FIRST: u32 = 0;
#[unsafe(no_mangle)]
static BENCH_MASK: u32 = 0;

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
    let start = ctx.data();
    if start + bytes > ctx.data_end() { None } else { Some(start) }
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
pub fn empty(_: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp]
pub fn only_vary4(ctx: XdpContext) -> u32 {
    vary4(&ctx, random_host());
    XDP_PASS
}

#[xdp]
pub fn only_vary6(ctx: XdpContext) -> u32 {
    vary6(&ctx, random_host());
    XDP_PASS
}

#[xdp]
pub fn whole4(ctx: XdpContext) -> u32 {
    vary4(&ctx, random_host());
    uplink(&ctx)
}

#[xdp]
pub fn whole6(ctx: XdpContext) -> u32 {
    vary6(&ctx, random_host());
    uplink(&ctx)
}

#[xdp]
pub fn walk4(ctx: XdpContext) -> u32 {
    vary4(&ctx, next_host());
    uplink(&ctx)
}

#[xdp]
pub fn ungated4(ctx: XdpContext) -> u32 {
    vary4(&ctx, random_host());
    let frame = XdpFrame::new(&ctx);
    if let Ok(packet) = parse_ethernet(&frame) {
        let touched =
            count(&Kernel, &packet, 1, packet.bytes, Sides::Destination, window());
        samples::keep_sparse(&frame, touched);
    }
    XDP_PASS
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
