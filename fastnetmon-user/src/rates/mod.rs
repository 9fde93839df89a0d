//! Totals become speeds.
//!
//! A rate is what came within the window, divided by the window: plain, so that a ban is explained by
//! one number. A tick shorter than the window is summed with those before it. Who wants averages
//! instead sets another [`Pace`].
//!
//! **Invariant**: pure. The clock is an argument, and a reading gives the same frame whenever it is
//! played.

mod pace;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use self::pace::Pace;
use self::pace::{AVERAGED, Averages};
use crate::counters::{Gain, Gains, House, Reading, Whole};
use crate::model::{Counts, Direction, HostId, Load, Moment, PerSecond, Tally, Unparsed};

/// The window, unless another one is set.
pub const WINDOW: Duration = Duration::from_secs(1);

/// What one host did within the window, in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Whose.
    pub host: HostId,
    /// Which way.
    pub direction: Direction,
    /// By class.
    pub within: Counts,
    /// All classes, a second.
    pub per_second: PerSecond,
}

/// One of the four kinds of traffic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Channel {
    /// Since the agent started.
    pub total: Tally,
    /// In the last reading.
    pub per_second: PerSecond,
}

/// Everything counted since the agent started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// To our hosts, from elsewhere.
    pub incoming: Channel,
    /// From our hosts, to elsewhere.
    pub outgoing: Channel,
    /// Between our hosts.
    pub internal: Channel,
    /// Touching none of our hosts.
    pub other: Channel,
    /// Of what came in and went out: what we dropped.
    pub dropped: Channel,
    /// Frames without an IP header that can be read, by reason.
    pub unparsed: [Tally; Unparsed::REASONS],
    /// What a rule has us not count for anybody.
    pub ignored: Tally,
    /// Frames that carry more than their IP packet.
    pub padding: Tally,
    /// Samples that found their ring full.
    pub samples_lost: u64,
    /// Hints that found their ring full.
    pub hints_lost: u64,
    /// IPv6 hosts that were not told of.
    pub strangers_untold: u64,
}

impl Totals {
    /// Every frame that was seen, readable or not.
    pub fn received(&self) -> u64 {
        let channels = [self.incoming, self.outgoing, self.internal, self.other];
        let counted: u64 = channels.iter().map(|channel| channel.total.packets).sum();
        counted
            + self.ignored.packets
            + self.unparsed.iter().map(|tally| tally.packets).sum::<u64>()
    }
}

/// All speeds at one moment.
#[derive(Clone, Debug, Default)]
pub struct RateFrame {
    /// When.
    pub at: Moment,
    /// How long what is in it took to come.
    pub span: Duration,
    /// The window it is to be divided by, at least.
    pub least: Duration,
    /// What hosts gained that moved within the window, incoming first, in the order of their slots.
    pub moved: Arc<Gains>,
    /// What hosts gained in the last reading alone, in the same order.
    pub fresh: Arc<Gains>,
    /// The whole.
    pub totals: Totals,
}

impl RateFrame {
    /// The speeds of all hosts that moved, worked out as they are asked for: of a million hosts few
    /// are ever looked at twice.
    pub fn rates(&self) -> impl Iterator<Item = Rate> + '_ {
        self.moved.iter().map(|gain| self.rate(gain))
    }

    /// Those with more packets a second than this.
    pub fn above(&self, pps: u64) -> impl Iterator<Item = Rate> + '_ {
        // A rate is rounded down, so it is above only when the next whole number is reached.
        let least = (u128::from(pps) + 1) * self.window().as_nanos();
        let runs = Direction::BOTH.into_iter().flat_map(|direction| self.moved.runs(direction));
        // A run in which nobody is that fast is passed by.
        runs.filter(move |run| u128::from(run.total.packets) * 1_000_000_000 >= least)
            .flat_map(|run| self.moved.of(run))
            .filter(move |gain| u128::from(gain.total().packets) * 1_000_000_000 >= least)
            .map(|gain| self.rate(gain))
    }

    /// What one host did, by class.
    pub fn load(&self, host: HostId, direction: Direction) -> Load {
        Gain::find(&self.moved, host, direction)
            .map(|gain| gain.counts().per_second(self.window()))
            .unwrap_or_default()
    }

    /// What one host gained in the last reading.
    pub fn gained(&self, host: HostId, direction: Direction) -> Counts {
        Gain::find(&self.fresh, host, direction).map(Gain::counts).unwrap_or_default()
    }

    /// The smallest amount within the window that makes this speed.
    pub fn amount(&self, per_second: u64) -> u64 {
        let amount = u128::from(per_second) * self.window().as_nanos();
        u64::try_from(amount.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
    }

    /// The speed that a gain of this frame is.
    pub fn rate(&self, gain: &Gain) -> Rate {
        let within = gain.counts();
        Rate {
            host: gain.host,
            direction: gain.direction,
            within,
            per_second: within.total().per_second(self.window()),
        }
    }

    /// What is in it is divided by this. What was seen is shorter only while the agent is young:
    /// before it, there was nothing.
    pub fn window(&self) -> Duration {
        self.span.max(self.least)
    }
}

