//! Something to look at, for the tests of the console.
//!
//! Written in the words of the wire, so that a field that is added there costs nothing here.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::client::input::Key;
use crate::client::plain::Order;
use crate::client::state::{Intent, Message, State, Told};
use crate::control::{HostView, Status};

/// What time it is at the agent.
pub(super) const NOW: u64 = 1_795_615_316;

/// The host that is attacked.
pub(super) const VICTIM: &str = "192.0.2.9";

fn ban(ip: &str, direction: &str, pps: u64, age: u64, left: Option<u64>, cause: &str) -> Value {
    json!({
        "id": 1, "ip": ip, "direction": direction, "pps": pps, "peak_pps": pps * 2,
        "peak_mbps": 240, "packets": 90_000, "bytes": 90_000_000, "cause": cause,
        "rule": if cause == "operator" { "" } else { "total: 41022 of 30000 pps" },
        "reason": (cause == "operator").then_some("abuse report"),
        "kind": "udp_flood", "because": "99 % of the packets are udp",
        "group": if left == Some(0) { "customers" } else { "" },
        "dry_run": left == Some(0), "since": NOW - age, "until": left.map(|left| NOW + left),
        "drop": (ip == VICTIM).then(|| json!({
            "what": "udp from port 53", "rate_pps": 0, "until": NOW + 600,
            "dropped": { "packets": 9_000_000, "bytes": 9_000_000, "pps": 40_000, "bps": 4_000_000 },
        })),
        "remotes": (ip == VICTIM).then(|| json!({
            "packets": 100,
            "systems": [
                { "asn": 64_500, "name": "Example Net", "packets": 61, "bytes": 8906 },
                { "asn": 0, "name": "", "packets": 30, "bytes": 4380 },
                { "asn": 64_501, "name": "", "packets": 9, "bytes": 1314 },
            ],
            "countries": [
                { "country": "DE", "packets": 61, "bytes": 8906 },
                { "country": "", "packets": 39, "bytes": 5694 },
            ],
        })),
    })
}

fn hosts(loud: u64, count: u64) -> Vec<Value> {
    let host = |number: u64| {
        let ip = match number {
            0 => VICTIM.to_owned(),
            2 => "2001:db8:0:40::53".to_owned(),
            5 => "2001:db8:ffff::/48".to_owned(),
            number => format!("192.0.2.{}", 10 + number),
        };
        let pps = loud / (number + 1);
        json!({ "ip": ip, "pps": pps, "bps": pps * 4096, "banned": number == 0 })
    };
    (0..count).map(host).collect()
}

fn system(asn: u32, name: &str, samples: u64) -> Value {
    json!({ "asn": asn, "name": name, "samples": samples, "pps": samples * 17, "bps": samples * 99_000 })
}

fn country(country: &str, samples: u64) -> Value {
    json!({ "country": country, "samples": samples, "pps": samples * 17, "bps": samples * 99_000 })
}

/// A state of the agent in the middle of an attack, of this strength.
pub(super) fn status(pps: u64) -> Status {
    let traffic = |pps: u64| json!({ "packets": 9, "bytes": 9, "pps": pps, "bps": pps * 4096 });
    let value = json!({
        "version": "0.1.0", "engine": "xdp", "engine_reason": "it is named", "role": "uplink",
        "evidence": "ring", "interfaces": ["eth0"], "uptime_secs": 11_520,
        "totals": {
            "incoming": traffic(pps + 36_667), "outgoing": traffic(13_265),
            "internal": traffic(12), "other": traffic(1815), "dropped": traffic(0),
        },
        "packets": {
            "received": 6_516_913_578_u64, "dropped": 120,
            "unparsed": { "short": 1, "not_ip": 2, "version": 0, "nested": 0, "arp": 40 },
            "padding_bytes": 0, "redirected": 0, "samples_lost": 0, "hints_lost": 0,
        },
        "bans": [
            ban(VICTIM, "incoming", 41_022, 252, Some(1648), "threshold"),
            ban("192.0.2.200", "outgoing", 0, 90_000, None, "operator"),
            ban("2001:db8:0:40::ffff", "incoming", 30_500, 2000, Some(0), "threshold"),
        ],
        "hosts": {
            "incoming_packets": hosts(pps, 40), "outgoing_packets": hosts(1200, 4),
            "incoming_bytes": hosts(pps, 3), "outgoing_bytes": [],
        },
        "networks": 2, "ipv6": { "hosts": 2, "room": 32768, "evicted": 0, "refused": 0 },
        "tick_micros": 2690, "alarms": [],
        "origins": {
            "sample_every": 1024, "span_secs": 60,
            "incoming": {
                "samples": 3700,
                "systems": [system(64_500, "Example Net", 2200), system(0, "", 1200), system(64_501, "", 300)],
                "countries": [country("DE", 2200), country("FR", 900), country("", 600)],
            },
            "outgoing": { "samples": 0, "systems": [], "countries": [] },
        },
    });
    serde_json::from_value(value).unwrap()
}

