//! The event as JSON: what webhooks, scripts (`format = "json"`) and the log files are given.
//!
//! Version 1. The names of the incumbent's JSON are there (`alert_scope`, `ip`, `action`,
//! `attack_details`, `packet_dump_detailed`), and beside them ours.
//!
//! **Invariant**: a field is never taken out or given another meaning without another version.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::actions::{Errand, incumbent, report};
use crate::model::{Class, Direction, Loads, Seen, Tally, Wall};
use crate::origins::Origins;
use crate::verdicts::{Alert, Attack, Ban, BanId, Cause, Ending, Verdict};

/// The version of the event.
const VERSION: u32 = 1;

/// What an event says whatever it is about.
struct Common<'a> {
    id: BanId,
    direction: Direction,
    pps: u64,
    peak_pps: u64,
    loads: &'a Loads,
    group: &'a str,
    cause: &'a Cause,
    attack: Option<&'a Attack>,
}

/// The event of this errand, with what is known of where its packets came from.
pub fn json(errand: &Errand, origins: &Origins) -> Value {
    match &errand.verdict {
        Verdict::Ban(ban) => host(errand, ban),
        Verdict::Details(ban, packets) => {
            let mut event = host(errand, ban);
            if let Some(atlas) = origins.atlas() {
                put(&mut event, "remotes", json!(atlas.group(packets, ban.address)));
            }
            let packets = packets.iter().map(|packet| self::packet(packet, errand.wall));
            put(&mut event, "packet_dump_detailed", Value::Array(packets.collect()));
            event
        }
        Verdict::Unban(ban, ending) => {
            let mut event = host(errand, ban);
            let (because, reason) = match ending {
                Ending::Over => ("over", None),
                Ending::Operator { reason } => ("operator", reason.as_deref()),
            };
            put(&mut event, "ended", json!({ "because": because, "reason": reason }));
            if let Some(remotes) = origins.of_ban(ban.id.0) {
                put(&mut event, "remotes", json!(*remotes));
            }
            event
        }
        Verdict::Alert(alert) | Verdict::Calm(alert) => {
            let Alert { id, direction, pps, peak_pps, loads, group, cause, hosts, .. } = alert;
            let common = Common {
                id: *id,
                direction: *direction,
                pps: *pps,
                peak_pps: *peak_pps,
                loads,
                group,
                cause,
                attack: None,
            };
            let mut event = about(errand, "network", &common);
            put(&mut event, "hosts", json!(hosts));
            event
        }
    }
}

fn host(errand: &Errand, ban: &Ban) -> Value {
    let common = Common {
        id: ban.id,
        direction: ban.direction,
        pps: ban.pps,
        peak_pps: ban.peak_pps,
        loads: &ban.loads,
        group: &ban.group,
        cause: &ban.cause,
        attack: Some(&ban.attack),
    };
    let mut event = about(errand, "host", &common);
    let Tally { packets, bytes } = ban.total;
    put(&mut event, "peak_mbps", json!(ban.peak_mbps));
    put(&mut event, "total", json!({ "packets": packets, "bytes": bytes }));
    put(&mut event, "dry_run", json!(ban.dry_run));
    let until = ban.until.map(|until| time(errand.wall.unix_at(until)));
    put(&mut event, "until", json!(until));
    event
}

fn about(errand: &Errand, scope: &str, common: &Common<'_>) -> Value {
    let Common { id, direction, pps, peak_pps, group, cause, attack, .. } = common;
    let lasted = errand.unix().saturating_sub(errand.since());
    json!({
        "version": VERSION,
        "id": errand.event().to_string(),
        "ban_id": id.0.to_string(),
        "agent": concat!("fastnetmon ", env!("CARGO_PKG_VERSION")),
        "time": time(errand.unix()),
        "since": time(errand.since()),
        "lasted_secs": lasted.as_secs(),
        "alert_scope": scope,
        "ip": errand.named(),
        "action": errand.verdict.name(),
        "direction": direction.name(),
        "pps": pps,
        "peak_pps": peak_pps,
        "group": group,
        "cause": incumbent::cause(cause),
        "attack": attack.map(|attack| json!({
            "kind": attack.kind.name(),
            "because": &*attack.because,
        })),
        "attack_details": details(errand, common),
    })
}

