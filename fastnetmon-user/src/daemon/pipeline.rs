//! The wiring: these lines are the drawing, with threads.
//!
//! ```text
//!  capture: std threads                           tick: one std thread                     actions: std threads
//!  Engine::poll ─► Writer                         (now given by the clock)
//!  kernel programs ────────► rows ──── read ────► Counters ─► RateTable ─► Judge ─ bounded ─► Crew ─► Script
//!      │ hint, stranger: wakes the tick early ────────▲                     ▲    │
//!      └ samples, frames ─► Evidence ◄── arm ── on Verdict::Ban                   Order  ▼
//!                        └── take, when full or due ─► Verdict::Details       Status ◄─ control: std threads
//! ```
//!
//! **Invariant**: everything that can fail is done before the first thread starts; what was done is
//! undone by dropping it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use fastnetmon_common::table::Limit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::actions::{Crew, Script};
use crate::capture::{
    self, AfXdpEngine, Bound, EgressName, Engine, EngineName, Polled, RoleName, XdpEngine,
};
use crate::control::Status;
use crate::counters::{Counters, Evidence, Writer};
use crate::daemon::control::Door;
use crate::daemon::tick::{About, Lookout, Tick, Wish};
use crate::daemon::{Settings, clock};
use crate::kernel::{self, Attached, Egress, Frozen, KernelError, Mode, Port, Role, Support};
use crate::model::Direction;
use crate::networks::{self, Guarded, NetworksError, Plan, PlanError, Territory};
use crate::rates::WINDOW;
use crate::tables::{Parts, Shape};
use crate::verdicts::{Judge, Policy};

/// Notices that wait for the tick, at most.
const NOTICES: usize = 65_536;

/// How long the capture thread waits for the rings before it looks at the stop flag.
const PATIENCE: Duration = Duration::from_millis(50);

/// The kernel's window is about this long.
const HINT_WINDOW: Duration = Duration::from_millis(128);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not allowed.
    #[error(
        "not permitted: {} missing; run as root, or grant them (in a unit: `AmbientCapabilities=`)",
        missing.join(", ")
    )]
    Capabilities {
        /// What is missing.
        missing: Vec<&'static str>,
    },
    /// No interface was named.
    #[error(
        "no interface: name the ports to watch with `--interface eth0,eth1` or `interfaces` in \
         `[capture]`"
    )]
    NoInterface,
    /// An interface was named twice.
    #[error("interface `{0}` is named twice: everything on it would be counted twice")]
    Twice(String),
    /// The networks cannot be known.
    #[error(transparent)]
    Networks(#[from] NetworksError),
    /// They cannot be laid out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// They need more memory than is allowed.
    #[error(
        "the tables would take {needed} MB ({slots} lines × 128 bytes × {writers} CPUs, and the \
         directory) and `max_table_mb` is {allowed}: guard fewer networks or allow more"
    )]
    Memory {
        /// Megabytes needed.
        needed: u64,
        /// Megabytes allowed.
        allowed: u64,
        /// Lines in one row and direction.
        slots: u32,
        /// Rows.
        writers: u32,
    },
    /// The control socket cannot be made.
    #[error("control socket `{}`: {reason}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The system refuses.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A thread of the agent ended by itself.
    #[error("the {0} thread ended by itself, which is a bug: the agent stops")]
    Thread(&'static str),
}

/// An agent that runs.
#[derive(Debug)]
pub(super) struct Running {
    signals: Signals,
    stop: Sender<()>,
    ended: Receiver<&'static str>,
    stopping: Arc<AtomicBool>,
    tick: JoinHandle<Crew>,
    captures: Vec<JoinHandle<()>>,
    attached: Attached,
    door: Arc<Door>,
}

