//! ClickHouse: rows as JSON over HTTP, into tables with the incumbent's names.
//!
//! Rows of several seconds are inserted together, one insert a table, as ClickHouse wants it. What
//! may not have arrived is sent again: replicated tables know a block they have, `attacks` keeps one
//! row of two that are equal, and the rows of plain tables are speeds, which nobody adds up.
//!
//! **Invariant**: every row carries the agent's name.

mod settings;
mod tables;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub use self::settings::{Database, Settings};
pub use self::tables::{Spread, statements};
use crate::model::{Tally, plain_words};
use crate::reports::http::{Access, Http, HttpError, Reply, TOLD};
use crate::reports::parts::{
    Cadence, LINE, PARTS, Pairs, Speeds, Word, address, both_ways, number, pairs, words,
};
use crate::reports::queue::Queue;
use crate::reports::{Backlog, Batch, Carrier, Event, ExportError, Exporter, Report, What};
use crate::verdicts::{Ban, Cause, Verdict};

/// The pure part.
#[derive(Debug)]
pub struct ClickHouse {
    /// The name as JSON, quotes included.
    agent: Vec<u8>,
    min_pps: u64,
    top_hosts: usize,
    cadence: Cadence,
    batching: Duration,
    /// How much of a batch has come.
    gathered: Duration,
    /// By table.
    rows: BTreeMap<&'static str, Batch>,
    last_event: u64,
    queue: Queue,
}

impl ClickHouse {
    /// As the settings say, for this agent.
    pub fn new(settings: &Settings, agent: &str) -> Self {
        Self {
            agent: serde_json::to_vec(agent).unwrap_or_default(),
            min_pps: settings.min_pps,
            top_hosts: settings.top_hosts as usize,
            cadence: Cadence::new(settings.interval_secs.duration()),
            batching: settings.batch_secs.duration(),
            gathered: Duration::ZERO,
            rows: BTreeMap::new(),
            last_event: 0,
            queue: Queue::new(settings.queue_mb.bytes()),
        }
    }

    /// Puts a report's rows down, by table.
    pub fn encode(&mut self, report: &Report) {
        let Self { agent, rows, .. } = self;
        let mut rows = Rows::new(rows, agent, report.unix);
        rows.totals(report);
        rows.system(report);
        for network in &*report.networks {
            let table = match network.prefix.address() {
                IpAddr::V4(_) => "network_metrics",
                IpAddr::V6(_) => "network_metrics_ipv6",
            };
            let speeds = Speeds::of_gained(&network.gained, report.span);
            let prefix = network.prefix.to_string();
            rows.both_ways(table, "network", |out| words(out, &[&prefix]), &speeds);
        }
        let hosts = report.loudest(self.min_pps, self.top_hosts);
        let [of_v4, of_v6] = HOSTS;
        let fours = hosts.iter().filter(|host| host.address.is_ipv4()).count();
        for (table, count) in [(of_v4, fours), (of_v6, hosts.len() - fours)] {
            if count > 0 {
                table_of(rows.tables, table).bytes.reserve(LINE.saturating_mul(count));
            }
        }
        for host in hosts {
            let table = if host.address.is_ipv4() { of_v4 } else { of_v6 };
            let speeds = Speeds::of_host(host, report.span);
            rows.both_ways(table, "host", |out| address(out, host.address), &speeds);
        }
    }

    fn events(&mut self, report: &Report) -> bool {
        let mut any = false;
        for event in report.events_after(self.last_event) {
            let Self { agent, rows, .. } = self;
            let mut rows = Rows::new(rows, agent, event.unix);
            any |= rows.event(event);
        }
        self.last_event = report.events.last().map_or(self.last_event, |event| event.number);
        any
    }

    /// What was gathered is ready to go.
    fn close(&mut self) {
        self.gathered = Duration::ZERO;
        for (_, batch) in std::mem::take(&mut self.rows) {
            self.queue.push(batch);
        }
    }
}

impl Exporter for ClickHouse {
    const NAME: &'static str = "clickhouse";
    type Carrier = Inserter;

