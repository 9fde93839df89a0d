//! Memory with the layout of the counter table, whoever owns it.
//!
//! The kernel's maps and an engine's own memory are the same four parts: lines, directory, flags,
//! limits. [`own`] makes a set for engines, `kernel::attach` another; everything behind them
//! cannot tell which it holds.
//!
//! **Invariant**: lines are read through a read-only mapping, so no reader can spoil a counter;
//! the directory is written a whole word at a time.

mod directory;
mod flags;
mod limits;
mod lines;
mod mapping;
mod row;

use std::num::NonZeroU32;

pub use self::directory::{Cell, Directory, Entry};
pub use self::flags::Flags;
pub use self::limits::Limits;
pub use self::lines::{LineWords, Lines, Rows};
pub use self::mapping::{Mapping, MappingError};
pub use self::row::{Notice, Row, Words};

/// How large the tables are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Rows: possible CPUs in the kernel, capture threads in an engine.
    pub writers: NonZeroU32,
    /// Slots in one row and direction.
    pub slots: u32,
    /// Elements of the directory.
    pub elements: u32,
    /// Buckets for IPv6 hosts.
    pub buckets: u32,
    /// Seed of the buckets' hash.
    pub seed: u64,
}

impl Shape {
    /// Bytes of all parts together.
    pub fn bytes(&self) -> u64 {
        let lines = u64::from(self.writers.get()) * 2 * u64::from(self.slots) * 64;
        let directory = 2 * 65_536 * 4 + u64::from(self.elements) * 1024;
        lines + directory + u64::from(self.buckets) * 64 + u64::from(self.slots) * 8
    }
}

/// The same parts, whoever owns the memory.
#[derive(Debug)]
pub struct Parts {
    /// What was counted.
    pub lines: Lines,
    /// Who is counted.
    pub directory: Directory,
    /// What is done beyond counting.
    pub flags: Flags,
    /// When a line is worth a hint.
    pub limits: Limits,
}

/// Makes tables in memory of our own, with one row for each capture thread.
///
/// # Errors
/// When the memory cannot be had.
pub fn own(shape: Shape) -> Result<(Parts, Vec<Row>), MappingError> {
    row::own(shape)
}
