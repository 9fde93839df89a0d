//! Recorded machines: what is planned, done and undone on them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use super::effect::{Done, Outcome, Store, World};
use super::plan::{Kind, Plan, Wanted, plan};
use super::snapshot::{Knobs, Snapshot, cards};
use super::*;

/// A recorded machine, unpacked.
struct Machine {
    root: PathBuf,
    /// Knobs that refuse to be set.
    stuck: RefCell<Vec<Knob>>,
}

impl Machine {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("fnm-tune-{}-{number}", std::process::id()));
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tune");
        let tree = fs::read_to_string(data.join(format!("{name}.tree"))).unwrap();
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for line in tree.lines().filter(|line| !line.starts_with('#')) {
            if let Some(path) = line.strip_prefix("== ") {
                files.push((root.join(path), String::new()));
            } else if let Some(link) = line.strip_prefix("-> ") {
                let (path, target) = link.split_once(' ').unwrap();
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::os::unix::fs::symlink(target, path).unwrap();
            } else {
                let (_, text) = files.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
        }
        for (path, text) in files {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { root, stuck: RefCell::default() }
    }

    fn plan(&self, wanted: &Wanted) -> Plan {
        let ports = match cards(&self.root) {
            none if none.is_empty() => vec!["eth0".to_owned()],
            cards => cards,
        };
        plan(&Snapshot::read(&self.root, &ports, self).unwrap(), wanted)
    }

    fn world(&self) -> World<'_, Self> {
        World { root: &self.root, knobs: self }
    }

    fn state(&self) -> PathBuf {
        self.root.join("var/tune.json")
    }

    fn apply(&self) -> Vec<Done> {
        let store = Store::open(&self.state()).unwrap();
        self.world().apply(self.plan(&Wanted::default()).steps, &store).unwrap()
    }

    fn undo(&self) -> Vec<Done> {
        self.world().undo(&Store::open(&self.state()).unwrap()).unwrap().unwrap_or_default()
    }

    /// Every value there is.
    fn values(&self) -> BTreeMap<PathBuf, String> {
        fn walk(folder: &Path, values: &mut BTreeMap<PathBuf, String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() && entry.file_name() != "var" {
                    walk(&entry.path(), values);
                } else if kind.is_file() {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    values.insert(entry.path(), text.trim().to_owned());
                }
            }
        }
        let mut values = BTreeMap::new();
        walk(&self.root, &mut values);
        values
    }

    fn set(&self, path: &str, value: &str) {
        fs::write(self.root.join(path), value).unwrap();
    }

    fn get(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap().trim().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

fn word(knob: Knob) -> String {
    serde_json::to_value(knob).unwrap().as_str().unwrap().to_owned()
}

impl Knobs for Machine {
    fn read(&self, interface: &str, knob: Knob) -> io::Result<Setting> {
        let text = fs::read_to_string(self.root.join("knobs").join(interface))?;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{} ", word(knob))));
        let (now, most) = line.ok_or(io::ErrorKind::Unsupported)?.split_once(' ').unwrap();
        Ok(Setting { now: now.parse().unwrap(), most: most.parse().unwrap() })
    }

    fn write(&self, interface: &str, knob: Knob, value: u32) -> io::Result<()> {
        if self.stuck.borrow().contains(&knob) {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let before = self.read(interface, knob)?;
        let path = self.root.join("knobs").join(interface);
        let name = word(knob);
        let text = fs::read_to_string(&path)?
            .replace(&format!("{name} {} ", before.now), &format!("{name} {value} "));
        fs::write(path, text)
    }
}

fn lines(plan: &Plan, kind: Kind) -> Vec<String> {
    plan.steps
        .iter()
        .filter(|step| step.kind == kind)
        .map(|step| format!("{}: {} -> {}", step.what, step.before, step.after))
        .collect()
}

fn outcomes(done: &[Done]) -> BTreeMap<String, Outcome> {
    done.iter().map(|done| (done.step.what.clone(), done.outcome.clone())).collect()
}

#[test]
fn on_two_sockets_the_interrupts_stay_beside_the_card_one_thread_of_each_core_first() {
    let plan = Machine::new("mlx5").plan(&Wanted::default());
    let irqs = lines(&plan, Kind::Irq);
    assert_eq!(irqs.len(), 16);
    assert_eq!(irqs[0], "121 (mlx5_comp0@pci:0000:d8:00.0): 0-31 -> 8");
    assert_eq!(irqs[7], "128 (mlx5_comp7@pci:0000:d8:00.0): 0-31 -> 15");
    assert_eq!(irqs[8], "129 (mlx5_comp8@pci:0000:d8:00.0): 0-31 -> 24");
    let governors = lines(&plan, Kind::Governor);
    assert_eq!(governors.len(), 16, "those of the other socket are left alone: {governors:?}");
    assert_eq!(governors[0], "cpu8: powersave -> performance");
    assert_eq!(lines(&plan, Kind::Rings), ["ens3f0np0 receive ring: 1024 -> 4096"]);
    assert_eq!(lines(&plan, Kind::Offload), ["ens3f0np0 LRO: 1 -> 0"]);
    assert_eq!(lines(&plan, Kind::Sysctl), ["net.core.rmem_max: 212992 -> 16777216"]);
    assert!(lines(&plan, Kind::Xps).is_empty(), "the driver has set it");
    assert!(lines(&plan, Kind::Rps).is_empty());
    let advice = plan.advice.join("\n");
    assert!(advice.contains("16 queues for 8 cores beside it"), "{advice}");
}

#[test]
fn where_the_machine_tells_of_no_node_all_cpus_take_part() {
    let plan = Machine::new("ixgbe").plan(&Wanted::default());
    assert_eq!(
        lines(&plan, Kind::Irq),
        [
            "40 (eth0-TxRx-0): 0-7 -> 0",
            "41 (eth0-TxRx-1): 0-7 -> 1",
            "42 (eth0-TxRx-2): 0-7 -> 2",
            "43 (eth0-TxRx-3): 0-7 -> 3",
        ]
    );
    assert_eq!(lines(&plan, Kind::Queues), ["eth0 queues: 4 -> 8"]);
    assert_eq!(
        lines(&plan, Kind::Xps),
        [
            "eth0 tx-0: 00000000 -> 00000011",
            "eth0 tx-1: 00000000 -> 00000022",
            "eth0 tx-2: 00000000 -> 00000044",
            "eth0 tx-3: 00000000 -> 00000088",
        ]
    );
    assert!(plan.advice.iter().any(|advice| advice.contains("irqbalance")), "{:?}", plan.advice);
}

#[test]
fn a_single_queue_is_spread_after_the_card() {
    let plan = Machine::new("virtio").plan(&Wanted::default());
    assert_eq!(lines(&plan, Kind::Rps), ["eth0 rx-0: 00000000 -> 0000000f"]);
    assert_eq!(
        lines(&plan, Kind::Irq),
        ["34 (virtio1-input.0): 0-3 -> 0", "35 (virtio1-output.0): 0-3 -> 0"]
    );
    let others = [Kind::Queues, Kind::Rings, Kind::Offload, Kind::Sysctl, Kind::Xps];
    for kind in others {
        assert!(lines(&plan, kind).is_empty(), "{kind:?}");
    }
}

#[test]
fn in_a_container_nothing_of_the_host_is_touched() {
    let plan = Machine::new("container").plan(&Wanted::default());
    let kinds: Vec<Kind> = plan.steps.iter().map(|step| step.kind).collect();
    assert_eq!(kinds, [Kind::Rps]);
}

#[test]
fn what_a_namespace_only_shows_is_advised_and_not_tried() {
    let machine = Machine::new("ixgbe");
    let file = machine.root.join("proc/sys/net/core/rmem_max");
    fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
    let plan = machine.plan(&Wanted::default());
    assert!(lines(&plan, Kind::Sysctl).is_empty());
    assert!(plan.advice.iter().any(|advice| advice.contains("on the host")), "{:?}", plan.advice);
}

#[test]
fn only_what_is_asked_for_is_planned_and_gro_only_for_copies() {
    let machine = Machine::new("ixgbe");
    let only = Wanted { only: [Kind::Irq].into(), is_mirror: true };
    assert!(machine.plan(&only).steps.iter().all(|step| step.kind == Kind::Irq));
    let mirror = Wanted { only: [Kind::Offload].into(), is_mirror: true };
    assert_eq!(
        lines(&machine.plan(&mirror), Kind::Offload),
        ["eth0 LRO: 1 -> 0", "eth0 GRO: 1 -> 0"]
    );
}

#[test]
fn what_is_applied_is_there_once_and_undone_to_the_last_value() {
    for name in ["mlx5", "ixgbe", "virtio", "container"] {
        let machine = Machine::new(name);
        let before = machine.values();
        let done = machine.apply();
        assert!(!done.is_empty());
        assert!(done.iter().all(|done| done.outcome == Outcome::Done), "{done:?}");
        assert_ne!(machine.values(), before);
        assert_eq!(
            machine.plan(&Wanted::default()).steps,
            [],
            "{name}: a second time changes nothing"
        );
        let mode = fs::metadata(machine.state()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let undone = machine.undo();
        assert!(undone.iter().all(|done| done.outcome == Outcome::Done), "{undone:?}");
        assert_eq!(undone.len(), done.len());
        for (path, value) in machine.values() {
            let was = &before[&path];
            let same = *was == value || CpuSetPair(was, &value).is_same();
            assert!(same, "{}: {was} {value}", path.display());
        }
        assert!(!machine.state().exists());
        assert!(machine.undo().is_empty());
    }
}

/// Two masks as text.
struct CpuSetPair<'a>(&'a str, &'a str);

impl CpuSetPair<'_> {
    fn is_same(&self) -> bool {
        let mask = cpus::CpuSet::from_mask;
        mask(self.0).is_some() && mask(self.0) == mask(self.1)
    }
}

#[test]
fn a_change_that_fails_leaves_the_others_and_what_can_be_undone() {
    let machine = Machine::new("ixgbe");
    let before = machine.values();
    machine.stuck.borrow_mut().push(Knob::Lro);
    let done = machine.apply();
    let of = outcomes(&done);
    assert_eq!(of["eth0 LRO"], Outcome::Failed("the driver cannot".to_owned()));
    assert_eq!(of["eth0 queues"], Outcome::Done);
    assert_eq!(of["net.core.rmem_max"], Outcome::Done);
    let undone = machine.undo();
    assert_eq!(undone.len(), done.len() - 1, "what failed is not undone");
    let knobs = PathBuf::from("knobs/eth0");
    assert_eq!(machine.values()[&machine.root.join(&knobs)], before[&machine.root.join(&knobs)]);
}

#[test]
fn an_undo_that_fails_can_be_tried_again() {
    let machine = Machine::new("ixgbe");
    machine.apply();
    machine.stuck.borrow_mut().push(Knob::Combined);
    let of = outcomes(&machine.undo());
    assert_eq!(of["eth0 queues"], Outcome::Failed("the driver cannot".to_owned()));
    machine.stuck.borrow_mut().clear();
    let again = machine.undo();
    assert_eq!(outcomes(&again), [("eth0 queues".to_owned(), Outcome::Done)].into());
    assert!(!machine.state().exists());
}

#[test]
fn what_somebody_else_has_set_since_is_left_alone() {
    let machine = Machine::new("ixgbe");
    machine.apply();
    machine.set("proc/irq/41/smp_affinity_list", "6");
    machine.set("proc/sys/net/core/rmem_max", "212992");
    fs::remove_file(machine.root.join("proc/irq/42/smp_affinity_list")).unwrap();
    let of = outcomes(&machine.undo());
    let left = |why: &str| Outcome::LeftAlone(why.to_owned());
    assert_eq!(of["41 (eth0-TxRx-1)"], left("is `6`, which somebody else has set"));
    assert_eq!(of["42 (eth0-TxRx-2)"], left("is gone"));
    assert_eq!(of["net.core.rmem_max"], Outcome::Already);
    assert_eq!(machine.get("proc/irq/41/smp_affinity_list"), "6");
}

#[test]
fn what_somebody_else_sets_between_plan_and_change_is_neither_changed_nor_undone() {
    let machine = Machine::new("ixgbe");
    let steps = machine.plan(&Wanted::default()).steps;
    machine.set("proc/irq/41/smp_affinity_list", "5");
    machine.set("proc/irq/42/smp_affinity_list", "2");
    let store = Store::open(&machine.state()).unwrap();
    let of = outcomes(&machine.world().apply(steps, &store).unwrap());
    assert_eq!(
        of["41 (eth0-TxRx-1)"],
        Outcome::LeftAlone("is `5`, which somebody else has set".to_owned())
    );
    assert_eq!(of["42 (eth0-TxRx-2)"], Outcome::Already);
    let undone = outcomes(&machine.world().undo(&store).unwrap().unwrap());
    assert!(!undone.contains_key("41 (eth0-TxRx-1)") && !undone.contains_key("42 (eth0-TxRx-2)"));
    assert_eq!(machine.get("proc/irq/41/smp_affinity_list"), "5");
    assert_eq!(machine.get("proc/irq/42/smp_affinity_list"), "2");
    assert_eq!(machine.get("proc/irq/40/smp_affinity_list"), "0-7");
}

#[test]
fn tuning_again_keeps_what_was_before_the_first_time() {
    let machine = Machine::new("ixgbe");
    machine.apply();
    // irqbalance has been at work.
    machine.set("proc/irq/41/smp_affinity_list", "7");
    let done = machine.apply();
    assert_eq!(done.len(), 1);
    machine.undo();
    assert_eq!(machine.get("proc/irq/41/smp_affinity_list"), "0-7");
}

#[test]
fn what_was_set_before_the_machine_was_started_anew_is_forgotten() {
    let machine = Machine::new("ixgbe");
    machine.apply();
    machine.set("proc/sys/kernel/random/boot_id", "another");
    machine.set("proc/irq/41/smp_affinity_list", "0-7");
    assert!(machine.undo().is_empty());
    assert!(!machine.state().exists());
}

#[test]
fn nothing_is_changed_when_what_was_before_cannot_be_kept() {
    let machine = Machine::new("virtio");
    let before = machine.values();
    let store = Store::open(&machine.state()).unwrap();
    let busy = Store::open(&machine.state()).unwrap_err();
    assert!(busy.ends_with("another `fastnetmon tune` is at work"), "{busy}");
    // Where the new file is written there is a folder.
    fs::create_dir(machine.root.join("var/tune.json.new")).unwrap();
    let steps = machine.plan(&Wanted::default()).steps;
    let error = machine.world().apply(steps, &store).unwrap_err();
    assert!(error.contains("tune.json: "), "{error}");
    assert_eq!(machine.values(), before);
}

#[test]
fn a_state_that_names_what_no_plan_does_is_refused() {
    let machine = Machine::new("virtio");
    machine.apply();
    let other = machine.root.join("var/other.json");
    let undo = || machine.world().undo(&Store::open(&other).unwrap());
    let rps = "sys/class/net/eth0/queues/rx-0/rps_cpus";
    let text = machine.get("var/tune.json");
    for (from, to) in [
        (rps, "etc/passwd"),
        (rps, "proc/sys/kernel/core_pattern"),
        (rps, "sys/class/net/../queues/rx-0/rps_cpus"),
        (rps, "sys/class/net/eth0/queues/rx-/rps_cpus"),
        ("proc/irq/34/", "proc/irq/34/../"),
        ("\"0-3\"", "\"|/tmp/x\""),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&other, text.replace(from, to)).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
        let error = undo().unwrap_err();
        assert!(error.contains("is nothing this program sets"), "{error}");
    }
    fs::write(&other, text).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(undo().unwrap_err().contains("somebody else may have written it"));
}

#[test]
fn nothing_is_written_through_links_that_somebody_put_beside_the_state() {
    let machine = Machine::new("virtio");
    let precious = machine.root.join("precious");
    fs::write(&precious, "kept").unwrap();
    fs::create_dir(machine.root.join("var")).unwrap();
    let link = |name: &str| {
        std::os::unix::fs::symlink(&precious, machine.root.join("var").join(name)).unwrap();
    };
    link("tune.json.new");
    machine.apply();
    assert_eq!(machine.get("precious"), "kept");
    machine.undo();
    link("tune.json");
    let steps = machine.plan(&Wanted::default()).steps;
    let store = Store::open(&machine.state()).unwrap();
    assert!(machine.world().apply(steps, &store).is_err());
    link("other.json.lock");
    assert!(Store::open(&machine.root.join("var/other.json")).is_err());
}

#[test]
fn a_port_that_is_not_there_is_named_with_those_that_are() {
    let machine = Machine::new("mlx5");
    for name in ["eth9", "../net/lo", ""] {
        let error = Snapshot::read(&machine.root, &[name.to_owned()], &machine).unwrap_err();
        assert!(error.contains("there are ens3f0np0, lo"), "{error}");
    }
}
