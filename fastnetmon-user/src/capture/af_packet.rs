//! `AF_PACKET`: the kernel copies the beginning of each frame into a ring that we map.
//!
//! `TPACKET_V3` (`Documentation/networking/packet_mmap.rst`): blocks of frames, handed over when full
//! or after [`BLOCK_MS`]. Each thread has a socket of its own at each port; `PACKET_FANOUT` gives a
//! frame to one of them, by the CPU it is on, or to another one whose ring has room. The socket is
//! all there is: the kernel takes it away with the process, promiscuous mode included.
//!
//! **Invariant**: a frame is handed over once or told as lost. A block is read while it is ours and
//! not after it was given back.
#![expect(unsafe_code, reason = "socket options of the packet family have no safe form")]

use std::io;
use std::mem::size_of;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use libc::{c_int, c_uint};
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::socket_error;

use crate::capture::packet_ring::{Walked, walk};
use crate::capture::trouble::{Trouble, told};
use crate::capture::waiting::{broken, wait};
use crate::capture::{CaptureError, Engine, Frame, Intake, Polled, Starts};
use crate::kernel::{self, Port, Role};
use crate::model::{Moment, Sides};
use crate::tables::Mapping;

/// What one thread sees of all ports.
#[derive(Debug)]
pub struct AfPacketEngine {
    ports: Vec<Watched>,
    now: fn() -> Moment,
}

/// A port and this thread's socket there.
#[derive(Debug)]
struct Watched {
    port: Port,
    group: Group,
    /// `None` while the port is away.
    ring: Option<Ring>,
    trouble: Option<Trouble>,
}

/// With whom a socket shares the frames of its port.
#[derive(Clone, Copy, Debug)]
enum Group {
    /// With nobody.
    Alone,
    /// With sockets to come.
    New,
    /// With the others of this number.
    Of(u16),
}

/// A socket and the memory it shares with the kernel.
#[derive(Debug)]
struct Ring {
    socket: OwnedFd,
    /// Number of its interface.
    index: u32,
    starts: Starts,
    memory: Mapping,
    /// The block that is handed over next.
    next: usize,
}

impl AfPacketEngine {
    /// Opens the ports for so many threads: one engine for each.
    ///
    /// # Errors
    /// The first port that cannot be opened; the others are let go.
    pub fn open(
        ports: &[Port],
        threads: NonZeroU32,
        now: fn() -> Moment,
    ) -> Result<Vec<Self>, CaptureError> {
        let mut engines: Vec<Self> =
            (0..threads.get()).map(|_| Self { ports: Vec::new(), now }).collect();
        for port in ports {
            let mut group = if threads.get() == 1 { Group::Alone } else { Group::New };
            for engine in &mut engines {
                let ring = Ring::open(port, &mut group)?;
                let (ring, trouble) = (Some(ring), None);
                engine.ports.push(Watched { port: port.clone(), group, ring, trouble });
            }
        }
        Ok(engines)
    }

    /// Waits until a block is there, at most `patience`. Sockets that have something to complain of
    /// are put aside.
    fn wait(&mut self, patience: Duration) -> Result<(), CaptureError> {
        let mut polled: Vec<PollFd<'_>> = self
            .ports
            .iter()
            .filter_map(|watched| watched.ring.as_ref())
            .map(|ring| PollFd::from_borrowed_fd(ring.socket.as_fd(), PollFlags::IN))
            .collect();
        wait(&mut polled, patience).map_err(broken(Self::NAME))?;
        let complains: Vec<bool> =
            polled.iter().map(|polled| polled.revents().contains(PollFlags::ERR)).collect();
        if complains.contains(&true) {
            let now = (self.now)();
            let open = self.ports.iter_mut().filter(|watched| watched.ring.is_some());
            for (watched, _) in open.zip(complains).filter(|&(_, complains)| complains) {
                watched.complain(now);
            }
        }
        Ok(())
    }

