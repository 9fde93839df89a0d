//! The order of the rooms: a file may use rooms before its own, never one after.
//!
//! **Invariant**: the order is [`ROOMS`] and nowhere else.

use std::path::Path;

use super::{Finding, Tracked};

/// The rooms of the agent in walking order; each may use the ones before it.
const ROOMS: [&str; 15] = [
    "model", "tables", "networks", "origins", "kernel", "capture", "counters", "rates", "verdicts",
    "actions", "reports", "web", "doctor", "daemon", "commands",
];

/// What stands beside the walk, and what each may use.
const ASIDE: [(&str, &[&str]); 2] = [("control", &["model"]), ("client", &["model", "control"])];

/// What rooms may use besides the rooms before them.
const DOORS: [(&str, &[&str]); 3] =
    [("doctor", &["control"]), ("daemon", &["control"]), ("commands", &["control", "client"])];

/// From this room on, code may be asynchronous.
const FIRST_ASYNC: &str = "reports";

/// Files of the agent that stand before the rooms.
const HALL: [&str; 2] = ["lib.rs", "main.rs"];

pub(super) fn check(file: &Tracked<'_>, code: &str) -> Vec<Finding> {
    let Ok(inside) = file.path.strip_prefix("fastnetmon-user/src") else { return Vec::new() };
    let Some(room) = room_of(inside) else { return Vec::new() };
    if !is_room(room) {
        return vec![file.finding(
            1,
            format!("`{room}` is no room: add it to the order in xtask/src/tidy/rooms.rs, or move the file"),
        )];
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        for used in rooms_named(line, inside) {
            if used != room && is_room(used) && !may_use(room, used) {
                findings.push(file.finding(
                    number,
                    format!("`{room}` must not know `{used}`: move this to `{used}`, or what it needs before `{room}`"),
                ));
            }
        }
        if line.contains("crate::{") {
            findings.push(
                file.finding(number, "several rooms in one import: write one `use` line per room"),
            );
        }
        if !may_await(room)
            && (line.contains("tokio::") || line.contains(".await") || line.contains("async fn"))
        {
            findings.push(file.finding(
                number,
                format!("nothing before `{FIRST_ASYNC}` is asynchronous: use a thread and a bounded channel"),
            ));
        }
    }
    findings
}

/// The room a file is in, or `None` in the hall.
fn room_of(inside: &Path) -> Option<&str> {
    let first = inside.iter().next()?.to_str()?;
    if HALL.contains(&first) { None } else { Some(first.strip_suffix(".rs").unwrap_or(first)) }
}

fn is_room(name: &str) -> bool {
    ROOMS.contains(&name) || ASIDE.iter().any(|(room, _)| *room == name)
}

fn may_use(room: &str, used: &str) -> bool {
    if let Some((_, allowed)) = ASIDE.iter().find(|(name, _)| *name == room) {
        return allowed.contains(&used);
    }
    let place = |name| ROOMS.iter().position(|room| *room == name);
    let is_before = match (place(room), place(used)) {
        (Some(room), Some(used)) => used < room,
        _ => false,
    };
    is_before || DOORS.iter().any(|(name, doors)| *name == room && doors.contains(&used))
}

fn may_await(room: &str) -> bool {
    let place = |name| ROOMS.iter().position(|room| *room == name);
    place(room).is_none_or(|room| place(FIRST_ASYNC).is_some_and(|first| room >= first))
}

