//! The journal: bans, their ends and what each action did, on disk, so that they outlive the agent.
//!
//! A thread of its own writes it. Lines are added and made safe (`fdatasync`) as many at a time as
//! there are; a file that grew is written anew with what still matters, aside, and renamed. What a
//! crash left of the last line is cut off at the next start, a line that was damaged is passed
//! over, and the file with the damage is kept beside it.
//!
//! **Invariant**: a disk that is full, slow or gone is an alarm and never more: nobody waits for
//! the journal but who asked for a receipt, and those no longer than they said.

mod book;
mod record;
mod resume;
mod settings;

pub(super) use self::resume::{Resumed, resume};
pub use self::settings::Settings;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tracing::{error, info, warn};

use self::book::Book;
use self::record::{Record, Stored, VERSION};
use crate::actions::{Note, Written};

/// Notes that wait, at most.
pub(super) const NOTES: usize = 65_536;

/// Notes that are made safe together, at most.
const BATCH: usize = 4096;

/// A file longer than this is written anew; what still matters may take half of it.
const LONG: u64 = 4 * 1024 * 1024;

/// How long until a broken journal is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or made.
    #[error(
        "journal `{}`: {source}; let the agent write there, name another `path` in `[journal]`, or \
         none (\"\"), and bans end with the agent", path.display()
    )]
    Unusable {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another agent has it.
    #[error(
        "journal `{}`: another agent writes it: end it first, or name another `path` in \
         `[journal]`", .0.display()
    )]
    Taken(PathBuf),
    /// It is of another version.
    #[error(
        "journal `{}`: its version is {theirs}, and this agent writes {VERSION}: move it away, and \
         end by hand the bans that stood", path.display()
    )]
    Version {
        /// Its path.
        path: PathBuf,
        /// What it says.
        theirs: u32,
    },
}

/// Why the journal is not written, for the alarm.
pub(super) type Trouble = Arc<Mutex<Option<String>>>;

/// The file and what it says.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// `None`: it could not be made; it is tried again.
    file: Option<File>,
    /// Held so that no other agent writes.
    _lock: Option<File>,
    /// Bytes that are whole lines and safe.
    length: u64,
    /// From how many on it is written anew.
    long: u64,
    book: Book,
    trouble: Trouble,
}

