//! The configuration, its files, and the machine around the agent.
//!
//! **Invariant**: pure. Rights are judged for whoever writes and calls: the agent where one runs.

use crate::capture::{EngineName, RoleName};
use crate::control::Severity::{Failure, Note, Warning};
use crate::doctor::agent::counts_in_kernel;
use crate::doctor::findings::{Chart, again_as_root, shell};
use crate::doctor::{Agent, Facts, File, Folder, Id, Process};

/// An earlier calendar is a clock that was never set: 2025-01-01.
const EARLIEST: u64 = 1_735_689_600;

/// Bytes that must be left on a disk, and that should be.
const LEAST_FREE: u64 = 16 << 20;
const LITTLE_FREE: u64 = 256 << 20;

/// Files an agent may have open at once: sockets of clients, rings, scripts.
const OPEN_FILES: u64 = 1024;

/// Bytes an AF_XDP socket of one queue locks.
const LOCKED: u64 = 2 << 20;

/// Kinds of files, and rights (inode(7)).
const KIND: u32 = 0o170_000;
const PLAIN: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;

/// The configuration and the networks it names.
pub(super) fn configuration(facts: &Facts, chart: &mut Chart) {
    let wanted = &facts.wanted;
    let file = wanted.file.display().to_string();
    if let Some(error) = &wanted.error {
        let mend = vec![format!("fastnetmon check --config {}", shell(&file))];
        chart.put(Id::Configuration, Failure, Some(&file), format!("{error}."), mend);
        return;
    }
    let (engine, role) = (wanted.engine.name(), wanted.role.name());
    let names = wanted.interfaces.join(", ");
    let seen = format!("It is understood: engine {engine}, role {role}, interfaces {names}.");
    chart.fine(Id::Configuration, Some(&file), seen);
    let list = wanted.networks.list.display().to_string();
    if let Some(error) = &wanted.networks.error {
        let mend = vec![
            format!("printf '192.0.2.0/24\\n' >> {}    # your networks, one a line", shell(&list)),
            format!("fastnetmon check --config {}", shell(&file)),
        ];
        chart.put(Id::NetworksList, Failure, Some(&list), format!("{error}."), mend);
    } else if wanted.networks.ours.is_empty() {
        let seen = "It names no network, so every packet is somebody else's.".to_owned();
        let mend = vec![format!(
            "printf '192.0.2.0/24\\n' >> {}    # your networks, one a line",
            shell(&list)
        )];
        chart.put(Id::NetworksList, Failure, Some(&list), seen, mend);
    } else {
        let seen = format!("{} networks are guarded.", wanted.networks.ours.len());
        chart.fine(Id::NetworksList, Some(&list), seen);
        memory(facts, chart);
    }
}

fn memory(facts: &Facts, chart: &mut Chart) {
    let runs = matches!(facts.agent, Agent::Answers(_));
    match (&facts.wanted.table_bytes, facts.system.memory) {
        (Err(error), _) => {
            let mend = vec![facts.wanted.set("capture", "max_table_mb", "4096")];
            chart.put(Id::TableMemory, Failure, None, format!("{error}."), mend);
        }
        (&Ok(bytes), Some(free)) if bytes > free && !runs => {
            let seen = format!(
                "The tables take {} MB and programs can have {} MB.",
                bytes.div_ceil(1_000_000),
                free / 1_000_000
            );
            chart.put(Id::TableMemory, Warning, None, seen, vec!["free -m".to_owned()]);
        }
        (&Ok(bytes), _) => {
            let seen = format!("The tables take {} MB.", bytes.div_ceil(1_000_000));
            chart.fine(Id::TableMemory, None, seen);
        }
    }
}

/// The script and the folders.
pub(super) fn files(facts: &Facts, chart: &mut Chart) {
    script(facts, chart);
    for folder in &facts.folders {
        self::folder(facts, folder, chart);
    }
}

