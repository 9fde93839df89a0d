//! The agent: does it answer, and what does it say of itself?
//!
//! **Invariant**: pure.

use crate::capture::EngineName;
use crate::control::Severity::{Failure, Note, Warning};
use crate::control::{PROTOCOL_VERSION, Status};
use crate::doctor::findings::{Chart, shell};
use crate::doctor::{Agent, Answer, Facts, Id};

/// Of a thousand packets, so many may be lost before it is more than a note.
const LOSS_PER_MILLE: u64 = 1;

/// Of a hundred packets, so many may be unreadable.
const UNREADABLE_PERCENT: u64 = 1;

/// Reasons why a frame cannot be read, and what each means.
const REASONS: [(&str, &str); 4] = [
    (
        "short",
        "frames end before their IP header does: a snaplen that is too small, or cut mirrors",
    ),
    (
        "not_ip",
        "frames carry something else than IP: LLDP, STP, IS-IS, or an encapsulation that is not looked through",
    ),
    (
        "version",
        "the IP version contradicts the link header: a mirror that rewrites frames, or garbage",
    ),
    ("nested", "more than three VLAN tags or four MPLS labels"),
];

/// Does one answer?
pub(super) fn running(facts: &Facts, chart: &mut Chart) {
    let start = || {
        let file = shell(&facts.wanted.file.display().to_string());
        vec![
            "systemctl enable --now fastnetmon".to_owned(),
            format!("fastnetmon run --config {file}"),
        ]
    };
    let (seen, mend) = match &facts.agent {
        Agent::Answers(answer) => {
            let Status { version, engine, engine_reason, role, uptime_secs, .. } = &answer.after;
            let seen = format!(
                "The agent {version} (protocol {PROTOCOL_VERSION}) runs for {uptime_secs} s: engine \
                 {engine} ({engine_reason}), role {role}."
            );
            chart.fine(Id::Agent, None, seen);
            return;
        }
        Agent::Nobody(reason) => {
            (format!("No agent is running: {reason}. Nothing is counted."), start())
        }
        Agent::Forbidden(reason) => (
            format!("The agent may not be asked: {reason}."),
            vec!["usermod -aG fastnetmon \"$(id -un)\"".to_owned(), "newgrp fastnetmon".to_owned()],
        ),
        Agent::Foreign(reason) => (
            format!("The agent is of another version: {reason}."),
            vec!["systemctl restart fastnetmon".to_owned()],
        ),
        Agent::Lost(reason) => (
            format!("The agent did not answer to the end: {reason}."),
            vec!["journalctl -u fastnetmon -n 50".to_owned()],
        ),
    };
    chart.put(Id::Agent, Failure, None, seen, mend);
}

/// What it says of itself.
pub(super) fn health(facts: &Facts, chart: &mut Chart) {
    let Agent::Answers(answer) = &facts.agent else { return };
    alarms(answer, chart);
    loss(answer, chart);
    unparsed(facts, answer, chart);
    tick(facts, answer, chart);
    if !facts.wanted.bans {
        let seen = "Nobody is judged: `enabled` in `[ban]` is false.".to_owned();
        let mend = vec![facts.wanted.set("ban", "enabled", "true")];
        chart.put(Id::Bans, Note, None, seen, mend);
    }
}

fn alarms(answer: &Answer, chart: &mut Chart) {
    let alarms = &answer.after.alarms;
    for alarm in alarms {
        let is_blind = alarm.contains("capture is broken")
            || alarm.contains("is gone or down")
            || alarm.contains("was deleted and made anew");
        let severity = if is_blind { Failure } else { Warning };
        let mend = vec![alarm_mend(alarm).to_owned()];
        chart.put(Id::Alarm, severity, None, format!("The agent says: {alarm}"), mend);
    }
    if alarms.is_empty() {
        chart.fine(Id::Alarm, None, "The agent has no alarm.".to_owned());
    }
}

/// Where to begin with an alarm.
fn alarm_mend(alarm: &str) -> &'static str {
    if alarm.contains("made anew") {
        "systemctl restart fastnetmon"
    } else if alarm.contains("fuse is blown") {
        "fastnetmon resume"
    } else if alarm.contains("gone or down") {
        "ip -brief link"
    } else {
        "journalctl -u fastnetmon -n 50"
    }
}

