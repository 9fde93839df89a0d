//! Exports into real databases, each started as `docs/exports.md` says.
//!
//! What the text tells an operator to type is what these tests type: blocks and settings are read
//! from it. Servers listen in the lab's namespace, keep their files in the test's folder, and are
//! ended by their pid.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

use fastnetmon_user::control::{Export, Request, Way};
use xtask::document::Document;
use xtask::lab::{Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, wait};

const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);

/// What is typed from each section, in shell; the tests take these by number.
const TYPED: [(&str, usize); 4] =
    [("Redis", 2), ("Graphite", 1), ("InfluxDB", 3), ("ClickHouse", 3)];

/// The blocks of a section that are typed, or the settings in it.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let text = Document::named(&xtask::root(), "docs/exports.md").unwrap();
    let of_it = text.blocks.iter().filter(|block| block.section == section);
    let of_it: Vec<String> = of_it
        .filter(|block| {
            block.language == language && (language == "toml" || block.is_run_by("exports"))
        })
        .map(|block| block.text.clone())
        .collect();
    assert!(!of_it.is_empty(), "`{section}` has no {language}");
    of_it
}

#[test]
fn every_block_for_these_tests_is_typed_by_one() {
    let text = Document::named(&xtask::root(), "docs/exports.md").unwrap();
    let typed: usize = TYPED.iter().map(|(_, count)| count).sum();
    assert_eq!(text.run_by("exports").count(), typed, "a block in a section of its own");
    for (section, count) in TYPED {
        assert_eq!(blocks(section, "sh").len(), count, "{section}");
    }
    for document in Document::all(&xtask::root()).unwrap() {
        let elsewhere =
            document.path != "docs/exports.md" && document.run_by("exports").count() > 0;
        assert!(!elsewhere, "{} has blocks for `exports`", document.path);
    }
}

/// What a shell is given inside the lab, with `$D`.
fn shell(lab: &Lab, folder: &Folder, script: &str) -> Command {
    let mut command = lab.command_inside("sh");
    let folder = folder.path("");
    let agent = std::path::Path::new(env!("CARGO_BIN_EXE_fastnetmon")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(["-euc", script])
        .env("D", folder.as_os_str().to_str().unwrap().trim_end_matches('/'))
        .env("PATH", format!("{}:{path}:/usr/sbin", agent.display()))
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null());
    command
}

