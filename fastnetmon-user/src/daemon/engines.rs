//! Who sees the packets: chosen once, at the start, with a reason that an operator can read.
//!
//! **Invariant**: an engine that was asked for by name runs or the agent does not. Only `auto`
//! chooses, and never generic XDP.

use std::num::NonZeroU32;

use tracing::{info, warn};

use crate::capture::{
    self, AfPacketEngine, AfXdpEngine, Bound, CaptureError, EgressName, Engine as _, EngineName,
    NflogEngine, PcapEngine, PfRingEngine, PfRingOpened, RoleName, XdpEngine,
};
use crate::counters::Counters;
use crate::daemon::hints::Hints;
use crate::daemon::{Settings, StartError, clock, drops, privileges};
use crate::kernel::{self, ANY, Attached, Backlog, Egress, Frozen, Gate, Mode, Port, Support};
use crate::model::Moment;
use crate::networks::{Ignores, Plan, PrefixSet, Territory};
use crate::tables::{self, Entry, Parts, Row, Shape};

/// An engine and the tables it counts in.
pub(super) struct Chosen {
    pub(super) engine: &'static str,
    /// Why this one.
    pub(super) reason: String,
    /// How packets for dumps come.
    pub(super) evidence: String,
    pub(super) counters: Counters,
    pub(super) territory: Territory,
    pub(super) hints: Hints,
    /// Programs in the kernel, where there are any.
    pub(super) attached: Option<Attached>,
    /// The right to have additions made that wait there, where they do.
    pub(super) backlog: Option<Backlog>,
    /// The right to have packets dropped, where that is wanted.
    pub(super) gate: Option<Gate>,
    pub(super) eyes: Eyes,
}

/// Who looks.
pub(super) enum Eyes {
    /// The kernel programs count; their rings are drained, and the sockets of mirror ports.
    Kernel(Box<XdpEngine>, Option<Box<AfXdpEngine>>),
    /// Threads of ours count, each into its row: as many engines as rows.
    Own(Own, Vec<Row>),
}

/// An engine of ours, one for each thread. Matched once, when the threads start.
pub(super) enum Own {
    AfPacket(Vec<AfPacketEngine>),
    Pcap(Vec<PcapEngine>),
    Nflog(Box<NflogEngine>),
    PfRing(Vec<PfRingEngine>),
}

impl Own {
    const fn name(&self) -> &'static str {
        match self {
            Self::AfPacket(_) => AfPacketEngine::NAME,
            Self::Pcap(_) => PcapEngine::NAME,
            Self::Nflog(_) => NflogEngine::NAME,
            Self::PfRing(_) => PfRingEngine::NAME,
        }
    }
}

/// Chooses as the settings say, and opens the ports.
pub(super) fn choose(
    settings: &Settings,
    ports: &[Port],
    ours: &PrefixSet,
) -> Result<Chosen, StartError> {
    const NAMED: &str = "it is named in the configuration";
    let chosen = match settings.capture.engine {
        EngineName::Xdp | EngineName::XdpGeneric => {
            in_kernel(settings, ports, ours, NAMED.to_owned())
        }
        EngineName::AfPacket => in_packet_sockets(settings, ports, ours, NAMED.to_owned()),
        EngineName::Pcap => in_pcap(settings, ports, ours, NAMED.to_owned()),
        EngineName::Nflog => in_nflog(settings, ports, ours, NAMED.to_owned()),
        EngineName::PfRing => in_pf_ring(settings, ports, ours, NAMED.to_owned()),
        EngineName::Auto => {
            let missing = privileges::missing_for_xdp();
            if missing.is_empty() {
                let reason = "every port runs XDP natively".to_owned();
                match in_kernel(settings, ports, ours, reason) {
                    Err(StartError::Kernel(error)) => match error.without_xdp() {
                        Some(reason) => without_xdp(settings, ports, ours, reason),
                        None => Err(error.into()),
                    },
                    outcome => outcome,
                }
            } else {
                let reason = format!("XDP needs {}, which is missing", missing.join(", "));
                without_xdp(settings, ports, ours, reason)
            }
        }
    }?;
    let Chosen { engine, reason, .. } = &chosen;
    info!(engine, %reason, "The engine is chosen.");
    Ok(chosen)
}

