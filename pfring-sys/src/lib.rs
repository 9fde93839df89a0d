//! libpfring, opened at run time when the operator has it.
//!
//! Own declarations of the dozen functions that the agent calls. Nothing is linked, nothing is copied:
//! `libpfring.so` need not be there when the agent is built or started. Reading order: [`load`] finds
//! the library and its functions, [`header`] reads what it writes, by offset, [`ring`] is one open
//! ring as a safe type.
//!
//! **Invariants**: no struct of the library is declared, so that none can be too small for the release
//! that is installed. The library is opened lazily and is never unloaded.

mod header;
mod load;
mod ring;

use std::fmt;

pub use self::load::{Library, LoadError, candidates};
pub use self::ring::{Direction, OpenFlags, Packet, Ring, RingError, Stats};

/// A release of PF_RING, as the library tells it: `0x080900` is 8.9.0.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u32);

impl Version {
    /// The oldest release whose functions are the ones declared here.
    pub const OLDEST: Self = Self(0x06_00_03);
    /// From this one on a short header says which way a packet goes.
    pub const SHORT_HEADER: Self = Self(0x06_04_00);

    /// The layout of the ring that the library was compiled with: it must be the kernel module's.
    /// `None` for releases whose layout nobody has told us.
    pub const fn slot_version(self) -> Option<u16> {
        match self.0 >> 8 {
            0x06_00..=0x06_06 | 0x07_00 => Some(16),
            0x07_02..=0x07_06 => Some(17),
            0x07_08 | 0x08_00 => Some(18),
            0x08_02..=0x08_06 => Some(20),
            0x08_08 | 0x08_09 => Some(21),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, major, minor, patch] = self.0.to_be_bytes();
        let major = u16::from_be_bytes([high, major]);
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers_and_tells_its_layout() {
        for (number, text, slots) in [
            (0x06_00_03, "6.0.3", Some(16)),
            (0x07_00_00, "7.0.0", Some(16)),
            (0x07_06_00, "7.6.0", Some(17)),
            (0x07_08_00, "7.8.0", Some(18)),
            (0x08_06_01, "8.6.1", Some(20)),
            (0x08_09_00, "8.9.0", Some(21)),
            (0x09_02_00, "9.2.0", None),
        ] {
            assert_eq!(Version(number).to_string(), text);
            assert_eq!(Version(number).slot_version(), slots, "{text}");
        }
    }
}