    fn drain(&mut self, intake: &mut impl Intake) -> Polled {
        let now = (self.now)();
        let mut polled = Polled::default();
        for watched in &mut self.ports {
            if let Some(ring) = &mut watched.ring {
                let Walked { taken, unreadable } = ring.drain(now, watched.port.role, intake);
                polled.taken += taken;
                polled.lost += unreadable;
            }
        }
        polled
    }
}

impl Engine for AfPacketEngine {
    const NAME: &'static str = "af_packet";

    fn poll(
        &mut self,
        patience: Duration,
        intake: &mut impl Intake,
    ) -> Result<Polled, CaptureError> {
        let mut polled = self.drain(intake);
        if polled.taken == 0 {
            self.wait(patience)?;
            polled += self.drain(intake);
        }
        for watched in &mut self.ports {
            polled += watched.tend(self.now, intake);
            polled.lost += watched.ring.as_ref().map_or(0, Ring::new_losses);
        }
        Ok(polled)
    }

    fn trouble(&self) -> Option<CaptureError> {
        let ports = self.ports.iter().map(|watched| (&watched.port, watched.trouble.as_ref()));
        told(Self::NAME, ports)
    }
}

impl Watched {
    /// The socket says that something is wrong: what, it tells once.
    fn complain(&mut self, now: Moment) {
        let Some(ring) = &self.ring else { return };
        if let Ok(Err(error)) = socket_error(&ring.socket) {
            let reason = io::Error::from(error).to_string();
            self.trouble = Some(Trouble::new(now, reason));
        }
    }

    /// Looks whether a port that was away is there again. What its ring still holds is handed over
    /// before it is closed.
    fn tend(&mut self, clock: fn() -> Moment, intake: &mut impl Intake) -> Polled {
        let mut polled = Polled::default();
        let Some(trouble) = &mut self.trouble else { return polled };
        let now = clock();
        if !trouble.is_due(now) {
            return polled;
        }
        trouble.put_off(now);
        let there = kernel::interfaces().unwrap_or_default();
        let Some(there) = there.get(&self.port.interface).filter(|there| there.up) else {
            return polled;
        };
        if self.ring.as_ref().is_some_and(|ring| ring.index == there.index) {
            // The kernel has hooked the socket up again by itself (`packet_notifier`).
            self.trouble = None;
            return polled;
        }
        // Another interface of the same name. The old socket first: the group is of its interface.
        if let Some(mut ring) = self.ring.take() {
            let Walked { taken, unreadable } = ring.drain(now, self.port.role, intake);
            polled = Polled { taken, lost: unreadable + ring.new_losses() };
        }
        match Ring::open(&self.port, &mut self.group) {
            Ok(ring) => {
                self.ring = Some(ring);
                self.trouble = None;
            }
            Err(error) => trouble.reason = error.to_string(),
        }
        polled
    }
}

