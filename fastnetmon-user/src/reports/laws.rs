//! One law for all exporters, against a server that does only what it is told.
//!
//! A report arrives. A sink that is dead, slow, flapping or full delays nobody, loses nothing while
//! there is room, and says what it lost when there is none. Nothing that must not be told twice is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::counters::Gain;
use crate::model::{Class, Counts, Direction, HostId, Prefix, Tally};
use crate::reports::clickhouse::{self, ClickHouse, Inserter};
use crate::reports::graphite::{self, Connection, Graphite};
use crate::reports::influxdb::{self, InfluxDb, Writer};
use crate::reports::redis::{self, Link, Redis};
use crate::reports::settings::{BaseUrl, Endpoint, QueueMb, Span};
use crate::reports::{
    Exporter, Gained, HostLoad, NetworkLoad, Pace, Report, Shown, Standing, Subscription, drive,
    shown, standing,
};

/// How long anything may take before a test fails.
const LONG: Duration = Duration::from_secs(30);

/// What the server does with whoever comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mood {
    /// Takes what it is given and answers.
    Well,
    /// Takes a connection and never reads.
    Deaf,
    /// Takes what it is given and never answers.
    Mute,
    /// Ends the connection in the middle of what it is given, every other time.
    Flapping,
    /// Says that it takes nothing.
    Full,
}

/// What a sink speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tongue {
    Redis,
    Lines,
    Http,
}

/// What arrived.
#[derive(Debug, Default)]
struct Arrived {
    lines: AtomicU64,
    /// What `INCRBY` added.
    added: AtomicU64,
    /// Heads of requests.
    heads: Mutex<String>,
    connections: AtomicU64,
}

struct Server {
    port: u16,
    mood: Arc<Mutex<Mood>>,
    arrived: Arc<Arrived>,
}

impl Server {
    fn start(tongue: Tongue, mood: Mood) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), tongue, mood)
    }

    fn on(listener: TcpListener, tongue: Tongue, mood: Mood) -> Self {
        let port = listener.local_addr().unwrap().port();
        let mood = Arc::new(Mutex::new(mood));
        let arrived = Arc::new(Arrived::default());
        let (moods, counts) = (Arc::clone(&mood), Arc::clone(&arrived));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, moods, counts) = (stream.unwrap(), moods.clone(), counts.clone());
                std::thread::spawn(move || attend(&stream, tongue, &moods, &counts));
            }
        });
        Self { port, mood, arrived }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn lines(&self) -> u64 {
        self.arrived.lines.load(Ordering::SeqCst)
    }

    fn added(&self) -> u64 {
        self.arrived.added.load(Ordering::SeqCst)
    }
}

