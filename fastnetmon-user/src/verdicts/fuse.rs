//! The fuse: too many bans within a minute are a mistake until somebody says otherwise.
//!
//! A wrong threshold, an interface that comes back, a mirror port that shows everything twice: each
//! would have half the hosts banned at once. So beyond so many a minute nobody is banned any more by
//! a rule, until a minute was calm or an operator says go on. What operators ban is not counted.
//!
//! **Invariant**: it never lets go of anybody. Bans that stand run their course.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::Moment;

/// Within which bans are counted, and which must be calm.
const MINUTE: Duration = Duration::from_mins(1);

/// The fuse.
#[derive(Debug, Default)]
pub(super) struct Fuse {
    /// 0: it never blows.
    most: u32,
    /// When the bans of the last minute were made.
    bans: VecDeque<Moment>,
    blown: Option<Blown>,
}

#[derive(Clone, Copy, Debug)]
struct Blown {
    /// When too many were to be banned for the last time.
    loud: Moment,
    /// How many are to be banned right now.
    waiting: usize,
}

impl Fuse {
    pub(super) fn new(most: u32) -> Self {
        Self { most, ..Self::default() }
    }

    /// So many from now on.
    pub(super) const fn set(&mut self, most: u32) {
        self.most = most;
        if most == 0 {
            self.blown = None;
        }
    }

    /// How many more may be banned now.
    pub(super) fn room(&mut self, now: Moment) -> usize {
        while self.bans.front().is_some_and(|&ban| now.since(ban) >= MINUTE) {
            self.bans.pop_front();
        }
        match (self.most, self.blown) {
            (0, _) => usize::MAX,
            (_, Some(_)) => 0,
            (most, None) => (most as usize).saturating_sub(self.bans.len()),
        }
    }

    /// One was banned.
    pub(super) fn count(&mut self, now: Moment) {
        if self.most != 0 {
            self.bans.push_back(now);
        }
    }

    /// More were to be banned than there was room for.
    pub(super) fn blow(&mut self, now: Moment, waiting: usize) {
        if self.most != 0 && self.blown.is_none() {
            self.blown = Some(Blown { loud: now, waiting });
        }
    }

    /// A reading was judged, and so many were to be banned in it. Mends when a minute was calm.
    pub(super) fn turn(&mut self, now: Moment, wanted: usize) {
        let Some(blown) = &mut self.blown else { return };
        blown.waiting = wanted;
        if wanted > self.most as usize {
            blown.loud = now;
        }
        if now.since(blown.loud) >= MINUTE {
            self.mend();
        }
    }

    /// Goes on, as if nothing had been. Tells whether it was blown.
    pub(super) fn mend(&mut self) -> bool {
        self.bans.clear();
        self.blown.take().is_some()
    }

    /// What an operator should know.
    pub(super) fn alarm(&self) -> Option<String> {
        let Blown { waiting, .. } = self.blown?;
        Some(format!(
            "The fuse is blown: more than {} hosts were to be banned within a minute, so nobody is \
             banned by a rule until a minute was calm or somebody says `fastnetmon resume`; {waiting} \
             hosts are over their thresholds.",
            self.most
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_boot(Duration::from_secs(1000 + secs))
    }

    #[test]
    fn a_minute_has_room_for_so_many_and_room_comes_back() {
        let mut fuse = Fuse::new(2);
        fuse.count(at(0));
        fuse.count(at(10));
        assert_eq!(fuse.room(at(59)), 0);
        assert_eq!(fuse.room(at(60)), 1);
        assert_eq!(fuse.room(at(70)), 2);
        assert_eq!(Fuse::new(0).room(at(0)), usize::MAX);
    }

    #[test]
    fn once_blown_it_mends_after_a_calm_minute_or_by_a_word() {
        let mut fuse = Fuse::new(2);
        fuse.blow(at(0), 9);
        assert!(fuse.alarm().unwrap().contains("9 hosts are over"), "{:?}", fuse.alarm());
        for second in 1..=30 {
            fuse.turn(at(second), 9);
        }
        for second in 31..90 {
            fuse.turn(at(second), 2);
            assert_eq!(fuse.room(at(second)), 0, "{second}");
        }
        fuse.turn(at(90), 2);
        assert_eq!((fuse.room(at(90)), fuse.alarm()), (2, None));
        fuse.blow(at(91), 3);
        assert!(fuse.mend());
        assert_eq!(fuse.room(at(91)), 2);
        assert!(!fuse.mend());
    }
}
