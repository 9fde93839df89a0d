//! May we do what we are about to do?
//!
//! **Invariant**: asked before anything is touched, so that a missing capability is one sentence
//! and not a trail of failures.

use std::fs;

use crate::capture::EngineName;
use crate::daemon::StartError;

/// What attaching and counting needs (linux/capability.h). Before Linux 5.8 the first two are part
/// of `CAP_SYS_ADMIN`, which includes them here as well.
const NEEDED: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_NET_ADMIN", 12)];
const SYS_ADMIN: u32 = 21;
/// What packet sockets need, promiscuous mode included.
const NET_RAW: (&str, u32) = ("CAP_NET_RAW", 13);

/// Refuses to go on without them.
pub(super) fn check(engine: EngineName) -> Result<(), StartError> {
    let missing = missing_for(engine, held());
    if missing.is_empty() { Ok(()) } else { Err(StartError::Capabilities { missing }) }
}

/// What we may not do with XDP.
pub(super) fn missing_for_xdp() -> Vec<&'static str> {
    missing(held())
}

/// Without /proc the kernel's own refusal has to do.
fn held() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status).unwrap_or(u64::MAX)
}

/// Either will do for `auto`; it is XDP that should be named.
pub(super) fn missing_for(engine: EngineName, held: u64) -> Vec<&'static str> {
    let (name, number) = NET_RAW;
    let has_raw = held & (1 << number) != 0;
    let [.., (admin, admin_number)] = NEEDED;
    match engine {
        EngineName::AfPacket | EngineName::Pcap | EngineName::PfRing if !has_raw => vec![name],
        EngineName::Nflog if held & (1 << admin_number) == 0 => vec![admin],
        EngineName::Auto if !has_raw => missing(held),
        EngineName::AfPacket
        | EngineName::Pcap
        | EngineName::PfRing
        | EngineName::Nflog
        | EngineName::Auto => Vec::new(),
        EngineName::Xdp | EngineName::XdpGeneric => missing(held),
    }
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

    #[test]
    fn packet_sockets_need_less() {
        let raw = 1 << NET_RAW.1;
        assert!(missing_for(EngineName::AfPacket, raw).is_empty());
        assert_eq!(missing_for(EngineName::AfPacket, !raw), ["CAP_NET_RAW"]);
        assert_eq!(missing_for(EngineName::Pcap, !raw), ["CAP_NET_RAW"]);
        assert_eq!(missing_for(EngineName::Nflog, raw), ["CAP_NET_ADMIN"]);
        assert!(missing_for(EngineName::Nflog, 1 << 12).is_empty());
        assert!(missing_for(EngineName::Auto, raw).is_empty());
        assert!(missing_for(EngineName::Auto, !raw).is_empty());
        assert_eq!(missing_for(EngineName::Auto, 0), missing(0));
        assert_eq!(missing_for(EngineName::Xdp, raw), missing(0));
    }
}
