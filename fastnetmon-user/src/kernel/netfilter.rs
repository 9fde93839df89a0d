//! Which groups the rules of the firewall log to, as far as `nf_tables` knows them.
//!
//! **Invariant**: asks and changes nothing.

use std::collections::BTreeMap;
use std::io;

use rustix::net::netlink;

use crate::kernel::attributes::{attribute, half, text, whole};
use crate::kernel::netlink::{ALL, ask};

/// How many rules log to each group. Rules of the older iptables are not among them; those of
/// iptables-nft are.
///
/// # Errors
/// When we may not ask, or there is no `nf_tables`.
pub fn logged_groups() -> io::Result<BTreeMap<u16, usize>> {
    let messages = ask(Some(netlink::NETFILTER), GET_RULE, ALL, &[0; FAMILY_HEADER])?;
    let mut groups = BTreeMap::new();
    for (_, body) in messages.iter().filter(|(kind, _)| *kind == NEW_RULE) {
        for group in groups_of(body) {
            *groups.entry(group).or_default() += 1;
        }
    }
    Ok(groups)
}

/// The groups one rule logs to.
fn groups_of(rule: &[u8]) -> Vec<u16> {
    let expressions = rule.get(FAMILY_HEADER..).and_then(|rest| attribute(rest, EXPRESSIONS));
    let expressions = whole(expressions.unwrap_or_default());
    expressions.filter_map(|(_, expression)| group(expression)).collect()
}

fn group(expression: &[u8]) -> Option<u16> {
    let data = attribute(expression, DATA)?;
    match text(attribute(expression, NAME)?).as_str() {
        "log" => attribute(data, LOG_GROUP)?.first_chunk().map(|&bytes| u16::from_be_bytes(bytes)),
        // `struct xt_nflog_info` (linux/netfilter/xt_NFLOG.h): a length, then the group.
        "target" if text(attribute(data, TARGET_NAME)?) == "NFLOG" => {
            half(attribute(data, TARGET_INFO)?, 4)
        }
        _ => None,
    }
}

/// `struct nfgenmsg` (linux/netfilter/nfnetlink.h).
const FAMILY_HEADER: usize = 4;
/// `NFT_MSG_NEWRULE` and `NFT_MSG_GETRULE` of the subsystem `nf_tables`, and `NFTA_…`
/// (`linux/netfilter/nf_tables.h`, `nf_tables_compat.h`).
const NEW_RULE: u16 = 10 << 8 | 6;
const GET_RULE: u16 = 10 << 8 | 7;
const EXPRESSIONS: u16 = 4;
const NAME: u16 = 1;
const DATA: u16 = 2;
const LOG_GROUP: u16 = 1;
const TARGET_NAME: u16 = 1;
const TARGET_INFO: u16 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::attributes::put_attribute;

    fn rule(expressions: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (name, data) in expressions {
            let mut expression = Vec::new();
            put_attribute(&mut expression, NAME, format!("{name}\0").as_bytes());
            put_attribute(&mut expression, DATA, data);
            put_attribute(&mut list, 1, &expression);
        }
        let mut rule = vec![0; FAMILY_HEADER];
        put_attribute(&mut rule, 1, b"fastnetmon\0");
        put_attribute(&mut rule, EXPRESSIONS, &list);
        rule
    }

    #[test]
    fn rules_tell_their_groups_in_both_forms() {
        let mut log = Vec::new();
        put_attribute(&mut log, LOG_GROUP, &7_u16.to_be_bytes());
        let mut target = Vec::new();
        put_attribute(&mut target, TARGET_NAME, b"NFLOG\0");
        let mut info = vec![0; 80];
        info[4..6].copy_from_slice(&9_u16.to_ne_bytes());
        put_attribute(&mut target, TARGET_INFO, &info);
        // One that logs to the kernel's log has no group.
        assert!(groups_of(&rule(&[("log", vec![])])).is_empty());
        let both = rule(&[("meta", vec![]), ("log", log), ("target", target), ("accept", vec![])]);
        assert_eq!(groups_of(&both), [7, 9]);
        for cut in 0..both.len() {
            assert!(groups_of(&both[..cut]).len() <= 2);
        }
    }
}
