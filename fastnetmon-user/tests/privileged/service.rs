//! As a service: what the manager is told, and with which rights the unit runs the agent.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use fastnetmon_user::client::Connection;
use xtask::lab::{GUARDED, Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Folder, PATIENCE, Setup, command, command_by, configure, wait};

/// Waits for a message that says this.
#[track_caller]
fn expect(manager: &UnixDatagram, word: &str) {
    let mut buffer = [0; 512];
    for _ in 0..100 {
        let length = loop {
            match manager.recv(&mut buffer) {
                // Whoever waits with a deadline is woken by a process that is continued (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.expect(word),
            }
        };
        let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if told.lines().any(|line| line == word) {
            return;
        }
    }
    panic!("100 messages, and none says `{word}`");
}

#[test]
fn the_service_manager_hears_ready_then_signs_of_life_then_stopping() {
    let lab = Lab::new("sdnotify").unwrap();
    let folder = Folder::new();
    let config = configure(&folder, &Setup::default());
    let path = folder.path("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut agent = command(&lab, &config, "in0")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "6000000")
        .spawn()
        .unwrap();
    expect(&manager, "READY=1");
    assert!(Connection::open(&folder.path("control.sock")).is_ok(), "ready means that it answers");
    expect(&manager, "WATCHDOG=1");
    expect(&manager, "WATCHDOG=1");
    xtask::lab::signal(agent.id(), Signal::Terminate).unwrap();
    expect(&manager, "STOPPING=1");
    assert!(agent.wait().unwrap().success());
}

/// What the unit says after this key.
fn in_unit(key: &str) -> &'static str {
    let unit = include_str!("../../../packaging/systemd/fastnetmon.service");
    unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).expect(key)
}

#[test]
fn the_rights_in_the_unit_are_enough_to_count_to_ban_and_to_call_the_script() {
    assert_eq!(in_unit("AmbientCapabilities"), in_unit("CapabilityBoundingSet"));
    let rights: Vec<String> = in_unit("AmbientCapabilities")
        .split(' ')
        .map(|name| format!("+{}", name.strip_prefix("CAP_").unwrap().to_lowercase()))
        .collect();
    let rights = rights.join(",");
    let lab = Lab::new("unit").unwrap();
    let folder = Folder::new();
    let setup = Setup {
        hook: "id -u > HERE/user.new; cat > /dev/null; echo \"$*\" >> HERE/calls; \
               mv HERE/user.new HERE/user",
        ..Setup::default()
    };
    let config = configure(&folder, &setup);
    let path = folder.path("");
    let chown = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(&path).status();
    assert!(chown.unwrap().success());
    let (inheritable, ambient) =
        (format!("--inh-caps=-all,{rights}"), format!("--ambient-caps=-all,{rights}"));
    let bounding = format!("--bounding-set=-all,{rights}");
    let by = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        &inheritable,
        &ambient,
        &bounding,
        "--no-new-privs",
    ];
    let mut agent = command_by(&lab, &by, &config, "in0").stdin(Stdio::null()).spawn().unwrap();
    let socket = folder.path("control.sock");
    wait("the agent without root to answer", || Connection::open(&socket).ok());
    let flood = Pool::new([Frame::udp([203, 0, 113, 99], GUARDED, 53, 4444).payload(18)]);
    lab.sender_outside().unwrap().send(&flood, 90_000, Pace::Pps(60_000)).unwrap();
    let calls = folder.wait_for("calls", |text| text.contains("attack_details"));
    assert!(calls.starts_with(&format!("{GUARDED} incoming ")), "{calls}");
    assert_eq!(folder.wait_for("user", |text| !text.is_empty()), "65534\n");
    xtask::lab::signal(agent.id(), Signal::Terminate).unwrap();
    assert!(agent.wait().unwrap().success());
}
