//! Rust source without what is not code.
//!
//! **Invariant**: lines and columns stay where they were, so that a finding points at the right place.

/// The text with comments, strings and characters blanked out.
pub(super) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let previous = code.chars().next_back().unwrap_or('\n');
        let length = match not_code(rest, previous) {
            0 => {
                code.push(next);
                next.len_utf8()
            }
            length => {
                let (blanked, _) = rest.split_at_checked(length).unwrap_or((rest, ""));
                code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                blanked.len()
            }
        };
        rest = rest.get(length..).unwrap_or("");
    }
    code
}

/// How many bytes from here on are a comment, a string or a character.
fn not_code(rest: &str, previous: char) -> usize {
    let in_name = previous.is_alphanumeric() || previous == '_';
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    // A raw string: `r`, `br` or `cr`, any number of `#`, a quote.
    let Some(hashes) =
        ["br", "cr", "r"].iter().find_map(|prefix| rest.strip_prefix(prefix)).filter(|_| !in_name)
    else {
        return 0;
    };
    let opening = hashes.trim_start_matches('#');
    if !opening.starts_with('"') {
        return 0;
    }
    let count = hashes.len() - opening.len();
    let closing = format!("\"{}", "#".repeat(count));
    let before = rest.len() - opening.len() + 1;
    let inside = rest.get(before..).unwrap_or("");
    inside.find(&closing).map_or(rest.len(), |end| before + end + closing.len())
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// A character ends with a quote after one symbol; without it the quote begins a lifetime.
fn character(rest: &str) -> usize {
    let mut following = rest.char_indices().skip(1);
    match following.next() {
        Some((_, '\\')) => quoted(rest, '\''),
        Some(_) => match following.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(code_only(text), expected);
    }

    #[test]
    fn comments_are_blanked() {
        check("a // crate::b\nc", "a            \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check("/* one\ntwo */ x", "      \n       x");
        check("//! crate::x", "            ");
    }

    #[test]
    fn strings_are_blanked() {
        check(r#"f("crate::x \" y") + 1"#, "f(               ) + 1");
        check(r##"f(r#"a " b"#, 1)"##, "f(          , 1)");
        check(r#"f(br"\", 1)"#, "f(     , 1)");
        check("for_r\"x\"", "for_r   ");
    }

    #[test]
    fn characters_are_blanked_and_lifetimes_are_not() {
        check("x == '\"' && y", "x ==     && y");
        check(r"x == '\'' && y", "x ==      && y");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
        check("r#type", "r#type");
    }

    #[test]
    fn what_does_not_end_is_blanked_to_the_end() {
        check("a \"b", "a   ");
        check("a /* b", "a     ");
        check("a r#\"b\"", "a      ");
        check("'", "'");
    }
}
