//! The kernel's counters, an engine's and a naive model's, word by word.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use fastnetmon_common::abi::program;
use fastnetmon_common::class::{Class, Direction, Sides};
use fastnetmon_common::parse::{Family, Packet, parse_ethernet};
use fastnetmon_common::table::{IGNORED, NOTES, PACKET_SHIFT, STRANGERS_UNTOLD, TUNNELLED};
use fastnetmon_user::capture::{Frame, Intake as _, Starts};
use fastnetmon_user::counters::{Rules, Writer};
use fastnetmon_user::kernel::{self, Backlog, Frozen, Gates};
use fastnetmon_user::model::{Moment, Prefix};
use fastnetmon_user::networks::{IgnoreSettings, Ignores, Plan, PrefixSet, Territory};
use fastnetmon_user::tables;

/// Frames, in CI and on a laptop alike.
const FRAMES: u32 = 60_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[3]
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// A frame that is mostly right, and wrong in every place now and then.
fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..12).map(|_| random.byte()).collect();
    for _ in 0..random.one_of(&[0, 0, 0, 0, 1, 1, 2, 3, 4]) {
        frame.extend(random.one_of(&[[0x81, 0], [0x88, 0xa8]]));
        frame.extend([random.byte(), random.byte()]);
    }
    let v6 = random.below(2) == 0;
    match random.below(20) {
        0 => frame.extend([random.byte(), random.byte()]),
        1 => frame.extend([0x08, 0x06]),
        2 => {
            frame.extend([0x88, 0x47]);
            let labels = random.below(6);
            for label in 1..=labels {
                frame.extend([random.byte(), random.byte(), u8::from(label == labels), 64]);
            }
        }
        3 => {
            frame.extend([0x88, 0x64, 0x11, 0, 0, 1, 0, 40]);
            frame.extend(if v6 { [0, 0x57] } else { [0, 0x21] });
        }
        _ => frame.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0] }),
    }
    let protocol = random.one_of(&[6, 6, 17, 17, 1, 58, 44, 0, 43, 51, 60, 47, 4, 50]);
    let payload = u16::from(random.byte() % 100);
    if v6 {
        frame.extend([0x60, random.byte(), 0, 0]);
        frame.extend(payload.to_be_bytes());
        frame.extend([protocol, 64]);
        for _ in 0..2 {
            frame.extend(address6(random).octets());
        }
    } else {
        frame.extend([0x40 | random.one_of(&[5, 5, 5, 6, 15, 4]), 0]);
        frame.extend((payload + 20).to_be_bytes());
        frame.extend([0, 1, random.one_of(&[0x40, 0, 0x20, 0x01]), 0, 64, protocol, 0, 0]);
        for _ in 0..2 {
            frame.extend(address4(random).octets());
        }
    }
    let ports = [[1, 2], [3, 4], [0, 53], [random.byte(), random.byte()]];
    let payload: Vec<u8> = [random.one_of(&ports), random.one_of(&ports)]
        .concat()
        .into_iter()
        .chain((0..90).map(|_| random.byte()))
        .collect();
    frame.extend(&payload[..usize::try_from(random.below(90)).unwrap()]);
    if random.below(10) == 0 {
        let at = usize::try_from(random.below(frame.len() as u64)).unwrap();
        frame[at] = random.byte();
    }
    if random.below(10) == 0 {
        // The kernel runs no frame shorter than an Ethernet header.
        let len = 14 + usize::try_from(random.below(frame.len() as u64 - 13)).unwrap();
        frame.truncate(len);
    }
    frame
}

/// A frame within another one, by GRE (RFC 2784) that bridges.
fn tunnelled(random: &mut Random, inner: &[u8]) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..12).map(|_| random.byte()).collect();
    frame.extend([0x08, 0, 0x45, 0]);
    frame.extend(u16::try_from(inner.len() + 24).unwrap().to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 47, 0, 0]);
    for _ in 0..2 {
        frame.extend(address4(random).octets());
    }
    frame.extend([0, 0, 0x65, 0x58]);
    frame.extend(inner);
    frame
}

fn address4(random: &mut Random) -> Ipv4Addr {
    let base = random.one_of(&[0x0a00_0000_u32, 0xc000_0200, 0xcb00_7100, 0x0a00_ff00]);
    Ipv4Addr::from(base + u32::try_from(random.below(300)).unwrap())
}

fn address6(random: &mut Random) -> Ipv6Addr {
    let base = random.one_of(&[
        0x2001_0db8_0001_u128 << 80,
        0x2001_0db8_0002_u128 << 80,
        0x2001_0db8_0003_0000_0000_0000_0000_0000,
        0x2a00_u128 << 112,
    ]);
    Ipv6Addr::from(base + u128::from(random.below(40)))
}

fn networks() -> PrefixSet {
    let prefixes = [
        "10.0.0.0/23",
        "192.0.2.64/26",
        "192.0.2.7",
        "2001:db8:1::/48",
        "2001:db8:2::/124",
        "2001:db8:3::1",
        "2001:db8:3::2",
    ];
    PrefixSet::merged(prefixes.map(|text| Prefix::parse_masked(text).unwrap().0)).0
}

