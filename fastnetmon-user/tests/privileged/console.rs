//! The console in a real terminal, before an agent that counts real packets.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use xtask::lab::{GUARDED, Lab};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Folder, Setup, command, wait};

/// `nobody`, and the group of that name.
const NOBODY: u32 = 65534;

/// A terminal of 80 columns and 24 rows, in which a shell runs that may not do much.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    #[track_caller]
    fn open(folder: &Folder) -> Self {
        let terminal = Self { socket: folder.path("tmux") };
        let id = NOBODY.to_string();
        let by = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        let shell = ["env", "PS1=ready> ", "TERM=tmux-256color", "sh", "-i"];
        let words = ["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"];
        terminal.tmux(&[&words[..], &by, &shell].concat());
        terminal.shows("ready>");
        terminal
    }

    #[track_caller]
    fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(&self.socket)
            .args(words)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "tmux {words:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Keys by their names (`Enter`, `Escape`), or letters.
    #[track_caller]
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    #[track_caller]
    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    #[track_caller]
    fn shows(&self, text: &str) -> String {
        wait(&format!("`{text}` on this screen:\n{}", self.picture()), || {
            Some(self.picture()).filter(|picture| picture.contains(text))
        })
    }

    /// Is the terminal as it was: echo, lines, no other screen?
    #[track_caller]
    fn is_given_back(&self) {
        let picture = self.shows("ready>");
        assert!(!picture.contains("all IPs ordered by"), "{picture}");
        assert_eq!(self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim(), "0");
        assert_eq!(self.tmux(&["display-message", "-p", "#{cursor_flag}"]).trim(), "1");
        // The line that is typed is not what it prints.
        self.types(
            "clear; printf 'modes%s ' :; stty -a | grep -oE -- '-?(icanon|echo|isig)\\b' | xargs",
        );
        let modes = self.shows("modes: ");
        for mode in ["icanon", "echo", "isig"] {
            assert!(modes.contains(&format!(" {mode}")), "{modes}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The server of this socket alone, with the shell in it.
        let killed = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").status();
        drop(killed);
    }
}

/// The agent that comes after the one that went.
struct Again(Child);

impl Drop for Again {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Lets `nobody` ask, as the group of the socket.
fn let_in(agent: &Agent) {
    let socket = agent.socket();
    std::os::unix::fs::chown(&socket, None, Some(NOBODY)).unwrap();
}

fn console(socket: &Path) -> String {
    format!("{} top --socket {}", env!("CARGO_BIN_EXE_fastnetmon"), socket.display())
}

/// Is a colour of the eight set somewhere?
fn has_colours(picture: &str) -> bool {
    (0..8).any(|colour| picture.contains(&format!("\x1b[3{colour}m")))
        || picture.contains("\x1b[38;")
        || (0..8).any(|colour| picture.contains(&format!(";3{colour}m")))
}

#[test]
fn an_operator_sees_an_attack_bans_lets_go_and_gets_the_terminal_back() {
    let lab = Lab::new("console").unwrap();
    let agent =
        Agent::start(&lab, &Setup { rest: "[thresholds]\npps = 4000000\n", ..Setup::default() });
    let_in(&agent);
    let terminal = Terminal::open(&agent.folder);
    terminal.types(&console(&agent.socket()));
    terminal.shows("all IPs ordered by: packets");
    terminal.shows("Ban list: nobody");
    assert!(has_colours(&terminal.tmux(&["capture-pane", "-p", "-e"])));
    std::thread::scope(|scope| {
        // Ten seconds at most, while the operator looks.
        let flood = scope.spawn(|| {
            let flood = Pool::new([Frame::udp([203, 0, 113, 99], GUARDED, 53, 4444).payload(18)]);
            lab.sender_outside().unwrap().send(&flood, 100_000, Pace::Pps(10_000)).unwrap();
        });
        terminal.shows(&format!("> {GUARDED}"));
        terminal.press(&["Enter"]);
        let host = terminal.shows("incoming, five minutes, peak");
        assert!(host.contains("not banned"), "{host}");
        wait("the speed of udp", || {
            let picture = terminal.picture();
            let udp = picture.lines().find(|line| line.starts_with("  udp "))?;
            let pps: u64 = udp.split_whitespace().nth(1)?.parse().ok()?;
            (pps > 5000).then_some(())
        });
        terminal.press(&["n"]);
        terminal.shows(&format!("Ban {GUARDED} (incoming)? y: yes, n: no"));
        assert!(agent.status().bans.is_empty(), "nothing is done before `y`");
        terminal.press(&["y"]);
        terminal.shows("*banned* incoming since");
        assert_eq!(agent.status().bans.len(), 1);
        terminal.shows("by an operator");
        terminal.shows("203.0.113.99:53 > 192.0.2.254:4444 protocol: udp");
        flood.join().unwrap();
    });
    terminal.press(&["B"]);
    terminal.shows("Ban list: 1");
    terminal.press(&["u"]);
    terminal.shows(&format!("Let {GUARDED} go? y: yes, n: no"));
    terminal.press(&["y"]);
    terminal.shows("Ban list: 0");
    assert!(agent.status().bans.is_empty());
    terminal.press(&["e"]);
    terminal.shows("Events, newest first");
    let events = terminal.shows("- unban");
    assert!(events.contains("attack_details"), "{events}");
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    let wide = wait("a wider picture", || {
        let is_wide = |picture: &String| picture.lines().any(|line| line.chars().count() > 100);
        Some(terminal.picture()).filter(is_wide)
    });
    assert!(wide.contains("Events, newest first"), "{wide}");
    terminal.press(&["C-z"]);
    terminal.is_given_back();
    terminal.types("fg");
    terminal.shows("Events, newest first");
    terminal.press(&["q"]);
    terminal.is_given_back();
}

#[test]
fn a_lost_agent_is_said_and_found_again_and_a_signal_gives_the_terminal_back() {
    let lab = Lab::new("console-lost").unwrap();
    let mut agent = Agent::start(&lab, &Setup::default());
    let_in(&agent);
    let terminal = Terminal::open(&agent.folder);
    let line = console(&agent.socket());
    let pid_file = agent.folder.path("pid");
    std::fs::write(&pid_file, "").unwrap();
    std::os::unix::fs::chown(&pid_file, Some(NOBODY), None).unwrap();
    let pid_file = pid_file.display();
    terminal.types(&format!("NO_COLOR=1 sh -c 'echo $$ > {pid_file}; exec {line}'"));
    terminal.shows("Ban list: nobody");
    agent.end(xtask::lab::Signal::Terminate);
    terminal.shows("! The agent is lost");
    let plain = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(plain.contains("\x1b[7m") && !has_colours(&plain), "{plain:?}");
    let again = Again(
        command(&lab, &agent.folder.path("fastnetmon.conf"), "in0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait("the next agent's socket", || agent.socket().exists().then_some(()));
    let_in(&agent);
    let picture = wait("the agent to be found again", || {
        Some(terminal.picture()).filter(|picture| !picture.contains("is lost"))
    });
    assert!(picture.contains("all IPs ordered by: packets"), "{picture}");
    drop(again);
    let pid = agent.folder.read("pid").trim().parse().unwrap();
    xtask::lab::signal(pid, xtask::lab::Signal::Terminate).unwrap();
    terminal.is_given_back();
}

#[test]
fn the_screen_is_a_file_that_follows_the_traffic() {
    let lab = Lab::new("screen").unwrap();
    let folder = Folder::new();
    let file = folder.path("fastnetmon.dat");
    let rest = format!("[thresholds]\npps = 5000\n[screen]\nfile = \"{}\"\n", file.display());
    let mut agent = Agent::start(&lab, &Setup { rest: &rest, ..Setup::default() });
    let flood = Pool::new([Frame::udp([203, 0, 113, 99], GUARDED, 53, 4444).payload(18)]);
    lab.sender_outside().unwrap().send(&flood, 40_000, Pace::Pps(20_000)).unwrap();
    let text = folder.wait_for("fastnetmon.dat", |text| text.contains(" flows  *banned* \n"));
    assert!(text.contains(&format!("\nBan list:\n{GUARDED} at ")), "{text}");
    agent.end(xtask::lab::Signal::Terminate);
    assert!(!file.exists(), "a dead agent has no screen");
}
