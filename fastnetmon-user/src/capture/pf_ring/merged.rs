//! Frames that are longer than their port takes: offload put them together, or will cut them.
//!
//! PF_RING hooks in behind the one and before the other, and does not say of how many packets a frame
//! is made. What is longer than the MTU was full packets, as bulk transfers send them, so it is counted
//! as so many of these.
//!
//! **Invariant**: pure, and a guess: what fits the port is one packet, and what is not TCP or UDP is
//! not guessed at.

/// Bytes of payload in each packet of this frame; 0: it is one packet. `mtu` 0: not known.
pub(super) fn piece(bytes: &[u8], begins_with_ip: bool, wire_bytes: u32, mtu: u32) -> u32 {
    if mtu == 0 || wire_bytes <= mtu.saturating_add(LONGEST_LINK) {
        return 0;
    }
    let Some(headers) = headers(bytes, begins_with_ip) else { return 0 };
    mtu.saturating_sub(headers)
}

/// Bytes of the headers of IP and of what it carries, without the options of TCP: a packet with them is
/// as long, and so many more are missing from its payload as the frame has to spare.
fn headers(bytes: &[u8], begins_with_ip: bool) -> Option<u32> {
    let mut at = 0;
    if !begins_with_ip {
        at = 12;
        for _ in 0..3 {
            match bytes.get(at..at + 2)? {
                [0x81, 0] | [0x88, 0xa8] => at += 4,
                _ => break,
            }
        }
        at += 2;
    }
    let first = *bytes.get(at)?;
    let (ip, protocol) = match first >> 4 {
        4 => (u32::from(first & 15) * 4, *bytes.get(at + 9)?),
        6 => (40, *bytes.get(at + 6)?),
        _ => return None,
    };
    match protocol {
        6 => Some(ip + 20),
        17 => Some(ip + 8),
        _ => None,
    }
}

/// An Ethernet header and three tags.
const LONGEST_LINK: u32 = 26;

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a frame: its tags, then IP with this first byte and protocol.
    fn frame(tags: usize, first: u8, protocol: u8) -> Vec<u8> {
        let mut frame = vec![0; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend(if first >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] });
        let ip = frame.len();
        frame.resize(ip + 40, 0);
        frame[ip] = first;
        frame[ip + if first >> 4 == 4 { 9 } else { 6 }] = protocol;
        frame
    }

    #[test]
    fn only_what_is_longer_than_its_port_takes_is_cut() {
        let tcp = frame(0, 0x45, 6);
        for (wire_bytes, mtu, expected) in [
            (1514, 1500, 0),
            (1526, 1500, 0),
            (1527, 1500, 1460),
            (64_000, 1500, 1460),
            (64_000, 0, 0),
        ] {
            assert_eq!(piece(&tcp, false, wire_bytes, mtu), expected, "{wire_bytes} {mtu}");
        }
    }

    #[test]
    fn a_piece_is_what_a_full_packet_of_its_kind_carries() {
        for (bytes, expected) in [
            (frame(0, 0x45, 6), 1460),
            (frame(0, 0x45, 17), 1472),
            (frame(2, 0x46, 17), 1468),
            (frame(1, 0x60, 6), 1440),
            (frame(0, 0x60, 17), 1452),
            (frame(0, 0x45, 47), 0),
            (frame(0, 0x10, 6), 0),
        ] {
            assert_eq!(piece(&bytes, false, 10_000, 1500), expected);
        }
        assert_eq!(piece(&frame(0, 0x45, 6)[14..], true, 10_000, 1500), 1460);
        let whole = frame(3, 0x45, 6);
        for length in 0..30 {
            assert_eq!(piece(&whole[..length], false, 10_000, 1500), 0, "{length}");
        }
    }
}
