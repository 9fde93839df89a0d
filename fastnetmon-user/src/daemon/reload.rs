//! Another configuration while packets are counted: SIGHUP, or `fastnetmon reload`.
//!
//! **Invariant**: everything is read and checked before anything changes, and not on the tick's
//! thread. What cannot be used changes nothing; what needs a restart is told and stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use toml::{Table, Value};
use tracing::{error, info};

use crate::actions::{self, Prepared};
use crate::daemon::{Settings, pipeline};
use crate::networks::{self, Guarded};
use crate::origins::Origins;
use crate::verdicts::Policy;

/// How long the tick may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Prefixes of a change that are told one by one.
const TOLD: usize = 20;

/// Sections that are applied as a whole.
const SECTIONS: [&str; 6] = ["thresholds", "ban", "group", "notify", "webhook", "attack_log"];

/// Keys of other sections that are.
const KEYS: [(&str, &str); 2] = [("networks", "list"), ("networks", "whitelist")];

/// Where the configuration came from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Source {
    /// The file; without one there are the defaults.
    pub config: Option<PathBuf>,
    /// Ports named on the command line, which go before those of the file.
    pub interfaces: Vec<String>,
}

/// What the tick is to go by.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) policy: Policy,
    pub(super) guarded: Guarded,
    pub(super) actions: Prepared,
    /// Packets in a dump.
    pub(super) packets: u32,
    /// How long an action that is switched off may go on.
    pub(super) farewell: Duration,
    pub(super) answer: Sender<Result<Applied, String>>,
}

/// What a change did.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) networks: networks::Applied,
    /// What it means for the judge, in lines.
    pub(super) told: Vec<String>,
    /// What could not be done of it.
    pub(super) failed: Option<String>,
}

/// Reads the configuration again.
#[derive(Debug)]
pub(super) struct Reloader {
    source: Source,
    /// What is in force, and what was guarded last; held while a change is made.
    running: Mutex<(Settings, Guarded)>,
    changes: Sender<Change>,
    origins: Origins,
}

impl Reloader {
    /// `settings` are in force. Changes go the other way.
    pub(super) fn new(
        source: Source,
        settings: Settings,
        guarded: Guarded,
        origins: Origins,
    ) -> (Self, Receiver<Change>) {
        let (changes, changed) = bounded(1);
        let running = Mutex::new((settings, guarded));
        (Self { source, running, changes, origins }, changed)
    }

    /// Reads, checks and applies. Returns what changed, in lines.
    ///
    /// # Errors
    /// When something cannot be used: what is in force stays in force.
    pub(super) fn reload(&self) -> Result<String, String> {
        let outcome = self.try_to();
        match &outcome {
            Ok(changes) => info!(changes, "The configuration was read again."),
            Err(reason) => {
                error!(%reason, "The configuration was not applied; what was in force stays so.");
            }
        }
        outcome
    }

    fn try_to(&self) -> Result<String, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let mut wanted = match &self.source.config {
            Some(file) => Settings::read(file).map_err(|error| text(&error))?,
            None => Settings::default(),
        };
        if !self.source.interfaces.is_empty() {
            wanted.capture.interfaces.clone_from(&self.source.interfaces);
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, guarded_before) = &*running;
        let Merged { settings, changes, restart } = merge(before, &wanted)?;
        let guarded = networks::read(&settings.networks).map_err(|error| text(&error))?;
        let actions = actions::prepare(&settings.notify, &settings.webhook, &settings.attack_log)
            .map_err(|error| text(&error))?
            .knowing(&self.origins);
        let (answer, answered) = bounded(1);
        let change = Change {
            policy: pipeline::policy(&settings, guarded.whitelist.clone()),
            guarded: guarded.clone(),
            actions,
            packets: settings.notify.packets.get(),
            farewell: pipeline::farewell(&settings),
            answer,
        };
        let busy = || "the agent is busy: try again".to_owned();
        self.changes.send_timeout(change, ANSWER).map_err(|_late| busy())?;
        let applied = answered.recv_timeout(ANSWER).map_err(|_late| busy())??;
        let told = told(&changes, &restart, &applied, guarded_before, &guarded);
        *running = (settings, guarded);
        drop(running);
        Ok(told)
    }
}

