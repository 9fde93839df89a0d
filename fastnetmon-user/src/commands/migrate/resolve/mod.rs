//! Their keys become ours, one by one.
//!
//! **Invariant**: pure. A value of ours is tried on the settings by itself before it is taken, so
//! whatever is taken is accepted.

mod groups;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use toml::Value;

use self::groups::Group;
use crate::commands::migrate::keys::{self, Form, KEYS, Then, To};
use crate::commands::migrate::legacy::{self, Legacy, Pair};
use crate::daemon::{Settings, SettingsError};

/// What became of a file.
#[derive(Debug, Default)]
pub(super) struct Migration {
    /// Ours.
    pub(super) toml: String,
    /// Their keys, by line.
    pub(super) keys: Vec<Told>,
    /// What is worth knowing beside.
    pub(super) remarks: Vec<String>,
}

/// What became of a key.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) line: usize,
    pub(super) key: String,
    /// As written there; a password is not shown.
    pub(super) value: String,
    pub(super) outcome: Outcome,
    /// The keys of ours it became.
    pub(super) to: Vec<String>,
    /// How it differs, why it does nothing, what to do.
    pub(super) how: String,
    comments: Vec<String>,
}

/// The kinds of outcomes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Outcome {
    Honoured,
    Different,
    Nothing,
    Missing,
    Unreadable,
    Unknown,
}

impl Outcome {
    pub(super) const ALL: [Self; 6] = [
        Self::Honoured,
        Self::Different,
        Self::Nothing,
        Self::Missing,
        Self::Unreadable,
        Self::Unknown,
    ];

    /// In JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Different => "different",
            Self::Nothing => "no_effect",
            Self::Missing => "not_supported",
            Self::Unreadable => "unreadable",
            Self::Unknown => "unknown",
        }
    }
}

/// What is written of ours.
struct Written {
    value: String,
    comments: Vec<String>,
}

struct Work<'a> {
    legacy: &'a Legacy,
    /// By section and key of ours.
    written: BTreeMap<(String, String), Written>,
    /// By name.
    groups: BTreeMap<String, Group>,
}

const NO_SWITCH: &str = "is neither `on` nor `off`; there it meant off";

/// Does it.
pub(super) fn migrate(name: &str, legacy: &Legacy) -> Migration {
    let mut work = Work { legacy, written: BTreeMap::new(), groups: BTreeMap::new() };
    let last: BTreeMap<&str, usize> =
        legacy.pairs.iter().map(|pair| (pair.key.as_str(), pair.line)).collect();
    let mut order: Vec<&Pair> = legacy.pairs.iter().collect();
    let place = |pair: &Pair| {
        keys::find(&pair.key)
            .and_then(|row| KEYS.iter().position(|other| std::ptr::eq(row, other)))
            .unwrap_or(KEYS.len())
    };
    order.sort_by_key(|pair| place(pair));
    let mut told: Vec<Told> = order
        .into_iter()
        .map(|pair| match last.get(pair.key.as_str()) {
            // There a later line replaces the earlier one; groups add up.
            Some(&line) if line != pair.line && pair.key != "hostgroup" => {
                let how = format!("given again on line {line}, which is the one that counts");
                tell(pair, Outcome::Nothing, vec![], how)
            }
            _ => work.resolve(pair),
        })
        .collect();
    told.extend(legacy.unreadable.iter().map(|(line, text)| Told {
        line: *line,
        key: text.clone(),
        value: String::new(),
        outcome: Outcome::Unreadable,
        to: vec![],
        how: "is not of the form `key = value`; it was passed over there as well".to_owned(),
        comments: vec![],
    }));
    told.sort_by_key(|told| told.line);
    let remarks = work.remarks();
    let toml = work.toml(name, &told);
    Migration { toml, keys: told, remarks }
}

