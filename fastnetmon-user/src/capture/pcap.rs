//! libpcap, live: for what the other engines cannot open, `any` included.
//!
//! A port towards the world has two captures, one of what arrives and one of what leaves, since an
//! Ethernet frame does not say which way it went; a filter in the kernel keeps what the other one
//! takes out of its ring, so that losses are told once. A mirror port has one, of what arrives.
//!
//! **Invariant**: a frame is handed over once or told as lost (`pcap_stats`). libpcap says nothing when
//! a port goes, so it is looked for every second.

use std::time::Duration;

use pcap::{Active, Capture, Direction as Seen, Error};
use rustix::event::{PollFd, PollFlags};
use socket2::{SockFilter, SockRef};

use crate::capture::engine_settings::PcapSettings;
use crate::capture::link::{Link, Way};
use crate::capture::trouble::{AWAY, Trouble, told};
use crate::capture::waiting::{broken, wait};
use crate::capture::{CaptureError, Engine, Intake, Polled};
use crate::kernel::{self, ANY, Port, Role};
use crate::model::{Moment, Sides};

/// What one thread sees of its ports.
#[derive(Debug)]
pub struct PcapEngine {
    ports: Vec<Watched>,
    settings: PcapSettings,
    now: fn() -> Moment,
    /// When the ports are looked for the next time.
    next_look: Moment,
}

/// A port and what is captured there.
#[derive(Debug)]
struct Watched {
    port: Port,
    /// Empty while the port is away.
    taps: Vec<Tap>,
    /// Number of its interface; 0 for all of them.
    index: u32,
    trouble: Option<Trouble>,
}

/// One capture.
struct Tap {
    capture: Capture<Active>,
    link: Link,
    sides: Sides,
    /// What the library had told as dropped the last time; 32 bits that go round.
    dropped: u32,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { link, sides, dropped, .. } = self;
        f.debug_struct("Tap")
            .field("link", link)
            .field("sides", sides)
            .field("dropped", dropped)
            .finish_non_exhaustive()
    }
}

impl PcapEngine {
    /// Opens the ports, spread over so many engines at most: libpcap does not share one port among
    /// threads.
    ///
    /// # Errors
    /// The first port that cannot be opened; the others are let go.
    pub fn open(
        ports: &[Port],
        threads: usize,
        settings: &PcapSettings,
        now: fn() -> Moment,
    ) -> Result<Vec<Self>, CaptureError> {
        let mut watched = Vec::new();
        for port in ports {
            let (taps, index) = taps(port, settings)?;
            watched.push(Watched { port: port.clone(), taps, index, trouble: None });
        }
        let share = watched.len().div_ceil(threads.max(1)).max(1);
        let mut engines = Vec::new();
        while !watched.is_empty() {
            let rest = watched.split_off(share.min(watched.len()));
            let ports = std::mem::replace(&mut watched, rest);
            engines.push(Self { ports, settings: settings.clone(), now, next_look: now() });
        }
        Ok(engines)
    }

    /// How many engines so many ports and threads make.
    pub fn engines(ports: usize, threads: usize) -> usize {
        ports.div_ceil(ports.div_ceil(threads.max(1)).max(1))
    }

    fn wait(&self, patience: Duration) -> Result<(), CaptureError> {
        let taps = self.ports.iter().flat_map(|watched| &watched.taps);
        let mut polled: Vec<PollFd<'_>> =
            taps.map(|tap| PollFd::new(&tap.capture, PollFlags::IN)).collect();
        wait(&mut polled, patience).map_err(broken(Self::NAME))
    }

    fn drain(&mut self, intake: &mut impl Intake) -> Polled {
        let now = (self.now)();
        let mut polled = Polled::default();
        for watched in &mut self.ports {
            polled += watched.drain(now, intake);
        }
        polled
    }
}

impl Engine for PcapEngine {
    const NAME: &'static str = "pcap";

