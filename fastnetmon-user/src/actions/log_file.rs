//! A report of each attack as files: the incumbent's text, and beside it the event as JSON.
//!
//! `192.0.2.7_22_11_26_17:17:53.txt` is named by the moment the ban began, in local time. It is
//! there when the host is banned and renewed when the packets are; the JSON, of the same name, is
//! renewed when the ban ends as well. Of a network there is `192.0.2.0_24_….json` alone.
//!
//! **Invariant**: a file is whole or not there, nobody else may read it, and there are never many
//! more than were allowed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::actions::{Action, ActionError, Errand, Sort, event, report, unwritten::unwritten};
use crate::origins::Origins;
use crate::verdicts::Verdict;

/// `[attack_log]`.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Write a report of each attack, see [operations](operations.md#reports-of-attacks).
    pub enabled: bool,
    /// Where to. It is made with mode 0700 when it is missing; its files have mode 0600. A folder
    /// that cannot be written is an alarm.
    pub folder: PathBuf,
    /// How many are kept. When there are more, the oldest are removed, a sixteenth of `keep`
    /// beyond what must be. Files that are not ours are left alone.
    pub keep: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            folder: PathBuf::from("/var/log/fastnetmon_attacks"),
            keep: NonZeroU32::MIN.saturating_add(9999),
        }
    }
}

/// The clock may have been set between two errands about one ban.
const SLIPS: i64 = 3;

/// Writes reports into this folder.
#[derive(Clone, Debug)]
pub struct LogFile {
    folder: PathBuf,
    keep: usize,
    /// Attacks there, as far as they were counted; `None`: not counted yet.
    there: Option<usize>,
    origins: Origins,
}

impl LogFile {
    /// Will write into `folder` and keep so many attacks.
    pub fn new(folder: PathBuf, keep: NonZeroU32) -> Self {
        let keep = usize::try_from(keep.get()).unwrap_or(usize::MAX);
        Self { folder, keep, there: None, origins: Origins::default() }
    }

    /// Will tell where packets come from, as far as that is known.
    #[must_use]
    pub fn knowing(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    fn write(&mut self, errand: &Errand) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let (name, is_new) = self.name(errand);
        let event = match &errand.verdict {
            // The packets of the attack are in the file that is there.
            Verdict::Unban(..) | Verdict::Calm(_) => {
                let mut event = event::json(errand, &self.origins);
                let before = read(&self.path(&name, "json"));
                if let (Value::Object(event), Some(Value::Object(mut before))) =
                    (&mut event, before)
                {
                    for name in ["packet_dump_detailed", "remotes"] {
                        if let Some(known) = before.remove(name) {
                            event.insert(name.to_owned(), known);
                        }
                    }
                }
                event
            }
            _ => event::json(errand, &self.origins),
        };
        let text = match &errand.verdict {
            Verdict::Ban(_) => Some(report::header(errand)),
            Verdict::Details(..) => Some(report::full(errand)),
            Verdict::Unban(..) | Verdict::Alert(_) | Verdict::Calm(_) => None,
        };
        if let Some(text) = text {
            self.put(&name, "txt", &(text + "\n\n"))?;
        }
        self.put(&name, "json", &format!("{event:#}\n"))?;
        if is_new {
            self.rotate()?;
        }
        Ok(())
    }