    fn take(&mut self, report: &Report) {
        let is_urgent = self.events(report);
        if self.cadence.is_due(report.span) {
            self.encode(report);
        }
        self.gathered += report.span;
        // An attack is not kept waiting.
        if is_urgent || self.gathered + Duration::from_millis(500) >= self.batching {
            self.close();
        }
    }

    fn next(&mut self) -> Option<Batch> {
        self.queue.pop()
    }

    fn put_back(&mut self, batch: Batch) {
        self.queue.put_back(batch);
    }

    fn backlog(&self) -> Backlog {
        let backlog = self.queue.backlog();
        let gathered: u64 = self.rows.values().map(|batch| batch.lines).sum();
        Backlog { lines: backlog.lines + gathered, ..backlog }
    }

    fn finish(&mut self) {
        self.close();
    }
}

/// Rows in the making.
struct Rows<'a> {
    tables: &'a mut BTreeMap<&'static str, Batch>,
    /// How each row begins and ends.
    begin: Vec<u8>,
    end: Vec<u8>,
}

impl<'a> Rows<'a> {
    /// Of this agent, at this time since 1970.
    fn new(tables: &'a mut BTreeMap<&'static str, Batch>, agent: &[u8], unix: Duration) -> Self {
        let mut begin = b"{\"metricDateTime\":".to_vec();
        number(&mut begin, unix.as_secs());
        words(&mut begin, &[",\"agent\":"]);
        begin.extend_from_slice(agent);
        let mut end = Vec::new();
        field(&mut end, &["schema_version"], tables::SCHEMA.into());
        words(&mut end, &["}\n"]);
        Self { tables, begin, end }
    }

    /// Begins a row, has it filled, ends it.
    fn row(&mut self, table: &'static str, fill: impl FnOnce(&mut Vec<u8>)) {
        let Self { tables, begin, end } = self;
        let batch = table_of(tables, table);
        batch.bytes.extend_from_slice(begin);
        fill(&mut batch.bytes);
        batch.bytes.extend_from_slice(end);
        batch.lines += 1;
    }

    fn both_ways(
        &mut self,
        table: &'static str,
        key: &str,
        write: impl FnOnce(&mut Vec<u8>),
        speeds: &[Speeds; 2],
    ) {
        self.row(table, |out| {
            words(out, &[",\"", key, "\":\""]);
            // Addresses and prefixes need no escapes.
            write(out);
            out.push(b'"');
            both_ways(out, &PAIRS, speeds);
        });
    }

    fn one_way(&mut self, table: &'static str, way: &str, speeds: &Speeds) {
        self.row(table, |out| {
            words(out, &[",\"direction\":\"", way, "\""]);
            field(out, &["packets"], speeds.whole.pps);
            field(out, &["bits"], speeds.whole.bits());
            for (part, speed) in PARTS.iter().zip(speeds.parts) {
                field(out, &[part, "_packets"], speed.pps);
                field(out, &[part, "_bits"], speed.bits());
            }
        });
    }

    fn totals(&mut self, report: &Report) {
        let Report { families, gained, span, .. } = report;
        let by_family = [&families.v4, &families.v6].map(|family| Speeds::of_gained(family, *span));
        for (table, speeds) in ["total_metrics_ipv4", "total_metrics_ipv6"].iter().zip(&by_family) {
            for (way, speeds) in ["incoming", "outgoing"].iter().zip(speeds) {
                self.one_way(table, way, speeds);
            }
        }
        let whole = |tally: Tally| Speeds { whole: report.per_second(tally), ..Speeds::default() };
        let both = families.both();
        let [incoming, outgoing] = Speeds::of_gained(&both, *span);
        for (way, speeds) in [
            ("incoming", Speeds { whole: report.per_second(gained.incoming), ..incoming }),
            ("outgoing", Speeds { whole: report.per_second(gained.outgoing), ..outgoing }),
            ("internal", whole(gained.internal)),
            ("other", whole(gained.other)),
        ] {
            self.one_way("total_metrics", way, &speeds);
        }
    }

