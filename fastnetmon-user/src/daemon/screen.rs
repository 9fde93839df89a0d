//! The screen as a file, for scripts that read the incumbent's.
//!
//! **Invariant**: layout is a contract (tabs, blanks, numbers right-aligned in six). A reader finds
//! a whole screen or none: it is written aside and renamed. The tick never waits for the disk.

use std::fmt::{self, Write as _};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::control::{Ban, Host, Status, Traffic};
use crate::daemon::people::agents_group;
use crate::daemon::shown::Shown;
use crate::daemon::{StartError, clock};

/// Between two screens.
const PERIOD: Duration = Duration::from_secs(1);

/// The screen as a file.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A file that is replaced each second with the screen as text, in the incumbent's layout,
    /// such as `"/tmp/fastnetmon.dat"`: written aside and renamed, so that nobody reads half of
    /// it; mode 0640, given to the group `fastnetmon` where there is one; removed when the agent
    /// ends. Empty: none. Refused: a path that does not begin with `/`; at the start: a file that
    /// cannot be written.
    pub file: ScreenFile,
    /// Hosts in each table, at most. 100 of each direction are kept.
    pub rows: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file: ScreenFile::default(), rows: NonZeroU32::MIN.saturating_add(6) }
    }
}

/// A path that means the same wherever the agent was started, or none.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct ScreenFile(String);

impl TryFrom<String> for ScreenFile {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('/') {
            return Ok(Self(text));
        }
        Err(format!("`{text}` does not begin with `/`: name the file as \"/tmp/fastnetmon.dat\""))
    }
}

impl From<ScreenFile> for String {
    fn from(file: ScreenFile) -> Self {
        file.0
    }
}

/// Who writes it.
#[derive(Debug)]
pub(super) struct Writer {
    file: PathBuf,
    /// The same name, aside.
    aside: PathBuf,
    group: Option<u32>,
    rows: usize,
    shown: Arc<Shown>,
    /// How long the last screen took.
    took: Duration,
    /// Packets that could not be read, until the last screen.
    unparsed: u64,
}

impl Writer {
    /// Writes the first screen; `None`: none is wanted.
    pub(super) fn new(settings: &Settings, shown: &Arc<Shown>) -> Result<Option<Self>, StartError> {
        let file = PathBuf::from(&settings.file.0);
        let Some(name) = file.file_name() else {
            if settings.file.0.is_empty() {
                return Ok(None);
            }
            let reason = "it has no file name: name a file, not a folder".to_owned();
            return Err(StartError::Screen { path: file, reason });
        };
        let mut aside = std::ffi::OsString::from(".");
        aside.push(name);
        aside.push(format!(".{}", std::process::id()));
        let mut writer = Self {
            aside: file.with_file_name(aside),
            file,
            group: agents_group(),
            rows: usize::try_from(settings.rows.get()).unwrap_or(usize::MAX),
            shown: Arc::clone(shown),
            took: Duration::ZERO,
            unparsed: 0,
        };
        match writer.write(PERIOD) {
            Ok(()) => Ok(Some(writer)),
            Err(error) => {
                Err(StartError::Screen { path: writer.file.clone(), reason: error.to_string() })
            }
        }
    }

    /// Writes one each second until `stop` closes, and takes it away: an old screen looks like a
    /// quiet network.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        let mut is_broken = false;
        let mut last = clock::now();
        while stop.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let now = clock::now();
            match self.write(now.since(last)) {
                Ok(()) if is_broken => {
                    info!(file = %self.file.display(), "The screen is written again.");
                    is_broken = false;
                }
                Ok(()) => {}
                Err(error) => {
                    if !is_broken {
                        error!(file = %self.file.display(), %error, "The screen cannot be written; it is tried again.");
                    }
                    is_broken = true;
                }
            }
            last = now;
        }
        // Somebody may have removed it already.
        let _gone = fs::remove_file(&self.file);
    }

    fn write(&mut self, span: Duration) -> io::Result<()> {
        let begun = clock::now();
        let status = self.shown.whole(self.rows);
        let unparsed = status.packets.unparsed.total();
        let fresh = u128::from(unparsed.saturating_sub(self.unparsed)) * 1000;
        let text = Text {
            status: &status,
            rows: self.rows,
            took: self.took,
            unparsed_pps: u64::try_from(fresh / span.as_millis().max(1)).unwrap_or(u64::MAX),
            zone: TimeZone::system(),
        }
        .to_string();
        self.unparsed = unparsed;
        let replaced = replace(&self.file, &self.aside, self.group, &text);
        self.took = clock::now().since(begun);
        replaced
    }
}

