//! Finds the library and the functions in it.
//!
//! **Invariants**: the library is opened with `RTLD_LAZY | RTLD_LOCAL`: it names functions of libpcap
//! that it does not bring, and with anything else it does not open. Once opened it stays: nobody knows
//! what it leaves running.
#![expect(unsafe_code, reason = "a library's initialisers run, and its functions have no type")]

use std::ffi::{c_char, c_int, c_uint};
use std::path::{Path, PathBuf};

use libloading::os::unix;

use crate::Version;
use crate::header::{Counters, Header};

/// `pfring`, whose inside is nobody's business.
#[repr(C)]
pub(crate) struct Opaque {
    _inside: [u8; 0],
}

type Handle = *mut Opaque;
type Set = unsafe extern "C" fn(Handle, c_uint) -> c_int;

/// The functions of a library.
#[derive(Clone, Debug)]
pub struct Library {
    path: PathBuf,
    version: Option<Version>,
    pub(crate) open: unsafe extern "C" fn(*const c_char, u32, u32) -> Handle,
    pub(crate) enable: unsafe extern "C" fn(Handle) -> c_int,
    pub(crate) recv: unsafe extern "C" fn(Handle, *mut *mut u8, c_uint, *mut Header, u8) -> c_int,
    pub(crate) stats: unsafe extern "C" fn(Handle, *mut Counters) -> c_int,
    pub(crate) close: unsafe extern "C" fn(Handle),
    pub(crate) set_name: Option<unsafe extern "C" fn(Handle, *mut c_char) -> c_int>,
    pub(crate) set_direction: Option<Set>,
    pub(crate) set_mode: Option<Set>,
    pub(crate) set_watermark: Option<unsafe extern "C" fn(Handle, u16) -> c_int>,
    pub(crate) set_cluster: Option<unsafe extern "C" fn(Handle, c_uint, c_uint) -> c_int>,
    pub(crate) descriptor: Option<unsafe extern "C" fn(Handle) -> c_int>,
}

/// Why there is no library.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// None was found.
    #[error(
        "there is no libpfring: tried {}; install it, or say where it is with `library` in \
         `[capture.pf_ring]`", tried.join(", ")
    )]
    Absent {
        /// The names that were tried.
        tried: Vec<String>,
    },
    /// The one that is there does not open.
    #[error("`{}` does not open: {reason}", path.display())]
    Broken {
        /// Where it is.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// It lacks a function.
    #[error(
        "`{}` has no function `{symbol}`: it is no libpfring, or not from {} or later",
        path.display(), Version::OLDEST
    )]
    Lacks {
        /// Where it is.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// Its functions are others.
    #[error("`{}` is libpfring {version}: {} or later is needed", path.display(), Version::OLDEST)]
    TooOld {
        /// Where it is.
        path: PathBuf,
        /// What it says it is.
        version: Version,
    },
}

