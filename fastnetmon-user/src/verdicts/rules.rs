//! Rules: what one host, or several together, may do in one direction.
//!
//! **Invariant**: a rule is exceeded when the whole number shown to the operator is larger than the
//! threshold. Packets and bytes that make it so are worked out once a frame, so that judging is a
//! comparison of counts.

use std::time::Duration;

use crate::model::{Counts, Direction, Tally};
use crate::verdicts::settings::{Ceiling, Limits, Ways};
use crate::verdicts::{Cause, Measure, Subject};

/// One rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rule {
    pub(super) subject: Subject,
    pub(super) measure: Measure,
    pub(super) threshold: u64,
    /// Only where more than so many percent of the packets are the subject's.
    pub(super) share_percent: Option<u64>,
}

/// The rules of one direction, in the order in which they are checked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Rules(pub(super) Vec<Rule>);

/// A rule that was exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Exceeded {
    pub(super) rule: Rule,
    pub(super) measured: u64,
}

impl Exceeded {
    pub(super) const fn cause(self) -> Cause {
        let Rule { subject, measure, threshold, .. } = self.rule;
        Cause::Rule { subject, measure, threshold, measured: self.measured }
    }
}

/// The packets of a subject.
pub(super) fn of(counts: &Counts, subject: Subject) -> Tally {
    let mut sum = Tally::default();
    for &class in subject.classes() {
        sum += counts.class(class);
    }
    sum
}

impl Rule {
    /// Are there so many packets or bytes, and the share where one is asked for?
    fn reached(&self, counts: &Counts, least: u128) -> bool {
        let tally = of(counts, self.subject);
        let amount = match self.measure {
            Measure::Pps => tally.packets,
            Measure::Mbps => tally.bytes,
        };
        u128::from(amount) >= least
            && self.share_percent.is_none_or(|share| {
                u128::from(tally.packets) * 100
                    > u128::from(share) * u128::from(counts.total().packets)
            })
    }

    /// The fewest packets or bytes within `window` that are more than `percent` of the threshold.
    fn least(&self, window: Duration, percent: u64) -> u128 {
        let more = u128::from(self.threshold) * u128::from(percent) / 100 + 1;
        let a_second = match self.measure {
            Measure::Pps => more,
            // A megabit is 125,000 bytes.
            Measure::Mbps => more * 125_000,
        };
        (a_second * window.as_nanos()).div_ceil(1_000_000_000)
    }

    fn measured(&self, counts: &Counts, window: Duration) -> u64 {
        let speed = of(counts, self.subject).per_second(window);
        match self.measure {
            Measure::Pps => speed.pps,
            Measure::Mbps => speed.mbps(),
        }
    }
}

impl Rules {
    /// The rules of one direction: what comes first goes before what follows.
    pub(super) fn resolve(direction: Direction, ways: &[&Ways]) -> Self {
        let mut layers: Vec<Limits> = Vec::new();
        for ways in ways {
            let own = match direction {
                Direction::Incoming => &ways.incoming,
                Direction::Outgoing => &ways.outgoing,
            };
            layers.extend(own.clone());
            layers.push(ways.both());
        }
        let mut rules = Vec::new();
        // The whole before its parts, packets before bytes.
        for (subjects, measure) in [
            (&[Subject::Total][..], Measure::Pps),
            (&[Subject::Total][..], Measure::Mbps),
            (&PARTS[..], Measure::Pps),
            (&PARTS[..], Measure::Mbps),
        ] {
            for &subject in subjects {
                if let Some(Ceiling::At(threshold)) = first(&layers, subject, measure) {
                    let share_percent = layers
                        .iter()
                        .find_map(|layer| layer.of(subject)?.share_percent.map(u64::from));
                    rules.push(Rule { subject, measure, threshold, share_percent });
                }
            }
        }
        Self(rules)
    }

    /// Made ready for frames whose rates stand for `window`; calm is below `percent` of a threshold.
    pub(super) fn ready(&self, window: Duration, percent: u64) -> Ready {
        let bars: Vec<Bar> = self
            .0
            .iter()
            .map(|rule| Bar {
                rule: *rule,
                exceeded: rule.least(window, 100),
                loud: rule.least(window, percent),
            })
            .collect();
        let least = |measure: Measure| {
            let bars = bars.iter().filter(|bar| bar.rule.measure == measure);
            let least = bars.map(|bar| bar.exceeded).min();
            least.map_or(u64::MAX, |least| u64::try_from(least).unwrap_or(u64::MAX))
        };
        let exceeded = Least { packets: least(Measure::Pps), bytes: least(Measure::Mbps) };
        Ready { window, bars, exceeded }
    }

    /// The lowest threshold of a measure, whatever it counts.
    pub(super) fn lowest(&self, measure: Measure) -> Option<u64> {
        let rules = self.0.iter().filter(|rule| rule.measure == measure);
        rules.map(|rule| rule.threshold).min()
    }
}

const PARTS: [Subject; 5] =
    [Subject::Tcp, Subject::TcpSyn, Subject::Udp, Subject::Icmp, Subject::Fragment];

fn first(layers: &[Limits], subject: Subject, measure: Measure) -> Option<Ceiling> {
    layers.iter().find_map(|layer| {
        let (pps, mbps) = match layer.of(subject) {
            Some(class) => (class.pps, class.mbps),
            None if subject == Subject::Total => (layer.pps, layer.mbps),
            None => (None, None),
        };
        match measure {
            Measure::Pps => pps,
            Measure::Mbps => mbps,
        }
    })
}

