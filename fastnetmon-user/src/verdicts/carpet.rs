//! Carpet bombing: many hosts of a network get a little each, and together it is too much.
//!
//! Hosts are added up by /24, by /64, /56 and /48, and by group, in the one pass over those that
//! moved. A sum that is too large is an alert about the most specific prefix that holds nearly all of
//! it. What an alert explains already is taken out of what lies around it, and so are hosts that are
//! banned.
//!
//! **Invariant**: no host is ever banned from here. A network that one host explains is that host's
//! business.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fastnetmon_common::table::BLOCK;

use crate::counters::Gain;
use crate::model::{Counts, Direction, Loads, Moment, Prefix};
use crate::networks::{Belonging, GroupId, Tenants};
use crate::verdicts::rules::{Exceeded, Ready, of};
use crate::verdicts::standing::Bans;
use crate::verdicts::{Alert, Ban, BanId, Measure, Verdict};

/// So many percent of the traffic make a prefix the one that explains it.
const NEARLY: u64 = 90;

/// The rules for sums, by [`GroupId`] and direction.
pub(super) trait Bars {
    /// Of a prefix that lies in this group.
    fn prefix(&self, group: GroupId, direction: Direction) -> Option<&Ready>;
    /// Of the group as a whole.
    fn sum(&self, group: GroupId, direction: Direction) -> Option<&Ready>;
    /// Its name.
    fn name(&self, group: GroupId) -> Arc<str>;
}

/// What is added up.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Node {
    Prefix(Prefix),
    Group(GroupId),
}

/// Hosts added up.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    counts: Counts,
    hosts: u32,
}

impl Sum {
    fn add(&mut self, counts: &Counts) {
        self.counts += counts;
        self.hosts = self.hosts.saturating_add(1);
    }

    fn join(&mut self, other: &Self) {
        self.counts += &other.counts;
        self.hosts = self.hosts.saturating_add(other.hosts);
    }
}

/// A /24 that moved.
#[derive(Debug)]
struct Block {
    /// Its upper 24 bits.
    high: u32,
    sum: Sum,
    /// Where its hosts are among the gains.
    gains: Range<usize>,
}

/// One direction of one reading, added up.
#[derive(Debug, Default)]
pub(super) struct Sums {
    blocks: Vec<Block>,
    /// IPv6 hosts and where their gains are.
    hosts6: Vec<(u128, usize)>,
    /// What counts on the lines of IPv6 prefixes, whose hosts are not known one by one.
    strangers: Vec<(Prefix, Sum)>,
    groups: HashMap<GroupId, Sum>,
}

impl Sums {
    /// Adds one block of gains, which begins at `from`. `address_of` is asked for what is no IPv4.
    pub(super) fn take(
        &mut self,
        gains: &[Gain],
        from: usize,
        tenants: Tenants,
        belonging: &mut Belonging,
        has_sums: bool,
        occupant_of: impl Fn(&Gain) -> Option<Prefix>,
    ) {
        let (high, group) = match tenants {
            Tenants::One(high, group) => (high, Some(group)),
            Tenants::Several(high) => (high, None),
            Tenants::Mixed => {
                for (at, gain) in (from..).zip(gains) {
                    let Some(prefix) = occupant_of(gain) else { continue };
                    self.take6(gain, at, prefix, belonging, has_sums);
                }
                return;
            }
        };
        let mut sum = Sum::default();
        for gain in gains {
            let counts = gain.counts();
            sum.add(&counts);
            if has_sums && group.is_none() {
                let address = Ipv4Addr::from((high << 8) | (gain.host.0 % BLOCK));
                let group = belonging.of(gain.host, IpAddr::V4(address));
                self.groups.entry(group).or_default().add(&counts);
            }
        }
        if has_sums && let Some(group) = group {
            self.groups.entry(group).or_default().join(&sum);
        }
        self.blocks.push(Block { high, sum, gains: from..from + gains.len() });
    }

    fn take6(
        &mut self,
        gain: &Gain,
        at: usize,
        prefix: Prefix,
        belonging: &mut Belonging,
        has_sums: bool,
    ) {
        let IpAddr::V6(address) = prefix.address() else { return };
        let counts = gain.counts();
        let is_host = prefix.len() == 128;
        if is_host {
            self.hosts6.push((u128::from(address), at));
        } else {
            let mut sum = Sum::default();
            sum.add(&counts);
            self.strangers.push((prefix, sum));
        }
        if has_sums {
            let group = if is_host {
                belonging.of(gain.host, IpAddr::V6(address))
            } else {
                belonging.groups().holding(prefix)
            };
            self.groups.entry(group).or_default().add(&counts);
        }
    }

