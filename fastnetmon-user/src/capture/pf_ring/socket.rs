//! PF_RING's kernel socket, without its library: family 27, socket options, one mapping.
//!
//! What the kernel module takes is not promised to anybody but its own library. It is guarded by the
//! slot version: a ring of a layout that we do not know is refused before a packet is read.
//!
//! **Invariant**: a ring takes no packet before it is [activated](SocketRing::activate). Nothing is
//! left behind: socket, ring and promiscuous mode end with their descriptors.
#![expect(unsafe_code, reason = "the family has no safe form")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libc::c_int;

use crate::capture::Polled;
use crate::capture::pf_ring::image::{
    Caught, Control, Nonsense, Reader, SHORTEST_HEADER, SNAP_BYTES,
};
use crate::capture::pf_ring::module::{BOUND_BY_NUMBER, Layout, layout};
use crate::tables::{Mapping, MappingError};

/// A ring of the kernel module.
#[derive(Debug)]
pub(super) struct SocketRing {
    socket: OwnedFd,
    memory: Mapping,
    reader: Reader,
    /// Its layout.
    pub(super) slot_version: u16,
}

/// What a ring is to show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) interface: &'a str,
    /// Number of the interface.
    pub(super) index: u32,
    /// Packets that leave are shown as well.
    pub(super) leaving: bool,
    /// The number that the rings of other threads have as well.
    pub(super) cluster: Option<u32>,
    /// What the module says of itself.
    pub(super) slot_version: Option<u16>,
}

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// The kernel has no such family.
    #[error(
        "PF_RING's kernel module is not loaded: `modprobe pf_ring`, or take another `engine` \
         ({0})"
    )]
    NoModule(io::Error),
    /// Not allowed.
    #[error("it needs CAP_NET_RAW, and of older modules CAP_NET_ADMIN ({0})")]
    NotPermitted(io::Error),
    /// The layout is not one of those we read.
    #[error(
        "the kernel module's rings are of slot version {0}; 16, 17, 18, 20 and 21 are known here, on \
         x86_64: install libpfring and set `access = \"library\"` in `[capture.pf_ring]`"
    )]
    SlotVersion(u16),
    /// The kernel module refuses.
    #[error("the kernel module does not {what}: {source}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What it says.
        source: io::Error,
    },
    /// The memory cannot be shared.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// What it shares is no ring.
    #[error("the kernel module shares no ring: {0}")]
    Nonsense(#[from] Nonsense),
}

/// The calls a ring is made with.
trait Calls: Sized {
    fn open() -> io::Result<Self>;
    fn set(&self, option: c_int, value: &[u8]) -> io::Result<()>;
    /// Reads a number of 16 bits.
    fn get(&self, option: c_int) -> io::Result<u16>;
    fn bind(&self, address: &[u8]) -> io::Result<()>;
    fn map(&self, bytes: usize) -> Result<Mapping, MappingError>;
}

impl Calls for OwnedFd {
    fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: makes a descriptor and nothing else.
        let socket = unsafe { libc::socket(FAMILY.into(), kind, ALL_PROTOCOLS.to_be().into()) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(unsafe { Self::from_raw_fd(socket) })
    }

    fn set(&self, option: c_int, value: &[u8]) -> io::Result<()> {
        let (from, size) = (value.as_ptr().cast(), length(value));
        // SAFETY: the module reads `size` bytes from a value of that size, which outlives the call.
        done(unsafe { libc::setsockopt(self.as_raw_fd(), LEVEL, option, from, size) })
    }

    fn get(&self, option: c_int) -> io::Result<u16> {
        let mut value = [0; 2];
        let (to, mut size) = (value.as_mut_ptr().cast(), length(&value));
        // SAFETY: the module writes at most `size` bytes to a value of that size.
        done(unsafe { libc::getsockopt(self.as_raw_fd(), LEVEL, option, to, &raw mut size) })?;
        Ok(u16::from_ne_bytes(value))
    }

    fn bind(&self, address: &[u8]) -> io::Result<()> {
        let (from, size) = (address.as_ptr().cast(), length(address));
        // SAFETY: the kernel reads `size` bytes from an address of that size, which outlives the call.
        done(unsafe { libc::bind(self.as_raw_fd(), from, size) })
    }

    fn map(&self, bytes: usize) -> Result<Mapping, MappingError> {
        Mapping::of_map("PF_RING ring", self.as_fd(), bytes, true)
    }
}

impl SocketRing {
    /// Opens a ring that takes nothing yet.
    pub(super) fn open(wanted: Wanted<'_>) -> Result<Self, SocketError> {
        open::<OwnedFd>(wanted).map(|(socket, memory, reader, slot_version)| Self {
            socket,
            memory,
            reader,
            slot_version,
        })
    }

