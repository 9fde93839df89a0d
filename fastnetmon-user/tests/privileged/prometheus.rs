//! A real Prometheus scrapes the agent as docs/metrics.md says, and is asked what the dashboard asks.
//!
//! It listens in the lab's namespace, keeps its files in the test's folder, and is ended by its pid.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use xtask::document::Document;
use xtask::lab::{Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, wait};
use crate::http::Client;

const TEXT: &str = include_str!("../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../packaging/grafana/fastnetmon.json");

const AGENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9209);
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 19090);

/// Swallows what comes, and says nothing of its own.
const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// A Prometheus with what the documentation tells to configure, once a second.
struct Prometheus<'a> {
    server: Child,
    client: Client<'a>,
}

impl<'a> Prometheus<'a> {
    fn start(lab: &'a Lab, folder: &Folder) -> Self {
        let text = Document::named(&xtask::root(), "docs/metrics.md").unwrap();
        let block = text.blocks.iter().find(|block| block.language == "yaml").expect("a block");
        let settings = format!("global:\n  scrape_interval: 1s\n{}", block.text);
        let settings = folder.write("prometheus.yml", &settings);
        let log = std::fs::File::create(folder.path("prometheus.log")).unwrap();
        let server = lab
            .command_inside("prometheus")
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path("tsdb").display()))
            .arg(format!("--web.listen-address={SERVER}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("`cargo xtask setup` brings prometheus");
        let prometheus = Self { server, client: Client { lab, server: SERVER, token: None } };
        wait("Prometheus", || {
            prometheus.client.try_get("/-/ready").filter(|answer| answer.status == 200)
        });
        prometheus
    }

    /// The series that a query returns, or what Prometheus says against it.
    fn ask(&self, query: &str) -> Result<Vec<Value>, String> {
        let coded = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let answer = self.client.get(&format!("/api/v1/query?query={coded}")).json();
        match answer["data"]["result"].as_array() {
            Some(series) if answer["status"] == "success" => Ok(series.clone()),
            _ => Err(format!("`{query}`: {}", answer["error"])),
        }
    }

    /// The one value of a query.
    #[track_caller]
    fn value(&self, query: &str) -> f64 {
        let series = self.ask(query).unwrap();
        assert_eq!(series.len(), 1, "`{query}`: {series:?}");
        number(&series[0]["value"])
    }

    /// Every value a series had in the last minutes.
    fn values(&self, query: &str) -> Vec<f64> {
        let series = self.ask(&format!("{query}[10m]")).unwrap();
        assert_eq!(series.len(), 1, "`{query}`: {series:?}");
        series[0]["values"].as_array().unwrap().iter().map(number).collect()
    }

    /// What a panel would show: series with finite values and with all labels that the legend names.
    fn shows(&self, query: &str, legend: &str) -> Result<(), String> {
        let series = self.ask(query)?;
        if series.is_empty() {
            return Err(format!("`{query}` returns nothing"));
        }
        for line in &series {
            if !number(&line["value"]).is_finite() {
                return Err(format!("`{query}` returns {line}"));
            }
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                if line["metric"].get(label).is_none() {
                    return Err(format!("`{query}` has no `{label}` for the legend: {line}"));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        xtask::lab::signal(self.server.id(), Signal::Kill).unwrap();
        self.server.wait().unwrap();
    }
}

/// Of a pair of time and value.
fn number(pair: &Value) -> f64 {
    pair[1].as_str().unwrap().parse().unwrap()
}

fn start(lab: &Lab) -> Agent {
    let rest = format!("[web]\nlisten = \"{AGENT}\"\n[thresholds]\npps = 30000\n");
    Agent::start(lab, &Setup { rest: &rest, ..Setup::default() })
}

/// An attack, from its first packet until all of it was scraped, and frames that nobody can read.
fn attack(lab: &Lab, agent: &Agent, prometheus: &Prometheus<'_>) {
    wait("two scrapes of a quiet agent", || {
        let scraped = prometheus.ask("count_over_time(fastnetmon_bans_standing[1m])").unwrap();
        scraped.first().filter(|series| number(&series["value"]) >= 2.0).map(|_| ())
    });
    let world = [203, 0, 113, 99];
    let flood = Pool::new([Frame::udp(world, VICTIM, 53, 4444).payload(200)]);
    let back = Pool::new([Frame::udp(VICTIM, world, 4444, 53).payload(20).outwards()]);
    let broken = Pool::raw([[&[0xff; 12][..], &[0x08, 0x06], &[0; 46]].concat()]);
    let mut outside = lab.sender_outside().unwrap();
    outside.send(&broken, 30, Pace::Full).unwrap();
    outside.send(&flood, 180_000, Pace::Pps(60_000)).unwrap();
    lab.sender_inside().unwrap().send(&back, 4000, Pace::Pps(2000)).unwrap();
    let told = agent.settled(184_030).packets.received;
    #[expect(clippy::cast_precision_loss, reason = "it is far below 2^53")]
    let told = told as f64;
    wait("a scrape of all of it", || {
        (prometheus.value("fastnetmon_received_packets_total") >= told).then_some(())
    });
    wait("both calls of the script in a scrape", || {
        let done = "sum(fastnetmon_action_calls_total{action=\"script\",outcome=\"done\"})";
        prometheus.ask(done).unwrap().first().filter(|sum| number(&sum["value"]) >= 2.0).map(|_| ())
    });
}

#[test]
fn prometheus_holds_what_the_api_says_under_the_names_that_are_documented() {
    let lab = Lab::new("prom").unwrap();
    let folder = Folder::new();
    let agent = start(&lab);
    let prometheus = Prometheus::start(&lab, &folder);
    attack(&lab, &agent, &prometheus);
    let api = Client { lab: &lab, server: AGENT, token: None };

    let targets = prometheus.client.get("/api/v1/targets").json();
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((target["health"].as_str(), target["lastError"].as_str()), (Some("up"), Some("")));
    assert!((prometheus.value("up{job=\"fastnetmon\"}") - 1.0).abs() < f64::EPSILON);

    // What is added up, now that nothing moves.
    let totals = api.get("/api/v1/totals").json();
    let health = api.get("/api/v1/health").json();
    let mut expected: Vec<(String, &Value)> = vec![
        ("fastnetmon_received_packets_total".into(), &health["received"]),
        ("fastnetmon_dropped_packets_total".into(), &health["dropped"]),
        ("fastnetmon_ignored_packets_total".into(), &health["ignored_packets"]),
        ("fastnetmon_ignored_bytes_total".into(), &health["ignored_bytes"]),
        ("fastnetmon_samples_lost_total".into(), &health["samples_lost"]),
        ("fastnetmon_ipv6_hosts".into(), &health["ipv6_hosts"]),
        ("fastnetmon_ipv6_hosts_room".into(), &health["ipv6_room"]),
        ("fastnetmon_action_calls_waiting".into(), &health["calls_waiting"]),
        ("fastnetmon_bans_standing".into(), &totals["bans"]),
        ("fastnetmon_hosts".into(), &totals["hosts"]),
    ];
    for way in ["incoming", "outgoing", "internal", "other"] {
        let of = |name: &str| format!("fastnetmon_{name}_total{{direction=\"{way}\"}}");
        expected.push((of("packets"), &totals[way]["packets"]));
        expected.push((of("bytes"), &totals[way]["bytes"]));
    }
    for (reason, number) in health["unparsed"].as_object().unwrap() {
        let query = format!("fastnetmon_unparsed_packets_total{{reason=\"{reason}\"}}");
        expected.push((query, number));
    }
    for (query, said) in expected {
        let (held, said) = (prometheus.value(&query), said.as_f64().unwrap());
        assert!((held - said).abs() < f64::EPSILON, "{query}: {held}, and the API says {said}");
    }
    assert_eq!(totals["incoming"]["packets"], 180_000);
    assert_eq!(totals["outgoing"]["packets"], 4000);
    assert_eq!(totals["bans"], 1);
    let build = &prometheus.ask("fastnetmon_build").unwrap()[0]["metric"];
    assert_eq!((&build["version"], &build["engine"]), (&health["version"], &health["engine"]));

    // What was measured each second: each scrape holds the rate of some second of the history.
    let host = format!("/api/v1/hosts/{VICTIM}");
    let histories = [
        ("total_traffic", "protocol_version=\"ipv4\",traffic_", api.get("/api/v1/history").json()),
        (
            "network",
            "network=\"192.0.2.0/24\",",
            api.get("/api/v1/history/network?prefix=192.0.2.0%2F24").json(),
        ),
        ("host", "", api.get(&host).json()["history"].clone()),
    ];
    for (name, labels, history) in histories {
        for (unit, short) in [("packets", "pps"), ("bits", "bps")] {
            let query = format!("fastnetmon_{name}_{unit}{{{labels}direction=\"incoming\"}}");
            let said = history[format!("incoming_{short}")].as_array().unwrap();
            let said: Vec<f64> = said.iter().filter_map(Value::as_f64).collect();
            let held = prometheus.values(&query);
            assert!(held.iter().any(|&rate| rate > 40_000.0), "{query}: {held:?}");
            for rate in held {
                let is_said = rate == 0.0 || said.iter().any(|said| (said - rate).abs() < 0.5);
                assert!(is_said, "{query}: {rate} is in no second of {said:?}");
            }
        }
    }

    // The names.
    let names = prometheus.client.get("/api/v1/label/__name__/values").json();
    let names: BTreeSet<&str> = names["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| *name != "up" && !name.starts_with("scrape_"))
        .map(|name| {
            let parts = ["_bucket", "_sum", "_count"];
            parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
        })
        .collect();
    let documented: BTreeSet<&str> =
        TEXT.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(names, documented);
}

#[test]
fn every_query_of_the_dashboard_shows_something() {
    let lab = Lab::new("grafana").unwrap();
    let folder = Folder::new();
    let agent = start(&lab);
    let prometheus = Prometheus::start(&lab, &folder);
    attack(&lab, &agent, &prometheus);

    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    // Some of them tell of this very moment.
    let stop = AtomicBool::new(false);
    let usual = Pool::new([Frame::udp([203, 0, 113, 99], VICTIM, 53, 4444).payload(200)]);
    let mut sender = lab.sender_outside().unwrap();
    let (asked, problems) = std::thread::scope(|scope| {
        scope.spawn(|| sender.send_until(&usual, Pace::Pps(2000), &stop));
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            wait("a scrape of it", || {
                prometheus.ask("fastnetmon_hosts > 0").unwrap().first().map(|_| ())
            });
            let mut asked = 0;
            let mut problems = Vec::new();
            for panel in panels {
                for target in panel["targets"].as_array().unwrap() {
                    let query = target["expr"].as_str().unwrap();
                    let legend = target["legendFormat"].as_str().unwrap_or_default();
                    asked += 1;
                    if let Err(problem) = prometheus.shows(query, legend) {
                        problems.push(format!("{}: {problem}", panel["title"]));
                    }
                }
            }
            (asked, problems)
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(asked >= panels.len() && asked >= 15, "{asked}");

    // What is wrong is found.
    for (query, legend, problem) in [
        ("fastnetmon_nothing", "", "returns nothing"),
        ("rate(fastnetmon_hosts", "", "parse error"),
        ("fastnetmon_hosts", "{{host}}", "has no `host` for the legend"),
        ("fastnetmon_hosts / 0 * 0", "", "NaN"),
    ] {
        let error = prometheus.shows(query, legend).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}