impl Ring {
    /// Opens a socket that shows a port. Until it shares the frames with its group it takes none, so
    /// that none is seen twice.
    fn open(port: &Port, group: &mut Group) -> Result<Self, CaptureError> {
        let interface = port.interface.as_str();
        let cannot = |what, reason: &dyn ToString| {
            let (interface, reason) = (interface.to_owned(), reason.to_string());
            CaptureError::Refused { interface, what, reason }
        };
        let there = kernel::interfaces().unwrap_or_default();
        let there = there.get(interface).copied().unwrap_or_default();
        if !there.up {
            let reason =
                format!("it is down or gone: bring it up first, `ip link set {interface} up`");
            return Err(cannot("watch it", &reason));
        }
        let socket = new_socket().map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(libc::EPERM) => "; it needs CAP_NET_RAW",
                Some(libc::EAFNOSUPPORT) => "; the kernel was built without CONFIG_PACKET",
                _ => "",
            };
            cannot("open a packet socket", &format!("{error}{remedy}"))
        })?;
        let version = libc::tpacket_versions::TPACKET_V3 as c_int;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &version)
            .map_err(|error| cannot("have a ring of version 3", &error))?;
        // Without it (Linux 4.6) a frame on its way to segmentation counts as one packet.
        let _as_one: io::Result<()> = set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1);
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &RING)
            .map_err(|error| cannot("have a ring of 8 MB", &error))?;
        let memory = Mapping::of_map("packet ring", socket.as_fd(), BLOCK * BLOCKS, true)
            .map_err(|error| cannot("map its ring", &error))?;
        filter(&socket, 0).map_err(|error| cannot("set a filter", &error))?;
        bind(&socket, there.index).map_err(|error| cannot("bind to it", &error))?;
        let starts = starts(&socket).map_err(|reason| cannot("read its frames", &reason))?;
        if port.role == Role::Mirror {
            promiscuous(&socket, there.index)
                .map_err(|error| cannot("make it promiscuous", &error))?;
        }
        *group = join(&socket, *group).map_err(|error| cannot("share its frames", &error))?;
        filter(&socket, SNAP_BYTES).map_err(|error| cannot("set a filter", &error))?;
        Ok(Self { socket, index: there.index, starts, memory, next: 0 })
    }

    /// Hands over what is there and gives the blocks back; once round at most.
    fn drain(&mut self, now: Moment, role: Role, intake: &mut impl Intake) -> Walked {
        let mut all = Walked::default();
        for _ in 0..BLOCKS {
            let begin = self.next * (BLOCK / 4);
            let Some(block) = self.memory.halves().get(begin..begin + BLOCK / 4) else { break };
            let Some(status) = block.get(STATUS) else { break };
            if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            // SAFETY: the slice is the block; the kernel wrote it before it set the status that was
            // read with `Acquire`, and does not touch it before the status is written below, when
            // nothing refers to these bytes any more.
            let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr().cast::<u8>(), BLOCK) };
            let walked = walk(bytes, |caught| {
                let sides = match (role, caught.leaves) {
                    (Role::Uplink, false) => Sides::Destination,
                    (Role::Uplink, true) => Sides::Source,
                    (Role::Mirror, false) => Sides::Both,
                    (Role::Mirror, true) => return,
                };
                let frame = Frame {
                    bytes: caught.bytes,
                    starts: self.starts,
                    wire_bytes: Some(caught.wire_bytes),
                    piece: caught.piece,
                };
                intake.frame(now, sides, &frame);
            });
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % BLOCKS;
            all.taken += walked.taken;
            all.unreadable += walked.unreadable;
        }
        all
    }

    /// Frames that found no room since the last look; the kernel forgets them when it has told.
    fn new_losses(&self) -> u64 {
        let mut told = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        match get(&self.socket, libc::PACKET_STATISTICS, &mut told) {
            Ok(()) => told.tp_drops.into(),
            Err(_nothing) => 0,
        }
    }
}

