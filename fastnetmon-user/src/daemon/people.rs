//! Users and groups of this machine.
//!
//! **Invariant**: `/etc/passwd` and `/etc/group` are what is known; other sources of users are not
//! asked, since a static binary cannot.

use std::fs;

/// The group whose members may ask and order, and read what the agent writes down.
pub(super) const GROUP: &str = "fastnetmon";

/// Its number; `None`: there is no such group.
pub(super) fn agents_group() -> Option<u32> {
    group_id(GROUP, &read("/etc/group"))
}

/// Somebody of `/etc/passwd`, with the groups of `/etc/group`.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Person {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Its own first.
    pub(super) groups: Vec<u32>,
}

impl Person {
    /// The user of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::find(name, &read("/etc/passwd"), &read("/etc/group"))
    }

    fn find(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let (uid, gid) = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })?;
        let others = groups(group).filter(|group| {
            group.number != gid && group.members.split(',').any(|member| member == name)
        });
        let groups = std::iter::once(gid).chain(others.map(|group| group.number)).collect();
        Some(Self { uid, gid, groups })
    }
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    number: u32,
    members: &'a str,
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse().ok()?;
        Some(Group { name, number, members: fields.next().unwrap_or_default() })
    })
}

fn group_id(name: &str, group: &str) -> Option<u32> {
    groups(group).find(|group| group.name == name).map(|group| group.number)
}

/// What cannot be read names nobody.
fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nfastnetmon:x:998:997:a:/:/bin/false\n\
                          broken:x:y:0\n";
    const GROUPS: &str = "adm:x:4:syslog,fastnetmon\nfastnetmon:x:997:fastnetmon\nbad:x:z:root\n\
                          short:x:60\nvz:x:50:root\n";

    #[test]
    fn a_user_is_found_with_all_its_groups() {
        let found = |name| Person::find(name, PASSWD, GROUPS);
        let expected = Person { uid: 998, gid: 997, groups: vec![997, 4] };
        assert_eq!(found("fastnetmon"), Some(expected));
        assert_eq!(found("root"), Some(Person { uid: 0, gid: 0, groups: vec![0, 50] }));
        assert_eq!((found("fastnet"), found("broken"), found("")), (None, None, None));
    }

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        for (name, number) in [
            ("fastnetmon", Some(997)),
            ("short", Some(60)),
            ("vz", Some(50)),
            ("fastnet", None),
            ("bad", None),
        ] {
            assert_eq!(group_id(name, GROUPS), number, "{name}");
        }
    }
}
