//! The words of the API.
//!
//! **Invariant**: values only, with the names and units that `/openapi.json` states; a rate is what
//! came within the last second. What changes here in a way that a reader can feel moves the path
//! from `v1`.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::model::{Class, Counts, Direction, PerSecond, Tally, Unparsed, Wall};
use crate::origins::Origins;
use crate::rates::Channel;
use crate::reports::history::{Point, Series};
use crate::reports::{Event, HostLoad, NetworkLoad, Report, What};
use crate::verdicts::{self, Cause, Ending, Verdict};
use crate::web::whence::Remotes;

/// Packets and bits a second.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(super) struct Speed {
    /// Packets a second.
    pub(super) pps: u64,
    /// Bits of IP packets a second.
    pub(super) bps: u64,
}

impl From<PerSecond> for Speed {
    fn from(rate: PerSecond) -> Self {
        Self { pps: rate.pps, bps: rate.bits() }
    }
}

/// A direction by class.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(super) struct Classes {
    tcp: Speed,
    tcp_syn: Speed,
    udp: Speed,
    icmp: Speed,
    fragment: Speed,
    other: Speed,
}

impl Classes {
    fn of(counts: &Counts, span: Duration) -> Self {
        let class = |class| Speed::from(counts.class(class).per_second(span));
        Self {
            tcp: class(Class::Tcp),
            tcp_syn: class(Class::Syn),
            udp: class(Class::Udp),
            icmp: class(Class::Icmp),
            fragment: class(Class::Fragment),
            other: class(Class::Other),
        }
    }
}

/// One kind of traffic.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(super) struct Traffic {
    /// Packets since the agent started.
    packets: u64,
    /// Bytes since the agent started.
    bytes: u64,
    /// Packets a second.
    pps: u64,
    /// Bits a second.
    bps: u64,
}

impl Traffic {
    const fn of(channel: Channel) -> Self {
        let Channel { total: Tally { packets, bytes }, per_second } = channel;
        Self { packets, bytes, pps: per_second.pps, bps: per_second.bits() }
    }
}

/// The whole at one moment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Totals {
    /// Seconds since 1970.
    unix: u64,
    /// To our hosts, from elsewhere.
    incoming: Traffic,
    /// From our hosts, to elsewhere.
    outgoing: Traffic,
    /// Between our hosts.
    internal: Traffic,
    /// Touching none of our hosts.
    other: Traffic,
    /// Incoming by class; `tcp` without its SYN packets.
    incoming_classes: Classes,
    /// Outgoing by class.
    outgoing_classes: Classes,
    /// Hosts that moved.
    hosts: u64,
    /// Bans that stand.
    bans: u64,
    /// What an operator should know, in sentences.
    alarms: Vec<String>,
    /// Packets lost before they were seen, since the agent started.
    dropped: u64,
}

impl Totals {
    pub(super) fn of(report: &Report) -> Self {
        let classes = |direction| {
            let families = &report.families;
            let mut counts = *families.v4.of(direction);
            counts += families.v6.of(direction);
            Classes::of(&counts, report.span)
        };
        Self {
            unix: report.unix.as_secs(),
            incoming: Traffic::of(report.totals.incoming),
            outgoing: Traffic::of(report.totals.outgoing),
            internal: Traffic::of(report.totals.internal),
            other: Traffic::of(report.totals.other),
            incoming_classes: classes(Direction::Incoming),
            outgoing_classes: classes(Direction::Outgoing),
            hosts: wide(report.moved),
            bans: wide(report.banned.len()),
            alarms: report.health.alarms.to_vec(),
            dropped: report.health.dropped,
        }
    }
}

/// How the agent is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Version of the agent.
    version: String,
    /// The engine that sees the packets.
    engine: String,
    /// `uplink` or `mirror`.
    role: String,
    /// The interfaces watched.
    interfaces: Vec<String>,
    /// Seconds since the agent started.
    uptime_secs: u64,
    /// Packets seen, readable or not.
    received: u64,
    /// Packets lost before they were seen.
    dropped: u64,
    /// Frames that could not be read.
    unparsed: Unread,
    /// Packets that a rule of `[[ignore]]` matches: received, and counted for nobody.
    ignored_packets: u64,
    /// Their bytes.
    ignored_bytes: u64,
    /// Bytes that frames carry beyond their IP packet.
    padding_bytes: u64,
    /// Packets for dumps that found no room.
    samples_lost: u64,
    /// Hints that found no room; the next reading is the net under them.
    hints_lost: u64,
    /// Microseconds of CPU that the last reading took.
    tick_micros: u64,
    /// IPv6 hosts with lines of their own.
    ipv6_hosts: u64,
    /// How many there may be.
    ipv6_room: u64,
    /// Calls of actions that wait.
    calls_waiting: u64,
    /// What an operator should know, in sentences.
    alarms: Vec<String>,
    /// What the agent's own look found; `null` until half a minute after its start.
    self_check: Option<SelfCheck>,
}

