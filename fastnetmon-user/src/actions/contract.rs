//! The law every action keeps: it names itself, honours its deadline, survives a dead endpoint and
//! works again when that is back, and what is carried out twice is one deed.
//!
//! **Invariant**: a new action adds one line to the end of this file and a [`Stage`].

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::actions::webhook::tests::{Endpoint, Manner, OK, settings};
use crate::actions::{
    Action, ActionError, Arguments, Errand, EventId, Format, LogFile, Script, Sort, Webhook,
};
use crate::model::{Moment, Wall};
use crate::verdicts::{Ban, Ending, Verdict};

/// Where an action is tried.
struct Stage<A> {
    action: A,
    /// What it did, by event; the same event twice is there once if it is one deed.
    deeds: Box<dyn Fn() -> Vec<String>>,
    /// One whose endpoint is dead, and what brings it to life.
    dead: A,
    revive: Box<dyn FnOnce()>,
    /// One whose endpoint does not answer, where there can be such a thing.
    hangs: Option<A>,
}

const PATIENCE: Duration = Duration::from_secs(5);

/// What ending a call that hangs may take on top of its deadline.
const GRACE: Duration = Duration::from_millis(2500);

fn errands() -> Vec<Errand> {
    let ban = Ban { since: Moment::after_boot(Duration::from_secs(5)), ..Ban::of([192, 0, 2, 7]) };
    let wall = Wall { read_at: ban.since, unix: Duration::from_secs(1_795_367_873) };
    [
        Verdict::Ban(ban.clone()),
        Verdict::Details(ban.clone(), [].into()),
        Verdict::Unban(ban, Ending::Over),
    ]
    .map(|verdict| Errand { verdict, wall })
    .into()
}

/// A file that was just written is "busy" while another thread of the tests forks.
fn carry_out<A: Action>(
    action: &mut A,
    errand: &Errand,
    patience: Duration,
) -> Result<(), ActionError> {
    loop {
        match action.carry_out(errand, patience) {
            Err(ActionError::Retry { reason }) if reason.contains("Text file busy") => {}
            outcome => return outcome,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test of deadlines")]
fn now() -> Instant {
    Instant::now()
}

#[track_caller]
fn keeps_the_law<A: Action + Clone>(stage: Stage<A>) {
    let Stage { mut action, deeds, mut dead, revive, hangs } = stage;
    // It names itself.
    assert!(!A::NAME.is_empty());
    assert!(A::NAME.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", A::NAME);
    // Every verdict about a host is its business, unless a group says otherwise.
    let errands = errands();
    for errand in &errands {
        assert!(action.wants(&errand.verdict));
    }
    // It does what it is told, in order, and restoring what stands does nothing that was done.
    for errand in &errands {
        assert_eq!(carry_out(&mut action, errand, PATIENCE), Ok(()));
    }
    let events: Vec<String> = errands.iter().map(|errand| errand.event().to_string()).collect();
    assert_eq!(deeds(), events);
    let standing = [errands[0].verdict.ban().unwrap().clone()];
    for _ in 0..2 {
        assert_eq!(action.restore(&standing, PATIENCE), Ok(()));
    }
    assert_eq!(deeds(), events);
    // What is not done once only may be carried out again.
    if A::SORT != Sort::Once {
        for errand in &errands {
            assert_eq!(carry_out(&mut action, errand, PATIENCE), Ok(()));
        }
        assert_eq!(deeds(), events);
    }
    // A dead endpoint is an error in time, and no end.
    let begun = now();
    let error = carry_out(&mut dead, &errands[0], PATIENCE).unwrap_err();
    assert!(!error.to_string().is_empty());
    assert!(begun.elapsed() < PATIENCE + GRACE);
    revive();
    assert_eq!(carry_out(&mut dead, &errands[0], PATIENCE), Ok(()));
    // A deadline is a deadline.
    if let Some(mut hangs) = hangs {
        let patience = Duration::from_millis(300);
        let begun = now();
        assert!(carry_out(&mut hangs, &errands[0], patience).is_err());
        let took = begun.elapsed();
        assert!(took >= patience && took < patience + GRACE, "{took:?}");
    }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("fnm-law-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

fn program(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_script_keeps_the_law() {
    let folder = folder("script");
    let out = folder.join("out");
    let script = |name: &str| Script::new(folder.join(name), Arguments::Four, Format::Seed);
    program(&folder.join("hook"), &format!("echo $FASTNETMON_EVENT >> {}", out.display()));
    program(&folder.join("hangs"), "sleep 60");
    let dead = folder.join("dead");
    keeps_the_law(Stage {
        action: script("hook"),
        deeds: Box::new(move || {
            fs::read_to_string(&out).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
        }),
        dead: script("dead"),
        revive: Box::new(move || program(&dead, "exit 0")),
        hangs: Some(script("hangs")),
    });
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_webhook_keeps_the_law() {
    let webhook = |url: &str| Webhook::new(&settings(url)).unwrap().unwrap();
    let endpoint = Endpoint::open(Manner::Answers(vec![OK]));
    let silent = Endpoint::open(Manner::Silent);
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    keeps_the_law(Stage {
        action: webhook(&format!("http://127.0.0.1:{}/", endpoint.port)),
        deeds: Box::new(move || {
            // The key is what makes one deed of two posts.
            let mut keys: Vec<String> = Vec::new();
            for posted in endpoint.posted() {
                let key = posted.headers["idempotency-key"].clone();
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            keys
        }),
        dead: webhook(&format!("http://127.0.0.1:{port}/")),
        revive: Box::new(move || drop(Endpoint::open_at(port, Manner::Answers(vec![OK])))),
        hangs: Some(webhook(&format!("http://127.0.0.1:{}/", silent.port))),
    });
}

#[test]
fn the_log_file_keeps_the_law() {
    let folder = folder("log");
    let (there, dead) = (folder.join("there"), folder.join("dead"));
    fs::write(&dead, "a file where the folder should be").unwrap();
    let log = |path: &Path| LogFile::new(path.to_owned(), NonZeroU32::MIN);
    let action = log(&there);
    let revived = dead.clone();
    keeps_the_law(Stage {
        action,
        deeds: Box::new(move || {
            // One attack is one pair of files; its JSON tells how far it went.
            let files: Vec<PathBuf> =
                fs::read_dir(&there).unwrap().map(|file| file.unwrap().path()).collect();
            assert_eq!(files.len(), 2, "{files:?}");
            let json = files.iter().find(|file| file.extension().unwrap() == "json").unwrap();
            let event: serde_json::Value =
                serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
            assert_eq!(event["action"], "unban");
            assert_eq!(event["packet_dump_detailed"], serde_json::json!([]));
            errands().iter().map(|errand| EventId::from(&errand.verdict).to_string()).collect()
        }),
        dead: log(&dead),
        revive: Box::new(move || fs::remove_file(revived).unwrap()),
        hangs: None,
    });
    fs::remove_dir_all(folder).unwrap();
}
