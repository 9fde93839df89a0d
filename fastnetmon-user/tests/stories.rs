//! The pure rooms as a whole: readings in, verdicts out, no clock, no thread.
//!
//! A story is a TOML file: a policy, seconds with what hosts did in them, and the verdicts to be
//! expected, each with the second in which it falls.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::path::Path;
    use std::time::Duration;

    use fastnetmon_user::counters::{Gain, House, Reading};
    use fastnetmon_user::model::{Class, Counts, Direction, HostId, Loads, Moment, Prefix, Tally};
    use fastnetmon_user::networks::PrefixSet;
    use fastnetmon_user::rates::RateTable;
    use fastnetmon_user::verdicts::{Judge, Order, Policy, Verdict};
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Story {
        name: String,
        #[serde(default)]
        policy: Rules,
        seconds: Vec<Second>,
        expect: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Rules {
        pps: u64,
        time_secs: u64,
        details_secs: u64,
        tick_ms: u64,
        whitelist: Vec<String>,
    }

    impl Default for Rules {
        fn default() -> Self {
            Self { pps: 30_000, time_secs: 60, details_secs: 5, tick_ms: 1000, whitelist: vec![] }
        }
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Second {
        repeat: u32,
        host: Option<IpAddr>,
        in_pps: u64,
        out_pps: u64,
        /// `ban` or `unban`, said by an operator at the beginning of the second.
        order: Option<String>,
    }

    impl Default for Second {
        fn default() -> Self {
            Self { repeat: 1, host: None, in_pps: 0, out_pps: 0, order: None }
        }
    }

    /// Hosts get slots as they come up.
    #[derive(Default)]
    struct Hosts(BTreeMap<IpAddr, HostId>);

    impl Hosts {
        fn id(&mut self, address: IpAddr) -> HostId {
            let next = HostId(256 + u32::try_from(self.0.len()).unwrap());
            *self.0.entry(address).or_insert(next)
        }

        fn address(&self, host: HostId) -> Option<IpAddr> {
            self.0.iter().find(|(_, id)| **id == host).map(|(address, _)| *address)
        }
    }

    fn told(second: u64, verdict: &Verdict) -> String {
        let ban = verdict.ban().unwrap();
        let (what, direction) = (verdict.name(), ban.direction.name());
        format!("{second}: {what} {} {direction} {}", ban.address, ban.pps)
    }

    fn play(story: &Story) -> Vec<String> {
        let Rules { pps, time_secs, details_secs, tick_ms, ref whitelist } = story.policy;
        let prefixes = whitelist.iter().map(|text| Prefix::parse_masked(text).unwrap().0);
        let policy = Policy {
            pps,
            ban_time: Some(time_secs).filter(|&secs| secs != 0).map(Duration::from_secs),
            details_deadline: Duration::from_secs(details_secs),
            whitelist: PrefixSet::merged(prefixes).0,
        };
        let mut judge = Judge::new(policy, []);
        let mut rates = RateTable::default();
        let mut hosts = Hosts::default();
        let mut at = Moment::after_boot(Duration::from_secs(1000));
        let tick = Duration::from_millis(tick_ms);
        let mut verdicts = Vec::new();
        let mut number = 0;
        for second in &story.seconds {
            for _ in 0..second.repeat {
                if let Some(order) = &second.order {
                    let address = second.host.unwrap();
                    let host = hosts.id(address);
                    let direction = Direction::Incoming;
                    let order = match order.as_str() {
                        "ban" => Order::Ban {
                            host,
                            address,
                            direction,
                            loads: Box::new(Loads::default()),
                            reason: None,
                            time: None,
                        },
                        "unban" => Order::Unban { address, reason: None },
                        other => panic!("unknown order `{other}`"),
                    };
                    match judge.obey(at, order) {
                        Ok(verdict) => verdicts.push(told(number, &verdict)),
                        Err(error) => verdicts.push(format!("{number}: {error}")),
                    }
                }
                let end = at + Duration::from_secs(1);
                while at < end {
                    at = at + tick;
                    let frame = rates.advance(reading(at, tick, second, &mut hosts));
                    for verdict in judge.weigh(&frame, |host| hosts.address(host)) {
                        verdicts.push(told(number, &verdict));
                    }
                    for ban in judge.due(at, |_| false) {
                        verdicts.push(told(number, &Verdict::Details(ban, [].into())));
                    }
                }
                number += 1;
            }
        }
        verdicts
    }

    fn reading(at: Moment, span: Duration, second: &Second, hosts: &mut Hosts) -> Reading {
        let mut gains = Vec::new();
        if let Some(address) = second.host {
            let host = hosts.id(address);
            for (direction, pps) in
                [(Direction::Incoming, second.in_pps), (Direction::Outgoing, second.out_pps)]
            {
                let packets = pps * u64::try_from(span.as_millis()).unwrap() / 1000;
                if packets > 0 {
                    let mut counts = Counts::default();
                    counts.0[Class::Udp as usize] = Tally { packets, bytes: packets * 100 };
                    gains.push(Gain::new(host, direction, &counts, Tally::default()));
                }
            }
        }
        Reading { at, span, gains, house: House::default() }
    }

    #[test]
    fn every_story_ends_as_it_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 8, "only {} stories", files.len());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let story: Story =
                toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(play(&story), story.expect, "{}: {}", file.display(), story.name);
        }
    }
}
