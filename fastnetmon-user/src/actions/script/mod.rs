//! The hook script: `ip direction pps ban`, then `attack_details` with the packets, then `unban`.
//!
//! | call | standard input by `format`: `seed` | `report` | `json` |
//! |---|---|---|---|
//! | `ban` | empty | the report's header | the event |
//! | `attack_details` | one line a packet, nothing else | the whole report | the event with its packets |
//! | `unban` | empty | empty | the event |
//!
//! With three arguments, the form of 2014, the last call is not made: such a script would take it
//! for a ban.
//!
//! **Invariant**: no shell, a process group of its own, an environment of its own, a deadline. What
//! it prints is taken and thrown away but for the first words of its complaint; whether it reads
//! its input does not matter to us.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::actions::{
    Action, ActionError, Arguments, Errand, EventId, Format, Sort, event, report,
};
use crate::model::plain_words;
use crate::origins::Origins;
use crate::verdicts::Verdict;

/// Where a script finds its programs.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a complaint is kept.
const COMPLAINT: usize = 512;

/// Between the request to end and its enforcement.
const GRACE: Duration = Duration::from_secs(1);

/// How often a child is looked after where the kernel has no pidfd (before Linux 5.3).
const GLANCE: Duration = Duration::from_millis(10);

/// The script at this path.
#[derive(Clone, Debug)]
pub struct Script {
    path: PathBuf,
    arguments: Arguments,
    format: Format,
    origins: Origins,
}

impl Script {
    /// Will call the program at `path`.
    pub fn new(path: PathBuf, arguments: Arguments, format: Format) -> Self {
        Self { path, arguments, format, origins: Origins::default() }
    }

    /// Will tell where packets come from, as far as that is known.
    #[must_use]
    pub fn knowing(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// What the script is given as arguments. Alerts are no business of its.
    fn arguments(&self, verdict: &Verdict) -> Option<Vec<String>> {
        let ban = verdict.ban()?;
        let mut arguments =
            vec![ban.address.to_string(), ban.direction.name().to_owned(), ban.pps.to_string()];
        if self.arguments == Arguments::Four {
            arguments.push(verdict.name().to_owned());
        }
        Some(arguments)
    }

    /// What it is given on standard input.
    fn input(&self, errand: &Errand) -> String {
        match (self.format, &errand.verdict) {
            (Format::Seed, Verdict::Details(_, packets)) => {
                let mut lines = String::new();
                for packet in packets.iter() {
                    // Writing to a string cannot fail.
                    let _infallible = writeln!(lines, "{packet}");
                }
                lines
            }
            (Format::Report, Verdict::Ban(_)) => report::header(errand),
            (Format::Report, Verdict::Details(..)) => report::full(errand),
            (Format::Seed | Format::Report, _) => String::new(),
            (Format::Json, _) => event::json(errand, &self.origins).to_string() + "\n",
        }
    }
}

impl Action for Script {
    const NAME: &'static str = "script";
    const SORT: Sort = Sort::Once;

    fn wants(&self, verdict: &Verdict) -> bool {
        let is_known = match verdict {
            Verdict::Ban(_) | Verdict::Details(..) => true,
            Verdict::Unban(..) => self.arguments == Arguments::Four,
            Verdict::Alert(_) | Verdict::Calm(_) => false,
        };
        is_known && verdict.ban().is_some_and(|ban| ban.deeds.script)
    }

