//! Packets kept for the dump: a few from before the ban, the rest from after it.
//!
//! **Invariant**: bounded twice, by hosts and by packets; nothing here is waited for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{HostId, Seen};

/// Sparse samples kept, over all hosts.
const RECENT: usize = 8192;

/// Of these, how many of one host begin its dump.
const BEFORE: usize = 20;

/// What engines saw of whom. Shared by the capture threads and the tick; a lock is held for one
/// packet's length, and only for packets that are kept.
#[derive(Debug, Default)]
pub struct Evidence {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    recent: VecDeque<(HostId, Seen)>,
    armed: HashMap<HostId, Armed>,
}

#[derive(Debug)]
struct Armed {
    wanted: usize,
    packets: Vec<Seen>,
}

impl Evidence {
    /// Collects `wanted` packets of this host from now on, beginning with what is there.
    pub fn arm(&self, host: HostId, wanted: usize) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<Seen> = kept
            .recent
            .iter()
            .rev()
            .filter(|(seen, _)| *seen == host)
            .take(BEFORE.min(wanted))
            .map(|(_, packet)| packet.clone())
            .collect();
        let packets = before.into_iter().rev().collect();
        kept.armed.insert(host, Armed { wanted, packets });
    }

    /// How many are held, of how many.
    pub fn collected(&self, host: HostId) -> Option<(usize, usize)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.armed.get(&host).map(|armed| (armed.packets.len(), armed.wanted))
    }

    /// Hands over what is held, in order of time, and ends the collection.
    pub fn take(&self, host: HostId) -> Arc<[Seen]> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let armed = kept.armed.remove(&host);
        drop(kept);
        let mut packets = armed.map(|armed| armed.packets).unwrap_or_default();
        packets.sort_by_key(|packet| packet.at);
        packets.into()
    }

    /// Keeps a packet: for the host's dump when one is wanted, else among the recent ones.
    pub fn keep(&self, host: HostId, packet: Seen) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(armed) = kept.armed.get_mut(&host)
            && armed.packets.len() < armed.wanted
        {
            armed.packets.push(packet.clone());
        }
        if kept.recent.len() >= RECENT {
            kept.recent.pop_front();
        }
        kept.recent.push_back((host, packet));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Class, Moment};

    fn packet(at: u64) -> Seen {
        Seen {
            at: Moment::after_boot(Duration::from_millis(at)),
            source: [192, 0, 2, 1].into(),
            target: [198, 51, 100, 7].into(),
            ports: (1, 2),
            class: Class::Udp,
            protocol: 17,
            bytes: 46,
        }
    }

    #[test]
    fn a_dump_begins_before_the_ban_and_ends_when_it_is_full() {
        let evidence = Evidence::default();
        let (victim, bystander) = (HostId(300), HostId(301));
        for at in 0..30 {
            evidence.keep(victim, packet(at));
            evidence.keep(bystander, packet(at));
        }
        evidence.arm(victim, 100);
        assert_eq!(evidence.collected(victim), Some((20, 100)));
        for at in 30..200 {
            evidence.keep(victim, packet(at));
        }
        assert_eq!(evidence.collected(victim), Some((100, 100)));
        let taken = evidence.take(victim);
        assert_eq!(taken.first(), Some(&packet(10)));
        assert_eq!(taken.last(), Some(&packet(109)));
        assert_eq!(evidence.collected(victim), None);
    }
}
