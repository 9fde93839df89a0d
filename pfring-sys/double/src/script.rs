//! What a test wants the double to be: words in `PFRING_DOUBLE`, and a file in `PFRING_DOUBLE_LOG`.
//!
//! | word | |
//! |---|---|
//! | `version=8.9.0` | the release of the module, and of the library |
//! | `library=8.9.0` | the release of the library, where it is another |
//! | `slots=21` | slot version of the module, and the one the library was compiled with |
//! | `header=48` | bytes of a short header |
//! | `fails=97` | opening fails with this `errno` |
//! | `mismatch` | the library finds a module of another slot version |
//! | `rx_only` | the module was loaded with `enable_tx_capture=0` |
//! | `ring=4096` | slots of a ring |
//! | `spoil=1000` | after so many packets the ring tells nonsense, once |

use std::ffi::c_int;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::OnceLock;

/// What the double is.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) version: [u8; 3],
    pub(crate) library: Option<[u8; 3]>,
    pub(crate) slots: u16,
    pub(crate) header: u16,
    pub(crate) fails: Option<c_int>,
    pub(crate) mismatch: bool,
    pub(crate) rx_only: bool,
    pub(crate) ring: u32,
    pub(crate) spoil: Option<u64>,
}

/// What the test told.
pub(crate) fn script() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let words = std::env::var_os("PFRING_DOUBLE").unwrap_or_default();
        Script::parse(&words.to_string_lossy())
    })
}

impl Script {
    fn parse(words: &str) -> Self {
        let mut script = Self {
            version: [8, 9, 0],
            library: None,
            slots: 21,
            header: 48,
            fails: None,
            mismatch: false,
            rx_only: false,
            ring: 4096,
            spoil: None,
        };
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("version", text) => script.version = release(text),
                ("library", text) => script.library = Some(release(text)),
                ("slots", text) => script.slots = text.parse().unwrap_or_default(),
                ("header", text) => script.header = text.parse().unwrap_or_default(),
                ("fails", text) => script.fails = text.parse().ok(),
                ("mismatch", _) => script.mismatch = true,
                ("rx_only", _) => script.rx_only = true,
                ("ring", text) => script.ring = text.parse().unwrap_or(4096),
                ("spoil", text) => script.spoil = text.parse().ok(),
                (word, _) => eprintln!("pfring-double: `{word}` means nothing here"),
            }
        }
        script
    }
}

fn release(text: &str) -> [u8; 3] {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or_default());
    [(); 3].map(|()| numbers.next().unwrap_or_default())
}

/// Writes down a call, where the test asks for it.
pub(crate) fn note(call: &str) {
    let Some(path) = std::env::var_os("PFRING_DOUBLE_LOG") else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        // One write, so that threads do not mix.
        let _unheard = file.write_all(format!("{call}\n").as_bytes());
    }
}

/// Leaves the reason where C looks for it.
pub(crate) fn set_errno(number: c_int) {
    // SAFETY: the C library gives each thread a place for it, which is always there.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place = number };
}
