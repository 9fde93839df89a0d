//! Roles of ports, and the links that hold the programs to them.
//!
//! **Invariant**: a link is a file descriptor of ours or it is not made: an attachment by netlink
//! would outlive a killed agent and take the port's traffic hostage.

use std::io;

use aya::programs::links::{FdLink, LinkError};
use aya::programs::tc::{TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, ProgramError, XdpMode};
use fastnetmon_common::abi::program;

use crate::kernel::{KernelError, Mode, Object, Port, Role, ports};

/// Attaches what the port's role asks for.
pub(super) fn attach(
    object: &mut Object,
    port: &Port,
    held: &mut Vec<FdLink>,
) -> Result<(), KernelError> {
    let interface = port.interface.as_str();
    ports::must_exist(interface)?;
    match port.role {
        Role::Uplink => {
            held.push(xdp(object, program::XDP_UPLINK, port)?);
            held.push(egress(object, interface)?);
        }
        Role::Mirror => held.push(xdp(object, program::XDP_MIRROR, port)?),
    }
    Ok(())
}

fn xdp(object: &mut Object, name: &'static str, port: &Port) -> Result<FdLink, KernelError> {
    let interface = port.interface.as_str();
    let mode = match port.mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let program = object.xdp(name)?;
    let id = program
        .attach(interface, mode)
        .map_err(|error| KernelError::of_xdp(interface, port.mode, io_error(&error)))?;
    let link = program.take_link(id).map_err(|error| no_link(interface, "XDP", &error))?;
    FdLink::try_from(link).map_err(|error| no_own_link(interface, "XDP", &error))
}

fn egress(object: &mut Object, interface: &str) -> Result<FdLink, KernelError> {
    const WHAT: &str = "the classifier of what leaves (TCX, Linux 6.6 or newer)";
    let program = object.classifier(program::TC_EGRESS)?;
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id =
        program.attach_with_options(interface, TcAttachType::Egress, order).map_err(|error| {
            KernelError::Attach {
                interface: interface.to_owned(),
                what: WHAT,
                reason: io_error(&error).to_string(),
            }
        })?;
    let link = program.take_link(id).map_err(|error| no_link(interface, WHAT, &error))?;
    FdLink::try_from(link).map_err(|error| no_own_link(interface, WHAT, &error))
}

fn no_link(interface: &str, what: &'static str, error: &ProgramError) -> KernelError {
    KernelError::Attach { interface: interface.to_owned(), what, reason: error.to_string() }
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
fn io_error(error: &ProgramError) -> io::Error {
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