/// By the incumbent's names. Of flows and of what was dropped we know nothing, so they are 0.
fn details(errand: &Errand, common: &Common<'_>) -> Value {
    let Common { id, direction, pps, peak_pps, loads, group, attack, .. } = common;
    let address = errand.about().address();
    let mut details = incumbent::details(*id, address, group, *attack, loads);
    let mut set = |name: &str, value: Value| drop(details.insert(name.to_owned(), value));
    set("attack_direction", json!(direction.name()));
    set("attack_protocol", json!(report::protocol(report::of(loads, *direction))));
    set("initial_attack_power", json!(pps));
    set("peak_attack_power", json!(peak_pps));
    for way in ["incoming", "outgoing"] {
        set(&format!("total_{way}_flows"), json!(0));
        for what in ["traffic", "traffic_bits", "pps"] {
            set(&format!("{way}_dropped_{what}"), json!(0));
        }
    }
    Value::Object(details)
}

/// By the incumbent's names, as far as we know what they ask.
fn packet(packet: &Seen, wall: Wall) -> Value {
    let Seen { at, source, target, ports, class, protocol, bytes, ttl, tcp_flags } = packet;
    json!({
        "timestamp": time(wall.unix_at(*at)),
        "ip_version": if source.is_ipv4() { "ipv4" } else { "ipv6" },
        "source_ip": source.to_string(),
        "destination_ip": target.to_string(),
        "source_port": ports.0,
        "destination_port": ports.1,
        "tcp_flags": tcp_flags.map(report::flags),
        "fragmentation": *class == Class::Fragment,
        "packets": 1,
        "length": bytes,
        "ip_length": bytes,
        "ttl": ttl,
        "sample_ratio": 1,
        "protocol": report::protocol_name(*protocol),
    })
}

fn time(unix: Duration) -> String {
    let millis = i64::try_from(unix.as_millis()).unwrap_or(i64::MAX);
    format!("{:.3}", Timestamp::from_millisecond(millis).unwrap_or_default())
}

