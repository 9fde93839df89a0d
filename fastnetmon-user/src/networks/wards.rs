//! Whom we guard while the agent runs: what the files say, and containers that come and go.
//!
//! **Invariant**: pure. A container that is gone stays guarded until nothing was seen of it for
//! [`QUIET`] and no ban stands for it, so that the end of an attack is seen and told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::Moment;
use crate::networks::Guarded;

/// How long nothing must have been seen of a container that is gone.
pub const QUIET: Duration = Duration::from_secs(15);

/// Networks of the files and addresses of containers.
#[derive(Clone, Debug)]
pub struct Wards {
    files: Guarded,
    present: BTreeSet<IpAddr>,
    /// Gone from the node's table, and when they were last seen.
    leaving: BTreeMap<IpAddr, Moment>,
    /// Differs from what was handed out last.
    is_changed: bool,
}

impl Wards {
    /// What was read at the start.
    pub fn new(read: Guarded) -> Self {
        let present = read.containers.iter().copied().collect();
        Self { files: read, present, leaving: BTreeMap::new(), is_changed: false }
    }

    /// The files were read again.
    pub fn relist(&mut self, now: Moment, read: Guarded) {
        let present = read.containers.iter().copied().collect();
        self.files = read;
        self.is_changed = true;
        self.meet(now, present);
    }

    /// These containers are there now.
    pub fn meet(&mut self, now: Moment, present: BTreeSet<IpAddr>) {
        for &gone in self.present.difference(&present) {
            self.leaving.insert(gone, now);
            // Still guarded: nothing changes yet.
        }
        for &new in present.difference(&self.present) {
            // One that comes back while it is leaving was guarded all the time.
            self.is_changed |= self.leaving.remove(&new).is_none();
        }
        self.present = present;
    }

    /// Those that are gone and not let go yet.
    pub fn leaving(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.leaving.keys().copied()
    }

    /// A packet from or to a container that is gone.
    pub fn stir(&mut self, now: Moment, container: IpAddr) {
        if let Some(seen) = self.leaving.get_mut(&container) {
            *seen = now;
        }
    }

    /// Whom to guard from now on, when that is not what was handed out last.
    pub fn changed(&mut self, now: Moment, is_banned: impl Fn(IpAddr) -> bool) -> Option<Guarded> {
        let before = self.leaving.len();
        self.leaving.retain(|&container, seen| now.since(*seen) < QUIET || is_banned(container));
        self.is_changed |= self.leaving.len() != before;
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        Some(self.files.with(self.present.iter().chain(self.leaving.keys()).copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Prefix;
    use crate::networks::PrefixSet;

    fn at(secs: u64) -> Moment {
        Moment::after_boot(Duration::from_secs(1000 + secs))
    }

    fn set(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn wards(containers: &[&str]) -> Wards {
        let listed = vec![Prefix::parse_masked("192.0.2.0/24").unwrap().0];
        let ours = PrefixSet::merged(listed.clone()).0;
        let files = Guarded { ours, listed, ..Guarded::default() };
        Wards::new(files.with(set(containers)))
    }

    #[track_caller]
    fn check(wards: &mut Wards, secs: u64, banned: &[&str], expected: Option<&[&str]>) {
        let banned = set(banned);
        let changed = wards.changed(at(secs), |address| banned.contains(&address));
        let texts = changed
            .map(|guarded| guarded.ours.iter().map(|p| p.to_string()).collect::<Vec<String>>());
        let expected: Option<Vec<String>> =
            expected.map(|texts| texts.iter().map(ToString::to_string).collect());
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_container_that_comes_is_guarded_at_once() {
        let mut wards = wards(&["10.0.0.1"]);
        check(&mut wards, 0, &[], None);
        wards.meet(at(1), set(&["10.0.0.1", "2001:db8::1"]));
        check(&mut wards, 1, &[], Some(&["10.0.0.1/32", "192.0.2.0/24", "2001:db8::1/128"]));
        check(&mut wards, 1, &[], None);
    }

    #[test]
    fn one_that_goes_is_guarded_until_it_is_quiet_and_no_ban_stands() {
        let mut wards = wards(&["10.0.0.1", "10.0.0.2"]);
        wards.meet(at(0), set(&["10.0.0.2"]));
        check(&mut wards, 14, &[], None);
        wards.stir(at(14), "10.0.0.1".parse().unwrap());
        check(&mut wards, 28, &[], None);
        check(&mut wards, 100, &["10.0.0.1"], None);
        check(&mut wards, 101, &[], Some(&["10.0.0.2/32", "192.0.2.0/24"]));
    }

    #[test]
    fn one_that_comes_back_in_time_changes_nothing() {
        let mut wards = wards(&["10.0.0.1"]);
        wards.meet(at(0), set(&[]));
        wards.meet(at(5), set(&["10.0.0.1"]));
        check(&mut wards, 99, &[], None);
    }

    #[test]
    fn files_that_are_read_again_keep_the_containers() {
        let mut wards = wards(&["10.0.0.1"]);
        let listed = vec![Prefix::parse_masked("198.51.100.0/24").unwrap().0];
        let read = Guarded { listed, ..Guarded::default() }.with(set(&["10.0.0.3"]));
        wards.relist(at(0), read);
        check(&mut wards, 0, &[], Some(&["10.0.0.1/32", "10.0.0.3/32", "198.51.100.0/24"]));
        check(&mut wards, 15, &[], Some(&["10.0.0.3/32", "198.51.100.0/24"]));
    }
}
