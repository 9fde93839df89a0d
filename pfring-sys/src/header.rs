//! What the library writes: a packet's header and a ring's counters, read by offset.
//!
//! The header was 188 to 209 bytes long in the releases that are known, and its end differs in each.
//! The library is given far more room than it ever took, and only fields that never moved are read.
//!
//! **Invariant**: nothing here depends on the size of a struct of the library.

/// Room for a packet's header: aligned to eight bytes, a multiple of what any release writes.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
pub(crate) struct Header([u8; 1024]);

/// Room for a ring's counters: releases write 16 or 24 bytes.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
pub(crate) struct Counters([u8; 64]);

impl Default for Header {
    fn default() -> Self {
        Self([0; 1024])
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Header {
    /// Forgets the last packet; what a release does not write then reads as zero.
    pub(crate) fn clear(&mut self) {
        for byte in self.0.iter_mut().take(SHORT) {
            *byte = 0;
        }
    }

    pub(crate) const fn as_mut_ptr(&mut self) -> *mut Self {
        &raw mut *self
    }

    /// Bytes of the packet that were captured.
    pub(crate) fn captured(&self) -> u32 {
        u32_at(&self.0, 16)
    }

    /// Length of the packet on the wire.
    pub(crate) fn wire_bytes(&self) -> u32 {
        u32_at(&self.0, 20)
    }

    /// The port received it; otherwise it sent it.
    pub(crate) fn arrives(&self) -> bool {
        self.0.get(36) == Some(&1)
    }
}

impl Counters {
    pub(crate) const fn as_mut_ptr(&mut self) -> *mut Self {
        &raw mut *self
    }

    /// Packets that were handed over.
    pub(crate) fn delivered(&self) -> u64 {
        u64_at(&self.0, 0)
    }

    /// Packets that found no room.
    pub(crate) fn dropped(&self) -> u64 {
        u64_at(&self.0, 8)
    }
}

/// The longest short header.
const SHORT: usize = 48;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    field.map_or(0, |field| u32::from_ne_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>);
    field.map_or(0, |field| u64::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_every_release_has_them() {
        let mut header = Header::default();
        header.0[16..20].copy_from_slice(&256_u32.to_ne_bytes());
        header.0[20..24].copy_from_slice(&1514_u32.to_ne_bytes());
        header.0[36] = 1;
        assert_eq!((header.captured(), header.wire_bytes(), header.arrives()), (256, 1514, true));
        header.clear();
        assert_eq!((header.captured(), header.wire_bytes(), header.arrives()), (0, 0, false));
        let mut counters = Counters::default();
        counters.0[..8].copy_from_slice(&7_u64.to_ne_bytes());
        counters.0[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert_eq!((counters.delivered(), counters.dropped()), (7, u64::MAX));
        assert_eq!((align_of::<Header>(), align_of::<Counters>()), (8, 8));
    }
}
