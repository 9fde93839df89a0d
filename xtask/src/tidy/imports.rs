//! Imports stand in three blocks: the standard library, other crates, this crate.
//!
//! **Invariant**: looks only at private imports at the head of a file; re-exports may stand anywhere.

use super::{Finding, Tracked};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Block {
    Standard,
    OtherCrates,
    ThisCrate,
}

pub(super) fn check(file: &Tracked<'_>, code: &str) -> Vec<Finding> {
    let modules: Vec<&str> = code.lines().filter_map(module_name).collect();
    let mut findings = Vec::new();
    let mut previous: Option<(Block, usize)> = None;
    let mut lines = (1..).zip(code.lines());
    while let Some((number, line)) = lines.next() {
        if is_other_item(line) {
            break;
        }
        let Some(path) = line.strip_prefix("use ") else { continue };
        let block = block_of(path, &modules);
        if let Some((before, end)) = previous {
            let is_apart = number > end + 1;
            let remedy = "std, other crates, this crate, with a blank line between them";
            if block < before {
                findings.push(file.finding(number, format!("the import is too late: {remedy}")));
            } else if (block != before) != is_apart {
                findings.push(
                    file.finding(number, format!("the blocks of imports are not apart: {remedy}")),
                );
            }
        }
        let mut end = number;
        if !line.contains(';') {
            end = lines.find(|(_, line)| line.contains(';')).map_or(end, |(number, _)| number);
        }
        previous = Some((block, end));
    }
    findings
}

/// Whether the head of the file, with its imports, ends here.
fn is_other_item(line: &str) -> bool {
    const HEAD: [&str; 8] = ["use ", "mod ", "pub ", "pub(", "#", "extern crate ", "//", "}"];
    let is_indented = line.starts_with(char::is_whitespace) || line.is_empty();
    let is_public_item = ["pub ", "pub("].iter().any(|start| line.starts_with(start))
        && !line.contains(" use ")
        && !line.contains(" mod ");
    !is_indented && (is_public_item || !HEAD.iter().any(|head| line.starts_with(head)))
}

fn module_name(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("mod ")?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

fn block_of(path: &str, modules: &[&str]) -> Block {
    let first = path
        .trim_start_matches("::")
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or("");
    match first {
        "std" | "core" | "alloc" => Block::Standard,
        "crate" | "self" | "super" => Block::ThisCrate,
        name if modules.contains(&name) => Block::ThisCrate,
        _ => Block::OtherCrates,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[track_caller]
    fn findings(text: &str, expected: &[usize]) {
        let file = Tracked { path: Path::new("a.rs"), text };
        let lines: Vec<usize> = check(&file, text).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn three_blocks_are_fine_and_so_are_fewer() {
        findings("use std::fmt;\n\nuse clap::Parser;\n\nuse crate::a;\nuse super::b;\n", &[]);
        findings("use clap::Parser;\n", &[]);
        findings("mod a;\n\nuse std::{\n    fmt,\n    io,\n};\n\nuse a::B;\n", &[]);
        findings("use core::fmt;\n\npub use self::a::B;\nuse crate::c;\n", &[]);
    }

    #[test]
    fn blocks_must_be_apart_and_in_order() {
        findings("use std::fmt;\nuse clap::Parser;\n", &[2]);
        findings("use std::fmt;\n\nuse std::io;\n", &[3]);
        findings("use crate::a;\n\nuse std::io;\n", &[3]);
        findings("use std::{\n    fmt,\n};\nuse crate::a;\n", &[4]);
    }

    #[test]
    fn imports_of_inner_modules_are_their_own_affair() {
        findings(
            "use std::fmt;\n\nfn f() {}\n\nmod tests {\n    use super::*;\n    use std::io;\n}\n",
            &[],
        );
    }
}
