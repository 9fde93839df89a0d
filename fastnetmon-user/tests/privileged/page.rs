//! The page in a real browser, of an agent that counts real packets.
//!
//! With `FASTNETMON_PICTURES=<folder>` the first test leaves there what it saw: the pictures in docs/.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fastnetmon_user::control::{Request, Way};
use xtask::lab::{GUARDED, INSIDE, Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, wait};
use crate::browser::{Browser, ENTER, ESCAPE, TAB};

const ORIGIN: &str = "http://127.0.0.1:9209/";
const TOKEN: &str = "0123456789abcdef0123";

/// Writes down with which arguments it was called.
const RECORDER: &str = "echo \"$*\" >> HERE/calls";

fn start(lab: &Lab, folder: &Folder) -> Agent {
    start_at(lab, folder, "127.0.0.1:9209")
}

fn start_at(lab: &Lab, folder: &Folder, address: &str) -> Agent {
    let token = folder.write("token", &format!("{TOKEN}\n"));
    let rest = format!(
        "[web]\nlisten = \"{address}\"\ntoken_file = \"{}\"\n[thresholds]\npps = 30000\n",
        token.display()
    );
    Agent::start(lab, &Setup { rest: &rest, hook: RECORDER, ..Setup::default() })
}

/// The page, when it shows what the agent says.
fn look<'a>(lab: &'a Lab, folder: &Folder) -> Browser<'a> {
    let browser = Browser::open(lab, &folder.path(""));
    browser.go(ORIGIN);
    says(&browser, "#state", "live");
    browser
}

#[track_caller]
fn says(browser: &Browser<'_>, selector: &str, part: &str) -> String {
    let what = format!("`{part}` in {selector}, not `{}`", browser.text(selector));
    wait(&what, || Some(browser.text(selector)).filter(|text| text.contains(part)))
}

#[track_caller]
fn holds(browser: &Browser<'_>, condition: &str) {
    wait(condition, || (browser.run(&format!("return {condition}")) == true).then_some(()));
}

/// Packets of a usual day: forty hosts, both ways.
fn usual(lab: &Lab, stop: &AtomicBool) {
    let hosts = (1..=40_u8).map(|host| {
        Ipv4Addr::new(
            if host % 2 == 0 { 192 } else { 198 },
            if host % 2 == 0 { 0 } else { 51 },
            if host % 2 == 0 { 2 } else { 100 },
            host,
        )
    });
    // The louder, the lower the number.
    let talk: Vec<Ipv4Addr> =
        hosts.flat_map(|host| vec![host; 1 + 80 / usize::from(host.octets()[3] + 3)]).collect();
    let world = |host: &Ipv4Addr| Ipv4Addr::new(203, 0, 113, 200 - host.octets()[3]);
    let into = talk.iter().map(|host| Frame::udp(world(host), *host, 443, 40_000).payload(700));
    let from = talk.iter().map(|host| Frame::udp(*host, world(host), 40_000, 443).payload(300));
    let (into, from) = (Pool::new(into), Pool::new(from.map(Frame::outwards)));
    let (mut outside, mut inside) = (lab.sender_outside().unwrap(), lab.sender_inside().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| outside.send_until(&into, Pace::Pps(6000), stop).unwrap());
        scope.spawn(|| inside.send_until(&from, Pace::Pps(2500), stop).unwrap());
    });
}

fn attack() -> Pool {
    let sources = 1..=200;
    Pool::new(
        sources.map(|last: u8| Frame::udp([203, 0, 113, last], GUARDED, 53, 4444).payload(468)),
    )
}

fn flood(lab: &Lab, packets: u64) {
    lab.sender_outside().unwrap().send(&attack(), packets, Pace::Pps(60_000)).unwrap();
}

/// How many pixels of a chart have the colour of its incoming line.
fn drawn(browser: &Browser<'_>, chart: &str) -> u64 {
    let script = format!(
        "const shown = document.querySelector('{chart} canvas');
         // A copy, so that reading changes nothing about how the page draws.
         const canvas = new OffscreenCanvas(shown.width, shown.height);
         canvas.getContext('2d').drawImage(shown, 0, 0);
         const line = getComputedStyle(document.documentElement).getPropertyValue('--in').trim();
         const [r, g, b] = [1, 3, 5].map((at) => parseInt(line.slice(at, at + 2), 16));
         const {{ data }} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
         let pixels = 0;
         for (let at = 0; at < data.length; at += 4) {{
           if (data[at + 3] > 200 && data[at] === r && data[at + 1] === g && data[at + 2] === b) pixels += 1;
         }}
         return pixels;"
    );
    browser.run(&script).as_u64().unwrap()
}