/// Counts of the agent's own look for mistakes; `fastnetmon doctor` tells all of it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct SelfCheck {
    failures: u64,
    warnings: u64,
}

/// Frames that could not be read, by reason.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(super) struct Unread {
    short: u64,
    not_ip: u64,
    version: u64,
    nested: u64,
    arp: u64,
}

impl Health {
    pub(super) fn of(report: &Report) -> Self {
        let health = &report.health;
        let unread: [u64; Unparsed::REASONS] = report.totals.unparsed.map(|tally| tally.packets);
        let [short, not_ip, version, nested, arp] = unread;
        Self {
            version: health.version.to_string(),
            engine: health.engine.to_string(),
            role: health.role.to_string(),
            interfaces: health.interfaces.to_vec(),
            uptime_secs: health.uptime.as_secs(),
            received: report.totals.received(),
            dropped: health.dropped,
            unparsed: Unread { short, not_ip, version, nested, arp },
            ignored_packets: report.totals.ignored.packets,
            ignored_bytes: report.totals.ignored.bytes,
            padding_bytes: report.totals.padding.bytes,
            samples_lost: health.samples_lost,
            hints_lost: report.totals.hints_lost,
            tick_micros: u64::try_from(health.tick.as_micros()).unwrap_or(u64::MAX),
            ipv6_hosts: health.residents.0,
            ipv6_room: health.residents.1,
            calls_waiting: health.waiting,
            alarms: health.alarms.to_vec(),
            self_check: health
                .self_check
                .map(|(failures, warnings)| SelfCheck { failures, warnings }),
        }
    }
}

/// A network.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Network {
    /// `192.0.2.0/24`.
    prefix: String,
    incoming: Speed,
    outgoing: Speed,
    /// Hosts of it that moved.
    hosts: u32,
}

impl Network {
    pub(super) fn of(load: &NetworkLoad, span: Duration) -> Self {
        let speed = |direction| load.gained.of(direction).total().per_second(span).into();
        Self {
            prefix: load.prefix.to_string(),
            incoming: speed(Direction::Incoming),
            outgoing: speed(Direction::Outgoing),
            hosts: load.moved,
        }
    }
}

/// A host.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Host {
    /// Its address.
    #[schema(value_type = String)]
    pub(super) ip: IpAddr,
    pub(super) incoming: Speed,
    pub(super) outgoing: Speed,
    /// Is it banned?
    pub(super) banned: bool,
}

impl Host {
    pub(super) fn of(load: &HostLoad, report: &Report) -> Self {
        let speed = |direction| report.per_second(load.total(direction)).into();
        Self {
            ip: load.address,
            incoming: speed(Direction::Incoming),
            outgoing: speed(Direction::Outgoing),
            banned: is_banned(report, load.address),
        }
    }
}

/// Does a ban of this address stand?
pub(super) fn is_banned(report: &Report, address: IpAddr) -> bool {
    report.banned.binary_search_by_key(&address, |ban| ban.address).is_ok()
}

/// Some of the hosts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Hosts {
    /// How many moved and match the filter.
    pub(super) matching: u64,
    /// Those that were asked for, in order.
    pub(super) hosts: Vec<Host>,
}

/// Everything about one host.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct HostDetail {
    #[serde(flatten)]
    pub(super) host: Host,
    /// Incoming by class.
    pub(super) incoming_classes: Classes,
    /// Outgoing by class.
    pub(super) outgoing_classes: Classes,
    /// The last five minutes, when it was among the loudest.
    pub(super) history: History,
    /// The ban that stands.
    pub(super) ban: Option<Ban>,
    /// Where the packets of its last dump came from, or went to; `null`: not known.
    pub(super) remotes: Option<Remotes>,
    /// What happened to it, among the last thousand events, oldest first.
    pub(super) events: Vec<Happening>,
}