/// What a block answers.
fn ask(lab: &Lab, folder: &Folder, script: &str) -> Result<String, String> {
    let output = shell(lab, folder, script).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A server that was started by a block.
struct Server(Child);

impl Server {
    fn start(lab: &Lab, folder: &Folder, script: &str) -> Self {
        let log = std::fs::File::create(folder.path("server.log")).unwrap();
        let mut command = shell(lab, folder, script);
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        xtask::lab::signal(self.0.id(), Signal::Kill).unwrap();
        self.0.wait().unwrap();
    }
}

fn ours(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// Sends so many packets to a host, and returns their bytes.
fn send(lab: &Lab, host: u8, count: u64) -> u64 {
    let frame = Frame::udp(WORLD, ours(host), 1000, 53).payload(72);
    let bytes = frame.ip_len() * count;
    let mut sender = lab.sender_outside().unwrap();
    assert_eq!(sender.send(&Pool::new(vec![frame]), count, Pace::Pps(10_000)).unwrap(), count);
    bytes
}

fn export(agent: &Agent, name: &str) -> Export {
    wait(&format!("`{name}` in the status"), || {
        agent.status().exports.into_iter().find(|export| export.name == name)
    })
}

fn settings(toml: &[String]) -> String {
    format!("[thresholds]\npps = 1000000\n[report]\nname = \"edge-1\"\n{}", toml.join("\n"))
}

#[test]
fn redis_has_each_byte_once_through_an_outage_and_a_restart() {
    let lab = Lab::new("redis").unwrap();
    let folder = Folder::new();
    let sh = blocks("Redis", "sh");
    let rest = settings(&blocks("Redis", "toml"));
    let mut agent = Agent::start(&lab, &Setup { rest: &rest, ..Setup::default() });
    let told = || ask(&lab, &folder, &sh[1]).unwrap_or_default();

    // Nobody is there yet, and nothing is lost by that.
    let mut bytes = send(&lab, 7, 2000);
    let down = wait("an outage to be told", || Some(export(&agent, "redis")).filter(|now| !now.up));
    assert!(down.error.unwrap().contains("127.0.0.1:6379"));
    assert!(agent.status().alarms.iter().any(|alarm| alarm.contains("`redis` does not work")));
    let server = Server::start(&lab, &folder, &sh[0]);
    wait("what was kept", || Some(told()).filter(|now| *now == format!("{bytes}\n2000")));
    let up = wait("the end of the outage", || Some(export(&agent, "redis")).filter(|now| now.up));
    assert_eq!((up.lost, up.uncertain, up.lost_traffic_bytes), (0, 0, 0));
    let log = agent.log();
    assert_eq!(log.matches("The export does not work").count(), 1, "one line an outage: {log}");
    assert_eq!(log.matches("The export works again").count(), 1, "{log}");

    // A restart adds on. What was counted in the last moment is sent before the end.
    bytes += send(&lab, 7, 500);
    agent.settled(2500);
    assert!(agent.end(Signal::Terminate).success());
    assert_eq!(told(), format!("{bytes}\n2500"));
    let agent = Agent::start(&lab, &Setup { rest: &rest, ..Setup::default() });
    bytes += send(&lab, 7, 300);
    wait("both runs together", || Some(told()).filter(|now| *now == format!("{bytes}\n2800")));
    let outgoing = ask(&lab, &folder, "redis-cli --raw EXISTS 192.0.2.7_outgoing").unwrap();
    assert_eq!(outgoing, "0", "a direction that did not move has no key");

    // A ban.
    agent.order(&Request::ban(ours(9), Way::Incoming)).unwrap();
    send(&lab, 9, 200);
    let get = |key: &str| {
        ask(&lab, &folder, &format!("redis-cli --raw GET 192.0.2.9_{key}")).unwrap_or_default()
    };
    let dump = wait("the packets", || Some(get("flow_dump")).filter(|dump| !dump.is_empty()));
    let line = "203.0.113.99:1000 > 192.0.2.9:53 protocol: udp size: 100 bytes";
    assert!(dump.lines().any(|told| told == line), "{dump}");
    let information = get("information");
    assert!(information.contains("\"action\":\"ban\""), "{information}");
    assert!(information.contains("\"alert_scope\":\"host\""), "{information}");
    agent.order(&Request::Unban { ip: ours(9), reason: None }).unwrap();
    wait("the end", || Some(get("information")).filter(|now| now.contains("\"action\":\"unban\"")));
    drop(server);
}

#[test]
fn influxdb_and_its_graphite_listener_have_what_a_host_got() {
    let lab = Lab::new("influx").unwrap();
    let folder = Folder::new();
    let sh = blocks("InfluxDB", "sh");
    let graphite = blocks("Graphite", "sh");
    let _server = Server::start(&lab, &folder, &sh[0]);
    wait("the database", || ask(&lab, &folder, &sh[1]).ok().filter(|now| now.contains("results")));
    let toml = [blocks("InfluxDB", "toml"), blocks("Graphite", "toml")].concat();
    let rest = settings(&toml);
    let agent = Agent::start(&lab, &Setup { rest: &rest, ..Setup::default() });
    send(&lab, 7, 8000);
    let number = |answer: String| -> Option<f64> {
        let answer: serde_json::Value = serde_json::from_str(&answer).ok()?;
        answer.pointer("/results/0/series/0/values/0/1")?.as_f64()
    };
    for (what, script) in [("a point", &sh[2]), ("a path", &graphite[0])] {
        let pps = wait(what, || ask(&lab, &folder, script).ok().and_then(number));
        assert!((1.0..=20_000.0).contains(&pps), "{what}: {pps}");
    }
    let tags = ask(
        &lab,
        &folder,
        "curl --silent --get http://127.0.0.1:8086/query --data-urlencode db=fastnetmon \
         --data-urlencode 'q=SHOW TAG VALUES WITH KEY IN (agent, network, direction)'",
    )
    .unwrap();
    for tag in ["edge-1", "192.0.2.0/24", "2001:db8::/32", "incoming", "internal"] {
        assert!(tags.contains(&format!("\"{tag}\"")), "`{tag}` in {tags}");
    }
    for name in ["influxdb", "graphite"] {
        let export = export(&agent, name);
        assert!(export.up && export.sent > 0 && export.lost == 0, "{export:?}");
    }
}

#[test]
fn clickhouse_has_rows_in_every_table() {
    let lab = Lab::new("clickhouse").unwrap();
    let folder = Folder::new();
    let sh = blocks("ClickHouse", "sh");
    let _server = Server::start(&lab, &folder, &sh[0]);
    let rest = settings(&blocks("ClickHouse", "toml"));
    folder.write("fastnetmon.conf", &rest);
    let made = wait("the tables", || ask(&lab, &folder, &sh[1]).ok());
    assert!(made.contains("has the tables of `fastnetmon`"), "{made}");
    let again = ask(&lab, &folder, &sh[1]).expect("twice does no harm");
    assert_eq!(made, again);
    let agent = Agent::start(&lab, &Setup { rest: &rest, ..Setup::default() });
    send(&lab, 7, 8000);
    let number = |answer: String| answer.parse::<u64>().ok();
    let pps =
        wait("a row", || ask(&lab, &folder, &sh[2]).ok().and_then(number).filter(|&pps| pps > 0));
    assert!(pps <= 20_000, "{pps}");
    agent.order(&Request::ban(ours(9), Way::Incoming)).unwrap();
    let count = |table: &str, which: &str| {
        let query =
            format!("SELECT count() FROM fastnetmon.{table} WHERE agent = 'edge-1' AND {which}");
        let script = format!("curl --silent http://127.0.0.1:8123/ --data-binary \"{query}\"");
        ask(&lab, &folder, &script).ok().and_then(number)
    };
    for (table, which) in [
        ("attacks", "event = 'ban' AND address = '192.0.2.9' AND cause = 'operator'"),
        ("attacks", "event = 'attack_details'"),
        ("host_metrics", "host = '192.0.2.7' AND udp_packets_incoming > 0"),
        ("network_metrics", "network = '192.0.2.0/24' AND packets_incoming > 0"),
        ("network_metrics_ipv6", "network = '2001:db8::/32'"),
        ("total_metrics", "direction = 'incoming' AND packets > 0"),
        ("total_metrics_ipv4", "direction = 'incoming' AND udp_packets > 0"),
        ("total_metrics_ipv6", "direction = 'outgoing'"),
        ("system_metrics", "name = 'total_simple_packets_processed' AND value >= 8000"),
    ] {
        wait(&format!("a row in {table} with {which}"), || {
            count(table, which).filter(|&rows| rows > 0)
        });
    }
    let export = export(&agent, "clickhouse");
    assert!(export.up && export.lost == 0, "{export:?}");
}