    /// All prefixes that were added up, those within others first.
    fn prefixes(&mut self, gains: &[Gain]) -> Vec<(Prefix, Sum)> {
        let mut nodes: Vec<(Prefix, Sum)> =
            self.blocks.iter().map(|block| (block_prefix(block.high), block.sum)).collect();
        self.hosts6.sort_unstable();
        let mut levels: [BTreeMap<u128, Sum>; 3] = Default::default();
        for &(address, at) in &self.hosts6 {
            let Some(gain) = gains.get(at) else { continue };
            let counts = gain.counts();
            for (level, length) in levels.iter_mut().zip(LEVELS6) {
                level.entry(address >> (128 - length)).or_default().add(&counts);
            }
        }
        let mut others: BTreeMap<Prefix, Sum> = BTreeMap::new();
        for (prefix, sum) in &self.strangers {
            let IpAddr::V6(address) = prefix.address() else { continue };
            let mut is_placed = false;
            for (level, length) in levels.iter_mut().zip(LEVELS6) {
                if prefix.len() >= length {
                    let key = u128::from(address) >> (128 - length);
                    level.entry(key).or_default().join(sum);
                    is_placed = true;
                }
            }
            if !is_placed {
                // Wider than a /48: it stands for itself, with the hosts in it that are known.
                let own = others.entry(*prefix).or_default();
                own.join(sum);
                let inside = between(&self.hosts6, *prefix);
                for gain in inside.iter().filter_map(|&(_, at)| gains.get(at)) {
                    own.add(&gain.counts());
                }
            }
        }
        for (level, length) in levels.into_iter().zip(LEVELS6) {
            nodes.extend(level.into_iter().map(|(key, sum)| {
                let address = Ipv6Addr::from(key << (128 - length));
                (Prefix::around(IpAddr::V6(address), length), sum)
            }));
        }
        nodes.extend(others.into_iter().rev());
        nodes
    }
}

/// Lengths at which IPv6 is added up, the longest first.
const LEVELS6: [u8; 3] = [64, 56, 48];

fn block_prefix(high: u32) -> Prefix {
    Prefix::around(IpAddr::V4(Ipv4Addr::from(high << 8)), 24)
}

/// The IPv6 hosts of a prefix, among sorted ones.
fn between(hosts: &[(u128, usize)], prefix: Prefix) -> &[(u128, usize)] {
    let (first, last) = bounds(prefix);
    let from = hosts.partition_point(|&(address, _)| address < first);
    let to = hosts.partition_point(|&(address, _)| address <= last);
    hosts.get(from..to).unwrap_or_default()
}

/// First and last address of a prefix, as numbers of its family.
fn bounds(prefix: Prefix) -> (u128, u128) {
    let (first, bits) = number(prefix.address());
    let hosts = u128::MAX.checked_shr(128 - bits + u32::from(prefix.len())).unwrap_or(0);
    (first, first | hosts)
}

fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    }
}

