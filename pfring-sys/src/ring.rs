//! One open ring of the library, as a safe type.
//!
//! **Invariants**: a ring is read by one thread at a time. Packets are copied into a buffer of ours:
//! a pointer of the library's is valid only until its slot is used again.
#![expect(unsafe_code, reason = "calls of a library that was opened at run time")]

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::header::{Counters, Header};
use crate::load::{Library, Opaque};

/// One open ring.
#[derive(Debug)]
pub struct Ring {
    library: Arc<Library>,
    handle: NonNull<Opaque>,
    header: Box<Header>,
    buffer: Box<[u8]>,
}

// SAFETY: the library keeps no state of the thread that opened a ring; the type lets only one thread
// at a time call it.
unsafe impl Send for Ring {}

/// How a ring is opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpenFlags {
    /// The port takes frames that are not for it.
    pub promiscuous: bool,
    /// The header is the long one; before 6.4 only that one says which way a packet goes.
    pub long_header: bool,
}

/// Which packets of the port are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Those that arrive and those that leave.
    Both = 0,
    /// Those that arrive.
    Arriving = 1,
}

/// A packet, until the next one is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet<'a> {
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// Its length on the wire.
    pub wire_bytes: u32,
    /// The port received it; otherwise it sent it.
    pub arrives: bool,
}

/// What a ring counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Packets that were handed over.
    pub delivered: u64,
    /// Packets that found no room.
    pub dropped: u64,
}

/// A call that the library refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{call}` says {code}{}", meaning(*.code))]
pub struct RingError {
    /// The function.
    pub call: &'static str,
    /// What it returned.
    pub code: c_int,
}

impl Ring {
    /// Opens a device and has so many bytes of each packet copied. It shows nothing before it is
    /// [enabled](Self::enable).
    ///
    /// # Errors
    /// What the library leaves in `errno`.
    pub fn open(
        library: &Arc<Library>,
        device: &str,
        snap_bytes: u16,
        flags: OpenFlags,
    ) -> io::Result<Self> {
        let device = CString::new(device)?;
        let bits = if flags.promiscuous { PROMISCUOUS } else { 0 }
            | if flags.long_header { LONG_HEADER } else { 0 };
        // SAFETY: a name that ends with a zero byte and outlives the call, and two numbers.
        let handle = unsafe { (library.open)(device.as_ptr(), snap_bytes.into(), bits) };
        let Some(handle) = NonNull::new(handle) else { return Err(io::Error::last_os_error()) };
        Ok(Self {
            library: Arc::clone(library),
            handle,
            header: Box::default(),
            buffer: vec![0; snap_bytes.into()].into_boxed_slice(),
        })
    }

    /// Tells who reads, for the statistics of the kernel module.
    pub fn set_application_name(&mut self, name: &str) {
        let Some(set) = self.library.set_name else { return };
        // The library does not promise to leave it as it is, so it gets a copy.
        let mut name: Vec<u8> = name.bytes().filter(|&byte| byte != 0).chain([0]).collect();
        // SAFETY: the ring is open; the name ends with a zero byte, is ours and outlives the call.
        let _only_for_show = unsafe { set(self.handle.as_ptr(), name.as_mut_ptr().cast()) };
    }

    /// Asks for packets of these directions only. Libraries that cannot show both; which way a packet
    /// goes, it tells itself.
    pub fn set_direction(&mut self, direction: Direction) {
        if let Some(set) = self.library.set_direction {
            // SAFETY: the ring is open.
            let _both_then = unsafe { set(self.handle.as_ptr(), direction as u32) };
        }
    }

    /// Says that nothing will be sent.
    pub fn only_receives(&mut self) {
        if let Some(set) = self.library.set_mode {
            // SAFETY: the ring is open.
            let _both_then = unsafe { set(self.handle.as_ptr(), RECEIVE_ONLY) };
        }
    }

    /// Has waiters woken by so many packets.
    pub fn set_watermark(&mut self, packets: u16) {
        if let Some(set) = self.library.set_watermark {
            // SAFETY: the ring is open.
            let _polled_then = unsafe { set(self.handle.as_ptr(), packets) };
        }
    }

