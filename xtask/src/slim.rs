//! Takes the debug information out of the kernel programs, as the agent carries them.
//!
//! BTF is made of it and stays. Nobody reads the rest at run time; yet it is four fifths of the
//! object, and the loader walks through all of its relocations.
//!
//! **Invariant**: a section keeps its number, so that symbols and relocations still name the right one:
//! what is taken out is empty, and not gone.

use anyhow::{Context as _, ensure};

/// How the names of these sections begin.
const UNREAD: [&[u8]; 2] = [b".debug_", b".rel.debug_"];

/// An ELF file of 64 bits, lowest byte first, begins so; then come version and system.
const MAGIC: &[u8] = b"\x7fELF\x02\x01";

/// Bytes of the file's header; a section's takes as many.
const HEADER: usize = 64;

/// In the file's header: where the sections' headers are, how many, and which section has their names.
const SECTIONS_AT: usize = 0x28;
const SECTIONS: usize = 0x3c;
const NAMES: usize = 0x3e;

/// In a section's header.
const KIND: usize = 0x04;
const OFFSET: usize = 0x18;
const SIZE: usize = 0x20;
const ALIGNMENT: usize = 0x30;

/// Kinds of sections: the first one, which is none; and one that has a size and no bytes.
const NONE: usize = 0;
const NO_BITS: usize = 8;

/// The same object with nothing in its sections of debug information.
///
/// # Errors
/// When it is no ELF object of 64 bits, or ends early.
pub(crate) fn without_debug_information(object: &[u8]) -> anyhow::Result<Vec<u8>> {
    ensure!(object.starts_with(MAGIC), "it is no ELF object of 64 bits, lowest byte first");
    let (at, sections) = (number(object, SECTIONS_AT, 8)?, number(object, SECTIONS, 2)?);
    let mut headers = part(object, at, sections * HEADER)?.to_vec();
    let names = number(object, NAMES, 2)?;
    let names = headers.chunks_exact(HEADER).nth(names).context("its names are missing")?;
    let names = part(object, number(names, OFFSET, 8)?, number(names, SIZE, 8)?)?;

    let mut slim = part(object, 0, HEADER)?.to_vec();
    for header in headers.chunks_exact_mut(HEADER) {
        let name = names.get(number(header, 0, 4)?..).context("a name is missing")?;
        if UNREAD.iter().any(|unread| name.starts_with(unread)) {
            set(header, SIZE, 0)?;
        }
        let bytes = match number(header, KIND, 4)? {
            NONE => continue,
            NO_BITS => &[],
            _ => part(object, number(header, OFFSET, 8)?, number(header, SIZE, 8)?)?,
        };
        pad(&mut slim, number(header, ALIGNMENT, 8)?);
        set(header, OFFSET, slim.len())?;
        slim.extend_from_slice(bytes);
    }
    pad(&mut slim, 8);
    let at = slim.len();
    set(&mut slim, SECTIONS_AT, at)?;
    slim.extend_from_slice(&headers);
    Ok(slim)
}

/// So many bytes from there on.
fn part(bytes: &[u8], at: usize, length: usize) -> anyhow::Result<&[u8]> {
    let part = bytes.get(at..).and_then(|rest| rest.get(..length));
    part.with_context(|| format!("it ends before byte {at} + {length}"))
}

/// The number in so many bytes, lowest first.
fn number(bytes: &[u8], at: usize, length: usize) -> anyhow::Result<usize> {
    let bytes = part(bytes, at, length)?;
    let number = bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte));
    Ok(usize::try_from(number)?)
}

/// Writes a number of eight bytes.
fn set(bytes: &mut [u8], at: usize, number: usize) -> anyhow::Result<()> {
    let place = bytes.get_mut(at..at + 8).context("a header is too short")?;
    place.copy_from_slice(&u64::try_from(number)?.to_le_bytes());
    Ok(())
}

