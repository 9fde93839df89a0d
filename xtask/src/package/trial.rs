//! Each package is installed where nothing of ours is, started, and has to find an attack.
//!
//! **Invariant**: the roots are Debian's smallest system, made anew; what the trial mounts there is
//! unmounted on every way out.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use xtask::{
    lab::{self, Lab, Signal},
    process,
    traffic::Pace,
};

use super::Packages;
use crate::scene;

/// Installs and tries all of them.
pub(crate) fn run(root: &Path, packages: &Packages) -> anyhow::Result<()> {
    let out = root.join("target/package");
    if let Some(deb) = &packages.deb {
        let root = Root::new(&out.join("root-deb"), &smallest_system(&out)?)?;
        root.bring(deb, "tmp/fastnetmon.deb")?;
        process::run(root.command("apt-get").args([
            "install",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "/tmp/fastnetmon.deb",
        ]))?;
        root.has_its_folder()?;
        root.finds_an_attack("deb", "xdp", "/usr/bin/fastnetmon")?;
        process::run(root.command("dpkg").args(["--purge", "fastnetmon"]))?;
        let left = root.path.join("usr/bin/fastnetmon").exists()
            || root.path.join("var/lib/fastnetmon").exists();
        ensure!(!left, "the package left files behind when it was purged");
    }
    if let Some(rpm) = &packages.rpm {
        let root = Root::new(&out.join("root-rpm"), &smallest_system(&out)?)?;
        // What its scripts call; its program needs nothing.
        process::run(root.command("apt-get").args([
            "install",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "systemd-standalone-sysusers",
            "systemd-standalone-tmpfiles",
        ]))?;
        // Debian's shell is no package to rpm.
        let by_rpm = || {
            let mut rpm = Command::new("rpm");
            rpm.arg("--root").arg(&root.path);
            rpm
        };
        process::run(by_rpm().args(["--install", "--nodeps"]).arg(rpm))?;
        root.has_its_folder()?;
        root.finds_an_attack("rpm", "xdp", "/usr/bin/fastnetmon")?;
        process::run(by_rpm().args(["--erase", "--nodeps", "fastnetmon"]))?;
        ensure!(!root.path.join("usr/bin/fastnetmon").exists(), "rpm left the binary behind");
    }
    let root = Root::empty(&out.join("root-static"))?;
    process::run(
        Command::new("tar")
            .args(["--extract", "--strip-components=1", "--file"])
            .arg(&packages.tarball)
            .arg("--directory")
            .arg(&root.path),
    )?;
    for engine in ["xdp", "af_packet"] {
        root.finds_an_attack("static", engine, "/usr/bin/fastnetmon")?;
    }
    root.asks_for_pf_ring()?;
    Ok(())
}

/// The smallest Debian there is, as a tar file that is kept for the next time.
fn smallest_system(out: &Path) -> anyhow::Result<PathBuf> {
    let system = out.join("debian.tar");
    if !system.is_file() {
        let unfinished = out.join("debian.unfinished.tar");
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=minbase", "bookworm"]).arg(&unfinished);
        process::run(&mut make)?;
        fs::rename(&unfinished, &system)?;
    }
    Ok(system)
}

/// A folder that is the root of a system.
struct Root {
    path: PathBuf,
    mounted: Vec<PathBuf>,
}

impl Root {
    /// From the smallest system, with the sources of packages that this machine has.
    fn new(path: &Path, system: &Path) -> anyhow::Result<Self> {
        let mut root = Self::made(path)?;
        process::run(
            Command::new("tar")
                .arg("--extract")
                .arg("--file")
                .arg(system)
                .arg("--directory")
                .arg(path),
        )?;
        root.mount()?;
        for folder in ["apt/sources.list.d", "apt/apt.conf.d", "apt/trusted.gpg.d"] {
            copy_files(&Path::new("/etc").join(folder), &path.join("etc").join(folder))?;
        }
        for file in ["apt/sources.list", "resolv.conf", "hosts"] {
            let from = Path::new("/etc").join(file);
            if from.is_file() {
                fs::copy(&from, path.join("etc").join(file))?;
            }
        }
        process::run(root.command("apt-get").args(["update", "--quiet"]))?;
        Ok(root)
    }

    /// Nothing in it: no shell, no library.
    fn empty(path: &Path) -> anyhow::Result<Self> {
        let mut root = Self::made(path)?;
        root.mount()?;
        Ok(root)
    }

