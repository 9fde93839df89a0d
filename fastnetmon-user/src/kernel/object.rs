//! The kernel programs as this binary carries them.
//!
//! **Invariant**: what the verifier takes for constants is set before it looks, and the object's
//! version is compared before anything is attached.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aya::maps::{HashMap, Map, RingBuf, XskMap};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use fastnetmon_common::ABI_VERSION;
use fastnetmon_common::abi::{
    GATE_INCOMING, GATE_OUTGOING, MOST_CPUS, global, map, program, roots, waiting,
};
use fastnetmon_common::gate::RULE_WORDS;

use crate::kernel::{Gate, Gates, KernelError, Rings, Sockets};
use crate::networks::Ignores;
use crate::tables::{Directory, Flags, Limits, Lines, Mapping, Parts, Shape};

static BYTES: &[u8] = aya::include_bytes_aligned!(env!("FASTNETMON_OBJECT"));

/// What is constant once the programs are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Frozen {
    /// The tables.
    pub shape: Shape,
    /// One packet in so many is kept as a sparse sample; 0: none.
    pub sparse_every: u32,
    /// Count what tunnels carry as well.
    pub decapsulate: bool,
    /// The kernel has `bpf_xdp_load_bytes` (Linux 5.18).
    pub load_bytes: bool,
    /// Additions to lines wait for each other, so that their memory comes together. Needs a kernel that
    /// runs programs for us with bottom halves disabled (Linux 6.3), and is worth it where the lines
    /// are more than a cache holds.
    pub puts_off: bool,
    /// What may be dropped.
    pub gate: Gates,
}

impl Frozen {
    /// Tables of this shape, packets counted at once, and nothing beyond.
    pub const fn of(shape: Shape) -> Self {
        let gate = Gates::NONE;
        Self { shape, sparse_every: 0, decapsulate: false, load_bytes: true, puts_off: false, gate }
    }
}

/// The loaded object.
#[derive(Debug)]
pub struct Object {
    ebpf: Ebpf,
    shape: Shape,
    puts_off: bool,
    gate: Gates,
}

/// How long one window shall last, about.
const WINDOW: Duration = Duration::from_millis(128);

