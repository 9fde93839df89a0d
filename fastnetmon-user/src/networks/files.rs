//! The files that name our networks, and the ones we never ban.
//!
//! **Invariant**: nothing is guessed and nothing passed over: a line is a prefix, a comment, blank,
//! or an error with file and line.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::model::Prefix;
use crate::networks::{PrefixSet, Settings, openvz};

/// Everything the files say.
#[derive(Clone, Debug, Default)]
pub struct Guarded {
    /// What is counted.
    pub ours: PrefixSet,
    /// IPv6 hosts that are listed one by one, maybe within a network that is listed as well.
    pub named: Vec<Ipv6Addr>,
    /// What is counted and never banned.
    pub whitelist: PrefixSet,
    /// Of `ours`, what the list names, as written.
    pub listed: Vec<Prefix>,
    /// Of `ours`, the addresses of an OpenVZ node's containers.
    pub containers: Vec<IpAddr>,
    /// What the operator should know.
    pub remarks: Vec<Remark>,
}

/// Something that was read and set right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remark {
    /// Host bits were set.
    Masked {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// As written.
        text: String,
        /// As taken.
        taken: Prefix,
    },
    /// Another prefix holds it already.
    Covered {
        /// The file it came from.
        file: PathBuf,
        /// What was left out.
        prefix: Prefix,
        /// What holds it.
        by: Prefix,
    },
    /// A file that may be absent is.
    NoWhitelist(PathBuf),
    /// Addresses came from an OpenVZ node's table.
    Containers {
        /// The table.
        file: PathBuf,
        /// How many.
        addresses: usize,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masked { file, line, text, taken } => {
                write!(
                    f,
                    "{}:{line}: `{text}` has host bits set, taken as `{taken}`",
                    file.display()
                )
            }
            Self::Covered { file, prefix, by } if prefix == by => {
                write!(f, "{}: `{prefix}` is given twice", file.display())
            }
            Self::Covered { file, prefix, by } => {
                write!(f, "{}: `{prefix}` lies within `{by}`", file.display())
            }
            Self::NoWhitelist(file) => {
                write!(f, "{}: no such file, so nothing is whitelisted", file.display())
            }
            Self::Containers { file, addresses } => {
                write!(f, "{}: {addresses} container addresses", file.display())
            }
        }
    }
}

/// Why the networks cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum NetworksError {
    /// A file that must be there cannot be read.
    #[error(
        "{}: {source}; put the networks to guard there, one a line, such as `192.0.2.0/24` or \
         `2001:db8::/32`",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A node's table of containers cannot be read.
    #[error(
        "{}: {source}; a file `version` beside it says that this is an OpenVZ node: let the agent \
         read the table, or set `openvz_veip = \"\"`",
        file.display()
    )]
    Table {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is a file and nothing in it.
    #[error(
        "{}: no network in it; put the networks to guard there, one a line, such as \
         `192.0.2.0/24` or `2001:db8::/32`",
        file.display()
    )]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// A line that is no network.
    #[error("{}:{line}: {reason}", file.display())]
    BadLine {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong and what was expected.
        reason: String,
    },
}

/// Reads the list, the whitelist and, on an OpenVZ node, the containers' addresses.
///
/// # Errors
/// When there is nothing to guard, or a line that cannot be read.
pub fn read(settings: &Settings) -> Result<Guarded, NetworksError> {
    let mut remarks = Vec::new();
    let containers = containers(&settings.openvz_veip, &mut remarks)?;
    let listed = match std::fs::read_to_string(&settings.list) {
        Ok(text) => lines(&settings.list, &text, &mut remarks)?,
        // A node's containers are networks enough.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !containers.is_empty() => vec![],
        Err(source) => {
            return Err(NetworksError::Unreadable { file: settings.list.clone(), source });
        }
    };
    if listed.is_empty() && containers.is_empty() {
        return Err(NetworksError::Empty { file: settings.list.clone() });
    }
    let excused = match std::fs::read_to_string(&settings.whitelist) {
        Ok(text) => lines(&settings.whitelist, &text, &mut remarks)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            remarks.push(Remark::NoWhitelist(settings.whitelist.clone()));
            vec![]
        }
        Err(source) => {
            return Err(NetworksError::Unreadable { file: settings.whitelist.clone(), source });
        }
    };
    let hosts = containers.iter().copied().map(Prefix::host);
    let ours = merged(&settings.list, listed.iter().copied().chain(hosts), &mut remarks);
    let named = named(&listed, &containers);
    let whitelist = merged(&settings.whitelist, excused, &mut remarks);
    Ok(Guarded { ours, named, whitelist, listed, containers, remarks })
}

