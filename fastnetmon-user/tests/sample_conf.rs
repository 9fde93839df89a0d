//! The shipped `fastnetmon.conf` is the defaults, and names every key.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use fastnetmon_user::daemon::Settings;
    use fastnetmon_user::networks::IgnoreRule;
    use fastnetmon_user::verdicts::{Group, Thresholds};

    const SAMPLE: &str = include_str!("../../fastnetmon.conf");

    fn keys(text: &str) -> BTreeSet<String> {
        fn add(path: &str, table: &toml::Table, keys: &mut BTreeSet<String>) {
            for (key, value) in table {
                let path = format!("{path}.{key}");
                match value.as_table() {
                    Some(table) => add(&path, table, keys),
                    None => drop(keys.insert(path)),
                }
            }
        }
        let mut keys = BTreeSet::new();
        add("", &text.parse().unwrap(), &mut keys);
        keys
    }

    #[test]
    fn the_sample_equals_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fastnetmon.conf");
        assert_eq!(Settings::read(&path).unwrap(), Settings::default());
    }

    #[test]
    fn the_sample_names_every_key_and_no_other() {
        let every = toml::to_string(&Settings::default()).unwrap();
        assert_eq!(keys(SAMPLE), keys(&every));
    }

    /// With the keys that stand in it as comments, because absent means something of its own.
    fn with_comments_taken_off() -> String {
        let is_key = |line: &str| {
            let line = line.trim_start_matches('[');
            let word = line.split([' ', ']']).next().unwrap_or_default();
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            !word.is_empty() && word.chars().all(plain)
        };
        SAMPLE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if is_key(key) => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect()
    }

    #[test]
    fn with_its_comments_taken_off_it_names_every_key_that_may_be_absent() {
        let table: toml::Table = with_comments_taken_off().parse().unwrap();
        let settings: Settings = table.clone().try_into().unwrap();
        // No `..`: a new field must be named here, and there.
        let Thresholds {
            pps: _,
            mbps,
            window_ms: _,
            average_secs,
            tcp,
            tcp_syn,
            udp,
            icmp,
            fragment,
            incoming,
            outgoing,
            prefix,
        } = settings.thresholds;
        assert!(mbps.is_some() && average_secs.is_some() && prefix.is_some());
        assert!([tcp, tcp_syn, udp, icmp, fragment].iter().all(Option::is_some));
        assert!(incoming.is_some() && outgoing.is_some() && settings.ban.actions.is_some());
        let [group] = &settings.group.iter().collect::<Vec<_>>()[..] else { panic!("one group") };
        let Group {
            name: _,
            networks: _,
            ban,
            ban_time_secs,
            dry_run,
            actions,
            script,
            thresholds,
            prefix,
            sum,
        } = group;
        assert!(ban.is_some() && ban_time_secs.is_some() && dry_run.is_some());
        assert!(actions.is_some() && script.is_some());
        assert!([thresholds, prefix, sum].iter().all(|ways| ways.is_some()));
        let [rule] = &settings.ignore.iter().collect::<Vec<_>>()[..] else { panic!("one rule") };
        let IgnoreRule { source, protocol, source_port, target_port, comment } = rule;
        assert!(source.is_some() && protocol.is_some() && comment.is_some());
        assert!(source_port.is_some() && target_port.is_some());
    }

    #[test]
    fn every_key_has_a_sentence_before_it() {
        let mut before = "";
        for line in SAMPLE.lines() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(before.starts_with('#'), "`{line}` has no comment");
            }
            before = line;
        }
    }
}
