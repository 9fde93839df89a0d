//! The scripts of the cookbook, each called as the agent calls it. The programs they need are
//! played by one that writes down how it was called.

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test of scripts starts programs")]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};

    use xtask::document::Document;

    /// A folder with a script, and with programs that write into `called`.
    struct Stage(PathBuf);

    impl Stage {
        /// `programs` are played. Words of the script are exchanged as said: `HERE` is the folder.
        fn new(name: &str, programs: &[&str], exchanged: &[(&str, &str)]) -> Self {
            let folder =
                std::env::temp_dir().join(format!("fnm-example-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/examples");
            let text = fs::read_to_string(from.join(format!("{name}.sh"))).unwrap();
            Self(folder).with(name, text, programs, exchanged)
        }

        /// The same with the script that stands in a section of the cookbook.
        fn of_the_cookbook(section: &str, programs: &[&str], exchanged: &[(&str, &str)]) -> Self {
            let cookbook = Document::named(&xtask::root(), "docs/scripts.md").unwrap();
            let mut blocks = cookbook.run_by("example").filter(|block| block.section == section);
            let (Some(block), None) = (blocks.next(), blocks.next()) else {
                panic!("one block in `{section}`")
            };
            let name = section.replace(' ', "-");
            let folder =
                std::env::temp_dir().join(format!("fnm-example-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder).with(&name, block.text.clone(), programs, exchanged)
        }

        fn with(
            self,
            name: &str,
            mut text: String,
            programs: &[&str],
            exchanged: &[(&str, &str)],
        ) -> Self {
            let stage = self;
            for (word, other) in exchanged {
                assert!(text.contains(word), "`{word}` is not in {name}");
                text = text.replace(word, &other.replace("HERE", &stage.0.display().to_string()));
            }
            stage.program("script", &text);
            for program in programs {
                let called = stage.0.join("called");
                let called = called.display();
                stage.program(
                    program,
                    &format!("#!/bin/sh\n{{ echo \"{program} $*\"; cat; }} >> {called}\n"),
                );
            }
            stage
        }

        fn program(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// As the agent does: an environment of its own, and no terminal.
        fn call(&self, arguments: &str, input: &str) -> Output {
            // By the shell: a file that was just written may be busy.
            let mut child = Command::new("/bin/sh")
                .arg(self.0.join("script"))
                .args(arguments.split(' '))
                .env_clear()
                .env("PATH", format!("{}:/usr/bin:/bin", self.0.display()))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // A script need not read it.
            let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        }

        /// What the programs were called with by this call.
        #[track_caller]
        fn check(&self, arguments: &str, input: &str, expected: &str) {
            let output = self.call(arguments, input);
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{complaint}");
            let called = fs::read_to_string(self.0.join("called")).unwrap_or_default();
            assert_eq!(called, expected);
            let _none = fs::remove_file(self.0.join("called"));
        }

        #[track_caller]
        fn check_refused(&self, arguments: &str, expected: &str) {
            let output = self.call(arguments, "");
            assert!(!output.status.success());
            assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), expected);
        }
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn mail_has_the_packets_as_its_body() {
        let stage = Stage::new("mail", &["mail"], &[]);
        let subject =
            "mail -s fastnetmon: 192.0.2.7 attack_details, incoming attack with 40000 pps";
        let line = "203.0.113.1:80 > 192.0.2.7:46804 protocol: tcp size: 233 bytes\n";
        stage.check(
            "192.0.2.7 incoming 40000 attack_details",
            line,
            &format!("{subject} root\n{line}"),
        );
        stage.check_refused("192.0.2.7 incoming 40000 drop", "unknown action `drop`");
    }

    #[test]
    fn slack_is_told_and_its_address_is_no_argument() {
        let stage =
            Stage::new("slack", &["curl"], &[("/etc/fastnetmon/slack_url", "HERE/slack_url")]);
        fs::write(stage.0.join("slack_url"), "https://hooks.example/secret\n").unwrap();
        let called = |text: &str| {
            format!(
                "curl --silent --show-error --fail --max-time 10 --config - --header Content-Type: \
                 application/json --data {{\"text\":\"{text}\"}} --output /dev/null\nurl = \
                 \"https://hooks.example/secret\"\n"
            )
        };
        let banned = "192.0.2.7 is banned: incoming attack with 40000 packets a second";
        stage.check("192.0.2.7 incoming 40000 ban", "", &called(banned));
        stage.check("192.0.2.7 incoming 40000 attack_details", "packets\n", "");
        let over = "192.0.2.7 is let go: the incoming attack with 40000 packets a second is over";
        stage.check("192.0.2.7 incoming 40000 unban", "", &called(over));
    }

    #[test]
    fn nftables_has_a_set_for_each_family_and_direction() {
        let stage = Stage::new("nftables", &["nft"], &[]);
        let called = |what: &str, set: &str, ip: &str| {
            format!("nft {what} element inet fastnetmon {set} {{ {ip} }}\n")
        };
        stage.check("192.0.2.7 incoming 9 ban", "", &called("add", "incoming4", "192.0.2.7"));
        stage.check("192.0.2.7 incoming 9 attack_details", "packets\n", "");
        stage.check("192.0.2.7 incoming 9 unban", "", &called("delete", "incoming4", "192.0.2.7"));
        stage.check("2001:db8::7 outgoing 9 ban", "", &called("add", "outgoing6", "2001:db8::7"));
    }

    #[test]
    fn exabgp_is_written_a_line_and_a_pipe_without_a_reader_holds_nobody_up() {
        let stage = Stage::new(
            "exabgp",
            &[],
            &[("/run/exabgp/exabgp.in", "HERE/pipe"), ("timeout 5", "timeout 1")],
        );
        let pipe = stage.0.join("pipe");
        let told = format!("`{}` is no pipe: is ExaBGP running?", pipe.display());
        stage.check_refused("192.0.2.7 incoming 9 ban", &told);
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (arguments, expected) in [
            (
                "192.0.2.7 incoming 9 ban",
                "announce route 192.0.2.7/32 next-hop 192.0.2.1 community [65535:666]\n",
            ),
            ("192.0.2.7 incoming 9 unban", "withdraw route 192.0.2.7/32 next-hop 192.0.2.1\n"),
            (
                "2001:db8::7 incoming 9 ban",
                "announce route 2001:db8::7/128 next-hop 100::1 community [65535:666]\n",
            ),
        ] {
            let reader = {
                let pipe = pipe.clone();
                std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
            };
            stage.check(arguments, "", "");
            assert_eq!(reader.join().unwrap(), expected);
        }
        stage.check("192.0.2.7 outgoing 9 ban", "", "");
        // Nobody reads.
        assert!(!stage.call("192.0.2.7 incoming 9 ban", "").status.success());
    }

    #[test]
    fn vzctl_takes_an_address_and_gives_it_back_and_stops_who_attacks() {
        let stage = Stage::new(
            "vzctl",
            &["vzctl"],
            &[("/proc/vz/veip", "HERE/veip"), ("/var/lib/fastnetmon/vzctl", "HERE/taken")],
        );
        let table = "Version: 2.5\n                              5.1.2.4 101\n                  \
                     2001:db8:1:2:0:0:0:1 102\n";
        fs::write(stage.0.join("veip"), table).unwrap();
        stage.check("5.1.2.4 incoming 9 ban", "", "vzctl set 101 --ipdel 5.1.2.4\n");
        stage.check("5.1.2.4 incoming 9 attack_details", "packets\n", "");
        fs::write(stage.0.join("veip"), "Version: 2.5\n").unwrap();
        stage.check("5.1.2.4 incoming 9 unban", "", "vzctl set 101 --ipadd 5.1.2.4\n");
        fs::write(stage.0.join("veip"), table).unwrap();
        stage.check("5.1.2.4 outgoing 9 ban", "", "vzctl stop 101\n");
        stage.check("5.1.2.4 outgoing 9 unban", "", "");
        stage.check_refused("192.0.2.7 incoming 9 ban", "`192.0.2.7` belongs to no container");
    }

    #[test]
    fn one_script_calls_the_others_with_all_it_was_given() {
        let stage = Stage::of_the_cookbook(
            "Several scripts",
            &[],
            &[("/etc/fastnetmon/scripts.d", "HERE/scripts.d")],
        );
        fs::create_dir_all(stage.0.join("scripts.d")).unwrap();
        for (name, end) in [("1", "exit 3"), ("2", "exit 0")] {
            let called = stage.0.join("called");
            let text = format!(
                "#!/bin/sh\n{{ echo {name} \"$*\"; cat; }} >> {}\n{end}\n",
                called.display()
            );
            stage.program(&format!("scripts.d/{name}"), &text);
        }
        let output = stage.call("192.0.2.7 incoming 9 attack_details", "a packet\n");
        assert_eq!(output.status.code(), Some(3), "one that fails is told");
        let called = fs::read_to_string(stage.0.join("called")).unwrap();
        let words = "192.0.2.7 incoming 9 attack_details\na packet\n";
        assert_eq!(called, format!("1 {words}2 {words}"));
    }

    #[test]
    fn events_are_kept_in_a_file_a_day() {
        let stage = Stage::of_the_cookbook(
            "JSON",
            &["jq"],
            &[("/var/log/fastnetmon_events_", "HERE/events_")],
        );
        let output = stage.call("192.0.2.7 incoming 9 ban", "{\"event\":\"ban\"}\n");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            fs::read_to_string(stage.0.join("called")).unwrap(),
            "jq -c .\n{\"event\":\"ban\"}\n"
        );
        let is_a_day = |name: &str| name.starts_with("events_20") && name.contains(".json");
        let names = fs::read_dir(&stage.0).unwrap();
        let mut names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
        assert!(names.any(|name| is_a_day(&name)));
    }

    #[test]
    fn every_example_is_tried_and_is_a_script() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/examples");
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        // `openvz_suspend.sh` is tried in `scripts.rs`.
        let tried =
            ["exabgp.sh", "mail.sh", "nftables.sh", "openvz_suspend.sh", "slack.sh", "vzctl.sh"];
        assert_eq!(names, tried);
        for name in names {
            let path = folder.join(name);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o111, 0o111);
            let checked = Command::new("/bin/sh").arg("-n").arg(&path).status().unwrap();
            assert!(checked.success(), "{}", path.display());
        }
    }
}
