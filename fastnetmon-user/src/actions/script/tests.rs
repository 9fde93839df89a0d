//! Scripts that behave, and scripts that do not.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::model::{Class, Moment, Seen};
use crate::verdicts::{Ban, Ending};

fn ban() -> Ban {
    Ban::of([192, 0, 2, 7])
}

fn details(packets: usize) -> Verdict {
    let packet = Seen {
        at: Moment::default(),
        source: [203, 0, 113, 1].into(),
        target: [192, 0, 2, 7].into(),
        ports: (80, 46_804),
        class: Class::Tcp,
        protocol: 6,
        bytes: 233,
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
        Script::new(path)
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
    loop {
        let outcome = script.carry_out(verdict, Duration::from_secs(secs));
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
    // The environment is the search path and what the shell itself adds.
    for line in lines {
        let name = line.split('=').next().unwrap();
        assert!(["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name), "{line}");
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
    let (arguments, _) = call(&Verdict::Unban(Ban { address, ..ban() }, Ending::Over)).unwrap();
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
    let mut missing = Script::new(folder.0.join("none"));
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
    let status = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    let state = status.rsplit(')').next().unwrap_or_default().trim().chars().next();
    assert!(matches!(state, None | Some('Z' | 'X')), "{status}");
}

#[test]
fn a_script_that_leaves_a_child_behind_is_not_waited_for() {
    let folder = Folder::new();
    let mut script = folder.script("sleep 5 & exit 0");
    let begun = now();
    assert_eq!(carry_out(&mut script, &Verdict::Ban(ban()), 30), Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(4));
}