fn address(number: u128, is_ipv4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if is_ipv4 => IpAddr::V4(Ipv4Addr::from(number)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// An alert that stands.
#[derive(Debug)]
struct Standing {
    alert: Alert,
    group: GroupId,
    calm: Duration,
    is_loud: bool,
}

/// All alerts.
#[derive(Debug, Default)]
pub(super) struct Carpet {
    alerts: BTreeMap<(Node, Direction), Standing>,
}

/// What a reading is judged with.
pub(super) struct Court<'a, B> {
    pub(super) now: Moment,
    pub(super) window: Duration,
    pub(super) moved: &'a [Gain],
    /// Where the outgoing ones begin.
    pub(super) middle: usize,
    pub(super) bars: &'a B,
    pub(super) bans: &'a Bans,
    pub(super) belonging: &'a Belonging,
}

impl Carpet {
    /// Alerts that stand.
    pub(super) fn standing(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().map(|standing| &standing.alert)
    }

    /// Judges the sums of both directions.
    pub(super) fn judge<B: Bars>(
        &mut self,
        mut sums: [Sums; 2],
        court: &Court<'_, B>,
        next: &mut BanId,
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut nodes: [Vec<(Node, GroupId, Sum)>; 2] = Default::default();
        for (direction, (nodes, sums)) in
            Direction::BOTH.into_iter().zip(nodes.iter_mut().zip(&mut sums))
        {
            let gains = court.gains(direction);
            nodes.extend(sums.prefixes(gains).into_iter().map(|(prefix, sum)| {
                (Node::Prefix(prefix), court.belonging.groups().holding(prefix), sum)
            }));
            let groups = sums.groups.iter().filter(|(group, _)| **group != GroupId::NONE);
            nodes.extend(groups.map(|(&group, &sum)| (Node::Group(group), group, sum)));
        }
        for (direction, sums) in Direction::BOTH.into_iter().zip(&sums) {
            let (of, against) = match (&nodes, direction) {
                ([incoming, outgoing], Direction::Incoming) => (incoming, outgoing),
                ([incoming, outgoing], Direction::Outgoing) => (outgoing, incoming),
            };
            // What alerts explain already: where, whose, how much.
            let mut explained: Vec<(Prefix, GroupId, Counts)> = Vec::new();
            for &(node, group, ref sum) in of {
                let ready = match node {
                    Node::Prefix(_) => court.bars.prefix(group, direction),
                    Node::Group(_) => court.bars.sum(group, direction),
                };
                let Some(ready) = ready else { continue };
                let key = (node, direction);
                let standing = self.alerts.get_mut(&key);
                if standing.is_none() && !ready.exceeded.reached(sum.counts.total()) {
                    continue;
                }
                let left = court.left(node, &sum.counts, direction, &explained);
                if let Some(standing) = standing {
                    standing.follow(&left, ready, court.window);
                    if standing.is_loud {
                        explained.push((standing.alert.prefix, group, sum.counts));
                    }
                    continue;
                }
                let Some(exceeded) = ready.exceeded(&left) else { continue };
                let Some((prefix, hosts)) =
                    court.explain(node, exceeded, direction, sums, &explained)
                else {
                    continue;
                };
                let other = against.iter().find(|(other, ..)| *other == node);
                let other = other.map(|(.., sum)| sum.counts).unwrap_or_default();
                let load = left.per_second(court.window);
                let pps = load.total().pps;
                let alert = Alert {
                    id: *next,
                    prefix,
                    direction,
                    hosts,
                    cause: exceeded.cause(),
                    pps,
                    peak_pps: pps,
                    loads: Loads::new(direction, load, other.per_second(court.window)),
                    group: court.bars.name(group),
                    since: court.now,
                };
                *next = BanId(next.0.saturating_add(1));
                explained.push((prefix, group, sum.counts));
                verdicts.push(Verdict::Alert(alert.clone()));
                let standing = Standing { alert, group, calm: Duration::ZERO, is_loud: true };
                self.alerts.insert(key, standing);
            }
        }
        verdicts
    }

    /// Ends what has been calm for long enough. To be called once a reading, after [`Self::judge`].
    pub(super) fn calm(&mut self, step: Duration, calm: Duration) -> Vec<Verdict> {
        let mut over = Vec::new();
        self.alerts.retain(|_, standing| {
            if standing.is_loud {
                standing.calm = Duration::ZERO;
            } else {
                standing.calm = standing.calm.saturating_add(step);
            }
            standing.is_loud = false;
            let is_over = standing.calm >= calm && !standing.calm.is_zero();
            if is_over {
                over.push(Verdict::Calm(standing.alert.clone()));
            }
            !is_over
        });
        over
    }

    /// Groups have other numbers now: alerts about them end without a word at their next calm, as
    /// nothing is added up for them any more.
    pub(super) fn regroup(&mut self, group_of: impl Fn(Prefix) -> GroupId) {
        for standing in self.alerts.values_mut() {
            standing.group = group_of(standing.alert.prefix);
        }
    }
}

impl Standing {
    fn follow(&mut self, counts: &Counts, ready: &Ready, window: Duration) {
        let pps = counts.per_second(window).total().pps;
        self.alert.peak_pps = self.alert.peak_pps.max(pps);
        self.is_loud = ready.is_loud(counts);
    }
}

impl<B: Bars> Court<'_, B> {
    fn gains(&self, direction: Direction) -> &[Gain] {
        match direction {
            Direction::Incoming => self.moved.get(..self.middle),
            Direction::Outgoing => self.moved.get(self.middle..),
        }
        .unwrap_or_default()
    }

    /// What a sum is without the alerts within it, and without hosts that are banned.
    fn left(
        &self,
        node: Node,
        counts: &Counts,
        direction: Direction,
        explained: &[(Prefix, GroupId, Counts)],
    ) -> Counts {
        let mut left = *counts;
        for (prefix, whose, counts) in explained {
            let is_within = match node {
                Node::Prefix(around) => covers(around, *prefix),
                Node::Group(group) => *whose == group,
            };
            if is_within {
                left = left.less(counts);
            }
        }
        let gains = self.gains(direction);
        let mut without = |ban: &Ban| {
            if !explained.iter().any(|(prefix, ..)| prefix.contains(ban.address))
                && let Some(gain) = Gain::find(gains, ban.host, direction)
            {
                left = left.less(&gain.counts());
            }
        };
        match node {
            Node::Prefix(prefix) => {
                let (first, last) = bounds(prefix);
                let is_ipv4 = prefix.address().is_ipv4();
                let bans = self.bans.between(address(first, is_ipv4), address(last, is_ipv4));
                bans.for_each(|standing| without(&standing.ban));
            }
            Node::Group(group) => {
                let bans = self.bans.iter().filter(|standing| standing.group == group);
                bans.for_each(|standing| without(&standing.ban));
            }
        }
        left
    }

    /// The most specific prefix that explains a sum, and how many hosts share it; nothing when it is
    /// a single one.
    fn explain(
        &self,
        node: Node,
        exceeded: Exceeded,
        direction: Direction,
        sums: &Sums,
        explained: &[(Prefix, GroupId, Counts)],
    ) -> Option<(Prefix, u32)> {
        let gains = self.gains(direction);
        let is_in = |prefix: Prefix| match node {
            Node::Prefix(around) => covers(around, prefix),
            Node::Group(group) => self.belonging.groups().holding(prefix) == group,
        };
        let weigh = |counts: &Counts| {
            let tally = of(counts, exceeded.rule.subject);
            match exceeded.rule.measure {
                Measure::Pps => tally.packets,
                Measure::Mbps => tally.bytes,
            }
        };
        let is_counted = |address: IpAddr| {
            self.bans.at(address).is_none()
                && !explained.iter().any(|(prefix, ..)| prefix.contains(address))
        };
        // From blocks down to hosts, so that hosts are looked at in one block only.
        let mut items: [Vec<Item>; 2] = Default::default();
        let [v4, v6] = &mut items;
        for block in sums.blocks.iter().filter(|block| is_in(block_prefix(block.high))) {
            let hosts = gains.get(block.gains.clone()).unwrap_or_default();
            v4.extend(hosts.iter().filter_map(|gain| {
                let address = (block.high << 8) | (gain.host.0 % BLOCK);
                is_counted(IpAddr::V4(Ipv4Addr::from(address))).then(|| Item {
                    first: u128::from(address),
                    weight: weigh(&gain.counts()),
                    hosts: 1,
                })
            }));
        }
        for &(address, at) in &sums.hosts6 {
            let ip = IpAddr::V6(Ipv6Addr::from(address));
            if is_in(Prefix::host(ip))
                && is_counted(ip)
                && let Some(gain) = gains.get(at)
            {
                v6.push(Item { first: address, weight: weigh(&gain.counts()), hosts: 1 });
            }
        }
        for (prefix, sum) in sums.strangers.iter().filter(|(prefix, _)| is_in(*prefix)) {
            let (first, _) = bounds(*prefix);
            v6.push(Item { first, weight: weigh(&sum.counts), hosts: sum.hosts });
        }
        let [v4, v6] = items;
        let weight = |items: &[Item]| items.iter().map(|item| item.weight).sum::<u64>();
        let (mut items, bits) = if weight(&v4) >= weight(&v6) { (v4, 32) } else { (v6, 128) };
        items.retain(|item| item.weight > 0);
        items.sort_unstable_by_key(|item| item.first);
        // Strangers of a prefix are somewhere in it: nothing longer can be told.
        let longest = sums
            .strangers
            .iter()
            .filter(|(prefix, _)| bits == 128 && is_in(*prefix))
            .map(|(prefix, _)| prefix.len())
            .min();
        let found = narrow(&items, bits, longest.unwrap_or(bits))?;
        let (prefix, hosts, length) = found;
        if length == bits && hosts == 1 {
            // One host explains it: its own rules judge it.
            return None;
        }
        Some((prefix, hosts))
    }
}

