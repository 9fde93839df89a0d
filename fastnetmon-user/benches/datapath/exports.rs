//! What exports cost: a second of 65 k active hosts into Redis, lines of text, and detection while
//! every database is a black hole.
//!
//! **Invariant**: reports are made and carried by the rooms of the agent, from the gains the tick
//! hands over to the answers of a real Redis; only its CPU time is left out, for it is not ours.

use std::net::TcpListener;
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fastnetmon_user::counters::{Gain, Gains};
use fastnetmon_user::model::{Class, Counts, Direction, HostId, Moment, Prefix, Tally, Wall};
use fastnetmon_user::networks::{Plan, PrefixSet, Territory};
use fastnetmon_user::rates::Totals;
use fastnetmon_user::reports::clickhouse::{self, ClickHouse};
use fastnetmon_user::reports::graphite::{self, Graphite};
use fastnetmon_user::reports::influxdb::{self, InfluxDb};
use fastnetmon_user::reports::redis::{self, Link, Redis};
use fastnetmon_user::reports::{
    Desk, Endpoint, Exporter as _, Gatherer, Health, Interest, Pace, Wants, drive, shown, standing,
};
use fastnetmon_user::tables;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use crate::machine::thread_cpu;
use crate::report::{Must, Report, Row};
use crate::{Effort, latency};

/// Hosts that move each second.
const HOSTS: u32 = 65_536;

/// Commands of one second: both directions.
const COMMANDS: u64 = 2 * HOSTS as u64;

/// Nobody there answers anything: what is sent is dropped.
const BLACK_HOLES: &str = "\
[redis]\nenabled = true\nserver = '203.0.113.99:6379'\n\
[graphite]\nenabled = true\nserver = '203.0.113.99:2003'\n\
[influxdb]\nenabled = true\nurl = 'http://203.0.113.99:8086'\n\
[clickhouse]\nenabled = true\nurl = 'http://203.0.113.99:8123'\n";

