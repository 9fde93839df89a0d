//! Runs other programs, and makes their failures readable.
//!
//! **Invariant**: an error names the whole command line and says what the program said.

use std::{
    ffi::OsStr,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// Runs the command with its output going where ours goes; an error unless it succeeds.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| could_not_start(command))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs the command quietly and returns what it wrote to its standard output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| could_not_start(command))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", line(command), output.status, said.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not text", line(command)))
}

/// Runs the command with this text as its standard input; an error unless it succeeds.
pub fn feed(command: &mut Command, text: &str) -> anyhow::Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| could_not_start(command))?;
    if let Some(mut input) = child.stdin.take() {
        // A program that stops reading early says why by its exit status.
        let _ignored = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", line(command), output.status, said.trim());
    }
    Ok(())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    // The owner of this folder is the effective user of the process, see proc(5).
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Takes from the command's environment what an outer cargo put there.
///
/// A cargo started by a build script would otherwise build with the compiler, the flags and the
/// libraries that were meant for the outer build.
pub fn forget_outer_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if set_by_cargo(&name) {
            command.env_remove(name);
        }
    }
}

fn set_by_cargo(name: &OsStr) -> bool {
    const NAMES: [&str; 12] = [
        "TARGET",
        "HOST",
        "PROFILE",
        "OUT_DIR",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "MAKEFLAGS",
        "MFLAGS",
        "SYSROOT",
        "LD_LIBRARY_PATH",
        "CLIPPY_ARGS",
    ];
    const STARTS: [&str; 4] = ["CARGO", "RUST", "DEP_", "__CARGO"];
    const KEPT: [&str; 10] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_AUTO_INSTALL",
        "RUSTUP_DIST_SERVER",
        "RUSTUP_HOME",
        "RUST_BACKTRACE",
    ];
    let Some(name) = name.to_str() else { return false };
    let starts_with_any = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    NAMES.contains(&name) || (starts_with_any(&STARTS) && !starts_with_any(&KEPT))
}

fn could_not_start(command: &Command) -> String {
    format!("`{}` could not be started", line(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_set_is_forgotten_and_what_the_user_set_is_kept() {
        for taken in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_FEATURE_PRIVILEGED",
            "CARGO_MAKEFLAGS",
            "RUSTC",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "RUSTDOCFLAGS",
            "RUSTUP_TOOLCHAIN",
            "TARGET",
            "PROFILE",
            "HOST",
            "OUT_DIR",
            "LD_LIBRARY_PATH",
            "CLIPPY_ARGS",
        ] {
            assert!(set_by_cargo(OsStr::new(taken)), "{taken}");
        }
        for kept in [
            "HOME",
            "PATH",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_NET_OFFLINE",
            "RUSTUP_AUTO_INSTALL",
            "HOSTNAME",
            "http_proxy",
        ] {
            assert!(!set_by_cargo(OsStr::new(kept)), "{kept}");
        }
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck >&2; exit 3"]);
        let error = output(&mut command).unwrap_err().to_string();
        assert_eq!(
            error,
            "`sh -c echo no such luck >&2; exit 3` failed: exit status: 3: no such luck"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert_eq!(error, "`no-such-program-here` could not be started");
    }
}
