//! Frames as the kernel hands them over: the only bounds check, the only read.
//!
//! **Invariant**: check and read are one operation on a whole header; the verifier follows a
//! range no further than that.

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use fastnetmon_common::class::Unparsed;
use fastnetmon_common::parse::Packet;
use fastnetmon_common::wire::Wire;
use zerocopy::{FromBytes, Unaligned};

use crate::tables::{LOAD_BYTES, frozen};

/// One sentence for each kind of context; without the feature there is nothing.
macro_rules! complain {
    ($ctx:expr, $why:expr, $len:expr) => {
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!($ctx, "A frame of {} bytes cannot be read: {}.", $len, $why.name());
        #[cfg(not(feature = "log"))]
        let _ = ($ctx, $why, $len);
    };
}

/// A frame whose beginning can be copied.
pub trait Snapshot: Wire {
    /// Whether a frame may stand for several packets.
    const SEGMENTED: bool = false;

    /// Copies the first `len` bytes (1 to 256) to `to` and returns how many; 0: it could not.
    ///
    /// # Safety
    /// `to` is valid for writes of 256 bytes.
    unsafe fn copy(&self, to: *mut u8, len: u32) -> u32;

    /// Says why the frame cannot be read, in a build with the feature `log`.
    fn complain(&self, why: Unparsed);

    /// How many packets the wire carries for this frame.
    #[inline(always)]
    fn segments(&self, _packet: &Packet) -> u32 {
        1
    }
}

/// Loads `$width` bytes at a constant distance from `$from`.
///
/// The compiler would load a header byte by byte, because nothing in it is aligned; the kernels we
/// run on load any width at any address (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`).
macro_rules! load {
    ($width:literal, $type:ty, $from:expr, $at:literal, $to:expr) => {{
        let value: u64;
        // SAFETY: the caller has proved that the bytes lie within the packet; nothing is written.
        unsafe {
            asm!(
                concat!("{0} = *(", $width, " *)({1} + ", $at, ")"),
                lateout(reg) value,
                in(reg) $from,
                options(pure, readonly, nostack),
            );
        }
        // SAFETY: the caller's place is as large as what it proved to be there.
        unsafe { $to.add($at).cast::<$type>().write_unaligned(value as $type) };
    }};
}

/// Loads the pointer to the packet's beginning or end that stands at `$at` in a context.
///
/// It is announced as a number of 32 bits and the verifier makes a whole pointer of it; a compiler
/// that believes the announcement may put half of it aside, which is refused.
macro_rules! pointer {
    ($ctx:expr, $at:literal) => {{
        let pointer: usize;
        // SAFETY: a field of the kernel's context; nothing is written.
        unsafe {
            asm!(
                concat!("{0} = *(u32 *)({1} + ", $at, ")"),
                lateout(reg) pointer,
                in(reg) $ctx.as_ptr(),
                options(pure, readonly, nostack),
            );
        }
        pointer
    }};
}

/// Beginning and end of a packet in XDP.
#[inline(always)]
pub fn bounds(ctx: &XdpContext) -> (usize, usize) {
    (pointer!(ctx, 0), pointer!(ctx, 4))
}

/// The same in TC, as far as it lies in one piece.
#[inline(always)]
fn linear(ctx: &TcContext) -> (usize, usize) {
    (pointer!(ctx, 76), pointer!(ctx, 80))
}

#[inline(always)]
fn read<T: FromBytes + Unaligned + Copy>((start, end): (usize, usize), at: usize) -> Option<T> {
    let begin = start + at;
    let size = size_of::<T>();
    if begin + size > end {
        return None;
    }
    let mut header = MaybeUninit::<T>::uninit();
    let to = header.as_mut_ptr().cast::<u8>();
    // Constant conditions: one chain of loads remains for each type.
    match size {
        1 => load!("u8", u8, begin, 0, to),
        2 => load!("u16", u16, begin, 0, to),
        4 => load!("u32", u32, begin, 0, to),
        8 => load!("u64", u64, begin, 0, to),
        14 => {
            load!("u64", u64, begin, 0, to);
            load!("u32", u32, begin, 8, to);
            load!("u16", u16, begin, 12, to);
        }
        20 => {
            load!("u64", u64, begin, 0, to);
            load!("u64", u64, begin, 8, to);
            load!("u32", u32, begin, 16, to);
        }
        40 => {
            load!("u64", u64, begin, 0, to);
            load!("u64", u64, begin, 8, to);
            load!("u64", u64, begin, 16, to);
            load!("u64", u64, begin, 24, to);
            load!("u64", u64, begin, 32, to);
        }
        // SAFETY: proved above; `T` may have any bit pattern at any address.
        _ => header = MaybeUninit::new(unsafe { *(begin as *const T) }),
    }
    // SAFETY: every byte of it was written, and `T` may have any bit pattern.
    Some(unsafe { header.assume_init() })
}