    /// Shares the packets with other rings of this number, by their two addresses.
    ///
    /// # Errors
    /// When the library cannot: each ring would show every packet.
    pub fn join_cluster(&mut self, number: u32) -> Result<(), RingError> {
        const CALL: &str = "pfring_set_cluster";
        let Some(set) = self.library.set_cluster else {
            return Err(RingError { call: CALL, code: NOT_SUPPORTED });
        };
        // SAFETY: the ring is open.
        check(CALL, unsafe { set(self.handle.as_ptr(), number, BY_TWO_ADDRESSES) })
    }

    /// From now on the ring shows packets.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn enable(&mut self) -> Result<(), RingError> {
        // SAFETY: the ring is open.
        check("pfring_enable_ring", unsafe { (self.library.enable)(self.handle.as_ptr()) })
    }

    /// The next packet, if one is there. Does not wait: a waiting call cannot be stopped.
    ///
    /// # Errors
    /// When the library says so.
    pub fn recv(&mut self) -> Result<Option<Packet<'_>>, RingError> {
        self.header.clear();
        let mut to = self.buffer.as_mut_ptr();
        let room = u32::try_from(self.buffer.len()).unwrap_or(0);
        let header = self.header.as_mut_ptr();
        // SAFETY: the ring is open and only this thread calls it. The library copies at most `room`
        // bytes, which is not zero and what the buffer has, and fills a header with a multiple of the
        // room that any release needs; both outlive the call.
        let code =
            unsafe { (self.library.recv)(self.handle.as_ptr(), &raw mut to, room, header, 0) };
        match code {
            1.. => {}
            0 | NO_PACKET => return Ok(None),
            code => return Err(RingError { call: "pfring_recv", code }),
        }
        let captured = usize::try_from(self.header.captured()).unwrap_or(usize::MAX);
        let captured = captured.min(self.buffer.len());
        Ok(Some(Packet {
            bytes: self.buffer.get(..captured).unwrap_or_default(),
            wire_bytes: self.header.wire_bytes(),
            arrives: self.header.arrives(),
        }))
    }

    /// What the ring counted since it was opened.
    ///
    /// # Errors
    /// When the library says so.
    pub fn stats(&mut self) -> Result<Stats, RingError> {
        let mut counters = Counters::default();
        // SAFETY: the ring is open; the room is a multiple of what any release writes and outlives the
        // call.
        let code = unsafe { (self.library.stats)(self.handle.as_ptr(), counters.as_mut_ptr()) };
        check("pfring_stats", code)?;
        Ok(Stats { delivered: counters.delivered(), dropped: counters.dropped() })
    }

    /// What can be waited for, if the library tells.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let descriptor = self.library.descriptor?;
        // SAFETY: the ring is open.
        let descriptor = unsafe { descriptor(self.handle.as_ptr()) };
        if descriptor < 0 {
            return None;
        }
        // SAFETY: it is the ring's own, which is open for as long as `self` lives.
        Some(unsafe { BorrowedFd::borrow_raw(descriptor) })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the ring is open and nobody calls it any more.
        unsafe { (self.library.close)(self.handle.as_ptr()) };
    }
}

const fn check(call: &'static str, code: c_int) -> Result<(), RingError> {
    if code < 0 { Err(RingError { call, code }) } else { Ok(()) }
}

/// What a code means, where it has a meaning of its own.
const fn meaning(code: c_int) -> &'static str {
    match code {
        -2 => " (invalid argument)",
        -5 => " (wrong configuration)",
        NOT_SUPPORTED => " (not supported)",
        -8 => " (the library is not of the kernel module's release)",
        -12 => " (the ring is not enabled)",
        _ => "",
    }
}

/// Open flags; the same in every release since 6.0.3.
const LONG_HEADER: u32 = 4;
const PROMISCUOUS: u32 = 8;
/// `recv_only_mode`.
const RECEIVE_ONLY: u32 = 2;
/// `cluster_per_flow_2_tuple`.
const BY_TWO_ADDRESSES: u32 = 2;
const NO_PACKET: c_int = -3;
const NOT_SUPPORTED: c_int = -7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_which_call_and_what_its_code_means() {
        let error = |call, code| check(call, code).unwrap_err().to_string();
        assert_eq!(
            error("pfring_enable_ring", -8),
            "`pfring_enable_ring` says -8 (the library is not of the kernel module's release)"
        );
        assert_eq!(error("pfring_recv", -1), "`pfring_recv` says -1");
        assert_eq!(check("pfring_stats", 0), Ok(()));
    }
}
