//! The only place that asks what time it is.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::model::{Moment, Wall};

/// Now, on the boot clock.
pub fn now() -> Moment {
    Moment::after_boot(duration(clock_gettime(ClockId::Boottime)))
}

/// Now, on both clocks.
pub fn wall() -> Wall {
    Wall { read_at: now(), unix: duration(clock_gettime(ClockId::Realtime)) }
}

/// CPU time this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}
