//! What is installed, and where: one table for all formats.
//!
//! **Invariant**: a path or a mode stands here and nowhere else.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use xtask::process;

use super::links::{self, Targets};
use crate::changelog;

/// Files of the repository: from where, to where, with which mode.
const FILES: [(&str, &str, u32); 16] = [
    ("fastnetmon.conf", "etc/fastnetmon.conf", 0o644),
    ("scripts/notify_about_attack.sh", "usr/share/fastnetmon/notify_about_attack.sh", 0o755),
    ("scripts/irq_balance.sh", "usr/share/fastnetmon/irq_balance.sh", 0o755),
    ("packaging/grafana/fastnetmon.json", "usr/share/doc/fastnetmon/grafana.json", 0o644),
    ("packaging/systemd/fastnetmon.service", "usr/lib/systemd/system/fastnetmon.service", 0o644),
    ("packaging/sysusers.d/fastnetmon.conf", "usr/lib/sysusers.d/fastnetmon.conf", 0o644),
    ("packaging/tmpfiles.d/fastnetmon.conf", "usr/lib/tmpfiles.d/fastnetmon.conf", 0o644),
    ("packaging/logrotate.d/fastnetmon", "etc/logrotate.d/fastnetmon", 0o644),
    ("packaging/examples/networks_list", "usr/share/doc/fastnetmon/examples/networks_list", 0o644),
    (
        "packaging/examples/networks_whitelist",
        "usr/share/doc/fastnetmon/examples/networks_whitelist",
        0o644,
    ),
    ("README.md", "usr/share/doc/fastnetmon/README.md", 0o644),
    ("SECURITY.md", "usr/share/doc/fastnetmon/SECURITY.md", 0o644),
    ("LICENSE", "usr/share/doc/fastnetmon/LICENSE", 0o644),
    ("LICENSE-APACHE", "usr/share/doc/fastnetmon/LICENSE-APACHE", 0o644),
    ("LICENSE-MIT", "usr/share/doc/fastnetmon/LICENSE-MIT", 0o644),
    ("NOTICE", "usr/share/doc/fastnetmon/NOTICE", 0o644),
];

/// Folders of which everything that ends so is installed: from, the end, to, mode.
const FOLDERS: [(&str, &str, &str, u32); 4] = [
    ("docs", ".md", "usr/share/doc/fastnetmon", 0o644),
    ("docs", ".png", "usr/share/doc/fastnetmon", 0o644),
    ("docs", ".schema.json", "usr/share/doc/fastnetmon", 0o644),
    ("scripts/examples", ".sh", "usr/share/fastnetmon", 0o755),
];

/// Decisions, which are not installed.
const DECISIONS: &str = "docs/adr";

/// The changelog, which is put together.
const CHANGELOG: (&str, &str) = ("CHANGELOG.md", "usr/share/doc/fastnetmon/CHANGELOG.md");

/// Shells, and where each looks for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/fastnetmon"),
    ("fish", "usr/share/fish/vendor_completions.d/fastnetmon.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_fastnetmon"),
];

/// Lays everything out under `stage`, which is made anew, and returns it.
pub(super) fn lay_out(
    root: &Path,
    stage: &Path,
    binary: &Path,
    bill: &Path,
) -> anyhow::Result<PathBuf> {
    if stage.exists() {
        fs::remove_dir_all(stage)?;
    }
    let files = files(root)?;
    let mut places: BTreeMap<PathBuf, PathBuf> =
        files.iter().map(|(from, (to, _))| (from.clone(), to.clone())).collect();
    places.extend(FOLDERS.map(|(from, _, to, _)| (from.into(), to.into())));
    places.insert(CHANGELOG.0.into(), CHANGELOG.1.into());
    let targets = Targets { places, titles: titles(root)? };
    let write_text = |text: &str, from: &Path, to: &Path, mode| {
        write(&stage.join(to), links::moved(text, from, to, &targets)?.as_bytes(), mode)
    };
    for (from, (to, mode)) in &files {
        if from.extension().is_some_and(|extension| extension == "md") {
            write_text(&fs::read_to_string(root.join(from))?, from, to, *mode)?;
        } else {
            place(&root.join(from), &stage.join(to), *mode)?;
        }
    }
    let changelog = changelog::collected(root)?;
    write_text(&changelog, Path::new(CHANGELOG.0), Path::new(CHANGELOG.1), 0o644)?;
    place(bill, &stage.join("usr/share/doc/fastnetmon/sbom.cdx.json"), 0o644)?;
    place(binary, &stage.join("usr/bin/fastnetmon"), 0o755)?;
    for (shell, to) in COMPLETIONS {
        let text = process::output(Command::new(binary).args(["completions", shell]))?;
        write(&stage.join(to), text.as_bytes(), 0o644)?;
    }
    let pages = stage.join("usr/share/man/man1");
    process::run(Command::new(binary).arg("man").arg(&pages))?;
    let mut compress = Command::new("gzip");
    compress.args(["--best", "--no-name"]);
    for page in fs::read_dir(&pages)? {
        compress.arg(page?.path());
    }
    process::run(&mut compress)?;
    for page in fs::read_dir(&pages)? {
        fs::set_permissions(page?.path(), fs::Permissions::from_mode(0o644))?;
    }
    Ok(stage.to_owned())
}

