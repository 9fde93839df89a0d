//! The agent on real packets: root, network namespaces, a kernel with XDP.
//!
//! These tests never skip. `cargo xtask test` builds them (feature `privileged`) and they fail
//! where they cannot run; `cargo xtask test --unprivileged` leaves them out and says so.
#![cfg(test)]
#![cfg(feature = "privileged")]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests start programs, wait with a deadline, by the clock, and show the agent's log"
)]

mod af_packet;
mod af_xdp;
mod agent;
mod backlog;
mod browser;
mod console;
mod corpus;
mod counts;
mod crowd;
mod doctor;
mod documents;
mod double;
mod engines;
mod every_engine;
mod exact;
mod explain;
mod exports;
mod gate;
mod hook;
mod http;
mod ignore;
mod instant;
mod lasting;
#[path = "../../src/origins/database.rs"]
mod mmdb;
mod nflog;
mod openvz;
mod origins;
mod packets;
mod page;
#[cfg(feature = "pcap")]
mod pcap;
mod pf_ring;
mod ports;
mod prometheus;
mod refusals;
mod reload;
mod rights;
mod same_counters;
mod service;
mod stays;
mod tune;
mod web;
mod xdp_drop;
