//! InfluxDB: line protocol over HTTP, by the incumbent's measurements, tags and fields.
//!
//! Every line has the tag `agent` besides, so that several agents can write to one database. A point
//! that comes twice is the same point, so what may not have arrived is sent again.
//!
//! **Invariant**: numbers are written as the incumbent writes them, without a type, so that both
//! can write to one measurement.

mod settings;

use std::io::Write as _;
use std::net::IpAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub use self::settings::{Api, Settings};
use crate::model::{PerSecond, Tally};
use crate::reports::http::{Access, Http, HttpError, Reply};
use crate::reports::parts::{
    Cadence, LINE, PARTS, Pairs, Speeds, Word, address, both_ways, number, pairs, words,
};
use crate::reports::queue::Queue;
use crate::reports::{
    Backlog, Batch, Carrier, ExportError, Exporter, HostLoad, NetworkLoad, Report,
};

/// The pure part.
#[derive(Debug)]
pub struct InfluxDb {
    /// `,agent=<name>`
    agent: Vec<u8>,
    min_pps: u64,
    top_hosts: usize,
    cadence: Cadence,
    queue: Queue,
}

impl InfluxDb {
    /// As the settings say, for this agent.
    pub fn new(settings: &Settings, agent: &str) -> Self {
        let mut tag = b",agent=".to_vec();
        escaped(&mut tag, agent);
        Self {
            agent: tag,
            min_pps: settings.min_pps,
            top_hosts: settings.top_hosts as usize,
            cadence: Cadence::new(settings.interval_secs.duration()),
            queue: Queue::new(settings.queue_mb.bytes()),
        }
    }

    /// The lines of a report.
    pub fn encode(&self, report: &Report) -> Batch {
        let hosts = report.loudest(self.min_pps, self.top_hosts);
        let mut lines = Lines::new(&self.agent, report);
        lines.totals();
        for network in &*report.networks {
            lines.network(network);
        }
        lines.out.reserve(LINE.saturating_mul(hosts.len()));
        for host in hosts {
            lines.host(host);
        }
        lines.system();
        Batch { to: "", lines: lines.count, bytes: lines.out }
    }
}

impl Exporter for InfluxDb {
    const NAME: &'static str = "influxdb";
    type Carrier = Writer;

    fn take(&mut self, report: &Report) {
        if self.cadence.is_due(report.span) {
            let batch = self.encode(report);
            self.queue.push(batch);
        }
    }

    fn next(&mut self) -> Option<Batch> {
        self.queue.pop()
    }

    fn put_back(&mut self, batch: Batch) {
        self.queue.put_back(batch);
    }

    fn backlog(&self) -> Backlog {
        self.queue.backlog()
    }
}

