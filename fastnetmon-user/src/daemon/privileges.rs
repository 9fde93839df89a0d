//! May we do what we are about to do?
//!
//! **Invariant**: asked before anything is touched, so that a missing capability is one sentence
//! and not a trail of failures.

use std::fs;

use crate::daemon::StartError;

/// What attaching and counting needs (linux/capability.h). Before Linux 5.8 the first two are part
/// of `CAP_SYS_ADMIN`, which includes them here as well.
const NEEDED: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_NET_ADMIN", 12)];
const SYS_ADMIN: u32 = 21;

/// Refuses to go on without them.
pub(super) fn check() -> Result<(), StartError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Without /proc the kernel's own refusal has to do.
    let Some(held) = effective(&status) else { return Ok(()) };
    let missing = missing(held);
    if missing.is_empty() { Ok(()) } else { Err(StartError::Capabilities { missing }) }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(held: u64) -> Vec<&'static str> {
    let has = |number: u32| held & (1 << number) != 0;
    NEEDED
        .iter()
        .filter(|&&(name, number)| {
            let included = has(SYS_ADMIN) && name != "CAP_NET_ADMIN";
            !has(number) && !included
        })
        .map(|&(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let root = effective("Name:\tx\nCapEff:\t000001ffffffffff\n").unwrap();
        assert!(missing(root).is_empty());
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << 39 | 1 << 12), ["CAP_PERFMON"]);
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
