//! The thread that knows whence packets come: it reads the databases and looks addresses up.
//!
//! **Invariant**: nobody waits for it. Without a database it does nothing but look for one; one that is
//! broken is told, and the one before stays.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use tracing::{debug, info, warn};

use crate::counters::Evidence;
use crate::daemon::{Settings, clock};
use crate::model::{Moment, Seen};
use crate::origins::{Atlas, Database, Origins, Recent};

/// How often samples are looked up.
const PACE: Duration = Duration::from_secs(1);

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(3);

/// Dumps that wait.
const DUMPS: usize = 1024;

/// The packets of a ban.
#[derive(Clone, Debug)]
pub(super) struct Dump {
    pub(super) ban: u64,
    pub(super) host: IpAddr,
    pub(super) packets: Arc<[Seen]>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: [i64; 4],
}

/// A file, and what was read of it.
#[derive(Debug)]
struct Shelf {
    path: PathBuf,
    stamp: Option<Stamp>,
    database: Option<Arc<Database>>,
    trouble: Option<String>,
}

/// The thread's side.
#[derive(Debug)]
pub(super) struct Surveyor {
    shelves: Vec<Shelf>,
    origins: Origins,
    evidence: Arc<Evidence>,
    every: u32,
    dumps: Receiver<Dump>,
}

/// Both sides; none where no database is named.
pub(super) fn prepare(
    settings: &Settings,
    origins: &Origins,
    evidence: &Arc<Evidence>,
) -> Option<(Sender<Dump>, Surveyor)> {
    let files = &settings.origins.databases;
    if files.is_empty() {
        return None;
    }
    let (hand, dumps) = bounded(DUMPS);
    let shelf =
        |path: &PathBuf| Shelf { path: path.clone(), stamp: None, database: None, trouble: None };
    let surveyor = Surveyor {
        shelves: files.iter().map(shelf).collect(),
        origins: origins.clone(),
        evidence: Arc::clone(evidence),
        every: settings.capture.sparse_every,
        dumps,
    };
    Some((hand, surveyor))
}

impl Surveyor {
    /// Runs until `stop` closes.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        self.look();
        if self.origins.atlas().is_none() {
            let files: Vec<_> = self.shelves.iter().map(|shelf| shelf.path.display()).collect();
            info!(
                ?files,
                "No database of autonomous systems and countries is there: they are not told."
            );
        }
        let begun = clock::now();
        let mut recent = Recent::new(begun, self.every);
        let (mut next, mut next_look) = (begun + PACE, begun + LOOK);
        loop {
            select! {
                recv(stop) -> _ => return,
                recv(self.dumps) -> dump => match dump {
                    Ok(dump) => self.survey(&dump),
                    Err(_ended) => return,
                },
                recv(after(next.since(clock::now()))) -> _ => {}
            }
            let now = clock::now();
            if now >= next {
                next = now + PACE;
                self.tell(now, &mut recent);
            }
            if now >= next_look {
                next_look = now + LOOK;
                self.look();
            }
        }
    }

    fn survey(&self, dump: &Dump) {
        let Some(atlas) = self.origins.atlas() else { return };
        self.origins.remember(dump.ban, atlas.group(&dump.packets, dump.host));
    }

    fn tell(&self, now: Moment, recent: &mut Recent) {
        let Some(atlas) = self.origins.atlas().filter(|_| self.every > 0) else { return };
        let (samples, lost) = self.evidence.take_sampled();
        if lost > 0 {
            debug!(lost, "Samples found no room to be looked up: the others count for them.");
        }
        recent.add(now, &samples, lost, &atlas);
        self.origins.publish(Some(Arc::new(recent.summary(now))));
    }

    /// Reads the files that are not as they were.
    fn look(&mut self) {
        let mut is_new = false;
        for shelf in &mut self.shelves {
            is_new |= shelf.look();
        }
        if is_new {
            let databases = self.shelves.iter().filter_map(|shelf| shelf.database.clone());
            self.origins.turn_to(Some(Arc::new(Atlas::new(databases.collect()))));
        }
        let troubles = self.shelves.iter().filter_map(|shelf| shelf.trouble.clone());
        self.origins.complain(troubles.collect());
    }
}