/// What a naive model counts: by address and direction, packets and bytes.
type Model = HashMap<(u128, bool, Direction), (u64, u64)>;

/// Counted at once, and put off to be counted sixteen at a time.
fn agree(name: &'static str, sides: Sides, decapsulate: bool, ignores: &Ignores) {
    for puts_off in [false, true] {
        agree_when(puts_off, name, sides, decapsulate, ignores);
    }
}

fn agree_when(
    puts_off: bool,
    name: &'static str,
    sides: Sides,
    decapsulate: bool,
    ignores: &Ignores,
) {
    let ours = networks();
    let (plan, writes) = Plan::new(&ours, 64).unwrap();
    let shape = plan.shape(kernel::possible_cpus().unwrap(), 7);
    // So that some IPv6 hosts are looked for at once, and most when additions are made.
    let sparse_every = 64;
    let frozen = Frozen { decapsulate, puts_off, sparse_every, ..Frozen::of(shape) };
    let (object, parts, _rings) = kernel::load_ignoring(frozen, ignores).unwrap();
    let object = Arc::new(object);
    let mut backlog = Backlog::of(&object).unwrap();
    assert_eq!(backlog.is_some(), puts_off);
    let own_shape = tables::Shape { writers: NonZeroU32::MIN, ..shape };
    let (own, mut rows) = tables::own(own_shape).unwrap();
    // Nobody listens: a stranger that is not told counts on its prefix like one that is.
    let (notices, _nobody) = crossbeam_channel::bounded(1);
    let rules = Rules { sparse_every, decapsulate };
    let mut writer = Writer::new(Arc::default(), notices, Arc::default())
        .counting(rows.remove(0), rules)
        .ignoring(ignores.clone());
    let mut territory = Territory::new(
        ours.clone(),
        plan,
        &writes,
        shape,
        vec![parts.directory, own.directory],
        vec![parts.flags, own.flags],
    );
    // Some hosts have lines, the others are strangers.
    for host in 0..20_u32 {
        territory.meet((0x2001_0db8_0001_u128 << 80) + u128::from(host));
    }

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut model = Model::new();
    let (mut counted, mut refused, mut ignored) = (0_u32, 0_u32, 0_u64);
    for _ in 0..FRAMES {
        let mut frame = frame(&mut random);
        if decapsulate && random.below(2) == 0 {
            frame = tunnelled(&mut random, &frame);
        }
        object.repeat_xdp(name, &frame, 1).unwrap();
        let wire_bytes = u32::try_from(frame.len()).ok();
        let shown = Frame { bytes: &frame, starts: Starts::Ethernet, wire_bytes, piece: 0 };
        writer.frame(Moment::default(), sides, &shown);
        match parse_ethernet(&frame[..]) {
            Ok(packet) if ignores.number() > 0 && naively_ignored(&frame, &packet) => ignored += 1,
            Ok(packet) => {
                counted += 1;
                let v6 = packet.ends.family == Family::V6;
                for (address, direction, looked_at) in [
                    (packet.ends.src, Direction::Outgoing, sides.source()),
                    (packet.ends.dst, Direction::Incoming, sides.destination()),
                ] {
                    let address = (u128::from(address[0]) << 64) | u128::from(address[1]);
                    let entry = model.entry((address, v6, direction)).or_default();
                    if looked_at {
                        entry.0 += 1;
                        entry.1 += u64::from(packet.bytes);
                    }
                }
            }
            Err(_why) => refused += 1,
        }
    }
    assert!(counted > FRAMES / 2 && refused > FRAMES / 50, "{counted} {refused}");

    if let Some(backlog) = &mut backlog {
        backlog.settle_all().unwrap();
    }
    let mut touched = 0;
    for direction in Direction::BOTH {
        for slot in 0..shape.slots {
            let (kernel, engine) =
                (parts.lines.sum(direction, slot), own.lines.sum(direction, slot));
            // Word 7 is the window, which knows the time, and on which the strangers that are told
            // depend; the kernel keeps its notes elsewhere.
            if ![STRANGERS_UNTOLD, NOTES].contains(&slot) {
                assert_eq!(kernel[..7], engine[..7], "{name} {direction:?} slot {slot}");
            }
            touched += u32::from(engine[..7].iter().any(|&word| word != 0));
        }
    }
    assert!(touched > 100, "{touched} lines");
    let line = own.lines.sum(Direction::Incoming, IGNORED);
    assert_eq!(line[..6].iter().map(|word| word >> PACKET_SHIFT).sum::<u64>(), ignored, "{name}");
    assert_eq!(ignored > u64::from(FRAMES) / 20, ignores.number() > 0, "{name}: {ignored}");

    if decapsulate {
        // The model does not look into tunnels.
        assert!(own.lines.sum(Direction::Incoming, TUNNELLED)[..6].iter().any(|&word| word != 0));
        return;
    }
    let mut compared = 0;
    for ((address, v6, direction), (packets, bytes)) in model {
        let ip = if v6 {
            Ipv6Addr::from(address).into()
        } else {
            Ipv4Addr::from(u32::try_from(address).unwrap()).into()
        };
        if !territory.guards(ip) {
            continue;
        }
        // Strangers share a line; residents and IPv4 hosts have their own.
        let host = match ip {
            std::net::IpAddr::V6(ip) => territory.residents().slot(u128::from(ip)),
            std::net::IpAddr::V4(_) => territory.host(ip).map(|host| host.0),
        };
        let Some(slot) = host else { continue };
        let line = own.lines.sum(direction, slot);
        let mask = (1 << PACKET_SHIFT) - 1;
        let sum =
            line[..6].iter().fold((0, 0), |(p, b), w| (p + (w >> PACKET_SHIFT), b + (w & mask)));
        assert_eq!(sum, (packets, bytes), "{name} {ip} {direction:?}");
        compared += u32::from(packets > 0);
    }
    assert!(compared > 60, "{compared} hosts compared");
}

