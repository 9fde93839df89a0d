//! Rights are given up as soon as they are not needed any more.
//!
//! | when | what |
//! |---|---|
//! | before the first thread | root becomes `user`, with what opening the ports needs |
//! | after the ports are open, before the threads that run from then on | what the engine needs later |
//!
//! **Invariant**: the kernel keeps rights for each thread, so they are given up by the only thread
//! there is; the log's, which is older, has none. What scripts get is decided here and nowhere else.
//! Nothing here asks for a right that the agent did not have.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::daemon::engines::{Eyes, Own};
use crate::daemon::people::{Person, agents_group};
use crate::daemon::{Settings as AllSettings, Source};
use crate::kernel::{self, Attached, Egress};

/// What opening the ports, the web server's door and the tables may need.
const TO_START: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::SYS_RESOURCE);

/// What root keeps to handle files of other users (the journal's folder, the control socket's, a
/// networks list), and to end a script that became somebody else.
const OF_ROOT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::KILL);

/// From here on who holds a map may change it (c8644cd0efe7, "bpf: refine
/// `kernel.unprivileged_bpf_disabled` behaviour").
const MAPS_BY_DESCRIPTOR: (u32, u32) = (5, 19);

/// `[security]`.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Who the agent becomes when root started it: a user of `/etc/passwd`, with its groups of
    /// `/etc/group`. All files are opened as that user, at a reload as well. Empty, or the user it
    /// is already: nobody else. Refused: a user that is not there; started by somebody who may not
    /// become it.
    pub user: String,
    /// What a script may do beyond what its user may, when root started the agent and `user` or
    /// `no_new_privileges` is set. Otherwise a script of root may do everything. Refused: a name
    /// the kernel does not know; one the agent itself has not.
    pub script_capabilities: Capabilities,
    /// Nothing that is started gets more rights than the agent has and `script_capabilities`,
    /// neither by `sudo` nor as root.
    pub no_new_privileges: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user: String::new(),
            script_capabilities: Capabilities(CapabilitySet::NET_ADMIN),
            no_new_privileges: false,
        }
    }
}

/// Capabilities by their names.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Capabilities(CapabilitySet);

impl TryFrom<Vec<String>> for Capabilities {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Self, String> {
        let mut set = CapabilitySet::empty();
        for name in names {
            let known = name.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
            set |= known.ok_or_else(|| {
                format!("`{name}` is no capability: name them as \"CAP_NET_ADMIN\"")
            })?;
        }
        Ok(Self(set))
    }
}

impl From<Capabilities> for Vec<String> {
    fn from(Capabilities(set): Capabilities) -> Self {
        set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
    }
}