/// Something with a weight, at its first address.
#[derive(Clone, Copy, Debug)]
struct Item {
    first: u128,
    weight: u64,
    hosts: u32,
}

/// The longest prefix that holds nearly all of the weight, and how many hosts are in it.
fn narrow(items: &[Item], bits: u8, longest: u8) -> Option<(Prefix, u32, u8)> {
    let total: u128 = items.iter().map(|item| u128::from(item.weight)).sum();
    if total == 0 {
        return None;
    }
    let wanted = total * u128::from(NEARLY) / 100;
    let mut within = items;
    let mut length = 0;
    while length < longest {
        // The next bit cuts what is left in two.
        let bit = 1_u128 << (bits - 1 - length);
        let cut = within.partition_point(|item| item.first & bit == 0);
        let (low, high) = within.split_at_checked(cut)?;
        let weight =
            |items: &[Item]| items.iter().map(|item| u128::from(item.weight)).sum::<u128>();
        within = if weight(low) >= wanted {
            low
        } else if weight(high) >= wanted {
            high
        } else {
            break;
        };
        length += 1;
    }
    let first = within.first()?.first;
    let hosts = within.iter().map(|item| item.hosts).sum();
    Some((Prefix::around(address(first, bits == 32), length), hosts, length))
}

/// Does the first prefix hold the whole of the second?
fn covers(around: Prefix, prefix: Prefix) -> bool {
    around.len() <= prefix.len() && around.contains(prefix.address())
}
