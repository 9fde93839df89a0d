//! `fastnetmon migrate`: the incumbent's configuration becomes ours.
//!
//! [`legacy`] reads the lines, [`keys`] is the table of what becomes of each key, [`resolve`] does
//! it, [`report`] tells.
//!
//! **Invariant**: what is written is accepted by the settings of this very program. A value they
//! refuse is left out and told, so the default is in force.

mod keys;
mod legacy;
mod report;
mod resolve;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::{Failure, say};
use crate::daemon::Settings;

/// No configuration is larger.
const LARGEST: u64 = 4 << 20;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Their file, `key = value`, of any version
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where ours is written; without it, it goes to the standard output and the report to the
    /// standard error
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The report, and with it our file, as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn migrate(arguments: &Arguments) -> Result<(), Failure> {
    let file = &arguments.file;
    let bytes = read(file).map_err(Failure::Input)?;
    let text = String::from_utf8_lossy(&bytes);
    if text.lines().any(|line| line.trim_start().starts_with('[')) {
        return Err(Failure::Input(format!(
            "{}: has sections, so it is in the new form already: `fastnetmon check --config` reads \
             it",
            file.display()
        )));
    }
    let migration = resolve::migrate(&file.display().to_string(), &legacy::parse(&bytes));
    if migration.keys.is_empty() {
        return Err(Failure::Input(format!(
            "{}: not one line of the form `key = value` in it",
            file.display()
        )));
    }
    Settings::parse(Path::new("the new file"), &migration.toml).map_err(|error| {
        Failure::Refused(format!("what would be written is not accepted, which is a bug: {error}"))
    })?;
    if let Some(output) = &arguments.output {
        write(output, &migration.toml).map_err(Failure::Input)?;
    }
    match (&arguments.output, arguments.json) {
        (_, true) => say(&report::json(file, arguments.output.as_deref(), &migration)),
        (Some(output), false) => say(&report::text(file, Some(output), &migration)),
        (None, false) => {
            // Where nobody listens, the file has it all.
            let report = report::text(file, None, &migration);
            let _unheard = writeln!(io::stderr(), "{report}");
            say(&migration.toml)
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(format!("{}: larger than 4 MiB, so no configuration", file.display()));
    }
    Ok(bytes)
}

/// Never over what is there: it may be the only copy of theirs.
fn write(output: &Path, toml: &str) -> Result<(), String> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(output)
        .and_then(|mut file| {
            file.write_all(toml.as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{}: is there already and is not written over: name another file with `--output`",
                output.display()
            ),
            _ => format!("{}: {error}", output.display()),
        })
}
