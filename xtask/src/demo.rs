//! `cargo xtask demo`: a flood, a ban and its end, on real packets through the real agent.
//!
//! **Invariants**: every claim at the end was measured in this run; one that does not hold makes the
//! demo fail and is named. The lab is removed on every way out.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use xtask::{
    lab::{self, Lab, Xdp},
    process,
    traffic::{Pace, Sender},
};

use crate::{
    build,
    scene::{self, BREATH, Call, Scene, StopOnDrop},
};

/// Short, so that the demo sees the end of the ban.
const BAN_SECS: u32 = 5;

/// How many packets the dump has to hold.
const DUMP_LINES: usize = 100;

/// How often the screen is shown when nothing else happens.
const SCREEN_EVERY: Duration = Duration::from_secs(2);

/// Builds the agent, plays the piece and says whether everything happened.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    println!("demo: building the agent");
    let agent = build::agent(root)?;
    Lab::sweep();
    let interrupted = scene::interrupted()?;
    let scene = Scene::set(&agent, "demo", BAN_SECS)?;
    let mut play = Play::new(scene, interrupted);
    play.introduce()?;
    let outcome = play.perform();
    let is_interrupted = play.interrupted.load(Ordering::Relaxed);
    if !is_interrupted && (outcome.is_err() || play.failed()) {
        println!("\nThe agent's log:\n{}", indented(&play.scene.log()));
    }
    outcome?;
    play.verdict()
}

/// The piece, and what was seen of it so far.
struct Play {
    scene: Scene,
    interrupted: Arc<AtomicBool>,
    begun: Instant,
    screen: String,
    screen_shown: Instant,
    calls: Vec<Call>,
    claims: Vec<(String, Holds)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
}

/// What was sent and counted from beginning to end.
struct Sent {
    incoming: u64,
    outgoing: u64,
}

impl Play {
    fn new(scene: Scene, interrupted: Arc<AtomicBool>) -> Self {
        let now = Instant::now();
        Self {
            scene,
            interrupted,
            begun: now,
            screen: String::new(),
            screen_shown: now,
            calls: Vec::new(),
            claims: Vec::new(),
        }
    }

    fn introduce(&mut self) -> anyhow::Result<()> {
        println!(
            "\nTwo network namespaces are joined by a cable:\n  \
             {} ── {} ═══ {} ── {}\n\
             The agent runs inside, on `{}`, with this configuration:\n{}",
            self.scene.lab().outside_name(),
            lab::OUTSIDE_INTERFACE,
            lab::INSIDE_INTERFACE,
            self.scene.lab().inside_name(),
            lab::INSIDE_INTERFACE,
            indented(&self.scene.config()?),
        );
        let attached = self.scene.lab().attached_inside()?;
        let is_attached = attached.xdp == Xdp::Native && attached.tcx_egress > 0;
        let claim = "XDP is attached in native mode, and a program on the way out";
        self.claim(is_attached, explained(claim, is_attached, &attached));
        Ok(())
    }

    fn perform(&mut self) -> anyhow::Result<()> {
        let before = totals(&self.scene.status()?)?;
        let pinging_ends = AtomicBool::new(false);
        let lab = self.scene.lab();
        let (sent, pings) = thread::scope(|scope| {
            let stop = StopOnDrop(&pinging_ends);
            let pinging = scope.spawn(|| ping_until(&lab, &pinging_ends));
            let sent = self.with_traffic()?;
            self.compare_counts(&before, &sent)?;
            self.stop_agent()?;
            let stopped = Instant::now();
            while stopped.elapsed() < Duration::from_secs(1) {
                self.breathe()?;
            }
            drop(stop);
            let pings = pinging.join().map_err(|_panic| anyhow::anyhow!("the pings panicked"))?;
            anyhow::Ok((sent, pings))
        })?;
        let Pings { sent: asked, answered } = pings;
        self.claim(
            asked > 0 && asked == answered,
            format!("{answered} of {asked} pings answered before, during and after the attack"),
        );
        self.tell(&format!("{} packets went through the interface", sent.incoming + sent.outgoing));
        Ok(())
    }

