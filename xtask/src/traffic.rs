//! Packets on demand: frames built by name, sent at a steady rate, counted exactly.
//!
//! **Invariants**: lengths and checksums are right. A frame is counted as sent when the kernel took
//! it, and the kernel never holds so many of them at once that a queue behind it could overflow.
#![expect(unsafe_code, reason = "namespaces and raw sockets have no safe interface in std")]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::lab;

/// A frame described by what it should be; [`Frame::bytes`] is what it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    heading: Heading,
    tags: Vec<u16>,
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    payload: u16,
}

/// Which way along the lab's cable a frame goes; it decides about the hardware addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// From the outside in.
    Inwards,
    /// From the inside out.
    Outwards,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Transport {
    Udp { source: u16, destination: u16 },
    Tcp { source: u16, destination: u16, flags: u8 },
    Echo,
    Other(u8),
}

/// Flags of TCP, to be joined with `|`.
pub mod tcp {
    /// The sender has finished.
    pub const FIN: u8 = 0x01;
    /// A connection begins.
    pub const SYN: u8 = 0x02;
    /// A connection is refused.
    pub const RST: u8 = 0x04;
    /// Hand the data over at once.
    pub const PSH: u8 = 0x08;
    /// Something was received.
    pub const ACK: u8 = 0x10;
}

impl Frame {
    /// A UDP datagram; ends of different families are both written as IPv6.
    pub fn udp(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        source_port: u16,
        destination_port: u16,
    ) -> Self {
        let transport = Transport::Udp { source: source_port, destination: destination_port };
        Self::new(source.into(), destination.into(), transport)
    }

    /// A TCP segment with these flags, see [`tcp`].
    pub fn tcp(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        source_port: u16,
        destination_port: u16,
        flags: u8,
    ) -> Self {
        let transport =
            Transport::Tcp { source: source_port, destination: destination_port, flags };
        Self::new(source.into(), destination.into(), transport)
    }

    /// The first segment of a TCP connection.
    pub fn tcp_syn(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        source_port: u16,
        destination_port: u16,
    ) -> Self {
        Self::tcp(source, destination, source_port, destination_port, tcp::SYN)
    }

    /// A ping: an echo request, in the ICMP of its family.
    pub fn icmp(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        Self::new(source.into(), destination.into(), Transport::Echo)
    }

    /// An IP packet of another protocol, with nothing but payload.
    pub fn protocol(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        protocol: u8,
    ) -> Self {
        Self::new(source.into(), destination.into(), Transport::Other(protocol))
    }

    /// With this many bytes behind the last header.
    #[must_use]
    pub fn payload(mut self, bytes: u16) -> Self {
        self.payload = bytes;
        self
    }

