//! Finds the compiler and the linker that can make kernel programs.
//!
//! **Invariants**: installs nothing. The linker belongs to the LLVM of the compiler, so a distribution
//! that moves one of them is noticed here, not in the middle of a build.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::process;

/// The linker's release; the major version of LLVM it is built for is the compiler's.
pub const LINKER_VERSION: &str = "0.13.0";

/// What the linker's release can be built for.
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// A compiler that has the sources of `core`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    rustc: PathBuf,
    version: Version,
}

/// What `rustc -vV` says of itself, as far as we care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As in `1.97.0-nightly`.
    pub release: String,
    /// The major version of its LLVM.
    pub llvm: u32,
}

/// A compiler, the cargo beside it and the linker for its LLVM, all of them there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// The cargo that came with it.
    pub cargo: PathBuf,
    /// `bpf-linker` for its LLVM.
    pub linker: PathBuf,
    /// What the compiler says of itself.
    pub version: Version,
}

/// The first piece that lacks on the way to a [`Toolchain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// No compiler with the sources of `core`, or only ones whose LLVM has no linker.
    Compiler,
    /// The development files of this LLVM, with which the linker is built.
    Llvm(u32),
    /// The linker for this LLVM, found in that folder.
    Linker(u32, PathBuf),
}

/// Where cargo and rustup keep their things.
#[derive(Debug, Clone)]
pub struct Places {
    /// `CARGO_HOME`, or `.cargo` in the home folder.
    pub cargo_home: PathBuf,
    rustup_home: PathBuf,
}

impl Toolchain {
    /// The best toolchain that lacks nothing, or what the most promising one lacks.
    pub fn find(places: &Places) -> Result<Self, Lack> {
        let compilers = compilers(places);
        for compiler in &compilers {
            let linker = places.linker(compiler.version.llvm);
            if linker.is_file() {
                return Ok(Self {
                    rustc: compiler.rustc.clone(),
                    cargo: compiler.rustc.with_file_name("cargo"),
                    linker,
                    version: compiler.version.clone(),
                });
            }
        }
        for compiler in &compilers {
            if let Some(prefix) = llvm_prefix(compiler.version.llvm) {
                return Err(Lack::Linker(compiler.version.llvm, prefix));
            }
        }
        Err(compilers.first().map_or(Lack::Compiler, |first| Lack::Llvm(first.version.llvm)))
    }

    /// Whether the compiler takes unstable options without being asked twice.
    pub fn is_nightly(&self) -> bool {
        self.version.release.contains("nightly") || self.version.release.contains("dev")
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rustc, version, .. } = self;
        let Version { release, llvm } = version;
        write!(f, "rustc {release} ({}), LLVM {llvm}, bpf-linker {LINKER_VERSION}", rustc.display())
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => write!(
                f,
                "a rustc that has the sources of core (`rust-src`) and an LLVM from {} to {}",
                LINKER_LLVM.start(),
                LINKER_LLVM.end()
            ),
            Self::Llvm(major) => write!(f, "the development files of LLVM {major}"),
            Self::Linker(major, _) => write!(f, "bpf-linker {LINKER_VERSION} for LLVM {major}"),
        }
    }
}

impl Version {
    /// Reads what `rustc -vV` printed.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let release = field("release:")?.to_owned();
        let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
        Some(Self { release, llvm })
    }
}

impl Places {
    /// The places as the environment names them.
    pub fn from_environment() -> anyhow::Result<Self> {
        let home = || {
            std::env::home_dir()
                .context("there is no home folder: set HOME, or CARGO_HOME and RUSTUP_HOME")
        };
        let place = |name: &str, folder: &str| match std::env::var_os(name) {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => home().map(|home| home.join(folder)),
        };
        Ok(Self {
            cargo_home: place("CARGO_HOME", ".cargo")?,
            rustup_home: place("RUSTUP_HOME", ".rustup")?,
        })
    }

    /// Where the linker for this LLVM is installed; outside the workspace, so that clones share it.
    pub fn linker_root(&self, llvm: u32) -> PathBuf {
        self.cargo_home.join("fastnetmon").join(format!("bpf-linker-{LINKER_VERSION}-llvm{llvm}"))
    }

    fn linker(&self, llvm: u32) -> PathBuf {
        self.linker_root(llvm).join("bin/bpf-linker")
    }

    /// The compilers worth asking, best first: a nightly needs no persuasion.
    fn candidates(&self) -> Vec<PathBuf> {
        let toolchains = self.rustup_home.join("toolchains");
        let mut names: Vec<String> = std::fs::read_dir(&toolchains)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        let starting_with = |start: &'static str| {
            let toolchains = toolchains.clone();
            names
                .iter()
                .filter(move |name| name.starts_with(start))
                .map(move |name| toolchains.join(name).join("bin/rustc"))
        };
        starting_with("nightly")
            .chain(starting_with("stable"))
            .chain([PathBuf::from("/usr/bin/rustc")])
            .collect()
    }
}

/// Where the development files of this LLVM lie, by the layouts of Debian, Fedora and Alpine.
pub fn llvm_prefix(major: u32) -> Option<PathBuf> {
    [
        format!("/usr/lib/llvm-{major}"),
        format!("/usr/lib64/llvm{major}"),
        format!("/usr/lib/llvm{major}"),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|prefix| prefix.join("bin/llvm-config").exists())
}

/// The compilers that can build `core` for another target and whose LLVM our linker knows.
fn compilers(places: &Places) -> Vec<Compiler> {
    places.candidates().into_iter().filter_map(compiler).collect()
}

fn compiler(rustc: PathBuf) -> Option<Compiler> {
    // A look at the folder costs nothing, so the compiler is asked only when that looks good.
    if !has_core_sources(rustc.parent()?.parent()?) || !rustc.with_file_name("cargo").is_file() {
        return None;
    }
    let mut question = Command::new(&rustc);
    process::forget_outer_cargo(&mut question);
    let answer = process::output(question.arg("-vV")).ok()?;
    let version = Version::parse(&answer)?;
    LINKER_LLVM.contains(&version.llvm).then_some(Compiler { rustc, version })
}

fn has_core_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_rustc_prints() {
        let stable = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
            binary: rustc\ncommit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\n\
            commit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\n\
            LLVM version: 22.1.8\n";
        assert_eq!(Version::parse(stable), Some(Version { release: "1.96.0".into(), llvm: 22 }));
        let nightly = "release: 1.97.0-nightly\nLLVM version: 23.0.0-rc2\n";
        assert_eq!(
            Version::parse(nightly),
            Some(Version { release: "1.97.0-nightly".into(), llvm: 23 })
        );
    }

    #[test]
    fn an_answer_without_llvm_is_no_version() {
        for text in
            ["", "release: 1.96.0\n", "LLVM version: 22.1.8\n", "release: x\nLLVM version: y"]
        {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_linker_of_each_llvm_has_its_own_folder() {
        let places = Places { cargo_home: "/c".into(), rustup_home: "/r".into() };
        assert_eq!(
            places.linker(22),
            Path::new("/c/fastnetmon/bpf-linker-0.13.0-llvm22/bin/bpf-linker")
        );
    }

    #[test]
    fn a_machine_without_anything_lacks_a_compiler_first() {
        let places = Places { cargo_home: "/none".into(), rustup_home: "/none".into() };
        assert_eq!(places.candidates(), [PathBuf::from("/usr/bin/rustc")]);
        assert_eq!(
            Lack::Compiler.to_string(),
            "a rustc that has the sources of core (`rust-src`) and an LLVM from 21 to 23"
        );
    }
}
