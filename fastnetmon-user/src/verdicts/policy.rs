//! What the judge goes by: the settings, resolved for each group.
//!
//! **Invariant**: nothing is inherited any more. A group's rules are all of its rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Direction, Prefix};
use crate::networks::{GroupId, Groups, PrefixSet};
use crate::rates::Pace;
use crate::verdicts::rules::Rules;
use crate::verdicts::settings::{ActionName, Ways};
use crate::verdicts::{BanSettings, Deeds, GroupSettings, Measure, Thresholds};

/// What the judge goes by.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How speeds are made of counts.
    pub pace: Pace,
    /// How long packets are collected before the details are told with what is there.
    pub details_deadline: Duration,
    /// Who is never banned.
    pub whitelist: PrefixSet,
    /// Bans within a minute, more than which is an alarm; 0: as many as it takes.
    pub max_bans_per_minute: u32,
    pub(super) finish: Finish,
    pub(super) probe: Option<Probe>,
    pub(super) groups: Groups,
    /// By [`GroupId`]; the first is everybody else.
    pub(super) scopes: Vec<Scope>,
}

/// When an attack is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Finish {
    /// A ban waits for it.
    pub(super) only: bool,
    /// Below so much of the threshold.
    pub(super) percent: u64,
    /// For so long.
    pub(super) calm: Duration,
}

/// How bans grow for who attacks again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Probe {
    pub(super) within: Duration,
    pub(super) longest: Duration,
}

/// The rules and consequences of one group.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) name: Arc<str>,
    /// Its hosts are banned.
    pub(super) bans: bool,
    /// How long at least; `None`: until an operator ends it.
    pub(super) ban_time: Option<Duration>,
    pub(super) dry_run: bool,
    pub(super) deeds: Deeds,
    pub(super) host: [Rules; 2],
    pub(super) prefix: [Rules; 2],
    pub(super) sum: [Rules; 2],
}

/// Why settings make no policy, or not the one that was meant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyRemark {
    /// A group guards nobody there.
    #[error("group `{group}`: `{prefix}` lies in none of our networks, so nobody there is counted")]
    Outside {
        /// Which group.
        group: String,
        /// Which of its networks.
        prefix: Prefix,
    },
}

impl Default for Policy {
    /// What an empty configuration says.
    fn default() -> Self {
        Self::new(
            &Thresholds::default(),
            &BanSettings::default(),
            &GroupSettings::default(),
            PrefixSet::default(),
            Duration::from_secs(5),
        )
    }
}

impl Policy {
    /// Resolves settings.
    pub fn new(
        thresholds: &Thresholds,
        ban: &BanSettings,
        groups: &GroupSettings,
        whitelist: PrefixSet,
        details_deadline: Duration,
    ) -> Self {
        let nothing = Ways::default();
        let host = thresholds.host();
        let prefix = thresholds.prefix.clone().unwrap_or_default();
        let time = |secs: u64| Some(secs).filter(|&secs| secs != 0).map(Duration::from_secs);
        let both =
            |ways: &[&Ways]| Direction::BOTH.map(|direction| Rules::resolve(direction, ways));
        let everybody = Scope {
            name: "".into(),
            bans: ban.enabled,
            ban_time: time(ban.time_secs),
            dry_run: ban.dry_run,
            deeds: deeds(ban.actions.as_ref(), None),
            host: both(&[&host]),
            prefix: both(&[&prefix]),
            sum: both(&[]),
        };
        let mut scopes = vec![everybody];
        let mut members = Vec::new();
        for (number, group) in (1..).zip(groups.iter()) {
            members.extend(group.networks.iter().map(|prefix| (prefix, GroupId(number))));
            let own = group.thresholds.as_ref().unwrap_or(&nothing);
            let own_prefix = group.prefix.as_ref().unwrap_or(&nothing);
            let sum = group.sum.as_ref().unwrap_or(&nothing);
            scopes.push(Scope {
                name: group.name.as_str().into(),
                bans: ban.enabled && group.ban.unwrap_or(true),
                ban_time: time(group.ban_time_secs.unwrap_or(ban.time_secs)),
                dry_run: ban.dry_run || group.dry_run.unwrap_or(false),
                deeds: deeds(
                    group.actions.as_ref().or(ban.actions.as_ref()),
                    group.script.as_deref(),
                ),
                host: both(&[own, &host]),
                prefix: both(&[own_prefix, &prefix]),
                sum: both(&[sum]),
            });
        }
        Self {
            pace: match thresholds.average_secs {
                Some(average) => Pace::Average(average.duration()),
                None => Pace::Window(thresholds.window_ms.duration()),
            },
            details_deadline,
            whitelist,
            max_bans_per_minute: ban.max_bans_per_minute,
            finish: Finish {
                only: ban.only_if_finished,
                percent: ban.finished_below_percent.into(),
                calm: Duration::from_secs(ban.finished_secs),
            },
            probe: ban.probe.then(|| Probe {
                within: Duration::from_secs(ban.probe_within_secs),
                longest: Duration::from_secs(ban.probe_longest_secs),
            }),
            groups: Groups::new(members),
            scopes,
        }
    }

