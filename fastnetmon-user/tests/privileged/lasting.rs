//! Bans that last: agents that are killed, disks that are full, machines that go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastnetmon_user::client::Connection;
use fastnetmon_user::control::{Request, Way};
use xtask::lab::{Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Setup, wait};

/// Writes down each call: the event, then the arguments. One write: calls run side by side.
const RECORDER: &str = "echo \"$FASTNETMON_EVENT $*\" >> HERE/calls";

fn ban(agent: &Agent, ip: &str) {
    agent.order(&Request::ban(ip.parse().unwrap(), Way::Incoming)).unwrap();
}

fn banned(agent: &Agent) -> BTreeSet<IpAddr> {
    agent.status().bans.iter().map(|ban| ban.ip).collect()
}

#[test]
fn a_ban_outlives_a_crash_and_its_three_calls_are_made_once() {
    let lab = Lab::new("crash").unwrap();
    let mut agent = Agent::start(&lab, &Setup { hook: RECORDER, ..Setup::default() });
    for ip in ["192.0.2.7", "2001:db8::7"] {
        ban(&agent, ip);
        agent.folder.wait_for("calls", |text| text.contains(&format!("{ip} incoming 0 ban\n")));
    }
    let before = agent.status().bans;
    agent.kill();
    agent.again(&lab);
    // The same bans, with the same end.
    let after = agent.status().bans;
    assert_eq!(after.len(), 2);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.ip, before.since, before.pps), (after.ip, after.since, after.pps));
        assert!(before.until.unwrap().abs_diff(after.until.unwrap()) <= 1);
    }
    // The packets of an attack are collected anew, and told once.
    agent.folder.wait_for("calls", |text| text.matches("attack_details\n").count() == 2);
    agent.kill();
    agent.again(&lab);
    assert_eq!(banned(&agent).len(), 2);
    for ip in ["192.0.2.7", "2001:db8::7"] {
        agent.order(&Request::unban(ip.parse().unwrap())).unwrap();
    }
    let text = agent.folder.wait_for("calls", |text| text.matches("unban\n").count() == 2);
    assert_eq!(text.lines().count(), 6, "{text}");
    let events: BTreeSet<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(events.len(), 6, "{text}");
    // A clean end and another start: nothing is left of it.
    assert!(agent.end(Signal::Terminate).success());
    agent.again(&lab);
    assert_eq!(banned(&agent).len(), 0);
    assert_eq!(agent.folder.read("calls"), text);
}