fn loss(answer: &Answer, chart: &mut Chart) {
    let Answer { before, after, .. } = answer;
    let gained = after.packets.dropped.saturating_sub(before.packets.dropped);
    let received = after.packets.received.saturating_sub(before.packets.received);
    let (lost, total) = (after.packets.dropped, after.packets.received);
    let is_much = |lost: u64, received: u64| {
        lost.saturating_mul(1000) > (received + lost).saturating_mul(LOSS_PER_MILLE)
    };
    let (severity, seen) = if is_much(gained, received) {
        let share = percent(gained, received + gained);
        (
            Warning,
            format!(
                "{gained} packets were lost while we looked, {share} of what came: they are counted nowhere."
            ),
        )
    } else if is_much(lost, total) {
        let share = percent(lost, total + lost);
        (Warning, format!("{lost} packets were lost since the start, {share} of what came."))
    } else if lost > 0 {
        chart.note(Id::Loss, None, format!("{lost} of {total} packets were lost since the start."));
        return;
    } else {
        chart.fine(Id::Loss, None, format!("None of {total} packets was lost."));
        return;
    };
    let mend = vec!["fastnetmon tune".to_owned(), "fastnetmon tune --apply".to_owned()];
    chart.put(Id::Loss, severity, None, seen, mend);
}

fn unparsed(facts: &Facts, answer: &Answer, chart: &mut Chart) {
    let file = shell(&facts.wanted.file.display().to_string());
    let packets = &answer.after.packets;
    let counts = packets.unparsed;
    let by_reason = [counts.short, counts.not_ip, counts.version, counts.nested];
    let unread: u64 = by_reason.iter().sum();
    if unread == 0 {
        let seen =
            format!("All but {} ARP frames of {} can be read.", counts.arp, packets.received);
        chart.fine(Id::Unparsed, None, seen);
        return;
    }
    for ((reason, meaning), count) in REASONS.into_iter().zip(by_reason) {
        if count == 0 {
            continue;
        }
        let is_much =
            count.saturating_mul(100) > packets.received.saturating_mul(UNREADABLE_PERCENT);
        let severity = if is_much { Warning } else { Note };
        let interface = answer.after.interfaces.first().map_or("eth0", String::as_str);
        let seen = format!(
            "{count} of {} frames cannot be read, reason `{reason}`: {meaning}.",
            packets.received
        );
        let mend = if is_much {
            vec![
                format!("tcpdump -i {} -c 200 -w frames.pcap", shell(interface)),
                format!("fastnetmon explain frames.pcap --config {file}"),
            ]
        } else {
            Vec::new()
        };
        chart.put(Id::Unparsed, severity, Some(reason), seen, mend);
    }
}

fn tick(facts: &Facts, answer: &Answer, chart: &mut Chart) {
    let micros = answer.after.tick_micros;
    let span = u64::try_from(facts.wanted.tick.as_micros()).unwrap_or(u64::MAX).max(1);
    let seen = format!("A reading takes {micros} µs of CPU, one each {} ms.", span / 1000);
    if micros.saturating_mul(2) > span {
        let mend = vec![
            facts.wanted.set("capture", "tick_ms", "1000"),
            "systemctl restart fastnetmon".to_owned(),
        ];
        chart.put(Id::Tick, Warning, None, seen, mend);
    } else if micros.saturating_mul(10) > span {
        chart.note(Id::Tick, None, seen);
    } else {
        chart.fine(Id::Tick, None, seen);
    }
}

/// Is this engine one that the kernel counts for?
pub(super) fn counts_in_kernel(engine: EngineName) -> bool {
    matches!(engine, EngineName::Xdp | EngineName::XdpGeneric | EngineName::Auto)
}

/// `0.12 %`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    if hundredths >= 1000 {
        format!("{} %", hundredths / 100)
    } else {
        format!("{}.{:02} %", hundredths / 100, hundredths % 100)
    }
}
