//! PF_RING: the kernel module's rings, read by its socket or by its library.
//!
//! Two ways lead to a [`ring`]. [`socket`] speaks to the kernel module itself and needs nothing but the
//! module; [`image`] is its ring as bytes, pure. [`library`] calls libpfring, which the operator has
//! installed, and is the way for devices that only it knows (`zc:eth0`). Each thread has a ring of its
//! own at each port; a cluster shares the packets between them by their two addresses.
//!
//! **Invariant**: a packet is handed over once or told as lost. A ring whose interface went away stays
//! silent, so the links are watched, and what is not seen is an alarm.

mod image;
#[cfg(feature = "pf-ring-library")]
mod library;
#[cfg(not(feature = "pf-ring-library"))]
#[path = "no_library.rs"]
mod library;
mod links;
mod merged;
mod module;
mod ring;
mod socket;

use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use self::links::Links;
use self::ring::{Refusal, Ring, Way, mtu, named_way, open_or_turn, open_ring, refused};
use crate::capture::settings::PfRing;
use crate::capture::trouble::{AWAY, PAUSE, Trouble, longer, told};
use crate::capture::waiting::{broken, wait};
use crate::capture::{CaptureError, Engine, Intake, Polled};
use crate::kernel::{self, Port, Role};
use crate::model::Moment;

/// What one thread sees of all ports.
#[derive(Debug)]
pub struct PfRingEngine {
    ports: Vec<Watched>,
    links: Links,
    /// When links are asked about although nothing woke us.
    look: Moment,
    now: fn() -> Moment,
}

/// Engines that are open, and what an operator should know of them.
#[derive(Debug)]
pub struct PfRingOpened {
    /// One for each thread.
    pub engines: Vec<PfRingEngine>,
    /// How the rings are reached, in a few words.
    pub way: String,
    /// What may be less than expected.
    pub remarks: Vec<String>,
}

/// A port and this thread's ring there.
#[derive(Debug)]
struct Watched {
    port: Port,
    way: Way,
    cluster: Option<u32>,
    /// Number of the interface that the ring is at.
    index: u32,
    /// The longest packet it takes; 0: not known.
    mtu: u32,
    /// `None` while there is nothing to see.
    ring: Option<Ring>,
    /// How long is waited when it breaks off, and since when it did not.
    pause: Duration,
    opened: Moment,
    trouble: Option<Trouble>,
}

/// The kernel module that is loaded, in a few words: its release and the layout of its rings.
pub fn pf_ring_module() -> Option<String> {
    module::loaded().map(|loaded| loaded.name())
}

/// The interface a port's name means: `zc:eth0@1` is a queue of `eth0`.
pub fn pf_ring_interface(name: &str) -> &str {
    let device = name.rsplit_once(':').map_or(name, |(_module, device)| device);
    device.split_once('@').map_or(device, |(interface, _queue)| interface)
}