#[test]
fn a_ban_ends_in_time_although_the_agent_was_killed() {
    let lab = Lab::new("timer").unwrap();
    let rest = "[ban]\ntime_secs = 6\n";
    let mut agent = Agent::start(&lab, &Setup { hook: RECORDER, rest, ..Setup::default() });
    ban(&agent, "192.0.2.7");
    agent.folder.wait_for("calls", |text| text.contains("attack_details\n"));
    let until = agent.status().bans[0].until.unwrap();
    agent.kill();
    agent.again(&lab);
    agent.folder.wait_for("calls", |text| text.contains("unban\n"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now >= until && now <= until + 4, "{now} {until}");
    assert_eq!(banned(&agent).len(), 0);
}

#[test]
fn who_is_ours_no_more_after_a_restart_is_let_go_with_a_word() {
    let lab = Lab::new("gone").unwrap();
    let mut agent = Agent::start(&lab, &Setup { hook: RECORDER, ..Setup::default() });
    for ip in ["192.0.2.7", "198.51.100.7"] {
        ban(&agent, ip);
    }
    agent.folder.wait_for("calls", |text| text.matches("attack_details\n").count() == 2);
    agent.kill();
    agent.folder.write("networks_list", "192.0.2.0/24\n");
    agent.again(&lab);
    agent.folder.wait_for("calls", |text| text.contains("198.51.100.7 incoming 0 unban\n"));
    agent.folder.wait_for("log", |log| log.contains("it is in none of our networks any more"));
    assert_eq!(banned(&agent), BTreeSet::from(["192.0.2.7".parse().unwrap()]));
}

/// What clients were told, in order, for each host: the last word holds.
type Words = BTreeMap<Ipv4Addr, bool>;

/// Bans and lets go, one after the other, until told to stop or the agent dies. An order that got
/// no answer may or may not be in force.
fn quarrel(socket: &Path, stop: &AtomicBool, seed: &mut u64) -> (Words, Option<Ipv4Addr>) {
    let mut words = Words::new();
    let Ok(mut connection) = Connection::open(socket) else { return (words, None) };
    while !stop.load(Ordering::Relaxed) {
        let host = Ipv4Addr::new(192, 0, 2, u8::try_from(random(seed) % 40).unwrap() + 1);
        let is_ban = !random(seed).is_multiple_of(3);
        let ip = IpAddr::V4(host);
        let request = if is_ban { Request::ban(ip, Way::Incoming) } else { Request::unban(ip) };
        match connection.order(&request) {
            Ok(_done) => drop(words.insert(host, is_ban)),
            Err(fastnetmon_user::client::ClientError::Refused(_)) => {}
            Err(_died) => return (words, Some(host)),
        }
    }
    (words, None)
}

/// The same numbers each time (xorshift).
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn kill_at_any_moment_loses_no_ban_doubles_none_and_calls_no_script_twice() {
    const KILLS: u32 = 25;
    let lab = Lab::new("kill").unwrap();
    let mut agent = Agent::start(&lab, &Setup { hook: RECORDER, ..Setup::default() });
    let mut seed = 0x1234_5678_9abc_def1;
    let mut words = Words::new();
    let mut unsure: BTreeSet<Ipv4Addr> = BTreeSet::new();
    for _ in 0..KILLS {
        let stop = AtomicBool::new(false);
        let socket = agent.socket();
        let after = Duration::from_micros(random(&mut seed) % 400_000);
        let (told, open) = std::thread::scope(|scope| {
            let quarrel = scope.spawn(|| {
                let mut seed = seed;
                quarrel(&socket, &stop, &mut seed)
            });
            std::thread::sleep(after);
            agent.kill();
            stop.store(true, Ordering::Relaxed);
            quarrel.join().unwrap()
        });
        random(&mut seed);
        for host in told.keys() {
            unsure.remove(host);
        }
        words.extend(told);
        unsure.extend(open);
        agent.again(&lab);
        // What was answered is in force, and nothing else is.
        let banned = banned(&agent);
        for (host, is_banned) in &words {
            if !unsure.contains(host) {
                assert_eq!(banned.contains(&IpAddr::V4(*host)), *is_banned, "{host}");
            }
        }
        for ip in &banned {
            let IpAddr::V4(host) = ip else { panic!("{ip}") };
            assert!(words.get(host) == Some(&true) || unsure.contains(host), "{host}");
            // It is known now.
            words.insert(*host, true);
        }
        for host in std::mem::take(&mut unsure) {
            words.insert(host, banned.contains(&IpAddr::V4(host)));
        }
    }
    assert!(!agent.log().contains("damaged"), "a kill leaves a torn line at most");
    // Everybody is let go; then all three calls of every ban were made, or it was said why not.
    for ip in banned(&agent) {
        agent.order(&Request::unban(ip)).unwrap();
    }
    assert!(agent.end(Signal::Terminate).success());
    let calls = agent.folder.read("calls");
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for line in calls.lines() {
        *seen.entry(line.split(' ').next().unwrap()).or_default() += 1;
    }
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "called twice: {doubled:?}");
    let bans: BTreeSet<&str> = seen.keys().map(|event| event.split_once('-').unwrap().0).collect();
    assert!(bans.len() > 100, "only {} bans: too slow to mean anything", bans.len());
    let missing = bans
        .iter()
        .flat_map(|ban| ["ban", "attack_details", "unban"].map(|what| format!("{ban}-{what}")))
        .filter(|event| !seen.contains_key(event.as_str()))
        .count();
    let said = agent.log().matches("it is not done again").count();
    assert!(missing <= said, "{missing} calls are missing and {said} are accounted for");
}

