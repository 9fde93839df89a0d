//! Frames built by name, layer by layer, as they lie on the wire.
//!
//! **Invariant**: what is not said is as in a well-made frame. The layer before says what follows,
//! and lengths grow with what is put behind them, until a test sets them to something else.

use std::net::{Ipv4Addr, Ipv6Addr};

use fastnetmon_common::parse::Ends;

/// TCP flags (RFC 9293, section 3.1).
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const ECE: u8 = 0x40;

/// Ports that all transport headers carry here.
pub(crate) const PORTS: (u16, u16) = (40_000, 53);

/// Where the layer before says what follows it.
#[derive(Clone, Copy)]
enum Next {
    /// An ethertype stands here.
    Ethertype(usize),
    /// A protocol of PPP stands here.
    Ppp(usize),
    /// An IP protocol number stands here.
    Protocol(usize),
    /// MPLS and bare frames do not say.
    Unsaid,
}

/// A 16-bit field that holds the distance from `from` to the end of the frame.
#[derive(Clone, Copy)]
struct Length {
    field: usize,
    from: usize,
}

/// A frame under construction.
#[derive(Clone)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    next: Next,
    lengths: Vec<Length>,
    /// Where the innermost IP header begins.
    ip: usize,
    /// Between whom the outermost IP packet is.
    ends: Option<Ends>,
}

impl Frame {
    /// Begins with an Ethernet header.
    pub(crate) fn ethernet() -> Self {
        let mut frame = Self::bare();
        frame.bytes.extend([0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0xff, 0xff]);
        frame.next = Next::Ethertype(12);
        frame
    }

    /// Begins with the IP header.
    pub(crate) const fn bare() -> Self {
        Self { bytes: Vec::new(), next: Next::Unsaid, lengths: Vec::new(), ip: 0, ends: None }
    }

    /// The frame as it lies on the wire.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Between whom the outermost IP packet is.
    pub(crate) fn ends(&self) -> Ends {
        self.ends.expect("the frame has an IP header")
    }

    // ── between Ethernet and IP ──

    /// A tag of IEEE 802.1Q.
    pub(crate) fn vlan(self) -> Self {
        self.tag(0x8100)
    }

    /// A tag of IEEE 802.1ad, the outer one of two.
    pub(crate) fn service_vlan(self) -> Self {
        self.tag(0x88a8)
    }

    /// A tag with an ethertype of one's own.
    pub(crate) fn tag(mut self, ethertype: u16) -> Self {
        self.says(ethertype, None, None);
        let at = self.push(&[0x00, 0x07, 0xff, 0xff]);
        self.next = Next::Ethertype(at + 2);
        self
    }

    /// So many MPLS labels, the last one marked as the bottom of the stack.
    pub(crate) fn mpls(self, labels: usize) -> Self {
        self.labels(0x8847, labels)
    }

    /// The same, for many receivers.
    pub(crate) fn mpls_multicast(self, labels: usize) -> Self {
        self.labels(0x8848, labels)
    }

    fn labels(mut self, ethertype: u16, labels: usize) -> Self {
        self.says(ethertype, Some(0x0281), Some(137));
        for label in 1..=labels {
            self.push(&[0x00, 0x01, u8::from(label == labels), 64]);
        }
        self.next = Next::Unsaid;
        self
    }

    /// Session header of `PPPoE` and the protocol field of PPP.
    pub(crate) fn pppoe(mut self) -> Self {
        self.says(0x8864, None, None);
        let at = self.push(&[0x11, 0x00, 0x00, 0x2a, 0, 0]);
        self.lengths.push(Length { field: at + 4, from: at + 6 });
        let protocol = self.push(&[0xc0, 0x21]);
        self.next = Next::Ppp(protocol);
        self
    }

    /// What follows is of this ethertype (or PPP protocol), whatever it is.
    pub(crate) fn of_type(mut self, number: u16) -> Self {
        self.says(number, Some(number), None);
        self
    }

    /// An ARP request.
    pub(crate) fn arp(mut self) -> Self {
        self.says(0x0806, None, None);
        self.push(&[0, 1, 0x08, 0, 6, 4, 0, 1]);
        self.push(&[0; 20]);
        self
    }

