//! `fastnetmon replay`: which bans a recording would have brought.
//!
//! **Invariant**: touches nothing and needs no root. What was read before a file broke is reported, and
//! the break as well.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::capture::{CaptureFile, Recorded};
use crate::commands::{Failure, sandbox, say};
use crate::daemon::{Fell, Outcome, Replay, Settings, Talker, clock};
use crate::model::{Moment, Tally, Unparsed};
use crate::verdicts::{Alert, Ban};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Capture file: pcap or pcapng, gzip too
    file: PathBuf,
    /// Configuration file: whose networks and which thresholds; without it the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
    /// As fast as it can be read, or as it was recorded
    #[arg(long, value_enum, default_value_t = Speed::Max)]
    speed: Speed,
    /// Hosts in each list of the loudest
    #[arg(long, default_value_t = 10)]
    top: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Speed {
    Max,
    Real,
}

/// What was read.
#[derive(Debug, Default)]
struct Read {
    frames: u64,
    /// When the first and the last one were seen, since 1970.
    span: Option<(Duration, Duration)>,
    /// Why no more was.
    error: Option<String>,
}

pub(super) fn replay(arguments: &Arguments) -> Result<(), Failure> {
    let settings = match &arguments.config {
        Some(file) => Settings::read(file).map_err(|error| Failure::Input(error.to_string()))?,
        None => Settings::default(),
    };
    let named = |reason: &dyn ToString| {
        Failure::Input(format!("{}: {}", arguments.file.display(), reason.to_string()))
    };
    let file = File::open(&arguments.file).map_err(|error| named(&error))?;
    sandbox::enter(&settings.networks)?;
    let mut file = CaptureFile::new(BufReader::new(file)).map_err(|error| named(&error))?;
    let mut read = Read::default();
    let mut replay: Option<Replay> = None;
    let mut verdicts = Vec::new();
    let begun = clock::now();
    loop {
        let recorded = match file.next_frame() {
            Ok(Some(recorded)) => recorded,
            Ok(None) => break,
            Err(error) => {
                read.error = Some(error.to_string());
                break;
            }
        };
        let Recorded { at, opened } = recorded;
        let (first, last) = read.span.unwrap_or((at, at));
        read.span = Some((first, last.max(at)));
        read.frames += 1;
        if arguments.speed == Speed::Real {
            wait_until(begun + at.saturating_sub(first));
        }
        let moment = Moment::after_boot(at);
        let replay = match &mut replay {
            Some(replay) => replay,
            None => replay.insert(
                Replay::new(&settings, moment)
                    .map_err(|error| Failure::Input(error.to_string()))?,
            ),
        };
        replay.frame(moment, &opened);
        for (at, fell) in replay.fallen() {
            if !arguments.json {
                say(&line(at, &fell))?;
            }
            verdicts.push((at, fell));
        }
    }
    let mut outcome = replay.map(Replay::finish).unwrap_or_default();
    for (at, fell) in &outcome.verdicts {
        if !arguments.json {
            say(&line(*at, fell))?;
        }
    }
    verdicts.append(&mut outcome.verdicts);
    outcome.verdicts = verdicts;
    let report = if arguments.json {
        let value = document(&read, &outcome, arguments.top);
        format!("{value:#}")
    } else {
        text(&read, &outcome, arguments.top)
    };
    say(&report)?;
    match read.error {
        None if read.frames == 0 => Err(named(&"there is no packet in it")),
        None => Ok(()),
        Some(error) => Err(Failure::Refused(format!(
            "{}: {error}; the packets before it are reported",
            arguments.file.display()
        ))),
    }
}

#[expect(clippy::disallowed_methods, reason = "a recording that is played in its own time waits")]
fn wait_until(moment: Moment) {
    let rest = moment.since(clock::now());
    if !rest.is_zero() {
        std::thread::sleep(rest);
    }
}

fn line(at: Moment, fell: &Fell) -> String {
    let at = utc(at.since_boot());
    match fell {
        Fell::Ban(Ban { address, direction, pps, .. }) => {
            format!("{at}  ban    {address} {}, power {pps} pps", direction.name())
        }
        Fell::Unban(Ban { address, direction, peak_pps, since, until, .. }) => {
            let lasted = until.map_or(0, |until| until.since(*since).as_secs());
            let way = direction.name();
            format!("{at}  unban  {address} {way}, peak {peak_pps} pps, at least {lasted} s")
        }
        Fell::Alert(Alert { prefix, direction, pps, hosts, .. }) => {
            format!("{at}  alert  {prefix} {}, {pps} pps to {hosts} hosts", direction.name())
        }
        Fell::Calm(Alert { prefix, direction, peak_pps, .. }) => {
            format!("{at}  calm   {prefix} {}, peak {peak_pps} pps", direction.name())
        }
    }
}

