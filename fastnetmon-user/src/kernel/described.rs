//! What the kernel says of one interface: its state, its counters, what hangs on it.
//!
//! **Invariant**: asked by socket calls of the namespace we run in, and pure from the bytes on.

use std::io;

use aya::programs::loaded_programs;
use rustix::net::netlink;

use crate::kernel::attributes::{attribute, half, long, put_attribute, text, word};
use crate::kernel::netlink::{ONE, ask};
use crate::kernel::ports;

/// An interface, described.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Described {
    /// The number it has now.
    pub index: u32,
    /// It was switched on.
    pub up: bool,
    /// Something answers at the other end.
    pub carrier: bool,
    /// `UP`, `DOWN`, `LOWERLAYERDOWN`, … as `ip` writes it.
    pub state: String,
    /// The longest packet it takes.
    pub mtu: u32,
    /// How many want all frames, whomever they are for.
    pub promiscuity: u32,
    /// Its driver, where it tells one.
    pub driver: Option<String>,
    /// `veth`, `bond`, `vlan` …; nothing for a card.
    pub kind: Option<String>,
    /// The XDP program on it.
    pub xdp: Option<Xdp>,
    /// Can its driver run XDP by itself? Told since Linux 6.3.
    pub runs_xdp: Option<bool>,
    /// What it counted.
    pub counted: Counted,
}

/// The XDP program on an interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Xdp {
    /// Where it runs: `native`, `generic`, `offloaded` or `several`.
    pub mode: &'static str,
    /// Its number.
    pub id: u32,
    /// Its name, as far as we may know.
    pub name: Option<String>,
}

/// What an interface counted (`struct rtnl_link_stats64`, `linux/if_link.h`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Received and not wanted by anybody, or for want of memory.
    pub dropped: u64,
    /// For which the card had no room: missed, overrun, FIFO.
    pub missed: u64,
    /// Spoilt on the wire.
    pub spoilt: u64,
}

/// Describes an interface.
///
/// # Errors
/// When there is none of that name, or the system does not say.
pub fn describe(interface: &str) -> io::Result<Described> {
    let mut body = vec![0; LINK_HEADER];
    let mut name = interface.as_bytes().to_vec();
    name.push(0);
    put_attribute(&mut body, link::NAME, &name);
    let messages = ask(None, GET_LINK, ONE, &body)?;
    let described = messages.iter().find(|(kind, _)| *kind == NEW_LINK);
    let described = described.and_then(|(_, body)| read(body));
    let mut described = described.ok_or(io::ErrorKind::InvalidData)?;
    described.driver = ports::driver(interface);
    described.runs_xdp = runs_xdp(described.index).ok().flatten();
    if let Some(xdp) = &mut described.xdp {
        xdp.name = name_of(xdp.id);
    }
    Ok(described)
}

fn read(body: &[u8]) -> Option<Described> {
    let (index, flags) = (word(body, 4)?, word(body, 8)?);
    let attributes = body.get(LINK_HEADER..)?;
    let of = |kind| attribute(attributes, kind);
    let kind = of(link::INFO).and_then(|info| attribute(info, link::INFO_KIND)).map(text);
    let state = of(link::STATE).and_then(|state| state.first().copied());
    let xdp = of(link::XDP).and_then(|xdp| {
        let mode = match attribute(xdp, link::XDP_ATTACHED)?.first()? {
            0 => return None,
            1 => "native",
            2 => "generic",
            3 => "offloaded",
            _ => "several",
        };
        let ids = [link::XDP_ID, link::XDP_NATIVE_ID, link::XDP_GENERIC_ID];
        let id = ids.into_iter().find_map(|id| word(attribute(xdp, id)?, 0))?;
        Some(Xdp { mode, id, name: None })
    });
    let counted = of(link::STATISTICS).map_or_else(Counted::default, |words| {
        let at = |place: usize| long(words, place * 8).unwrap_or(0);
        Counted {
            received: at(0),
            sent: at(1),
            dropped: at(6),
            missed: at(11) + at(14) + at(15),
            spoilt: at(4).saturating_sub(at(11) + at(14) + at(15)),
        }
    });
    Some(Described {
        index,
        up: flags & 1 != 0,
        carrier: of(link::CARRIER).and_then(<[u8]>::first) != Some(&0) && flags & LOWER_UP != 0,
        state: state.map_or_else(String::new, |state| state_name(state).to_owned()),
        mtu: of(link::MTU).and_then(|mtu| word(mtu, 0)).unwrap_or(0),
        promiscuity: of(link::PROMISCUITY).and_then(|count| word(count, 0)).unwrap_or(0),
        driver: None,
        kind,
        xdp,
        runs_xdp: None,
        counted,
    })
}