/// A socket that sees nothing until it is bound.
fn new_socket() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor and nothing else.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn set<T>(socket: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let (from, size) = (std::ptr::from_ref(value).cast(), size::<T>());
    // SAFETY: the kernel reads `size` bytes from a value of that size, which outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, from, size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get<T: Copy>(socket: &OwnedFd, option: c_int, value: &mut T) -> io::Result<()> {
    let (to, mut size) = (std::ptr::from_mut(value).cast(), size::<T>());
    let (socket, level) = (socket.as_raw_fd(), libc::SOL_PACKET);
    // SAFETY: the kernel writes at most `size` bytes to a value of that size, made of numbers.
    let result = unsafe { libc::getsockopt(socket, level, option, to, &raw mut size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}

/// Makes a port take frames that are not for it, for as long as what is returned is kept.
pub(super) fn hold_promiscuous(index: u32) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    promiscuous(&socket, index)?;
    Ok(socket)
}

/// What the frames of an interface begin with.
pub(super) fn frames_of(index: u32) -> Result<Starts, String> {
    let text = |error: io::Error| error.to_string();
    let socket = new_socket().map_err(text)?;
    filter(&socket, 0).map_err(text)?;
    bind(&socket, index).map_err(text)?;
    starts(&socket)
}

/// Has the kernel copy so many bytes of a frame at most; 0: take none.
fn filter(socket: &OwnedFd, bytes: u32) -> io::Result<()> {
    // One instruction, `ret #bytes` (linux/filter.h).
    let mut program = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: bytes };
    let program = libc::sock_fprog { len: 1, filter: &raw mut program };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn address(index: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: PACKET_FAMILY,
        sll_protocol: ALL_PROTOCOLS.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let address = address(index);
    let (from, size) = ((&raw const address).cast(), size::<libc::sockaddr_ll>());
    // SAFETY: the address is of the family's own type, and outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), from, size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What frames begin with, by the kind of interface (`linux/if_arp.h`).
fn starts(socket: &OwnedFd) -> Result<Starts, String> {
    let mut address = address(0);
    let (to, mut size) = ((&raw mut address).cast(), size::<libc::sockaddr_ll>());
    // SAFETY: the kernel writes at most `size` bytes to an address of the family's own type.
    if unsafe { libc::getsockname(socket.as_raw_fd(), to, &raw mut size) } != 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    match address.sll_hatype {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(Starts::Ethernet),
        libc::ARPHRD_NONE | ARPHRD_RAWIP => Ok(Starts::Ip),
        other => Err(format!("its link type ({other}, linux/if_arp.h) is not known here")),
    }
}

fn promiscuous(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: index.cast_signed(),
        mr_type: PROMISCUOUS,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

/// Shares the frames of the port with the group.
fn join(socket: &OwnedFd, group: Group) -> io::Result<Group> {
    let join = |number: u16, flags: c_uint| {
        let kind = libc::PACKET_FANOUT_CPU | libc::PACKET_FANOUT_FLAG_ROLLOVER | flags;
        let wanted = u32::from(number) | (kind << 16);
        set(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &wanted)
    };
    match group {
        Group::Alone => {}
        Group::Of(number) => join(number, 0)?,
        // The kernel chooses a number that nobody has (Linux 4.12); before, ours is unlikely to be
        // another one's.
        Group::New => match join(0, libc::PACKET_FANOUT_FLAG_UNIQUEID) {
            Ok(()) => {
                let mut joined: u32 = 0;
                get(socket, libc::PACKET_FANOUT, &mut joined)?;
                return Ok(Group::Of(low16(joined)));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let number = low16(std::process::id());
                join(number, 0)?;
                return Ok(Group::Of(number));
            }
            Err(error) => return Err(error),
        },
    }
    Ok(group)
}

const fn low16(number: u32) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Bytes of a block, and how many a ring has: 8 MB.
const BLOCK: usize = BLOCK_BYTES as usize;
const BLOCK_BYTES: u32 = 256 * 1024;
const BLOCKS: usize = RING.tp_block_nr as usize;
/// A block that is not full is handed over after so long.
const BLOCK_MS: u32 = 10;
/// Where a block's status stands in it, in words of 32 bits.
const STATUS: usize = 2;
/// Frames have no size of their own in version 3, but the kernel checks the sum.
const FRAME_BYTES: u32 = 2048;
const RING: libc::tpacket_req3 = libc::tpacket_req3 {
    tp_block_size: BLOCK_BYTES,
    tp_block_nr: 32,
    tp_frame_size: FRAME_BYTES,
    tp_frame_nr: BLOCK_BYTES / FRAME_BYTES * 32,
    tp_retire_blk_tov: BLOCK_MS,
    tp_sizeof_priv: 0,
    tp_feature_req_word: 0,
};
/// `AF_PACKET`, `ETH_P_ALL` and `PACKET_MR_PROMISC`, as wide as their fields.
const PACKET_FAMILY: u16 = 17;
const ALL_PROTOCOLS: u16 = 3;
const PROMISCUOUS: u16 = 1;
/// Bytes of a frame that are copied: all headers that are looked at, tunnels included.
const SNAP_BYTES: u32 = 256;
/// Frames that begin with their IP header (`linux/if_arp.h`).
const ARPHRD_RAWIP: u16 = 519;