impl Object {
    /// Loads every program and makes every map.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load(frozen: Frozen, ignores: &Ignores) -> Result<Self, KernelError> {
        let found = frozen.shape.writers.get();
        if found > MOST_CPUS {
            return Err(KernelError::TooManyCpus { found, most: MOST_CPUS });
        }
        let hz = jiffies_per_second()?;
        let mut object = Self::load_with(frozen, window_shift(hz), ignores.number())?;
        object.write(ignores)?;
        let found = object.run_bare(program::ABI)?;
        if found != ABI_VERSION {
            return Err(KernelError::Version { found, expected: ABI_VERSION });
        }
        Ok(object)
    }

    fn load_with(frozen: Frozen, window_shift: u32, ignoring: u32) -> Result<Self, KernelError> {
        let Frozen { shape, sparse_every, decapsulate, load_bytes, puts_off, gate } = frozen;
        let (decapsulate, load_bytes) = (u32::from(decapsulate), u32::from(load_bytes));
        let looked_at = match gate {
            Gates { hosts: 0, .. } => 0,
            Gates { outgoing: false, .. } => GATE_INCOMING,
            Gates { outgoing: true, .. } => GATE_INCOMING | GATE_OUTGOING,
        };
        let lines = shape.writers.get() * 2 * shape.slots;
        let ebpf = EbpfLoader::new()
            .override_global(global::SLOTS, &shape.slots, true)
            .override_global(global::BUCKETS, &shape.buckets, true)
            .override_global(global::WINDOW_SHIFT, &window_shift, true)
            .override_global(global::SPARSE_EVERY, &sparse_every, true)
            .override_global(global::DECAPSULATE, &decapsulate, true)
            .override_global(global::LOAD_BYTES, &load_bytes, true)
            .override_global(global::PUTS_OFF, &u32::from(puts_off), true)
            .override_global(global::SEED, &shape.seed, true)
            .override_global(global::GATE, &looked_at, true)
            .override_global(global::IGNORING, &ignoring, true)
            .map_max_entries(map::LINES, lines)
            .map_max_entries(map::WAITING, shape.writers.get())
            .map_max_entries(map::T2, shape.elements)
            .map_max_entries(map::BUCKETS, shape.buckets)
            .map_max_entries(map::FLAGS, shape.slots)
            .map_max_entries(map::RULES, gate.rules())
            .load(BYTES)
            .map_err(refused)?;
        Ok(Self { ebpf, shape, puts_off, gate })
    }

    /// Writes down what is not counted, before anything is attached.
    fn write(&self, ignores: &Ignores) -> Result<(), KernelError> {
        let words = ignores.words();
        if words.is_empty() {
            return Ok(());
        }
        let map = self.part(map::IGNORES, 0, size_of_val(words), true)?;
        for (place, &word) in map.words().iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The tables behind the maps.
    pub(super) fn parts(&mut self) -> Result<Parts, KernelError> {
        let shape = self.shape;
        let lines = u64::from(shape.writers.get()) * 2 * u64::from(shape.slots) * 64;
        let directory = Directory::new(
            self.part(map::ROOTS, roots::T1, roots::ROOT, true)?,
            self.part(map::ROOTS, roots::T6, roots::ROOT, true)?,
            self.mapping(map::T2, u64::from(shape.elements) * 1024, true)?,
            self.mapping(map::BUCKETS, u64::from(shape.buckets) * 64, true)?,
        );
        Ok(Parts {
            lines: Lines::new(
                self.mapping(map::LINES, lines, false)?,
                self.part(map::ROOTS, roots::MARKS, Lines::MARK_BYTES, true)?,
                shape,
            ),
            directory,
            flags: Flags::new(self.mapping(map::FLAGS, u64::from(shape.slots) * 8, true)?),
            limits: Limits::new(self.part(map::ROOTS, roots::LIMITS, Limits::BYTES, true)?),
        })
    }

    fn mapping(
        &self,
        name: &'static str,
        bytes: u64,
        writable: bool,
    ) -> Result<Arc<Mapping>, KernelError> {
        self.part(name, 0, usize::try_from(bytes).unwrap_or(usize::MAX), writable)
    }

    fn part(
        &self,
        name: &'static str,
        first: usize,
        bytes: usize,
        writable: bool,
    ) -> Result<Arc<Mapping>, KernelError> {
        let Some(Map::Array(data)) = self.ebpf.map(name) else {
            return Err(KernelError::Missing { name });
        };
        let mapping = Mapping::of_part(name, data.fd().as_fd(), first, bytes, writable)?;
        Ok(Arc::new(mapping))
    }

    /// Where additions wait; `None`: they never do.
    pub(super) fn queues(&self) -> Result<Option<Arc<Mapping>>, KernelError> {
        let bytes = u64::from(self.shape.writers.get()) * waiting::WORDS as u64 * 8;
        self.puts_off.then(|| self.mapping(map::WAITING, bytes, false)).transpose()
    }

    /// The rings. They can be taken once.
    pub(super) fn rings(&mut self) -> Result<Rings, KernelError> {
        #[cfg(feature = "ebpf-log")]
        let log = aya_log::EbpfLogger::init(&mut self.ebpf)
            .map_err(|error| KernelError::Load { reason: error.to_string() })?;
        let mut take = |name| {
            let map = self.ebpf.take_map(name).ok_or(KernelError::Missing { name })?;
            RingBuf::try_from(map).map_err(|_other_kind| KernelError::Missing { name })
        };
        Ok(Rings::new(
            take(map::HINTS)?,
            take(map::SAMPLES)?,
            take(map::STRANGERS)?,
            #[cfg(feature = "ebpf-log")]
            log,
        ))
    }

    /// The right to have packets dropped, over the flag words of the same tables.
    ///
    /// # Errors
    /// When the rules cannot be mapped.
    pub fn gate(&self, flags: Flags) -> Result<Gate, KernelError> {
        let bytes = u64::from(self.gate.rules()) * RULE_WORDS as u64 * 8;
        Ok(Gate::new(self.mapping(map::RULES, bytes, true)?, flags, self.gate))
    }

    /// Where AF_XDP sockets are told to the programs. It can be taken once.
    ///
    /// # Errors
    /// When it was taken, or the object has none.
    pub fn sockets(&mut self) -> Result<Sockets, KernelError> {
        let (name, queues) = (map::SOCKETS, map::QUEUES);
        let sockets = self.ebpf.take_map(name).ok_or(KernelError::Missing { name })?;
        let sockets =
            XskMap::try_from(sockets).map_err(|_other_kind| KernelError::Missing { name })?;
        let name = queues;
        let queues = self.ebpf.take_map(name).ok_or(KernelError::Missing { name })?;
        let queues =
            HashMap::try_from(queues).map_err(|_other_kind| KernelError::Missing { name })?;
        Ok(Sockets::new(sockets, queues))
    }

    /// An XDP program, loaded.
    pub(super) fn xdp(&mut self, name: &'static str) -> Result<&mut Xdp, KernelError> {
        let program = self.ebpf.program_mut(name).ok_or(KernelError::Missing { name })?;
        let program: &mut Xdp =
            program.try_into().map_err(|_other_kind| KernelError::Missing { name })?;
        if program.fd().is_err() {
            program.load().map_err(|error| refused(error.into()))?;
        }
        Ok(program)
    }

    /// A classifier, loaded.
    pub(super) fn classifier(
        &mut self,
        name: &'static str,
    ) -> Result<&mut SchedClassifier, KernelError> {
        let program = self.ebpf.program_mut(name).ok_or(KernelError::Missing { name })?;
        let program: &mut SchedClassifier =
            program.try_into().map_err(|_other_kind| KernelError::Missing { name })?;
        if program.fd().is_err() {
            program.load().map_err(|error| refused(error.into()))?;
        }
        Ok(program)
    }

    /// Has the kernel verify every program that may be attached.
    pub(super) fn load_programs(&mut self) -> Result<(), KernelError> {
        self.xdp(program::XDP_UPLINK)?;
        self.xdp(program::XDP_MIRROR)?;
        if self.puts_off {
            self.xdp(program::MAKE_UP)?;
        }
        self.classifier(program::TC_EGRESS).map(drop)
    }

    /// Runs an XDP program on one frame (`BPF_PROG_TEST_RUN`) and returns its verdict.
    ///
    /// # Errors
    /// When there is no such program, or the kernel refuses the frame.
    pub fn run_xdp(&mut self, name: &'static str, frame: &[u8]) -> Result<u32, KernelError> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let result = self.xdp(name)?.test_run(options).map_err(|error| refused(error.into()))?;
        Ok(result.return_value)
    }

    /// Runs an XDP program that is loaded so many times on one frame, beside other threads that do.
    /// Returns its last verdict.
    ///
    /// # Errors
    /// When there is no such program, or the kernel refuses the frame.
    pub fn repeat_xdp(
        &self,
        name: &'static str,
        frame: &[u8],
        repeat: u32,
    ) -> Result<u32, KernelError> {
        let program = self.ebpf.program(name).ok_or(KernelError::Missing { name })?;
        let program: &Xdp =
            program.try_into().map_err(|_other_kind| KernelError::Missing { name })?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let result = program.test_run(options).map_err(|error| refused(error.into()))?;
        Ok(result.return_value)
    }

    /// Runs a classifier on one frame, with a `struct __sk_buff` beside it, and returns its verdict.
    ///
    /// # Errors
    /// When there is no such program, or the kernel refuses frame or context.
    pub fn run_classifier(
        &mut self,
        name: &'static str,
        frame: &[u8],
        context: &[u8],
    ) -> Result<u32, KernelError> {
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: (!context.is_empty()).then_some(context),
            ..TestRunOptions::default()
        };
        let program = self.classifier(name)?;
        let result = program.test_run(options).map_err(|error| refused(error.into()))?;
        Ok(result.return_value)
    }

    /// How many instructions the verifier walked for each program; it gives up at a million.
    ///
    /// # Errors
    /// When a program cannot be loaded, or the kernel does not tell (before Linux 5.16).
    pub fn verified_instructions(&mut self) -> Result<Vec<(&'static str, u32)>, KernelError> {
        let mut counts = Vec::new();
        for name in [program::XDP_UPLINK, program::XDP_MIRROR] {
            let info = self.xdp(name)?.info().map_err(|error| refused(error.into()))?;
            counts.push((name, info.verified_instruction_count()));
        }
        let name = program::TC_EGRESS;
        let info = self.classifier(name)?.info().map_err(|error| refused(error.into()))?;
        counts.push((name, info.verified_instruction_count()));
        counts
            .into_iter()
            .map(|(name, count)| Ok((name, count.ok_or(KernelError::Missing { name })?)))
            .collect()
    }

    fn run_bare(&mut self, name: &'static str) -> Result<u32, KernelError> {
        self.run_xdp(name, &[0; 64])
    }
}