    fn system(&mut self, report: &Report) {
        let Report { health, totals, moved, .. } = report;
        let unparsed: u64 = totals.unparsed.iter().map(|tally| tally.packets).sum();
        let micros = u64::try_from(health.tick.as_micros()).unwrap_or(u64::MAX);
        for (name, sort, value) in [
            ("total_simple_packets_processed", "counter", totals.received()),
            ("total_unparsed_packets", "counter", unparsed),
            ("dropped_packets", "counter", health.dropped),
            ("total_number_of_hosts", "gauge", u64::try_from(*moved).unwrap_or(u64::MAX)),
            ("speed_recalculation_time_microseconds", "gauge", micros),
        ] {
            self.row("system_metrics", |out| {
                words(out, &[",\"name\":\"", name, "\",\"type\":\"", sort, "\""]);
                field(out, &["value"], value);
            });
        }
    }

    /// An event, if it is about an attack.
    fn event(&mut self, event: &Arc<Event>) -> bool {
        let What::Verdict { verdict, .. } = &event.what else { return false };
        let name = verdict.name();
        match verdict {
            Verdict::Ban(ban) | Verdict::Details(ban, _) | Verdict::Unban(ban, _) => {
                self.ban(name, ban);
            }
            Verdict::Alert(alert) | Verdict::Calm(alert) => {
                self.row("attacks", |out| {
                    field(out, &["id"], alert.id.0);
                    text(out, "event", name);
                    text(out, "address", &alert.prefix.to_string());
                    text(out, "direction", alert.direction.name());
                    field(out, &["pps"], alert.pps);
                    field(out, &["peak_pps"], alert.peak_pps);
                    field(out, &["hosts"], alert.hosts.into());
                    cause(out, &alert.cause);
                    text(out, "host_group", &alert.group);
                });
            }
        }
        true
    }

    fn ban(&mut self, name: &str, ban: &Ban) {
        self.row("attacks", |out| {
            field(out, &["id"], ban.id.0);
            text(out, "event", name);
            text(out, "address", &ban.address.to_string());
            text(out, "direction", ban.direction.name());
            field(out, &["pps"], ban.pps);
            field(out, &["peak_pps"], ban.peak_pps);
            field(out, &["peak_mbps"], ban.peak_mbps);
            field(out, &["packets"], ban.total.packets);
            field(out, &["bytes"], ban.total.bytes);
            field(out, &["hosts"], 1);
            cause(out, &ban.cause);
            text(out, "kind", ban.attack.kind.name());
            text(out, "because", &ban.attack.because);
            text(out, "host_group", &ban.group);
            field(out, &["dry_run"], ban.dry_run.into());
        });
    }
}

fn cause(out: &mut Vec<u8>, cause: &Cause) {
    match cause {
        Cause::Rule { subject, measure, threshold, measured } => {
            text(out, "cause", &format!("{}_{}", subject.name(), measure.name()));
            field(out, &["threshold"], *threshold);
            field(out, &["measured"], *measured);
        }
        Cause::Operator { .. } => text(out, "cause", "operator"),
    }
}

fn table_of<'a>(
    tables: &'a mut BTreeMap<&'static str, Batch>,
    name: &'static str,
) -> &'a mut Batch {
    tables.entry(name).or_insert_with(|| Batch { to: name, ..Batch::default() })
}

/// Tables of hosts, by family.
const HOSTS: [&str; 2] = ["host_metrics", "host_metrics_ipv6"];

/// `,"<name>":`; what a row does not say is zero, as a column of numbers has it.
static PAIRS: Pairs = pairs!(",\"", "\":");

/// `,"<name>":<value>`
fn field(out: &mut Vec<u8>, name: &[&str], value: u64) {
    out.extend_from_slice(b",\"");
    words(out, name);
    out.extend_from_slice(b"\":");
    number(out, value);
}

/// `,"<name>":"<value>"`, with whatever escapes it needs.
fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    words(out, &[",\"", name, "\":"]);
    out.extend(serde_json::to_vec(value).unwrap_or_default());
}

/// Inserts over HTTP.
#[derive(Debug)]
pub struct Inserter {
    http: Http,
    url: String,
    database: String,
}

