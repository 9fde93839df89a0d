//! The fenced blocks of the texts, each with what was decided about it.
//!
//! The decision stands in the fence, behind the language:
//!
//! | fence | |
//! |---|---|
//! | `sh run=HOST` | the test of this name types it |
//! | `sh read="why"` | nobody types it; why |
//! | `toml` | is a configuration that is accepted |
//! | `toml refused` | is a configuration that is refused |
//! | `text printed` | what the block before it prints, numbers aside |
//! | `json`, `text` | is well formed; is a drawing |
//!
//! **Invariant**: reads what it is given; what is done with a block is the business of tests.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A text and its blocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// Its path from the root of the workspace, with slashes.
    pub path: String,
    /// The blocks, from the top.
    pub blocks: Vec<Block>,
}

/// What stands between two fences.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// The line of the fence, from 1.
    pub line: usize,
    /// The last heading above it, without its marks.
    pub section: String,
    /// The first word of the fence.
    pub language: String,
    /// What stands behind it.
    pub decision: Decision,
    /// The lines.
    pub text: String,
}

/// What is to happen with a block.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The fence says nothing.
    None,
    /// The test of this name types it.
    Run(String),
    /// Nobody types it, for this reason.
    Read(String),
    /// One word of its own.
    Word(String),
    /// Something else, which nobody understands.
    Unclear(String),
}

impl Document {
    /// Every text below a folder, by path. Folders of tools (`target`, `.git`) are passed over.
    ///
    /// # Errors
    /// When a folder or a text cannot be read.
    pub fn all(root: &Path) -> io::Result<Vec<Self>> {
        let mut paths = Vec::new();
        texts(root, &mut paths)?;
        paths.sort();
        paths.iter().map(|path| Self::read(root, path)).collect()
    }

    /// One text, by its path from the root.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn named(root: &Path, name: &str) -> io::Result<Self> {
        Self::read(root, &root.join(name))
    }

    fn read(root: &Path, path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let path = path.strip_prefix(root).unwrap_or(path).display().to_string();
        Ok(Self { path, blocks: blocks(&text) })
    }

    /// The blocks that a test types.
    pub fn run_by<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| block.is_run_by(name))
    }
}

impl Block {
    /// Is it typed by the test of this name?
    pub fn is_run_by(&self, name: &str) -> bool {
        matches!(&self.decision, Decision::Run(other) if other == name)
    }
}

fn texts(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                texts(&path, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    Ok(())
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut section = String::new();
    let mut is_inside = false;
    for (line, content) in (1..).zip(text.lines()) {
        if let Some(info) = content.trim_start().strip_prefix("```") {
            is_inside = !is_inside;
            if is_inside {
                let info = info.trim();
                let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
                blocks.push(Block {
                    line,
                    section: section.clone(),
                    language: language.to_owned(),
                    decision: Decision::of(rest.trim()),
                    text: String::new(),
                });
            }
        } else if let Some(block) = blocks.last_mut().filter(|_| is_inside) {
            block.text.push_str(content);
            block.text.push('\n');
        } else if content.starts_with('#') {
            content.trim_start_matches('#').trim().clone_into(&mut section);
        }
    }
    blocks
}

impl Decision {
    fn of(text: &str) -> Self {
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        };
        if text.is_empty() {
            return Self::None;
        }
        if let Some(name) = text.strip_prefix("run=").filter(|name| is_name(name)) {
            return Self::Run(name.to_owned());
        }
        let why = text.strip_prefix("read=\"").and_then(|rest| rest.strip_suffix('"'));
        // A backtick would end the fence for readers of CommonMark.
        if let Some(why) = why.filter(|why| why.len() > 10 && !why.contains(['`', '"'])) {
            return Self::Read(why.to_owned());
        }
        if is_name(text) { Self::Word(text.to_owned()) } else { Self::Unclear(text.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn decision(text: &str, expected: Decision) {
        assert_eq!(Decision::of(text), expected);
    }

    #[test]
    fn a_fence_says_what_happens_with_its_block() {
        decision("", Decision::None);
        decision("run=host", Decision::Run("host".to_owned()));
        decision("printed", Decision::Word("printed".to_owned()));
        decision("read=\"needs systemd\"", Decision::Read("needs systemd".to_owned()));
        for unclear in [
            "run=",
            "run=Host",
            "read=\"\"",
            "read=why",
            "read=\"short\"",
            "run=a b",
            "read=\"so `it` is\"",
        ] {
            decision(unclear, Decision::Unclear(unclear.to_owned()));
        }
    }

    #[test]
    fn a_block_knows_its_line_and_its_section() {
        let text = "# A\n\n```sh run=host\n# no heading\nls\n```\n\n## B\n```text\n```\n";
        let found: Vec<(usize, String, String)> =
            blocks(text).into_iter().map(|block| (block.line, block.section, block.text)).collect();
        let expected = [(3, "A", "# no heading\nls\n"), (9, "B", "")]
            .map(|(line, section, text)| (line, section.to_owned(), text.to_owned()));
        assert_eq!(found, expected);
    }
}
