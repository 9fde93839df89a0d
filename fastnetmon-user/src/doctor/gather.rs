//! Looks at everything once, and at what counts twice.
//!
//! **Invariant**: changes nothing but for packet sockets that go with the look. What cannot be read is
//! told as not known.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capture::{self, EngineName};
use crate::control::{self, Severity, Status};
use crate::doctor::look::look;
use crate::doctor::{
    Agent, Answer, Facts, File, Folder, Look, Port, Process, Script, Softnet, System, Wanted,
};
use crate::kernel::{self, ANY, Counted, Described, Knob, Support};
use crate::model::{Moment, Wall};

/// What an agent answers, or why it does not.
pub type Told = Result<Status, Agent>;

/// Who asks, and how.
#[expect(missing_debug_implementations, reason = "closures have nothing to show")]
pub struct Asking<'a> {
    /// Asks the agent for its state.
    pub status: &'a mut dyn FnMut() -> Told,
    /// Asks it for the networks without packets.
    pub networks: &'a mut dyn FnMut() -> Option<control::Networks>,
    /// The agent's process, when it is known; else it is our own that is looked at.
    pub process: Option<u32>,
    /// Rights that an engine misses of those that are held.
    pub missing: fn(EngineName, u64) -> Vec<&'static str>,
    /// Is the clock kept by somebody? Not every process may ask.
    pub clock_kept: fn() -> Option<bool>,
    /// For how long packets are looked at.
    pub span: Duration,
    /// Look at packets even where the agent counts them as ours, and at what costs a driver time.
    pub always: bool,
    /// What time it is.
    pub now: fn() -> Moment,
    /// And by the calendar.
    pub wall: fn() -> Wall,
    /// Waits so long; tells whether to go on.
    pub wait: &'a dyn Fn(Duration) -> bool,
}

/// Finds everything out. Without a configuration that can be used only what needs none.
pub fn gather(mut wanted: Wanted, asking: &mut Asking<'_>) -> Facts {
    let first = (asking.status)();
    if let Ok(status) = &first
        && !status.interfaces.is_empty()
    {
        wanted.interfaces.clone_from(&status.interfaces);
    }
    // As the kernel calls them: PF_RING's names have more to them.
    let names = wanted.interfaces.iter().map(|name| capture::pf_ring_interface(name).to_owned());
    let names: Vec<String> = names.collect();
    let describe = || -> Vec<Option<Described>> {
        names.iter().map(|name| kernel::describe(name).ok()).collect()
    };
    let losses = || -> Vec<BTreeMap<String, u64>> {
        // A driver may take its time over them, and the tick asks for links as well.
        let asked = |name: &String| asking.always.then(|| kernel::card_losses(name));
        names.iter().map(|name| asked(name).unwrap_or_default()).collect()
    };
    let (before, lost_before, softnet) = (describe(), losses(), softnet());
    let begun = (asking.now)();
    let until = begun + asking.span;
    let seen = if asking.always || is_in_doubt(first.as_ref().ok()) {
        let goes_on = || (asking.wait)(Duration::ZERO);
        look(&names, wanted.role, &wanted.networks.ours, until, asking.now, goes_on)
    } else {
        let blind = Some("the agent counts packets of our networks".to_owned());
        Look { blind, ..Look::default() }
    };
    (asking.wait)(until.since((asking.now)()));
    let (after, lost) = (describe(), losses());
    let span = (asking.now)().since(begun);
    let agent = match (first, (asking.status)()) {
        (Ok(before), Ok(after)) => {
            let networks = (asking.networks)();
            Agent::Answers(Box::new(Answer { before, after, networks }))
        }
        (Err(why), _) | (_, Err(why)) => why,
    };
    let losses = lost_before.iter().zip(&lost).map(|(before, after)| grown(before, after));
    let described = before.into_iter().zip(after);
    let ports = names.iter().zip(described).zip(losses);
    let ports = ports.map(|((name, (before, after)), losses)| Port {
        name: name.clone(),
        gained: gained(before.as_ref(), after.as_ref()),
        described: after,
        knobs: knobs(name),
        losses,
    });
    let process = process(asking.process, wanted.engine, asking.missing);
    let there = kernel::interfaces().unwrap_or_default().into_keys().collect();
    Facts {
        ports: ports.collect(),
        there,
        agent,
        look: seen,
        script: script(&wanted.script),
        folders: folders(&wanted),
        process,
        system: system(&wanted, softnet, (asking.wall)(), (asking.clock_kept)()),
        span,
        wanted,
    }
}

