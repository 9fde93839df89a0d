//! A ban as JSON, by the incumbent's names.
//!
//! **Invariant**: pure. What we do not count (flows, autonomous systems) is left out, not invented.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::model::{Class, Direction, Load, PerSecond, Wall};
use crate::reports::Event;
use crate::verdicts::{Ban, Cause};

/// The value of `<ip>_information`.
pub(super) fn json(event: &Event, action: &str, ban: &Ban, wall: Wall) -> Vec<u8> {
    let value = json!({
        "alert_scope": "host",
        "ip": ban.address,
        "action": action,
        "time": event.unix.as_secs(),
        "since": wall.unix_secs(ban.since),
        "until": ban.until.map(|until| wall.unix_secs(until)),
        "direction": ban.direction.name(),
        "pps": ban.pps,
        "peak_pps": ban.peak_pps,
        "peak_mbps": ban.peak_mbps,
        "dry_run": ban.dry_run,
        "cause": cause(&ban.cause),
        "attack_details": details(ban),
    });
    serde_json::to_vec(&value).unwrap_or_default()
}

fn cause(cause: &Cause) -> Value {
    match cause {
        Cause::Rule { subject, measure, threshold, measured } => json!({
            "by": "threshold",
            "subject": subject.name(),
            "measure": measure.name(),
            "threshold": threshold,
            "measured": measured,
        }),
        Cause::Operator { reason } => json!({ "by": "operator", "reason": reason.as_deref() }),
    }
}

fn details(ban: &Ban) -> Value {
    const PARTS: [(&str, &[Class]); 5] = [
        ("ip_fragmented", &[Class::Fragment]),
        ("tcp", &[Class::Tcp, Class::Syn]),
        ("syn_tcp", &[Class::Syn]),
        ("udp", &[Class::Udp]),
        ("icmp", &[Class::Icmp]),
    ];
    let mut details = Map::new();
    let version = match ban.address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    details.insert("attack_uuid".to_owned(), json!(ban.id.0.to_string()));
    details.insert("attack_type".to_owned(), json!(ban.attack.kind.name()));
    details.insert("attack_because".to_owned(), json!(&*ban.attack.because));
    details.insert("host_group".to_owned(), json!(&*ban.group));
    details.insert("protocol_version".to_owned(), json!(version));
    for (way, load) in
        [(Direction::Incoming, &ban.loads.incoming), (Direction::Outgoing, &ban.loads.outgoing)]
    {
        let way = way.name();
        let mut put = |traffic: String, pps: String, speed: PerSecond| {
            details.insert(format!("{traffic}_bits"), json!(speed.bits()));
            details.insert(traffic, json!(speed.bytes));
            details.insert(pps, json!(speed.pps));
        };
        put(format!("total_{way}_traffic"), format!("total_{way}_pps"), load.total());
        for (part, classes) in PARTS {
            let speed = together(load, classes);
            put(format!("{way}_{part}_traffic"), format!("{way}_{part}_pps"), speed);
        }
    }
    Value::Object(details)
}

fn together(load: &Load, classes: &[Class]) -> PerSecond {
    let mut sum = PerSecond::default();
    for &class in classes {
        let PerSecond { pps, bytes } = load.class(class);
        sum = PerSecond { pps: sum.pps + pps, bytes: sum.bytes + bytes };
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reports::What;
    use crate::verdicts::Verdict;

    #[test]
    fn a_ban_has_the_names_that_are_known() {
        let ban = Ban::of([192, 0, 2, 7]);
        let verdict = Verdict::Ban(ban.clone());
        let event = Event {
            number: 1,
            unix: Duration::from_secs(1_700_000_000),
            what: What::Verdict { verdict, latency: None },
        };
        let text = json(&event, "ban", &ban, Wall::default());
        let value: Value = serde_json::from_slice(&text).unwrap();
        let at = |path: &str| value.pointer(path).cloned().unwrap();
        assert_eq!(at("/alert_scope"), "host");
        assert_eq!(at("/ip"), "192.0.2.7");
        assert_eq!(at("/action"), "ban");
        assert_eq!(at("/attack_details/protocol_version"), "IPv4");
        assert_eq!(at("/attack_details/total_incoming_pps"), 40_000);
        assert_eq!(at("/attack_details/total_incoming_traffic"), 4_000_000);
        assert_eq!(at("/attack_details/incoming_udp_traffic_bits"), 32_000_000);
        assert_eq!(at("/attack_details/outgoing_syn_tcp_pps"), 0);
        assert_eq!(at("/cause/threshold"), 30_000);
    }
}
