//! Lines of the journal.
//!
//! A line is a checksum (CRC-32, eight hex digits), a blank, and JSON:
//! `1c291ca3 {"note":"begun","event":"1795…-ban","action":"script"}`.
//!
//! **Invariant**: pure. Moments are written as time since 1970: the machine's own clock begins anew
//! when it does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actions::EventId;
use crate::control::Way;
use crate::model::{Direction, HostId, Loads, Moment, Tally, Wall};
use crate::verdicts::{Attack, AttackKind, Ban, BanId, Cause, Deeds, Ending, Measure, Subject};

/// The version of these lines.
pub(super) const VERSION: u32 = 1;

/// What a line says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line.
    Journal {
        /// [`VERSION`].
        version: u32,
    },
    /// A verdict was pronounced.
    Told {
        /// Which one.
        event: EventId,
        /// Who was sent.
        to: BTreeSet<String>,
        /// The ban as it was then.
        ban: Box<Stored>,
        /// How it ended, when it did.
        #[serde(skip_serializing_if = "Option::is_none")]
        ending: Option<End>,
    },
    /// An action that does nothing twice begins.
    Begun {
        /// About which event.
        event: EventId,
        /// Which one.
        action: String,
    },
    /// An action came to its end.
    Settled {
        /// About which event.
        event: EventId,
        /// Which one.
        action: String,
        /// Why it did not do it.
        #[serde(skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
    },
    /// What is known of a ban by now.
    Known {
        /// The ban.
        ban: Box<Stored>,
    },
}

impl Record {
    /// As a line, with its end.
    pub(super) fn line(&self) -> serde_json::Result<String> {
        let json = serde_json::to_string(self)?;
        Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())))
    }

    /// What this line, without its end, says; `None` when it is damaged.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let (sum, json) = line.split_at_checked(8)?;
        let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
        let json = json.strip_prefix(b" ")?;
        if crc32fast::hash(json) != sum {
            return None;
        }
        serde_json::from_slice(json).ok()
    }
}

/// A ban on disk.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) id: BanId,
    pub(super) ip: IpAddr,
    pub(super) direction: Way,
    pub(super) pps: u64,
    pub(super) peak_pps: u64,
    pub(super) peak_mbps: u64,
    pub(super) cause: Reason,
    pub(super) kind: AttackKind,
    pub(super) because: String,
    pub(super) loads: Loads,
    pub(super) total: Tally,
    pub(super) group: String,
    pub(super) dry_run: bool,
    pub(super) deeds: Meant,
    /// Milliseconds since 1970.
    pub(super) since: u64,
    /// Milliseconds since 1970; `null`: until an operator says so.
    pub(super) until: Option<u64>,
}

/// Why, on disk.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub(super) enum Reason {
    Rule { subject: Subject, measure: Measure, threshold: u64, measured: u64 },
    Operator { reason: Option<String> },
}

/// Which actions are meant, on disk.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "as in `Deeds`")]
pub(super) struct Meant {
    script: bool,
    script_path: Option<String>,
    xdp_drop: bool,
    webhook: bool,
    log_file: bool,
}

/// How a ban ended, on disk.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub(super) enum End {
    Over,
    Operator { reason: Option<String> },
}

impl Stored {
    pub(super) fn new(ban: &Ban, wall: Wall) -> Self {
        let millis =
            |moment: Moment| u64::try_from(wall.unix_at(moment).as_millis()).unwrap_or(u64::MAX);
        Self {
            id: ban.id,
            ip: ban.address,
            direction: match ban.direction {
                Direction::Incoming => Way::Incoming,
                Direction::Outgoing => Way::Outgoing,
            },
            pps: ban.pps,
            peak_pps: ban.peak_pps,
            peak_mbps: ban.peak_mbps,
            cause: match &ban.cause {
                &Cause::Rule { subject, measure, threshold, measured } => {
                    Reason::Rule { subject, measure, threshold, measured }
                }
                Cause::Operator { reason } => Reason::Operator { reason: owned(reason.as_ref()) },
            },
            kind: ban.attack.kind,
            because: ban.attack.because.to_string(),
            loads: ban.loads,
            total: ban.total,
            group: ban.group.to_string(),
            dry_run: ban.dry_run,
            deeds: Meant {
                script: ban.deeds.script,
                script_path: ban
                    .deeds
                    .script_path
                    .as_deref()
                    .map(|path| path.display().to_string()),
                xdp_drop: ban.deeds.xdp_drop,
                webhook: ban.deeds.webhook,
                log_file: ban.deeds.log_file,
            },
            since: millis(ban.since),
            until: ban.until.map(millis),
        }
    }

