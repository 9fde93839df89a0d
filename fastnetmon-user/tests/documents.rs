//! What stands in the texts between fences: nothing that can run stands there undecided.
//!
//! The fence says what happens with a block; `xtask::document` has the list of words. Who types
//! what: `host` and `exports` are `privileged/documents.rs` and `privileged/exports.rs`, on a lab's
//! host; `example` is `examples.rs`, as the agent calls a script.

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the test runs the program")]

    use std::path::Path;
    use std::process::Command;

    use fastnetmon_user::control::Request;
    use fastnetmon_user::daemon::Settings;
    use xtask::document::{Block, Decision, Document};

    /// Names that may stand behind `run=`, and a text each has blocks in.
    const RUNNERS: [(&str, &str); 4] = [
        ("host", "README.md"),
        ("host-stays", "README.md"),
        ("exports", "docs/exports.md"),
        ("example", "docs/scripts.md"),
    ];

    /// Programs whose name at the head of a line makes it a command.
    const PROGRAMS: [&str; 12] = [
        "fastnetmon ",
        "cargo ",
        "apt-get ",
        "apt ",
        "dpkg ",
        "rpm ",
        "systemctl ",
        "curl ",
        "nft ",
        "ip ",
        "sudo ",
        "$ ",
    ];

    /// What a decision on a block comes to: nothing, or what is wrong with it.
    fn verdict(block: &Block) -> Result<(), String> {
        let word = match &block.decision {
            Decision::Word(word) => word.as_str(),
            _ => "",
        };
        match (block.language.as_str(), &block.decision) {
            ("sh" | "console" | "python", Decision::Run(name)) => RUNNERS
                .iter()
                .any(|(runner, _)| runner == name)
                .then_some(())
                .ok_or_else(|| format!("no test is called `{name}`")),
            ("sh" | "console" | "python" | "ini" | "yaml", Decision::Read(_)) => Ok(()),
            ("toml", Decision::None) => accepted(&block.text),
            ("toml", _) if word == "refused" => match accepted(&block.text) {
                Ok(()) => Err("is accepted".to_owned()),
                Err(_refused) => Ok(()),
            },
            ("json", Decision::None) => is_json(&block.text),
            ("json", _) if word == "sketch" => Ok(()),
            ("text", Decision::None) => {
                let command = block
                    .text
                    .lines()
                    .find(|line| PROGRAMS.iter().any(|program| line.starts_with(program)));
                command.map_or(Ok(()), |line| {
                    Err(format!("`{line}` is a command: make it `sh run=…` or `sh read=\"why\"`"))
                })
            }
            ("text", _) if word == "printed" => Ok(()),
            (language, decision) => Err(format!(
                "`{language}` with {decision:?}: a block that can run says `run=NAME`, or \
                 `read=\"why\"` when nobody types it; `xtask/src/document.rs` has the list"
            )),
        }
    }

    fn accepted(text: &str) -> Result<(), String> {
        Settings::parse(Path::new("the block"), text).map(drop).map_err(|error| error.to_string())
    }

    /// One document, or one a line; requests are those the agent takes.
    fn is_json(text: &str) -> Result<(), String> {
        if serde_json::from_str::<serde_json::Value>(text).is_ok() {
            return Ok(());
        }
        for line in text.lines() {
            let value: serde_json::Value =
                serde_json::from_str(line).map_err(|error| format!("`{line}`: {error}"))?;
            if value.get("request").is_some() {
                serde_json::from_value::<Request>(value)
                    .map_err(|error| format!("`{line}`: {error}"))?;
            }
        }
        Ok(())
    }

    #[test]
    fn no_block_is_undecided() {
        let documents = Document::all(&xtask::root()).unwrap();
        let mut wrong = Vec::new();
        for document in &documents {
            for block in &document.blocks {
                if let Err(why) = verdict(block) {
                    wrong.push(format!("{}:{}: {why}", document.path, block.line));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        for (name, path) in RUNNERS {
            let typed = documents
                .iter()
                .find(|document| document.path == path)
                .is_some_and(|document| document.run_by(name).next().is_some());
            assert!(typed, "nothing in {path} is for `{name}`");
        }
    }

    #[test]
    fn a_new_block_of_commands_is_told() {
        for (language, text) in [
            ("sh", "ls"),
            ("bash", "ls"),
            ("", "ls"),
            ("text", "cargo xtask demo"),
            ("yaml", "a: 1"),
        ] {
            let block = Block {
                line: 1,
                section: String::new(),
                language: language.to_owned(),
                decision: Decision::None,
                text: text.to_owned(),
            };
            assert!(verdict(&block).is_err(), "{language}: {text}");
        }
    }

    /// The rows of the table whose head begins with these words.
    fn rows(text: &str, head: &str) -> Vec<Vec<String>> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(head));
        assert!(lines.next().is_some(), "no table begins with `{head}`");
        lines
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
            })
            .collect()
    }

    fn secs(cell: &str) -> f64 {
        cell.strip_suffix(" s").and_then(|number| number.parse().ok()).expect(cell)
    }

    /// What `check` says of a flood: after how long it is found, by times the threshold.
    fn found(thresholds: &str) -> String {
        let folder = std::env::temp_dir().join(format!(
            "fnm-found-{}-{}",
            std::process::id(),
            thresholds.len()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("list"), "192.0.2.0/24\n").unwrap();
        let list = folder.join("list");
        let text =
            format!("[networks]\nlist = \"{}\"\n[thresholds]\n{thresholds}\n", list.display());
        std::fs::write(folder.join("conf"), text).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_fastnetmon"));
        let output = check.arg("check").arg("--config").arg(folder.join("conf")).output().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_arithmetic_of_the_thresholds_is_right_and_is_what_check_says() {
        let page = include_str!("../../docs/thresholds.md");
        let table = rows(page, "| flood, times the threshold |");
        assert_eq!(table.len(), 5);
        let said =
            [found("window_ms = 1000"), found("average_secs = 5"), found("average_secs = 15")];
        for row in &table {
            let times: f64 = row[0].parse().unwrap();
            let average = |tau: f64| -tau * (1.0 - 1.0 / times).ln();
            let exact = [1.0 / times, average(5.0), average(15.0)];
            let places = [0.005, 0.05, 0.05];
            for ((cell, exact), within) in row[1..].iter().zip(exact).zip(places) {
                assert!((secs(cell) - exact).abs() <= within + 1e-9, "{times}: {cell}, {exact}");
            }
            let Some(word) = [(1.1, "1.1 times"), (2.0, "twice"), (10.0, "ten times")]
                .iter()
                .find(|(of, _)| (of - times).abs() < 1e-9)
                .map(|(_, word)| word)
            else {
                continue;
            };
            // An average is looked at once a tick, which is a second.
            let ticks = [exact[0], exact[1].ceil(), exact[2].ceil()];
            for (said, exact) in said.iter().zip(ticks) {
                let line = said.lines().find(|line| line.contains(" s after it began")).unwrap();
                let expected = format!("{exact:.2} s ");
                let before = line.split(word).next().unwrap();
                let number = before.rsplit(" s ").nth(1).unwrap().rsplit(' ').next().unwrap();
                assert_eq!(format!("{number} s "), expected, "{word}: {line}");
            }
        }
        // Frames have 20 bytes of preamble and gap, packets 38 with header and checksum.
        let ten_gigabits = |bytes: f64| 10e9 / (bytes * 8.0) / 1e6;
        let small = format!("{:.1} million", ten_gigabits(64.0 + 20.0));
        let large = format!("{:.1} million", ten_gigabits(1500.0 + 38.0));
        let page = page.replace('\n', " ");
        assert!(page.contains(&format!("10 Gbit/s of 64-byte frames are {small}")), "{small}");
        assert!(page.contains(&format!("of 1,500-byte packets {large}")), "{large}");
    }

    #[test]
    fn bans_that_come_again_last_as_the_page_says() {
        let page = include_str!("../../docs/thresholds.md");
        let settings = Settings::default().ban;
        let mut expected = settings.time_secs;
        let table = rows(page, "| ban | with the defaults |");
        for row in table.iter().filter(|row| row[0] != "…") {
            let (number, unit) = row[1].split_once(' ').unwrap();
            let number: f64 = number.parse().unwrap();
            let unit = if unit == "hours" { 3600.0 } else { 60.0 };
            let secs = number * unit;
            let exact = f64::from(u32::try_from(expected).unwrap());
            assert!((secs - exact).abs() <= exact * 0.06, "{row:?}, {expected} s");
            expected *= 2;
        }
        assert_eq!(table.last().unwrap()[1], "up to 24 hours");
        assert_eq!(settings.probe_longest_secs, 24 * 3600);
    }

    #[test]
    fn the_kinds_of_tuning_are_those_of_the_page() {
        let page = include_str!("../../docs/tuning.md");
        let table = rows(page, "| kind | what | when |");
        let shown: Vec<&str> = table.iter().map(|row| row[0].trim_matches('`')).collect();
        let mut tune = Command::new(env!("CARGO_BIN_EXE_fastnetmon"));
        let output = tune.args(["tune", "--only", "no"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let (_, known) = said.split_once("[possible values: ").expect(&said);
        let known: Vec<&str> = known.split(']').next().unwrap().split(", ").collect();
        assert_eq!(shown, known);
    }

    #[test]
    fn the_readme_names_what_there_is() {
        let readme = include_str!("../../README.md");
        let (_, rest) = readme.split_once("\n## What it has\n").unwrap();
        let section = rest.split("\n## ").next().unwrap();
        let words = |text: &str| -> Vec<String> {
            let error = Settings::parse(Path::new("probe"), text).unwrap_err().to_string();
            let (_, expected) = error.split_once("expected one of ").unwrap();
            expected.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
        };
        let engines = words("[capture]\nengine = \"no\"\n");
        let actions = words("[ban]\nactions = [\"no\"]\n");
        assert!(engines.len() > 5 && actions.len() > 3);
        let exports = ["redis", "graphite", "influxdb", "clickhouse"].map(ToOwned::to_owned);
        for name in engines.into_iter().chain(actions).chain(exports) {
            assert!(section.contains(&format!("`{name}`")), "the README does not name `{name}`");
        }
    }

    /// `check` says of a refused configuration what the text shows.
    #[test]
    fn what_is_refused_is_refused_in_these_words() {
        let folder = std::env::temp_dir().join(format!("fnm-refused-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut shown = 0;
        for document in Document::all(&xtask::root()).unwrap() {
            for pair in document.blocks.windows(2) {
                let [block, answer] = pair else { unreachable!("two") };
                if block.decision != Decision::Word("refused".to_owned()) {
                    continue;
                }
                std::fs::write(folder.join("fastnetmon.conf"), &block.text).unwrap();
                let output = Command::new(env!("CARGO_BIN_EXE_fastnetmon"))
                    .args(["check", "--config", "fastnetmon.conf"])
                    .current_dir(&folder)
                    .output()
                    .unwrap();
                assert_eq!(output.status.code(), Some(2));
                let said = String::from_utf8(output.stderr).unwrap();
                assert_eq!(said.trim(), answer.text.trim(), "{}:{}", document.path, block.line);
                shown += 1;
            }
        }
        assert!(shown > 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