fn in_kernel(
    settings: &Settings,
    ports: &[Port],
    ours: &PrefixSet,
    reason: String,
) -> Result<Chosen, StartError> {
    let capture = &settings.capture;
    let laid_out = LaidOut::new(settings, ours, kernel::possible_cpus()?)?;
    let support = Support::of_this_kernel()?;
    for remark in support.remarks() {
        warn!("{remark}");
    }
    let frozen = Frozen {
        shape: laid_out.shape,
        sparse_every: capture.sparse_every,
        decapsulate: capture.decapsulate,
        load_bytes: support.load_bytes,
        puts_off: puts_off(support, &laid_out.plan),
        gate: drops::gates(settings),
    };
    let ignores = Ignores::of(&settings.ignore);
    let (mut object, mut parts, rings) = kernel::load_ignoring(frozen, &ignores)?;
    if settings.xdp_drop.outgoing && egress(capture.egress, support) == Egress::Clsact {
        return Err(StartError::DropByFilter);
    }
    let gate =
        if drops::is_wanted(settings) { Some(object.gate(parts.flags.clone())?) } else { None };
    let is_mirror = capture.role == RoleName::Mirror;
    if is_mirror {
        parts.flags = parts.flags.redirecting();
    }
    let names: Vec<&str> = ports.iter().map(|port| port.interface.as_str()).collect();
    let rows = kernel::receiving_cpus(&names, laid_out.shape.writers.get());
    // Before the first packet, so that it is counted.
    let (counters, territory, hints) = laid_out.written(ours, parts, rows, clock::now());
    let sockets = if is_mirror { Some(object.sockets()?) } else { None };
    let attached = kernel::attach(object, ports, egress(capture.egress, support))?;
    let backlog = attached.backlog()?;
    let (takers, bound) =
        sockets.map_or((None, Vec::new()), |sockets| AfXdpEngine::open(sockets, ports, clock::now));
    tell(&bound);
    let is_native = ports.iter().all(|port| port.mode == Mode::Native);
    Ok(Chosen {
        engine: if is_native { EngineName::Xdp } else { EngineName::XdpGeneric }.name(),
        reason,
        evidence: capture::evidence_by(&bound),
        counters,
        territory,
        hints,
        attached: Some(attached),
        backlog,
        gate,
        eyes: Eyes::Kernel(Box::new(XdpEngine::new(rings)), takers.map(Box::new)),
    })
}

/// Do additions wait for each other? Where that is worth it, and nobody is left waiting.
fn puts_off(support: Support, plan: &Plan) -> bool {
    if !support.puts_off || !plan.outgrows_a_cache() {
        return false;
    }
    let reaches = kernel::reaches_all_cpus();
    if !reaches {
        warn!(
            "The agent may not run on every CPU, by a cpuset: each packet waits for the memory of its own host."
        );
    }
    reaches
}

/// PF_RING where its module is loaded and shows the ports, else packet sockets.
fn without_xdp(
    settings: &Settings,
    ports: &[Port],
    ours: &PrefixSet,
    reason: String,
) -> Result<Chosen, StartError> {
    let Some(module) = capture::pf_ring_module() else {
        return in_packet_sockets(settings, ports, ours, reason);
    };
    match in_pf_ring(settings, ports, ours, reason.clone()) {
        Err(StartError::Capture(error)) => {
            let reason = format!("{reason}; {module} is loaded and cannot be used: {error}");
            in_packet_sockets(settings, ports, ours, reason)
        }
        outcome => outcome,
    }
}

fn in_pf_ring(
    settings: &Settings,
    ports: &[Port],
    ours: &PrefixSet,
    reason: String,
) -> Result<Chosen, StartError> {
    let threads = threads(settings);
    let mut by = String::new();
    let mut chosen = in_threads(settings, ports, ours, reason, threads, || {
        let opened = PfRingEngine::open(ports, threads, &settings.capture.pf_ring, clock::now)?;
        let PfRingOpened { engines, way, remarks } = opened;
        for remark in remarks {
            warn!("{remark}.");
        }
        by = way;
        Ok(Own::PfRing(engines))
    })?;
    chosen.reason = format!("{}; {by}", chosen.reason);
    Ok(chosen)
}

fn in_packet_sockets(
    settings: &Settings,
    ports: &[Port],
    ours: &PrefixSet,
    reason: String,
) -> Result<Chosen, StartError> {
    if drops::is_wanted(settings) {
        let engine = AfPacketEngine::NAME;
        return Err(StartError::DropWithout { engine, reason: Some(reason) });
    }
    let threads = threads(settings);
    in_threads(settings, ports, ours, reason, threads, || {
        AfPacketEngine::open(ports, threads, clock::now).map(Own::AfPacket)
    })
}