    // ── IP ──

    /// An IPv4 header without options.
    pub(crate) fn ipv4(mut self, src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        self.says(0x0800, Some(0x0021), Some(4));
        let at = self.push(&[0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, 255, 0, 0]);
        self.lengths.push(Length { field: at + 2, from: at });
        self.ip = at;
        self.next = Next::Protocol(at + 9);
        self.ends.get_or_insert_with(|| Ends::v4(src.into(), dst.into()));
        self.push(&src.octets());
        self.push(&dst.octets());
        self
    }

    /// An IPv6 header.
    pub(crate) fn ipv6(mut self, src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        self.says(0x86dd, Some(0x0057), Some(41));
        let at = self.push(&[0x60, 0, 0, 0, 0, 0, 59, 64]);
        self.lengths.push(Length { field: at + 4, from: at + 40 });
        self.ip = at;
        self.next = Next::Protocol(at + 6);
        self.ends.get_or_insert_with(|| Ends::v6(halves(src), halves(dst)));
        self.push(&src.octets());
        self.push(&dst.octets());
        self
    }

    /// The IP header says that it is of this version.
    pub(crate) fn version(mut self, version: u8) -> Self {
        self.bytes[self.ip] = (version << 4) | (self.bytes[self.ip] & 0x0f);
        self
    }

    /// The IPv4 header says that it has so many words of 4 bytes.
    pub(crate) fn header_words(mut self, words: u8) -> Self {
        self.bytes[self.ip] = 0x40 | words;
        self
    }

    /// So many words of IPv4 options.
    pub(crate) fn options(mut self, words: u8) -> Self {
        for _ in 0..words {
            self.push(&[1, 1, 1, 0]);
        }
        self.header_words(5 + words)
    }

    /// The IPv4 header says that this is a fragment; `offset` in units of 8 bytes.
    pub(crate) fn fragment(self, offset: u16, more: bool) -> Self {
        self.flags((u16::from(more) << 13) | offset)
    }

    /// The IPv4 header forbids fragments.
    pub(crate) fn dont_fragment(self) -> Self {
        self.flags(0x4000)
    }

    /// The IPv4 header carries these flags and this offset, in one word.
    pub(crate) fn flags(self, word: u16) -> Self {
        let at = self.ip + 6;
        self.set(at, word)
    }

    /// The IP header says that it is so long: `total_len` or `payload_len`.
    pub(crate) fn length(mut self, said: u16) -> Self {
        let at = self.ip + if self.bytes[self.ip] >> 4 == 6 { 4 } else { 2 };
        self.lengths.retain(|length| length.field != at);
        self.set(at, said)
    }

    /// What follows is of this protocol, whatever it is.
    pub(crate) fn protocol(mut self, number: u8) -> Self {
        self.says(0, None, Some(number));
        self
    }

    // ── IPv6 extension headers ──

    /// Hop-by-hop options, `len` times 8 bytes longer than the 8 they have at least.
    pub(crate) fn hop_by_hop(self, len: u8) -> Self {
        self.extension(0, len, (usize::from(len) + 1) * 8)
    }

    /// A routing header, measured likewise.
    pub(crate) fn routing(self, len: u8) -> Self {
        self.extension(43, len, (usize::from(len) + 1) * 8)
    }

    /// Destination options, measured likewise.
    pub(crate) fn destination(self, len: u8) -> Self {
        self.extension(60, len, (usize::from(len) + 1) * 8)
    }

    /// AH, `len` times 4 bytes longer than 8.
    pub(crate) fn authentication(self, len: u8) -> Self {
        self.extension(51, len, (usize::from(len) + 2) * 4)
    }

    /// An extension header of so many bytes in all, whatever its length field says.
    pub(crate) fn extension(mut self, number: u8, len: u8, bytes: usize) -> Self {
        self.says(0, None, Some(number));
        let at = self.push(&vec![0; bytes]);
        self.bytes[at] = 59;
        self.bytes[at + 1] = len;
        self.next = Next::Protocol(at);
        self
    }

