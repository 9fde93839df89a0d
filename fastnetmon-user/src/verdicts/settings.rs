//! `[thresholds]`, `[ban]` and `[[group]]`: what is too much, for whom, and what then.
//!
//! **Invariant**: what is read here cannot be wrong by itself: zeros, nonsense and contradictions are
//! refused while the file is read, with the place.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Prefix;
use crate::verdicts::Subject;

/// What hosts may do that are in no group.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// What one host may get, and what it may send.
    pub pps: Ceiling,
    /// The same in megabits, by the length of the IP packets. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbps: Option<Ceiling>,
    /// In which packets are counted: a host is banned as soon as more came within any such window
    /// than the threshold allows for it.
    pub window_ms: WindowMs,
    /// Instead of a window, an exponential average with this time constant, looked at once a tick.
    /// Bans between two readings do not happen then. Absent: the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_secs: Option<AverageSecs>,
    /// TCP, SYN included. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ClassLimits>,
    /// TCP with SYN and without ACK. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_syn: Option<ClassLimits>,
    /// UDP. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<ClassLimits>,
    /// ICMP. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<ClassLimits>,
    /// Fragments, which are in no other class. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment: Option<ClassLimits>,
    /// To the host only; each key goes before what holds in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<Limits>,
    /// From the host only; each key goes before what holds in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Limits>,
    /// The same keys, for all hosts of a /24 together, and of a /64, /56 or /48: an **alert**,
    /// never a ban, see below. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Ways>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            pps: Ceiling::At(30_000),
            mbps: None,
            window_ms: WindowMs(1000),
            average_secs: None,
            tcp: None,
            tcp_syn: None,
            udp: None,
            icmp: None,
            fragment: None,
            incoming: None,
            outgoing: None,
            prefix: None,
        }
    }
}

/// Limits that hold one way.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Packets a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pps: Option<Ceiling>,
    /// Megabits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbps: Option<Ceiling>,
    /// TCP, SYN included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ClassLimits>,
    /// TCP with SYN and without ACK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_syn: Option<ClassLimits>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<ClassLimits>,
    /// ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<ClassLimits>,
    /// Fragments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment: Option<ClassLimits>,
}

/// Limits of a class of packets.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ClassLimits {
    /// Packets a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pps: Option<Ceiling>,
    /// Megabits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbps: Option<Ceiling>,
    /// Only where more than so many percent of the packets are of this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<Percent>,
}

/// Limits that hold both ways, and what each way has of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Ways {
    /// Packets a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pps: Option<Ceiling>,
    /// Megabits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbps: Option<Ceiling>,
    /// TCP, SYN included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ClassLimits>,
    /// TCP with SYN and without ACK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_syn: Option<ClassLimits>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<ClassLimits>,
    /// ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<ClassLimits>,
    /// Fragments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment: Option<ClassLimits>,
    /// To the hosts only; goes before what both have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<Limits>,
    /// From the hosts only; goes before what both have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Limits>,
}

impl Limits {
    /// The limits of one class.
    pub(super) const fn of(&self, subject: Subject) -> Option<&ClassLimits> {
        match subject {
            Subject::Total => None,
            Subject::Tcp => self.tcp.as_ref(),
            Subject::TcpSyn => self.tcp_syn.as_ref(),
            Subject::Udp => self.udp.as_ref(),
            Subject::Icmp => self.icmp.as_ref(),
            Subject::Fragment => self.fragment.as_ref(),
        }
    }
}

impl Ways {
    /// What holds both ways.
    pub(super) fn both(&self) -> Limits {
        let Self { pps, mbps, tcp, tcp_syn, udp, icmp, fragment, incoming: _, outgoing: _ } =
            self.clone();
        Limits { pps, mbps, tcp, tcp_syn, udp, icmp, fragment }
    }
}

impl Thresholds {
    /// What holds for one host.
    pub(super) fn host(&self) -> Ways {
        let Self { mbps, tcp, tcp_syn, udp, icmp, fragment, incoming, outgoing, .. } = self.clone();
        let pps = Some(self.pps);
        Ways { pps, mbps, tcp, tcp_syn, udp, icmp, fragment, incoming, outgoing }
    }
}

/// A number that may not be exceeded, or the word that it is not checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ceiling {
    /// Not checked, whatever is inherited.
    Off,
    /// One more is too much.
    At(u64),
}

impl Ceiling {
    /// The number, where there is one.
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::At(number) => Some(number),
        }
    }
}

impl TryFrom<u64> for Ceiling {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, &'static str> {
        if number == 0 {
            return Err(
                "0 would be exceeded by every packet, and everybody banned: give a number \
                        above it, or \"off\" so that it is not checked",
            );
        }
        Ok(Self::At(number))
    }
}

