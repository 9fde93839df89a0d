//! What operators say. An input like any other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Direction, HostId, Loads};
use crate::verdicts::{Policy, Verdict};

/// A word of the operator's.
#[derive(Clone, Debug)]
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
        /// For how long; `None`: as the policy says; zero: until an operator ends it.
        time: Option<Duration>,
    },
    /// Let it go.
    Unban {
        /// Its address.
        address: IpAddr,
        /// Why.
        reason: Option<Arc<str>>,
    },
    /// Ban by rules again, although the fuse is blown.
    Resume,
    /// Go by this from now on.
    Reload(Box<Policy>),
}

/// What an order brought about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Obeyed {
    /// What is to be done, or told.
    pub verdicts: Vec<Verdict>,
    /// What changed, in lines.
    pub told: Vec<String>,
}

impl Obeyed {
    pub(super) fn of(verdict: Verdict) -> Self {
        Self { verdicts: vec![verdict], told: Vec::new() }
    }
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
    /// Nothing to mend.
    #[error("the fuse is not blown: hosts are banned by rules as it is")]
    NotBlown,
}
