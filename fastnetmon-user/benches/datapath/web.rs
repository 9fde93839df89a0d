//! What the page and the API reach: the first paint and the answers while every host of a /16 is under
//! attack, what the server costs when nobody asks, and detection beside 200 readers of the stream.
//!
//! **Invariant**: the browser's figures are the browser's own (Paint Timing), an answer's time begins
//! when its question was due, not when the one before had been answered.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, setpriority_process};
use serde_json::Value;
use xtask::lab::Lab;

use crate::Effort;
use crate::agent::Agent;
use crate::browser::Browser;
use crate::generator::{Generator, Order, Pace};
use crate::latency;
use crate::machine::{median, wall_nanos};
use crate::report::{Must, Report, Row};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9209);

const WEB: &str = "[web]\nlisten = '127.0.0.1:9209'\n";

/// Bans as they would be, without a script for each of 65,536.
const ALL_BANNED: &str =
    "[web]\nlisten = '127.0.0.1:9209'\n[ban]\ndry_run = true\nmax_bans_per_minute = 0\n";

/// Hosts of the /16.
const HOSTS: u64 = 65_536;

/// Packets a second to all of them together: six to each, where three are allowed.
const ATTACK: u32 = 400_000;
const THRESHOLD: u32 = 3;

/// Readers of the stream.
const READERS: usize = 200;

/// Measures all of it.
pub(crate) fn measure(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("page and API (the agent in a lab, with `[web] listen`)");
    let _foremost = Foremost::now()?;
    under_attack(object, effort, report)?;
    idle(effort, report)?;
    streams(object, effort, report)
}

/// The page and the API while 65 k hosts are attacked, and nearly all of them banned.
fn under_attack(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let lab = Lab::new("bench")?;
    let mut generator = Generator::new(&lab, object)?;
    let agent = Agent::start_with(&lab, "10.0.0.0/16\n", THRESHOLD, "xdp", ALL_BANNED)?;
    prefer(agent.pid())?;
    let first = Ipv4Addr::new(10, 0, 0, 0);
    generator.order(Order { first, mask: 0xffff, protocols: [17; 4], cut: 0 })?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| generator.send_until(Pace::Pps(ATTACK), &stop));
        let outcome = banned(&lab)
            .and_then(|bans| {
                answers(&lab, effort, bans, report)?;
                paints(&lab, effort, bans, report)
            })
            .with_context(|| format!("the agent's log: {}", last_lines(&agent.log())));
        stop.store(true, Ordering::Relaxed);
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        outcome
    })
}