impl<'de> Deserialize<'de> for Ceiling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Ceiling;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number above 0, or \"off\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Ceiling, E> {
                match u64::try_from(number) {
                    Ok(number) => Ceiling::try_from(number).map_err(E::custom),
                    Err(_negative) => Err(E::custom(format!(
                        "{number} cannot be exceeded: give a number above 0, or \"off\""
                    ))),
                }
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Ceiling, E> {
                match word {
                    "off" => Ok(Ceiling::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Serialize for Ceiling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::At(number) => serializer.serialize_u64(*number),
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Ceiling {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ceiling".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "off" }]
        })
    }
}

/// Makes a number type of its own that refuses what lies outside its bounds.
macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $range:expr, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u64);

        impl TryFrom<u64> for $name {
            type Error = String;

            fn try_from(number: u64) -> Result<Self, String> {
                if $range.contains(&number) {
                    return Ok(Self(number));
                }
                let (least, most) = ($range.start(), $range.end());
                Err(format!("{number} is out of range: {} can be {least} to {most}", $what))
            }
        }

        impl From<$name> for u64 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}

bounded!(
    /// A part of a hundred.
    Percent,
    (1..=100),
    "a percentage"
);
bounded!(
    /// How long packets are counted. What is longer is an average.
    WindowMs,
    (100..=10_000),
    "`window_ms`"
);
bounded!(
    /// Over how long is averaged.
    AverageSecs,
    (1..=3600),
    "`average_secs`"
);

impl WindowMs {
    /// As a span of time.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl AverageSecs {
    /// As a span of time.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

/// What a ban is like.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key by itself")]
pub struct BanSettings {
    /// Hosts are banned. If not, everything is counted and shown, and nobody is judged; operators
    /// can still ban.
    pub enabled: bool,
    /// The least time a ban lasts. 0: until `fastnetmon unban`.
    pub time_secs: u64,
    /// A ban ends only when the attack is over as well. If not, with its time, and a host that
    /// still exceeds a threshold is banned anew.
    pub only_if_finished: bool,
    /// Over means: the host stays at or below so many percent of every threshold of that
    /// direction…
    pub finished_below_percent: Percent,
    /// …for so long. A reading that came too late to be judged is no calm time.
    pub finished_secs: u64,
    /// Who is banned again within `probe_within_secs` after its ban ended is banned for twice as
    /// long, then four times, and so on up to `probe_longest_secs`. Behind a blackhole nothing of
    /// the attack is seen, so each end of a ban is a trial.
    pub probe: bool,
    /// What is soon: see `probe`.
    pub probe_within_secs: u64,
    /// The longest that a trial makes a ban: see `probe`.
    pub probe_longest_secs: u64,
    /// The fuse. More bans by rules within a minute are taken for a mistake (a wrong threshold, a
    /// mirror that shows everything twice): the loudest are banned, then nobody, and an alarm says
    /// so. It mends when a minute went by in which no more than so many were to be banned, or by
    /// `fastnetmon resume`. Bans that stand run their course; those of operators are not counted.
    /// 0: no fuse.
    pub max_bans_per_minute: u32,
    /// Everything but the deed: bans are made, told and ended, marked as dry runs, and no action
    /// is taken.
    pub dry_run: bool,
    /// Actions that are taken, of those that are configured. Absent: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeSet<ActionName>>,
}

impl Default for BanSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            time_secs: 1900,
            only_if_finished: true,
            finished_below_percent: Percent(80),
            finished_secs: 5,
            probe: true,
            probe_within_secs: 300,
            probe_longest_secs: 86_400,
            max_bans_per_minute: 60,
            dry_run: false,
            actions: None,
        }
    }
}

/// Something that can be done about a ban.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ActionName {
    /// The program of `[notify]`.
    Script,
    /// The kernel drops.
    XdpDrop,
    /// An HTTP endpoint is told.
    Webhook,
    /// A report is written.
    LogFile,
}

/// Hosts with rules of their own.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What it is called in logs and reports. Refused: empty, longer than 64, anything but
    /// letters, digits, `_`, `-`, `.`; two of the same name.
    pub name: GroupName,
    /// Who is in it. Refused: none; host bits set; the same network in two groups.
    pub networks: GroupNetworks,
    /// Its hosts are banned. Absent: they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban: Option<bool>,
    /// The least time a ban lasts. 0: until `fastnetmon unban`. Absent: as `[ban]` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban_time_secs: Option<u64>,
    /// Everything but the deed; a dry run for all holds for every group. Absent: as `[ban]` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Actions that are taken. Absent: as `[ban]` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeSet<ActionName>>,
    /// The program to call for its hosts. Absent: that of `[notify]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<PathBuf>,
    /// What one of its hosts may do: the keys of `[thresholds]` but for `window_ms`,
    /// `average_secs` and `prefix`. Each key that is absent is inherited; `"off"` ends that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Ways>,
    /// What a /24, /64, /56 or /48 within it may do; inherited key by key from
    /// `[thresholds.prefix]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Ways>,
    /// What all its hosts together may do: an alert. Absent: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<Ways>,
}