    /// The ban as it stands now, on this host's line.
    ///
    /// Its end is told by the calendar. A calendar that was set back since, or is not set yet, makes
    /// no ban longer than it was to be.
    pub(super) fn ban(&self, host: HostId, wall: Wall) -> Ban {
        let moment = |millis: u64| wall.moment_at(Duration::from_millis(millis));
        let until = self.until.map(|until| {
            let longest = Duration::from_millis(until.saturating_sub(self.since));
            moment(until).min(wall.read_at + longest)
        });
        Ban {
            id: self.id,
            host,
            address: self.ip,
            direction: match self.direction {
                Way::Incoming => Direction::Incoming,
                Way::Outgoing => Direction::Outgoing,
            },
            pps: self.pps,
            peak_pps: self.peak_pps,
            peak_mbps: self.peak_mbps,
            cause: match &self.cause {
                &Reason::Rule { subject, measure, threshold, measured } => {
                    Cause::Rule { subject, measure, threshold, measured }
                }
                Reason::Operator { reason } => {
                    Cause::Operator { reason: shared(reason.as_deref()) }
                }
            },
            attack: Attack { kind: self.kind, because: self.because.as_str().into() },
            loads: self.loads,
            total: self.total,
            group: self.group.as_str().into(),
            dry_run: self.dry_run,
            deeds: Deeds {
                script: self.deeds.script,
                script_path: self.deeds.script_path.as_deref().map(|path| Path::new(path).into()),
                xdp_drop: self.deeds.xdp_drop,
                webhook: self.deeds.webhook,
                log_file: self.deeds.log_file,
            },
            since: moment(self.since).min(wall.read_at),
            until,
        }
    }
}

impl From<&Ending> for End {
    fn from(ending: &Ending) -> Self {
        match ending {
            Ending::Over => Self::Over,
            Ending::Operator { reason } => Self::Operator { reason: owned(reason.as_ref()) },
        }
    }
}

impl From<&End> for Ending {
    fn from(end: &End) -> Self {
        match end {
            End::Over => Self::Over,
            End::Operator { reason } => Self::Operator { reason: shared(reason.as_deref()) },
        }
    }
}

fn owned(text: Option<&Arc<str>>) -> Option<String> {
    text.map(|text| text.as_ref().to_owned())
}

fn shared(text: Option<&str>) -> Option<Arc<str>> {
    text.map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::Occasion;

    fn wall(boot: u64, unix: u64) -> Wall {
        let read_at = Moment::after_boot(Duration::from_secs(boot));
        Wall { read_at, unix: Duration::from_secs(unix) }
    }

    fn ban() -> Ban {
        let mut ban = Ban::of([192, 0, 2, 7]);
        ban.id = BanId(7);
        ban.cause = Cause::Operator { reason: Some("\u{1}\"quoted\"\n".into()) };
        ban.deeds.script_path = Some(Path::new("/usr/local/bin/own").into());
        ban.group = "customers".into();
        ban.since = Moment::after_boot(Duration::from_secs(1000));
        ban.until = Some(Moment::after_boot(Duration::from_secs(2900)));
        ban
    }

    #[test]
    fn what_is_written_is_read_again_on_a_machine_that_was_started_anew() {
        let stored = Stored::new(&ban(), wall(1500, 1_000_000));
        let event = EventId { ban: BanId(7), occasion: Occasion::Ban };
        let to = BTreeSet::from(["script".to_owned()]);
        let record = Record::Told { event, to, ban: Box::new(stored.clone()), ending: None };
        let line = record.line().unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(Record::read(line.trim_end().as_bytes()), Some(record));
        // 600 s later by the calendar, 20 s after a start of the machine.
        let back = stored.ban(HostId(256), wall(20, 1_000_600));
        let until = Some(Moment::after_boot(Duration::from_secs(20 + 1400 - 600)));
        // It began before the machine did, and a moment cannot be earlier than that.
        assert_eq!(back, Ban { since: Moment::default(), until, ..ban() });
        // On the same machine everything is as it was.
        assert_eq!(stored.ban(HostId(256), wall(2100, 1_000_600)), ban());
    }

    #[test]
    fn a_calendar_that_is_not_set_makes_no_ban_longer() {
        let stored = Stored::new(&ban(), wall(1500, 1_000_000));
        let back = stored.ban(HostId(256), wall(20, 0));
        assert_eq!(back.until, Some(Moment::after_boot(Duration::from_mins(32))));
        assert_eq!(back.since, Moment::after_boot(Duration::from_secs(20)));
    }

    #[test]
    fn a_line_that_was_changed_is_not_believed() {
        let event = EventId { ban: BanId(7), occasion: Occasion::Ban };
        let line = Record::Begun { event, action: "script".to_owned() }.line().unwrap();
        let line = line.trim_end().as_bytes();
        assert!(Record::read(line).is_some());
        for at in 0..line.len() {
            let mut bad = line.to_vec();
            // Upper case of a hex digit is the same digit.
            bad[at] ^= 0x11;
            assert_eq!(Record::read(&bad), None, "{}", String::from_utf8_lossy(&bad));
            assert_eq!(Record::read(&line[..at]), None);
        }
    }
}
