//! One ring at a port, whichever way it is reached.
//!
//! **Invariant**: the way is chosen here, once for each port; behind [`Ring`] nobody can tell them
//! apart.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::capture::af_packet::{frames_of, hold_promiscuous};
use crate::capture::pf_ring::image::Caught;
use crate::capture::pf_ring::library::{self, Access, LibraryRing};
use crate::capture::pf_ring::module::{Layout, Loaded, layout};
use crate::capture::pf_ring::socket::{self, SocketError, SocketRing};
use crate::capture::pf_ring::{merged, pf_ring_interface};
use crate::capture::settings::{AccessName, PfRing};
use crate::capture::{CaptureError, Frame, Intake, Polled, Starts};
use crate::kernel::{self, Port, Role};
use crate::model::{Moment, Sides};

/// How a port's rings are reached.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Socket,
    Library(Access),
}

/// One ring.
#[derive(Debug)]
pub(super) enum Ring {
    Socket {
        ring: SocketRing,
        starts: Starts,
        /// Where the port is promiscuous: as long as this is open.
        _promiscuous: Option<OwnedFd>,
    },
    Library {
        ring: LibraryRing,
        starts: Starts,
    },
}

impl Ring {
    pub(super) fn activate(&mut self) -> Result<(), String> {
        match self {
            Self::Socket { ring, .. } => ring.activate().map_err(|error| error.to_string()),
            Self::Library { ring, .. } => ring.activate(),
        }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket { ring, .. } => Some(ring.descriptor()),
            Self::Library { ring, .. } => ring.descriptor(),
        }
    }

    /// Hands over what is there. Returns how much that was, and what is wrong with the rest.
    pub(super) fn drain(
        &mut self,
        now: Moment,
        role: Role,
        mtu: u32,
        intake: &mut impl Intake,
    ) -> (u64, Result<(), String>) {
        let mut taken = 0;
        let (Self::Socket { starts, .. } | Self::Library { starts, .. }) = *self;
        let mut each = |caught: Caught<'_>| {
            taken += 1;
            let sides = match (role, caught.arrives) {
                (Role::Uplink, true) => Sides::Destination,
                (Role::Uplink, false) => Sides::Source,
                (Role::Mirror, true) => Sides::Both,
                (Role::Mirror, false) => return,
            };
            let Caught { bytes, wire_bytes, .. } = caught;
            let piece = merged::piece(bytes, starts == Starts::Ip, wire_bytes, mtu);
            let frame = Frame { bytes, starts, wire_bytes: Some(wire_bytes), piece };
            intake.frame(now, sides, &frame);
        };
        let outcome = match self {
            Self::Socket { ring, .. } => {
                ring.drain(&mut each).map_err(|nonsense| format!("its ring is spoilt: {nonsense}"))
            }
            Self::Library { ring, .. } => ring.drain(&mut each),
        };
        (taken, outcome.map(drop))
    }

    pub(super) fn new_losses(&mut self) -> u64 {
        match self {
            Self::Socket { ring, .. } => ring.new_losses(),
            Self::Library { ring, .. } => ring.new_losses(),
        }
    }

    /// What is lost with it.
    pub(super) fn abandon(self) -> Polled {
        match self {
            Self::Socket { mut ring, .. } => ring.abandoned(),
            Self::Library { mut ring, .. } => Polled { taken: 0, lost: ring.new_losses() },
        }
    }

    pub(super) fn remark(&self, loaded: Option<&Loaded>) -> Option<String> {
        let Self::Socket { ring, .. } = self else { return None };
        let slots = ring.slot_version;
        let name = loaded.map_or_else(|| format!("slot version {slots}"), Loaded::name);
        (layout(slots) == Layout::Untested).then(|| {
            format!("{name}: layout not tested, known from its headers only; compare the counts")
        })
    }
}

/// Why a port cannot be opened, and whether the library could do it.
pub(super) struct Refusal {
    error: CaptureError,
    for_library: bool,
}

impl Refusal {
    pub(super) fn into_error(self) -> CaptureError {
        self.error
    }
}

