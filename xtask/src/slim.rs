//! Takes the debug information out of the kernel programs, as the agent carries them.
//!
//! **Invariant**: BTF is made of it and stays, as do the lines for the verifier's log. Nobody reads the
//! rest at run time; yet it is four fifths of the object, and the loader walks through all of its
//! relocations.

use anyhow::Context as _;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// How the names of these sections begin.
const UNREAD: [&[u8]; 2] = [b".debug_", b".rel.debug_"];

/// The same object without its sections of debug information.
///
/// # Errors
/// When it is no ELF object, or a broken one.
pub(crate) fn without_debug_information(object: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("it is no whole ELF object")?;
    for section in &mut builder.sections {
        let is_unread = UNREAD.iter().any(|unread| section.name.starts_with(unread));
        section.delete = is_unread || matches!(section.data, SectionData::SectionString);
    }
    builder.delete_orphans();
    // LLVM may keep the names of sections beside those of symbols; the builder wants them apart.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut slim = Vec::new();
    builder.write(&mut slim).context("it cannot be written anew")?;
    Ok(slim)
}

#[cfg(test)]
mod tests {
    use object::elf::{EM_BPF, ET_REL, SHT_PROGBITS};
    use object::read::elf::ElfFile64;
    use object::{Endianness, Object as _, ObjectSection as _};

    use super::*;

    /// An object of these sections.
    fn object(sections: &[(&'static str, &'static [u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Endianness::Little, true);
        (builder.header.e_type, builder.header.e_machine) = (ET_REL, EM_BPF);
        for &(name, bytes) in sections.iter().chain([&(".shstrtab", [].as_slice())]) {
            let section = builder.sections.add();
            section.name = name.into();
            section.sh_addralign = 8;
            (section.sh_type, section.data) = match name {
                ".shstrtab" => (SHT_STRTAB, SectionData::SectionString),
                _ => (SHT_PROGBITS, SectionData::Data(bytes.into())),
            };
        }
        let mut object = Vec::new();
        builder.write(&mut object).unwrap();
        object
    }

    #[test]
    fn debug_information_is_gone_and_everything_else_is_there() {
        let fat = object(&[
            (".debug_loc", &[7; 1000]),
            ("xdp", b"instructions"),
            (".rel.debug_loc", &[8; 1000]),
            (".BTF", b"types"),
            (".debug", b"another"),
        ]);
        let slim = without_debug_information(&fat).unwrap();
        assert!(slim.len() + 1900 < fat.len(), "{} became {}", fat.len(), slim.len());
        let slim = ElfFile64::<Endianness>::parse(&*slim).unwrap();
        let sections =
            slim.sections().map(|section| (section.name().unwrap(), section.data().unwrap()));
        let with_bytes: Vec<_> = sections.filter(|(name, _)| !name.contains("strtab")).collect();
        assert_eq!(
            with_bytes,
            [("xdp", b"instructions".as_slice()), (".BTF", b"types"), (".debug", b"another")]
        );
    }

    #[test]
    fn what_is_no_object_or_ends_early_is_an_error() {
        assert!(without_debug_information(b"#!/bin/sh").is_err());
        let whole = object(&[(".debug_loc", &[7; 100]), ("xdp", b"instructions")]);
        assert!(without_debug_information(&whole[..whole.len() / 2]).is_err());
    }
}
