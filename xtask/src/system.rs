//! The few system calls of the lab that std has no name for.
//!
//! **Invariant**: each function is safe to call; what the kernel refuses is an error.
#![expect(unsafe_code, reason = "these system calls have no safe interface in std")]

use std::{fs::File, io, os::fd::AsRawFd as _};

/// The signals a test sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// As by Ctrl-C.
    Interrupt = libc::SIGINT as isize,
    /// As by the service manager.
    Terminate = libc::SIGTERM as isize,
    /// Read the configuration again.
    Hangup = libc::SIGHUP as isize,
    /// Cannot be caught.
    Kill = libc::SIGKILL as isize,
    /// As if it got no CPU any more.
    Stop = libc::SIGSTOP as isize,
    /// As if it got its CPU back.
    Continue = libc::SIGCONT as isize,
}

/// Sends a signal to a program of the lab.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = match libc::pid_t::try_from(pid) {
        // Zero would mean the whole group of this process.
        Ok(pid) if pid > 0 => pid,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    // SAFETY: kill(2) takes two numbers and touches no memory.
    let result = unsafe { libc::kill(pid, signal as libc::c_int) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves the calling thread into the network namespace behind the door.
pub(crate) fn enter(door: &File) -> io::Result<()> {
    let descriptor = door.as_raw_fd();
    // SAFETY: the descriptor is open as long as `door` is borrowed; setns(2) touches no memory.
    let result = unsafe { libc::setns(descriptor, libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number of an interface in the calling thread's namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<i32> {
    let name = std::ffi::CString::new(name)?;
    let pointer = name.as_ptr();
    // SAFETY: the pointer is to a string that ends in a zero byte and outlives the call.
    let index = unsafe { libc::if_nametoindex(pointer) };
    match i32::try_from(index) {
        Ok(0) | Err(_) => Err(io::Error::last_os_error()),
        Ok(index) => Ok(index),
    }
}

/// `enum bpf_attach_type` of linux/bpf.h.
#[derive(Clone, Copy)]
pub(crate) enum Hook {
    TcxIngress = 46,
    TcxEgress = 47,
}

/// How many programs hang on that hook, by bpf(2).
pub(crate) fn attached_programs(interface: i32, hook: Hook) -> io::Result<u32> {
    const BPF_PROG_QUERY: libc::c_long = 16;
    /// The `query` member of `union bpf_attr`.
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Query {
        interface: i32,
        hook: u32,
        flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
        attach_flags_of_each: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut query = Query { interface, hook: hook as u32, ..Query::default() };
    let pointer: *mut Query = &raw mut query;
    // SAFETY: bpf(2) reads and writes at most the given size, which is the size of the structure
    // behind the pointer; no identifiers are asked for, so it follows no pointer in it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, pointer, size_of::<Query>()) };
    if result == 0 {
        return Ok(query.count);
    }
    let error = io::Error::last_os_error();
    // Nothing was ever attached there, or the kernel is older than TCX.
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EINVAL) => Ok(0),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        interface_index("nosuch0").unwrap_err();
    }
}
