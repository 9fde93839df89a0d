//! What became of each key, for people and for programs.
//!
//! **Invariant**: says what [`Migration`] holds, and nothing of its own.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::commands::migrate::resolve::{Migration, Outcome, Told};

/// For people.
pub(super) fn text(file: &Path, output: Option<&Path>, migration: &Migration) -> String {
    let mut text = format!("{}: {} keys read", file.display(), migration.keys.len());
    if let Some(output) = output {
        let _infallible = write!(text, ", {} written", output.display());
    }
    text.push_str(".\n");
    for outcome in Outcome::ALL {
        let of_it: Vec<&Told> =
            migration.keys.iter().filter(|told| told.outcome == outcome).collect();
        if of_it.is_empty() {
            continue;
        }
        let _infallible = write!(text, "\n{} ({}):\n", title(outcome), of_it.len());
        for told in of_it {
            let _infallible = write!(text, "  line {:>3}  {}", told.line, told.shown());
            if !told.to.is_empty() {
                let _infallible = write!(text, "  ->  {}", told.to.join(", "));
            }
            text.push('\n');
            if !told.how.is_empty() {
                let _infallible = writeln!(text, "            {}", told.how);
            }
        }
    }
    for (number, remark) in (0..).zip(&migration.remarks) {
        let _infallible = writeln!(text, "{}remark: {remark}", if number == 0 { "\n" } else { "" });
    }
    let _infallible = match output {
        Some(output) => write!(text, "\nNow: fastnetmon check --config {}", output.display()),
        None => Ok(()),
    };
    text
}

/// For programs.
pub(super) fn json(file: &Path, output: Option<&Path>, migration: &Migration) -> String {
    let keys: Vec<_> = migration
        .keys
        .iter()
        .map(|told| {
            json!({
                "line": told.line,
                "key": told.key,
                "value": told.value,
                "outcome": told.outcome.name(),
                "to": told.to,
                "how": told.how,
            })
        })
        .collect();
    json!({
        "file": file,
        "output": output,
        "keys": keys,
        "remarks": migration.remarks,
        "toml": migration.toml,
    })
    .to_string()
}

const fn title(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Honoured => "Honoured",
        Outcome::Different => "Different here",
        Outcome::Nothing => "Without effect there too",
        Outcome::Missing => "Not supported",
        Outcome::Unreadable => "Not understood",
        Outcome::Unknown => "Unknown",
    }
}
