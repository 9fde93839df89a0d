//! The shipped `fastnetmon.conf` is the defaults, and names every key.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use fastnetmon_user::daemon::Settings;

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