/// Waits for so many points of history whose incoming packets are as is said.
#[track_caller]
fn points(browser: &Browser<'_>, condition: &str, number: u64) {
    let script = format!(
        "return fetch('api/v1/history').then((answer) => answer.json())
           .then((history) => history.incoming_pps.filter((pps) => pps {condition}).length)"
    );
    wait(&format!("{number} points {condition}"), || {
        browser.run(&script).as_u64().filter(|&points| points >= number)
    });
}

/// Leaves a picture where it is asked for; it must be small enough for the documentation.
fn keep(browser: &Browser<'_>, name: &str) {
    let picture = browser.picture();
    assert!(picture.len() <= 150_000, "{name} has {} bytes", picture.len());
    if let Some(folder) = std::env::var_os("FASTNETMON_PICTURES") {
        std::fs::write(Path::new(&folder).join(name), picture).unwrap();
    }
}

/// Nothing sticks out to the right, but in boxes that scroll by themselves; so the page does not.
#[track_caller]
fn is_narrow(browser: &Browser<'_>, width: u32) {
    let script = format!(
        "const scrolls = (node) => node && (getComputedStyle(node).overflowX !== 'visible' || scrolls(node.parentElement));
         const wide = Array.from(document.body.querySelectorAll('*')).filter((node) =>
           node.getBoundingClientRect().right > {width} && !scrolls(node.parentElement));
         const page = document.documentElement.scrollWidth;
         if (page > {width} || innerWidth > {width}) wide.push(document.documentElement);
         return wide.map((node) => `${{node.localName}}#${{node.id}}.${{node.className}} to ${{node.getBoundingClientRect().right}}, window ${{innerWidth}}`)"
    );
    let mut last = serde_json::Value::Null;
    let fits = || {
        last = browser.run(&script);
        last.as_array().is_some_and(Vec::is_empty).then_some(())
    };
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait("a narrow page", fits)));
    assert!(outcome.is_ok(), "wider than {width}: {last:#}");
}

#[test]
fn the_page_shows_an_attack_in_every_light_and_asks_nobody_else() {
    let lab = Lab::new("page").unwrap();
    let folder = Folder::new();
    let agent = start(&lab, &folder);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Traffic stops whatever becomes of the test.
        let stopped = Stop(&stop);
        scope.spawn(|| usual(&lab, &stop));
        let browser = look(&lab, &folder);
        browser.prefer("light");
        holds(&browser, "document.querySelectorAll('#host-table tbody tr').length === 20");
        points(&browser, "> 0", 10);
        scope.spawn(|| {
            lab.sender_outside().unwrap().send_until(&attack(), Pace::Pps(60_000), &stop)
        });

        says(&browser, "#bans tbody tr", &GUARDED.to_string());
        // What it is is known better when its packets are there.
        agent.folder.wait_for("calls", |calls| calls.contains(" attack_details"));
        let (row, ban) = wait("the evidence that the API has", || {
            let row = browser.text("#bans tbody tr");
            let bans = browser.run("return fetch('api/v1/bans').then((a) => a.json())");
            let evidence = bans[0]["evidence"].as_str().filter(|text| row.contains(text))?;
            evidence.contains("UDP port 53").then_some((row, bans[0].clone()))
        });
        let cells: Vec<&str> = row.split('\t').collect();
        assert_eq!(cells[0], GUARDED.to_string(), "{row}");
        assert_eq!(cells[1], format!("incoming {}", ban["attack"].as_str().unwrap()), "{row}");
        assert!(cells[2].ends_with("k pps"), "{row}");
        assert!(cells[3].contains("30000 are allowed"), "{row}");
        assert_eq!(cells.last(), Some(&"Let go"), "{row}");
        says(&browser, "#ban-count", "1");
        says(&browser, "#host-table tbody", "banned");
        says(&browser, "#events", &GUARDED.to_string());
        says(&browser, "#health", "xdp");
        says(&browser, "#networks", "192.0.2.0/24");
        says(&browser, "#host-table tbody tr", &GUARDED.to_string());
        holds(&browser, "parseFloat(document.getElementById('in-pps').textContent) > 50");

        points(&browser, "> 20000", 4);
        let mut grounds = Vec::new();
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            grounds.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
            for chart in ["#chart-pps", "#chart-bps"] {
                wait(&format!("a line in {chart}, {scheme}"), || {
                    Some(drawn(&browser, chart)).filter(|&pixels| pixels > 100)
                });
            }
            keep(&browser, &format!("page-{scheme}.png"));
        }
        assert_ne!(grounds[0], grounds[1]);

        browser.prefer("light");
        browser.resize(390, 844, true);
        is_narrow(&browser, 390);
        keep(&browser, "page-phone.png");
        browser.click("#bans .host");
        says(&browser, "#host-name", &GUARDED.to_string());
        says(&browser, "#host-events", "packets");
        is_narrow(&browser, 390);
        wait("a line in the chart of the host", || {
            Some(drawn(&browser, "#chart-host")).filter(|&pixels| pixels > 50)
        });
        says(&browser, "#host-packets", "203.0.113.");
        drop(stopped);

        assert_eq!(browser.complaints(), Vec::<String>::new());
        let requests = browser.requests();
        assert!(requests.len() > 20, "{requests:?}");
        let strangers: Vec<_> = requests.iter().filter(|url| !url.starts_with(ORIGIN)).collect();
        assert!(strangers.is_empty(), "{strangers:?}");
    });
    assert!(agent.folder.read("calls").contains(" ban"));
}

