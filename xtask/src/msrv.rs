//! The oldest compiler: what our dependencies ask for is not newer than what we promise.
//!
//! **Invariant**: what is promised stands in the workspace's `rust-version` and nowhere else. That our
//! own code keeps to it is for a build with that compiler to show.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;
use xtask::process;

use crate::build;

/// What we promise.
const OURS: &str = env!("CARGO_PKG_RUST_VERSION");

/// Asks cargo what each dependency wants, the kernel programs' too.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut newest = Vec::new();
    for workspace in ["Cargo.toml", "fastnetmon-ebpf/Cargo.toml"] {
        let mut cargo = build::cargo(root);
        cargo.args(["metadata", "--locked", "--format-version", "1", "--manifest-path"]);
        let text = process::output(cargo.arg(root.join(workspace)))?;
        let metadata: Value = serde_json::from_str(&text)?;
        newest.extend(
            newer(&metadata, OURS).with_context(|| format!("`{workspace}` has no dependencies"))?,
        );
    }
    if !newest.is_empty() {
        bail!(
            "`rust-version` is {OURS}, and these need a newer compiler: take an older release of \
             them, or raise it (CONTRIBUTING.md says what that costs): {}",
            newest.join(", ")
        );
    }
    println!("msrv: no dependency needs more than Rust {OURS}");
    Ok(())
}

/// Those that want a newer one. A crate that says nothing wants nothing.
fn newer(metadata: &Value, ours: &str) -> Option<Vec<String>> {
    let packages = metadata.get("packages")?.as_array()?;
    let text = |package: &Value, key: &str| package.get(key)?.as_str().map(ToOwned::to_owned);
    let wants = packages.iter().filter_map(|package| {
        let wanted = text(package, "rust_version")?;
        (numbers(&wanted) > numbers(ours)).then(|| {
            let name = text(package, "name").unwrap_or_default();
            let version = text(package, "version").unwrap_or_default();
            format!("{name} {version} ({wanted})")
        })
    });
    Some(wants.collect())
}

/// Two or three numbers; one that is left out is zero.
fn numbers(version: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> =
        version.split('.').map(|number| number.parse().unwrap_or(0)).collect();
    numbers.resize(3, 0);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_needs_a_newer_compiler_is_named() {
        let metadata = json!({ "packages": [
            { "name": "old", "version": "1.0.0", "rust_version": "1.9" },
            { "name": "same", "version": "1.0.0", "rust_version": "1.95.0" },
            { "name": "silent", "version": "1.0.0", "rust_version": null },
            { "name": "patch", "version": "2.1.0", "rust_version": "1.95.1" },
            { "name": "new", "version": "3.0.0", "rust_version": "1.100" },
        ] });
        let expected = ["patch 2.1.0 (1.95.1)", "new 3.0.0 (1.100)"];
        assert_eq!(newer(&metadata, "1.95").unwrap(), expected);
        assert_eq!(newer(&metadata, "1.100").unwrap(), [""; 0]);
        assert_eq!(newer(&json!({}), "1.95"), None);
    }
}
