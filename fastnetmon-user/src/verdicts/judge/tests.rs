//! What stories cannot tell: looks between two readings, and many at once.

use super::*;
use crate::counters::Gain;
use crate::model::dice::Dice;
use crate::model::{Class, Counts};
use crate::networks::PrefixSet;
use crate::verdicts::{BanSettings, GroupSettings};

fn policy(thresholds: &str, ban: &str, groups: &str) -> Policy {
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        group: GroupSettings,
    }
    let file: File = toml::from_str(groups).unwrap();
    let ban: BanSettings = toml::from_str(ban).unwrap();
    let thresholds = toml::from_str(thresholds).unwrap();
    Policy::new(&thresholds, &ban, &file.group, PrefixSet::default(), Duration::from_secs(5))
}

fn at(millis: u64) -> Moment {
    Moment::after_boot(Duration::from_millis(1_000_000 + millis))
}

fn counts(class: Class, packets: u64, bytes: u64) -> Counts {
    let mut counts = Counts::default();
    counts.0[class as usize] = Tally { packets, bytes };
    counts
}

/// 10.0.0.0/8, a /24 a block, as the plan has it.
#[expect(clippy::unnecessary_wraps, reason = "a plan has lines that are nobody's")]
fn occupant(host: HostId) -> Option<Occupant> {
    Some(Occupant::Host(address(host)))
}

fn address(host: HostId) -> IpAddr {
    IpAddr::from((0x0a00_0000 + host.0 - 256).to_be_bytes())
}

fn glimpse(host: HostId, millis: u64, within: Counts) -> Glimpse {
    let span = Duration::from_secs(1);
    Glimpse { at: at(millis), host, direction: Direction::Incoming, within, span }
}

fn frame(millis: u64, gains: Vec<Gain>) -> RateFrame {
    let moved = Arc::new(Gains::from(gains));
    let span = Duration::from_secs(1);
    let fresh = Arc::clone(&moved);
    RateFrame { at: at(millis), span, least: span, moved, fresh, ..RateFrame::default() }
}

fn flood(hosts: std::ops::Range<u32>, packets: u64) -> Vec<Gain> {
    let counts = counts(Class::Udp, packets, packets * 100);
    hosts
        .map(|host| Gain::new(HostId(host), Direction::Incoming, &counts, Tally::default()))
        .collect()
}

const HOST: HostId = HostId(300);

#[test]
fn a_look_between_two_readings_finds_what_any_rule_of_the_group_forbids() {
    let group = "[[group]]\nname = \"web\"\nnetworks = [\"10.0.0.0/24\"]\n\
                 thresholds = { tcp_syn = { pps = 500 }, mbps = 100 }\n";
    for (within, expected) in [
        (counts(Class::Udp, 30_000, 0), None),
        (counts(Class::Udp, 30_001, 0), Some("total pps 30001")),
        (counts(Class::Syn, 501, 0), Some("tcp_syn pps 501")),
        (counts(Class::Udp, 1, 12_625_000), Some("total mbps 101")),
    ] {
        let mut judge = Judge::new(policy("", "", group), []);
        let found = judge.startle(&glimpse(HOST, 0, within), address(HOST), &RateFrame::default());
        let told = found.as_ref().and_then(Verdict::ban).map(|ban| match &ban.cause {
            Cause::Rule { subject, measure, measured, .. } => {
                assert_eq!(&*ban.group, "web");
                format!("{} {} {measured}", subject.name(), measure.name())
            }
            Cause::Operator { .. } => String::new(),
        });
        assert_eq!(told.as_deref(), expected);
        let again = judge.startle(&glimpse(HOST, 1, within), address(HOST), &RateFrame::default());
        assert_eq!(again, None);
    }
}

#[test]
fn a_short_window_finds_a_burst_that_a_second_forgives() {
    let burst = counts(Class::Udp, 5_000, 0);
    let mut second = Judge::new(policy("", "", ""), []);
    assert!(
        second.startle(&glimpse(HOST, 0, burst), address(HOST), &RateFrame::default()).is_none()
    );
    let mut tenth = Judge::new(policy("window_ms = 100", "", ""), []);
    let found = tenth.startle(&glimpse(HOST, 0, burst), address(HOST), &RateFrame::default());
    assert_eq!(found.unwrap().ban().unwrap().pps, 50_000);
}

