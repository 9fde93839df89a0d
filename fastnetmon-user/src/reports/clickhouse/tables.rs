//! The tables, and the SQL that makes them.
//!
//! Names are the incumbent's; `agent` says who wrote a row. Orders put the key first and time last,
//! which is what a graph of one host reads.
//!
//! **Invariant**: pure, and every statement may be given twice.

use std::fmt::Write as _;

use crate::reports::clickhouse::Settings;
use crate::reports::parts::{PARTS, Pairs, Word, pairs};

/// What stands in the column `schema_version`.
pub(super) const SCHEMA: u8 = 1;

/// How tables are spread.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Spread {
    /// Copies of each table, by `ReplicatedMergeTree`; `{shard}` and `{replica}` are the server's.
    pub replicated: bool,
    /// Shards: a table `<name>_local` on each server of this cluster, and a `Distributed` one over
    /// them.
    pub cluster: Option<String>,
}

/// One table.
struct Table {
    name: &'static str,
    columns: String,
    order: &'static str,
    /// By what rows go to shards.
    shard: &'static str,
    engine: &'static str,
    days: u32,
}

/// The statements, in order. `has_ttl`: the server knows how to forget (19.6).
pub fn statements(settings: &Settings, spread: &Spread, has_ttl: bool) -> Vec<String> {
    let database = settings.database.as_str();
    let on_cluster =
        spread.cluster.as_ref().map(|name| format!(" ON CLUSTER {name}")).unwrap_or_default();
    let mut statements = vec![format!("CREATE DATABASE IF NOT EXISTS {database}{on_cluster}")];
    for table in tables(settings) {
        let Table { name, columns, order, shard, engine, days } = table;
        let own = if spread.cluster.is_some() { format!("{name}_local") } else { name.to_owned() };
        let engine = if spread.replicated {
            format!(
                "Replicated{engine}('/clickhouse/tables/{{shard}}/{database}/{own}', '{{replica}}')"
            )
        } else {
            format!("{engine}()")
        };
        let ttl = if has_ttl && days > 0 {
            format!("\nTTL metricDate + INTERVAL {days} DAY")
        } else {
            String::new()
        };
        statements.push(format!(
            "CREATE TABLE IF NOT EXISTS {database}.{own}{on_cluster} (\n{columns}) ENGINE = {engine}\n\
             PARTITION BY metricDate\nORDER BY ({order}){ttl}"
        ));
        if let Some(cluster) = &spread.cluster {
            statements.push(format!(
                "CREATE TABLE IF NOT EXISTS {database}.{name}{on_cluster} AS {database}.{own}\n\
                 ENGINE = Distributed({cluster}, {database}, {own}, {shard})"
            ));
        }
    }
    statements
}

fn tables(settings: &Settings) -> Vec<Table> {
    let metrics = |name, columns, order, shard| {
        let days = settings.keep_days;
        Table { name, columns, order, shard, engine: "MergeTree", days }
    };
    let host = "host, agent, metricDateTime";
    let network = "network, agent, metricDateTime";
    let direction = "direction, agent, metricDateTime";
    vec![
        metrics("host_metrics", both_ways("host"), host, "cityHash64(host)"),
        metrics("host_metrics_ipv6", both_ways("host"), host, "cityHash64(host)"),
        metrics("network_metrics", both_ways("network"), network, "cityHash64(network)"),
        metrics("network_metrics_ipv6", both_ways("network"), network, "cityHash64(network)"),
        metrics("total_metrics", one_way(), direction, "cityHash64(agent)"),
        metrics("total_metrics_ipv4", one_way(), direction, "cityHash64(agent)"),
        metrics("total_metrics_ipv6", one_way(), direction, "cityHash64(agent)"),
        metrics("system_metrics", system(), "name, agent, metricDateTime", "cityHash64(agent)"),
        Table {
            name: "attacks",
            columns: attacks(),
            order: "agent, id, event",
            shard: "cityHash64(agent)",
            // A row that comes twice is one.
            engine: "ReplacingMergeTree",
            days: settings.keep_attacks_days,
        },
    ]
}

