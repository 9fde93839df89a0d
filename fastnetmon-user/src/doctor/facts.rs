//! What was found, before anybody judges it.
//!
//! **Invariant**: data alone. What could not be known is `None` or an error with its reason.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::capture::{EngineName, RoleName};
use crate::control::{self, Status};
use crate::doctor::Outside;
use crate::doctor::findings::shell;
use crate::kernel::{Counted, Described, Knob, Setting};
use crate::networks::PrefixSet;

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the configuration wants.
    pub wanted: Wanted,
    /// The ports it names, or the agent watches.
    pub ports: Vec<Port>,
    /// Interfaces there are.
    pub there: Vec<String>,
    /// What the agent says.
    pub agent: Agent,
    /// What came by while we looked ourselves.
    pub look: Look,
    /// What the script is.
    pub script: Script,
    /// Folders that are written to.
    pub folders: Vec<Folder>,
    /// Who writes and calls: the agent, or whoever asks where none runs.
    pub process: Option<Process>,
    /// The machine.
    pub system: System,
    /// Between the first look at the counters and the last.
    pub span: Duration,
}

/// What the configuration wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The file.
    pub file: PathBuf,
    /// What it says.
    pub text: String,
    /// Why it cannot be used.
    pub error: Option<String>,
    /// Who is to see the packets.
    pub engine: EngineName,
    /// What the ports show.
    pub role: RoleName,
    /// The ports.
    pub interfaces: Vec<String>,
    /// Between two readings.
    pub tick: Duration,
    /// The group of the firewall's rules.
    pub nflog_group: u16,
    /// Rules that log to it, a command a line.
    pub nflog_rules: Vec<String>,
    /// Whose packets are counted.
    pub networks: Networks,
    /// Bytes of the tables, or why there are none.
    pub table_bytes: Result<u64, String>,
    /// What is called.
    pub script: PathBuf,
    /// Where the journal is; empty: nowhere.
    pub journal: PathBuf,
    /// Where reports of attacks go, if anywhere.
    pub attack_log: Option<PathBuf>,
    /// Where packets of attacks go, if anywhere.
    pub packets: Option<PathBuf>,
    /// Where the agent is asked.
    pub socket: PathBuf,
    /// The group of the socket, when the system has it.
    pub socket_group: Option<u32>,
    /// Does anybody get banned?
    pub bans: bool,
}

impl Wanted {
    /// The command that gives a key of a section this value, whether it is there or not.
    pub fn set(&self, section: &str, key: &str, value: &str) -> String {
        let file = shell(&self.file.display().to_string());
        let header = format!("[{section}]");
        let mut lines = self.text.lines().skip_while(|line| line.trim() != header);
        if lines.next().is_none() {
            return format!(r"printf '\n[{section}]\n{key} = {value}\n' >> {file}");
        }
        let is_key = |line: &str| {
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        if lines.take_while(|line| !line.starts_with('[')).any(is_key) {
            format!(r"sed -i '/^\[{section}\]/,/^\[/ s|^{key} *=.*|{key} = {value}|' {file}")
        } else {
            format!(r"sed -i '/^\[{section}\]/a {key} = {value}' {file}")
        }
    }
}

/// Whose packets are counted.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    /// The file that names them.
    pub list: PathBuf,
    /// Why it cannot be used.
    pub error: Option<String>,
    /// What it names, with what comes from elsewhere.
    pub ours: PrefixSet,
    /// Its last line is ended: another one can be put behind it.
    pub ends_with_line: bool,
}

/// A port.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What the kernel says of it; `None`: there is none.
    pub described: Option<Described>,
    /// What it counted while we looked.
    pub gained: Counted,
    /// What it is set to.
    pub knobs: BTreeMap<Knob, Setting>,
    /// Of the card's own counters of lost frames, those that grew, and by how much.
    pub losses: Vec<(String, u64)>,
}

/// What the agent says.
#[derive(Clone, Debug)]
pub enum Agent {
    /// Nobody answers.
    Nobody(String),
    /// We may not ask.
    Forbidden(String),
    /// It speaks another version.
    Foreign(String),
    /// It answered, and then no more.
    Lost(String),
    /// It answers.
    Answers(Box<Answer>),
}

/// An agent's answers.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// When we began to look.
    pub before: Status,
    /// When we ended.
    pub after: Status,
    /// Networks nothing was counted for.
    pub networks: Option<control::Networks>,
}

/// Packets that came by while we looked.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Why we could not look, or did not.
    pub blind: Option<String>,
    /// Packets that could be read.
    pub packets: u64,
    /// Of these, those with an end in our networks where it is counted.
    pub ours: u64,
    /// The others, by prefix, the most frequent first.
    pub outside: Vec<Outside>,
}

/// A file as the system has it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct File {
    /// Its kind and rights.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// The script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// `None`: there is none.
    pub file: Option<File>,
    /// What its first line names, and whether that is there.
    pub interpreter: Option<(PathBuf, bool)>,
}

/// A folder that is written to.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// For what.
    pub what: &'static str,
    /// Which.
    pub path: PathBuf,
    /// `None`: there is none.
    pub file: Option<File>,
    /// The agent makes it, where it lacks.
    pub is_made: bool,
    /// Its file system takes no writes.
    pub is_read_only: bool,
    /// Bytes that are left on it.
    pub free: u64,
    /// Of so many.
    pub size: u64,
}

/// A process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Process {
    /// It is the agent, not whoever asks.
    pub is_agent: bool,
    /// Its number.
    pub pid: u32,
    /// Whose it is.
    pub uid: u32,
    /// Of which group.
    pub gid: u32,
    /// And which others.
    pub groups: Vec<u32>,
    /// What the engine would miss of its rights.
    pub missing: Vec<&'static str>,
    /// It may write where its user may not (`CAP_DAC_OVERRIDE`).
    pub overrides: bool,
    /// How many files it may open.
    pub open_files: Option<u64>,
    /// How many bytes it may lock; `None`: any.
    pub locked_memory: Option<u64>,
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// What the kernel calls itself.
    pub release: String,
    /// Why XDP counting cannot run on it.
    pub refusal: Option<String>,
    /// What is done in a lesser way.
    pub remarks: Vec<&'static str>,
    /// `net.core.bpf_jit_enable`, where it can be set.
    pub bpf_jit: Option<u32>,
    /// How the kernel is locked down.
    pub lockdown: Option<String>,
    /// CPUs that run.
    pub cpus: u32,
    /// Bytes of memory that programs can have.
    pub memory: Option<u64>,
    /// What the kernel's queues lost.
    pub softnet: Softnet,
    /// The same, while we looked.
    pub softnet_gained: Softnet,
    /// The calendar.
    pub unix_secs: u64,
    /// Somebody keeps it.
    pub clock_kept: Option<bool>,
    /// Rules by the group they log to, or why that is not known.
    pub logged: Option<Result<BTreeMap<u16, usize>, String>>,
    /// The PF_RING module, when it is loaded.
    pub pf_ring: Option<String>,
}

/// Sums over `/proc/net/softnet_stat`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Softnet {
    /// Frames that found the queue of a CPU full.
    pub dropped: u64,
    /// Times a CPU had to stop before its queue was empty.
    pub squeezed: u64,
}