impl Shelf {
    /// Reads the file if it is another than before. Is there another database now?
    fn look(&mut self) -> bool {
        let stamp = stamp(&self.path);
        if stamp == self.stamp {
            return false;
        }
        self.stamp = stamp;
        let path = self.path.display();
        if stamp.is_none() {
            // What was read is as true as it was.
            let stays =
                if self.database.is_some() { "; what was read of it stays in use" } else { "" };
            info!(%path, "A database is gone{stays}.");
            self.trouble = None;
            return false;
        }
        match Database::read(&self.path) {
            Ok(database) => {
                let (kind, made) = (database.kind(), database.made());
                info!(%path, kind, made, "A database of autonomous systems or countries was read.");
                (self.database, self.trouble) = (Some(Arc::new(database)), None);
                true
            }
            Err(error) => {
                let stays =
                    if self.database.is_some() { "; the one before stays in use" } else { "" };
                warn!(%error, "A database cannot be used{stays}.");
                self.trouble = Some(format!("A database cannot be used{stays}: {error}."));
                false
            }
        }
    }
}

fn stamp(path: &PathBuf) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    // The inode's time as well: who may read it now could not before.
    let changed = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
    Some(Stamp { inode: file.ino(), length: file.len(), changed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origins::database::{Make, geolite};

    #[test]
    fn a_file_is_read_when_it_changes_and_what_is_broken_changes_nothing() {
        let place = std::env::temp_dir().join(format!("fnm-origins-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let settings = Settings {
            origins: crate::origins::Settings {
                databases: vec![place.join("a.mmdb"), place.join("b.mmdb")],
            },
            ..Settings::default()
        };
        let origins = Origins::default();
        let (_hand, mut surveyor) = prepare(&settings, &origins, &Arc::default()).unwrap();
        // Renamed, so that the inode is another whatever the clock's grain.
        let put = |name: &str, bytes: &[u8]| {
            fs::write(place.join("aside"), bytes).unwrap();
            fs::rename(place.join("aside"), place.join(name)).unwrap();
        };
        let file = |system| Make::default().file(&[("203.0.113.0/24", geolite(system, "x"))]);
        let known = |origins: &Origins| {
            origins.atlas().map(|atlas| atlas.find([203, 0, 113, 7].into()).system)
        };
        surveyor.look();
        assert_eq!((known(&origins), origins.troubles().len()), (None, 0));
        put("b.mmdb", &file(64_500));
        surveyor.look();
        assert_eq!(known(&origins), Some(64_500));
        put("a.mmdb", &file(64_501));
        surveyor.look();
        assert_eq!(known(&origins), Some(64_501), "the first goes before the next");
        put("a.mmdb", b"no database");
        surveyor.look();
        let [trouble] = &origins.troubles()[..] else { panic!("{:?}", origins.troubles()) };
        assert!(trouble.starts_with("A database cannot be used; the one before stays in use: `"));
        assert_eq!(known(&origins), Some(64_501));
        fs::remove_file(place.join("b.mmdb")).unwrap();
        put("a.mmdb", &file(64_502));
        surveyor.look();
        assert_eq!((known(&origins), origins.troubles().len()), (Some(64_502), 0));
        let dump = Dump { ban: 7, host: [192, 0, 2, 7].into(), packets: Arc::from([]) };
        surveyor.survey(&dump);
        assert!(origins.of_ban(7).is_some());
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn where_no_database_is_named_there_is_no_thread() {
        let none = crate::origins::Settings { databases: Vec::new() };
        let settings = Settings { origins: none, ..Settings::default() };
        assert!(prepare(&settings, &Origins::default(), &Arc::default()).is_none());
    }
}
