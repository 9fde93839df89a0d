//! Frames as the kernel hands them over: the only bounds check, the only read.
//!
//! **Invariant**: check and read are one operation on a whole header; the verifier follows a
//! range no further than that.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use fastnetmon_common::wire::Wire;
use zerocopy::{FromBytes, Unaligned};

/// A frame whose beginning can be copied.
pub trait Snapshot: Wire {
    /// Copies the first `len` bytes (1 to 256) to `to`.
    ///
    /// # Safety
    /// `to` is valid for writes of 256 bytes.
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool;
}

#[inline(always)]
fn read<T: FromBytes + Unaligned + Copy>(start: usize, end: usize, at: usize) -> Option<T> {
    let begin = start + at;
    if begin + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the line above proves that all of `T` lies within the packet, `T` may have any bit
    // pattern (`FromBytes`) at any address (`Unaligned`).
    Some(unsafe { *(begin as *const T) })
}

/// A frame in XDP: one buffer, as the driver received it.
pub struct XdpFrame<'a>(pub &'a XdpContext);

impl Wire for XdpFrame<'_> {
    #[inline(always)]
    fn header<T: FromBytes + Unaligned + Copy>(&self, at: usize) -> Option<T> {
        read(self.0.data(), self.0.data_end(), at)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        (self.0.data_end() - self.0.data()) as u32
    }
}

impl Snapshot for XdpFrame<'_> {
    #[inline(always)]
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool {
        // SAFETY: the context is the kernel's; the caller vouches for `to`; the helper checks
        // `len` against the frame.
        unsafe { bpf_xdp_load_bytes(self.0.as_ptr().cast(), 0, to.cast(), len) == 0 }
    }
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
        if ctx.data() + wanted as usize > ctx.data_end() {
            // The headers lie in fragments of the buffer. When they cannot be brought together the
            // parser meets a short frame and says so.
            let _short = ctx.pull_data(wanted);
        }
        Self(ctx)
    }

    /// How many packets the wire will carry for this one.
    #[inline(always)]
    pub fn segments(&self) -> u32 {
        // SAFETY: the context is the kernel's and lives as long as the program runs.
        unsafe { (*self.0.skb.skb).gso_segs }
    }
}

impl Wire for TcFrame<'_> {
    #[inline(always)]
    fn header<T: FromBytes + Unaligned + Copy>(&self, at: usize) -> Option<T> {
        read(self.0.data(), self.0.data_end(), at)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.0.len()
    }
}

impl Snapshot for TcFrame<'_> {
    #[inline(always)]
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool {
        // SAFETY: as for `XdpFrame`.
        unsafe { bpf_skb_load_bytes(self.0.as_ptr().cast(), 0, to.cast(), len) == 0 }
    }
}
