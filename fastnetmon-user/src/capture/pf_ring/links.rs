//! Tells when an interface changed, so that nobody has to look all the time.
//!
//! A PF_RING ring whose interface went away says nothing: it only stays empty. The kernel tells of
//! links by netlink (`rtnetlink(7)`, `RTMGRP_LINK`); what it tells is not read, only that it did.
//!
//! **Invariant**: where netlink cannot be had, every second counts as a change.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::model::Moment;

/// Who listens for changes.
#[derive(Debug)]
pub(super) struct Links {
    socket: Option<OwnedFd>,
    /// When to look although nothing was told.
    next: Moment,
}

impl Links {
    pub(super) fn listen() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = (AddressFamily::NETLINK, SocketType::RAW);
        // No protocol is `NETLINK_ROUTE`.
        let socket = socket_with(kind.0, kind.1, flags, None).ok();
        let socket =
            socket.filter(|socket| bind(socket, &SocketAddrNetlink::new(0, LINKS)).is_ok());
        Self { socket, next: Moment::default() }
    }

    /// What can be waited for.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(OwnedFd::as_fd)
    }

    /// Did something change since this was asked last?
    pub(super) fn changed(&mut self, now: Moment) -> bool {
        let Some(socket) = &self.socket else {
            let due = now >= self.next;
            if due {
                self.next = now + Duration::from_secs(1);
            }
            return due;
        };
        let mut told = false;
        // A message that is too long is cut, and a full queue is an error: both are news. Whatever is
        // left after these is found by the next call.
        for _ in 0..64 {
            match recv(socket, &mut [0; 64], RecvFlags::DONTWAIT) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => told = true,
                Err(_nothing) => break,
            }
        }
        told
    }
}

/// `RTMGRP_LINK` (linux/rtnetlink.h).
const LINKS: u32 = 1;