/// Why rights cannot be what they should be.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// Nobody of that name.
    #[error(
        "`user` in `[security]`: there is no `{0}` in /etc/passwd: make it (`useradd --system {0}`), \
         or set \"\" to stay who starts the agent"
    )]
    NoUser(String),
    /// Not root.
    #[error(
        "`user` in `[security]`: becoming `{user}` needs {missing}: start as root, or as `{user}`, or \
         set \"\" to stay who starts the agent"
    )]
    NotRoot {
        /// Who it should be.
        user: String,
        /// What lacks.
        missing: String,
    },
    /// Scripts are to have what the agent has not.
    #[error(
        "`script_capabilities` in `[security]` names {0}, which the agent itself does not have: grant \
         it, or take it out"
    )]
    NotOurs(String),
    /// The kernel cannot hand rights to programs of another user.
    #[error(
        "`script_capabilities` in `[security]` with `user` needs Linux 4.3: set it to [], and scripts \
         have the user's rights, or set `user` to \"\""
    )]
    NoAmbient,
    /// A folder for that user.
    #[error("`{}` cannot be made for `{user}`: {source}", folder.display())]
    Folder {
        /// Its path.
        folder: PathBuf,
        /// For whom.
        user: String,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel refuses.
    #[error("rights cannot be given up: {what}: {source}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Root becomes `user`, and keeps what the start needs. To be called before the first thread.
///
/// # Errors
/// When there is no such user, or the kernel refuses.
pub fn become_user(settings: &AllSettings) -> Result<(), RightsError> {
    let Settings { user, script_capabilities: Capabilities(for_scripts), no_new_privileges } =
        &settings.security;
    let held = held()?;
    let is_root = geteuid().is_root();
    let needs_naming = is_root && (*no_new_privileges || !user.is_empty());
    let not_ours = for_scripts.difference(held.permitted);
    if needs_naming && !not_ours.is_empty() {
        return Err(RightsError::NotOurs(names(not_ours)));
    }
    if !user.is_empty() {
        let person = Person::named(user).ok_or_else(|| RightsError::NoUser(user.clone()))?;
        if geteuid().as_raw() != person.uid {
            let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
            let missing = needed.difference(held.effective);
            if !missing.is_empty() {
                let (user, missing) = (user.clone(), names(missing));
                return Err(RightsError::NotRoot { user, missing });
            }
            make_folders(settings, user, &person)?;
            leave_root(&person, held, *for_scripts)?;
        }
    } else if needs_naming {
        // Kept in mind until the ports are open: an inheritable one is not used by anybody.
        let inheritable = held.inheritable | *for_scripts;
        set(CapabilitySets { inheritable, ..held })?;
    }
    if *no_new_privileges {
        thread::set_no_new_privs(true).map_err(refused("PR_SET_NO_NEW_PRIVS"))?;
    }
    Ok(())
}

/// Another user, with what the start needs; scripts get what they are to have by the ambient set.
fn leave_root(
    person: &Person,
    held: CapabilitySets,
    for_scripts: CapabilitySet,
) -> Result<(), RightsError> {
    let kept = (TO_START | for_scripts).intersection(held.permitted);
    // The socket and the packets of attacks are for that group, and only a member may give it to them.
    let group = agents_group().filter(|group| !person.groups.contains(group));
    let groups: Vec<Gid> = person.groups.iter().copied().chain(group).map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(person.uid), Gid::from_raw(person.gid));
    thread::set_keep_capabilities(true).map_err(refused("PR_SET_KEEPCAPS"))?;
    thread::set_thread_groups(&groups).map_err(refused("setgroups"))?;
    thread::set_thread_res_gid(gid, gid, gid).map_err(refused("setresgid"))?;
    thread::set_thread_res_uid(uid, uid, uid).map_err(refused("setresuid"))?;
    set(CapabilitySets { effective: kept, permitted: kept, inheritable: for_scripts })?;
    for (_, one) in for_scripts.iter_names() {
        thread::configure_capability_in_ambient_set(one, true).map_err(|errno| match errno {
            Errno::INVAL => RightsError::NoAmbient,
            errno => refused("PR_CAP_AMBIENT")(errno),
        })?;
    }
    Ok(())
}

/// Folders that are not there yet, such as those in /run after a boot, are made as root for that user.
fn make_folders(settings: &AllSettings, user: &str, person: &Person) -> Result<(), RightsError> {
    let files = [Some(&settings.control.socket), Some(&settings.journal.path)];
    let parents = files.into_iter().flatten().filter_map(|file| file.parent());
    let log = settings.attack_log.enabled.then_some(settings.attack_log.folder.as_path());
    let packets = settings.packets.enabled.then_some(settings.packets.folder.as_path());
    for folder in parents.chain(log).chain(packets) {
        if folder.as_os_str().is_empty() || folder.exists() {
            continue;
        }
        make_folder(folder, person).map_err(|source| RightsError::Folder {
            folder: folder.to_owned(),
            user: user.to_owned(),
            source,
        })?;
    }
    Ok(())
}

fn make_folder(folder: &Path, person: &Person) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    fs::DirBuilder::new().mode(0o750).create(folder)?;
    let group = agents_group().unwrap_or(person.gid);
    chown(folder, Some(person.uid), Some(group))
}

/// The ports are open: keeps what their engine needs from now on, and what scripts are to have.
pub(super) fn give_up(eyes: &Eyes, attached: Option<&Attached>) -> Result<(), RightsError> {
    let held = held()?;
    let is_root = geteuid().is_root();
    let mut needed = needed_by(eyes, attached.map_or(Egress::Tcx, Attached::egress));
    if is_root {
        needed |= OF_ROOT;
    }
    // Without further ado root's scripts get all of root's rights when they are started, whatever the
    // agent kept; with it they get no more than that.
    let is_bound = thread::no_new_privs().unwrap_or(false);
    let mut for_scripts = ambient();
    if is_root && is_bound {
        for_scripts |= held.inheritable;
    }
    let permitted = held.permitted & (needed | for_scripts);
    let effective = held.permitted & needed;
    set(CapabilitySets { effective, permitted, inheritable: held.inheritable & permitted })?;
    let told = |set: CapabilitySet| if set.is_empty() { "nothing".to_owned() } else { names(set) };
    let kept = told(effective);
    let scripts = match (is_root, is_bound) {
        (true, false) => "everything, as root".to_owned(),
        (true, true) => told(permitted),
        (false, _) => told(permitted & for_scripts),
    };
    info!(uid = geteuid().as_raw(), %kept, %scripts, "Rights that are not needed were given up.");
    Ok(())
}

