//! Packets of attacks as files, opened by the program operators open them with.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::lab::{GUARDED, INSIDE_INTERFACE, Lab};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, wait};
use crate::lasting::Disk;
use crate::web::House;

const SOURCE: [u8; 4] = [203, 0, 113, 99];

/// What a program prints, which must succeed.
#[track_caller]
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}{text}");
    text
}

/// The one file in a folder.
fn only_file(folder: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path());
    let file = files.next().filter(|path| path.extension().is_some_and(|is| is == "pcapng"))?;
    files.next().is_none().then_some(file)
}

fn flood(lab: &Lab, packets: u64) {
    let flood = Pool::new([Frame::udp(SOURCE, GUARDED, 40_000, 4444).payload(18)]);
    lab.sender_outside().unwrap().send(&flood, packets, Pace::Pps(60_000)).unwrap();
}

#[test]
fn tshark_reads_the_hundred_packets_of_an_attack_and_so_do_api_and_replay() {
    let folder = Folder::new();
    let shelf = folder.path("packets");
    let rest = format!("[packets]\nfolder = \"{}\"\n", shelf.display());
    let house = House::new("packets", &rest);
    house.flood();
    let file = wait("the file", || only_file(&shelf));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(&shelf).unwrap().permissions().mode() & 0o777, 0o750);
    let client = house.client();
    let bans = wait("the ban in a report", || {
        Some(client.get("/api/v1/bans").json()).filter(|bans| bans[0]["ip"] == GUARDED.to_string())
    });
    let id = bans[0]["id"].as_str().unwrap();
    let path = file.to_str().unwrap();
    assert!(path.ends_with(&format!("/{id}_{GUARDED}.pcapng")), "{path}");

    let fields = ["ip.src", "ip.dst", "udp.dstport", "frame.len", "frame.interface_name"];
    let fields: Vec<&str> = fields.iter().flat_map(|field| ["-e", field]).collect();
    let lines = output("tshark", &[&["-n", "-r", path, "-T", "fields"], &fields[..]].concat());
    let source = SOURCE.map(|byte| byte.to_string()).join(".");
    let expected = format!("{source}\t{GUARDED}\t4444\t60\t{INSIDE_INTERFACE}");
    assert_eq!(lines.lines().filter(|line| *line == expected).count(), 100, "{lines}");
    assert_eq!(lines.lines().count(), 100, "{lines}");
    let pps = bans[0]["pps"].as_u64().unwrap();
    let comment = format!("{GUARDED} incoming udp_flood {pps} pps, ban {id}");
    let said = output("tshark", &["-n", "-r", path, "-T", "fields", "-e", "frame.comment"]);
    assert_eq!(said.trim(), comment);
    let about = output("capinfos", &[path]);
    assert!(about.contains(&comment), "{about}");
    assert!(about.contains("Number of packets:   100"), "{about}");

    let list = folder.write("networks", "192.0.2.0/24\n");
    let config = folder.write(
        "replay.conf",
        &format!("[networks]\nlist = \"{}\"\nwhitelist = \"\"\n", list.display()),
    );
    let config = config.to_str().unwrap();
    let fastnetmon = env!("CARGO_BIN_EXE_fastnetmon");
    let replayed = output(fastnetmon, &["replay", path, "--config", config, "--json"]);
    let replayed: Value = serde_json::from_str(&replayed).unwrap();
    assert_eq!(replayed["totals"]["incoming"]["packets"], 100, "{replayed}");
    assert_eq!(replayed["totals"]["outgoing"]["packets"], 0, "{replayed}");
    assert_eq!(replayed["error"], Value::Null, "{replayed}");

    // Over HTTP the same bytes, while the ban stands and when it has ended.
    let bytes = fs::read(&file).unwrap();
    let download = format!("/api/v1/bans/{id}/packets");
    assert_eq!(client.get(&download).status, 401);
    let client = house.known();
    let answer = client.get(&download);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("application/x-pcapng"), "{}", answer.head);
    assert!(answer.head.contains(&format!("filename=\"{id}_{GUARDED}.pcapng\"")), "{answer:?}");
    assert_eq!(answer.body, String::from_utf8_lossy(&bytes));
    let gone = house.known().ask("DELETE", &format!("/api/v1/bans/{GUARDED}"), "");
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(client.get(&download).status, 200);
    assert_eq!(client.get("/api/v1/bans/x/packets").status, 400);
    assert_eq!(client.get("/api/v1/bans/5/packets").status, 404);
    fs::remove_file(&file).unwrap();
    let answer = client.get(&download);
    assert_eq!(answer.status, 404, "{answer:?}");
    assert!(answer.body.contains("there are no packets of ban"), "{answer:?}");
}

