//! Steps are done and undone, and what was before is kept on disk.
//!
//! **Invariant**: what was before is on disk before the first value is changed, so whatever happens
//! in between, `undo` knows. A value that somebody else has set since is left alone. The file is
//! believed only when its writer was ourselves and it names nothing but what a plan can.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::commands::tune::cpus::CpuSet;
use crate::commands::tune::plan::{Form, Step, Target};
use crate::commands::tune::snapshot::Knobs;

/// What changes things: files below a root, and the knobs of ports.
#[derive(Debug)]
pub(super) struct World<'a, K> {
    pub(super) root: &'a Path,
    pub(super) knobs: &'a K,
}

/// A step, and what came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Done {
    pub(super) step: Step,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// It is now as the step says.
    Done,
    /// It was so already.
    Already,
    /// Not touched, and why.
    LeftAlone(String),
    /// It could not be done.
    Failed(String),
}

/// What was changed, on disk.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// The kernel's word for this start of the machine: the next one forgets what was set.
    boot: String,
    steps: Vec<Step>,
}

/// Where [`State`] is kept; held, nobody else changes it.
#[derive(Debug)]
pub(super) struct Store {
    file: PathBuf,
    _lock: File,
}

impl<K: Knobs> World<'_, K> {
    fn read(&self, target: &Target) -> io::Result<String> {
        match target {
            Target::File(file, _) => {
                fs::read_to_string(self.root.join(file)).map(|text| text.trim().to_owned())
            }
            Target::Port(name, knob) => {
                self.knobs.read(name, *knob).map(|setting| setting.now.to_string())
            }
        }
    }

    fn write(&self, target: &Target, value: &str) -> io::Result<()> {
        match target {
            Target::File(file, _) => {
                // In one call, as /proc and /sys want it; never made anew.
                File::options()
                    .write(true)
                    .truncate(true)
                    .open(self.root.join(file))?
                    .write_all(value.as_bytes())
            }
            Target::Port(name, knob) => {
                let value = value.parse().map_err(|_no_number| io::ErrorKind::InvalidData)?;
                self.knobs.write(name, *knob, value)
            }
        }
    }

    /// Changes a value from one to another and looks whether it took.
    fn change(&self, target: &Target, from: &str, to: &str) -> Outcome {
        let now = match self.read(target) {
            Ok(now) => now,
            Err(error) => return Outcome::Failed(format!("cannot be read: {error}")),
        };
        if is_same(target, &now, to) {
            return Outcome::Already;
        }
        if !is_same(target, &now, from) {
            return Outcome::LeftAlone(format!("is `{now}`, which somebody else has set"));
        }
        if let Err(error) = self.write(target, to) {
            return Outcome::Failed(refused(&error));
        }
        match self.read(target) {
            Ok(now) if is_same(target, &now, to) => Outcome::Done,
            Ok(now) => Outcome::Failed(format!("was set and is `{now}`")),
            Err(error) => Outcome::Failed(format!("was set and cannot be read: {error}")),
        }
    }

    fn boot(&self) -> String {
        fs::read_to_string(self.root.join("proc/sys/kernel/random/boot_id"))
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    }

    /// Does the steps.
    ///
    /// # Errors
    /// When what was before cannot be kept; nothing is changed then.
    pub(super) fn apply(&self, steps: Vec<Step>, store: &Store) -> Result<Vec<Done>, String> {
        let mut state = store.load()?.filter(|state| state.boot == self.boot()).unwrap_or_default();
        state.boot = self.boot();
        let known = state.steps.clone();
        for step in &steps {
            match state.steps.iter_mut().find(|known| known.target == step.target) {
                // What was before the first time is what there is to go back to.
                Some(known) => known.after.clone_from(&step.after),
                None => state.steps.push(step.clone()),
            }
        }
        store.save(&state)?;
        let done: Vec<Done> = steps
            .into_iter()
            .map(|step| {
                let outcome = self.change(&step.target, &step.before, &step.after);
                Done { step, outcome }
            })
            .collect();
        for Done { step: Step { target, .. }, outcome } in &done {
            match outcome {
                // A value the kernel made another of is ours all the same.
                Outcome::Done | Outcome::Failed(_) => {
                    let ours = state.steps.iter_mut().find(|step| step.target == *target);
                    if let (Some(step), Ok(now)) = (ours, self.read(target)) {
                        step.after = now;
                    }
                }
                // Somebody else did, so it is not ours to undo.
                Outcome::Already | Outcome::LeftAlone(_) => {
                    state.steps.retain(|step| step.target != *target);
                    state.steps.extend(known.iter().find(|step| step.target == *target).cloned());
                }
            }
        }
        state.steps.retain(|step| !is_same(&step.target, &step.after, &step.before));
        store.save(&state)?;
        Ok(done)
    }

    /// Undoes what was done, the last first. `None`: there is nothing.
    ///
    /// # Errors
    /// When the state cannot be read or kept.
    pub(super) fn undo(&self, store: &Store) -> Result<Option<Vec<Done>>, String> {
        let Some(mut state) = store.load()? else { return Ok(None) };
        if state.boot != self.boot() {
            store.save(&State::default())?;
            return Ok(None);
        }
        let mut done = Vec::new();
        for step in std::mem::take(&mut state.steps).into_iter().rev() {
            let outcome = match self.read(&step.target) {
                Err(error) if error.kind() == io::ErrorKind::NotFound || is_gone(&error) => {
                    Outcome::LeftAlone("is gone".to_owned())
                }
                _ => self.change(&step.target, &step.after, &step.before),
            };
            if matches!(outcome, Outcome::Failed(_)) {
                state.steps.insert(0, step.clone());
            }
            let Step { kind, what, target, before, after } = step;
            // Told the way it went.
            let step = Step { kind, what, target, before: after, after: before };
            done.push(Done { step, outcome });
        }
        store.save(&state)?;
        Ok(Some(done))
    }
}

