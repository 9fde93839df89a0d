//! Commands that read files of strangers shut themselves in before they read the first byte.
//!
//! **Invariant**: from then on nothing is opened but the files that are named, to be read; nothing is
//! written but what is open; no TCP connection is made, no process outside is signalled. Where the
//! kernel has no Landlock (5.13) or less of it, what it has is done: the parsers are safe code anyway.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, Scope, path_beneath_rules,
};

use crate::commands::Failure;
use crate::networks;

/// What is asked for; older kernels do less.
const WANTED: ABI = ABI::V6;

/// Shuts this thread in, with the networks files that are still to be read.
pub(super) fn enter(networks: &networks::Settings) -> Result<(), Failure> {
    let networks::Settings { list, whitelist, openvz_veip, .. } = networks;
    shut_in(&[list, whitelist, openvz_veip])
        .map_err(|error| Failure::Refused(format!("the kernel refuses the sandbox: {error}")))
}

/// Files that are not there are left out.
fn shut_in(readable: &[impl AsRef<Path>]) -> Result<(), RulesetError> {
    let _what_the_kernel_can = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile))?
        .restrict_self()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The kernel shuts in a thread; the test's others go on.
    #[test]
    fn inside_only_what_was_named_can_be_read_and_nothing_be_written_or_connected_to() {
        let folder = std::env::temp_dir().join(format!("fnm-sandbox-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (named, other) = (folder.join("named"), folder.join("other"));
        fs::write(&named, "x").unwrap();
        fs::write(&other, "x").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inside = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                shut_in(&[&named, &folder.join("missing")]).unwrap();
                assert_eq!(fs::read_to_string(&named).unwrap(), "x");
                [
                    File::open(&other).unwrap_err().kind(),
                    File::options().write(true).open(&named).unwrap_err().kind(),
                    fs::write(folder.join("new"), "x").unwrap_err().kind(),
                    File::open(folder.join("missing")).unwrap_err().kind(),
                    TcpStream::connect(address).unwrap_err().kind(),
                ]
            });
            thread.join().unwrap()
        });
        let denied = ErrorKind::PermissionDenied;
        assert_eq!(inside, [denied, denied, denied, ErrorKind::NotFound, denied]);
        assert!(File::open(&other).is_ok(), "outside all is as it was");
        fs::remove_dir_all(&folder).unwrap();
    }
}
