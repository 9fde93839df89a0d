//! `fastnetmon tune`: the machine made ready for many packets, and back.
//!
//! [`snapshot`] looks, [`plan`] says what should be otherwise, [`effect`] does and undoes it.
//!
//! **Invariant**: without `--apply` nothing is touched. What cannot be undone is never done, only
//! advised.

mod cpus;
mod effect;
mod interrupts;
mod plan;
mod snapshot;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use self::effect::{Done, Outcome, Store, World};
use self::plan::{Kind, Plan, Wanted};
use self::snapshot::{Knobs, Snapshot};
use crate::commands::{Failure, say};
use crate::kernel::{Knob, Setting};

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Arguments {
    /// Do it; without it, what would be done is shown
    #[arg(long)]
    apply: bool,
    /// Put back what was before
    #[arg(long, conflicts_with = "apply")]
    undo: bool,
    /// Ports to tune; without it, every card
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    interface: Vec<String>,
    /// Nothing but these
    #[arg(long, value_name = "KIND,KIND", value_delimiter = ',')]
    only: Vec<Kind>,
    /// The ports carry copies of traffic (SPAN), and nobody here reads them as streams
    #[arg(long)]
    mirror: bool,
    /// Where what was before is kept
    #[arg(long, value_name = "FILE", default_value = "/var/lib/fastnetmon/tune.json")]
    state: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// The knobs of this machine.
#[derive(Debug)]
struct Kernel;

impl Knobs for Kernel {
    fn read(&self, interface: &str, knob: Knob) -> io::Result<Setting> {
        knob.read(interface)
    }

    fn write(&self, interface: &str, knob: Knob, value: u32) -> io::Result<()> {
        knob.write(interface, value)
    }
}

pub(super) fn tune(arguments: &Arguments) -> Result<(), Failure> {
    let world = World { root: Path::new("/"), knobs: &Kernel };
    let told = if arguments.undo {
        let store = Store::open(&arguments.state).map_err(Failure::Input)?;
        let done = world.undo(&store).map_err(Failure::Refused)?;
        Told { done: done.unwrap_or_default(), plan: Plan::default() }
    } else if arguments.apply {
        let store = Store::open(&arguments.state).map_err(Failure::Input)?;
        apply(&world, &arguments.ports(), &arguments.wanted(), &store)?
    } else {
        let plan = look(&world, &arguments.ports(), &arguments.wanted())?;
        Told { done: vec![], plan }
    };
    say(&if arguments.json { told.json() } else { told.text(arguments) })?;
    match told.failures() {
        0 => Ok(()),
        failures => Err(Failure::Refused(format!(
            "{failures} of {} changes could not be made; the others stand",
            told.done.len()
        ))),
    }
}

impl Arguments {
    fn ports(&self) -> Vec<String> {
        if !self.interface.is_empty() {
            return self.interface.iter().map(|name| name.trim().to_owned()).collect();
        }
        snapshot::cards(Path::new("/"))
    }

    fn wanted(&self) -> Wanted {
        Wanted { only: self.only.iter().copied().collect(), is_mirror: self.mirror }
    }
}

fn look<K: Knobs>(
    world: &World<'_, K>,
    ports: &[String],
    wanted: &Wanted,
) -> Result<Plan, Failure> {
    let snapshot = Snapshot::read(world.root, ports, world.knobs).map_err(Failure::Input)?;
    Ok(plan::plan(&snapshot, wanted))
}

/// Twice: what changes the queues first, then what depends on the queues there are then.
fn apply<K: Knobs>(
    world: &World<'_, K>,
    ports: &[String],
    wanted: &Wanted,
    store: &Store,
) -> Result<Told, Failure> {
    let mut done = Vec::new();
    let first = look(world, ports, wanted)?.steps.into_iter().filter(|step| step.kind.is_first());
    let first: Vec<_> = first.collect();
    if !first.is_empty() {
        done = world.apply(first, store).map_err(Failure::Refused)?;
    }
    let tried: BTreeSet<_> = done.iter().map(|done| done.step.target.clone()).collect();
    let mut plan = look(world, ports, wanted)?;
    plan.steps.retain(|step| !tried.contains(&step.target));
    if !plan.steps.is_empty() {
        let steps = std::mem::take(&mut plan.steps);
        done.extend(world.apply(steps, store).map_err(Failure::Refused)?);
    }
    Ok(Told { done, plan })
}

/// What there is to say.
#[derive(Debug)]
struct Told {
    done: Vec<Done>,
    /// Steps that were not taken, and advice.
    plan: Plan,
}

impl Told {
    fn failures(&self) -> usize {
        self.done.iter().filter(|done| matches!(done.outcome, Outcome::Failed(_))).count()
    }

    fn text(&self, arguments: &Arguments) -> String {
        let mut text = String::new();
        let is_dry = !arguments.apply && !arguments.undo;
        let outcomes = self.done.iter().map(|done| (&done.step, Some(&done.outcome)));
        for (step, outcome) in outcomes.chain(self.plan.steps.iter().map(|step| (step, None))) {
            let (kind, what) = (step.kind.name(), &step.what);
            let (before, after) = (or_none(&step.before), or_none(&step.after));
            let said = match outcome {
                None | Some(Outcome::Done) => String::new(),
                Some(Outcome::Already) => "  (was so already)".to_owned(),
                Some(Outcome::LeftAlone(why)) => format!("  (left alone: {why})"),
                Some(Outcome::Failed(why)) => format!("  FAILED: {why}"),
            };
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{kind:<9} {what}: {before} -> {after}{said}");
        }
        for advice in &self.plan.advice {
            let _infallible = writeln!(text, "advice    {advice}");
        }
        let _infallible = match (self.done.is_empty(), self.plan.steps.is_empty()) {
            (true, true) if arguments.undo => writeln!(text, "There is nothing to undo."),
            (true, true) => writeln!(text, "There is nothing to change."),
            _ if is_dry => {
                writeln!(text, "Nothing was changed; `fastnetmon tune --apply` does it.")
            }
            _ if arguments.apply => {
                writeln!(
                    text,
                    "What was before is in {}; `fastnetmon tune --undo` puts it back.",
                    arguments.state.display()
                )
            }
            _ => Ok(()),
        };
        text
    }

    fn json(&self) -> String {
        let outcomes = self.done.iter().map(|done| (&done.step, Some(&done.outcome)));
        let steps: Vec<_> = outcomes
            .chain(self.plan.steps.iter().map(|step| (step, None)))
            .map(|(step, outcome)| {
                let (outcome, reason) = match outcome {
                    None => ("planned", ""),
                    Some(Outcome::Done) => ("done", ""),
                    Some(Outcome::Already) => ("already", ""),
                    Some(Outcome::LeftAlone(why)) => ("left_alone", why.as_str()),
                    Some(Outcome::Failed(why)) => ("failed", why.as_str()),
                };
                json!({
                    "kind": step.kind.name(),
                    "what": step.what,
                    "before": step.before,
                    "after": step.after,
                    "outcome": outcome,
                    "reason": reason,
                })
            })
            .collect();
        json!({ "steps": steps, "advice": self.plan.advice }).to_string()
    }
}

fn or_none(value: &str) -> &str {
    if value.is_empty() { "none" } else { value }
}

#[cfg(test)]
mod tests;
