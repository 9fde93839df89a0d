//! Asks xtask's builder for the kernel programs, so that the agent carries them within itself.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| anyhow::anyhow!("the crate has no workspace around it"))?;
    for input in xtask::object::inputs(root) {
        emit(&format!("rerun-if-changed={}", input.display()));
    }
    let log = std::env::var_os("CARGO_FEATURE_EBPF_LOG").is_some();
    let object = xtask::object::build(root, if log { &["log"] } else { &[] })?;
    emit(&format!("rustc-env=FASTNETMON_OBJECT={}", object.display()));
    Ok(())
}

fn emit(instruction: &str) {
    println!("cargo::{instruction}");
}
