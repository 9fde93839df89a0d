//! The packets of an attack as a file: `1795741234567890123_192.0.2.7.pcapng`, ban and host.
//!
//! **Invariant**: a file is whole or not there; nobody but the agent and its group may read it; the
//! folder never holds more files or bytes than were allowed, and what is not ours stays there.

mod pcapng;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{
    DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown,
};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

pub use self::settings::{Most, Settings};
use crate::actions::unwritten::unwritten;
use crate::model::{Caught, Raw, Wall};
use crate::verdicts::{Ban, BanId};

/// A banned host and packets of its attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack<'a> {
    /// The ban.
    pub ban: &'a Ban,
    /// The packets, in order of time.
    pub packets: &'a [Caught],
    /// Both clocks when they were complete.
    pub wall: Wall,
}

impl Attack<'_> {
    /// Bytes its file may have: what a packet and its options take at most, and the head.
    pub fn longest(&self) -> u64 {
        let each = u64::try_from(Raw::LONGEST + 80).unwrap_or(u64::MAX);
        u64::try_from(self.packets.len()).unwrap_or(u64::MAX).saturating_mul(each) + 2048
    }
}

/// The comment in the file: whose attack, which way, of what kind, how much, and the ban's number.
impl fmt::Display for Attack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ban { id, address, direction, attack, pps, .. } = self.ban;
        let (direction, kind) = (direction.name(), attack.kind.name());
        write!(f, "{address} {direction} {kind} {pps} pps, ban {}", id.0)
    }
}

/// A folder of such files, to read them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// The files in this folder.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The name and the bytes of this ban's file; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, ban: BanId) -> io::Result<Option<(String, Vec<u8>)>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| number(name) == Some(ban)) else {
                continue;
            };
            let mut bytes = Vec::new();
            let file = File::options()
                .read(true)
                .custom_flags(no_follow())
                .open(self.folder.join(name))?;
            file.take(LONGEST_FILE).read_to_end(&mut bytes)?;
            return Ok(Some((name.to_owned(), bytes)));
        }
        Ok(None)
    }
}

/// The one who writes them.
#[derive(Debug)]
pub struct PacketFolder {
    folder: PathBuf,
    interface: String,
    /// Who may read, beside the agent.
    group: Option<u32>,
    keep: usize,
    keep_bytes: u64,
    /// What is there, oldest first; `None`: nobody looked yet.
    there: Option<BTreeMap<BanId, (PathBuf, u64)>>,
}

impl PacketFolder {
    /// Will write what was seen at `interface`, for `group` to read.
    pub fn new(settings: &Settings, interface: String, group: Option<u32>) -> Self {
        Self {
            folder: settings.folder.clone(),
            interface,
            group,
            keep: usize::try_from(settings.keep.get()).unwrap_or(usize::MAX),
            keep_bytes: u64::from(settings.keep_mb.get()) * 1_000_000,
            there: None,
        }
    }

    /// Writes the packets of an attack; the oldest files make room. Returns its length.
    ///
    /// # Errors
    /// When that cannot be, with the place and the remedy.
    pub fn write(&mut self, attack: &Attack<'_>) -> Result<u64, String> {
        self.try_to(attack)
            .map_err(|error| unwritten(&self.folder, &error, "packets", ("less", "keep_mb")))
    }

    fn try_to(&mut self, attack: &Attack<'_>) -> io::Result<u64> {
        let bytes = pcapng::encode(attack, &self.interface)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > self.keep_bytes {
            let (mb, length) = (self.keep_bytes / 1_000_000, length.div_ceil(1_000_000));
            let reason = format!("one attack takes {length} MB and `keep_mb` is {mb}");
            return Err(io::Error::other(reason));
        }
        self.make_folder()?;
        if self.there.is_none() {
            self.there = Some(self.look()?);
        }
        self.make_room(attack.ban.id, length)?;
        let host = attack.ban.address.to_string().replace(':', "-");
        let name = format!("{}_{host}{ENDING}", attack.ban.id.0);
        let path = self.folder.join(&name);
        self.put(&self.folder.join(format!(".{name}{ASIDE}")), &path, &bytes)?;
        if let Some(there) = &mut self.there {
            there.insert(attack.ban.id, (path, length));
        }
        Ok(length)
    }

    fn make_folder(&self) -> io::Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o750).create(&self.folder)?;
        chown(&self.folder, None, self.group)
    }

    /// Reads the folder, and takes away what an agent left half-written that was killed.
    fn look(&self) -> io::Result<BTreeMap<BanId, (PathBuf, u64)>> {
        let mut there = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(ban) = number(name) {
                there.insert(ban, (entry.path(), entry.metadata()?.len()));
            } else if let Some(half) =
                name.strip_prefix('.').and_then(|name| name.strip_suffix(ASIDE))
                && number(half).is_some()
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(there)
    }

    /// Removes the oldest, until one more of this length may be there.
    fn make_room(&mut self, ban: BanId, length: u64) -> io::Result<()> {
        let Some(there) = &mut self.there else { return Ok(()) };
        // This ban's own file is replaced.
        let others = there.iter().filter(|(other, _)| **other != ban);
        let (mut count, mut bytes) =
            others.fold((0, 0_u64), |(count, sum), (_, (_, bytes))| (count + 1, sum + bytes));
        while count >= self.keep || bytes.saturating_add(length) > self.keep_bytes {
            let oldest = there.iter().find(|(other, _)| **other != ban);
            let Some((&oldest, (path, freed))) = oldest else { return Ok(()) };
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => (count, bytes) = (count - 1, bytes - freed),
            }
            there.remove(&oldest);
        }
        Ok(())
    }

    /// Written aside and renamed.
    fn put(&self, aside: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let make = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside);
        let made = match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(aside)?;
                make()?
            }
            made => made?,
        };
        let outcome = fill(made, bytes, self.group).and_then(|()| fs::rename(aside, path));
        if outcome.is_err() {
            // What cannot be finished is not left behind, as far as it can be removed.
            let _left = fs::remove_file(aside);
        }
        outcome
    }
}

fn fill(mut file: File, bytes: &[u8], group: Option<u32>) -> io::Result<()> {
    file.write_all(bytes)?;
    fchown(&file, None, group)?;
    file.set_permissions(fs::Permissions::from_mode(0o640))?;
    file.sync_data()
}

/// The ban a file is of, by its name.
fn number(name: &str) -> Option<BanId> {
    let (ban, host) = name.strip_suffix(ENDING)?.split_once('_')?;
    host.replace('-', ":").parse::<IpAddr>().ok()?;
    ban.parse().ok().map(BanId)
}

fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).unwrap_or_default()
}

/// What the files end with, and those that are not whole yet.
const ENDING: &str = ".pcapng";
const ASIDE: &str = ".new";

/// Bytes of a file that is handed out: more than the most packets take.
const LONGEST_FILE: u64 = 4 << 20;

#[cfg(test)]
mod tests;
