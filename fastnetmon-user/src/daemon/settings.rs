//! The configuration file: what the rooms want, composed.
//!
//! **Invariant**: a key nobody knows is an error with its place; the shipped `fastnetmon.conf` is
//! the defaults, by test.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::actions;
use crate::capture;
use crate::control;
use crate::daemon::ScreenSettings;
use crate::daemon::journal::Settings as JournalSettings;
use crate::daemon::rights::Settings as SecuritySettings;
use crate::networks::{self, PrefixSet};
use crate::origins;
use crate::reports;
use crate::verdicts::{self, Policy};
use crate::web;

/// Everything that can be set.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which packets, and how.
    pub capture: capture::Settings,
    /// Which addresses are ours.
    pub networks: networks::Settings,
    /// Whence packets come.
    pub origins: origins::Settings,
    /// What is too much.
    pub thresholds: verdicts::Thresholds,
    /// For how long.
    pub ban: verdicts::BanSettings,
    /// Who has rules of its own.
    #[serde(skip_serializing_if = "verdicts::GroupSettings::is_empty")]
    pub group: verdicts::GroupSettings,
    /// What is not counted.
    #[serde(skip_serializing_if = "networks::IgnoreSettings::is_empty")]
    pub ignore: networks::IgnoreSettings,
    /// Whom to tell.
    pub notify: actions::Settings,
    /// What the kernel drops.
    pub xdp_drop: actions::XdpDropSettings,
    /// Who is told over HTTP.
    pub webhook: actions::WebhookSettings,
    /// Reports of attacks as files.
    pub attack_log: actions::AttackLogSettings,
    /// Packets of attacks as files.
    pub packets: actions::PacketSettings,
    /// Where bans are written down.
    pub journal: JournalSettings,
    /// Under which name others are told.
    pub report: reports::Settings,
    /// Traffic counting in Redis.
    pub redis: reports::redis::Settings,
    /// Points for Graphite.
    pub graphite: reports::graphite::Settings,
    /// Points for InfluxDB.
    pub influxdb: reports::influxdb::Settings,
    /// Rows for ClickHouse.
    pub clickhouse: reports::clickhouse::Settings,
    /// Where operators ask.
    pub control: control::Settings,
    /// The screen as a file.
    pub screen: ScreenSettings,
    /// The page, the API and the metrics.
    pub web: web::Settings,
    /// What the agent and its scripts may do.
    pub security: SecuritySettings,
    /// What is logged.
    pub log: LogSettings,
}

/// `[log]`.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// The least severe that is logged: `"error"` (somebody must act), `"warn"` (an attack; or we
    /// recovered), `"info"` (a state changed), `"debug"` (every tick). To standard error, with
    /// time and fields, and colours on a terminal.
    pub level: Level,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: Level::Info }
    }
}

/// Severities.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Somebody must act.
    Error,
    /// We recovered.
    Warn,
    /// A state changed.
    Info,
    /// Every tick.
    Debug,
}

impl Level {
    /// As the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: {source}; give the configuration with `--config FILE`", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file says something else.
    #[error("{}:{line}: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What was found and what was expected, with the place underlined.
        reason: String,
    },
}

impl Settings {
    /// What the judge goes by.
    pub fn policy(&self, whitelist: PrefixSet) -> Policy {
        let deadline = self.notify.details_deadline_secs.duration();
        Policy::new(&self.thresholds, &self.ban, &self.group, whitelist, deadline)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// With file, line and what was expected.
    pub fn read(file: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| SettingsError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(file, &text)
    }

    /// Reads a text; `file` is what errors call it.
    ///
    /// # Errors
    /// With file, line and what was expected.
    pub fn parse(file: &Path, text: &str) -> Result<Self, SettingsError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            SettingsError::Malformed {
                file: file.to_owned(),
                line: before.matches('\n').count() + 1,
                reason: error.to_string().trim_end().to_owned(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = Settings::parse(Path::new("conf"), text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.starts_with("conf:"), "{error}");
    }

    #[test]
    fn an_error_has_file_line_and_what_was_expected() {
        check("[capture]\n\nengin = \"xdp\"\n", "conf:3: TOML parse error at line 3, column 1");
        check("[capture]\nengin = \"xdp\"\n", "unknown field `engin`, expected one of `engine`");
        check(
            "[capture]\nengine = \"netmap\"\n",
            "unknown variant `netmap`, expected one of `auto`",
        );
        check("[thresholds]\npps = 0\n", "0 would be exceeded by every packet");
        check("[thresholds]\npps = -1\n", "conf:2: ");
        check("[capture]\ntick_ms = 5000\n", "`tick_ms` is 5000: it can be 10 to 1000");
        check(
            "[capture]\nthreads = 65\n",
            "`threads` is 65: it can be 1 to 64, or 0 for one a CPU",
        );
        check("[notify]\npackets = 0\n", "conf:2: ");
        check("[notify]\ntimeout_secs = 0\n", "0 is no deadline: it can be 1 to 3600 seconds");
        check(
            "[xdp_drop]\nmode = \"all\"\n",
            "unknown variant `all`, expected `host` or `signature`",
        );
        check("[xdp_drop]\ncover_percent = 49\n", "`cover_percent` is 49: it can be 50 to 100");
        check("[xdp_drop]\nmax_hosts = 0\n", "`max_hosts` is 0: it can be 1 to 16384");
        check("[xdp_drop]\nmax_secs = 0\n", "`max_secs` is 0: it can be 1 to 604800, a week");
        check("[xdp_drop]\nrate_pps = -1\n", "conf:2: ");
        check("[notify]\nargs = 2\n", "`args` is 2: it can be 4 (ip direction pps action), or 3");
        check("[notify]\nformat = \"xml\"\n", "unknown variant `xml`, expected one of `seed`");
        check("[webhook]\nurl = \"x\"\n", "conf:2: ");
        check("[webhook]\nattempts = 0\n", "`attempts` is 0: it can be 1 to 1000");
        check("[attack_log]\nkeep = 0\n", "conf:2: ");
        check("[packets]\npackets_to_disk = 10001\n", "it can be 1 to 10000, or 0 for as many");
        check("[packets]\nkeep = 0\n", "conf:2: ");
        check("[screen]\nfile = \"a.dat\"\n", "`a.dat` does not begin with `/`");
        check("[log]\n\n[[ignore]]\ncomment = \"all\"\n", "conf:3: ");
        check("[[ignore]]\ncomment = \"all\"\n", "would ignore every packet: give `source`");
        check("ban = 5\n", "conf:1: ");
        check("[ban\n", "conf:1: ");
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(Settings::parse(Path::new("conf"), "").unwrap(), Settings::default());
    }
}