/// A disk of its own, as small as can be.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn mount(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=700", "fnm-test"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success());
        Self(path)
    }

    /// Takes all the room there is.
    pub(crate) fn fill(&self) {
        let mut size = 65_536;
        while size > 0 {
            let name = self.0.join(format!("ballast-{size}"));
            // What does not fit is half written, which takes its room as well.
            if fs::write(&name, vec![0; size]).is_ok() {
                continue_with(&name, size, &self.0);
            }
            size /= 2;
        }
    }

    pub(crate) fn free(&self) {
        for entry in fs::read_dir(&self.0).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().starts_with("ballast") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

/// A file of this size fitted once; it may fit again under another name.
fn continue_with(name: &Path, size: usize, folder: &Path) {
    for number in 0.. {
        let next = folder.join(format!("{}-{number}", name.file_name().unwrap().to_str().unwrap()));
        if fs::write(next, vec![0; size]).is_err() {
            return;
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ended = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_alarm_and_the_agent_goes_on() {
    let lab = Lab::new("full").unwrap();
    let folder = std::env::temp_dir().join(format!("fnm-disk-{}", std::process::id()));
    let disk = Disk::mount(folder.clone());
    let rest =
        format!("[attack_log]\nfolder = \"{0}/attacks\"\nenabled = true\n", folder.display());
    let setup = Setup { hook: RECORDER, rest: &rest, ..Setup::default() };
    let mut agent = Agent::start(&lab, &setup);
    // The journal goes there as well.
    assert!(agent.end(Signal::Terminate).success());
    let config = fs::read_to_string(agent.folder.path("fastnetmon.conf")).unwrap();
    let own = agent.folder.path("journal").display().to_string();
    let config = config.replace(&own, &format!("{}/journal", folder.display()));
    agent.folder.write("fastnetmon.conf", &config);
    agent.again(&lab);
    ban(&agent, "192.0.2.1");
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.1 incoming 0 attack_details"));
    disk.fill();
    // The last page of the journal has room for some more lines.
    for last in 2..30 {
        ban(&agent, &format!("192.0.2.{last}"));
    }
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.29 incoming 0 ban"));
    let alarm = |alarms: &[String], what: &str| alarms.iter().any(|alarm| alarm.contains(what));
    wait("an alarm of the journal", || {
        alarm(&agent.status().alarms, "The journal cannot be written").then_some(())
    });
    wait("an alarm of the reports", || {
        alarm(&agent.status().alarms, "make room there, or keep fewer").then_some(())
    });
    // A start on a full disk is possible too: what is there is read.
    agent.kill();
    agent.again(&lab);
    assert!(banned(&agent).contains(&"192.0.2.1".parse().unwrap()));
    ban(&agent, "192.0.2.30");
    agent.folder.wait_for("calls", |text| text.contains("192.0.2.30 incoming 0 ban"));
    wait("the alarm again", || {
        alarm(&agent.status().alarms, "No space left on device").then_some(())
    });
    disk.free();
    wait("the alarm to end", || {
        (!alarm(&agent.status().alarms, "The journal cannot be written")).then_some(())
    });
    // What came while it was full is on disk now.
    agent.kill();
    agent.again(&lab);
    let banned = banned(&agent);
    for ip in ["192.0.2.1", "192.0.2.30"] {
        assert!(banned.contains(&ip.parse().unwrap()), "{banned:?}");
    }
    drop(agent);
    drop(disk);
    fs::remove_dir(folder).unwrap();
}

#[test]
fn an_attack_leaves_a_report_in_the_incumbents_layout() {
    let lab = Lab::new("report").unwrap();
    let folder = std::env::temp_dir().join(format!("fnm-attacks-{}", std::process::id()));
    let rest = format!("[attack_log]\nfolder = \"{}\"\n", folder.display());
    let agent = Agent::start(&lab, &Setup { rest: &rest, ..Setup::default() });
    let victim = Ipv4Addr::new(192, 0, 2, 77);
    let frame = Frame::udp(Ipv4Addr::new(203, 0, 113, 9), victim, 40_000, 53).payload(18);
    let mut sender = lab.sender_outside().unwrap();
    sender.send(&Pool::new([frame]), 60_000, Pace::Pps(60_000)).unwrap();
    let text = wait("a report", || {
        let entries = fs::read_dir(&folder).ok()?;
        entries
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
            .find(|text| text.contains("Flow dump"))
    });
    assert!(text.starts_with("IP: 192.0.2.77\nAttack type: udp_flood\nInitial attack power: "));
    assert!(text.contains("Attack direction: incoming\nAttack protocol: udp\n"), "{text}");
    let (header, dump) = text.split_once("\n\n\n\nAttack traffic dump\n\n").unwrap();
    assert_eq!(header.lines().count(), 36);
    let (packets, flows) = dump.split_once("\n\n\nFlow dump\n\n").unwrap();
    let packets: Vec<&str> = packets.lines().collect();
    assert_eq!(packets.len(), 100);
    let tail = " 203.0.113.9:40000 > 192.0.2.77:53 protocol: udp frag: 0  packets: 1 size: 46 \
                bytes ttl: 64 sample ratio: 1  ";
    assert!(packets.iter().all(|line| line.ends_with(tail)), "{packets:?}");
    let flow = "192.0.2.77:53 < 203.0.113.9:40000 4600 bytes 100 packets";
    assert_eq!(flows, format!("Incoming\n\nUDP flows: 1\n{flow}\n\n\n\n"));
    drop(agent);
    fs::remove_dir_all(folder).unwrap();
}