/// A reading of so many percent of the window is as good as the window: the clock's grain and a busy
/// machine take a little off each.
const NEARLY: u32 = 95;

/// The shortest reading that is as good as a window of this length.
pub fn nearly(window: Duration) -> Duration {
    window * NEARLY / 100
}

/// Makes rates out of readings.
#[derive(Debug, Default)]
pub struct RateTable {
    pace: Pace,
    averages: Averages,
    totals: Totals,
    /// By direction: what the house's lines told of packets that the hosts' lines do not show yet.
    ahead: [Tally; 2],
    /// The readings that make the window, oldest first.
    window: VecDeque<Part>,
    /// Their sum, when there is more than one; in the order of gains, and shared with the frame.
    sums: Arc<Gains>,
}

/// What a reading adds to the window.
#[derive(Debug)]
struct Part {
    span: Duration,
    gains: Arc<Gains>,
}

impl RateTable {
    /// At this pace.
    pub fn new(pace: Pace) -> Self {
        Self { pace, ..Self::default() }
    }

    /// At another pace from now on. What was seen until now says nothing about it.
    pub fn turn_to(&mut self, pace: Pace) {
        if pace != self.pace {
            self.pace = pace;
            self.averages.forget();
            self.window.clear();
            self.sums = Arc::default();
        }
    }

    fn least(&self) -> Duration {
        self.pace.window().unwrap_or(AVERAGED)
    }

    /// As good as the window. An average takes each reading as it is.
    fn nearly(&self) -> Duration {
        match self.pace {
            Pace::Window(window) => nearly(window),
            Pace::Average(_) => Duration::ZERO,
        }
    }

    /// Takes a reading and tells the speeds.
    pub fn advance(&mut self, reading: Reading) -> RateFrame {
        self.take_totals(&reading);
        let Reading { at, span, gains, .. } = reading;
        let part = Part { span, gains: Arc::new(gains) };
        if span >= self.nearly() {
            self.window.clear();
            self.sums = Arc::default();
            self.window.push_back(part);
        } else {
            self.slide(part);
        }
        let fresh = self.window.back().map(|part| Arc::clone(&part.gains)).unwrap_or_default();
        let (least, totals) = (self.least(), self.totals);
        if let Pace::Average(over) = self.pace {
            let moved = Arc::new(Gains::from(self.averages.take(&fresh, span, over)));
            return RateFrame { at, span: least, least, moved, fresh, totals };
        }
        let span: Duration = self.window.iter().map(|part| part.span).sum();
        let moved = match self.window.back() {
            Some(only) if self.window.len() == 1 => Arc::clone(&only.gains),
            _ => Arc::clone(&self.sums),
        };
        RateFrame { at, span, least, moved, fresh, totals }
    }

    /// Gives back the room of gains that a reading of this length makes needless. Whoever holds the
    /// last frame drops it first.
    pub fn let_go(&mut self, span: Duration) -> Gains {
        if span < self.nearly() {
            return Gains::default();
        }
        self.sums = Arc::default();
        let last = self.window.drain(..).next_back();
        last.and_then(|part| Arc::into_inner(part.gains)).unwrap_or_default()
    }

    /// What the last reading brought.
    pub fn newest(&self) -> Option<Arc<Gains>> {
        self.window.back().map(|part| Arc::clone(&part.gains))
    }

    /// Takes a reading that came too late to say anything about speeds.
    pub fn skip(&mut self, reading: &Reading) -> Totals {
        self.take_totals(reading);
        self.window.clear();
        self.sums = Arc::default();
        self.totals
    }

    fn slide(&mut self, part: Part) {
        let mut earlier = std::mem::take(&mut self.sums);
        if earlier.is_empty()
            && let Some(only) = self.window.back()
        {
            // One long reading stood for itself until now.
            earlier = Arc::clone(&only.gains);
        }
        let mut sums = with(&earlier, &part.gains);
        self.window.push_back(part);
        let nearly = self.nearly();
        let mut span: Duration = self.window.iter().map(|part| part.span).sum();
        while let Some(oldest) = self.window.front()
            && span.saturating_sub(oldest.span) >= nearly
        {
            span = span.saturating_sub(oldest.span);
            sums = without(&sums, &oldest.gains);
            self.window.pop_front();
        }
        self.sums = Arc::new(Gains::from(sums));
    }

