//! The command line: one file a group of subcommands.
//!
//! **Invariant**: a command returns what it has to say; `main` makes an exit code of it. 0: done.
//! 1: the agent said no, or broke. 2: bad input or a start that could not be made. The doctor's own
//! codes say how bad it is.

mod ask;
mod check;
mod doctor;
mod explain;
mod export;
mod migrate;
mod papers;
mod replay;
mod run;
mod sandbox;
mod tune;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Finds attacked hosts and calls your script.
#[derive(Debug, Parser)]
#[command(name = "fastnetmon", version, max_term_width = 100)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The agent: counts, decides, calls the script (root, or its capabilities)
    Run(run::Arguments),
    /// The console, refreshed each second: hosts, bans, events; `?` shows its keys
    Top(ask::Top),
    /// The state of the agent
    Status(ask::Status),
    /// The bans that stand
    Bans(ask::Bans),
    /// Ban a host of ours
    Ban(ask::Ban),
    /// Let a host go
    Unban(ask::Unban),
    /// Ban by rules again, although too many were to be banned within a minute
    Resume(ask::Resume),
    /// Have the agent read its configuration again, and say what changed
    Reload(ask::Reload),
    /// Read a configuration and its networks, and say what would be in force
    Check(check::Arguments),
    /// Why the counters are zero: looks at configuration, ports, agent and machine, and names the
    /// command that mends what it finds. Exit code 0: nothing, or notes; 1: warnings; 2: failures
    Doctor(doctor::Arguments),
    /// What databases need before they can be told
    Export(export::Arguments),
    /// What the programs count each frame of a capture file as (root)
    Explain(explain::Arguments),
    /// Make our configuration of the incumbent's, and say what becomes of each key
    Migrate(migrate::Arguments),
    /// Make the machine ready for many packets: shows, `--apply`, `--undo` (root to change)
    Tune(tune::Arguments),
    /// Print completions for a shell
    Completions(papers::Completions),
    /// Write the manual pages
    #[command(hide = true)]
    Man(papers::Man),
    /// Which bans the traffic of a capture file would have brought
    Replay(replay::Arguments),
}

/// Where the agent is asked.
#[derive(Args, Debug)]
struct Where {
    /// Control socket of the agent
    #[arg(long, value_name = "PATH", default_value = "/run/fastnetmon/control.sock")]
    socket: PathBuf,
}

/// By what hosts are ordered.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Packets,
    Bytes,
}

/// Does what the command line says.
pub fn dispatch(line: CommandLine) -> ExitCode {
    let outcome = match line.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Top(arguments) => ask::top(&arguments),
        Command::Status(arguments) => ask::status(&arguments),
        Command::Bans(arguments) => ask::bans(&arguments),
        Command::Ban(arguments) => ask::ban(&arguments),
        Command::Unban(arguments) => ask::unban(&arguments),
        Command::Resume(arguments) => ask::resume(&arguments),
        Command::Reload(arguments) => ask::reload(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Doctor(arguments) => return doctor::doctor(&arguments),
        Command::Export(arguments) => export::export(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Migrate(arguments) => migrate::migrate(&arguments),
        Command::Tune(arguments) => tune::tune(&arguments),
        Command::Completions(arguments) => papers::completions(&arguments),
        Command::Man(arguments) => papers::man(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Input(reason)) => complain(&reason, 2),
        Err(Failure::Refused(reason)) => complain(&reason, 1),
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// Bad input, or a start that could not be made: exit code 2.
    Input(String),
    /// The agent said no, or broke: exit code 1.
    Refused(String),
}

fn complain(reason: &str, code: u8) -> ExitCode {
    // Where nobody listens, the exit code has to do.
    let _unheard = writeln!(io::stderr(), "fastnetmon: {reason}");
    ExitCode::from(code)
}

/// Answers on the standard output. A reader that has had enough (`| head`) is no failure.
fn say(text: &str) -> Result<(), Failure> {
    let text = text.trim_end_matches('\n');
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Refused(format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}
