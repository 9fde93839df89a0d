//! The agent, its console and its tools.
//!
//! The walk, in reading order: open `fastnetmon-common/src/table.rs`, where a packet becomes a
//! number; [`capture`], two traits; [`counters`], where numbers are read; [`rates`], a number per
//! second; [`verdicts`], the only place that decides; [`actions`], the only place that changes the
//! world; [`reports`], the only place that tells it, and [`web`], over HTTP; [`doctor`] says what is wrong
//! around them. Then `daemon/pipeline.rs`, which is these lines
//! with threads.
//!
//! Below them lie the foundations: [`model`] (the words), [`tables`] (memory with the layout of the
//! counter table), [`networks`] (whom we guard), [`origins`]
//! (whence packets come), [`kernel`] (the only user of aya), [`control`]
//! (what daemon and client say to each other).
//!
//! **Invariant**: a room uses what stands before it and never what comes after; `cargo xtask tidy`
//! holds us to it.

pub mod control;
pub mod kernel;
pub mod model;
pub mod networks;
pub mod origins;
pub mod tables;

pub mod actions;
pub mod capture;
pub mod counters;
pub mod rates;
pub mod reports;
pub mod verdicts;
pub mod web;

pub mod client;
pub mod commands;
pub mod daemon;
pub mod doctor;