fn text(read: &Read, outcome: &Outcome, top: usize) -> String {
    let mut text = String::new();
    let (first, last) = read.span.unwrap_or_default();
    let took = last.saturating_sub(first);
    // Writing to a string cannot fail.
    let _infallible = writeln!(
        text,
        "packets   {} in {}.{:03} s, from {}",
        read.frames,
        took.as_secs(),
        took.subsec_millis(),
        utc(first)
    );
    let bans = outcome.verdicts.iter().filter(|(_, fell)| matches!(fell, Fell::Ban(_))).count();
    let standing = outcome.standing.len();
    let _infallible = writeln!(text, "bans      {bans}, of which {standing} stand at the end");
    let totals = &outcome.totals;
    for (name, channel) in [
        ("incoming", totals.incoming),
        ("outgoing", totals.outgoing),
        ("internal", totals.internal),
        ("other", totals.other),
    ] {
        let Tally { packets, bytes } = channel.total;
        let _infallible = writeln!(text, "{name:<9} {packets} packets, {bytes} bytes");
    }
    let Tally { packets, bytes } = totals.ignored;
    if packets > 0 {
        let _infallible = writeln!(text, "ignored   {packets} packets, {bytes} bytes");
    }
    let unparsed: Vec<String> = Unparsed::ALL
        .into_iter()
        .zip(totals.unparsed)
        .map(|(reason, tally)| format!("{} {}", tally.packets, reason.name()))
        .collect();
    let _infallible = writeln!(text, "unparsed  {}", unparsed.join(", "));
    for (way, talkers) in ["incoming", "outgoing"].iter().zip(&outcome.talkers) {
        if talkers.is_empty() {
            continue;
        }
        let _infallible = writeln!(text, "\nloudest, {way}: packets, bytes, most packets a second");
        for talker in talkers.iter().take(top) {
            let Tally { packets, bytes } = talker.total;
            let (address, peak) = (talker.address.to_string(), talker.peak_pps);
            let _infallible =
                writeln!(text, "  {address:<39} {packets:>12} {bytes:>15} {peak:>10}");
        }
    }
    if outcome.forgotten > 0 {
        let forgotten = outcome.forgotten;
        let _infallible = writeln!(text, "{forgotten} times a host found no place in these lists");
    }
    text
}

fn document(read: &Read, outcome: &Outcome, top: usize) -> Value {
    let secs = |span: Duration| json!(span.as_secs_f64());
    let totals = &outcome.totals;
    let tally = |Tally { packets, bytes }: Tally| json!({ "packets": packets, "bytes": bytes });
    let talkers = |list: usize| -> Vec<Value> {
        let list = outcome.talkers.get(list).map(Vec::as_slice).unwrap_or_default();
        let row = |talker: &Talker| {
            json!({
                "ip": talker.address.to_string(),
                "packets": talker.total.packets,
                "bytes": talker.total.bytes,
                "peak_pps": talker.peak_pps,
            })
        };
        list.iter().take(top).map(row).collect()
    };
    let verdicts: Vec<Value> = outcome
        .verdicts
        .iter()
        .map(|(at, fell)| {
            let (action, whom, direction, pps, peak_pps) = match fell {
                Fell::Ban(ban) => {
                    ("ban", ban.address.to_string(), ban.direction, ban.pps, ban.peak_pps)
                }
                Fell::Unban(ban) => {
                    ("unban", ban.address.to_string(), ban.direction, ban.pps, ban.peak_pps)
                }
                Fell::Alert(alert) => {
                    let Alert { prefix, direction, pps, peak_pps, .. } = alert;
                    ("alert", prefix.to_string(), *direction, *pps, *peak_pps)
                }
                Fell::Calm(alert) => {
                    let Alert { prefix, direction, pps, peak_pps, .. } = alert;
                    ("calm", prefix.to_string(), *direction, *pps, *peak_pps)
                }
            };
            json!({
                "at": secs(at.since_boot()),
                "action": action,
                "ip": whom,
                "direction": direction.name(),
                "pps": pps,
                "peak_pps": peak_pps,
            })
        })
        .collect();
    let unparsed: serde_json::Map<String, Value> = Unparsed::ALL
        .into_iter()
        .zip(totals.unparsed)
        .map(|(reason, tally)| (reason.name().to_owned(), tally.packets.into()))
        .collect();
    json!({
        "packets": read.frames,
        "first": read.span.map(|(first, _)| secs(first)),
        "last": read.span.map(|(_, last)| secs(last)),
        "verdicts": verdicts,
        "standing": outcome.standing.iter().map(|ban| ban.address.to_string()).collect::<Vec<_>>(),
        "totals": {
            "incoming": tally(totals.incoming.total),
            "outgoing": tally(totals.outgoing.total),
            "internal": tally(totals.internal.total),
            "other": tally(totals.other.total),
            "ignored": tally(totals.ignored),
        },
        "unparsed": unparsed,
        "loudest": { "incoming": talkers(0), "outgoing": talkers(1) },
        "error": read.error,
    })
}

/// A moment since 1970 as the calendar has it.
fn utc(since: Duration) -> String {
    let (days, of_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let millis = since.subsec_millis();
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03} UTC")
}

/// Days since 1970 as year, month and day: Howard Hinnant's `civil_from_days`, for days that are not
/// before.
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_by_the_calendar() {
        for (millis, expected) in [
            (0, "1970-01-01 00:00:00.000 UTC"),
            (951_782_400_123, "2000-02-29 00:00:00.123 UTC"),
            (1_767_225_599_999, "2025-12-31 23:59:59.999 UTC"),
            (4_294_967_295_000, "2106-02-07 06:28:15.000 UTC"),
        ] {
            assert_eq!(utc(Duration::from_millis(millis)), expected);
        }
    }
}