fn script(facts: &Facts, chart: &mut Chart) {
    let path = facts.wanted.script.display().to_string();
    let about = Some(path.as_str());
    let Some(file) = &facts.script.file else {
        let seen =
            "There is no script: attacks are listed and logged, and nobody is told.".to_owned();
        let example = "/usr/share/fastnetmon/notify_about_attack.sh";
        let mend = vec![format!("install -m 755 {example} {}", shell(&path))];
        chart.put(Id::Script, Warning, about, seen, mend);
        return;
    };
    if file.mode & KIND != PLAIN {
        let seen = "It is no file, so it cannot be called.".to_owned();
        let mend = vec![format!("ls -ld {}", shell(&path))];
        chart.put(Id::Script, Failure, about, seen, mend);
        return;
    }
    let needs = EXECUTE | if facts.script.interpreter.is_some() { READ } else { 0 };
    if !may(*file, facts.process.as_ref(), needs) {
        let seen = may_not(facts.process.as_ref(), "call it", *file);
        chart.put(Id::Script, Failure, about, seen, vec![format!("chmod 755 {}", shell(&path))]);
        return;
    }
    match &facts.script.interpreter {
        Some((interpreter, false)) => {
            // A file that came from Windows ends its lines twice.
            let is_windows = interpreter.as_os_str().as_encoded_bytes().ends_with(b"\r");
            let interpreter = interpreter.display().to_string();
            let seen = format!("Its first line names {interpreter:?}, and there is none.");
            let mend = vec![if is_windows {
                format!("sed -i 's/\\r$//' {}", shell(&path))
            } else {
                format!("ls -l {}    # install it, or name another one", shell(&interpreter))
            }];
            chart.put(Id::Script, Failure, about, seen, mend);
        }
        Some((interpreter, true)) => {
            let seen = format!("It can be called, by `{}`.", interpreter.display());
            chart.fine(Id::Script, about, seen);
        }
        None => chart.fine(Id::Script, about, "It can be called.".to_owned()),
    }
}

fn folder(facts: &Facts, folder: &Folder, chart: &mut Chart) {
    let path = folder.path.display().to_string();
    let (about, what) = (Some(path.as_str()), folder.what);
    let runs = facts.process.as_ref().is_some_and(|process| process.is_agent);
    let user = facts.process.as_ref().map_or(0, |process| process.uid);
    let Some(file) = folder.file else {
        if folder.is_made {
            chart.fine(Id::Folder, about, format!("It is made for {what} when the agent starts."));
            return;
        }
        let seen = format!("There is no such folder; it is for {what}.");
        let whose = if runs { format!("-o {user} ") } else { String::new() };
        let mend = vec![format!("install -d -m 750 {whose}{}", shell(&path))];
        chart.put(Id::Folder, Warning, about, seen, mend);
        return;
    };
    if file.mode & KIND != FOLDER {
        let seen = format!("It is no folder, and it is to be one for {what}.");
        chart.put(Id::Folder, Failure, about, seen, vec![format!("ls -ld {}", shell(&path))]);
        return;
    }
    if folder.is_read_only {
        let seen = format!("Its file system takes no writes; it is for {what}.");
        let mend = vec![format!("findmnt -T {}", shell(&path))];
        chart.put(Id::Folder, Failure, about, seen, mend);
        return;
    }
    if !may(file, facts.process.as_ref(), WRITE | EXECUTE) {
        let seen = may_not(facts.process.as_ref(), &format!("write there ({what})"), file);
        let mend =
            vec![format!("chown {user} {}", shell(&path)), format!("chmod u+rwx {}", shell(&path))];
        // Whoever asks is not the one who will write.
        chart.put(Id::Folder, if runs { Failure } else { Note }, about, seen, mend);
        return;
    }
    chart.fine(Id::Folder, about, format!("It can be written, for {what}."));
    let (free, size) = (folder.free, folder.size);
    let seen = format!("{} MB of {} MB are free for {what}.", free >> 20, size >> 20);
    let severity = match free {
        free if free < LEAST_FREE => Failure,
        free if free < LITTLE_FREE => Warning,
        _ => {
            chart.fine(Id::Disk, about, seen);
            return;
        }
    };
    chart.put(
        Id::Disk,
        severity,
        about,
        seen,
        vec![format!("du -xh {} | sort -h | tail", shell(&path))],
    );
}

/// May this process do that with the file? Nobody known: it is taken for root.
fn may(file: File, process: Option<&Process>, rights: u32) -> bool {
    let any = file.mode | file.mode >> 3 | file.mode >> 6;
    let Some(process) = process.filter(|process| !process.overrides) else {
        // Root may all but call what nobody may.
        let is_folder = file.mode & KIND == FOLDER;
        return is_folder || any & rights & EXECUTE == rights & EXECUTE;
    };
    let given = if process.uid == file.uid {
        file.mode >> 6
    } else if process.gid == file.gid || process.groups.contains(&file.gid) {
        file.mode >> 3
    } else {
        file.mode
    };
    given & rights == rights
}

/// That this process may not do that with a file, and whose it is.
fn may_not(process: Option<&Process>, what: &str, file: File) -> String {
    let File { mode, uid, gid } = file;
    let mode = mode & 0o7777;
    format!("{} may not {what}: its mode is {mode:04o}, its owner {uid}:{gid}.", who(process))
}

fn who(process: Option<&Process>) -> String {
    match process {
        Some(process) if process.is_agent => format!("The agent (user {})", process.uid),
        Some(process) => format!("User {}", process.uid),
        None => "Nobody".to_owned(),
    }
}