/// Rules that every kind of frame of the corpus may meet.
const IGNORED_RULES: &str = "\
    [[ignore]]\nsource = \"10.0.0.0/25\"\n\
    [[ignore]]\nsource = \"2001:db8:2::/120\"\nprotocol = \"tcp\"\n\
    [[ignore]]\nprotocol = \"icmp\"\n\
    [[ignore]]\nsource_port = 258\n\
    [[ignore]]\nprotocol = 17\ntarget_port = 772\n";

fn ignores(text: &str) -> Ignores {
    #[derive(serde::Deserialize)]
    struct File {
        ignore: IgnoreSettings,
    }
    Ignores::of(&toml::from_str::<File>(text).unwrap().ignore)
}

/// The same rules, as anybody would write them down.
fn naively_ignored(frame: &[u8], packet: &Packet) -> bool {
    let v6 = packet.ends.family == Family::V6;
    let source = (u128::from(packet.ends.src[0]) << 64) | u128::from(packet.ends.src[1]);
    let has_ports = [6, 17, 33, 132, 136].contains(&packet.protocol);
    let at = usize::try_from(packet.transport_at).unwrap();
    let ports = frame
        .get(at..at + 4)
        .filter(|_| has_ports && packet.class != Class::Fragment)
        .map(|ports| [[ports[0], ports[1]], [ports[2], ports[3]]].map(u16::from_be_bytes));
    let within = |base: u128, bits: u32| source >> bits == base >> bits;
    (!v6 && within(0x0a00_0000, 7))
        || (v6 && within(0x2001_0db8_0002 << 80, 8) && packet.protocol == 6)
        || packet.protocol == if v6 { 58 } else { 1 }
        || ports.is_some_and(|[from, _]| from == 258)
        || (packet.protocol == 17 && ports.is_some_and(|[_, to]| to == 772))
}

/// The verifier gives up at a million; a compiler that changes its mind must not get us there.
#[test]
fn every_program_stays_far_below_what_the_verifier_can_walk() {
    let (plan, _) = Plan::new(&networks(), 64).unwrap();
    let shape = plan.shape(kernel::possible_cpus().unwrap(), 7);
    // Everything at once.
    let gate = Gates { hosts: 256, outgoing: true };
    let all = Frozen { sparse_every: 1024, decapsulate: true, gate, ..Frozen::of(shape) };
    let rules = "[[ignore]]\nsource = \"2001:db8::/32\"\ntarget_port = 53\n".repeat(64);
    // The stage for rules parses the frame itself, and walks each of them.
    for (ignores, most) in [(Ignores::default(), 150_000), (ignores(&rules), 200_000)] {
        for puts_off in [false, true] {
            let frozen = Frozen { puts_off, ..all };
            let (mut object, _parts, _rings) = kernel::load_ignoring(frozen, &ignores).unwrap();
            let number = ignores.number();
            for (name, instructions) in object.verified_instructions().unwrap() {
                eprintln!("{name}, {number} rules, put off {puts_off}: {instructions}");
                assert!(instructions < most, "{name}, {number} rules: {instructions}");
            }
        }
    }
}

#[test]
fn kernel_engine_and_model_agree_at_an_uplink() {
    agree(program::XDP_UPLINK, Sides::Destination, false, &Ignores::default());
}

#[test]
fn kernel_engine_and_model_agree_at_a_mirror() {
    agree(program::XDP_MIRROR, Sides::Both, false, &Ignores::default());
}

#[test]
fn kernel_and_engine_agree_on_what_tunnels_carry() {
    agree(program::XDP_MIRROR, Sides::Both, true, &Ignores::default());
}

#[test]
fn kernel_engine_and_model_agree_on_what_is_ignored_at_an_uplink() {
    agree(program::XDP_UPLINK, Sides::Destination, false, &ignores(IGNORED_RULES));
}

#[test]
fn kernel_engine_and_model_agree_on_what_is_ignored_at_a_mirror() {
    agree(program::XDP_MIRROR, Sides::Both, false, &ignores(IGNORED_RULES));
}
