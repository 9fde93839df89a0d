//! When the next reading is due.
//!
//! **Invariant**: after a reading that came late, the next one is still as good as the window by itself. One
//! that is shorter would have to be added to the late one, host by host, and both kept.

use std::time::Duration;

use crate::model::Moment;
use crate::rates::nearly;

/// After the reading that was due at `due` and taken at `taken`: as planned, unless that is too soon; then the
/// plan goes on from there.
pub(super) fn next(due: Moment, taken: Moment, span: Duration) -> Moment {
    (due + span).max(taken + nearly(span))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::counters::{Gain, House, Reading};
    use crate::model::{Class, Counts, Direction, HostId, Tally};
    use crate::rates::{RateTable, WINDOW};

    #[test]
    fn late_readings_stand_for_themselves_and_a_little_delay_is_made_up_for() {
        let mut rates = RateTable::default();
        let mut last = Moment::default();
        let mut due = last + WINDOW;
        // Milliseconds a reading comes late, and by how many the plan is behind then.
        let late =
            [(0, 0), (3, 0), (50, 0), (60, 10), (0, 10), (400, 360), (2500, 2810), (0, 2810)];
        for (number, (late, behind)) in (2..).zip(late) {
            let taken = due + Duration::from_millis(late);
            let mut counts = Counts::default();
            counts.0[Class::Udp as usize] = Tally { packets: 1000, bytes: 1000 };
            let gain = Gain::new(HostId(256), Direction::Incoming, &counts, Tally::default());
            let span = taken.since(last);
            let frame = rates.advance(Reading::new(taken, span, vec![gain], House::default()));
            assert_eq!(frame.span, span);
            assert!(Arc::ptr_eq(&frame.moved, &frame.fresh), "something was added to {span:?}");
            last = taken;
            due = next(due, taken, WINDOW);
            assert_eq!(due, Moment::default() + WINDOW * number + Duration::from_millis(behind));
        }
    }
}
