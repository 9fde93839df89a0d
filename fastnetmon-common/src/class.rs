//! The words a packet is sorted by: class, direction, side of the port, reason for refusal.
//!
//! **Invariant**: discriminants are positions in the counter table; changing one is an ABI change.

/// What a packet counts as. Exclusive: the total of a line is the sum over all classes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Class {
    /// TCP, except the first packets of connections.
    Tcp = 0,
    /// TCP with SYN and without ACK (RFC 9293, section 3.1).
    Syn = 1,
    /// UDP.
    Udp = 2,
    /// `ICMPv4` or `ICMPv6`.
    Icmp = 3,
    /// Any fragment, first ones included (RFC 791, RFC 8200 section 4.5).
    Fragment = 4,
    /// Everything else that has an IP header.
    Other = 5,
}

impl Class {
    /// How many classes are counted apart.
    pub const COUNTED: usize = 6;
    /// All classes, in the order of their words.
    pub const ALL: [Self; Self::COUNTED] =
        [Self::Tcp, Self::Syn, Self::Udp, Self::Icmp, Self::Fragment, Self::Other];

    /// The name used in reports, metrics and keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Syn => "tcp_syn",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Fragment => "fragment",
            Self::Other => "other",
        }
    }
}

/// Why a frame could not be counted for an address. Each reason has a line of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Unparsed {
    /// The frame ends before its fixed IP header does.
    Short = 0,
    /// No IP packet behind the link header.
    NotIp = 1,
    /// The version nibble contradicts the link header.
    Version = 2,
    /// More tags, labels or sessions around the packet than are looked through.
    Nested = 3,
    /// ARP (RFC 826): harmless, counted apart so that the rest means something.
    Arp = 4,
}

impl Unparsed {
    /// How many reasons there are.
    pub const REASONS: usize = 5;
    /// All reasons, in the order of their lines.
    pub const ALL: [Self; Self::REASONS] =
        [Self::Short, Self::NotIp, Self::Version, Self::Nested, Self::Arp];

    /// The name used in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::NotIp => "not_ip",
            Self::Version => "version",
            Self::Nested => "nested",
            Self::Arp => "arp",
        }
    }
}

/// Which way traffic flows, seen from a host of ours.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Direction {
    /// Towards the host.
    Incoming = 0,
    /// From the host.
    Outgoing = 1,
}

impl Direction {
    /// Both, in the order of the table.
    pub const BOTH: [Self; 2] = [Self::Incoming, Self::Outgoing];

    /// The word the script, the screen and the reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }

    /// The other way.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Incoming => Self::Outgoing,
            Self::Outgoing => Self::Incoming,
        }
    }
}

/// Which ends of a packet are counted at the place where it was seen.
///
/// A port towards the world counts what arrives for its destination and what leaves for its
/// source. With both ends everywhere, a packet between two of our hosts would count twice on a
/// router, and a forged source would become an outgoing attack of its victim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sides {
    /// The destination, as incoming: what arrives at an uplink.
    Destination,
    /// The source, as outgoing: what leaves by an uplink.
    Source,
    /// Both: a mirror port, which sees each packet once.
    Both,
}

impl Sides {
    /// Is the source counted here?
    #[inline(always)]
    pub const fn source(self) -> bool {
        matches!(self, Self::Source | Self::Both)
    }

    /// Is the destination counted here?
    #[inline(always)]
    pub const fn destination(self) -> bool {
        matches!(self, Self::Destination | Self::Both)
    }
}