/// Learns how fast the kernel's jiffies go; no file tells it on every system.
fn jiffies_per_second() -> Result<u32, KernelError> {
    let shape =
        Shape { writers: std::num::NonZeroU32::MIN, slots: 256, elements: 1, buckets: 1, seed: 0 };
    let mut object = Object::load_with(Frozen::of(shape), 0, 0)?;
    let span = Duration::from_millis(48);
    let before = object.run_bare(program::JIFFIES)?;
    #[expect(clippy::disallowed_methods, reason = "the passing of time is what is measured")]
    std::thread::sleep(span);
    let after = object.run_bare(program::JIFFIES)?;
    Ok(nearest_hz(after.wrapping_sub(before), span))
}

/// The frequencies a kernel is built with (kernel/Kconfig.hz), the nearest one to what was seen.
fn nearest_hz(jiffies: u32, span: Duration) -> u32 {
    let measured = u64::from(jiffies) * 1000 / u64::try_from(span.as_millis()).unwrap_or(1).max(1);
    let mut nearest = 100;
    for hz in [100_u32, 250, 300, 1000] {
        if u64::from(hz).abs_diff(measured) < u64::from(nearest).abs_diff(measured) {
            nearest = hz;
        }
    }
    nearest
}

/// Jiffies are shifted by so much to give a window of about 128 ms.
fn window_shift(hz: u32) -> u32 {
    let jiffies = u64::from(hz) * u64::try_from(WINDOW.as_millis()).unwrap_or(128) / 1000;
    jiffies.max(1).ilog2()
}