fn put(event: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = event {
        fields.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::model::{Moment, Prefix};
    use crate::origins::database::{Make, ipinfo};
    use crate::origins::{Atlas, Database};

    fn errand(verdict: Verdict) -> Errand {
        let wall = Wall {
            read_at: Moment::after_boot(Duration::from_secs(100)),
            unix: Duration::from_millis(1_795_367_873_135),
        };
        Errand { verdict, wall }
    }

    fn ban() -> Ban {
        let since = Moment::after_boot(Duration::from_secs(90));
        let until = Some(Moment::after_boot(Duration::from_secs(160)));
        Ban { id: BanId(77), since, until, ..Ban::of([192, 0, 2, 7]) }
    }

    #[test]
    fn a_ban_says_who_why_and_how_much() {
        let event = json(&errand(Verdict::Ban(ban())), &Origins::default());
        for (at, expected) in [
            ("/version", json!(1)),
            ("/id", json!("77-ban")),
            ("/time", json!("2026-11-22T17:17:53.135Z")),
            ("/since", json!("2026-11-22T17:17:43.135Z")),
            ("/until", json!("2026-11-22T17:18:53.135Z")),
            ("/lasted_secs", json!(10)),
            ("/alert_scope", json!("host")),
            ("/ip", json!("192.0.2.7")),
            ("/action", json!("ban")),
            ("/direction", json!("incoming")),
            ("/pps", json!(40_000)),
            ("/dry_run", json!(false)),
            ("/cause/by", json!("threshold")),
            ("/cause/threshold", json!(30_000)),
            ("/attack/kind", json!("udp_flood")),
            ("/attack_details/attack_uuid", json!("77")),
            ("/attack_details/protocol_version", json!("IPv4")),
            ("/attack_details/total_incoming_pps", json!(40_000)),
            ("/attack_details/total_incoming_traffic", json!(4_000_000)),
            ("/attack_details/total_incoming_traffic_bits", json!(32_000_000)),
            ("/attack_details/incoming_udp_pps", json!(40_000)),
            ("/attack_details/outgoing_syn_tcp_pps", json!(0)),
            ("/attack_details/incoming_dropped_pps", json!(0)),
        ] {
            assert_eq!(event.pointer(at), Some(&expected), "{at}");
        }
        // 8 of the whole, and for both ways 4 of the total and 3 of each part.
        assert_eq!(event["attack_details"].as_object().unwrap().len(), 8 + 2 * (4 + 3 * 6));
    }

    #[test]
    fn an_end_says_why_and_packets_are_told_one_by_one() {
        let reason = Some("wrong host".into());
        let event =
            json(&errand(Verdict::Unban(ban(), Ending::Operator { reason })), &Origins::default());
        assert_eq!(event["ended"], json!({ "because": "operator", "reason": "wrong host" }));
        let [source, target]: [IpAddr; 2] =
            ["2001:db9::1", "2001:db8::42"].map(|end| end.parse().unwrap());
        let packet = Seen {
            at: Moment::after_boot(Duration::from_secs(100)),
            ports: (1024, 80),
            class: Class::Syn,
            protocol: 6,
            bytes: 60,
            ttl: 55,
            tcp_flags: Some(2),
            ..Seen::of(source, target)
        };
        let event = json(&errand(Verdict::Details(ban(), [packet].into())), &Origins::default());
        let expected = json!([{
            "timestamp": "2026-11-22T17:17:53.135Z", "ip_version": "ipv6",
            "source_ip": "2001:db9::1", "destination_ip": "2001:db8::42",
            "source_port": 1024, "destination_port": 80, "tcp_flags": "syn",
            "fragmentation": false, "packets": 1, "length": 60, "ip_length": 60, "ttl": 55,
            "sample_ratio": 1, "protocol": "tcp",
        }]);
        assert_eq!(event["packet_dump_detailed"], expected);
    }

    #[test]
    fn with_a_database_packets_have_systems_and_countries_and_without_there_is_no_such_field() {
        let packet = Seen { bytes: 60, ..Seen::of([203, 0, 113, 9], [192, 0, 2, 7]) };
        let details = errand(Verdict::Details(ban(), [packet].into()));
        let unban = errand(Verdict::Unban(ban(), Ending::Over));
        let origins = Origins::default();
        assert_eq!(json(&details, &origins).get("remotes"), None);
        let record = ipinfo("AS64500", "Example Net", "DE", "Germany");
        let file = Make::default().file(&[("203.0.113.0/24", record)]);
        let database = Database::of(Path::new("x"), file).unwrap();
        origins.turn_to(Some(Arc::new(Atlas::new(vec![Arc::new(database)]))));
        let expected = json!({
            "packets": 1,
            "systems": [{ "asn": 64500, "name": "Example Net", "packets": 1, "bytes": 60 }],
            "countries": [{ "country": "DE", "packets": 1, "bytes": 60 }],
        });
        assert_eq!(json(&details, &origins)["remotes"], expected);
        assert_eq!(json(&unban, &origins).get("remotes"), None, "nobody looked them up");
        origins.remember(77, serde_json::from_value(expected.clone()).unwrap());
        assert_eq!(json(&unban, &origins)["remotes"], expected);
    }

    #[test]
    fn an_alert_is_about_a_network() {
        let Ban { id, direction, cause, loads, pps, peak_pps, group, since, .. } = ban();
        let prefix = Prefix::parse_masked("192.0.2.0/24").unwrap().0;
        let hosts = 241;
        let alert =
            Alert { id, prefix, direction, hosts, cause, pps, peak_pps, loads, group, since };
        let event = json(&errand(Verdict::Alert(alert)), &Origins::default());
        assert_eq!(event["id"], "77-alert");
        assert_eq!(
            (&event["alert_scope"], &event["ip"]),
            (&json!("network"), &json!("192.0.2.0/24"))
        );
        assert_eq!(event["hosts"], 241);
    }
}