fn in_pcap(
    settings: &Settings,
    ports: &[Port],
    ours: &PrefixSet,
    reason: String,
) -> Result<Chosen, StartError> {
    let wanted = usize::try_from(threads(settings).get()).unwrap_or(usize::MAX);
    let engines = PcapEngine::engines(ports.len(), wanted);
    let threads = u32::try_from(engines).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    in_threads(settings, ports, ours, reason, threads, || {
        PcapEngine::open(ports, wanted, &settings.capture.pcap, clock::now).map(Own::Pcap)
    })
}

/// A group has one socket, so one thread.
fn in_nflog(
    settings: &Settings,
    ports: &[Port],
    ours: &PrefixSet,
    reason: String,
) -> Result<Chosen, StartError> {
    let capture = &settings.capture;
    let names: Vec<String> = ports.iter().map(|port| port.interface.clone()).collect();
    let role = capture.role.role();
    in_threads(settings, ports, ours, reason, NonZeroU32::MIN, || {
        NflogEngine::open(&capture.nflog, role, &names, clock::now).map(Box::new).map(Own::Nflog)
    })
}

/// Has so many threads of ours count with what `open` opens: one engine for each of them.
fn in_threads(
    settings: &Settings,
    ports: &[Port],
    ours: &PrefixSet,
    reason: String,
    threads: NonZeroU32,
    open: impl FnOnce() -> Result<Own, CaptureError>,
) -> Result<Chosen, StartError> {
    let laid_out = LaidOut::new(settings, ours, threads)?;
    for port in ports {
        if port.interface != ANY || settings.capture.engine != EngineName::Pcap {
            kernel::must_exist(capture::pf_ring_interface(&port.interface))?;
        }
    }
    let (parts, rows) = tables::own(laid_out.shape).map_err(kernel::KernelError::from)?;
    let (counters, territory, hints) = laid_out.written(ours, parts, threads.get(), clock::now());
    let own = open()?;
    let engine = own.name();
    Ok(Chosen {
        engine,
        reason,
        evidence: engine.to_owned(),
        counters,
        territory,
        hints,
        attached: None,
        backlog: None,
        gate: None,
        eyes: Eyes::Own(own, rows),
    })
}

/// How many threads count, when they are ours.
pub(super) fn threads(settings: &Settings) -> NonZeroU32 {
    let cpus = std::thread::available_parallelism().ok();
    let cpus = cpus.and_then(|cpus| NonZeroU32::try_from(cpus).ok()).unwrap_or(NonZeroU32::MIN);
    settings.capture.threads.number(cpus)
}

/// Whom we guard, laid out for so many rows: what every engine begins with.
pub(super) struct LaidOut {
    plan: Plan,
    writes: Vec<(Entry, u32)>,
    pub(super) shape: Shape,
}

impl LaidOut {
    pub(super) fn new(
        settings: &Settings,
        ours: &PrefixSet,
        rows: NonZeroU32,
    ) -> Result<Self, StartError> {
        let (plan, writes) = Plan::new(ours, settings.networks.ipv6_hosts)?;
        let shape = shape(&plan, rows, settings.capture.max_table_mb)?;
        Ok(Self { plan, writes, shape })
    }

    /// Writes it into the tables, which are read from `now` on. So many rows count at a time.
    pub(super) fn written(
        self,
        ours: &PrefixSet,
        parts: Parts,
        rows: u32,
        now: Moment,
    ) -> (Counters, Territory, Hints) {
        let Self { plan, writes, shape } = self;
        let Parts { lines, directory, flags, limits } = parts;
        let territory =
            Territory::new(ours.clone(), plan, &writes, shape, vec![directory], vec![flags]);
        (Counters::new(vec![lines], now), territory, Hints { limits, rows })
    }
}

/// The tables a plan needs, when they may take so many megabytes.
///
/// # Errors
/// With the arithmetic, when they may not.
pub fn shape(plan: &Plan, writers: NonZeroU32, allowed: u64) -> Result<Shape, StartError> {
    let shape = plan.shape(writers, seed());
    let needed = shape.bytes().div_ceil(1_000_000);
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
