//! Packets: are they seen, and are they those of our networks?
//!
//! **Invariant**: pure. A prefix is named when packets of it came by, and never because it might.

use crate::control::Severity::{Failure, Note, Warning};
use crate::control::{Status, Totals};
use crate::doctor::agent::percent;
use crate::doctor::findings::{Chart, again_as_root, shell};
use crate::doctor::{Agent, Answer, Facts, Id, Outside};

/// Fewer packets than this say nothing.
const ENOUGH: u64 = 20;

/// Prefixes that are named, at most.
const NAMED: usize = 5;

/// Networks that are named, at most.
const SILENT: usize = 3;

/// Everything about packets.
pub(super) fn traffic(facts: &Facts, chart: &mut Chart) {
    if let Agent::Answers(answer) = &facts.agent {
        packets(facts, answer, chart);
        directions(facts, answer, chart);
        silent(answer, chart);
    }
    matching(facts, chart);
    private(facts, chart);
}

/// What the ports received and sent while we looked.
fn at_the_ports(facts: &Facts) -> u64 {
    facts.ports.iter().map(|port| port.gained.received + port.gained.sent).sum()
}

fn packets(facts: &Facts, answer: &Answer, chart: &mut Chart) {
    let Answer { before, after, .. } = answer;
    let counted = after.packets.received.saturating_sub(before.packets.received);
    let secs = facts.span.as_secs_f64();
    let passed = at_the_ports(facts);
    let names = after.interfaces.join(", ");
    if counted > 0 {
        let seen =
            format!("The agent counted {counted} packets in {secs:.1} s; {passed} passed {names}.");
        chart.fine(Id::Packets, None, seen);
    } else if passed >= ENOUGH {
        let why = why_blind(facts, after);
        let seen = format!(
            "{passed} frames passed {names} in {secs:.1} s and the agent counted none of them: {why}."
        );
        let mend = vec!["systemctl restart fastnetmon".to_owned()];
        chart.put(Id::Packets, Failure, None, seen, mend);
    } else if after.packets.received == 0 {
        let seen = format!(
            "Neither {names} nor the agent counted anything in {secs:.1} s ({passed} frames passed), \
             and the agent nothing since its start: traffic takes another interface, or none."
        );
        chart.put(
            Id::Packets,
            Warning,
            None,
            seen,
            vec!["ip -s -brief link".to_owned(), "ip -s link".to_owned()],
        );
    } else {
        let seen = format!(
            "It is quiet: {passed} frames passed {names} in {secs:.1} s; {} were counted before.",
            after.packets.received
        );
        chart.note(Id::Packets, None, seen);
    }
}

/// Why an agent sees nothing where the port counts.
fn why_blind(facts: &Facts, status: &Status) -> String {
    if let Some(alarm) = status.alarms.first() {
        return format!("it says: {}", alarm.trim_end_matches('.'));
    }
    if status.engine.starts_with("xdp") {
        let bare = facts
            .ports
            .iter()
            .find(|port| port.described.as_ref().is_some_and(|described| described.xdp.is_none()));
        if let Some(port) = bare {
            return format!("no XDP program hangs on {}", port.name);
        }
    }
    match status.engine.as_str() {
        "nflog" => "no rule of the firewall logs them to its group".to_owned(),
        "xdp" | "xdp_generic" => {
            "another program takes them before XDP (DPDK, AF_XDP), or they only leave".to_owned()
        }
        other => {
            format!("its engine {other} shows nothing; its sockets may be of an older interface")
        }
    }
}

fn directions(facts: &Facts, answer: &Answer, chart: &mut Chart) {
    let Totals { incoming, outgoing, .. } = answer.after.totals;
    let role = &answer.after.role;
    let mend = || {
        vec![
            facts.wanted.set("capture", "role", "\"mirror\""),
            "systemctl restart fastnetmon".to_owned(),
        ]
    };
    let (many, few, missing, mend) = if incoming.packets >= outgoing.packets {
        let mend =
            if role == "uplink" { mend() } else { vec!["ip route get 192.0.2.1".to_owned()] };
        (incoming.packets, outgoing.packets, "outgoing", mend)
    } else {
        (outgoing.packets, incoming.packets, "incoming", vec!["ip -s link".to_owned()])
    };
    let seen = format!("{} packets incoming, {} outgoing.", incoming.packets, outgoing.packets);
    // Under a flood a handful of answers is all there is; none at all, after many, says something.
    if many >= 1000 && few == 0 {
        let why = if missing == "outgoing" && role == "uplink" {
            "the port may be a mirror, or answers leave by another interface"
        } else if missing == "outgoing" {
            "the mirror may copy one direction only"
        } else {
            "packets arrive by another interface, or the mirror copies one direction only"
        };
        let seen = format!("{seen} Nothing {missing} was ever seen: {why}.");
        chart.put(Id::Directions, Note, None, seen, mend);
    } else {
        chart.fine(Id::Directions, None, seen);
    }
}

