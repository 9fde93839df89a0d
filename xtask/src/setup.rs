//! Brings what a bare machine lacks: packages, a compiler with the sources of `core`, the linker.
//!
//! **Invariants**: says what it does before it does it; does nothing when nothing lacks, in a fraction
//! of a second; two of them at once wait for each other. Without root it changes nothing and prints
//! the commands instead.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, bail};

use crate::{
    process,
    toolchain::{LINKER_VERSION, Lack, Places, Toolchain},
};

/// What the machine has to be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Build, and run the lab and the demo.
    Building,
    /// Run every test as well: with the databases and programs that they try the agent on.
    Testing,
    /// Make packages.
    Packaging,
    /// Make packages, and install or compare them.
    Trying,
    /// All of that.
    Everything,
}

impl Purpose {
    /// Programs that are needed beside those that everything needs.
    const fn programs(self) -> &'static [&'static [(&'static str, &'static str)]] {
        match self {
            Self::Building => &[],
            Self::Testing => &[&PEERS],
            Self::Packaging => &[&PACKERS],
            Self::Trying => &[&PACKERS, &TRIERS],
            Self::Everything => &[&PEERS, &PACKERS, &TRIERS],
        }
    }
}

/// Makes this machine able to do that.
pub fn run(purpose: Purpose) -> anyhow::Result<()> {
    let begun = Instant::now();
    let places = Places::from_environment()?;
    let _alone = wait_for_others(&places)?;

    let programs = missing_packages(purpose, |name| is_on_path(name) || is_header(name));
    let lack = match Toolchain::find(&places) {
        Ok(toolchain) if programs.is_empty() => {
            let took = begun.elapsed().as_millis();
            eprintln!("setup: nothing lacks: {toolchain} ({took} ms)");
            return Ok(());
        }
        Ok(_) => None,
        Err(lack) => Some(lack),
    };
    let lacking: Vec<String> = lack
        .iter()
        .map(ToString::to_string)
        .chain(programs.iter().map(|package| format!("the package {package}")))
        .collect();
    eprintln!("setup: this machine lacks {}", lacking.join(", "));

    let needs_packages = !programs.is_empty() || !matches!(lack, None | Some(Lack::Linker(..)));
    if needs_packages {
        match Machine::look() {
            Machine::DebianAsRoot => {
                announce(Command::new("apt-get").args(["update", "--quiet"]))?;
                announce(
                    Command::new("apt-get")
                        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
                        .args(packages(&programs, lack.as_ref())?)
                        .env("DEBIAN_FRONTEND", "noninteractive"),
                )?;
            }
            Machine::Debian => bail!("{}", by_root(&packages(&programs, lack.as_ref())?)),
            Machine::Elsewhere => bail!("{}", by_hand(&places, purpose)),
        }
    }
    if let Err(Lack::Linker(llvm, prefix)) = Toolchain::find(&places) {
        install_linker(&places, llvm, &prefix)?;
    }
    let toolchain = Toolchain::find(&places).map_err(|lack| {
        anyhow::anyhow!("this machine still lacks {lack}: {}", by_hand(&places, purpose))
    })?;
    eprintln!("setup: done in {} s: {toolchain}", begun.elapsed().as_secs());
    Ok(())
}

/// Debian's compiler for its browsers: new enough, and its sources are a package too.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Programs that are needed, and the Debian package each of them is in. The last ones build the C that
/// `xsk-rs` brings (feature `af-xdp` of the agent); `clang` is also the library that reads its headers.
const PROGRAMS: [(&str, &str); 9] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("clang", "clang"),
    ("m4", "m4"),
    ("make", "make"),
    ("pkg-config", "pkg-config"),
];

/// What tests try the agent on; they start what they need by themselves, on ports of their own.
const PEERS: [(&str, &str); 13] = [
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("tmux", "tmux"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("influxd", "influxdb"),
    ("clickhouse-server", "clickhouse-server"),
    ("iptables", "iptables"),
    ("prometheus", "prometheus"),
    ("tshark", "tshark"),
    ("capinfos", "wireshark-common"),
];

/// What packages are made by, beside the tools that cargo builds.
const PACKERS: [(&str, &str); 2] = [
    ("readelf", "binutils"),
    // Without it cargo-deb names no library that the program needs, and goes on.
    ("dpkg-shlibdeps", "dpkg-dev"),
];

/// What packages are tried in, and looked into.
const TRIERS: [(&str, &str); 2] = [("mmdebstrap", "mmdebstrap"), ("rpm", "rpm")];

/// Headers the same C needs, and the one of the engine `pcap`, with their packages.
const HEADERS: [(&str, &str); 3] =
    [("libelf.h", "libelf-dev"), ("zlib.h", "zlib1g-dev"), ("pcap/pcap.h", "libpcap-dev")];

enum Machine {
    DebianAsRoot,
    Debian,
    Elsewhere,
}

impl Machine {
    fn look() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        match (is_debian(&release) && is_on_path("apt-get"), process::is_root()) {
            (true, true) => Self::DebianAsRoot,
            (true, false) => Self::Debian,
            (false, _) => Self::Elsewhere,
        }
    }
}

