//! What a console asks and only the tick knows: one host, what happened, networks without traffic.
//!
//! **Invariant**: changes nothing, and lends nobody a line. What it costs the tick is bounded by
//! [`EVENTS`], by one dump and by [`LINES`].

use std::net::IpAddr;
use std::sync::Arc;

use crate::control::{Ban, ClassSpeed, EVENTS, Event, Happened, HostView, Networks, Reply, Way};
use crate::counters::Counters;
use crate::model::{Class, Direction, HostId, Prefix, Wall};
use crate::networks::Territory;
use crate::rates::RateFrame;
use crate::reports::{self, Gatherer, What};
use crate::verdicts::{self, Alert, Cause, Ending, Verdict};

/// Lines that are looked at for one question: 8 MB of what was read last.
const LINES: usize = 65_536;

/// Networks that are named, of those nothing was counted for.
const SILENT: usize = 100;

/// What happened after `after`, oldest first.
pub(super) fn events(told: &mut Gatherer, now: Wall, after: u64) -> Reply {
    let kept = told.events();
    let from = kept.partition_point(|event| event.number <= after);
    Reply::Events(Happened {
        unix_secs: now.unix.as_secs(),
        last: kept.last().map_or(0, |event| event.number),
        events: kept.iter().skip(from).take(EVENTS).map(|event| shown(event)).collect(),
    })
}

/// Networks for which nothing was counted. At most [`LINES`] lines are looked at: networks that are
/// too large are left out.
pub(super) fn networks(counters: &Counters, territory: &Territory) -> Reply {
    let mut networks = Networks {
        guarded: u64::try_from(territory.ours().len()).unwrap_or(u64::MAX),
        ..Networks::default()
    };
    // The small ones first, so that a large one does not take the place of many.
    let is_small = |network: &Prefix| network.address().is_ipv6() || network.len() >= 24;
    let (small, large): (Vec<Prefix>, Vec<Prefix>) = territory.ours().iter().partition(is_small);
    let mut left = LINES;
    for network in small.into_iter().chain(large) {
        let mut lines = territory.lines_of(network).take(left);
        let mut looked = 0;
        let moved = lines.by_ref().inspect(|_| looked += 1).any(|line| counters.moved(line));
        left -= looked;
        if !moved && left == 0 {
            continue;
        }
        networks.looked_at += 1;
        if !moved {
            networks.silent += 1;
            if networks.first.len() < SILENT {
                networks.first.push(network.to_string());
            }
        }
    }
    Reply::Networks(networks)
}

/// What one host does, and what happened to it.
pub(super) fn host(
    told: &mut Gatherer,
    territory: &Territory,
    latest: &RateFrame,
    ip: IpAddr,
    ban: Option<Ban>,
) -> Result<Reply, String> {
    // A ban may stand for a host that is guarded no more.
    if !territory.guards(ip) && ban.is_none() {
        return Err(format!("`{ip}` is in none of our networks"));
    }
    let line = territory.line(ip);
    let speeds = |direction| line.map(|line| speeds(latest, line, direction)).unwrap_or_default();
    Ok(Reply::Host(Box::new(HostView {
        ip,
        has_line: line.is_some(),
        incoming: speeds(Direction::Incoming),
        outgoing: speeds(Direction::Outgoing),
        ban,
        events: history(&told.events(), ip),
    })))
}

fn speeds(latest: &RateFrame, line: HostId, direction: Direction) -> Vec<ClassSpeed> {
    let load = latest.load(line, direction);
    let speed = |class: Class| {
        let speed = load.class(class);
        ClassSpeed { class: class.name().to_owned(), pps: speed.pps, bps: speed.bits() }
    };
    Class::ALL.into_iter().map(speed).collect()
}

/// The host's part of what happened, with the packets of its last dump.
fn history(kept: &[Arc<reports::Event>], ip: IpAddr) -> Vec<Event> {
    let mut has_packets = false;
    let mut events = Vec::new();
    for event in kept.iter().rev() {
        let What::Verdict { verdict, .. } = &event.what else { continue };
        if verdict.ban().is_none_or(|ban| ban.address != ip) {
            continue;
        }
        let mut shown = shown(event);
        if let Verdict::Details(_, seen) = verdict
            && !seen.is_empty()
            && !has_packets
        {
            has_packets = true;
            shown.packets = seen.iter().map(ToString::to_string).collect();
        }
        events.push(shown);
        if events.len() == EVENTS {
            break;
        }
    }
    events.reverse();
    events
}