#[test]
fn an_average_is_no_business_of_a_look() {
    let mut judge = Judge::new(policy("average_secs = 5", "", ""), []);
    let within = counts(Class::Udp, 9_000_000, 0);
    assert!(
        judge.startle(&glimpse(HOST, 0, within), address(HOST), &RateFrame::default()).is_none()
    );
}

#[test]
fn the_fuse_holds_between_readings_as_well_and_the_loudest_go_first() {
    let mut judge = Judge::new(policy("", "max_bans_per_minute = 3", ""), []);
    let within = counts(Class::Udp, 40_000, 0);
    let startled = (300..310)
        .filter_map(|host| {
            let host = HostId(host);
            judge.startle(&glimpse(host, 0, within), address(host), &RateFrame::default())
        })
        .count();
    assert_eq!(startled, 3);
    assert!(judge.alarms()[0].starts_with("The fuse is blown"), "{:?}", judge.alarms());
    assert_eq!(judge.obey(at(10), Order::Resume).map(|obeyed| obeyed.told.len()), Ok(1));
    assert_eq!(judge.obey(at(11), Order::Resume), Err(OrderError::NotBlown));

    let mut judge = Judge::new(policy("", "max_bans_per_minute = 3", ""), []);
    let mut gains = flood(300..310, 40_000);
    gains.extend(flood(310..312, 90_000));
    let banned: Vec<u32> = judge
        .weigh(&frame(0, gains), occupant)
        .iter()
        .filter_map(Verdict::ban)
        .map(|ban| ban.host.0)
        .collect();
    assert_eq!(banned, [310, 311, 300]);
    assert_eq!(judge.banned(), 3);
}

#[test]
fn ten_thousand_attacks_are_banned_in_the_reading_that_shows_them() {
    let mut judge = Judge::new(policy("", "max_bans_per_minute = 0", ""), []);
    let verdicts = judge.weigh(&frame(0, flood(256..10_256, 40_000)), occupant);
    assert_eq!(verdicts.len(), 10_000);
    let numbers: std::collections::BTreeSet<BanId> =
        verdicts.iter().filter_map(Verdict::ban).map(|ban| ban.id).collect();
    assert_eq!(numbers.len(), 10_000);
    // Each is told about once, and let go once.
    assert_eq!(judge.due(at(4_999), |_| false).len(), 0);
    assert_eq!(judge.due(at(5_000), |_| false).len(), 10_000);
    assert!(!judge.is_collecting());
}

#[test]
fn bans_that_stood_before_stand_on_and_are_not_let_go_before_they_were_seen_calm() {
    let mut first = Judge::new(policy("", "time_secs = 10", ""), []).counting_from(BanId(70));
    first.weigh(&frame(0, flood(300..301, 40_000)), occupant);
    let standing: Vec<Ban> = first.standing().cloned().collect();
    assert_eq!(standing[0].id, BanId(70));
    let mut second = Judge::new(policy("", "time_secs = 10", ""), standing).counting_from(BanId(9));
    // Its time is over, and it goes on.
    for second_later in 1..=3 {
        let frame = frame(60_000 + second_later * 1000, flood(300..301, 40_000));
        assert_eq!(second.weigh(&frame, occupant), []);
    }
    for calm in 1..=4 {
        assert_eq!(second.weigh(&frame(63_000 + calm * 1000, vec![]), occupant), []);
    }
    let verdicts = second.weigh(&frame(68_000, vec![]), occupant);
    assert!(matches!(&verdicts[..], [Verdict::Unban(ban, Ending::Over)] if ban.id == BanId(70)));
    let found = second.weigh(&frame(69_000, flood(301..302, 40_000)), occupant);
    assert_eq!(found[0].ban().unwrap().id, BanId(71));
}