/// Text in the making.
struct Lines<'a> {
    out: Vec<u8>,
    count: u64,
    report: &'a Report,
    agent: &'a [u8],
    /// ` <nanoseconds since 1970>\n`
    end: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(agent: &'a [u8], report: &'a Report) -> Self {
        let mut end = vec![b' '];
        number(&mut end, u64::try_from(report.unix.as_nanos()).unwrap_or(u64::MAX));
        end.push(b'\n');
        Self { out: Vec::new(), count: 0, report, agent, end }
    }

    fn begin(&mut self, measurement: &str, tag: &str) {
        words(&mut self.out, &[measurement]);
        self.out.extend_from_slice(self.agent);
        words(&mut self.out, &[",", tag, "="]);
    }

    fn end(&mut self) {
        // The last comma is where the blank before the time has to be.
        self.out.pop();
        self.out.extend_from_slice(&self.end);
        self.count += 1;
    }

    /// `<name>=<value>,`
    fn field(&mut self, name: &[&str], value: u64) {
        words(&mut self.out, name);
        self.out.push(b'=');
        number(&mut self.out, value);
        self.out.push(b',');
    }

    fn totals(&mut self) {
        let Report { families, gained, span, .. } = self.report;
        for (measurement, family) in
            [("total_traffic", &families.v4), ("total_traffic_ipv6", &families.v6)]
        {
            for (way, speeds) in WAYS.iter().zip(Speeds::of_gained(family, *span)) {
                self.begin(measurement, "direction");
                words(&mut self.out, &[way, " "]);
                self.field(&["packets"], speeds.whole.pps);
                self.field(&["bits"], speeds.whole.bits());
                for (part, speed) in PARTS.iter().zip(speeds.parts) {
                    self.field(&[part, "_packets"], speed.pps);
                    self.field(&[part, "_bits"], speed.bits());
                }
                self.end();
            }
        }
        // Whose they are is not counted, so these stand for both families.
        for (way, tally) in [("internal", gained.internal), ("other", gained.other)] {
            let PerSecond { pps, bytes } = self.report.per_second(tally);
            self.begin("total_traffic", "direction");
            words(&mut self.out, &[way, " "]);
            self.field(&["packets"], pps);
            self.field(&["bits"], bytes.saturating_mul(8));
            self.end();
        }
    }

    fn network(&mut self, network: &NetworkLoad) {
        let prefix = network.prefix;
        let measurement = match prefix.address() {
            IpAddr::V4(_) => "networks_traffic",
            IpAddr::V6(_) => "networks_ipv6_traffic",
        };
        self.begin(measurement, "network");
        // Writing to a vector cannot fail.
        let _infallible = write!(self.out, "{prefix}");
        self.both_ways(&Speeds::of_gained(&network.gained, self.report.span));
    }

    fn host(&mut self, host: &HostLoad) {
        let measurement = match host.address {
            IpAddr::V4(_) => "hosts_traffic",
            IpAddr::V6(_) => "hosts_ipv6_traffic",
        };
        self.begin(measurement, "host");
        address(&mut self.out, host.address);
        self.both_ways(&Speeds::of_host(host, self.report.span));
    }

    /// All fields and the end. Each has a comma before it; before the first there has to be a blank.
    fn both_ways(&mut self, speeds: &[Speeds; 2]) {
        let first = self.out.len();
        both_ways(&mut self.out, &PAIRS, speeds);
        if let Some(comma) = self.out.get_mut(first) {
            *comma = b' ';
        }
        self.out.extend_from_slice(&self.end);
        self.count += 1;
    }

    fn system(&mut self) {
        let Report { health, totals, moved, .. } = self.report;
        let unparsed: u64 = totals.unparsed.iter().map(|Tally { packets, .. }| packets).sum();
        let micros = u64::try_from(health.tick.as_micros()).unwrap_or(u64::MAX);
        self.begin("system_counters", "metric");
        words(&mut self.out, &["metric_value "]);
        self.field(&["total_simple_packets_processed"], totals.received());
        self.field(&["total_unparsed_packets"], unparsed);
        self.field(&["total_number_of_hosts"], u64::try_from(*moved).unwrap_or(u64::MAX));
        self.field(&["speed_recalculation_time_microseconds"], micros);
        self.field(&["dropped_packets"], health.dropped);
        self.end();
    }
}

const WAYS: [&str; 2] = ["incoming", "outgoing"];

/// `,<name>=`
static PAIRS: Pairs = pairs!(",", "=", "0");

/// A tag's value: commas, blanks and equal signs have a backslash before them.
fn escaped(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        if matches!(byte, b',' | b' ' | b'=') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// Writes over HTTP.
#[derive(Debug)]
pub struct Writer {
    http: Http,
    url: String,
}

impl Writer {
    /// As the settings say.
    ///
    /// # Errors
    /// When a file they name cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, HttpError> {
        let Settings { url, database, org, bucket, username, ca_file, .. } = settings;
        let secret = settings.secret()?;
        let (question, access) = match settings.api {
            Api::V1 => {
                let question = format!("write?db={}&precision=ns", encoded(database));
                (question, secret.map(|secret| Access::Basic(username.clone(), secret)))
            }
            Api::V2 => {
                let (org, bucket) = (encoded(org), encoded(bucket));
                let question = format!("api/v2/write?org={org}&bucket={bucket}&precision=ns");
                (question, secret.map(Access::Token))
            }
        };
        let http = Http::new("influxdb", url, access, ca_file, settings.gzip)?;
        let http = http.with_patience(settings.timeout_secs.duration());
        Ok(Self { http, url: format!("{}/{question}", url.as_str()) })
    }
}

