//! The laws of the crate, held against frames built by name and tables anybody can read.
//!
//! | file | law |
//! |---|---|
//! | `layout` | headers, events and classes are as long, and stand where, the border says |
//! | `link`, `network` | each rule of the parser, one table each |
//! | `differential` | an independent decoder reads mutated frames the same way |
//! | `directory` | an address finds its slot, and no other address does |
//! | `ignore` | a rule matches what its bits say, and never what cannot be read |
//! | `table` | each frame is added exactly once to what totals are made of |
//! | `window` | a hint is raised once a window; a spray of strangers is no spray of events |
//!
//! `frames` builds frames, `naive` is the tables in hash maps, `random` repeats itself.
#![cfg(test)]

mod differential;
mod directory;
mod frames;
mod ignore;
mod layout;
mod link;
mod naive;
mod network;
mod random;
mod table;
mod window;
