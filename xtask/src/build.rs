//! `cargo xtask build` and `build-ebpf`: the agent, and the kernel programs alone.
//!
//! **Invariant**: the agent's own build script builds the kernel programs, so one cannot be newer
//! than the other.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use xtask::{object, process};

/// Builds the kernel programs; prints where they are and how large.
pub(crate) fn kernel_programs(root: &Path) -> anyhow::Result<()> {
    let object = object::build(root, &[])?;
    println!("{} ({} bytes)", object.display(), std::fs::metadata(&object)?.len());
    Ok(())
}

/// Builds the agent as it is shipped and returns where it is.
pub(crate) fn agent(root: &Path) -> anyhow::Result<PathBuf> {
    let target = root.join("target");
    process::run(
        cargo(root)
            .args(["build", "--release", "--package", "fastnetmon-user", "--target-dir"])
            .arg(&target),
    )?;
    Ok(target.join("release/fastnetmon"))
}

/// The cargo that started us, in the workspace.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}