impl Library {
    /// Opens the library at this path, or else the first one of the usual [names](candidates).
    ///
    /// # Errors
    /// When there is none, or when it is not what it should be.
    pub fn load(wanted: Option<&Path>) -> Result<Self, LoadError> {
        if let Some(path) = wanted {
            return match open(path) {
                Ok(library) => Self::from(path, &library),
                Err(reason) => Err(LoadError::Broken { path: path.to_owned(), reason }),
            };
        }
        let mut tried = Vec::new();
        for path in candidates() {
            match open(&path) {
                Ok(library) => return Self::from(&path, &library),
                Err(reason) if reason.contains(NO_FILE) => tried.push(path.display().to_string()),
                Err(reason) => return Err(LoadError::Broken { path, reason }),
            }
        }
        Err(LoadError::Absent { tried })
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says it is, if it says so.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    fn from(path: &Path, library: &unix::Library) -> Result<Self, LoadError> {
        let lacks = |symbol| LoadError::Lacks { path: path.to_owned(), symbol };
        macro_rules! function {
            ($name:literal) => {{
                // SAFETY: a function of this name has had the type it is given here in every release
                // from 6.0.3 on; it stays where it is, for the library is never unloaded.
                let symbol = unsafe { library.get(concat!($name, "\0").as_bytes()) };
                symbol.ok().map(|symbol| *symbol)
            }};
        }
        let version: Option<unsafe extern "C" fn(*mut u32)> = function!("pfring_version_noring");
        let version = version.map(|ask| {
            let mut version = 0;
            // SAFETY: the function writes one number of 32 bits, to a place of ours.
            unsafe { ask(&raw mut version) };
            Version(version)
        });
        if let Some(version) = version.filter(|&version| version < Version::OLDEST) {
            return Err(LoadError::TooOld { path: path.to_owned(), version });
        }
        Ok(Self {
            path: path.to_owned(),
            version,
            open: function!("pfring_open").ok_or_else(|| lacks("pfring_open"))?,
            enable: function!("pfring_enable_ring").ok_or_else(|| lacks("pfring_enable_ring"))?,
            recv: function!("pfring_recv").ok_or_else(|| lacks("pfring_recv"))?,
            stats: function!("pfring_stats").ok_or_else(|| lacks("pfring_stats"))?,
            close: function!("pfring_close").ok_or_else(|| lacks("pfring_close"))?,
            set_name: function!("pfring_set_application_name"),
            set_direction: function!("pfring_set_direction"),
            set_mode: function!("pfring_set_socket_mode"),
            set_watermark: function!("pfring_set_poll_watermark"),
            set_cluster: function!("pfring_set_cluster"),
            descriptor: function!("pfring_get_selectable_fd"),
        })
    }
}

/// Names and places of the library, in the order in which they are tried.
pub fn candidates() -> impl Iterator<Item = PathBuf> {
    // The sonames of 9.x (expected), 8.x and 7.x; 6.x has none.
    let names = ["libpfring.so.9", "libpfring.so.8", "libpfring.so.1", "libpfring.so"];
    let folders = ["", "/usr/lib", "/usr/local/lib", "/opt/pf_ring/lib"];
    names.into_iter().flat_map(move |name| folders.map(|folder| Path::new(folder).join(name)))
}

/// How the loader says that there is no such file.
const NO_FILE: &str = "No such file or directory";

/// Opens a library for good.
fn open(path: &Path) -> Result<std::mem::ManuallyDrop<unix::Library>, String> {
    // SAFETY: the operator installed this library and named it, or it lies where the system's
    // libraries lie; its initialisers are trusted as those of any library that is linked.
    let library = unsafe { unix::Library::open(Some(path), unix::RTLD_LAZY | unix::RTLD_LOCAL) };
    library.map(std::mem::ManuallyDrop::new).map_err(|error| match error {
        libloading::Error::DlOpen { desc } => format!("{desc:?}").trim_matches('"').to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_names_come_first_each_bare_and_then_by_folder() {
        let all: Vec<PathBuf> = candidates().collect();
        assert_eq!(all.len(), 16);
        let first = [
            "libpfring.so.9",
            "/usr/lib/libpfring.so.9",
            "/usr/local/lib/libpfring.so.9",
            "/opt/pf_ring/lib/libpfring.so.9",
            "libpfring.so.8",
        ];
        assert_eq!(all[..5], first.map(PathBuf::from));
        assert_eq!(all[15], Path::new("/opt/pf_ring/lib/libpfring.so"));
    }

    #[test]
    fn a_library_that_does_not_open_is_named_with_the_reason() {
        let error = Library::load(Some(Path::new("/no/such/libpfring.so"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/no/such/libpfring.so` does not open: /no/such/libpfring.so: cannot open shared object \
             file: No such file or directory"
        );
        let error = Library::load(Some(Path::new("/proc/self/status"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/proc/self/status` does not open: /proc/self/status: invalid ELF header"
        );
    }

    #[test]
    fn a_library_of_another_kind_is_told_by_what_it_lacks() {
        let error = Library::load(Some(Path::new("libc.so.6"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`libc.so.6` has no function `pfring_open`: it is no libpfring, or not from 6.0.3 or later"
        );
    }
}
