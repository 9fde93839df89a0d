//! Questions to the kernel over netlink: one request and its messages. What these hold is in
//! `attributes.rs`.
//!
//! **Invariant**: asks and changes nothing. Whatever the bytes say, nothing outside of them is read
//! and the walk ends.

use std::io;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with, sockopt,
};

use crate::kernel::attributes::{ALIGNMENT, half, word};

/// What came back: its kind and what follows the header.
pub(super) type Message = (u16, Vec<u8>);

/// How long the kernel may take over a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// Messages of an answer, at most: more than any question of ours brings.
const MOST: usize = 65_536;

const HEADER: usize = 16;

/// `NLM_F_REQUEST`, and with `NLM_F_DUMP` (linux/netlink.h).
pub(super) const ONE: u16 = 0x001;
pub(super) const ALL: u16 = 0x301;

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Asks, and collects what is answered. The protocol of routes and links is number 0: none.
pub(super) fn ask(
    protocol: Option<Protocol>,
    kind: u16,
    flags: u16,
    body: &[u8],
) -> io::Result<Vec<Message>> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Number and port: one question, one socket.
    request.extend([0; 8]);
    request.extend(body);
    send(&socket, &request, SendFlags::empty())?;
    let mut messages = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while messages.len() < MOST {
        let (_, length) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let received = buffer.get(..length).unwrap_or_default();
        if collect(received, &mut messages)? || flags == ONE {
            break;
        }
    }
    Ok(messages)
}

/// The messages of one read. Tells whether it was the last of them.
fn collect(received: &[u8], messages: &mut Vec<Message>) -> io::Result<bool> {
    let mut rest = received;
    while let (Some(length), Some(kind)) = (word(rest, 0), half(rest, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = rest.get(HEADER..length) else { return Ok(true) };
        match kind {
            DONE => return Ok(true),
            ERROR => {
                return match word(body, 0).map_or(0, u32::cast_signed) {
                    0 => Ok(true),
                    error => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
                };
            }
            _ => messages.push((kind, body.to_vec())),
        }
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn messages_are_collected_until_the_last_one() {
        let mut messages = Vec::new();
        let bytes = [message(16, b"abcd"), message(17, b""), message(DONE, &[0; 4])].concat();
        assert!(collect(&bytes, &mut messages).unwrap());
        assert_eq!(messages, [(16, b"abcd".to_vec()), (17, vec![])]);
        assert!(!collect(&message(16, b""), &mut messages).unwrap());
    }

    #[test]
    fn a_refusal_is_the_systems_own_error() {
        let refusal = message(ERROR, &(-19_i32).to_ne_bytes());
        let error = collect(&refusal, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19));
    }

    #[test]
    fn whatever_the_bytes_say_the_walk_ends() {
        let bytes = [message(16, b"abcd"), message(DONE, &[0; 4])].concat();
        for cut in 0..bytes.len() {
            let _either = collect(&bytes[..cut], &mut Vec::new());
        }
        let _either = collect(&[0; 64], &mut Vec::new());
    }
}