/// Puts a text into the place of a file. Never follows a link somebody laid where it is written.
fn replace(file: &Path, aside: &Path, group: Option<u32>, text: &str) -> io::Result<()> {
    let make = || OpenOptions::new().write(true).create_new(true).mode(0o640).open(aside);
    let mut made = match make() {
        // The rest of an agent that was killed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(aside)?;
            make()?
        }
        made => made?,
    };
    let written = made
        .write_all(text.as_bytes())
        .and_then(|()| group.map_or(Ok(()), |group| fchown(&made, None, Some(group))))
        .and_then(|()| fs::rename(aside, file));
    if written.is_err() {
        // What cannot be finished is not left behind, as far as it can be removed.
        let _left = fs::remove_file(aside);
    }
    written
}

/// What the file says.
struct Text<'a> {
    status: &'a Status,
    rows: usize,
    took: Duration,
    unparsed_pps: u64,
    zone: TimeZone,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { version, engine, role, interfaces, totals, hosts, bans, .. } = self.status;
        writeln!(f, "FastNetMon {version} {engine} {role} {}", interfaces.join(","))?;
        writeln!(f, "IPs ordered by: packets")?;
        for (title, total, list) in [
            ("Incoming traffic", totals.incoming, &hosts.incoming_packets),
            ("Outgoing traffic", totals.outgoing, &hosts.outgoing_packets),
        ] {
            // Flows are not followed here: none, as the incumbent says without its tracking.
            writeln!(f, "{title}\t{} {:>6} flows", speed(total), 0)?;
            for Host { ip, pps, bps, banned } in list.iter().take(self.rows) {
                let of_host = speed(Traffic { pps: *pps, bps: *bps, ..Traffic::default() });
                let banned = if *banned { " *banned* " } else { "" };
                writeln!(f, "{ip}\t\t{of_host} {:>6} flows {banned}", 0)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "Internal traffic\t{}\n", speed(totals.internal))?;
        writeln!(f, "Other traffic\t\t{}\n", speed(totals.other))?;
        let micros = self.status.tick_micros;
        let (secs, micros) = (micros / 1_000_000, micros % 1_000_000);
        writeln!(f, "Screen updated in:\t\t{:.5} sec", self.took.as_secs_f64())?;
        writeln!(f, "Traffic calculated in:\t\t{secs} sec {micros} microseconds")?;
        writeln!(f, "Not processed packets: {} pps\n", self.unparsed_pps)?;
        writeln!(f, "Ban list:")?;
        for Ban { ip, since, .. } in bans {
            let since = Timestamp::from_second(i64::try_from(*since).unwrap_or(0));
            let since = since.unwrap_or_default().to_zoned_datetime(self.zone.clone());
            writeln!(f, "{ip} at {}", since.strftime("%d_%m_%y_%H:%M:%S"))?;
        }
        Ok(())
    }
}

