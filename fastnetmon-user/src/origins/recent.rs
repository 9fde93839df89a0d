//! The last minute of the always-on samples: which systems and countries are loudest.
//!
//! One packet in N is a sample, so what is told is an estimate: of a system with `s` samples in the
//! minute the rate is known to about `1 / √s` of itself. `s` are those that were looked up, each once; when
//! more came than that, the rates are as much greater, look by look.
//!
//! **Invariant**: pure; bounded by slots of ten seconds, of which there are six.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::time::Duration;

use crate::model::{Direction, Moment, Tally};
use crate::origins::Atlas;
use crate::origins::remotes::{Groups, Loudest};

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
    groups: [Groups<Sum>; 2],
}

/// What samples say, of an origin or of all.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// That were looked up.
    samples: u64,
    /// All that came, in [`PARTS`] of one: a look may stand for one and a half of each.
    parts: u64,
    /// Their bytes.
    bytes: u64,
}

impl Sum {
    /// So many were looked up, of a look in which `looked` of `all` were.
    fn of(Tally { packets, bytes }: Tally, looked: u64, all: u64) -> Self {
        let scaled = |number: u64, by: u64| {
            let product = u128::from(number) * u128::from(by) * u128::from(all);
            u64::try_from(product / u128::from(looked.max(1))).unwrap_or(u64::MAX)
        };
        Self { samples: packets, parts: scaled(packets, PARTS), bytes: scaled(bytes, 1) }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, Self { samples, parts, bytes }: Self) {
        self.samples = self.samples.saturating_add(samples);
        self.parts = self.parts.saturating_add(parts);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What is known of an origin, or of all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Estimate {
    /// Samples it rests on.
    pub samples: u64,
    /// Packets a second.
    pub pps: u64,
    /// Bits a second.
    pub bps: u64,
}

/// The loudest of the last minute.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// One packet in so many is a sample.
    pub every: u32,
    /// How long the samples took to come.
    pub span: Duration,
    /// What came in, grouped.
    pub incoming: Loudest<Estimate>,
    /// What went out.
    pub outgoing: Loudest<Estimate>,
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
            self.slots.push_back(Slot { since: now, groups: <[Groups<Sum>; 2]>::default() });
        }
        while self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
        let Some(slot) = self.slots.back_mut() else { return };
        let [mut incoming, mut outgoing] = <[Groups<Tally>; 2]>::default();
        for &Sampled { direction, remote, bytes } in samples {
            let groups = match direction {
                Direction::Incoming => &mut incoming,
                Direction::Outgoing => &mut outgoing,
            };
            groups.add(atlas.find(remote), Tally { packets: 1, bytes: bytes.into() });
        }
        let looked = u64::try_from(samples.len()).unwrap_or(u64::MAX);
        let all = looked.saturating_add(lost);
        for (sum, look) in slot.groups.iter_mut().zip([incoming, outgoing]) {
            sum.join(&look, |tally| Sum::of(tally, looked, all));
        }
    }

    /// What is loudest now.
    pub fn summary(&self, now: Moment) -> Summary {
        let mut both = <[Groups<Sum>; 2]>::default();
        for slot in &self.slots {
            for (sum, more) in both.iter_mut().zip(&slot.groups) {
                sum.join(more, |more| more);
            }
        }
        let first = self.slots.front().map_or(self.began, |slot| slot.since);
        // The samples of the first slot began to come a second before it did.
        let span = now.since(first) + Duration::from_secs(1);
        let [incoming, outgoing] = both.map(|groups| {
            let loudest = groups.loudest(|Sum { parts, bytes, .. }| (parts, bytes));
            loudest.map(|sum| self.estimate(sum, span))
        });
        Summary { every: self.every, span, incoming, outgoing }
    }

    /// What these samples stand for, when they came within `span`.
    fn estimate(&self, Sum { samples, parts, bytes }: Sum, span: Duration) -> Estimate {
        let per_second = |number: u64, per_one: u64| {
            let a_second = u128::from(number) * u128::from(self.every) * 1000;
            let a_second = a_second / span.as_millis().max(1) / u128::from(per_one);
            u64::try_from(a_second).unwrap_or(u64::MAX)
        };
        let bits = bytes.saturating_mul(8);
        Estimate { samples, pps: per_second(parts, PARTS), bps: per_second(bits, 1) }
    }
}

/// Parts of a packet that are counted.
const PARTS: u64 = 256;

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
        let estimate = |samples, pps, bps| Estimate { samples, pps, bps };
        let first = (64_500, Arc::from("Example"), estimate(300, 5000, 20_000_000));
        assert_eq!(summary.incoming.systems, [first]);
        assert_eq!(summary.outgoing.systems[0].0, 64_501);
        for second in 61..=130 {
            recent.add(at(second), &[sample(Direction::Incoming, [198, 51, 100, 7])], 0, &atlas);
        }
        let summary = recent.summary(at(130));
        let [(asn, _, Estimate { pps, .. })] = summary.incoming.systems[..] else {
            panic!("{summary:?}")
        };
        assert_eq!((asn, pps), (64_501, 1000));
        assert!(summary.outgoing.systems.is_empty() && summary.span <= Duration::from_mins(1));
    }

    #[test]
    fn an_estimate_says_what_it_rests_on_and_speeds_count_what_found_no_room() {
        let atlas = atlas();
        let mut recent = Recent::new(at(0), 1000);
        let [one, other] = [[203, 0, 113, 7], [198, 51, 100, 7]];
        // A quiet second, then one in which every second of 30 samples found no room, in whatever
        // order the two came.
        recent.add(at(1), &[sample(Direction::Incoming, other)], 0, &atlas);
        let mut samples = vec![sample(Direction::Incoming, one); 10];
        samples.extend([sample(Direction::Outgoing, other); 5]);
        recent.add(at(2), &samples, 15, &atlas);
        let told = |loudest: Loudest<Estimate>| -> Vec<(u32, u64, u64, u64)> {
            let systems = loudest.systems.into_iter();
            systems.map(|(asn, _, of)| (asn, of.samples, of.pps, of.bps)).collect()
        };
        let Summary { incoming, outgoing, span, .. } = recent.summary(at(2));
        assert_eq!(span, Duration::from_secs(2));
        assert_eq!(incoming.whole, Estimate { samples: 11, pps: 10_500, bps: 42_000_000 });
        assert_eq!(told(incoming), [(64_500, 10, 10_000, 40_000_000), (64_501, 1, 500, 2_000_000)]);
        assert_eq!(told(outgoing), [(64_501, 5, 5000, 20_000_000)]);
    }

    #[test]
    fn two_that_take_turns_are_alike_though_each_sample_stands_for_one_and_a_half() {
        let atlas = atlas();
        let mut recent = Recent::new(at(0), 1000);
        let turn = [[203, 0, 113, 7], [198, 51, 100, 7]].map(|of| sample(Direction::Incoming, of));
        recent.add(at(1), &turn.repeat(50), 50, &atlas);
        let incoming = recent.summary(at(1)).incoming;
        let speeds: Vec<Estimate> = incoming.systems.into_iter().map(|(.., of)| of).collect();
        assert_eq!(speeds, [Estimate { samples: 50, pps: 75_000, bps: 300_000_000 }; 2]);
        // Looks of which nothing is left say nothing, and none is too great.
        recent.add(at(2), &[], u64::MAX, &atlas);
        assert_eq!(recent.summary(at(2)).incoming.whole.samples, 100);
        recent.add(at(3), &turn, u64::MAX, &atlas);
        assert_eq!(recent.summary(at(3)).incoming.whole.samples, 102);
    }
}
