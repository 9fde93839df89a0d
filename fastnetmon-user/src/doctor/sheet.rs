//! Findings as text for 80 columns, and as JSON.
//!
//! **Invariant**: a command stands on a line of its own, whole, so that it can be copied.

use std::fmt::{self, Write as _};

use serde_json::json;

use crate::control::{Finding, Severity};
use crate::doctor::{summary, worst};

/// Columns of a sheet.
const WIDTH: usize = 80;

/// Columns before what was seen.
const INDENT: &str = "         ";

/// Findings to be printed.
#[derive(Debug)]
pub struct Sheet<'a> {
    /// What there is to say.
    pub findings: &'a [Finding],
    /// What is fine is printed as well.
    pub all: bool,
    /// For a terminal that has colours.
    pub colours: bool,
}

impl fmt::Display for Sheet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { findings, all, colours } = *self;
        let shown = findings.iter().filter(|finding| all || finding.severity > Severity::Ok);
        for finding in shown {
            let Finding { id, severity, about, seen, mend } = finding;
            let about = about.as_ref().map(|about| format!("  {about}")).unwrap_or_default();
            let (begin, end) = if colours { colour(*severity) } else { ("", "") };
            writeln!(f, "{begin}{:<8}{end} {id}{about}", severity.name())?;
            for line in wrapped(seen, WIDTH - INDENT.len()) {
                writeln!(f, "{INDENT}{line}")?;
            }
            for command in mend {
                writeln!(f, "{INDENT}$ {command}")?;
            }
            writeln!(f)?;
        }
        let fine = findings.iter().filter(|finding| finding.severity == Severity::Ok).count();
        let rest = if all || fine == 0 { "" } else { "; `--all` shows them" };
        write!(f, "doctor: {}; {fine} checks are fine{rest}.", summary(findings))
    }
}

const fn colour(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Ok => ("\x1b[32m", "\x1b[0m"),
        Severity::Note => ("\x1b[36m", "\x1b[0m"),
        Severity::Warning => ("\x1b[1;33m", "\x1b[0m"),
        Severity::Failure => ("\x1b[1;31m", "\x1b[0m"),
    }
}

/// The same for programs.
pub fn json(findings: &[Finding]) -> String {
    let worst = worst(findings);
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "severity": worst,
        "findings": findings,
    });
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = write!(text, "{document:#}");
    text
}

/// Lines of at most so many characters; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + length <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