fn speed(Traffic { pps, bps, .. }: Traffic) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = write!(text, "{pps:>6} pps {:>6} mbps", bps / 1_000_000);
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use serde_json::json;

    use super::*;

    fn status() -> Status {
        let traffic = |pps: u64, mbps: u64| json!({ "packets": 1, "bytes": 1, "pps": pps, "bps": mbps * 1_000_000 });
        let host = |ip: &str, pps: u64, mbps: u64, banned: bool| json!({ "ip": ip, "pps": pps, "bps": mbps * 1_000_000, "banned": banned });
        serde_json::from_value(json!({
            "version": "0.1.0", "engine": "xdp", "engine_reason": "", "role": "uplink",
            "evidence": "ring", "interfaces": ["eth0"], "uptime_secs": 9,
            "totals": {
                "incoming": traffic(2141, 2), "outgoing": traffic(0, 0),
                "internal": traffic(0, 0), "other": traffic(0, 0),
            },
            "packets": {
                "received": 9, "dropped": 0, "padding_bytes": 0, "samples_lost": 0, "hints_lost": 0,
                "unparsed": { "short": 0, "not_ip": 0, "version": 0, "nested": 0, "arp": 0 },
            },
            "hosts": {
                "incoming_packets": [host("10.99.0.5", 2089, 2, true), host("10.99.0.6", 0, 0, false)],
                "outgoing_packets": [host("10.99.0.5", 0, 0, true)],
                "incoming_bytes": [], "outgoing_bytes": [],
            },
            "bans": [{
                "id": 1, "ip": "10.99.0.5", "direction": "incoming", "pps": 2089, "peak_pps": 2089,
                "peak_mbps": 2, "packets": 0, "bytes": 0, "cause": "threshold", "rule": "",
                "reason": null, "kind": "", "because": "", "group": "", "dry_run": false,
                "since": 1_795_367_872, "until": null,
            }],
            "networks": 1, "ipv6": { "hosts": 0, "room": 0, "evicted": 0, "refused": 0 },
            "tick_micros": 39, "alarms": [],
        }))
        .unwrap()
    }

    #[test]
    fn the_layout_is_the_incumbents() {
        let status = status();
        let text = Text {
            status: &status,
            rows: 7,
            took: Duration::from_micros(330),
            unparsed_pps: 0,
            zone: TimeZone::UTC,
        };
        let expected = "FastNetMon 0.1.0 xdp uplink eth0\n\
            IPs ordered by: packets\n\
            Incoming traffic\t  2141 pps      2 mbps      0 flows\n\
            10.99.0.5\t\t  2089 pps      2 mbps      0 flows  *banned* \n\
            10.99.0.6\t\t     0 pps      0 mbps      0 flows \n\
            \n\
            Outgoing traffic\t     0 pps      0 mbps      0 flows\n\
            10.99.0.5\t\t     0 pps      0 mbps      0 flows  *banned* \n\
            \n\
            Internal traffic\t     0 pps      0 mbps\n\
            \n\
            Other traffic\t\t     0 pps      0 mbps\n\
            \n\
            Screen updated in:\t\t0.00033 sec\n\
            Traffic calculated in:\t\t0 sec 39 microseconds\n\
            Not processed packets: 0 pps\n\
            \n\
            Ban list:\n\
            10.99.0.5 at 22_11_26_17:17:52\n";
        assert_eq!(text.to_string(), expected);
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("fnm-screen-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn settings(file: &Path, rows: u32) -> Settings {
        let file = ScreenFile::try_from(file.display().to_string()).unwrap();
        Settings { file, rows: NonZeroU32::new(rows).unwrap() }
    }

    #[test]
    fn the_file_is_replaced_whole_and_a_link_in_its_place_is_not_followed() {
        let folder = folder("link");
        let (file, elsewhere) = (folder.join("a.dat"), folder.join("elsewhere"));
        fs::write(&elsewhere, "mine").unwrap();
        symlink(&elsewhere, &file).unwrap();
        let aside = folder.join(format!(".a.dat.{}", std::process::id()));
        symlink(&elsewhere, &aside).unwrap();
        let shown = Arc::new(Shown::new(status()));
        let writer = Writer::new(&settings(&file, 1), &shown).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("10.99.0.5\t\t") && !text.contains("10.99.0.6"), "{text}");
        assert_eq!(fs::symlink_metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert!(!aside.exists());
        let (stop, stopped) = crossbeam_channel::bounded(0);
        drop(stop);
        writer.run(&stopped);
        assert!(!file.exists(), "a dead agent has no screen");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_at_the_start() {
        let folder = folder("refused");
        let shown = Arc::new(Shown::new(status()));
        let refusal =
            |file: &Path| Writer::new(&settings(file, 7), &shown).unwrap_err().to_string();
        let file = folder.join("missing/a.dat");
        let text = refusal(&file);
        assert!(
            text.starts_with(&format!("`file` in `[screen]`, `{}`: ", file.display())),
            "{text}"
        );
        assert!(refusal(&folder).contains("directory"), "{}", refusal(&folder));
        assert!(refusal(Path::new("/")).contains("it has no file name"));
        assert!(fs::read_dir(&folder).unwrap().next().is_none(), "nothing is left behind");
        fs::remove_dir_all(folder).unwrap();
    }
}