/// What is installed as it is in the repository: from where, to where, with which mode.
fn files(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, (PathBuf, u32)>> {
    let mut files: BTreeMap<PathBuf, (PathBuf, u32)> =
        FILES.iter().map(|&(from, to, mode)| (from.into(), (to.into(), mode))).collect();
    for (from, end, to, mode) in FOLDERS {
        for entry in fs::read_dir(root.join(from))? {
            let name = entry?.file_name();
            if name.to_string_lossy().ends_with(end) {
                files.insert(Path::new(from).join(&name), (Path::new(to).join(&name), mode));
            }
        }
    }
    Ok(files)
}

/// What each decision says at its head, after its number.
fn titles(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mut titles = BTreeMap::new();
    for entry in fs::read_dir(root.join(DECISIONS))? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        let head = text.lines().next().and_then(|line| line.strip_prefix("# "));
        if let Some((_number, title)) = head.and_then(|head| head.split_once(": ")) {
            titles.insert(Path::new(DECISIONS).join(entry.file_name()), title.to_owned());
        }
    }
    Ok(titles)
}

fn place(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    let bytes = fs::read(from).with_context(|| format!("`{}` cannot be packed", from.display()))?;
    write(to, &bytes, mode)
}

fn write(to: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, bytes).with_context(|| format!("`{}` cannot be written", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy;

    /// Instead of the agent: a program that answers what is asked of it here.
    fn agent(folder: &Path) -> PathBuf {
        let path = folder.join("agent");
        let text = "#!/bin/sh\ncase $1 in\ncompletions) echo complete ;;\nman) mkdir -p \"$2\" && echo page > \
                    \"$2/agent.1\" ;;\nesac\n";
        write(&path, text.as_bytes(), 0o755).unwrap();
        path
    }

    #[test]
    fn texts_examples_and_what_is_not_released_are_installed() {
        let folder = std::env::temp_dir().join(format!("fnm-stage-{}", std::process::id()));
        let agent = agent(&folder);
        let stage = lay_out(&xtask::root(), &folder.join("stage"), &agent, &agent).unwrap();
        let documents = stage.join("usr/share/doc/fastnetmon");
        for name in
            ["configuration.md", "exports.md", "fastnetmon.schema.json", "README.md", "SECURITY.md"]
        {
            assert!(documents.join(name).is_file(), "{name}");
        }
        let changelog = fs::read_to_string(documents.join("CHANGELOG.md")).unwrap();
        assert!(changelog.contains("### Added"), "{changelog}");
        for name in ["mail.sh", "slack.sh", "nftables.sh", "exabgp.sh", "vzctl.sh"] {
            let script = fs::metadata(stage.join("usr/share/fastnetmon").join(name)).unwrap();
            assert_eq!(script.permissions().mode() & 0o777, 0o755, "{name}");
        }
        let mut links = 0;
        for entry in fs::read_dir(&documents).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                links += text.matches("](").count();
                let here = path.strip_prefix(&stage).unwrap();
                let dead = tidy::dead_links(here, &text, |target| stage.join(target).exists());
                assert!(dead.is_empty(), "{dead:#?}");
            }
        }
        assert!(links > 100, "{links}");
        let scripts = fs::read_to_string(documents.join("scripts.md")).unwrap();
        assert!(scripts.contains("](../../fastnetmon/mail.sh)"), "{scripts}");
        let architecture = fs::read_to_string(documents.join("architecture.md")).unwrap();
        let gate = "See ADR 0030, \"The gate: deadlines in the kernel, whole packets read twice\".";
        assert!(architecture.contains(gate), "{architecture}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
