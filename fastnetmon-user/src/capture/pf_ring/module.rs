//! What the kernel module says of itself, and whether we know its ring.
//!
//! **Invariant**: pure but for [`loaded`], which reads one file of /proc.

use std::fs;

/// Where a loaded module tells of itself, in the network namespace that asks.
const PLACE: &str = "/proc/net/pf_ring/info";

/// A module that is loaded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Loaded {
    /// Its release, such as `8.9.0`.
    pub(super) version: String,
    /// The layout of its rings.
    pub(super) slot_version: Option<u16>,
    /// It was told not to show what leaves (`enable_tx_capture=0`).
    pub(super) hides_leaving: bool,
}

/// What is known of a layout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Layout {
    /// Read from running modules.
    Tested,
    /// Known from the headers of its releases, and never read from a running one.
    Untested,
    /// Nobody has told us.
    Unknown,
}

/// The module, if it is loaded.
pub(super) fn loaded() -> Option<Loaded> {
    fs::read_to_string(PLACE).ok().map(|text| Loaded::parse(&text))
}

impl Loaded {
    fn parse(text: &str) -> Self {
        let mut loaded = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.trim() {
                "PF_RING Version" => {
                    value.split(' ').next().unwrap_or_default().clone_into(&mut loaded.version);
                }
                "Slot version" => loaded.slot_version = value.parse().ok(),
                "Capture TX" => loaded.hides_leaving = value.starts_with("No"),
                _ => {}
            }
        }
        loaded
    }

    /// In a few words.
    pub(super) fn name(&self) -> String {
        match self.slot_version {
            Some(slots) => format!("PF_RING {} (slot version {slots})", self.version),
            None => format!("PF_RING {}", self.version),
        }
    }
}

/// Whether we read rings of this slot version. Offsets were measured on `x86_64` only.
pub(super) const fn layout(slot_version: u16) -> Layout {
    match slot_version {
        _ if !cfg!(target_arch = "x86_64") => Layout::Unknown,
        21 => Layout::Tested,
        16 | 17 | 18 | 20 => Layout::Untested,
        _ => Layout::Unknown,
    }
}

/// From 8.2 on a socket is bound by an interface's number, before by its name.
pub(super) const BOUND_BY_NUMBER: u16 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_tells_its_release_its_layout_and_what_it_hides() {
        let text = "PF_RING Version          : 8.9.0 (unknown)\n\
                    Total rings              : 0\n\n\
                    Standard (non ZC) Options\n\
                    Ring slots               : 4096\n\
                    Slot version             : 21\n\
                    Capture TX               : Yes [RX+TX]\n\
                    IP Defragment            : No\n\
                    Socket Mode              : Standard\n";
        let expected =
            Loaded { version: "8.9.0".to_owned(), slot_version: Some(21), hides_leaving: false };
        assert_eq!(Loaded::parse(text), expected);
        assert_eq!(expected.name(), "PF_RING 8.9.0 (slot version 21)");
        let text = text.replace("Yes [RX+TX]", "No [RX only]");
        assert!(Loaded::parse(&text).hides_leaving);
        assert_eq!(Loaded::parse("nonsense\n:\n"), Loaded::default());
        let odd = Loaded::parse("PF_RING Version : 9.9\nSlot version : many\n");
        assert_eq!((odd.name().as_str(), odd.slot_version), ("PF_RING 9.9", None));
    }

    #[test]
    fn only_layouts_that_somebody_told_are_read() {
        for slots in 0..64 {
            let expected = match slots {
                21 => Layout::Tested,
                16..=18 | 20 => Layout::Untested,
                _ => Layout::Unknown,
            };
            assert_eq!(layout(slots), expected, "{slots}");
        }
    }
}
