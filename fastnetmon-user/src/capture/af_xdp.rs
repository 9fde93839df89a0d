//! Evidence from mirror ports: packets of banned hosts, taken by AF_XDP sockets.
//!
//! One socket for each receive queue, all polled by one thread. A queue that gets none keeps its
//! ring-buffer copies, which the kernel program sees by itself.
//!
//! **Invariant**: every packet was counted in the kernel before it was taken. A socket is named to the
//! programs after its fill ring is full, and unnamed before it is closed.
#![expect(unsafe_code, reason = "frames are shared with the kernel; each call says why it may")]

use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use xsk_rs::config::{
    BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig, UmemConfigBuilder,
};
use xsk_rs::{FillQueue, FrameDesc, RxQueue, Socket, Umem};

use crate::capture::waiting::{broken, wait};
use crate::capture::{Bound, CaptureError, Engine, Frame, Intake, Polled, Starts};
use crate::kernel::{self, Mode, Port, Seat, Sockets};
use crate::model::Moment;

/// The sockets of all queues that have one.
#[expect(missing_debug_implementations, reason = "maps and rings have nothing to show")]
pub struct AfXdpEngine {
    queues: Vec<Queue>,
    sockets: Sockets,
    now: fn() -> Moment,
}

/// One receive queue's socket and the memory it shares with the kernel.
struct Queue {
    seat: Option<Seat>,
    receive: RxQueue,
    fill: FillQueue,
    umem: Umem,
    /// Room for what one look takes; its frames belong to `umem`.
    batch: Vec<FrameDesc>,
    /// Losses the kernel had told at the last look.
    lost: u64,
}

/// How frames reach us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// The card writes into our memory.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// Why a queue has no socket.
struct Refused {
    number: Option<i32>,
    reason: String,
}

impl AfXdpEngine {
    /// Makes a socket for each queue of these ports: zero-copy where the driver can, copies where it
    /// cannot. Tells for each port what came of it; no engine where no queue got a socket.
    ///
    /// The programs must hang on the ports already.
    pub fn open(
        sockets: Sockets,
        ports: &[Port],
        now: fn() -> Moment,
    ) -> (Option<Self>, Vec<Bound>) {
        let mut engine = Self { queues: Vec::new(), sockets, now };
        let bound = ports.iter().map(|port| engine.bind(port)).collect();
        (Some(engine).filter(|engine| !engine.queues.is_empty()), bound)
    }

    fn bind(&mut self, port: &Port) -> Bound {
        let interface = port.interface.as_str();
        let mut bound = Bound {
            interface: interface.to_owned(),
            queues: kernel::receive_queues(interface).unwrap_or(1),
            ..Bound::default()
        };
        // In the stack there is nothing but copies: the card must not be given other memory.
        let mut way = if port.mode == Mode::Native { Way::ZeroCopy } else { Way::Copy };
        if way == Way::Copy {
            bound.copied_because = Some("XDP runs in the stack there".to_owned());
        }
        for number in 0..bound.queues {
            let mut opened = Queue::open(interface, number, way);
            if let (Err(refused), Way::ZeroCopy) = (&opened, way) {
                bound.copied_because = Some(refused.reason.clone());
                way = Way::Copy;
                opened = Queue::open(interface, number, way);
            }
            let seated = opened.map_err(|refused| refused.reason).and_then(|queue| {
                let seat = self.sockets.seat(interface, number, queue.receive.fd());
                let seat = seat.map_err(|error| error.to_string())?;
                self.queues.push(Queue { seat: Some(seat), ..queue });
                Ok(())
            });
            match (seated, way) {
                (Ok(()), Way::ZeroCopy) => bound.zero_copy += 1,
                (Ok(()), Way::Copy) => bound.copy += 1,
                (Err(reason), _) => bound.refused = Some(reason),
            }
        }
        bound
    }