impl Guarded {
    /// The same files with other containers.
    #[must_use]
    pub fn with(&self, containers: impl IntoIterator<Item = IpAddr>) -> Self {
        let containers: Vec<IpAddr> = containers.into_iter().collect();
        let hosts = containers.iter().copied().map(Prefix::host);
        let (ours, _covered) = PrefixSet::merged(self.listed.iter().copied().chain(hosts));
        let named = named(&self.listed, &containers);
        let (listed, whitelist) = (self.listed.clone(), self.whitelist.clone());
        Self { ours, named, whitelist, listed, containers, remarks: Vec::new() }
    }
}

fn named(listed: &[Prefix], containers: &[IpAddr]) -> Vec<Ipv6Addr> {
    let singles = listed.iter().filter(|prefix| prefix.len() == 128).map(|one| one.address());
    singles
        .chain(containers.iter().copied())
        .filter_map(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        })
        .collect()
}

fn containers(file: &Path, remarks: &mut Vec<Remark>) -> Result<Vec<IpAddr>, NetworksError> {
    let Some(hosts) = read_containers(file)? else { return Ok(vec![]) };
    remarks.push(Remark::Containers { file: file.to_owned(), addresses: hosts.len() });
    Ok(hosts)
}

/// The addresses in an OpenVZ node's table of containers; `None` on a machine that is no node.
///
/// # Errors
/// When there is a table that cannot be read.
pub fn read_containers(file: &Path) -> Result<Option<Vec<IpAddr>>, NetworksError> {
    // The node's own mark is `version`, beside the table.
    let is_node = file.parent().is_some_and(|folder| folder.join("version").exists());
    if !is_node {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file)
        .map_err(|source| NetworksError::Table { file: file.to_owned(), source })?;
    let hosts = openvz::parse(&text).map_err(|(line, text)| NetworksError::BadLine {
        file: file.to_owned(),
        line,
        reason: format!("`{text}` does not begin with a container's address"),
    })?;
    Ok(Some(hosts))
}

fn lines(file: &Path, text: &str, remarks: &mut Vec<Remark>) -> Result<Vec<Prefix>, NetworksError> {
    let mut prefixes = Vec::new();
    // Some editors begin a file with a mark of its encoding.
    let text = text.trim_start_matches('\u{feff}');
    for (number, line) in text.lines().enumerate() {
        let written = line.split('#').next().unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        let (prefix, masked) =
            Prefix::parse_masked(written).map_err(|error| NetworksError::BadLine {
                file: file.to_owned(),
                line: number + 1,
                reason: error.to_string(),
            })?;
        if masked {
            remarks.push(Remark::Masked {
                file: file.to_owned(),
                line: number + 1,
                text: written.to_owned(),
                taken: prefix,
            });
        }
        prefixes.push(prefix);
    }
    Ok(prefixes)
}

fn merged(
    file: &Path,
    prefixes: impl IntoIterator<Item = Prefix>,
    remarks: &mut Vec<Remark>,
) -> PrefixSet {
    let (set, covered) = PrefixSet::merged(prefixes);
    remarks.extend(covered.into_iter().map(|covered| Remark::Covered {
        file: file.to_owned(),
        prefix: covered.prefix,
        by: covered.by,
    }));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[&str], &str>, remarks: &[&str]) {
        let mut told = Vec::new();
        let result = lines(Path::new("list"), text, &mut told)
            .map(|prefixes| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>())
            .map_err(|error| error.to_string());
        let expected = expected
            .map(|lines| lines.iter().map(ToString::to_string).collect())
            .map_err(ToOwned::to_owned);
        assert_eq!(result, expected);
        assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), remarks);
    }

    #[test]
    fn comments_blank_lines_and_bare_addresses_are_read() {
        check(
            "# ours\n\n192.0.2.0/24 # customers\r\n  198.51.100.7\n2001:db8::/32\n",
            Ok(&["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"]),
            &[],
        );
    }

    #[test]
    fn host_bits_are_told_with_their_line() {
        check(
            "192.0.2.0/24\n10.0.0.1/8\n",
            Ok(&["192.0.2.0/24", "10.0.0.0/8"]),
            &["list:2: `10.0.0.1/8` has host bits set, taken as `10.0.0.0/8`"],
        );
    }

    #[test]
    fn a_bad_line_is_an_error_with_its_number() {
        check(
            "192.0.2.0/24\n192.0.2.0/33\n",
            Err("list:2: `192.0.2.0/33` is not an address or a network: write it as \
                 `192.0.2.0/24` or `2001:db8::/32`"),
            &[],
        );
    }
}
