//! What the project needs around itself: the toolchain of the kernel programs, and a lab with traffic.
//!
//! Reading order: [`toolchain`] finds the compiler and the linker, [`object`] builds the kernel
//! programs with them, [`setup`] installs what lacks, [`lab`] makes two network namespaces,
//! [`traffic`] sends packets through them, [`document`] reads the blocks of the texts. The binary adds
//! one file per subcommand.
//!
//! **Invariant**: knows no crate of the project; all of them may use it to build and to test.
#![expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command-line tool prints, starts programs and asks the clock"
)]

pub mod document;
pub mod lab;
pub mod object;
pub mod process;
pub mod setup;
mod slim;
mod system;
pub mod toolchain;
pub mod traffic;

use std::path::PathBuf;

/// The folder of the workspace this crate stands in.
pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
