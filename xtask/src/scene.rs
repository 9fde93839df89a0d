//! What `demo` and `lab` share: a lab with the agent running in it, a script that writes down how it
//! was called, and traffic.
//!
//! **Invariant**: whatever a scene made is gone when it is dropped: namespaces, programs, files.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use xtask::{
    lab::{self, Lab, Signal},
    process,
    traffic::{Frame, Pool},
};

/// The threshold of the scene's agent.
pub(crate) const THRESHOLD_PPS: u64 = 30_000;

/// The attack, well over the threshold.
pub(crate) const ATTACK_PPS: u32 = 60_000;

/// What goes on all the time, towards the hosts and from them.
pub(crate) const INWARDS_PPS: u32 = 5_000;
/// See [`INWARDS_PPS`].
pub(crate) const OUTWARDS_PPS: u32 = 1_500;

/// The host that is attacked.
pub(crate) const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// A lab, the agent in it, and the files of both.
#[derive(Debug)]
pub(crate) struct Scene {
    // In the order in which they have to go.
    agent: Child,
    lab: Arc<Lab>,
    folder: Folder,
    program: PathBuf,
}

/// One call of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// When the script began, in nanoseconds since 1970.
    pub(crate) began_nanos: u128,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// What it read.
    pub(crate) input: String,
}

impl Scene {
    /// Makes the lab and starts the agent in it; returns when the agent answers.
    pub(crate) fn set(program: &Path, label: &str, ban_secs: u32) -> anyhow::Result<Self> {
        let folder = Folder::new(label)?;
        folder.write_files(ban_secs)?;
        let lab = Lab::new(label)?;
        let log = File::create(folder.log())?;
        let mut command = lab.command_inside(program);
        command
            .args(["run", "--interface", lab::INSIDE_INTERFACE, "--config"])
            .arg(folder.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for us; the agent ends when the scene does.
            .process_group(0);
        let agent = command
            .spawn()
            .with_context(|| format!("`{}` could not be started", process::line(&command)))?;
        let mut scene = Self { agent, lab: Arc::new(lab), folder, program: program.to_owned() };
        scene.wait_for_answer()?;
        Ok(scene)
    }

    /// The namespaces and the cable.
    pub(crate) fn lab(&self) -> Arc<Lab> {
        Arc::clone(&self.lab)
    }

    /// Where the agent listens for its console.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.socket()
    }

    /// What the agent was told.
    pub(crate) fn config(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.folder.config())?)
    }

    /// What the agent says of itself.
    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        let text = self.ask(&["status", "--json"])?;
        serde_json::from_str(&text).context("`fastnetmon status --json` printed no JSON")
    }

    /// The screen as an operator would see it now.
    pub(crate) fn screen(&self) -> anyhow::Result<String> {
        self.ask(&["top", "--once"])
    }

    /// The calls of the script so far, in order.
    pub(crate) fn calls(&self) -> anyhow::Result<Vec<Call>> {
        let text = match fs::read_to_string(self.folder.path.join("calls")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("the script's calls could not be read"),
        };
        let whole_lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole_lines.lines().map(|line| self.call(line)).collect()
    }

    /// What the agent wrote to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.log()).unwrap_or_default()
    }

    /// An error if the agent is gone, with its last words.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.agent.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the agent is gone ({status}); its log:\n{}", self.log()),
        }
    }

    /// Asks the agent to end, as the service manager would, and waits for it.
    pub(crate) fn stop_agent(&mut self) -> anyhow::Result<ExitStatus> {
        lab::signal(self.agent.id(), Signal::Terminate)?;
        let patience = Duration::from_secs(15);
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Some(status) = self.agent.try_wait()? {
                return Ok(status);
            }
            thread::sleep(BREATH);
        }
        bail!("the agent did not end within {} s of SIGTERM", patience.as_secs())
    }

    fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        process::output(
            Command::new(&self.program).args(arguments).arg("--socket").arg(self.socket()),
        )
    }

    fn wait_for_answer(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            self.check_alive()?;
            let answer = self.status();
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > Duration::from_secs(15) => {
                    return Err(error
                        .context(format!("the agent does not answer; its log:\n{}", self.log())));
                }
                Err(_) => thread::sleep(BREATH),
            }
        }
    }

    fn call(&self, line: &str) -> anyhow::Result<Call> {
        let mut words = line.split(' ').map(str::to_owned);
        let began = words.next().unwrap_or_default();
        let input = fs::read_to_string(self.folder.path.join(format!("input.{began}")))?;
        let began_nanos =
            began.parse().with_context(|| format!("the script wrote `{line}`: no time in it"))?;
        Ok(Call { began_nanos, arguments: words.collect(), input })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It may have ended already; the lab ends whatever else runs in it.
        let _gone = self.agent.kill();
        let _reaped = self.agent.wait();
    }
}

impl Call {
    /// What the call is about: `ban`, `attack_details` or `unban`.
    pub(crate) fn action(&self) -> &str {
        self.arguments.get(3).map_or("", String::as_str)
    }
}

/// How long to wait between two looks at something that will change soon.
pub(crate) const BREATH: Duration = Duration::from_millis(20);

