//! Why are the counters zero? What was found is a list of findings, each with what was seen and the
//! commands that mend it.
//!
//! [`gather()`] looks at the configuration, the ports, the agent and the machine and makes [`Facts`];
//! [`examine`] makes findings of them, [`Sheet`] prints them. The client asks by `fastnetmon doctor`,
//! the agent by itself once, half a minute after its start.
//!
//! **Invariant**: changes nothing, and [`examine`] is pure. A finding says what was seen, never what
//! is only feared; each has a section in docs/troubleshooting.md.

mod agent;
mod facts;
mod findings;
mod gather;
mod look;
mod machine;
mod port;
mod sheet;
mod traffic;

pub use self::facts::{
    Agent, Answer, Facts, File, Folder, Look, Networks, Port, Process, Script, Softnet, System,
    Wanted,
};
pub use self::findings::{Id, self_check, summary, worst};
pub use self::gather::{Asking, Told, exit_code, gather};
pub use self::look::Outside;
pub use self::sheet::{Sheet, json};
use crate::control::Finding;
use crate::doctor::findings::Chart;

/// What is to be said of these facts, the worst first.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut chart = Chart::default();
    machine::configuration(facts, &mut chart);
    agent::running(facts, &mut chart);
    if facts.wanted.error.is_none() {
        port::ports(facts, &mut chart);
        traffic::traffic(facts, &mut chart);
        machine::files(facts, &mut chart);
    }
    agent::health(facts, &mut chart);
    machine::machine(facts, &mut chart);
    chart.sorted()
}

#[cfg(test)]
mod tests;