fn refused(error: EbpfError) -> KernelError {
    let mut reason = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    let mut permission = false;
    while let Some(error) = source {
        let text = error.to_string();
        let text = abridged(&text);
        if !reason.contains(&text) {
            if !reason.is_empty() {
                reason.push_str(": ");
            }
            reason.push_str(&text);
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            permission |= error.raw_os_error() == Some(libc::EPERM);
        }
        source = error.source();
    }
    reason.push_str(if permission {
        "; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    } else {
        "; this kernel, or the way it was built, lacks what docs/kernel-support.md asks for"
    });
    KernelError::Load { reason }
}

/// The verifier's log is long, and says at its end what it does not like.
fn abridged(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some((first, rest)) = lines.split_first() else { return String::new() };
    let last = rest.get(rest.len().saturating_sub(30)..).unwrap_or_default();
    let cut = if last.len() < rest.len() { " […] " } else { " " };
    format!("{first}{cut}{}", last.join(" | ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_about_128_ms_at_every_frequency() {
        for (seen, hz, shift) in
            [(4, 100, 3), (5, 100, 3), (12, 250, 5), (14, 300, 5), (48, 1000, 7)]
        {
            assert_eq!(nearest_hz(seen, Duration::from_millis(48)), hz, "{seen}");
            assert_eq!(window_shift(hz), shift, "{hz}");
        }
    }
}