/// The Debian packages that bring what lacks, the linker excepted.
fn packages(programs: &[&str], lack: Option<&Lack>) -> anyhow::Result<Vec<String>> {
    let mut packages: Vec<String> = programs.iter().map(ToString::to_string).collect();
    match lack {
        None | Some(Lack::Linker(..)) => return Ok(packages),
        Some(Lack::Llvm(major)) => {
            let package = format!("llvm-{major}-dev");
            if description(&package).is_ok() {
                packages.push(package);
                return Ok(packages);
            }
            // The compiler that is here is ahead of the distribution: take Debian's own.
        }
        Some(Lack::Compiler) => {}
    }
    let description = description("rust-web-llvm").context(
        "Debian 12 has `rustc-web` in its security archive, this machine's sources do not: \
         add that archive, or run `rustup toolchain install nightly --component rust-src`",
    )?;
    let major = llvm_of_package(&description)
        .context("`apt-cache show rust-web-llvm` names no LLVM: the package has changed")?;
    packages.extend(COMPILER_PACKAGES.map(str::to_owned));
    packages.push(format!("llvm-{major}-dev"));
    Ok(packages)
}

/// What root has to do first: these packages are all that the command lacks, which `setup` alone, made
/// for building, need not be.
fn by_root(packages: &[String]) -> String {
    format!(
        "only root can install packages: type\n  \
         sudo apt-get update\n  sudo apt-get install --no-install-recommends {}\n\
         and then the same command again",
        packages.join(" ")
    )
}

/// What to do where the package tool is not ours to use.
fn by_hand(places: &Places, purpose: Purpose) -> String {
    let programs = PROGRAMS.iter().chain(purpose.programs().iter().copied().flatten());
    let programs: Vec<&str> = programs.map(|(program, _)| *program).collect();
    format!(
        "this is not Debian, so what lacks is yours to bring:\n  \
         rustup toolchain install nightly --component rust-src\n  \
         LLVM with its development files, of the major version that `rustc +nightly -vV` names,\n  \
         in /usr/lib/llvm-<major>, /usr/lib64/llvm<major> or /usr/lib/llvm<major>\n  \
         the programs {}\n  \
         the headers {}\n\
         and then the same command again, which builds bpf-linker {LINKER_VERSION} into `{}`",
        programs.join(", "),
        HEADERS.map(|(header, _)| header).join(", "),
        places.cargo_home.join("fastnetmon").display(),
    )
}

fn announce(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("setup: {}", process::line(command));
    process::run(command)
}

/// Builds the linker with the user's own cargo, into a folder that all clones share.
fn install_linker(places: &Places, major: u32, prefix: &Path) -> anyhow::Result<()> {
    let root = places.linker_root(major);
    eprintln!(
        "setup: building bpf-linker {LINKER_VERSION} for LLVM {major} into {} (about a minute)",
        root.display()
    );
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut install = Command::new(&cargo);
    process::forget_outer_cargo(&mut install);
    // The compiler beside this cargo, not rustup's choice for the folder: that might be another
    // one, which rustup then offers to bring up to date.
    let rustc = cargo.with_file_name("rustc");
    if rustc.is_file() {
        install.env("RUSTC", rustc);
    }
    install
        .args(["install", "--quiet", "bpf-linker", "--version", LINKER_VERSION, "--locked"])
        .args(["--no-default-features", "--features", &format!("llvm-{major}"), "--root"])
        .arg(&root)
        .env("LLVM_PREFIX", prefix)
        // Away from the workspace, whose settings are not meant for the linker.
        .current_dir(&places.cargo_home);
    process::run(&mut install).context("bpf-linker did not build")
}

