//! A round becomes a report: lines get their names, hosts are added up by network and family.
//!
//! **Invariant**: pure, and on a thread of its own. One pass over the hosts that moved; hosts
//! are put down only as far as they are wanted, and the gains are let go before anybody is told.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::counters::{Gain, Gains};
use crate::model::{Counts, Direction, HostId, Tally};
use crate::networks::{Names, Occupant};
use crate::rates::{Channel, Totals};
use crate::reports::gather::Round;
use crate::reports::report::Channels;
use crate::reports::{Families, HostLoad, Interest, NetworkLoad, Report};

/// Makes reports.
#[derive(Debug, Default)]
pub struct Press {
    number: u64,
}

impl Press {
    /// The next report.
    pub fn print(&mut self, round: Round, interest: Interest) -> Report {
        self.number += 1;
        let Round { at, unix, span, parts, names, totals, before, .. } = round;
        let several;
        let gains: &[Gain];
        match parts.as_slice() {
            [only] => gains = only,
            many => {
                several = merged(many);
                gains = &several;
            }
        }
        let Sums { families, networks, hosts, moved } = add_up(gains, &names, interest);
        let gained = gained(&totals, &before);
        Report {
            number: self.number,
            at,
            unix,
            span,
            totals,
            gained,
            families: shares(families, gained),
            networks: networks.into(),
            hosts,
            moved,
            untold: round.untold,
            banned: round.banned,
            events: round.events,
            deeds: round.deeds.into(),
            health: round.health,
            exports: round.exports.into(),
        }
    }
}

struct Sums {
    families: Families,
    networks: Vec<NetworkLoad>,
    hosts: Vec<HostLoad>,
    moved: usize,
}

/// What several readings brought, as one: in the order of lines, incoming first.
fn merged(parts: &[Arc<Gains>]) -> Vec<Gain> {
    let mut sums: HashMap<(HostId, Direction), (Counts, Tally)> = HashMap::new();
    for gain in parts.iter().flat_map(|part| part.iter()) {
        let (counts, dropped) = sums.entry((gain.host, gain.direction)).or_default();
        *counts += &gain.counts();
        *dropped += gain.dropped();
    }
    let mut gains: Vec<Gain> = sums
        .into_iter()
        .map(|((host, direction), (counts, dropped))| Gain::new(host, direction, &counts, dropped))
        .collect();
    gains.sort_unstable_by_key(|gain| (gain.direction, gain.host));
    gains
}

/// Adds both directions up, side by side: gains stand in the order of lines, incoming first.
fn add_up(gains: &[Gain], names: &Names, interest: Interest) -> Sums {
    let mut sums = Sums {
        families: Families::default(),
        networks: names
            .networks()
            .iter()
            .map(|&prefix| NetworkLoad {
                prefix,
                gained: crate::reports::Gained::default(),
                moved: 0,
            })
            .collect(),
        hosts: Vec::new(),
        moved: 0,
    };
    let outgoing_from = gains.partition_point(|gain| gain.direction == Direction::Incoming);
    let (incoming, outgoing) = gains.split_at(outgoing_from);
    if interest == Interest::AllHosts {
        // Most of those that move do it both ways.
        sums.hosts.reserve_exact(incoming.len().max(outgoing.len()));
    }
    let (mut incoming, mut outgoing) = (incoming.iter().peekable(), outgoing.iter().peekable());
    let mut finder = Finder::default();
    loop {
        let host = match (incoming.peek(), outgoing.peek()) {
            (None, None) => break,
            (Some(gain), None) | (None, Some(gain)) => gain.host,
            (Some(one), Some(other)) => one.host.min(other.host),
        };
        let one = incoming.next_if(|gain| gain.host == host).copied();
        let other = outgoing.next_if(|gain| gain.host == host).copied();
        let (address, is_host) = match names.occupant(host) {
            Some(Occupant::Host(address)) => (address, true),
            Some(Occupant::Strangers(prefix)) => (prefix.address(), false),
            None => continue,
        };
        let network = finder.network_of(address, names);
        let family = match address {
            IpAddr::V4(_) => &mut sums.families.v4,
            IpAddr::V6(_) => &mut sums.families.v6,
        };
        let mut load = network.and_then(|at| sums.networks.get_mut(at));
        for gain in [one, other].iter().flatten() {
            let counts = gain.counts();
            family.add(gain, &counts);
            if let Some(load) = &mut load {
                load.gained.add(gain, &counts);
            }
        }
        if !is_host {
            continue;
        }
        sums.moved += 1;
        if let Some(load) = load {
            load.moved += 1;
        }
        let network = network.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX);
        match interest {
            Interest::NoHosts | Interest::Loudest(0) => {}
            Interest::AllHosts => sums.hosts.push(HostLoad::new(address, network, one, other)),
            Interest::Loudest(count) => {
                sums.hosts.push(HostLoad::new(address, network, one, other));
                if sums.hosts.len() >= count.saturating_mul(2).max(1024) {
                    cut(&mut sums.hosts, count);
                }
            }
        }
    }
    if let Interest::Loudest(count) = interest {
        cut(&mut sums.hosts, count);
        sums.hosts.sort_unstable_by_key(key);
    }
    sums
}

