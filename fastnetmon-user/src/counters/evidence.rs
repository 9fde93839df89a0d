//! Packets kept for the dump: a few from before the ban, the rest from after it.
//!
//! **Invariant**: bounded twice, by hosts and by packets; nothing here is waited for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Caught, Direction, HostId, Moment};
use crate::origins::Sampled;

/// Sparse samples kept, over all hosts.
const RECENT: usize = 8192;

/// Of these, how many of one host begin its dump.
const BEFORE: usize = 20;

/// Packets of armed hosts kept, over all of them: a carpet of attacks takes no more memory than this.
const ARMED: usize = 262_144;

/// Sparse samples that wait to be taken, at most.
const SAMPLED: usize = 65_536;

/// How far before the ban they may lie: the policy's window, and as much again.
const REACH: Duration = Duration::from_secs(2);

/// What engines saw of whom. Shared by the capture threads and the tick; a lock is held for one
/// packet's length, and only for packets that are kept.
#[derive(Debug, Default)]
pub struct Evidence {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    recent: VecDeque<(HostId, Caught)>,
    armed: HashMap<HostId, Armed>,
    /// Who is in `armed`, by address.
    by_address: HashMap<IpAddr, HostId>,
    /// Packets in `armed`.
    held: usize,
    /// Remote sides of sparse samples, while somebody takes them; and those that found no room.
    sampled: Option<(Vec<Sampled>, u64)>,
    /// Which of them stay when there are too many.
    chance: RandomState,
}

#[derive(Debug)]
struct Armed {
    address: IpAddr,
    wanted: usize,
    packets: Vec<Caught>,
}

impl Evidence {
    /// Collects `wanted` packets of each of these hosts from now on, beginning with what is there: at
    /// most some of the recent ones, spread over the time before, so that they show how it began.
    pub fn arm(&self, now: Moment, hosts: &[(HostId, IpAddr)], wanted: usize) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now - REACH;
        let mut before: HashMap<HostId, Vec<&Caught>> =
            hosts.iter().map(|&(host, _)| (host, Vec::new())).collect();
        for (host, packet) in &kept.recent {
            if packet.seen.at >= since
                && let Some(of_host) = before.get_mut(host)
            {
                of_host.push(packet);
            }
        }
        let count = BEFORE.min(wanted).max(1);
        let spread = |of_host: Vec<&Caught>| -> Vec<Caught> {
            let step = of_host.len().div_ceil(count).max(1);
            of_host.into_iter().step_by(step).cloned().collect()
        };
        let before: HashMap<HostId, Vec<Caught>> =
            before.into_iter().map(|(host, of_host)| (host, spread(of_host))).collect();
        let mut before = before;
        for &(host, address) in hosts {
            let packets = before.remove(&host).unwrap_or_default();
            kept.held += packets.len();
            if let Some(old) = kept.armed.insert(host, Armed { address, wanted, packets }) {
                kept.held -= old.packets.len();
            }
            kept.by_address.insert(address, host);
        }
    }

    /// Whose packets are all there.
    pub fn full(&self) -> HashSet<HostId> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let armed = kept.armed.iter();
        let full = armed.filter(|(_, armed)| armed.packets.len() >= armed.wanted);
        let full = full.map(|(&host, _)| host).collect();
        drop(kept);
        full
    }

    /// How many are held, of how many.
    pub fn collected(&self, host: HostId) -> Option<(usize, usize)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.armed.get(&host).map(|armed| (armed.packets.len(), armed.wanted))
    }

    /// Hands over what is held, in order of time, and ends the collection.
    pub fn take(&self, host: HostId) -> Vec<Caught> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let armed = kept.armed.remove(&host);
        if let Some(armed) = &armed {
            kept.by_address.remove(&armed.address);
            kept.held = kept.held.saturating_sub(armed.packets.len());
        }
        drop(kept);
        let mut packets = armed.map(|armed| armed.packets).unwrap_or_default();
        packets.sort_by_key(|packet| packet.seen.at);
        packets
    }

    /// Keeps a packet: for the host's dump when one is wanted, else among the recent ones.
    pub fn keep(&self, host: HostId, packet: Caught) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).add(host, packet);
    }

    /// Keeps a sparse sample, which stands for all packets that were not looked at.
    pub fn keep_sparse(&self, host: HostId, direction: Direction, packet: Caught) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.add_sample(direction, &packet);
        kept.add(host, packet);
    }

    /// Takes what the sparse samples were since the last time, and how many found no room. From the
    /// first time on they are kept for it.
    pub fn take_sampled(&self) -> (Vec<Sampled>, u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(kept.sampled.get_or_insert_default())
    }

    /// Keeps a packet that was taken because one of its ends is armed; the kernel asks the target
    /// first, so it is the target's while its dump has room.
    pub fn keep_taken(&self, packet: Caught) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let [target, source] =
            [packet.seen.target, packet.seen.source].map(|end| kept.by_address.get(&end).copied());
        let host = target.filter(|&host| kept.has_room(host)).or(source).or(target);
        if let Some(host) = host {
            kept.add(host, packet);
        }
    }
}

impl Kept {
    fn has_room(&self, host: HostId) -> bool {
        self.armed.get(&host).is_some_and(|armed| armed.packets.len() < armed.wanted)
    }

    /// Keeps the remote side, when somebody takes it.
    fn add_sample(&mut self, direction: Direction, packet: &Caught) {
        if let Some((sampled, lost)) = &mut self.sampled {
            let remote = match direction {
                Direction::Incoming => packet.seen.source,
                Direction::Outgoing => packet.seen.target,
            };
            let sample = Sampled { direction, remote, bytes: packet.seen.bytes };
            if sampled.len() < SAMPLED {
                sampled.push(sample);
            } else {
                // Each of all that came is there with the same chance, whenever it came.
                *lost += 1;
                let all = u64::try_from(SAMPLED).unwrap_or(u64::MAX).saturating_add(*lost);
                let place = usize::try_from(self.chance.hash_one(all) % all).unwrap_or(usize::MAX);
                if let Some(place) = sampled.get_mut(place) {
                    *place = sample;
                }
            }
        }
    }