/// Is there reason to look whose packets come by?
fn is_in_doubt(status: Option<&Status>) -> bool {
    status.is_none_or(|status| {
        let totals = status.totals;
        let ours = totals.incoming.packets + totals.outgoing.packets + totals.internal.packets;
        totals.other.packets >= ours
    })
}

fn gained(before: Option<&Described>, after: Option<&Described>) -> Counted {
    // One that was made anew begins from nothing.
    let (Some(before), Some(after)) = (before, after) else { return Counted::default() };
    let (before, after) = (before.counted, after.counted);
    Counted {
        received: after.received.saturating_sub(before.received),
        sent: after.sent.saturating_sub(before.sent),
        dropped: after.dropped.saturating_sub(before.dropped),
        missed: after.missed.saturating_sub(before.missed),
        spoilt: after.spoilt.saturating_sub(before.spoilt),
    }
}

/// Which counters grew, and by how much, the most first.
fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let grown = after.iter().filter_map(|(name, &now)| {
        let grown = now.saturating_sub(before.get(name).copied()?);
        (grown > 0).then(|| (name.clone(), grown))
    });
    let mut grown: Vec<(String, u64)> = grown.collect();
    grown.sort_by_key(|&(_, by)| std::cmp::Reverse(by));
    grown
}

fn knobs(interface: &str) -> BTreeMap<Knob, kernel::Setting> {
    if interface == ANY {
        return BTreeMap::new();
    }
    let all = [Knob::Combined, Knob::ReceiveRing, Knob::Lro, Knob::Gro, Knob::ReceiveVlan];
    all.into_iter().filter_map(|knob| Some((knob, knob.read(interface).ok()?))).collect()
}

/// Of a file, following links.
fn file(path: &Path) -> Option<File> {
    let found = fs::metadata(path).ok()?;
    Some(File { mode: found.mode(), uid: found.uid(), gid: found.gid() })
}

fn script(path: &Path) -> Script {
    Script { file: file(path), interpreter: interpreter(path).ok().flatten() }
}

/// What the first line of a script names.
fn interpreter(path: &Path) -> io::Result<Option<(PathBuf, bool)>> {
    let mut beginning = Vec::new();
    fs::File::open(path)?.take(256).read_to_end(&mut beginning)?;
    Ok(interpreter_in(&beginning).map(|interpreter| {
        let is_there = interpreter.exists();
        (interpreter, is_there)
    }))
}

pub(super) fn interpreter_in(beginning: &[u8]) -> Option<PathBuf> {
    let line = beginning.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    // A carriage return is part of the name for the kernel, and so it is here.
    let name = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
    Some(PathBuf::from(name)).filter(|name| !name.as_os_str().is_empty())
}

fn folders(wanted: &Wanted) -> Vec<Folder> {
    let journal = wanted.journal.parent().filter(|_| !wanted.journal.as_os_str().is_empty());
    let wants = [
        ("the journal of bans", journal, true),
        ("reports of attacks", wanted.attack_log.as_deref(), true),
        ("packets of attacks", wanted.packets.as_deref(), true),
        ("the control socket", wanted.socket.parent(), true),
    ];
    let folder = |(what, path, is_made): (&'static str, Option<&Path>, bool)| {
        let path = path?;
        let disk = rustix::fs::statvfs(path).ok();
        let size = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
            disk.as_ref().map_or(0, |disk| blocks(disk).saturating_mul(disk.f_frsize))
        };
        Some(Folder {
            what,
            path: path.to_owned(),
            file: file(path),
            is_made,
            is_read_only: disk
                .as_ref()
                .is_some_and(|disk| disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)),
            free: size(|disk| disk.f_bavail),
            size: size(|disk| disk.f_blocks),
        })
    };
    wants.into_iter().filter_map(folder).collect()
}

