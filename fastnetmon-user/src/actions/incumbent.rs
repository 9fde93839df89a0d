//! What everybody who is told of an attack as JSON is told of it: its numbers by the incumbent's names,
//! and its cause by ours.
//!
//! **Invariant**: pure. What we do not count (flows, autonomous systems) is not here.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::actions::report;
use crate::model::{Class, Loads};
use crate::verdicts::{Attack, BanId, Cause};

/// Why: the rule that was broken, or an operator.
pub(crate) fn cause(cause: &Cause) -> Value {
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

/// The part of `attack_details` that everybody is told; an alert of a network has no attack.
pub(crate) fn details(
    id: BanId,
    address: IpAddr,
    group: &str,
    attack: Option<&Attack>,
    loads: &Loads,
) -> Map<String, Value> {
    const PARTS: [(&str, &[Class]); 5] = [
        ("ip_fragmented", &[Class::Fragment]),
        ("tcp", &[Class::Tcp, Class::Syn]),
        ("syn_tcp", &[Class::Syn]),
        ("udp", &[Class::Udp]),
        ("icmp", &[Class::Icmp]),
    ];
    let version = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut details = Map::new();
    let mut set = |name: String, value: Value| drop(details.insert(name, value));
    set("attack_uuid".to_owned(), json!(id.0.to_string()));
    set("attack_type".to_owned(), json!(attack.map_or("unknown", |attack| attack.kind.name())));
    set("host_group".to_owned(), json!(group));
    set("protocol_version".to_owned(), json!(version));
    for (way, load) in [("incoming", &loads.incoming), ("outgoing", &loads.outgoing)] {
        let parts =
            PARTS.map(|(part, classes)| (format!("{way}_{part}"), report::sum(load, classes)));
        for (name, speed) in [(format!("total_{way}"), load.total())].into_iter().chain(parts) {
            set(format!("{name}_traffic"), json!(speed.bytes));
            set(format!("{name}_traffic_bits"), json!(speed.bits()));
            set(format!("{name}_pps"), json!(speed.pps));
        }
    }
    details
}
