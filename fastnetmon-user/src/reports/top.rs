//! The loudest hosts of a frame.
//!
//! **Invariant**: costs one pass over the hosts that moved and sorts only what is shown.

use std::cmp::Reverse;

use crate::model::Direction;
use crate::rates::{Rate, RateFrame};

/// The loudest hosts of one direction, each list in falling order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loudest {
    /// By packets.
    pub by_packets: Vec<Rate>,
    /// By bytes.
    pub by_bytes: Vec<Rate>,
}

/// Finds the `count` loudest hosts of one direction.
pub fn loudest(frame: &RateFrame, direction: Direction, count: usize) -> Loudest {
    let rates: Vec<Rate> =
        frame.rates.iter().filter(|rate| rate.direction == direction).copied().collect();
    Loudest {
        by_packets: first(rates.clone(), count, |rate| rate.per_second.pps),
        by_bytes: first(rates, count, |rate| rate.per_second.bytes),
    }
}

fn first(mut rates: Vec<Rate>, count: usize, loudness: impl Fn(&Rate) -> u64) -> Vec<Rate> {
    let key = |rate: &Rate| (Reverse(loudness(rate)), rate.host);
    if count < rates.len() {
        rates.select_nth_unstable_by_key(count, key);
        rates.truncate(count);
    }
    rates.sort_unstable_by_key(key);
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Counts, HostId, PerSecond};

    #[test]
    fn the_loudest_come_first_and_no_more_than_asked_for() {
        let rate = |host, pps, bytes, direction| Rate {
            host: HostId(host),
            direction,
            within: Counts::default(),
            per_second: PerSecond { pps, bytes },
        };
        let frame = RateFrame {
            rates: vec![
                rate(1, 10, 9000, Direction::Incoming),
                rate(2, 30, 100, Direction::Incoming),
                rate(3, 20, 200, Direction::Incoming),
                rate(1, 99, 99, Direction::Outgoing),
            ],
            ..RateFrame::default()
        };
        let hosts = |rates: &[Rate]| rates.iter().map(|rate| rate.host.0).collect::<Vec<_>>();
        let found = loudest(&frame, Direction::Incoming, 2);
        assert_eq!((hosts(&found.by_packets), hosts(&found.by_bytes)), (vec![2, 3], vec![1, 3]));
        assert_eq!(loudest(&frame, Direction::Incoming, 9).by_packets.len(), 3);
    }
}
