//! A double of PF_RING, for tests: its library and its kernel module, over packet sockets.
//!
//! Two doubles in one shared object. Opened as `libpfring.so`, [`library`] is the library's ABI.
//! Preloaded (`LD_PRELOAD`), [`module`] stands before the C library and answers sockets of family 27 as
//! the kernel module does, ring image included, so that the agent's own way to the module is tried
//! without a change in it. [`feed`] is where both have their packets from; [`script`] is what a test
//! tells them to be.
//!
//! **Invariant**: written from the facts that were measured, without a header of PF_RING. What it
//! cannot prove is in `docs/pf_ring.md`.
#![expect(
    unsafe_code,
    clippy::print_stderr,
    reason = "a shared object with a C interface that complains where the real one does"
)]
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "for tests: a double that stumbles fails the test that made it"
)]

mod feed;
mod library;
mod module;
mod script;
