//! `/proc/vz/veip`: the addresses of an OpenVZ node's containers.
//!
//! First line `Version: …`, then one line a container address: right-aligned address, a blank,
//! the container's number. The first field is what counts.
//!
//! **Invariant**: a line that is no address is an error with its number, never an address guessed.

use std::net::IpAddr;

/// Reads the table. The error is the number of the bad line (from 1) and its text.
pub(super) fn parse(text: &str) -> Result<Vec<IpAddr>, (usize, String)> {
    let mut hosts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some(field) = line.split_whitespace().next() else { continue };
        if number == 0 && field.starts_with("Version") {
            continue;
        }
        let address: IpAddr = field.parse().map_err(|_no_address| (number + 1, line.to_owned()))?;
        hosts.push(address);
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_is_the_address_in_both_families() {
        let table = "Version: 2.5\n\
                     \x20                              5.1.2.4 101\n\
                     \x20                 2001:db8:1:2:0:0:0:1 101\n\n";
        let hosts: Vec<String> = parse(table).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["5.1.2.4", "2001:db8:1:2::1"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        assert_eq!(parse("Version: 2.5\n  101 5.1.2.4\n"), Err((2, "101 5.1.2.4".to_owned())));
        assert_eq!(parse(""), Ok(vec![]));
    }
}