/// Sets the flag when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Presses Tab until the focus is there; as a user without a mouse would.
#[track_caller]
fn tab_to(browser: &Browser<'_>, selector: &str) {
    for _ in 0..60 {
        browser.press(TAB);
        if browser.run(&format!("return document.activeElement.matches('{selector}')")) == true {
            let outline = "return getComputedStyle(document.activeElement).outlineStyle";
            assert_ne!(browser.run(outline), "none", "where the focus is must be seen");
            return;
        }
    }
    panic!("Tab does not reach {selector}");
}

#[test]
fn an_attack_is_let_go_with_the_token_and_without_a_mouse() {
    let lab = Lab::new("keys").unwrap();
    let folder = Folder::new();
    let agent = start(&lab, &folder);
    flood(&lab, 90_000);
    agent.folder.wait_for("calls", |calls| calls.contains(" attack_details"));
    let browser = look(&lab, &folder);
    says(&browser, "#bans tbody", &GUARDED.to_string());

    // The filter, by its key; what is wrong in it is said beside it.
    browser.press("/198.51.100.0/24");
    says(&browser, "#place", "no host moves");
    browser.press("0");
    says(&browser, "#within-problem", "is not an address or a network");
    browser.run("const box = document.getElementById('within'); box.value = ''; box.dispatchEvent(new Event('input')); box.blur()");
    holds(&browser, "document.getElementById('within-problem').textContent === ''");
    browser.press("o");
    holds(&browser, "document.querySelector('[data-direction=outgoing]').ariaPressed === 'true'");
    browser.press("i");

    // Bans that come and go meanwhile take neither the row nor the focus away.
    tab_to(&browser, "#bans tbody td:last-child button");
    let first: std::net::IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
    let ban = Request::ban(first, Way::Incoming);
    agent.order(&ban).unwrap();
    says(&browser, "#bans tbody tr:first-child", "192.0.2.1");
    let focused = "return document.activeElement.closest('tr')?.cells[0].innerText";
    assert_eq!(browser.run(focused), GUARDED.to_string());
    agent.order(&Request::Unban { ip: first, reason: None }).unwrap();
    holds(&browser, "document.querySelectorAll('#bans tbody tr').length === 1");

    // Without a token: it is asked for. A wrong one is asked for again, and none changes nothing.
    browser.press(ENTER);
    holds(&browser, "document.getElementById('token-dialog').open");
    says(&browser, "#token-answer", "send the token");
    browser.press(&format!("not the token at all{ENTER}"));
    says(&browser, "#token-answer", "this is not the token");
    browser.press(ESCAPE);
    holds(&browser, "!document.getElementById('token-dialog').open");
    says(&browser, "#bans-answer", "this is not the token");
    assert_eq!(agent.status().bans.len(), 1);

    holds(&browser, "document.activeElement.matches('#bans tbody td:last-child button')");
    browser.press(ENTER);
    holds(&browser, "document.getElementById('token-dialog').open");
    browser.press(&format!("{TOKEN}{ENTER}"));
    says(&browser, "#bans-answer", &format!("`{GUARDED}`"));
    says(&browser, "#no-bans", "Nobody is banned.");
    let calls = agent.folder.wait_for("calls", |calls| {
        calls.lines().any(|call| call.starts_with(&GUARDED.to_string()) && call.ends_with(" unban"))
    });
    assert!(agent.status().bans.is_empty(), "{calls}");
    holds(&browser, "document.querySelector('#events li.unban') !== null");

    // And a ban, from the window of a host.
    let stop = AtomicBool::new(false);
    let mut sender = lab.sender_outside().unwrap();
    std::thread::scope(|scope| {
        let _stopped = Stop(&stop);
        scope.spawn(|| sender.send_until(&attack(), Pace::Pps(5000), &stop));
        says(&browser, "#host-table tbody", &GUARDED.to_string());
        browser.press("/");
        tab_to(&browser, "#host-table tbody .host");
        browser.press(ENTER);
        says(&browser, "#host-name", &GUARDED.to_string());
        tab_to(&browser, "#host-ban");
        browser.press(ENTER);
        says(&browser, "#host-answer", "is banned");
        wait("the ban", || agent.status().bans.first().map(|_| ()));
        browser.press(ESCAPE);
        holds(&browser, "!document.getElementById('host-dialog').open");
    });
}

