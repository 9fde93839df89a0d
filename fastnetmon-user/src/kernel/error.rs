//! What can go wrong between us and the kernel, and what to do about it.

use std::io;

use crate::kernel::Mode;
use crate::tables::MappingError;

/// Why the programs do not run.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The list of CPUs cannot be read.
    #[error("{file}: {source}; is /sys mounted?")]
    Cpus {
        /// Which file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// More CPUs than the programs tell apart.
    #[error(
        "the kernel may run {found} CPUs and XDP counting tells {most} apart: boot it with \
         `possible_cpus={most}`, or set `engine = \"af_packet\"`"
    )]
    TooManyCpus {
        /// How many there may be.
        found: u32,
        /// How many are told apart.
        most: u32,
    },
    /// Older than everything we need.
    #[error(
        "the kernel is {release} and XDP counting needs Linux 5.9 or newer: run it on a newer kernel"
    )]
    TooOld {
        /// What the kernel calls itself.
        release: String,
    },
    /// It was asked for something and has not got it.
    #[error(
        "this kernel has no {what}, without which XDP counting cannot run: {remedy}; run a kernel \
         that has, or set `engine = \"af_packet\"`"
    )]
    Lacks {
        /// What lacks.
        what: &'static str,
        /// Since when there is one, or what it is built with.
        remedy: &'static str,
    },
    /// A CPU whose additions wait cannot be reached.
    #[error("the agent may not run on CPU {cpu}: {source}; let its `cpuset` have that CPU")]
    Backlog {
        /// Its number.
        cpu: usize,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel does not take the programs.
    #[error("the kernel does not take the programs: {reason}")]
    Load {
        /// What the kernel says, and what it lacks.
        reason: String,
    },
    /// The object in this binary is not the one it was built for.
    #[error(
        "the programs speak version {found} of the tables and the agent {expected}: rebuild with `cargo xtask build`"
    )]
    Version {
        /// What the object says.
        found: u32,
        /// What the agent needs.
        expected: u32,
    },
    /// The object lacks something it must have.
    #[error("no `{name}` in the object: rebuild with `cargo xtask build`")]
    Missing {
        /// Which map or program.
        name: &'static str,
    },
    /// Memory of a map cannot be reached.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// There is no such interface.
    #[error("interface `{interface}` does not exist; there are: {there}")]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// The names there are.
        there: String,
    },
    /// The driver cannot run XDP.
    #[error(
        "interface `{interface}`: its driver does not run XDP natively ({source}); set `engine = \
         \"xdp_generic\"` to run it in the stack, slower, or `engine = \"af_packet\"` to count copies"
    )]
    NotNative {
        /// The interface.
        interface: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// Somebody else's program is on the interface.
    #[error(
        "interface `{interface}` has an XDP program already: another agent, or another tool; `ip \
         link show dev {interface}` names it, and it must go first"
    )]
    Busy {
        /// The interface.
        interface: String,
    },
    /// Frames are too long for the driver.
    #[error(
        "interface `{interface}`: its MTU is too large for native XDP ({source}); lower the MTU, \
         or set `engine = \"xdp_generic\"`"
    )]
    TooLong {
        /// The interface.
        interface: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel refuses to attach.
    #[error("interface `{interface}`: cannot attach {what}: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// Which program, where.
        what: &'static str,
        /// What the kernel says.
        reason: String,
    },
    /// A socket cannot be told to the programs.
    #[error("the programs cannot be told of a socket: {reason}")]
    Seat {
        /// What the kernel says.
        reason: String,
    },
    /// A ring cannot be read.
    #[error("cannot wait for the kernel's rings: {0}")]
    Wait(io::Error),
}

impl KernelError {
    /// Why XDP cannot be had here, in a few words; `None` when another way to count meets the same.
    pub fn without_xdp(&self) -> Option<String> {
        match self {
            Self::TooOld { release } => {
                Some(format!("the kernel is {release}, and XDP counting needs Linux 5.9"))
            }
            Self::TooManyCpus { found, most } => {
                Some(format!("the kernel may run {found} CPUs, and {most} are told apart"))
            }
            Self::Lacks { what, .. } => Some(format!("this kernel has no {what}")),
            Self::NotNative { interface, source } => {
                Some(format!("the driver of `{interface}` does not run XDP natively ({source})"))
            }
            Self::TooLong { interface, .. } => {
                Some(format!("the MTU of `{interface}` is too large for native XDP"))
            }
            Self::Busy { interface } => Some(format!("`{interface}` has an XDP program already")),
            Self::Load { .. } | Self::Attach { .. } => Some(self.to_string()),
            _ => None,
        }
    }

    /// Reads the kernel's answer to an attempt to attach XDP.
    pub(super) fn of_xdp(interface: &str, mode: Mode, source: io::Error) -> Self {
        let interface = interface.to_owned();
        match (source.raw_os_error(), mode) {
            (Some(libc::EBUSY | libc::EEXIST), _) => Self::Busy { interface },
            (Some(libc::ERANGE | libc::E2BIG | libc::EMSGSIZE), Mode::Native) => {
                Self::TooLong { interface, source }
            }
            (Some(libc::EOPNOTSUPP | libc::EINVAL), Mode::Native) => {
                Self::NotNative { interface, source }
            }
            _ => Self::Attach { interface, what: "XDP", reason: source.to_string() },
        }
    }
}