    /// What an operator may have meant in another way.
    pub fn remarks(groups: &GroupSettings, ours: &PrefixSet) -> Vec<PolicyRemark> {
        let mut remarks = Vec::new();
        for group in groups.iter() {
            for prefix in group.networks.iter() {
                let within = ours.covering(prefix).is_some();
                if !within && !ours.iter().any(|own| prefix.contains(own.address())) {
                    let group = group.name.as_str().to_owned();
                    remarks.push(PolicyRemark::Outside { group, prefix });
                }
            }
        }
        remarks
    }

    /// The lowest threshold that any host could exceed in this direction, so that what is below all
    /// of them need not be looked at.
    pub fn lowest(&self, direction: Direction, measure: Measure) -> Option<u64> {
        let banning = self.scopes.iter().filter(|scope| scope.bans);
        banning.filter_map(|scope| scope.host(direction).lowest(measure)).min()
    }

    /// The lowest threshold that a host of one group could exceed.
    pub fn lowest_of(&self, group: GroupId, direction: Direction, measure: Measure) -> Option<u64> {
        let scope = self.scope(group).filter(|scope| scope.bans)?;
        scope.host(direction).lowest(measure)
    }

    /// All groups, the one of everybody else first.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        (0..).zip(&self.scopes).map(|(number, _)| GroupId(number))
    }

    /// Which hosts are in which group.
    pub const fn members(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn scope(&self, group: GroupId) -> Option<&Scope> {
        self.scopes.get(usize::from(group.0)).or_else(|| self.scopes.first())
    }

    /// All of it, key by key.
    fn described(&self) -> BTreeMap<String, String> {
        let mut told = BTreeMap::new();
        for scope in &self.scopes {
            let of = if scope.name.is_empty() {
                String::new()
            } else {
                format!("group `{}`: ", scope.name)
            };
            let mut tell = |key: &str, value: String| {
                told.insert(format!("{of}{key}"), value);
            };
            tell("bans", yes(scope.bans).to_owned());
            tell(
                "ban time",
                scope.ban_time.map_or_else(|| "until an operator ends it".to_owned(), secs),
            );
            tell("dry run", yes(scope.dry_run).to_owned());
            tell("actions", actions(&scope.deeds));
            if let Some(script) = &scope.deeds.script_path {
                tell("script", script.display().to_string());
            }
            for (direction, rules) in Direction::BOTH.into_iter().zip(&scope.host) {
                rules.tell(&mut |rule, value| {
                    tell(&format!("{} {rule}", direction.name()), value);
                });
            }
            for (what, ways) in [("prefix", &scope.prefix), ("sum", &scope.sum)] {
                for (direction, rules) in Direction::BOTH.into_iter().zip(ways) {
                    rules.tell(&mut |rule, value| {
                        tell(&format!("{what} {} {rule}", direction.name()), value);
                    });
                }
            }
        }
        let mut tell = |key: &str, value: String| {
            told.insert(key.to_owned(), value);
        };
        match self.pace {
            Pace::Window(window) => tell("window", format!("{} ms", window.as_millis())),
            Pace::Average(over) => tell("average", secs(over)),
        }
        let Finish { only, percent, calm } = self.finish;
        tell("only if finished", yes(only).to_owned());
        tell("finished", format!("below {percent} % for {}", secs(calm)));
        if let Some(Probe { within, longest }) = self.probe {
            tell("probe", format!("within {}, up to {}", secs(within), secs(longest)));
        }
        tell("most bans a minute", self.max_bans_per_minute.to_string());
        tell("details deadline", secs(self.details_deadline));
        for (number, scope) in (0..).zip(&self.scopes).skip(1) {
            let members = self.groups.members(GroupId(number));
            let members: Vec<String> = members.iter().map(ToString::to_string).collect();
            tell(&format!("group `{}`: networks", scope.name), members.join(", "));
        }
        let whitelist: Vec<String> = self.whitelist.iter().map(|p| p.to_string()).collect();
        tell("whitelist", whitelist.join(", "));
        told
    }

    /// The rules of every group in sentences, and how soon they find an attack.
    pub fn in_words(&self, tick: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        for scope in &self.scopes {
            let name = if scope.name.is_empty() { "everybody else" } else { &scope.name };
            if !scope.bans {
                lines.push(format!("{name}: nobody is banned"));
                continue;
            }
            for (direction, rules) in Direction::BOTH.into_iter().zip(&scope.host) {
                let mut told = Vec::new();
                rules.tell(&mut |rule, value| told.push(format!("{rule} {value}")));
                let told = if told.is_empty() { "no limit".to_owned() } else { told.join(", ") };
                lines.push(format!("{name}: {}: {told}", direction.name()));
            }
            let delay = |tenths| self.pace.delay(tenths, tick).as_secs_f64();
            let [small, twice, ten] = [11, 20, 100].map(delay);
            lines.push(format!(
                "{name}: found {small:.2} s after it began when 1.1 times the threshold, {twice:.2} s \
                 when twice, {ten:.2} s when ten times"
            ));
        }
        lines
    }

    /// What another policy has that this one has not, and the other way round, in lines.
    pub fn difference(&self, new: &Self) -> Vec<String> {
        let (old, new) = (self.described(), new.described());
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        keys.into_iter()
            .filter_map(|key| match (old.get(key), new.get(key)) {
                (old, new) if old == new => None,
                (Some(old), Some(new)) => Some(format!("{key}: {old} -> {new}")),
                (Some(old), None) => Some(format!("{key}: {old} -> none")),
                (_, new) => Some(format!("{key}: none -> {}", new.map_or("", String::as_str))),
            })
            .collect()
    }
}