    fn made(path: &Path) -> anyhow::Result<Self> {
        if path.exists() {
            fs::remove_dir_all(path)
                .with_context(|| format!("`{}` cannot be made anew", path.display()))?;
        }
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned(), mounted: Vec::new() })
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        for folder in ["proc", "sys", "dev", "tmp", "run", "etc", "var/log"] {
            fs::create_dir_all(self.path.join(folder))?;
        }
        for (kind, folder) in [("proc", "proc"), ("sysfs", "sys")] {
            let at = self.path.join(folder);
            process::run(Command::new("mount").args(["-t", kind, kind]).arg(&at))?;
            self.mounted.push(at);
        }
        let at = self.path.join("dev");
        process::run(Command::new("mount").args(["--bind", "/dev"]).arg(&at))?;
        self.mounted.push(at);
        Ok(())
    }

    fn bring(&self, file: &Path, to: &str) -> anyhow::Result<()> {
        fs::copy(file, self.path.join(to))
            .with_context(|| format!("`{}` cannot be brought in", file.display()))?;
        Ok(())
    }

    /// A command of that system.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.path).arg(program).env("DEBIAN_FRONTEND", "noninteractive");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    }

    /// The scripts of the package made the user and its folder.
    fn has_its_folder(&self) -> anyhow::Result<()> {
        let mut stat = self.command("stat");
        let owner = process::output(stat.args(["-c", "%U %a", "/var/lib/fastnetmon"]))?;
        ensure!(owner.trim() == "fastnetmon 750", "/var/lib/fastnetmon is `{owner}`");
        Ok(())
    }

    /// Without ntop's module the static binary has to say so, which it only knows by its socket: it
    /// opens no library.
    fn asks_for_pf_ring(&self) -> anyhow::Result<()> {
        let sample = fs::read_to_string(self.path.join("etc/fastnetmon.conf"))?;
        fs::write(
            self.path.join("tmp/pf_ring.conf"),
            sample.replacen("engine = \"xdp\"", "engine = \"pf_ring\"", 1),
        )?;
        let lab = Lab::new("package")?;
        let mut command = lab.command_inside("chroot");
        command.arg(&self.path).args([
            "/usr/bin/fastnetmon",
            "run",
            "--config",
            "/tmp/pf_ring.conf",
        ]);
        command.args(["--interface", lab::INSIDE_INTERFACE]).stdin(Stdio::null());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2)
                && said.contains("kernel module is not loaded: `modprobe pf_ring`"),
            "with `engine = \"pf_ring\"` and no module it ended with {} and said: {said}",
            output.status
        );
        println!("package: static, pf_ring: {}", said.lines().last().unwrap_or_default());
        Ok(())
    }

    /// Runs the installed agent, with the installed configuration but for its networks, in a lab
    /// whose flood it has to ban.
    fn finds_an_attack(&self, label: &str, engine: &str, program: &str) -> anyhow::Result<()> {
        println!("package: {label}, {engine}: installed, and now attacked");
        let etc = self.path.join("etc");
        fs::write(etc.join("networks_list"), "192.0.2.0/24\n")?;
        let sample = fs::read_to_string(etc.join("fastnetmon.conf"))?;
        let named = |text: &str, key: &str, value: &str| -> anyhow::Result<String> {
            let line = text.lines().find(|line| line.starts_with(&format!("{key} =")));
            let line =
                line.with_context(|| format!("the installed configuration has no `{key}`"))?;
            Ok(text.replacen(line, &format!("{key} = {value}"), 1))
        };
        let config = named(&sample, "interfaces", &format!("[\"{}\"]", lab::INSIDE_INTERFACE))?;
        let config = named(&config, "engine", &format!("\"{engine}\""))?;
        fs::write(self.path.join("tmp/trial.conf"), config)?;
        let socket = self.path.join("run/fastnetmon/control.sock");
        fs::create_dir_all(self.path.join("run/fastnetmon"))?;

        let lab = Lab::new("package")?;
        let log = self.path.join("tmp/agent.log");
        let file = fs::File::create(&log)?;
        let mut command = lab.command_inside("chroot");
        command.arg(&self.path).args([program, "run", "--config", "/tmp/trial.conf"]);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut agent = Agent { child: command.spawn()?, log };
        let own = self.path.join(program.trim_start_matches('/'));
        let asked = |what: &str| {
            let mut ask = Command::new(&own);
            process::output(ask.args([what, "--json", "--socket"]).arg(&socket))
        };
        agent.until("answers", || Ok(asked("status").is_ok()))?;
        let ends = AtomicBool::new(false);
        let mut sender = lab.sender_outside()?;
        let banned = thread::scope(|scope| {
            let pool = scene::attack();
            let ends = &ends;
            let flood =
                scope.spawn(move || sender.send_until(&pool, Pace::Pps(scene::ATTACK_PPS), ends));
            let victim = format!("\"{}\"", scene::VICTIM);
            let banned = agent.until("bans", || Ok(asked("bans")?.contains(&victim)));
            ends.store(true, Ordering::Relaxed);
            flood.join().map_err(|_panic| anyhow::anyhow!("the flood panicked"))??;
            banned
        });
        banned?;
        lab::signal(agent.child.id(), Signal::Terminate)?;
        agent.ends()?;
        fs::set_permissions(self.path.join("run"), fs::Permissions::from_mode(0o755))?;
        println!("package: {label}, {engine}: the attack was found");
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for at in self.mounted.iter().rev() {
            // What cannot be unmounted now is unmounted with the machine.
            let _stays = Command::new("umount").arg("--lazy").arg(at).status();
        }
    }
}

/// An agent that is ended with its trial.
struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(15) {
            if holds().unwrap_or(false) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent is gone ({status}) before it {what}; its log:\n{}", self.log());
            }
            thread::sleep(scene::BREATH);
        }
        bail!("15 s, and nobody saw that the agent {what}; its log:\n{}", self.log())
    }

    fn ends(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(40) {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "the agent ended with {status}; its log:\n{}",
                    self.log()
                );
                return Ok(());
            }
            thread::sleep(scene::BREATH);
        }
        bail!("the agent did not end; its log:\n{}", self.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