    /// Everything that happens while packets flow; returns how many they were.
    fn with_traffic(&mut self) -> anyhow::Result<Sent> {
        let lab = self.scene.lab();
        let (mut inwards, mut outwards) = (lab.sender_outside()?, lab.sender_inside()?);
        let ends = AtomicBool::new(false);
        let attack_packets = thread::scope(|scope| {
            let stop = StopOnDrop(&ends);
            let everyday = [
                scope.spawn(|| {
                    inwards.send_until(&scene::inwards(), Pace::Pps(scene::INWARDS_PPS), &ends)
                }),
                scope.spawn(|| {
                    outwards.send_until(&scene::outwards(), Pace::Pps(scene::OUTWARDS_PPS), &ends)
                }),
            ];
            self.tell(&format!(
                "everyday traffic: {} packets a second to 208 hosts, {} from them",
                scene::INWARDS_PPS,
                scene::OUTWARDS_PPS
            ));
            self.pause(Duration::from_secs(4))?;
            let attack_packets = self.with_attack(lab.sender_outside()?)?;
            self.expect_unban()?;
            self.pause(Duration::from_secs(1))?;
            drop(stop);
            for thread in everyday {
                joined(thread.join())?;
            }
            anyhow::Ok(attack_packets)
        })?;
        if outwards.refused() > 0 {
            self.tell(&format!(
                "the kernel refused {} outgoing packets at first: the agent may have seen them twice",
                outwards.refused()
            ));
        }
        Ok(Sent { incoming: attack_packets + inwards.sent(), outgoing: outwards.sent() })
    }

    /// The flood, until the agent has said all it has to say about it; returns its packets.
    fn with_attack(&mut self, mut sender: Sender) -> anyhow::Result<u64> {
        let pool = scene::attack();
        self.tell(&format!(
            "ATTACK: {} packets a second to {}, the threshold is {}",
            scene::ATTACK_PPS,
            scene::VICTIM,
            scene::THRESHOLD_PPS
        ));
        let ends = AtomicBool::new(false);
        let first_packet = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let packets = thread::scope(|scope| {
            let stop = StopOnDrop(&ends);
            let flood =
                scope.spawn(|| sender.send_until(&pool, Pace::Pps(scene::ATTACK_PPS), &ends));
            self.expect_ban(first_packet)?;
            self.expect_dump()?;
            self.pause(Duration::from_secs(2))?;
            drop(stop);
            joined(flood.join())
        })?;
        self.tell(&format!("the attack is over after {packets} packets"));
        Ok(packets)
    }

    fn expect_ban(&mut self, first_packet: Duration) -> anyhow::Result<()> {
        let Some(call) = self.wait_for_call("ban", Duration::from_secs(6))? else {
            self.claim(false, "the script was called with `ban`");
            return Ok(());
        };
        let detected = call.began_nanos.saturating_sub(first_packet.as_nanos()) / 1_000_000;
        let pps = call.arguments.get(2).and_then(|pps| pps.parse::<u64>().ok());
        let subject = call.arguments.get(..2).unwrap_or_default().join(" ");
        let expected = format!("{} incoming", scene::VICTIM);
        self.claim(
            true,
            format!("detected after {detected} ms: first packet sent → script started"),
        );
        self.claim(
            subject == expected && pps.is_some_and(|pps| pps > scene::THRESHOLD_PPS),
            format!("the call is about `{expected}` above {} pps", scene::THRESHOLD_PPS),
        );
        self.claim(call.input.is_empty(), "the call `ban` has an empty standard input");
        self.show_screen()
    }

    fn expect_dump(&mut self) -> anyhow::Result<()> {
        let Some(call) = self.wait_for_call("attack_details", Duration::from_secs(8))? else {
            self.claim(false, "the script was called with `attack_details`");
            return Ok(());
        };
        let lines: Vec<&str> = call.input.lines().collect();
        let good = lines.iter().filter(|line| is_packet_line(line)).count();
        self.claim(
            lines.len() == DUMP_LINES && good == DUMP_LINES,
            format!(
                "the dump has {DUMP_LINES} packet lines: {} lines, {good} of them packets of {}",
                lines.len(),
                scene::VICTIM
            ),
        );
        Ok(())
    }

    fn expect_unban(&mut self) -> anyhow::Result<()> {
        let patience = Duration::from_secs(u64::from(BAN_SECS) + 8);
        let Some(call) = self.wait_for_call("unban", patience)? else {
            self.claim(false, "the script was called with `unban`");
            return Ok(());
        };
        let banned = self.calls.iter().find(|call| call.action() == "ban");
        let stood = banned.map_or(0, |ban| call.began_nanos.saturating_sub(ban.began_nanos));
        self.claim(
            call.input.is_empty(),
            format!("unbanned {:.1} s after the ban, with an empty standard input", secs(stood)),
        );
        self.show_screen()
    }