impl Journal {
    /// Reads what is there and begins a file with what still matters of it. A full disk is no
    /// reason not to start.
    ///
    /// # Errors
    /// When it can neither be read nor made, or is somebody else's.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let unusable = |source| JournalError::Unusable { path: path.to_owned(), source };
        let mut lock = None;
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(folder);
            made.or_else(forgive).map_err(unusable)?;
        }
        match OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(beside(path, "lock"))
        {
            Ok(file) => match file.try_lock() {
                Ok(()) => lock = Some(file),
                Err(TryLockError::WouldBlock) => return Err(JournalError::Taken(path.to_owned())),
                Err(TryLockError::Error(source)) => return Err(unusable(source)),
            },
            Err(source) => forgive(source).map_err(unusable)?,
        }
        let book = match File::open(path) {
            Ok(mut file) => {
                let mut text = Vec::new();
                file.read_to_end(&mut text).map_err(unusable)?;
                let Read { book, torn, damaged } = read(path, &text)?;
                if torn > 0 {
                    warn!(path = %path.display(), bytes = torn, "The last line of the journal was not finished and is cut off.");
                }
                if damaged > 0 {
                    let kept = beside(path, "damaged");
                    let copied = fs::copy(path, &kept).is_ok();
                    error!(path = %path.display(), lines = damaged, kept = copied.then(|| kept.display().to_string()), "Lines of the journal are damaged and passed over: compare the bans with what your devices have.");
                }
                book
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Book::default(),
            Err(source) => return Err(unusable(source)),
        };
        let mut book = book;
        for (event, host, action) in book.give_up() {
            warn!(%host, action, what = event.occasion.name(), "It had begun when the agent ended, and it is not known whether it was done; it is not done again.");
        }
        let mut journal = Self {
            path: path.to_owned(),
            file: None,
            _lock: lock,
            length: 0,
            long: LONG,
            book,
            trouble: Trouble::default(),
        };
        if let Err(source) = journal.rewrite() {
            let told = source.to_string();
            forgive(source).map_err(unusable)?;
            journal.fail(&told);
        }
        Ok(journal)
    }

    /// Why it is not written, for whoever shows alarms.
    pub(super) fn trouble(&self) -> Trouble {
        Arc::clone(&self.trouble)
    }

    /// Writes down what comes until nobody is left who could say anything.
    pub(super) fn run(mut self, notes: &Receiver<Box<Note>>) {
        loop {
            let first = if self.is_broken() {
                match notes.recv_timeout(AGAIN) {
                    Ok(note) => Some(note),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match notes.recv() {
                    Ok(note) => Some(note),
                    Err(_closed) => break,
                }
            };
            let notes = first.into_iter().chain(notes.try_iter().take(BATCH));
            self.write(notes.map(|note| *note));
        }
        // A journal that was broken to the end has one more chance.
        if self.is_broken() {
            self.write(std::iter::empty());
        }
    }

    /// Writes these notes and makes them safe. Their receipts are given in any case: a broken
    /// journal holds nobody up.
    fn write(&mut self, notes: impl Iterator<Item = Note>) {
        let mut lines = String::new();
        let mut receipts: Vec<Written> = Vec::new();
        for note in notes {
            for record in self.take(note, &mut receipts) {
                match record.line() {
                    Ok(line) => lines.push_str(&line),
                    Err(error) => error!(%error, "A line of the journal cannot be made."),
                }
                self.book.add(record);
            }
        }
        let was_broken = self.is_broken();
        let outcome = if was_broken || self.length + lines.len() as u64 > self.long {
            // What is to be written is in the book already.
            self.rewrite()
        } else {
            self.append(lines.as_bytes())
        };
        drop(receipts);
        match outcome {
            Ok(()) if was_broken => {
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                info!(path = %self.path.display(), "The journal is written again.");
            }
            Ok(()) => {}
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// What a note says in lines.
    fn take(&mut self, note: Note, receipts: &mut Vec<Written>) -> Vec<Record> {
        match note {
            Note::Told { errand, to, written } => {
                receipts.push(written);
                let Some(ban) = errand.verdict.ban() else { return Vec::new() };
                let ending = match &errand.verdict {
                    crate::verdicts::Verdict::Unban(_, ending) => Some(ending.into()),
                    _ => None,
                };
                vec![Record::Told {
                    event: errand.event(),
                    to: to.into_iter().map(ToOwned::to_owned).collect(),
                    ban: Box::new(Stored::new(ban, errand.wall)),
                    ending,
                }]
            }
            Note::Begun { event, action, written } => {
                receipts.push(written);
                vec![Record::Begun { event, action: action.to_owned() }]
            }
            Note::Settled { event, action, failed } => {
                vec![Record::Settled { event, action: action.to_owned(), failed }]
            }
            Note::Standing { bans, wall } => {
                let standing: Vec<Stored> = bans.iter().map(|ban| Stored::new(ban, wall)).collect();
                let known = |ban: &&Stored| {
                    self.book.bans.get(&ban.id).is_some_and(|entry| entry.ban != **ban)
                };
                let records = standing.iter().filter(known);
                let records = records.map(|ban| Record::Known { ban: Box::new(ban.clone()) });
                let records = records.collect();
                let before: Vec<_> = self.book.bans.keys().copied().collect();
                self.book.agree(&standing);
                // Something was lost on its way here: only the whole says it.
                if !before.iter().eq(self.book.bans.keys()) {
                    self.long = 0;
                }
                records
            }
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotConnected.into()) };
        let outcome = file.write_all(lines).and_then(|()| file.sync_data());
        match outcome {
            Ok(()) => self.length += lines.len() as u64,
            // What was written of the last line would spoil the next one.
            Err(_) => drop(file.set_len(self.length)),
        }
        outcome
    }

    /// Writes the book into a new file, and puts that in the place of the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = String::new();
        for record in self.book.records() {
            text.push_str(&record.line()?);
        }
        let aside = beside(&self.path, "new");
        let outcome = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &self.path)?;
            // The name is safe when its folder is.
            if let Some(folder) = self.path.parent().filter(|path| !path.as_os_str().is_empty()) {
                File::open(folder)?.sync_all()?;
            }
            Ok(file)
        })();
        match outcome {
            Ok(file) => {
                self.file = Some(file);
                self.length = text.len() as u64;
                self.long = LONG.max(self.length * 2);
                Ok(())
            }
            Err(error) => {
                // It may not be there; the old one is as it was.
                let _gone = fs::remove_file(&aside);
                Err(error)
            }
        }
    }

    fn is_broken(&self) -> bool {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn fail(&self, reason: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            error!(path = %self.path.display(), %reason, "The journal cannot be written; the agent goes on without it, and tries again.");
        }
        *trouble = Some(format!("`{}`: {reason}", self.path.display()));
    }
}

/// What there is room for later, or a disk that comes back, is no reason not to start.
fn forgive(error: io::Error) -> io::Result<()> {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let is_disk = error.raw_os_error() == Some(libc::EIO);
    if is_disk || matches!(error.kind(), StorageFull | QuotaExceeded) { Ok(()) } else { Err(error) }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(ending);
    name.into()
}

/// What a file says.
struct Read {
    book: Book,
    /// Bytes at its end that are no whole line.
    torn: usize,
    /// Lines that say something else than was written.
    damaged: usize,
}

fn read(path: &Path, text: &[u8]) -> Result<Read, JournalError> {
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let (lines, rest) = text.split_at(whole);
    let mut read = Read { book: Book::default(), torn: rest.len(), damaged: 0 };
    let lines: Vec<&[u8]> = lines.split(|&byte| byte == b'\n').collect();
    let last = lines.len().saturating_sub(2);
    for (number, line) in lines.into_iter().enumerate() {
        match Record::read(line) {
            Some(Record::Journal { version }) if version != VERSION => {
                return Err(JournalError::Version { path: path.to_owned(), theirs: version });
            }
            Some(record) => read.book.add(record),
            None if line.is_empty() => {}
            // Its end may have reached the disk before its middle.
            None if number == last && rest.is_empty() => read.torn = line.len() + 1,
            None => read.damaged += 1,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
