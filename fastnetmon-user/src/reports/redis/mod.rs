//! Redis: traffic counting, as it was from the first day, and what a ban was about.
//!
//! `INCRBY <ip>_incoming <bytes>` and `<ip>_outgoing` for every host that moved; each command names
//! one key, so that it does not matter where a key lives.
//!
//! **Invariant**: no byte is added twice. Commands go out in pipelines of bounded length; when the
//! answers to one stop coming, those that are missing are told as uncertain and never sent again.
//! Before each pipeline the server is asked whether it is there, so what is kept for a dead one is
//! not at risk.

mod backlog;
mod encode;
mod incident;
mod link;
mod settings;

use std::io::Write as _;
use std::net::IpAddr;

pub use self::link::{Link, LinkError};
pub use self::settings::{Server, Settings};
use crate::model::{Direction, Wall};
use crate::reports::parts::Cadence;
use crate::reports::queue::Queue;
use crate::reports::redis::backlog::Increments;
use crate::reports::redis::encode::Commands;
use crate::reports::{Backlog, Batch, Event, ExportError, Exporter, Report, What};
use crate::verdicts::Verdict;

/// Hosts in one pipeline: so many may be uncertain after an outage, and no more.
const PORTION: usize = 1024;

/// What a batch of increments is for.
const COUNTS: &str = "counts";

/// What a batch of keys about bans is for.
const BANS: &str = "bans";

/// The pure part.
#[derive(Debug)]
pub struct Redis {
    keys: Keys,
    traffic: bool,
    bans: bool,
    cadence: Cadence,
    /// The interval is over.
    is_due: bool,
    increments: Increments,
    /// A pipeline that was encoded and could not be begun.
    returned: Option<Batch>,
    /// Keys about bans, which may be set twice.
    told: Queue,
    last_event: u64,
}

/// How keys are made.
#[derive(Debug)]
struct Keys {
    /// With its `_`.
    prefix: String,
    packets: bool,
    ttl_secs: u32,
}

impl Redis {
    /// As the settings say.
    pub fn new(settings: &Settings) -> Self {
        let mut prefix = settings.prefix.as_str().to_owned();
        if !prefix.is_empty() {
            prefix.push('_');
        }
        let room = settings.queue_mb.bytes();
        Self {
            keys: Keys { prefix, packets: settings.packets, ttl_secs: settings.ttl_secs },
            traffic: settings.traffic,
            bans: settings.bans,
            cadence: Cadence::new(settings.interval_secs.duration()),
            is_due: false,
            increments: Increments::new(room / 4 * 3),
            returned: None,
            told: Queue::new(room / 4),
            last_event: 0,
        }
    }

    fn tell(&mut self, event: &Event, wall: Wall) {
        let What::Verdict { verdict, .. } = &event.what else { return };
        let mut commands = Commands::default();
        let Keys { prefix, ttl_secs, .. } = &self.keys;
        let mut set = |ip: IpAddr, what: &str, text: &[u8]| {
            commands.set(&format!("{prefix}{ip}_{what}"), text, *ttl_secs);
        };
        match verdict {
            Verdict::Ban(ban) | Verdict::Unban(ban, _) => {
                let text = incident::json(event, verdict.name(), ban, wall);
                set(ban.address, "information", &text);
            }
            Verdict::Details(ban, packets) => {
                let mut dump = Vec::new();
                for packet in packets.iter() {
                    // Writing to a vector cannot fail.
                    let _infallible = writeln!(dump, "{packet}");
                }
                set(ban.address, "flow_dump", &dump);
            }
            Verdict::Alert(_) | Verdict::Calm(_) => {}
        }
        self.told.push(commands.batch(BANS));
    }

    /// A pipeline of increments, if there are any.
    fn portion(&mut self) -> Option<Batch> {
        let hosts = self.increments.out(PORTION);
        let mut commands = Commands::with_room(2 * hosts.len());
        for (address, sums) in hosts {
            for (way, sum) in Direction::BOTH.into_iter().zip(sums) {
                commands.add(&self.keys, address, way, sum);
            }
        }
        let batch = commands.batch(COUNTS);
        if self.increments.waiting() == 0 {
            self.is_due = false;
        }
        (batch.lines > 0).then_some(batch)
    }
}

impl Exporter for Redis {
    const NAME: &'static str = "redis";
    type Carrier = Link;

    fn take(&mut self, report: &Report) {
        if self.traffic {
            self.increments.take(report);
        }
        if self.bans {
            let wall = Wall { read_at: report.at, unix: report.unix };
            for event in report.events_after(self.last_event) {
                self.tell(event, wall);
            }
        }
        self.last_event = report.events.last().map_or(self.last_event, |event| event.number);
        self.is_due |= self.cadence.is_due(report.span);
    }

    fn next(&mut self) -> Option<Batch> {
        if let Some(batch) = self.returned.take().or_else(|| self.told.pop()) {
            return Some(batch);
        }
        while self.is_due {
            if let Some(batch) = self.portion() {
                return Some(batch);
            }
        }
        None
    }

    fn put_back(&mut self, batch: Batch) {
        if batch.to == COUNTS {
            self.returned = Some(batch);
        } else {
            self.told.put_back(batch);
        }
    }

    fn finish(&mut self) {
        self.is_due = true;
    }

    fn backlog(&self) -> Backlog {
        let Backlog { lines, bytes, dropped, .. } = self.told.backlog();
        let (hosts, traffic) = self.increments.dropped();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let returned = self.returned.as_ref();
        Backlog {
            lines: lines
                + count(self.increments.waiting())
                + returned.map_or(0, |batch| batch.lines),
            bytes: bytes
                + count(self.increments.bytes())
                + returned.map_or(0, |batch| count(batch.bytes.len())),
            dropped: dropped + hosts,
            dropped_traffic: traffic,
        }
    }

    fn late(&self, batch: &Batch, patience: std::time::Duration) -> ExportError {
        let reason = format!("no answer within {} s", patience.as_secs_f32());
        if batch.to == COUNTS {
            ExportError::Uncertain { reason, lines: batch.lines }
        } else {
            ExportError::Retry { reason }
        }
    }
}
