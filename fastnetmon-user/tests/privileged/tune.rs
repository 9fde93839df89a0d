//! `fastnetmon tune` on a real interface, in a namespace with a /sys of its own.

use std::process::{Command, Output};

use xtask::lab::{INSIDE_INTERFACE, Lab, LabOptions};

use crate::agent::Folder;

/// Runs a program inside; unlike a lab's own command, with the inside's /sys.
fn inside(lab: &Lab, words: &[&str]) -> Output {
    Command::new("ip").args(["netns", "exec", lab.inside_name()]).args(words).output().unwrap()
}

#[track_caller]
fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn tune(lab: &Lab, folder: &Folder, more: &[&str]) -> Output {
    let state = folder.path("tune.json");
    let state = state.to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_fastnetmon");
    let words = [program, "tune", "--interface", INSIDE_INTERFACE, "--mirror", "--state", state];
    // The CPUs belong to all namespaces: their governors are not for a test.
    let only = ["--only", "queues,rings,offload,sysctl,irq,rps,xps"];
    inside(lab, &[&words[..], &only, more].concat())
}

fn queue(lab: &Lab, file: &str) -> String {
    let path = format!("/sys/class/net/{INSIDE_INTERFACE}/queues/{file}");
    text(inside(lab, &["cat", &path])).trim().to_owned()
}

fn gro(lab: &Lab) -> bool {
    let features = text(inside(lab, &["ethtool", "-k", INSIDE_INTERFACE]));
    features.contains("generic-receive-offload: on")
}

#[test]
fn a_single_queue_is_spread_and_gro_turned_off_and_both_are_put_back() {
    let lab = Lab::new("tune").unwrap();
    let folder = Folder::new();
    text(inside(&lab, &["ethtool", "-K", INSIDE_INTERFACE, "gro", "on"]));
    let before = queue(&lab, "rx-0/rps_cpus");
    // Dry: nothing happens.
    let dry = text(tune(&lab, &folder, &[]));
    assert!(dry.contains("in0 GRO: 1 -> 0") && dry.contains("in0 rx-0: "), "{dry}");
    assert!(dry.contains("cannot be set in here"), "what a namespace only shows: {dry}");
    assert!(gro(&lab) && queue(&lab, "rx-0/rps_cpus") == before);
    assert!(!folder.path("tune.json").exists());

    let applied = text(tune(&lab, &folder, &["--apply"]));
    assert!(!applied.contains("FAILED"), "{applied}");
    assert!(!gro(&lab));
    let cpus = std::thread::available_parallelism().unwrap().get();
    let spread = u64::from_str_radix(&queue(&lab, "rx-0/rps_cpus").replace(',', ""), 16).unwrap();
    assert_eq!(spread.count_ones(), u32::try_from(cpus).unwrap());
    let again = text(tune(&lab, &folder, &["--apply"]));
    assert!(again.contains("There is nothing to change."), "{again}");

    let undone = text(tune(&lab, &folder, &["--undo", "--json"]));
    let undone: serde_json::Value = serde_json::from_str(&undone).unwrap();
    let steps = undone["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["outcome"] == "done"), "{undone}");
    assert!(gro(&lab));
    assert_eq!(queue(&lab, "rx-0/rps_cpus"), before);
    assert!(!folder.path("tune.json").exists());
}

#[test]
fn each_cpu_sends_by_a_queue_of_its_own_where_there_are_several() {
    let lab = Lab::with("xps", LabOptions { queues: 2 }).unwrap();
    let folder = Folder::new();
    let masks = || ["tx-0/xps_cpus", "tx-1/xps_cpus"].map(|file| queue(&lab, file));
    let before = masks();
    text(tune(&lab, &folder, &["--apply"]));
    let number = |mask: &str| u64::from_str_radix(&mask.replace(',', ""), 16).unwrap();
    let [first, second] = masks().map(|mask| number(&mask));
    assert_eq!(first & second, 0);
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!((first | second).count_ones(), u32::try_from(cpus).unwrap());
    text(tune(&lab, &folder, &["--undo"]));
    assert_eq!(masks().map(|mask| number(&mask)), before.map(|mask| number(&mask)));
}

#[test]
fn an_interface_of_another_namespace_is_refused_with_the_way_there() {
    let lab = Lab::new("tunens").unwrap();
    let program = env!("CARGO_BIN_EXE_fastnetmon");
    let output = inside(&lab, &[program, "tune", "--interface", "in9"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("no interface `in9`") && complaint.contains("in0"), "{complaint}");
}