    fn poll(
        &mut self,
        patience: Duration,
        intake: &mut impl Intake,
    ) -> Result<Polled, CaptureError> {
        let mut polled = self.drain(intake);
        if polled.taken == 0 {
            self.wait(patience)?;
            polled += self.drain(intake);
        }
        for tap in self.ports.iter_mut().flat_map(|watched| &mut watched.taps) {
            polled.lost += tap.new_losses();
        }
        let now = (self.now)();
        let is_troubled = self.ports.iter().any(|watched| watched.trouble.is_some());
        if now >= self.next_look || is_troubled {
            self.next_look = now + LOOK;
            for watched in &mut self.ports {
                polled += watched.tend(now, &self.settings, intake);
            }
        }
        Ok(polled)
    }

    fn trouble(&self) -> Option<CaptureError> {
        let ports = self.ports.iter().map(|watched| (&watched.port, watched.trouble.as_ref()));
        told(Self::NAME, ports)
    }
}

impl Watched {
    fn drain(&mut self, now: Moment, intake: &mut impl Intake) -> Polled {
        let mut polled = Polled::default();
        for tap in &mut self.taps {
            match tap.drain(now, intake) {
                Ok(taken) => polled.taken += taken,
                Err(error) if self.trouble.is_none() => {
                    let reason = said(&error);
                    self.trouble = Some(Trouble::new(now, reason));
                }
                Err(_known) => {}
            }
        }
        polled
    }

    /// Looks whether the port is still the one that was opened, and opens it anew where it is not.
    fn tend(&mut self, now: Moment, settings: &PcapSettings, intake: &mut impl Intake) -> Polled {
        let mut polled = Polled::default();
        if self.port.interface == ANY && self.trouble.is_none() {
            return polled;
        }
        if self.trouble.as_ref().is_some_and(|trouble| !trouble.is_due(now)) {
            return polled;
        }
        let there = kernel::interfaces().unwrap_or_default();
        let there = there.get(&self.port.interface).copied().unwrap_or_default();
        if self.trouble.is_none() && there.up && there.index == self.index {
            return polled;
        }
        if !there.up && self.port.interface != ANY {
            self.trouble = Some(Trouble::after(self.trouble.as_ref(), now, AWAY.to_owned()));
            return polled;
        }
        // What the captures still hold is handed over before they are closed. The same interface may
        // have come up again: the kernel has hooked them up then (`packet_notifier`).
        let trouble = self.trouble.take();
        polled += self.drain(now, intake);
        if self.trouble.is_none() && there.index == self.index && !self.taps.is_empty() {
            return polled;
        }
        self.trouble = trouble;
        polled.lost += self.taps.iter_mut().map(Tap::new_losses).sum::<u64>();
        self.taps.clear();
        match taps(&self.port, settings) {
            Ok((taps, index)) => {
                (self.taps, self.index) = (taps, index);
                self.trouble = None;
            }
            Err(error) => {
                let before = self.trouble.as_ref();
                self.trouble = Some(Trouble::after(before, now, error.to_string()));
            }
        }
        polled
    }
}

impl Tap {
    /// Hands over what the ring holds, within bounds.
    fn drain(&mut self, now: Moment, intake: &mut impl Intake) -> Result<u64, Error> {
        let Self { capture, link, sides, .. } = self;
        let mut taken = 0;
        let outcome = capture.dispatch(Some(BATCH), |packet| {
            let opened = link.open(packet.data, packet.header.len);
            intake.frame(now, *sides, &opened.frame);
            taken += 1;
        });
        match outcome {
            Ok(_) | Err(Error::TimeoutExpired) => Ok(taken),
            // What came before it was handed over.
            Err(error) if taken == 0 => Err(error),
            Err(_again) => Ok(taken),
        }
    }

    /// Frames that found no room since the last look.
    fn new_losses(&mut self) -> u64 {
        let Ok(stats) = self.capture.stats() else { return 0 };
        let new = stats.dropped.wrapping_sub(self.dropped);
        self.dropped = stats.dropped;
        new.into()
    }
}

/// The captures of a port and the number of its interface.
fn taps(port: &Port, settings: &PcapSettings) -> Result<(Vec<Tap>, u32), CaptureError> {
    let interface = port.interface.as_str();
    let there = kernel::interfaces().unwrap_or_default();
    let there = there.get(interface).copied().unwrap_or_default();
    if !there.up && interface != ANY {
        let reason = format!("it is down or gone: bring it up first, `ip link set {interface} up`");
        return Err(refused(interface, "watch it", reason));
    }
    let taps = match port.role {
        Role::Uplink => vec![
            tap(interface, settings, Way::Arrives, Way::Arrives.sides())?,
            tap(interface, settings, Way::Leaves, Way::Leaves.sides())?,
        ],
        Role::Mirror => vec![tap(interface, settings, Way::Arrives, Sides::Both)?],
    };
    Ok((taps, there.index))
}

