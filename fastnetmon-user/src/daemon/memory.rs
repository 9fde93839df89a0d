//! What stays resident once the agent has started.
//!
//! Reading the configuration and loading the kernel programs runs through most of our own program, and a page
//! that is asked for brings its neighbours. What counts and decides is a tenth of that.
//!
//! **Invariant**: nothing is lost: what is given back and needed after all is there again at the first touch.
#![expect(unsafe_code, reason = "madvise(2) and malloc_trim(3) have no safe form")]

use std::fs;
use std::ops::Range;

/// Gives back what only the start needed. Takes milliseconds.
pub(super) fn give_back() {
    give_back_heap();
    give_back_program();
}

/// Has the C library give back what it keeps of freed memory.
fn give_back_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes the allocator's own locks, and touches only pages on which nothing is.
        let _was_any = unsafe { libc::malloc_trim(0) };
    }
}

/// Gives back the pages of our program. Those that are in use come back from the page cache, a handful of
/// faults of a microsecond each.
fn give_back_program() {
    // Where the list cannot be read, or the system refuses, they stay.
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for Range { start, end } in programs(&maps, give_back_program as fn() as usize) {
        let start_of = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: the range is a private mapping of the file we run from, which stays for as long as we run,
        // and no page of it was ever written to (see `programs`): the next touch finds the same bytes.
        let _is_done = unsafe { libc::madvise(start_of, end - start, libc::MADV_DONTNEED) };
    }
}

/// A mapping, as `/proc/self/smaps` tells of it.
struct Mapped<'a> {
    range: Range<usize>,
    access: &'a str,
    offset: &'a str,
    /// Device, inode and path: which file.
    file: &'a str,
    /// Whether some page of it is not the file's any more: a breakpoint, a probe.
    is_written: bool,
}

/// What of the file that has the instruction at `here` is program or constants: what may be executed, and
/// the part without relocations, with which the file begins. What the linker wrote to before it locked it
/// is neither. Libraries are left alone: others may be loaded and let go while we look.
fn programs(smaps: &str, here: usize) -> Vec<Range<usize>> {
    let mut mapped: Vec<Mapped<'_>> = Vec::new();
    for line in smaps.lines() {
        if let Some(found) = begin(line) {
            mapped.push(found);
        } else if let (Some(last), Some(anonymous)) =
            (mapped.last_mut(), line.strip_prefix("Anonymous:"))
        {
            last.is_written = anonymous.trim() != "0 kB";
        }
    }
    let Some(own) = mapped.iter().find(|one| one.range.contains(&here)) else { return Vec::new() };
    let is_program = |one: &&Mapped<'_>| {
        let begins = one.access == "r--p" && one.offset.bytes().all(|digit| digit == b'0');
        one.file == own.file && (one.access == "r-xp" || begins) && !one.is_written
    };
    mapped.iter().filter(is_program).map(|one| one.range.clone()).collect()
}

/// The line with which a mapping begins. Until its pages are told, it counts as written to.
fn begin(line: &str) -> Option<Mapped<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let (access, rest) = rest.split_once(' ')?;
    let (offset, file) = rest.split_once(' ')?;
    Some(Mapped { range, access, offset, file, is_written: true })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn only_what_nobody_ever_wrote_to_is_program_and_only_of_our_own_file() {
        let maps = "\
55d0c0000000-55d0c02c7000 r--p 00000000 fe:00 1234  /usr/bin/fastnetmon
Rss:                 100 kB
Anonymous:             0 kB
55d0c02c7000-55d0c0cbd000 r-xp 002c6000 fe:00 1234  /usr/bin/fastnetmon
Anonymous:             0 kB
55d0c0cbd000-55d0c0ce8000 r--p 00cbb000 fe:00 1234  /usr/bin/fastnetmon
Anonymous:           172 kB
55d0c0ce8000-55d0c0cea000 rw-p 00ce5000 fe:00 1234  /usr/bin/fastnetmon
Anonymous:             8 kB
55d0c1000000-55d0c1200000 rw-p 00000000 00:00 0  [heap]
Anonymous:             8 kB
7f0000000000-7f0000100000 r--s 00000000 00:0e 77  anon_inode:bpf-map
Anonymous:             0 kB
7f0000300000-7f0000302000 r-xp 00000000 00:00 0  [vdso]
Anonymous:             0 kB
7f0000400000-7f0000401000 r-xp 00000000 fe:00 9  /usr/lib/libc.so.6
Anonymous:             0 kB
";
        let found = programs(maps, 0x55d0_c02c_8000);
        assert_eq!(found, [0x55d0_c000_0000..0x55d0_c02c_7000, 0x55d0_c02c_7000..0x55d0_c0cb_d000]);
        // Somebody set a breakpoint.
        let patched =
            maps.replacen("Anonymous:             0 kB", "Anonymous:             4 kB", 2);
        assert_eq!(programs(&patched, 0x55d0_c02c_8000), []);
        assert_eq!(programs(maps, 0), []);
        assert_eq!(programs("", 0x55d0_c02c_8000), []);
    }

    /// Kilobytes that are resident of the mapping that begins there.
    fn resident(start: usize) -> u64 {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut ours = maps.lines().skip_while(|line| !line.starts_with(&format!("{start:x}-")));
        let resident = ours.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        resident.trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn what_is_given_back_is_gone_and_the_same_when_it_is_needed() {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let own = what_is_given_back_is_gone_and_the_same_when_it_is_needed as fn() as usize;
        let code = programs(&maps, own).into_iter().find(|range| range.contains(&own)).unwrap();
        let read = || {
            let mut bytes = vec![0; code.len()];
            let memory = fs::File::open("/proc/self/mem").unwrap();
            memory.read_exact_at(&mut bytes, code.start as u64).unwrap();
            bytes
        };
        let bytes = read();
        let whole = resident(code.start);
        assert_eq!(whole, code.len() as u64 / 1024, "reading it brings all of it");
        give_back_program();
        // Other tests go on and bring back what they need.
        let rest = resident(code.start);
        assert!(rest < whole / 2, "{rest} of {whole} kB stayed");
        assert!(read() == bytes, "what came back is something else");
    }
}
