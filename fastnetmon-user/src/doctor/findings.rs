//! Names of findings, and the list they are put into.
//!
//! **Invariant**: a name stays: scripts and docs/troubleshooting.md go by it.

use crate::control::{Finding, SelfCheck, Severity};
use crate::doctor::Facts;

macro_rules! ids {
    ($($(#[$doc:meta])* $id:ident = $name:literal,)*) => {
        /// What was looked at.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Id {
            $($(#[$doc])* $id,)*
        }

        impl Id {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$id,)*];

            /// The name that stays.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$id => $name,)*
                }
            }
        }
    };
}

ids! {
    /// The configuration can be read.
    Configuration = "configuration",
    /// So can the networks.
    NetworksList = "networks_list",
    /// There is memory for the tables.
    TableMemory = "table_memory",
    /// An agent answers.
    Agent = "agent",
    /// What it complains of.
    Alarm = "alarm",
    /// What it lost.
    Loss = "loss",
    /// What it could not read.
    Unparsed = "unparsed",
    /// How long a reading takes.
    Tick = "tick",
    /// It sees what the ports count.
    Packets = "packets",
    /// Packets are those of our networks.
    Match = "match",
    /// Networks nothing was counted for.
    SilentNetworks = "silent_networks",
    /// Traffic of private addresses that are not ours.
    PrivateRanges = "private_ranges",
    /// Both directions are seen.
    Directions = "directions",
    /// The interfaces are named and there.
    Interface = "interface",
    /// They are up.
    Link = "link",
    /// XDP hangs on them, ours, natively.
    Xdp = "xdp",
    /// As many queues as CPUs.
    Queues = "queues",
    /// The card takes VLAN tags off.
    VlanOffload = "vlan_offload",
    /// The card puts packets together.
    Lro = "lro",
    /// The kernel does.
    Gro = "gro",
    /// Frames are short enough for XDP.
    Mtu = "mtu",
    /// A mirror port takes all frames.
    Promiscuous = "promiscuous",
    /// Receive rings are long enough.
    Ring = "ring",
    /// The card loses frames.
    Drops = "drops",
    /// The kernel loses frames.
    Softnet = "softnet",
    /// The calendar is right.
    Clock = "clock",
    /// Somebody keeps it so.
    ClockKept = "clock_kept",
    /// The rights there are.
    Capabilities = "capabilities",
    /// The script can be called.
    Script = "script",
    /// Folders can be written.
    Folder = "folder",
    /// There is room on the disk.
    Disk = "disk",
    /// There is a group for the control socket.
    SocketGroup = "socket_group",
    /// How many files may be open.
    OpenFiles = "open_files",
    /// How much memory may be locked.
    LockedMemory = "locked_memory",
    /// The kernel can do what the engine needs.
    Kernel = "kernel",
    /// BPF programs are compiled.
    BpfJit = "bpf_jit",
    /// The kernel is locked down.
    Lockdown = "lockdown",
    /// The firewall logs to the group.
    NflogRules = "nflog_rules",
    /// The module is loaded.
    PfRing = "pf_ring",
    /// Somebody would be banned.
    Bans = "bans",
}

/// Where findings are put.
#[derive(Debug, Default)]
pub(super) struct Chart(Vec<Finding>);

impl Chart {
    /// Puts one down, with the commands that mend it.
    pub(super) fn put(
        &mut self,
        id: Id,
        severity: Severity,
        about: Option<&str>,
        seen: String,
        mend: Vec<String>,
    ) {
        let (id, about) = (id.name().to_owned(), about.map(ToOwned::to_owned));
        self.0.push(Finding { id, severity, about, seen, mend });
    }

    /// All is well there.
    pub(super) fn fine(&mut self, id: Id, about: Option<&str>, seen: String) {
        self.put(id, Severity::Ok, about, seen, Vec::new());
    }

    /// Worth knowing; nothing to mend.
    pub(super) fn note(&mut self, id: Id, about: Option<&str>, seen: String) {
        self.put(id, Severity::Note, about, seen, Vec::new());
    }

    /// The worst first, otherwise as they were put down.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.0
    }
}

/// The doctor, for somebody who may look at more.
pub(super) fn again_as_root(facts: &Facts) -> String {
    format!("sudo fastnetmon doctor --config {}", shell(&facts.wanted.file.display().to_string()))
}

/// A word as a shell takes it whole.
pub(super) fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// How bad the worst is.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

/// `1 failure, 2 warnings, 3 notes`.
pub fn summary(findings: &[Finding]) -> String {
    let count = |of| findings.iter().filter(|finding| finding.severity == of).count();
    let words: Vec<String> = [Severity::Failure, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(|severity| match count(severity) {
            0 => None,
            1 => Some(format!("1 {}", severity.name())),
            many => Some(format!("{many} {}s", severity.name())),
        })
        .collect();
    if words.is_empty() { "nothing is wrong".to_owned() } else { words.join(", ") }
}

/// The part of it that an agent shows of itself.
pub fn self_check(findings: Vec<Finding>, unix_secs: u64) -> SelfCheck {
    let count = |of| {
        let many = findings.iter().filter(|finding| finding.severity == of).count();
        u64::try_from(many).unwrap_or(u64::MAX)
    };
    let (failures, warnings) = (count(Severity::Failure), count(Severity::Warning));
    let bad = findings.into_iter().filter(|finding| finding.severity >= Severity::Warning);
    SelfCheck { unix_secs, failures, warnings, findings: bad.take(SHOWN).collect() }
}

/// Findings that an agent shows of itself, at most.
const SHOWN: usize = 20;