impl PfRingEngine {
    /// Opens the ports for so many threads: one engine for each.
    ///
    /// # Errors
    /// The first port that cannot be opened; the others are let go.
    pub fn open(
        ports: &[Port],
        threads: NonZeroU32,
        settings: &PfRing,
        now: fn() -> Moment,
    ) -> Result<PfRingOpened, CaptureError> {
        let loaded = module::loaded();
        let mut engines: Vec<Self> = (0..threads.get())
            .map(|_| Self { ports: Vec::new(), links: Links::listen(), look: now(), now })
            .collect();
        let mut remarks = Vec::new();
        if loaded.as_ref().is_some_and(|loaded| loaded.hides_leaving)
            && ports.iter().any(|port| port.role == Role::Uplink)
        {
            remarks.push(
                "PF_RING's kernel module was loaded with `enable_tx_capture=0`: what leaves is not \
                 seen, and outgoing attacks are not found"
                    .to_owned(),
            );
        }
        let mut ways: Vec<String> = Vec::new();
        for (port, number) in ports.iter().zip(0..) {
            // A cluster is shared by rings of one port only: it would give packets of one port to a
            // ring of another, which does not take them.
            let cluster = (threads.get() > 1)
                .then(|| u32::from(settings.cluster_id.saturating_add(number).get()));
            let mut way = named_way(port, settings)?;
            for engine in &mut engines {
                let (ring, index) =
                    open_or_turn(port, &mut way, cluster, settings, loaded.as_ref())?;
                remarks.extend(ring.remark(loaded.as_ref()));
                let way = way.clone();
                let (port, ring, trouble) = (port.clone(), Some(ring), None);
                let (pause, opened, mtu) = (PAUSE, now(), mtu(&port));
                engine.ports.push(Watched {
                    port,
                    way,
                    cluster,
                    index,
                    mtu,
                    ring,
                    pause,
                    opened,
                    trouble,
                });
            }
            match way {
                Way::Socket => ways.push("its kernel socket".to_owned()),
                Way::Library(access) => {
                    remarks.extend(access.remark());
                    ways.push(access.name());
                }
            }
        }
        // All rings are in their clusters: from here on none of them sees what another one should.
        for engine in &mut engines {
            for watched in &mut engine.ports {
                watched.activate()?;
            }
        }
        for list in [&mut ways, &mut remarks] {
            list.sort();
            list.dedup();
        }
        let module = loaded.map_or_else(|| "PF_RING".to_owned(), |loaded| loaded.name());
        let way = format!("{module} by {}", ways.join(" and "));
        Ok(PfRingOpened { engines, way, remarks })
    }

    /// Waits until a packet is there, at most `patience`. Rings that have something to complain of are
    /// put aside.
    fn wait(&self, patience: Duration) -> Result<Vec<bool>, CaptureError> {
        let rings: Vec<Option<BorrowedFd<'_>>> =
            self.ports.iter().map(Watched::descriptor).collect();
        let mut polled: Vec<PollFd<'_>> = rings
            .iter()
            .flatten()
            .copied()
            .chain(self.links.descriptor())
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let blind = self
            .ports
            .iter()
            .zip(&rings)
            .any(|(watched, ring)| watched.ring.is_some() && ring.is_none());
        let patience = if blind { patience.min(WITHOUT_WAKING) } else { patience };
        wait(&mut polled, patience).map_err(broken(Self::NAME))?;
        let wrong = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        let mut complaints = polled.iter().map(|polled| polled.revents().intersects(wrong));
        let complains =
            |ring: &Option<BorrowedFd<'_>>| ring.is_some() && complaints.next().unwrap_or_default();
        Ok(rings.iter().map(complains).collect())
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

impl Engine for PfRingEngine {
    const NAME: &'static str = "pf_ring";

    fn poll(
        &mut self,
        patience: Duration,
        intake: &mut impl Intake,
    ) -> Result<Polled, CaptureError> {
        let mut polled = self.drain(intake);
        let waited = polled.taken == 0;
        if waited {
            let complaints = self.wait(patience)?;
            // Whatever the poll said: a ring below its watermark is not told of.
            polled += self.drain(intake);
            let now = (self.now)();
            for (watched, _) in
                self.ports.iter_mut().zip(complaints).filter(|&(_, complains)| complains)
            {
                polled += watched.complain(now);
            }
        }
        let now = (self.now)();
        // Whenever we waited, and now and then under load.
        let mut changed = false;
        if waited || now >= self.look {
            self.look = now + BETWEEN_LOOKS;
            changed = self.links.changed(now);
        }
        for watched in &mut self.ports {
            polled += watched.tend(now, changed, intake);
            polled.lost += watched.ring.as_mut().map_or(0, Ring::new_losses);
        }
        Ok(polled)
    }

    fn trouble(&self) -> Option<CaptureError> {
        let ports = self.ports.iter().map(|watched| (&watched.port, watched.trouble.as_ref()));
        told(Self::NAME, ports)
    }
}

impl Watched {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.ring.as_ref().and_then(Ring::descriptor)
    }

    fn activate(&mut self) -> Result<(), CaptureError> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        ring.activate().map_err(|reason| refused(&self.port, "start its ring", reason))
    }

