//! What should be otherwise, and why not more.
//!
//! **Invariant**: pure. A step says what is and what will be, so that it can be undone; where it is
//! not known what is, there is no step, only advice.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::commands::tune::cpus::CpuSet;
use crate::commands::tune::snapshot::{self, Cpu, Port, Snapshot};
use crate::kernel::Knob;

/// Bytes a socket may hold.
const RMEM_MAX: u64 = 16 << 20;

/// What is tuned.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, ValueEnum, Deserialize, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// How many queues a port has; its link is down for a moment
    Queues,
    /// How many frames a receive ring holds; its link may be down for a moment
    Rings,
    /// What the card or the kernel puts together
    Offload,
    /// How much a socket may hold
    Sysctl,
    /// Which frequency the CPUs choose
    Governor,
    /// Which CPU takes the interrupt of which queue
    Irq,
    /// Which CPUs go on with what a single queue receives
    Rps,
    /// Which CPU sends by which queue
    Xps,
}

impl Kind {
    /// What changes the queues comes before what depends on them.
    pub(super) const fn is_first(self) -> bool {
        matches!(self, Self::Queues | Self::Rings)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::Rings => "rings",
            Self::Offload => "offload",
            Self::Sysctl => "sysctl",
            Self::Governor => "governor",
            Self::Irq => "irq",
            Self::Rps => "rps",
            Self::Xps => "xps",
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Nothing but these; all, when empty.
    pub(super) only: BTreeSet<Kind>,
    /// The ports carry copies, and nobody here reads them as streams.
    pub(super) is_mirror: bool,
}

impl Wanted {
    fn wants(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }
}

/// Where a value stands.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    /// A file, from the root on, and how its value is compared.
    File(String, Form),
    /// A setting of a port.
    Port(String, Knob),
}

/// How values are compared: the kernel writes the same in several ways.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    Word,
    List,
    Mask,
}

/// One change.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub(super) struct Step {
    pub(super) kind: Kind,
    /// For people.
    pub(super) what: String,
    pub(super) target: Target,
    pub(super) before: String,
    pub(super) after: String,
}

/// What should be done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// What people have to decide.
    pub(super) advice: Vec<String>,
}

/// Makes the plan.
pub(super) fn plan(snapshot: &Snapshot, wanted: &Wanted) -> Plan {
    let mut plan = Plan::default();
    // Ports of one node do not begin with the same CPU.
    let mut taken: BTreeMap<Option<u32>, usize> = BTreeMap::new();
    let mut serving = BTreeSet::new();
    for port in &snapshot.ports {
        let cpus = near(snapshot, port);
        serving.extend(cpus.iter().map(|cpu| cpu.number));
        plan.knobs(port, &cpus, wanted.is_mirror);
        let first = taken.entry(port.node).or_default();
        plan.interrupts(port, &cpus, *first);
        *first += queues_of(port);
        plan.queues(port, &cpus);
    }
    for cpu in snapshot.cpus.iter().filter(|cpu| serving.contains(&cpu.number)) {
        plan.governor(cpu);
    }
    plan.limits(snapshot);
    if snapshot.is_irqbalance_running && plan.has(Kind::Irq) {
        plan.advice.push(
            "irqbalance runs and will move the interrupts again: `systemctl disable --now \
             irqbalance`, or name them in its `--banirq`"
                .to_owned(),
        );
    }
    plan.steps.retain(|step| wanted.wants(step.kind));
    plan.steps.sort_by_key(|step| step.kind);
    plan
}

/// CPUs beside the port's card; all, where the machine does not say.
fn near<'a>(snapshot: &'a Snapshot, port: &Port) -> Vec<&'a Cpu> {
    let beside: Vec<&Cpu> =
        snapshot.cpus.iter().filter(|cpu| port.node.is_some() && cpu.node == port.node).collect();
    if beside.is_empty() { snapshot.cpus.iter().collect() } else { beside }
}

/// How many CPUs the port's interrupts take.
fn queues_of(port: &Port) -> usize {
    port.interrupts.iter().map(|interrupt| interrupt.queue).collect::<BTreeSet<u32>>().len()
}

impl Plan {
    fn has(&self, kind: Kind) -> bool {
        self.steps.iter().any(|step| step.kind == kind)
    }

    fn step(&mut self, kind: Kind, what: String, target: Target, before: String, after: String) {
        if before != after {
            self.steps.push(Step { kind, what, target, before, after });
        }
    }

    fn knob(&mut self, kind: Kind, port: &Port, knob: Knob, what: &str, after: u32) {
        let Some(setting) = port.knobs.get(&knob) else { return };
        let target = Target::Port(port.name.clone(), knob);
        let what = format!("{} {what}", port.name);
        self.step(kind, what, target, setting.now.to_string(), after.to_string());
    }