    fn take_totals(&mut self, reading: &Reading) {
        let Whole { incoming, outgoing, dropped } = reading.whole;
        let House {
            other,
            internal_incoming,
            internal_outgoing,
            mirrored,
            tunnelled_incoming,
            tunnelled_outgoing,
            ignored,
            unparsed,
            padding,
            samples_lost,
            hints_lost,
            strangers_untold,
        } = reading.house;
        // Packets between our hosts stand on the hosts' lines and on the house's.
        let mut internal = mirrored;
        internal += internal_incoming;
        internal += internal_outgoing;
        let totals = &mut self.totals;
        // What a tunnel carried stands beside the tunnel's own packets.
        let [ahead_in, ahead_out] = &mut self.ahead;
        let twice = [internal_incoming, mirrored, tunnelled_incoming];
        let incoming = rest_of(incoming, twice, ahead_in);
        let twice = [internal_outgoing, mirrored, tunnelled_outgoing];
        let outgoing = rest_of(outgoing, twice, ahead_out);
        totals.incoming.take(incoming, reading.span);
        totals.outgoing.take(outgoing, reading.span);
        totals.internal.take(internal, reading.span);
        totals.other.take(other, reading.span);
        totals.dropped.take(dropped, reading.span);
        for (total, new) in totals.unparsed.iter_mut().zip(unparsed) {
            *total += new;
        }
        totals.ignored += ignored;
        totals.padding += padding;
        totals.samples_lost += samples_lost;
        totals.hints_lost += hints_lost;
        totals.strangers_untold += strangers_untold;
    }
}

/// What hosts' lines gained, without what stands on the house's as well. No two lines are read, nor
/// written, at one moment: where the house's is ahead, the difference is taken from what hosts gain later.
fn rest_of(hosts: Tally, twice: [Tally; 3], ahead: &mut Tally) -> Tally {
    for part in twice {
        *ahead += part;
    }
    let rest = hosts.less(*ahead);
    *ahead = ahead.less(hosts);
    rest
}

/// What a host gained in both. Both stand in the order of gains, as does their sum.
fn with(sums: &[Gain], more: &[Gain]) -> Vec<Gain> {
    let mut both = Vec::with_capacity(sums.len().max(more.len()));
    let (mut sums, mut more) = (sums.iter().peekable(), more.iter().peekable());
    loop {
        let (direction, host) = match (sums.peek(), more.peek()) {
            (None, None) => return both,
            (Some(gain), None) | (None, Some(gain)) => gain.place(),
            (Some(sum), Some(gain)) => sum.place().min(gain.place()),
        };
        let mut counts = Counts::default();
        for side in [&mut sums, &mut more] {
            if let Some(gain) = side.next_if(|gain| gain.place() == (direction, host)) {
                counts += &gain.counts();
            }
        }
        both.push(Gain::new(host, direction, &counts, Tally::default()));
    }
}

/// What is left of a sum without a part of it. Whoever has nothing left is not in it.
fn without(sums: &[Gain], part: &[Gain]) -> Vec<Gain> {
    let mut left = Vec::with_capacity(sums.len());
    let mut part = part.iter().peekable();
    for sum in sums {
        match part.next_if(|gone| gone.place() == sum.place()) {
            None => left.push(*sum),
            Some(gone) => {
                let counts = sum.counts().less(&gone.counts());
                if !counts.total().is_zero() {
                    left.push(Gain::new(sum.host, sum.direction, &counts, Tally::default()));
                }
            }
        }
    }
    left
}

