//! What this kernel can do for us, and what we do where it cannot.
//!
//! | needed for | since | asked by | where it lacks |
//! |---|---|---|---|
//! | XDP links that end with the process, tables we can map | 5.9, 5.5 | version | refused |
//! | rings | 5.8 | making one | refused |
//! | AF_XDP socket maps (`CONFIG_XDP_SOCKETS`) | 5.4 | making one | refused |
//! | number of the window, time of a sample | 5.6, 5.8 | a program that calls the helper | refused |
//! | copies of any length (`bpf_xdp_load_bytes`) | 5.18 | a program that calls the helper | copies of 128 bytes at most |
//! | programs run for us with bottom halves disabled, which then are nobody else's | 6.3, no `PREEMPT_RT` | version, and what the build is called | each addition waits for its own memory |
//! | TCX links | 6.6 | asking what hangs on the loopback | a filter in the `clsact` qdisc, taken off at the end or at the next start |
//!
//! What a distribution brought to an older kernel is thereby used, and what a build left out is named.
//! A question that is not answered, for want of a right to ask it, is answered by the version.
//!
//! **Invariant**: only [`Answers::of_this_kernel`] asks; the rest is pure. Each thing that is done in a
//! lesser way is one sentence.

use aya::maps::MapType;
use aya::programs::{ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported};

use crate::kernel::{KernelError, links};

/// What the kernel can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Support {
    /// Copies of any length.
    pub load_bytes: bool,
    /// Programs run for us as packets have them run, so that additions may wait for each other.
    pub puts_off: bool,
    /// Links for the classifier of what leaves.
    pub tcx: bool,
}

/// Major and minor version.
type Version = (u32, u32);

/// The running kernel's. A release nobody understands is a new one.
pub fn version() -> Version {
    version_of(&rustix::system::uname().release().to_string_lossy()).unwrap_or((u32::MAX, 0))
}

/// The library that attaches goes by the version, and so must we.
const OLDEST: Version = (5, 9);
const LOAD_BYTES: Version = (5, 18);
/// Commit af2d0d09eabe, "bpf: Disable bh in `bpf_test_run` for xdp and tc prog".
const PUTS_OFF: Version = (6, 3);
const TCX: Version = (6, 6);

/// What the kernel said; `None`: nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Answers {
    rings: Option<bool>,
    sockets: Option<bool>,
    jiffies: Option<bool>,
    boot_time: Option<bool>,
    load_bytes: Option<bool>,
    tcx: Option<bool>,
    realtime: Option<bool>,
}

impl Support {
    /// Asks the running kernel.
    ///
    /// # Errors
    /// When it lacks what nothing can stand in for.
    pub fn of_this_kernel() -> Result<Self, KernelError> {
        let system = rustix::system::uname();
        Self::of(&system.release().to_string_lossy(), Answers::of_this_kernel)
    }

    /// Of a kernel of this name that gives these answers. One that is too old is not asked.
    fn of(release: &str, answers: impl FnOnce() -> Answers) -> Result<Self, KernelError> {
        // A release nobody understands is a new one.
        let version = version_of(release).unwrap_or((u32::MAX, 0));
        if version < OLDEST {
            return Err(KernelError::TooOld { release: release.to_owned() });
        }
        let Answers { rings, sockets, jiffies, boot_time, load_bytes, tcx, realtime } = answers();
        for (answer, what, remedy) in [
            (rings, "ring buffers", "they came with Linux 5.8"),
            (sockets, "AF_XDP socket maps", "they need `CONFIG_XDP_SOCKETS`"),
            (jiffies, "bpf_jiffies64", "it came with Linux 5.6"),
            (boot_time, "bpf_ktime_get_boot_ns", "it came with Linux 5.8"),
        ] {
            if answer == Some(false) {
                return Err(KernelError::Lacks { what, remedy });
            }
        }
        Ok(Self {
            load_bytes: load_bytes.unwrap_or(version >= LOAD_BYTES),
            puts_off: version >= PUTS_OFF && realtime != Some(true),
            tcx: tcx.unwrap_or(version >= TCX),
        })
    }