    fn compare_counts(&mut self, before: &Totals, sent: &Sent) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut counted;
        loop {
            let now = totals(&self.scene.status()?)?;
            counted = Sent {
                incoming: now.incoming.saturating_sub(before.incoming),
                outgoing: now.outgoing.saturating_sub(before.outgoing),
            };
            let is_equal = counted.incoming == sent.incoming && counted.outgoing == sent.outgoing;
            // The totals are as old as the last tick.
            if is_equal || begun.elapsed() > Duration::from_secs(4) {
                break;
            }
            self.watch()?;
        }
        let wire = self.scene.lab().statistics_inside()?;
        for (direction, sent, counted) in [
            ("incoming", sent.incoming, counted.incoming),
            ("outgoing", sent.outgoing, counted.outgoing),
        ] {
            let is_equal = sent == counted;
            let sign = if is_equal { '=' } else { '≠' };
            let claim =
                format!("packets sent {sign} counted, {direction}: {sent} {sign} {counted}");
            self.claim(is_equal, explained(&claim, is_equal, &wire));
        }
        Ok(())
    }

    fn stop_agent(&mut self) -> anyhow::Result<()> {
        self.tell("the agent is told to end");
        let status = self.scene.stop_agent()?;
        let attached = self.scene.lab().attached_inside()?;
        let is_clean =
            attached.xdp == Xdp::None && attached.tcx_ingress == 0 && attached.tcx_egress == 0;
        self.claim(status.success(), format!("the agent ended in order: {status}"));
        self.claim(is_clean, explained("the interface is clean afterwards", is_clean, &attached));
        Ok(())
    }

    /// Lets the piece go on, until the script is called with this action or patience ends.
    fn wait_for_call(&mut self, action: &str, patience: Duration) -> anyhow::Result<Option<Call>> {
        let begun = Instant::now();
        loop {
            let found = self.calls.iter().find(|call| call.action() == action);
            if found.is_some() || begun.elapsed() > patience {
                return Ok(found.cloned());
            }
            self.watch()?;
        }
    }

    fn pause(&mut self, duration: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < duration {
            self.watch()?;
        }
        Ok(())
    }

    /// One look at everything: Ctrl-C, the agent, the script, the screen.
    fn watch(&mut self) -> anyhow::Result<()> {
        self.breathe()?;
        self.scene.check_alive()?;
        let calls = self.scene.calls()?;
        for call in calls.iter().skip(self.calls.len()) {
            self.tell(&format!("SCRIPT CALLED: notify.sh {}", call.arguments.join(" ")));
            println!("{}", indented(&shortened(&call.input)));
        }
        self.calls = calls;
        if self.screen_shown.elapsed() > SCREEN_EVERY {
            self.show_screen()?;
        }
        Ok(())
    }

    fn breathe(&self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        thread::sleep(BREATH);
        Ok(())
    }

    fn show_screen(&mut self) -> anyhow::Result<()> {
        self.screen_shown = Instant::now();
        let screen = self.scene.screen()?;
        if screen != self.screen {
            self.tell("the screen:");
            println!("{}", indented(&screen));
            self.screen = screen;
        }
        Ok(())
    }

    fn claim(&mut self, holds: bool, claim: impl Into<String>) {
        self.claims.push((claim.into(), if holds { Holds::Yes } else { Holds::No }));
    }

    fn failed(&self) -> bool {
        self.claims.iter().any(|(_, holds)| *holds == Holds::No)
    }

    fn tell(&self, what: &str) {
        println!("\n[{:5.1} s] {what}", self.begun.elapsed().as_secs_f64());
    }

    fn verdict(&self) -> anyhow::Result<()> {
        println!("\nVerdict after {:.0} s", self.begun.elapsed().as_secs_f64());
        for (claim, holds) in &self.claims {
            println!("  {} {claim}", if *holds == Holds::Yes { "ok    " } else { "FAILED" });
        }
        let failed: Vec<&str> = self
            .claims
            .iter()
            .filter(|(_, holds)| *holds == Holds::No)
            .map(|(claim, _)| claim.as_str())
            .collect();
        if !failed.is_empty() {
            bail!("the demo did not show everything: {}", failed.join("; "));
        }
        Ok(())
    }
}

