//! The tables of `docs/configuration.md` and the schema for editors are made from the settings.
//!
//! What a key means is the comment of its field, its default is that of the settings, the words and
//! numbers it takes are asked of the very parser. `UPDATE=1 cargo test -p fastnetmon-user --features
//! schema --test reference` writes both files anew; otherwise a difference fails.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    use fastnetmon_user::daemon::Settings;
    use serde_json::Value;

    const SAMPLE: &str = include_str!("../../fastnetmon.conf");

    const BEGIN: &str = "<!-- keys of ";
    const END: &str = "<!-- end of keys -->";
    /// The heading after the last section.
    const AFTER: &str = "## Exit codes\n";

    /// What may be set, as the settings tell it.
    struct Reference {
        schema: Value,
        defaults: toml::Table,
    }

    impl Reference {
        fn new() -> Self {
            let schema = serde_json::to_value(schemars::schema_for!(Settings)).unwrap();
            let defaults = toml::to_string(&Settings::default()).unwrap().parse().unwrap();
            Self { schema, defaults }
        }

        /// What a reference or an option stands for.
        fn plain<'a>(&'a self, mut node: &'a Value) -> &'a Value {
            loop {
                let of_option = node["anyOf"]
                    .as_array()
                    .filter(|ways| ways.iter().any(|way| way["type"] == "null"))
                    .and_then(|ways| ways.first());
                if let Some(name) = node["$ref"].as_str() {
                    node = self.schema.pointer(name.trim_start_matches('#')).expect(name);
                } else if let Some(way) = of_option {
                    node = way;
                } else {
                    return node;
                }
            }
        }

        /// A section by its path; empty: all of them. `[[group]]` is the group.
        fn section(&self, path: &str) -> &Value {
            path.split('.').filter(|word| !word.is_empty()).fold(&self.schema, |node, word| {
                let node = self.plain(&node["properties"][word]);
                assert!(node.is_object(), "there is no `{word}` in `{path}`");
                if kind(node) == Some("array") { self.plain(&node["items"]) } else { node }
            })
        }

        fn is_list(&self, path: &str) -> bool {
            kind(self.plain(&self.schema["properties"][path])) == Some("array")
        }

        fn default(&self, path: &str, key: &str) -> Option<&toml::Value> {
            let mut table = &self.defaults;
            for word in path.split('.').filter(|word| !word.is_empty()) {
                table = table.get(word)?.as_table()?;
            }
            table.get(key)
        }

        fn rows(&self, path: &str) -> String {
            let section = self.section(path);
            let mut text = String::new();
            let is_top = path.is_empty();
            text.push_str(if is_top {
                "| section | says |\n|---|---|\n"
            } else {
                "| key | takes | default | unit | meaning |\n|---|---|---|---|---|\n"
            });
            for key in order(path) {
                let property = &section["properties"][&key];
                let meaning = meaning(property);
                assert!(meaning.len() > 3, "`{key}` in `{path}` has no comment");
                if is_top {
                    let is_list = kind(self.plain(property)) == Some("array");
                    let shown = if is_list { format!("[[{key}]]") } else { format!("[{key}]") };
                    writeln!(text, "| `{shown}` | {meaning} |").unwrap();
                    continue;
                }
                let node = self.plain(property);
                let is_required = section["required"]
                    .as_array()
                    .is_some_and(|required| required.iter().any(|other| *other == *key));
                let absent = if is_required { "must be given" } else { "absent" };
                let default = match (self.default(path, &key), example(path, &key)) {
                    (Some(toml::Value::Table(_)), _) => String::new(),
                    (Some(value), _) => format!("`{value}`"),
                    (None, Some(example)) => format!("{absent}; such as `{example}`"),
                    (None, None) => absent.to_owned(),
                };
                let default = default.replace('|', "\\|");
                let takes = self.takes(path, &key, node);
                writeln!(text, "| `{key}` | {takes} | {default} | {} | {meaning} |", unit(&key))
                    .unwrap();
            }
            text
        }

        /// The words, or the numbers from the least to the most.
        fn takes(&self, path: &str, key: &str, node: &Value) -> String {
            if let Some(words) = words(node) {
                return words.join(", ");
            }
            match kind(node) {
                Some("boolean") => "`true`, `false`".to_owned(),
                Some("string") => "text".to_owned(),
                Some("object") => "table".to_owned(),
                Some("integer") => range(path, key),
                Some("array") => {
                    let items = self.plain(&node["items"]);
                    let of = words(items).map_or_else(|| "texts".to_owned(), |all| all.join(", "));
                    format!("list of {of}")
                }
                _ if node["anyOf"].is_array() => {
                    let ways = node["anyOf"].as_array().unwrap().iter();
                    let way = |way: &Value| match kind(way) {
                        Some("integer") => range(path, key),
                        Some(word) => word.replace("string", "text"),
                        None => format!("`{}`", way["const"]),
                    };
                    ways.map(way).collect::<Vec<_>>().join(", or ")
                }
                _ => panic!("`{key}` in `{path}` is of a kind this test does not know: {node}"),
            }
        }

        /// Every kind of table below a node, by where it is.
        fn tables(&self, path: &str, found: &mut Vec<(String, Value)>) {
            let section = self.section(path).clone();
            if found.iter().any(|(_, other)| *other == section) {
                return;
            }
            found.push((path.to_owned(), section.clone()));
            for (key, property) in section["properties"].as_object().unwrap() {
                let node = self.plain(property);
                let node =
                    if kind(node) == Some("array") { self.plain(&node["items"]) } else { node };
                if kind(node) == Some("object") {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.tables(&path, found);
                }
            }
        }
    }

    /// The type, of one that may be absent as well.
    fn kind(node: &Value) -> Option<&str> {
        let kinds = node["type"].as_array();
        kinds.map_or(&node["type"], |kinds| kinds.first().unwrap()).as_str()
    }

    fn meaning(property: &Value) -> String {
        let text = property["description"].as_str().unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
    }

    fn words(node: &Value) -> Option<Vec<String>> {
        let quoted = |words: Vec<&Value>| words.iter().map(|word| format!("`{word}`")).collect();
        if let Some(words) = node["enum"].as_array() {
            return Some(quoted(words.iter().collect()));
        }
        let ways = node["oneOf"].as_array()?;
        let words = ways.iter().flat_map(|way| match way["enum"].as_array() {
            Some(words) => words.iter().collect(),
            None => vec![&way["const"]],
        });
        Some(quoted(words.collect()))
    }

    fn unit(key: &str) -> &'static str {
        let units = [
            ("secs", "s"),
            ("ms", "ms"),
            ("mb", "MB"),
            ("bytes", "bytes"),
            ("percent", "%"),
            ("pps", "packets/s"),
            ("mbps", "10⁶ bit/s"),
            ("days", "days"),
        ];
        let last = key.rsplit('_').next();
        units.iter().find(|(word, _)| last == Some(*word)).map_or("", |(_, unit)| *unit)
    }

    /// A file with this one line in this section; what the section cannot be without is there.
    fn one(path: &str, key: &str, value: &str) -> String {
        let (list, below) = path.split_once('.').unwrap_or((path, ""));
        let needed: &[(&str, &str)] = match list {
            "group" => &[("name", "\"a\""), ("networks", "[\"192.0.2.0/24\"]")],
            "ignore" => &[("source", "\"192.0.2.0/24\"")],
            "" => return format!("{key} = {value}\n"),
            _ => return format!("[{path}]\n{key} = {value}\n"),
        };
        let mut text = format!("[[{list}]]\n");
        for (other, value) in needed.iter().filter(|(other, _)| !below.is_empty() || *other != key)
        {
            writeln!(text, "{other} = {value}").unwrap();
        }
        if !below.is_empty() {
            writeln!(text, "[{path}]").unwrap();
        }
        text + &format!("{key} = {value}\n")
    }

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new("probe"), text).map_err(|error| error.to_string())
    }

    /// The keys in the order of the fields, as the parser names them to whoever writes another one.
    fn order(path: &str) -> Vec<String> {
        let told = parse(&one(path, "no_such_key", "1")).unwrap_err();
        let (_, expected) = told.split_once(", expected ").expect(&told);
        expected.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
    }

    /// The numbers a key takes.
    fn range(path: &str, key: &str) -> String {
        let takes = |number: i64| parse(&one(path, key, &number.to_string())).is_ok();
        let good = [1, 4, 10, 50, 100, 1000].into_iter().find(|&number| takes(number));
        let good = good.unwrap_or_else(|| panic!("`{key}` in `{path}` takes no number tried"));
        // Between one that is taken and one that is not.
        let edge = |mut taken: i64, mut refused: i64| {
            while taken.abs_diff(refused) > 1 {
                let middle = taken + (refused - taken) / 2;
                if takes(middle) { taken = middle } else { refused = middle }
            }
            taken
        };
        let least = edge(good, -1);
        let most = if takes(i64::MAX) { i64::MAX } else { edge(good, i64::MAX) };
        if most >= i64::from(u32::MAX) {
            format!("from {least}")
        } else {
            format!("{least} to {most}")
        }
    }

    /// What the sample shows for a key that is absent in it.
    fn example(path: &str, key: &str) -> Option<String> {
        let section = path.rsplit('.').next().unwrap_or_default();
        let mut inside = false;
        for line in SAMPLE.lines() {
            let line = line.trim_start_matches('#').trim();
            if let Some(name) = line.strip_prefix('[') {
                let name = name.trim_start_matches('[').trim_end_matches(']');
                inside = name == path || name == section;
            } else if let Some((found, value)) = line.split_once(" = ")
                && inside
                && found == key
            {
                return Some(value.to_owned());
            }
        }
        None
    }

    /// Compares a file with what it should be, or writes it.
    #[track_caller]
    fn hold(name: &str, expected: &str) {
        let path = xtask::root().join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, expected).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = (1..).zip(found.lines().zip(expected.lines()));
        if let Some((line, (found, expected))) = lines.find(|(_, (one, other))| one != other) {
            panic!(
                "{name}:{line}: the settings say otherwise: run `UPDATE=1 cargo test -p \
                 fastnetmon-user --features schema --test reference`\n- {found}\n+ {expected}"
            );
        }
        assert_eq!(found.len(), expected.len(), "{name} is of another length");
    }

    #[test]
    fn the_tables_of_the_configuration_are_those_of_the_settings() {
        let reference = Reference::new();
        let page = fs::read_to_string(xtask::root().join("docs/configuration.md")).unwrap();
        let mut expected = String::new();
        let mut shown = BTreeSet::new();
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            writeln!(expected, "{line}").unwrap();
            let Some(path) = line.strip_prefix(BEGIN) else { continue };
            let path = path.strip_suffix(" -->").expect("a mark ends").trim_matches('`');
            let path = path.strip_prefix("everything").unwrap_or(path);
            shown.insert(path.to_owned());
            writeln!(expected, "\n{}\n{END}", reference.rows(path)).unwrap();
            assert!(lines.any(|line| line == END), "the keys of `{path}` have no end");
        }
        let mut tables = Vec::new();
        reference.tables("", &mut tables);
        for (path, section) in &tables {
            if shown.iter().any(|shown| reference.section(shown) == section) {
                continue;
            }
            // A new section stands before what comes after all of them, until somebody moves it.
            let (before, after) = expected.split_once(AFTER).expect(AFTER);
            let marks = if path.contains('.') { "###" } else { "##" };
            let name =
                if reference.is_list(path) { format!("[[{path}]]") } else { format!("[{path}]") };
            let rows = reference.rows(path);
            expected = format!(
                "{before}{marks} `{name}`\n\n{BEGIN}{path} -->\n\n{rows}\n{END}\n\n{AFTER}{after}"
            );
        }
        hold("docs/configuration.md", &expected);
        assert!(tables.len() > 20, "{}", tables.len());
    }

    #[test]
    fn the_parser_and_the_schema_know_the_same_keys() {
        let reference = Reference::new();
        let mut tables = Vec::new();
        reference.tables("", &mut tables);
        for (path, section) in tables {
            let of_schema: BTreeSet<String> =
                section["properties"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(of_schema, order(&path).into_iter().collect(), "{path}");
            assert_eq!(section["additionalProperties"], false, "{path}");
        }
    }

    #[test]
    fn editors_have_the_schema() {
        let schema = serde_json::to_string_pretty(&Reference::new().schema).unwrap();
        hold("docs/fastnetmon.schema.json", &format!("{schema}\n"));
    }
}