    /// With a VLAN tag; the tag of the first call is the outermost.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.tags.push(id & 0x0fff);
        self
    }

    /// Going that way; the usual way is inwards.
    #[must_use]
    pub fn heading(mut self, heading: Heading) -> Self {
        self.heading = heading;
        self
    }

    /// Leaving the inside.
    #[must_use]
    pub fn outwards(self) -> Self {
        self.heading(Heading::Outwards)
    }

    /// The length of the IP packet, as the agent counts it.
    pub fn ip_len(&self) -> u64 {
        let ethernet = 14 + 4 * self.tags.len();
        self.bytes().len().saturating_sub(ethernet) as u64
    }

    /// The frame as it lies on the wire, without the checksum at its end.
    pub fn bytes(&self) -> Vec<u8> {
        let payload = vec![0x2e; usize::from(self.payload)];
        let (ether_type, packet) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (0x0800_u16, packet_v4(source, destination, &self.transport, &payload))
            }
            (source, destination) => {
                (0x86dd, packet_v6(as_v6(source), as_v6(destination), &self.transport, &payload))
            }
        };
        let (from, to) = match self.heading {
            Heading::Inwards => (lab::OUTSIDE_MAC, lab::INSIDE_MAC),
            Heading::Outwards => (lab::INSIDE_MAC, lab::OUTSIDE_MAC),
        };
        let mut frame = [to, from].concat();
        for (position, tag) in self.tags.iter().enumerate() {
            // The outer one of two tags is a service tag.
            let is_service = position + 1 < self.tags.len();
            frame.extend(if is_service { 0x88a8_u16 } else { 0x8100 }.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ether_type.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn new(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        Self {
            heading: Heading::Inwards,
            tags: Vec::new(),
            source,
            destination,
            transport,
            payload: 0,
        }
    }
}

/// Frames made ready beforehand; a sender goes round them.
#[derive(Debug, Clone)]
pub struct Pool {
    frames: Vec<Vec<u8>>,
}

impl Pool {
    /// The frames in the order in which they will be sent.
    pub fn new(frames: impl IntoIterator<Item = Frame>) -> Self {
        Self::raw(frames.into_iter().map(|frame| frame.bytes()))
    }

    /// Frames that are bytes already, such as ones that are broken on purpose.
    pub fn raw(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { frames: frames.into_iter().collect() }
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

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
            let index = lab::interface_index(interface)?;
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

// The pure part: from names to bytes.

fn packet_v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    transport: &Transport,
    payload: &[u8],
) -> Vec<u8> {
    let protocol = transport.protocol(1);
    let pseudo = |len: u16| {
        let mut pseudo = [source.octets(), destination.octets()].concat();
        pseudo.extend([0, protocol]);
        pseudo.extend(len.to_be_bytes());
        pseudo
    };
    let body = match transport {
        // The checksum of ICMP covers no addresses.
        Transport::Echo => with_checksum(8, transport, &[], payload),
        _ => with_checksum(0, transport, &pseudo(length(transport, payload)), payload),
    };
    let header = |checksum: u16| {
        let mut header = vec![0x45, 0];
        header.extend((20_u16.saturating_add(length(transport, payload))).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, protocol]);
        header.extend(checksum.to_be_bytes());
        header.extend(source.octets());
        header.extend(destination.octets());
        header
    };
    let checksum = checksum(&[&header(0)]);
    [header(checksum), body].concat()
}

fn packet_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    transport: &Transport,
    payload: &[u8],
) -> Vec<u8> {
    let protocol = transport.protocol(58);
    let len = length(transport, payload);
    let mut pseudo = [source.octets(), destination.octets()].concat();
    pseudo.extend(u32::from(len).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    let body = with_checksum(128, transport, &pseudo, payload);

    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([protocol, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(body);
    packet
}

/// Header and payload, with the checksum over them and over what stands before them.
fn with_checksum(echo: u8, transport: &Transport, pseudo: &[u8], payload: &[u8]) -> Vec<u8> {
    let len = length(transport, payload);
    let blank = transport.header(echo, len, 0);
    let sum = match (transport, checksum(&[pseudo, &blank, payload])) {
        // In UDP a zero says that there is no checksum (RFC 768).
        (Transport::Udp { .. }, 0) => 0xffff,
        (_, sum) => sum,
    };
    [transport.header(echo, len, sum).as_slice(), payload].concat()
}

fn length(transport: &Transport, payload: &[u8]) -> u16 {
    u16::try_from(transport.header_len() + payload.len()).unwrap_or(u16::MAX)
}

impl Transport {
    fn protocol(&self, icmp: u8) -> u8 {
        match self {
            Self::Udp { .. } => 17,
            Self::Tcp { .. } => 6,
            Self::Echo => icmp,
            Self::Other(protocol) => *protocol,
        }
    }

    fn header_len(&self) -> usize {
        match self {
            Self::Udp { .. } | Self::Echo => 8,
            Self::Tcp { .. } => 20,
            Self::Other(_) => 0,
        }
    }

    fn header(&self, echo: u8, len: u16, checksum: u16) -> Vec<u8> {
        let mut header = Vec::with_capacity(self.header_len());
        match *self {
            Self::Udp { source, destination } => {
                for field in [source, destination, len, checksum] {
                    header.extend(field.to_be_bytes());
                }
            }
            Self::Tcp { source, destination, flags } => {
                header.extend(source.to_be_bytes());
                header.extend(destination.to_be_bytes());
                // Sequence and acknowledgement; five words of header; a window.
                header.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 0xff, 0xff]);
                header.extend(checksum.to_be_bytes());
                header.extend([0, 0]);
            }
            Self::Echo => {
                header.extend([echo, 0]);
                header.extend(checksum.to_be_bytes());
                header.extend([0, 1, 0, 1]);
            }
            Self::Other(_) => {}
        }
        header
    }
}

/// The checksum of the Internet (RFC 1071); every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2)).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

// The part with system calls.

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

    const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    fn v6(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
    }

    #[track_caller]
    fn check_lengths(frame: Frame, ethernet: usize, ip: usize) {
        assert_eq!(frame.bytes().len(), ethernet + ip);
        assert_eq!(frame.ip_len(), ip as u64);
        let bytes = frame.bytes();
        let packet = &bytes[ethernet..];
        let told = match packet[0] >> 4 {
            4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
            _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        };
        assert_eq!(told, ip);
    }

    #[test]
    fn lengths_are_the_sum_of_the_parts() {
        check_lengths(Frame::udp(STRANGER, HOST, 1, 2), 14, 28);
        check_lengths(Frame::udp(STRANGER, HOST, 1, 2).payload(100), 14, 128);
        check_lengths(Frame::udp(v6(1), v6(2), 1, 2).payload(3), 14, 51);
        check_lengths(Frame::tcp_syn(STRANGER, HOST, 1, 2), 14, 40);
        check_lengths(Frame::tcp_syn(v6(1), v6(2), 1, 2).payload(7), 14, 67);
        check_lengths(Frame::icmp(STRANGER, HOST).payload(56), 14, 84);
        check_lengths(Frame::icmp(v6(1), v6(2)), 14, 48);
        check_lengths(Frame::protocol(STRANGER, HOST, 47).payload(30), 14, 50);
        check_lengths(Frame::udp(STRANGER, HOST, 1, 2).vlan(7), 18, 28);
        check_lengths(Frame::udp(v6(1), v6(2), 1, 2).vlan(7).vlan(8), 22, 48);
        check_lengths(Frame::udp(STRANGER, v6(2), 1, 2), 14, 48);
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // The example of RFC 1071, section 3.
        let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&words]), !0xddf2);
        assert_eq!(checksum(&[&[0xff]]), !0xff00);
        assert_eq!(checksum(&[]), 0xffff);
    }

    /// A receiver adds everything up, the checksum included, and must come to zero.
    #[track_caller]
    fn check_sums(frame: Frame) {
        let bytes = frame.bytes();
        let packet = &bytes[14 + 4 * frame.tags.len()..];
        let (pseudo, body, protocol) = if packet[0] >> 4 == 4 {
            assert_eq!(checksum(&[&packet[..20]]), 0, "header");
            (packet[12..20].to_vec(), &packet[20..], packet[9])
        } else {
            (packet[8..40].to_vec(), &packet[40..], packet[6])
        };
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        let tail = [0, protocol, len[0], len[1]];
        let sum = if protocol == 1 { checksum(&[body]) } else { checksum(&[&pseudo, &tail, body]) };
        assert_eq!(sum, 0, "protocol {protocol}");
    }

    #[test]
    fn checksums_add_up_to_nothing() {
        for payload in [0, 1, 2, 31, 100, 1400] {
            check_sums(Frame::udp(STRANGER, HOST, 53, 4000).payload(payload));
            check_sums(Frame::udp(v6(1), v6(2), 53, 4000).payload(payload).vlan(5));
            check_sums(Frame::tcp(STRANGER, HOST, 80, 4000, tcp::ACK | tcp::PSH).payload(payload));
            check_sums(Frame::tcp_syn(v6(1), v6(2), 80, 4000).payload(payload));
            check_sums(Frame::icmp(STRANGER, HOST).payload(payload));
            check_sums(Frame::icmp(v6(1), v6(2)).payload(payload));
        }
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_ones_in_udp() {
        // This source port makes the sum come out at zero.
        let frame = |port| Frame::udp(STRANGER, HOST, port, 0).bytes();
        let port = (0..=u16::MAX).find(|port| frame(*port)[40..42] == [0xff, 0xff]);
        check_sums(Frame::udp(STRANGER, HOST, port.unwrap(), 0));
    }

    #[test]
    fn hardware_addresses_follow_the_heading() {
        let inwards = Frame::udp(STRANGER, HOST, 1, 2).bytes();
        let outwards = Frame::udp(HOST, STRANGER, 1, 2).outwards().bytes();
        assert_eq!((&inwards[..6], &inwards[6..12]), (&lab::INSIDE_MAC[..], &lab::OUTSIDE_MAC[..]));
        assert_eq!(
            (&outwards[..6], &outwards[6..12]),
            (&lab::OUTSIDE_MAC[..], &lab::INSIDE_MAC[..])
        );
    }

    #[test]
    fn two_tags_are_a_service_tag_and_a_customer_tag() {
        let frame = Frame::udp(STRANGER, HOST, 1, 2).vlan(100).vlan(7).bytes();
        assert_eq!(frame[12..22], [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 0x08, 0]);
    }

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
