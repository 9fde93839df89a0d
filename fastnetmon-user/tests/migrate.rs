//! `fastnetmon migrate` as an operator runs it.

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the test runs the program")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fnm-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn fastnetmon(arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fastnetmon")).args(arguments).output().unwrap()
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    #[test]
    fn what_is_written_passes_the_check_and_is_never_written_over() {
        let folder = Folder::new("migrate");
        let (theirs, ours) = (folder.path("theirs"), folder.path("ours.conf"));
        fs::write(folder.path("list"), "192.0.2.0/24\n").unwrap();
        fs::write(folder.path("white"), "").unwrap();
        let lines = format!(
            "networks_list_path = {}\nwhite_list_path = {}\nthreshold_pps = 45678\n",
            folder.path("list").display(),
            folder.path("white").display()
        );
        fs::write(&theirs, lines).unwrap();
        let output = fastnetmon(&["migrate", text(&theirs), "--output", text(&ours)]);
        assert!(output.status.success(), "{output:?}");
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(report.contains("Honoured (3):"), "{report}");
        assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o640);
        let checked = fastnetmon(&["check", "--config", text(&ours)]);
        assert!(checked.status.success(), "{checked:?}");
        assert!(String::from_utf8(checked.stdout).unwrap().contains("pps = 45678"));

        let again = fastnetmon(&["migrate", text(&theirs), "--output", text(&ours)]);
        assert_eq!(again.status.code(), Some(2));
        let complaint = String::from_utf8(again.stderr).unwrap();
        assert!(complaint.contains("is there already and is not written over"), "{complaint}");
        let ours_again = fastnetmon(&["migrate", text(&ours)]);
        assert_eq!(ours_again.status.code(), Some(2));
        let complaint = String::from_utf8(ours_again.stderr).unwrap();
        assert!(complaint.contains("is in the new form already"), "{complaint}");
    }

    #[test]
    fn programs_read_what_became_of_each_key() {
        let sample =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/legacy_conf/2026-07.conf");
        let output = fastnetmon(&["migrate", text(&sample), "--json"]);
        assert!(output.status.success(), "{output:?}");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let keys = told["keys"].as_array().unwrap();
        let threshold = keys.iter().find(|key| key["key"] == "threshold_pps").unwrap();
        assert_eq!(threshold["outcome"], "honoured");
        assert_eq!(threshold["to"], serde_json::json!(["thresholds.pps"]));
        assert!(told["toml"].as_str().unwrap().contains("pps = 20000"));
    }
}