fn event(number: u64, age: u64, what: &str, about: Option<&str>, text: &str) -> Value {
    json!({
        "number": number, "unix_secs": NOW - age, "what": what, "about": about,
        "direction": about.map(|_| "incoming"), "text": text,
    })
}

fn events() -> Vec<Value> {
    let why = "total: 41022 of 30000 pps; udp_flood: 99 % of the packets are udp";
    vec![
        event(1, 9000, "alarm", None, "Interface `eth1` is gone or down: nothing is seen there."),
        event(2, 8990, "alarm_over", None, "Interface `eth1` is gone or down."),
        event(
            3,
            7000,
            "ban",
            Some(VICTIM),
            "total: 33000 of 30000 pps; unknown: nothing stands out",
        ),
        event(4, 6995, "attack_details", Some(VICTIM), "100 packets of the attack"),
        event(
            5,
            5000,
            "unban",
            Some(VICTIM),
            "its time is over, and the attack; at most 35000 pps",
        ),
        event(6, 300, "alert", Some("192.0.2.0/24"), "50000 pps at 180 hosts of this network"),
        event(7, 252, "ban", Some(VICTIM), why),
        event(8, 251, "attack_details", Some(VICTIM), "100 packets of the attack"),
    ]
}

/// The host that is attacked, as the agent tells of it.
pub(super) fn victim() -> HostView {
    let speeds = |parts: [u64; 6]| -> Vec<Value> {
        let names = ["tcp", "tcp_syn", "udp", "icmp", "fragment", "other"];
        let speed =
            |(name, pps): (&str, u64)| json!({ "class": name, "pps": pps, "bps": pps * 4096 });
        names.into_iter().zip(parts).map(speed).collect()
    };
    let mut events: Vec<Value> =
        events().into_iter().filter(|event| event["about"] == VICTIM).collect();
    let packets: Vec<String> = (0..100)
        .map(|port| {
            format!("203.0.113.9:{} > {VICTIM}:4444 protocol: udp size: 146 bytes", 1000 + port)
        })
        .collect();
    events.last_mut().unwrap()["packets"] = json!(packets);
    serde_json::from_value(json!({
        "ip": VICTIM, "has_line": true,
        "incoming": speeds([120, 3, 59_800, 1, 0, 0]), "outgoing": speeds([80, 0, 2, 1, 0, 0]),
        "ban": ban(VICTIM, "incoming", 41_022, 252, Some(1648), "threshold"), "events": events,
    }))
    .unwrap()
}

/// A console that has been running for five minutes, an attack in the last four of them.
pub(super) fn console(size: (u16, u16)) -> State {
    static FIVE_MINUTES: LazyLock<State> = LazyLock::new(five_minutes);
    let mut state = FIVE_MINUTES.clone();
    state.update(Message::Size(size.0, size.1));
    state
}

fn five_minutes() -> State {
    let size = (80, 24);
    let mut state = State::new(Order::Packets, size);
    for age in (0..320).rev() {
        let pps = if age > 252 { 900 + age % 7 * 30 } else { 60_000 + (age * 37) % 5000 };
        let is_first = age == 319;
        let events =
            if is_first { serde_json::from_value(json!(events())).unwrap() } else { vec![] };
        let told = Told { status: status(pps), unix_secs: NOW - age, events, is_first, host: None };
        // Twelve seconds in which the agent could not be asked.
        if !(100..112).contains(&age) {
            state.update(Message::Told(Box::new(told)));
        }
    }
    state
}

/// Tells of the host that is looked at.
pub(super) fn tell_host(state: &mut State, host: Result<HostView, String>) {
    let told = Told { status: status(60_000), unix_secs: NOW, host: Some(host), ..Told::default() };
    state.update(Message::Told(Box::new(told)));
}

/// Presses keys, one a letter; `\n` is Enter, `\x1b` Esc. Returns what the last one wants.
pub(super) fn press(state: &mut State, keys: &str) -> Option<Intent> {
    let mut intent = None;
    for letter in keys.chars() {
        let key = match letter {
            '\n' => Key::Enter,
            '\x1b' => Key::Escape,
            '\t' => Key::Tab,
            '\x08' => Key::Backspace,
            letter => Key::Char(letter),
        };
        intent = state.update(Message::Key(key));
    }
    intent
}