fn silent(answer: &Answer, chart: &mut Chart) {
    let Some(networks) = &answer.networks else { return };
    let total = answer.after.totals;
    let counted = total.incoming.packets + total.outgoing.packets + total.internal.packets;
    if networks.silent == 0 || counted == 0 {
        if networks.silent == 0 && counted > 0 {
            let seen = format!(
                "All {} networks that were looked at (of {}) had packets.",
                networks.looked_at, networks.guarded
            );
            chart.fine(Id::SilentNetworks, None, seen);
        }
        return;
    }
    let named: Vec<&str> = networks.first.iter().take(SILENT).map(String::as_str).collect();
    let more = networks.silent.saturating_sub(u64::try_from(named.len()).unwrap_or(u64::MAX));
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let seen = format!(
        "{} of {} networks had no packet since the start: {}{and_more}.",
        networks.silent,
        networks.looked_at,
        named.join(", ")
    );
    let mend = named.first().map(|network| format!("ip route show {network}"));
    chart.put(Id::SilentNetworks, Note, None, seen, mend.into_iter().collect());
}

/// Packets that touched us, and those that did not.
fn shares(facts: &Facts) -> (u64, u64, &'static str) {
    if let Agent::Answers(answer) = &facts.agent {
        let Answer { before, after, .. } = &**answer;
        let ours = |totals: &Totals| {
            totals.incoming.packets + totals.outgoing.packets + totals.internal.packets
        };
        let gained = (
            ours(&after.totals).saturating_sub(ours(&before.totals)),
            after.totals.other.packets.saturating_sub(before.totals.other.packets),
        );
        if gained.0 + gained.1 >= ENOUGH {
            return (gained.0, gained.1, "counted by the agent while we looked");
        }
        let all = (ours(&after.totals), after.totals.other.packets);
        if all.0 + all.1 >= ENOUGH {
            return (all.0, all.1, "counted by the agent since its start");
        }
    }
    let Outcome { ours, others } = Outcome::of(facts);
    (ours, others, "seen on the ports while we looked")
}

struct Outcome {
    ours: u64,
    others: u64,
}

impl Outcome {
    const fn of(facts: &Facts) -> Self {
        let look = &facts.look;
        Self { ours: look.ours, others: look.packets.saturating_sub(look.ours) }
    }
}

fn matching(facts: &Facts, chart: &mut Chart) {
    if facts.wanted.networks.error.is_some() {
        return;
    }
    let (ours, others, whence) = shares(facts);
    let all = ours + others;
    if all < ENOUGH {
        let blind = facts.look.blind.as_deref();
        if let (Some(reason), false) = (blind, matches!(facts.agent, Agent::Answers(_))) {
            chart.note(Id::Match, None, format!("Packets could not be looked at: {reason}."));
        }
        return;
    }
    let share = percent(others, all);
    if others.saturating_mul(2) < all {
        let seen = format!("{ours} of {all} packets ({whence}) are of our networks.");
        chart.fine(Id::Match, None, seen);
        return;
    }
    let severity = if ours == 0 { Failure } else { Warning };
    let list = facts.wanted.networks.list.display().to_string();
    let outside = likely(&facts.look.outside);
    let named: Vec<String> = outside
        .iter()
        .map(|outside| {
            format!("{} ({})", outside.prefix, percent(outside.packets, facts.look.packets))
        })
        .collect();
    let told = match &facts.look.blind {
        _ if !named.is_empty() => {
            format!("Of {} that were looked at: {}", facts.look.packets, named.join(", "))
        }
        Some(reason) => format!("Whose they are could not be looked at: {reason}"),
        None => "Their prefixes are spread too widely to be ours".to_owned(),
    };
    let seen = format!(
        "{others} of {all} packets ({whence}), {share}, touch none of the {} networks in {list}. \
         {told}. Add what is yours.",
        facts.wanted.networks.ours.len()
    );
    let mut mend = Vec::new();
    // Behind a line that is not ended the first one needs a new one.
    let mut begin = if facts.wanted.networks.ends_with_line { "" } else { "\\n" };
    for outside in &outside {
        mend.push(format!("printf '{begin}{}\\n' >> {}", outside.prefix, shell(&list)));
        begin = "";
    }
    if !mend.is_empty() {
        mend.push(reload(facts));
    } else if facts.look.blind.is_some() {
        // The agent has given its rights to look back; who types this has them.
        mend.push(again_as_root(facts));
    } else {
        let interface = facts.ports.first().map_or("eth0", |port| &port.name);
        mend.push(format!("tcpdump -n -c 50 -i {} ip or ip6", shell(interface)));
    }
    chart.put(Id::Match, severity, None, seen, mend);
}

/// Prefixes that many of the packets share.
fn likely(outside: &[Outside]) -> Vec<&Outside> {
    let all: u64 = outside.iter().map(|outside| outside.packets).sum();
    let likely = outside.iter().filter(|one| one.packets.saturating_mul(10) >= all);
    likely.take(NAMED).collect()
}

/// How the agent is told of it.
fn reload(facts: &Facts) -> String {
    let socket = facts.wanted.socket.display().to_string();
    if socket == "/run/fastnetmon/control.sock" {
        "fastnetmon reload".to_owned()
    } else {
        format!("fastnetmon reload --socket {}", shell(&socket))
    }
}

fn private(facts: &Facts, chart: &mut Chart) {
    let private: Vec<&Outside> =
        facts.look.outside.iter().filter(|outside| outside.is_private()).take(NAMED).collect();
    if private.is_empty() {
        return;
    }
    let named: Vec<String> =
        private.iter().map(|one| format!("{} ({} packets)", one.prefix, one.packets)).collect();
    let seen = format!(
        "Private addresses that are not in our networks pass the ports: {}. Behind NAT an uplink \
         shows public addresses when packets leave, and private ones on the inside.",
        named.join(", ")
    );
    chart.note(Id::PrivateRanges, None, seen);
}