/// Two configurations as one.
struct Merged {
    /// What is to be in force.
    settings: Settings,
    /// What changes, key by key.
    changes: Vec<String>,
    /// What is wanted and needs a restart.
    restart: Vec<String>,
}

fn merge(before: &Settings, wanted: &Settings) -> Result<Merged, String> {
    let ignore = before.ignore.clone();
    let table = |settings: &Settings| Table::try_from(settings).map_err(|error| error.to_string());
    let (before, mut wanted) = (table(before)?, table(wanted)?);
    let (old, new) = (flat(&before), flat(&wanted));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let (mut changes, mut restart) = (Vec::new(), Vec::new());
    for key in keys {
        let (old, new) = (old.get(key), new.get(key));
        if old == new {
            continue;
        }
        let shown =
            |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        if is_applied(key) {
            changes.push(format!("{key}: {} -> {}", shown(old), shown(new)));
        } else {
            restart.push(format!("{key}: {} stays until a restart", shown(old)));
        }
    }
    // What needs a restart stays as it is.
    for (section, value) in &mut wanted {
        if SECTIONS.contains(&section.as_str()) {
            continue;
        }
        let mut kept = before.get(section).cloned().unwrap_or_else(|| value.clone());
        for (_, key) in KEYS.iter().filter(|(of, _)| of == section) {
            if let (Value::Table(kept), Some(new)) = (&mut kept, value.get(key)) {
                kept.insert((*key).to_owned(), new.clone());
            }
        }
        *value = kept;
    }
    let mut settings: Settings =
        wanted.try_into().map_err(|error: toml::de::Error| error.to_string())?;
    // Without rules the list is not written at all, so it is neither kept nor left out above.
    settings.ignore = ignore;
    Ok(Merged { settings, changes, restart })
}

/// Is this key, `section.key`, applied while the agent runs?
fn is_applied(path: &str) -> bool {
    let section = path.split(['.', '[']).next().unwrap_or_default();
    SECTIONS.contains(&section) || KEYS.iter().any(|(of, key)| path == format!("{of}.{key}"))
}

/// Keys by their path. A group is told by its name, whatever its place.
fn flat(table: &Table) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    walk(&format!("{path}.{key}"), value, into);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_table) => {
                for (number, item) in items.iter().enumerate() {
                    let name = item.get("name").and_then(Value::as_str);
                    let name = name.map_or_else(|| number.to_string(), ToOwned::to_owned);
                    walk(&format!("{path}[{name}]"), item, into);
                }
            }
            _ => drop(into.insert(path.trim_start_matches('.').to_owned(), value.clone())),
        }
    }
    let mut keys = BTreeMap::new();
    walk("", &Value::Table(table.clone()), &mut keys);
    keys
}

/// What an operator is told.
fn told(
    changes: &[String],
    restart: &[String],
    applied: &Applied,
    before: &Guarded,
    after: &Guarded,
) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for change in changes {
        let _infallible = writeln!(text, "{change}");
    }
    let networks::Applied { joined, left, kept, .. } = &applied.networks;
    list(&mut text, "guarded now", joined.iter().map(ToString::to_string));
    list(&mut text, "guarded no more", left.iter().map(ToString::to_string));
    list(&mut text, "guarded until its ban is over", kept.iter().map(ToString::to_string));
    let whitelist = |of: &Guarded| -> BTreeSet<String> {
        of.whitelist.iter().map(|prefix| prefix.to_string()).collect()
    };
    let (old, new) = (whitelist(before), whitelist(after));
    list(&mut text, "whitelisted now", new.difference(&old).cloned());
    list(&mut text, "whitelisted no more", old.difference(&new).cloned());
    for remark in after.remarks.iter().filter(|remark| !before.remarks.contains(remark)) {
        let _infallible = writeln!(text, "remark: {remark}");
    }
    for line in &applied.told {
        let _infallible = writeln!(text, "{line}");
    }
    for key in restart {
        let _infallible = writeln!(text, "{key}");
    }
    if let Some(failed) = &applied.failed {
        let _infallible = writeln!(text, "not all of it: {failed}");
    }
    if text.is_empty() { "nothing changed".to_owned() } else { text.trim_end().to_owned() }
}

