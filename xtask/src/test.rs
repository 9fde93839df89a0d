//! `cargo xtask test`: every test there is, and how many they were.
//!
//! Tests of time and of packets share a machine with each other. Where few of them fail, these run once
//! more, one after the other, and what then holds is named as what held only by itself.
//!
//! **Invariant**: a test that cannot run fails, and so does one that fails by itself. Leaving out the
//! ones that need root must be asked for, and is said aloud.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, bail};
use xtask::{lab::Lab, process};

use crate::build;

/// Which tests to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Unprivileged,
}

/// The sum of all `test result:` lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    passed: u64,
    failed: u64,
    /// Of those that passed, how many did so only by themselves.
    alone: usize,
}

/// How one run of `cargo test` went.
#[derive(Debug, Default)]
struct Run {
    totals: Totals,
    /// Names of those that failed.
    failed: Vec<String>,
    /// How many binaries began, and how many of them told their result: one that died tells none.
    began: u64,
    ended: u64,
}

/// With more than so many that fail it is not the others' fault.
const FEW: usize = 3;

/// The features that bring the tests that need root, and everything else we ship.
pub(crate) const ALL_FEATURES: &str = "fastnetmon-user/privileged,xtask/privileged";

/// Runs the tests, shows what they print and returns the sum; an error when one failed.
pub(crate) fn run(root: &Path, scope: Scope) -> anyhow::Result<Totals> {
    let mut cargo = build::cargo(root);
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    match scope {
        Scope::All if !process::is_root() => bail!(
            "the tests need root, for network namespaces and the kernel programs: run this as root, \
             or `cargo xtask test --unprivileged` to leave those tests out"
        ),
        Scope::All => {
            for lab in Lab::sweep() {
                eprintln!("test: removed the namespace `{lab}` that an earlier run left behind");
            }
            cargo.args(["--features", ALL_FEATURES]);
        }
        Scope::Unprivileged => {
            eprintln!("test: {LEFT_OUT}");
            cargo.args(["--features", "fastnetmon-user/schema"]);
        }
    }

    let first = watch(&mut cargo);
    if scope == Scope::Unprivileged {
        eprintln!("test: {LEFT_OUT}");
    }
    let (run, status) = first?;
    let can_be_run_again = run.can_be_run_again();
    let Run { mut totals, failed, .. } = run;
    if scope == Scope::All && can_be_run_again {
        println!("{totals}");
        eprintln!("test: once more, by themselves: {}", failed.join(", "));
        cargo.args(["--", "--exact", "--test-threads=1"]).args(&failed);
        let (again, status) = watch(&mut cargo)?;
        if status.success() && again.began == again.ended && again.totals.passed >= totals.failed {
            totals.passed += totals.failed;
            totals.alone = failed.len();
            totals.failed = 0;
            println!("{totals}: {}", failed.join(", "));
            std::io::stdout().flush()?;
            return Ok(totals);
        }
    }
    println!("{totals}");
    std::io::stdout().flush()?;
    if !status.success() || totals.failed > 0 {
        bail!("the tests failed: {status}");
    }
    Ok(totals)
}

/// Runs it, shows what it prints, and listens.
fn watch(cargo: &mut Command) -> anyhow::Result<(Run, ExitStatus)> {
    let mut child =
        cargo.stdout(Stdio::piped()).spawn().context("`cargo test` could not be started")?;
    let mut run = Run::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            run.listen(&line);
            println!("{line}");
        }
    }
    Ok((run, child.wait()?))
}

const LEFT_OUT: &str = "LEFT OUT, as you asked: the tests that need root (labs, kernel programs, \
    attaching, packets counted on a wire); only `cargo xtask test` as root runs them";

impl Run {
    fn listen(&mut self, line: &str) {
        self.totals.add(line);
        let number = line.strip_prefix("running ").and_then(|line| line.split(' ').next());
        self.began += u64::from(number.is_some_and(|number| number.parse::<u64>().is_ok()));
        self.ended += u64::from(line.starts_with("test result: "));
        let test = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
        self.failed.extend(test.map(str::to_owned));
    }

    /// Are all that failed known by name, and few; and did no binary die?
    fn can_be_run_again(&self) -> bool {
        let number = self.failed.len();
        (1..=FEW).contains(&number)
            && self.totals.failed == number as u64
            && self.began == self.ended
    }
}

impl Totals {
    /// Adds what this line of a test's output says, if it is the line that says it.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok());
            match (number, words.next()) {
                (Some(number), Some("passed")) => self.passed += number,
                (Some(number), Some("failed")) => self.failed += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.alone {
            0 => Ok(()),
            alone => write!(f, "; of these {alone} only alone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_that_fail_are_run_again_unless_a_binary_died() {
        let heard = |lines: &[&str]| {
            let mut run = Run::default();
            for line in lines {
                run.listen(line);
            }
            run.can_be_run_again()
        };
        let failed = [
            "running 2 tests",
            "test flood::is_found ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored",
        ];
        assert!(heard(&failed));
        // Another one was killed in the middle.
        assert!(!heard(&[&failed[..], &["running 3 tests", "test other ... ok"]].concat()));
        assert!(!heard(&["running 1 test", "test result: ok. 1 passed; 0 failed; 0 ignored"]));
        let many = [["running 1 test", failed[1], "test result: FAILED. 0 passed; 1 failed"]; 4];
        assert!(!heard(&many.concat()));
    }

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        let mut run = Run::default();
        for line in [
            "running 3 tests",
            "test result_is_fine ... ok",
            "test flood::is_found ... FAILED",
            "test result: ok. 26 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.26s",
            "",
            "test result: FAILED. 9 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 3.15s",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.00s",
        ] {
            run.listen(line);
        }
        assert_eq!(run.totals, Totals { passed: 35, failed: 2, alone: 0 });
        assert_eq!(run.totals.to_string(), "35 passed, 2 failed");
        assert_eq!(run.failed, ["flood::is_found"]);
        assert!(!run.can_be_run_again(), "two failed, and one of them is not known by name");
        let held = Totals { passed: 37, failed: 0, alone: 2 };
        assert_eq!(held.to_string(), "37 passed, 0 failed; of these 2 only alone");
    }
}
