//! What this kernel can do for us, and what we do where it cannot.
//!
//! | needed for | since | where it lacks |
//! |---|---|---|
//! | tables we can map | 5.5 | refused |
//! | rings | 5.8 | refused |
//! | XDP links that end with the process | 5.9 | refused |
//! | copies of any length (`bpf_xdp_load_bytes`) | 5.18 | copies of 128 bytes at most |
//! | TCX links | 6.6 | a filter in the `clsact` qdisc, taken off at the end or at the next start |
//!
//! **Invariant**: pure but for [`Support::of_this_kernel`]; each thing that is done in a lesser way
//! is one sentence.

use crate::kernel::KernelError;

/// What the kernel can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Support {
    /// Copies of any length.
    pub load_bytes: bool,
    /// Links for the classifier of what leaves.
    pub tcx: bool,
}

/// Major and minor version.
type Version = (u32, u32);

const OLDEST: Version = (5, 9);
const LOAD_BYTES: Version = (5, 18);
const TCX: Version = (6, 6);

impl Support {
    /// Asks the running kernel.
    ///
    /// # Errors
    /// When it is too old for any of it.
    pub fn of_this_kernel() -> Result<Self, KernelError> {
        let system = rustix::system::uname();
        Self::of(&system.release().to_string_lossy())
    }

    fn of(release: &str) -> Result<Self, KernelError> {
        // A release nobody understands is a new one.
        let version = version(release).unwrap_or((u32::MAX, 0));
        if version < OLDEST {
            return Err(KernelError::TooOld { release: release.to_owned() });
        }
        Ok(Self { load_bytes: version >= LOAD_BYTES, tcx: version >= TCX })
    }

    /// What is done in a lesser way, a sentence each.
    pub fn remarks(self) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        if !self.load_bytes {
            remarks.push(
                "This kernel has no bpf_xdp_load_bytes (Linux 5.18): samples hold 128 bytes at most.",
            );
        }
        if !self.tcx {
            remarks.push(
                "This kernel has no TCX (Linux 6.6): what leaves is counted by a clsact filter, \
                 which a killed agent leaves behind until the next start.",
            );
        }
        remarks
    }
}

fn version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(release: &str, expected: Option<(bool, bool)>, remarks: usize) {
        let support = Support::of(release);
        let found = support.as_ref().ok().map(|support| (support.load_bytes, support.tcx));
        assert_eq!(found, expected, "{release}");
        assert_eq!(support.map_or(0, |support| support.remarks().len()), remarks, "{release}");
    }

    #[test]
    fn each_kernel_gets_what_it_can_do() {
        check("3.10.0-1160.el7.x86_64", None, 0);
        check("5.8.18", None, 0);
        check("5.9.0", Some((false, false)), 2);
        check("5.10.0-30-amd64", Some((false, false)), 2);
        check("6.1.0-18-amd64", Some((true, false)), 1);
        check("6.6-rc1", Some((true, true)), 0);
        check("6.18.44-fc", Some((true, true)), 0);
        check("something new", Some((true, true)), 0);
    }

    #[test]
    fn a_kernel_that_is_too_old_is_named_with_the_way_out() {
        let error = Support::of("4.19.0-6-amd64").unwrap_err().to_string();
        assert!(error.starts_with("the kernel is 4.19.0-6-amd64 and XDP counting needs Linux 5.9"));
    }
}