/// Waits until nearly all hosts are banned, and says how many are.
fn banned(lab: &Lab) -> anyhow::Result<u64> {
    let begun = Instant::now();
    loop {
        // Until the first report there is nothing to say.
        let bans = get(lab, "/api/v1/totals").map_or(0, |totals| number(&totals, "bans"));
        if bans > HOSTS * 9 / 10 {
            // Until the packets of all those bans were told as well: their deadline is ten seconds.
            std::thread::sleep(Duration::from_secs(14));
            return Ok(bans);
        }
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("only {bans} of {HOSTS} hosts are banned");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Questions about hosts, one each ten milliseconds.
fn answers(lab: &Lab, effort: Effort, bans: u64, report: &mut Report) -> anyhow::Result<()> {
    const QUESTIONS: [&str; 5] = [
        "sort=packets&limit=20",
        "sort=bytes&limit=100",
        "direction=outgoing&limit=20",
        "within=10.0.128.0/17&limit=1000",
        "sort=bytes&offset=60000&limit=50",
    ];
    let every = Duration::from_millis(10);
    let rounds = effort.of(1000, 200);
    // Who asks for all hosts has them in each report from then on.
    for question in QUESTIONS {
        get(lab, &format!("/api/v1/hosts?{question}"))?;
    }
    let (mut took, fewest, alone) = lab.run_inside(|| {
        setpriority_process(None, -20).context("cannot go before others")?;
        let mut client = Client::connect()?;
        let (mut took, mut fewest) = (Vec::new(), u64::MAX);
        let mut alone = QUESTIONS.map(|_| Vec::new());
        let begun = Instant::now();
        for (round, question) in (0..rounds).zip(QUESTIONS.into_iter().cycle()) {
            let due = begun + every * round;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            let body = client.get(&format!("/api/v1/hosts?{question}"))?;
            took.push(due.elapsed().as_secs_f64() * 1e3);
            let kind = usize::try_from(round)? % QUESTIONS.len();
            if let Some(alone) = alone.get_mut(kind) {
                alone.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            if !question.starts_with("within") && round % 97 == 0 {
                let answer: Value = serde_json::from_slice(&body)?;
                fewest = fewest.min(number(&answer, "matching"));
            }
        }
        anyhow::Ok((took, fewest, alone.map(median)))
    })??;
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took.get(took.len() * share / 1000).copied().unwrap_or(f64::NAN);
    report.add(Row {
        what: "an answer about hosts, 65 k of them active, 99th percentile".to_owned(),
        value: at(990),
        unit: "ms",
        must: Must::AtMost(20.0),
        detail: format!(
            "{rounds} questions of five kinds, one each 10 ms; median {:.2} ms, worst {:.1} ms; \
             by kind, once asked, median {}; at least {fewest} hosts moved, {bans} were banned",
            at(500),
            at(999),
            alone.map(|kind| format!("{kind:.1}")).join(", ")
        ),
    });
    Ok(())
}

/// The first paint, and when the first numbers are there.
fn paints(lab: &Lab, effort: Effort, bans: u64, report: &mut Report) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("fnm-bench-{}-browser", std::process::id()));
    fs::create_dir_all(&folder)?;
    let browser = Browser::open(lab, &folder);
    let (mut painted, mut live) = (Vec::new(), Vec::new());
    for _ in 0..effort.of(6, 2) {
        browser.go("about:blank");
        browser.go(&format!("http://{SERVER}/"));
        let paint = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
        painted.push(until(&browser, paint)?);
        let numbers = "return document.getElementById('state').textContent === 'live' \
                       && document.querySelectorAll('#host-table tbody tr').length === 20 \
                       ? performance.now() : null";
        live.push(until(&browser, numbers)?);
    }
    drop(browser);
    let _stays = fs::remove_dir_all(&folder);
    let worst = painted.iter().copied().fold(f64::MIN, f64::max);
    let loads = painted.len();
    report.add(Row {
        what: "first paint of the page, 65 k hosts under attack, worst".to_owned(),
        value: worst,
        unit: "ms",
        must: Must::AtMost(1000.0),
        detail: format!(
            "Chromium on loopback, {loads} loads, {bans} bans; median {:.0} ms",
            median(painted)
        ),
    });
    report.add(Row {
        what: "all numbers on the page, median".to_owned(),
        value: median(live),
        unit: "ms",
        must: Must::Inform,
        detail: "from the start of the navigation, seen by asking".to_owned(),
    });
    Ok(())
}

/// A number that a script returns at last.
fn until(browser: &Browser<'_>, script: &str) -> anyhow::Result<f64> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if let Some(number) = browser.run(script).as_f64() {
            return Ok(number);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("the page never answered `{script}`; its console: {:?}", browser.complaints())
}

/// CPU of an agent that nobody sends anything to, with and without the server.
fn idle(effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let span = Duration::from_secs(u64::from(effort.of(10, 3)));
    let measured = |sections: &str, is_scraped: bool| {
        let lab = Lab::new("bench")?;
        let agent = Agent::start_with(&lab, "10.0.0.0/16\n", 1000, "xdp", sections)?;
        std::thread::sleep(Duration::from_secs(2));
        let before = cpu(agent.pid())?;
        let begun = Instant::now();
        while begun.elapsed() < span {
            if is_scraped {
                lab.run_inside(|| Client::connect()?.get("/metrics"))??;
            }
            std::thread::sleep(Duration::from_secs(3).min(span.saturating_sub(begun.elapsed())));
        }
        let spent = cpu(agent.pid())?.saturating_sub(before);
        anyhow::Ok(100.0 * spent.as_secs_f64() / begun.elapsed().as_secs_f64())
    };
    let without = measured("", false)?;
    let with = measured(WEB, true)?;
    report.add(Row {
        what: "page, history and metrics, idle, of one core".to_owned(),
        value: with - without,
        unit: "%",
        must: Must::AtMost(0.5),
        detail: format!(
            "{with:.3} % with them and a scrape each 3 s, {without:.3} % without; a /16 guarded"
        ),
    });
    Ok(())
}

/// Detection with and without readers of the stream, in turns.
fn streams(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let lab = Lab::new("bench")?;
    let mut generator = Generator::new(&lab, object)?;
    let agent = Agent::start_with(&lab, "192.0.2.0/24\n", latency::THRESHOLD, "xdp", WEB)?;
    prefer(agent.pid())?;
    let (mut alone, mut beside, mut told) = (Vec::new(), Vec::new(), 0);
    let runs = effort.of(24, 2);
    for run in 1..=runs {
        let place = Duration::from_secs(1) * run / runs;
        for has_readers in [run % 2 == 0, run % 2 != 0] {
            let number = 2 * run + u32::from(has_readers);
            let victim = Ipv4Addr::new(192, 0, 2, u8::try_from(number)?);
            std::thread::sleep(Duration::from_millis(150));
            let mut flood = || {
                // How late it is found depends on its place between two readings, those of the agent
                // come once a second: both floods of a run have the same one, each run another.
                std::thread::sleep(until_within_second(place));
                latency::flood(&agent, &mut generator, victim)
            };
            if has_readers {
                let (late, events) = reading(&lab, flood)?;
                beside.push(late?);
                told += events;
            } else {
                alone.push(flood()?);
            }
        }
    }
    let floods = alone.len();
    let later = beside.iter().zip(&alone).map(|(beside, alone)| beside - alone).collect();
    let (alone, beside) = (median(alone), median(beside));
    report.add(Row {
        what: format!("detection beside {READERS} readers of the stream less detection alone"),
        value: median(later),
        unit: "ms",
        must: Must::AtMost(5.0),
        detail: format!(
            "median of {floods} pairs, each at one place between two readings; by themselves \
             {beside:.1} and {alone:.1} ms; {told} reports were read"
        ),
    });
    Ok(())
}

/// How long it is until a second of the calendar is so old.
fn until_within_second(age: Duration) -> Duration {
    const SECOND: u64 = 1_000_000_000;
    let age = u64::from(age.subsec_nanos());
    Duration::from_nanos((age + SECOND - wall_nanos() % SECOND) % SECOND)
}

/// Does the work while so many read, and says how many reports they were told meanwhile.
fn reading<T>(lab: &Lab, work: impl FnOnce() -> T) -> anyhow::Result<(T, u64)> {
    let mut readers = lab.run_inside(|| {
        let opened = (0..READERS).map(|_| {
            let mut stream = TcpStream::connect(SERVER)?;
            write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: {SERVER}\r\n\r\n")?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        opened.collect::<std::io::Result<Vec<_>>>()
    })??;
    let (stop, told) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                for reader in &mut readers {
                    while let Ok(read @ 1..) = reader.read(&mut buffer) {
                        let told_now = buffer.get(..read).unwrap_or_default();
                        let reports =
                            told_now.windows(14).filter(|part| part == b"event: totals\n");
                        told.fetch_add(
                            u64::try_from(reports.count()).unwrap_or(0),
                            Ordering::Relaxed,
                        );
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    });
    Ok((done, told.into_inner()))
}

/// This session goes before others until this is dropped: where each session is a group of the
/// scheduler's, priorities order the threads of one (autogroups, sched(7)).
struct Foremost(Option<String>);

impl Foremost {
    const FILE: &str = "/proc/self/autogroup";

    fn now() -> anyhow::Result<Self> {
        // `/autogroup-25 nice 0`; there is none where the kernel makes no such groups.
        let Ok(text) = fs::read_to_string(Self::FILE) else { return Ok(Self(None)) };
        let before = text.split_whitespace().last().map(str::to_owned);
        fs::write(Self::FILE, "-20").context("the session cannot go before others")?;
        Ok(Self(before))
    }
}

impl Drop for Foremost {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _stays = fs::write(Self::FILE, before);
        }
    }
}

/// Lets the threads of a process go before whatever else this machine does, and leaves them the order
/// they have among themselves.
fn prefer(pid: u32) -> anyhow::Result<()> {
    for task in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))? {
        let thread = task?.file_name().to_string_lossy().parse()?;
        let thread = Pid::from_raw(thread);
        match getpriority_process(thread).and_then(|nice| setpriority_process(thread, nice - 20)) {
            // One that has ended meanwhile is in nobody's way.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error).context("cannot go before others"),
        }
    }
    Ok(())
}

/// CPU time of all threads of a process, to the nanosecond.
fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().context("`schedstat` is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn get(lab: &Lab, path: &str) -> anyhow::Result<Value> {
    let body = lab.run_inside(|| Client::connect()?.get(path))??;
    Ok(serde_json::from_slice(&body)?)
}

fn number(answer: &Value, name: &str) -> u64 {
    answer.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Asks one thing after the other on one connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect() -> anyhow::Result<Self> {
        let stream = TcpStream::connect(SERVER)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self(BufReader::with_capacity(1 << 18, stream)))
    }

    fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut line) = (String::new(), None, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let text = line.trim_end().to_lowercase();
            if text.is_empty() {
                break;
            }
            if status.is_empty() {
                status.clone_from(&text);
            }
            if let Some(value) = text.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let mut body = vec![0; length.with_context(|| format!("{path}: `{status}`"))?];
        self.0.read_exact(&mut body)?;
        if !status.contains(" 200") {
            bail!("{path}: `{status}`: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}
