//! The kernel module: stands before the C library and answers what is asked of family 27.
//!
//! A socket of the family is an `eventfd`, readable while packets wait; its ring is a `memfd` laid out
//! as the module of that slot version does it, filled by a thread. What is asked of anything else goes
//! to the kernel as it came. As strict as the real one: an option of another size, or a step before the
//! one that it needs, is `EINVAL`.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::feed::{Feed, Packet};
use crate::script::{note, script, set_errno};

/// Sockets of the family, by their descriptor.
static SOCKETS: Mutex<Option<HashMap<RawFd, Socket>>> = Mutex::new(None);

#[derive(Debug, Default)]
struct Socket {
    snap: u32,
    short_header: bool,
    index: Option<u32>,
    direction: i32,
    watermark: u16,
    cluster: Option<u32>,
    ring: Option<Arc<Ring>>,
    active: bool,
    closed: Arc<AtomicBool>,
}

/// A ring's memory, as the module sees it.
#[derive(Debug)]
struct Ring {
    memory: RawFd,
    words: &'static [AtomicU64],
    header: u64,
    slot: u64,
    total: u64,
}

const FIRST_SLOT: u64 = 8192;

/// A ring was spoilt already.
static SPOILT: AtomicBool = AtomicBool::new(false);

fn sockets() -> MutexGuard<'static, Option<HashMap<RawFd, Socket>>> {
    SOCKETS.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// This thread is answering: what it asks itself goes to the kernel.
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
}

/// Does this with the sockets of the family, unless it is asked from within.
fn with_all<T>(work: impl FnOnce(&mut HashMap<RawFd, Socket>) -> Option<T>) -> Option<T> {
    if ANSWERING.replace(true) {
        return None;
    }
    let done = work(sockets().get_or_insert_default());
    ANSWERING.set(false);
    done
}

/// Does this with the socket, if it is one of the family.
fn with<T>(fd: RawFd, work: impl FnOnce(&mut Socket) -> T) -> Option<T> {
    with_all(|all| all.get_mut(&fd).map(work))
}

fn answer(result: Result<(), c_int>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(number) => {
            set_errno(number);
            -1
        }
    }
}