/// The machine.
pub(super) fn machine(facts: &Facts, chart: &mut Chart) {
    if facts.wanted.error.is_none() {
        kernel(facts, chart);
        engines(facts, chart);
        rights(facts, chart);
    }
    softnet(facts, chart);
    clock(facts, chart);
}

fn kernel(facts: &Facts, chart: &mut Chart) {
    let system = &facts.system;
    let engine = facts.wanted.engine;
    let release = &system.release;
    let runs = matches!(facts.agent, Agent::Answers(_));
    if !counts_in_kernel(engine) {
        chart.fine(Id::Kernel, None, format!("Linux {release}; the engine needs no BPF."));
        return;
    }
    match &system.refusal {
        // What runs has what it needs; whoever asks may not be allowed to know.
        Some(refusal) if !runs => {
            let severity = if engine == EngineName::Auto { Note } else { Failure };
            let mend = vec![facts.wanted.set("capture", "engine", "\"auto\"")];
            chart.put(Id::Kernel, severity, None, format!("{refusal}."), mend);
        }
        _ => {
            for remark in &system.remarks {
                chart.note(Id::Kernel, None, (*remark).to_owned());
            }
            if system.remarks.is_empty() {
                let seen = format!("Linux {release} has all that XDP counting uses.");
                chart.fine(Id::Kernel, None, seen);
            }
        }
    }
    match system.bpf_jit {
        Some(0) => chart.put(
            Id::BpfJit,
            Warning,
            None,
            "BPF programs are interpreted (`net.core.bpf_jit_enable` is 0): each packet costs \
             several times as much."
                .to_owned(),
            vec![
                "sysctl -w net.core.bpf_jit_enable=1".to_owned(),
                "echo net.core.bpf_jit_enable=1 > /etc/sysctl.d/90-bpf-jit.conf".to_owned(),
            ],
        ),
        Some(_) => chart.fine(Id::BpfJit, None, "BPF programs are compiled.".to_owned()),
        None => {}
    }
    match system.lockdown.as_deref() {
        Some("none") | None => {}
        Some(how) => chart.note(
            Id::Lockdown,
            None,
            format!("The kernel is locked down ({how}): it may refuse BPF programs or their maps."),
        ),
    }
}

fn engines(facts: &Facts, chart: &mut Chart) {
    let wanted = &facts.wanted;
    if wanted.engine == EngineName::Nflog {
        let group = wanted.nflog_group;
        match &facts.system.logged {
            Some(Ok(groups)) => {
                if let Some(rules) = groups.get(&group) {
                    let seen = format!("{rules} rules of the firewall log to group {group}.");
                    chart.fine(Id::NflogRules, None, seen);
                } else {
                    let others: Vec<String> = groups.keys().map(ToString::to_string).collect();
                    let others =
                        if others.is_empty() { "none".to_owned() } else { others.join(", ") };
                    let seen = format!(
                        "No rule of nf_tables logs to group {group} (groups there are: {others}), \
                         so the engine nflog is shown nothing."
                    );
                    let mend = wanted.nflog_rules.clone();
                    chart.put(Id::NflogRules, Failure, None, seen, mend);
                }
            }
            Some(Err(reason)) => {
                let seen = format!("Whether a rule logs to group {group} is not known: {reason}.");
                chart.put(Id::NflogRules, Note, None, seen, vec!["nft list ruleset".to_owned()]);
            }
            None => {}
        }
    }
    if wanted.engine == EngineName::PfRing {
        match &facts.system.pf_ring {
            Some(module) => {
                chart.fine(Id::PfRing, None, format!("{module} is loaded."));
            }
            None => chart.put(
                Id::PfRing,
                Failure,
                None,
                "The kernel module of PF_RING is not loaded in this namespace.".to_owned(),
                vec!["modprobe pf_ring".to_owned()],
            ),
        }
    }
}

fn rights(facts: &Facts, chart: &mut Chart) {
    if facts.wanted.socket_group.is_none() {
        chart.put(
            Id::SocketGroup,
            Note,
            None,
            "There is no group `fastnetmon`: only root and the agent's user may ask.".to_owned(),
            vec!["groupadd --system fastnetmon".to_owned()],
        );
    } else {
        let seen = "Members of the group `fastnetmon` may ask.".to_owned();
        chart.fine(Id::SocketGroup, None, seen);
    }
    let Some(process) = &facts.process else { return };
    let whose = who(Some(process));
    // An agent that runs had what it needed, and may have given it back.
    if process.missing.is_empty() || process.is_agent {
        let seen = format!("{whose} has, or had, the rights the engine needs.");
        chart.fine(Id::Capabilities, None, seen);
    } else {
        let seen = format!(
            "{whose}, who asks, has not got {}: an agent started so would not run, and some of \
             this could not be looked at.",
            process.missing.join(", ")
        );
        chart.put(Id::Capabilities, Note, None, seen, vec![again_as_root(facts)]);
    }
    if let Some(open_files) = process.open_files {
        let seen = format!("{whose} may open {open_files} files.");
        if open_files < OPEN_FILES {
            let mend = drop_in(&format!("LimitNOFILE={}", OPEN_FILES * 64));
            chart.put(Id::OpenFiles, Warning, None, seen, mend);
        } else {
            chart.fine(Id::OpenFiles, None, seen);
        }
    }
    locked(facts, process, chart);
}

