//! `fastnetmon doctor`: why the counters are zero, and what mends it.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::event::{Timespec, poll};

use crate::client::{ClientError, Connection};
use crate::commands::ask::has_colours;
use crate::commands::{Failure, complain, say};
use crate::daemon::{self, clock};
use crate::doctor::{self, Agent, Asking, Sheet, Told};
use crate::kernel;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/fastnetmon.conf")]
    config: PathBuf,
    /// Ports to look at, instead of `interfaces` in the configuration or those of the agent
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    interface: Vec<String>,
    /// Control socket of the agent, instead of the configuration's
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Seconds for which packets and counters are looked at
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=60))]
    secs: u8,
    /// Show what is fine as well
    #[arg(long)]
    all: bool,
    /// For programs: everything, as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn doctor(arguments: &Arguments) -> ExitCode {
    let findings = look(arguments);
    let text = if arguments.json {
        doctor::json(&findings)
    } else {
        let colours = io::stdout().is_terminal() && has_colours();
        Sheet { findings: &findings, all: arguments.all, colours }.to_string()
    };
    match say(&text) {
        Ok(()) => ExitCode::from(doctor::exit_code(doctor::worst(&findings))),
        Err(Failure::Input(reason) | Failure::Refused(reason)) => complain(&reason, 2),
    }
}

fn look(arguments: &Arguments) -> Vec<crate::control::Finding> {
    let mut wanted = daemon::wanted(&arguments.config, &arguments.interface);
    if let Some(socket) = &arguments.socket {
        wanted.socket.clone_from(socket);
    }
    let socket = wanted.socket.clone();
    let agent = RefCell::new(Connection::open(&socket));
    let process = agent.borrow().as_ref().ok().and_then(Connection::process);
    let told = |error: &ClientError| failure(error, &socket);
    let mut asking = Asking {
        status: &mut || -> Told {
            match &mut *agent.borrow_mut() {
                Ok(agent) => agent.status(0).map_err(|error| told(&error)),
                Err(error) => Err(told(error)),
            }
        },
        networks: &mut || agent.borrow_mut().as_mut().ok()?.networks().ok(),
        process,
        missing: daemon::missing_rights,
        clock_kept: kernel::is_clock_kept,
        span: Duration::from_secs(arguments.secs.into()),
        always: true,
        now: clock::now,
        wall: clock::wall,
        wait: &wait,
    };
    doctor::examine(&doctor::gather(wanted, &mut asking))
}

fn failure(error: &ClientError, socket: &Path) -> Agent {
    match error {
        ClientError::Nobody { source, .. } => {
            Agent::Nobody(format!("nobody answers at `{}` ({source})", socket.display()))
        }
        ClientError::Forbidden { .. } => Agent::Forbidden(error.to_string()),
        ClientError::Version { .. } => Agent::Foreign(error.to_string()),
        _ => Agent::Lost(error.to_string()),
    }
}

/// Nothing ends it early but the end of the program.
fn wait(span: Duration) -> bool {
    if let Ok(span) = Timespec::try_from(span) {
        // Nothing is waited for but the time; a signal only shortens it.
        let _early = poll(&mut [], Some(&span));
    }
    true
}