fn shown(event: &reports::Event) -> Event {
    let (what, about, direction, text) = match &event.what {
        What::Verdict { verdict, .. } => {
            let about = match verdict.ban() {
                Some(ban) => ban.address.to_string(),
                None => verdict.about().to_string(),
            };
            let (direction, text) = told(verdict);
            (verdict.name(), Some(about), Some(way(direction)), text)
        }
        What::Alarm(text) => ("alarm", None, None, text.to_string()),
        What::AlarmOver(text) => ("alarm_over", None, None, text.to_string()),
    };
    Event {
        number: event.number,
        unix_secs: event.unix.as_secs(),
        what: what.to_owned(),
        about,
        direction,
        text,
        packets: Vec::new(),
    }
}

/// A verdict for people.
fn told(verdict: &Verdict) -> (Direction, String) {
    match verdict {
        Verdict::Ban(ban) => {
            let dry = if ban.dry_run { "dry run: " } else { "" };
            (ban.direction, format!("{dry}{}", why(ban)))
        }
        Verdict::Details(ban, packets) => {
            (ban.direction, format!("{} packets of the attack", packets.len()))
        }
        Verdict::Unban(ban, ending) => {
            let ending = match ending {
                Ending::Over => "its time is over, and the attack".to_owned(),
                Ending::Operator { reason } => by_operator(reason.as_deref()),
            };
            let (peak, total) = (ban.peak_pps, ban.total);
            let text = format!(
                "{ending}; at most {peak} pps, {} packets, {} bytes",
                total.packets, total.bytes
            );
            (ban.direction, text)
        }
        Verdict::Alert(alert) => {
            let Alert { direction, hosts, pps, .. } = alert;
            (*direction, format!("{pps} pps at {hosts} hosts of this network"))
        }
        Verdict::Calm(alert) => {
            (alert.direction, format!("calm again; at most {} pps", alert.peak_pps))
        }
    }
}

fn why(ban: &verdicts::Ban) -> String {
    match &ban.cause {
        Cause::Rule { subject, measure, threshold, measured } => {
            let (subject, measure) = (subject.name(), measure.name());
            let (kind, because) = (ban.attack.kind.name(), &ban.attack.because);
            format!("{subject}: {measured} of {threshold} {measure}; {kind}: {because}")
        }
        Cause::Operator { reason } => by_operator(reason.as_deref()),
    }
}

fn by_operator(reason: Option<&str>) -> String {
    reason.map_or_else(|| "by an operator".to_owned(), |reason| format!("by an operator: {reason}"))
}