/// Who has fewer packets and fewer bytes than this has no rule exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Least {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Least {
    /// Nobody has so many.
    pub(super) const NEVER: Self = Self { packets: u64::MAX, bytes: u64::MAX };

    pub(super) const fn reached(self, total: Tally) -> bool {
        total.packets >= self.packets || total.bytes >= self.bytes
    }

    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        Self { packets: self.packets.min(other.packets), bytes: self.bytes.min(other.bytes) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bar {
    rule: Rule,
    exceeded: u128,
    loud: u128,
}

/// Rules as counts.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    window: Duration,
    bars: Vec<Bar>,
    pub(super) exceeded: Least,
}

impl Ready {
    /// The first rule that is exceeded.
    pub(super) fn exceeded(&self, counts: &Counts) -> Option<Exceeded> {
        let bar = self.bars.iter().find(|bar| bar.rule.reached(counts, bar.exceeded))?;
        Some(Exceeded { rule: bar.rule, measured: bar.rule.measured(counts, self.window) })
    }

    /// Does an attack still go on?
    pub(super) fn is_loud(&self, counts: &Counts) -> bool {
        self.bars.iter().any(|bar| bar.rule.reached(counts, bar.loud))
    }

    /// Is there any rule?
    pub(super) const fn is_empty(&self) -> bool {
        self.bars.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Class;

    fn ways(text: &str) -> Ways {
        toml::from_str(text).unwrap()
    }

    fn counts(class: Class, packets: u64, bytes: u64) -> Counts {
        let mut counts = Counts::default();
        counts.0[class as usize] = Tally { packets, bytes };
        counts
    }

    #[track_caller]
    fn check(rules: &str, window_ms: u64, counts: &Counts, expected: Option<(&str, u64)>) {
        let rules = Rules::resolve(Direction::Incoming, &[&ways(rules)]);
        let ready = rules.ready(Duration::from_millis(window_ms), 80);
        let found = ready.exceeded(counts);
        let found = found.map(|found| {
            let Rule { subject, measure, .. } = found.rule;
            (format!("{} {}", subject.name(), measure.name()), found.measured)
        });
        assert_eq!(found.as_ref().map(|(name, measured)| (name.as_str(), *measured)), expected);
        assert!(found.is_none() || ready.exceeded.reached(counts.total()));
    }

    #[test]
    fn exactly_the_threshold_is_allowed_in_packets_and_in_decimal_megabits() {
        let udp = |packets, bytes| counts(Class::Udp, packets, bytes);
        check("pps = 1000", 1000, &udp(1000, 0), None);
        check("pps = 1000", 1000, &udp(1001, 0), Some(("total pps", 1001)));
        check("pps = 1000", 500, &udp(500, 0), None);
        check("pps = 1000", 500, &udp(501, 0), Some(("total pps", 1002)));
        // 100 Mbit/s are 12,500,000 bytes; one Mbit/s more is 12,625,000.
        check("mbps = 100", 1000, &udp(1, 12_624_999), None);
        check("mbps = 100", 1000, &udp(1, 12_625_000), Some(("total mbps", 101)));
        check("mbps = 100", 2000, &udp(1, 25_249_999), None);
        check("mbps = 100", 2000, &udp(1, 25_250_000), Some(("total mbps", 101)));
    }

    #[test]
    fn a_class_counts_by_itself_and_tcp_holds_syn() {
        check("tcp_syn = { pps = 10 }", 1000, &counts(Class::Tcp, 99, 0), None);
        check("tcp = { pps = 10 }", 1000, &counts(Class::Syn, 11, 0), Some(("tcp pps", 11)));
        check(
            "tcp = { pps = 10 }\ntcp_syn = { pps = 10 }\npps = 10",
            1000,
            &counts(Class::Syn, 11, 0),
            Some(("total pps", 11)),
        );
        check(
            "icmp = { mbps = 1 }",
            1000,
            &counts(Class::Icmp, 1, 250_000),
            Some(("icmp mbps", 2)),
        );
    }

    #[test]
    fn a_share_rule_wants_both_the_number_and_the_share() {
        let rule = "tcp_syn = { pps = 100, share_percent = 50 }";
        let mut both = counts(Class::Syn, 101, 0);
        both.0[Class::Tcp as usize].packets = 100;
        check(rule, 1000, &both, Some(("tcp_syn pps", 101)));
        both.0[Class::Tcp as usize].packets = 101;
        check(rule, 1000, &both, None);
        check(rule, 1000, &counts(Class::Syn, 100, 0), None);
    }

    #[test]
    fn the_nearest_word_counts_and_off_takes_a_rule_away() {
        let group = ways("pps = 500\n[outgoing]\npps = \"off\"\nudp = { pps = 7 }");
        let all = ways("pps = 1000\nmbps = 100\n[incoming]\npps = 2000\nudp = { pps = 9 }");
        let told = |direction| -> Vec<String> {
            let Rules(rules) = Rules::resolve(direction, &[&group, &all]);
            rules
                .iter()
                .map(|rule| {
                    format!("{} {} {}", rule.subject.name(), rule.measure.name(), rule.threshold)
                })
                .collect()
        };
        assert_eq!(told(Direction::Incoming), ["total pps 500", "total mbps 100", "udp pps 9"]);
        assert_eq!(told(Direction::Outgoing), ["total mbps 100", "udp pps 7"]);
    }

    #[test]
    fn an_attack_is_loud_until_it_is_below_its_part_of_the_threshold() {
        let rules = Rules::resolve(Direction::Incoming, &[&ways("pps = 1000")]);
        let ready = rules.ready(Duration::from_secs(1), 80);
        assert!(ready.is_loud(&counts(Class::Udp, 801, 0)));
        assert!(!ready.is_loud(&counts(Class::Udp, 800, 0)));
    }
}
