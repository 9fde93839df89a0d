//! Why files of attacks are not written, and what helps.
//!
//! **Invariant**: the reason names the folder, and the remedy the keys of the section it is set in.

use std::io;
use std::path::Path;

/// What failed in `folder` of `[section]`, whose `key` can be made less.
pub(super) fn unwritten(
    folder: &Path,
    error: &io::Error,
    section: &str,
    (less, key): (&str, &str),
) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room there, or keep {less} (`{key}` in `[{section}]`)")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("let the agent write there, or name another `folder` in `[{section}]`")
        }
        _ => format!("name another `folder` in `[{section}]`, or set `enabled = false`"),
    };
    format!("`{}`: {error}; {remedy}", folder.display())
}