fn pad(bytes: &mut Vec<u8>, alignment: usize) {
    bytes.resize(bytes.len().next_multiple_of(alignment.max(1)), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, kind, alignment, bytes.
    type Section<'a> = (&'a str, u32, u64, &'a [u8]);

    /// An object of these sections and one for their names, which comes last.
    fn object(sections: &[Section<'_>]) -> Vec<u8> {
        let mut names = vec![0];
        let mut headers = vec![0; HEADER];
        let mut object = MAGIC.to_vec();
        object.resize(HEADER, 0);
        let mut add = |headers: &mut Vec<u8>, at: u32, kind: u32, alignment: u64, bytes: &[u8]| {
            pad(&mut object, usize::try_from(alignment).unwrap());
            let mut header = [0; HEADER];
            header[..4].copy_from_slice(&at.to_le_bytes());
            header[KIND..KIND + 4].copy_from_slice(&kind.to_le_bytes());
            set(&mut header, OFFSET, object.len()).unwrap();
            set(&mut header, SIZE, bytes.len()).unwrap();
            set(&mut header, ALIGNMENT, usize::try_from(alignment).unwrap()).unwrap();
            headers.extend_from_slice(&header);
            if usize::try_from(kind).unwrap() != NO_BITS {
                object.extend_from_slice(bytes);
            }
        };
        for &(name, kind, alignment, bytes) in sections {
            add(&mut headers, u32::try_from(names.len()).unwrap(), kind, alignment, bytes);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        add(&mut headers, 0, 3, 1, &names);
        let (at, number) = (object.len(), u16::try_from(headers.len() / HEADER).unwrap());
        set(&mut object, SECTIONS_AT, at).unwrap();
        object[SECTIONS..SECTIONS + 2].copy_from_slice(&number.to_le_bytes());
        object[NAMES..NAMES + 2].copy_from_slice(&(number - 1).to_le_bytes());
        object.extend_from_slice(&headers);
        object
    }

    /// What a section of this number holds, and how large it says it is.
    fn section(object: &[u8], index: usize) -> (Vec<u8>, usize) {
        let at = number(object, SECTIONS_AT, 8).unwrap() + index * HEADER;
        let header = part(object, at, HEADER).unwrap();
        let (offset, size) = (number(header, OFFSET, 8).unwrap(), number(header, SIZE, 8).unwrap());
        let alignment = number(header, ALIGNMENT, 8).unwrap();
        assert_eq!(offset % alignment.max(1), 0, "section {index} begins at {offset}");
        if number(header, KIND, 4).unwrap() == NO_BITS {
            return (Vec::new(), size);
        }
        (part(object, offset, size).unwrap().to_vec(), size)
    }

    #[test]
    fn debug_information_is_emptied_and_everything_else_stays_under_its_number() {
        let fat = object(&[
            (".debug_loc", 1, 1, &[7; 1000]),
            ("xdp", 1, 8, b"instructions"),
            (".rel.debug_loc", 9, 8, &[8; 1000]),
            (".relxdp", 9, 8, b"where"),
            (".bss", 8, 64, &[0; 5000]),
            (".debug_str", 1, 1, b"/home"),
            (".BTF", 1, 4, b"types"),
            (".debug", 1, 1, b"another"),
        ]);
        let slim = without_debug_information(&fat).unwrap();
        let bytes = |index| section(&slim, index);
        for empty in [1, 3, 6] {
            assert_eq!(bytes(empty), (vec![], 0));
        }
        for (index, whole) in [(2, "instructions"), (4, "where"), (7, "types"), (8, "another")] {
            assert_eq!(bytes(index), (whole.as_bytes().to_vec(), whole.len()));
        }
        assert_eq!(bytes(5), (vec![], 5000));
        assert_eq!(bytes(9), section(&fat, 9));
        assert_eq!(
            part(&slim, number(&slim, SECTIONS_AT, 8).unwrap(), HEADER).unwrap(),
            [0; HEADER]
        );
        assert!(slim.len() + 1900 < fat.len(), "{} became {}", fat.len(), slim.len());
        // There is nothing left to take out.
        assert_eq!(without_debug_information(&slim).unwrap(), slim);
    }

    #[test]
    fn what_is_no_object_or_ends_early_is_an_error() {
        assert!(without_debug_information(b"#!/bin/sh").is_err());
        let whole = object(&[(".debug_loc", 1, 1, &[7; 100]), ("xdp", 1, 8, b"instructions")]);
        for end in MAGIC.len()..whole.len() {
            assert!(without_debug_information(&whole[..end]).is_err(), "{end} bytes will do");
        }
    }
}