/// Serves one connection; what goes wrong ends it.
fn attend(stream: &TcpStream, tongue: Tongue, moods: &Mutex<Mood>, arrived: &Arrived) {
    let number = arrived.connections.fetch_add(1, Ordering::SeqCst);
    let mood = || *moods.lock().unwrap();
    if mood() == Mood::Deaf {
        while mood() == Mood::Deaf {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        stream.shutdown(Shutdown::Both).unwrap_or_default();
        return;
    }
    let mut reader = BufReader::new(stream);
    let mut begun = 0;
    let served: std::io::Result<()> = (|| loop {
        begun += 1;
        let breaks = mood() == Mood::Flapping && number.is_multiple_of(2) && begun == 4;
        match tongue {
            Tongue::Redis => redis_command(&mut reader, stream, &mood, arrived)?,
            Tongue::Lines => line(&mut reader, stream, &mood, arrived)?,
            Tongue::Http => request(&mut reader, stream, &mood, number, arrived)?,
        }
        if breaks {
            return Ok(());
        }
    })();
    drop(served);
    stream.shutdown(Shutdown::Both).unwrap_or_default();
}

fn redis_command(
    reader: &mut BufReader<&TcpStream>,
    mut writer: &TcpStream,
    mood: &impl Fn() -> Mood,
    arrived: &Arrived,
) -> std::io::Result<()> {
    let number = |reader: &mut BufReader<&TcpStream>| -> std::io::Result<usize> {
        let mut text = String::new();
        if reader.read_line(&mut text)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(text.trim_start_matches(['*', '$']).trim().parse().unwrap())
    };
    let mut words = Vec::new();
    for _ in 0..number(reader)? {
        let mut word = vec![0; number(reader)? + 2];
        reader.read_exact(&mut word)?;
        words.push(String::from_utf8(word[..word.len() - 2].to_vec()).unwrap());
    }
    let is_count = words[0] == "INCRBY";
    match mood() {
        Mood::Full if is_count => return writer.write_all(b"-OOM no room\r\n"),
        Mood::Mute => return Ok(()),
        _ => {}
    }
    if is_count {
        arrived.lines.fetch_add(1, Ordering::SeqCst);
        arrived.added.fetch_add(words[2].parse().unwrap(), Ordering::SeqCst);
    }
    writer.write_all(match words[0].as_str() {
        "PING" => b"+PONG\r\n",
        "INCRBY" => b":1\r\n",
        _ => b"+OK\r\n",
    })
}

fn line(
    reader: &mut BufReader<&TcpStream>,
    _writer: &TcpStream,
    _mood: &impl Fn() -> Mood,
    arrived: &Arrived,
) -> std::io::Result<()> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 || !text.ends_with('\n') {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    assert_eq!(text.split(' ').count(), 3, "a line is whole: {text}");
    arrived.lines.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

fn request(
    reader: &mut BufReader<&TcpStream>,
    mut writer: &TcpStream,
    mood: &impl Fn() -> Mood,
    number: u64,
    arrived: &Arrived,
) -> std::io::Result<()> {
    let (mut length, mut zipped) = (0, false);
    loop {
        let mut text = String::new();
        if reader.read_line(&mut text)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        arrived.heads.lock().unwrap().push_str(&text);
        let text = text.trim().to_lowercase();
        if text.is_empty() {
            break;
        }
        if let Some(bytes) = text.strip_prefix("content-length: ") {
            length = bytes.parse().unwrap();
        }
        zipped |= text == "content-encoding: gzip";
    }
    if mood() == Mood::Flapping && number.is_multiple_of(2) {
        return Err(std::io::ErrorKind::ConnectionReset.into());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if zipped {
        let mut plain = Vec::new();
        GzDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
        body = plain;
    }
    match mood() {
        Mood::Full => {
            return writer.write_all(b"HTTP/1.1 503 Full\r\nContent-Length: 4\r\n\r\nfull");
        }
        Mood::Mute => return Ok(()),
        _ => {}
    }
    let lines = body.split(|&byte| byte == b'\n').count() - 1;
    arrived.lines.fetch_add(u64::try_from(lines).unwrap(), Ordering::SeqCst);
    writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

/// An exporter that is being driven.
struct Scene {
    hand: mpsc::Sender<Arc<Report>>,
    shown: Shown,
    driven: JoinHandle<()>,
}

impl Scene {
    fn start<E: Exporter>((exporter, carrier): (E, E::Carrier)) -> Self {
        let pace = Pace {
            patience: Duration::from_millis(2500),
            first_rest: Duration::from_millis(10),
            longest_rest: Duration::from_millis(50),
        };
        let (hand, reports) = mpsc::channel(8);
        let subscription = Subscription { reports, missed: Arc::default() };
        let shown = shown(E::NAME, "");
        let driven = tokio::spawn(drive(exporter, carrier, subscription, pace, Arc::clone(&shown)));
        Self { hand, shown, driven }
    }

    /// Hands reports over. That they are taken, and soon, is the first law.
    async fn tell(&self, report: &Report, times: u64) {
        for _ in 0..times {
            let taken = self.hand.send(Arc::new(report.clone()));
            tokio::time::timeout(Duration::from_secs(2), taken)
                .await
                .expect("a report is taken whatever the sink does")
                .unwrap();
        }
    }

    #[track_caller]
    fn wait(&self, what: &str, is: impl Fn(&Standing) -> bool) -> impl Future<Output = Standing> {
        let (shown, what) = (Arc::clone(&self.shown), what.to_owned());
        async move {
            for _ in 0..LONG.as_millis() / 5 {
                let now = standing(&shown);
                if is(&now) {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("waited in vain for {what}: {:?}", standing(&shown));
        }
    }

    /// No more reports; what can be sent is sent.
    async fn end(self) -> Standing {
        drop(self.hand);
        tokio::time::timeout(LONG, self.driven).await.unwrap().unwrap();
        standing(&self.shown)
    }
}

/// So many hosts, each of which got 1000 bytes and sent 10.
fn report(hosts: u32) -> Report {
    let gain = |direction, bytes| {
        let mut counts = Counts::default();
        counts.0[Class::Udp as usize] = Tally { packets: 10, bytes };
        Gain::new(HostId(1), direction, &counts, Tally::default())
    };
    let hosts: Vec<HostLoad> = (0..hosts)
        .map(|number| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).into();
            let incoming = Some(gain(Direction::Incoming, 1000));
            HostLoad::new(address, 0, incoming, Some(gain(Direction::Outgoing, 10)))
        })
        .collect();
    let prefix = Prefix::parse_masked("10.0.0.0/8").unwrap().0;
    let network = NetworkLoad { prefix, gained: Gained::default(), moved: 1 };
    Report {
        unix: Duration::from_secs(1_700_000_000),
        span: Duration::from_secs(1),
        hosts,
        networks: Arc::from([network]),
        ..Report::default()
    }
}

fn here(port: u16) -> Endpoint {
    Endpoint::try_from(format!("127.0.0.1:{port}")).unwrap()
}

fn url(port: u16) -> BaseUrl {
    BaseUrl::try_from(format!("http://127.0.0.1:{port}")).unwrap()
}

/// An exporter as it is configured, for a server on this port.
trait Candidate: Exporter + Sized {
    const TONGUE: Tongue;
    fn candidate(port: u16) -> (Self, Self::Carrier);
}

impl Candidate for Redis {
    const TONGUE: Tongue = Tongue::Redis;
    fn candidate(port: u16) -> (Self, Link) {
        let settings = redis::Settings {
            server: redis::Server::Tcp(here(port)),
            queue_mb: QueueMb::try_from(1).unwrap(),
            timeout_secs: Span::of(2),
            ..redis::Settings::default()
        };
        (Self::new(&settings), Link::new(&settings).unwrap())
    }
}

impl Candidate for Graphite {
    const TONGUE: Tongue = Tongue::Lines;
    fn candidate(port: u16) -> (Self, Connection) {
        let settings = graphite::Settings {
            server: here(port),
            top_hosts: 1_000_000,
            queue_mb: QueueMb::try_from(1).unwrap(),
            ..graphite::Settings::default()
        };
        (Self::new(&settings), Connection::new(settings.server))
    }
}

impl Candidate for InfluxDb {
    const TONGUE: Tongue = Tongue::Http;
    fn candidate(port: u16) -> (Self, Writer) {
        let settings = influxdb::Settings {
            url: url(port),
            queue_mb: QueueMb::try_from(1).unwrap(),
            timeout_secs: Span::of(1),
            ..influxdb::Settings::default()
        };
        (Self::new(&settings, "edge-1"), Writer::new(&settings).unwrap())
    }
}

impl Candidate for ClickHouse {
    const TONGUE: Tongue = Tongue::Http;
    fn candidate(port: u16) -> (Self, Inserter) {
        let settings = clickhouse::Settings {
            url: url(port),
            queue_mb: QueueMb::try_from(1).unwrap(),
            batch_secs: Span::of(1),
            timeout_secs: Span::of(1),
            ..clickhouse::Settings::default()
        };
        (Self::new(&settings, "edge-1"), Inserter::new(&settings).unwrap())
    }
}

/// Lines of one report of three hosts, by this exporter.
fn lines_of<E: Candidate>() -> u64 {
    let (mut exporter, _carrier) = E::candidate(1);
    exporter.take(&report(3));
    exporter.finish();
    std::iter::from_fn(|| exporter.next()).map(|batch| batch.lines).sum()
}

async fn a_report_arrives<E: Candidate>() {
    let server = Server::start(E::TONGUE, Mood::Well);
    let scene = Scene::start(E::candidate(server.port));
    scene.tell(&report(3), 5).await;
    let standing = scene.end().await;
    // A plain connection has no answer: what was written may still be on its way.
    arrives(&server, standing.sent).await;
    if E::TONGUE == Tongue::Redis {
        assert_eq!(server.added(), 5 * 3 * 1010, "each byte once");
    } else {
        assert_eq!(standing.sent, 5 * lines_of::<E>());
    }
    assert_eq!((standing.lost, standing.up, standing.error), (0, true, None));
    assert_eq!((standing.uncertain, standing.waiting), (0, 0));
}

async fn arrives(server: &Server, lines: u64) {
    for _ in 0..LONG.as_millis() / 5 {
        if server.lines() >= lines {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} of {lines} lines arrived", server.lines());
}

async fn a_dead_one_loses_nothing_while_there_is_room<E: Candidate>() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let scene = Scene::start(E::candidate(port));
    scene.tell(&report(3), 10).await;
    let standing = scene.wait("failures", |now| now.failures >= 3 && !now.up).await;
    assert!(standing.error.unwrap().contains(&port.to_string()), "names the place");
    assert!(standing.waiting > 0 && standing.lost == 0);
    let server = Server::on(TcpListener::bind(("127.0.0.1", port)).unwrap(), E::TONGUE, Mood::Well);
    scene.wait("recovery", |now| now.up && now.waiting == 0).await;
    let standing = scene.end().await;
    assert_eq!((standing.lost, standing.uncertain, standing.missed), (0, 0, 0));
    arrives(&server, standing.sent).await;
    if E::TONGUE == Tongue::Redis {
        assert_eq!(server.added(), 10 * 3 * 1010, "each byte once");
    } else {
        assert_eq!(server.lines(), 10 * lines_of::<E>());
    }
}

async fn a_slow_one_delays_nobody<E: Candidate>(mood: Mood, report: &Report) {
    let server = Server::start(E::TONGUE, mood);
    let scene = Scene::start(E::candidate(server.port));
    scene.tell(report, 4).await;
    let standing = scene.wait("a deadline", |now| now.failures > 0).await;
    assert!(!standing.up && standing.error.is_some());
    scene.tell(report, 4).await;
    server.is(Mood::Well);
    scene.wait("recovery", |now| now.up && now.waiting == 0).await;
    let told = 8 * report.hosts.len() as u64 * 1010;
    let standing = scene.end().await;
    if E::TONGUE == Tongue::Redis {
        assert!(server.added() <= told, "no byte twice: {} of {told}", server.added());
        assert!(standing.uncertain > 0 || server.added() == told, "{standing:?}");
    }
}

async fn a_flapping_one_is_told_all_and_nothing_twice<E: Candidate>() {
    let server = Server::start(E::TONGUE, Mood::Flapping);
    let scene = Scene::start(E::candidate(server.port));
    for _ in 0..30 {
        scene.tell(&report(3), 1).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.is(Mood::Well);
    scene.tell(&report(3), 1).await;
    scene.wait("recovery", |now| now.up && now.waiting == 0).await;
    let standing = scene.end().await;
    assert_eq!(standing.lost, 0, "{standing:?}");
    if E::TONGUE == Tongue::Redis {
        assert!(server.added() <= 31 * 3 * 1010, "no byte twice: {}", server.added());
        assert!(standing.sent <= server.lines(), "what is told as sent arrived: {standing:?}");
        assert!(server.lines() <= standing.sent + standing.uncertain, "{standing:?}");
    } else if E::TONGUE == Tongue::Http {
        assert!(standing.failures > 0, "it did flap");
        assert!(server.lines() >= 31 * lines_of::<E>(), "all arrived");
    }
}

async fn a_full_one_is_asked_again<E: Candidate>() {
    let server = Server::start(E::TONGUE, Mood::Full);
    let scene = Scene::start(E::candidate(server.port));
    scene.tell(&report(3), 5).await;
    let standing = scene.wait("refusals", |now| now.failures >= 3).await;
    assert_eq!((standing.up, standing.lost, standing.sent), (false, 0, 0));
    server.is(Mood::Well);
    scene.wait("recovery", |now| now.up && now.waiting == 0).await;
    let standing = scene.end().await;
    assert_eq!((standing.lost, standing.uncertain), (0, 0), "{standing:?}");
    assert_eq!(standing.sent, server.lines());
    if E::TONGUE == Tongue::Redis {
        assert_eq!(server.added(), 5 * 3 * 1010, "each byte once");
    }
}

async fn what_finds_no_room_is_told<E: Candidate>() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let scene = Scene::start(E::candidate(port));
    let many = report(10_000);
    scene.tell(&many, 6).await;
    let standing = scene.wait("a loss", |now| now.lost > 0).await;
    assert!(!standing.up);
    let ended = scene.end().await;
    assert!(ended.lost >= standing.lost && ended.waiting == 0, "{ended:?}");
    if E::TONGUE == Tongue::Redis {
        assert!(ended.lost_traffic >= 1010, "{ended:?}");
    }
}

/// The laws, for one exporter. `slow`: how it is slow, and what makes it feel that.
macro_rules! laws {
    ($name:ident, $exporter:ty, $slow:expr, $report:expr) => {
        mod $name {
            use super::*;

            #[tokio::test]
            async fn a_report_arrives() {
                super::a_report_arrives::<$exporter>().await;
            }

            #[tokio::test]
            async fn a_dead_one_loses_nothing_while_there_is_room() {
                super::a_dead_one_loses_nothing_while_there_is_room::<$exporter>().await;
            }

            #[tokio::test]
            async fn a_slow_one_delays_nobody() {
                super::a_slow_one_delays_nobody::<$exporter>($slow, &$report).await;
            }

            #[tokio::test]
            async fn a_flapping_one_is_told_all_and_nothing_twice() {
                super::a_flapping_one_is_told_all_and_nothing_twice::<$exporter>().await;
            }

            #[tokio::test]
            async fn what_finds_no_room_is_told() {
                super::what_finds_no_room_is_told::<$exporter>().await;
            }
        }
    };
}

laws!(of_redis, Redis, Mood::Mute, report(3));
// Nobody answers a line, so it is slow only when nobody reads and there is more than buffers hold.
laws!(of_graphite, Graphite, Mood::Deaf, report(60_000));
laws!(of_influxdb, InfluxDb, Mood::Mute, report(3));
laws!(of_clickhouse, ClickHouse, Mood::Mute, report(3));

#[tokio::test]
async fn a_full_redis_is_asked_again() {
    a_full_one_is_asked_again::<Redis>().await;
}

#[tokio::test]
async fn a_full_influxdb_is_asked_again() {
    a_full_one_is_asked_again::<InfluxDb>().await;
}

#[tokio::test]
async fn a_full_clickhouse_is_asked_again() {
    a_full_one_is_asked_again::<ClickHouse>().await;
}

#[tokio::test]
async fn a_silent_redis_at_the_door_puts_nothing_at_risk() {
    // It takes the connection and answers nothing, not even that it is there.
    let server = Server::start(Tongue::Redis, Mood::Deaf);
    let scene = Scene::start(Redis::candidate(server.port));
    scene.tell(&report(3), 3).await;
    scene.wait("a failure", |now| now.failures > 0).await;
    server.is(Mood::Well);
    scene.wait("recovery", |now| now.up && now.waiting == 0).await;
    let standing = scene.end().await;
    assert_eq!((server.added(), standing.uncertain), (3 * 3 * 1010, 0), "{standing:?}");
}

#[tokio::test]
async fn a_password_is_in_no_word_about_an_export() {
    let file = std::env::temp_dir().join(format!("fnm-law-secret-{}", std::process::id()));
    std::fs::write(&file, "hunter2-secret").unwrap();
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    std::fs::set_permissions(&file, mode).unwrap();
    let redis = redis::Settings { password_file: file.clone(), ..redis::Settings::default() };
    let influxdb = influxdb::Settings {
        password_file: file.clone(),
        url: url(9),
        ..influxdb::Settings::default()
    };
    let link = Link::new(&redis).unwrap();
    let writer = Writer::new(&influxdb).unwrap();
    let words = format!("{redis:?} {influxdb:?} {link:?} {writer:?}");
    assert!(!words.contains("hunter2"), "{words}");
    let scene = Scene::start((InfluxDb::new(&influxdb, "edge"), writer));
    scene.tell(&report(1), 1).await;
    let standing = scene.wait("a failure", |now| now.failures > 0).await;
    assert!(!format!("{standing:?}").contains("hunter2"));
    assert!(Path::new(&file).exists());
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn influxdb_2_is_given_organisation_bucket_and_token() {
    let server = Server::start(Tongue::Http, Mood::Well);
    let settings = influxdb::Settings {
        url: url(server.port),
        api: influxdb::Api::V2,
        org: "my org".to_owned(),
        bucket: "edge".to_owned(),
        // Cargo gives its tests this one.
        token_env: "CARGO_PKG_NAME".to_owned(),
        ..influxdb::Settings::default()
    };
    let writer = Writer::new(&settings).unwrap();
    let scene = Scene::start((InfluxDb::new(&settings, "edge-1"), writer));
    scene.tell(&report(1), 1).await;
    let standing = scene.end().await;
    assert_eq!(standing.sent, server.lines());
    let heads = server.arrived.heads.lock().unwrap().to_lowercase();
    assert!(heads.starts_with("post /api/v2/write?org=my%20org&bucket=edge&precision=ns http/1.1"));
    assert!(heads.contains("authorization: token fastnetmon-user\r\n"), "{heads}");
    assert!(heads.contains("content-encoding: gzip"), "{heads}");
}