/// Asks the family `netdev` what the driver can do.
fn runs_xdp(index: u32) -> io::Result<Option<bool>> {
    let mut body = vec![GET_FAMILY, 1, 0, 0];
    put_attribute(&mut body, generic::NAME, b"netdev\0");
    let messages = ask(Some(netlink::GENERIC), generic::CONTROL, ONE, &body)?;
    let answer = messages.first().and_then(|(_, body)| body.get(4..));
    let family = answer.and_then(|answer| half(attribute(answer, generic::ID)?, 0));
    let Some(family) = family else { return Ok(None) };
    let mut body = vec![GET_DEVICE, 1, 0, 0];
    put_attribute(&mut body, generic::INDEX, &index.to_ne_bytes());
    let messages = ask(Some(netlink::GENERIC), family, ONE, &body)?;
    let answer = messages.first().and_then(|(_, body)| body.get(4..));
    let features = answer.and_then(|answer| long(attribute(answer, generic::XDP_FEATURES)?, 0));
    Ok(features.map(|features| features & 1 != 0))
}

/// The name of a program; asking needs a right that a client may not have.
fn name_of(id: u32) -> Option<String> {
    let program = loaded_programs().flatten().find(|program| program.id() == id)?;
    program.name_as_str().map(ToOwned::to_owned)
}

/// As `ip` writes them (`linux/if.h`).
const fn state_name(state: u8) -> &'static str {
    match state {
        1 => "NOTPRESENT",
        2 => "DOWN",
        3 => "LOWERLAYERDOWN",
        4 => "TESTING",
        5 => "DORMANT",
        6 => "UP",
        _ => "UNKNOWN",
    }
}

/// `struct ifinfomsg` (linux/rtnetlink.h).
const LINK_HEADER: usize = 16;
const LOWER_UP: u32 = 0x1_0000;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const GET_FAMILY: u8 = 3;
const GET_DEVICE: u8 = 1;

/// `IFLA_…` (`linux/if_link.h`).
mod link {
    pub(super) const NAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const STATE: u16 = 16;
    pub(super) const INFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const STATISTICS: u16 = 23;
    pub(super) const PROMISCUITY: u16 = 30;
    pub(super) const CARRIER: u16 = 33;
    pub(super) const XDP: u16 = 43;
    pub(super) const XDP_ATTACHED: u16 = 2;
    pub(super) const XDP_ID: u16 = 4;
    pub(super) const XDP_NATIVE_ID: u16 = 5;
    pub(super) const XDP_GENERIC_ID: u16 = 6;
}

/// `CTRL_ATTR_…` (linux/genetlink.h) and `NETDEV_A_DEV_…` (linux/netdev.h).
mod generic {
    pub(super) const CONTROL: u16 = 16;
    pub(super) const ID: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const INDEX: u16 = 1;
    pub(super) const XDP_FEATURES: u16 = 3;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as the kernel gives it for a veth with our program on it.
    fn answer(flags: u32, attached: u8) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend(7_u32.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        put_attribute(&mut body, link::NAME, b"in0\0");
        put_attribute(&mut body, link::MTU, &1500_u32.to_ne_bytes());
        put_attribute(&mut body, link::STATE, &[6]);
        put_attribute(&mut body, link::PROMISCUITY, &1_u32.to_ne_bytes());
        put_attribute(&mut body, link::CARRIER, &[1]);
        let mut info = Vec::new();
        put_attribute(&mut info, link::INFO_KIND, b"veth\0");
        put_attribute(&mut body, link::INFO | 0x8000, &info);
        let words: Vec<u8> = (0_u64..25).flat_map(|word| (word * 100).to_ne_bytes()).collect();
        put_attribute(&mut body, link::STATISTICS, &words);
        let mut xdp = Vec::new();
        put_attribute(&mut xdp, link::XDP_ATTACHED, &[attached]);
        put_attribute(&mut xdp, link::XDP_ID, &42_u32.to_ne_bytes());
        put_attribute(&mut body, link::XDP, &xdp);
        body
    }

    #[test]
    fn an_answer_is_read() {
        let described = read(&answer(1 | LOWER_UP, 1)).unwrap();
        let expected = Described {
            index: 7,
            up: true,
            carrier: true,
            state: "UP".to_owned(),
            mtu: 1500,
            promiscuity: 1,
            kind: Some("veth".to_owned()),
            xdp: Some(Xdp { mode: "native", id: 42, name: None }),
            counted: Counted {
                received: 0,
                sent: 100,
                dropped: 600,
                missed: 1100 + 1400 + 1500,
                spoilt: 0,
            },
            ..Described::default()
        };
        assert_eq!(described, expected);
        let bare = read(&answer(0, 0)).unwrap();
        assert_eq!((bare.up, bare.carrier, bare.xdp), (false, false, None));
        assert_eq!(read(&answer(1, 2)).unwrap().xdp.unwrap().mode, "generic");
        for cut in 0..answer(1, 1).len() {
            let _either = read(&answer(1, 1)[..cut]);
        }
    }

    #[test]
    fn the_loopback_is_described_and_what_is_not_there_is_refused() {
        let loopback = describe("lo").unwrap();
        assert!(loopback.index > 0 && loopback.mtu > 0);
        assert!(describe("nosuch0").is_err());
    }
}
