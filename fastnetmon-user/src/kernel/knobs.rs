//! What can be set at an interface by the ethtool requests, as far as tuning needs it.
//!
//! **Invariant**: a value is read before it is written, and only the field that is meant differs.

use std::io;

use serde::{Deserialize, Serialize};

use crate::kernel::ports::ethtool;

/// Something that can be set.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    /// Queues that receive and send.
    Combined,
    /// Frames the receive ring of a queue holds.
    ReceiveRing,
    /// Packets of a stream are put together by the card (LRO): 0 or 1.
    Lro,
    /// Packets of a stream are put together by the kernel (GRO): 0 or 1.
    Gro,
    /// VLAN tags are taken off by the card: 0 or 1.
    ReceiveVlan,
}

/// Its value, and the largest it can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setting {
    /// What it is.
    pub now: u32,
    /// What it can be at most.
    pub most: u32,
}

/// Frames in a receive ring that are enough; more only leave the cache.
const RING: u32 = 4096;

/// `struct ethtool_channels` and `struct ethtool_ringparam` (linux/ethtool.h): a command, four
/// limits, four values.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Limited {
    cmd: u32,
    most: [u32; 4],
    now: [u32; 4],
}

/// `struct ethtool_value` (linux/ethtool.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Flag {
    cmd: u32,
    data: u32,
}

const GET_RINGS: u32 = 0x10;
const SET_RINGS: u32 = 0x11;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const GET_GRO: u32 = 0x2b;
const SET_GRO: u32 = 0x2c;
const GET_CHANNELS: u32 = 0x3c;
const SET_CHANNELS: u32 = 0x3d;

/// `ETH_FLAG_RXVLAN` and `ETH_FLAG_LRO`.
const FLAG_RECEIVE_VLAN: u32 = 1 << 8;
const FLAG_LRO: u32 = 1 << 15;

impl Knob {
    /// What it should be for many packets on a host with so many cores, where that is more or less
    /// than it is; `None`: as it is.
    pub fn wanted(self, setting: Setting, cores: u32) -> Option<u32> {
        let wanted = match self {
            Self::Combined => setting.most.min(cores.max(1)).max(setting.now),
            Self::ReceiveRing => setting.most.min(RING).max(setting.now),
            Self::Lro => 0,
            Self::Gro | Self::ReceiveVlan => setting.now,
        };
        (wanted != setting.now).then_some(wanted)
    }

    /// What it is set to.
    ///
    /// # Errors
    /// When there is no such interface, or its driver does not know the request.
    pub fn read(self, interface: &str) -> io::Result<Setting> {
        match self {
            Self::Combined | Self::ReceiveRing => {
                let (get, _, field) = self.limited();
                let request = limited(interface, get)?;
                let at = |of: &[u32; 4]| of.get(field).copied().unwrap_or(0);
                Ok(Setting { now: at(&request.now), most: at(&request.most) })
            }
            Self::Lro | Self::Gro | Self::ReceiveVlan => {
                let (get, _, bit) = self.flag();
                let data = flag(interface, get)?;
                Ok(Setting { now: u32::from(data & bit != 0), most: 1 })
            }
        }
    }

    /// Sets it.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn write(self, interface: &str, value: u32) -> io::Result<()> {
        match self {
            Self::Combined | Self::ReceiveRing => {
                let (get, set, field) = self.limited();
                let mut request = limited(interface, get)?;
                request.cmd = set;
                if let Some(place) = request.now.get_mut(field) {
                    *place = value;
                }
                ethtool(interface, &mut request)
            }
            Self::Lro | Self::Gro | Self::ReceiveVlan => {
                let (get, set, bit) = self.flag();
                let data = flag(interface, get)?;
                let data = if value == 0 { data & !bit } else { data | bit };
                ethtool(interface, &mut Flag { cmd: set, data })
            }
        }
    }

    /// Requests, and which of the four values it is.
    const fn limited(self) -> (u32, u32, usize) {
        match self {
            Self::Combined => (GET_CHANNELS, SET_CHANNELS, 3),
            _ => (GET_RINGS, SET_RINGS, 0),
        }
    }

    /// Requests, and which bit it is.
    const fn flag(self) -> (u32, u32, u32) {
        match self {
            Self::Gro => (GET_GRO, SET_GRO, 1),
            Self::Lro => (GET_FLAGS, SET_FLAGS, FLAG_LRO),
            _ => (GET_FLAGS, SET_FLAGS, FLAG_RECEIVE_VLAN),
        }
    }
}

fn limited(interface: &str, cmd: u32) -> io::Result<Limited> {
    let mut request = Limited { cmd, ..Limited::default() };
    ethtool(interface, &mut request)?;
    Ok(request)
}

fn flag(interface: &str, cmd: u32) -> io::Result<u32> {
    let mut request = Flag { cmd, data: 0 };
    ethtool(interface, &mut request)?;
    Ok(request.data)
}