impl Channel {
    /// Takes what came within the last reading.
    pub fn take(&mut self, new: Tally, span: Duration) {
        self.total += new;
        self.per_second = new.per_second(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Class;

    fn reading(at_ms: u64, span_ms: u64, packets: u64) -> Reading {
        let mut counts = Counts::default();
        counts.0[Class::Udp as usize] = Tally { packets, bytes: packets * 46 };
        let gain = Gain::new(HostId(256), Direction::Incoming, &counts, Tally::default());
        Reading::new(
            Moment::after_boot(Duration::from_millis(at_ms)),
            Duration::from_millis(span_ms),
            if packets == 0 { vec![] } else { vec![gain] },
            House::default(),
        )
    }

    #[track_caller]
    fn check(table: &mut RateTable, reading: Reading, expected: Option<u64>) {
        let frame = table.advance(reading);
        let pps = frame.rates().next().map(|rate| rate.per_second.pps);
        assert_eq!(pps, expected);
        let pps = pps.unwrap_or_default();
        assert_eq!(frame.above(pps).count(), 0);
        assert_eq!(frame.above(pps.saturating_sub(1)).count(), usize::from(pps != 0));
    }

    #[test]
    fn a_rate_is_what_came_within_the_window_however_short_the_tick() {
        let mut table = RateTable::default();
        for tick in 1..=10 {
            check(&mut table, reading(tick * 100, 100, 1000), Some(tick * 1000));
        }
        for tick in 11..=15 {
            check(&mut table, reading(tick * 100, 100, 1000), Some(10_000));
        }
        for tick in 16..=24 {
            check(&mut table, reading(tick * 100, 100, 0), Some(10_000 - (tick - 15) * 1000));
        }
        check(&mut table, reading(2500, 100, 0), None);
    }

    #[test]
    fn ticks_between_half_a_window_and_a_whole_one_are_summed_as_well() {
        for tick in [500, 700, 900] {
            let mut table = RateTable::default();
            table.advance(reading(tick, tick, 50 * tick));
            check(&mut table, reading(2 * tick, tick, 50 * tick), Some(50_000));
            check(&mut table, reading(3 * tick, tick, 50 * tick), Some(50_000));
        }
    }

    #[test]
    fn short_ticks_add_up_host_by_host_as_a_plain_sum_does() {
        let mut table = RateTable::default();
        let mut window: VecDeque<(u64, Vec<Gain>)> = VecDeque::new();
        let mut random = 1_u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 16
        };
        for tick in 1..=200_u64 {
            let span = 100 + u64::from(next() % 500);
            let mut gains = Vec::new();
            for (direction, host) in
                Direction::BOTH.into_iter().flat_map(|way| (300..310).map(move |host| (way, host)))
            {
                let mut counts = Counts::default();
                // Most are silent most of the time, and some of them for a whole window.
                let packets = if next() % 4 == 0 { u64::from(next() % 100) } else { 0 };
                counts.0[host as usize % 6] = Tally { packets, bytes: packets * 60 };
                if packets > 0 {
                    gains.push(Gain::new(HostId(host), direction, &counts, Tally::default()));
                }
            }
            window.push_back((span, gains.clone()));
            while window.iter().map(|part| part.0).sum::<u64>() - window[0].0 >= 950 {
                window.pop_front();
            }
            let at = Moment::after_boot(Duration::from_secs(tick));
            let span = Duration::from_millis(span);
            let frame = table.advance(Reading::new(at, span, gains, House::default()));
            let mut sums = std::collections::BTreeMap::<_, Counts>::new();
            for gain in window.iter().flat_map(|part| &part.1) {
                *sums.entry(gain.place()).or_default() += &gain.counts();
            }
            let told: Vec<_> =
                frame.moved.iter().map(|gain| (gain.place(), gain.counts())).collect();
            assert_eq!(told, sums.into_iter().collect::<Vec<_>>(), "tick {tick}");
        }
    }

    #[test]
    fn a_stall_among_short_ticks_does_not_hide_a_flood() {
        let mut table = RateTable::default();
        for tick in 1..=12 {
            table.advance(reading(tick * 100, 100, 6_000));
        }
        for (at, span) in [(1900, 700), (2000, 100), (3300, 1300), (3400, 100), (3500, 100)] {
            check(&mut table, reading(at, span, 60 * span), Some(60_000));
        }
    }

    #[test]
    fn a_late_tick_is_divided_by_its_own_length() {
        let mut table = RateTable::default();
        check(&mut table, reading(1000, 1000, 40_000), Some(40_000));
        check(&mut table, reading(3000, 2000, 40_000), Some(20_000));
        check(&mut table, reading(3990, 990, 40_000), Some(40_000));
        assert_eq!(table.skip(&reading(9990, 6000, 7)).incoming.total.packets, 120_007);
    }

    #[test]
    fn packets_between_our_hosts_count_once_in_the_totals() {
        let mut table = RateTable::default();
        let mut one = reading(1000, 1000, 10);
        one.house.internal_incoming = Tally { packets: 4, bytes: 184 };
        let totals = table.advance(one).totals;
        assert_eq!(totals.incoming.total, Tally { packets: 6, bytes: 276 });
        assert_eq!(totals.internal.total, Tally { packets: 4, bytes: 184 });
        assert_eq!(totals.received(), 10);
    }

    #[test]
    fn what_the_house_tells_before_its_hosts_do_counts_once_as_well() {
        let mut table = RateTable::default();
        let mut first = reading(1000, 1000, 1);
        first.house.internal_incoming = Tally { packets: 4, bytes: 184 };
        let totals = table.advance(first).totals;
        assert_eq!(totals.incoming.total, Tally::default());
        assert_eq!(totals.internal.total, Tally { packets: 4, bytes: 184 });
        let totals = table.advance(reading(2000, 1000, 8)).totals;
        assert_eq!(totals.incoming.total, Tally { packets: 5, bytes: 230 });
        assert_eq!(totals.received(), 9);
    }
}
