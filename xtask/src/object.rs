//! Builds the kernel programs: the one place that knows compiler, linker and flags.
//!
//! **Invariants**: installs nothing; what lacks is named together with the command that brings it.
//! Nothing of an outer cargo reaches the inner one, so the object is the same from a shell, from a
//! build script and under clippy.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    process, slim,
    toolchain::{Places, Toolchain},
};

const TARGET: &str = "bpfel-unknown-none";

/// Builds `fastnetmon-ebpf` with these features and returns the path of the object, which has BTF and no
/// other debug information. Each set of features has a folder of its own, so that going back and forth compiles nothing anew.
pub fn build(root: &Path, features: &[&str]) -> anyhow::Result<PathBuf> {
    let places = Places::from_environment()?;
    let toolchain = Toolchain::find(&places).map_err(|lack| {
        anyhow::anyhow!("the kernel programs cannot be built, this machine lacks {lack}: run `cargo xtask setup`")
    })?;
    let package = root.join("fastnetmon-ebpf");
    if !package.join("Cargo.toml").is_file() {
        bail!("`{}` is missing: the kernel programs are built from it", package.display());
    }
    let mut target_dir = root.join("target/ebpf");
    if !features.is_empty() {
        target_dir.set_file_name(format!("ebpf-{}", features.join("-")));
    }

    let wrapper = wrapper(&target_dir)?;
    let mut cargo = Command::new(&toolchain.cargo);
    process::forget_outer_cargo(&mut cargo);
    cargo
        .current_dir(&package)
        .args(["build", "--quiet", "--release", "--target", TARGET, "-Z", "build-std=core"])
        .args(["--features", &features.join(",")])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_WRAPPER", &wrapper)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(std::env::consts::ARCH, root, &places.cargo_home))
        // The standard output of a build script is a list of orders to cargo.
        .stdout(Stdio::null());
    if package.join("Cargo.lock").is_file() {
        cargo.arg("--locked");
    }
    if !toolchain.is_nightly() {
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    process::run(&mut cargo)
        .with_context(|| format!("the kernel programs did not build with {toolchain}"))?;

    let object = target_dir.join(TARGET).join("release/fastnetmon");
    let whole = fs::read(&object).with_context(|| {
        format!(
            "`{}` is missing after the build: fastnetmon-ebpf needs a [[bin]] named `fastnetmon`",
            object.display()
        )
    })?;
    let slim = slim::without_debug_information(&whole)
        .with_context(|| format!("`{}` is not what was to be built", object.display()))?;
    let object = object.with_extension("o");
    put(&object, &slim, 0o644)?;
    Ok(object)
}

/// Between cargo and the compiler: gives our crates a hash that does not depend on the folder.
///
/// Cargo takes the folder of a crate into its hash when the crate lies outside of the workspace, as
/// `fastnetmon-common` does here. The hash is part of every symbol, and the order of symbols decides how
/// the optimiser goes about: in another folder the programs would be others, up to the number of
/// instructions that the verifier walks.
const WRAPPER: &str = r#"#!/bin/sh
compiler=$1
shift
case ${CARGO_PKG_NAME-} in
fastnetmon-*)
    for word; do
        shift
        case $word in metadata=*) word=metadata=$CARGO_PKG_NAME ;; esac
        set -- "$@" "$word"
    done
    ;;
esac
exec "$compiler" "$@"
"#;

/// Writes it where the build is.
fn wrapper(target_dir: &Path) -> anyhow::Result<PathBuf> {
    let wrapper = target_dir.join("compiler.sh");
    fs::create_dir_all(target_dir)
        .with_context(|| format!("`{}` cannot be made", target_dir.display()))?;
    put(&wrapper, WRAPPER.as_bytes(), 0o755)?;
    Ok(wrapper)
}

/// Writes a file, unless it is there: it keeps its age then, and nothing is built again for it. Whole or
/// not at all: builds may run side by side.
fn put(file: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    if fs::read(file).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let aside = file.with_extension(format!("{}.aside", std::process::id()));
    let written = fs::write(&aside, bytes)
        .and_then(|()| fs::set_permissions(&aside, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&aside, file));
    written.with_context(|| format!("`{}` cannot be written", file.display()))
}

/// What the object is made from; a build script watches these.
pub fn inputs(root: &Path) -> Vec<PathBuf> {
    [
        "fastnetmon-ebpf/Cargo.toml",
        "fastnetmon-ebpf/Cargo.lock",
        "fastnetmon-ebpf/src",
        "fastnetmon-common/Cargo.toml",
        "fastnetmon-common/src",
    ]
    .into_iter()
    .map(|input| root.join(input))
    .filter(|input| input.exists())
    .collect()
}

/// Debug information and BTF, which the loader needs, the architecture the probes read, and all
/// comparisons (Linux 4.14). Not half registers: docs/adr/0022. No folder of this machine, so that the
/// object is the same wherever it is built. Separated as cargo wants it, for folders with a blank.
fn flags(architecture: &str, root: &Path, cargo_home: &Path) -> String {
    [
        "-Cdebuginfo=2".to_owned(),
        "-Ctarget-cpu=v2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        format!("--remap-path-prefix={}=/fastnetmon", root.display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
    ]
    .join("\u{1f}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_ask_for_btf_name_the_architecture_and_hide_the_folders() {
        let flags = flags("x86_64", Path::new("/a b"), Path::new("/home/.cargo"));
        let flags: Vec<&str> = flags.split('\u{1f}').collect();
        let expected = [
            "-Cdebuginfo=2",
            "-Ctarget-cpu=v2",
            "-Clink-arg=--btf",
            r#"--cfg=bpf_target_arch="x86_64""#,
            "--remap-path-prefix=/a b=/fastnetmon",
            "--remap-path-prefix=/home/.cargo=/cargo",
        ];
        assert_eq!(flags, expected);
    }

    #[test]
    fn our_crates_have_a_hash_that_does_not_depend_on_the_folder_and_others_keep_theirs() {
        let folder = std::env::temp_dir().join(format!("fnm-wrapper-{}", std::process::id()));
        let wrapper = wrapper(&folder).unwrap();
        let said = |package: Option<&str>| {
            let mut command = Command::new(&wrapper);
            command.args(["printf", "%s|", "-C", "metadata=12 ab", "--cfg=a=\"b c\""]);
            match package {
                Some(package) => command.env("CARGO_PKG_NAME", package),
                None => command.env_remove("CARGO_PKG_NAME"),
            };
            process::output(&mut command).unwrap()
        };
        let as_it_was = "-C|metadata=12 ab|--cfg=a=\"b c\"|";
        assert_eq!(said(None), as_it_was);
        assert_eq!(said(Some("zerocopy")), as_it_was);
        assert_eq!(
            said(Some("fastnetmon-common")),
            "-C|metadata=fastnetmon-common|--cfg=a=\"b c\"|"
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_tree_without_the_kernel_programs_is_an_error_that_names_them() {
        let error = build(Path::new("/no/such/tree"), &[]).unwrap_err().to_string();
        // On a machine that is not set up the first lack is the toolchain.
        assert!(
            error.contains("/no/such/tree/fastnetmon-ebpf") || error.contains("cargo xtask setup"),
            "{error}"
        );
    }

    #[test]
    fn only_inputs_that_exist_are_watched() {
        assert!(inputs(Path::new("/no/such/tree")).is_empty());
    }
}
