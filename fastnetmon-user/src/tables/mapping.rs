//! The only mapping of memory: a BPF map's, or our own.
//!
//! **Invariant**: what is mapped is only ever seen as atomics, because the kernel programs or
//! other threads write it at the same time.
#![expect(unsafe_code, reason = "the one place that maps memory")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// A mapping that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot map {bytes} bytes of `{what}`: {source}; fewer networks need less memory")]
pub struct MappingError {
    /// Which part of the tables.
    pub what: &'static str,
    /// How large.
    pub bytes: usize,
    /// What the kernel says.
    pub source: io::Error,
}

/// A range of shared memory, unmapped when it is dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the range is only reached as atomics, from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory of our own, zeroed; it costs nothing until it is touched.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn anonymous(what: &'static str, bytes: usize) -> Result<Self, MappingError> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        Self::map(what, bytes, access, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// The values of a BPF array made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn of_map(
        what: &'static str,
        map: BorrowedFd<'_>,
        bytes: usize,
        writable: bool,
    ) -> Result<Self, MappingError> {
        Self::of_part(what, map, 0, bytes, writable)
    }

    /// Some of them, from a byte that begins a page.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn of_part(
        what: &'static str,
        map: BorrowedFd<'_>,
        first: usize,
        bytes: usize,
        writable: bool,
    ) -> Result<Self, MappingError> {
        let access = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let first = libc::off_t::try_from(first).unwrap_or(libc::off_t::MAX);
        Self::map(what, bytes, access, libc::MAP_SHARED, map.as_raw_fd(), first)
    }

    fn map(
        what: &'static str,
        bytes: usize,
        access: i32,
        flags: i32,
        fd: i32,
        first: libc::off_t,
    ) -> Result<Self, MappingError> {
        // The length of a map's mapping is a whole number of pages.
        let bytes = bytes.next_multiple_of(4096).max(4096);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, fd, first) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, bytes }),
            _ => Err(MappingError { what, bytes, source: io::Error::last_os_error() }),
        }
    }

    /// The range as words of 64 bits.
    pub const fn words(&self) -> &[AtomicU64] {
        // SAFETY: the range is mapped for as long as `self` lives, page-aligned, and every bit
        // pattern is a word; others write it through atomics or as the kernel.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.bytes / 8) }
    }

    /// The range as bytes.
    pub const fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.bytes) }
    }

    /// The range as words of 32 bits.
    pub const fn halves(&self) -> &[AtomicU32] {
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.bytes / 4) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours and no reference into it outlives `self`.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(result, 0, "a mapping of our own is unmapped once");
    }
}
