//! Links of texts that are installed elsewhere than they stand in the repository.
//!
//! **Invariant**: pure. A link leads to where its target is installed; of one whose target is not
//! installed its words stay; what leads out of the project, or stays on its page, is as it was. A link
//! that is written so that this cannot be done is an error, with its line and the remedy.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::tidy;

/// What links may lead to.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// What is installed where.
    pub(super) places: BTreeMap<PathBuf, PathBuf>,
    /// What decisions say, which are called by their number and not installed.
    pub(super) titles: BTreeMap<PathBuf, String>,
}

/// A Markdown text of `from`, as it is installed as `to`.
///
/// # Errors
/// When a link cannot be followed as it is written.
pub(super) fn moved(
    text: &str,
    from: &Path,
    to: &Path,
    targets: &Targets,
) -> anyhow::Result<String> {
    let folder = |path: &Path| path.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let here = Here { from: folder(from), to: folder(to), targets };
    let mut moved = String::with_capacity(text.len());
    let (mut fence, mut in_code) = (None, false);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let mark = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        if fence.is_some() || mark.is_some() {
            fence = match fence {
                None => mark,
                Some(_) if fence == mark => None,
                Some(_) => fence,
            };
            moved.push_str(line);
            continue;
        }
        in_code &= !line.trim().is_empty();
        here.move_line(line, &mut in_code, &mut moved)
            .with_context(|| format!("{}:{number}", from.display()))?;
    }
    Ok(moved)
}

/// The folders of a text, and what there is.
struct Here<'a> {
    from: PathBuf,
    to: PathBuf,
    targets: &'a Targets,
}

impl Here<'_> {
    fn move_line(&self, line: &str, in_code: &mut bool, moved: &mut String) -> anyhow::Result<()> {
        if !*in_code
            && let Some((name, target, after)) = definition(line)
            && let Some(path) = self.path(target)?
        {
            let Some(place) = self.targets.places.get(&path) else {
                bail!("`{target}` is not installed: write the link as `[words]({target})`");
            };
            moved.extend([name, "]: ", &self.way(target, place), after]);
            return Ok(());
        }
        let mut rest = line;
        while let Some(next) = rest.chars().next() {
            if !*in_code && rest.starts_with("](") {
                let (target, title, after) = inline(rest).context(
                    "write a link as `[words](target)` or `[words](target \"title\")`, its target on one line",
                )?;
                if let Some(path) = self.path(target)? {
                    match self.targets.places.get(&path) {
                        Some(place) => moved.extend(["](", &self.way(target, place), title, ")"]),
                        None => unlink(moved, self.targets.titles.get(&path)),
                    }
                    rest = after;
                    continue;
                }
            }
            *in_code ^= next == '`';
            moved.push(next);
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        }
        Ok(())
    }

    /// What is meant within the project.
    fn path(&self, target: &str) -> anyhow::Result<Option<PathBuf>> {
        let path = tidy::resolve(&self.from, target);
        if path.is_some() && target.contains(['<', '(']) {
            bail!("`{target}`: targets of links have no brackets here");
        }
        Ok(path)
    }

    /// The way there, with the part that was meant.
    fn way(&self, target: &str, place: &Path) -> String {
        let anchor = target.find('#').and_then(|at| target.get(at..)).unwrap_or_default();
        format!("{}{anchor}", relative(&self.to, place).display())
    }
}

/// A target that has a name: what stands before it, the target, and what follows.
fn definition(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.split_once("]: ")?;
    if !name.starts_with('[') || name.starts_with("[^") || name.contains(['`', '(']) {
        return None;
    }
    let (target, after) = rest.split_at_checked(rest.find(char::is_whitespace)?)?;
    Some((name, target, after))
}

/// The target of a link whose words end here, its title with what stands before it, and what follows.
fn inline(rest: &str) -> Option<(&str, &str, &str)> {
    let rest = rest.strip_prefix("](")?;
    let (target, rest) = rest.split_at_checked(rest.find([')', ' ', '\n'])?)?;
    if let Some(after) = rest.strip_prefix(')') {
        return Some((target, "", after));
    }
    let end = 2 + rest.strip_prefix(" \"")?.find("\")")?;
    Some((target, rest.get(..=end)?, rest.get(end + 2..)?))
}