impl Work<'_> {
    fn resolve(&mut self, pair: &Pair) -> Told {
        let Some(row) = keys::find(&pair.key) else { return self.stranger(pair) };
        if let Some(under) = self.off_above(row.under) {
            let how = format!("`{under}` is off");
            return tell(pair, Outcome::Nothing, vec![], how);
        }
        if pair.is_garbled {
            return tell(pair, Outcome::Unreadable, vec![], "is not UTF-8: retype it".to_owned());
        }
        match row.to {
            To::Key { place, form, how } => match form.value(&pair.value) {
                Ok((value, reservation)) => {
                    let how = [reservation.as_str(), how].into_iter().find(|how| !how.is_empty());
                    self.write(pair, &[(place, &value)], how.unwrap_or_default())
                }
                Err(how) => tell(pair, Outcome::Unreadable, vec![], how),
            },
            To::Switch { on, off } => match legacy::switch(&pair.value) {
                Some(is_on) => {
                    let told = self.then(pair, if is_on { on } else { off });
                    said_otherwise(pair, is_on, told)
                }
                None => tell(pair, Outcome::Unreadable, vec![], NO_SWITCH.to_owned()),
            },
            To::Address { switch, scheme, place, keys: [host, port], or, how } => {
                match legacy::switch(&pair.value) {
                    Some(true) => {
                        let host = self.word(host).unwrap_or(or[0]);
                        let port = self.word(port).unwrap_or(or[1]);
                        let is_ipv6 = host.contains(':') && !host.starts_with('[');
                        let host = if is_ipv6 { format!("[{host}]") } else { host.to_owned() };
                        let value = Value::String(format!("{scheme}{host}:{port}")).to_string();
                        let on = switch.map(|switch| (switch, "true"));
                        let entries: Vec<_> =
                            on.into_iter().chain([(place, value.as_str())]).collect();
                        let told = self.write(pair, &entries, how);
                        said_otherwise(pair, true, told)
                    }
                    Some(false) => self.then(pair, Then::Same),
                    None => tell(pair, Outcome::Unreadable, vec![], NO_SWITCH.to_owned()),
                }
            }
            To::Always(then) => self.then(pair, then),
            To::One(what_to_do) => match legacy::number(&pair.value, &[]) {
                Some(1) => self.then(pair, Then::Same),
                _ => self.then(pair, Then::Missing(what_to_do)),
            },
            To::Group => self.hostgroup(pair),
            To::Average => match legacy::number(&pair.value, &["s", "sec", "seconds"]) {
                Some(secs) if secs > 0 => tell(pair, Outcome::Different, vec![], averaged(secs)),
                _ => tell(
                    pair,
                    Outcome::Different,
                    vec![],
                    "rates are those of one second, not averaged".to_owned(),
                ),
            },
        }
    }

    fn then(&mut self, pair: &Pair, then: Then) -> Told {
        match then {
            Then::Same => tell(pair, Outcome::Honoured, vec![], String::new()),
            Then::Different(how) => tell(pair, Outcome::Different, vec![], how.to_owned()),
            Then::Nothing(how) => tell(pair, Outcome::Nothing, vec![], how.to_owned()),
            Then::Missing(how) => tell(pair, Outcome::Missing, vec![], how.to_owned()),
            Then::Write(entries, how) => self.write(pair, entries, how),
        }
    }

    /// Takes values of ours, unless the settings refuse them or another key of theirs was first.
    fn write(&mut self, pair: &Pair, entries: &[(&str, &str)], how: &str) -> Told {
        let mut places = Vec::new();
        for &(place, value) in entries {
            let Some((section, key)) = place.rsplit_once('.') else { continue };
            if let Some(name) = section.strip_prefix("group.") {
                self.in_group(name, key, value);
                places.push((section.to_owned(), key.to_owned(), value.to_owned()));
                continue;
            }
            if self.written.contains_key(&(section.to_owned(), key.to_owned())) {
                let how = format!("`{key}` in `[{section}]` is taken by another key of this file");
                return tell(pair, Outcome::Different, vec![], how);
            }
            if let Err(reason) = accepted(section, key, value) {
                return tell(pair, Outcome::Unreadable, vec![], reason);
            }
            places.push((section.to_owned(), key.to_owned(), value.to_owned()));
        }
        let mut comments = pair.comments.clone();
        let mut to = Vec::new();
        for (section, key, value) in places {
            to.push(format!("{section}.{key}"));
            if section.starts_with("group.") {
                continue;
            }
            // The first one takes the comments.
            let written = Written { value, comments: std::mem::take(&mut comments) };
            self.written.insert((section, key), written);
        }
        let outcome = if how.is_empty() { Outcome::Honoured } else { Outcome::Different };
        tell(pair, outcome, to, how.to_owned())
    }

    /// A key that is in no table: one of a group, or a slip.
    fn stranger(&mut self, pair: &Pair) -> Told {
        if let Some(told) = self.of_a_group(pair) {
            return told;
        }
        let mut how = "no version knew it, so it did nothing there either".to_owned();
        if let Some(near) = near(&pair.key) {
            // Writing to a string cannot fail.
            let _infallible = write!(how, "; did you mean `{near}`?");
        }
        tell(pair, Outcome::Unknown, vec![], how)
    }

    /// The first switch that is off, of the one a key needs and those that one needs itself.
    fn off_above(&self, mut under: Option<&'static str>) -> Option<&'static str> {
        // Two deep at most, by the table.
        for _ in 0..4 {
            let switch = under?;
            if !self.is_on(switch) {
                return Some(switch);
            }
            under = keys::find(switch).and_then(|row| row.under);
        }
        None
    }

    fn value(&self, key: &str) -> Option<&str> {
        let pair = self.legacy.pairs.iter().rev().find(|pair| pair.key == key)?;
        Some(pair.value.as_str())
    }

    /// A value that is there, without a comment.
    fn word(&self, key: &str) -> Option<&str> {
        self.value(key).map(legacy::without_comment).filter(|word| !word.is_empty())
    }

    fn is_on(&self, switch: &str) -> bool {
        let by_default = keys::is_on_by_default(switch);
        self.value(switch).map_or(by_default, |value| legacy::switch(value).unwrap_or(false))
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.has("thresholds", "pps") && self.is_on("ban_for_pps") {
            let default = Settings::default().thresholds.pps.number().unwrap_or_default();
            remarks.push(format!(
                "no `threshold_pps` was taken over, so hosts may receive or send {default} packets a \
                 second"
            ));
        }
        if self.is_on("ban_for_bandwidth") && !self.has("thresholds", "mbps") {
            remarks.push(
                "no `threshold_mbps` was taken over, so megabits are not judged; there everybody was \
                 banned"
                    .to_owned(),
            );
        }
        if !self.has("capture", "engine") {
            remarks.push(
                "no capture method that is supported is on, so `engine` keeps its default"
                    .to_owned(),
            );
        }
        if !self.has("capture", "interfaces") {
            remarks.push("no interface is named: start with `--interface`".to_owned());
        }
        if self.legacy.garbled_comments > 0 {
            remarks.push(format!(
                "{} lines of comments are not UTF-8; what could not be read is shown as \u{fffd}",
                self.legacy.garbled_comments
            ));
        }
        remarks
    }

    fn has(&self, section: &str, key: &str) -> bool {
        self.written.contains_key(&(section.to_owned(), key.to_owned()))
    }

    fn toml(&self, name: &str, told: &[Told]) -> String {
        let mut text = String::new();
        comment(&mut text, &format!("Made by `fastnetmon migrate` from {name}."));
        comment(
            &mut text,
            "Keys that are not here have their defaults. What could not be taken over",
        );
        comment(&mut text, "is at the end, with what to do.");
        for line in &self.legacy.head {
            comment(&mut text, line);
        }
        let mut section = "";
        for ((of, key), written) in &self.written {
            if of != section {
                section = of;
                // Writing to a string cannot fail.
                let _infallible = writeln!(text, "\n[{section}]");
            }
            for line in &written.comments {
                comment(&mut text, line);
            }
            let _infallible = writeln!(text, "{key} = {}", written.value);
        }
        text.push_str(&self.groups_as_toml());
        let left = told.iter().filter(|told| told.outcome >= Outcome::Missing);
        for (number, told) in (0..).zip(left) {
            text.push('\n');
            if number == 0 {
                comment(&mut text, "Not taken over");
                text.push('\n');
            }
            for line in &told.comments {
                comment(&mut text, line);
            }
            comment(&mut text, &format!("line {}: {}", told.line, told.shown()));
            comment(&mut text, &format!("  {}", told.how));
        }
        text
    }
}

