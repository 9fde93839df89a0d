//! What must not stand in any file, and links that lead nowhere.
//!
//! **Invariant**: the forbidden texts are put together here, so that this file does not find itself.

use std::path::{Component, Path, PathBuf};

use super::{Finding, Tracked};

/// Folders of the machine a text was written on, and why that is no use to others.
const FORBIDDEN: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Where every package in a lock file comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(file: &Tracked<'_>) -> Vec<Finding> {
    let is_lock = file.path.ends_with("Cargo.lock");
    let is_cargo_config = file.path.parent().is_some_and(|folder| folder.ends_with(".cargo"));
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for folder in FORBIDDEN {
            if names_folder(line, folder) {
                findings.push(file.finding(
                    number,
                    format!("`{folder}` exists on one machine only: write the path from the root of the project"),
                ));
            }
        }
        if is_lock && line.starts_with("source = ") && !line.contains(REGISTRY) {
            findings.push(file.finding(
                number,
                format!("the package does not come from `{REGISTRY}`: lock it without a mirror"),
            ));
        }
        if is_cargo_config && (line.contains("replace-with") || line.contains("[registr")) {
            findings.push(file.finding(
                number,
                "a mirror belongs into the cargo home of who needs it, not into the project",
            ));
        }
    }
    findings
}

/// Links of a Markdown file to files that do not exist.
pub(super) fn check_links(file: &Tracked<'_>, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let folder = file.path.parent().unwrap_or_else(|| Path::new(""));
    let mut in_fence = false;
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        for target in links(line) {
            let Some(path) = resolve(folder, &target) else { continue };
            if !exists(&path) {
                findings.push(file.finding(
                    number,
                    format!(
                        "the link to `{target}` leads nowhere: there is no `{}`",
                        path.display()
                    ),
                ));
            }
        }
    }
    findings
}

/// Whether the line names something below that folder, and not a longer path that only contains it.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.~*}".contains(c))
    })
}

/// The targets of `[text](target)` and `[name]: target`, outside of code.
fn links(line: &str) -> Vec<String> {
    // Every second piece between backticks is code.
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let mut links: Vec<String> = prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .map(str::to_owned)
        .collect();
    if let Some((name, target)) = prose.split_once("]: ")
        && name.starts_with('[')
        && !name.starts_with("[^")
    {
        links.extend(target.split_whitespace().next().map(str::to_owned));
    }
    links
}

/// The path from the root that a link means, or `None` when it leads out of the project.
pub(crate) fn resolve(folder: &Path, target: &str) -> Option<PathBuf> {
    let target = target.trim_matches(['<', '>']).split(['#', '?']).next()?;
    if target.is_empty() || target.contains(':') {
        return None;
    }
    let joined = match target.strip_prefix('/') {
        Some(from_root) => PathBuf::from(from_root),
        None => folder.join(target),
    };
    let mut path = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn lines_found(path: &str, text: &str, expected: &[usize]) {
        let file = Tracked { path: Path::new(path), text };
        let lines: Vec<usize> = check(&file).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn folders_of_one_machine_are_found() {
        let [first, second] = FORBIDDEN;
        lines_found("a.md", &format!("see {first}main\n"), &[1]);
        lines_found("a.toml", &format!("x\npath = \"{second}x\"\n"), &[2]);
        lines_found("a.md", &format!("docs{first}x and ..{first}x\n"), &[]);
    }

    #[test]
    fn packages_come_from_the_registry() {
        lines_found("Cargo.lock", &format!("name = \"a\"\nsource = \"{REGISTRY}\"\n"), &[]);
        lines_found("Cargo.lock", "source = \"registry+https://mirror.example/index\"\n", &[1]);
        lines_found(".cargo/config.toml", "[alias]\n[source.x]\nreplace-with = \"y\"\n", &[3]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let text = "[a](there.md) [b](../top.md#x) [c](gone.md \"title\")\n\
            [d](https://example.org/x.md) [e](#here) `[f](gone.md)` [g](/top.md)\n\
            ```\n[h](gone.md)\n```\n[i]: gone/too.md\n";
        let file = Tracked { path: Path::new("docs/a.md"), text };
        let there = [Path::new("docs/there.md"), Path::new("top.md")];
        let found: Vec<String> = check_links(&file, |path| there.contains(&path))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "docs/a.md:1: the link to `gone.md` leads nowhere: there is no `docs/gone.md`",
                "docs/a.md:6: the link to `gone/too.md` leads nowhere: there is no `docs/gone/too.md`",
            ]
        );
    }
}
