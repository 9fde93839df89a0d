//! The last minute of the always-on samples: which systems and countries are loudest.
//!
//! One packet in N is a sample, so what is told is an estimate: of a system with `s` samples in the
//! minute the rate is known to about `1 / √s` of itself. When more samples come than are looked up, those
//! that are count for the others.
//!
//! **Invariant**: pure; bounded by slots of ten seconds, of which there are six.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Direction, Moment, Remotes, Tally};
use crate::origins::Atlas;
use crate::origins::remotes::Groups;

/// A sample's remote side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sampled {
    /// Which way it went, seen from our host.
    pub direction: Direction,
    /// The other end.
    pub remote: IpAddr,
    /// Length of the IP packet.
    pub bytes: u32,
}

/// Samples of the last minute.
#[derive(Debug)]
pub struct Recent {
    /// One packet in so many is a sample.
    every: u32,
    slots: VecDeque<Slot>,
    began: Moment,
}

#[derive(Debug)]
struct Slot {
    since: Moment,
    groups: [Groups; 2],
}

/// The loudest of the last minute.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// One packet in so many was looked at.
    pub every: u32,
    /// How long the samples took to come.
    pub span: Duration,
    /// Samples of what came in, grouped.
    pub incoming: Remotes,
    /// Samples of what went out.
    pub outgoing: Remotes,
}

impl Summary {
    /// What samples of so many packets and bytes stand for: packets and bits a second.
    pub fn speed(&self, packets: u64, bytes: u64) -> (u64, u64) {
        let millis = u64::try_from(self.span.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_second = |samples: u64| {
            samples.saturating_mul(u64::from(self.every)).saturating_mul(1000) / millis
        };
        (per_second(packets), per_second(bytes.saturating_mul(8)))
    }
}

impl Recent {
    /// Begins now; one packet in `every` is a sample.
    pub const fn new(now: Moment, every: u32) -> Self {
        Self { every, slots: VecDeque::new(), began: now }
    }

    /// Adds samples that came until now, and as many more as were `lost`: these are taken to be like
    /// those.
    pub fn add(&mut self, now: Moment, samples: &[Sampled], lost: u64, atlas: &Atlas) {
        if self.slots.back().is_none_or(|slot| now.since(slot.since) >= SLOT) {
            self.slots.push_back(Slot { since: now, groups: <[Groups; 2]>::default() });
        }
        while self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
        let Some(Slot { groups: [incoming, outgoing], .. }) = self.slots.back_mut() else { return };
        for (Sampled { direction, remote, bytes }, count) in
            samples.iter().zip(counts(samples.len(), lost))
        {
            let groups = match direction {
                Direction::Incoming => &mut *incoming,
                Direction::Outgoing => &mut *outgoing,
            };
            let bytes = u64::from(*bytes).saturating_mul(count);
            groups.add(atlas.find(*remote), Tally { packets: count, bytes });
        }
    }

    /// What is loudest now.
    pub fn summary(&self, now: Moment) -> Summary {
        let mut both = <[Groups; 2]>::default();
        for slot in &self.slots {
            for (sum, more) in both.iter_mut().zip(&slot.groups) {
                sum.join(more);
            }
        }
        let first = self.slots.front().map_or(self.began, |slot| slot.since);
        // The samples of the first slot began to come a second before it did.
        let span = now.since(first) + Duration::from_secs(1);
        let [incoming, outgoing] = both.map(|groups| groups.shown());
        Summary { every: self.every, span, incoming, outgoing }
    }
}

/// How often each of so many samples counts, so that together they count for the lost ones too: whole
/// numbers that differ by one at most.
fn counts(samples: usize, lost: u64) -> impl Iterator<Item = u64> {
    let samples = u64::try_from(samples).unwrap_or(u64::MAX);
    let all = u128::from(samples) + u128::from(lost);
    let until = move |number: u64| {
        let until = u128::from(number) * all / u128::from(samples.max(1));
        u64::try_from(until).unwrap_or(u64::MAX)
    };
    (0..samples).map(move |number| until(number + 1) - until(number))
}

/// How long a slot is.
const SLOT: Duration = Duration::from_secs(10);

/// How many there are.
const SLOTS: usize = 6;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::origins::Database;
    use crate::origins::database::{Make, geolite};

    fn atlas() -> Atlas {
        let file = Make::default().file(&[
            ("203.0.113.0/24", geolite(64_500, "Example")),
            ("198.51.100.0/24", geolite(64_501, "Other")),
        ]);
        Atlas::new(vec![Arc::new(Database::of(Path::new("x"), file).unwrap())])
    }

    fn sample(direction: Direction, remote: [u8; 4]) -> Sampled {
        Sampled { direction, remote: remote.into(), bytes: 500 }
    }

    fn at(secs: u64) -> Moment {
        Moment::after_boot(Duration::from_secs(secs))
    }

    #[test]
    fn a_minute_of_samples_is_an_estimate_and_what_is_older_is_forgotten() {
        let atlas = atlas();
        let mut recent = Recent::new(at(0), 1000);
        // Sixty seconds of five and one samples a second.
        for second in 1..=60 {
            let mut samples = vec![sample(Direction::Incoming, [203, 0, 113, 7]); 5];
            samples.push(sample(Direction::Outgoing, [198, 51, 100, 7]));
            recent.add(at(second), &samples, 0, &atlas);
        }
        let summary = recent.summary(at(60));
        let [first] = &summary.incoming.systems[..] else { panic!("{summary:?}") };
        assert_eq!((first.asn, first.packets, first.bytes), (64_500, 300, 150_000));
        assert_eq!(summary.speed(first.packets, 0), (5000, 0));
        assert_eq!(summary.outgoing.systems[0].asn, 64_501);
        for second in 61..=130 {
            recent.add(at(second), &[sample(Direction::Incoming, [198, 51, 100, 7])], 0, &atlas);
        }
        let summary = recent.summary(at(130));
        let [only] = &summary.incoming.systems[..] else { panic!("{summary:?}") };
        assert_eq!((only.asn, summary.speed(only.packets, 0)), (64_501, (1000, 0)));
        assert!(summary.outgoing.systems.is_empty() && summary.span <= Duration::from_mins(1));
    }

    #[test]
    fn samples_that_found_no_room_count_like_those_that_did() {
        let atlas = atlas();
        let mut recent = Recent::new(at(0), 1000);
        // A quiet second, then one in which every second sample of 30 found no room.
        recent.add(at(1), &[sample(Direction::Incoming, [198, 51, 100, 7])], 0, &atlas);
        let mut samples = vec![sample(Direction::Incoming, [203, 0, 113, 7]); 10];
        samples.extend([sample(Direction::Outgoing, [198, 51, 100, 7]); 5]);
        recent.add(at(2), &samples, 15, &atlas);
        let Summary { incoming, outgoing, span, .. } = recent.summary(at(2));
        let told = |remotes: &Remotes| -> Vec<(u32, u64, u64)> {
            remotes.systems.iter().map(|one| (one.asn, one.packets, one.bytes)).collect()
        };
        assert_eq!(told(&incoming), [(64_500, 20, 10_000), (64_501, 1, 500)]);
        assert_eq!((told(&outgoing), span), (vec![(64_501, 10, 5000)], Duration::from_secs(2)));
        assert_eq!(counts(3, 4).collect::<Vec<_>>(), [2, 2, 3]);
        assert_eq!(counts(0, u64::MAX).count(), 0);
        assert_eq!(counts(65_536, u64::from(u32::MAX)).sum::<u64>(), 65_536 + u64::from(u32::MAX));
    }
}