/// Opens one capture.
fn tap(
    interface: &str,
    settings: &PcapSettings,
    way: Way,
    sides: Sides,
) -> Result<Tap, CaptureError> {
    let cannot = |what| move |error: Error| refused(interface, what, said(&error));
    let PcapSettings { snaplen_bytes, buffer_mb, immediate, timeout_ms } = *settings;
    let snaplen = snaplen_bytes.number();
    let capture = Capture::from_device(interface)
        .map_err(cannot("name it to libpcap"))?
        .promisc(sides == Sides::Both && interface != ANY)
        .snaplen(snaplen.cast_signed())
        .buffer_size(buffer_mb.number().cast_signed().saturating_mul(1 << 20))
        .immediate_mode(immediate)
        .timeout(timeout_ms.number().cast_signed())
        .open()
        .and_then(Capture::setnonblock)
        .map_err(cannot("open it with libpcap"))?;
    let seen = match way {
        Way::Arrives => Seen::In,
        Way::Leaves => Seen::Out,
    };
    // The library leaves out what came before the kernel was told to, the kernel all that comes
    // after: two rings would else tell of one loss.
    capture.direction(seen).map_err(cannot("tell the directions of its frames apart"))?;
    SockRef::from(&capture).attach_filter(&only(way, snaplen)).map_err(|error| {
        refused(interface, "have the kernel filter its frames", error.to_string())
    })?;
    let kind = capture.get_datalink();
    let number = u32::try_from(kind.0).unwrap_or(u32::MAX);
    let name = kind.get_name().unwrap_or_else(|_unnamed| "without a name".to_owned());
    let link = Link::numbered(number, &name)
        .map_err(|error| refused(interface, "read its frames", error.to_string()))?;
    Ok(Tap { capture, link, sides, dropped: 0 })
}

/// Four instructions (`linux/filter.h`): the packet's type, whether it is `PACKET_OUTGOING`, and how
/// much of it is wanted.
const fn only(way: Way, bytes: u32) -> [SockFilter; 4] {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const PACKET_TYPE: u32 = (-0x1000_i32 + 4).cast_unsigned();
    const OUTGOING: u32 = 4;
    let (outgoing, others) = match way {
        Way::Arrives => (0, bytes),
        Way::Leaves => (bytes, 0),
    };
    [
        SockFilter::new(LOAD_BYTE, 0, 0, PACKET_TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, OUTGOING),
        SockFilter::new(RETURN, 0, 0, outgoing),
        SockFilter::new(RETURN, 0, 0, others),
    ]
}

fn refused(interface: &str, what: &'static str, reason: String) -> CaptureError {
    CaptureError::Refused { interface: interface.to_owned(), what, reason }
}

/// What libpcap says, and the remedy where it is known.
fn said(error: &Error) -> String {
    let text = match error {
        Error::PcapError(text) => text.clone(),
        other => other.to_string(),
    };
    let denied = text.contains("permission") || text.contains("not permitted");
    if denied { format!("{text}; it needs CAP_NET_RAW") } else { text }
}

/// Frames of one capture before the next one's turn.
const BATCH: usize = 4096;
/// How often the ports are looked for.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_spread_over_no_more_threads_than_there_are_ports() {
        for (ports, threads, expected) in
            [(1, 8, 1), (2, 8, 2), (3, 2, 2), (5, 4, 3), (4, 4, 4), (3, 0, 1)]
        {
            assert_eq!(PcapEngine::engines(ports, threads), expected, "{ports} {threads}");
        }
    }

    #[test]
    fn a_refusal_for_want_of_rights_names_the_right() {
        let error = Error::PcapError("socket: Operation not permitted".to_owned());
        assert_eq!(said(&error), "socket: Operation not permitted; it needs CAP_NET_RAW");
        assert_eq!(said(&Error::PcapError("no such device".to_owned())), "no such device");
    }
}
