//! Links of texts that are installed elsewhere than they stand in the repository.
//!
//! **Invariant**: pure. A link leads to where its target is installed; of one whose target is not
//! installed its words stay; what leads out of the project, or stays on its page, is as it was.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use crate::tidy;

/// A Markdown text of `from`, as it is installed as `to`, where `places` says what is installed where.
pub(super) fn moved(
    text: &str,
    from: &Path,
    to: &Path,
    places: &BTreeMap<PathBuf, PathBuf>,
) -> String {
    let folder = |path: &Path| path.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let (from, to) = (folder(from), folder(to));
    let mut moved = String::with_capacity(text.len());
    let (mut in_fence, mut in_code) = (false, false);
    for line in text.split_inclusive('\n') {
        let is_fence = line.trim_start().starts_with("```");
        in_fence ^= is_fence;
        in_code &= !line.trim().is_empty();
        if is_fence || in_fence {
            moved.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some(next) = rest.chars().next() {
            if !in_code
                && let Some((target, after)) = target(rest)
                && let Some(path) = tidy::resolve(&from, target)
            {
                match places.get(&path) {
                    Some(place) => {
                        let anchor = target.find('#').and_then(|at| target.get(at..));
                        let way = relative(&to, place).display().to_string();
                        moved.extend(["](", &way, anchor.unwrap_or_default(), ")"]);
                    }
                    None => unlink(&mut moved),
                }
                rest = after;
                continue;
            }
            in_code ^= next == '`';
            moved.push(next);
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        }
    }
    moved
}

/// The target of a link whose words end here, and what follows it. Titles are not written here.
fn target(rest: &str) -> Option<(&str, &str)> {
    rest.strip_prefix("](")?.split_once(')')
}

/// Takes away what began the link that ends here: `[`, or `![` of a picture. Its words may have
/// brackets of their own.
fn unlink(text: &mut String) {
    let mut depth = 0_usize;
    let begin = text.char_indices().rev().find_map(|(at, letter)| {
        match letter {
            ']' => depth += 1,
            '[' if depth == 0 => return Some(at),
            '[' => depth -= 1,
            _ => {}
        }
        None
    });
    if let Some(at) = begin {
        text.remove(at);
        if text.get(..at).is_some_and(|before| before.ends_with('!')) {
            text.remove(at - 1);
        }
    }
}

/// The way from this folder to that place.
fn relative(folder: &Path, place: &Path) -> PathBuf {
    let common = folder.components().zip(place.components()).take_while(|(one, two)| one == two);
    let common = common.count();
    let up = folder.components().skip(common).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(place.components().skip(common)).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &str, to: &str, text: &str, expected: &str) {
        let places = [
            ("README.md", "usr/share/doc/x/README.md"),
            ("docs", "usr/share/doc/x"),
            ("docs/a.md", "usr/share/doc/x/a.md"),
            ("docs/b.md", "usr/share/doc/x/b.md"),
            ("x.conf", "etc/x.conf"),
            ("scripts/y.sh", "usr/share/x/y.sh"),
        ];
        let places = places.map(|(from, to)| (PathBuf::from(from), PathBuf::from(to))).into();
        assert_eq!(moved(text, Path::new(from), Path::new(to), &places), expected);
    }

    #[test]
    fn links_lead_to_where_things_are_installed() {
        let here = ("docs/a.md", "usr/share/doc/x/a.md");
        for (text, expected) in [
            ("see [b](b.md#part).\n", "see [b](b.md#part).\n"),
            ("[x.conf](../x.conf)", "[x.conf](../../../../etc/x.conf)"),
            ("[`y`](../scripts/y.sh) é", "[`y`](../../x/y.sh) é"),
            ("[top](../README.md), [all](.)", "[top](README.md), [all](.)"),
            (
                "[out](https://example.org/b.md) [here](#part)",
                "[out](https://example.org/b.md) [here](#part)",
            ),
        ] {
            check(here.0, here.1, text, expected);
        }
        let text = "[a](docs/a.md) [folder](docs)";
        check("README.md", "usr/share/doc/x/README.md", text, "[a](a.md) [folder](.)");
    }

    #[test]
    fn of_what_is_not_installed_the_words_stay() {
        let here = ("docs/a.md", "usr/share/doc/x/a.md");
        for (text, expected) in [
            ("([ADR 7](adr/0007.md)).", "(ADR 7)."),
            (
                "a [link over\ntwo lines](adr/x.md) and [b](b.md)",
                "a link over\ntwo lines and [b](b.md)",
            ),
            ("| ![Dark](dark.png) |", "| Dark |"),
            ("[an [inner] one](gone.md)", "an [inner] one"),
        ] {
            check(here.0, here.1, text, expected);
        }
    }

    #[test]
    fn code_is_left_alone() {
        let text = "`[a](gone.md)` and\n```toml\nx = \"[a](gone.md)\"\n```\n[a](gone.md)\n";
        let expected = "`[a](gone.md)` and\n```toml\nx = \"[a](gone.md)\"\n```\na\n";
        check("docs/a.md", "usr/share/doc/x/a.md", text, expected);
    }
}