    /// The name of this ban's files; whether there are none yet. Two bans of one host that began in
    /// the same second have different names.
    fn name(&self, errand: &Errand) -> (String, bool) {
        let ban = errand.event().ban.0.to_string();
        let began = errand.since();
        let about = errand.named().replace('/', "_");
        let at = |slip: i64| {
            let second = i64::try_from(began.as_secs()).unwrap_or(i64::MAX).saturating_add(slip);
            let local = Timestamp::from_second(second).unwrap_or_default();
            let local = local.to_zoned_datetime(TimeZone::system());
            format!("{about}_{}", local.strftime("%d_%m_%y_%H:%M:%S"))
        };
        let mut free = None;
        let slips = (0..=SLIPS).chain((1..=SLIPS).map(|slip| -slip));
        for name in slips.map(at) {
            match read(&self.path(&name, "json")) {
                Some(event) if event.get("ban_id").and_then(Value::as_str) == Some(&ban) => {
                    return (name, false);
                }
                Some(_) => {}
                None => drop(free.get_or_insert(name)),
            }
        }
        (free.unwrap_or_else(|| format!("{}_{ban}", at(0))), true)
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ending}"))
    }

    /// Written aside and renamed.
    fn put(&self, name: &str, ending: &str, text: &str) -> io::Result<()> {
        let aside = self.folder.join(format!(".{name}.{ending}.new"));
        let outcome =
            write_aside(&aside, text).and_then(|()| fs::rename(&aside, self.path(name, ending)));
        if outcome.is_err() {
            // It may not be there at all.
            let _gone = fs::remove_file(&aside);
        }
        outcome
    }

    /// Removes the oldest attacks when there are too many. What is not ours is left alone.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some(there) = &mut self.there {
            *there += 1;
            if *there <= self.keep {
                return Ok(());
            }
        }
        let mut attacks: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_str().is_some_and(is_ours) {
                attacks.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        attacks.sort();
        // A little more than must be, so that the folder is not read for each attack of a wave.
        let many = match attacks.len().checked_sub(self.keep) {
            None | Some(0) => 0,
            Some(many) => many + self.keep / 16,
        };
        for (_, json) in attacks.iter().take(many) {
            fs::remove_file(json)?;
            match fs::remove_file(json.with_extension("txt")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.there = Some(attacks.len() - many);
        Ok(())
    }
}

/// `…_dd_mm_yy_HH:MM:SS.json`, maybe with a number behind it.
fn is_ours(name: &str) -> bool {
    let Some(name) = name.strip_suffix(".json").filter(|name| !name.starts_with('.')) else {
        return false;
    };
    name.rsplit('_').any(|part| {
        let bytes = part.as_bytes();
        bytes.len() == 8 && bytes.get(2) == Some(&b':') && bytes.get(5) == Some(&b':')
    })
}

fn read(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn write_aside(aside: &Path, text: &str) -> io::Result<()> {
    let mut file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
    file.write_all(text.as_bytes())?;
    // A file with a name and without its content helps nobody after a power cut.
    file.sync_data()
}

impl Action for LogFile {
    const NAME: &'static str = "log_file";
    const SORT: Sort = Sort::Tells;

    fn wants(&self, verdict: &Verdict) -> bool {
        verdict.ban().is_none_or(|ban| ban.deeds.log_file)
    }

    fn carry_out(&mut self, errand: &Errand, _: Duration) -> Result<(), ActionError> {
        self.write(errand).map_err(|error| ActionError::Retry {
            reason: unwritten(&self.folder, &error, "attack_log", ("fewer", "keep")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::{Moment, Wall};
    use crate::verdicts::{Ban, BanId, Ending};

    /// A folder of its own for each test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fnm-log-{}-{name}", std::process::id()));
            Self(path)
        }

        fn log(&self, keep: u32) -> LogFile {
            LogFile::new(self.0.clone(), NonZeroU32::new(keep).unwrap())
        }

        fn files(&self) -> Vec<String> {
            let files = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> =
                files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn errand(verdict: Verdict) -> Errand {
        let unix = Duration::from_secs(1_795_367_873);
        Errand {
            verdict,
            wall: Wall { read_at: Moment::after_boot(Duration::from_secs(100)), unix },
        }
    }

    fn ban(id: u64, secs: u64) -> Ban {
        let since = Moment::after_boot(Duration::from_secs(secs));
        Ban { id: BanId(id), since, ..Ban::of([192, 0, 2, 7]) }
    }

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn an_attack_is_a_text_and_a_json_that_nobody_else_may_read() {
        let folder = Folder::new("pair");
        let mut log = folder.log(10);
        log.carry_out(&errand(Verdict::Ban(ban(7, 100))), PATIENCE).unwrap();
        let local =
            Timestamp::from_second(1_795_367_873).unwrap().to_zoned_datetime(TimeZone::system());
        let name = format!("192.0.2.7_{}", local.strftime("%d_%m_%y_%H:%M:%S"));
        let names = [format!("{name}.json"), format!("{name}.txt")];
        assert_eq!(folder.files(), names);
        let header = fs::read_to_string(folder.0.join(&names[1])).unwrap();
        assert!(header.starts_with("IP: 192.0.2.7\n") && header.ends_with("\n\n\n"), "{header}");
        for name in &names {
            let mode = fs::metadata(folder.0.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // Details and the end are of the same attack, even when the clock was set meanwhile.
        let mut details = errand(Verdict::Details(ban(7, 100), [].into()));
        details.wall.unix += Duration::from_secs(2);
        log.carry_out(&details, PATIENCE).unwrap();
        log.carry_out(&errand(Verdict::Unban(ban(7, 100), Ending::Over)), PATIENCE).unwrap();
        assert_eq!(folder.files(), names);
        let text = fs::read_to_string(folder.0.join(&names[1])).unwrap();
        assert!(text.contains("\n\n\nAttack traffic dump\n\n"), "{text}");
        let event = read(&folder.0.join(&names[0])).unwrap();
        assert_eq!(event["action"], "unban");
        assert_eq!(event["packet_dump_detailed"], serde_json::json!([]));
    }

    #[test]
    fn two_bans_of_one_second_are_two_attacks() {
        let folder = Folder::new("second");
        let mut log = folder.log(10);
        for id in 1..4 {
            log.carry_out(&errand(Verdict::Ban(ban(id, 100))), PATIENCE).unwrap();
        }
        assert_eq!(folder.files().len(), 6);
    }

    #[test]
    fn the_oldest_go_and_what_is_not_ours_stays() {
        let folder = Folder::new("rotate");
        let mut log = folder.log(3);
        log.carry_out(&errand(Verdict::Ban(ban(1, 0))), PATIENCE).unwrap();
        fs::write(folder.0.join("notes.json"), "{}").unwrap();
        fs::write(folder.0.join("README.txt"), "mine").unwrap();
        for id in 2..30 {
            log.carry_out(&errand(Verdict::Ban(ban(id, id * 10))), PATIENCE).unwrap();
        }
        let files = folder.files();
        let ours: Vec<_> = files.iter().filter(|name| name.starts_with("192")).collect();
        assert_eq!(ours.len(), 6, "{files:?}");
        assert!(files.contains(&"notes.json".to_owned()));
        assert!(files.contains(&"README.txt".to_owned()));
        let event = read(&folder.0.join(ours[4])).unwrap();
        assert_eq!(event["ban_id"], "29");
    }

    #[test]
    fn a_folder_that_cannot_be_is_told_with_the_remedy() {
        let folder = Folder::new("refused");
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.0.join("file"), "").unwrap();
        let mut log = LogFile::new(folder.0.join("file"), NonZeroU32::MIN);
        let error = log.carry_out(&errand(Verdict::Ban(ban(1, 0))), PATIENCE).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("name another `folder` in `[attack_log]`"), "{text}");
    }
}
