//! The only user of aya: loads the programs, attaches them, and hands out what came of it.
//!
//! [`attach`] yields capabilities, each for the one room that may use it: [`Parts`] for counters and
//! networks, [`Rings`] for the capture engine, [`Attached`] for whoever keeps the programs alive.
//!
//! **Invariant**: the programs hang on BPF links that this process owns and nothing is pinned, so
//! the kernel takes them off when the process ends, however it ends.

mod attributes;
mod backlog;
mod described;
mod error;
mod gate;
mod knobs;
mod links;
mod losses;
mod netfilter;
mod netlink;
mod object;
mod ports;
mod rings;
mod sockets;
mod support;
mod timekeeping;

use std::num::NonZeroU32;
use std::sync::Arc;

pub(crate) use self::attributes::{attributes, put_attribute};
pub use self::backlog::{Backlog, reaches_all_cpus};
pub use self::described::{Counted, Described, Xdp, describe};
pub use self::error::KernelError;
pub use self::gate::{Gate, GateFull, Gates, Rule};
pub use self::knobs::{Knob, Setting};
pub use self::losses::card_losses;
pub use self::netfilter::logged_groups;
pub use self::object::{Frozen, Object};
pub use self::ports::{
    ANY, Interface, interfaces, mtu, must_exist, receive_queues, receiving_cpus, speed_mbps,
};
pub use self::rings::{Ring, Rings};
pub use self::sockets::{Seat, Sockets};
pub use self::support::{Support, version};
pub use self::timekeeping::is_clock_kept;
use crate::networks::Ignores;
use crate::tables::Parts;

/// Where XDP runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// In the driver, before the kernel has made anything of the frame.
    Native,
    /// In the stack, for drivers that cannot. Only when asked for by name.
    Generic,
}

/// What a port shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// A port towards the world: what arrives is incoming, what leaves is outgoing.
    Uplink,
    /// A mirror port: it shows each packet once, arriving, whichever way it goes.
    Mirror,
}

/// How the classifier of what leaves is held to its port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Egress {
    /// By a link of ours.
    Tcx,
    /// By a filter of the `clsact` qdisc.
    Clsact,
}

/// A port to attach to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// The interface's name.
    pub interface: String,
    /// What it shows.
    pub role: Role,
    /// Where XDP runs.
    pub mode: Mode,
}

/// Programs that count. They are taken off when this is dropped.
#[derive(Debug)]
pub struct Attached {
    // Links first: a filter is taken off while its program is still there.
    links: Vec<links::Held>,
    object: Arc<Object>,
}

impl Attached {
    /// The right to have additions made that wait, where they do.
    ///
    /// # Errors
    /// When the queues cannot be mapped.
    pub fn backlog(&self) -> Result<Option<Backlog>, KernelError> {
        Backlog::of(&self.object)
    }

    /// What has to be taken off at the end, if anything has; links go by being closed.
    pub fn egress(&self) -> Egress {
        let has_filter = self.links.iter().any(|held| matches!(held, links::Held::Filter(_)));
        if has_filter { Egress::Clsact } else { Egress::Tcx }
    }
}

/// CPUs the kernel may ever run, each with a row of its own.
///
/// # Errors
/// When `/sys/devices/system/cpu/possible` cannot be read.
pub fn possible_cpus() -> Result<NonZeroU32, KernelError> {
    let count = aya::util::nr_cpus()
        .map_err(|(file, source)| KernelError::Cpus { file: file.to_owned(), source })?;
    Ok(u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN))
}

/// Loads the programs with tables of this shape. Nothing is attached yet, so the directory can be
/// filled first and the very first packet is counted.
///
/// # Errors
/// When the kernel refuses; the error says what it lacks.
pub fn load(frozen: Frozen) -> Result<(Object, Parts, Rings), KernelError> {
    load_ignoring(frozen, &Ignores::default())
}

/// As [`load`]; what these rules match is not counted.
///
/// # Errors
/// As there.
pub fn load_ignoring(
    frozen: Frozen,
    ignores: &Ignores,
) -> Result<(Object, Parts, Rings), KernelError> {
    let mut object = Object::load(frozen, ignores)?;
    // Before the rings are taken out of the object: a program cannot be loaded without its maps.
    object.load_programs()?;
    let parts = object.parts()?;
    let rings = object.rings()?;
    Ok((object, parts, rings))
}

/// Attaches to every port, or to none.
///
/// # Errors
/// The first port that cannot be attached to; the others are let go.
pub fn attach(mut object: Object, ports: &[Port], egress: Egress) -> Result<Attached, KernelError> {
    let mut held = Vec::new();
    for port in ports {
        links::attach(&mut object, port, egress, &mut held)?;
    }
    Ok(Attached { links: held, object: Arc::new(object) })
}
