//! Everybody's traffic: two hundred hosts of ours in both families, and somebody in the world.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd as _;

use xtask::lab::{GUARDED, Lab};
use xtask::traffic::Frame;

// Nobody there answers.
pub(crate) const WORLD4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
pub(crate) const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 1);
pub(crate) const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// Beyond the outside, where nobody answers.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

pub(crate) fn ours4(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

pub(crate) fn ours6(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last).into()
}

/// Frames of or to each host, in sizes that differ.
pub(crate) struct Crowd {
    pub(crate) in4: Vec<Frame>,
    pub(crate) in6: Vec<Frame>,
    pub(crate) out4: Vec<Frame>,
    pub(crate) out6: Vec<Frame>,
}

impl Crowd {
    /// How many each of the four has.
    pub(crate) const HOSTS: u64 = 200;

    /// The smallest has 20 bytes of payload, and each of fifty sizes so many more than the one before.
    pub(crate) fn in_steps_of(step: u16) -> Self {
        let size = |host: u16| 20 + (host % 50) * step;
        let hosts = || 1..=200_u8;
        Self {
            in4: hosts()
                .map(|h| Frame::udp(WORLD4, ours4(h), 1000, 53).payload(size(h.into())))
                .collect(),
            in6: hosts()
                .map(|h| Frame::tcp_syn(WORLD6, ours6(h.into()), 1000, 80).payload(size(h.into())))
                .collect(),
            out4: hosts()
                .map(|h| Frame::udp(ours4(h), WORLD4, 53, 1000).payload(size(h.into())).outwards())
                .collect(),
            out6: hosts()
                .map(|h| {
                    Frame::udp(ours6(h.into()), WORLD6, 53, 1000).payload(size(h.into())).outwards()
                })
                .collect(),
        }
    }

    /// Bytes of IP when so many of these are sent, which is a whole number of times round.
    pub(crate) fn bytes(frames: &[Frame], sent: u64) -> u64 {
        assert_eq!(sent % Self::HOSTS, 0);
        frames.iter().map(Frame::ip_len).sum::<u64>() * (sent / Self::HOSTS)
    }
}

/// The inside sends a hundred datagrams of so many bytes to the world, which the kernel or the card
/// cuts into pieces.
#[expect(unsafe_code, reason = "UDP_SEGMENT has no safe form")]
pub(crate) fn send_in_pieces(lab: &Lab, piece: libc::c_int, bytes: usize) {
    lab.run_inside(|| {
        let socket = UdpSocket::bind((GUARDED, 5000)).unwrap();
        // SAFETY: the option takes an `int`, which lives beyond the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                103, // UDP_SEGMENT (linux/udp.h)
                (&raw const piece).cast(),
                4,
            )
        };
        assert_eq!(set, 0);
        for _ in 0..100 {
            assert_eq!(socket.send_to(&vec![7; bytes], (FAR, 9)).unwrap(), bytes);
        }
    })
    .unwrap();
}
