//! The ports: are they there, up, and set so that packets can be counted?
//!
//! **Invariant**: pure. Commands name the port and the value, so that they can be copied.

use crate::capture::{EngineName, RoleName};
use crate::control::Severity::{Failure, Note, Warning};
use crate::doctor::findings::{Chart, shell};
use crate::doctor::{Agent, Facts, Id, Port};
use crate::kernel::{ANY, Described, Knob, Xdp};

/// Our programs, by the names the kernel shows.
const OURS: [&str; 2] = ["xdp_uplink", "xdp_mirror"];

/// The longest packet of which a frame fits into a page beside what XDP needs: 4096 bytes, less 256
/// before it, 320 behind it and 22 for Ethernet and a tag.
const LONGEST: u32 = 3498;

/// Counters of the card's own that are named, at most.
const LOSSES: usize = 3;

/// Everything about ports.
pub(super) fn ports(facts: &Facts, chart: &mut Chart) {
    if facts.ports.is_empty() && facts.wanted.engine != EngineName::Nflog {
        let there = facts.there.join(", ");
        let first = facts.there.iter().find(|name| *name != "lo").map_or("eth0", String::as_str);
        chart.put(
            Id::Interface,
            Failure,
            None,
            format!("No interface is named; there are {there}. Name the port towards the world."),
            vec![
                facts.wanted.set("capture", "interfaces", &format!("[\"{first}\"]")),
                "systemctl restart fastnetmon".to_owned(),
            ],
        );
    }
    for port in &facts.ports {
        if port.name == ANY {
            continue;
        }
        let Some(described) = &port.described else {
            let there = facts.there.join(", ");
            chart.put(
                Id::Interface,
                Failure,
                Some(&port.name),
                format!("There is no such interface; there are {there}."),
                vec!["ip -brief link".to_owned()],
            );
            continue;
        };
        let seen = Seen { facts, port, described, engine: engine(facts), chart };
        seen.all();
    }
}

/// The engine that runs, else the one that is wanted.
fn engine(facts: &Facts) -> String {
    match &facts.agent {
        Agent::Answers(answer) => answer.after.engine.clone(),
        _ => facts.wanted.engine.name().to_owned(),
    }
}

struct Seen<'a> {
    facts: &'a Facts,
    port: &'a Port,
    described: &'a Described,
    engine: String,
    chart: &'a mut Chart,
}

