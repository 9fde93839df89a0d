//! An agent in a lab, started as an operator would start it.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fastnetmon_user::client::Connection;
use fastnetmon_user::control::{Packets, Request, Status};
use rustix::thread::{CpuSet, sched_setaffinity};
use xtask::lab::{INSIDE_INTERFACE, Lab};

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of its own for each test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fnm-agent-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A script; `HERE` in its body is this folder.
    pub(crate) fn script(&self, name: &str, body: &str) -> PathBuf {
        let here = self.0.display().to_string();
        let path = self.write(name, &format!("#!/bin/sh\n{body}\n").replace("HERE", &here));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a file says what is asked for.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, says: impl Fn(&str) -> bool) -> String {
        wait(&format!("`{name}` to say what is expected, not `{}`", self.read(name)), || {
            Some(self.read(name)).filter(|text| says(text))
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test that failed leaves its traces to be read.
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

/// Keeps this thread on one CPU.
pub(crate) fn pin(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).unwrap();
}

/// Asks until there is an answer; fails when there is none in time.
#[track_caller]
pub(crate) fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
        pause();
    }
}

/// Between two questions: as long as a poll of nothing takes.
fn pause() {
    let (_silent, never) = std::os::unix::net::UnixStream::pair().unwrap();
    never.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let _timeout = (&never).read(&mut [0]);
}

/// What the configuration says beyond where its files are.
pub(crate) struct Setup<'a> {
    pub(crate) networks: &'a str,
    pub(crate) whitelist: &'a str,
    /// Lines in `[capture]`.
    pub(crate) capture: &'a str,
    /// Lines in `[networks]`.
    pub(crate) in_networks: &'a str,
    /// Other sections.
    pub(crate) rest: &'a str,
    /// Body of the hook.
    pub(crate) hook: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            networks: "192.0.2.0/24\n198.51.100.0/24\n2001:db8::/32\n",
            whitelist: "",
            capture: "",
            in_networks: "",
            rest: "[thresholds]\npps = 30000\n",
            hook: "exit 0",
        }
    }
}

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    pub(crate) folder: Folder,
    stopped: bool,
}

/// Writes the configuration of an agent. `[notify]` and `[control]` are taken.
pub(crate) fn configure(folder: &Folder, setup: &Setup<'_>) -> PathBuf {
    let list = folder.write("networks_list", setup.networks);
    let whitelist = folder.write("networks_whitelist", setup.whitelist);
    let hook = folder.script("hook", setup.hook);
    let Setup { capture, in_networks, rest, .. } = setup;
    let (list, whitelist, hook) = (list.display(), whitelist.display(), hook.display());
    let socket = folder.path("control.sock");
    let socket = socket.display();
    let journal = folder.path("journal");
    let journal = journal.display();
    // A test that wants a report of attacks says so.
    let attack_log =
        if rest.contains("[attack_log]") { "" } else { "[attack_log]\nenabled = false\n" };
    let packets = if rest.contains("[packets]") { "" } else { "[packets]\nenabled = false\n" };
    folder.write(
        "fastnetmon.conf",
        &format!(
            "[capture]\n{capture}\n[networks]\nlist = \"{list}\"\nwhitelist = \"{whitelist}\"\n\
             {in_networks}\n[notify]\nscript = \"{hook}\"\ndetails_deadline_secs = 3\ntimeout_secs = 5\n\
             [control]\nsocket = \"{socket}\"\n[journal]\npath = \"{journal}\"\n{attack_log}{packets}{rest}"
        ),
    )
}

/// The agent's command line for this configuration.
pub(crate) fn command(lab: &Lab, config: &Path, interface: &str) -> Command {
    command_by(lab, &[], config, interface)
}

/// The same, started by another program.
pub(crate) fn command_by(lab: &Lab, by: &[&str], config: &Path, interface: &str) -> Command {
    let words = [by, &[env!("CARGO_BIN_EXE_fastnetmon")]].concat();
    let mut command = lab.command_inside(words[0]);
    command.args(&words[1..]);
    command.args(["run", "--interface", interface, "--config"]).arg(config);
    command
}

