//! `cargo xtask changelog`: the changelog with what is not released yet.
//!
//! The fragments of `docs/changes` stand under `## Unreleased`, by kind. The packages carry the text as
//! it is made here, so who installs one can read what is in it.
//!
//! **Invariant**: changes nothing. A fragment whose name says no kind is an error.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, bail};

/// The kinds of fragments, in the order in which they are read.
const KINDS: [(&str, &str); 5] = [
    ("security", "Security"),
    ("removed", "Removed"),
    ("changed", "Changed"),
    ("added", "Added"),
    ("fixed", "Fixed"),
];

/// The changelog with its fragments.
pub(crate) fn collected(root: &Path) -> anyhow::Result<String> {
    let folder = root.join("docs/changes");
    let mut fragments = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("`{}`", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "README.md" {
            let text = fs::read_to_string(folder.join(&name))?;
            fragments.insert(name, text);
        }
    }
    let text = fs::read_to_string(root.join("CHANGELOG.md"))?;
    together(&text, &fragments)
}

fn together(changelog: &str, fragments: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let head = "\n## Unreleased\n";
    let Some((before, rest)) = changelog.split_once(head) else {
        bail!("CHANGELOG.md has no heading `## Unreleased`");
    };
    let released = rest.find("\n## ").and_then(|at| rest.get(at..)).unwrap_or_default();
    let mut text = format!("{before}{head}");
    for name in fragments.keys() {
        let is_kind = |kind: &str| name.ends_with(&format!(".{kind}.md"));
        if !KINDS.iter().any(|(kind, _)| is_kind(kind)) {
            bail!(
                "docs/changes/{name} is no fragment: call it `<subject>.<kind>.md`; \
                 docs/changes/README.md has the kinds"
            );
        }
    }
    for (kind, title) in KINDS {
        let end = format!(".{kind}.md");
        let mut of_it = fragments.iter().filter(|(name, _)| name.ends_with(&end)).peekable();
        if of_it.peek().is_some() {
            write!(text, "\n### {title}\n\n")?;
        }
        for (_, fragment) in of_it {
            let lines: Vec<&str> = fragment.trim().lines().collect();
            writeln!(text, "* {}", lines.join("\n  "))?;
        }
    }
    text.push_str(released);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_stand_under_what_is_not_released_by_kind() {
        let fragments = [("b.fixed.md", "Two\nlines.\n"), ("a.added.md", "One.\n")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into();
        let text = together("# C\n\n## Unreleased\n\nlater\n\n## 0.1.0\n\nold\n", &fragments);
        assert_eq!(
            text.unwrap(),
            "# C\n\n## Unreleased\n\n### Added\n\n* One.\n\n### Fixed\n\n* Two\n  lines.\n\n## 0.1.0\n\nold\n"
        );
        let odd = [("a.new.md".to_owned(), String::new())].into();
        let error = together("\n## Unreleased\n", &odd).unwrap_err().to_string();
        assert!(error.starts_with("docs/changes/a.new.md is no fragment"), "{error}");
    }

    #[test]
    fn every_fragment_of_the_tree_is_collected() {
        let root = xtask::root();
        let text = collected(&root).unwrap();
        let count = fs::read_dir(root.join("docs/changes")).unwrap().count() - 1;
        assert_eq!(text.matches("\n* ").count(), count);
        assert!(text.contains("### Added"), "{text}");
    }
}