/// A thread that needs none.
pub(super) fn give_up_all() {
    let none = CapabilitySet::empty();
    // Where that is not possible there is nobody to be told: this is the log.
    let _kept = set(CapabilitySets { effective: none, permitted: none, inheritable: none });
}

/// What an engine that looks needs: to open a port again, to change tables, to take a filter off.
fn needed_by(eyes: &Eyes, egress: Egress) -> CapabilitySet {
    match eyes {
        Eyes::Kernel(..) => needed_by_xdp(egress, kernel::version()),
        Eyes::Own(Own::AfPacket(_) | Own::Pcap(_), _) => CapabilitySet::NET_RAW,
        // Older modules and drivers ask for the second one.
        Eyes::Own(Own::PfRing(_), _) => CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN,
        Eyes::Own(Own::Nflog(_), _) => CapabilitySet::NET_ADMIN,
    }
}

/// Programs stay where they are by their links; changing a map by its descriptor is free today.
fn needed_by_xdp(egress: Egress, kernel: (u32, u32)) -> CapabilitySet {
    let mut needed = CapabilitySet::empty();
    if kernel < MAPS_BY_DESCRIPTOR {
        needed |= CapabilitySet::BPF;
    }
    if egress == Egress::Clsact {
        needed |= CapabilitySet::NET_ADMIN;
    }
    needed
}

/// Says so now when a reload could not read the configuration any more.
pub(super) fn remark(source: &Source) {
    if let Some(file) = &source.config
        && let Err(error) = File::open(file)
    {
        let file = file.display();
        warn!(%file, %error, "The agent's user cannot read the configuration again: a reload will fail.");
    }
}

fn held() -> Result<CapabilitySets, RightsError> {
    thread::capabilities(None).map_err(refused("capget"))
}

fn set(sets: CapabilitySets) -> Result<(), RightsError> {
    thread::set_capabilities(None, sets).map_err(refused("capset"))
}

/// What who started us meant for everything we start.
fn ambient() -> CapabilitySet {
    CapabilitySet::all()
        .iter_names()
        .map(|(_, one)| one)
        .filter(|&one| thread::capability_is_in_ambient_set(one).unwrap_or(false))
        .fold(CapabilitySet::empty(), CapabilitySet::union)
}

fn names(set: CapabilitySet) -> String {
    Vec::from(Capabilities(set)).join(", ")
}

fn refused(what: &'static str) -> impl Fn(Errno) -> RightsError {
    move |errno| RightsError::Refused { what, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_kernels_names() {
        let parse = |names: &[&str]| {
            Capabilities::try_from(names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let both = parse(&["CAP_NET_RAW", "CAP_NET_ADMIN"]).unwrap();
        assert_eq!(Vec::from(both), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert_eq!(parse(&[]), Ok(Capabilities(CapabilitySet::empty())));
        for wrong in ["net_admin", "NET_ADMIN", "CAP_ALL", ""] {
            let said = format!("`{wrong}` is no capability: name them as \"CAP_NET_ADMIN\"");
            assert_eq!(parse(&[wrong]), Err(said));
        }
    }

    #[test]
    fn a_filter_and_older_kernels_ask_for_more() {
        for (egress, kernel, expected) in [
            (Egress::Tcx, (6, 6), ""),
            (Egress::Clsact, (6, 6), "CAP_NET_ADMIN"),
            (Egress::Clsact, (6, 1), "CAP_NET_ADMIN"),
            (Egress::Tcx, (5, 15), "CAP_BPF"),
            (Egress::Clsact, (5, 15), "CAP_NET_ADMIN, CAP_BPF"),
        ] {
            assert_eq!(names(needed_by_xdp(egress, kernel)), expected, "{egress:?} {kernel:?}");
        }
    }

    #[test]
    fn who_cannot_be_and_what_cannot_be_given_is_told_before_anything_is_done() {
        let mut settings = AllSettings::default();
        assert!(become_user(&settings).is_ok(), "nothing is asked for");
        "no-such-user".clone_into(&mut settings.security.user);
        let said = become_user(&settings).unwrap_err().to_string();
        let expected = "`user` in `[security]`: there is no `no-such-user` in /etc/passwd: make it \
                        (`useradd --system no-such-user`), or set \"\" to stay who starts the agent";
        assert_eq!(said, expected);
    }
}
