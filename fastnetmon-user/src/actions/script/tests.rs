//! Scripts that behave, and scripts that do not.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::actions::{Crew, Notebook, Terms};
use crate::model::{Class, Seen, Wall};
use crate::verdicts::{Ban, Ending};

fn ban() -> Ban {
    Ban::of([192, 0, 2, 7])
}

fn details(packets: usize) -> Verdict {
    let packet = Seen {
        ports: (80, 46_804),
        class: Class::Tcp,
        protocol: 6,
        bytes: 233,
        tcp_flags: Some(2),
        ..Seen::of([203, 0, 113, 1], [192, 0, 2, 7])
    };
    Verdict::Details(ban(), vec![packet; packets].into())
}

/// A folder of its own for each test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fnm-script-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn script(&self, body: &str) -> Script {
        let path = self.0.join("hook");
        fs::write(&path, format!("#!/bin/sh\n{body}\n").replace("OUT", &self.out())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Script::new(path, Arguments::Four, Format::Seed)
    }

    fn out(&self) -> String {
        self.0.join("out").display().to_string()
    }

    fn read(&self) -> String {
        fs::read_to_string(self.0.join("out")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A file that was just written is "busy" while another thread of the tests forks.
fn carry_out(script: &mut Script, verdict: &Verdict, secs: u64) -> Result<(), ActionError> {
    let errand = Errand { verdict: verdict.clone(), wall: Wall::default() };
    loop {
        let outcome = script.carry_out(&errand, Duration::from_secs(secs));
        if !matches!(outcome, Err(ActionError::Retry { .. })) {
            return outcome;
        }
    }
}

#[test]
fn the_first_call_has_four_arguments_and_an_empty_input_that_is_no_terminal() {
    let folder = Folder::new();
    let mut script = folder.script("{ echo \"$#:$*\"; [ -t 0 ] && echo tty; cat; env; } > OUT");
    carry_out(&mut script, &Verdict::Ban(ban()), 5).unwrap();
    let told = folder.read();
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("4:192.0.2.7 incoming 40000 ban"));
    // The environment is the search path, the event, and what the shell itself adds.
    for line in lines {
        let name = line.split('=').next().unwrap();
        assert!(
            ["PATH", "FASTNETMON_EVENT", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name),
            "{line}"
        );
    }
}

#[test]
fn the_second_call_has_the_packets_and_nothing_else() {
    let folder = Folder::new();
    let mut script = folder.script("cat > OUT; echo \"$4\" >> OUT");
    carry_out(&mut script, &details(100), 5).unwrap();
    let told = folder.read();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 101);
    for line in &lines[..100] {
        assert_eq!(*line, "203.0.113.1:80 > 192.0.2.7:46804 protocol: tcp size: 233 bytes");
    }
    assert_eq!(lines[100], "attack_details");
}

#[test]
fn an_ipv6_address_is_written_the_short_way() {
    let address: IpAddr = "2001:db8:0:0:0:0:0:42".parse().unwrap();
    let script = Script::new(PathBuf::new(), Arguments::Four, Format::Seed);
    let verdict = Verdict::Unban(Ban { address, ..ban() }, Ending::Over);
    let arguments = script.arguments(&verdict).unwrap();
    assert_eq!(arguments, ["2001:db8::42", "incoming", "40000", "unban"]);
}

#[test]
fn a_script_that_never_reads_a_large_input_does_no_harm() {
    let folder = Folder::new();
    let mut script = folder.script("exit 0");
    assert_eq!(carry_out(&mut script, &details(100_000), 5), Ok(()));
}

#[test]
fn a_script_that_reads_slowly_gets_all_of_a_large_input() {
    let folder = Folder::new();
    let mut script = folder.script("exec 3<&0; sleep 0.2; wc -l <&3 > OUT");
    carry_out(&mut script, &details(20_000), 10).unwrap();
    assert_eq!(folder.read().trim(), "20000");
}

#[test]
fn a_script_that_prints_much_does_not_stand_still() {
    let folder = Folder::new();
    let mut script = folder.script("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2");
    assert_eq!(carry_out(&mut script, &Verdict::Ban(ban()), 10), Ok(()));
}

#[track_caller]
fn check_refused(script: &mut Script, expected: &str) {
    let error = carry_out(script, &Verdict::Ban(ban()), 5).unwrap_err();
    let path = script.path.display().to_string();
    assert_eq!(error.to_string().replace(&path, "HOOK"), expected);
}

#[test]
fn a_script_that_cannot_run_is_named_with_the_remedy() {
    let folder = Folder::new();
    let mut missing = Script::new(folder.0.join("none"), Arguments::Four, Format::Seed);
    check_refused(&mut missing, "`HOOK` does not exist: set `script` in `[notify]`");
    let mut script = folder.script("exit 0");
    fs::set_permissions(&script.path, fs::Permissions::from_mode(0o644)).unwrap();
    check_refused(&mut script, "`HOOK` may not be executed: `chmod 755` it");
    fs::write(&script.path, "no first line").unwrap();
    fs::set_permissions(&script.path, fs::Permissions::from_mode(0o755)).unwrap();
    check_refused(&mut script, "`HOOK` is no program: begin it with `#!/bin/sh`");
}

#[test]
fn a_script_that_fails_is_told_with_its_complaint() {
    let folder = Folder::new();
    let mut script = folder.script("echo 'no   mail' >&2; exit 3");
    check_refused(&mut script, "`HOOK` ended with exit status 3: no mail");
    let mut script = folder.script("kill -9 $$");
    check_refused(&mut script, "`HOOK` was ended by signal 9");
}

