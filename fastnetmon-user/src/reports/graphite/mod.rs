//! Graphite: plain text over TCP, by the incumbent's paths.
//!
//! `<prefix>.total.incoming.pps`, `<prefix>.networks.192_0_2_0_24.…`, `<prefix>.hosts.192_0_2_7.…`;
//! an IPv6 address has `_` for `:`. A point that comes twice is the same point, so what may not have
//! arrived is sent again.
//!
//! **Invariant**: one connection, kept.

mod settings;

use std::io::ErrorKind;
use std::net::IpAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

pub use self::settings::Settings;
use crate::model::PerSecond;
use crate::reports::parts::{Cadence, Speeds, address, number, words};
use crate::reports::queue::Queue;
use crate::reports::settings::Endpoint;
use crate::reports::{Backlog, Batch, Carrier, ExportError, Exporter, HostLoad, Report};

/// The pure part.
#[derive(Debug)]
pub struct Graphite {
    prefix: String,
    min_pps: u64,
    top_hosts: usize,
    cadence: Cadence,
    queue: Queue,
}

impl Graphite {
    /// As the settings say.
    pub fn new(settings: &Settings) -> Self {
        Self {
            prefix: settings.prefix.as_str().to_owned(),
            min_pps: settings.min_pps,
            top_hosts: settings.top_hosts as usize,
            cadence: Cadence::new(settings.interval_secs.duration()),
            queue: Queue::new(settings.queue_mb.bytes()),
        }
    }

    /// The points of a report.
    pub fn encode(&self, report: &Report) -> Batch {
        let hosts = report.loudest(self.min_pps, self.top_hosts);
        let mut points = Points::new(&self.prefix, report.unix.as_secs());
        points.totals(report);
        for network in &*report.networks {
            points.node.clear();
            node(&mut points.node, network.prefix.address());
            points.node.push(b'_');
            number(&mut points.node, network.prefix.len().into());
            for (speeds, way) in Speeds::of_gained(&network.gained, report.span).iter().zip(WAYS) {
                points.speed("networks", way, speeds.whole);
            }
        }
        for host in hosts {
            points.host(host, report);
        }
        Batch { to: "", lines: points.lines, bytes: points.out }
    }
}

const WAYS: [&str; 2] = ["incoming", "outgoing"];

impl Exporter for Graphite {
    const NAME: &'static str = "graphite";
    type Carrier = Connection;

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
struct Points {
    out: Vec<u8>,
    lines: u64,
    /// `<prefix>.`
    prefix: Vec<u8>,
    /// The host or network.
    node: Vec<u8>,
    /// ` <seconds since 1970>\n`
    end: Vec<u8>,
}

impl Points {
    fn new(prefix: &str, unix_secs: u64) -> Self {
        let mut begin = prefix.as_bytes().to_vec();
        if !begin.is_empty() {
            begin.push(b'.');
        }
        let mut end = vec![b' '];
        number(&mut end, unix_secs);
        end.push(b'\n');
        Self { out: Vec::new(), lines: 0, prefix: begin, node: Vec::new(), end }
    }

    fn totals(&mut self, report: &Report) {
        let gained = &report.gained;
        for (name, tally) in [
            ("incoming", gained.incoming),
            ("outgoing", gained.outgoing),
            ("internal", gained.internal),
            ("other", gained.other),
        ] {
            self.node.clear();
            self.node.extend_from_slice(name.as_bytes());
            let PerSecond { pps, bytes } = report.per_second(tally);
            self.point("total", &["pps"], pps);
            self.point("total", &["bps"], bytes.saturating_mul(8));
        }
    }

    fn host(&mut self, host: &HostLoad, report: &Report) {
        self.node.clear();
        node(&mut self.node, host.address);
        for (speeds, way) in Speeds::of_host(host, report.span).iter().zip(WAYS) {
            let PerSecond { pps, bytes } = speeds.whole;
            // Zeros are left out, as the incumbent does: an idle direction has no series.
            if pps > 0 {
                self.point("hosts", &[way, ".pps"], pps);
            }
            if bytes > 0 {
                self.point("hosts", &[way, ".bps"], bytes.saturating_mul(8));
            }
        }
    }

    fn speed(&mut self, kind: &'static str, way: &'static str, speed: PerSecond) {
        self.point(kind, &[way, ".pps"], speed.pps);
        self.point(kind, &[way, ".bps"], speed.bits());
    }