    fn knobs(&mut self, port: &Port, cpus: &[&Cpu], is_mirror: bool) {
        let name = &port.name;
        // A virtual port has no card whose queues cost nothing.
        if let Some(setting) = port.knobs.get(&Knob::Combined).filter(|_| port.has_device) {
            let cores = cpus.iter().filter(|cpu| !cpu.is_sibling).count();
            let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
            if let Some(wanted) = Knob::Combined.wanted(*setting, cores) {
                self.knob(Kind::Queues, port, Knob::Combined, "queues", wanted);
            } else if setting.now > cores {
                self.advice.push(format!(
                    "{name}: {} queues for {cores} cores beside it; as many as cores are enough: \
                     `ethtool -L {name} combined {cores}`",
                    setting.now
                ));
            }
        }
        if let Some(setting) = port.knobs.get(&Knob::ReceiveRing)
            && let Some(wanted) = Knob::ReceiveRing.wanted(*setting, 0)
        {
            self.knob(Kind::Rings, port, Knob::ReceiveRing, "receive ring", wanted);
        }
        // What is fixed cannot be told from what is on: where the driver refuses, it is said then.
        if let Some(setting) = port.knobs.get(&Knob::Lro)
            && let Some(wanted) = Knob::Lro.wanted(*setting, 0)
        {
            self.knob(Kind::Offload, port, Knob::Lro, "LRO", wanted);
        }
        if port.knobs.get(&Knob::Gro).is_some_and(|setting| setting.now == 1) {
            if is_mirror {
                self.knob(Kind::Offload, port, Knob::Gro, "GRO", 0);
            } else {
                self.advice.push(format!(
                    "{name}: GRO is on, which is right for a host that answers; on a port that \
                     carries copies only, `--mirror` turns it off"
                ));
            }
        }
        if port.knobs.get(&Knob::ReceiveVlan).is_some_and(|setting| setting.now == 1) {
            self.advice.push(format!(
                "{name}: the card takes VLAN tags off; counts are right either way, but a capture \
                 in the driver will not show them: `ethtool -K {name} rxvlan off` if you need them"
            ));
        }
    }

    fn interrupts(&mut self, port: &Port, cpus: &[&Cpu], first: usize) {
        if port.interrupts.is_empty() {
            if port.has_device {
                let driver = port.driver.as_deref().unwrap_or("unknown");
                self.advice.push(format!(
                    "{}: none of its interrupts names a queue (driver {driver}), so they stay where \
                     they are",
                    port.name
                ));
            }
            return;
        }
        let queues: BTreeSet<u32> = port.interrupts.iter().map(|one| one.queue).collect();
        for interrupt in &port.interrupts {
            let Some(before) = &interrupt.affinity else { continue };
            let order = queues.iter().position(|&queue| queue == interrupt.queue).unwrap_or(0);
            let Some(cpu) = cpus.get((first + order) % cpus.len().max(1)) else { continue };
            let file = format!("proc/irq/{}/smp_affinity_list", interrupt.number);
            self.step(
                Kind::Irq,
                format!("{} ({})", interrupt.number, interrupt.name),
                Target::File(file, Form::List),
                before.list(),
                cpu.number.to_string(),
            );
        }
    }

    fn queues(&mut self, port: &Port, cpus: &[&Cpu]) {
        let name = &port.name;
        let all: CpuSet = cpus.iter().map(|cpu| cpu.number).collect();
        if let [Some(before)] = port.receive.as_slice()
            && cpus.len() > 1
        {
            let file = format!("sys/class/net/{name}/queues/rx-0/rps_cpus");
            let target = Target::File(file, Form::Mask);
            let what = format!("{name} rx-0");
            self.step(Kind::Rps, what, target, before.mask(), all.mask());
            self.advice.push(format!(
                "{name}: one receive queue, so one CPU runs XDP for it; RPS spreads what comes after"
            ));
        }
        let count = port.transmit.len();
        // Whoever has set it, driver or operator, had a reason.
        let is_free = port.transmit.iter().flatten().all(|mask| mask.0.is_empty());
        if count > 1 && is_free {
            for (queue, before) in port.transmit.iter().enumerate() {
                let Some(before) = before else { continue };
                let own: CpuSet = cpus
                    .iter()
                    .enumerate()
                    .filter(|(order, _)| order % count == queue)
                    .map(|(_, cpu)| cpu.number)
                    .collect();
                if own.0.is_empty() {
                    continue;
                }
                let file = format!("sys/class/net/{name}/queues/tx-{queue}/xps_cpus");
                let target = Target::File(file, Form::Mask);
                let what = format!("{name} tx-{queue}");
                self.step(Kind::Xps, what, target, before.mask(), own.mask());
            }
        }
    }

    fn governor(&mut self, cpu: &Cpu) {
        let Some(before) = &cpu.governor else { return };
        if cpu.governors.iter().any(|governor| governor == "performance") {
            let number = cpu.number;
            let file = format!("sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor");
            self.step(
                Kind::Governor,
                format!("cpu{number}"),
                Target::File(file, Form::Word),
                before.clone(),
                "performance".to_owned(),
            );
        }
    }

    fn limits(&mut self, snapshot: &Snapshot) {
        let Some(before) = snapshot.rmem_max.filter(|&before| before < RMEM_MAX) else { return };
        if snapshot.is_rmem_max_fixed {
            self.advice.push(format!(
                "net.core.rmem_max is {before} and cannot be set in here: `sysctl -w \
                 net.core.rmem_max={RMEM_MAX}` on the host"
            ));
            return;
        }
        self.step(
            Kind::Sysctl,
            "net.core.rmem_max".to_owned(),
            Target::File(snapshot::RMEM_MAX.to_owned(), Form::Word),
            before.to_string(),
            RMEM_MAX.to_string(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Setting;

    #[test]
    fn the_page_has_these_numbers() {
        let page = include_str!("../../../../docs/tuning.md");
        let small = Setting { now: 1, most: u32::MAX };
        let ring = Knob::ReceiveRing.wanted(small, 1).unwrap();
        let frames = format!("{},{:03} frames", ring / 1000, ring % 1000);
        assert!(page.contains(&frames), "{frames}");
        let memory = format!("`net.core.rmem_max` {} MiB", RMEM_MAX >> 20);
        assert!(page.contains(&memory), "{memory}");
    }
}
