//! The wiring: these lines are the drawing, with threads.
//!
//! ```text
//!  capture: std threads                           tick: one std thread                     actions: std threads
//!  Engine::poll ─► Writer                         (now given by the clock)
//!  or kernel programs ─────► rows ──── read ────► Counters ─► RateTable ─► Judge ─ bounded ─► Crews ─► Script, Webhook, LogFile
//!      │ hint, stranger: wakes the tick early ────────▲                     ▲    │                │ notes
//!      └ samples, frames ─► Evidence ◄── arm ── on Verdict::Ban           Order  ▼                ▼
//!                        └── take, when full or due ─► Verdict::Details     │  Status      Journal: std thread
//!                                                    Reloader ─ Change ─────┤
//!                                                        ▲         control: std threads
//!                                                        └──────────────────┘
//! ```
//!
//! **Invariant**: everything that can fail is done before the first thread starts; what was done is
//! undone by dropping it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::actions::{self, Actions, Notebook, WebhookError, XdpDrop};
use crate::capture::{CaptureError, Engine, EngineName, Polled};
use crate::control::Status;
use crate::counters::{Evidence, Rules, Writer};
use crate::daemon::containers::{self, Containers};
use crate::daemon::control::Door;
use crate::daemon::doctor::Look;
use crate::daemon::drops::{self, Drops};
use crate::daemon::engines::{self, Chosen, Eyes, Own};
use crate::daemon::exports;
use crate::daemon::journal::{self, Journal, JournalError, Resumed};
use crate::daemon::reload::{Reloader, Source};
use crate::daemon::rights::RightsError;
use crate::daemon::shown::Shown;
use crate::daemon::tick::{About, Lookout, Tick, Wish};
use crate::daemon::{Settings, backlog, clock, origins, packets, rights, screen, service};
use crate::kernel::{self, Attached, KernelError, Mode, Port};
use crate::networks::{self, Guarded, NetworksError, PlanError};
use crate::origins::Origins;
use crate::rates::WINDOW;
use crate::verdicts::{BanId, Judge, Policy};
use crate::web::WebError;

/// Notices that wait for the tick, at most: about as many as the kernel's rings hold.
const NOTICES: usize = 16_384;

/// How long the capture thread waits for the rings before it looks at the stop flag.
const PATIENCE: Duration = Duration::from_millis(50);

/// Deeds that wait to be counted by the tick.
const DEEDS: usize = 16_384;

