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
