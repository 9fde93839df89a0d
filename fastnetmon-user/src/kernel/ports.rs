//! What the system says of its interfaces: names, losses, queues, speed.
//!
//! **Invariant**: asked by socket calls, never by /sys, which shows the interfaces of the
//! namespace it was mounted in and not of the one we run in.
#![expect(unsafe_code, reason = "getifaddrs(3) and the ethtool requests have no safe form")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;

use crate::kernel::KernelError;

/// One interface, as the kernel counts it (`rtnl_link_stats`, `linux/if_link.h`; 32 bits, so take
/// differences).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    /// Frames received.
    pub received: u32,
    /// Frames the port had to leave: missed, no buffer, queue overrun.
    pub missed: u32,
    /// Its number; another one when an interface of the same name was made anew.
    pub index: u32,
    /// Is it up?
    pub up: bool,
}

/// All interfaces of this namespace, by name.
///
/// # Errors
/// When the system does not say.
pub fn interfaces() -> io::Result<BTreeMap<String, Interface>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the call writes one pointer to a place of ours.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = BTreeMap::new();
    let mut next = NonNull::new(list);
    while let Some(entry) = next {
        // SAFETY: an entry of the list, which lives until it is freed below.
        let entry = unsafe { entry.as_ref() };
        next = NonNull::new(entry.ifa_next);
        // SAFETY: every entry has a name that ends with a zero byte.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        let index = match NonNull::new(entry.ifa_addr) {
            Some(address) => {
                // SAFETY: an address begins with its family.
                let family = unsafe { address.as_ref() }.sa_family;
                if i32::from(family) != libc::AF_PACKET {
                    continue;
                }
                // SAFETY: an address of the packet family is a `sockaddr_ll`.
                let link: libc::sockaddr_ll = unsafe { address.cast().read_unaligned() };
                link.sll_ifindex.cast_unsigned()
            }
            // Tunnels, and what else has no hardware address: only links have counters.
            None if !entry.ifa_data.is_null() => {
                // SAFETY: every entry has a name that ends with a zero byte.
                unsafe { libc::if_nametoindex(entry.ifa_name) }
            }
            None => continue,
        };
        let mut interface = Interface {
            index,
            up: entry.ifa_flags & libc::IFF_UP.cast_unsigned() != 0,
            ..Interface::default()
        };
        if let Some(data) = NonNull::new(entry.ifa_data) {
            // SAFETY: for the packet family this is `rtnl_link_stats`: 23 counters of 32 bits.
            let counters: [u32; 23] = unsafe { data.cast().read_unaligned() };
            let [received, _, _, _, _, _, _, _, _, _, _, over, _, _, fifo, missed, ..] = counters;
            interface.received = received;
            interface.missed = over.wrapping_add(fifo).wrapping_add(missed);
        }
        found.insert(name, interface);
    }
    // SAFETY: the list came from `getifaddrs` and nothing points into it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// All interfaces at once, as libpcap names them.
pub const ANY: &str = "any";

/// Refuses a name no interface has.
///
/// # Errors
/// With the names there are.
pub fn must_exist(interface: &str) -> Result<(), KernelError> {
    let there = interfaces().unwrap_or_default();
    if there.contains_key(interface) {
        return Ok(());
    }
    let there: Vec<&str> = there.keys().map(String::as_str).collect();
    Err(KernelError::NoInterface { interface: interface.to_owned(), there: there.join(", ") })
}

