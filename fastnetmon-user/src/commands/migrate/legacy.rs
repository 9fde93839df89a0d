//! The incumbent's `key = value` file as lines, whatever is in it.
//!
//! **Invariant**: nothing is an error here and nothing is lost: every line is a comment, a pair,
//! blank, or one that nobody can read, and each knows its number.

use crate::model::plain;

/// A line with a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pair {
    /// From 1.
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: String,
    /// Comments since the key before, without their marks.
    pub(super) comments: Vec<String>,
    /// Had bytes that are no UTF-8.
    pub(super) is_garbled: bool,
}

/// The file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Legacy {
    /// What stands at the top, before the first blank line or key.
    pub(super) head: Vec<String>,
    pub(super) pairs: Vec<Pair>,
    /// Lines that are no pair, with their numbers.
    pub(super) unreadable: Vec<(usize, String)>,
    /// Lines of comments with bytes that are no UTF-8.
    pub(super) garbled_comments: usize,
}

/// Reads the file.
pub(super) fn parse(bytes: &[u8]) -> Legacy {
    let mut legacy = Legacy::default();
    let mut comments = Vec::new();
    let mut is_head = true;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (line, bytes) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let text = String::from_utf8_lossy(bytes);
        let is_garbled = text.contains(char::REPLACEMENT_CHARACTER);
        // What is printed of it must not turn a terminal, or the writing, round.
        let text = plain(&text, usize::MAX);
        let text = text.trim();
        if text.is_empty() {
            if is_head {
                legacy.head = std::mem::take(&mut comments);
            }
            is_head = false;
        } else if let Some(comment) = text.strip_prefix('#') {
            let comment = comment.trim_start_matches('#').trim();
            if !comment.is_empty() {
                comments.push(comment.to_owned());
                legacy.garbled_comments += usize::from(is_garbled);
            }
        } else {
            is_head = false;
            match split(text) {
                Some((key, value)) => legacy.pairs.push(Pair {
                    line,
                    key: key.to_owned(),
                    value: value.to_owned(),
                    comments: std::mem::take(&mut comments),
                    is_garbled,
                }),
                None => legacy.unreadable.push((line, text.to_owned())),
            }
        }
    }
    legacy
}

/// At the first `=`; where there is none, at the first blank, as the first versions did.
fn split(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=').or_else(|| text.split_once([' ', '\t']))?;
    let key = key.trim();
    let is_name = !key.is_empty() && !key.contains([' ', '\t', '"', '[']);
    is_name.then_some((key, value.trim()))
}

/// Without a comment at the end of the line.
pub(super) fn without_comment(value: &str) -> &str {
    let mark = value.match_indices('#').find(|&(at, _)| {
        value.get(..at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']))
    });
    mark.and_then(|(at, _)| value.get(..at)).unwrap_or(value).trim()
}

/// A switch as people write it.
pub(super) fn switch(value: &str) -> Option<bool> {
    match without_comment(value).to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" | "1" | "enable" | "enabled" => Some(true),
        "off" | "no" | "false" | "0" | "disable" | "disabled" | "" => Some(false),
        _ => None,
    }
}

/// A whole number with at most one of these words behind it.
pub(super) fn number(value: &str, units: &[&str]) -> Option<u64> {
    let value = without_comment(value);
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (digits, unit) = value.split_at_checked(end)?;
    let unit = unit.trim().to_ascii_lowercase();
    // A TOML number is one of 63 bits.
    let number = digits.parse::<u64>().ok().filter(|&number| i64::try_from(number).is_ok())?;
    (unit.is_empty() || units.contains(&unit.as_str())).then_some(number)
}

/// Items between commas, without blanks around them.
pub(super) fn list(value: &str) -> Vec<String> {
    without_comment(value)
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn pairs(bytes: &[u8], expected: &[(usize, &str, &str)]) {
        let legacy = parse(bytes);
        let found: Vec<(usize, &str, &str)> = legacy
            .pairs
            .iter()
            .map(|pair| (pair.line, pair.key.as_str(), pair.value.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_pair_is_split_at_the_first_equals_sign_or_blank() {
        pairs(
            b"a=1\n\n  b  =  2 \nc 3\nd\t4 5\n",
            &[(1, "a", "1"), (3, "b", "2"), (4, "c", "3"), (5, "d", "4 5")],
        );
        pairs(b"influxdb_password = a=b==\n", &[(1, "influxdb_password", "a=b==")]);
        pairs(b"logging:local_syslog_logging = off", &[(1, "logging:local_syslog_logging", "off")]);
        pairs(b"empty =\n", &[(1, "empty", "")]);
    }

    #[test]
    fn line_ends_of_other_systems_and_marks_are_passed_over() {
        pairs(b"\xef\xbb\xbfa = 1\r\n\x0cb = 2\r\n", &[(1, "a", "1"), (2, "b", "2")]);
    }

    #[test]
    fn what_steers_terminals_and_writing_is_a_blank() {
        let legacy = parse("# to\u{1b}[2J\u{202e}top\na\t=\t1\u{2066}2\u{9b}\n".as_bytes());
        let [pair] = &legacy.pairs[..] else { panic!("{legacy:?}") };
        assert_eq!((pair.key.as_str(), pair.value.as_str()), ("a", "1 2"));
        assert_eq!(pair.comments, ["to [2J top"]);
        pairs("x\u{200e}y\u{7}\n".as_bytes(), &[(1, "x", "y")]);
        assert_eq!(parse("[\u{202e}]\n".as_bytes()).unreadable, [(1, "[ ]".to_owned())]);
    }

    #[test]
    fn what_is_no_pair_is_kept_with_its_number() {
        let legacy = parse(b"= 5\nword\n[section]\nx y = 5\n");
        let lines: Vec<usize> = legacy.unreadable.iter().map(|&(line, _)| line).collect();
        assert_eq!((legacy.pairs.len(), lines), (0, vec![1, 2, 3, 4]));
    }

    #[test]
    fn comments_belong_to_the_key_below_and_the_top_to_the_file() {
        let legacy =
            parse(b"# ours\n###\n\n###\n# raised in May\n\n# after the flood\na = 1\nb = 2\n");
        assert_eq!(legacy.head, ["ours"]);
        assert_eq!(legacy.pairs[0].comments, ["raised in May", "after the flood"]);
        assert!(legacy.pairs[1].comments.is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_are_told() {
        let legacy = parse(b"# \xe4ltere Grenze\na = \xff\n");
        assert_eq!(legacy.garbled_comments, 1);
        assert!(legacy.pairs[0].is_garbled);
    }

    #[test]
    fn switches_are_read_as_people_write_them() {
        for (text, expected) in [
            ("on", Some(true)),
            ("Yes", Some(true)),
            ("1 # now", Some(true)),
            ("no", Some(false)),
            ("", Some(false)),
            ("maybe", None),
        ] {
            assert_eq!(switch(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_take_their_own_unit_and_no_other() {
        for (text, expected) in [
            ("20000", Some(20_000)),
            ("20000 pps", Some(20_000)),
            ("20000pps # was 10000", Some(20_000)),
            ("20k", None),
            ("20 000", None),
            ("-1", None),
            ("", None),
            ("99999999999999999999", None),
            ("18446744073709551615", None),
        ] {
            assert_eq!(number(text, &["pps"]), expected, "{text}");
        }
    }
}