    fn carry_out(&mut self, errand: &Errand, patience: Duration) -> Result<(), ActionError> {
        let Some(arguments) = self.arguments(&errand.verdict) else { return Ok(()) };
        let input = self.input(errand);
        // A group may have a script of its own.
        let ban = errand.verdict.ban();
        let path = ban.and_then(|ban| ban.deeds.script_path.as_deref()).unwrap_or(&self.path);
        let mut child = spawn(path, &arguments, errand.event(), !input.is_empty())?;
        let (status, complaint) =
            attend(&mut child, input.as_bytes(), patience).map_err(|error| {
                ActionError::Refused { reason: format!("`{}`: {error}", path.display()) }
            })?;
        let Some(status) = status else {
            return Err(ActionError::Deadline(patience));
        };
        if status.success() {
            return Ok(());
        }
        let mut reason = format!("`{}` {}", path.display(), ending(status));
        if !complaint.is_empty() {
            let _infallible = write!(reason, ": {complaint}");
        }
        Err(ActionError::Refused { reason })
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in no known way".to_owned(),
    }
}

fn spawn(
    path: &Path,
    arguments: &[String],
    event: EventId,
    has_input: bool,
) -> Result<Child, ActionError> {
    #[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
    let mut command = Command::new(path);
    command
        .args(arguments.iter().map(OsString::from))
        .env_clear()
        .env("PATH", SEARCH)
        .env("FASTNETMON_EVENT", event.to_string())
        .current_dir("/")
        .process_group(0)
        .stdin(if has_input { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().map_err(|error| {
        let refused =
            |what: &str| ActionError::Refused { reason: format!("`{}` {what}", path.display()) };
        match error.raw_os_error() {
            Some(libc::ENOENT) => refused("does not exist: set `script` in `[notify]`"),
            Some(libc::EACCES) => refused("may not be executed: `chmod 755` it"),
            Some(libc::ENOEXEC) => refused("is no program: begin it with `#!/bin/sh`"),
            Some(libc::ETXTBSY | libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
                ActionError::Retry { reason: format!("`{}`: {error}", path.display()) }
            }
            _ => refused(&format!("cannot be started: {error}")),
        }
    })
}

/// Feeds the child, hears its complaint, waits for its end. `None`: it had to be ended.
fn attend(
    child: &mut Child,
    input: &[u8],
    patience: Duration,
) -> io::Result<(Option<ExitStatus>, String)> {
    let mut stdin = child.stdin.take();
    let mut stderr = child.stderr.take();
    let pipes = [stdin.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
    for pipe in pipes.into_iter().flatten() {
        fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
    }
    let group = Pid::from_child(child);
    let pidfd = pidfd_open(group, PidfdFlags::empty()).ok();
    let mut input = input;
    let mut complaint = Vec::new();
    let deadline = now() + patience;
    loop {
        feed(&mut stdin, &mut input);
        hear(&mut stderr, &mut complaint);
        if let Some(status) = child.try_wait()? {
            hear(&mut stderr, &mut complaint);
            return Ok((Some(status), words(&complaint)));
        }
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            break;
        }
        wait(pidfd.as_ref(), stdin.as_ref(), stderr.as_ref(), left)?;
    }
    end(child, group, pidfd.as_ref())?;
    Ok((None, words(&complaint)))
}

/// Asks the whole group to end, then makes it.
fn end(child: &mut Child, group: Pid, pidfd: Option<&OwnedFd>) -> io::Result<()> {
    // The group may be gone already; then there is nothing left to do.
    let _gone = kill_process_group(group, Signal::TERM);
    let deadline = now() + GRACE;
    while child.try_wait()?.is_none() {
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            break;
        }
        wait(pidfd, None, None, left)?;
    }
    let _gone = kill_process_group(group, Signal::KILL);
    child.wait().map(drop)
}

fn wait(
    pidfd: Option<&OwnedFd>,
    stdin: Option<&ChildStdin>,
    stderr: Option<&ChildStderr>,
    left: Duration,
) -> io::Result<()> {
    let fds: [(Option<BorrowedFd<'_>>, PollFlags); 3] = [
        (pidfd.map(AsFd::as_fd), PollFlags::IN),
        (stdin.map(AsFd::as_fd), PollFlags::OUT),
        (stderr.map(AsFd::as_fd), PollFlags::IN),
    ];
    let mut polled: Vec<PollFd<'_>> = fds
        .into_iter()
        .filter_map(|(fd, flags)| fd.map(|fd| PollFd::from_borrowed_fd(fd, flags)))
        .collect();
    let left = if pidfd.is_some() { left } else { left.min(GLANCE) };
    let left = Timespec::try_from(left).ok();
    match poll(&mut polled, left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes what the pipe takes; closes it when all is written or nobody reads.
fn feed(stdin: &mut Option<ChildStdin>, input: &mut &[u8]) {
    while let Some(pipe) = stdin {
        if input.is_empty() {
            *stdin = None;
            return;
        }
        match pipe.write(input) {
            Ok(written) => *input = input.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A script need not read its input.
            Err(_closed) => *stdin = None,
        }
    }
}

/// Reads what there is; keeps its beginning.
fn hear(stderr: &mut Option<ChildStderr>, complaint: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Some(pipe) = stderr {
        match pipe.read(&mut buffer) {
            Ok(0) => *stderr = None,
            Ok(read) => {
                let room = COMPLAINT.saturating_sub(complaint.len());
                complaint.extend_from_slice(buffer.get(..read.min(room)).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_closed) => *stderr = None,
        }
    }
}

/// A script's words may end up on a terminal: no control characters.
fn words(complaint: &[u8]) -> String {
    plain_words(&String::from_utf8_lossy(complaint), usize::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a deadline needs a clock, and nothing is decided here"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