    /// Waits until a socket has something, at most `patience`.
    fn wait(&self, patience: Duration) -> Result<(), CaptureError> {
        let mut polled: Vec<PollFd<'_>> = self
            .queues
            .iter()
            .map(|queue| {
                // SAFETY: the socket is open for as long as its queue lives, which is borrowed.
                let socket = unsafe { BorrowedFd::borrow_raw(queue.receive.fd().as_raw_fd()) };
                PollFd::from_borrowed_fd(socket, PollFlags::IN)
            })
            .collect();
        wait(&mut polled, patience).map_err(broken(Self::NAME))?;
        if polled.iter().any(|polled| polled.revents().contains(PollFlags::ERR)) {
            let reason = "a socket lost its interface".to_owned();
            return Err(CaptureError::Broken { engine: Self::NAME, reason });
        }
        Ok(())
    }
}

impl Engine for AfXdpEngine {
    const NAME: &'static str = "af_xdp";

    fn poll(
        &mut self,
        patience: Duration,
        intake: &mut impl Intake,
    ) -> Result<Polled, CaptureError> {
        self.wait(patience)?;
        let now = (self.now)();
        let mut polled = Polled::default();
        for queue in &mut self.queues {
            polled.taken += queue.drain(now, intake);
            polled.lost += queue.new_losses();
        }
        Ok(polled)
    }
}

impl Drop for AfXdpEngine {
    fn drop(&mut self) {
        for queue in &self.queues {
            if let Some(seat) = queue.seat {
                // The kernel does it too, a moment later, when the socket is closed.
                let _cleared_later = self.sockets.clear(seat);
            }
        }
    }
}