impl Inserter {
    /// As the settings say.
    ///
    /// # Errors
    /// When a file they name cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, HttpError> {
        let Settings { url, database, username, ca_file, .. } = settings;
        let access = match settings.secret()? {
            Some(secret) => Some(Access::Basic(username.clone(), secret)),
            None if username == "default" || username.is_empty() => None,
            None => Some(Access::User(username.clone())),
        };
        let http = Http::new("clickhouse", url, access, ca_file, false)?;
        let http = http.with_patience(settings.timeout_secs.duration());
        let database = database.as_str().to_owned();
        Ok(Self { http, url: url.as_str().to_owned(), database })
    }

    /// Makes database and tables. Returns what the server's version is.
    ///
    /// # Errors
    /// What the server says against it.
    pub fn init(&self, settings: &Settings, spread: &Spread) -> Result<String, String> {
        let version = plain_words(&self.ask("SELECT version()")?, TOLD);
        for statement in statements(settings, spread, has_ttl(&version)) {
            self.ask(&statement)?;
        }
        Ok(version)
    }

    /// A statement, and the answer.
    ///
    /// # Errors
    /// When there is none, or it is no.
    pub fn ask(&self, statement: &str) -> Result<String, String> {
        let url = format!("{}/", self.url);
        let posted = self.http.post_and_wait(&url, statement.as_bytes());
        let Reply { status, words } = posted.map_err(|error| error.to_string())?;
        if status == 200 {
            return Ok(words.trim().to_owned());
        }
        let first = statement.lines().next().unwrap_or_default();
        Err(format!("ClickHouse answers {status} to `{first}`: {words}"))
    }
}

/// Does a server of this version forget rows by itself?
pub fn has_ttl(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (19, 6)
}

