//! Bad input: a clear error, exit code 2, nothing half-started.

use std::fs;
use std::process::{Command, Output};

use xtask::lab::{Attached, Lab, Xdp};

use crate::agent::{Agent, Folder, Setup, command, configure};

const CLEAN: Attached = Attached { xdp: Xdp::None, tcx_ingress: 0, tcx_egress: 0 };

#[track_caller]
fn refused(mut command: Command, expected: &str) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains(expected), "`{expected}` is not in: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn an_interface_that_does_not_exist_is_named_with_those_that_do() {
    let lab = Lab::new("none").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup::default());
    refused(command(&lab, &config, "eth9"), "interface `eth9` does not exist; there are: in0, lo");
    refused(command(&lab, &config, "in0,in0"), "interface `in0` is named twice");
    // One good and one bad: the good one is let go.
    refused(command(&lab, &config, "in0,eth9"), "interface `eth9` does not exist");
    assert_eq!(lab.attached_inside().unwrap(), CLEAN);
    assert!(!folder.path("control.sock").exists());
    let mut nobody = lab.command_inside(env!("CARGO_BIN_EXE_fastnetmon"));
    nobody.arg("run").arg("--config").arg(&config);
    refused(nobody, "no interface: name the ports to watch with `--interface eth0,eth1`");
}

#[test]
fn a_driver_without_native_xdp_is_named_with_the_way_out() {
    let lab = Lab::new("lo").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup::default());
    let text = refused(command(&lab, &config, "lo"), "interface `lo`");
    assert!(text.contains("does not run XDP natively"), "{text}");
    assert!(text.contains("set `engine = \"xdp_generic\"`"), "{text}");
}

#[test]
fn a_second_agent_on_an_interface_is_refused() {
    let lab = Lab::new("two").unwrap();
    let agent = Agent::start(&lab, &Setup::default());
    let folder = Folder::new();
    let config = configure(&folder, &Setup::default());
    refused(command(&lab, &config, "in0"), "interface `in0` has an XDP program already");
    // The same configuration: the socket tells first.
    let same = agent.folder.path("fastnetmon.conf");
    refused(command(&lab, &same, "in0"), "another agent answers there");
    assert!(agent.status().uptime_secs < 60, "the first one goes on");
}

#[test]
fn missing_capabilities_are_named() {
    let lab = Lab::new("caps").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup::default());
    let mut command = lab.command_inside("setpriv");
    command
        .args(["--bounding-set", "-bpf,-perfmon,-sys_admin", "--inh-caps", "-all"])
        .arg(env!("CARGO_BIN_EXE_fastnetmon"))
        .args(["run", "--interface", "in0", "--config"])
        .arg(&config);
    refused(command, "not permitted: CAP_BPF, CAP_PERFMON missing; run as root");
    assert_eq!(lab.attached_inside().unwrap(), CLEAN);
}

#[test]
fn a_networks_file_that_is_missing_empty_or_wrong_is_named() {
    let lab = Lab::new("files").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup::default());
    let list = folder.path("networks_list");
    let check = |text: Option<&str>, expected: &str| {
        match text {
            Some(text) => fs::write(&list, text).unwrap(),
            None => fs::remove_file(&list).unwrap(),
        }
        refused(command(&lab, &config, "in0"), expected);
    };
    check(Some("# nothing\n"), "networks_list: no network in it; put the networks to guard there");
    check(Some("192.0.2.0/24\n\n192.0.2.0/40\n"), "networks_list:3: `192.0.2.0/40` is not");
    check(None, "networks_list: No such file or directory");
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    fs::write(folder.path("networks_whitelist"), "x\n").unwrap();
    refused(command(&lab, &config, "in0"), "networks_whitelist:1: `x` is not an address");
    assert_eq!(lab.attached_inside().unwrap(), CLEAN);
}

#[test]
fn networks_too_large_for_memory_are_refused_with_the_arithmetic() {
    let lab = Lab::new("memory").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup { networks: "10.0.0.0/8\n", ..Setup::default() });
    refused(command(&lab, &config, "in0"), "and `max_table_mb` is 2048: guard fewer networks");
}

#[test]
fn a_configuration_nobody_understands_is_refused_with_its_line() {
    let lab = Lab::new("conf").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup { rest: "[thresholds]\npsp = 5\n", ..Setup::default() });
    refused(command(&lab, &config, "in0"), "unknown field `psp`, expected one of `pps`");
    refused(
        command(&lab, &folder.path("none"), "in0"),
        "give the configuration with `--config FILE`",
    );
}

#[test]
fn a_socket_that_cannot_be_made_is_named() {
    let lab = Lab::new("socket").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup::default());
    let text = fs::read_to_string(&config).unwrap();
    let bad = text.replace("control.sock", "networks_list/x.sock");
    let config = folder.write("bad.conf", &bad);
    refused(command(&lab, &config, "in0"), "control socket `");
    // A file that is no socket is not removed.
    let bad = text.replace("control.sock", "networks_list");
    let config = folder.write("bad.conf", &bad);
    refused(command(&lab, &config, "in0"), "control socket `");
    assert!(folder.path("networks_list").exists());
    assert_eq!(lab.attached_inside().unwrap(), CLEAN);
}

#[test]
fn a_client_without_an_agent_says_so() {
    let folder = Folder::new();
    for arguments in [&["top", "--once"][..], &["status"], &["bans"], &["unban", "192.0.2.1"]] {
        let mut client = Command::new(env!("CARGO_BIN_EXE_fastnetmon"));
        client.args(arguments).arg("--socket").arg(folder.path("none.sock"));
        refused(client, "no agent answers at `");
    }
}