impl Carrier for Writer {
    async fn carry(&mut self, batch: &Batch) -> Result<(), ExportError> {
        let Reply { status, words } = self.http.post(&self.url, &batch.bytes).await?;
        match status {
            200..=299 => Ok(()),
            // It understood us, and takes what it can.
            400 | 413 | 422 => Err(ExportError::Refused {
                reason: format!("InfluxDB answers {status}: {words}"),
                lines: batch.lines,
            }),
            404 => Err(ExportError::retry(format!(
                "InfluxDB answers 404: {words}; make the database or bucket"
            ))),
            _ => Err(ExportError::retry(format!("InfluxDB answers {status}: {words}"))),
        }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::known;

    fn lines() -> Vec<String> {
        let batch = InfluxDb::new(&Settings::default(), "edge 1").encode(&known::report());
        let text = String::from_utf8(batch.bytes).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(u64::try_from(lines.len()).unwrap(), batch.lines);
        lines
    }

    #[test]
    fn lines_have_the_measurements_tags_and_fields_that_are_known() {
        let lines = lines();
        assert_eq!(
            lines[0],
            "total_traffic,agent=edge\\ 1,direction=incoming packets=1010,bits=808000,\
             dropped_packets=0,dropped_bits=0,fragmented_packets=0,fragmented_bits=0,\
             tcp_packets=10,tcp_bits=8000,tcp_syn_packets=10,tcp_syn_bits=8000,\
             udp_packets=1000,udp_bits=800000,icmp_packets=0,icmp_bits=0 1700000000000000000"
        );
        assert!(lines[2].starts_with(
            "total_traffic_ipv6,agent=edge\\ 1,direction=incoming packets=100,bits=80000,"
        ));
        assert_eq!(
            lines[4],
            "total_traffic,agent=edge\\ 1,direction=internal packets=2,bits=800 1700000000000000000"
        );
        assert!(lines[6].starts_with(
            "networks_traffic,agent=edge\\ 1,network=192.0.2.0/24 packets_incoming=1010,"
        ));
        assert!(
            lines[7].starts_with("networks_ipv6_traffic,agent=edge\\ 1,network=2001:db8::/32 ")
        );
        assert_eq!(
            lines[8],
            "hosts_traffic,agent=edge\\ 1,host=192.0.2.7 packets_incoming=1010,\
             bits_incoming=808000,dropped_packets_incoming=0,dropped_bits_incoming=0,\
             fragmented_packets_incoming=0,fragmented_bits_incoming=0,tcp_packets_incoming=10,\
             tcp_bits_incoming=8000,tcp_syn_packets_incoming=10,tcp_syn_bits_incoming=8000,\
             udp_packets_incoming=1000,udp_bits_incoming=800000,icmp_packets_incoming=0,\
             icmp_bits_incoming=0,packets_outgoing=10,bits_outgoing=4800,\
             dropped_packets_outgoing=0,dropped_bits_outgoing=0,fragmented_packets_outgoing=0,\
             fragmented_bits_outgoing=0,tcp_packets_outgoing=0,tcp_bits_outgoing=0,\
             tcp_syn_packets_outgoing=0,tcp_syn_bits_outgoing=0,udp_packets_outgoing=10,\
             udp_bits_outgoing=4800,icmp_packets_outgoing=0,icmp_bits_outgoing=0 1700000000000000000"
        );
        assert!(lines[9].starts_with("hosts_ipv6_traffic,agent=edge\\ 1,host=2001:db8::9 "));
        assert_eq!(
            lines[10],
            "system_counters,agent=edge\\ 1,metric=metric_value \
             total_simple_packets_processed=0,total_unparsed_packets=0,total_number_of_hosts=2,\
             speed_recalculation_time_microseconds=0,dropped_packets=0 1700000000000000000"
        );
        assert_eq!(lines.len(), 11);
    }
}
