//! One commit, made twice, gives the same bytes; where it does not, the first file that differs is
//! named.
//!
//! **Invariant**: the second time is in another folder, from a clone of the commit, with nothing of the
//! first time but the compiler and the sources in cargo's home.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use xtask::{object, process};

use super::{Packages, Scope, commit_time, make, pack_static};

/// Builds everything a second time and compares.
pub(crate) fn build(root: &Path, first: &Packages, scope: Scope) -> anyhow::Result<()> {
    let begun = Instant::now();
    let other = clone(root)?;
    let second = make(&other, scope)?;
    let pairs: Vec<_> = first.all().zip(second.all()).collect();
    ensure!(first.all().count() == second.all().count(), "the second time made other packages");
    for (first, second) in pairs {
        compare(first, second)?;
    }
    fs::remove_dir_all(&other)?;
    println!("package: built twice, the same to the byte ({} s)", begun.elapsed().as_secs());
    Ok(())
}

/// What costs little: the kernel programs built a second time elsewhere, and the tarball packed a second
/// time from the same binary.
pub(crate) fn pack(root: &Path, first: &Packages) -> anyhow::Result<()> {
    let begun = Instant::now();
    let other = copy(root)?;
    let (one, two) = (object::build(root, &[])?, object::build(&other, &[])?);
    if let Some(at) = first_byte(&fs::read(&one)?, &fs::read(&two)?) {
        bail!(
            "the kernel programs differ from byte {at} on when they are built in `{}`",
            other.display()
        );
    }
    let out = other.join("target/package");
    fs::create_dir_all(&out)?;
    let binary = root.join("target/package/stage-static/usr/bin/fastnetmon");
    let second = pack_static(&other, &out, &binary, commit_time(root)?)?;
    compare(&first.tarball, &second)?;
    fs::remove_dir_all(&other)?;
    println!("package: packed twice, the same to the byte ({} s)", begun.elapsed().as_secs());
    Ok(())
}

/// What git knows of, as it stands, elsewhere: changes may be tried before they are a commit.
fn copy(root: &Path) -> anyhow::Result<PathBuf> {
    let other = elsewhere(root)?;
    let mut list = Command::new("git");
    list.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    for name in process::output(&mut list)?.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root.join(name), other.join(name));
        // Taken away, and not yet told to git.
        if !from.is_file() {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(&from, &to).with_context(|| format!("`{name}` cannot be copied"))?;
    }
    Ok(other)
}

/// An empty folder, somewhere else.
fn elsewhere(root: &Path) -> anyhow::Result<PathBuf> {
    let other = root.join("target/package/another/folder");
    if other.exists() {
        fs::remove_dir_all(&other)?;
    }
    Ok(other)
}

/// The commit, elsewhere.
fn clone(root: &Path) -> anyhow::Result<PathBuf> {
    let mut changed = Command::new("git");
    changed.current_dir(root).args(["status", "--porcelain", "--untracked-files=no"]);
    let changed = process::output(&mut changed)?;
    ensure!(
        changed.is_empty(),
        "a second build is made of the commit, and these files differ from it: commit them first\n{changed}"
    );
    let other = elsewhere(root)?;
    process::run(Command::new("git").args(["clone", "--quiet"]).arg(root).arg(&other))?;
    Ok(other)
}

fn compare(first: &Path, second: &Path) -> anyhow::Result<()> {
    let name = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (one, two) = (fs::read(first)?, fs::read(second)?);
    let Some(at) = first_byte(&one, &two) else {
        println!("package: {name} is the same, made twice ({} bytes)", one.len());
        return Ok(());
    };
    let what =
        inside(first, second)?.unwrap_or_else(|| "only the package's own headers".to_owned());
    bail!(
        "`{name}` differs from byte {at} on when it is made twice: {what}\n  {}\n  {}",
        first.display(),
        second.display()
    )
}