/// Holds the lock that lets one setup at a time change this machine.
fn wait_for_others(places: &Places) -> anyhow::Result<File> {
    let folder = places.cargo_home.join("fastnetmon");
    fs::create_dir_all(&folder)
        .with_context(|| format!("`{}` could not be made", folder.display()))?;
    let path = folder.join("setup.lock");
    let lock =
        File::create(&path).with_context(|| format!("`{}` could not be opened", path.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("setup: another setup is running, waiting for it");
        lock.lock().with_context(|| format!("`{}` could not be locked", path.display()))?;
    }
    Ok(lock)
}

fn description(package: &str) -> anyhow::Result<String> {
    process::output(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
}

/// The LLVM that `rust-web-llvm` depends on; that package follows Debian's compiler.
fn llvm_of_package(description: &str) -> Option<u32> {
    let depends = description.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    depends.split(',').find_map(|dependency| dependency.trim().strip_prefix("llvm-")?.parse().ok())
}

/// The packages whose programs are not there, each once.
fn missing_packages(purpose: Purpose, is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .chain(&HEADERS)
        .chain(purpose.programs().iter().copied().flatten())
        .filter(|(name, _)| !is_there(name))
        .map(|(_, package)| *package)
        .collect();
    if !["cc", "gcc", "clang"].into_iter().any(is_there) {
        packages.extend(["gcc", "libc6-dev"]);
    }
    packages.dedup();
    packages
}

/// Whether the program is in `PATH`, or where root finds it.
fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

/// Whether C finds the header.
fn is_header(name: &str) -> bool {
    Path::new("/usr/include").join(name).is_file()
}

fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .any(|ids| ids.trim_matches('"').split_whitespace().any(|id| id == "debian"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_is_named_once() {
        assert!(missing_packages(Purpose::Building, |_| true).is_empty());
        assert_eq!(
            missing_packages(Purpose::Building, |program| !["ip", "tc", "nft"].contains(&program)),
            ["iproute2", "nftables"]
        );
        assert_eq!(
            missing_packages(Purpose::Building, |program| program != "cc"),
            Vec::<&str>::new()
        );
        assert_eq!(
            missing_packages(Purpose::Building, |name| !["clang", "zlib.h"].contains(&name)),
            ["clang", "zlib1g-dev"]
        );
        assert_eq!(
            missing_packages(Purpose::Building, |program| !["cc", "gcc", "clang"]
                .contains(&program)),
            ["clang", "gcc", "libc6-dev"]
        );
    }

    #[test]
    fn each_purpose_asks_for_its_own_programs_only() {
        let bare = |purpose| {
            missing_packages(purpose, |name| {
                PROGRAMS.iter().chain(&HEADERS).any(|(needed, _)| *needed == name)
            })
        };
        assert!(bare(Purpose::Building).is_empty());
        assert_eq!(bare(Purpose::Packaging), ["binutils", "dpkg-dev"]);
        assert_eq!(bare(Purpose::Trying), ["binutils", "dpkg-dev", "mmdebstrap", "rpm"]);
        let testing = bare(Purpose::Testing);
        assert!(testing.contains(&"chromium") && !testing.contains(&"rpm"), "{testing:?}");
        let everything = bare(Purpose::Everything);
        for packages in [bare(Purpose::Trying), testing] {
            assert!(packages.iter().all(|package| everything.contains(package)), "{packages:?}");
        }
    }

    #[test]
    fn who_may_not_install_is_told_of_all_that_the_command_needs() {
        let lacking = missing_packages(Purpose::Trying, |name| name != "rpm" && name != "m4");
        let packages: Vec<String> = lacking.into_iter().map(str::to_owned).collect();
        let advice = by_root(&packages);
        assert!(advice.contains("--no-install-recommends m4 rpm\n"), "{advice}");
        assert!(!advice.contains("setup"), "it is for building only: {advice}");
        let places = Places::from_environment().unwrap();
        for (purpose, has) in [(Purpose::Building, false), (Purpose::Packaging, true)] {
            let advice = by_hand(&places, purpose);
            assert!(advice.contains("clang, m4"), "{advice}");
            assert_eq!(advice.contains("dpkg-shlibdeps"), has, "{advice}");
        }
    }

    #[test]
    fn the_llvm_of_a_compiler_is_read_from_its_package() {
        let description = "Package: rust-web-llvm\nVersion: 1.96.0\n\
            Depends: libc6 (>= 2.34), libgcc-s1 (>= 4.2), llvm-22\n";
        assert_eq!(llvm_of_package(description), Some(22));
        assert_eq!(llvm_of_package("Depends: libc6, llvm-runtime\n"), None);
        assert_eq!(llvm_of_package("Package: rust-web-llvm\n"), None);
    }

    #[test]
    fn debian_and_what_is_made_of_it_are_known() {
        assert!(is_debian("PRETTY_NAME=\"Debian\"\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=mint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nNAME=debian-ish\n"));
        assert!(!is_debian(""));
    }
}
