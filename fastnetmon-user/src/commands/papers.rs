//! `fastnetmon completions` and `fastnetmon man`: what packages install beside the program.
//!
//! **Invariant**: made from the command line's own definition, so that they cannot say anything else.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::commands::{CommandLine, Failure, say};

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// For which shell
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct Man {
    /// Folder to write `fastnetmon.1`, `fastnetmon-run.1` and so on to
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub(super) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut CommandLine::command(), "fastnetmon", &mut text);
    say(&String::from_utf8_lossy(&text))
}

pub(super) fn man(arguments: &Man) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let failed = |error| {
        Failure::Input(format!("`{}`: the pages cannot be written: {error}", folder.display()))
    };
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(CommandLine::command(), folder).map_err(failed)
}
