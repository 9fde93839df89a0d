//! A ban as JSON, by the incumbent's names.
//!
//! **Invariant**: pure. What we do not count (flows, autonomous systems) is left out, not invented.

use serde_json::{Value, json};

use crate::actions::{cause_json, details_json};
use crate::model::Wall;
use crate::reports::Event;
use crate::verdicts::Ban;

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
        "cause": cause_json(&ban.cause),
        "attack_details": details(ban),
    });
    serde_json::to_vec(&value).unwrap_or_default()
}

fn details(ban: &Ban) -> Value {
    let Ban { id, address, group, attack, loads, .. } = ban;
    let mut details = details_json(*id, *address, group, Some(attack), loads);
    details.insert("attack_because".to_owned(), json!(&*attack.because));
    Value::Object(details)
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
        // 5 of the whole, and for both ways 3 of the total and 3 of each part.
        assert_eq!(value["attack_details"].as_object().unwrap().len(), 5 + 2 * (3 + 3 * 5));
    }
}