/// Takes away what began the link that ends here: `[`, or `![` of a picture. Its words may have
/// brackets of their own. Where they are no more than the number of a decision, they say which.
fn unlink(text: &mut String, title: Option<&String>) {
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
    let Some(at) = begin else { return };
    let words = text.split_off(at);
    let words = words.strip_prefix('[').unwrap_or_default();
    if text.ends_with('!') {
        text.pop();
    }
    let number = words.strip_prefix("ADR ").unwrap_or(words);
    match title.filter(|_| number.chars().all(|letter| letter.is_ascii_digit())) {
        Some(title) => text.extend(["ADR ", number, ", \"", title, "\""]),
        None => text.push_str(words),
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

    fn move_text(from: &str, to: &str, text: &str) -> anyhow::Result<String> {
        let places = [
            ("README.md", "usr/share/doc/x/README.md"),
            ("docs", "usr/share/doc/x"),
            ("docs/a.md", "usr/share/doc/x/a.md"),
            ("docs/b.md", "usr/share/doc/x/b.md"),
            ("x.conf", "etc/x.conf"),
            ("scripts/y.sh", "usr/share/x/y.sh"),
        ];
        let places = places.map(|(from, to)| (PathBuf::from(from), PathBuf::from(to))).into();
        let titles = [(PathBuf::from("docs/adr/0007.md"), "Which: all".to_owned())].into();
        moved(text, Path::new(from), Path::new(to), &Targets { places, titles })
    }

    #[track_caller]
    fn check(from: &str, to: &str, text: &str, expected: &str) {
        assert_eq!(move_text(from, to, text).unwrap(), expected);
    }

    #[test]
    fn links_lead_to_where_things_are_installed() {
        let here = ("docs/a.md", "usr/share/doc/x/a.md");
        for (text, expected) in [
            ("see [b](b.md#part).\n", "see [b](b.md#part).\n"),
            ("[x.conf](../x.conf)", "[x.conf](../../../../etc/x.conf)"),
            ("[x](../x.conf \"a (b)\").", "[x](../../../../etc/x.conf \"a (b)\")."),
            ("[b]: ../x.conf\n", "[b]: ../../../../etc/x.conf\n"),
            ("[b]: ../x.conf#y \"title\"\n", "[b]: ../../../../etc/x.conf#y \"title\"\n"),
            ("[b]: https://example.org/b.md\n", "[b]: https://example.org/b.md\n"),
            ("[^b]: ../x.conf\n", "[^b]: ../x.conf\n"),
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
            ("([ADR 7](adr/0007.md)).", "(ADR 7, \"Which: all\")."),
            ("See [0007](adr/0007.md).", "See ADR 0007, \"Which: all\"."),
            ("it was [decided](adr/0007.md \"so\").", "it was decided."),
            ("([ADR 8](adr/0008.md)).", "(ADR 8)."),
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
        for fence in ["```", "~~~"] {
            let other = if fence == "```" { "~~~" } else { "```" };
            let code =
                format!("{fence}toml\nx = \"[a](gone.md)\"\n{other}\n[a](gone.md)\n{fence}\n");
            let text = format!("`[a](gone.md)` and\n{code}[a](gone.md)\n");
            let expected = format!("`[a](gone.md)` and\n{code}a\n");
            check("docs/a.md", "usr/share/doc/x/a.md", &text, &expected);
        }
    }

    #[test]
    fn what_cannot_be_followed_is_an_error_with_its_line() {
        for (text, expected) in [
            ("[b]: gone.md\n", "docs/a.md:1: `gone.md` is not installed: write the link as"),
            ("\n[b](b.md 'title')\n", "docs/a.md:2: write a link as"),
            ("[b](b.md \"tit\nle\")\n", "docs/a.md:1: write a link as"),
            ("[b](\nb.md)\n", "docs/a.md:1: write a link as"),
            ("[b](<b.md>)\n", "docs/a.md:1: `<b.md>`: targets of links have no brackets"),
            ("[b](b(1).md)\n", "docs/a.md:1: `b(1`: targets of links have no brackets"),
        ] {
            let error = move_text("docs/a.md", "usr/share/doc/x/a.md", text).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
