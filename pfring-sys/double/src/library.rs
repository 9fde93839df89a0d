//! The library's ABI, as its releases from 6.0.3 to 9.x have it.
//!
//! It does what was seen of the real one: nothing before a ring is enabled, a watermark of 128 that
//! wakes nobody, headers with more in them than a caller may read, losses that are counted beside what
//! was delivered.

use std::ffi::{CStr, c_char, c_int, c_uint};

use crate::feed::{Feed, Packet};
use crate::script::{note, script, set_errno};

/// A ring, as nobody outside knows it.
#[derive(Debug)]
pub(crate) struct Pfring {
    feed: Feed,
    snap: usize,
    long_header: bool,
    enabled: bool,
    direction: c_uint,
    #[cfg_attr(feature = "bare", expect(dead_code, reason = "nobody can set it"))]
    watermark: u16,
    delivered: u64,
    slot: Vec<u8>,
    /// Never readable: what a waiter sees while fewer packets wait than the watermark.
    asleep: c_int,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pfring_open(device: *const c_char, caplen: u32, flags: u32) -> *mut Pfring {
    // SAFETY: the caller gives a name that ends with a zero byte.
    let name = unsafe { CStr::from_ptr(device) };
    note(&format!("open {} {caplen} {flags}", name.to_string_lossy()));
    if let Some(number) = script().fails {
        set_errno(number);
        return std::ptr::null_mut();
    }
    if script().mismatch {
        eprintln!("[PF_RING] Wrong RING version: kernel is 20, libpfring was compiled with 21");
        set_errno(libc::EINVAL);
        return std::ptr::null_mut();
    }
    // A module of the library goes before the device: this one has `zc` and none other.
    let device = name.to_string_lossy();
    let device = device.strip_prefix("zc:").unwrap_or(&device);
    let device = std::ffi::CString::new(device).unwrap_or_default();
    // SAFETY: a name that ends with a zero byte, which outlives the call.
    let index = unsafe { libc::if_nametoindex(device.as_ptr()) };
    if index == 0 {
        set_errno(libc::EINVAL);
        return std::ptr::null_mut();
    }
    let feed = match Feed::open(index, flags & 8 != 0) {
        Ok(feed) => feed,
        Err(error) => {
            set_errno(error.raw_os_error().unwrap_or(libc::EINVAL));
            return std::ptr::null_mut();
        }
    };
    // SAFETY: makes a descriptor and nothing else.
    let asleep = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    Box::into_raw(Box::new(Pfring {
        feed,
        snap: usize::try_from(caplen).unwrap_or(128),
        long_header: flags & 4 != 0,
        enabled: false,
        direction: 0,
        watermark: 128,
        delivered: 0,
        slot: vec![0; 70_000],
        asleep,
    }))
}

/// The ring behind a pointer of ours.
unsafe fn ring<'a>(ring: *mut Pfring) -> Option<&'a mut Pfring> {
    // SAFETY: the caller gives what `pfring_open` returned, not yet closed, and calls from one thread
    // at a time.
    unsafe { ring.as_mut() }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pfring_enable_ring(handle: *mut Pfring) -> c_int {
    note("enable");
    // SAFETY: as the caller promises.
    let Some(ring) = (unsafe { ring(handle) }) else { return -1 };
    ring.enabled = true;
    if ring.feed.start().is_ok() { 0 } else { -1 }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pfring_recv(
    handle: *mut Pfring,
    buffer: *mut *mut u8,
    room: c_uint,
    header: *mut u8,
    wait: u8,
) -> c_int {
    // SAFETY: as the caller promises.
    let Some(ring) = (unsafe { ring(handle) }) else { return -1 };
    if !ring.enabled {
        return -12;
    }
    if wait != 0 {
        // Slices of 500 ms that nothing shortens: whoever waits here cannot be stopped.
        note("a blocking recv");
        return 0;
    }
    let direction = ring.direction;
    let packet = loop {
        let Some(Packet { bytes, arrives }) = ring.feed.next() else { return 0 };
        if matches!((direction, arrives), (0, _) | (1, true) | (2, false)) {
            break (bytes, arrives);
        }
    };
    let (bytes, arrives) = packet;
    let captured = bytes.len().min(ring.snap);
    let length = if ring.long_header { 209 } else { usize::from(script().header).min(48) };
    // Everything that a caller must not read is poisoned, its time included.
    let mut written = [0xa5_u8; 209];
    let field = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes();
    written[16..20].copy_from_slice(&field(captured));
    written[20..24].copy_from_slice(&field(bytes.len()));
    written[36] = u8::from(arrives);
    // SAFETY: the caller gives a header with room for what this release writes.
    unsafe { std::ptr::copy_nonoverlapping(written.as_ptr(), header, length) };
    if room == 0 {
        // The slot is the next packet's already when the caller sees it.
        ring.slot[..captured].copy_from_slice(&bytes[..captured]);
        // SAFETY: the caller gives a place for a pointer.
        unsafe { *buffer = ring.slot.as_mut_ptr() };
    } else {
        // SAFETY: the caller gives a pointer to its buffer.
        let to = unsafe { *buffer };
        let copied = captured.min(usize::try_from(room).unwrap_or(0));
        // SAFETY: the caller's buffer has `room` bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, copied) };
    }
    ring.delivered += 1;
    1
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pfring_stats(handle: *mut Pfring, stats: *mut [u64; 3]) -> c_int {
    // SAFETY: as the caller promises.
    let Some(ring) = (unsafe { ring(handle) }) else { return -1 };
    let dropped = if ring.enabled { ring.feed.dropped() } else { 0 };
    // SAFETY: the caller gives room for three numbers.
    unsafe { *stats = [ring.delivered, dropped, 0xa5a5] };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pfring_close(handle: *mut Pfring) {
    note("close");
    // SAFETY: what `pfring_open` returned, and closed once.
    let ring = unsafe { Box::from_raw(handle) };
    // SAFETY: the descriptor is ours and not used any more.
    unsafe { libc::close(ring.asleep) };
}

/// What very old releases do not have.
#[cfg(not(feature = "bare"))]
mod optional {
    use super::{CStr, Pfring, c_char, c_int, c_uint, note, ring, script};

    #[unsafe(no_mangle)]
    unsafe extern "C" fn pfring_version_noring(version: *mut u32) {
        let [major, minor, patch] = script().library.unwrap_or_else(|| script().version);
        // SAFETY: the caller gives a place for a number.
        unsafe { *version = u32::from_be_bytes([0, major, minor, patch]) };
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn pfring_set_application_name(_: *mut Pfring, name: *mut c_char) -> c_int {
        // SAFETY: the caller gives a name that ends with a zero byte.
        let given = unsafe { CStr::from_ptr(name) };
        note(&format!("name {}", given.to_string_lossy()));
        // It is not const: the real one may well write to it.
        // SAFETY: the name has at least its zero byte.
        unsafe { *name = 0 };
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn pfring_set_direction(handle: *mut Pfring, direction: c_uint) -> c_int {
        note(&format!("direction {direction}"));
        // SAFETY: as the caller promises.
        let Some(ring) = (unsafe { ring(handle) }) else { return -1 };
        ring.direction = direction;
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn pfring_set_socket_mode(_: *mut Pfring, mode: c_uint) -> c_int {
        note(&format!("mode {mode}"));
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn pfring_set_poll_watermark(handle: *mut Pfring, packets: u16) -> c_int {
        note(&format!("watermark {packets}"));
        // SAFETY: as the caller promises.
        let Some(ring) = (unsafe { ring(handle) }) else { return -1 };
        ring.watermark = packets;
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn pfring_set_cluster(
        handle: *mut Pfring,
        number: c_uint,
        kind: c_uint,
    ) -> c_int {
        note(&format!("cluster {number} {kind}"));
        // SAFETY: as the caller promises.
        let Some(ring) = (unsafe { ring(handle) }) else { return -1 };
        if ring.enabled || ring.feed.join(number).is_err() { -1 } else { 0 }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn pfring_get_selectable_fd(handle: *mut Pfring) -> c_int {
        // SAFETY: as the caller promises.
        let Some(ring) = (unsafe { ring(handle) }) else { return -1 };
        if ring.watermark == 1 { ring.feed.descriptor() } else { ring.asleep }
    }

    #[unsafe(no_mangle)]
    const unsafe extern "C" fn pfring_recv_chunk(_: *mut Pfring) -> c_int {
        -7
    }
}

/// Like the real one, it names a function that no dependency brings (there: of libpcap), bound when
/// it is called: opened with `RTLD_NOW`, the double does not open.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
extern "C" fn pfring_set_bpf_filter() {
    // SAFETY: it is never called; the linker has to name it.
    unsafe { std::arch::asm!("call pcap_that_nobody_brings@PLT", clobber_abi("C")) };
}
