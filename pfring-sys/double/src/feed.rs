//! Packets from a packet socket, as PF_RING shows them.
//!
//! **Invariant**: what the socket loses is told by the kernel and told on.

use std::ffi::c_int;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// A packet socket at one interface.
#[derive(Debug)]
pub(crate) struct Feed {
    socket: OwnedFd,
    frame: Vec<u8>,
    dropped: u64,
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// All of it, its VLAN tag put back.
    pub(crate) bytes: &'a [u8],
    /// It was received; otherwise it was sent.
    pub(crate) arrives: bool,
}

impl Feed {
    /// A socket that shows nothing before it [starts](Self::start).
    pub(crate) fn open(index: u32, promiscuous: bool) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: makes a descriptor and nothing else.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let feed = Self { socket, frame: vec![0; 70_000], dropped: 0 };
        feed.filter(0)?;
        // For longer than a machine with more to do lets the reader wait.
        feed.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(32_i32 << 20))?;
        feed.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        // SAFETY: all zero is an address.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = 17;
        address.sll_protocol = 3_u16.to_be();
        address.sll_ifindex = index.cast_signed();
        let (from, size) = ((&raw const address).cast(), size::<libc::sockaddr_ll>());
        // SAFETY: an address of the family's own type, which outlives the call.
        done(unsafe { libc::bind(feed.descriptor(), from, size) })?;
        if promiscuous {
            // SAFETY: all zero is a membership.
            let mut membership: libc::packet_mreq = unsafe { zeroed() };
            (membership.mr_ifindex, membership.mr_type) = (index.cast_signed(), 1);
            feed.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
        }
        Ok(feed)
    }

    /// Shares the packets with the other feeds of this number, by flow.
    pub(crate) fn join(&self, cluster: u32) -> io::Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_FANOUT, &(cluster & 0xffff))
    }

    pub(crate) fn start(&self) -> io::Result<()> {
        self.filter(u32::MAX)
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The next packet, if one is there.
    pub(crate) fn next(&mut self) -> Option<Packet<'_>> {
        const TAG: usize = 4;
        const VLAN_VALID: u32 = 0x10;
        // SAFETY: all zero is an address.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        let mut control = [0_u64; 8];
        // Room for a tag is left in front.
        let room = self.frame.get_mut(TAG..)?;
        let mut vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        // SAFETY: all zero is a message.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = size::<libc::sockaddr_ll>();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message names three places of ours with their sizes, which outlive the call.
        let taken =
            unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let taken = usize::try_from(taken).ok()?;
        let arrives = address.sll_pkttype != libc::PACKET_OUTGOING;
        // `cmsghdr` (16 bytes), then `tpacket_auxdata`: status, two lengths, two offsets, the tag's two
        // words.
        let words: [u32; 16] = control
            .map(|word| [low(word), low(word >> 32)])
            .as_flattened()
            .first_chunk()
            .copied()?;
        let [_, _, _, _, status, _, _, _, tag, ..] = words;
        if message.msg_controllen < 36 || status & VLAN_VALID == 0 || taken < 12 {
            let bytes = self.frame.get(TAG..TAG + taken)?;
            return Some(Packet { bytes, arrives });
        }
        self.frame.copy_within(TAG..TAG + 12, 0);
        let [tci_low, tci_high, protocol_low, protocol_high] = tag.to_ne_bytes();
        let put_back = [protocol_high, protocol_low, tci_high, tci_low];
        self.frame.get_mut(12..16)?.copy_from_slice(&put_back);
        Some(Packet { bytes: self.frame.get(..TAG + taken)?, arrives })
    }

    /// Packets that the socket had no room for, since it was opened.
    pub(crate) fn dropped(&mut self) -> u64 {
        let mut told = [0_u32; 2];
        let (to, mut size) = (told.as_mut_ptr().cast(), size::<[u32; 2]>());
        let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        // SAFETY: the kernel writes at most `size` bytes to a place of that size.
        let result =
            unsafe { libc::getsockopt(self.descriptor(), level, option, to, &raw mut size) };
        if result == 0 {
            let [_, dropped] = told;
            self.dropped += u64::from(dropped);
        }
        self.dropped
    }

    fn filter(&self, bytes: u32) -> io::Result<()> {
        let mut program = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: bytes };
        let program = libc::sock_fprog { len: 1, filter: &raw mut program };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let (from, size) = (std::ptr::from_ref(value).cast(), size::<T>());
        // SAFETY: the kernel reads `size` bytes from a value of that size, which outlives the call.
        done(unsafe { libc::setsockopt(self.descriptor(), level, option, from, size) })
    }
}

const fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}

fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
