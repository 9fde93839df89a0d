//! The kernel programs with those of the bench, loaded and filled for one layout of networks.
//!
//! **Invariant**: tables are filled by the agent's own plan, and shaped, frozen and mapped as the
//! agent does it, so that the production path finds what it finds in production.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData, PerCpuHashMap, PerCpuValues, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use fastnetmon_common::abi::{GATE_INCOMING, global, map, program, roots};
use fastnetmon_common::gate::RULE_WORDS;
use fastnetmon_common::table::Limit;
use fastnetmon_user::kernel::{self, Gate, Gates, Rule};
use fastnetmon_user::model::{Direction, Moment, Prefix, Signature};
use fastnetmon_user::networks::{Plan, PrefixSet, Territory};
use fastnetmon_user::tables::{Directory, Flags, Limits, Lines, Mapping, Shape};
use xtask::traffic::Frame;

use crate::machine::{quiet_cpu, thread_cpu};

/// Networks, and the hosts in them that packets go to.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    pub(crate) networks: Vec<String>,
    /// The first destination; of IPv6 the second 32 bits.
    pub(crate) first: u32,
    /// Bits that vary.
    pub(crate) mask: u32,
    /// IPv6 hosts that shall have lines.
    pub(crate) residents: u32,
}

impl Layout {
    /// `count` networks of this length at the beginning of as many /16.
    pub(crate) fn v4(name: &'static str, count: u8, len: u8) -> Self {
        let networks = (0..count).map(|network| format!("10.{network}.0.0/{len}")).collect();
        let mask = (u32::from(count - 1) << 16) | (u32::MAX >> len);
        Self { name, networks, first: u32::from(Ipv4Addr::new(10, 0, 0, 0)), mask, residents: 0 }
    }

    /// One prefix of 32 bits, `count` hosts in it, each in a /64 of its own.
    pub(crate) fn v6(name: &'static str, count: u32) -> Self {
        let networks = vec!["2001:db8::/32".to_owned()];
        Self { name, networks, first: 0, mask: count - 1, residents: count }
    }

    /// How many hosts packets go to.
    pub(crate) const fn hosts(&self) -> u32 {
        1 << self.mask.count_ones()
    }
}

/// Loaded programs.
pub(crate) struct Programs {
    ebpf: Ebpf,
    samples: RingBuf<MapData>,
    lines: Option<Lines>,
    territory: Territory,
    gate: Gate,
}

/// Windows of about 128 ms where a second has 250 jiffies. It costs the same whatever it is.
const WINDOW_SHIFT: u32 = 5;

/// As the sample configuration has it.
const SPARSE_EVERY: u32 = 1024;

/// Programs of the bench; `generate` is the generator's.
const NAMES: [&str; 11] = [
    "empty",
    "only_vary4",
    "only_vary6",
    "floor4",
    "floor6",
    "whole4",
    "whole6",
    "walk4",
    "ungated4",
    "usual4",
    program::MAKE_UP,
];

