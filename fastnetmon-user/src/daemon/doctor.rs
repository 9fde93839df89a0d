//! What the doctor is told of the house, and the look that the agent takes at itself.
//!
//! **Invariant**: on a thread of its own that ends by itself; the tick is asked two questions like any
//! client's. `adjtimex` is not called there: the unit's filter of system calls ends who does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tracing::{error, info, warn};

use crate::capture::{self, EngineName};
use crate::control::{Reply, Request, Severity, Status};
use crate::daemon::control::ask;
use crate::daemon::people::agents_group;
use crate::daemon::shown::Shown;
use crate::daemon::tick::Wish;
use crate::daemon::{Settings, SettingsError, clock, engines, privileges, shape};
use crate::doctor::{self, Agent, Asking, Facts, Wanted};
use crate::kernel;
use crate::networks::{self, Plan};

/// How long the agent is given before it looks at itself.
const REST: Duration = Duration::from_secs(20);

/// For how long it looks.
const LOOK: Duration = Duration::from_secs(2);

/// What a configuration wants of the machine. One that cannot be used is told as such.
pub fn wanted(file: &Path, interfaces: &[String]) -> Wanted {
    match Settings::read(file) {
        Ok(settings) => wanted_by(&settings, file, interfaces),
        Err(error) => {
            let mut wanted = wanted_by(&Settings::default(), file, interfaces);
            let error = match error {
                SettingsError::Malformed { line, reason, .. } => {
                    // What stands behind the line that underlines the place.
                    let told = reason.rsplit_once("^\n").map_or(&*reason, |(_, told)| told);
                    format!("Line {line}: {told}")
                }
                unreadable @ SettingsError::Unreadable { .. } => unreadable.to_string(),
            };
            wanted.error = Some(error);
            wanted
        }
    }
}

fn wanted_by(settings: &Settings, file: &Path, interfaces: &[String]) -> Wanted {
    let Settings { capture, networks, notify, journal, attack_log, packets, control, ban, .. } =
        settings;
    let interfaces =
        if interfaces.is_empty() { capture.interfaces.clone() } else { interfaces.to_vec() };
    let read = networks::read(networks);
    let (ours, error) = match read {
        Ok(guarded) => (guarded.ours, None),
        Err(error) => (networks::PrefixSet::default(), Some(error.to_string())),
    };
    let table_bytes = table_bytes(settings, &ours);
    let rules = capture::nflog_rules(&capture.nflog, &interfaces);
    let rules = rules.lines().take_while(|line| line.starts_with("nft "));
    let list = std::fs::read(&networks.list).unwrap_or_default();
    Wanted {
        file: file.to_owned(),
        text: std::fs::read_to_string(file).unwrap_or_default(),
        error: None,
        engine: capture.engine,
        role: capture.role,
        tick: capture.tick_ms.duration(),
        nflog_group: capture.nflog.group,
        nflog_rules: rules.map(ToOwned::to_owned).collect(),
        interfaces: interfaces.iter().map(|name| name.trim().to_owned()).collect(),
        networks: doctor::Networks {
            list: networks.list.clone(),
            error,
            ours,
            ends_with_line: list.last().is_none_or(|&byte| byte == b'\n'),
        },
        table_bytes,
        script: notify.script.clone(),
        journal: journal.path.clone(),
        attack_log: attack_log.enabled.then(|| attack_log.folder.clone()),
        packets: packets.enabled.then(|| packets.folder.clone()),
        socket: control.socket.clone(),
        socket_group: agents_group(),
        bans: ban.enabled,
    }
}

/// What the tables of this configuration take.
fn table_bytes(settings: &Settings, ours: &networks::PrefixSet) -> Result<u64, String> {
    let rows = match settings.capture.engine {
        EngineName::Xdp | EngineName::XdpGeneric | EngineName::Auto => {
            kernel::possible_cpus().map_err(|error| error.to_string())?
        }
        _ => engines::threads(settings),
    };
    let (plan, _) =
        Plan::new(ours, settings.networks.ipv6_hosts).map_err(|error| error.to_string())?;
    let shape = shape(&plan, rows, settings.capture.max_table_mb);
    shape.map(|shape| shape.bytes()).map_err(|error| error.to_string())
}

/// Which rights an engine misses of those that are held.
pub fn missing_rights(engine: EngineName, held: u64) -> Vec<&'static str> {
    privileges::missing_for(engine, held)
}

/// The look that the agent takes at itself.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) settings: Settings,
    pub(super) file: Option<PathBuf>,
    pub(super) shown: Arc<Shown>,
    pub(super) wishes: Sender<Wish>,
}

impl Look {
    /// Waits, looks once, and says in one line what it found. Ends early when `stop` closes.
    pub(super) fn run(self, stop: &Receiver<()>) {
        let wait = |span| stop.recv_timeout(span) == Err(RecvTimeoutError::Timeout);
        if !wait(REST) {
            return;
        }
        let facts = self.facts(&wait);
        if !wait(Duration::ZERO) {
            return;
        }
        let findings = doctor::examine(&facts);
        let summary = doctor::summary(&findings);
        let file = facts.wanted.file.display();
        let command = format!("fastnetmon doctor --config {file}");
        let first = findings.first().filter(|first| first.severity >= Severity::Warning);
        if let Some(first) = first {
            let about = first.about.as_deref();
            let (id, seen) = (first.id.as_str(), first.seen.as_str());
            if first.severity == Severity::Failure {
                error!(%summary, first = id, about, seen, command, "Self-check.");
            } else {
                warn!(%summary, first = id, about, seen, command, "Self-check.");
            }
        } else {
            info!(%summary, "Self-check.");
        }
        self.shown.checked(doctor::self_check(findings, clock::wall().unix.as_secs()));
    }

    fn facts(&self, wait: &dyn Fn(Duration) -> bool) -> Facts {
        let file = self.file.clone().unwrap_or_else(|| PathBuf::from(NO_FILE));
        let wanted = wanted_by(&self.settings, &file, &[]);
        let networks = &mut || match ask(Request::Networks, &self.wishes) {
            Reply::Networks(networks) => Some(networks),
            _ => None,
        };
        let status = &mut || -> Result<Status, Agent> { Ok(self.shown.whole(0)) };
        let mut asking = Asking {
            status,
            networks,
            process: Some(std::process::id()),
            missing: missing_rights,
            clock_kept: || None,
            span: LOOK,
            always: false,
            now: clock::now,
            wall: clock::wall,
            wait,
        };
        doctor::gather(wanted, &mut asking)
    }
}

/// Where the packages put it.
const NO_FILE: &str = "/etc/fastnetmon.conf";
