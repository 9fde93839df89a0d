//! A report whose text is known, for the encoders' tests.

use std::sync::Arc;
use std::time::Duration;

use crate::counters::Gain;
use crate::model::{Class, Counts, Direction, HostId, Prefix, Tally};
use crate::reports::report::Channels;
use crate::reports::{Event, Families, Gained, HostLoad, NetworkLoad, Report, What};
use crate::verdicts::{Ban, Verdict};

fn counts(parts: &[(Class, u64, u64)]) -> Counts {
    let mut counts = Counts::default();
    for &(class, packets, bytes) in parts {
        counts.0[class as usize] = Tally { packets, bytes };
    }
    counts
}

/// Two seconds of one host of each family, and a ban of the first with its dump.
pub(super) fn report() -> Report {
    let incoming = counts(&[(Class::Udp, 2000, 200_000), (Class::Syn, 20, 2000)]);
    let outgoing = counts(&[(Class::Udp, 20, 1200)]);
    let six = counts(&[(Class::Tcp, 200, 20_000)]);
    let gain = |direction, counts| Some(Gain::new(HostId(1), direction, counts, Tally::default()));
    let v4 = Gained { incoming, outgoing, ..Gained::default() };
    let v6 = Gained { incoming: six, ..Gained::default() };
    let network = |text: &str, gained| {
        let prefix = Prefix::parse_masked(text).unwrap().0;
        NetworkLoad { prefix, gained, moved: 1 }
    };
    let host = |text: &str, network, incoming, outgoing| {
        HostLoad::new(text.parse().unwrap(), network, incoming, outgoing)
    };
    let event = |number, verdict| {
        let unix = Duration::from_secs(1_700_000_000);
        let what = What::Verdict { verdict, latency: None };
        Arc::new(Event { number, unix, what })
    };
    let ban = Ban::of([192, 0, 2, 7]);
    Report {
        number: 1,
        unix: Duration::from_secs(1_700_000_000),
        span: Duration::from_secs(2),
        gained: Channels {
            incoming: Tally { packets: 2220, bytes: 222_000 },
            outgoing: Tally { packets: 20, bytes: 1200 },
            internal: Tally { packets: 4, bytes: 200 },
            other: Tally::default(),
        },
        families: Families { v4, v6 },
        networks: Arc::from([network("192.0.2.0/24", v4), network("2001:db8::/32", v6)]),
        hosts: vec![
            host(
                "192.0.2.7",
                0,
                gain(Direction::Incoming, &incoming),
                gain(Direction::Outgoing, &outgoing),
            ),
            host("2001:db8::9", 1, gain(Direction::Incoming, &six), None),
        ],
        moved: 2,
        events: Arc::from([
            event(1, Verdict::Ban(ban.clone())),
            event(2, Verdict::Details(ban, Arc::from([]))),
        ]),
        ..Report::default()
    }
}