impl Told {
    /// As it stands in their file.
    pub(super) fn shown(&self) -> String {
        if self.outcome == Outcome::Unreadable && self.value.is_empty() {
            return self.key.clone();
        }
        format!("{} = {}", self.key, self.value)
    }
}

impl Form {
    /// The value as TOML, and what there is to say about it.
    fn value(self, theirs: &str) -> Result<(String, String), String> {
        let plain = legacy::without_comment(theirs);
        let same = |value: String| Ok((value, String::new()));
        match self {
            Self::Number(units) => legacy::number(theirs, units)
                .map_or_else(|| Err(not_a_number(theirs)), |number| same(number.to_string())),
            Self::Milliseconds => match legacy::number(theirs, &["s", "sec", "seconds"]) {
                Some(0) | None => Err(not_a_number(theirs)),
                Some(1) => same("1000".to_owned()),
                Some(_) => {
                    Ok(("1000".to_owned(), "counters are read each second at least".to_owned()))
                }
            },
            Self::Text if plain.is_empty() => Err("has no value".to_owned()),
            Self::Text => {
                let unquoted = ['"', '\'']
                    .into_iter()
                    .find_map(|mark| plain.strip_prefix(mark)?.strip_suffix(mark));
                let value = Value::String(unquoted.unwrap_or(plain).to_owned()).to_string();
                let said = if unquoted.is_some() || plain != theirs {
                    "there the quotation marks or the comment were part of the value"
                } else {
                    ""
                };
                Ok((value, said.to_owned()))
            }
            Self::List => {
                let items: Vec<Value> =
                    legacy::list(theirs).into_iter().map(Value::String).collect();
                if items.is_empty() {
                    return Err("has no value".to_owned());
                }
                same(Value::Array(items).to_string())
            }
            Self::Words(words) => {
                let plain = plain.to_ascii_lowercase();
                if let Some((_, ours)) = words.iter().find(|(theirs, _)| *theirs == plain) {
                    return same(Value::String((*ours).to_owned()).to_string());
                }
                let known: Vec<&str> = words.iter().map(|(theirs, _)| *theirs).collect();
                Err(format!("is none of {}", known.join(", ")))
            }
        }
    }
}

