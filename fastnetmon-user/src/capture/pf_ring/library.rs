//! PF_RING by its library, where the operator has installed it.
//!
//! **Invariant**: the library's own calls are behind `pfring_sys`; nothing here is unsafe.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use pfring_sys::{Direction, Library, OpenFlags, Packet, Ring, Version};

use crate::capture::pf_ring::image::{Caught, SNAP_BYTES};
use crate::capture::pf_ring::module::Loaded;

/// The library.
#[derive(Clone, Debug)]
pub(super) struct Access(Arc<Library>);

/// A ring of the library.
#[derive(Debug)]
pub(super) struct LibraryRing {
    ring: Ring,
    /// Losses that were told.
    dropped: u64,
}

/// What a ring is to show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The interface, perhaps with a module of the library before it: `zc:eth0`.
    pub(super) device: &'a str,
    pub(super) promiscuous: bool,
    pub(super) leaving: bool,
    pub(super) cluster: Option<u32>,
    /// What the kernel module says of itself.
    pub(super) loaded: Option<&'a Loaded>,
}

impl Access {
    /// Opens the library: this one, or else the first of the usual names.
    pub(super) fn find(path: &Path) -> Result<Self, String> {
        let path = Some(path).filter(|path| !path.as_os_str().is_empty());
        Library::load(path)
            .map(|library| Self(Arc::new(library)))
            .map_err(|error| error.to_string())
    }

    /// In a few words.
    pub(super) fn name(&self) -> String {
        let path = self.0.path().display();
        match self.0.version() {
            Some(version) => format!("`{path}` (libpfring {version})"),
            None => format!("`{path}`"),
        }
    }

    /// What an operator should know of it.
    pub(super) fn remark(&self) -> Option<String> {
        let unknown = self.0.version().is_none_or(|version| version.slot_version().is_none());
        unknown.then(|| {
            format!("{} is of a release that was never tried: compare the counts", self.name())
        })
    }

    /// Why the module may have refused a library of another release.
    fn mismatch(&self, loaded: Option<&Loaded>) -> Option<String> {
        let version = self.0.version()?;
        let (ours, theirs) = (version.slot_version()?, loaded?.slot_version?);
        (ours != theirs).then(|| {
            format!(
                "libpfring {version} speaks slot version {ours} and the kernel module is {}: install \
                 library and module of the same release",
                loaded.map(Loaded::name).unwrap_or_default()
            )
        })
    }
}

impl LibraryRing {
    /// Opens a ring that takes nothing yet.
    pub(super) fn open(access: &Access, wanted: Wanted<'_>) -> Result<Self, String> {
        let flags = OpenFlags {
            promiscuous: wanted.promiscuous,
            // Of a release that does not tell itself, the longer header is the safe one.
            long_header: access.0.version().is_none_or(|version| version < Version::SHORT_HEADER),
        };
        let ring = Ring::open(&access.0, wanted.device, SNAP_BYTES, flags);
        let mut ring = ring.map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(libc::EAFNOSUPPORT) => "; PF_RING's kernel module is not loaded: \
                     `modprobe pf_ring`, or take another `engine`"
                    .to_owned(),
                Some(libc::EPERM) => {
                    "; it needs CAP_NET_RAW, and of older modules CAP_NET_ADMIN".to_owned()
                }
                // A slot version that does not match, and a device that the library does not know.
                Some(libc::EINVAL | libc::ENODEV) => match access.mismatch(wanted.loaded) {
                    Some(mismatch) => format!("; {mismatch}"),
                    None => "; either the kernel module is of another release than the library \
                         (`/proc/net/pf_ring/info`), or the device is not one of PF_RING's"
                        .to_owned(),
                },
                _ => String::new(),
            };
            format!("`pfring_open` of {} says {error}{remedy}", access.name())
        })?;
        ring.set_application_name("fastnetmon");
        ring.set_direction(if wanted.leaving { Direction::Both } else { Direction::Arriving });
        ring.only_receives();
        // One queued packet wakes us. The default is 128, and a lone packet would wait for its fellows.
        ring.set_watermark(1);
        if let Some(cluster) = wanted.cluster {
            ring.join_cluster(cluster).map_err(|error| {
                format!("{error}; packets cannot be shared between threads: set `threads = 1`")
            })?;
        }
        Ok(Self { ring, dropped: 0 })
    }

    /// From now on it takes packets.
    pub(super) fn activate(&mut self) -> Result<(), String> {
        self.ring.enable().map_err(|error| error.to_string())
    }

    /// Hands over what is there, at most as much as [`MOST`].
    pub(super) fn drain(&mut self, mut each: impl FnMut(Caught<'_>)) -> Result<u64, String> {
        for taken in 0..MOST {
            match self.ring.recv() {
                Ok(Some(Packet { bytes, wire_bytes, arrives })) => {
                    each(Caught { bytes, wire_bytes, arrives });
                }
                Ok(None) => return Ok(taken),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(MOST)
    }

    /// Packets that found no room since the last look.
    pub(super) fn new_losses(&mut self) -> u64 {
        let Ok(stats) = self.ring.stats() else { return 0 };
        let new = stats.dropped.saturating_sub(self.dropped);
        self.dropped = stats.dropped;
        new
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.ring.descriptor()
    }
}

/// Packets that are handed over before the other ports have their turn.
const MOST: u64 = 16_384;