/// A folder that is removed in the end.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(label: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("fastnetmon-{label}-{}", std::process::id()));
        fs::create_dir(&path)
            .with_context(|| format!("the folder `{}` could not be made", path.display()))?;
        Ok(Self { path })
    }

    fn config(&self) -> PathBuf {
        self.path.join("fastnetmon.conf")
    }

    fn socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    fn log(&self) -> PathBuf {
        self.path.join("agent.log")
    }

    fn write_files(&self, ban_secs: u32) -> anyhow::Result<()> {
        let networks = self.path.join("networks_list");
        fs::write(&networks, "192.0.2.0/24\n198.51.100.0/24\n2001:db8:1::/48\n")?;
        let whitelist = self.path.join("networks_whitelist");
        fs::write(&whitelist, "# nobody\n")?;
        let script = self.path.join("notify.sh");
        fs::write(&script, SCRIPT)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let config = format!(
            "[networks]\nlist = '{}'\nwhitelist = '{}'\n\n\
             [thresholds]\npps = {THRESHOLD_PPS}\n\n[ban]\ntime_secs = {ban_secs}\nfinished_secs = 1\n\n\
             [notify]\nscript = '{}'\n\n[control]\nsocket = '{}'\n\n\
             [journal]\npath = ''\n\n[attack_log]\nenabled = false\n\n\
             [packets]\nenabled = false\n",
            networks.display(),
            whitelist.display(),
            script.display(),
            self.socket().display(),
        );
        fs::write(self.config(), config)?;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays in the temporary one harms nobody.
        let _stays = fs::remove_dir_all(&self.path);
    }
}

/// Writes down when it began, what it read, and last of all its arguments, so that a line in `calls`
/// stands for a call that is complete.
const SCRIPT: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
began=$(date +%s%N)
folder=$(dirname "$0")
cat > "$folder/input.$began"
echo "$began $*" >> "$folder/calls"
"#;

/// Set by Ctrl-C; a second one removes the labs and leaves at once.
pub(crate) fn interrupted() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            if seen.swap(true, Ordering::Relaxed) {
                Lab::remove_own();
                leave();
            }
            eprintln!("\nstopping, and removing the lab");
        }
    });
    Ok(flag)
}

#[expect(clippy::exit, reason = "who asks twice does not want to wait for threads")]
fn leave() -> ! {
    std::process::exit(130)
}

/// Sets its flag when it goes, so that threads that wait for the flag end with the scene.
#[derive(Debug)]
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Traffic of every day towards 200 hosts and a few of IPv6; some hosts are busier than others.
pub(crate) fn inwards() -> Pool {
    let busy =
        (0..7_u8).flat_map(|rank| std::iter::repeat_n(10 + rank, usize::from(40 - 5 * rank)));
    let v4 = busy.chain(1..=200).enumerate().map(|(number, host)| {
        let (stranger, port) = stranger(number);
        let destination = Ipv4Addr::new(192, 0, 2, host);
        match number % 3 {
            0 => Frame::tcp(stranger, destination, port, 443, 0x10).payload(40),
            1 => Frame::udp(stranger, destination, 53, port).payload(200),
            _ => Frame::tcp(stranger, destination, 80, port, 0x10).payload(1200),
        }
    });
    let v6 = (1..=8_u16).map(|host| {
        let stranger = Ipv6Addr::new(0x3fff, 1, 0, 0, 0, 0, 0, host);
        Frame::tcp(stranger, guarded_v6(host), 50_000 + host, 443, 0x10).payload(100)
    });
    mixed(v4.chain(v6).collect())
}

/// The answers of some of the hosts.
pub(crate) fn outwards() -> Pool {
    let v4 = (1..=120_u8).map(|host| {
        let (stranger, port) = stranger(usize::from(host));
        Frame::tcp(Ipv4Addr::new(192, 0, 2, host), stranger, 443, port, 0x10).payload(600)
    });
    let v6 = (1..=8_u16).map(|host| {
        let stranger = Ipv6Addr::new(0x3fff, 1, 0, 0, 0, 0, 0, host);
        Frame::tcp(guarded_v6(host), stranger, 443, 50_000 + host, 0x10).payload(600)
    });
    mixed(v4.chain(v6).map(Frame::outwards).collect())
}

/// A flood of small packets from many places to one host.
pub(crate) fn attack() -> Pool {
    Pool::new((0..4096_usize).map(|number| {
        let (source, port) = stranger(number * 31);
        Frame::udp(source, VICTIM, port, 80).payload(18)
    }))
}

fn guarded_v6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host)
}

/// An address outside, of the block for tests (RFC 2544), and a port.
fn stranger(number: usize) -> (Ipv4Addr, u16) {
    let [.., high, low] = (number.wrapping_mul(40_503)).to_be_bytes();
    let [.., port_high, port_low] = (number.wrapping_mul(25_717)).to_be_bytes();
    (Ipv4Addr::new(198, 18, high, low), u16::from_be_bytes([port_high, port_low]) | 1024)
}

/// The frames in another order, the same each time, so that no host gets all of its packets at once.
fn mixed(frames: Vec<Frame>) -> Pool {
    // A step that has no common divisor with the number of frames visits each of them once.
    let count = frames.len().max(1);
    let step = (count / 3..=count).find(|step| divisor(*step, count) == 1).unwrap_or(1);
    let order = (0..frames.len()).map(|place| place * step % count);
    Pool::new(order.filter_map(|place| frames.get(place).cloned()))
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_loses_no_frame() {
        for count in [1, 2, 3, 10, 343] {
            let frames =
                (0..count).map(|port| Frame::udp(VICTIM, VICTIM, port, 1)).collect::<Vec<_>>();
            assert_eq!(mixed(frames).len(), usize::from(count));
        }
        assert!(mixed(Vec::new()).is_empty());
    }

    #[test]
    fn the_everyday_is_wide_and_the_attack_comes_from_many_places() {
        assert_eq!(inwards().len(), 40 + 35 + 30 + 25 + 20 + 15 + 10 + 200 + 8);
        assert_eq!(outwards().len(), 128);
        let sources: std::collections::HashSet<_> = (0..4096).map(|n| stranger(n * 31).0).collect();
        assert!(sources.len() > 3000, "{}", sources.len());
    }
}