#[test]
fn a_reading_that_nobody_judged_is_no_calm_time() {
    let mut judge = Judge::new(policy("", "time_secs = 1\nfinished_secs = 3", ""), []);
    judge.weigh(&frame(0, flood(300..301, 40_000)), occupant);
    judge.due(at(6_000), |_| true);
    // Ten seconds were missed; only the last one of them was seen.
    assert_eq!(judge.weigh(&frame(10_000, vec![]), occupant), []);
    assert_eq!(judge.weigh(&frame(11_000, vec![]), occupant), []);
    assert_eq!(judge.weigh(&frame(12_000, vec![]), occupant).len(), 1);
}

#[test]
fn another_policy_keeps_who_is_banned_and_tells_what_changed() {
    let mut judge = Judge::new(policy("", "", ""), []);
    judge.weigh(&frame(0, flood(300..302, 40_000)), occupant);
    let mut new = policy("pps = 50000", "", "");
    new.whitelist = PrefixSet::merged([Prefix::host(address(HOST))]).0;
    let told = judge.obey(at(1), Order::Reload(Box::new(new))).unwrap().told;
    assert!(told.iter().any(|line| line == "incoming total pps: 30000 -> 50000"), "{told:?}");
    assert!(
        told.iter().any(|line| line.contains("`10.0.0.44` is on the whitelist now")),
        "{told:?}"
    );
    assert_eq!(judge.banned(), 2);
    assert_eq!(judge.weigh(&frame(1000, flood(302..303, 40_000)), occupant), []);
}

#[test]
fn what_the_packets_show_is_learnt_by_the_ban_that_stands() {
    let mut judge = Judge::new(policy("", "", ""), []);
    let verdicts = judge.weigh(&frame(0, flood(300..301, 40_000)), occupant);
    let ban = verdicts[0].ban().unwrap().clone();
    let frame = [
        0x45, 0, 5, 0xdc, 0, 1, 0, 0, 64, 17, 0, 0, 203, 0, 113, 9, 10, 0, 0, 44, 0, 53, 0x9c,
        0x40, 0, 0, 0, 0,
    ];
    let captured = fastnetmon_common::wire::Captured { bytes: &frame, wire_len: 1500 };
    let packet = Seen::from_ip(at(0), captured).unwrap();
    let told = judge.learn(ban, &vec![packet; 20]);
    assert_eq!(told.attack.kind.name(), "dns_amplification");
    assert_eq!(judge.ban_of(address(HOST)).unwrap().attack, told.attack);
}

#[test]
fn whoever_does_too_much_is_found_in_whatever_company() {
    let mut dice = Dice::default();
    let mut random = |below: u64| dice.roll() % below;
    let mut judge = Judge::new(policy("", "max_bans_per_minute = 0", ""), []);
    let mut gains = Vec::new();
    let mut expected = Vec::new();
    for direction in Direction::BOTH {
        // Each way has blocks of its own. Some 64 lines are silent, some do a little, some together more
        // than one may, and in some one does too much: on their first line, their last or any other.
        let first = if direction == Direction::Incoming { 256 } else { 256 + 40 * 64 };
        for (run, from) in (first..first + 32 * 64).step_by(64).enumerate() {
            let loud = from + [0, 63, 17, 64][run % 4];
            for host in from..from + 64 {
                let packets = match run / 8 {
                    _ if host == loud => 30_001,
                    0 if random(2) == 0 => continue,
                    0 | 1 => random(400),
                    2 => random(30_001),
                    _ => continue,
                };
                if packets > 30_000 {
                    expected.push(address(HostId(host)));
                }
                let counts = counts(Class::Udp, packets, packets * 60);
                gains.push(Gain::new(HostId(host), direction, &counts, Tally::default()));
            }
        }
    }
    let banned = |judge: &Judge| judge.standing().map(|ban| ban.address).collect::<Vec<_>>();
    judge.weigh(&frame(0, gains), occupant);
    assert_eq!(expected.len(), 48);
    assert_eq!(banned(&judge), expected);

    // Whoever is banned is followed however little it does.
    let little = flood(256..320, 1);
    judge.weigh(&frame(1000, little), occupant);
    let totals: Vec<u64> = judge.standing().map(|ban| ban.total.packets).take(2).collect();
    assert_eq!(totals, [1, 0]);
    assert_eq!(banned(&judge), expected);
}
