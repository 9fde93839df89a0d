//! `fastnetmon doctor` on real interfaces: what it finds, and that what it says mends it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use xtask::lab::{INSIDE_INTERFACE, Lab};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, configure, wait};

const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const PPS: u32 = 2_000;

/// What a look found.
struct Found {
    code: i32,
    findings: Vec<Value>,
}

impl Found {
    #[track_caller]
    fn of(&self, id: &str) -> &Value {
        let found = self.findings.iter().find(|finding| finding["id"] == id);
        found.unwrap_or_else(|| panic!("no `{id}` among {:#?}", self.findings))
    }

    fn mend(&self, id: &str) -> Vec<String> {
        let mend = self.of(id)["mend"].as_array().unwrap().iter();
        mend.map(|command| command.as_str().unwrap().to_owned()).collect()
    }

    /// The names of what is so bad.
    fn bad(&self, severity: &str) -> Vec<&str> {
        let bad = self.findings.iter().filter(|finding| finding["severity"] == severity);
        bad.map(|finding| finding["id"].as_str().unwrap()).collect()
    }
}

/// Looks for a second.
#[track_caller]
fn look(lab: &Lab, config: &Path) -> Found {
    let output = lab
        .command_inside(env!("CARGO_BIN_EXE_fastnetmon"))
        .args(["doctor", "--json", "--secs", "2", "--interface", INSIDE_INTERFACE, "--config"])
        .arg(config)
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = document["findings"].as_array().unwrap().clone();
    Found { code: output.status.code().unwrap(), findings }
}