/// Does everything that can fail, then starts the threads.
pub(super) fn start(settings: &Settings) -> Result<Running, StartError> {
    let ports = ports(settings)?;
    let guarded = networks::read(&settings.networks)?;
    for remark in &guarded.remarks {
        info!("{remark}.");
    }
    let Guarded { ours, whitelist, .. } = guarded;
    let (plan, writes) = Plan::new(&ours, settings.networks.ipv6_hosts)?;
    let shape = shape(&plan, settings)?;
    // Before the threads, so that each of them leaves these signals to this one.
    let signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|source| StartError::System { what: "listen for signals", source })?;
    let door = Door::open(&settings.control.socket)?;

    let support = Support::of_this_kernel()?;
    for remark in support.remarks() {
        warn!("{remark}");
    }
    let (mut object, parts, rings) = kernel::load(Frozen {
        shape,
        sparse_every: settings.capture.sparse_every,
        decapsulate: settings.capture.decapsulate,
        load_bytes: support.load_bytes,
    })?;
    let Parts { lines, directory, mut flags, limits } = parts;
    let is_mirror = settings.capture.role == RoleName::Mirror;
    if is_mirror {
        flags = flags.redirecting();
    }
    let territory = Territory::new(ours, plan, &writes, shape, vec![directory], vec![flags]);
    let limit = hint_limit(settings, &ports, shape.writers);
    for direction in Direction::BOTH {
        limits.set(0, direction, limit);
    }
    let started = clock::now();
    let counters = Counters::new(vec![lines], started);
    let sockets = if is_mirror { Some(object.sockets()?) } else { None };
    let attached = kernel::attach(object, &ports, egress(settings.capture.egress, support))?;
    let (takers, bound) = sockets
        .map_or((None, Vec::new()), |sockets| AfXdpEngine::open(sockets, &ports, clock::now));
    tell(&bound);

    let evidence = Arc::new(Evidence::default());
    let lost_notices = Arc::new(AtomicU64::new(0));
    let (ring, taker) = (Arc::new(Lookout::default()), Arc::new(Lookout::default()));
    let about = About {
        engine: settings.capture.engine.name(),
        role: role_name(settings.capture.role),
        evidence: capture::evidence_by(&bound),
        interfaces: ports.iter().map(|port| port.interface.clone()).collect(),
        started,
    };
    let shown = Arc::new(Mutex::new(Arc::new(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: about.engine.to_owned(),
        role: about.role.to_owned(),
        evidence: about.evidence.clone(),
        interfaces: about.interfaces.clone(),
        networks: u64::try_from(territory.ours().len()).unwrap_or(u64::MAX),
        ..Status::default()
    })));
    let system = |what| move |source| StartError::System { what, source };
    let (deeds, done) = bounded(1024);
    let crew = Crew::start(
        &Script::new(settings.notify.script.clone()),
        settings.notify.concurrency.get(),
        settings.notify.timeout_secs.duration(),
        &deeds,
    )
    .map_err(system("start the action threads"))?;
    let tick = Tick {
        span: settings.capture.tick_ms.duration(),
        counters,
        territory,
        judge: Judge::new(policy(settings, whitelist), []),
        evidence: Arc::clone(&evidence),
        packets: settings.notify.packets.get(),
        crew,
        lost_notices: Arc::clone(&lost_notices),
        ring: Arc::clone(&ring),
        taker: Arc::clone(&taker),
        shown: Arc::clone(&shown),
        about,
        longest: longest_span(&ports),
        done,
    };

    let (notices, noticed) = bounded(NOTICES);
    let (wishes, wished) = bounded::<Wish>(64);
    let (stop, stopped) = bounded::<()>(0);
    let (end, ended) = bounded(4);
    let stopping = Arc::new(AtomicBool::new(false));
    let mut engine = XdpEngine::new(rings);
    let writer = || Writer::new(Arc::clone(&evidence), notices.clone(), Arc::clone(&lost_notices));
    let mut captures = vec![spawn("capture", &end, {
        let (stopping, writer) = (Arc::clone(&stopping), writer());
        move || capture(&mut engine, writer, &stopping, &ring)
    })?];
    if let Some(mut engine) = takers {
        captures.push(spawn("af_xdp", &end, {
            let (stopping, writer) = (Arc::clone(&stopping), writer());
            move || capture(&mut engine, writer, &stopping, &taker)
        })?);
    }
    let tick = spawn("tick", &end, move || {
        // Held here, so that the channel stays open when the capture breaks.
        let _notices = notices;
        tick.run(&noticed, &wished, &stopped)
    })?;
    let door = Arc::new(door);
    spawn("control", &end, {
        let door = Arc::clone(&door);
        move || door.serve(&shown, &wishes)
    })?;
    Ok(Running { signals, stop, ended, stopping, tick, captures, attached, door })
}

impl Running {
    /// Waits for a signal or for the end of a thread that should not end.
    pub(super) fn wait(self) -> Result<(), StartError> {
        let Self { mut signals, stop, ended, stopping, tick, captures, attached, door } = self;
        let handle = signals.handle();
        let (asked, asks) = bounded(1);
        let listener = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    // The first one is enough.
                    if asked.try_send(signal).is_err() {
                        break;
                    }
                }
            })
            .map_err(|source| StartError::System { what: "listen for signals", source })?;
        let outcome = crossbeam_channel::select! {
            recv(asks) -> signal => {
                info!(signal = signal.unwrap_or_default(), "The agent ends.");
                Ok(())
            }
            recv(ended) -> name => Err(StartError::Thread(name.unwrap_or("unknown"))),
        };
        // The port first: whatever follows, traffic flows as if we had never been there.
        drop(attached);
        door.close();
        stopping.store(true, Ordering::Relaxed);
        drop(stop);
        for capture in captures {
            if capture.join().is_err() {
                error!("A capture thread panicked.");
            }
        }
        match tick.join() {
            Ok(crew) => crew.finish(),
            Err(_panic) => error!("The tick thread panicked."),
        }
        handle.close();
        if listener.join().is_err() {
            error!("The thread that listens for signals panicked.");
        }
        outcome
    }
}

/// Starts a thread that tells when it ends, panic included.
fn spawn<T: Send + 'static>(
    name: &'static str,
    end: &Sender<&'static str>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    /// Speaks when it is dropped, however that comes.
    struct Last(&'static str, Sender<&'static str>);
    impl Drop for Last {
        fn drop(&mut self) {
            // Nobody listens any more once the agent ends.
            let _unheard = self.1.try_send(self.0);
        }
    }
    let last = Last(name, end.clone());
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _last = last;
            work()
        })
        .map_err(|source| StartError::System { what: "start a thread", source })
}

