//! What the texts tell an operator to type, typed on a host of its own.
//!
//! The host is the inside of a lab with files of its own: /etc is a copy, /usr/local/bin, /run, /tmp,
//! /var/lib and /var/log are empty, and what is started ends with it. A block is typed as it stands,
//! without a word changed; what must be so before it stands here as a step.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapWriter};
use xtask::document::{Block, Decision, Document};
use xtask::lab::{GUARDED, Lab};
use xtask::traffic::Frame;

use crate::agent::Folder;

/// What is done with a text, in this order.
enum Step {
    /// The next blocks are typed.
    Type(usize),
    /// What an operator did meanwhile.
    Before(&'static str),
    /// The blocks typed so far printed this.
    Said(&'static str),
}
use Step::{Before, Said, Type};

/// The texts with blocks for a host, in the order they are read on it. One that is not here is typed
/// from its first block to its last.
const TEXTS: [(&str, &[Step]); 9] = [
    (
        "README.md",
        &[
            Before("sed -i /^fastnetmon:/d /etc/group /etc/gshadow"),
            Type(2),
            Said("2 networks are guarded"),
            Said("pps = 30000"),
            Type(1),
            Before("agent_answers"),
            Type(1),
            Said("`192.0.2.77` is banned"),
            Said("1: arriving: incoming 192.0.2.7 udp, 100 bytes"),
        ],
    ),
    ("docs/configuration.md", &[Type(1), Said("pps = 30000")]),
    ("docs/control-protocol.md", &[Type(1), Said("\"protocol\":"), Said("'incoming'")]),
    ("docs/openvz.md", &[Type(1), Said("container 101 is suspended")]),
    (
        "docs/scripts.md",
        &[
            Before(
                "cp scripts/examples/nftables.sh script
                 cp script /usr/local/bin/notify_about_attack.sh
                 sed -n '/^#   table/,/^#   }/s/^# *//p' script | nft -f -",
            ),
            Type(1),
            Said("`192.0.2.7` is banned"),
            Before(
                "while nft list set inet fastnetmon incoming4 | grep -q 192.0.2.7; do patience; done",
            ),
        ],
    ),
    (
        "docs/operations.md",
        &[
            Before("sed -i /^fastnetmon:/d /etc/passwd /etc/shadow"),
            Type(1),
            Before("test \"$(stat -c %U:%G /run/fastnetmon)\" = fastnetmon:fastnetmon"),
            Before(
                "echo 192.0.2.53 > /etc/networks_whitelist
                 fastnetmon reload
                 sed -i 's/^concurrency = 8/concurrency = 16/' /etc/fastnetmon.conf
                 sed -i 's/^pps = 30000/pps = 50000/; s/^tick_ms = 1000/tick_ms = 500/' \
                 /etc/fastnetmon.conf
                 echo 203.0.113.0/24 >> /etc/networks_list
                 : > /etc/networks_whitelist",
            ),
            Type(1),
            Before("nft delete table inet fastnetmon"),
            Type(2),
            Before("nft list chain inet fastnetmon leaves | grep -q 'log group 1'"),
            Before("iptables -t raw -S PREROUTING | grep -q nflog-group"),
            Type(2),
            Said("incoming"),
        ],
    ),
    (
        "docs/web.md",
        &[
            Type(1),
            Before(
                "cp blocks/docs_web.md.toml /etc/fastnetmon.conf
                 end_agent
                 fastnetmon run --config /etc/fastnetmon.conf --interface eth0 2>outputs/web &
                 agent_answers",
            ),
            Type(2),
            Said("\"incoming\""),
            Said("192.0.2.77"),
            Before("until grep -q data: outputs/\"$LAST\"; do patience; done"),
        ],
    ),
    (
        "docs/migration.md",
        &[
            Before("cp theirs.conf /etc/fastnetmon.conf"),
            Type(1),
            Said("Honoured ("),
            Said("pps = 20000"),
        ],
    ),
    (
        "docs/tuning.md",
        &[
            // What is tuned is the lab's; the CPUs' governors belong to everybody.
            Before(
                "mount -t sysfs sysfs /sys
                 if [ -d /sys/devices/system/cpu/cpufreq ]
                 then mount -t tmpfs tmpfs /sys/devices/system/cpu/cpufreq
                 fi",
            ),
            Type(1),
            Said("eth0 rx-0: "),
            Said("`fastnetmon tune --undo` puts it back"),
        ],
    ),
];

/// Before the first block: a host, and words the steps use.
const HOST: &str = r#"
set -eu
WHERE="the host"
trap 'echo "$WHERE: ended with $?" >&2' EXIT
for part in etc usr/local/bin; do mount --bind "$1/$part" "/$part"; done
for part in run var/lib var/log; do mount -t tmpfs tmpfs "/$part"; done
mount --bind "$1/tmp" /tmp
cd /tmp
ip link set in0 down
ip link set in0 name eth0
ip link set eth0 up
TRIES=0
patience() { TRIES=$((TRIES + 1)); [ "$TRIES" -lt 300 ] || fail "waited in vain"; sleep 0.1; }
fail() { echo "$WHERE: $1" >&2; exit 1; }
agent_answers() { until fastnetmon status >/dev/null 2>&1; do patience; done; }
end_agent() {
    for name in /proc/[0-9]*/comm; do
        if [ "$(cat "$name")" = fastnetmon ]; then
            pid=${name#/proc/}
            kill "${pid%/comm}"
        fi
    done
    while fastnetmon status >/dev/null 2>&1; do patience; done
}
"#;

fn is_for_a_host(block: &Block) -> bool {
    block.is_run_by("host") || block.is_run_by("host-stays")
}

/// The name of the file a block prints into.
fn output(document: &Document, block: &Block) -> String {
    format!("{}.{}", document.path.replace('/', "_"), block.line)
}

/// Lays out the host's files; returns the shell's script, and what each text must have said.
fn prepare(folder: &Folder, documents: &[Document]) -> (String, Vec<(String, String, String)>) {
    let root = xtask::root();
    let copy = |from: &Path, to: &str| {
        let done = Command::new("cp").arg("-a").arg(from).arg(folder.path(to)).status().unwrap();
        assert!(done.success(), "{}", from.display());
    };
    for made in ["usr/local/bin", "tmp/target/release", "tmp/blocks", "tmp/outputs"] {
        fs::create_dir_all(folder.path(made)).unwrap();
    }
    copy(Path::new("/etc"), "etc");
    copy(Path::new(env!("CARGO_BIN_EXE_fastnetmon")), "tmp/target/release/fastnetmon");
    copy(&root.join("scripts"), "tmp/scripts");
    copy(&root.join("fastnetmon.conf"), "tmp/fastnetmon.conf");
    copy(&root.join("fastnetmon-user/tests/data/legacy_conf/2026-07.conf"), "tmp/theirs.conf");
    recordings(folder);

    let mut script = HOST.to_owned();
    let mut expected = Vec::new();
    let all = || documents.iter().filter(|document| document.blocks.iter().any(is_for_a_host));
    for (path, _) in TEXTS {
        assert!(all().any(|document| document.path == path), "nothing in {path} is for a host");
    }
    // Those that need nothing before are typed after the first text, which starts the agent.
    let plain = all().map(|document| (document.path.as_str(), &[Type(usize::MAX)][..]));
    let plain = plain.filter(|(path, _)| TEXTS.iter().all(|(planned, _)| planned != path));
    let [first, others @ ..] = TEXTS;
    for (path, steps) in std::iter::once(first).chain(plain).chain(others) {
        let document = documents.iter().find(|document| document.path == path).unwrap();
        let toml = document.blocks.iter().filter(|block| block.language == "toml");
        let toml: String = toml.map(|block| block.text.as_str()).collect();
        folder.write(&format!("tmp/blocks/{}.toml", path.replace('/', "_")), &toml);
        let mut blocks = document.blocks.iter().filter(|block| is_for_a_host(block));
        let mut typed: Vec<String> = Vec::new();
        for step in steps {
            let mut add = |lines: String| script.push_str(&lines);
            match step {
                Before(lines) => add(format!("WHERE='{path}, a step'\n{lines}\n")),
                Said(words) => {
                    expected.push((path.to_owned(), typed.join(" "), (*words).to_owned()));
                }
                Type(count) => {
                    for block in blocks.by_ref().take(*count) {
                        let name = output(document, block);
                        folder.write(&format!("tmp/blocks/{name}"), &block.text);
                        let words = format!("sh -eu blocks/{name} </dev/null >outputs/{name} 2>&1");
                        add(format!("WHERE={path}:{} LAST={name} TRIES=0\n", block.line));
                        add(if block.is_run_by("host-stays") {
                            format!("{words} &\n")
                        } else {
                            format!("{words} || fail \"$(cat outputs/{name})\"\n")
                        });
                        typed.push(name);
                    }
                }
            }
        }
        assert!(blocks.next().is_none(), "{path}: a block for `host` is not typed by any step");
    }
    (script, expected)
}

/// What the blocks call `some.pcap`, `frames.pcap`, `attack.pcap`.
fn recordings(folder: &Folder) {
    let (world, host) = (Ipv4Addr::new(198, 51, 100, 9), Ipv4Addr::new(192, 0, 2, 7));
    let udp = || Frame::udp(world, host, 1, 2).payload(72).bytes();
    let mut version = udp();
    version[14] = 0x65;
    let syn = Frame::tcp_syn(host, world, 1, 2).bytes();
    let frames = [udp(), syn, udp(), udp(), udp(), udp(), version];
    for name in ["some", "frames", "attack"] {
        let file = File::create(folder.path(&format!("tmp/{name}.pcap"))).unwrap();
        let mut writer = PcapWriter::new(file).unwrap();
        for frame in &frames {
            let len = u32::try_from(frame.len()).unwrap();
            writer.write_packet(&PcapPacket::new(Duration::ZERO, len, frame).unwrap()).unwrap();
        }
    }
}

#[test]
fn what_the_texts_tell_to_type_works_and_says_what_they_say() {
    let documents = Document::all(&xtask::root()).unwrap();
    let lab = Lab::new("texts").unwrap();
    let folder = Folder::new();
    let (script, expected) = prepare(&folder, &documents);
    let script = folder.write("host.sh", &script);
    let path = std::env::var("PATH").unwrap_or_default();
    // All processes of the host end with its first one.
    let Output { status, stdout, stderr } = lab
        .command_inside("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"])
        .arg(script)
        .arg(folder.path("").to_str().unwrap().trim_end_matches('/'))
        .env("PATH", format!("/usr/local/bin:{path}:/usr/sbin:/sbin"))
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success(), "{}{}", said(&stdout), said(&stderr));

    let mut missing = String::new();
    for (path, typed, words) in expected {
        let printed: String =
            typed.split(' ').map(|name| folder.read(&format!("tmp/outputs/{name}"))).collect();
        if !printed.contains(&words) {
            writeln!(missing, "{path}: `{words}` is not in what its blocks printed:\n{printed}")
                .unwrap();
        }
    }
    for document in &documents {
        for pair in document.blocks.windows(2) {
            let [typed, shown] = pair else { unreachable!("two") };
            if !typed.is_run_by("host") || shown.decision != Decision::Word("printed".to_owned()) {
                continue;
            }
            let printed = folder.read(&format!("tmp/outputs/{}", output(document, typed)));
            for line in shown.text.lines().filter(|line| !printed.lines().any(|one| one == *line)) {
                writeln!(
                    missing,
                    "{}:{}: `{line}` was not printed:\n{printed}",
                    document.path, shown.line
                )
                .unwrap();
            }
        }
    }
    assert!(missing.is_empty(), "{missing}");
}

/// The cookbook's `nftables.sh`, and the table its head shows, on packets.
#[test]
fn nftables_drops_what_comes_to_a_banned_host_until_it_is_let_go() {
    let lab = Lab::new("nft").unwrap();
    let script = xtask::root().join("scripts/examples/nftables.sh");
    let load = "sed -n '/^#   table/,/^#   }/s/^# *//p' \"$0\" | nft -f -";
    let loaded = lab.command_inside("sh").args(["-euc", load]).arg(&script).status().unwrap();
    assert!(loaded.success());
    let answers = || {
        let mut ping = lab.command_outside("ping");
        ping.args(["-c", "1", "-W", "1", &GUARDED.to_string()]).stdout(Stdio::null());
        ping.status().unwrap().success()
    };
    let call = |action: &str| {
        let mut command = lab.command_inside("sh");
        command.arg(&script).args([&GUARDED.to_string(), "incoming", "40000", action]);
        assert!(command.status().unwrap().success(), "{action}");
    };
    assert!(answers());
    call("ban");
    assert!(!answers());
    call("unban");
    assert!(answers());
    call("unban");
}