    /// Hands over what is there. A ring that tells nonsense is let go.
    fn drain(&mut self, now: Moment, intake: &mut impl Intake) -> Polled {
        let Some(ring) = &mut self.ring else { return Polled::default() };
        let (taken, outcome) = ring.drain(now, self.port.role, self.mtu, intake);
        let mut polled = Polled { taken, lost: 0 };
        if let Err(reason) = outcome {
            polled += self.break_off(now, reason);
        }
        polled
    }

    /// Something is wrong with the descriptor of the ring.
    fn complain(&mut self, now: Moment) -> Polled {
        let there = kernel::interfaces().unwrap_or_default();
        let there = there.get(pf_ring_interface(&self.port.interface));
        let is_up = there.is_some_and(|there| there.up);
        let reason = if is_up { "the kernel reports an error on its ring" } else { AWAY };
        self.break_off(now, reason.to_owned())
    }

    /// Lets the ring go, and is in trouble from now on.
    fn break_off(&mut self, now: Moment, reason: String) -> Polled {
        let polled = self.ring.take().map_or_else(Polled::default, Ring::abandon);
        // One that breaks again and again is asked ever less often.
        let is_again = now.since(self.opened) < CALM;
        self.pause = if is_again { longer(self.pause) } else { PAUSE };
        self.trouble = Some(Trouble::pausing(now, reason, self.pause));
        polled
    }

    /// Looks whether the port is still there, when links changed, and whether it is there again, when
    /// it was away.
    fn tend(&mut self, now: Moment, changed: bool, intake: &mut impl Intake) -> Polled {
        let due = match &mut self.trouble {
            Some(trouble) if trouble.is_due(now) => {
                trouble.put_off(now);
                true
            }
            _ => changed,
        };
        if !due {
            return Polled::default();
        }
        let there = kernel::interfaces().unwrap_or_default();
        let there = there.get(pf_ring_interface(&self.port.interface)).copied();
        self.mtu = mtu(&self.port);
        match there.filter(|there| there.up) {
            Some(there) if self.ring.is_some() && there.index == self.index => {
                self.trouble = None;
                Polled::default()
            }
            Some(_) => self.open_again(now, intake),
            None => {
                if self.trouble.is_none() {
                    let reason = AWAY.to_owned();
                    self.trouble = Some(Trouble::new(now, reason));
                }
                Polled::default()
            }
        }
    }

    /// The ring broke, or another interface has its name. The old ring first: it holds a place in the
    /// cluster.
    fn open_again(&mut self, now: Moment, intake: &mut impl Intake) -> Polled {
        let mut polled = self.drain(now, intake);
        if let Some(ring) = self.ring.take() {
            polled += ring.abandon();
        }
        let loaded = module::loaded();
        let opened = open_ring(&self.port, &self.way, self.cluster, loaded.as_ref());
        let opened = opened.map_err(Refusal::into_error).and_then(|(mut ring, index)| {
            match ring.activate() {
                Ok(()) => Ok((ring, index)),
                Err(reason) => Err(refused(&self.port, "start its ring", reason)),
            }
        });
        match opened {
            Ok((ring, index)) => {
                (self.ring, self.index, self.trouble) = (Some(ring), index, None);
                self.opened = now;
            }
            Err(error) => {
                let trouble = self.trouble.get_or_insert_with(|| Trouble::new(now, String::new()));
                trouble.reason = error.to_string();
            }
        }
        polled
    }
}

/// A ring that holds so long is trusted again.
const CALM: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How long is waited for a ring that nothing wakes us for.
const WITHOUT_WAKING: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_name_a_module_of_the_library_and_a_queue() {
        for (name, interface) in [
            ("eth0", "eth0"),
            ("zc:eth0", "eth0"),
            ("zc:eth0@3", "eth0"),
            ("eth0@1", "eth0"),
            ("eth0.100", "eth0.100"),
        ] {
            assert_eq!(pf_ring_interface(name), interface);
        }
    }
}