impl Agent {
    /// Starts an agent on the inner end of the cable and waits until it counts.
    #[track_caller]
    pub(crate) fn start(lab: &Lab, setup: &Setup<'_>) -> Self {
        Self::start_by(lab, &[], setup, INSIDE_INTERFACE)
    }

    /// The same, by another program and on another interface.
    #[track_caller]
    pub(crate) fn start_by(lab: &Lab, by: &[&str], setup: &Setup<'_>, interface: &str) -> Self {
        let folder = Folder::new();
        let config = configure(&folder, setup);
        let log = fs::File::create(folder.path("log")).unwrap();
        let child = command_by(lab, by, &config, interface)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut agent = Self { child, folder, stopped: false };
        wait("the agent to answer", || {
            if let Some(status) = agent.child.try_wait().unwrap() {
                agent.stopped = true;
                panic!("the agent ended with {status}: {}", agent.log());
            }
            agent.ask().filter(|_| agent.log().contains("The agent counts."))
        });
        agent
    }

    /// Starts it again where it ran, after it ended in whatever way, and waits until it counts.
    #[track_caller]
    pub(crate) fn again(&mut self, lab: &Lab) {
        assert!(self.stopped);
        let counts = |log: &str| log.matches("The agent counts.").count();
        let before = counts(&self.log());
        let log = fs::OpenOptions::new().append(true).open(self.folder.path("log")).unwrap();
        // A child that was about to become a script holds what the killed one had, for a moment.
        wait("the last of the killed agent", || {
            std::os::unix::net::UnixStream::connect(self.socket()).err()
        });
        let config = self.folder.path("fastnetmon.conf");
        self.child = command(lab, &config, INSIDE_INTERFACE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.stopped = false;
        wait("the agent to answer again", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.stopped = true;
                panic!("the agent ended with {status}: {}", self.log());
            }
            self.ask().filter(|_| counts(&self.log()) > before)
        });
    }

    /// Ends it as the kernel would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stopped = true;
    }

    pub(crate) fn log(&self) -> String {
        self.folder.read("log")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path("control.sock")
    }

    fn ask(&self) -> Option<Status> {
        let mut status = Connection::open(&self.socket()).ok()?.status(100).ok()?;
        // On a machine with more to do one reading or two may be late, which is told and nobody's fault.
        let few = |alarm: &String| {
            ["1", "2"]
                .iter()
                .any(|n| *alarm == format!("{n} readings came too late to tell speeds."))
        };
        status.alarms.retain(|alarm| !few(alarm));
        Some(status)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The state after the next reading.
    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        self.ask().expect("the agent answers")
    }

    #[track_caller]
    pub(crate) fn order(&self, request: &Request) -> Result<String, String> {
        let mut connection = Connection::open(&self.socket()).unwrap();
        connection.order(request).map_err(|error| error.to_string())
    }

    /// Waits until so many packets in all were read, and for one more reading, in which nothing
    /// may come after them.
    #[track_caller]
    pub(crate) fn settled(&self, received: u64) -> Status {
        self.settled_when(&format!("{received} packets"), |packets| packets.received >= received)
    }

    /// The same, where what was told as lost counts as well.
    #[track_caller]
    pub(crate) fn settled_with_losses(&self, sent: u64) -> Status {
        self.settled_when(&format!("{sent} packets, counted or told as lost"), |packets| {
            packets.received + packets.dropped >= sent
        })
    }

    #[track_caller]
    fn settled_when(&self, what: &str, holds: impl Fn(&Packets) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let packets = self.status().packets;
            if holds(&packets) {
                break;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {packets:?}");
            pause();
        }
        let uptime = self.status().uptime_secs;
        wait("another reading", || {
            Some(self.status()).filter(|status| status.uptime_secs >= uptime + 2)
        })
    }

    /// Ends the agent with a signal and waits for it.
    pub(crate) fn end(&mut self, signal: xtask::lab::Signal) -> ExitStatus {
        xtask::lab::signal(self.child.id(), signal).unwrap();
        self.stopped = true;
        let mut status = None;
        wait("the agent to end", || {
            status = self.child.try_wait().unwrap();
            status
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.stopped {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}