/// A frame in XDP: one buffer, as the driver received it.
pub struct XdpFrame<'a> {
    ctx: &'a XdpContext,
    /// Taken once: packet pointers that stay alive for it would keep the verifier from seeing that
    /// all ways through the parser end in the same state.
    len: u32,
}

impl<'a> XdpFrame<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        let (start, end) = bounds(ctx);
        Self { ctx, len: (end - start) as u32 }
    }
}

impl Wire for XdpFrame<'_> {
    #[inline(always)]
    fn header<T: FromBytes + Unaligned + Copy>(&self, at: usize) -> Option<T> {
        read(bounds(self.ctx), at)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    fn wire_len_from(&self, at: u32) -> u32 {
        // All of the frame is there, so it is longer than where a header was read.
        self.len.wrapping_sub(at)
    }
}

impl Snapshot for XdpFrame<'_> {
    #[inline(always)]
    unsafe fn copy(&self, to: *mut u8, len: u32) -> u32 {
        if frozen(&LOAD_BYTES) == 0 {
            // SAFETY: the caller vouches for `to`.
            return unsafe { copy_words(bounds(self.ctx), to) };
        }
        // SAFETY: the context is the kernel's; the caller vouches for `to`; the helper checks
        // `len` against the frame.
        let failed = unsafe { bpf_xdp_load_bytes(self.ctx.as_ptr().cast(), 0, to.cast(), len) };
        if failed == 0 { len } else { 0 }
    }

    #[inline(always)]
    fn complain(&self, why: Unparsed) {
        complain!(self.ctx, why, self.len);
    }
}

/// Copies up to 128 bytes, eight at a time: all that kernels before `bpf_xdp_load_bytes` allow.
///
/// # Safety
/// `to` is valid for writes of 128 bytes.
#[inline(always)]
unsafe fn copy_words((start, end): (usize, usize), to: *mut u8) -> u32 {
    let mut copied = 0;
    for word in 0..16 {
        let from = start + word * 8;
        if from + 8 > end {
            break;
        }
        let value: u64;
        // SAFETY: the line above proves that eight bytes lie within the packet.
        unsafe {
            asm!(
                "{0} = *(u64 *)({1} + 0)",
                lateout(reg) value,
                in(reg) from,
                options(pure, readonly, nostack),
            );
        }
        // SAFETY: at most 128 bytes are written, and the caller vouches for them.
        unsafe { to.add(word * 8).cast::<u64>().write_unaligned(value) };
        copied += 8;
    }
    copied
}

/// A frame in TC: possibly one that offload will cut into segments.
pub struct TcFrame<'a>(&'a TcContext);

/// Bytes that must lie in one piece for the headers to be read.
const HEADERS: u32 = 128;

impl<'a> TcFrame<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        let length = ctx.len();
        let wanted = if length < HEADERS { length } else { HEADERS };
        let (start, end) = linear(ctx);
        if start + wanted as usize > end {
            // The headers lie in fragments of the buffer. When they cannot be brought together the
            // parser meets a short frame and says so.
            let _short = ctx.pull_data(wanted);
        }
        Self(ctx)
    }
}

impl Wire for TcFrame<'_> {
    #[inline(always)]
    fn header<T: FromBytes + Unaligned + Copy>(&self, at: usize) -> Option<T> {
        read(linear(self.0), at)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.0.len()
    }
}

impl Snapshot for TcFrame<'_> {
    const SEGMENTED: bool = true;

    #[inline(always)]
    unsafe fn copy(&self, to: *mut u8, len: u32) -> u32 {
        // SAFETY: as for `XdpFrame`.
        let failed = unsafe { bpf_skb_load_bytes(self.0.as_ptr().cast(), 0, to.cast(), len) };
        if failed == 0 { len } else { 0 }
    }

    #[inline(always)]
    fn complain(&self, why: Unparsed) {
        complain!(self.0, why, self.0.len());
    }

    #[inline(always)]
    fn segments(&self, packet: &Packet) -> u32 {
        let skb = self.0.skb.skb;
        // SAFETY: the context is the kernel's and lives as long as the program runs.
        let segments = unsafe { (*skb).gso_segs };
        if segments != 0 {
            return segments;
        }
        // Frames of guests may say into what they are to be cut and not into how many.
        // SAFETY: as above.
        packet.segments(unsafe { (*skb).gso_size })
    }
}