/// The agent's process, or our own.
fn process(
    agent: Option<u32>,
    engine: EngineName,
    missing: fn(EngineName, u64) -> Vec<&'static str>,
) -> Option<Process> {
    let place = agent.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let status = fs::read_to_string(format!("/proc/{place}/status")).ok()?;
    let limits = fs::read_to_string(format!("/proc/{place}/limits")).unwrap_or_default();
    let (mut process, held) = process_in(&status, &limits)?;
    process.is_agent = agent.is_some();
    process.missing = missing(engine, held);
    Some(process)
}

/// Reads `/proc/PID/status` and `/proc/PID/limits`. Returns the rights that are held as well.
pub(super) fn process_in(status: &str, limits: &str) -> Option<(Process, u64)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    // Real, effective, saved, of the file system.
    let second = |name| field(name)?.split_whitespace().nth(1)?.parse::<u32>().ok();
    let held = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let process = Process {
        is_agent: false,
        pid: field("Pid:")?.parse().ok()?,
        uid: second("Uid:")?,
        gid: second("Gid:")?,
        groups: field("Groups:")?.split_whitespace().filter_map(|id| id.parse().ok()).collect(),
        missing: Vec::new(),
        overrides: held & OVERRIDE != 0,
        open_files: limit("Max open files"),
        locked_memory: limit("Max locked memory"),
    };
    Some((process, held))
}

/// `CAP_DAC_OVERRIDE` (linux/capability.h).
const OVERRIDE: u64 = 1 << 1;

fn system(
    wanted: &Wanted,
    softnet_before: Softnet,
    wall: Wall,
    clock_kept: Option<bool>,
) -> System {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let (refusal, remarks) = match Support::of_this_kernel() {
        Ok(support) => (None, support.remarks()),
        Err(error) => (Some(error.to_string()), Vec::new()),
    };
    let softnet = softnet();
    let is_nflog = wanted.engine == EngineName::Nflog;
    System {
        release,
        refusal,
        remarks,
        bpf_jit: text("/proc/sys/net/core/bpf_jit_enable").and_then(|text| text.parse().ok()),
        lockdown: text("/sys/kernel/security/lockdown").and_then(|text| chosen(&text)),
        cpus: std::thread::available_parallelism()
            .ok()
            .and_then(|cpus| u32::try_from(cpus.get()).ok())
            .unwrap_or(1),
        memory: text("/proc/meminfo").and_then(|text| available(&text)),
        softnet,
        softnet_gained: Softnet {
            dropped: softnet.dropped.saturating_sub(softnet_before.dropped),
            squeezed: softnet.squeezed.saturating_sub(softnet_before.squeezed),
        },
        unix_secs: wall.unix.as_secs(),
        clock_kept,
        logged: is_nflog
            .then(|| kernel::logged_groups().map_err(|error| format!("nf_tables: {error}"))),
        pf_ring: capture::pf_ring_module(),
    }
}

fn text(file: &str) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

/// `none [integrity] confidentiality`: the one in brackets.
pub(super) fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// `MemAvailable` of /proc/meminfo, in bytes.
pub(super) fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}

fn softnet() -> Softnet {
    softnet_in(&fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default())
}

/// A line for each CPU, in hexadecimal: processed, dropped, squeezed …
pub(super) fn softnet_in(text: &str) -> Softnet {
    let mut sums = Softnet::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(|word| u64::from_str_radix(word, 16));
        if let (Some(_), Some(Ok(dropped)), Some(Ok(squeezed))) =
            (words.next(), words.next(), words.next())
        {
            sums.dropped += dropped;
            sums.squeezed += squeezed;
        }
    }
    sums
}

/// The exit code that goes with it.
pub fn exit_code(worst: Severity) -> u8 {
    match worst {
        Severity::Ok | Severity::Note => 0,
        Severity::Warning => 1,
        Severity::Failure => 2,
    }
}