fn columns(kept: &[&str]) -> String {
    let mut text = String::from(
        "    metricDate Date DEFAULT toDate(metricDateTime),\n    metricDateTime DateTime,\n    \
         agent String,\n",
    );
    for column in kept {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "    {column},");
    }
    text.push_str("    schema_version UInt8\n");
    text
}

/// `<name>`
static PAIRS: Pairs = pairs!("", "");

fn both_ways(key: &str) -> String {
    let key = format!("{key} String");
    let mut kept = vec![key];
    for pair in PAIRS.iter().flatten() {
        kept.extend([&pair.packets, &pair.bits].map(|name| format!("{} UInt64", name.text())));
    }
    columns(&kept.iter().map(String::as_str).collect::<Vec<_>>())
}

fn one_way() -> String {
    let mut kept = vec!["direction String".to_owned()];
    kept.extend(["packets UInt64".to_owned(), "bits UInt64".to_owned()]);
    for part in PARTS {
        kept.extend([format!("{part}_packets UInt64"), format!("{part}_bits UInt64")]);
    }
    columns(&kept.iter().map(String::as_str).collect::<Vec<_>>())
}

fn system() -> String {
    columns(&["name String", "type String", "value UInt64"])
}

fn attacks() -> String {
    columns(&[
        "id UInt64",
        "event String",
        "address String",
        "direction String",
        "pps UInt64",
        "peak_pps UInt64",
        "peak_mbps UInt64",
        "packets UInt64",
        "bytes UInt64",
        "hosts UInt32",
        "cause String",
        "threshold UInt64",
        "measured UInt64",
        "kind String",
        "because String",
        "host_group String",
        "dry_run UInt8",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_key_time_agent_and_all_counters() {
        let sql = statements(&Settings::default(), &Spread::default(), true);
        assert_eq!(sql.len(), 10);
        assert_eq!(sql[0], "CREATE DATABASE IF NOT EXISTS fastnetmon");
        assert!(
            sql[1].starts_with(
                "CREATE TABLE IF NOT EXISTS fastnetmon.host_metrics (\n    metricDate Date DEFAULT \
             toDate(metricDateTime),\n    metricDateTime DateTime,\n    agent String,\n    host \
             String,\n    packets_incoming UInt64,\n    bits_incoming UInt64,\n    \
             dropped_packets_incoming UInt64,"
            ),
            "{}",
            sql[1]
        );
        assert!(sql[1].ends_with(
            "    schema_version UInt8\n) ENGINE = MergeTree()\nPARTITION BY metricDate\nORDER BY \
             (host, agent, metricDateTime)\nTTL metricDate + INTERVAL 7 DAY"
        ), "{}", sql[1]);
        assert!(
            sql[9].contains("ReplacingMergeTree()") && sql[9].contains("365 DAY"),
            "{}",
            sql[9]
        );
    }

    #[test]
    fn an_old_server_is_not_asked_to_forget() {
        let sql = statements(&Settings::default(), &Spread::default(), false);
        assert!(sql.iter().all(|statement| !statement.contains("TTL")));
    }

    #[test]
    fn many_servers_have_copies_and_one_table_over_all() {
        let spread = Spread { replicated: true, cluster: Some("edge".to_owned()) };
        let sql = statements(&Settings::default(), &spread, true);
        assert_eq!(sql.len(), 19);
        assert!(sql[1].starts_with(
            "CREATE TABLE IF NOT EXISTS fastnetmon.host_metrics_local ON CLUSTER edge ("
        ));
        assert!(sql[1].contains(
            "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/fastnetmon/host_metrics_local', '{replica}')"
        ));
        assert_eq!(
            sql[2],
            "CREATE TABLE IF NOT EXISTS fastnetmon.host_metrics ON CLUSTER edge AS \
             fastnetmon.host_metrics_local\nENGINE = Distributed(edge, fastnetmon, \
             host_metrics_local, cityHash64(host))"
        );
    }
}