/// How long the journal may take over its last lines.
const LAST_WORDS: Duration = Duration::from_secs(5);

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
    /// It cannot become who it should be, or give up what it should.
    #[error(transparent)]
    Rights(#[from] RightsError),
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
        "the tables would take {needed} MB ({slots} lines × 128 bytes × {writers} rows, and the \
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
    /// Packets are to be dropped, and nothing there can drop them.
    #[error(
        "`xdp_drop` needs the engine `xdp` or `xdp_generic`, and it is `{engine}`{}: set `engine` in \
         `[capture]`, or leave `xdp_drop` off",
        reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    DropWithout {
        /// The engine.
        engine: &'static str,
        /// Why it is that one.
        reason: Option<String>,
    },
    /// Packets are to be dropped where there are only copies.
    #[error(
        "`xdp_drop` does nothing at a mirror port, which shows copies: leave it off, or watch the \
         uplink itself with `role = \"uplink\"`"
    )]
    DropCopies,
    /// What leaves is to be dropped, by a filter that a killed agent leaves behind.
    #[error(
        "`outgoing` in `[xdp_drop]` needs TCX (Linux 6.6): a `clsact` filter would go on dropping \
         after the agent was killed; set it to false"
    )]
    DropByFilter,
    /// The control socket cannot be made.
    #[error("control socket `{}`: {reason}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The webhook cannot be used.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// An export cannot be made.
    #[error("{0}")]
    Export(String),
    /// The screen cannot be written.
    #[error("`file` in `[screen]`, `{}`: {reason}", path.display())]
    Screen {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An engine of ours cannot open its ports.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The web server cannot be.
    #[error(transparent)]
    Web(#[from] WebError),
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
    tick: JoinHandle<Actions>,
    /// Closes when the journal has written everything.
    journal: Receiver<()>,
    /// Closes when the packets of the last attack are written.
    packets: Receiver<()>,
    reloader: Arc<Reloader>,
    captures: Vec<JoinHandle<()>>,
    exports: Option<JoinHandle<()>>,
    attached: Option<Attached>,
    door: Arc<Door>,
    /// How long scripts may take when the agent ends.
    farewell: Duration,
    /// Once set, the next signal ends the process at once.
    hurry: Arc<AtomicBool>,
}

/// Does everything that can fail, then starts the threads.
pub(super) fn start(settings: &Settings, source: Source) -> Result<Running, StartError> {
    let ports = ports(settings)?;
    drops::check(settings)?;
    let guarded = networks::read(&settings.networks)?;
    for remark in &guarded.remarks {
        info!("{remark}.");
    }
    for remark in Policy::remarks(&settings.group, &guarded.ours) {
        warn!("{remark}.");
    }
    let Guarded { ours, named, whitelist, containers, .. } = guarded.clone();
    let whence = Origins::default();
    let prepared = actions::prepare(&settings.notify, &settings.webhook, &settings.attack_log)?
        .knowing(&whence);
    let system = |what| move |source| StartError::System { what, source };
    let hurry = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&hurry))
            .map_err(system("listen for signals"))?;
    }
    // Before the threads, so that each of them leaves these signals to this one.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|source| StartError::System { what: "listen for signals", source })?;
    let door = Door::open(&settings.control.socket)?;
    let path = &settings.journal.path;
    let journal = if path.as_os_str().is_empty() { None } else { Some(Journal::open(path)?) };

    let Chosen {
        engine,
        reason,
        evidence: shown_by,
        counters,
        mut territory,
        hints,
        attached,
        backlog,
        gate,
        eyes,
    } = engines::choose(settings, &ports, &ours)?;
    let policy = policy(settings, whitelist);
    hints.follow(&policy, &territory);
    territory.name(named);

    let evidence = Arc::new(Evidence::default());
    let lost_notices = Arc::new(AtomicU64::new(0));
    let rings = match &eyes {
        Eyes::Kernel(..) => 1,
        Eyes::Own(_, rows) => rows.len(),
    };
    let rings: Vec<Arc<Lookout>> = (0..rings).map(|_| Arc::default()).collect();
    let taker = Arc::new(Lookout::default());
    let about = About {
        engine,
        engine_reason: reason,
        follows: matches!(eyes, Eyes::Own(..)),
        role: settings.capture.role.name(),
        evidence: shown_by,
        interfaces: ports.iter().map(|port| port.interface.clone()).collect(),
        started: counters.last(),
    };
    let shown = Shown::new(Status {
        networks: u64::try_from(territory.ours().len()).unwrap_or(u64::MAX),
        ..about.status()
    });
    let shown = Arc::new(shown.knowing(whence.clone()));
    let (news, table) = bounded(1);
    let (told, exports) = exports::prepare(settings, &whence)?;
    let mut resumed = journal.as_ref().map_or_else(Resumed::default, |journal| {
        journal::resume(journal, clock::wall(), |address| territory.hold(address))
    });
    let standing = std::mem::take(&mut resumed.standing);
    let first = first_ban().max(BanId(resumed.last.0.saturating_add(1)));
    // Whoever asks from the first moment on is shown them.
    for ban in &standing {
        shown.ban(ban, clock::wall());
    }
    // Before the first packet of theirs that is to be dropped.
    let drops = gate.map(|gate| XdpDrop::new(gate, settings.xdp_drop.clone()));
    let dropping = Drops::new(drops.clone());
    for ban in standing.iter().filter(|ban| dropping.concerns(ban)) {
        territory.gate(ban.host, ban.address);
    }
    let journal_trouble = journal.as_ref().map(Journal::trouble).unwrap_or_default();
    let (notebook, journal) = match journal {
        Some(journal) => {
            let (notes, noted) = bounded(journal::NOTES);
            (Notebook::new(notes), Some((journal, noted)))
        }
        None => (Notebook::default(), None),
    };
    let (deeds, done) = bounded(DEEDS);
    let done_before = std::mem::take(&mut resumed.done);
    // Whatever needs root is open, and no thread that could keep what this one gives up is there.
    rights::give_up(&eyes, attached.as_ref())?;
    let actions = Actions::start(prepared, drops, &standing, done_before, notebook, deeds)
        .map_err(system("start the action threads"))?;
    let file = source.config.clone();
    let (reloader, changed) =
        Reloader::new(source, settings.clone(), guarded.clone(), whence.clone());
    let reloader = Arc::new(reloader);
    let screen = screen::Writer::new(&settings.screen, &shown)?;
    let (surveyor, survey) = origins::prepare(settings, &whence, &evidence).unzip();
    let (tray, clerk) = packets::prepare(&settings.packets, &about.interfaces);
    let (backlog, porter) = backlog::prepare(backlog);
    let tick = Tick {
        span: settings.capture.tick_ms.duration(),
        counters,
        backlog,
        territory,
        containers: Containers::new(guarded, table),
        judge: Judge::new(policy, standing).counting_from(first),
        hints,
        evidence: Arc::clone(&evidence),
        packets: settings.notify.packets.get(),
        tray,
        surveyor,
        origins: whence,
        actions,
        drops: dropping,
        resumed,
        journal_trouble,
        lost_notices: Arc::clone(&lost_notices),
        rings: rings.clone(),
        taker: Arc::clone(&taker),
        shown: Arc::clone(&shown),
        about,
        longest: longest_span(&ports),
        done,
        told,
    };

    let (notices, noticed) = bounded(NOTICES);
    let (wishes, wished) = bounded::<Wish>(64);
    let (stop, stopped) = bounded::<()>(0);
    let (end, ended) = bounded(4);
    let stopping = Arc::new(AtomicBool::new(false));
    let writer = || Writer::new(Arc::clone(&evidence), notices.clone(), Arc::clone(&lost_notices));
    let mut captures = Vec::new();
    match eyes {
        Eyes::Kernel(drains, takes) => {
            let lookout = rings.into_iter().next().unwrap_or_default();
            captures.push(look("capture", &end, &stopping, *drains, writer(), lookout)?);
            if let Some(takes) = takes {
                captures.push(look("af_xdp", &end, &stopping, *takes, writer(), taker)?);
            }
        }
        Eyes::Own(own, rows) => {
            let rules = Rules {
                sparse_every: settings.capture.sparse_every,
                decapsulate: settings.capture.decapsulate,
            };
            let ignores = networks::Ignores::of(&settings.ignore);
            let counting = |row| writer().counting(row, rules).ignoring(ignores.clone());
            let writers = rows.into_iter().map(counting).zip(rings);
            captures = match own {
                Own::AfPacket(engines) => look_all(&end, &stopping, engines, writers)?,
                Own::Pcap(engines) => look_all(&end, &stopping, engines, writers)?,
                Own::Nflog(engine) => look_all(&end, &stopping, vec![*engine], writers)?,
                Own::PfRing(engines) => look_all(&end, &stopping, engines, writers)?,
            };
        }
    }
    let veip = settings.networks.openvz_veip.clone();
    if !veip.as_os_str().is_empty() {
        let stopped = stopped.clone();
        spawn("containers", &end, move || containers::read(veip, containers, news, stopped))?;
    }
    if let Some(survey) = survey {
        let stopped = stopped.clone();
        spawn("origins", &end, move || survey.run(&stopped))?;
    }
    if let Some(screen) = screen {
        let stopped = stopped.clone();
        spawn("screen", &end, move || screen.run(&stopped))?;
    }
    let until = stopped.clone();
    let tick = spawn("tick", &end, move || {
        // Held here, so that the channel stays open when the capture breaks.
        let _notices = notices;
        tick.run(&noticed, &wished, &changed, &until)
    })?;
    if let Some(porter) = porter {
        spawn("backlog", &end, move || porter.run())?;
    }
    let (writing, journal_done) = bounded(0);
    if let Some((journal, noted)) = journal {
        spawn("journal", &end, move || {
            let _writing = writing;
            journal.run(&noted);
        })?;
    }
    let (filing, packets_done) = bounded(0);
    if let Some(clerk) = clerk {
        spawn("packets", &end, move || {
            let _filing = filing;
            clerk.run();
        })?;
    }
    let exports = exports
        .map(|exports| {
            let wishes = wishes.clone();
            spawn("exports", &end, move || exports.run(&wishes))
        })
        .transpose()?;
    let look = Look {
        settings: settings.clone(),
        file,
        shown: Arc::clone(&shown),
        wishes: wishes.clone(),
    };
    // It ends by itself, and nobody waits for it.
    std::thread::Builder::new()
        .name("doctor".to_owned())
        .spawn(move || look.run(&stopped))
        .map_err(system("start a thread"))?;
    let door = Arc::new(door);
    spawn("control", &end, {
        let door = Arc::clone(&door);
        let reloader = Arc::clone(&reloader);
        move || door.serve(&shown, &wishes, &reloader)
    })?;
    let farewell = farewell(settings);
    Ok(Running {
        signals,
        stop,
        ended,
        stopping,
        tick,
        journal: journal_done,
        packets: packets_done,
        reloader,
        captures,
        exports,
        attached,
        door,
        farewell,
        hurry,
    })
}