impl Scope {
    pub(super) const fn host(&self, direction: Direction) -> &Rules {
        let [incoming, outgoing] = &self.host;
        match direction {
            Direction::Incoming => incoming,
            Direction::Outgoing => outgoing,
        }
    }
}

impl Rules {
    fn tell(&self, tell: &mut impl FnMut(String, String)) {
        for rule in &self.0 {
            let key = format!("{} {}", rule.subject.name(), rule.measure.name());
            let share = rule.share_percent.map(|share| format!(" and {share} % of the packets"));
            tell(key, format!("{}{}", rule.threshold, share.unwrap_or_default()));
        }
    }
}

fn deeds(actions: Option<&BTreeSet<ActionName>>, script: Option<&Path>) -> Deeds {
    let is = |name| actions.is_none_or(|actions| actions.contains(&name));
    Deeds {
        script: is(ActionName::Script),
        script_path: script.map(Arc::from),
        xdp_drop: is(ActionName::XdpDrop),
        webhook: is(ActionName::Webhook),
        log_file: is(ActionName::LogFile),
    }
}

fn actions(deeds: &Deeds) -> String {
    let Deeds { script, script_path: _, xdp_drop, webhook, log_file } = *deeds;
    let all =
        [("script", script), ("xdp_drop", xdp_drop), ("webhook", webhook), ("log_file", log_file)];
    let named: Vec<&str> = all.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn secs(span: Duration) -> String {
    format!("{} s", span.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        group: GroupSettings,
    }

    fn policy(thresholds: &str, groups: &str) -> Policy {
        let file: File = toml::from_str(groups).unwrap();
        Policy::new(
            &toml::from_str(thresholds).unwrap(),
            &BanSettings::default(),
            &file.group,
            PrefixSet::default(),
            Duration::from_secs(5),
        )
    }

    const WEB: &str = "[[group]]\nname = \"web\"\nnetworks = [\"192.0.2.0/25\"]\n";

    #[test]
    fn a_difference_names_what_changed_and_nothing_else() {
        let old = policy("", "");
        let new = policy(
            "pps = 50000\nmbps = 900",
            &format!("{WEB}ban_time_secs = 60\nthresholds.outgoing.pps = \"off\"\n"),
        );
        let told = old.difference(&new);
        for line in [
            "incoming total pps: 30000 -> 50000",
            "outgoing total pps: 30000 -> 50000",
            "incoming total mbps: none -> 900",
            "group `web`: ban time: none -> 60 s",
            "group `web`: networks: none -> 192.0.2.0/25",
        ] {
            assert!(told.iter().any(|told| told == line), "{line}: {told:#?}");
        }
        assert!(!told.iter().any(|told| told.contains("web`: outgoing total pps")), "{told:#?}");
        assert!(new.difference(&new).is_empty());
        assert_eq!(
            new.difference(&old).iter().filter(|line| line.ends_with("-> none")).count(),
            told.iter().filter(|line| line.contains(": none ->")).count()
        );
    }

    #[test]
    fn the_lowest_threshold_is_that_of_whoever_can_be_banned() {
        let group = |rules: &str| format!("{WEB}{rules}\n");
        let low =
            policy("", &group("thresholds = { tcp_syn = { pps = 500 }, udp = { mbps = 9 } }"));
        assert_eq!(low.lowest(Direction::Incoming, Measure::Pps), Some(500));
        assert_eq!(low.lowest(Direction::Outgoing, Measure::Mbps), Some(9));
        let idle = policy("", &group("ban = false\nthresholds = { pps = 500 }"));
        assert_eq!(idle.lowest(Direction::Incoming, Measure::Pps), Some(30_000));
        assert_eq!(idle.lowest(Direction::Incoming, Measure::Mbps), None);
    }

    #[test]
    fn a_group_outside_our_networks_is_told() {
        let ours =
            ["192.0.2.0/24", "10.1.0.0/16"].map(|text| Prefix::parse_masked(text).unwrap().0);
        let ours = PrefixSet::merged(ours).0;
        let text = "[[group]]\nname = \"a\"\nnetworks = [\"192.0.2.0/26\", \"10.0.0.0/8\", \
                    \"10.2.0.0/16\", \"2001:db8::/32\"]\n";
        let file: File = toml::from_str(text).unwrap();
        let told: Vec<String> =
            Policy::remarks(&file.group, &ours).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("group `a`: `10.2.0.0/16` lies in none of our networks"));
        assert!(told[1].contains("`2001:db8::/32`"));
    }
}
