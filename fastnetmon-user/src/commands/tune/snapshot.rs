//! The machine as it is: CPUs, ports, interrupts, limits.
//!
//! **Invariant**: read below a root folder, so that a recorded tree is as good as a machine; what is
//! not there is `None` or empty, never guessed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::commands::tune::cpus::CpuSet;
use crate::commands::tune::interrupts;
use crate::kernel::{Knob, Setting};

/// Who answers for the knobs of a port: the kernel, or a recording.
pub(super) trait Knobs {
    fn read(&self, interface: &str, knob: Knob) -> std::io::Result<Setting>;
    fn write(&self, interface: &str, knob: Knob, value: u32) -> std::io::Result<()>;
}

/// How much a socket may hold.
pub(super) const RMEM_MAX: &str = "proc/sys/net/core/rmem_max";

/// The machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Online and not isolated; one thread of each core first.
    pub(super) cpus: Vec<Cpu>,
    pub(super) ports: Vec<Port>,
    pub(super) rmem_max: Option<u64>,
    /// In a network namespace it is shown and cannot be set.
    pub(super) is_rmem_max_fixed: bool,
    pub(super) is_irqbalance_running: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Cpu {
    pub(super) number: u32,
    pub(super) node: Option<u32>,
    /// Not the first thread of its core.
    pub(super) is_sibling: bool,
    pub(super) governor: Option<String>,
    /// What the governor can be.
    pub(super) governors: Vec<String>,
}

/// A network interface.
#[derive(Clone, Debug, Default)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) driver: Option<String>,
    pub(super) node: Option<u32>,
    /// A card, real or virtual; not a bridge, a tunnel or a veth.
    pub(super) has_device: bool,
    pub(super) interrupts: Vec<Interrupt>,
    /// Masks of the receive queues: which CPUs go on with what arrives (RPS).
    pub(super) receive: Vec<Option<CpuSet>>,
    /// Masks of the transmit queues: who sends by it (XPS).
    pub(super) transmit: Vec<Option<CpuSet>>,
    pub(super) knobs: BTreeMap<Knob, Setting>,
}

/// An interrupt of a queue.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) queue: u32,
    pub(super) affinity: Option<CpuSet>,
}

/// Ports that are cards, by name.
pub(super) fn cards(root: &Path) -> Vec<String> {
    let net = root.join("sys/class/net");
    entries(&net).into_iter().filter(|name| net.join(name).join("device").exists()).collect()
}

impl Snapshot {
    /// Looks.
    ///
    /// # Errors
    /// When a port is not there.
    pub(super) fn read(root: &Path, names: &[String], knobs: &impl Knobs) -> Result<Self, String> {
        let table = text(&root.join("proc/interrupts")).unwrap_or_default();
        let interrupts = interrupts::names(&table);
        let mut ports = Vec::new();
        for name in names {
            ports.push(port(root, name, &interrupts, knobs)?);
        }
        Ok(Self {
            cpus: cpus(root),
            ports,
            rmem_max: number(&root.join(RMEM_MAX)),
            is_rmem_max_fixed: fs::metadata(root.join(RMEM_MAX))
                .is_ok_and(|file| file.permissions().readonly()),
            is_irqbalance_running: is_running(root, "irqbalance"),
        })
    }
}

fn cpus(root: &Path) -> Vec<Cpu> {
    let system = root.join("sys/devices/system");
    let set = |path: PathBuf| text(&path).and_then(|text| CpuSet::from_list(&text));
    let isolated = set(system.join("cpu/isolated")).unwrap_or_default();
    let online = set(system.join("cpu/online")).unwrap_or_default();
    let nodes = entries(&system.join("node")).into_iter().filter_map(|name| {
        let node: u32 = name.strip_prefix("node")?.parse().ok()?;
        Some((node, set(system.join("node").join(name).join("cpulist"))?))
    });
    let nodes: Vec<(u32, CpuSet)> = nodes.collect();
    let mut cpus: Vec<Cpu> = online
        .0
        .into_iter()
        .filter(|number| !isolated.0.contains(number))
        .map(|number| {
            let cpu = system.join(format!("cpu/cpu{number}"));
            let siblings = set(cpu.join("topology/thread_siblings_list"));
            let word = |name: &str| text(&cpu.join("cpufreq").join(name));
            Cpu {
                number,
                node: nodes.iter().find(|(_, set)| set.0.contains(&number)).map(|(node, _)| *node),
                is_sibling: siblings.is_some_and(|set| set.0.first() != Some(&number)),
                governor: word("scaling_governor"),
                governors: word("scaling_available_governors")
                    .map(|words| words.split_whitespace().map(ToOwned::to_owned).collect())
                    .unwrap_or_default(),
            }
        })
        .collect();
    cpus.sort_by_key(|cpu| (cpu.is_sibling, cpu.number));
    cpus
}

