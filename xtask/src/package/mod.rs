//! `cargo xtask package`: a `.deb`, an `.rpm` and a tarball with a static binary.
//!
//! **Invariants**: what is packed is built from this commit, with no path of this machine and no time
//! but that of the commit in it, so that two builds of one commit are the same to the last byte. All
//! that is installed is laid out once, under `target/package/stage`; each format packs that.

mod links;
mod stage;
mod tools;
mod trial;
mod twice;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use xtask::process;

use crate::build;

pub(crate) use self::tools::tool;
pub(crate) use self::trial::run as try_out;
pub(crate) use self::twice::{build as build_again, pack as pack_again};

/// What is to be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    All,
    /// The tarball with the static binary alone.
    Static,
}

/// Where the packages are, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    pub(crate) deb: Option<PathBuf>,
    pub(crate) rpm: Option<PathBuf>,
    pub(crate) tarball: PathBuf,
}

impl Packages {
    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.deb.iter().chain(&self.rpm).chain([&self.tarball])
    }
}

/// Builds and packs; prints what was made, with its SHA-256.
pub(crate) fn run(root: &Path, scope: Scope) -> anyhow::Result<Packages> {
    let packages = make(root, scope)?;
    for package in packages.all() {
        let sum = process::output(Command::new("sha256sum").arg(package))?;
        println!("{}", sum.trim_end());
    }
    Ok(packages)
}

fn make(root: &Path, scope: Scope) -> anyhow::Result<Packages> {
    let out = root.join("target/package");
    fs::create_dir_all(&out)?;
    let epoch = commit_time(root)?;
    let mut packages = Packages::default();
    if scope == Scope::All {
        let binary = reproducible(root, &Linkage::Dynamic)?;
        let bill = tools::bill_of_materials(root, &out, &[], epoch)?;
        let stage = stage::lay_out(root, &out.join("stage"), &binary, &bill)?;
        packages.deb = Some(tools::deb(root, &out, &stage, epoch)?);
    }
    let binary = reproducible(root, &Linkage::Static)?;
    packages.tarball = pack_static(root, &out, &binary, epoch)?;
    if scope == Scope::All {
        // Of the libraries we link, Red Hat's family has other versions under other names.
        packages.rpm = Some(tools::rpm(root, &out, epoch)?);
    }
    Ok(packages)
}

/// Packs the static binary.
fn pack_static(root: &Path, out: &Path, binary: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    let bill = tools::bill_of_materials(root, out, &STATIC_FEATURES, epoch)?;
    let stage = stage::lay_out(root, &out.join("stage-static"), binary, &bill)?;
    tools::tarball(out, &stage, epoch)
}

/// How the binary finds its libraries.
enum Linkage {
    /// glibc and libraries of the distribution: everything we have.
    Dynamic,
    /// All within itself: no libpcap, no libpfring, no AF_XDP library; runs where nothing is.
    Static,
}

/// What is left out of the static binary needs libraries that are opened at run time, or C.
const STATIC_FEATURES: [&str; 1] = ["--no-default-features"];

/// Named, so that build scripts and procedural macros are not linked as the binary is.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the agent with no path of this machine in it, and returns where it is.
fn reproducible(root: &Path, linkage: &Linkage) -> anyhow::Result<PathBuf> {
    let home = xtask::toolchain::Places::from_environment()?.cargo_home;
    let (root_path, home_path) = (root.display(), home.display());
    let mut flags = vec![
        format!("--remap-path-prefix={root_path}=/fastnetmon"),
        format!("--remap-path-prefix={home_path}=/cargo"),
    ];
    let folder = root.join("target").join(match linkage {
        Linkage::Dynamic => "package-dynamic",
        Linkage::Static => "package-static",
    });
    let mut cargo = build::cargo(root);
    cargo.args(["build", "--release", "--locked", "--package", "fastnetmon-user"]);
    cargo.args(["--target", TARGET, "--target-dir"]).arg(&folder);
    if matches!(linkage, Linkage::Static) {
        flags.push("-Ctarget-feature=+crt-static".to_owned());
        cargo.args(STATIC_FEATURES);
    }
    let c_flags =
        format!("-ffile-prefix-map={root_path}=/fastnetmon -ffile-prefix-map={home_path}=/cargo");
    // libxdp's build calls clang for its BPF programs with flags of its own, and would leave the folder
    // in them: what the driver itself reads from here it adds to every call ("#": without a word).
    let by_clang = c_flags.split(' ').map(|flag| format!("+{flag}")).collect::<Vec<_>>().join(" ");
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CCC_OVERRIDE_OPTIONS", format!("# {by_clang}"))
        .env("CFLAGS", c_flags);
    process::run(&mut cargo)?;
    let binary = folder.join(TARGET).join("release/fastnetmon");
    if matches!(linkage, Linkage::Static) {
        let headers = process::output(Command::new("readelf").arg("-d").arg(&binary))?;
        ensure!(
            !headers.contains("(NEEDED)"),
            "`{}` should be static and needs libraries:\n{headers}",
            binary.display()
        );
    }
    Ok(binary)
}

/// The time of the commit, in seconds since 1970: the only one in the packages.
fn commit_time(root: &Path) -> anyhow::Result<u64> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["log", "-1", "--format=%ct"]);
    process::output(&mut git)?.trim().parse().context("git told no time of the last commit")
}
