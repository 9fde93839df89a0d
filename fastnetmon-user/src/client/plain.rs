//! The first FastNetMon's screen, as text.
//!
//! **Invariant**: layout is a contract (tabs, capitals, the blanks around `*banned*`); scripts read
//! it.

use std::fmt::{self, Write as _};

use crate::control::{Ban, Dropping, Host, Status, Traffic};

/// By what hosts are ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// By packets a second.
    Packets,
    /// By bits a second.
    Bytes,
}

impl Order {
    const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
        }
    }
}

/// The screen.
#[derive(Clone, Copy, Debug)]
pub struct Screen<'a> {
    /// What is shown.
    pub status: &'a Status,
    /// In which order.
    pub order: Order,
    /// Hosts in each table, at most.
    pub rows: usize,
}

impl fmt::Display for Screen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { version, totals, packets, bans, hosts, alarms, .. } = self.status;
        let (incoming, outgoing) = match self.order {
            Order::Packets => (&hosts.incoming_packets, &hosts.outgoing_packets),
            Order::Bytes => (&hosts.incoming_bytes, &hosts.outgoing_bytes),
        };
        writeln!(f, "FastNetMon v{version} all IPs ordered by: {}\n", self.order.name())?;
        table(f, "Incoming Traffic", totals.incoming, incoming, self.rows)?;
        table(f, "Outgoing traffic", totals.outgoing, outgoing, self.rows)?;
        writeln!(f, "Internal traffic\t{} pps\n", totals.internal.pps)?;
        writeln!(f, "Other traffic\t\t{} pps\n", totals.other.pps)?;
        writeln!(f, "Packets received:\t{}", packets.received)?;
        writeln!(f, "Packets dropped:\t{}", packets.dropped)?;
        writeln!(f, "Packets dropped:\t{} %", percent(packets.dropped, packets.received))?;
        if totals.dropped.packets > 0 {
            let Traffic { packets, pps, .. } = totals.dropped;
            writeln!(f, "Dropped by ban:\t\t{packets}, now {pps} pps")?;
        }
        if !bans.is_empty() {
            writeln!(f, "\nBan list:\n{}", self::bans(bans).trim_end())?;
        }
        for alarm in alarms {
            writeln!(f, "\nAlarm: {alarm}")?;
        }
        Ok(())
    }
}

fn table(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    total: Traffic,
    hosts: &[Host],
    rows: usize,
) -> fmt::Result {
    writeln!(f, "{title}\t{} pps {} mbps", total.pps, mbps(total.bps))?;
    for Host { ip, pps, bps, banned } in hosts.iter().take(rows) {
        let banned = if *banned { " *banned* " } else { "" };
        writeln!(f, "{ip}\t\t{pps} pps {} mbps{banned}", mbps(*bps))?;
    }
    writeln!(f)
}

/// The ban list, a line each.
pub fn bans(bans: &[Ban]) -> String {
    let mut lines = String::new();
    for Ban { ip, pps, direction, drop, .. } in bans {
        // Writing to a string cannot fail.
        let _infallible = write!(lines, "{ip}/{pps} pps {}", direction.name());
        if let Some(Dropping { what, dropped, .. }) = drop {
            let Traffic { packets, pps, .. } = dropped;
            let _infallible = write!(lines, "\tdropped: {what}, {packets} packets, now {pps} pps");
        }
        lines.push('\n');
    }
    lines
}

const fn mbps(bps: u64) -> u64 {
    bps / 1_000_000
}

/// With one decimal place; never 0.0 when something was lost.
pub(super) fn percent(dropped: u64, received: u64) -> String {
    let all = u128::from(dropped) + u128::from(received);
    let tenths = (u128::from(dropped) * 1000).div_ceil(all.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Hosts, Packets, Totals, Way};

    fn status() -> Status {
        let host = |ip: &str, pps: u64, mbps: u64, banned| Host {
            ip: ip.to_owned(),
            pps,
            bps: mbps * 1_000_000 + 999_999,
            banned,
        };
        let traffic =
            |pps: u64, mbps: u64| Traffic { pps, bps: mbps * 1_000_000, ..Traffic::default() };
        Status {
            version: "0.1.0".to_owned(),
            totals: Totals {
                incoming: traffic(96_667, 240),
                outgoing: traffic(133_265, 952),
                internal: traffic(0, 0),
                other: traffic(1815, 9),
                dropped: Traffic::default(),
            },
            packets: Packets { received: 6_516_913_578, dropped: 0, ..Packets::default() },
            hosts: Hosts {
                incoming_packets: vec![
                    host("192.0.2.7", 7950, 3, false),
                    host("192.0.2.9", 5863, 65, true),
                    host("192.0.2.11", 1, 0, false),
                ],
                outgoing_packets: vec![host("192.0.2.7", 7414, 4, false)],
                incoming_bytes: vec![host("192.0.2.9", 5863, 65, true)],
                outgoing_bytes: vec![],
            },
            bans: vec![Ban {
                id: 1,
                ip: "192.0.2.9".parse().unwrap(),
                direction: Way::Incoming,
                pps: 20_613,
                peak_pps: 30_000,
                peak_mbps: 240,
                packets: 90_000,
                bytes: 90_000_000,
                cause: "threshold".to_owned(),
                rule: "total: 20613 of 20000 pps".to_owned(),
                reason: None,
                kind: "udp_flood".to_owned(),
                because: "99 % of the packets are udp".to_owned(),
                group: String::new(),
                dry_run: false,
                since: 0,
                until: None,
                drop: None,
                remotes: None,
            }],
            ..Status::default()
        }
    }

    #[test]
    fn the_screen_is_the_first_one_tab_for_tab() {
        let status = status();
        let expected = "FastNetMon v0.1.0 all IPs ordered by: packets\n\
            \n\
            Incoming Traffic\t96667 pps 240 mbps\n\
            192.0.2.7\t\t7950 pps 3 mbps\n\
            192.0.2.9\t\t5863 pps 65 mbps *banned* \n\
            \n\
            Outgoing traffic\t133265 pps 952 mbps\n\
            192.0.2.7\t\t7414 pps 4 mbps\n\
            \n\
            Internal traffic\t0 pps\n\
            \n\
            Other traffic\t\t1815 pps\n\
            \n\
            Packets received:\t6516913578\n\
            Packets dropped:\t0\n\
            Packets dropped:\t0.0 %\n\
            \n\
            Ban list:\n\
            192.0.2.9/20613 pps incoming\n";
        let screen = Screen { status: &status, order: Order::Packets, rows: 2 };
        assert_eq!(screen.to_string(), expected);
    }

    #[test]
    fn by_bytes_is_another_list_and_an_empty_ban_list_is_left_out() {
        let mut status = status();
        status.bans.clear();
        let screen = Screen { status: &status, order: Order::Bytes, rows: 7 }.to_string();
        assert!(screen.starts_with("FastNetMon v0.1.0 all IPs ordered by: bytes\n"));
        assert!(screen.contains("240 mbps\n192.0.2.9\t\t5863 pps"));
        assert!(!screen.contains("Ban list"));
    }

    #[test]
    fn a_loss_is_never_rounded_to_nothing() {
        assert_eq!(percent(0, 10), "0.0");
        assert_eq!(percent(1, 1_000_000), "0.1");
        assert_eq!(percent(1, 1), "50.0");
        assert_eq!(percent(0, 0), "0.0");
    }
}
