//! The agent as it is shipped, in a lab, and what the system says of its process.
//!
//! **Invariant**: started as an operator would start it; everything it says comes by its control
//! socket.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fastnetmon_user::client::Connection;
use fastnetmon_user::control::Status;
use xtask::lab::{INSIDE_INTERFACE, Lab};

/// A running agent and its files.
pub(crate) struct Agent {
    child: Child,
    folder: PathBuf,
}

/// What a process has used and holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time in its own code.
    pub(crate) user: Duration,
    /// CPU time in system calls.
    pub(crate) system: Duration,
}

impl Usage {
    /// CPU time of this process since it started.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
        // The name before it may hold anything; fields 14 and 15 are ticks of 10 ms (proc(5)).
        let (_, fields) = stat.rsplit_once(')').context("`stat` has another form")?;
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut next = || -> anyhow::Result<Duration> {
            let ticks = ticks.next().context("`stat` is too short")??;
            Ok(Duration::from_millis(ticks * 10))
        };
        Ok(Self { user: next()?, system: next()? })
    }

    /// Both, since then.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        let user = self.user.saturating_sub(earlier.user);
        user.saturating_add(self.system.saturating_sub(earlier.system))
    }
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl Agent {
    /// Starts an agent on the inner end of the cable and waits until it counts. Its script is this
    /// very program, see [`crate::latency::hook`].
    pub(crate) fn start(lab: &Lab, networks: &str, threshold: u32) -> anyhow::Result<Self> {
        Self::with(lab, networks, threshold, "xdp")
    }

    /// The same with this engine.
    pub(crate) fn with(
        lab: &Lab,
        networks: &str,
        threshold: u32,
        engine: &str,
    ) -> anyhow::Result<Self> {
        Self::start_with(lab, networks, threshold, engine, "")
    }

    /// The same, with other sections in its configuration.
    pub(crate) fn start_with(
        lab: &Lab,
        networks: &str,
        threshold: u32,
        engine: &str,
        sections: &str,
    ) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("fnm-bench-{}", std::process::id()));
        fs::create_dir_all(folder.join(CALLS))?;
        let at = |name: &str| folder.join(name);
        fs::write(at("networks_list"), networks)?;
        fs::write(at("networks_whitelist"), "# nobody\n")?;
        let hook = at(HOOK);
        if !hook.exists() {
            symlink(std::env::current_exe()?, &hook)?;
        }
        let config = format!(
            "[capture]\nengine = '{engine}'\n[networks]\nlist = '{}'\nwhitelist = '{}'\n[thresholds]\npps = {threshold}\n\
             [notify]\nscript = '{}'\n[control]\nsocket = '{}'\n\
             [journal]\npath = ''\n[attack_log]\nenabled = false\n{sections}",
            at("networks_list").display(),
            at("networks_whitelist").display(),
            hook.display(),
            at("control.sock").display(),
        );
        fs::write(at("fastnetmon.conf"), config)?;
        let log = fs::File::create(at("log"))?;
        let child = lab
            .command_inside(env!("CARGO_BIN_EXE_fastnetmon"))
            .args(["run", "--interface", INSIDE_INTERFACE, "--config"])
            .arg(at("fastnetmon.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the agent cannot be started")?;
        let mut agent = Self { child, folder };
        let begun = Instant::now();
        while !(agent.log().contains("The agent counts.") && agent.status().is_ok()) {
            if let Some(status) = agent.child.try_wait()? {
                bail!("the agent ended with {status}: {}", agent.log());
            }
            if begun.elapsed() > PATIENCE {
                bail!("the agent does not answer: {}", agent.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(agent)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where the hook writes when it was called.
    pub(crate) fn calls(&self) -> PathBuf {
        self.folder.join(CALLS)
    }

    pub(crate) fn status(&self) -> anyhow::Result<Status> {
        Ok(Connection::open(&self.folder.join("control.sock"))?.status(1)?)
    }

    /// The status once nothing new was received for two readings.
    pub(crate) fn settled(&self) -> anyhow::Result<Status> {
        let begun = Instant::now();
        let mut last = self.status()?;
        while begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2_200));
            let now = self.status()?;
            if now.packets.received == last.packets.received {
                return Ok(now);
            }
            last = now;
        }
        bail!("the agent still receives packets and nobody sends any")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time since it started.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.child.id())
    }

    /// Kilobytes of memory that is the agent's alone, and of the kernel's maps it has mapped.
    ///
    /// The mapped maps count as resident as well; here they are told apart by their names.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let maps = fs::read_to_string(self.proc("smaps"))?;
        let mut memory = Memory::default();
        let mut of_map = false;
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            if first == "Rss:" {
                let kilobytes: u64 = words.next().context("`smaps` has another form")?.parse()?;
                if of_map { memory.mapped += kilobytes } else { memory.own += kilobytes }
            } else if first.contains('-') {
                of_map = line.ends_with("bpf-map");
            }
        }
        memory.tables = self.tables()?;
        Ok(memory)
    }

    /// Kilobytes the kernel charges for all maps the agent holds.
    fn tables(&self) -> anyhow::Result<u64> {
        let mut seen = std::collections::BTreeSet::new();
        let mut bytes = 0;
        for entry in fs::read_dir(self.proc("fdinfo"))? {
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let field = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
            };
            if let (Some(id), Some(memlock)) = (field("map_id:"), field("memlock:"))
                && seen.insert(id)
            {
                bytes += memlock;
            }
        }
        Ok(bytes / 1024)
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }
}

/// In kilobytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident, without the kernel's maps.
    pub(crate) own: u64,
    /// Resident pages of the kernel's maps.
    pub(crate) mapped: u64,
    /// All maps, as the kernel charges them.
    pub(crate) tables: u64,
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself; the lab removes what still runs in it.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        let _stays = fs::remove_dir_all(&self.folder);
    }
}

/// The name of the script.
pub(crate) const HOOK: &str = "hook";

/// Where it writes.
pub(crate) const CALLS: &str = "calls";