impl Store {
    /// Opens it for a change.
    ///
    /// # Errors
    /// When the folder cannot be made, or somebody else changes it now.
    pub(super) fn open(file: &Path) -> Result<Self, String> {
        let cannot = |what: &str, error: io::Error| {
            format!(
                "{what}: {error}; what is tuned must be kept for `--undo`: name a place with `--state`"
            )
        };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(|error| cannot(&folder.display().to_string(), error))?;
        }
        let path = beside(file, "lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|error| cannot(&path.display().to_string(), error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file: file.to_owned(), _lock: lock }),
            Err(Errno::WOULDBLOCK) => {
                Err(format!("{}: another `fastnetmon tune` is at work", path.display()))
            }
            Err(error) => Err(cannot(&path.display().to_string(), error.into())),
        }
    }

    fn load(&self) -> Result<Option<State>, String> {
        let file = self.file.display();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let opened = File::options().read(true).custom_flags(flags).open(&self.file);
        let read = opened.and_then(|opened| {
            let meta = opened.metadata()?;
            let own = rustix::process::geteuid().as_raw();
            if meta.uid() != own || meta.mode() & 0o022 != 0 {
                return Err(io::Error::other(
                    "somebody else may have written it: look at it, and move it away",
                ));
            }
            io::read_to_string(opened)
        });
        let text = match read {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{file}: {error}")),
        };
        let state: State = serde_json::from_str(&text)
            .map_err(|error| format!("{file}: {error}; move it away if it is not ours"))?;
        // It says what root writes where, so it is not taken at its word.
        match state.steps.iter().find(|step| !is_ours(step)) {
            Some(step) => Err(format!(
                "{file}: `{}` is nothing this program sets: move it away",
                step.what.escape_debug()
            )),
            None => Ok(Some(state)),
        }
    }

    /// Writes aside and renames; nothing left to undo is no file.
    fn save(&self, state: &State) -> Result<(), String> {
        let told = |error: io::Error| format!("{}: {error}", self.file.display());
        if state.steps.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(told(error)),
                _ => Ok(()),
            };
        }
        let text = serde_json::to_string_pretty(state).map_err(|error| told(error.into()))?;
        let aside = beside(&self.file, "new");
        // The rest of one that was interrupted, or what somebody put there to be written through.
        let _absent = fs::remove_file(&aside);
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .and_then(|mut new| {
                new.write_all(text.as_bytes())?;
                new.sync_all()
            })
            .and_then(|()| fs::rename(&aside, &self.file));
        written.map_err(told)
    }
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{what}"));
    PathBuf::from(name)
}

/// Is this a step that a plan could have in it?
fn is_ours(step: &Step) -> bool {
    let Target::File(path, form) = &step.target else {
        return is_number(&step.before) && is_number(&step.after);
    };
    let parts: Vec<&str> = path.split('/').collect();
    let numbered = |part: &str, name: &str| part.strip_prefix(name).is_some_and(is_number);
    let (is_path, of): (bool, Form) = match parts.as_slice() {
        ["proc", "irq", irq, "smp_affinity_list"] => (is_number(irq), Form::List),
        ["proc", "sys", "net", "core", "rmem_max"] => {
            (is_number(&step.before) && is_number(&step.after), Form::Word)
        }
        ["sys", "devices", "system", "cpu", cpu, "cpufreq", "scaling_governor"] => {
            (numbered(cpu, "cpu"), Form::Word)
        }
        ["sys", "class", "net", port, "queues", queue, "rps_cpus"] => {
            (!port.starts_with('.') && numbered(queue, "rx-"), Form::Mask)
        }
        ["sys", "class", "net", port, "queues", queue, "xps_cpus"] => {
            (!port.starts_with('.') && numbered(queue, "tx-"), Form::Mask)
        }
        _ => return false,
    };
    let is_value = |value: &str| match form {
        Form::List => CpuSet::from_list(value).is_some(),
        Form::Mask => CpuSet::from_mask(value).is_some(),
        Form::Word => value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
    };
    is_path && *form == of && is_value(&step.before) && is_value(&step.after)
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}

fn is_same(target: &Target, one: &str, other: &str) -> bool {
    let parse: fn(&str) -> Option<CpuSet> = match target {
        Target::File(_, Form::List) => CpuSet::from_list,
        Target::File(_, Form::Mask) => CpuSet::from_mask,
        Target::File(_, Form::Word) | Target::Port(..) => return one == other,
    };
    one == other || parse(one).is_some_and(|set| Some(set) == parse(other))
}

fn refused(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EIO) => "the kernel manages it itself, as the driver wishes".to_owned(),
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            format!("{error}: run it as root, on the host itself")
        }
        Some(libc::EOPNOTSUPP) => "the driver cannot".to_owned(),
        _ => error.to_string(),
    }
}
