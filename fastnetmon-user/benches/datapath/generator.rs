//! A generator of packets: live frames, made by a kernel program and sent through a real interface.
//!
//! `BPF_PROG_TEST_RUN` with live frames (Linux 5.18) runs a program on frames that are real and, when
//! it says `XDP_TX`, sends them out of the interface they seem to come from: millions a second. The
//! program varies destination, source, protocol and length, and counts what it sends.
//!
//! **Invariant**: what is sent is known to the last packet and byte. What finds the ring of the cable
//! full is lost there, and the far end says how many (`rx_dropped` of `Lab::statistics_inside`).

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use aya::maps::{Array, PerCpuArray};
use aya::programs::links::FdLink;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use xtask::lab::{Lab, OUTSIDE_INTERFACE};
use xtask::traffic::Frame;

use crate::machine::{cpus, pin};

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// Destinations: this address, and whatever bits of the mask.
    pub(crate) first: Ipv4Addr,
    /// Bits that vary.
    pub(crate) mask: u32,
    /// Four protocol numbers, each as likely as the others.
    pub(crate) protocols: [u8; 4],
    /// How many bytes shorter than the longest a packet may be: one less than a power of two.
    pub(crate) cut: u32,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    /// Bytes of IP packets.
    pub(crate) bytes: u64,
}

/// How fast.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as all CPUs together can.
    Full,
    /// So many a second, evenly.
    Pps(u32),
}

/// Sends from the outside of a lab to its inside.
pub(crate) struct Generator<'a> {
    lab: &'a Lab,
    ebpf: Ebpf,
    /// `struct xdp_md` (linux/bpf.h): where the frames seem to come from.
    context: Vec<u8>,
    frame: Vec<u8>,
    /// The program hangs on the interface as well: that readies it for live frames, and spares each
    /// run a wait for RCU.
    _link: FdLink,
}

/// Payload of the longest packet.
const LONGEST: u16 = 1024;

impl<'a> Generator<'a> {
    /// Readies the outer end of the lab's cable.
    pub(crate) fn new(lab: &'a Lab, object: &[u8]) -> anyhow::Result<Self> {
        let mut ebpf = EbpfLoader::new().load(object).context("the generator does not load")?;
        let program: &mut Xdp =
            ebpf.program_mut(GENERATE).context("no generator in the object")?.try_into()?;
        program.load().context("the kernel does not take the generator")?;
        let (link, index) = lab.run_outside(|| {
            let id = program.attach(OUTSIDE_INTERFACE, XdpMode::Driver)?;
            let link = FdLink::try_from(program.take_link(id)?)?;
            let socket = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::DGRAM,
                None,
            )?;
            let index = rustix::net::netdevice::name_to_index(&socket, OUTSIDE_INTERFACE)?;
            anyhow::Ok((link, index))
        })??;
        let nowhere = Ipv4Addr::UNSPECIFIED;
        let frame = Frame::udp(nowhere, nowhere, 53, 4000).payload(LONGEST).bytes();
        let length = u32::try_from(frame.len())?;
        // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, length, 0, index, 0, 0].map(u32::to_ne_bytes).concat();
        Ok(Self { lab, ebpf, context, frame, _link: link })
    }

    /// Says what is to be sent from now on.
    pub(crate) fn order(&mut self, order: Order) -> anyhow::Result<()> {
        let Order { first, mask, protocols, cut } = order;
        if cut > u32::from(LONGEST) - 1 || !(cut + 1).is_power_of_two() {
            bail!("`cut` is {cut}: one less than a power of two, at most {}", LONGEST - 1);
        }
        let words = [u32::from(first), mask, u32::from_ne_bytes(protocols), cut];
        let map = self.ebpf.map_mut("ORDER").context("no map `ORDER`")?;
        Array::<_, [u32; 4]>::try_from(map)?.set(0, words, 0)?;
        Ok(())
    }

    /// Sends until the flag is set.
    pub(crate) fn send_until(&self, pace: Pace, stop: &AtomicBool) -> anyhow::Result<()> {
        self.lab.run_outside(|| match pace {
            Pace::Full => std::thread::scope(|scope| {
                let threads: Vec<_> = (0..cpus())
                    .map(|cpu| {
                        scope.spawn(move || {
                            pin(cpu)?;
                            while !stop.load(Ordering::Relaxed) {
                                self.burst(AT_ONCE)?;
                            }
                            anyhow::Ok(())
                        })
                    })
                    .collect();
                threads.into_iter().try_for_each(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
            }),
            Pace::Pps(pps) => self.evenly(pps, stop),
        })?
    }

    /// What was sent since the generator was made.
    pub(crate) fn sent(&self) -> anyhow::Result<Sent> {
        let map = self.ebpf.map("SENT").context("no map `SENT`")?;
        let counted = PerCpuArray::<_, [u64; 3]>::try_from(map)?.get(&0, 0)?;
        let mut sent = Sent::default();
        for [packets, bytes, _random] in counted.iter() {
            sent.packets += packets;
            sent.bytes += bytes;
        }
        Ok(sent)
    }

    fn evenly(&self, pps: u32, stop: &AtomicBool) -> anyhow::Result<()> {
        let batch = (pps / 1000).max(1);
        let pause = Duration::from_secs(1) * batch / pps.max(1);
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.burst(batch)?;
            due += pause;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    fn burst(&self, packets: u32) -> anyhow::Result<()> {
        let program: &Xdp =
            self.ebpf.program(GENERATE).context("no generator in the object")?.try_into()?;
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            ctx_in: Some(&self.context),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        program.test_run(options).context("the kernel sends no live frames")?;
        Ok(())
    }
}

/// The kernel program.
const GENERATE: &str = "generate";

/// Frames sent before the receiver has a turn; the ring of the cable holds 256.
const BATCH: u32 = 64;

/// Frames sent by one system call at full pace.
const AT_ONCE: u32 = 16_384;