/// Remembers the last network: neighbours come one after the other.
#[derive(Default)]
struct Finder {
    last: Option<usize>,
}

impl Finder {
    fn network_of(&mut self, address: IpAddr, names: &Names) -> Option<usize> {
        let last = self.last.and_then(|at| names.networks().get(at));
        if !last.is_some_and(|prefix| prefix.contains(address)) {
            self.last = names.network_of(address);
        }
        self.last
    }
}

/// Keeps the loudest.
fn cut(hosts: &mut Vec<HostLoad>, count: usize) {
    if hosts.len() > count && count > 0 {
        hosts.select_nth_unstable_by_key(count - 1, key);
    }
    hosts.truncate(count);
}

fn key(host: &HostLoad) -> (Reverse<u64>, IpAddr) {
    (Reverse(host.peak().packets), host.address)
}

fn gained(totals: &Totals, before: &Totals) -> Channels {
    let less = |now: Channel, then: Channel| now.total.less(then.total);
    Channels {
        incoming: less(totals.incoming, before.incoming),
        outgoing: less(totals.outgoing, before.outgoing),
        internal: less(totals.internal, before.internal),
        other: less(totals.other, before.other),
    }
}

/// What hosts gained holds packets between them, and what tunnels carried; the totals do not.
fn shares(mut families: Families, gained: Channels) -> Families {
    for direction in Direction::BOTH {
        let whole = match direction {
            Direction::Incoming => gained.incoming,
            Direction::Outgoing => gained.outgoing,
        };
        let mut hosts = families.v4.of(direction).total();
        hosts += families.v6.of(direction).total();
        if hosts == whole {
            continue;
        }
        for family in [&mut families.v4, &mut families.v6] {
            for tally in &mut family.of_mut(direction).0 {
                tally.packets = share(tally.packets, whole.packets, hosts.packets);
                tally.bytes = share(tally.bytes, whole.bytes, hosts.bytes);
            }
        }
    }
    families
}