    /// What is done in a lesser way, a sentence each.
    pub fn remarks(self) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        if !self.load_bytes {
            remarks.push(
                "This kernel has no bpf_xdp_load_bytes (Linux 5.18): samples hold 128 bytes at most.",
            );
        }
        if !self.puts_off {
            remarks.push(
                "This kernel runs no program for us as packets have theirs run (before Linux 6.3, or \
                 PREEMPT_RT): with many hosts each packet waits for the memory of its own.",
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

impl Answers {
    fn of_this_kernel() -> Self {
        Self {
            rings: is_map_supported(MapType::RingBuf).ok(),
            sockets: is_map_supported(MapType::XskMap).ok(),
            jiffies: helper(BpfHelper::BPF_FUNC_jiffies64),
            boot_time: helper(BpfHelper::BPF_FUNC_ktime_get_boot_ns),
            load_bytes: helper(BpfHelper::BPF_FUNC_xdp_load_bytes),
            tcx: tcx(),
            realtime: Some(is_realtime(&rustix::system::uname().version().to_string_lossy())),
        }
    }
}

/// May an XDP program call it?
/// As `uname -v` says it (init/Makefile, `UTS_VERSION`); kernels with the patch of old spell it with a blank.
fn is_realtime(build: &str) -> bool {
    build.contains("PREEMPT_RT") || build.contains("PREEMPT RT")
}

fn helper(helper: BpfHelper) -> Option<bool> {
    is_helper_supported(ProgramType::Xdp, helper).ok()
}

/// Every network namespace has a loopback; what hangs on it is of no interest.
fn tcx() -> Option<bool> {
    match SchedClassifier::query_tcx("lo", TcAttachType::Egress) {
        Ok(_) => Some(true),
        // A kind of attachment the kernel never heard of.
        Err(error) if links::io_error(&error).raw_os_error() == Some(libc::EINVAL) => Some(false),
        Err(_) => None,
    }
}

fn version_of(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: Answers = Answers {
        rings: None,
        sockets: None,
        jiffies: None,
        boot_time: None,
        load_bytes: None,
        tcx: None,
        realtime: None,
    };

    #[track_caller]
    fn check(
        release: &str,
        answers: Answers,
        expected: Option<(bool, bool, bool)>,
        remarks: usize,
    ) {
        let support = Support::of(release, || answers);
        let found = support
            .as_ref()
            .ok()
            .map(|support| (support.load_bytes, support.puts_off, support.tcx));
        assert_eq!(found, expected, "{release}");
        assert_eq!(support.map_or(0, |support| support.remarks().len()), remarks, "{release}");
    }

    #[test]
    fn a_kernel_that_does_not_answer_goes_by_its_version() {
        check("3.10.0-1160.el7.x86_64", SILENT, None, 0);
        check("5.8.18", SILENT, None, 0);
        check("5.9.0", SILENT, Some((false, false, false)), 3);
        check("5.10.0-30-amd64", SILENT, Some((false, false, false)), 3);
        check("6.1.0-18-amd64", SILENT, Some((true, false, false)), 2);
        check("6.3.0", SILENT, Some((true, true, false)), 1);
        check("6.6-rc1", SILENT, Some((true, true, true)), 0);
        check("6.18.44-fc", SILENT, Some((true, true, true)), 0);
        check("something new", SILENT, Some((true, true, true)), 0);
    }

    #[test]
    fn a_build_for_real_time_is_known_by_its_name() {
        assert!(is_realtime("#1 SMP PREEMPT_RT Debian 6.12.57-1 (2025-11-05)"));
        assert!(is_realtime("#46 SMP PREEMPT RT Mon Jan 8 12:00:00 UTC 2024"));
        assert!(!is_realtime("#1 SMP PREEMPT_DYNAMIC Debian 6.12.57-1 (2025-11-05)"));
    }

    #[test]
    fn what_a_kernel_answers_counts_more_than_its_version() {
        let backported = Answers { load_bytes: Some(true), tcx: Some(true), ..SILENT };
        check("5.14.0-427.el9.x86_64", backported, Some((true, false, true)), 1);
        let left_out = Answers { load_bytes: Some(false), tcx: Some(false), ..SILENT };
        check("6.18.44-fc", left_out, Some((false, true, false)), 2);
        let realtime = Answers { realtime: Some(true), ..SILENT };
        check("6.12.0-rt-amd64", realtime, Some((true, false, true)), 1);
    }

    #[test]
    fn a_kernel_that_is_too_old_is_not_asked() {
        let answers = || unreachable!("it would have to load programs");
        assert!(matches!(Support::of("4.19.0", answers), Err(KernelError::TooOld { .. })));
    }

    #[track_caller]
    fn check_refusal(answers: Answers, expected: &str) {
        let error = Support::of("6.18.44-fc", || answers).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.without_xdp().is_some());
    }

    #[test]
    fn what_nothing_can_stand_in_for_is_named() {
        check_refusal(
            Answers { rings: Some(false), ..SILENT },
            "this kernel has no ring buffers, without which XDP counting cannot run: they came with \
             Linux 5.8; run a kernel that has, or set `engine = \"af_packet\"`",
        );
        check_refusal(
            Answers { sockets: Some(false), ..SILENT },
            "this kernel has no AF_XDP socket maps, without which XDP counting cannot run: they need \
             `CONFIG_XDP_SOCKETS`; run a kernel that has, or set `engine = \"af_packet\"`",
        );
        for answers in [
            Answers { jiffies: Some(false), ..SILENT },
            Answers { boot_time: Some(false), ..SILENT },
        ] {
            assert!(Support::of("6.18.44-fc", || answers).is_err());
        }
    }

    #[test]
    fn a_kernel_that_is_too_old_is_named_with_the_way_out() {
        let error = Support::of("4.19.0-6-amd64", || SILENT).unwrap_err().to_string();
        assert!(error.starts_with("the kernel is 4.19.0-6-amd64 and XDP counting needs Linux 5.9"));
    }

    /// Needs root, as the agent does.
    #[cfg(feature = "privileged")]
    #[test]
    fn this_kernel_answers_every_question_and_knows_how_to_say_no() {
        let Answers { rings, sockets, jiffies, boot_time, load_bytes, tcx, realtime } =
            Answers::of_this_kernel();
        for answer in [rings, sockets, jiffies, boot_time, load_bytes, tcx, realtime] {
            assert!(answer.is_some());
        }
        // A helper of classifiers, which no kernel lends to XDP.
        assert_eq!(helper(BpfHelper::BPF_FUNC_skb_load_bytes), Some(false));
        // A kind of map whose number no kernel has given away is refused, not taken for anything.
        assert_eq!(is_map_supported(MapType::Unspecified).ok(), Some(false));
    }
}
