//! `cargo xtask bench`: what the data path costs, beside what it must reach.
//!
//! **Invariant**: measures nothing itself. The bench is `fastnetmon-user/benches/datapath`, which may
//! use aya and the agent's rooms; this crate stays light.

use std::path::{Path, PathBuf};

use xtask::{object, process};

use crate::build;

/// What the bench is asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) json: Option<PathBuf>,
    pub(crate) write: bool,
    pub(crate) quick: bool,
    /// Only these parts.
    pub(crate) only: Vec<String>,
}

/// Builds what is measured, as it is shipped, and measures it.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    println!("bench: building");
    let object = object::build(root, &["bench"])?;
    let mut cargo = build::cargo(root);
    cargo
        .args(["bench", "--quiet", "--package", "fastnetmon-user", "--bench", "datapath", "--"])
        .arg("--object")
        .arg(object);
    if let Some(file) = &options.json {
        // The bench runs in the folder of its crate.
        cargo.arg("--json").arg(std::path::absolute(file)?);
    }
    if options.write {
        cargo.arg("--write").arg(root.join("docs/performance.md"));
    }
    if options.quick {
        cargo.arg("--quick");
    }
    for part in &options.only {
        cargo.arg("--only").arg(part);
    }
    process::run(&mut cargo)
}