impl Programs {
    pub(crate) fn load(object: &[u8], layout: &Layout) -> anyhow::Result<Self> {
        let prefixes: Vec<Prefix> = layout
            .networks
            .iter()
            .map(|text| Prefix::parse_masked(text).map(|(prefix, _)| prefix))
            .collect::<Result<_, _>>()?;
        let (ours, _) = PrefixSet::merged(prefixes);
        let (plan, writes) = Plan::new(&ours, layout.residents)?;
        let shape = plan.shape(kernel::possible_cpus()?, 0x5eed);
        let hosts = layout.hosts();
        // Where the hosts' lines begin, in the row of the CPU that is measured on.
        let first = match layout.residents {
            0 => plan.host4(layout.first.into()).context("no host is ours")?.0,
            _ => plan.pool(),
        };
        let row = u32::try_from(quiet_cpu())? * 2 * shape.slots;

        let mut ebpf = EbpfLoader::new()
            .override_global(global::SLOTS, &shape.slots, true)
            .override_global(global::BUCKETS, &shape.buckets, true)
            .override_global(global::WINDOW_SHIFT, &WINDOW_SHIFT, true)
            .override_global(global::SPARSE_EVERY, &SPARSE_EVERY, true)
            .override_global(global::LOAD_BYTES, &1_u32, true)
            .override_global(global::SEED, &shape.seed, true)
            .override_global(global::GATE, &GATE_INCOMING, true)
            .override_global(global::PUTS_OFF, &u32::from(plan.outgrows_a_cache()), true)
            .override_global("BENCH_FIRST", &layout.first, true)
            .override_global("BENCH_MASK", &layout.mask, true)
            .override_global("BENCH_HOSTS", &(hosts - 1), true)
            .override_global("BENCH_SLOT", &(row + first), true)
            .override_global("BENCH_BUCKETS", &shape.buckets, true)
            .map_max_entries(map::LINES, shape.writers.get() * 2 * shape.slots)
            .map_max_entries(map::WAITING, shape.writers.get())
            .map_max_entries(map::T2, shape.elements)
            .map_max_entries(map::BUCKETS, shape.buckets)
            .map_max_entries(map::FLAGS, shape.slots)
            .map_max_entries(map::RULES, GATES.rules())
            .map_max_entries("USUAL_NETWORKS", 1024)
            .map_max_entries("USUAL_HOSTS", usual_room(hosts))
            .load(object)
            .context("the kernel does not take the programs of the bench")?;
        for name in NAMES {
            let program: &mut Xdp = ebpf
                .program_mut(name)
                .with_context(|| format!("no program `{name}` in the object: rebuild it"))?
                .try_into()?;
            program.load().map_err(|error| {
                // The verifier's log is long, and says at its end what it does not like.
                let text = error.to_string();
                let lines: Vec<&str> = text.lines().collect();
                let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default();
                anyhow::anyhow!("the kernel does not take `{name}`: {}", last.join(" | "))
            })?;
        }
        let samples = ebpf.take_map(map::SAMPLES).context("the object has no ring of samples")?;
        let samples = RingBuf::try_from(samples)?;
        let (lines, directory, flags, limits) = parts(&ebpf, shape)?;
        let bytes = u64::from(GATES.rules()) * RULE_WORDS as u64 * 8;
        let gate = Gate::new(mapping(&ebpf, map::RULES, bytes, true)?, flags.clone(), GATES);
        // High enough that no host crosses them: nobody is attacked here.
        let limit = Limit { packets: 0x00ff_fff0, bytes16: u32::MAX };
        for direction in Direction::BOTH {
            limits.set(0, direction, limit);
        }
        let territory = Territory::new(ours, plan, &writes, shape, vec![directory], vec![flags]);
        let mut programs = Self { ebpf, samples, lines: Some(lines), territory, gate };
        programs.settle(layout)?;
        Ok(programs)
    }

    /// Gives every IPv6 host its line.
    fn settle(&mut self, layout: &Layout) -> anyhow::Result<()> {
        // One that is in the way moves first and settles at a later reading.
        for minute in 1..64 {
            for host in 0..layout.residents {
                self.territory.meet((0x2001_0db8 << 96) | (u128::from(host) << 64) | 1);
            }
            if self.territory.residents().len() >= layout.residents as usize {
                return Ok(());
            }
            let later = Moment::after_boot(Duration::from_secs(minute * 60));
            self.territory.read(later, std::iter::empty());
        }
        let settled = self.territory.residents().len();
        bail!("only {settled} of {} IPv6 hosts found a line", layout.residents)
    }

    /// Fills the maps of the usual design: its networks, and every host.
    pub(crate) fn fill_usual(&mut self, layout: &Layout) -> anyhow::Result<()> {
        let map = self.ebpf.map_mut("USUAL_NETWORKS").context("no map `USUAL_NETWORKS`")?;
        let mut networks: LpmTrie<_, u32, u32> = LpmTrie::try_from(map)?;
        for (number, text) in (1..).zip(&layout.networks) {
            let (prefix, _) = Prefix::parse_masked(text)?;
            let std::net::IpAddr::V4(address) = prefix.address() else { continue };
            let key = Key::new(u32::from(prefix.len()), u32::from(address).to_be());
            networks.insert(&key, number, 0)?;
        }
        let map = self.ebpf.map_mut("USUAL_HOSTS").context("no map `USUAL_HOSTS`")?;
        let mut hosts: PerCpuHashMap<_, u32, [u64; 7]> = PerCpuHashMap::try_from(map)?;
        let cpus = kernel::possible_cpus()?.get() as usize;
        let mut host = 0_u32;
        for _ in 0..layout.hosts() {
            let nothing = PerCpuValues::try_from(vec![[0_u64; 7]; cpus])?;
            hosts.insert((layout.first + host).to_be(), nothing, 0)?;
            // The next number that has no bits but those of the mask.
            host = (host | !layout.mask).wrapping_add(1) & layout.mask;
        }
        Ok(())
    }

    /// Says of every IPv4 host that such packets are dropped.
    pub(crate) fn drop_all(
        &mut self,
        layout: &Layout,
        signature: &Signature,
    ) -> anyhow::Result<()> {
        let hosts = layout.hosts();
        for number in 0..hosts {
            let address = Ipv4Addr::from(layout.first + number).into();
            let host = self.territory.host(address).context("a host of ours has no line")?;
            self.territory.gate(host, address);
            let until = Moment::after_boot(Duration::from_secs(u32::MAX.into()));
            let (direction, signature) = (Direction::Incoming, signature.clone());
            self.gate.shut(Rule { host, address, direction, signature, rate: None, until })?;
        }
        Ok(())
    }

