//! Roles of ports, and the links that hold the programs to them.
//!
//! **Invariant**: XDP hangs on a file descriptor of ours or it is not attached: an attachment by
//! netlink would outlive a killed agent. So would a `clsact` filter, which therefore is what is done
//! only where the kernel has nothing better; it passes everything on, whoever it counts for.

use std::io;

use aya::programs::links::{FdLink, LinkError};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::{LinkOrder, ProgramError, XdpMode};
use fastnetmon_common::abi::program;

use crate::kernel::{Egress, KernelError, Mode, Object, Port, Role, ports};

/// What keeps a program on its port.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what happens when it is dropped")]
pub(super) enum Held {
    /// Ends with the process.
    Link(FdLink),
    /// Taken off when it is dropped.
    Filter(SchedClassifierLink),
}

/// Attaches what the port's role asks for.
pub(super) fn attach(
    object: &mut Object,
    port: &Port,
    way_out: Egress,
    held: &mut Vec<Held>,
) -> Result<(), KernelError> {
    let interface = port.interface.as_str();
    ports::must_exist(interface)?;
    match port.role {
        Role::Uplink => {
            held.push(xdp(object, program::XDP_UPLINK, port)?);
            held.push(match way_out {
                Egress::Tcx => egress(object, interface)?,
                Egress::Clsact => clsact(object, interface)?,
            });
        }
        Role::Mirror => held.push(xdp(object, program::XDP_MIRROR, port)?),
    }
    Ok(())
}

fn xdp(object: &mut Object, name: &'static str, port: &Port) -> Result<Held, KernelError> {
    let interface = port.interface.as_str();
    let mode = match port.mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let program = object.xdp(name)?;
    let id = program
        .attach(interface, mode)
        .map_err(|error| KernelError::of_xdp(interface, port.mode, io_error(&error)))?;
    let link = program.take_link(id).map_err(|error| cannot(interface, "XDP", &error))?;
    FdLink::try_from(link).map(Held::Link).map_err(|error| no_own_link(interface, "XDP", &error))
}

fn egress(object: &mut Object, interface: &str) -> Result<Held, KernelError> {
    const WHAT: &str = "the classifier of what leaves";
    leave_nothing(interface);
    let program = object.classifier(program::TC_EGRESS)?;
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(interface, TcAttachType::Egress, order)
        .map_err(|error| cannot(interface, WHAT, &error))?;
    let link = program.take_link(id).map_err(|error| cannot(interface, WHAT, &error))?;
    FdLink::try_from(link).map(Held::Link).map_err(|error| no_own_link(interface, WHAT, &error))
}

/// The same without TCX. One that a killed agent left behind goes first: it counts for nobody.
fn clsact(object: &mut Object, interface: &str) -> Result<Held, KernelError> {
    const WHAT: &str = "a clsact filter for what leaves";
    let program = object.classifier(program::TC_EGRESS)?;
    match qdisc_add_clsact(interface) {
        Ok(()) | Err(TcError::AlreadyAttached) => {}
        // What another one of us left, or somebody else's: it serves us both.
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => {
            let reason = error.to_string();
            return Err(KernelError::Attach {
                interface: interface.to_owned(),
                what: WHAT,
                reason,
            });
        }
    }
    leave_nothing(interface);
    let options = TcAttachOptions::Netlink(NlOptions::default());
    let id = program
        .attach_with_options(interface, TcAttachType::Egress, options)
        .map_err(|error| cannot(interface, WHAT, &error))?;
    let link = program.take_link(id).map_err(|error| cannot(interface, WHAT, &error))?;
    Ok(Held::Filter(link))
}

/// Takes off a filter that a killed agent left behind.
fn leave_nothing(interface: &str) {
    // Nothing there is what is hoped for.
    let _none = qdisc_detach_program(interface, TcAttachType::Egress, program::TC_EGRESS);
}

fn cannot(interface: &str, what: &'static str, error: &ProgramError) -> KernelError {
    let reason = io_error(error).to_string();
    KernelError::Attach { interface: interface.to_owned(), what, reason }
}

/// Dropping the other kind of link detaches it.
fn no_own_link(interface: &str, what: &'static str, _error: &LinkError) -> KernelError {
    KernelError::Attach {
        interface: interface.to_owned(),
        what,
        reason: "this kernel has no BPF links for it (XDP: Linux 5.9), so the program could not \
                 be taken off when the agent dies"
            .to_owned(),
    }
}

/// The system's own words, out of whatever aya wraps them in.
pub(super) fn io_error(error: &ProgramError) -> io::Error {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(number) = error.raw_os_error()
        {
            return io::Error::from_raw_os_error(number);
        }
        source = error.source();
    }
    io::Error::other(error.to_string())
}
