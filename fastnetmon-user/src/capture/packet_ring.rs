//! A block of an `AF_PACKET` receive ring, `TPACKET_V3` (`linux/if_packet.h`), as bytes.
//!
//! **Invariant**: pure. Whatever the bytes say, nothing outside the block is read and the walk ends.

use zerocopy::FromBytes;

/// One frame of a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Caught<'a> {
    /// What was captured, from its link header on.
    pub(super) bytes: &'a [u8],
    /// Length on the wire.
    pub(super) wire_bytes: u32,
    /// Bytes of payload in each piece that offload makes of it, or made it of; 0: it is whole.
    pub(super) piece: u32,
    /// It leaves by the port; otherwise it arrives.
    pub(super) leaves: bool,
}

/// What came of a walk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Walked {
    /// Frames handed over.
    pub(super) taken: u64,
    /// Frames that the block tells of and does not hold.
    pub(super) unreadable: u64,
}

/// Hands over the frames of a block, in the order in which they came.
pub(super) fn walk<'a>(block: &'a [u8], mut each: impl FnMut(Caught<'a>)) -> Walked {
    let mut walked = Walked::default();
    // `tpacket_block_desc`: version, private data, status, frames, where the first one lies.
    let Some([_, _, _, frames, first]) = read::<[u32; 5]>(block, 0) else { return walked };
    let room = u32::try_from(block.len() / SHORTEST).unwrap_or(u32::MAX);
    let told = frames.min(room);
    let mut at = usize::try_from(first).ok();
    while walked.taken < told.into() {
        let Some((caught, next)) = at.and_then(|at| frame(block, at)) else { break };
        each(caught);
        walked.taken += 1;
        at = next;
    }
    walked.unreadable = u64::from(told) - walked.taken;
    walked
}

/// The frame whose `tpacket3_hdr` lies at `at`, and where the next one lies, if this one says so.
fn frame(block: &[u8], at: usize) -> Option<(Caught<'_>, Option<usize>)> {
    // Next frame, seconds, nanoseconds, captured, length on the wire, status.
    let [next, _, _, captured, wire_bytes, _] = read::<[u32; 6]>(block, at)?;
    let [link, network] = read::<[u16; 2]>(block, at.checked_add(24)?)?;
    let kind = read::<u8>(block, at.checked_add(ADDRESS + PACKET_TYPE)?)?;
    let begin = at.checked_add(link.into())?;
    let end = begin.checked_add(usize::try_from(captured).ok()?)?;
    let caught = Caught {
        bytes: block.get(begin..end)?,
        wire_bytes,
        // The network header is aligned, but for the virtio header that was put before the frame.
        piece: if usize::from(network) % ALIGNMENT == VIRTIO { piece(block, begin)? } else { 0 },
        leaves: kind == libc::PACKET_OUTGOING,
    };
    let next = usize::try_from(next).ok().filter(|&next| next >= SHORTEST);
    Some((caught, next.and_then(|next| at.checked_add(next))))
}

/// Reads the `virtio_net_hdr` before a frame (`linux/virtio_net.h`).
fn piece(block: &[u8], begin: usize) -> Option<u32> {
    let header = begin.checked_sub(VIRTIO)?;
    let [_flags, offload] = read::<[u8; 2]>(block, header)?;
    let [_headers, piece] = read::<[u16; 2]>(block, header + 2)?;
    Some(if offload == 0 { 0 } else { piece.into() })
}

fn read<T: FromBytes>(block: &[u8], at: usize) -> Option<T> {
    T::read_from_prefix(block.get(at..)?).ok().map(|(value, _)| value)
}