impl Running {
    /// Waits for a signal or for the end of a thread that should not end.
    pub(super) fn wait(self) -> Result<(), StartError> {
        let Self {
            mut signals,
            stop,
            ended,
            stopping,
            tick,
            journal,
            packets,
            reloader,
            captures,
            exports,
            attached,
            door,
            farewell,
            hurry,
        } = self;
        let handle = signals.handle();
        let (asked, asks) = bounded(1);
        let (again, agains) = bounded(1);
        // A signal while the configuration is being read is a wish to read it once more.
        let reader = std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
            for () in &agains {
                // It is in the log.
                let _told = reloader.reload();
            }
        });
        reader.map_err(|source| StartError::System { what: "start a thread", source })?;
        let listener = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if signal == SIGHUP {
                        let _waiting_already = again.try_send(());
                        continue;
                    }
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
        service::stopping();
        // A second signal ends the process at once.
        hurry.store(true, Ordering::Relaxed);
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
            Ok(actions) => {
                let left = actions.finish(farewell);
                if left > 0 {
                    error!(left, "Calls of actions were not made before the end.");
                }
            }
            Err(_panic) => error!("The tick thread panicked."),
        }
        if journal.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            error!("The journal was not written to its end.");
        }
        if packets.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            error!("The packets of the last attacks were not written.");
        }
        // The tick was the one who told it; it has a deadline of its own.
        if exports.is_some_and(|exports| exports.join().is_err()) {
            error!("The thread of the exports panicked.");
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

/// Starts a thread that looks with this engine.
fn look(
    name: &'static str,
    end: &Sender<&'static str>,
    stopping: &Arc<AtomicBool>,
    mut engine: impl Engine,
    writer: Writer,
    lookout: Arc<Lookout>,
) -> Result<JoinHandle<()>, StartError> {
    let stopping = Arc::clone(stopping);
    spawn(name, end, move || capture(&mut engine, writer, &stopping, &lookout))
}

/// Starts a thread for each engine, with its writer and its lookout.
fn look_all<E: Engine>(
    end: &Sender<&'static str>,
    stopping: &Arc<AtomicBool>,
    engines: Vec<E>,
    writers: impl Iterator<Item = (Writer, Arc<Lookout>)>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let threads = engines.into_iter().zip(writers);
    threads
        .map(|(engine, (writer, lookout))| look("capture", end, stopping, engine, writer, lookout))
        .collect()
}

/// Looks until it is told to stop. A capture that breaks is an alarm, and tried again.
fn capture(engine: &mut impl Engine, mut writer: Writer, stopping: &AtomicBool, lookout: &Lookout) {
    while !stopping.load(Ordering::Relaxed) {
        let outcome = engine.poll(PATIENCE, &mut writer);
        let is_broken = outcome.is_err();
        let trouble = match outcome {
            Ok(Polled { taken, lost }) => {
                lookout.taken.fetch_add(taken, Ordering::Relaxed);
                lookout.lost.fetch_add(lost, Ordering::Relaxed);
                engine.trouble()
            }
            Err(error) => Some(error),
        };
        let mut alarm = lookout.broken.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            None if alarm.take().is_some() => info!("The capture works again."),
            None => {}
            Some(error) => {
                if alarm.is_none() {
                    error!(%error, "The capture is broken; it is tried again.");
                }
                *alarm = Some(error.to_string());
            }
        }
        drop(alarm);
        if is_broken {
            #[expect(clippy::disallowed_methods, reason = "a breath between two attempts")]
            std::thread::sleep(PATIENCE);
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
            role: capture.role.role(),
            mode: match capture.engine {
                EngineName::XdpGeneric => Mode::Generic,
                _ => Mode::Native,
            },
        });
    }
    // The rules of the firewall choose for NFLOG.
    let is_chosen = !ports.is_empty() || capture.engine == EngineName::Nflog;
    if is_chosen { Ok(ports) } else { Err(StartError::NoInterface) }
}

/// A counting word is exact for 1.5 s at 100 Gbit/s, for longer at less.
fn longest_span(ports: &[Port]) -> Duration {
    let mut mbps = if ports.is_empty() { 100_000 } else { 0_u64 };
    for port in ports {
        mbps += kernel::speed_mbps(&port.interface).map_or(100_000, u64::from);
    }
    Duration::from_millis(150_000_000 / mbps.max(1)).clamp(WINDOW * 3 / 2, WINDOW * 60)
}

/// Larger than whatever an earlier run of the agent counted to.
fn first_ban() -> BanId {
    BanId(u64::try_from(clock::wall().unix.as_nanos()).unwrap_or(u64::MAX / 2))
}

/// How long actions may take when the agent ends: one call's deadline, and the moment in which a
/// call that hangs is ended.
pub(super) fn farewell(settings: &Settings) -> Duration {
    settings.notify.timeout_secs.duration() + Duration::from_secs(3)
}

/// What the judge goes by, as the settings say.
pub(super) fn policy(settings: &Settings, whitelist: networks::PrefixSet) -> Policy {
    if !settings.notify.script.exists() {
        warn!(script = %settings.notify.script.display(), "There is no script yet; bans will only be listed and logged.");
    }
    settings.policy(whitelist)
}