impl HostDetail {
    pub(super) fn classes(
        load: Option<&HostLoad>,
        direction: Direction,
        span: Duration,
    ) -> Classes {
        load.map(|load| Classes::of(&load.counts(direction), span)).unwrap_or_default()
    }
}

/// A line of a chart, oldest first: one point a second for five minutes, and one for ten seconds
/// before.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct History {
    /// Seconds since 1970.
    unix: Vec<u64>,
    incoming_pps: Vec<u32>,
    outgoing_pps: Vec<u32>,
    incoming_bps: Vec<u64>,
    outgoing_bps: Vec<u64>,
}

impl History {
    pub(super) fn of(series: &Series) -> Self {
        let mut history = Self::default();
        for point in series.points() {
            let Point { unix, incoming_pps, outgoing_pps, incoming_bytes, outgoing_bytes } = point;
            history.unix.push(unix);
            history.incoming_pps.push(incoming_pps);
            history.outgoing_pps.push(outgoing_pps);
            history.incoming_bps.push(incoming_bytes.saturating_mul(8));
            history.outgoing_bps.push(outgoing_bytes.saturating_mul(8));
        }
        history
    }
}

/// A direction.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// To the host.
    #[default]
    Incoming,
    /// From the host.
    Outgoing,
}

impl Way {
    pub(super) const fn direction(self) -> Direction {
        match self {
            Self::Incoming => Direction::Incoming,
            Self::Outgoing => Direction::Outgoing,
        }
    }

    const fn of(direction: Direction) -> Self {
        match direction {
            Direction::Incoming => Self::Incoming,
            Direction::Outgoing => Self::Outgoing,
        }
    }
}

/// A ban that stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Ban {
    /// Its number, unique among all bans of this agent.
    id: String,
    #[schema(value_type = String)]
    ip: IpAddr,
    direction: Way,
    /// Packets a second when it was found.
    pps: u64,
    /// Packets a second at the worst moment so far.
    peak_pps: u64,
    /// Megabits a second at the worst moment so far.
    peak_mbps: u64,
    /// Why, in words.
    cause: String,
    /// `syn_flood`, `dns_amplification`, …
    attack: String,
    /// By what that is seen.
    evidence: String,
    /// The group whose rules apply; empty outside every group.
    group: String,
    /// Nothing is done about it.
    dry_run: bool,
    /// Seconds since 1970.
    since: u64,
    /// Seconds since 1970, at the earliest; `null`: until an operator ends it.
    until: Option<u64>,
    /// Where the packets of its dump came from, or went to; `null`: not known.
    remotes: Option<Remotes>,
}

impl Ban {
    pub(super) fn of(ban: &verdicts::Ban, wall: Wall, origins: &Origins) -> Self {
        Self {
            id: ban.id.0.to_string(),
            ip: ban.address,
            direction: Way::of(ban.direction),
            pps: ban.pps,
            peak_pps: ban.peak_pps,
            peak_mbps: ban.peak_mbps,
            cause: cause(&ban.cause),
            attack: ban.attack.kind.name().to_owned(),
            evidence: ban.attack.because.to_string(),
            group: ban.group.to_string(),
            dry_run: ban.dry_run,
            since: wall.unix_secs(ban.since),
            until: ban.until.map(|until| wall.unix_secs(until)),
            remotes: Remotes::of(origins, ban.id.0),
        }
    }
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Rule { subject, measure, threshold, measured } => {
            let (subject, measure) = (subject.name(), measure.name());
            format!("{subject}: {measured} {measure}, {threshold} are allowed")
        }
        Cause::Operator { reason: Some(reason) } => format!("an operator: {reason}"),
        Cause::Operator { reason: None } => "an operator".to_owned(),
    }
}