    fn point(&mut self, kind: &str, what: &[&str], value: u64) {
        let out = &mut self.out;
        out.extend_from_slice(&self.prefix);
        words(out, &[kind]);
        out.push(b'.');
        out.extend_from_slice(&self.node);
        out.push(b'.');
        words(out, what);
        out.push(b' ');
        number(out, value);
        out.extend_from_slice(&self.end);
        self.lines += 1;
    }
}

/// An address as a node of a path.
fn node(out: &mut Vec<u8>, of: IpAddr) {
    let from = out.len();
    address(out, of);
    for letter in out.iter_mut().skip(from) {
        if matches!(letter, b'.' | b':') {
            *letter = b'_';
        }
    }
}

/// The connection.
#[derive(Debug)]
pub struct Connection {
    server: Endpoint,
    stream: Option<TcpStream>,
}

impl Connection {
    /// To this listener, when there is something to send.
    pub const fn new(server: Endpoint) -> Self {
        Self { server, stream: None }
    }

    async fn open(&self) -> Result<TcpStream, ExportError> {
        TcpStream::connect((self.server.host(), self.server.port()))
            .await
            .map_err(|error| ExportError::retry(format!("`{}`: {error}", self.server.as_str())))
    }
}

impl Carrier for Connection {
    async fn carry(&mut self, batch: &Batch) -> Result<(), ExportError> {
        // Taken out, so that a delivery that is given up leaves no half line for the next one.
        let mut stream = match self.stream.take().filter(is_alive) {
            Some(stream) => stream,
            None => self.open().await?,
        };
        let written = stream.write_all(&batch.bytes).await;
        written
            .map_err(|error| ExportError::retry(format!("`{}`: {error}", self.server.as_str())))?;
        self.stream = Some(stream);
        Ok(())
    }
}

/// The other side never speaks: what comes is its end.
fn is_alive(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 64]) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::known;

    #[test]
    fn points_have_the_paths_that_are_known() {
        let batch = Graphite::new(&Settings::default()).encode(&known::report());
        let expected = "\
fastnetmon.total.incoming.pps 1110 1700000000
fastnetmon.total.incoming.bps 888000 1700000000
fastnetmon.total.outgoing.pps 10 1700000000
fastnetmon.total.outgoing.bps 4800 1700000000
fastnetmon.total.internal.pps 2 1700000000
fastnetmon.total.internal.bps 800 1700000000
fastnetmon.total.other.pps 0 1700000000
fastnetmon.total.other.bps 0 1700000000
fastnetmon.networks.192_0_2_0_24.incoming.pps 1010 1700000000
fastnetmon.networks.192_0_2_0_24.incoming.bps 808000 1700000000
fastnetmon.networks.192_0_2_0_24.outgoing.pps 10 1700000000
fastnetmon.networks.192_0_2_0_24.outgoing.bps 4800 1700000000
fastnetmon.networks.2001_db8___32.incoming.pps 100 1700000000
fastnetmon.networks.2001_db8___32.incoming.bps 80000 1700000000
fastnetmon.networks.2001_db8___32.outgoing.pps 0 1700000000
fastnetmon.networks.2001_db8___32.outgoing.bps 0 1700000000
fastnetmon.hosts.192_0_2_7.incoming.pps 1010 1700000000
fastnetmon.hosts.192_0_2_7.incoming.bps 808000 1700000000
fastnetmon.hosts.192_0_2_7.outgoing.pps 10 1700000000
fastnetmon.hosts.192_0_2_7.outgoing.bps 4800 1700000000
fastnetmon.hosts.2001_db8__9.incoming.pps 100 1700000000
fastnetmon.hosts.2001_db8__9.incoming.bps 80000 1700000000
";
        assert_eq!(String::from_utf8(batch.bytes).unwrap(), expected);
        assert_eq!(batch.lines, 22);
    }

    #[test]
    fn quiet_hosts_and_those_beyond_the_number_are_left_out() {
        let count = |min_pps, top_hosts| {
            let settings = Settings { min_pps, top_hosts, ..Settings::default() };
            let text = Graphite::new(&settings).encode(&known::report()).bytes;
            String::from_utf8(text).unwrap().matches(".hosts.").count()
        };
        assert_eq!([count(10, 9), count(101, 9), count(10, 1), count(10, 0)], [6, 4, 4, 0]);
    }
}
