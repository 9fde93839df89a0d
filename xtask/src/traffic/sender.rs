//! Sends prepared frames through an interface, at a steady rate, counted exactly.
//!
//! **Invariants**: a frame is counted as sent when the kernel took it. The kernel never holds so many of
//! them at once that a queue behind it could overflow.
#![expect(unsafe_code, reason = "raw sockets have no safe interface in std")]

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::Pool;
use crate::system;

/// How fast frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the kernel takes them.
    Full,
    /// So many in a second, evenly.
    Pps(u32),
}

/// Sends frames through one interface.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    interface: String,
    sent: u64,
    refused: u64,
}

impl Sender {
    /// Opens an interface of the calling thread's namespace; it may be used from any thread then.
    pub fn open(interface: &str) -> anyhow::Result<Self> {
        let open = || {
            let index = system::interface_index(interface)?;
            let socket = packet_socket()?;
            bind(socket.as_raw_fd(), index)?;
            set_option(socket.as_raw_fd(), libc::SO_SNDBUF, &SEND_BUFFER)?;
            let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
            set_option(socket.as_raw_fd(), libc::SO_SNDTIMEO, &second)?;
            Ok(socket)
        };
        let socket: io::Result<OwnedFd> = open();
        let socket = socket.with_context(|| format!("cannot send through `{interface}`"))?;
        Ok(Self { socket, interface: interface.to_owned(), sent: 0, refused: 0 })
    }

    /// Sends so many frames and returns how many the kernel took: all of them, or there is an error.
    ///
    /// The pool is gone round from where the previous call stopped.
    pub fn send(&mut self, pool: &Pool, count: u64, pace: Pace) -> anyhow::Result<u64> {
        self.send_while(pool, pace, |sent| count - sent)
    }

    /// Sends until the flag is set and returns how many frames the kernel took.
    pub fn send_until(
        &mut self,
        pool: &Pool,
        pace: Pace,
        stop: &AtomicBool,
    ) -> anyhow::Result<u64> {
        self.send_while(pool, pace, |_| if stop.load(Ordering::Relaxed) { 0 } else { u64::MAX })
    }

    /// All frames the kernel took from this sender.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How often the kernel refused a frame, which then was sent once more.
    ///
    /// A program that counts on the way out may have seen such a frame twice.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn send_while(
        &mut self,
        pool: &Pool,
        pace: Pace,
        still_wanted: impl Fn(u64) -> u64,
    ) -> anyhow::Result<u64> {
        if pool.is_empty() {
            bail!("the pool has no frames to send");
        }
        let mut clock = Metronome::new(pace, Instant::now());
        let before = self.sent;
        loop {
            let wanted = still_wanted(self.sent - before).min(clock.batch);
            if wanted == 0 {
                return Ok(self.sent - before);
            }
            if let Some(pause) = clock.pause(Instant::now()) {
                thread::sleep(pause);
            }
            self.send_batch(pool, wanted)?;
            clock.sent(wanted);
        }
    }

    /// Sends exactly so many frames, however often the kernel has to be asked.
    fn send_batch(&mut self, pool: &Pool, count: u64) -> anyhow::Result<()> {
        let first = usize::try_from(self.sent % pool.len() as u64)?;
        let mut vectors: Vec<libc::iovec> = pool
            .frames
            .iter()
            .cycle()
            .skip(first)
            .take(usize::try_from(count)?)
            .map(|frame| libc::iovec {
                // The kernel only reads what is sent.
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = vectors.iter_mut().map(message).collect();

        let mut rest = messages.as_mut_slice();
        let mut last_progress = Instant::now();
        while !rest.is_empty() {
            match send_messages(self.socket.as_raw_fd(), rest) {
                Ok(taken) => {
                    self.sent += taken as u64;
                    rest = rest.split_at_mut_checked(taken).map_or(&mut [], |(_, rest)| rest);
                    last_progress = Instant::now();
                }
                Err(error) => {
                    let is_full = matches!(
                        error.raw_os_error(),
                        Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR)
                    );
                    if !is_full || last_progress.elapsed() > PATIENCE {
                        return Err(error).with_context(|| {
                            let Self { interface, sent, .. } = self;
                            format!("`{interface}` took no more after {sent} frames")
                        });
                    }
                    self.refused += 1;
                    thread::sleep(BREATH);
                }
            }
        }
        Ok(())
    }
}

/// How long the kernel may refuse frames before we give up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before a refused frame is offered again.
const BREATH: Duration = Duration::from_micros(100);

