//! The figures: printed as they come, then as JSON, then as a page.
//!
//! **Invariant**: a figure carries what it must reach; whether it does is worked out here alone.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::machine::Machine;

/// What a figure must reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Must {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Exactly this.
    Be(f64),
    /// It is only told.
    Inform,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) value: f64,
    /// `×`, `ns`, `ms`, `MB`…
    pub(crate) unit: &'static str,
    pub(crate) must: Must,
    /// What stands behind it.
    pub(crate) detail: String,
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

impl Must {
    const fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
            Self::Be(exactly) => (value - exactly).abs() < f64::EPSILON,
            Self::Inform => true,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {most} {unit}"),
            Self::AtLeast(least) => format!("≥ {least} {unit}"),
            Self::Be(exactly) => format!("= {exactly} {unit}"),
            Self::Inform => String::new(),
        }
    }
}

impl Row {
    fn got(&self) -> String {
        let Self { value, unit, .. } = self;
        if value.abs() >= 100.0 {
            format!("{value:.0} {unit}")
        } else {
            format!("{value:.2} {unit}")
        }
    }

    const fn outcome(&self) -> &'static str {
        match self.must {
            Must::Inform => "",
            must if must.holds(self.value) => "ok",
            _ => "MISSED",
        }
    }
}

impl Report {
    pub(crate) const fn new(machine: Machine) -> Self {
        Self { machine, rows: Vec::new() }
    }

    /// Says what the next figures are about.
    pub(crate) fn chapter(title: &str) {
        println!("\n{title}");
    }

    /// Takes a figure and shows it.
    pub(crate) fn add(&mut self, row: Row) {
        let (got, must, outcome) = (row.got(), row.must.text(row.unit), row.outcome());
        println!("  {:<66} {got:>11}   {must:<9}  {outcome:<6}  {}", row.what, row.detail);
        self.rows.push(row);
    }

    /// The last line.
    pub(crate) fn verdict(&self) -> String {
        let missed: Vec<String> = self
            .rows
            .iter()
            .filter(|row| row.outcome() == "MISSED")
            .map(|row| {
                format!(
                    "\n  MISSED: {}: {}, must be {}",
                    row.what,
                    row.got(),
                    row.must.text(row.unit)
                )
            })
            .collect();
        if missed.is_empty() {
            format!("\nbench: all {} figures are reached", self.judged())
        } else {
            format!(
                "\nbench: {} of {} figures are MISSED{}",
                missed.len(),
                self.judged(),
                missed.concat()
            )
        }
    }

    pub(crate) fn json(&self) -> anyhow::Result<String> {
        let Machine { cpu, cpus, kernel, commit, date, load } = &self.machine;
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "what": row.what,
                    "value": row.value,
                    "unit": row.unit,
                    "must": row.must.text(row.unit),
                    "outcome": row.outcome(),
                    "detail": row.detail,
                })
            })
            .collect();
        let machine = json!({
            "cpu": cpu, "cpus": cpus, "kernel": kernel, "commit": commit, "date": date,
            "load_at_start": load,
        });
        let text = serde_json::to_string_pretty(&json!({ "machine": machine, "rows": rows }))?;
        Ok(text + "\n")
    }

    /// The page for the documentation.
    pub(crate) fn page(&self) -> String {
        let Machine { cpu, cpus, kernel, commit, date, load } = &self.machine;
        let mut page = format!(
            "# Performance\n\n\
             Written by `cargo xtask bench --write`; run it to have the figures of your machine.\n\n\
             | machine | {cpu}, {cpus} CPUs |\n|---|---|\n| kernel | {kernel} |\n\
             | commit | {commit} |\n| date | {date} |\n| load at start | {load} |\n\n\
             | what | measured | must reach | | behind it |\n|---|--:|---|---|---|\n"
        );
        for row in &self.rows {
            let (got, must, outcome) = (row.got(), row.must.text(row.unit), row.outcome());
            // Writing to a string cannot fail.
            let _written =
                writeln!(page, "| {} | {got} | {must} | {outcome} | {} |", row.what, row.detail);
        }
        page.push_str(METHOD);
        page
    }

    fn judged(&self) -> usize {
        self.rows.iter().filter(|row| !matches!(row.must, Must::Inform)).count()
    }
}

/// How the figures are taken, for the page.
const METHOD: &str = include_str!("method.md");