    /// Runs a program so many times; returns nanoseconds of this thread's CPU time for one.
    pub(crate) fn run(
        &mut self,
        name: &str,
        frame: &[u8],
        repeat: u32,
        verdict: u32,
    ) -> anyhow::Result<f64> {
        // Copies of the last run would fill the ring, and a full ring is cheaper.
        while self.samples.next().is_some() {}
        let program: &Xdp = self.ebpf.program(name).context("no such program")?.try_into()?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let before = thread_cpu();
        let result = program.test_run(options)?;
        let spent = thread_cpu().saturating_sub(before);
        if result.return_value != verdict {
            bail!("`{name}` returned {}, not {verdict}", result.return_value);
        }
        Ok(spent.as_secs_f64() * 1e9 / f64::from(repeat))
    }

    /// Has the additions made that wait on this CPU, as the agent does before it reads.
    pub(crate) fn make_up(&mut self) -> anyhow::Result<()> {
        let program: &Xdp =
            self.ebpf.program(program::MAKE_UP).context("no such program")?.try_into()?;
        program
            .test_run(TestRunOptions { data_in: Some(&[0; 64]), ..TestRunOptions::default() })?;
        Ok(())
    }

    /// The lines, to be read. They can be taken once.
    pub(crate) fn lines(&mut self) -> anyhow::Result<Lines> {
        self.lines.take().context("the lines were taken before")
    }

    pub(crate) const fn territory(&mut self) -> &mut Territory {
        &mut self.territory
    }
}

/// `XDP_DROP` (linux/bpf.h).
pub(crate) const XDP_DROP: u32 = 1;
/// `XDP_PASS` (linux/bpf.h).
pub(crate) const XDP_PASS: u32 = 2;

/// Rules for all hosts of the smallest layout.
const GATES: Gates = Gates { hosts: 1024, outgoing: false };

/// A UDP packet for an IPv4 host: 60 bytes, the shortest frame there is.
pub(crate) fn frame4() -> Vec<u8> {
    let (world, ours) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(10, 0, 0, 1));
    Frame::udp(world, ours, 53, 4000).payload(18).bytes()
}

/// The same for an IPv6 host of ours; it is two bytes longer.
pub(crate) fn frame6() -> anyhow::Result<Vec<u8>> {
    let world: std::net::Ipv6Addr = "3fff::1".parse()?;
    let ours: std::net::Ipv6Addr = "2001:db8::1".parse()?;
    Ok(Frame::udp(world, ours, 53, 4000).bytes())
}

/// Above this the usual design is not measured, and its map not made.
const USUAL_MOST: u32 = 1 << 16;

const fn usual_room(hosts: u32) -> u32 {
    if hosts <= USUAL_MOST { hosts + hosts / 8 } else { 1 }
}

fn mapping(
    ebpf: &Ebpf,
    name: &'static str,
    bytes: u64,
    writable: bool,
) -> anyhow::Result<Arc<Mapping>> {
    part(ebpf, name, 0, usize::try_from(bytes)?, writable)
}

fn part(
    ebpf: &Ebpf,
    name: &'static str,
    first: usize,
    bytes: usize,
    writable: bool,
) -> anyhow::Result<Arc<Mapping>> {
    let Some(Map::Array(data)) = ebpf.map(name) else { bail!("no map `{name}`") };
    Ok(Arc::new(Mapping::of_part(name, data.fd().as_fd(), first, bytes, writable)?))
}

fn parts(ebpf: &Ebpf, shape: Shape) -> anyhow::Result<(Lines, Directory, Flags, Limits)> {
    let mapping = |name, bytes, writable| mapping(ebpf, name, bytes, writable);
    let part = |name, first, bytes, writable| part(ebpf, name, first, bytes, writable);
    let writers: NonZeroU32 = shape.writers;
    let lines = u64::from(writers.get()) * 2 * u64::from(shape.slots) * 64;
    let directory = Directory::new(
        part(map::ROOTS, roots::T1, roots::ROOT, true)?,
        part(map::ROOTS, roots::T6, roots::ROOT, true)?,
        mapping(map::T2, u64::from(shape.elements) * 1024, true)?,
        mapping(map::BUCKETS, u64::from(shape.buckets) * 64, true)?,
    );
    Ok((
        Lines::new(
            mapping(map::LINES, lines, false)?,
            part(map::ROOTS, roots::MARKS, Lines::MARK_BYTES, true)?,
            shape,
        ),
        directory,
        Flags::new(mapping(map::FLAGS, u64::from(shape.slots) * 8, true)?),
        Limits::new(part(map::ROOTS, roots::LIMITS, Limits::BYTES, true)?),
    ))
}
