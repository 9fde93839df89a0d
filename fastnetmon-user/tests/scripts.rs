//! The scripts that come along, run as an operator or the agent would.

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the test runs the scripts")]

    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder with a program in it that writes down how it was called.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path =
                std::env::temp_dir().join(format!("fnm-script-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            let recorder = path.join("recorder");
            let calls = path.join("calls");
            fs::write(&recorder, format!("#!/bin/sh\necho \"$*\" >> {}\n", calls.display()))
                .unwrap();
            fs::set_permissions(&recorder, fs::Permissions::from_mode(0o755)).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap_or_default()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn script(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name)
    }

    fn run(command: &mut Command, input: &str) -> Output {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A script need not read it.
        let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    #[test]
    fn irq_balance_is_tune_for_one_interface() {
        let folder = Folder::new();
        let balance = |arguments: &[&str]| {
            let mut command = Command::new(script("irq_balance.sh"));
            run(command.args(arguments).env("FASTNETMON", folder.path("recorder")), "")
        };
        assert!(balance(&["eth 0"]).status.success());
        assert_eq!(folder.read("calls"), "tune --apply --only irq --interface eth 0\n");
        for wrong in [&[][..], &[""], &["eth0", "eth1"]] {
            let output = balance(wrong);
            assert_eq!(output.status.code(), Some(2), "{wrong:?}");
            assert!(String::from_utf8(output.stderr).unwrap().starts_with("usage: "));
        }
    }

    #[test]
    fn a_container_is_suspended_and_resumed_by_its_address() {
        let folder = Folder::new();
        let veip = folder.path("veip");
        let table = "Version: 2.5\n                                5.1.2.4 101\n                  \
                     2001:db8:1:2:0:0:0:1 102\n";
        fs::write(&veip, table).unwrap();
        let call = |ip: &str, action: &str, input: &str| {
            let mut command = Command::new(script("examples/openvz_suspend.sh"));
            command
                .args([ip, "incoming", "40000", action])
                .env("VEIP", &veip)
                .env("VZCTL", folder.path("recorder"))
                .env("LOG", folder.path("log"));
            let output = run(&mut command, input);
            assert!(output.status.success(), "{output:?}");
        };
        for (ip, container) in [("5.1.2.4", "101"), ("2001:db8:1:2::1", "102")] {
            fs::write(&veip, table).unwrap();
            call(ip, "ban", "");
            // Suspended, it leaves the table.
            fs::write(&veip, "Version: 2.5\n").unwrap();
            call(ip, "attack_details", "203.0.113.9:1 > 5.1.2.4:2 protocol: udp size: 46 bytes\n");
            call(ip, "unban", "");
            call(ip, "unban", "");
            let calls = folder.read("calls");
            assert_eq!(calls, format!("suspend {container}\nresume {container}\n"));
            fs::remove_file(folder.path("calls")).unwrap();
        }
        call("5.1.2.5", "ban", "");
        assert_eq!(folder.read("calls"), "");
        let log = folder.read("log");
        assert!(log.contains("5.1.2.5 incoming 40000 pps: no container has this address"), "{log}");
        assert!(log.contains("203.0.113.9:1 > 5.1.2.4:2 protocol: udp"), "{log}");
    }
}