/// What differs in two packages of a kind.
fn inside(first: &Path, second: &Path) -> anyhow::Result<Option<String>> {
    let is = |ending: &str| first.extension().is_some_and(|extension| extension == ending);
    if is("rpm") {
        let list = |package: &Path| {
            process::output(
                Command::new("rpm").args(["--query", "--dump", "--package"]).arg(package),
            )
        };
        return Ok(first_line(&list(first)?, &list(second)?));
    }
    let unpacked = |package: &Path| -> anyhow::Result<PathBuf> {
        let mut folder = package.as_os_str().to_owned();
        folder.push(".unpacked");
        let folder = PathBuf::from(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        if is("deb") {
            process::run(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&folder))?;
        } else {
            let mut tar = Command::new("tar");
            process::run(tar.arg("--extract").arg("--file").arg(package).arg("-C").arg(&folder))?;
        }
        Ok(folder)
    };
    first_file(&unpacked(first)?, &unpacked(second)?)
}

/// The path at the begin of the first line that differs.
fn first_line(one: &str, two: &str) -> Option<String> {
    let (mut left, mut right) = (one.lines(), two.lines());
    loop {
        let (left, right) = (left.next(), right.next());
        let line = left.or(right)?;
        if left != right {
            return line.split(' ').next().map(ToOwned::to_owned);
        }
    }
}

/// The first file, by name, that is not the same in both folders.
fn first_file(one: &Path, two: &Path) -> anyhow::Result<Option<String>> {
    let (mut files, mut others) = (BTreeSet::new(), BTreeSet::new());
    list(one, Path::new(""), &mut files)?;
    list(two, Path::new(""), &mut others)?;
    if let Some(alone) = files.symmetric_difference(&others).next() {
        return Ok(Some(format!("`{}` is in one of them only", alone.display())));
    }
    for file in &files {
        let (left, right) = (one.join(file), two.join(file));
        let mode = |path: &Path| fs::metadata(path).map(|file| file.permissions().mode());
        if mode(&left)? != mode(&right)? {
            return Ok(Some(format!("`{}` has another mode", file.display())));
        }
        if let Some(at) = first_byte(&fs::read(&left)?, &fs::read(&right)?) {
            return Ok(Some(format!("`{}`, from its byte {at} on", file.display())));
        }
    }
    Ok(None)
}

fn list(root: &Path, below: &Path, into: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    let folder = root.join(below);
    let entries = fs::read_dir(&folder)
        .with_context(|| format!("`{}` cannot be listed", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, into)?;
        } else {
            into.insert(path);
        }
    }
    Ok(())
}

/// Where two texts part.
fn first_byte(one: &[u8], two: &[u8]) -> Option<usize> {
    let parted = one.iter().zip(two).position(|(left, right)| left != right);
    parted.or_else(|| (one.len() != two.len()).then(|| one.len().min(two.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_is_found() {
        for (one, two, expected) in [
            ("", "", None),
            ("abc", "abc", None),
            ("abc", "abd", Some(2)),
            ("abc", "ab", Some(2)),
            ("", "a", Some(0)),
        ] {
            assert_eq!(first_byte(one.as_bytes(), two.as_bytes()), expected, "{one} {two}");
        }
    }

    #[test]
    fn the_first_line_that_differs_is_told_by_its_path() {
        let list = "/etc/a 1 x\n/usr/b 2 y\n";
        assert_eq!(first_line(list, list), None);
        assert_eq!(first_line(list, "/etc/a 1 x\n/usr/b 2 z\n"), Some("/usr/b".to_owned()));
        assert_eq!(first_line(list, "/etc/a 1 x\n"), Some("/usr/b".to_owned()));
    }

    #[test]
    fn the_first_file_that_differs_is_named() {
        let folder = std::env::temp_dir().join(format!("fnm-twice-{}", std::process::id()));
        let (one, two) = (folder.join("one"), folder.join("two"));
        for side in [&one, &two] {
            fs::create_dir_all(side.join("usr/bin")).unwrap();
            fs::write(side.join("usr/bin/b"), "same").unwrap();
            fs::write(side.join("a"), "same").unwrap();
        }
        let found = || first_file(&one, &two).unwrap();
        assert_eq!(found(), None);
        fs::set_permissions(two.join("usr/bin/b"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(found().unwrap(), "`usr/bin/b` has another mode");
        fs::write(two.join("a"), "sane").unwrap();
        assert_eq!(found().unwrap(), "`a`, from its byte 2 on");
        fs::write(one.join("z"), "").unwrap();
        assert_eq!(found().unwrap(), "`z` is in one of them only");
        fs::remove_dir_all(&folder).unwrap();
    }
}