impl Carrier for Inserter {
    async fn carry(&mut self, batch: &Batch) -> Result<(), ExportError> {
        let insert = format!("INSERT INTO {}.{} FORMAT JSONEachRow", self.database, batch.to);
        let url = format!("{}/?query={}", self.url, utf8_percent_encode(&insert, NON_ALPHANUMERIC));
        let Reply { status, words } = self.http.post(&url, &batch.bytes).await?;
        match status {
            200 => Ok(()),
            400 | 413 => Err(ExportError::Refused {
                reason: format!("ClickHouse answers {status}: {words}"),
                lines: batch.lines,
            }),
            404 => Err(ExportError::retry(format!(
                "ClickHouse answers 404: {words}; `fastnetmon export init clickhouse` makes the tables"
            ))),
            _ => Err(ExportError::retry(format!("ClickHouse answers {status}: {words}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::reports::known;
    use crate::reports::settings::BaseUrl;

    /// The rows of a report, by table.
    fn rows(exporter: &mut ClickHouse, report: &Report) -> Vec<(&'static str, Vec<String>)> {
        exporter.take(report);
        exporter.finish();
        std::iter::from_fn(|| exporter.next())
            .map(|batch| {
                let text = String::from_utf8(batch.bytes).unwrap();
                let rows: Vec<String> = text.lines().map(str::to_owned).collect();
                assert_eq!(u64::try_from(rows.len()).unwrap(), batch.lines);
                (batch.to, rows)
            })
            .collect()
    }

    #[test]
    fn rows_go_to_the_tables_that_are_known_and_are_json() {
        let mut exporter = ClickHouse::new(&Settings::default(), "edge \"1\"");
        let all = rows(&mut exporter, &known::report());
        let counts: Vec<(&str, usize)> = all.iter().map(|(to, rows)| (*to, rows.len())).collect();
        let expected = [
            ("attacks", 2),
            ("host_metrics", 1),
            ("host_metrics_ipv6", 1),
            ("network_metrics", 1),
            ("network_metrics_ipv6", 1),
            ("system_metrics", 5),
            ("total_metrics", 4),
            ("total_metrics_ipv4", 2),
            ("total_metrics_ipv6", 2),
        ];
        assert_eq!(counts, expected);
        let sql = statements(&Settings::default(), &Spread::default(), true).join("\n");
        for (to, rows) in &all {
            let table = sql.split("CREATE TABLE").find(|sql| sql.contains(&format!(".{to} (")));
            for row in rows {
                let row: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_str(row).unwrap();
                assert_eq!(row["agent"], "edge \"1\"");
                for column in row.keys() {
                    assert!(table.unwrap().contains(&format!("    {column} ")), "{to}.{column}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_written_as_it_always_was() {
        let mut exporter = ClickHouse::new(&Settings::default(), "edge-1");
        let all = rows(&mut exporter, &known::report());
        assert_eq!(
            all[6].1[2],
            "{\"metricDateTime\":1700000000,\"agent\":\"edge-1\",\"direction\":\"internal\",\
             \"packets\":2,\"bits\":800,\"dropped_packets\":0,\"dropped_bits\":0,\
             \"fragmented_packets\":0,\"fragmented_bits\":0,\"tcp_packets\":0,\"tcp_bits\":0,\
             \"tcp_syn_packets\":0,\"tcp_syn_bits\":0,\"udp_packets\":0,\"udp_bits\":0,\
             \"icmp_packets\":0,\"icmp_bits\":0,\"schema_version\":1}"
        );
        assert_eq!(
            all[0].1[0],
            "{\"metricDateTime\":1700000000,\"agent\":\"edge-1\",\"id\":1,\"event\":\"ban\",\
             \"address\":\"192.0.2.7\",\"direction\":\"incoming\",\"pps\":40000,\
             \"peak_pps\":40000,\"peak_mbps\":32,\"packets\":0,\"bytes\":0,\"hosts\":1,\
             \"cause\":\"total_pps\",\"threshold\":30000,\"measured\":40000,\
             \"kind\":\"udp_flood\",\"because\":\"100 % of the packets are udp\",\
             \"host_group\":\"\",\"dry_run\":0,\"schema_version\":1}"
        );
    }

    #[test]
    fn a_row_of_a_host_says_what_is_not_zero() {
        let mut exporter = ClickHouse::new(&Settings::default(), "edge-1");
        let all = rows(&mut exporter, &known::report());
        assert_eq!(
            all[1].1[0],
            "{\"metricDateTime\":1700000000,\"agent\":\"edge-1\",\"host\":\"192.0.2.7\",\
             \"packets_incoming\":1010,\"bits_incoming\":808000,\"tcp_packets_incoming\":10,\
             \"tcp_bits_incoming\":8000,\"tcp_syn_packets_incoming\":10,\
             \"tcp_syn_bits_incoming\":8000,\"udp_packets_incoming\":1000,\
             \"udp_bits_incoming\":800000,\"packets_outgoing\":10,\"bits_outgoing\":4800,\
             \"udp_packets_outgoing\":10,\"udp_bits_outgoing\":4800,\"schema_version\":1}"
        );
    }

    #[test]
    fn seconds_are_inserted_together_and_an_event_is_told_once_and_at_once() {
        let mut exporter = ClickHouse::new(&Settings::default(), "edge-1");
        let report = known::report();
        exporter.take(&report);
        assert_eq!(exporter.next().unwrap().to, "attacks");
        while exporter.next().is_some() {}
        for _ in 0..4 {
            exporter.take(&report);
            assert!(exporter.next().is_none());
        }
        exporter.take(&report);
        let hosts = exporter.next().unwrap();
        assert_eq!((hosts.to, hosts.lines), ("host_metrics", 5), "two seconds each");
    }

    #[test]
    fn the_version_a_server_says_it_has_is_plain() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                    if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
                        length = text.trim().parse().unwrap();
                    }
                }
                stream.read_exact(&mut vec![0; length]).unwrap();
                let body = "24.8\u{1b}[2J\u{202e}.1\n";
                let head = format!("Content-Length: {}\r\nConnection: close", body.len());
                write!(stream.get_mut(), "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").unwrap();
            }
        });
        let settings = Settings { url: BaseUrl::try_from(url).unwrap(), ..Settings::default() };
        let inserter = Inserter::new(&settings).unwrap();
        assert_eq!(inserter.init(&settings, &Spread::default()), Ok("24.8 [2J .1".to_owned()));
    }

    #[test]
    fn old_servers_are_known_by_their_version() {
        assert!(["19.6.2.11", "20.1", "23.8.1.1"].into_iter().all(has_ttl));
        assert!(!["18.16.1", "19.5.3", "x"].into_iter().any(has_ttl));
    }
}