impl Queue {
    fn open(interface: &str, number: u32, way: Way) -> Result<Self, Refused> {
        let mut attempts = 0;
        loop {
            match Self::bind(interface, number, way) {
                // The kernel takes its time to let go of a socket of an agent that was killed.
                Err(refused) if refused.number == Some(libc::EBUSY) && attempts < BUSY_ATTEMPTS => {
                    attempts += 1;
                    #[expect(clippy::disallowed_methods, reason = "a breath between two attempts")]
                    std::thread::sleep(BUSY_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    /// A UMEM after a failed bind is lost, so each attempt makes its own.
    fn bind(interface: &str, number: u32, way: Way) -> Result<Self, Refused> {
        let frames = way.frames();
        let (umem, frames) = Umem::new(memory(frames.get())?, frames, false)
            .map_err(|error| Refused::by_kernel(&error))?;
        let interface = interface.parse().map_err(|error| Refused::because(&error))?;
        let config = SocketConfig::builder()
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(way.flag() | BindFlags::XDP_USE_NEED_WAKEUP)
            .rx_queue_size(size(way.frames().get())?)
            .tx_queue_size(size(UNUSED)?)
            .build();
        // SAFETY: the UMEM is new, so no other socket shares it.
        let made = unsafe { Socket::new(config, &umem, &interface, number) };
        let (_transmit, receive, rings) = made.map_err(|error| Refused::by_kernel(&error))?;
        let Some((mut fill, _complete)) = rings else {
            return Err(Refused { number: None, reason: "the socket has no fill ring".to_owned() });
        };
        // SAFETY: all frames of this UMEM, each once, and nobody has any of them.
        if unsafe { fill.produce(&frames) } != frames.len() {
            return Err(Refused { number: None, reason: "the fill ring is too short".to_owned() });
        }
        let batch = frames.into_iter().take(BATCH).collect();
        Ok(Self { seat: None, receive, fill, umem, batch, lost: 0 })
    }

    /// Hands over what is there and gives the frames back.
    fn drain(&mut self, now: Moment, intake: &mut impl Intake) -> u64 {
        let mut taken = 0;
        loop {
            // SAFETY: what is written to `batch` are frames of this queue's own UMEM.
            let count = unsafe { self.receive.consume(&mut self.batch) };
            let Some(frames) = self.batch.get(..count).filter(|frames| !frames.is_empty()) else {
                return taken;
            };
            for frame in frames {
                // SAFETY: the kernel gave us this frame of this UMEM, and gets it back below.
                let data = unsafe { self.umem.data(frame) };
                let bytes = data.contents();
                let wire_bytes = u32::try_from(bytes.len()).ok();
                let starts = Starts::Ethernet;
                intake.redirected(now, &Frame { bytes, starts, wire_bytes, piece: 0 });
            }
            taken += u64::try_from(count).unwrap_or_default();
            // SAFETY: these frames are ours since `consume`, are not looked at any more, and each
            // is given back once. The ring has room for all frames there are.
            let returned = unsafe { self.fill.produce(frames) };
            debug_assert_eq!(returned, count, "the fill ring has room for every frame");
            if self.fill.needs_wakeup() {
                // What fails now is tried again by the next wait, which wakes the driver too.
                let _next_time = self.fill.wakeup(self.receive.fd_mut(), 0);
            }
        }
    }

    /// Packets the kernel could not hand over since the last look.
    fn new_losses(&mut self) -> u64 {
        let Ok(told) = self.receive.fd().xdp_statistics() else { return 0 };
        // An empty fill ring is among the dropped ones already (net/xdp/xsk.c, `__xsk_rcv`).
        let lost = told.rx_dropped() + told.rx_ring_full();
        let new = lost.saturating_sub(self.lost);
        self.lost = lost;
        new
    }
}

impl Way {
    const fn flag(self) -> BindFlags {
        match self {
            Self::ZeroCopy => BindFlags::XDP_ZEROCOPY,
            Self::Copy => BindFlags::XDP_COPY,
        }
    }

    /// Zero-copy, the card receives everything into these frames, whoever it is for, so there must
    /// be enough to fill its ring. Copied, only packets of banned hosts come here.
    const fn frames(self) -> NonZeroU32 {
        match self {
            Self::ZeroCopy => ZERO_COPY_FRAMES,
            Self::Copy => COPY_FRAMES,
        }
    }
}

impl Refused {
    fn because(error: &dyn Error) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            reason.push_str(": ");
            reason.push_str(&error.to_string());
            source = error.source();
        }
        Self { number: None, reason }
    }

    /// What the kernel says; the crate's own words say only that it said something.
    fn by_kernel(error: &dyn Error) -> Self {
        let said = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let Some(said) = said else { return Self::because(error) };
        let number = said.raw_os_error();
        let remedy = match number {
            Some(libc::EPERM) => "; it needs CAP_NET_RAW",
            Some(libc::ENOBUFS) => {
                "; it needs locked memory: `LimitMEMLOCK=infinity` in the unit, or CAP_IPC_LOCK"
            }
            Some(libc::EBUSY) => "; another program has a socket there",
            Some(libc::EOPNOTSUPP) => "; the driver cannot",
            _ => "",
        };
        Self { number, reason: format!("{said}{remedy}") }
    }
}

fn memory(frames: u32) -> Result<UmemConfig, Refused> {
    UmemConfigBuilder::new()
        .frame_size(FrameSize::new(FRAME_BYTES).map_err(|error| Refused::because(&error))?)
        .fill_queue_size(size(frames)?)
        .comp_queue_size(size(UNUSED)?)
        .build()
        .map_err(|error| Refused::because(&error))
}

fn size(entries: u32) -> Result<QueueSize, Refused> {
    QueueSize::new(entries).map_err(|error| Refused::because(&error))
}

/// Bytes of a frame: a page, so that any MTU that native XDP takes fits, beside 256 bytes of headroom.
const FRAME_BYTES: u32 = 4096;
/// Frames of a queue that is copied: 2 MB.
const COPY_FRAMES: NonZeroU32 = NonZeroU32::new(512).unwrap();
/// Frames of a queue without copies: 16 MB.
const ZERO_COPY_FRAMES: NonZeroU32 = NonZeroU32::new(4096).unwrap();
/// Entries of rings we never use; the library makes them all the same.
const UNUSED: u32 = 64;
/// Frames taken at a time.
const BATCH: usize = 64;
/// How often a queue that is busy is asked again, and how long after.
const BUSY_ATTEMPTS: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