    /// A fragment header; `offset` in units of 8 bytes.
    pub(crate) fn fragment_header(self, offset: u16, more: bool) -> Self {
        self.fragment_bits((offset << 3) | u16::from(more))
    }

    /// A fragment header with this offset, reserved bits and flag, in one word.
    pub(crate) fn fragment_bits(self, word: u16) -> Self {
        let frame = self.extension(44, 0, 8);
        let at = frame.bytes.len() - 6;
        frame.set(at, word)
    }

    // ── transport ──

    /// A TCP header without options.
    pub(crate) fn tcp(self, flags: u8) -> Self {
        self.tcp_with_options(flags, 0)
    }

    /// A TCP header with so many words of options.
    pub(crate) fn tcp_with_options(mut self, flags: u8, words: u8) -> Self {
        self.says(0, None, Some(6));
        self.ports();
        self.push(&[0, 0, 0, 1, 0, 0, 0, 2, (5 + words) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        for _ in 0..words {
            self.push(&[1, 1, 1, 0]);
        }
        self
    }

    /// A UDP header.
    pub(crate) fn udp(mut self) -> Self {
        self.says(0, None, Some(17));
        let at = self.ports();
        self.lengths.push(Length { field: at + 4, from: at });
        self.push(&[0, 0, 0, 0]);
        self
    }

    /// An echo request of `ICMPv4`.
    pub(crate) fn icmp(mut self) -> Self {
        self.says(0, None, Some(1));
        self.push(&[8, 0, 0, 0, 0, 1, 0, 1]);
        self
    }

    /// An echo request of `ICMPv6`.
    pub(crate) fn icmpv6(mut self) -> Self {
        self.says(0, None, Some(58));
        self.push(&[128, 0, 0, 0, 0, 1, 0, 1]);
        self
    }

    /// A GRE header without options; an IP header or a type may follow.
    pub(crate) fn gre(mut self) -> Self {
        self.says(0, None, Some(47));
        let at = self.push(&[0, 0, 0xff, 0xff]);
        self.next = Next::Ethertype(at + 2);
        self
    }

    /// So many bytes that belong to the packet.
    pub(crate) fn payload(mut self, bytes: usize) -> Self {
        self.push(&vec![0xa5; bytes]);
        self
    }

    /// So many bytes that belong to the frame and not to the packet.
    pub(crate) fn padding(mut self, bytes: usize) -> Self {
        self.bytes.resize(self.bytes.len() + bytes, 0);
        self
    }

    /// The frame ends here.
    pub(crate) fn cut_to(mut self, bytes: usize) -> Self {
        assert!(bytes <= self.bytes.len(), "the frame has only {} bytes", self.bytes.len());
        self.bytes.truncate(bytes);
        self
    }

    // ── the works ──

    /// Adds a part that counts for all lengths; returns where it begins.
    fn push(&mut self, part: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(part);
        for Length { field, from } in self.lengths.clone() {
            let length = self.bytes.len().saturating_sub(from);
            self.write(field, u16::try_from(length).unwrap());
        }
        at
    }

    fn ports(&mut self) -> usize {
        let at = self.push(&PORTS.0.to_be_bytes());
        self.push(&PORTS.1.to_be_bytes());
        at
    }

    /// Tells the layer before what follows it.
    #[track_caller]
    fn says(&mut self, ethertype: u16, ppp: Option<u16>, protocol: Option<u8>) {
        match self.next {
            Next::Ethertype(at) => self.write(at, ethertype),
            Next::Ppp(at) => self.write(at, ppp.expect("PPP carries this")),
            Next::Protocol(at) => self.bytes[at] = protocol.expect("IP carries this"),
            Next::Unsaid => {}
        }
    }

    fn set(mut self, at: usize, word: u16) -> Self {
        self.write(at, word);
        self
    }

    fn write(&mut self, at: usize, word: u16) {
        self.bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
    }
}

/// An IPv6 address as the parser has it.
pub(crate) fn halves(address: Ipv6Addr) -> [u64; 2] {
    let bits = u128::from(address);
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap();
    [half(bits >> 64), half(bits)]
}
