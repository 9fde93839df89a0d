//! The incumbent's shipped configurations of several years, and one that an operator wrote.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::commands::migrate::legacy::parse;
use crate::model::dice::Dice;

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
    assert_eq!(of("threshold_mbps"), Outcome::Honoured);
    assert_eq!(settings.thresholds.mbps, Some(1000.try_into().unwrap()));
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
        (18, Outcome::Different, "was found after 10.4 s there"),
        (19, Outcome::Different, "min_pps"),
        (21, Outcome::Missing, "`password_file`"),
        (23, Outcome::Different, "`customers_enable_ban` is not on"),
        (25, Outcome::Nothing, "`customers_ban_for_pps` is off"),
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
    check("ban_for_pps = off", Honoured, &["thresholds.pps"], "");
    check("ban_for_pps = off\nthreshold_pps = 5", Nothing, &[], "`ban_for_pps` is off");
    check("enable_ban = off", Honoured, &["ban.enabled"], "");
    check("unban_only_if_attack_finished = off", Honoured, &["ban.only_if_finished"], "");
    check("ban_for_bandwidth = on\nthreshold_mbps = 1000", Honoured, &["thresholds.mbps"], "");
    check("ban_for_bandwidth = on\nthreshold_mbps = 5 pps", Unreadable, &[], "its own unit");
    let udp = &["thresholds.udp.mbps"];
    check("ban_for_udp_bandwidth = on\nthreshold_udp_mbps = 300", Honoured, udp, "");
    check("threshold_icmp_pps = 300", Nothing, &[], "`ban_for_icmp_pps` is off");
    check("ban_for_flows = on\nthreshold_flows = 300", Missing, &[], "flows are not counted");
    let both = &["thresholds.incoming.pps", "thresholds.incoming.mbps"];
    check("process_incoming_traffic = off", Different, both, "counted and shown");
    let ipv6 = &["group.all_ipv6.networks", "group.all_ipv6.ban"];
    check("enable_ban_ipv6 = off", Different, ipv6, "nobody is banned");
    check("max_ips_in_list = 20", Different, &["screen.rows"], "as a file");
    check("cli_stats_file_path = /tmp/x.dat", Different, &["screen.file"], "both families");
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
    let redis = &["redis.enabled", "redis.server"];
    check("redis_host = db\nredis_enabled = yes", Different, redis, "in bytes");
    check("redis_enabled = on\nredis_prefix = mydc1", Honoured, &["redis.prefix"], "");
    check("redis_enabled = on\nredis_prefix = a b", Unreadable, &[], "`a b` is no name");
    check("redis_prefix = mydc1", Nothing, &[], "`redis_enabled` is off");
    let graphite = &["graphite.enabled", "graphite.server"];
    check("graphite = on", Different, graphite, "min_pps");
    check("graphite = on\ngraphite_push_period = 5", Honoured, &["graphite.interval_secs"], "");
    let influxdb = &["influxdb.enabled", "influxdb.url"];
    check("influxdb_port = 8087\ninfluxdb = on", Different, influxdb, "min_pps");
    check("influxdb_auth = on\ninfluxdb_user = me", Nothing, &[], "`influxdb` is off");
    check(
        "influxdb = on\ninfluxdb_auth = on\ninfluxdb_user = me",
        Honoured,
        &["influxdb.username"],
        "",
    );
    let clickhouse = &["clickhouse.enabled", "clickhouse.url"];
    check("clickhouse_metrics = on", Different, clickhouse, "port 8123");
    check("clickhouse_metrics = on\nclickhouse_metrics_port = 9000", Different, &[], "HTTP");
    check("kafka_traffic_export = on", Missing, &[], "nothing is written to Kafka");
}

#[test]
fn what_is_switched_off_there_is_off_here() {
    let (_, settings) = migrated(b"notify_script_path = /opt/ban.sh\nenable_ban = off\n");
    assert!(!settings.ban.enabled);
    assert_eq!(settings.notify.script, Path::new("/opt/ban.sh"));
    let (_, settings) = migrated(b"ban_for_pps = off\nthreshold_pps = 5\n");
    assert_eq!(settings.thresholds.pps.number(), None);
    let (_, settings) = migrated(b"enable_ban_ipv6 = off\n");
    let groups: Vec<_> = settings.group.iter().collect();
    assert_eq!((groups.len(), groups[0].ban), (1, Some(false)));
    assert_eq!(groups[0].networks.iter().next().unwrap().to_string(), "::/0");
}

#[test]
fn an_export_goes_where_theirs_went() {
    let text = b"redis_enabled = on\nredis_host = ::1\ngraphite = on\ngraphite_host = g\n\
                 influxdb = on\ninfluxdb_port = 8087\nclickhouse_metrics = on\n\
                 clickhouse_metrics_host = c\nclickhouse_metrics_port = 9000\n";
    let (migration, settings) = migrated(text);
    assert!(settings.redis.enabled && settings.graphite.enabled);
    assert!(settings.influxdb.enabled && settings.clickhouse.enabled);
    assert_eq!(settings.graphite.server.as_str(), "g:2003");
    assert_eq!(settings.influxdb.url.as_str(), "http://127.0.0.1:8087");
    assert_eq!(settings.clickhouse.url.as_str(), "http://c:8123");
    assert!(migration.toml.contains("server = \"[::1]:6379\""), "{}", migration.toml);
}

