//! `cargo xtask ci`: everything that must hold, cheapest first.
//!
//! **Invariant**: the same on a laptop and in CI. The first step that fails ends it and is named; the
//! last line of a good run is the number of tests.

use std::{path::Path, process::Command, time::Instant};

use anyhow::Context as _;
use xtask::process;

use crate::{build, demo, msrv, package, test, tidy};

/// Runs all steps; setup has run before.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    step("tidy", || tidy::run(root))?;
    step("fmt", || process::run(build::cargo(root).args(["fmt", "--all", "--check"])))?;
    step("clippy", || {
        process::run(
            build::cargo(root)
                .args(["clippy", "--locked", "--workspace", "--all-targets"])
                .args(["--features", test::ALL_FEATURES])
                .args(["--", "-D", "warnings"]),
        )
    })?;
    step("clippy without default features", || {
        process::run(
            build::cargo(root)
                .args(["clippy", "--locked", "--package", "fastnetmon-user", "--all-targets"])
                .args(["--no-default-features", "--features", "privileged"])
                .args(["--", "-D", "warnings"]),
        )
    })?;
    step("clippy of the build that logs", || {
        process::run(
            build::cargo(root)
                .args(["clippy", "--locked", "--package", "fastnetmon-user", "--all-targets"])
                .args(["--features", "privileged,ebpf-log", "--", "-D", "warnings"]),
        )
    })?;
    step("doc", || {
        process::run(
            build::cargo(root)
                .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
                // The readers of these pages are developers: for them private items are documented,
                // and links to them lead somewhere.
                .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"),
        )
    })?;
    step("deny", || {
        process::run(
            Command::new(package::tool("cargo-deny")?)
                .current_dir(root)
                .args(["check", "licenses", "bans", "sources"]),
        )
    })?;
    step("msrv", || msrv::check(root))?;
    step("build-ebpf", || build::kernel_programs(root))?;
    let totals = step("test", || test::run(root, test::Scope::All))?;
    step("demo", || demo::run(root))?;
    step("package of the static binary", || {
        let packages = package::run(root, package::Scope::Static)?;
        package::pack_again(root, &packages)?;
        package::try_out(root, &packages)
    })?;
    println!("ci: everything holds ({} s)", begun.elapsed().as_secs());
    println!("{totals}");
    Ok(())
}

fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("ci: {name}");
    let begun = Instant::now();
    let outcome = work();
    let took = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(value) => {
            println!("ci: {name} holds ({took:.1} s)");
            Ok(value)
        }
        Err(error) => {
            Err(error).with_context(|| format!("the step `{name}` failed after {took:.1} s"))
        }
    }
}