    /// From now on it takes packets.
    pub(super) fn activate(&mut self) -> Result<(), SocketError> {
        activate(&self.socket)
    }

    /// Hands over what waited when it was called.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Caught<'_>)) -> Result<u64, Nonsense> {
        let image = self.memory.words();
        let mut room = [0; 64];
        let waiting = self.reader.waiting(image)?;
        for _ in 0..waiting {
            each(self.reader.take(image, &mut room)?);
        }
        Ok(waiting)
    }

    /// Packets that found no room since the last look.
    pub(super) fn new_losses(&mut self) -> u64 {
        self.reader.new_losses(self.memory.words())
    }

    /// What is lost with this ring.
    pub(super) fn abandoned(&mut self) -> Polled {
        let lost = self.reader.abandoned(self.memory.words()) + self.new_losses();
        Polled { taken: 0, lost }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open<C: Calls>(wanted: Wanted<'_>) -> Result<(C, Mapping, Reader, u16), SocketError> {
    let (socket, memory, control, header) = shared::<C>(wanted, Header::Short)?;
    let (socket, memory, control, header) = if header < SHORTEST_HEADER {
        // It does not say which way a packet goes; the long one does.
        drop((memory, socket));
        shared::<C>(wanted, Header::Long)?
    } else {
        (socket, memory, control, header)
    };
    let reader = Reader::new(memory.words(), control, header)?;
    let refused = |what| move |source| SocketError::Refused { what, source };
    let direction = if wanted.leaving { BOTH } else { ONLY_ARRIVING };
    socket
        .set(DIRECTION, &direction.to_ne_bytes())
        .map_err(refused("take the directions to show"))?;
    socket.set(MODE, &ONLY_RECEIVE.to_ne_bytes()).map_err(refused("take the mode"))?;
    // One queued packet wakes us. The default is 128, and a lone packet would wait for its fellows.
    socket.set(WATERMARK, &1_u16.to_ne_bytes()).map_err(refused("take the watermark"))?;
    // For the statistics of the module alone.
    let _unnamed: io::Result<()> = socket.set(NAME, b"fastnetmon");
    if let Some(cluster) = wanted.cluster {
        // `add_to_cluster`: the number, and how packets are shared.
        let cluster: [u8; 8] = zerocopy::transmute!([cluster, BY_TWO_ADDRESSES]);
        socket
            .set(CLUSTER, &cluster)
            .map_err(refused("share packets between threads (`cluster_id`, `threads`)"))?;
    }
    Ok((socket, memory, reader, control.slot_version))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Header {
    Short,
    Long,
}

/// A bound socket, its ring, and how long its headers are.
fn shared<C: Calls>(
    wanted: Wanted<'_>,
    header: Header,
) -> Result<(C, Mapping, Control, u16), SocketError> {
    let refused = |what| move |source| SocketError::Refused { what, source };
    let socket = C::open().map_err(|error| match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => SocketError::NoModule(error),
        Some(libc::EPERM) => SocketError::NotPermitted(error),
        _ => SocketError::Refused { what: "give a socket", source: error },
    })?;
    socket
        .set(SNAP, &u32::from(SNAP_BYTES).to_ne_bytes())
        .map_err(refused("take the length to copy"))?;
    if header == Header::Short {
        socket.set(SHORT_HEADER, &[0]).map_err(refused("shorten its headers"))?;
    }
    bind(&socket, wanted).map_err(refused("bind to the interface"))?;
    socket.set(CHANNELS, &u64::MAX.to_ne_bytes()).map_err(refused("show all queues"))?;
    let control = Control::read(socket.map(PAGE)?.words());
    if layout(control.slot_version) == Layout::Unknown {
        return Err(SocketError::SlotVersion(control.slot_version));
    }
    let memory = socket.map(control.mapped()?)?;
    let header = socket.get(HEADER_BYTES).map_err(refused("tell how long its headers are"))?;
    Ok((socket, memory, control, header))
}

/// Binds in the way of the module's release, or else in the other one.
fn bind(socket: &impl Calls, wanted: Wanted<'_>) -> io::Result<()> {
    let by_number = || {
        // The protocol is not looked at by the releases we know of; both ways to write it are tried.
        let with = |protocol| socket.bind(&address_by_number(wanted.index, protocol));
        with(ALL_PROTOCOLS.to_be()).or_else(|_| with(ALL_PROTOCOLS))
    };
    let by_name = || match address_by_name(wanted.interface) {
        Some(address) => socket.bind(&address),
        None => Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
    };
    if wanted.slot_version.is_none_or(|slots| slots >= BOUND_BY_NUMBER) {
        by_number().or_else(|error| by_name().or(Err(error)))
    } else {
        by_name().or_else(|error| by_number().or(Err(error)))
    }
}

fn activate(socket: &impl Calls) -> Result<(), SocketError> {
    socket
        .set(ACTIVATE, &[1])
        .map_err(|source| SocketError::Refused { what: "activate the ring", source })
}

/// `sockaddr_ll` (`linux/if_packet.h`) of the family.
fn address_by_number(index: u32, protocol: u16) -> [u8; 20] {
    let mut address = [0; 20];
    let fields = FAMILY.to_ne_bytes().into_iter().chain(protocol.to_ne_bytes());
    for (to, from) in address.iter_mut().zip(fields.chain(index.to_ne_bytes())) {
        *to = from;
    }
    address
}

/// `sockaddr` of the family: 14 bytes of a name.
fn address_by_name(interface: &str) -> Option<[u8; 16]> {
    let mut address = [0; 16];
    if interface.len() > address.len() - 2 {
        return None;
    }
    for (to, from) in
        address.iter_mut().zip(FAMILY.to_ne_bytes().into_iter().chain(interface.bytes()))
    {
        *to = from;
    }
    Some(address)
}

fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn length(value: &[u8]) -> libc::socklen_t {
    libc::socklen_t::try_from(value.len()).unwrap_or_default()
}

/// `PF_RING`, and `ETH_P_ALL`.
const FAMILY: u16 = 27;
const ALL_PROTOCOLS: u16 = 3;
const PAGE: usize = 4096;
/// Socket options of the family, the same in all releases since 6.0.3.
const LEVEL: c_int = 0;
const CLUSTER: c_int = 99;
const ACTIVATE: c_int = 106;
const SNAP: c_int = 107;
const CHANNELS: c_int = 108;
const NAME: c_int = 110;
const DIRECTION: c_int = 111;
const WATERMARK: c_int = 117;
const MODE: c_int = 126;
const SHORT_HEADER: c_int = 127;
const HEADER_BYTES: c_int = 179;
/// `packet_direction`, `socket_mode` and `cluster_type`.
const BOTH: i32 = 0;
const ONLY_ARRIVING: i32 = 1;
const ONLY_RECEIVE: i32 = 2;
const BY_TWO_ADDRESSES: u32 = 2;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::capture::pf_ring::image::tests::Module;

    /// A kernel module that does what it is told and writes down what it was asked.
    struct Fake;

    struct Told {
        asked: Vec<String>,
        slot_version: u16,
        /// Bytes of its short headers.
        header: u16,
        fails: Option<(&'static str, i32)>,
        by_number: bool,
        total: Option<u64>,
    }

    thread_local! {
        static TOLD: RefCell<Told> = const { RefCell::new(Told {
            asked: Vec::new(), slot_version: 21, header: 48, fails: None, by_number: true,
            total: None,
        }) };
    }

    fn ask(what: String) -> io::Result<()> {
        TOLD.with_borrow_mut(|told| {
            let fails = told.fails.filter(|&(begin, _)| what.starts_with(begin));
            told.asked.push(what);
            fails.map_or(Ok(()), |(_, number)| Err(io::Error::from_raw_os_error(number)))
        })
    }

    impl Calls for Fake {
        fn open() -> io::Result<Self> {
            ask("socket".to_owned()).map(|()| Self)
        }

        fn set(&self, option: c_int, value: &[u8]) -> io::Result<()> {
            ask(format!("{option}={value:?}"))
        }

        fn get(&self, option: c_int) -> io::Result<u16> {
            ask(format!("{option}?"))?;
            TOLD.with_borrow(|told| {
                let since = told.asked.iter().rposition(|asked| asked == "socket").unwrap();
                let is_short = told.asked[since..].contains(&"127=[0]".to_owned());
                Ok(if is_short { told.header } else { 200 })
            })
        }

        fn bind(&self, address: &[u8]) -> io::Result<()> {
            ask(format!("bind {address:?}"))?;
            let by_number = address.len() == 20;
            if TOLD.with_borrow(|told| told.by_number) == by_number {
                return Ok(());
            }
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        }

        fn map(&self, bytes: usize) -> Result<Mapping, MappingError> {
            ask(format!("map {bytes}")).unwrap();
            let image = Mapping::anonymous("fake", 1 << 20).unwrap();
            TOLD.with_borrow(|told| {
                // As large as the longest header that the ring may have.
                let _module = Module::new(image.words(), told.slot_version, 200, 256, 16);
                if let Some(total) = told.total {
                    image.words()[2].store(total, std::sync::atomic::Ordering::Relaxed);
                }
            });
            Ok(image)
        }
    }

    fn wanted(slot_version: Option<u16>) -> Wanted<'static> {
        Wanted { interface: "eth0", index: 7, leaving: true, cluster: None, slot_version }
    }

    fn tell(change: impl FnOnce(&mut Told)) {
        TOLD.with_borrow_mut(change);
    }

    fn asked() -> Vec<String> {
        TOLD.with_borrow_mut(|told| std::mem::take(&mut told.asked))
    }

    const BY_NUMBER: &str = "bind [27, 0, 0, 3, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]";
    const BY_NAME: &str = "bind [27, 0, 101, 116, 104, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]";

    #[test]
    fn a_ring_is_made_in_the_order_that_the_module_wants_and_started_last() {
        let mut wanted = wanted(Some(21));
        wanted.cluster = Some(72);
        let (fake, ..) = open::<Fake>(wanted).unwrap();
        activate(&fake).unwrap();
        assert_eq!(
            asked(),
            [
                "socket",
                "107=[0, 1, 0, 0]",
                "127=[0]",
                BY_NUMBER,
                "108=[255, 255, 255, 255, 255, 255, 255, 255]",
                "map 4096",
                "map 15616",
                "179?",
                "111=[0, 0, 0, 0]",
                "126=[2, 0, 0, 0]",
                "117=[1, 0]",
                "110=[102, 97, 115, 116, 110, 101, 116, 109, 111, 110]",
                "99=[72, 0, 0, 0, 2, 0, 0, 0]",
                "106=[1]",
            ]
        );
        wanted.leaving = false;
        open::<Fake>(wanted).unwrap();
        assert!(asked().contains(&"111=[1, 0, 0, 0]".to_owned()));
    }

    #[test]
    fn older_modules_are_bound_by_name_and_the_other_way_is_tried_as_well() {
        for (slot_version, by_number, expected) in [
            (Some(21), true, vec![BY_NUMBER]),
            (Some(20), true, vec![BY_NUMBER]),
            (None, true, vec![BY_NUMBER]),
            (Some(18), false, vec![BY_NAME]),
            (Some(18), true, vec![BY_NAME, BY_NUMBER]),
        ] {
            tell(|told| told.by_number = by_number);
            open::<Fake>(wanted(slot_version)).unwrap();
            let binds: Vec<String> =
                asked().into_iter().filter(|asked| asked.starts_with("bind")).collect();
            assert_eq!(binds, expected, "{slot_version:?} {by_number}");
        }
        // Two ways to write the protocol, then the name.
        tell(|told| told.by_number = false);
        open::<Fake>(wanted(Some(21))).unwrap();
        assert_eq!(asked().iter().filter(|asked| asked.starts_with("bind")).count(), 3);
    }

    #[test]
    fn a_short_header_without_direction_is_given_up_for_the_long_one() {
        tell(|told| (told.slot_version, told.header) = (16, 36));
        let (_, _, _, slot_version) = open::<Fake>(wanted(Some(16))).unwrap();
        assert_eq!(slot_version, 16);
        let asked = asked();
        assert_eq!(asked.iter().filter(|asked| *asked == "socket").count(), 2);
        assert_eq!(asked.iter().filter(|asked| *asked == "127=[0]").count(), 1);
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Told), expected: &str) {
        tell(change);
        let error = open::<Fake>(wanted(None)).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), expected);
        tell(|told| (told.fails, told.slot_version, told.total) = (None, 21, None));
        // What was refused is not used any further.
        assert!(!asked().iter().any(|asked| asked.starts_with("106=")));
    }

    #[test]
    fn refusals_name_the_thing_and_the_remedy() {
        refused(
            |told| told.fails = Some(("socket", libc::EAFNOSUPPORT)),
            "PF_RING's kernel module is not loaded: `modprobe pf_ring`, or take another `engine` \
             (Address family not supported by protocol (os error 97))",
        );
        refused(
            |told| told.fails = Some(("socket", libc::EPERM)),
            "it needs CAP_NET_RAW, and of older modules CAP_NET_ADMIN (Operation not permitted (os error 1))",
        );
        refused(
            |told| told.fails = Some(("117", libc::EINVAL)),
            "the kernel module does not take the watermark: Invalid argument (os error 22)",
        );
        refused(
            |told| told.fails = Some(("bind", libc::EINVAL)),
            "the kernel module does not bind to the interface: Invalid argument (os error 22)",
        );
        for slots in [0, 15, 19, 22, u16::MAX] {
            refused(
                |told| told.slot_version = slots,
                &format!(
                    "the kernel module's rings are of slot version {slots}; 16, 17, 18, 20 and 21 are \
                     known here, on x86_64: install libpfring and set `access = \"library\"` in \
                     `[capture.pf_ring]`"
                ),
            );
        }
        refused(
            |told| told.total = Some(1 << 40),
            "the kernel module shares no ring: its control block tells of 1099511627776 bytes with \
             slots of 464, which is no ring",
        );
    }

    #[test]
    fn names_that_do_not_fit_into_an_address_are_not_cut() {
        assert!(address_by_name("enp129s0f0np01").is_some());
        assert_eq!(address_by_name("enp129s0f0np012"), None);
    }
}