/// The way that the settings name, or the first one to try.
pub(super) fn named_way(port: &Port, settings: &PfRing) -> Result<Way, CaptureError> {
    // `zc:eth0` and its like are modules of the library, and `eth0@1` is a queue.
    let needs_library = port.interface.contains([':', '@']);
    match settings.access {
        AccessName::Socket if needs_library => Err(refused(
            port,
            "open it by PF_RING's socket",
            "only libpfring knows such devices: set `access = \"library\"` in `[capture.pf_ring]`"
                .to_owned(),
        )),
        AccessName::Auto if !needs_library => Ok(Way::Socket),
        AccessName::Socket => Ok(Way::Socket),
        AccessName::Auto | AccessName::Library => match Access::find(&settings.library) {
            Ok(access) => Ok(Way::Library(access)),
            Err(reason) => Err(refused(port, "open it by libpfring", reason)),
        },
    }
}

/// Opens a ring. Where the way is ours to choose and the module's rings are not known here, turns to
/// the library.
pub(super) fn open_or_turn(
    port: &Port,
    way: &mut Way,
    cluster: Option<u32>,
    settings: &PfRing,
    loaded: Option<&Loaded>,
) -> Result<(Ring, u32), CaptureError> {
    match open_ring(port, way, cluster, loaded) {
        Err(Refusal { error, for_library: true }) if settings.access == AccessName::Auto => {
            let access = match Access::find(&settings.library) {
                Ok(access) => access,
                Err(reason) => {
                    return Err(refused(
                        port,
                        "open it by PF_RING",
                        format!("by its socket: {error}; by its library: {reason}"),
                    ));
                }
            };
            *way = Way::Library(access);
            open_ring(port, way, cluster, loaded).map_err(Refusal::into_error)
        }
        outcome => outcome.map_err(Refusal::into_error),
    }
}

/// Opens a ring that takes nothing yet. Returns the number of its interface as well.
pub(super) fn open_ring(
    port: &Port,
    way: &Way,
    cluster: Option<u32>,
    loaded: Option<&Loaded>,
) -> Result<(Ring, u32), Refusal> {
    let cannot =
        |what, reason: String| Refusal { error: refused(port, what, reason), for_library: false };
    let interface = pf_ring_interface(&port.interface);
    let there = kernel::interfaces().unwrap_or_default();
    let Some(there) = there.get(interface).copied().filter(|there| there.up) else {
        let remedy = format!("bring it up first, `ip link set {interface} up`");
        return Err(cannot("watch it", format!("it is down or gone: {remedy}")));
    };
    let (leaving, promiscuous) = (port.role == Role::Uplink, port.role == Role::Mirror);
    let ring = match way {
        Way::Socket => {
            let wanted = socket::Wanted {
                interface,
                index: there.index,
                leaving,
                cluster,
                slot_version: loaded.and_then(|loaded| loaded.slot_version),
            };
            let ring = SocketRing::open(wanted).map_err(|error| Refusal {
                for_library: matches!(error, SocketError::SlotVersion(_)),
                error: refused(port, "open it by PF_RING's socket", error.to_string()),
            })?;
            let starts =
                frames_of(there.index).map_err(|reason| cannot("read its frames", reason))?;
            let promiscuous = if promiscuous {
                let held = hold_promiscuous(there.index);
                Some(held.map_err(|error| cannot("make it promiscuous", error.to_string()))?)
            } else {
                None
            };
            Ring::Socket { ring, starts, _promiscuous: promiscuous }
        }
        Way::Library(access) => {
            let device = port.interface.as_str();
            let wanted = library::Wanted { device, promiscuous, leaving, cluster, loaded };
            let ring = LibraryRing::open(access, wanted)
                .map_err(|reason| cannot("open it by libpfring", reason))?;
            let starts =
                frames_of(there.index).map_err(|reason| cannot("read its frames", reason))?;
            Ring::Library { ring, starts }
        }
    };
    Ok((ring, there.index))
}

pub(super) fn mtu(port: &Port) -> u32 {
    kernel::mtu(pf_ring_interface(&port.interface)).unwrap_or(0)
}

pub(super) fn refused(port: &Port, what: &'static str, reason: String) -> CaptureError {
    CaptureError::Refused { interface: port.interface.clone(), what, reason }
}
