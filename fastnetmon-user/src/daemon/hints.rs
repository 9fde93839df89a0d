//! When the kernel, or an engine, wakes us: as soon as somebody could be over a threshold.
//!
//! A row counts a share of a host's packets, in windows of about 128 ms. What it may count in one of
//! them before it tells us is its share of the lowest threshold, halved because a burst may lie
//! across two windows.
//!
//! **Invariant**: a hint that comes too early costs a look, one that comes too late costs time: so
//! limits are never above what any rule needs.

use std::time::Duration;

use fastnetmon_common::directory::PROFILES;
use fastnetmon_common::table::Limit;

use crate::model::Direction;
use crate::networks::{GroupId, Territory};
use crate::rates::Pace;
use crate::tables::Limits;
use crate::verdicts::{Measure, Policy};

/// The kernel's window is about this long, and so is an engine's.
const WINDOW: Duration = Duration::from_millis(128);

/// The limits, and how many rows share them.
#[derive(Debug)]
pub(super) struct Hints {
    pub(super) limits: Limits,
    pub(super) rows: u32,
}

impl Hints {
    /// Sets the limits for a policy: the lowest of all for everybody, and where a block is all of one
    /// group, that group's, so that a group with low thresholds does not have us look at everybody.
    pub(super) fn follow(&self, policy: &Policy, territory: &Territory) {
        let profiles = Profiles::new(policy, self.rows);
        for (number, limits) in (0..).zip(&profiles.limits) {
            for (direction, limit) in Direction::BOTH.into_iter().zip(limits) {
                self.limits.set(number, direction, *limit);
            }
        }
        territory.limit(|block| profiles.of(policy.members().throughout(block)));
    }
}

/// Limits by profile; the first is the lowest of all.
struct Profiles {
    limits: Vec<[Limit; 2]>,
    /// By group.
    of: Vec<u32>,
}

impl Profiles {
    fn new(policy: &Policy, rows: u32) -> Self {
        let lowest = |direction| {
            let lowest = |measure| policy.lowest(direction, measure);
            limit(policy.pace, lowest(Measure::Pps), lowest(Measure::Mbps), rows)
        };
        let mut limits = vec![Direction::BOTH.map(lowest)];
        let of = policy
            .groups()
            .map(|group| {
                let of_group = |direction| {
                    let lowest = |measure| policy.lowest_of(group, direction, measure);
                    limit(policy.pace, lowest(Measure::Pps), lowest(Measure::Mbps), rows)
                };
                let wanted = Direction::BOTH.map(of_group);
                let known = limits.iter().position(|limits| *limits == wanted);
                let number = known.unwrap_or_else(|| {
                    limits.push(wanted);
                    limits.len() - 1
                });
                u32::try_from(number).unwrap_or(0)
            })
            .collect();
        // What there is no room for is hinted at too early.
        limits.truncate(PROFILES as usize);
        Self { limits, of }
    }

    fn of(&self, group: Option<GroupId>) -> u32 {
        let number = group.and_then(|group| self.of.get(usize::from(group.0)).copied());
        number.filter(|&number| number < PROFILES).unwrap_or(0)
    }
}

/// What one row may count within one window before it tells.
fn limit(pace: Pace, pps: Option<u64>, mbps: Option<u64>, rows: u32) -> Limit {
    // An average moves too slowly for a look between two readings.
    let Some(window) = pace.window() else { return Limit::default() };
    // A burst that fills a window shorter than the kernel's is all within one of those.
    let span = window.min(WINDOW);
    let share = |a_second: u64| {
        let within = u128::from(a_second) * span.as_nanos() / 1_000_000_000;
        let share = within / u128::from(rows.max(1)) / 2;
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    };
    Limit {
        packets: pps.map_or(0, share),
        // A megabit is 125,000 bytes, and bytes are counted in units of 16, rounded down for each
        // packet: a quarter less makes up for packets of 60 bytes and more.
        bytes16: mbps.map_or(0, |mbps| share(mbps.saturating_mul(125_000) / 16 / 4 * 3)),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use fastnetmon_common::directory::find4;
    use fastnetmon_common::table::Tables as _;

    use super::*;
    use crate::model::Prefix;
    use crate::networks::{Plan, PrefixSet};
    use crate::tables::{self, Parts};
    use crate::verdicts::{BanSettings, GroupSettings};

    #[track_caller]
    fn check(thresholds: &str, rows: u32, expected: [(u32, u32); 2]) {
        let policy = Policy::new(
            &toml::from_str(thresholds).unwrap(),
            &BanSettings::default(),
            &GroupSettings::default(),
            PrefixSet::default(),
            Duration::from_secs(5),
        );
        let limits = Profiles::new(&policy, rows).limits[0];
        let limits = limits.map(|Limit { packets, bytes16 }| (packets, bytes16));
        assert_eq!(limits, expected);
    }

    #[test]
    fn a_limit_is_a_rows_share_of_the_lowest_threshold() {
        check("", 1, [(1920, 0), (1920, 0)]);
        check("", 4, [(480, 0), (480, 0)]);
        check("tcp_syn = { pps = 3000 }", 1, [(192, 0), (192, 0)]);
        check("outgoing = { pps = 3000 }", 1, [(1920, 0), (192, 0)]);
        check("pps = \"off\"\nmbps = 100", 1, [(0, 37_499), (0, 37_499)]);
        check("pps = 1", 64, [(1, 0), (1, 0)]);
        check("average_secs = 5", 1, [(0, 0), (0, 0)]);
        check("window_ms = 100", 1, [(1500, 0), (1500, 0)]);
    }

    #[test]
    fn a_group_with_low_thresholds_has_only_its_own_blocks_hinted_at_early() {
        #[derive(serde::Deserialize)]
        struct File {
            group: GroupSettings,
        }
        let text = "[[group]]\nname = \"small\"\nnetworks = [\"192.0.2.0/24\"]\n\
                    thresholds = { pps = 300 }\n[[group]]\nname = \"half\"\n\
                    networks = [\"198.51.100.0/25\"]\nthresholds = { pps = 3000 }\n\
                    [[group]]\nname = \"free\"\nnetworks = [\"203.0.113.0/24\"]\nban = false\n";
        let file: File = toml::from_str(text).unwrap();
        let prefix = |text| Prefix::parse_masked(text).unwrap().0;
        let policy = Policy::new(
            &toml::from_str("").unwrap(),
            &BanSettings::default(),
            &file.group,
            PrefixSet::default(),
            Duration::from_secs(5),
        );
        let ours = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/25"];
        let ours = PrefixSet::merged(ours.map(prefix)).0;
        let (plan, writes) = Plan::new(&ours, 0).unwrap();
        let shape = plan.shape(NonZeroU32::MIN, 7);
        let (Parts { directory, flags, limits, .. }, rows) = tables::own(shape).unwrap();
        let territory = Territory::new(ours, plan, &writes, shape, vec![directory], vec![flags]);
        let hints = Hints { limits, rows: 1 };
        hints.follow(&policy, &territory);
        let row = &rows[0];
        for (address, packets) in [
            ([192, 0, 2, 9], 19),
            // A block of several groups has the lowest of all.
            ([198, 51, 100, 9], 19),
            ([203, 0, 113, 9], 0),
            ([10, 0, 0, 9], 1920),
            ([10, 0, 0, 127], 1920),
        ] {
            let found = find4(&row, u32::from_be_bytes(address));
            assert!(found.is_ours(), "{address:?}");
            let limit = row.limit(Direction::Incoming, found.profile());
            assert_eq!(limit.packets, packets, "{address:?}");
        }
    }
}