impl Seen<'_> {
    fn all(mut self) {
        self.link();
        if self.runs_xdp() || self.engine == "auto" {
            self.xdp();
            self.mtu();
        }
        self.promiscuous();
        self.queues();
        self.offloads();
        self.ring_and_drops();
    }

    fn runs_xdp(&self) -> bool {
        self.engine.starts_with("xdp")
    }

    fn name(&self) -> &str {
        &self.port.name
    }

    fn driver(&self) -> &str {
        let Described { driver, kind, .. } = self.described;
        driver.as_deref().or(kind.as_deref()).unwrap_or("none known")
    }

    fn link(&mut self) {
        let Described { up, carrier, state, .. } = self.described;
        let (name, driver) = (self.name().to_owned(), self.driver().to_owned());
        let about = Some(name.as_str());
        if !up {
            let seen = format!("The interface is switched off (driver {driver}): nothing arrives.");
            let mend = vec![format!("ip link set dev {} up", shell(&name))];
            self.chart.put(Id::Link, Failure, about, seen, mend);
        } else if !carrier {
            let seen = format!(
                "The interface is up and has no carrier (state {state}, driver {driver}): a cable, \
                 the other end, or the module in between."
            );
            self.chart.put(
                Id::Link,
                Failure,
                about,
                seen,
                vec![format!("ethtool {}", shell(&name))],
            );
        } else {
            let seen = format!("It is up and has a carrier (driver {driver}).");
            self.chart.fine(Id::Link, about, seen);
        }
    }

    fn xdp(&mut self) {
        let name = self.name().to_owned();
        let about = Some(name.as_str());
        let driver = self.driver().to_owned();
        let runs = matches!(self.facts.agent, Agent::Answers(_));
        let is_ours = |xdp: &Xdp| xdp.name.as_deref().is_none_or(|name| OURS.contains(&name));
        match &self.described.xdp {
            Some(xdp) if !is_ours(xdp) => {
                let other = xdp.name.as_deref().unwrap_or("unnamed");
                let Xdp { mode, id, .. } = xdp;
                let seen = format!(
                    "Another XDP program has the place: `{other}`, number {id}, {mode}. Ours \
                     cannot be attached beside it."
                );
                let flavour = match *mode {
                    "generic" => "xdpgeneric",
                    "offloaded" => "xdpoffload",
                    _ => "xdpdrv",
                };
                let mend = vec![
                    format!("bpftool prog show id {id}"),
                    format!("ip link set dev {} {flavour} off", shell(&name)),
                ];
                self.chart.put(Id::Xdp, Failure, about, seen, mend);
            }
            Some(xdp) if xdp.name.is_some() && matches!(self.facts.agent, Agent::Nobody(_)) => {
                let Xdp { mode, id, .. } = xdp;
                let seen = format!(
                    "A program of ours hangs here ({mode}, number {id}) and nobody answers at `{}`: \
                     another agent runs, with another socket.",
                    self.facts.wanted.socket.display()
                );
                let mend =
                    vec!["pgrep -a fastnetmon".to_owned(), "ss -xlp | grep fastnetmon".to_owned()];
                self.chart.put(Id::Xdp, Warning, about, seen, mend);
            }
            Some(Xdp { mode: "generic", id, .. }) => {
                let can = self.described.runs_xdp == Some(true);
                let (severity, mend) = if can {
                    let set = self.facts.wanted.set("capture", "engine", "\"xdp\"");
                    (Warning, vec![set, "systemctl restart fastnetmon".to_owned()])
                } else {
                    (Note, Vec::new())
                };
                let seen = format!(
                    "XDP runs in the stack (generic, program {id}), which costs more than in the \
                     driver; the driver {driver} {} run it.",
                    if can { "can" } else { "is not known to" }
                );
                self.chart.put(Id::Xdp, severity, about, seen, mend);
            }
            Some(Xdp { mode, id, .. }) => {
                let seen = format!("XDP runs {mode} in the driver {driver} (program {id}).");
                self.chart.fine(Id::Xdp, about, seen);
            }
            None if runs && self.runs_xdp() => self.chart.put(
                Id::Xdp,
                Failure,
                about,
                format!(
                    "The agent counts by {} and no XDP program hangs on this interface: it was \
                     made anew, or another tool took the program off.",
                    self.engine
                ),
                vec!["systemctl restart fastnetmon".to_owned()],
            ),
            None if self.described.runs_xdp == Some(false) && self.engine == "xdp" => {
                let seen = format!("Its driver ({driver}) does not run XDP natively.");
                let mend = vec![self.facts.wanted.set("capture", "engine", "\"af_packet\"")];
                self.chart.put(Id::Xdp, Failure, about, seen, mend);
            }
            None => {
                let can = match self.described.runs_xdp {
                    Some(true) => "runs XDP natively",
                    Some(false) => "does not run XDP natively",
                    None => "does not tell whether it runs XDP",
                };
                let seen = format!("No XDP program is attached; the driver {driver} {can}.");
                self.chart.fine(Id::Xdp, about, seen);
            }
        }
    }

    fn mtu(&mut self) {
        let (mtu, name) = (self.described.mtu, self.name().to_owned());
        // Where it cannot run it is no matter of length.
        if self.described.runs_xdp == Some(false) {
            return;
        }
        // What is attached fits.
        let is_attached = self.described.xdp.as_ref().is_some_and(|xdp| xdp.mode != "generic");
        if mtu <= LONGEST || is_attached || self.engine == "xdp_generic" {
            self.chart.fine(Id::Mtu, Some(&name), format!("The MTU is {mtu}."));
            return;
        }
        let severity = if self.engine == "auto" { Warning } else { Failure };
        let seen = format!(
            "The MTU is {mtu}, and a frame for native XDP must lie in one page: {LONGEST} at most \
             with most drivers."
        );
        let mend = vec![self.facts.wanted.set("capture", "engine", "\"xdp_generic\"")];
        self.chart.put(Id::Mtu, severity, Some(&name), seen, mend);
    }

    fn promiscuous(&mut self) {
        let is_mirror = self.facts.wanted.role == RoleName::Mirror;
        if !is_mirror {
            return;
        }
        let (count, name) = (self.described.promiscuity, self.name().to_owned());
        if count > 0 {
            let seen = format!("It takes all frames (promiscuity {count}).");
            self.chart.fine(Id::Promiscuous, Some(&name), seen);
        } else if self.runs_xdp() {
            let seen = "A mirror port carries frames for other cards, and this one drops what is \
                        not for it (promiscuity 0)."
                .to_owned();
            let mend = vec![format!("ip link set dev {} promisc on", shell(&name))];
            self.chart.put(Id::Promiscuous, Warning, Some(&name), seen, mend);
        } else {
            let seen = "The engine makes the port promiscuous while it runs.".to_owned();
            self.chart.fine(Id::Promiscuous, Some(&name), seen);
        }
    }

    fn queues(&mut self) {
        let cpus = self.facts.system.cpus;
        let Some(&setting) = self.port.knobs.get(&Knob::Combined) else { return };
        let name = self.name().to_owned();
        // A virtual interface has no card that hashes over its queues.
        let is_card = self.described.kind.is_none();
        if let Some(wanted) = Knob::Combined.wanted(setting, cpus).filter(|_| is_card) {
            let seen = format!(
                "{} queues receive for {cpus} CPUs; the card can have {}.",
                setting.now, setting.most
            );
            let mend = vec![format!("ethtool -L {} combined {wanted}", shell(&name))];
            let severity = if setting.now == 1 { Warning } else { Note };
            self.chart.put(Id::Queues, severity, Some(&name), seen, mend);
        } else {
            let seen = format!("{} queues for {cpus} CPUs.", setting.now);
            self.chart.fine(Id::Queues, Some(&name), seen);
        }
    }

    fn offloads(&mut self) {
        let name = self.name().to_owned();
        let about = Some(name.as_str());
        let knobs = &self.port.knobs;
        let is_on = |knob| knobs.get(&knob).map(|setting| setting.now == 1);
        let (vlan, lro, gro) = (is_on(Knob::ReceiveVlan), is_on(Knob::Lro), is_on(Knob::Gro));
        let runs_xdp = self.runs_xdp();
        match vlan {
            Some(true) if runs_xdp => self.chart.put(
                Id::VlanOffload,
                Note,
                about,
                "The card takes VLAN tags off before XDP sees the frame. Packets are counted all \
                 the same; tags are missing in captures and copies."
                    .to_owned(),
                vec![format!("ethtool -K {} rxvlan off", shell(&name))],
            ),
            Some(on) => {
                let seen =
                    format!("VLAN tags are {} by the card.", if on { "taken off" } else { "left" });
                self.chart.fine(Id::VlanOffload, about, seen);
            }
            None => {}
        }
        match lro {
            Some(true) => self.chart.put(
                Id::Lro,
                Warning,
                about,
                "The card puts packets of a stream together (LRO): fewer and larger packets are \
                 counted than came, and most drivers refuse XDP beside it."
                    .to_owned(),
                vec![format!("ethtool -K {} lro off", shell(&name))],
            ),
            Some(false) => self.chart.fine(Id::Lro, about, "LRO is off.".to_owned()),
            None => {}
        }
        let counts_merged = self.engine == "pcap" || self.engine == "nflog";
        match gro {
            Some(true) if counts_merged => self.chart.put(
                Id::Gro,
                Warning,
                about,
                format!(
                    "The kernel puts packets of a stream together (GRO), and the engine {} cannot \
                     tell how many they were: fewer are counted than came.",
                    self.engine
                ),
                vec![format!("ethtool -K {} gro off", shell(&name))],
            ),
            Some(on) => {
                let seen = format!(
                    "GRO is {}.",
                    if on { "on, which this engine sees through" } else { "off" }
                );
                self.chart.fine(Id::Gro, about, seen);
            }
            None => {}
        }
    }

    fn ring_and_drops(&mut self) {
        let name = self.name().to_owned();
        let about = Some(name.as_str());
        let (gained, total) = (self.port.gained, self.described.counted);
        let secs = self.facts.span.as_secs_f64();
        if let Some(&setting) = self.port.knobs.get(&Knob::ReceiveRing) {
            if let Some(wanted) = Knob::ReceiveRing.wanted(setting, 0) {
                let seen = format!(
                    "The receive rings hold {} frames of {} they could; the card missed {} so far.",
                    setting.now, setting.most, total.missed
                );
                let mend = vec![format!("ethtool -G {} rx {wanted}", shell(&name))];
                let severity = if total.missed > 0 { Warning } else { Note };
                self.chart.put(Id::Ring, severity, about, seen, mend);
            } else {
                let seen = format!("The receive rings hold {} frames.", setting.now);
                self.chart.fine(Id::Ring, about, seen);
            }
        }
        if gained.missed > 0 || !self.port.losses.is_empty() {
            let own: Vec<String> = self
                .port
                .losses
                .iter()
                .take(LOSSES)
                .map(|(name, by)| format!("{name} +{by}"))
                .collect();
            let own = if own.is_empty() { String::new() } else { format!(" ({})", own.join(", ")) };
            let seen = format!(
                "The card had no room for {} frames in {secs:.1} s{own}, and received {}: nobody \
                 counted them.",
                gained.missed, gained.received
            );
            let mend = vec![
                format!("fastnetmon tune --interface {}", shell(&name)),
                format!("fastnetmon tune --interface {} --apply", shell(&name)),
            ];
            self.chart.put(Id::Drops, Warning, about, seen, mend);
        } else if total.missed > 0 || total.spoilt > 0 {
            let seen = format!(
                "Since it was made the card missed {} frames and received {} spoilt ones; none in \
                 the last {secs:.1} s.",
                total.missed, total.spoilt
            );
            self.chart.note(Id::Drops, about, seen);
        } else {
            let seen = format!(
                "{} frames received in {secs:.1} s, none missed; {} found nobody who wanted them.",
                gained.received, gained.dropped
            );
            self.chart.fine(Id::Drops, about, seen);
        }
    }
}
