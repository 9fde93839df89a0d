//! The loudest hosts of a frame.
//!
//! **Invariant**: costs one pass over the hosts that moved and sorts only what is shown.

use std::cmp::Reverse;

use crate::counters::Gain;
use crate::model::{Direction, HostId};
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
    let mut by_packets = First::new(count, frame, |rate: &Rate| rate.per_second.pps);
    let mut by_bytes = First::new(count, frame, |rate: &Rate| rate.per_second.bytes);
    for gain in frame.moved.iter().filter(|gain| gain.direction == direction) {
        let total = gain.total();
        by_packets.offer(gain, total.packets);
        by_bytes.offer(gain, total.bytes);
    }
    Loudest { by_packets: by_packets.sorted(), by_bytes: by_bytes.sorted() }
}

/// The first few of many.
struct First<'a, F> {
    count: usize,
    frame: &'a RateFrame,
    loudness: F,
    /// Less than twice as many as are wanted.
    held: Vec<Rate>,
    /// Who gained less than this within the window has no place any more. A speed is two divisions,
    /// and of a million hosts nearly none has a place.
    least: u64,
}

impl<'a, F: Fn(&Rate) -> u64> First<'a, F> {
    const fn new(count: usize, frame: &'a RateFrame, loudness: F) -> Self {
        Self { count, frame, loudness, held: Vec::new(), least: 0 }
    }

    fn offer(&mut self, gain: &Gain, amount: u64) {
        // One that is as loud as the last may still come before it by its number.
        if amount < self.least {
            return;
        }
        self.held.push(self.frame.rate(gain));
        if self.held.len() >= self.count.saturating_mul(2).max(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let Self { count, frame, loudness, held, least } = self;
        if *count == 0 || held.len() <= *count {
            held.truncate(*count);
            return;
        }
        let (_, last, _) =
            held.select_nth_unstable_by_key(*count - 1, |rate| key(&*loudness, rate));
        *least = frame.amount(loudness(last));
        held.truncate(*count);
    }

    fn sorted(mut self) -> Vec<Rate> {
        self.cut();
        let Self { loudness, mut held, .. } = self;
        held.sort_unstable_by_key(|rate| key(&loudness, rate));
        held
    }
}

/// The loudest first, and among equals the one with the lowest number.
fn key(loudness: impl Fn(&Rate) -> u64, rate: &Rate) -> (Reverse<u64>, HostId) {
    (Reverse(loudness(rate)), rate.host)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::counters::Gains;
    use crate::model::{Class, Counts, Tally};
    use crate::rates::WINDOW;

    #[test]
    fn the_loudest_come_first_and_no_more_than_asked_for() {
        let gain = |host, packets, bytes, direction| {
            let mut counts = Counts::default();
            counts.0[Class::Udp as usize] = Tally { packets, bytes };
            Gain::new(HostId(host), direction, &counts, Tally::default())
        };
        let moved = vec![
            gain(1, 10, 9000, Direction::Incoming),
            gain(2, 30, 100, Direction::Incoming),
            gain(3, 20, 200, Direction::Incoming),
            gain(1, 99, 99, Direction::Outgoing),
        ];
        let moved = Arc::new(Gains::from(moved));
        let frame = RateFrame { span: WINDOW, moved, ..RateFrame::default() };
        let hosts = |rates: &[Rate]| rates.iter().map(|rate| rate.host.0).collect::<Vec<_>>();
        let found = loudest(&frame, Direction::Incoming, 2);
        assert_eq!((hosts(&found.by_packets), hosts(&found.by_bytes)), (vec![2, 3], vec![1, 3]));
        assert_eq!(loudest(&frame, Direction::Incoming, 9).by_packets.len(), 3);
    }

    #[test]
    fn of_many_hosts_the_loudest_are_first_whatever_the_order() {
        let orders: [fn(u32) -> u32; 2] = [|host| host, |host| 4999 - host];
        for order in orders {
            let gain = |host: u32| {
                let mut counts = Counts::default();
                let loudness = u64::from(order(host).wrapping_mul(2_654_435_761) >> 22);
                counts.0[Class::Udp as usize] = Tally { packets: loudness, bytes: loudness };
                Gain::new(HostId(host), Direction::Incoming, &counts, Tally::default())
            };
            let moved: Vec<Gain> = (0..5000).map(gain).collect();
            let mut expected: Vec<(Reverse<u64>, HostId)> =
                moved.iter().map(|gain| (Reverse(gain.total().packets), gain.host)).collect();
            expected.sort();
            expected.truncate(100);
            let moved = Arc::new(Gains::from(moved));
            let frame = RateFrame { span: WINDOW, moved, ..RateFrame::default() };
            let found: Vec<(Reverse<u64>, HostId)> = loudest(&frame, Direction::Incoming, 100)
                .by_packets
                .iter()
                .map(|rate| (Reverse(rate.per_second.pps), rate.host))
                .collect();
            assert_eq!(found, expected);
        }
    }
}