/// `struct ethtool_channels` (linux/ethtool.h).
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    most: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_cmd` (linux/ethtool.h), the parts behind `speed` unread.
#[repr(C)]
#[derive(Default)]
struct Settings {
    cmd: u32,
    modes: [u32; 2],
    speed_low: u16,
    rest: [u8; 14],
    speed_high: u16,
    tail: [u8; 14],
}

/// `struct ethtool_drvinfo` (linux/ethtool.h); versions, addresses and what stands last unread.
#[repr(C)]
struct Driver {
    cmd: u32,
    name: [u8; 32],
    rest: [u8; 140],
    flags: u32,
    counters: u32,
    tail: [u32; 3],
}

const ETHTOOL_GSET: u32 = 0x01;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// How many receive queues an interface has, at least one; `None` where the driver does not tell.
pub fn receive_queues(interface: &str) -> Option<u32> {
    let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
    ethtool(interface, &mut channels).ok()?;
    Some(channels.rx.saturating_add(channels.combined).max(1))
}

/// The number the kernel knows an interface by.
pub(super) fn number(interface: &str) -> Result<u32, KernelError> {
    let name = CString::new(interface).unwrap_or_default();
    // SAFETY: a name that ends with a zero byte, which outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => {
            let reason = io::Error::last_os_error().to_string();
            must_exist(interface)?;
            Err(KernelError::Seat { reason })
        }
        number => Ok(number),
    }
}

/// How many CPUs may receive from these interfaces at a time: their queues, but no more than there
/// are CPUs.
pub fn receiving_cpus(interfaces: &[&str], cpus: u32) -> u32 {
    let mut queues = 0_u32;
    for interface in interfaces {
        queues = queues.saturating_add(receive_queues(interface).unwrap_or(cpus));
    }
    queues.clamp(1, cpus.max(1))
}

/// The link's speed in megabits a second, where the driver tells it.
pub fn speed_mbps(interface: &str) -> Option<u32> {
    let mut settings = Settings { cmd: ETHTOOL_GSET, ..Settings::default() };
    ethtool(interface, &mut settings).ok()?;
    let speed = (u32::from(settings.speed_high) << 16) | u32::from(settings.speed_low);
    // SPEED_UNKNOWN is -1 (linux/ethtool.h).
    Some(speed).filter(|&speed| speed != 0 && speed != u32::MAX)
}

fn driver_of(interface: &str) -> Option<Driver> {
    let mut driver = Driver {
        cmd: ETHTOOL_GDRVINFO,
        name: [0; 32],
        rest: [0; 140],
        flags: 0,
        counters: 0,
        tail: [0; 3],
    };
    ethtool(interface, &mut driver).ok()?;
    Some(driver)
}

/// How many counters of its own the driver has.
pub(super) fn driver_counters(interface: &str) -> Option<usize> {
    usize::try_from(driver_of(interface)?.counters).ok()
}

/// The driver's name, where the interface has one that tells it.
pub(super) fn driver(interface: &str) -> Option<String> {
    let driver = driver_of(interface)?;
    let end = driver.name.iter().position(|&byte| byte == 0)?;
    let name = String::from_utf8_lossy(driver.name.get(..end)?).into_owned();
    Some(name).filter(|name| !name.is_empty())
}

/// The longest packet the interface takes, without its link header.
pub fn mtu(interface: &str) -> Option<u32> {
    let mut ifreq = named(interface).ok()?;
    ask(libc::SIOCGIFMTU, &mut ifreq).ok()?;
    // SAFETY: the request writes this field of the union, which is a number.
    let mtu = unsafe { ifreq.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).ok()
}

/// Asks or tells the driver. `request` must be the struct of the command it begins with.
pub(super) fn ethtool<T>(interface: &str, request: &mut T) -> io::Result<()> {
    let mut ifreq = named(interface)?;
    ifreq.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
    // `ifreq` points to a request of the size its command implies, which outlives the call.
    ask(libc::SIOCETHTOOL, &mut ifreq)
}

/// The same for a request whose length the driver tells: there must be room for what it answers.
pub(super) fn ethtool_words(interface: &str, request: &mut [u32]) -> io::Result<()> {
    let mut ifreq = named(interface)?;
    ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // `ifreq` points to words that outlive the call, more of them than the driver said it has.
    ask(libc::SIOCETHTOOL, &mut ifreq)
}

/// A request about an interface.
fn named(interface: &str) -> io::Result<libc::ifreq> {
    let name = CString::new(interface)?;
    // SAFETY: all zero is a valid `ifreq`.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in ifreq.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    Ok(ifreq)
}

fn ask(what: libc::Ioctl, ifreq: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: makes a descriptor and nothing else.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the caller filled in what the request wants, and it outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(ifreq)) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
