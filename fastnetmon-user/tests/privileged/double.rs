//! Builds the double of PF_RING and says how an agent is made to meet it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A double, by what it lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Double {
    /// All there is.
    Whole,
    /// Only the functions that must be there.
    Bare,
}

/// How an agent reaches PF_RING's double.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// It opens the double of the library.
    Library,
    /// It speaks to the double of the kernel module.
    Socket,
}

impl Double {
    /// Where it is; built once a run.
    pub(crate) fn path(self) -> &'static Path {
        static WHOLE: OnceLock<PathBuf> = OnceLock::new();
        static BARE: OnceLock<PathBuf> = OnceLock::new();
        match self {
            Self::Whole => WHOLE.get_or_init(|| build("double", &[])),
            Self::Bare => BARE.get_or_init(|| build("double-bare", &["--features", "bare"])),
        }
    }
}

fn build(folder: &str, features: &[&str]) -> PathBuf {
    let target = xtask::root().join("target").join(folder);
    let status = Command::new(env!("CARGO"))
        .current_dir(xtask::root())
        .args(["build", "--quiet", "--release", "--locked", "--offline"])
        .args(["--package", "pfring-double"])
        .args(features)
        .arg("--target-dir")
        .arg(&target)
        .status()
        .unwrap();
    assert!(status.success(), "the double of PF_RING is not built: {status}");
    target.join("release/libpfring_double.so")
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Library, Self::Socket];

    /// Lines in `[capture]`, with more of them before the section that follows.
    pub(crate) fn capture(self, more: &str) -> String {
        let access = match self {
            Self::Library => {
                format!("access = \"library\"\nlibrary = \"{}\"", Double::Whole.path().display())
            }
            Self::Socket => "access = \"socket\"".to_owned(),
        };
        format!("engine = \"pf_ring\"\n{more}\n[capture.pf_ring]\n{access}")
    }

    /// By what the agent is started, so that it meets the double as this script describes it.
    pub(crate) fn by(self, script: &str, log: Option<&Path>) -> Vec<String> {
        let mut words = vec!["env".to_owned(), format!("PFRING_DOUBLE={script}")];
        if self == Self::Socket {
            words.push(format!("LD_PRELOAD={}", Double::Whole.path().display()));
        }
        words.extend(log.map(|log| format!("PFRING_DOUBLE_LOG={}", log.display())));
        words
    }

    /// What is told of losing a port by this way.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Library => "lib",
            Self::Socket => "sock",
        }
    }
}