#[test]
fn more_packets_go_to_disk_than_into_the_dump() {
    let lab = Lab::new("packetsmore").unwrap();
    let folder = Folder::new();
    let shelf = folder.path("packets");
    let rest = format!(
        "[packets]\nfolder = \"{}\"\npackets_to_disk = 400\n[thresholds]\npps = 30000\n",
        shelf.display()
    );
    let hook = "[ \"$4\" = attack_details ] && cat > HERE/dump.new && mv HERE/dump.new HERE/dump";
    let agent = Agent::start(&lab, &Setup { rest: &rest, hook, ..Setup::default() });
    flood(&lab, 100_000);
    let dump = agent.folder.wait_for("dump", |text| !text.is_empty());
    assert_eq!(dump.lines().count(), 100);
    let file = wait("the file", || only_file(&shelf));
    let numbers =
        output("tshark", &["-n", "-r", file.to_str().unwrap(), "-T", "fields", "-e", "ip.dst"]);
    assert_eq!(numbers.lines().filter(|line| *line == GUARDED.to_string()).count(), 400);
}

#[test]
fn a_folder_that_cannot_be_written_is_an_alarm_and_stops_no_ban() {
    let lab = Lab::new("packetsdisk").unwrap();
    let folder = Folder::new();
    let blocked = folder.write("blocked", "a file where the folder should be");
    let rest =
        format!("[packets]\nfolder = \"{}\"\n[thresholds]\npps = 30000\n", blocked.display());
    let hook = "echo \"$4\" >> HERE/calls";
    let agent = Agent::start(&lab, &Setup { rest: &rest, hook, ..Setup::default() });
    flood(&lab, 100_000);
    agent.folder.wait_for("calls", |text| text == "ban\nattack_details\n");
    let alarm = wait("the alarm", || {
        let alarms = agent.status().alarms;
        alarms.into_iter().find(|alarm| alarm.contains("packets of attacks are not written"))
    });
    assert!(alarm.contains("name another `folder` in `[packets]`"), "{alarm}");
}

#[test]
fn a_full_disk_is_an_alarm_until_there_is_room_and_leaves_no_half_file() {
    let lab = Lab::new("packetsfull").unwrap();
    let folder = std::env::temp_dir().join(format!("fnm-packets-disk-{}", std::process::id()));
    let disk = Disk::mount(folder.clone());
    let shelf = folder.join("packets");
    let rest = format!("[packets]\nfolder = \"{}\"\n[thresholds]\npps = 30000\n", shelf.display());
    let hook = "echo \"$1 $4\" >> HERE/calls";
    let agent = Agent::start(&lab, &Setup { rest: &rest, hook, ..Setup::default() });
    fs::create_dir(&shelf).unwrap();
    disk.fill();
    flood(&lab, 60_000);
    agent.folder.wait_for("calls", |text| text.contains("attack_details"));
    let is_told = || {
        agent.status().alarms.iter().any(|alarm| alarm.contains("make room there, or keep less"))
    };
    wait("the alarm", || is_told().then_some(()));
    assert_eq!(fs::read_dir(&shelf).unwrap().count(), 0);
    disk.free();
    let other = Ipv4Addr::new(192, 0, 2, 9);
    let flood = Pool::new([Frame::udp(SOURCE, other, 40_000, 4444).payload(18)]);
    lab.sender_outside().unwrap().send(&flood, 60_000, Pace::Pps(60_000)).unwrap();
    let file = wait("the file", || only_file(&shelf));
    assert!(file.to_str().unwrap().ends_with("_192.0.2.9.pcapng"), "{}", file.display());
    wait("the end of the alarm", || (!is_told()).then_some(()));
    drop(agent);
    drop(disk);
    fs::remove_dir(folder).unwrap();
}