fn tell(pair: &Pair, outcome: Outcome, to: Vec<String>, how: String) -> Told {
    let secret = pair.key.contains("password") && !pair.value.is_empty();
    Told {
        line: pair.line,
        key: pair.key.clone(),
        value: if secret { "(not shown)".to_owned() } else { pair.value.clone() },
        outcome,
        to,
        how,
        comments: pair.comments.clone(),
    }
}

/// Upstream, only `on` was on. Whoever wrote another word has not had what they asked for.
fn said_otherwise(pair: &Pair, is_on: bool, mut told: Told) -> Told {
    if is_on && pair.value != "on" && pair.key != "redis_enabled" {
        let word = legacy::without_comment(&pair.value);
        let note = format!("versions from 1.0 took `{word}` for off; it is taken for on");
        told.how = if told.how.is_empty() { note } else { format!("{}; {note}", told.how) };
        if told.outcome == Outcome::Honoured {
            told.outcome = Outcome::Different;
        }
    }
    told
}

fn not_a_number(theirs: &str) -> String {
    let digits: String = theirs.trim().chars().take_while(char::is_ascii_digit).collect();
    if digits.is_empty() {
        return "is not a number; there it counted as 0".to_owned();
    }
    format!("is not a number with its own unit; there it counted as {digits}")
}

/// What a moving average of so many seconds cost, and that it is gone.
fn averaged(secs: u64) -> String {
    // An average of a jump to twice the threshold passes it after τ · ln 2.
    let tenths = (u128::from(secs) * 6931 + 500) / 1000;
    format!(
        "rates are those of one second, not averaged: a flood of twice the threshold was found \
         after {}.{} s there and is found at once here, and so is a burst of one second; \
         `average_secs = {secs}` in `[thresholds]` brings the average back, and its delay",
        tenths / 10,
        tenths % 10
    )
}

/// Would the settings take it?
fn accepted(section: &str, key: &str, value: &str) -> Result<(), String> {
    accepted_as(&format!("[{section}]\n{key} = {value}\n"))
}

/// The same of several lines.
fn accepted_as(text: &str) -> Result<(), String> {
    Settings::parse(Path::new("the new file"), text).map(|_settings| ()).map_err(|error| {
        let SettingsError::Malformed { reason, .. } = error else { return error.to_string() };
        reason.lines().last().unwrap_or_default().to_owned()
    })
}

/// The known key that was probably meant.
fn near(key: &str) -> Option<&'static str> {
    let allowed = if key.len() < 8 { 1 } else { 3 };
    KEYS.iter()
        .map(|row| (strsim::osa_distance(key, row.key), row.key))
        .filter(|&(distance, _)| distance <= allowed)
        .min()
        .map(|(_, near)| near)
}

fn comment(text: &mut String, line: &str) {
    // A tab is all of the control characters that TOML allows here, and no other came this far.
    text.push_str(format!("# {line}").trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests;