fn header_bytes(short: bool) -> u64 {
    match (short, script().slots) {
        (true, _) => script().header.into(),
        (false, 16) => 200,
        (false, 17) => 188,
        (false, 18) => 191,
        (false, _) => 209,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    if family != 27 {
        // SAFETY: the caller's own call.
        return unsafe { libc::syscall(libc::SYS_socket, family, kind, protocol) } as c_int;
    }
    note(&format!("socket {kind} {protocol}"));
    if let Some(number) = script().fails {
        return answer(Err(number));
    }
    if kind & 0xf != libc::SOCK_RAW || protocol != c_int::from(3_u16.to_be()) {
        return answer(Err(libc::EINVAL));
    }
    // SAFETY: makes a descriptor and nothing else.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    let socket = Socket { snap: 128, watermark: 128, ..Socket::default() };
    with_all(|all| all.insert(fd, socket));
    fd
}

#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    with_all(|all| {
        let socket = all.remove(&fd)?;
        note("close");
        socket.closed.store(true, Ordering::Relaxed);
        Some(())
    });
    // SAFETY: the caller's own call.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bind(fd: c_int, address: *const u8, length: u32) -> c_int {
    let bound = with(fd, |socket| {
        // SAFETY: the caller gives so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(address, length as usize) };
        note(&format!("bind {length}"));
        let family = bytes.first_chunk().map(|family| u16::from_ne_bytes(*family));
        if family != Some(27) {
            return Err(libc::EINVAL);
        }
        // From 8.2 on by number, before by name; neither takes the other's address.
        let index = if script().slots >= 20 {
            let index = bytes.get(4..8).filter(|_| length == 20);
            let index = index.and_then(|index| index.first_chunk());
            u32::from_ne_bytes(*index.ok_or(libc::EINVAL)?)
        } else {
            let name = bytes.get(2..).filter(|_| length == 16).ok_or(libc::EINVAL)?;
            let name: Vec<u8> = name.iter().copied().take_while(|&byte| byte != 0).collect();
            let name = std::ffi::CString::new(name).unwrap_or_default();
            // SAFETY: a name that ends with a zero byte, which outlives the call.
            unsafe { libc::if_nametoindex(name.as_ptr()) }
        };
        if index == 0 {
            return Err(libc::EINVAL);
        }
        socket.index = Some(index);
        Ok(())
    });
    match bound {
        Some(result) => answer(result),
        // SAFETY: the caller's own call.
        None => unsafe { libc::syscall(libc::SYS_bind, fd, address, length) as c_int },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *const u8,
    length: u32,
) -> c_int {
    let done = with(fd, |socket| {
        // SAFETY: the caller gives so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(value, length as usize) };
        note(&format!("option {option} {bytes:?}"));
        socket.set(fd, level, option, bytes)
    });
    match done {
        Some(result) => answer(result),
        // SAFETY: the caller's own call.
        None => unsafe {
            libc::syscall(libc::SYS_setsockopt, fd, level, option, value, length) as c_int
        },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *mut u8,
    length: *mut u32,
) -> c_int {
    let done = with(fd, |socket| {
        // SAFETY: the caller gives a place for a number.
        let room = unsafe { *length };
        if (level, option, room) != (0, 179, 2) || socket.index.is_none() {
            return Err(libc::EINVAL);
        }
        let header = header_bytes(socket.short_header) as u16;
        // SAFETY: the caller gives room for two bytes.
        unsafe { value.cast::<u16>().write_unaligned(header) };
        Ok(())
    });
    match done {
        Some(result) => answer(result),
        // SAFETY: the caller's own call.
        None => unsafe {
            libc::syscall(libc::SYS_getsockopt, fd, level, option, value, length) as c_int
        },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    length: usize,
    access: c_int,
    flags: c_int,
    fd: c_int,
    offset: c_long,
) -> *mut c_void {
    // The lock is not taken for anonymous memory: the lock's own code may ask for some.
    let ours = if fd < 0 {
        None
    } else {
        with(fd, |socket| {
            note(&format!("map {length}"));
            socket.index?;
            let ring = match &socket.ring {
                Some(ring) => ring,
                None => socket.ring.insert(Arc::new(Ring::new(socket.snap, socket.short_header)?)),
            };
            let wanted = libc::PROT_READ | libc::PROT_WRITE;
            let fits = length.is_multiple_of(4096) && length as u64 <= ring.total;
            (fits && offset == 0 && access == wanted && flags == libc::MAP_SHARED)
                .then_some(ring.memory)
        })
    };
    let fd = match ours {
        Some(Some(memory)) => memory,
        Some(None) => {
            set_errno(libc::EINVAL);
            return libc::MAP_FAILED;
        }
        None => fd,
    };
    // SAFETY: the caller's own call, of a memory that is there for it.
    unsafe { raw_mmap(at, length, access, flags, fd, offset) }
}

unsafe fn raw_mmap(
    at: *mut c_void,
    length: usize,
    access: c_int,
    flags: c_int,
    fd: c_int,
    offset: c_long,
) -> *mut c_void {
    // SAFETY: as the caller promises.
    unsafe { libc::syscall(libc::SYS_mmap, at, length, access, flags, fd, offset) as *mut c_void }
}

/// What the module tells in /proc.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: u32) -> c_int {
    // SAFETY: the caller gives a name that ends with a zero byte.
    let name = unsafe { CStr::from_ptr(path) };
    if name == c"/proc/net/pf_ring/info" && script().fails != Some(libc::EAFNOSUPPORT) {
        let [major, minor, patch] = script().version;
        let leaving = if script().rx_only { "No [RX only]" } else { "Yes [RX+TX]" };
        let text = format!(
            "PF_RING Version          : {major}.{minor}.{patch} (unknown)\n\
             Total rings              : 0\n\nStandard (non ZC) Options\n\
             Ring slots               : {}\n\
             Slot version             : {}\n\
             Capture TX               : {leaving}\n\
             IP Defragment            : No\nSocket Mode              : Standard\n",
            script().ring,
            script().slots,
        );
        // SAFETY: a name that ends with a zero byte.
        let fd = unsafe { libc::memfd_create(c"info".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: so many bytes of a text that outlives the call.
        let written = unsafe { libc::pwrite(fd, text.as_ptr().cast(), text.len(), 0) };
        return if written < 0 { -1 } else { fd };
    }
    // SAFETY: the caller's own call.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
}

impl Socket {
    fn set(&mut self, fd: RawFd, level: c_int, option: c_int, bytes: &[u8]) -> Result<(), c_int> {
        let number = || bytes.first_chunk().copied().map(u32::from_ne_bytes).ok_or(libc::EINVAL);
        let bound = self.index.ok_or(libc::EINVAL);
        match (level, option, bytes.len()) {
            (0, 107, 4) if self.ring.is_none() => self.snap = number()?,
            (0, 127, 1) if self.ring.is_none() => self.short_header = true,
            (0, 108, 8) => drop(bound?),
            (0, 111, 4) => self.direction = number()?.cast_signed(),
            (0, 126, 4) if number()? == 2 => {}
            (0, 117, 2) => self.watermark = u16::from_ne_bytes([bytes[0], bytes[1]]).max(1),
            (0, 110, 1..=32) => {}
            // The number, and how packets are shared: by two addresses.
            (0, 99, 8) if bytes[4..] == [2, 0, 0, 0] && !self.active => {
                bound?;
                self.cluster = Some(number()?);
            }
            (0, 106, _) if !self.active => self.activate(fd)?,
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }

    fn activate(&mut self, fd: RawFd) -> Result<(), c_int> {
        let ring = Arc::clone(self.ring.as_ref().ok_or(libc::EINVAL)?);
        let fault = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EFAULT);
        let feed = Feed::open(self.index.ok_or(libc::EINVAL)?, false).map_err(fault)?;
        if let Some(cluster) = self.cluster {
            feed.join(cluster).map_err(fault)?;
        }
        feed.start().map_err(fault)?;
        self.active = true;
        let (closed, direction, watermark) =
            (Arc::clone(&self.closed), self.direction, self.watermark);
        // A descriptor of its own: the agent may close this one, and its number be another thing's.
        // SAFETY: a descriptor of ours.
        let waker = unsafe { libc::dup(fd) };
        std::thread::spawn(move || {
            fill(waker, &ring, feed, direction, watermark, &closed);
            // SAFETY: nobody else has it.
            unsafe { libc::syscall(libc::SYS_close, waker) };
        });
        Ok(())
    }
}

impl Ring {
    fn new(snap: u32, short_header: bool) -> Option<Self> {
        let header = header_bytes(short_header);
        let slot = (header + u64::from(snap) + 2).next_multiple_of(8);
        let total = (FIRST_SLOT + slot * u64::from(script().ring)).next_multiple_of(4096);
        // SAFETY: a name that ends with a zero byte.
        let memory = unsafe { libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: a descriptor of ours.
        if unsafe { libc::ftruncate(memory, total.cast_signed()) } != 0 {
            return None;
        }
        let length = usize::try_from(total).ok()?;
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { raw_mmap(std::ptr::null_mut(), length, access, flags, memory, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the range is mapped for as long as the process lives, page-aligned, and any bits are
        // words; others write it as atomics as well.
        let words = unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), length / 8) };
        let ring = Self { memory, words, header, slot, total };
        ring.put(0, &script().slots.to_ne_bytes());
        ring.put(4, &script().ring.to_ne_bytes());
        ring.put(8, &(slot as u32).to_ne_bytes());
        ring.put(16, &total.to_ne_bytes());
        Some(ring)
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        for (at, &byte) in (at..).zip(bytes) {
            let word = &self.words[(at / 8) as usize];
            let mut all = word.load(Ordering::Relaxed).to_ne_bytes();
            all[(at % 8) as usize] = byte;
            word.store(u64::from_ne_bytes(all), Ordering::Relaxed);
        }
    }

    fn word(&self, at: usize) -> u64 {
        self.words[at / 8].load(Ordering::Acquire)
    }

    fn has_room(&self, insert: u64, inserted: u64) -> bool {
        let remove = self.word(4104);
        let end = self.total - FIRST_SLOT;
        match insert.cmp(&remove) {
            std::cmp::Ordering::Equal => inserted == self.word(4096),
            std::cmp::Ordering::Less => remove - insert >= 2 * self.slot,
            std::cmp::Ordering::Greater => end - insert >= 2 * self.slot || remove > 0,
        }
    }
}

/// Puts packets into the ring until the socket is closed.
fn fill(
    fd: RawFd,
    ring: &Ring,
    mut feed: Feed,
    direction: i32,
    watermark: u16,
    closed: &AtomicBool,
) {
    let (mut insert, mut inserted, mut full, mut seen) = (0_u64, 0_u64, 0_u64, 0_u64);
    let snap = (ring.slot - ring.header - 2) as usize;
    let mut slot: Vec<u8> = Vec::new();
    while !closed.load(Ordering::Relaxed) {
        while let Some(Packet { bytes, arrives }) = feed.next() {
            if !matches!((direction, arrives), (0, _) | (1, true) | (2, false)) {
                continue;
            }
            seen += 1;
            if !ring.has_room(insert, inserted) {
                full += 1;
                continue;
            }
            let captured = bytes.len().min(snap).min(256);
            let header = ring.header as usize;
            slot.clear();
            slot.resize(header, 0xa5);
            slot[16..20].copy_from_slice(&(captured as u32).to_ne_bytes());
            slot[20..24].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
            if header > 36 {
                slot[36] = u8::from(arrives);
            }
            slot.extend(&bytes[..captured]);
            if script().spoil == Some(seen) && !SPOILT.swap(true, Ordering::Relaxed) {
                slot[16..20].copy_from_slice(&u32::MAX.to_ne_bytes());
            }
            slot.resize((header + captured + 2).next_multiple_of(8), 0x88);
            let words = &ring.words[((FIRST_SLOT + insert) / 8) as usize..];
            for (word, bytes) in words.iter().zip(slot.as_chunks::<8>().0) {
                word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
            }
            let size = (ring.header + captured as u64 + 2).next_multiple_of(8);
            let next = insert + size;
            insert = if next + ring.slot > ring.total - FIRST_SLOT { 0 } else { next };
            ring.put(24, &insert.to_ne_bytes());
            inserted += 1;
            ring.words[7].store(inserted, Ordering::Release);
            if inserted % 64 == 0 {
                wake(fd, ring, inserted, watermark);
            }
        }
        let lost = full + feed.dropped();
        ring.words[6].store(lost, Ordering::Release);
        wake(fd, ring, inserted, watermark);
        let mut one = libc::pollfd { fd: feed.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor to wait for, which outlives the call.
        unsafe { libc::poll(&raw mut one, 1, 1) };
    }
}

/// The socket is readable while as many packets wait as its watermark says.
fn wake(fd: RawFd, ring: &Ring, inserted: u64, watermark: u16) {
    let waiting = inserted.wrapping_sub(ring.word(4096));
    let mut value = 1_u64;
    let place = (&raw mut value).cast::<c_void>();
    if waiting >= u64::from(watermark) {
        // SAFETY: eight bytes of a number that outlives the call.
        unsafe { libc::write(fd, place, 8) };
    } else {
        // SAFETY: as above; there may be nothing to read.
        unsafe { libc::read(fd, place, 8) };
    }
}
