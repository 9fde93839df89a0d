//! What kernel and user space must agree on: how a packet becomes a number.
//!
//! Read in this order: [`wire`] (headers as they lie on the wire), [`parse`] (a frame becomes a
//! [`Packet`](parse::Packet) or a reason why not), [`directory`] (an address becomes a slot),
//! [`table`] (a packet is added to its lines), [`ignore`] (or is not counted at all),
//! [`gate`] (a banned host's packet is dropped, or not), [`abi`] (names and bytes that cross the
//! border).
//!
//! **Invariant**: this crate knows no map, no mapping, no clock and no system call. The kernel
//! programs run it over BPF maps, every user-space engine over memory of its own with the same
//! layout, so two engines can differ in what they are shown and never in how they count.
//!
//! Two rules keep both sides in step:
//! 1. whatever changes a word, an offset or a meaning here raises [`ABI_VERSION`];
//! 2. whatever is decided per packet is decided here, once, for both worlds.
#![no_std]
#![forbid(unsafe_code)]
#![expect(clippy::inline_always, reason = "the verifier sees one program and follows no call")]

pub mod abi;
pub mod class;
pub mod directory;
pub mod gate;
pub mod ignore;
pub mod parse;
pub mod table;
pub mod wire;

/// Version of everything in this crate that the object and the loader must agree on.
pub const ABI_VERSION: u32 = 7;
