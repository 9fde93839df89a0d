//! The agent on real packets: root, network namespaces, a kernel with XDP.
//!
//! These tests never skip. `cargo xtask test` builds them (feature `privileged`) and they fail
//! where they cannot run; `cargo xtask test --unprivileged` leaves them out and says so.
#![cfg(all(test, feature = "privileged"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs and wait with a deadline, by the clock"
)]

mod agent;
mod counts;
mod hook;
mod refusals;
mod same_counters;
mod stays;