/// When the boot clock and the calendar were read for a report.
pub(super) const fn wall(report: &Report) -> Wall {
    Wall { read_at: report.at, unix: report.unix }
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Happening {
    /// Numbers rise by one; ask for those after the last one you know.
    pub(super) number: u64,
    /// Seconds since 1970.
    unix: u64,
    /// `ban`, `attack_details`, `unban`, `alert`, `calm`, `alarm`, `alarm_over`.
    kind: String,
    /// Whom it is about: an address or a prefix.
    about: Option<String>,
    /// In a sentence.
    text: String,
    /// The number of the ban, when it is about one.
    ban: Option<String>,
    /// Packets of the attack, one line each, with `attack_details`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    packets: Vec<String>,
}

impl Happening {
    pub(super) fn of(event: &Event, packets: Packets) -> Self {
        let (kind, about, text) = match &event.what {
            What::Verdict { verdict, .. } => {
                (verdict.name(), Some(short(verdict)), sentence(verdict))
            }
            What::Alarm(text) => ("alarm", None, text.to_string()),
            What::AlarmOver(text) => ("alarm_over", None, format!("No more: {text}")),
        };
        let verdict = match &event.what {
            What::Verdict { verdict, .. } => Some(verdict),
            What::Alarm(_) | What::AlarmOver(_) => None,
        };
        let lines = match (verdict, packets) {
            (Some(Verdict::Details(_, seen)), Packets::Shown) => {
                seen.iter().map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        };
        Self {
            number: event.number,
            unix: event.unix.as_secs(),
            kind: kind.to_owned(),
            about,
            text,
            ban: verdict.and_then(Verdict::ban).map(|ban| ban.id.0.to_string()),
            packets: lines,
        }
    }
}

/// Are packets told with their event?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Packets {
    Shown,
    Hidden,
}

fn short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ban(ban) | Verdict::Details(ban, _) | Verdict::Unban(ban, _) => {
            ban.address.to_string()
        }
        Verdict::Alert(alert) | Verdict::Calm(alert) => alert.prefix.to_string(),
    }
}

fn sentence(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ban(ban) => {
            let (kind, direction) = (ban.attack.kind.name(), ban.direction.name());
            let dry = if ban.dry_run { ", dry run" } else { "" };
            format!("{} banned: {direction} {kind}; {}{dry}", ban.address, cause(&ban.cause))
        }
        Verdict::Details(ban, seen) => {
            format!("{}: {} packets of its attack are kept", ban.address, seen.len())
        }
        Verdict::Unban(ban, ending) => {
            let why = match ending {
                Ending::Over => "the attack is over".to_owned(),
                Ending::Operator { reason: Some(reason) } => format!("an operator: {reason}"),
                Ending::Operator { reason: None } => "an operator".to_owned(),
            };
            format!("{} let go: {why}; peak {} pps", ban.address, ban.peak_pps)
        }
        Verdict::Alert(alert) => format!(
            "{}: {} of its hosts together, {} {} pps; {}",
            alert.prefix,
            alert.hosts,
            alert.direction.name(),
            alert.pps,
            cause(&alert.cause)
        ),
        Verdict::Calm(alert) => format!("{} is calm; peak {} pps", alert.prefix, alert.peak_pps),
    }
}

/// Some of the networks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Networks {
    /// How many match the filter.
    pub(super) matching: u64,
    /// Those that were asked for, in order.
    pub(super) networks: Vec<Network>,
}

/// Which hosts or networks, in which order.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `incoming` (the default) or `outgoing`.
    pub(super) direction: Way,
    /// `packets` (the default) or `bytes`, the loudest first; `address`: the lowest first, an order that
    /// stays as it is from page to page.
    pub(super) sort: Sort,
    /// An address or a network that they must lie in.
    pub(super) within: Option<String>,
    /// How many, 1000 at most; 50 when it is not said.
    pub(super) limit: Option<usize>,
    /// How many to leave out first.
    pub(super) offset: usize,
}

impl PageQuery {
    /// How many to leave out, and how many to tell.
    pub(super) fn range(&self) -> (usize, usize) {
        (self.offset, self.limit.unwrap_or(50).min(MOST))
    }
}

/// Hosts or networks in an answer.
pub(super) const MOST: usize = 1000;

/// By what hosts and networks are ordered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    #[default]
    Packets,
    Bytes,
    /// Not by how loud they are: it changes between two pages, this does not.
    Address,
}

/// Whom to ban.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BanOrder {
    /// Its address.
    #[schema(value_type = String)]
    pub(super) ip: IpAddr,
    /// Which way the attack goes; `incoming` when it is not said.
    #[serde(default)]
    pub(super) direction: Way,
    /// Why, for whoever reads it later.
    #[serde(default)]
    pub(super) reason: Option<String>,
    /// Seconds it lasts at least; `[ban] time_secs` when it is not said.
    #[serde(default)]
    pub(super) time_secs: Option<u64>,
}

/// What became of an order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// In a sentence.
    pub(super) done: String,
}

/// Why a request was not answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// What is wrong, and what to do about it.
    pub(super) error: String,
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