fn share(part: u64, of: u64, among: u64) -> u64 {
    let product = u128::from(part) * u128::from(of);
    product.checked_div(u128::from(among)).and_then(|share| u64::try_from(share).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Class, Moment, Prefix};
    use crate::networks::{Plan, PrefixSet, Territory};
    use crate::reports::Health;
    use crate::tables::own;

    /// Two networks and one IPv6 host with a line of its own.
    fn territory() -> Territory {
        let texts = ["192.0.2.0/24", "198.51.100.0/25", "2001:db8::/32"];
        let prefixes = texts.map(|text| Prefix::parse_masked(text).unwrap().0);
        let (ours, _) = PrefixSet::merged(prefixes);
        let (plan, writes) = Plan::new(&ours, 64).unwrap();
        let shape = plan.shape(std::num::NonZeroU32::MIN, 0);
        let (parts, _rows) = own(shape).unwrap();
        Territory::new(ours, plan, &writes, shape, vec![parts.directory], vec![parts.flags])
    }

    fn gain(host: HostId, direction: Direction, packets: u64) -> Gain {
        let mut counts = Counts::default();
        counts.0[Class::Udp as usize] = Tally { packets, bytes: packets * 100 };
        Gain::new(host, direction, &counts, Tally::default())
    }

    fn round(territory: &Territory, parts: Vec<Vec<Gain>>, incoming: u64) -> Round {
        let mut totals = Totals::default();
        totals.incoming.total = Tally { packets: incoming, bytes: incoming * 100 };
        let parts = parts.into_iter().map(|part| Arc::new(Gains::from(part))).collect();
        Round {
            at: Moment::default(),
            unix: Duration::from_secs(1_700_000_000),
            span: Duration::from_secs(1),
            parts,
            names: territory.names(),
            totals,
            before: Totals::default(),
            untold: 0,
            banned: Vec::new(),
            events: Arc::default(),
            deeds: Vec::new(),
            health: Health::default(),
            exports: Vec::new(),
        }
    }

    fn shown(report: &Report) -> Vec<(String, u64, u64)> {
        let packets = |host: &HostLoad| Direction::BOTH.map(|way| host.total(way).packets);
        let hosts = report.hosts.iter();
        hosts.map(|host| (host.address.to_string(), packets(host)[0], packets(host)[1])).collect()
    }

    #[test]
    fn hosts_get_their_names_and_are_added_up_by_network_and_family() {
        let mut territory = territory();
        let one = territory.host("192.0.2.7".parse().unwrap()).unwrap();
        let two = territory.host("198.51.100.9".parse().unwrap()).unwrap();
        let six = territory.host("2001:db8::9".parse().unwrap()).unwrap();
        let gains = vec![
            gain(one, Direction::Incoming, 10),
            gain(one, Direction::Outgoing, 1),
            gain(two, Direction::Incoming, 20),
            gain(six, Direction::Incoming, 70),
        ];
        let report =
            Press::default().print(round(&territory, vec![gains], 100), Interest::AllHosts);
        let expected = [("192.0.2.7", 10, 1), ("198.51.100.9", 20, 0), ("2001:db8::9", 70, 0)];
        assert_eq!(shown(&report), expected.map(|(ip, a, b)| (ip.to_owned(), a, b)));
        let networks: Vec<(String, u64, u32)> = report
            .networks
            .iter()
            .map(|load| (load.prefix.to_string(), load.gained.incoming.total().packets, load.moved))
            .collect();
        let expected =
            [("192.0.2.0/24", 10, 1), ("198.51.100.0/25", 20, 1), ("2001:db8::/32", 70, 1)];
        assert_eq!(networks, expected.map(|(net, a, b)| (net.to_owned(), a, b)));
        let Families { v4, v6 } = report.families;
        assert_eq!((v4.incoming.total().packets, v6.incoming.total().packets), (30, 70));
    }

    #[test]
    fn packets_between_our_hosts_are_in_no_family() {
        let mut territory = territory();
        let one = territory.host("192.0.2.7".parse().unwrap()).unwrap();
        let six = territory.host("2001:db8::9".parse().unwrap()).unwrap();
        let gains = vec![gain(one, Direction::Incoming, 60), gain(six, Direction::Incoming, 60)];
        let report = Press::default().print(round(&territory, vec![gains], 100), Interest::NoHosts);
        let Families { v4, v6 } = report.families;
        assert_eq!((v4.incoming.total().packets, v6.incoming.total().packets), (50, 50));
        assert_eq!((report.hosts.len(), report.moved), (0, 2));
    }

    #[test]
    fn several_readings_are_one_sum() {
        let mut territory = territory();
        let one = territory.host("192.0.2.7".parse().unwrap()).unwrap();
        let part = || vec![gain(one, Direction::Incoming, 5), gain(one, Direction::Outgoing, 2)];
        let report = Press::default()
            .print(round(&territory, vec![part(), part(), part()], 15), Interest::AllHosts);
        assert_eq!(shown(&report), [("192.0.2.7".to_owned(), 15, 6)]);
    }

    #[test]
    fn of_many_hosts_the_loudest_are_told_in_either_direction() {
        let mut territory = territory();
        let mut gains = Vec::new();
        for last in 0..=255_u8 {
            let host = territory.host([192, 0, 2, last].into()).unwrap();
            gains.push(gain(host, Direction::Incoming, u64::from(last)));
        }
        let quiet = territory.host([192, 0, 2, 3].into()).unwrap();
        gains.push(gain(quiet, Direction::Outgoing, 9999));
        let report =
            Press::default().print(round(&territory, vec![gains], 1), Interest::Loudest(3));
        let hosts: Vec<String> = shown(&report).into_iter().map(|(ip, ..)| ip).collect();
        assert_eq!(hosts, ["192.0.2.3", "192.0.2.255", "192.0.2.254"]);
        let loudest: Vec<String> =
            report.loudest(255, 9).iter().map(|host| host.address.to_string()).collect();
        assert_eq!(loudest, ["192.0.2.3", "192.0.2.255"]);
        assert_eq!(report.loudest(0, 1).len(), 1);
    }
}