/// Measures all three.
pub(crate) fn measure(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("exports (CPU time of the whole process, without the database)");
    let seconds = effort.of(10, 3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(into_redis(seconds, report))?;
    encoders(&told, effort, report);
    latency::measure_with(object, effort, report, BLACK_HOLES, ", every database a black hole")
}

/// A Redis of our own, ended with the value.
struct Server(Child);

impl Server {
    fn start() -> anyhow::Result<(Self, u16)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server cannot be started: `cargo xtask setup` brings it")?;
        let server = Self(child);
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok((server, port));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("redis-server does not answer")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

type Told = Arc<fastnetmon_user::reports::Report>;

/// Seconds of [`HOSTS`] hosts, each told when the one before has arrived.
async fn into_redis(seconds: u32, report: &mut Report) -> anyhow::Result<Told> {
    let (_server, port) = Server::start()?;
    let settings =
        redis::Settings { server: redis::Server::Tcp(here(port)?), ..redis::Settings::default() };
    let wants = Arc::new(Wants::default());
    let _all = wants.hold(Interest::AllHosts);
    let (hand, rounds) = mpsc::channel(2);
    let mut desk = Desk::new(Arc::clone(&wants));
    let mut latest = desk.told().latest;
    let stands = shown(Redis::NAME, "");
    let link = Link::new(&settings)?;
    let pace = Pace::with_deadline(Duration::from_secs(5));
    let driven = drive(Redis::new(&settings), link, desk.subscribe(), pace, Arc::clone(&stands));
    let driven = tokio::spawn(driven);
    let press = tokio::task::spawn_blocking(move || desk.run(rounds));
    let mut gatherer = Gatherer::new(wants, Some(hand), vec![Arc::clone(&stands)]);
    let territory = territory()?;
    let gains = gains(&territory);
    let mut spent = Vec::new();
    for second in 1..=u64::from(seconds) {
        let before = process_cpu();
        let totals = Totals::default();
        gatherer.take(Duration::from_secs(1), &totals, Some(Arc::clone(&gains)));
        let wall = Wall { read_at: Moment::default(), unix: Duration::from_secs(1_700_000_000) };
        gatherer.tell(wall, &totals, Vec::new, || territory.names(), Health::default);
        while standing(&stands).sent < second * COMMANDS {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        spent.push(process_cpu().saturating_sub(before).as_secs_f64() * 1e3);
    }
    let now = standing(&stands);
    if now.lost + now.uncertain + now.failures > 0 {
        bail!("not all arrived: {now:?}");
    }
    let told = latest.borrow_and_update().clone().context("a report was made")?;
    drop(gatherer);
    press.await?;
    driven.await?;
    report.add(Row {
        what: format!("{HOSTS} active hosts into Redis, one second"),
        value: crate::machine::median(spent),
        unit: "ms",
        must: Must::AtMost(60.0),
        detail: format!("{COMMANDS} INCRBY; report made, encoded, sent, answers read"),
    });
    Ok(told)
}

/// Lines a second of each encoder.
fn encoders(told: &Told, effort: Effort, report: &mut Report) {
    let (min_pps, top_hosts) = (0, HOSTS);
    let graphite = graphite::Settings { min_pps, top_hosts, ..graphite::Settings::default() };
    let graphite = Graphite::new(&graphite);
    let influxdb = influxdb::Settings { min_pps, top_hosts, ..influxdb::Settings::default() };
    let influxdb = InfluxDb::new(&influxdb, "edge-1");
    let clickhouse = clickhouse::Settings { min_pps, top_hosts, ..clickhouse::Settings::default() };
    let rounds = effort.of(10, 3);
    let mut row = |what: &str, encode: &mut dyn FnMut() -> u64| {
        let (mut lines, before) = (0, thread_cpu());
        for _ in 0..rounds {
            lines += encode();
        }
        let spent = thread_cpu().saturating_sub(before).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of lines")]
        let value = lines as f64 / spent / 1e6;
        report.add(Row {
            what: format!("{what} encoder"),
            value,
            unit: "M lines/s",
            must: Must::AtLeast(1.0),
            detail: format!("{HOSTS} hosts, choice of the loudest included"),
        });
    };
    row("Graphite", &mut || graphite.encode(told).lines);
    row("InfluxDB", &mut || influxdb.encode(told).lines);
    row("ClickHouse", &mut || {
        let mut exporter = ClickHouse::new(&clickhouse, "edge-1");
        exporter.encode(told);
        exporter.backlog().lines
    });
}

fn here(port: u16) -> anyhow::Result<Endpoint> {
    Endpoint::try_from(format!("127.0.0.1:{port}")).map_err(anyhow::Error::msg)
}

/// A /16.
fn territory() -> anyhow::Result<Territory> {
    let (prefix, _) = Prefix::parse_masked("10.0.0.0/16")?;
    let (ours, _) = PrefixSet::merged([prefix]);
    let (plan, writes) = Plan::new(&ours, 0)?;
    let shape = plan.shape(NonZeroU32::MIN, 0);
    let (parts, _rows) = tables::own(shape)?;
    Ok(Territory::new(ours, plan, &writes, shape, vec![parts.directory], vec![parts.flags]))
}

/// What all of its hosts gained in a second, both ways.
fn gains(territory: &Territory) -> Arc<Gains> {
    let mut counts = Counts::default();
    for (class, packets) in [(Class::Tcp, 900), (Class::Syn, 20), (Class::Udp, 80)] {
        if let Some(tally) = counts.0.get_mut(class as usize) {
            *tally = Tally { packets, bytes: packets * 700 };
        }
    }
    // More slots than there are.
    let hosts = (0..4 * HOSTS).map(HostId);
    let hosts: Vec<_> = hosts.filter(|&host| territory.address(host).is_some()).collect();
    let gain = |host, way| Gain::new(host, way, &counts, Tally::default());
    let both = Direction::BOTH.into_iter();
    let gains: Vec<_> =
        both.flat_map(|way| hosts.iter().map(move |&host| gain(host, way))).collect();
    Arc::new(Gains::from(gains))
}

fn process_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}
