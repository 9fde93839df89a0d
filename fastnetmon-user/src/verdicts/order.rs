//! What operators say. An input like any other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Direction, HostId, Loads};

/// A word of the operator's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Ban this host.
    Ban {
        /// Its line.
        host: HostId,
        /// Its address.
        address: IpAddr,
        /// Which way the attack goes.
        direction: Direction,
        /// What it does right now.
        loads: Box<Loads>,
        /// Why.
        reason: Option<Arc<str>>,
        /// For how long; `None`: as the policy says.
        time: Option<Duration>,
    },
    /// Let it go.
    Unban {
        /// Its address.
        address: IpAddr,
        /// Why.
        reason: Option<Arc<str>>,
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