/// The counters that the verdict is about.
struct Totals {
    incoming: u64,
    outgoing: u64,
}

fn totals(status: &Value) -> anyhow::Result<Totals> {
    let packets = |direction: &str| {
        status
            .pointer(&format!("/totals/{direction}/packets"))
            .and_then(Value::as_u64)
            .with_context(|| format!("`status --json` has no totals.{direction}.packets"))
    };
    Ok(Totals { incoming: packets("incoming")?, outgoing: packets("outgoing")? })
}

struct Pings {
    sent: u64,
    answered: u64,
}

/// Pings the inside ten times a second, in both families.
fn ping_until(lab: &Lab, stop: &AtomicBool) -> Pings {
    let mut pings = Pings { sent: 0, answered: 0 };
    let addresses = [lab::INSIDE.to_string(), lab::INSIDE_V6.to_string()];
    for address in addresses.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut ping = lab.command_outside("ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "1", address]);
        pings.sent += 1;
        if process::output(&mut ping).is_ok() {
            pings.answered += 1;
        }
        thread::sleep(Duration::from_millis(50));
    }
    pings
}

fn joined<T>(outcome: thread::Result<anyhow::Result<T>>) -> anyhow::Result<T> {
    outcome.map_err(|_panic| anyhow::anyhow!("a sending thread panicked"))?
}

/// Whether the line describes a packet from or to the victim, in the format of the seed.
fn is_packet_line(line: &str) -> bool {
    let victim = scene::VICTIM.to_string();
    let words: Vec<&str> = line.split(' ').collect();
    let [source, ">", destination, "protocol:", protocol, "size:", size, "bytes"] =
        words.as_slice()
    else {
        return false;
    };
    let ends: Vec<&str> = [source, destination]
        .into_iter()
        .filter_map(|end| end.rsplit_once(':'))
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .map(|(address, _)| address)
        .collect();
    ends.len() == 2
        && ends.contains(&victim.as_str())
        && ["tcp", "udp", "icmp", "unknown"].contains(protocol)
        && size.parse::<u32>().is_ok()
}

/// The first five lines, and how many there are more.
fn shortened(input: &str) -> String {
    const SHOWN: usize = 5;
    let lines: Vec<&str> = input.lines().collect();
    match lines.len() {
        0 => "(standard input was empty)".to_owned(),
        count if count <= SHOWN => lines.join("\n"),
        count => {
            let head: Vec<&str> = lines.into_iter().take(SHOWN).collect();
            format!("{}\n… {} more", head.join("\n"), count - SHOWN)
        }
    }
}

/// The claim, and when it does not hold also what was found instead.
fn explained(claim: &str, holds: bool, found: &impl fmt::Debug) -> String {
    if holds { claim.to_owned() } else { format!("{claim}: {found:?}") }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn secs(nanos: u128) -> f64 {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_dump_is_known() {
        for line in [
            "198.18.1.2:1025 > 192.0.2.77:80 protocol: udp size: 46 bytes",
            "192.0.2.77:80 > 198.18.1.2:1025 protocol: tcp size: 233 bytes",
        ] {
            assert!(is_packet_line(line), "{line}");
        }
        for line in [
            "",
            "198.18.1.2:1025 > 192.0.2.78:80 protocol: udp size: 46 bytes",
            "198.18.1.2:1025 > 192.0.2.77:80 protocol: udp size: 46",
            "198.18.1.2 > 192.0.2.77 protocol: udp size: 46 bytes",
            "198.18.1.2:1025 > 192.0.2.77:80 protocol: gre size: 46 bytes",
        ] {
            assert!(!is_packet_line(line), "{line}");
        }
    }

    #[test]
    fn a_long_dump_is_shortened() {
        assert_eq!(shortened(""), "(standard input was empty)");
        assert_eq!(shortened("a\nb\n"), "a\nb");
        assert_eq!(shortened(&"x\n".repeat(100)), "x\nx\nx\nx\nx\n… 95 more");
    }

    #[test]
    fn totals_that_lack_are_named() {
        let status = serde_json::json!({ "totals": { "incoming": { "packets": 3 } } });
        let error = totals(&status).err().unwrap().to_string();
        assert_eq!(error, "`status --json` has no totals.outgoing.packets");
    }
}
