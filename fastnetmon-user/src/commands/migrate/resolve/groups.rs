//! Their groups of networks become ours.
//!
//! There, a group whose `enable_ban` or `ban_for_…` is not on is not banned, or not for that; a limit
//! that a group does not have is the one of everybody. Here absent is inherited, so what is off there
//! is written as `"off"`.
//!
//! **Invariant**: all groups together are tried on the settings before one is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toml::Value;

use super::{Outcome, Told, Work, accepted, accepted_as, comment, tell};
use crate::commands::migrate::keys::{GROUP_FLOWS, GROUP_LIMITS, NO_FLOWS};
use crate::commands::migrate::legacy::{self, Pair};
use crate::model::Prefix;

/// One group of ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    networks: BTreeSet<Prefix>,
    /// Its other keys, dotted, with their values.
    values: BTreeMap<String, String>,
    comments: Vec<String>,
    /// It is one of theirs, so what is not said of it is off.
    is_theirs: bool,
}

impl Work<'_> {
    /// `hostgroup = name:network,network`.
    pub(super) fn hostgroup(&mut self, pair: &Pair) -> Told {
        let refuse = |how: String| tell(pair, Outcome::Unreadable, vec![], how);
        let Some((name, list)) = legacy::without_comment(&pair.value).split_once(':') else {
            return refuse("is not of the form `name:network,network`".to_owned());
        };
        let name = name.trim();
        let mut group = self.groups.get(name).cloned().unwrap_or_default();
        let mut is_masked = false;
        for text in legacy::list(list) {
            match Prefix::parse_masked(&text) {
                Ok((prefix, masked)) => {
                    is_masked |= masked;
                    group.networks.insert(prefix);
                }
                Err(error) => return refuse(error.to_string()),
            }
        }
        group.comments.extend(pair.comments.iter().cloned());
        group.is_theirs = true;
        let mut together = self.groups.clone();
        together.insert(name.to_owned(), group);
        let text: String = together.iter().map(|(name, group)| head(name, group)).collect();
        if let Err(reason) = accepted_as(&text) {
            return refuse(reason);
        }
        self.groups = together;
        let mut how = Vec::new();
        if is_masked {
            how.push("host bits are taken off its networks".to_owned());
        }
        if !self.is_on_in(name, "enable_ban") {
            how.push(format!("nobody in it is banned, as there: `{name}_enable_ban` is not on"));
        }
        let outcome = if how.is_empty() { Outcome::Honoured } else { Outcome::Different };
        tell(pair, outcome, vec![format!("group.{name}.networks")], how.join("; "))
    }

    /// A key that begins with the name of a group, if it is one.
    pub(super) fn of_a_group(&mut self, pair: &Pair) -> Option<Told> {
        let named = |suffix: &str| {
            pair.key.strip_suffix(suffix)?.strip_suffix('_').filter(|name| !name.is_empty())
        };
        let flows = GROUP_FLOWS.into_iter().find_map(|key| Some((key, named(key)?)));
        let limit = GROUP_LIMITS.into_iter().find_map(|limit| {
            let (key, switch, ours) = limit;
            let name = named(key).map(|name| (name, true));
            let (name, is_number) = name.or_else(|| Some((named(switch)?, false)))?;
            Some((name, is_number, switch, ours))
        });
        let ban = named("enable_ban");
        let name =
            ban.or_else(|| limit.map(|(name, ..)| name)).or_else(|| flows.map(|(_, name)| name))?;
        if !self.groups.get(name).is_some_and(|group| group.is_theirs) {
            let how = if self.names().any(|other| other == name) {
                format!("the networks of `{name}` could not be taken over")
            } else {
                format!("there is no `hostgroup = {name}:…`")
            };
            return Some(tell(pair, Outcome::Nothing, vec![], how));
        }
        let nothing = |switch: &str| {
            Some(tell(pair, Outcome::Nothing, vec![], format!("`{name}_{switch}` is off")))
        };
        if let Some((name, true, switch, ours)) = limit {
            if !self.is_on_in(name, switch) {
                return nothing(switch);
            }
            let unit = if ours.ends_with("mbps") { "mbps" } else { "pps" };
            let place = format!("thresholds.{ours}");
            let number = legacy::number(&pair.value, &[unit])
                .ok_or_else(|| super::not_a_number(&pair.value))
                .and_then(|number| {
                    accepted("thresholds", unit, &number.to_string()).map(|()| number)
                });
            let told = match number {
                Err(reason) => tell(pair, Outcome::Unreadable, vec![], reason),
                Ok(number) => {
                    self.in_group(name, &place, &number.to_string());
                    let to = vec![format!("group.{name}.{place}")];
                    tell(pair, Outcome::Honoured, to, String::new())
                }
            };
            return Some(told);
        }
        if let Some(("threshold_flows", name)) = flows
            && !self.is_on_in(name, "ban_for_flows")
        {
            return nothing("ban_for_flows");
        }
        let is_on = match (flows, legacy::switch(&pair.value)) {
            (Some(("threshold_flows", _)), _) => true,
            (_, Some(is_on)) => is_on,
            (_, None) => {
                let how = super::NO_SWITCH.to_owned();
                return Some(tell(pair, Outcome::Unreadable, vec![], how));
            }
        };
        if flows.is_some() && is_on {
            return Some(tell(pair, Outcome::Missing, vec![], NO_FLOWS.to_owned()));
        }
        let to = ban.map(|name| format!("group.{name}.ban")).into_iter().collect();
        Some(super::said_otherwise(pair, is_on, tell(pair, Outcome::Honoured, to, String::new())))
    }

    /// Writes a key of a group.
    pub(super) fn in_group(&mut self, name: &str, key: &str, value: &str) {
        let group = self.groups.entry(name.to_owned()).or_default();
        if key == "networks" {
            let networks = legacy::list(value.trim_matches(['[', ']', '"']));
            group.networks.extend(
                networks.iter().filter_map(|text| Prefix::parse_masked(text).ok()).map(|one| one.0),
            );
        } else {
            group.values.insert(key.to_owned(), value.to_owned());
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let groups = self.legacy.pairs.iter().filter(|pair| pair.key == "hostgroup");
        groups.filter_map(|pair| pair.value.split(':').next()).map(str::trim)
    }

    fn is_on_in(&self, name: &str, switch: &str) -> bool {
        self.value(&format!("{name}_{switch}")).and_then(legacy::switch).unwrap_or(false)
    }

    pub(super) fn groups_as_toml(&self) -> String {
        let mut text = String::new();
        for (name, group) in &self.groups {
            text.push('\n');
            for line in &group.comments {
                comment(&mut text, line);
            }
            text.push_str(&head(name, group));
            let mut values = group.values.clone();
            if group.is_theirs {
                let is_banned = self.is_on_in(name, "enable_ban");
                values.insert("ban".to_owned(), is_banned.to_string());
                for (theirs, switch, ours) in GROUP_LIMITS {
                    let place = format!("thresholds.{ours}");
                    if let Some(value) = self.inherited(name, theirs, switch, ours) {
                        values.entry(place).or_insert(value);
                    }
                }
            }
            for (key, value) in values {
                // Writing to a string cannot fail.
                let _infallible = writeln!(text, "{key} = {value}");
            }
        }
        text
    }

    /// What a group has for a limit that it does not state, where that is not what ours inherits.
    fn inherited(&self, name: &str, theirs: &str, switch: &str, ours: &str) -> Option<String> {
        let (section, key) = ours.split_once('.').map_or_else(
            || ("thresholds".to_owned(), ours),
            |(class, key)| (format!("thresholds.{class}"), key),
        );
        let is_checked = self.has(&section, key) || (ours == "pps" && self.is_on("ban_for_pps"));
        if !self.is_on_in(name, switch) {
            return is_checked.then(|| "\"off\"".to_owned());
        }
        if is_checked && self.is_on(switch) {
            return None;
        }
        // Everybody has a number that is not checked there, and this group takes it.
        let number = legacy::number(self.value(theirs)?, &[key])?.to_string();
        accepted("thresholds", key, &number).is_ok().then_some(number)
    }
}

fn head(name: &str, group: &Group) -> String {
    let networks: Vec<Value> =
        group.networks.iter().map(|prefix| Value::String(prefix.to_string())).collect();
    let (name, networks) = (Value::String(name.to_owned()), Value::Array(networks));
    format!("[[group]]\nname = {name}\nnetworks = {networks}\n")
}