#[test]
fn a_group_has_their_limits_and_what_is_off_there_is_off() {
    let text = b"threshold_pps = 20000\nban_for_bandwidth = on\nthreshold_mbps = 1000\n\
                 ban_for_tcp_pps = off\nthreshold_tcp_pps = 7000\n# the big ones\n\
                 hostgroup = web:192.0.2.7/26, 2001:db8:1::/48\nweb_enable_ban = on\n\
                 web_ban_for_pps = on\nweb_threshold_pps = 100000\nweb_ban_for_tcp_pps = on\n\
                 web_ban_for_udp_pps = off\nweb_threshold_udp_pps = 9\nhostgroup = web:198.51.100.0/24\n\
                 hostgroup = rest:203.0.113.0/24\nrest_threshold_mbps = 5\n";
    let (migration, settings) = migrated(text);
    let groups = migration.toml.split_once("\n[[group]]\nname = \"rest\"\n").unwrap().1;
    let expected = "networks = [\"203.0.113.0/24\"]\nban = false\nthresholds.mbps = \"off\"\n\
                    thresholds.pps = \"off\"\n\n# the big ones\n[[group]]\nname = \"web\"\nnetworks = \
                    [\"192.0.2.0/26\", \"198.51.100.0/24\", \"2001:db8:1::/48\"]\nban = true\n\
                    thresholds.mbps = \"off\"\nthresholds.pps = 100000\nthresholds.tcp.pps = 7000\n";
    assert_eq!(groups, expected);
    assert_eq!(settings.group.iter().count(), 2);
    let of = |key: &str| migration.keys.iter().find(|told| told.key == key).unwrap();
    assert_eq!(of("web_threshold_pps").to, ["group.web.thresholds.pps"]);
    assert_eq!(of("web_enable_ban").outcome, Outcome::Honoured);
    assert!(of("web_threshold_udp_pps").how.contains("`web_ban_for_udp_pps` is off"));
    assert!(of("hostgroup").how.contains("host bits"), "{:?}", of("hostgroup"));
    check("hostgroup = a b:192.0.2.0/24", Outcome::Unreadable, &[], "is no name for a group");
    check("hostgroup = a:192.0.2.0/33", Outcome::Unreadable, &[], "192.0.2.0/33");
    check("hostgroup = a", Outcome::Unreadable, &[], "name:network,network");
    let twice = "hostgroup = a:192.0.2.0/24\nhostgroup = b:192.0.2.0/24";
    check(twice, Outcome::Unreadable, &[], "is in group `a` and in group `b`");
    let flows = "hostgroup = a:192.0.2.0/24\na_ban_for_flows = on";
    check(flows, Outcome::Missing, &[], "flows are not counted");
}

/// The keys of all versions, as the comparison of both products lists them.
const THEIRS: &str = "enable_ban enable_ban_ipv6 ban_time unban_only_if_attack_finished \
    ban_details_records_count notify_script_path threshold_pps threshold_mbps threshold_flows \
    ban_for_pps ban_for_bandwidth ban_for_flows threshold_tcp_pps threshold_udp_pps \
    threshold_icmp_pps threshold_tcp_mbps threshold_udp_mbps threshold_icmp_mbps ban_for_tcp_pps \
    ban_for_udp_pps ban_for_icmp_pps ban_for_tcp_bandwidth ban_for_udp_bandwidth \
    ban_for_icmp_bandwidth average_calculation_time speed_calculation_delay check_period \
    networks_list_path white_list_path monitor_local_ip_addresses monitor_openvz_vps_ip_addresses \
    process_incoming_traffic process_outgoing_traffic hostgroup interfaces mirror_afpacket \
    mirror_afxdp pcap mirror mirror_netmap mirror_af_packet_custom_sampling_rate \
    mirror_af_packet_fanout_mode xdp_set_promisc force_native_mode_xdp zero_copy_xdp \
    xdp_read_packet_length_from_ip_header af_packet_read_packet_length_from_ip_header \
    netmap_read_packet_length_from_ip_header sflow_read_packet_length_from_ip_header \
    microcode_xdp_path poll_mode_xdp netflow netflow_port netflow_host netflow_sampling_ratio sflow \
    sflow_port sflow_host redis_enabled redis_host redis_port redis_prefix influxdb influxdb_host \
    influxdb_port influxdb_database influxdb_auth influxdb_user influxdb_password \
    influxdb_push_period graphite graphite_host graphite_port graphite_prefix graphite_push_period \
    clickhouse_metrics clickhouse_metrics_host clickhouse_metrics_port clickhouse_metrics_database \
    clickhouse_metrics_username clickhouse_metrics_password clickhouse_metrics_push_period \
    prometheus prometheus_host prometheus_port kafka_traffic_export exabgp exabgp_command_pipe \
    exabgp_community exabgp_community_subnet exabgp_community_host exabgp_next_hop \
    exabgp_announce_host exabgp_announce_whole_subnet gobgp gobgp_next_hop gobgp_next_hop_host_ipv4 \
    gobgp_next_hop_subnet_ipv4 gobgp_announce_host gobgp_announce_whole_subnet \
    gobgp_community_host gobgp_community_subnet gobgp_next_hop_ipv6 gobgp_announce_host_ipv6 \
    gobgp_announce_whole_subnet_ipv6 gobgp_community_host_ipv6 gobgp_community_subnet_ipv6 \
    sort_parameter max_ips_in_list cli_stats_file_path cli_stats_ipv6_file_path logging_level \
    logging_local_syslog_logging logging_remote_syslog_logging logging_remote_syslog_server \
    logging_remote_syslog_port dump_all_traffic dump_other_traffic pid_path enable_api \
    disable_usage_report mongodb_enabled";

