//! What happened, numbered.
//!
//! **Invariant**: numbers rise by one and are never given twice while the agent runs, so that
//! whoever looks now and then knows what was missed.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::verdicts::Verdict;

/// Events that are kept.
const KEPT: usize = 1000;

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// From 1, since the agent started.
    pub number: u64,
    /// When, as time since 1970.
    pub unix: Duration,
    /// What.
    pub what: What,
}

impl Event {
    /// Is it about a ban of this host?
    pub fn is_of(&self, address: IpAddr) -> bool {
        let What::Verdict { verdict, .. } = &self.what else { return false };
        verdict.ban().is_some_and(|ban| ban.address == address)
    }
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are verdicts, each in an `Arc`")]
pub enum What {
    /// A verdict went out.
    Verdict {
        /// Which.
        verdict: Verdict,
        /// Of a ban: how long after the first hint at the host. `None`: a reading found it, or an
        /// operator.
        latency: Option<Duration>,
    },
    /// Something an operator should know began.
    Alarm(Arc<str>),
    /// It is over.
    AlarmOver(Arc<str>),
}

/// The last events.
#[derive(Debug, Default)]
pub struct Events {
    last: u64,
    kept: VecDeque<Arc<Event>>,
    /// The same, for reports; made when it is asked for.
    shown: Option<Arc<[Arc<Event>]>>,
    alarms: Vec<Arc<str>>,
}

impl Events {
    /// Puts down what happened.
    pub fn note(&mut self, unix: Duration, what: What) {
        self.last += 1;
        self.kept.push_back(Arc::new(Event { number: self.last, unix, what }));
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
        self.shown = None;
    }

    /// Puts down which alarms are new, and which are over. One whose numbers moved is the same.
    pub fn alarms(&mut self, unix: Duration, alarms: &[String]) {
        if alarms.is_empty() && self.alarms.is_empty() {
            return;
        }
        let known: HashSet<String> = self.alarms.iter().map(|alarm| shape(alarm)).collect();
        let standing: HashSet<String> = alarms.iter().map(|alarm| shape(alarm)).collect();
        for over in std::mem::take(&mut self.alarms) {
            if !standing.contains(&shape(&over)) {
                self.note(unix, What::AlarmOver(over));
            }
        }
        for alarm in alarms {
            let text: Arc<str> = Arc::from(alarm.as_str());
            if !known.contains(&shape(alarm)) {
                self.note(unix, What::Alarm(Arc::clone(&text)));
            }
            self.alarms.push(text);
        }
    }

    /// The last thousand, oldest first.
    pub fn shown(&mut self) -> Arc<[Arc<Event>]> {
        Arc::clone(self.shown.get_or_insert_with(|| self.kept.iter().cloned().collect()))
    }
}

/// An alarm without its numbers and without what a system said last.
fn shape(alarm: &str) -> String {
    let beginning = alarm.split(':').next().unwrap_or_default();
    beginning.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdicts::{Ban, Ending};

    fn told(events: &mut Events) -> Vec<(u64, String)> {
        let text = |what: &What| match what {
            What::Alarm(text) => format!("+{text}"),
            What::AlarmOver(text) => format!("-{text}"),
            What::Verdict { verdict, .. } => verdict.name().to_owned(),
        };
        events.shown().iter().map(|event| (event.number, text(&event.what))).collect()
    }

    #[test]
    fn an_alarm_is_told_when_it_begins_and_when_it_ends_not_when_it_counts() {
        let mut events = Events::default();
        let at = Duration::from_secs;
        events.alarms(at(1), &["3 calls failed: a".to_owned()]);
        events.alarms(at(2), &["14 calls failed: b".to_owned(), "Port gone.".to_owned()]);
        events.alarms(at(3), &["Port gone.".to_owned()]);
        events.alarms(at(4), &[]);
        let expected = [
            (1, "+3 calls failed: a"),
            (2, "+Port gone."),
            (3, "-14 calls failed: b"),
            (4, "-Port gone."),
        ];
        let expected: Vec<_> = expected.map(|(number, text)| (number, text.to_owned())).into();
        assert_eq!(told(&mut events), expected);
    }

    #[test]
    fn events_of_a_host_are_those_of_its_bans() {
        let is_of = |what: What| {
            let event = Event { number: 1, unix: Duration::ZERO, what };
            [7, 8].map(|last| event.is_of([192, 0, 2, last].into()))
        };
        let verdict = |verdict| What::Verdict { verdict, latency: None };
        let ban = || Ban::of([192, 0, 2, 7]);
        assert_eq!(is_of(verdict(Verdict::Ban(ban()))), [true, false]);
        assert_eq!(is_of(verdict(Verdict::Details(ban(), Arc::from([])))), [true, false]);
        assert_eq!(is_of(verdict(Verdict::Unban(ban(), Ending::Over))), [true, false]);
        assert_eq!(is_of(What::Alarm(Arc::from("192.0.2.7"))), [false, false]);
    }

    #[test]
    fn the_last_thousand_are_kept_and_keep_their_numbers() {
        let mut events = Events::default();
        for _ in 0..KEPT + 5 {
            events.note(Duration::ZERO, What::Alarm(Arc::from("x")));
        }
        let shown = events.shown();
        assert_eq!((shown.len(), shown[0].number, shown[KEPT - 1].number), (KEPT, 6, 1005));
    }
}