/// Frames handed over by one system call.
const BATCH: u64 = 64;

/// How far a sender that was held up may lag before it stops making up for it.
const MOST_LAG: Duration = Duration::from_millis(10);

/// Half of what the kernel then allows. Each frame in flight takes at least 768 bytes of it, so a
/// sender has at most 85 under way: fewer than the ring of the cable (256) and the backlog of the
/// receiving processor (1000) hold, so that neither loses one.
const SEND_BUFFER: libc::c_int = 32 * 1024;

/// Says when the next batch is due.
#[derive(Debug)]
struct Metronome {
    pace: Pace,
    start: Instant,
    sent: u64,
    batch: u64,
}

impl Metronome {
    fn new(pace: Pace, start: Instant) -> Self {
        let batch = match pace {
            Pace::Full => BATCH,
            // A batch lasts a millisecond at most.
            Pace::Pps(pps) => u64::from(pps / 1000).clamp(1, BATCH),
        };
        Self { pace, start, sent: 0, batch }
    }

    fn sent(&mut self, frames: u64) {
        self.sent += frames;
    }

    /// How long to wait before the next batch, if at all.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let Pace::Pps(pps) = self.pace else { return None };
        let nanos = u128::from(self.sent) * 1_000_000_000 / u128::from(pps.max(1));
        let due = self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let lag = now.saturating_duration_since(due);
        self.start += lag.saturating_sub(MOST_LAG);
        due.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }
}

/// A socket that sends whole frames and receives none.
fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes three numbers and touches no memory.
    let descriptor =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was opened just now and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bind(socket: RawFd, interface: i32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.cast_unsigned().try_into().unwrap_or_default(),
        sll_protocol: 0,
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let pointer: *const libc::sockaddr_ll = &raw const address;
    // SAFETY: the pointer is to an address of the size given, which outlives the call.
    let result = unsafe { libc::bind(socket, pointer.cast(), size_of_as(&address)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_option<T>(socket: RawFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let pointer: *const T = value;
    // SAFETY: the pointer is to a value of the size given, which outlives the call; the callers
    // pass the type that socket(7) names for the option.
    let result = unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, option, pointer.cast(), size_of_as(value))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn message(vector: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all bits zero is a valid header: null pointers with lengths of zero.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = vector;
    message.msg_hdr.msg_iovlen = 1;
    message
}

/// Offers the messages to the kernel and returns how many it took, at least one.
fn send_messages(socket: RawFd, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let count = messages.len().try_into().unwrap_or(libc::c_uint::MAX);
    let pointer = messages.as_mut_ptr();
    // SAFETY: the pointer is to `count` headers. Each points to one vector, and that to one frame;
    // vectors and frames are borrowed by the caller until after this call.
    let taken = unsafe { libc::sendmmsg(socket, pointer, count, 0) };
    usize::try_from(taken).map_err(|_negative| io::Error::last_os_error())
}

fn size_of_as<T>(value: &T) -> libc::socklen_t {
    size_of_val(value).try_into().unwrap_or(libc::socklen_t::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_a_millisecond_long_at_most() {
        let now = Instant::now();
        for (pps, batch) in [(1, 1), (999, 1), (5_000, 5), (60_000, 60), (1_000_000, 64)] {
            assert_eq!(Metronome::new(Pace::Pps(pps), now).batch, batch, "{pps}");
        }
    }

    #[test]
    fn the_metronome_keeps_the_rate_and_forgives_a_long_delay() {
        let start = Instant::now();
        let mut clock = Metronome::new(Pace::Pps(10_000), start);
        assert_eq!(clock.pause(start), None);
        clock.sent(10);
        assert_eq!(clock.pause(start), Some(Duration::from_millis(1)));
        // A second late: it makes up for ten milliseconds, not for all of it.
        let late = start + Duration::from_millis(1001);
        assert_eq!(clock.pause(late), None);
        clock.sent(100);
        assert_eq!(clock.pause(late), None);
        clock.sent(10);
        assert_eq!(clock.pause(late), Some(Duration::from_millis(1)));
        assert_eq!(Metronome::new(Pace::Full, start).pause(start), None);
    }

    #[test]
    fn without_frames_there_is_nothing_to_open() {
        assert!(Pool::new([]).is_empty());
        let error = Sender::open("nosuch0").unwrap_err();
        assert_eq!(error.to_string(), "cannot send through `nosuch0`");
    }
}