#[test]
fn no_key_of_theirs_is_unknown() {
    let unknown: Vec<&str> =
        THEIRS.split_whitespace().filter(|key| keys::find(key).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// What becomes of each key, as `docs/migration.md` says it.
fn table() -> String {
    let mut text = "| key | when on, or set | when off | ours | how, or what to do |\n\
                    |---|---|---|---|---|\n"
        .to_owned();
    let word = |then: Then| match then {
        Then::Same | Then::Write(_, "") => "honoured",
        Then::Different(_) | Then::Write(..) => "different",
        Then::Nothing(_) => "no effect there",
        Then::Missing(_) => "**not supported**",
    };
    let how = |then: Then| match then {
        Then::Same => "",
        Then::Different(how) | Then::Nothing(how) | Then::Missing(how) | Then::Write(_, how) => how,
    };
    let ours = |then: Then| match then {
        Then::Write(entries, _) => entries.iter().map(|&(place, _)| place).collect(),
        _ => vec![],
    };
    let by = |how: &str| if how.is_empty() { "honoured" } else { "different" };
    for row in KEYS {
        let (on, off, ours, how) = match row.to {
            To::Key { place, how, .. } => (by(how), "", vec![place], how.to_owned()),
            To::Switch { on, off } => {
                let both: Vec<&str> =
                    [how(on), how(off)].into_iter().filter(|how| !how.is_empty()).collect();
                (word(on), word(off), [ours(on), ours(off)].concat(), both.join("; "))
            }
            To::Always(then) => (word(then), "", ours(then), how(then).to_owned()),
            To::Address { switch, place, how, .. } => {
                let ours = switch.into_iter().chain([place]).collect();
                (by(how), "honoured", ours, how.to_owned())
            }
            To::One(how) => ("**not supported** unless 1", "", vec![], how.to_owned()),
            To::Average => ("different", "", vec![], "rates are those of one second".to_owned()),
            To::Group => (
                "honoured",
                "",
                vec!["group"],
                "with the keys that begin with its name; host bits are taken off".to_owned(),
            ),
        };
        let ours: Vec<String> = ours.iter().map(|place| format!("`{place}`")).collect();
        writeln!(text, "| `{}` | {on} | {off} | {} | {how} |", row.key, ours.join(", ")).unwrap();
    }
    text
}

#[test]
fn the_documentation_has_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- every key -->\n\n", "\n<!-- end of keys -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    let table = table();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
        return;
    }
    assert!(found == table, "run this test once with UPDATE=1 and look at docs/migration.md");
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
                    Form::Text if place == "screen.file" => "/x",
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
            To::Address { switch, scheme, place, or: [host, port], .. } => {
                let switch = switch.map(|switch| (switch, "true".to_owned()));
                let place = (place, format!("\"{scheme}{host}:{port}\""));
                switch.into_iter().chain([place]).collect()
            }
            To::Always(_) | To::One(_) | To::Average | To::Group => vec![],
        };
        for (place, value) in entries {
            let (section, key) = place.rsplit_once('.').unwrap();
            // Groups are tried with their names and networks.
            if section.starts_with("group.") {
                continue;
            }
            assert_eq!(accepted(section, key, &value), Ok(()), "`{}`", row.key);
        }
    }
}

#[test]
fn whatever_is_in_a_file_what_is_made_of_it_is_accepted() {
    let mut dice = Dice::default();
    let mut next =
        |below: usize| usize::try_from(dice.roll() % u64::try_from(below).unwrap()).unwrap();
    let values: [&[u8]; 14] = [
        b"a:192.0.2.0/24, 10.0.0.1/8",
        b"b:10.0.0.0/8,2001:db8::/32",
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
                2 => {
                    let (limit, switch, _) = keys::GROUP_LIMITS[next(8)];
                    let key = [limit, switch, "enable_ban", "ban_for_flows"][next(4)];
                    bytes.extend(format!("hostgroup = a:192.0.2.0/24\na_{key} = ").as_bytes());
                    bytes.extend(values[next(values.len())]);
                }
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