/// Types the commands, as an operator would.
#[track_caller]
fn type_in(lab: &Lab, commands: &[String]) {
    let program = Path::new(env!("CARGO_BIN_EXE_fastnetmon"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    for line in commands {
        let mut shell: Command = lab.command_inside("sh");
        let output = shell.args(["-c", line]).env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "`{line}`: {output:?}");
    }
}

/// Does the work while packets for a host come in.
fn under_traffic<T>(lab: &Lab, host: Ipv4Addr, work: impl FnOnce() -> T) -> T {
    let mut sender = lab.sender_outside().unwrap();
    let is_over = AtomicBool::new(false);
    let frames = (1..=50).map(|port| Frame::udp(WORLD, host, 40_000 + port, 53).payload(18));
    let pool = Pool::new(frames);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Five minutes at most.
            for _ in 0..3_000 {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                sender.send(&pool, u64::from(PPS) / 10, Pace::Pps(PPS)).unwrap();
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_healthy_house_is_fine() {
    let lab = Lab::new("docok").unwrap();
    let agent = Agent::start(&lab, &Setup::default());
    let config = agent.folder.path("fastnetmon.conf");
    let found = under_traffic(&lab, HOST, || {
        // Queues of the kernel are those of the whole machine, and others may fill them.
        wait("a look that finds nothing wrong", || {
            let found = look(&lab, &config);
            let is_elsewhere = found.bad("warning") == ["softnet"];
            assert!(found.code == 0 || is_elsewhere, "{:#?}", found.findings);
            (found.code == 0).then_some(found)
        })
    });
    for id in ["agent", "link", "xdp", "packets", "match", "loss", "script", "drops"] {
        assert_eq!(found.of(id)["severity"], "ok", "{:#?}", found.of(id));
    }
    assert!(found.of("xdp")["seen"].as_str().unwrap().contains("native in the driver veth"));
    // Asked at another socket, it sees that somebody is there all the same.
    let text = fs::read_to_string(&config).unwrap().replace("control.sock", "other.sock");
    let found = look(&lab, &agent.folder.write("other.conf", &text));
    let xdp = found.of("xdp");
    assert_eq!((xdp["severity"].as_str(), found.code), (Some("warning"), 2), "{xdp:#?}");
    assert!(xdp["seen"].as_str().unwrap().contains("another agent runs"), "{xdp:#?}");
    // The same for people.
    let plain = lab
        .command_inside(env!("CARGO_BIN_EXE_fastnetmon"))
        .args(["doctor", "--all", "--secs", "1", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.contains("ok       xdp  in0\n") && !plain.contains('\x1b'), "{plain}");
}

#[test]
fn networks_that_do_not_match_are_named_and_the_line_cures_it() {
    let lab = Lab::new("docmatch").unwrap();
    let setup = Setup { networks: "198.51.100.0/24\n2001:db8::/32", ..Setup::default() };
    let agent = Agent::start(&lab, &setup);
    let config = agent.folder.path("fastnetmon.conf");
    under_traffic(&lab, HOST, || {
        let found = look(&lab, &config);
        assert_eq!((found.code, found.bad("failure")), (2, vec!["match"]), "{:#?}", found.findings);
        let seen = found.of("match")["seen"].as_str().unwrap().to_owned();
        assert!(seen.contains("192.0.2.0/24 (100 %)"), "{seen}");
        assert!(seen.contains("counted by the agent"), "{seen}");
        let mend = found.mend("match");
        assert!(mend[0].starts_with("printf '\\n192.0.2.0/24\\n' >> "), "{mend:?}");
        type_in(&lab, &mend);
        let found = look(&lab, &config);
        let cured = found.of("match");
        assert_eq!(cured["severity"], "ok", "{cured:#?}");
        // Nothing was counted for the networks that were there before.
        let silent = found.of("silent_networks")["seen"].as_str().unwrap();
        assert!(silent.contains("198.51.100.0/24") && !silent.contains("192.0.2.0"), "{silent}");
    });
    assert!(agent.status().totals.incoming.packets > 0);
}

#[test]
fn without_an_agent_it_looks_by_itself_and_says_how_to_start_one() {
    let lab = Lab::new("docnone").unwrap();
    let folder = Folder::new();
    let networks = "198.51.100.0/24\n";
    let config = configure(&folder, &Setup { networks, ..Setup::default() });
    under_traffic(&lab, HOST, || {
        let found = look(&lab, &config);
        assert_eq!(found.code, 2);
        assert_eq!(found.bad("failure"), ["agent", "match"], "{:#?}", found.findings);
        let mend = found.mend("agent");
        assert_eq!(mend[0], "systemctl enable --now fastnetmon");
        assert_eq!(mend[1], format!("fastnetmon run --config {}", config.display()));
        let seen = found.of("match")["seen"].as_str().unwrap();
        assert!(seen.contains("192.0.2.0/24") && seen.contains("seen on the ports"), "{seen}");
        assert_eq!(found.of("xdp")["severity"], "ok");
    });
    // A configuration that cannot be read, and what does not need one.
    let broken = folder.write("broken.conf", "[capture]\nengin = \"xdp\"\n");
    let found = look(&lab, &broken);
    assert!(found.bad("failure").contains(&"configuration"));
    let seen = found.of("configuration")["seen"].as_str().unwrap();
    assert!(seen.starts_with("Line 2: unknown field `engin`, expected one of"), "{seen}");
    assert!(found.findings.iter().any(|finding| finding["id"] == "clock"));
}

#[test]
fn a_link_that_is_down_and_a_script_that_cannot_be_called_are_mended_by_what_it_says() {
    let lab = Lab::new("docdown").unwrap();
    let agent = Agent::start(&lab, &Setup::default());
    let config = agent.folder.path("fastnetmon.conf");
    type_in(&lab, &["ip link set dev in0 down".to_owned()]);
    let hook = agent.folder.path("hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o644)).unwrap();
    let found = look(&lab, &config);
    assert_eq!(found.code, 2);
    for id in ["link", "script"] {
        assert_eq!(found.of(id)["severity"], "failure", "{:#?}", found.of(id));
    }
    assert_eq!(found.mend("link"), ["ip link set dev in0 up"]);
    type_in(&lab, &found.mend("link"));
    type_in(&lab, &found.mend("script"));
    wait("the link and the script to be well", || {
        let found = look(&lab, &config);
        (found.of("link")["severity"] == "ok" && found.of("script")["severity"] == "ok")
            .then_some(())
    });
    fs::write(&hook, "#!/bin/sh\r\nexit 0\r\n").unwrap();
    let found = look(&lab, &config);
    assert!(found.of("script")["seen"].as_str().unwrap().contains(r#""/bin/sh\r""#));
    type_in(&lab, &found.mend("script"));
    assert_eq!(look(&lab, &config).of("script")["severity"], "ok");
}

#[test]
fn offloads_and_generic_xdp_are_seen_and_mended() {
    let lab = Lab::new("docoff").unwrap();
    let capture = "engine = \"xdp_generic\"";
    let agent = Agent::start(&lab, &Setup { capture, ..Setup::default() });
    let config = agent.folder.path("fastnetmon.conf");
    type_in(&lab, &["ethtool -K in0 rxvlan on".to_owned()]);
    let found = look(&lab, &config);
    let vlan = found.of("vlan_offload");
    assert_eq!(vlan["severity"], "note", "{vlan:#?}");
    type_in(&lab, &found.mend("vlan_offload"));
    let xdp = found.of("xdp");
    assert_eq!(xdp["severity"], "warning", "{xdp:#?}");
    assert!(xdp["seen"].as_str().unwrap().contains("the driver veth can run it"), "{xdp:#?}");
    // The first line changes the configuration, the second starts the agent anew.
    type_in(&lab, &found.mend("xdp")[..1]);
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("engine = \"xdp\"\n"), "{text}");
    assert_eq!(look(&lab, &config).of("vlan_offload")["severity"], "ok");
}

#[test]
fn rules_that_log_to_nobody_are_seen_and_mended() {
    let lab = Lab::new("docnflog").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup { capture: "engine = \"nflog\"", ..Setup::default() });
    let found = look(&lab, &config);
    assert_eq!(found.of("nflog_rules")["severity"], "failure");
    type_in(&lab, &found.mend("nflog_rules"));
    let cured = look(&lab, &config);
    let seen = cured.of("nflog_rules");
    assert!(seen["seen"].as_str().unwrap().starts_with("2 rules"), "{seen:#?}");
}

#[test]
fn the_agent_looks_at_itself_within_half_a_minute_and_shows_what_it_found() {
    let lab = Lab::new("docself").unwrap();
    let agent = Agent::start(&lab, &Setup { networks: "198.51.100.0/24\n", ..Setup::default() });
    let hook = agent.folder.path("hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o644)).unwrap();
    under_traffic(&lab, HOST, || {
        let found = wait("the agent's own look", || agent.status().self_check);
        let ids: Vec<&str> = found.findings.iter().map(|finding| finding.id.as_str()).collect();
        assert!(ids.contains(&"match") && ids.contains(&"script"), "{found:#?}");
        assert!(found.failures >= 2 && agent.status().uptime_secs <= 30, "{found:#?}");
        let outside = found.findings.iter().find(|finding| finding.id == "match").unwrap();
        // Under XDP it kept no right to look at packets itself.
        assert!(outside.seen.contains("100 %, touch none of the 1 networks"), "{outside:#?}");
        assert!(outside.mend[0].starts_with("sudo fastnetmon doctor --config "), "{outside:#?}");
    });
    let log = agent.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("Self-check.")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("failures") && lines[0].contains("fastnetmon doctor"), "{log}");
    let status = lab
        .command_inside(env!("CARGO_BIN_EXE_fastnetmon"))
        .args(["status", "--socket"])
        .arg(agent.socket())
        .output()
        .unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("doctor    ") && status.contains("failure match: "), "{status}");
}
