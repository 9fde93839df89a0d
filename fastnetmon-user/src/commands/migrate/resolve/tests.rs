//! The incumbent's shipped configurations of several years, and one that an operator wrote.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::commands::migrate::legacy::parse;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/legacy_conf")
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let mut samples: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    samples.sort();
    samples
}

/// Migrates and holds the result to the invariant.
#[track_caller]
fn migrated(bytes: &[u8]) -> (Migration, Settings) {
    let migration = migrate("their.conf", &parse(bytes));
    let settings = Settings::parse(Path::new("ours"), &migration.toml)
        .unwrap_or_else(|error| panic!("{error}\n{}", migration.toml));
    (migration, settings)
}

fn sample(name: &str) -> (Migration, Settings) {
    migrated(&std::fs::read(folder().join(name)).unwrap())
}

#[track_caller]
fn check(text: &str, outcome: Outcome, to: &[&str], how: &str) {
    let (migration, _) = migrated(text.as_bytes());
    let told = migration.keys.last().unwrap();
    assert_eq!(
        (told.outcome, told.to.clone()),
        (outcome, to.iter().map(ToString::to_string).collect()),
        "{told:?}"
    );
    assert!(told.how.contains(how), "{told:?}");
}

#[test]
fn what_is_made_of_every_shipped_configuration_is_accepted_and_every_key_is_told_of() {
    let samples = samples();
    assert_eq!(samples.len(), 8);
    for (name, bytes) in samples {
        let (migration, settings) = migrated(&bytes);
        let legacy = parse(&bytes);
        assert_eq!(migration.keys.len(), legacy.pairs.len() + legacy.unreadable.len(), "{name}");
        if name != "operator.conf" {
            assert_eq!(settings.thresholds.pps, 20_000.try_into().unwrap(), "{name}");
            let strange: Vec<&Told> =
                migration.keys.iter().filter(|told| told.outcome >= Outcome::Unreadable).collect();
            assert!(strange.is_empty(), "{name}: {strange:?}");
        }
    }
}

#[test]
fn the_first_version_acts_though_it_has_no_switches() {
    let (migration, settings) = sample("2014-06.conf");
    assert_eq!(settings.notify.packets.get(), 500);
    assert_eq!(settings.notify.script, Path::new("/usr/local/bin/notify_about_attack.sh"));
    assert!(migration.keys.iter().all(|told| told.outcome != Outcome::Missing), "{migration:?}");
}

#[test]
fn the_newest_version_is_honoured_where_it_can_be() {
    let (migration, settings) = sample("2026-07.conf");
    assert_eq!(settings.capture.interfaces, ["eth3", "eth4"]);
    assert_eq!(settings.notify.packets.get(), 20);
    assert_eq!(settings.networks.openvz_veip, Path::new(""));
    let of = |key: &str| migration.keys.iter().find(|told| told.key == key).unwrap().outcome;
    assert_eq!(of("threshold_pps"), Outcome::Honoured);
    assert_eq!(of("netflow_port"), Outcome::Nothing);
    assert_eq!(of("mirror_af_packet_fanout_mode"), Outcome::Nothing);
    assert_eq!(of("my_hosts_threshold_pps"), Outcome::Nothing);
    assert_eq!(of("disable_usage_report"), Outcome::Different);
}

#[test]
fn an_operators_file_keeps_its_comments_and_every_slip_is_named() {
    let (migration, settings) = sample("operator.conf");
    assert_eq!(settings.thresholds.pps, 45_000.try_into().unwrap());
    assert_eq!(settings.ban.time_secs, 900);
    assert_eq!(settings.capture.interfaces, ["eth3", "eth4"]);
    assert_eq!(settings.notify.script, Path::new("/opt/our hooks/ban.sh"));
    let toml = &migration.toml;
    assert!(toml.contains("# Border router, Frankfurt\n# Ask Anna before you change anything\n"));
    assert!(
        toml.contains(
            "[thresholds]\n# Bans\n# Gr\u{fffd}\u{fffd}er seit dem 3. Mai\npps = 45000\n"
        ),
        "{toml}"
    );
    assert!(!toml.contains("a=b"), "a password is not repeated");
    let of = |line: usize| migration.keys.iter().find(|told| told.line == line).unwrap();
    for (line, outcome, how) in [
        (7, Outcome::Unknown, "did you mean `threshold_mbps`?"),
        (10, Outcome::Different, "took `yes` for off; it is taken for on"),
        (11, Outcome::Nothing, "given again on line 12"),
        (12, Outcome::Unreadable, "invalid value: integer `0`, expected a nonzero u32"),
        (13, Outcome::Different, "the quotation marks"),
        (15, Outcome::Different, "is taken by another key"),
        (18, Outcome::Different, "was found after 10.3 s there"),
        (23, Outcome::Missing, "groups"),
        (25, Outcome::Missing, "groups"),
        (26, Outcome::Nothing, "there is no `hostgroup = ghosts:…`"),
        (27, Outcome::Unreadable, "is neither `on` nor `off`"),
        (28, Outcome::Unreadable, "is not UTF-8"),
        (30, Outcome::Unreadable, "is not of the form"),
    ] {
        let told = of(line);
        assert_eq!(told.outcome, outcome, "{told:?}");
        assert!(told.how.contains(how), "{told:?}");
    }
}