const fn way(direction: Direction) -> Way {
    match direction {
        Direction::Incoming => Way::Incoming,
        Direction::Outgoing => Way::Outgoing,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::capture::{Frame, Intake as _, Starts};
    use crate::counters::{Rules, Writer};
    use crate::model::{Moment, Seen, Sides};
    use crate::networks::{Plan, PrefixSet};
    use crate::reports::Wants;
    use crate::tables::own;

    const VICTIM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

    fn told() -> Gatherer {
        Gatherer::new(Arc::new(Wants::default()), None, Vec::new())
    }

    fn at(secs: u64) -> Wall {
        Wall { read_at: Moment::default(), unix: Duration::from_secs(secs) }
    }

    fn alarm(told: &mut Gatherer, secs: u64, text: &str) {
        told.alarms(at(secs), &[text.to_owned()]);
    }

    fn numbers(reply: &Reply) -> (u64, Vec<u64>) {
        let Reply::Events(happened) = reply else { panic!("{reply:?}") };
        (happened.last, happened.events.iter().map(|event| event.number).collect())
    }

    fn seen(port: u16) -> Seen {
        Seen { ports: (port, 80), bytes: 100, ..Seen::of([203, 0, 113, 9], VICTIM) }
    }

    /// Shows a packet to these hosts, and asks which of these networks had none.
    fn silent(ours: &[&str], hosts: &[&str]) -> Networks {
        let ours = PrefixSet::merged(ours.iter().map(|net| Prefix::parse_masked(net).unwrap().0)).0;
        let (plan, writes) = Plan::new(&ours, 16).unwrap();
        let shape = plan.shape(NonZeroU32::MIN, 7);
        let (parts, mut rows) = own(shape).unwrap();
        let territory =
            Territory::new(ours, plan, &writes, shape, vec![parts.directory], vec![parts.flags]);
        let mut counters = Counters::new(vec![parts.lines], Moment::default());
        let (notices, _noticed) = crossbeam_channel::bounded(9);
        let rules = Rules { sparse_every: 0, decapsulate: false };
        let mut writer =
            Writer::new(Arc::default(), notices, Arc::default()).counting(rows.remove(0), rules);
        for host in hosts {
            let bytes = match host.parse().unwrap() {
                IpAddr::V4(host) => {
                    let mut bytes = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 203, 0, 113, 9];
                    bytes.extend(host.octets());
                    bytes.extend([0, 53, 0, 80, 0, 8, 0, 0]);
                    bytes
                }
                IpAddr::V6(host) => {
                    let mut bytes = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
                    bytes.extend([0x11; 16]);
                    bytes.extend(host.octets());
                    bytes.extend([0, 53, 0, 80, 0, 8, 0, 0]);
                    bytes
                }
            };
            let (bytes, wire_bytes) = (bytes.as_slice(), u32::try_from(bytes.len()).ok());
            let frame = Frame { bytes, starts: Starts::Ip, wire_bytes, piece: 0 };
            writer.frame(Moment::after_boot(Duration::from_secs(9)), Sides::Destination, &frame);
        }
        let _reading = counters.read(Moment::after_boot(Duration::from_secs(10)));
        match networks(&counters, &territory) {
            Reply::Networks(networks) => networks,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check_silent(ours: &[&str], hosts: &[&str], looked_at: u64, expected: &[&str]) {
        let found = silent(ours, hosts);
        let (guarded, count) = (ours.len().try_into().unwrap(), expected.len().try_into().unwrap());
        assert_eq!((found.guarded, found.looked_at, found.silent), (guarded, looked_at, count));
        assert_eq!(found.first, expected);
    }

    #[test]
    fn networks_without_a_packet_are_named_as_far_as_lines_are_looked_at() {
        let ours = ["192.0.2.0/24", "198.51.100.128/25", "203.0.113.7/32", "2001:db8::/32"];
        check_silent(&ours, &[], 4, &ours);
        check_silent(&ours, &["192.0.2.255", "2001:db8:1::7"], 4, &ours[1..3]);
        check_silent(&ours, &["203.0.113.7", "198.51.100.255"], 4, &["192.0.2.0/24", ours[3]]);
        // The other half of the /24 is nobody's, and its packets make no network of ours loud.
        check_silent(&ours[1..2], &["198.51.100.1"], 1, &ours[1..2]);
        // One that is too large comes last and is left out, unless a packet is found early.
        let large = ["10.0.0.0/15", "192.0.2.0/24", "2001:db8::1/128"];
        check_silent(&large, &[], 2, &large[1..]);
        check_silent(&large, &["10.0.0.9", "192.0.2.1"], 3, &large[2..]);
    }

    #[test]
    fn events_come_oldest_first_and_in_parts() {
        let mut told = told();
        assert_eq!(numbers(&events(&mut told, at(9), 0)), (0, vec![]));
        // Each alarm that is new ends the one before it.
        for number in 0..130_u8 {
            alarm(&mut told, 1, &format!("{}.", char::from(b'A' + number % 26)));
        }
        let (last, first) = numbers(&events(&mut told, at(9), 0));
        assert_eq!((last, first.len(), first[0]), (259, EVENTS, 1));
        let (_, rest) = numbers(&events(&mut told, at(9), 200));
        assert_eq!((rest.len(), rest[0], rest[58]), (59, 201, 259));
        assert!(numbers(&events(&mut told, at(9), 259)).1.is_empty());
    }

    #[test]
    fn a_host_has_its_own_events_and_the_packets_of_its_last_dump() {
        let mut told = told();
        let ban = verdicts::Ban::of(VICTIM);
        let other = verdicts::Ban::of([192, 0, 2, 10]);
        alarm(&mut told, 1, "The port is gone.");
        for verdict in [
            Verdict::Ban(ban.clone()),
            Verdict::Ban(other.clone()),
            Verdict::Details(ban.clone(), Arc::from([seen(1)])),
            Verdict::Unban(ban.clone(), Ending::Over),
            Verdict::Ban(ban.clone()),
            Verdict::Details(ban.clone(), Arc::from([seen(2), seen(3)])),
            Verdict::Details(ban, Arc::from([])),
            Verdict::Details(other, Arc::from([seen(4)])),
        ] {
            told.note(at(5), &verdict, None);
        }
        let events = history(&told.events(), VICTIM);
        let whats: Vec<(u64, &str, usize)> = events
            .iter()
            .map(|event| (event.number, event.what.as_str(), event.packets.len()))
            .collect();
        let expected = [
            (2, "ban", 0),
            (4, "attack_details", 0),
            (5, "unban", 0),
            (6, "ban", 0),
            (7, "attack_details", 2),
            (8, "attack_details", 0),
        ];
        assert_eq!(whats, expected);
        assert_eq!(
            events[4].packets[0],
            "203.0.113.9:2 > 192.0.2.9:80 protocol: udp size: 100 bytes"
        );
    }
}
