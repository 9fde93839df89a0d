//! Rights that are given up: what each thread keeps under each engine, what a script gets, and that
//! everything still works.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use fastnetmon_user::capture::{NflogSettings, nflog_rules};
use fastnetmon_user::control::{Request, Way};
use xtask::lab::{Attached, GUARDED, INSIDE_INTERFACE, INSIDE_MAC, Lab, Signal, Xdp};
use xtask::traffic::{Frame, Pace, Pool, Sender};

use crate::agent::{Agent, Folder, Setup, command_by, configure, wait};
use crate::engines::{AF_PACKET, Engine, NFLOG, XDP, XDP_GENERIC, shell};

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_KILL`.
const FILES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 5;
const NOBODY: u32 = 65_534;

/// Another network, not yet ours.
const NEWCOMER: Ipv4Addr = Ipv4Addr::new(192, 0, 3, 9);

/// Gives its folder to nobody, then starts the agent.
const FOR_NOBODY: [&str; 4] =
    ["sh", "-c", "chown -R nobody \"$(dirname \"$6\")\"; exec \"$@\"", "sh"];

/// What a script of ours says of itself.
const HOOK: &str = "grep -e Uid -e CapEff -e NoNewPrivs /proc/self/status > HERE/rights.new; \
                    mv HERE/rights.new HERE/rights; cat > /dev/null; echo \"$1 $4\" >> HERE/calls";

/// A thread, and what the kernel says of it.
#[derive(Debug, PartialEq)]
struct Thread {
    name: String,
    uid: u32,
    effective: u64,
    permitted: u64,
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn bits(status: &str, name: &str) -> u64 {
    u64::from_str_radix(field(status, name), 16).unwrap()
}

fn uid(status: &str) -> u32 {
    field(status, "Uid").split('\t').next().unwrap().parse().unwrap()
}

fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One that served a client may be gone meanwhile.
    let statuses =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let thread = |status: String| Thread {
        name: field(&status, "Name").to_owned(),
        uid: uid(&status),
        effective: bits(&status, "CapEff"),
        permitted: bits(&status, "CapPrm"),
    };
    statuses.map(thread).collect()
}

/// Every thread has these rights and no other, the log's none at all.
#[track_caller]
fn every_thread_has(agent: &Agent, expected_uid: u32, effective: u64, permitted: u64) {
    let threads = threads(agent.pid());
    assert!(threads.len() >= 5, "{threads:?}");
    for thread in &threads {
        let expected = if thread.name == "log" { (0, 0) } else { (effective, permitted) };
        assert_eq!((thread.effective, thread.permitted), expected, "{thread:?}");
        assert_eq!(thread.uid, expected_uid, "{thread:?}");
    }
    assert!(threads.iter().any(|thread| thread.name == "log"), "{threads:?}");
}

fn setup<'a>(capture: &'a str, rest: &'a str) -> Setup<'a> {
    Setup { networks: "192.0.2.0/24\n", capture, rest, hook: HOOK, ..Setup::default() }
}

/// What this engine keeps on a kernel that these tests run on (6.6 or later).
const fn kept(engine: Engine) -> u64 {
    match engine.name.as_bytes() {
        b"af_packet" | b"pcap" => NET_RAW,
        b"nflog" => NET_ADMIN,
        _ => 0,
    }
}

/// Ban, script, reload with a network more, a port that comes back, and a killed agent.
#[track_caller]
fn everything_works_with_what_is_left(engine: Engine, port_comes_back: bool) {
    let lab = Lab::new(&format!("rights{}", engine.name.replace('_', ""))).unwrap();
    (engine.prepare)(&lab);
    let make = "ip link add p0 type veth peer name p1; ip link set p0 up; ip link set p1 up";
    shell(&lab, make);
    let port = if port_comes_back { "p0" } else { INSIDE_INTERFACE };
    let capture = format!("engine = \"{}\"", engine.name);
    let rest = "[thresholds]\npps = 5000\n[ban]\ntime_secs = 1\n[security]\nuser = \"nobody\"\n";
    let mut agent = Agent::start_by(&lab, &FOR_NOBODY, &setup(&capture, rest), port);
    every_thread_has(&agent, NOBODY, kept(engine), kept(engine) | NET_ADMIN);

    let send = |to: Ipv4Addr, count: u64, pace: Pace| {
        let pool = Pool::new([Frame::udp([203, 0, 113, 99], to, 53, 4444).payload(18)]);
        let mut sender = if port_comes_back {
            lab.run_inside(|| Sender::open("p1")).unwrap().unwrap()
        } else {
            lab.sender_outside().unwrap()
        };
        sender.send(&pool, count, pace).unwrap();
    };
    send(GUARDED, 30_000, Pace::Pps(20_000));
    agent.folder.wait_for("calls", |text| text.contains(&format!("{GUARDED} unban")));
    let script = agent.folder.read("rights");
    assert_eq!((uid(&script), bits(&script, "CapEff")), (NOBODY, NET_ADMIN), "{script}");

    agent.folder.write("networks_list", "192.0.2.0/24\n192.0.3.0/24\n");
    agent.order(&Request::Reload).unwrap();
    let before = agent.status().totals.incoming.packets;
    send(NEWCOMER, 100, Pace::Full);
    wait("the newcomer to be counted", || {
        (agent.status().totals.incoming.packets == before + 100).then_some(())
    });
    if port_comes_back {
        shell(&lab, "ip link delete p0");
        let is_broken = |alarm: &String| alarm.contains("The capture is broken");
        wait("the alarm", || agent.status().alarms.iter().any(is_broken).then_some(()));
        shell(&lab, make);
        wait("it to be seen again", || agent.status().alarms.is_empty().then_some(()));
        send(NEWCOMER, 100, Pace::Full);
        wait("what came then", || {
            (agent.status().totals.incoming.packets == before + 200).then_some(())
        });
    }
    every_thread_has(&agent, NOBODY, kept(engine), kept(engine) | NET_ADMIN);
    agent.kill();
    let clean = Attached { xdp: Xdp::None, tcx_ingress: 0, tcx_egress: 0 };
    wait("the port to be clean", || (lab.attached_inside().unwrap() == clean).then_some(()));
}

#[test]
fn everything_works_with_what_is_left_under_xdp() {
    everything_works_with_what_is_left(XDP, false);
}

#[test]
fn everything_works_with_what_is_left_under_generic_xdp() {
    everything_works_with_what_is_left(XDP_GENERIC, false);
}

#[test]
fn everything_works_with_what_is_left_under_packet_sockets() {
    everything_works_with_what_is_left(AF_PACKET, true);
}

#[test]
#[cfg(feature = "pcap")]
fn everything_works_with_what_is_left_under_libpcap() {
    everything_works_with_what_is_left(crate::engines::PCAP, true);
}

#[test]
fn everything_works_with_what_is_left_under_nflog() {
    everything_works_with_what_is_left(NFLOG, false);
}

/// The rules name it, and it shows its packets to the group again.
#[test]
fn a_port_that_comes_back_is_seen_with_what_is_left_under_nflog() {
    let lab = Lab::new("rightsnflogport").unwrap();
    let rules = nflog_rules(&NflogSettings::default(), &["p0".to_owned()]);
    shell(&lab, rules.split_once("or, with").unwrap().0);
    let mac = INSIDE_MAC.map(|byte| format!("{byte:02x}")).join(":");
    // Before the firewall a packet is looked at only when it is for this machine.
    let make = format!(
        "ip link add p0 address {mac} type veth peer name p1; ip link set p0 up; ip link set p1 up"
    );
    shell(&lab, &make);
    let rest = "[security]\nuser = \"nobody\"\nscript_capabilities = []\n";
    let agent = Agent::start_by(&lab, &FOR_NOBODY, &setup("engine = \"nflog\"", rest), "p0");
    every_thread_has(&agent, NOBODY, NET_ADMIN, NET_ADMIN);
    let send = |expected: u64| {
        let pool = Pool::new([Frame::udp([203, 0, 113, 99], GUARDED, 53, 4444).payload(18)]);
        let mut sender = lab.run_inside(|| Sender::open("p1")).unwrap().unwrap();
        sender.send(&pool, 100, Pace::Full).unwrap();
        assert_eq!(agent.settled(expected).totals.incoming.packets, expected);
    };
    send(100);
    shell(&lab, "ip link delete p0");
    let is_told = |alarm: &String| alarm.contains("`p0` is gone or down");
    wait("the alarm", || agent.status().alarms.iter().any(is_told).then_some(()));
    shell(&lab, &make);
    wait("it to be seen again", || agent.status().alarms.is_empty().then_some(()));
    send(200);
    every_thread_has(&agent, NOBODY, NET_ADMIN, NET_ADMIN);
}

/// The socket is opened and the group bound by somebody who has what an agent keeps, and no more.
#[test]
fn what_is_left_under_nflog_is_enough_to_have_the_group_again() {
    const BY_LESS: [&str; 4] = [
        "sh",
        "-c",
        "chown -R nobody \"$(dirname \"$6\")\"; exec setpriv --reuid=65534 --regid=65534 \
         --clear-groups --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin \
         --bounding-set=-all,+net_admin \"$@\"",
        "sh",
    ];
    let lab = Lab::new("rightsnflogagain").unwrap();
    (NFLOG.prepare)(&lab);
    let setup = setup("engine = \"nflog\"", "");
    let mut first = Agent::start(&lab, &setup);
    first.end(Signal::Terminate);
    let agent = Agent::start_by(&lab, &BY_LESS, &setup, INSIDE_INTERFACE);
    every_thread_has(&agent, NOBODY, NET_ADMIN, NET_ADMIN);
    let pool = Pool::new([Frame::udp([203, 0, 113, 99], GUARDED, 53, 4444).payload(18)]);
    lab.sender_outside().unwrap().send(&pool, 100, Pace::Full).unwrap();
    assert_eq!(agent.settled(100).totals.incoming.packets, 100);
}

#[test]
fn drops_come_and_go_without_any_right() {
    let lab = Lab::new("rightsdrop").unwrap();
    let rest =
        "[xdp_drop]\nenabled = true\n[security]\nuser = \"nobody\"\nscript_capabilities = []\n";
    let agent = Agent::start_by(&lab, &FOR_NOBODY, &setup("", rest), INSIDE_INTERFACE);
    every_thread_has(&agent, NOBODY, 0, 0);
    let answered = || {
        let mut ping = lab.command_outside("ping");
        ping.args(["-q", "-c", "3", "-i", "0.02", "-W", "0.3", &GUARDED.to_string()]);
        ping.status().unwrap().success()
    };
    assert!(answered());
    let ip = IpAddr::from(GUARDED);
    agent.order(&Request::ban(ip, Way::Incoming)).unwrap();
    wait("it to be dropped", || (!answered()).then_some(()));
    agent.order(&Request::unban(ip)).unwrap();
    wait("it to flow", || answered().then_some(()));
    let script = agent.folder.wait_for("rights", |text| !text.is_empty());
    assert_eq!((uid(&script), bits(&script, "CapEff")), (NOBODY, 0), "{script}");
}

#[test]
fn copies_on_a_mirror_port_are_taken_without_any_right() {
    let lab = Lab::new("rightsmirror").unwrap();
    let rest =
        "[thresholds]\npps = 5000\n[security]\nuser = \"nobody\"\nscript_capabilities = []\n";
    let capture = "role = \"mirror\"\nengine = \"xdp\"";
    let hook = "cat > HERE/$4.new; mv HERE/$4.new HERE/$4";
    let setup = Setup { hook, ..setup(capture, rest) };
    let agent = Agent::start_by(&lab, &FOR_NOBODY, &setup, INSIDE_INTERFACE);
    every_thread_has(&agent, NOBODY, 0, 0);
    let pool = Pool::new([Frame::udp([203, 0, 113, 99], GUARDED, 53, 4444).payload(18)]);
    lab.sender_outside().unwrap().send(&pool, 60_000, Pace::Pps(20_000)).unwrap();
    let packets = agent.folder.wait_for("attack_details", |text| !text.is_empty());
    assert_eq!(packets.lines().count(), 100);
}

#[test]
fn root_keeps_what_files_need_and_its_scripts_keep_everything() {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    for engine in [XDP, AF_PACKET] {
        let lab = Lab::new("rightsroot").unwrap();
        let capture = format!("engine = \"{}\"", engine.name);
        let agent = Agent::start(&lab, &setup(&capture, ""));
        let kept = FILES | kept(engine);
        every_thread_has(&agent, 0, kept, kept);
        agent.order(&Request::ban(IpAddr::from(GUARDED), Way::Incoming)).unwrap();
        let script = agent.folder.wait_for("rights", |text| !text.is_empty());
        assert_eq!(bits(&script, "CapEff"), bits(&own, "CapEff"), "{script}");
    }
}

#[test]
fn with_no_new_privileges_roots_scripts_get_what_the_agent_kept_and_what_is_named() {
    let lab = Lab::new("rightsnnp").unwrap();
    let rest = "[security]\nno_new_privileges = true\n";
    let agent = Agent::start(&lab, &setup("", rest));
    every_thread_has(&agent, 0, FILES, FILES | NET_ADMIN);
    agent.order(&Request::ban(IpAddr::from(GUARDED), Way::Incoming)).unwrap();
    let script = agent.folder.wait_for("rights", |text| !text.is_empty());
    assert_eq!(bits(&script, "CapEff"), FILES | NET_ADMIN, "{script}");
    assert_eq!(field(&script, "NoNewPrivs"), "1");
}

#[test]
fn a_folder_that_lacks_is_made_for_the_user() {
    let lab = Lab::new("rightsfolder").unwrap();
    let folder = Folder::new();
    let rest = "[security]\nuser = \"nobody\"\n";
    let config = configure(&folder, &setup("", rest));
    let text = folder.read("fastnetmon.conf");
    let here = folder.path("").display().to_string();
    let text = text.replace(&format!("{here}control"), &format!("{here}run/control"));
    folder.write(
        "fastnetmon.conf",
        &text.replace(&format!("{here}journal"), &format!("{here}lib/j")),
    );
    // Root's alone: it can be read now, and not again.
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let log = fs::File::create(folder.path("log")).unwrap();
    let mut agent = command_by(&lab, &[], &config, INSIDE_INTERFACE).stderr(log).spawn().unwrap();
    let socket = folder.path("run/control.sock");
    wait("an answer", || fastnetmon_user::client::Connection::open(&socket).ok());
    for made in ["run", "lib"] {
        let output = Command::new("stat").args(["-c", "%U %a"]).arg(folder.path(made)).output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "nobody 750\n");
    }
    let warned = "The agent's user cannot read the configuration again: a reload will fail.";
    folder.wait_for("log", |text| text.contains(warned));
    xtask::lab::signal(agent.id(), Signal::Terminate).unwrap();
    assert!(agent.wait().unwrap().success());
    assert!(!socket.exists(), "its user may take it away");
}

/// Starts it so that it must refuse, and tells what it said.
#[track_caller]
fn refused(by: &[&str], security: &str, expected: &str) {
    let lab = Lab::new("rightsno").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &setup("", security));
    let output = command_by(&lab, by, &config, INSIDE_INTERFACE).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(expected), "`{expected}` is not in: {said}");
}

#[test]
fn what_cannot_be_given_up_or_given_is_named_with_the_remedy() {
    let security = "[security]\nuser = \"nobody\"\n";
    refused(
        &["setpriv", "--bounding-set=-setuid", "--inh-caps=-all"],
        security,
        "becoming `nobody` needs CAP_SETUID: start as root, or as `nobody`, or set \"\"",
    );
    refused(
        &["setpriv", "--bounding-set=-sys_module", "--inh-caps=-all"],
        &format!("{security}script_capabilities = [\"CAP_SYS_MODULE\"]\n"),
        "`script_capabilities` in `[security]` names CAP_SYS_MODULE, which the agent itself does not \
         have: grant it, or take it out",
    );
    refused(&[], "[security]\nuser = \"fnm-nobody\"\n", "there is no `fnm-nobody` in /etc/passwd");
    refused(
        &["setpriv", "--bounding-set=-bpf", "--inh-caps=-all"],
        security,
        "not permitted: CAP_BPF missing",
    );
}