#[test]
fn keys_become_ours_or_say_why_not() {
    use Outcome::{Different, Honoured, Missing, Nothing, Unknown, Unreadable};
    check("threshold_pps = 50000", Honoured, &["thresholds.pps"], "");
    check("threshold_pps = 0", Unreadable, &[], "0 would be exceeded by every packet");
    check("threshold_pps = 20k", Unreadable, &[], "there it counted as 20");
    check("threshold_pps = many", Unreadable, &[], "there it counted as 0");
    check("ban_time = 0", Honoured, &["ban.time_secs"], "");
    check("ban_for_pps = off", Different, &["thresholds.pps"], "no port reaches");
    check("ban_for_pps = off\nthreshold_pps = 5", Different, &[], "taken by another key");
    check("notify_script_path = /x\nenable_ban = off", Different, &["notify.script"], "logged");
    check("ban_for_bandwidth = on\nthreshold_mbps = 1000", Missing, &[], "pps");
    check("threshold_mbps = 1000", Nothing, &[], "`ban_for_bandwidth` is off");
    check("mirror_afpacket = on", Different, &["capture.engine", "capture.role"], "uplink");
    check("mirror = on", Different, &["capture.engine", "capture.role"], "uplink");
    check("pcap = on", Different, &["capture.engine", "capture.role"], "uplink");
    check("mirror_netmap = on", Different, &["capture.engine", "capture.role"], "no netmap engine");
    check("mirror = on\npfring_sampling_ratio = 1", Honoured, &[], "");
    check("mirror = on\npfring_sampling_ratio = 100", Missing, &[], "divide");
    check("interfaces = ", Unreadable, &[], "has no value");
    check(
        "logging:remote_syslog_port = 514",
        Nothing,
        &[],
        "`logging_remote_syslog_logging` is off",
    );
    check("logging_level = warning", Different, &["log.level"], "standard error");
    check("speed_calculation_delay = 5", Different, &["capture.tick_ms"], "each second");
    check("threshold_ppps = 1", Unknown, &[], "did you mean `threshold_pps`?");
    check("zzz = 1", Unknown, &[], "did nothing there either");
    check("white_list_path = /tmp/a\"b\\c\u{e9}", Honoured, &["networks.whitelist"], "");
    check("prometheus = on", Different, &["web.listen"], "token_file");
    check("prometheus_host = ::1\nprometheus = on", Different, &["web.listen"], "");
    check(
        "prometheus_host = somewhere\nprometheus = on",
        Unreadable,
        &[],
        "no address with a port",
    );
    check("prometheus = on\nprometheus_port = 9300", Honoured, &[], "");
    check("redis_enabled = on", Missing, &[], "exported");
}

#[test]
fn bans_that_are_switched_off_call_no_script() {
    let (_, settings) = migrated(b"notify_script_path = /opt/ban.sh\nenable_ban = off\n");
    assert_eq!(settings.notify.script, Path::new("/bin/true"));
}

#[test]
fn every_row_of_the_table_that_names_a_key_of_ours_names_one_that_exists() {
    let mut seen = BTreeSet::new();
    for row in KEYS {
        assert!(seen.insert(row.key), "`{}` is in the table twice", row.key);
        assert!(row.under.is_none_or(|under| keys::find(under).is_some()), "`{}`", row.key);
        let entries: Vec<(&str, String)> = match row.to {
            To::Key { place, form, .. } => {
                let theirs = match form {
                    Form::Words(words) => words[0].0,
                    Form::Number(_) | Form::Milliseconds => "1",
                    Form::Text | Form::List => "x",
                };
                vec![(place, form.value(theirs).unwrap().0)]
            }
            To::Switch { on, off } => [on, off]
                .into_iter()
                .filter_map(|then| match then {
                    Then::Write(entries, _) => Some(entries),
                    _ => None,
                })
                .flatten()
                .map(|&(place, value)| (place, value.to_owned()))
                .collect(),
            To::Address { place, or: [host, port], .. } => {
                vec![(place, format!("\"{host}:{port}\""))]
            }
            To::Always(_) | To::One(_) | To::Average => vec![],
        };
        for (place, value) in entries {
            let (section, key) = place.rsplit_once('.').unwrap();
            assert_eq!(accepted(section, key, &value), Ok(()), "`{}`", row.key);
        }
    }
}

#[test]
fn whatever_is_in_a_file_what_is_made_of_it_is_accepted() {
    // xorshift, so that a failure can be played again.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let values: [&[u8]; 12] = [
        b"on",
        b"off",
        b"1",
        b"0",
        b"-5",
        b"99999999999999999999",
        b"\"\"\"",
        b"'''\\",
        b"\xff\xfe",
        b"a,b,,",
        b"#",
        b"\x00\x1b[2J\r",
    ];
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..next(20) {
            match next(8) {
                0 => bytes.extend((0..next(30)).map(|_| u8::try_from(next(256)).unwrap())),
                1 => bytes.extend(b"# a comment \x07\xff"),
                _ => {
                    bytes.extend(KEYS[next(KEYS.len())].key.as_bytes());
                    bytes.extend(b" = ");
                    bytes.extend(values[next(values.len())]);
                }
            }
            bytes.push(b'\n');
        }
        migrated(&bytes);
    }
}
