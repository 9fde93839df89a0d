//! What stays resident of the program.
//!
//! Reading the configuration and loading the kernel programs runs through most of our own program, and a page
//! that is asked for brings its neighbours. What counts and decides is a tenth of that.
//!
//! **Invariant**: nothing is lost: what is given back and needed after all is there again at the first touch.
#![expect(unsafe_code, reason = "madvise(2) has no safe form")]

use std::fs;
use std::ops::Range;

/// Gives back the pages of our program and its libraries. Those that are in use come back from the page
/// cache, a handful of faults of a microsecond each.
pub(super) fn give_back_program() {
    // Where the list cannot be read, or the system refuses, they stay.
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for Range { start, end } in maps.lines().filter_map(program) {
        let start_of = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: the range is a private mapping of a file and was never written to (see `program`), so what
        // the next touch finds there is the same bytes.
        let _is_done = unsafe { libc::madvise(start_of, end - start, libc::MADV_DONTNEED) };
    }
}

/// The range of a line of `/proc/self/maps`, when it is program or constants of a file: what may be
/// executed, and the part without relocations, with which the file begins. What the linker wrote to before
/// it locked it is neither.
fn program(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (range, access, offset) = (words.next()?, words.next()?, words.next()?);
    let path = words.nth(2)?;
    let is_program =
        access == "r-xp" || (access == "r--p" && offset.bytes().all(|digit| digit == b'0'));
    if !is_program || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn only_what_nobody_ever_wrote_to_is_program() {
        let maps = "\
55d0c0000000-55d0c02c7000 r--p 00000000 fe:00 1234  /usr/bin/fastnetmon
55d0c02c7000-55d0c0cbd000 r-xp 002c6000 fe:00 1234  /usr/bin/fastnetmon
55d0c0cbd000-55d0c0ce8000 r--p 00cbb000 fe:00 1234  /usr/bin/fastnetmon
55d0c0ce8000-55d0c0cea000 rw-p 00ce5000 fe:00 1234  /usr/bin/fastnetmon
55d0c1000000-55d0c1200000 rw-p 00000000 00:00 0  [heap]
7f0000000000-7f0000100000 r--s 00000000 00:0e 77  anon_inode:bpf-map
7f0000200000-7f0000201000 r-xp 00000000 00:00 0
7f0000300000-7f0000302000 r-xp 00000000 00:00 0  [vdso]
7f0000400000-7f0000401000 rwxp 00000000 fe:00 9  /tmp/patched (deleted)
";
        let found: Vec<_> = maps.lines().filter_map(program).collect();
        assert_eq!(found, [0x55d0_c000_0000..0x55d0_c02c_7000, 0x55d0_c02c_7000..0x55d0_c0cb_d000]);
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
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let own = what_is_given_back_is_gone_and_the_same_when_it_is_needed as fn() as usize;
        let code = maps.lines().filter_map(program).find(|range| range.contains(&own)).unwrap();
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
