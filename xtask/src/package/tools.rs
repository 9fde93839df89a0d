//! The packers: each by its own tool, in a version that is stated here.
//!
//! **Invariant**: no tool builds anything of ours, and none may look at the clock.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use xtask::{process, toolchain::Places};

use crate::build;

/// Tools by the name of their crate, and their versions.
const TOOLS: [(&str, &str); 4] = [
    ("cargo-deb", "3.8.0"),
    ("cargo-generate-rpm", "0.21.1"),
    ("cargo-cyclonedx", "0.5.9"),
    ("cargo-deny", "0.20.2"),
];

/// The program of that tool, installed when it lacks.
pub(crate) fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let (name, version) = TOOLS
        .into_iter()
        .find(|(tool, _)| *tool == name)
        .with_context(|| format!("`{name}` is no tool of ours"))?;
    let folder = Places::from_environment()?.cargo_home.join("fastnetmon");
    let root = folder.join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.is_file() {
        eprintln!("setup: building {name} {version} into {} (some minutes)", root.display());
        let mut cargo = Command::new("cargo");
        process::forget_outer_cargo(&mut cargo);
        cargo.args(["install", "--locked", "--version", version, name, "--root"]).arg(&root);
        cargo.arg("--target-dir").arg(folder.join("build"));
        // The tools need no optimised code, and half the time to build.
        cargo.args(["--profile", "dev"]).env("CARGO_PROFILE_DEV_DEBUG", "0");
        process::run(&mut cargo)?;
    }
    Ok(program)
}

/// What the agent with these features is made of, as `CycloneDX`.
pub(super) fn bill_of_materials(
    root: &Path,
    out: &Path,
    features: &[&str],
    epoch: u64,
) -> anyhow::Result<PathBuf> {
    let made = root.join("fastnetmon-user/fastnetmon.cdx.json");
    let mut command = started(&tool("cargo-cyclonedx")?, root, epoch);
    command.args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--quiet"]);
    command.args(features);
    command.args(["--override-filename", "fastnetmon.cdx", "--manifest-path"]);
    command.arg(root.join("fastnetmon-user/Cargo.toml"));
    process::run(&mut command)?;
    let bill = out.join("fastnetmon.cdx.json");
    // It names our own crates by the folder they lie in here.
    let here = format!("file://{}", root.display());
    fs::write(&bill, fs::read_to_string(&made)?.replace(&here, "file:///fastnetmon"))?;
    fs::remove_file(&made)?;
    // The tool writes one for every member of the workspace.
    for member in ["fastnetmon-common", "pfring-sys", "pfring-sys/double", "xtask"] {
        remove_old(&root.join(member).join("fastnetmon.cdx.json"))?;
    }
    Ok(bill)
}

/// Debian's package.
pub(super) fn deb(root: &Path, out: &Path, stage: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    let package = out.join(format!("fastnetmon_{VERSION}-1_amd64.deb"));
    remove_old(&package)?;
    let mut command = started(&tool("cargo-deb")?, root, epoch);
    command.args(["deb", "--no-build", "--no-strip", "--package", "fastnetmon-user", "--output"]);
    command.arg(&package).env("STAGE", stage);
    process::run(&mut command)?;
    Ok(package)
}

/// The package of Red Hat's family, of what the tarball has.
pub(super) fn rpm(root: &Path, out: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    let package = out.join(format!("fastnetmon-{VERSION}-1.x86_64.rpm"));
    remove_old(&package)?;
    let mut command = started(&tool("cargo-generate-rpm")?, root, epoch);
    command.args(["generate-rpm", "--package", "fastnetmon-user", "--auto-req", "builtin"]);
    command.arg("--source-date").arg(epoch.to_string()).arg("--output").arg(&package);
    process::run(&mut command)?;
    Ok(package)
}

/// Everything in one folder, for hosts without our packages.
pub(super) fn tarball(out: &Path, stage: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    let name = format!("fastnetmon-{VERSION}-x86_64-static");
    let package = out.join(format!("{name}.tar.gz"));
    remove_old(&package)?;
    let plain = out.join(format!("{name}.tar"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name", "--owner=0", "--group=0"]);
    tar.args(["--numeric-owner", &format!("--mtime=@{epoch}")]);
    tar.arg(format!("--transform=s,^\\.,{name},")).arg("--file").arg(&plain);
    tar.arg("--directory").arg(stage).arg(".");
    process::run(&mut tar)?;
    process::run(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(&plain))?;
    Ok(package)
}

/// Our version; one for all.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn remove_old(package: &Path) -> anyhow::Result<()> {
    match fs::remove_file(package) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("`{}` cannot be replaced: {error}", package.display())
        }
        _ => Ok(()),
    }
}

/// A cargo subcommand, as cargo would start it.
fn started(program: &Path, root: &Path, epoch: u64) -> Command {
    let mut command = Command::new(program);
    process::forget_outer_cargo(&mut command);
    let cargo: OsString = build::cargo(root).get_program().to_owned();
    command.current_dir(root).env("CARGO", cargo);
    command.env("SOURCE_DATE_EPOCH", epoch.to_string());
    command
}