/// `TPACKET_ALIGNMENT`.
const ALIGNMENT: usize = 16;
/// Size of the virtio header.
const VIRTIO: usize = 10;
/// Where the `sockaddr_ll` lies behind the beginning of a frame's header, and its packet type.
const ADDRESS: usize = 48;
const PACKET_TYPE: usize = 10;
/// Header and address: no frame takes less.
const SHORTEST: usize = 68;

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 4096;

    /// A block with these frames, as the kernel lays them out: bytes, wire length, piece, leaving.
    fn block(frames: &[(&[u8], u32, Option<u16>, bool)]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let put = |block: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(&mut block, 12, &u32::try_from(frames.len()).unwrap().to_ne_bytes());
        put(&mut block, 16, &48_u32.to_ne_bytes());
        let mut at = 48;
        for &(bytes, wire, piece, leaves) in frames {
            let network: usize = 96 + if piece.is_some() { 10 } else { 0 };
            let link = network - 14;
            let next = (link + bytes.len()).next_multiple_of(16);
            let captured = u32::try_from(bytes.len()).unwrap();
            put(&mut block, at, &u32::try_from(next).unwrap().to_ne_bytes());
            put(&mut block, at + 12, &captured.to_ne_bytes());
            put(&mut block, at + 16, &wire.to_ne_bytes());
            put(&mut block, at + 24, &u16::try_from(link).unwrap().to_ne_bytes());
            put(&mut block, at + 26, &u16::try_from(network).unwrap().to_ne_bytes());
            block[at + 58] = if leaves { 4 } else { 0 };
            if let Some(piece) = piece {
                block[at + link - 9] = u8::from(piece != 0);
                put(&mut block, at + link - 6, &piece.to_ne_bytes());
            }
            put(&mut block, at + link, bytes);
            at += next;
        }
        block
    }

    #[track_caller]
    fn check(block: &[u8], taken: u64, unreadable: u64) -> Vec<Caught<'_>> {
        let mut caught = Vec::new();
        let walked = walk(block, |frame| caught.push(frame));
        assert_eq!(walked, Walked { taken, unreadable });
        caught
    }

    #[test]
    fn frames_come_with_their_wire_length_their_offload_and_their_way() {
        let block = block(&[
            (&[1; 60], 60, None, false),
            (&[2; 256], 1514, Some(0), true),
            (&[3; 256], 64_000, Some(1448), false),
        ]);
        let frame = |bytes, wire_bytes, piece, leaves| Caught { bytes, wire_bytes, piece, leaves };
        assert_eq!(
            check(&block, 3, 0),
            [
                frame(&[1; 60], 60, 0, false),
                frame(&[2; 256], 1514, 0, true),
                frame(&[3; 256], 64_000, 1448, false),
            ]
        );
    }

    #[test]
    fn an_empty_block_holds_nothing() {
        check(&block(&[]), 0, 0);
        check(&[], 0, 0);
        check(&[0; 19], 0, 0);
    }

    #[test]
    fn what_lies_beyond_the_block_is_not_read() {
        let good = block(&[(&[1; 60], 60, None, false), (&[2; 60], 60, None, false)]);
        for (at, value, taken) in [
            (16, u32::MAX, 0),      // the first frame
            (16, 4095, 0),          // half a header
            (48 + 12, 4096, 0),     // more captured than there is
            (48 + 12, u32::MAX, 0), // and far more
            (48 + 24, u32::MAX, 0), // a frame behind the block
            (48, u32::MAX, 1),      // the next frame
            (48, 0, 1),             // the next frame is this one
            (48, 67, 1),            // the next frame lies in this one
        ] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            check(&bad, taken, 2 - taken);
        }
        let mut many = good.clone();
        many[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        // As many as a block could hold at most, of which two are there.
        let caught = walk(&many, |_| {});
        assert_eq!(caught.taken + caught.unreadable, u64::try_from(BLOCK / SHORTEST).unwrap());
    }

    #[test]
    fn no_bytes_lead_the_walk_out_of_its_block() {
        let good = block(&[(&[1; 60], 60, Some(9), false), (&[2; 256], 999, None, true)]);
        for at in 0..900 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = good.clone();
                changed[at] = value;
                for length in [at, at + 1, 300, BLOCK] {
                    let walked = walk(&changed[..length], |_| {});
                    assert!(walked.taken + walked.unreadable <= (BLOCK / SHORTEST) as u64);
                }
            }
        }
    }
}
