//! Numbers of what two sides have agreed on: who changes the words raises the number.
//!
//! **Invariant**: comments, texts, tests and layout are not what was agreed on, so changing them asks
//! for nothing. What was agreed on last stands below, and in nobody's memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Finding, source::code_only};

/// Something that two sides have agreed on.
struct Boundary {
    /// The number, and the file it stands in.
    number: &'static str,
    told_in: &'static str,
    /// The files that say what it is the number of.
    files: &'static [&'static str],
    /// The number when the words were last looked at.
    agreed: u32,
    /// The words of then, as a sum.
    sum: u64,
}

/// A change of the words that changes no meaning (another name for a function of ours) puts the new sum
/// here and leaves the number.
const BOUNDARIES: [Boundary; 2] = [
    Boundary {
        number: "ABI_VERSION",
        told_in: "fastnetmon-common/src/lib.rs",
        files: &["fastnetmon-common/src/abi.rs"],
        agreed: 7,
        sum: 0xa355_1d48_cc0a_5834,
    },
    Boundary {
        number: "PROTOCOL_VERSION",
        told_in: "fastnetmon-user/src/control/mod.rs",
        files: &["fastnetmon-user/src/control/mod.rs", "fastnetmon-user/src/control/codec.rs"],
        agreed: 5,
        sum: 0x859e_e009_3e60_fb45,
    },
];

/// Compares with what was agreed on.
pub(super) fn check(root: &Path) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    BOUNDARIES
        .iter()
        .filter_map(|boundary| {
            let texts: Vec<String> = boundary.files.iter().map(|file| read(file)).collect();
            let what = judge(boundary, &read(boundary.told_in), &texts)?;
            Some(Finding { file: PathBuf::from(boundary.told_in), line: 1, what })
        })
        .collect()
}

fn judge(boundary: &Boundary, told_in: &str, texts: &[String]) -> Option<String> {
    let Boundary { number, agreed, sum, .. } = boundary;
    let Some(now) = value_of(number, told_in) else {
        return Some(format!("`const {number}: u32` is missing: both sides refer to it"));
    };
    let found = sum_of(number, texts);
    let sum_now = literal(found);
    let record = format!("`agreed: {now}, sum: {sum_now}` in `xtask/src/tidy/boundary.rs`");
    match (found == *sum, now == *agreed) {
        (true, true) => None,
        (_, false) => Some(format!("`{number}` is {now} and was {agreed}: write down {record}")),
        (false, true) => Some(format!(
            "what `{number}` is the number of has changed and it is still {now}: raise it if either \
             side would misread the other, and write down {record}"
        )),
    }
}

/// As it is written in a source.
fn literal(sum: u64) -> String {
    let part = |shift: u32| (sum >> shift) & 0xffff;
    format!("0x{:04x}_{:04x}_{:04x}_{:04x}", part(48), part(32), part(16), part(0))
}

fn value_of(number: &str, text: &str) -> Option<u32> {
    let (_, rest) = text.split_once(&format!("const {number}: u32 = "))?;
    rest.split(';').next()?.trim().parse().ok()
}

/// Of the words alone; the number itself is none of them. FNV-1a.
fn sum_of(number: &str, texts: &[String]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        let code = code_only(text);
        let code = code.split_once("#[cfg(test)]").map_or(code.as_str(), |(code, _)| code);
        let lines = code.lines().filter(|line| !line.contains(&format!("const {number}: u32")));
        for byte in
            lines.flat_map(str::split_whitespace).flat_map(|word| word.bytes().chain([b' ']))
        {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "/// Words.\npub const NUMBER: u32 = 3;\npub struct Hint { host: u32 }\n";

    fn boundary(agreed: u32, of: &str) -> Boundary {
        let sum = sum_of("NUMBER", &[of.to_owned()]);
        Boundary { number: "NUMBER", told_in: "", files: &[], agreed, sum }
    }

    #[track_caller]
    fn check_words(now: &str, expected: Option<&str>) {
        let found = judge(&boundary(3, WORDS), now, &[now.to_owned()]);
        let record = literal(sum_of("NUMBER", &[now.to_owned()]));
        assert_eq!(found, expected.map(|text| text.replace("SUM", &record)), "{now}");
    }

    #[test]
    fn words_that_change_ask_for_another_number() {
        check_words(WORDS, None);
        check_words(&WORDS.replace("Words", "Other words"), None);
        check_words(&WORDS.replace("{ host", "{\n    host"), None);
        check_words(&format!("{WORDS}#[cfg(test)]\nmod tests {{}}\n"), None);
        check_words(
            &WORDS.replace("host: u32", "host: u64"),
            Some(
                "what `NUMBER` is the number of has changed and it is still 3: raise it if either side \
                 would misread the other, and write down `agreed: 3, sum: SUM` in \
                 `xtask/src/tidy/boundary.rs`",
            ),
        );
        check_words(
            &WORDS.replace("= 3", "= 4"),
            Some(
                "`NUMBER` is 4 and was 3: write down `agreed: 4, sum: SUM` in `xtask/src/tidy/boundary.rs`",
            ),
        );
        check_words("", Some("`const NUMBER: u32` is missing: both sides refer to it"));
    }

    #[test]
    fn every_boundary_of_ours_is_there() {
        let root = xtask::root();
        for Boundary { number, told_in, files, .. } in &BOUNDARIES {
            let text = fs::read_to_string(root.join(told_in)).unwrap();
            assert!(value_of(number, &text).is_some(), "{number}");
            for file in *files {
                assert!(root.join(file).is_file(), "{file}");
            }
        }
    }
}