/// All groups.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<Group>", into = "Vec<Group>")]
pub struct GroupSettings(Vec<Group>);

impl GroupSettings {
    /// One by one, as they are written.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.0.iter()
    }

    /// Is there none?
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Groups, at most: a group is a number of 16 bits, and 0 is taken.
const MOST_GROUPS: usize = 4096;

impl TryFrom<Vec<Group>> for GroupSettings {
    type Error = String;

    fn try_from(groups: Vec<Group>) -> Result<Self, String> {
        if groups.len() > MOST_GROUPS {
            return Err(format!("{} groups: there can be {MOST_GROUPS}", groups.len()));
        }
        let mut names = BTreeSet::new();
        let mut networks: std::collections::BTreeMap<Prefix, &str> =
            std::collections::BTreeMap::new();
        for group in &groups {
            let name = group.name.as_str();
            if !names.insert(name) {
                return Err(format!("two groups are called `{name}`: give each a name of its own"));
            }
            for &prefix in &group.networks.0 {
                if let Some(other) = networks.insert(prefix, name) {
                    return Err(format!(
                        "`{prefix}` is in group `{other}` and in group `{name}`: a network can be in \
                         one group, and the longest prefix decides"
                    ));
                }
            }
        }
        Ok(Self(groups))
    }
}

impl From<GroupSettings> for Vec<Group> {
    fn from(groups: GroupSettings) -> Self {
        groups.0
    }
}

/// What a group is called: it stands in logs, reports and metrics.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

impl GroupName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GroupName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(format!(
                "`{name}` is no name for a group: 1 to 64 letters, digits, `_`, `-` and `.`"
            ));
        }
        Ok(Self(name))
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> Self {
        name.0
    }
}

/// The networks of a group: at least one, without host bits.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct GroupNetworks(Vec<Prefix>);

impl GroupNetworks {
    /// One by one, as they are written.
    pub fn iter(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.0.iter().copied()
    }
}

impl TryFrom<Vec<String>> for GroupNetworks {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        if texts.is_empty() {
            return Err("a group without networks: name at least one".to_owned());
        }
        let read = |text: &String| {
            let (prefix, masked) = Prefix::parse_masked(text).map_err(|error| error.to_string())?;
            if masked {
                return Err(format!("`{text}` has host bits: write `{prefix}`"));
            }
            Ok(prefix)
        };
        texts.iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

impl From<GroupNetworks> for Vec<String> {
    fn from(networks: GroupNetworks) -> Self {
        networks.0.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its reading is looked at")]
    struct File {
        group: Option<GroupSettings>,
        thresholds: Option<Thresholds>,
    }

    #[track_caller]
    fn check(text: &str, line: usize, expected: &str) {
        let error = toml::from_str::<File>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&format!("line {line},")), "{error}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        check("[thresholds]\ntcp_syn = { pps = 0 }\n", 2, "0 would be exceeded by every packet");
        check("[thresholds.incoming]\nmbps = -4\n", 2, "-4 cannot be exceeded");
        check("[thresholds]\nmbps = \"none\"\n", 2, "a number above 0, or \"off\"");
        check("[thresholds]\nudp = { share_percent = 101 }\n", 2, "a percentage can be 1 to 100");
        check("[thresholds]\nwindow_ms = 20000\n", 2, "`window_ms` can be 100 to 10000");
        check("[thresholds]\naverage_secs = 0\n", 2, "`average_secs` can be 1 to 3600");
        check("[thresholds]\nsyn = { pps = 5 }\n", 2, "unknown field `syn`");
        check("[[group]]\nname = \"a b\"\nnetworks = [\"10.0.0.0/8\"]\n", 2, "`a b` is no name");
        check("[[group]]\nname = \"a\"\nnetworks = [\"10.0.0.1/8\"]\n", 3, "write `10.0.0.0/8`");
        check("[[group]]\nname = \"a\"\nnetworks = []\n", 3, "name at least one");
        check(
            "[[group]]\nname = \"a\"\nnetworks = [\"10.0.0.0/8\"]\nactions = [\"bgp\"]\n",
            4,
            "unknown variant `bgp`",
        );
    }

    #[test]
    fn groups_are_told_apart() {
        let group = |name: &str, network: &str| {
            format!("[[group]]\nname = \"{name}\"\nnetworks = [\"{network}\"]\n")
        };
        check(
            &(group("a", "10.0.0.0/8") + &group("a", "11.0.0.0/8")),
            1,
            "two groups are called `a`",
        );
        check(
            &(group("a", "10.0.0.0/8") + &group("b", "10.0.0.0/8")),
            1,
            "`10.0.0.0/8` is in group `a` and in group `b`",
        );
        let nested = group("a", "10.0.0.0/8") + &group("b", "10.1.0.0/16");
        assert!(toml::from_str::<File>(&nested).is_ok());
    }
}