fn list(text: &mut String, what: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    for item in items.iter().take(TOLD) {
        let _infallible = writeln!(text, "{what}: {item}");
    }
    if items.len() > TOLD {
        let _infallible = writeln!(text, "{what}: {} more", items.len() - TOLD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[track_caller]
    fn check(before: &str, wanted: &str, changes: &[&str], restart: &[&str], in_force: &str) {
        let merged = merge(&settings(before), &settings(wanted)).unwrap();
        assert_eq!(merged.changes, changes);
        assert_eq!(merged.restart, restart);
        assert_eq!(merged.settings, settings(in_force));
    }

    #[test]
    fn what_can_change_changes_and_the_rest_stays_and_is_told() {
        check("", "", &[], &[], "");
        check(
            "[thresholds]\npps = 5\n",
            "[notify]\nargs = 3\n[capture]\nengine = \"auto\"\nthreads = 3\n",
            &["notify.args: 4 -> 3", "thresholds.pps: 5 -> 30000"],
            &[
                "capture.engine: \"xdp\" stays until a restart",
                "capture.threads: 0 stays until a restart",
            ],
            "[notify]\nargs = 3\n",
        );
        check(
            "[networks]\nlist = \"a\"\nipv6_hosts = 5\n[control]\nsocket = \"s\"\n",
            "[networks]\nlist = \"b\"\nipv6_hosts = 7\n[journal]\npath = \"\"\n",
            &["networks.list: \"a\" -> \"b\""],
            &[
                "control.socket: \"s\" stays until a restart",
                "journal.path: \"/var/lib/fastnetmon/journal\" stays until a restart",
                "networks.ipv6_hosts: 5 stays until a restart",
            ],
            "[networks]\nlist = \"b\"\nipv6_hosts = 5\n[control]\nsocket = \"s\"\n",
        );
    }

    #[test]
    fn rules_of_what_is_ignored_stay_until_a_restart_and_so_do_none() {
        let rules = "[[ignore]]\nprotocol = 6\n";
        let more = "[[ignore]]\nprotocol = 6\n[[ignore]]\nsource_port = 53\n";
        check("", rules, &[], &["ignore[0].protocol: nothing stays until a restart"], "");
        check(rules, "", &[], &["ignore[0].protocol: \"tcp\" stays until a restart"], rules);
        check(rules, more, &[], &["ignore[1].source_port: nothing stays until a restart"], rules);
    }

    #[test]
    fn lists_of_tables_are_told_by_name() {
        let table: Table =
            "[[group]]\nname = \"a\"\npps = 1\n[[group]]\npps = 2\n".parse().unwrap();
        let keys: Vec<String> = flat(&table).into_keys().collect();
        assert_eq!(keys, ["group[1].pps", "group[a].name", "group[a].pps"]);
        assert!(is_applied("group[a].pps") && is_applied("networks.whitelist"));
        assert!(!is_applied("networks.openvz_veip") && !is_applied("banana.time_secs"));
    }

    #[test]
    fn a_long_list_is_cut() {
        let mut text = String::new();
        list(&mut text, "guarded now", (0..25).map(|number| number.to_string()));
        assert!(text.ends_with("guarded now: 19\nguarded now: 5 more\n"), "{text}");
    }
}
