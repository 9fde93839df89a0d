//! Questions to the kernel over netlink: one request, its messages, their attributes.
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

/// What came back: its kind and what follows the header.
pub(super) type Message = (u16, Vec<u8>);

/// How long the kernel may take over a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// Messages of an answer, at most: more than any question of ours brings.
const MOST: usize = 65_536;

const HEADER: usize = 16;
const ALIGNMENT: usize = 4;

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

/// The attributes that follow each other here, by kind; the last one is an error when it is cut, or
/// shorter than its own head.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Cut>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0)?);
        // The upper two bits say that it is nested, or in network order.
        let kind = half(rest, 2)? & 0x3fff;
        let value = rest.get(4..length);
        rest = value
            .and_then(|_whole| rest.get(length.next_multiple_of(ALIGNMENT)..))
            .unwrap_or_default();
        Some(value.map(|value| (kind, value)).ok_or(Cut))
    })
}

/// An attribute that does not lie within the bytes it came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cut;

/// Those that are whole.
pub(super) fn whole(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(bytes).map_while(Result::ok)
}

/// The first attribute of this kind.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    whole(bytes).find(|&(of, _)| of == kind).map(|(_, value)| value)
}

/// An attribute to be sent.
pub(crate) fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
}

/// A text that may end with a zero byte.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&bytes| u16::from_ne_bytes(bytes))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&bytes| u32::from_ne_bytes(bytes))
}

pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|&bytes| u64::from_ne_bytes(bytes))
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
        let mut body = Vec::new();
        put(&mut body, 3, b"eth0\0");
        put(&mut body, 0x8004, &7_u32.to_ne_bytes());
        let both = [(3, b"eth0\0".as_slice()), (4, &7_u32.to_ne_bytes())];
        assert_eq!(attributes(&body).collect::<Vec<_>>(), both.map(Ok));
        assert_eq!(text(attribute(&body, 3).unwrap()), "eth0");
        for cut in 0..body.len() {
            // The first is 9 bytes and 3 of padding; less than a head is nothing.
            let found: Vec<_> = attributes(&body[..cut]).collect();
            assert_eq!(found.contains(&Ok(both[0])), cut >= 9, "{cut}");
            assert_eq!(found.contains(&Err(Cut)), matches!(cut, 4..9 | 16..), "{cut}");
            assert_eq!(whole(&body[..cut]).count(), usize::from(cut >= 9), "{cut}");
            let _either = collect(&body[..cut], &mut Vec::new());
        }
        // A length of nothing.
        assert_eq!(attributes(&[0; 64]).collect::<Vec<_>>(), [Err(Cut)]);
    }
}