    fn add(&mut self, host: HostId, packet: Caught) {
        if let Some(armed) = self.armed.get_mut(&host)
            && armed.packets.len() < armed.wanted
            && self.held < ARMED
        {
            armed.packets.push(packet.clone());
            self.held += 1;
        }
        // What is older than a dump may begin holds memory for nobody.
        let since = packet.seen.at - REACH;
        while self.recent.len() >= RECENT
            || self.recent.front().is_some_and(|(_, oldest)| oldest.seen.at < since)
        {
            self.recent.pop_front();
        }
        self.recent.push_back((host, packet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Raw, Seen, Starts};

    fn packet(at: u64) -> Caught {
        let raw = Raw::of(Starts::Ip, &[0x45; 28], 46);
        let at = Moment::after_boot(Duration::from_millis(at));
        let seen = Seen { at, ..Seen::of([192, 0, 2, 1], [198, 51, 100, 7]) };
        Caught { seen, raw }
    }

    #[test]
    fn a_dump_begins_before_the_ban_and_ends_when_it_is_full() {
        let evidence = Evidence::default();
        let (victim, bystander) = (HostId(300), HostId(301));
        for at in 0..30 {
            evidence.keep(victim, packet(at));
            evidence.keep(bystander, packet(at));
        }
        evidence.arm(packet(29).seen.at, &[(victim, [198, 51, 100, 7].into())], 100);
        // 30 recent ones, every second of which is taken.
        assert_eq!(evidence.collected(victim), Some((15, 100)));
        for at in 30..200 {
            evidence.keep(victim, packet(at));
        }
        assert_eq!(evidence.collected(victim), Some((100, 100)));
        let taken = evidence.take(victim);
        assert_eq!(taken.first(), Some(&packet(0)));
        assert_eq!(taken.last(), Some(&packet(114)));
        assert_eq!(evidence.collected(victim), None);
    }

    #[test]
    fn sparse_samples_are_handed_over_once_and_armed_packets_are_none() {
        let evidence = Evidence::default();
        let host = HostId(300);
        evidence.keep_sparse(host, Direction::Incoming, packet(0));
        assert_eq!(evidence.take_sampled(), (vec![], 0), "nobody took them before");
        evidence.keep(host, packet(1));
        evidence.keep_sparse(host, Direction::Incoming, packet(2));
        evidence.keep_sparse(host, Direction::Outgoing, packet(3));
        let sampled =
            |direction, remote: [u8; 4]| Sampled { direction, remote: remote.into(), bytes: 46 };
        let expected = vec![
            sampled(Direction::Incoming, [192, 0, 2, 1]),
            sampled(Direction::Outgoing, [198, 51, 100, 7]),
        ];
        assert_eq!(evidence.take_sampled(), (expected, 0));
        assert_eq!(evidence.take_sampled(), (vec![], 0));
        // Armed or not, they begin the dump.
        evidence.arm(packet(9).seen.at, &[(host, [198, 51, 100, 7].into())], 100);
        assert_eq!(evidence.collected(host), Some((4, 100)));
    }

    #[test]
    fn what_is_too_old_to_begin_a_dump_is_held_no_longer() {
        let evidence = Evidence::default();
        let host = HostId(300);
        for at in [0, 1000, 2999, 3000, 4999] {
            evidence.keep(host, packet(at));
        }
        assert_eq!(evidence.kept.lock().unwrap().recent.len(), 3);
        evidence.arm(packet(4999).seen.at, &[(host, [198, 51, 100, 7].into())], 100);
        assert_eq!(evidence.take(host), [2999, 3000, 4999].map(packet));
    }

    #[test]
    fn of_too_many_samples_each_is_kept_with_the_same_chance() {
        let evidence = Evidence::default();
        evidence.take_sampled();
        let early = |sample: &Sampled| sample.direction == Direction::Incoming;
        for direction in [Direction::Incoming, Direction::Outgoing] {
            for _ in 0..SAMPLED {
                evidence.keep_sparse(HostId(300), direction, packet(0));
            }
        }
        let (sampled, lost) = evidence.take_sampled();
        assert_eq!((sampled.len(), lost), (SAMPLED, SAMPLED as u64));
        // Half of each, give or take: one deviation is about ninety.
        let early = sampled.iter().filter(|sample| early(sample)).count();
        assert!(early.abs_diff(SAMPLED / 2) < 1000, "{early}");
    }

    #[test]
    fn a_packet_that_was_taken_goes_to_its_armed_end() {
        let evidence = Evidence::default();
        let (target, source) = (HostId(300), HostId(301));
        let collected = || [target, source].map(|host| evidence.collected(host).map(|(n, _)| n));
        evidence.keep_taken(packet(0));
        assert_eq!(collected(), [None, None]);
        evidence.arm(packet(0).seen.at, &[(source, packet(0).seen.source)], 9);
        evidence.keep_taken(packet(1));
        assert_eq!(collected(), [None, Some(1)]);
        // The target comes first while there is room in its dump.
        evidence.arm(packet(0).seen.at, &[(target, packet(0).seen.target)], 1);
        for at in 2..5 {
            evidence.keep_taken(packet(at));
        }
        assert_eq!(collected(), [Some(1), Some(3)]);
        evidence.take(source);
        evidence.keep_taken(packet(5));
        assert_eq!(collected(), [Some(1), None]);
    }
}