/// AF_XDP sockets lock memory, and before Linux 5.11 BPF maps did.
fn locked(facts: &Facts, process: &Process, chart: &mut Chart) {
    let engine = facts.wanted.engine;
    if !counts_in_kernel(engine) {
        return;
    }
    let is_mirror = facts.wanted.role == RoleName::Mirror;
    let is_old = version(&facts.system.release).is_some_and(|version| version < (5, 11));
    let tables = facts.wanted.table_bytes.as_ref().copied().unwrap_or(0);
    let needed = if is_old { tables } else { 0 } + if is_mirror { LOCKED } else { 0 };
    let whose = who(Some(process));
    match process.locked_memory {
        Some(limit) if limit < needed => {
            let why = if is_old { "the tables" } else { "a socket of AF_XDP for each queue" };
            let seen = format!(
                "{whose} may lock {} kB of memory, and {why} take {} kB.",
                limit / 1024,
                needed / 1024
            );
            let severity = if is_old { Failure } else { Warning };
            chart.put(Id::LockedMemory, severity, None, seen, drop_in("LimitMEMLOCK=infinity"));
        }
        Some(limit) => {
            let seen =
                format!("{whose} may lock {} kB; {} kB are needed.", limit / 1024, needed / 1024);
            chart.fine(Id::LockedMemory, None, seen);
        }
        None => {
            chart.fine(
                Id::LockedMemory,
                None,
                format!("{whose} may lock as much memory as it wants."),
            );
        }
    }
}

/// A line for the unit.
fn drop_in(line: &str) -> Vec<String> {
    vec![
        "mkdir -p /etc/systemd/system/fastnetmon.service.d".to_owned(),
        format!(
            "printf '[Service]\\n{line}\\n' > /etc/systemd/system/fastnetmon.service.d/limits.conf"
        ),
        "systemctl daemon-reload && systemctl restart fastnetmon".to_owned(),
    ]
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn softnet(facts: &Facts, chart: &mut Chart) {
    let (total, gained) = (facts.system.softnet, facts.system.softnet_gained);
    let secs = facts.span.as_secs_f64();
    if gained.dropped > 0 {
        let seen = format!(
            "The kernel's queues had no room for {} frames in {secs:.1} s; {} times a CPU stopped \
             before its queue was empty.",
            gained.dropped, gained.squeezed
        );
        let mend = vec![
            "sysctl -w net.core.netdev_max_backlog=16384".to_owned(),
            "sysctl -w net.core.netdev_budget=1200".to_owned(),
        ];
        chart.put(Id::Softnet, Warning, None, seen, mend);
    } else if total.dropped > 0 {
        let seen = format!(
            "The kernel's queues lost {} frames since the machine started, none in the last \
             {secs:.1} s.",
            total.dropped
        );
        chart.note(Id::Softnet, None, seen);
    } else {
        let seen = format!(
            "The kernel's queues lost nothing; {} times a CPU stopped early.",
            total.squeezed
        );
        chart.fine(Id::Softnet, None, seen);
    }
}

fn clock(facts: &Facts, chart: &mut Chart) {
    let secs = facts.system.unix_secs;
    if secs < EARLIEST {
        let years = 1970 + secs / 31_556_952;
        let seen = format!(
            "The clock stands at {secs} s after 1970, the year {years}: bans, reports and logs have \
             wrong times, and certificates are refused."
        );
        let mend = vec!["timedatectl set-ntp true".to_owned()];
        chart.put(Id::Clock, Failure, None, seen, mend);
        return;
    }
    chart.fine(Id::Clock, None, format!("The calendar is {secs} s after 1970."));
    match facts.system.clock_kept {
        Some(false) => chart.put(
            Id::ClockKept,
            Note,
            None,
            "Nobody keeps the clock right (the kernel calls it unsynchronised): times in reports \
             drift."
                .to_owned(),
            vec!["timedatectl set-ntp true".to_owned()],
        ),
        Some(true) => chart.fine(Id::ClockKept, None, "The clock is synchronised.".to_owned()),
        None => {}
    }
}
