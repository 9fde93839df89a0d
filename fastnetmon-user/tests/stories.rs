//! The pure rooms as a whole: readings in, verdicts out, no clock, no thread.
//!
//! A story is a TOML file: a policy, as the configuration writes it; seconds with what hosts did in
//! them; and the verdicts to be expected, each with the second in which it falls.

#[cfg(test)]
#[expect(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a test has time to put its words together"
)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::net::IpAddr;
    use std::path::Path;
    use std::time::Duration;

    use fastnetmon_user::counters::{Gain, House, Reading};
    use fastnetmon_user::model::{Class, Counts, Direction, HostId, Loads, Moment, Prefix, Tally};
    use fastnetmon_user::networks::{Occupant, PrefixSet};
    use fastnetmon_user::rates::RateTable;
    use fastnetmon_user::verdicts::{
        Alert, BanSettings, Cause, Ceiling, Ending, GroupSettings, Judge, Obeyed, Order, Policy,
        Thresholds, Verdict,
    };
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Story {
        name: String,
        #[serde(default)]
        policy: Rules,
        /// As in the configuration; `policy.pps` goes before it.
        #[serde(default)]
        thresholds: Thresholds,
        /// As in the configuration; `policy.time_secs` goes before it.
        #[serde(default)]
        ban: BanSettings,
        #[serde(default)]
        group: GroupSettings,
        seconds: Vec<Second>,
        /// What is told beside what the script is given: `rule`, `kind`, `group`, `dry`, `time`,
        /// `peak`, `total`, `reason`, `script`.
        #[serde(default)]
        tell: Vec<String>,
        /// Verdicts of one second and kind are told as their number.
        #[serde(default)]
        summary: bool,
        expect: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Rules {
        pps: Option<u64>,
        time_secs: Option<u64>,
        details_secs: u64,
        tick_ms: u64,
        whitelist: Vec<String>,
    }

    impl Default for Rules {
        fn default() -> Self {
            Self { pps: None, time_secs: None, details_secs: 5, tick_ms: 1000, whitelist: vec![] }
        }
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Second {
        repeat: u32,
        host: Option<IpAddr>,
        /// So many, one address after the other.
        hosts: u32,
        in_pps: u64,
        out_pps: u64,
        class: String,
        /// Of each packet.
        bytes: u64,
        /// More of it, of others.
        and: Vec<Traffic>,
        /// `ban`, `unban` or `resume`, said by an operator at the beginning of the second.
        order: Option<String>,
        reason: Option<String>,
        time_secs: Option<u64>,
        /// The policy from this second on.
        reload: Option<Reload>,
    }

    /// What others do in the same second.
    #[derive(Clone, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Traffic {
        host: Option<IpAddr>,
        hosts: u32,
        in_pps: u64,
        out_pps: u64,
        class: String,
        bytes: u64,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[derive(Default)]
    struct Reload {
        thresholds: Thresholds,
        ban: BanSettings,
        group: GroupSettings,
    }

    impl Default for Second {
        fn default() -> Self {
            let Traffic { host, hosts, in_pps, out_pps, class, bytes } = Traffic::default();
            Self {
                repeat: 1,
                host,
                hosts,
                in_pps,
                out_pps,
                class,
                bytes,
                and: vec![],
                order: None,
                reason: None,
                time_secs: None,
                reload: None,
            }
        }
    }

    impl Default for Traffic {
        fn default() -> Self {
            let class = "udp".to_owned();
            Self { host: None, hosts: 1, in_pps: 0, out_pps: 0, class, bytes: 100 }
        }
    }

    /// As the plan lays hosts out: a block for each /24, and a line for each IPv6 host.
    #[derive(Default)]
    struct Hosts {
        blocks: HashMap<u32, u32>,
        v6: HashMap<IpAddr, HostId>,
        addresses: HashMap<HostId, IpAddr>,
    }

    const POOL: u32 = 1 << 20;

    impl Hosts {
        fn id(&mut self, address: IpAddr) -> HostId {
            let id = match address {
                IpAddr::V4(v4) => {
                    let address = u32::from(v4);
                    let next = 1 + u32::try_from(self.blocks.len()).unwrap();
                    let block = *self.blocks.entry(address >> 8).or_insert(next);
                    HostId(block * 256 + (address & 255))
                }
                IpAddr::V6(_) => {
                    let next = HostId(POOL + u32::try_from(self.v6.len()).unwrap());
                    *self.v6.entry(address).or_insert(next)
                }
            };
            self.addresses.insert(id, address);
            id
        }

        fn occupant(&self, host: HostId) -> Option<Occupant> {
            if host.0 < POOL {
                // Every line of a block is somebody's, seen or not.
                let (high, _) = self.blocks.iter().find(|(_, block)| **block == host.0 / 256)?;
                let address = (high << 8) | (host.0 % 256);
                return Some(Occupant::Host(IpAddr::from(address.to_be_bytes())));
            }
            self.addresses.get(&host).copied().map(Occupant::Host)
        }
    }

    fn told(second: u64, verdict: &Verdict, tell: &[String]) -> String {
        let (what, about) = (verdict.name(), verdict.about());
        let ban = match verdict {
            Verdict::Alert(alert) | Verdict::Calm(alert) => {
                let Alert { direction, pps, peak_pps, hosts, cause, group, .. } = alert;
                let mut line =
                    format!("{second}: {what} {about} {} {pps} by {hosts}", direction.name());
                for word in tell {
                    match word.as_str() {
                        "rule" => line.push_str(&format!(" [{}]", rule(cause))),
                        "group" => line.push_str(&format!(" in `{group}`")),
                        "peak" => line.push_str(&format!(" peak {peak_pps}")),
                        _ => {}
                    }
                }
                return line;
            }
            Verdict::Ban(ban) | Verdict::Details(ban, _) | Verdict::Unban(ban, _) => ban,
        };
        let mut line =
            format!("{second}: {what} {} {} {}", ban.address, ban.direction.name(), ban.pps);
        for word in tell {
            let more = match word.as_str() {
                "rule" => format!("[{}]", rule(&ban.cause)),
                "kind" => format!("{}: {}", ban.attack.kind.name(), ban.attack.because),
                "group" => format!("in `{}`", ban.group),
                "dry" => (if ban.dry_run { "dry" } else { "wet" }).to_owned(),
                "time" => ban.until.map_or_else(
                    || "for ever".to_owned(),
                    |until| format!("for {} s", until.since(ban.since).as_secs()),
                ),
                "peak" => format!("peak {} pps {} mbps", ban.peak_pps, ban.peak_mbps),
                "total" => format!("total {} in {}", ban.total.packets, ban.total.bytes),
                "script" => format!("{} {:?}", ban.deeds.script, ban.deeds.script_path),
                "reason" => match (verdict, &ban.cause) {
                    (Verdict::Unban(_, Ending::Operator { reason }), _)
                    | (_, Cause::Operator { reason }) => format!("{reason:?}"),
                    _ => "by itself".to_owned(),
                },
                other => panic!("`{other}` cannot be told"),
            };
            line.push_str(&format!(" {more}"));
        }
        line
    }

    fn rule(cause: &Cause) -> String {
        match cause {
            Cause::Rule { subject, measure, threshold, measured } => {
                format!("{} {measured} > {threshold} {}", subject.name(), measure.name())
            }
            Cause::Operator { .. } => "operator".to_owned(),
        }
    }

    fn policy(
        rules: &Rules,
        thresholds: &Thresholds,
        ban: &BanSettings,
        group: &GroupSettings,
    ) -> Policy {
        let (mut thresholds, mut ban) = (thresholds.clone(), ban.clone());
        if let Some(pps) = rules.pps {
            thresholds.pps = Ceiling::At(pps);
        }
        if let Some(time_secs) = rules.time_secs {
            ban.time_secs = time_secs;
        }
        let prefixes = rules.whitelist.iter().map(|text| Prefix::parse_masked(text).unwrap().0);
        let whitelist = PrefixSet::merged(prefixes).0;
        Policy::new(&thresholds, &ban, group, whitelist, Duration::from_secs(rules.details_secs))
    }

    fn play(story: &Story) -> Vec<String> {
        let rules = &story.policy;
        let policy_at_first = policy(rules, &story.thresholds, &story.ban, &story.group);
        let mut rates = RateTable::new(policy_at_first.pace);
        let mut judge = Judge::new(policy_at_first, []);
        let mut hosts = Hosts::default();
        let mut at = Moment::after_boot(Duration::from_secs(1000));
        let tick = Duration::from_millis(rules.tick_ms);
        let mut lines = Vec::new();
        let mut summary: BTreeMap<(u64, &'static str), usize> = BTreeMap::new();
        let mut alarmed = false;
        let mut number = 0;
        for second in &story.seconds {
            for _ in 0..second.repeat {
                let mut verdicts = Vec::new();
                for order in orders(second, rules, &mut hosts) {
                    match judge.obey(at, order) {
                        Ok(Obeyed { verdicts: said, told }) => {
                            verdicts.extend(said);
                            lines.extend(told.iter().map(|line| format!("{number}: {line}")));
                        }
                        Err(error) => lines.push(format!("{number}: {error}")),
                    }
                }
                rates.turn_to(judge.policy().pace);
                let end = at + Duration::from_secs(1);
                while at < end {
                    at = at + tick;
                    let frame = rates.advance(reading(at, tick, second, &mut hosts));
                    verdicts.extend(judge.weigh(&frame, |host| hosts.occupant(host)));
                    let due = judge.due(at, |_| false);
                    verdicts.extend(due.into_iter().map(|ban| Verdict::Details(ban, [].into())));
                }
                for verdict in &verdicts {
                    *summary.entry((number, verdict.name())).or_default() += 1;
                    if !story.summary {
                        lines.push(told(number, verdict, &story.tell));
                    }
                }
                if alarmed == judge.alarms().is_empty() {
                    alarmed = !alarmed;
                    lines.push(format!("{number}: {}", if alarmed { "alarm" } else { "no alarm" }));
                }
                number += 1;
            }
        }
        if story.summary {
            let told = |((number, what), count)| format!("{number}: {count} × {what}");
            lines.extend(summary.into_iter().map(told));
        }
        lines
    }

    fn orders(second: &Second, rules: &Rules, hosts: &mut Hosts) -> Vec<Order> {
        let mut orders = Vec::new();
        if let Some(Reload { thresholds, ban, group }) = &second.reload {
            orders.push(Order::Reload(Box::new(policy(rules, thresholds, ban, group))));
        }
        let reason = second.reason.as_deref().map(Into::into);
        let time = second.time_secs.map(Duration::from_secs);
        match second.order.as_deref() {
            Some("ban") => {
                let address = second.host.unwrap();
                let (host, direction) = (hosts.id(address), Direction::Incoming);
                let loads = Box::new(Loads::default());
                orders.push(Order::Ban { host, address, direction, loads, reason, time });
            }
            Some("unban") => {
                orders.push(Order::Unban { address: second.host.unwrap(), reason });
            }
            Some("resume") => orders.push(Order::Resume),
            Some(other) => panic!("unknown order `{other}`"),
            None => {}
        }
        orders
    }

    fn next(address: IpAddr, by: u32) -> IpAddr {
        match address {
            IpAddr::V4(address) => IpAddr::from((u32::from(address) + by).to_be_bytes()),
            IpAddr::V6(address) => {
                IpAddr::from((u128::from(address) + u128::from(by)).to_be_bytes())
            }
        }
    }

    fn reading(at: Moment, span: Duration, second: &Second, hosts: &mut Hosts) -> Reading {
        let mut sums: BTreeMap<(Direction, HostId), Counts> = BTreeMap::new();
        let millis = u64::try_from(span.as_millis()).unwrap();
        let Second { host, hosts: number, in_pps, out_pps, ref class, bytes, .. } = *second;
        let first = Traffic { host, hosts: number, in_pps, out_pps, class: class.clone(), bytes };
        for traffic in std::iter::once(&first).chain(&second.and) {
            let Some(first) = traffic.host else { continue };
            let class = Class::ALL.into_iter().find(|class| class.name() == traffic.class).unwrap();
            for number in 0..traffic.hosts {
                let host = hosts.id(next(first, number));
                for (direction, pps) in
                    [(Direction::Incoming, traffic.in_pps), (Direction::Outgoing, traffic.out_pps)]
                {
                    let packets = pps * millis / 1000;
                    if packets > 0 {
                        let counts = sums.entry((direction, host)).or_default();
                        counts.0[class as usize] +=
                            Tally { packets, bytes: packets * traffic.bytes };
                    }
                }
            }
        }
        let gains = sums
            .iter()
            .map(|(&(direction, host), counts)| {
                Gain::new(host, direction, counts, Tally::default())
            })
            .collect();
        Reading::new(at, span, gains, House::default())
    }

    #[test]
    fn every_story_ends_as_it_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 30, "only {} stories", files.len());
        let mut wrong = String::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let story: Story =
                toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let told = play(&story);
            if told != story.expect {
                let lines: String = told.iter().map(|line| format!("    {line:?},\n")).collect();
                let file = file.display();
                wrong.push_str(&format!("{file}: {}\nexpect = [\n{lines}]\n", story.name));
            }
        }
        assert!(wrong.is_empty(), "these ended in another way:\n{wrong}");
    }
}
