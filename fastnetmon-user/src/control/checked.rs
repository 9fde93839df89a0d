//! What a look for mistakes found: the words of `fastnetmon doctor` and of the agent's own look.

use serde::{Deserialize, Serialize};

/// How bad it is, from good to bad.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Something is counted wrong, late or not at all, or may be soon.
    Warning,
    /// Nothing is counted, or nobody would be told.
    Failure,
}

impl Severity {
    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: a name that stays, and a section of docs/troubleshooting.md.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// An interface, a file or a network; `null`: the whole.
    pub about: Option<String>,
    /// What was seen, with its numbers.
    pub seen: String,
    /// The commands that mend it, in order; nothing where there is nothing to mend.
    pub mend: Vec<String>,
}

/// The agent's own look, half a minute after its start.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct SelfCheck {
    /// When it was taken, in seconds since 1970.
    pub unix_secs: u64,
    /// Failures there were.
    pub failures: u64,
    /// Warnings there were.
    pub warnings: u64,
    /// Both, the worst first; what is fine or only worth knowing is not among them.
    pub findings: Vec<Finding>,
}

/// Networks for which nothing was counted since the agent started.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Networks {
    /// Networks that are guarded, after merging.
    pub guarded: u64,
    /// Networks of which every line was looked at; those that are too large were left out.
    pub looked_at: u64,
    /// Of these, the ones nothing was counted for.
    pub silent: u64,
    /// The first of them.
    pub first: Vec<String>,
}