fn port(
    root: &Path,
    name: &str,
    named: &BTreeMap<u32, String>,
    knobs: &impl Knobs,
) -> Result<Port, String> {
    let is_name = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    let folder = root.join("sys/class/net").join(name);
    if !is_name || !folder.is_dir() {
        let there = entries(&root.join("sys/class/net")).join(", ");
        return Err(format!(
            "no interface `{name}` in /sys/class/net: there are {there}; in a network namespace, \
             begin with `ip netns exec NAMESPACE`, which shows its own"
        ));
    }
    let device = folder.join("device");
    let link = fs::read_link(device.join("driver")).ok();
    let driver = link.and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
    let interrupts = interrupts_of(root, name, &device, named);
    let queues = |kind: &str, file: &str| -> Vec<Option<CpuSet>> {
        let count =
            entries(&folder.join("queues")).iter().filter(|queue| queue.starts_with(kind)).count();
        (0..count)
            .map(|queue| {
                let path = folder.join(format!("queues/{kind}{queue}/{file}"));
                text(&path).and_then(|mask| CpuSet::from_mask(&mask))
            })
            .collect()
    };
    let all = [Knob::Combined, Knob::ReceiveRing, Knob::Lro, Knob::Gro, Knob::ReceiveVlan];
    Ok(Port {
        name: name.to_owned(),
        driver,
        node: text(&device.join("numa_node"))
            .or_else(|| text(&device.join("../numa_node")))
            // -1: the machine does not say.
            .and_then(|node| node.parse().ok()),
        has_device: device.exists(),
        interrupts,
        receive: queues("rx-", "rps_cpus"),
        transmit: queues("tx-", "xps_cpus"),
        knobs: all
            .into_iter()
            .filter_map(|knob| Some((knob, knobs.read(name, knob).ok()?)))
            .collect(),
    })
}

fn interrupts_of(
    root: &Path,
    name: &str,
    device: &Path,
    named: &BTreeMap<u32, String>,
) -> Vec<Interrupt> {
    // A virtio port hangs below the card that has the interrupts.
    let own: Vec<u32> = ["msi_irqs", "../msi_irqs"]
        .iter()
        .map(|folder| entries(&device.join(folder)))
        .find(|irqs| !irqs.is_empty())
        .unwrap_or_default()
        .iter()
        .filter_map(|irq| irq.parse().ok())
        .collect();
    let address = fs::canonicalize(device).ok();
    let address = address.as_ref().and_then(|path| path.file_name()?.to_str());
    let mut found: Vec<Interrupt> = named
        .iter()
        .filter(|(number, interrupt)| {
            own.contains(number)
                || (own.is_empty() && interrupts::names_port(interrupt, name, address))
        })
        .filter_map(|(&number, interrupt)| {
            let affinity = root.join(format!("proc/irq/{number}/smp_affinity_list"));
            Some(Interrupt {
                number,
                name: interrupt.clone(),
                queue: interrupts::queue(interrupt, name)?,
                affinity: text(&affinity).and_then(|list| CpuSet::from_list(&list)),
            })
        })
        .collect();
    found.sort_by_key(|interrupt| (interrupt.queue, interrupt.number));
    found
}

fn is_running(root: &Path, program: &str) -> bool {
    entries(&root.join("proc"))
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .any(|pid| {
            text(&root.join("proc").join(pid).join("comm")).is_some_and(|comm| comm == program)
        })
}

/// Names in a folder, in order.
fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn text(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

fn number(file: &Path) -> Option<u64> {
    text(file)?.parse().ok()
}
