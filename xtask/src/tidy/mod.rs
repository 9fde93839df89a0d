//! `cargo xtask tidy`: what no compiler checks.
//!
//! **Invariants**: reads the tree and changes nothing. Every finding says where, what, and the remedy.

mod boundary;
mod imports;
mod rooms;
mod source;
mod text;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use xtask::process;

pub(crate) use self::text::resolve;

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: PathBuf,
    line: usize,
    what: String,
}

/// A file of the tree, by its path from the root.
struct Tracked<'a> {
    path: &'a Path,
    text: &'a str,
}

/// Checks the whole tree; an error when there was a finding.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let files = files(root)?;
    let mut findings: Vec<Finding> = missing(root).collect();
    for path in &files {
        // What is not text holds no text that could be wrong.
        let Ok(content) = fs::read_to_string(root.join(path)) else { continue };
        let file = Tracked { path, text: &content };
        findings.extend(check(root, &file));
    }
    findings.extend(boundary::check(root));
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files are as they should be", files.len());
            Ok(())
        }
        count => bail!("tidy found {count} things to put right"),
    }
}

/// Links of a text to files that do not exist, for those who put texts elsewhere.
#[cfg(test)]
pub(crate) fn dead_links(path: &Path, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let found = text::check_links(&Tracked { path, text }, exists);
    found.iter().map(ToString::to_string).collect()
}

/// Longer files hide a seam.
const MOST_LINES: usize = 800;

fn check(root: &Path, file: &Tracked<'_>) -> Vec<Finding> {
    let mut findings = text::check(file);
    match file.path.extension().and_then(|extension| extension.to_str()) {
        Some("rs") => {
            findings.extend(check_shape(file));
            let code = source::code_only(file.text);
            findings.extend(imports::check(file, &code));
            findings.extend(rooms::check(file, &code));
        }
        Some("md") => findings.extend(text::check_links(file, |target| root.join(target).exists())),
        _ => {}
    }
    findings
}

fn check_shape(file: &Tracked<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if lines > MOST_LINES {
        findings.push(file.finding(
            lines,
            format!("{lines} lines are more than {MOST_LINES}: look for the seam and cut there"),
        ));
    }
    if !file.text.starts_with("//!") {
        findings.push(
            file.finding(1, "the file does not say what it is for: open with a `//!` sentence"),
        );
    }
    findings
}

/// Files that must be there.
fn missing(root: &Path) -> impl Iterator<Item = Finding> {
    [
        "docs/configuration.md",
        "fastnetmon.conf",
        "README.md",
        "Cargo.lock",
        "fastnetmon-ebpf/Cargo.lock",
    ]
    .into_iter()
    .filter(|path| !root.join(path).is_file())
    .map(|path| Finding {
        file: path.into(),
        line: 1,
        what: "the file is missing: others refer to it, write it".to_owned(),
    })
}

/// All files that are tracked, or would be with the next `git add`.
fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listing = process::output(Command::new("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
    .context("tidy asks git which files there are")?;
    let mut files: Vec<PathBuf> = listing
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        // What was deleted is still listed until it is committed.
        .filter(|path| root.join(path).is_file())
        .collect();
    files.sort();
    Ok(files)
}

impl Tracked<'_> {
    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { file: self.path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        write!(f, "{}:{line}: {what}", file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_shape_of(text: &str, expected: &[&str]) {
        let file = Tracked { path: Path::new("a.rs"), text };
        let found: Vec<String> = check_shape(&file).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_says_first_what_it_is_for() {
        check_shape_of("//! What it is for.\nfn main() {}\n", &[]);
        check_shape_of(
            "fn main() {}\n",
            &["a.rs:1: the file does not say what it is for: open with a `//!` sentence"],
        );
    }

    #[test]
    fn a_file_has_at_most_800_lines() {
        check_shape_of(&format!("//! Long.\n{}", "\n".repeat(799)), &[]);
        check_shape_of(
            &format!("//! Too long.\n{}", "\n".repeat(800)),
            &["a.rs:801: 801 lines are more than 800: look for the seam and cut there"],
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing: Vec<Finding> = missing(Path::new("/no/such/tree")).collect();
        assert!(missing.iter().any(|finding| finding.file == Path::new("fastnetmon.conf")));
        assert!(missing.iter().any(|finding| finding.file == Path::new("docs/configuration.md")));
    }
}
