//! What operators say. An input like any other.

use std::net::IpAddr;

use crate::model::{Direction, HostId};

/// A word of the operator's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Ban this host.
    Ban {
        /// Its line.
        host: HostId,
        /// Its address.
        address: IpAddr,
        /// Which way the attack goes.
        direction: Direction,
        /// What it does right now, in packets a second.
        pps: u64,
    },
    /// Let it go.
    Unban {
        /// Its address.
        address: IpAddr,
    },
}

/// Why an order is not obeyed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OrderError {
    /// Nothing to do.
    #[error("`{0}` is banned already")]
    BannedAlready(IpAddr),
    /// Nothing to undo.
    #[error("`{0}` is not banned; `fastnetmon bans` lists who is")]
    NotBanned(IpAddr),
}