/// Looks until it is told to stop. A capture that breaks is an alarm, and tried again.
fn capture(engine: &mut impl Engine, mut writer: Writer, stopping: &AtomicBool, lookout: &Lookout) {
    while !stopping.load(Ordering::Relaxed) {
        let outcome = engine.poll(PATIENCE, &mut writer);
        let mut alarm = lookout.broken.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(Polled { taken, lost }) => {
                lookout.taken.fetch_add(taken, Ordering::Relaxed);
                lookout.lost.fetch_add(lost, Ordering::Relaxed);
                if alarm.take().is_some() {
                    info!("The capture works again.");
                }
            }
            Err(error) => {
                if alarm.is_none() {
                    error!(%error, "The capture is broken; it is tried again.");
                }
                *alarm = Some(error.to_string());
                drop(alarm);
                #[expect(clippy::disallowed_methods, reason = "a breath between two attempts")]
                std::thread::sleep(PATIENCE);
            }
        }
    }
}

fn ports(settings: &Settings) -> Result<Vec<Port>, StartError> {
    let capture = &settings.capture;
    let mut ports: Vec<Port> = Vec::new();
    for interface in &capture.interfaces {
        let interface = interface.trim().to_owned();
        if ports.iter().any(|port| port.interface == interface) {
            return Err(StartError::Twice(interface));
        }
        ports.push(Port {
            interface,
            role: match capture.role {
                RoleName::Uplink => Role::Uplink,
                RoleName::Mirror => Role::Mirror,
            },
            mode: match capture.engine {
                EngineName::Xdp => Mode::Native,
                EngineName::XdpGeneric => Mode::Generic,
            },
        });
    }
    if ports.is_empty() { Err(StartError::NoInterface) } else { Ok(ports) }
}

/// Says how packets of banned hosts will come.
fn tell(bound: &[Bound]) {
    for port in bound {
        let (interface, queues) = (&port.interface, port.queues);
        let with = port.zero_copy + port.copy;
        if with > 0 {
            let (way, because) = (port.way(), port.copied_because.as_deref());
            info!(interface, sockets = with, %way, because, "Packets of banned hosts come by AF_XDP.");
        }
        if let Some(reason) = &port.refused {
            let without = queues.saturating_sub(with);
            warn!(interface, without, %reason, "Queues have no AF_XDP socket; copies come through the ring.");
        }
    }
}

const fn egress(named: EgressName, support: Support) -> Egress {
    match named {
        EgressName::Auto if support.tcx => Egress::Tcx,
        EgressName::Auto | EgressName::Clsact => Egress::Clsact,
        EgressName::Tcx => Egress::Tcx,
    }
}

const fn role_name(role: RoleName) -> &'static str {
    match role {
        RoleName::Uplink => "uplink",
        RoleName::Mirror => "mirror",
    }
}

fn shape(plan: &Plan, settings: &Settings) -> Result<Shape, StartError> {
    let writers = kernel::possible_cpus()?;
    let shape = plan.shape(writers, seed());
    let needed = shape.bytes().div_ceil(1_000_000);
    let allowed = settings.capture.max_table_mb;
    if needed > allowed {
        let (slots, writers) = (shape.slots, writers.get());
        return Err(StartError::Memory { needed, allowed, slots, writers });
    }
    Ok(shape)
}

/// Not known to those who choose addresses.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}

/// A row's share of the threshold within the kernel's window: all rows may receive, and a burst may
/// lie across two windows.
fn hint_limit(settings: &Settings, ports: &[Port], writers: NonZeroU32) -> Limit {
    let names: Vec<&str> = ports.iter().map(|port| port.interface.as_str()).collect();
    let rows = u64::from(kernel::receiving_cpus(&names, writers.get()));
    let pps = u64::from(settings.thresholds.pps);
    let within = pps * u64::try_from(HINT_WINDOW.as_millis()).unwrap_or(128) / 1000;
    let packets = u32::try_from(within / rows / 2).unwrap_or(u32::MAX).max(1);
    Limit { packets, bytes16: 0 }
}

/// A counting word is exact for 1.5 s at 100 Gbit/s, for longer at less.
fn longest_span(ports: &[Port]) -> Duration {
    let mut mbps = 0_u64;
    for port in ports {
        mbps += kernel::speed_mbps(&port.interface).map_or(100_000, u64::from);
    }
    Duration::from_millis(150_000_000 / mbps.max(1)).clamp(WINDOW * 3 / 2, WINDOW * 60)
}

fn policy(settings: &Settings, whitelist: networks::PrefixSet) -> Policy {
    let ban_time = Some(settings.ban.time_secs).filter(|&secs| secs != 0);
    if !settings.notify.script.exists() {
        warn!(script = %settings.notify.script.display(), "There is no script yet; bans will only be listed and logged.");
    }
    Policy {
        pps: settings.thresholds.pps.into(),
        ban_time: ban_time.map(Duration::from_secs),
        details_deadline: settings.notify.details_deadline_secs.duration(),
        whitelist,
    }
}