/// The first names of all paths on this line that begin at the top of the crate.
fn rooms_named<'a>(line: &'a str, inside: &Path) -> Vec<&'a str> {
    // `super` of a room's door is the top of the crate as well.
    let ups = inside.iter().count() - usize::from(inside.ends_with("mod.rs"));
    let mut tops = vec!["crate::".to_owned()];
    tops.push("super::".repeat(ups));
    let mut named = Vec::new();
    for top in &tops {
        for (at, _) in line.match_indices(top.as_str()) {
            let before = line.get(..at).and_then(|before| before.chars().next_back());
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let rest = line.get(at + top.len()..).unwrap_or("");
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            named.extend(rest.get(..end).filter(|name| !name.is_empty()));
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::code_only;

    #[track_caller]
    fn findings(path: &str, text: &str, expected: &[&str]) {
        let file = Tracked { path: Path::new(path), text };
        let found: Vec<String> =
            check(&file, &code_only(text)).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_room_may_use_what_stands_before_it() {
        findings(
            "fastnetmon-user/src/verdicts/mod.rs",
            "use crate::rates::RateFrame;\nuse crate::verdicts::policy::Policy;\nuse crate::model::Host;\n",
            &[],
        );
        findings("fastnetmon-user/src/lib.rs", "use crate::commands::run;\n", &[]);
        findings("fastnetmon-common/src/lib.rs", "use crate::daemon::run;\n", &[]);
    }

    #[test]
    fn a_room_must_not_use_what_comes_after_it() {
        let expected = "fastnetmon-user/src/rates/average.rs:2: `rates` must not know `actions`: \
            move this to `actions`, or what it needs before `rates`";
        for line in [
            "use crate::actions::Action;",
            "    let x = crate::actions::build();",
            "pub(crate) use crate::actions;",
            "fn f(a: &crate::actions::Action) {}",
            "let x = super::super::actions::build();",
        ] {
            findings(
                "fastnetmon-user/src/rates/average.rs",
                &format!("//! x\n{line}\n"),
                &[expected],
            );
        }
        findings(
            "fastnetmon-user/src/rates/mod.rs",
            "use super::web::Page;\n",
            &["fastnetmon-user/src/rates/mod.rs:1: `rates` must not know `web`: \
               move this to `web`, or what it needs before `rates`"],
        );
    }

    #[test]
    fn comments_and_neighbours_are_no_use() {
        findings(
            "fastnetmon-user/src/rates/mod.rs",
            "// crate::actions::x\nlet text = \"crate::actions\";\nuse other::crate::actions;\nuse super::rates::x;\n",
            &[],
        );
        findings("fastnetmon-user/src/rates/average.rs", "use super::actions::x;\n", &[]);
    }

    #[test]
    fn the_console_speaks_only_the_protocol() {
        findings("fastnetmon-user/src/client/state.rs", "use crate::control::Reply;\n", &[]);
        findings("fastnetmon-user/src/daemon/control.rs", "use crate::control::Reply;\n", &[]);
        findings("fastnetmon-user/src/commands/top.rs", "use crate::client::run;\n", &[]);
        for (path, line) in [
            ("fastnetmon-user/src/client/state.rs", "use crate::rates::RateFrame;"),
            ("fastnetmon-user/src/control/mod.rs", "use crate::verdicts::Ban;"),
            ("fastnetmon-user/src/rates/mod.rs", "use crate::control::Reply;"),
            ("fastnetmon-user/src/daemon/mod.rs", "use crate::client::run;"),
        ] {
            let file = Tracked { path: Path::new(path), text: line };
            assert_eq!(check(&file, line).len(), 1, "{path}: {line}");
        }
    }

    #[test]
    fn nothing_before_the_reports_is_asynchronous() {
        for line in ["use tokio::sync::mpsc;", "x.await;", "async fn f() {}"] {
            let file =
                Tracked { path: Path::new("fastnetmon-user/src/actions/script.rs"), text: line };
            assert_eq!(check(&file, line).len(), 1, "{line}");
            let file =
                Tracked { path: Path::new("fastnetmon-user/src/reports/redis.rs"), text: line };
            assert_eq!(check(&file, line).len(), 0, "{line}");
        }
    }

    #[test]
    fn a_file_outside_the_rooms_and_a_joined_import_are_found() {
        findings(
            "fastnetmon-user/src/utils.rs",
            "",
            &["fastnetmon-user/src/utils.rs:1: `utils` is no room: add it to the order in \
               xtask/src/tidy/rooms.rs, or move the file"],
        );
        findings(
            "fastnetmon-user/src/daemon/mod.rs",
            "use crate::{model::Host, rates::RateTable};\n",
            &[
                "fastnetmon-user/src/daemon/mod.rs:1: several rooms in one import: write one `use` line per room",
            ],
        );
    }
}