#[test]
fn beyond_loopback_the_page_asks_for_the_token_once_and_shows_nothing_without_it() {
    let lab = Lab::new("beyond").unwrap();
    let folder = Folder::new();
    let address = format!("{INSIDE}:9209");
    let _agent = start_at(&lab, &folder, &address);
    let browser = Browser::open(&lab, &folder.path(""));
    browser.go(&format!("http://{address}/"));
    holds(&browser, "document.getElementById('token-dialog').open");
    says(&browser, "#token-answer", "send the token");
    browser.press(ESCAPE);
    holds(&browser, "!document.getElementById('token-dialog').open");

    // It goes on asking the agent, and leaves the operator alone.
    let asked = "return performance.getEntriesByType('resource').length";
    let before = browser.run(asked).as_u64().unwrap();
    wait("more questions", || browser.run(asked).as_u64().filter(|&now| now >= before + 20));
    assert_eq!(browser.run("return document.getElementById('token-dialog').open"), false);
    says(&browser, "#state", "send the token");
    assert_eq!(browser.text("#in-pps"), "–");

    browser.click("#token-button");
    browser.press(&format!("{TOKEN}{ENTER}"));
    says(&browser, "#state", "live");
    says(&browser, "#in-pps", "pps");
}

#[test]
fn a_lost_agent_is_said_and_the_next_one_is_shown_from_its_beginning() {
    let lab = Lab::new("lost").unwrap();
    let folder = Folder::new();
    let mut agent = start(&lab, &folder);
    let browser = look(&lab, &folder);
    for host in 1..=5 {
        let ip = Ipv4Addr::new(192, 0, 2, host).into();
        let ban = Request::ban(ip, Way::Incoming);
        agent.order(&ban).unwrap();
        agent.order(&Request::Unban { ip, reason: None }).unwrap();
    }
    says(&browser, "#events", "192.0.2.5");
    wait("some seconds of life", || Some(()).filter(|()| agent.status().uptime_secs >= 4));

    assert!(agent.end(Signal::Terminate).success());
    says(&browser, "#state", "the agent does not answer");
    holds(&browser, "document.getElementById('state').className === 'bad'");

    agent.again(&lab);
    says(&browser, "#state", "live");
    let ip = Ipv4Addr::new(192, 0, 2, 77).into();
    let ban = Request::ban(ip, Way::Incoming);
    agent.order(&ban).unwrap();
    let events = says(&browser, "#events", "192.0.2.77");
    assert!(!events.contains("192.0.2.5"), "{events}");

    // One that answers and counts no more cannot be made here; one that is stopped can.
    stop_and_go(&agent, &browser);
}

/// An agent that is there and says nothing.
fn stop_and_go(agent: &Agent, browser: &Browser<'_>) {
    let send = |signal: &str| {
        let pid = agent.pid().to_string();
        assert!(
            std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success()
        );
    };
    send("-STOP");
    says(browser, "#state", "the agent does not answer");
    send("-CONT");
    says(browser, "#state", "live");
}
