//! Attributes of netlink: what its messages hold, as bytes.
//!
//! **Invariant**: pure. Whatever the bytes say, nothing outside of them is read and the walk ends.

/// An attribute, or a message, begins at a multiple of it.
pub(super) const ALIGNMENT: usize = 4;

/// Length and kind.
const HEAD: usize = 4;

/// The attributes that follow each other here, by kind; the last one is an error when its head is there
/// and the rest is not, or when it says that it is shorter than its head. Fewer bytes than a head are
/// none, as the kernel has it.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Cut>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0)?);
        // The upper two bits say that it is nested, or in network order.
        let kind = half(rest, 2)? & 0x3fff;
        let value = rest.get(HEAD..length);
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
pub(crate) fn put_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(HEAD + value.len()).unwrap_or(u16::MAX);
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

    #[test]
    fn whatever_the_bytes_say_the_walk_ends() {
        let mut body = Vec::new();
        put_attribute(&mut body, 3, b"eth0\0");
        put_attribute(&mut body, 0x8004, &7_u32.to_ne_bytes());
        let both = [(3, b"eth0\0".as_slice()), (4, &7_u32.to_ne_bytes())];
        assert_eq!(attributes(&body).collect::<Vec<_>>(), both.map(Ok));
        assert_eq!(text(attribute(&body, 3).unwrap()), "eth0");
        for cut in 0..body.len() {
            // The first is 9 bytes and 3 of padding; less than a head is nothing.
            let found: Vec<_> = attributes(&body[..cut]).collect();
            assert_eq!(found.contains(&Ok(both[0])), cut >= 9, "{cut}");
            assert_eq!(found.contains(&Err(Cut)), matches!(cut, 4..9 | 16..), "{cut}");
            assert_eq!(whole(&body[..cut]).count(), usize::from(cut >= 9), "{cut}");
        }
        // A length of nothing.
        assert_eq!(attributes(&[0; 64]).collect::<Vec<_>>(), [Err(Cut)]);
    }
}