#[test]
fn a_script_that_hangs_is_ended_with_its_children() {
    let folder = Folder::new();
    let mut script = folder.script("trap '' TERM; sleep 600 & echo $! > OUT; wait; sleep 600");
    let outcome = carry_out(&mut script, &Verdict::Ban(ban()), 1);
    assert_eq!(outcome, Err(ActionError::Deadline(Duration::from_secs(1))));
    let child = folder.read();
    // A signal that was sent is a moment on its way.
    let deadline = now() + Duration::from_secs(5);
    loop {
        let status = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let state = status.rsplit(')').next().unwrap_or_default().trim().chars().next();
        if matches!(state, None | Some('Z' | 'X')) {
            break;
        }
        assert!(now() < deadline, "{status}");
        std::thread::yield_now();
    }
}

#[test]
fn a_script_that_leaves_a_child_behind_is_not_waited_for() {
    let folder = Folder::new();
    let mut script = folder.script("sleep 5 & exit 0");
    let begun = now();
    assert_eq!(carry_out(&mut script, &Verdict::Ban(ban()), 30), Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn the_form_of_2014_has_three_arguments_and_no_unban() {
    let folder = Folder::new();
    let script = folder.script("{ echo \"$#:$*\"; cat; } > OUT");
    let mut script = Script { arguments: Arguments::Three, ..script };
    carry_out(&mut script, &Verdict::Ban(ban()), 5).unwrap();
    assert_eq!(folder.read(), "3:192.0.2.7 incoming 40000\n");
    carry_out(&mut script, &details(2), 5).unwrap();
    let told = folder.read();
    assert_eq!(told.lines().count(), 3);
    assert!(told.starts_with("3:192.0.2.7 incoming 40000\n203.0.113.1:80 > 192.0.2.7:46804 "));
    assert!(script.wants(&details(2)));
    assert!(!script.wants(&Verdict::Unban(ban(), Ending::Over)));
}

#[test]
fn a_report_is_its_header_then_all_of_it_then_nothing() {
    let folder = Folder::new();
    let mut script = Script { format: Format::Report, ..folder.script("cat > OUT") };
    carry_out(&mut script, &Verdict::Ban(ban()), 5).unwrap();
    let header = folder.read();
    assert!(header.starts_with("IP: 192.0.2.7\nAttack type: udp_flood\n"), "{header}");
    assert!(header.ends_with("Outgoing icmp pps: 0 packets per second\n\n"), "{header}");
    carry_out(&mut script, &details(2), 5).unwrap();
    let full = folder.read();
    assert!(full.starts_with(&header) && full.contains("\n\n\nAttack traffic dump\n\n"), "{full}");
    carry_out(&mut script, &Verdict::Unban(ban(), Ending::Over), 5).unwrap();
    assert_eq!(folder.read(), "");
}

#[test]
fn json_is_the_event_each_time() {
    let folder = Folder::new();
    let mut script = Script { format: Format::Json, ..folder.script("cat > OUT") };
    let unban = Verdict::Unban(ban(), Ending::Over);
    for (verdict, action, packets) in
        [(Verdict::Ban(ban()), "ban", 0), (details(3), "attack_details", 3), (unban, "unban", 0)]
    {
        carry_out(&mut script, &verdict, 5).unwrap();
        let event: serde_json::Value = serde_json::from_str(&folder.read()).unwrap();
        assert_eq!(event["action"], action);
        assert_eq!(event["ip"], "192.0.2.7");
        assert_eq!(event["packet_dump_detailed"].as_array().map_or(0, Vec::len), packets);
    }
}

#[test]
fn a_group_has_a_script_of_its_own() {
    let folder = Folder::new();
    let mut script = folder.script("echo \"$FASTNETMON_EVENT\" > OUT");
    let own: std::sync::Arc<Path> = script.path.as_path().into();
    script.path = folder.0.join("none");
    let mut ban = ban();
    ban.deeds.script_path = Some(own);
    carry_out(&mut script, &Verdict::Ban(ban.clone()), 5).unwrap();
    assert_eq!(folder.read(), "1-ban\n");
    ban.deeds.script = false;
    assert!(!script.wants(&Verdict::Ban(ban)));
}

#[test]
fn a_thousand_attacks_at_once_are_eight_scripts_at_a_time_and_none_is_lost() {
    let folder = Folder::new();
    let script = folder.script("echo \"+ $1\" >> OUT; echo \"- $1\" >> OUT");
    // Let it be there before others fork.
    let mut first = script.clone();
    carry_out(&mut first, &Verdict::Ban(Ban::of([192, 0, 2, 7])), 30).unwrap();
    let terms = Terms {
        workers: 8,
        patience: Duration::from_secs(30),
        attempts: 50,
        pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(50),
    };
    let (deeds, _done) = crossbeam_channel::bounded(2000);
    let crew = Crew::start(script, terms, &[], &Notebook::default(), &deeds).unwrap();
    for number in 0..1000_u32 {
        let verdict = Verdict::Ban(Ban::of((0x0a00_0000 + number).to_be_bytes()));
        crew.hand(Errand { verdict, wall: Wall::default() }.into()).unwrap();
    }
    assert_eq!(crew.finish(Duration::from_mins(2)), 0);
    let told = folder.read();
    let (mut running, mut most, mut begun) = (0_u32, 0, std::collections::BTreeSet::new());
    for line in told.lines().skip(2) {
        if let Some(host) = line.strip_prefix("+ ") {
            running += 1;
            most = most.max(running);
            begun.insert(host);
        } else {
            running -= 1;
        }
    }
    assert_eq!((begun.len(), running), (1000, 0));
    assert!(most <= 8, "{most} at the same time");
}
