//! AF_XDP sockets, as the programs know them.
//!
//! **Invariant**: a queue is named only after its socket is in place, and no more before the socket
//! goes, so the programs never send a packet where nobody waits.

use std::os::fd::AsRawFd;

use aya::maps::{HashMap, MapData, MapError, XskMap};
use fastnetmon_common::abi::queue_key;

use crate::kernel::{KernelError, ports};

/// Tells the programs which socket waits at which queue.
#[expect(missing_debug_implementations, reason = "a map has nothing to show")]
pub struct Sockets {
    by_index: XskMap<MapData>,
    by_queue: HashMap<MapData, u64, u32>,
    next: u32,
}

/// A socket's place at its queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seat {
    index: u32,
    key: u64,
}

impl Sockets {
    pub(super) const fn new(
        by_index: XskMap<MapData>,
        by_queue: HashMap<MapData, u64, u32>,
    ) -> Self {
        Self { by_index, by_queue, next: 0 }
    }

    /// From now on packets of armed hosts that come by this queue are for this socket.
    ///
    /// # Errors
    /// When there is no such interface, no room, or the kernel refuses.
    pub fn seat(
        &mut self,
        interface: &str,
        queue: u32,
        socket: &impl AsRawFd,
    ) -> Result<Seat, KernelError> {
        let seat = Seat { index: self.next, key: queue_key(ports::number(interface)?, queue) };
        self.by_index.set(seat.index, socket.as_raw_fd(), 0).map_err(|error| refused(&error))?;
        self.next += 1;
        self.by_queue.insert(seat.key, seat.index, 0).map_err(|error| refused(&error))?;
        Ok(seat)
    }

    /// No packet goes there any more; those on their way still arrive.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear(&mut self, seat: Seat) -> Result<(), KernelError> {
        self.by_queue.remove(&seat.key).map_err(|error| refused(&error))?;
        self.by_index.unset(seat.index).map_err(|error| refused(&error))
    }
}

fn refused(error: &MapError) -> KernelError {
    KernelError::Seat { reason: error.to_string() }
}
