//! `fastnetmon explain`: what the loaded programs count each frame of a capture as.
//!
//! **Invariant**: nothing is attached. The frames run through the very programs the agent attaches
//! (`BPF_PROG_TEST_RUN`), and what is told is what their tables gained.

use std::fs::File;
use std::path::PathBuf;

use clap::Args;
use fastnetmon_common::abi::program;
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;

use crate::capture::RoleName;
use crate::commands::{Failure, sandbox, say};
use crate::counters::{Counters, House, Reading};
use crate::daemon::{Settings, clock};
use crate::kernel::{self, Frozen, KernelError, Object, Support};
use crate::model::{Class, Tally, Unparsed};
use crate::networks::{self, Occupant, Plan, Territory};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Capture file (pcap, Ethernet)
    file: PathBuf,
    /// Configuration file: whose networks, and which role
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Frames to explain, at most
    #[arg(long, default_value_t = 1000)]
    count: usize,
}

/// The kernel runs no frame shorter than an Ethernet header.
const SHORTEST: usize = 14;

/// Programs, tables and who is who.
struct Bench {
    object: Object,
    counters: Counters,
    territory: Territory,
    programs: &'static [(&'static str, &'static str)],
}

pub(super) fn explain(arguments: &Arguments) -> Result<(), Failure> {
    let input = |error: &dyn std::error::Error| Failure::Input(error.to_string());
    let settings = Settings::read(&arguments.config).map_err(|error| input(&error))?;
    let mut bench = Bench::set_up(&settings)?;
    let named = |reason: String| Failure::Input(format!("{}: {reason}", arguments.file.display()));
    let file = File::open(&arguments.file).map_err(|error| named(error.to_string()))?;
    sandbox::enter(&settings.networks)?;
    let mut reader = PcapReader::new(file).map_err(|error| named(error.to_string()))?;
    let link = reader.header().datalink;
    if link != DataLink::ETHERNET {
        return Err(named(format!(
            "its link type is {link:?}, and the programs read Ethernet frames"
        )));
    }
    let mut number = 0;
    while number < arguments.count {
        let Some(packet) = reader.next_packet() else { break };
        number += 1;
        let packet = packet.map_err(|error| named(format!("frame {number}: {error}")))?;
        say(&format!("{number}: {}", bench.explain(packet.data())?))?;
    }
    if number == 0 {
        return Err(named("there is no frame in it".to_owned()));
    }
    Ok(())
}

impl Bench {
    fn set_up(settings: &Settings) -> Result<Self, Failure> {
        let input = |error: &dyn std::error::Error| Failure::Input(error.to_string());
        let guarded = networks::read(&settings.networks).map_err(|error| input(&error))?;
        let residents = settings.networks.ipv6_hosts;
        let (plan, writes) = Plan::new(&guarded.ours, residents).map_err(|error| input(&error))?;
        let cpus = kernel::possible_cpus().map_err(|error| input(&error))?;
        let shape = plan.shape(cpus, 0);
        let support = Support::of_this_kernel().map_err(|error| input(&error))?;
        let frozen = Frozen {
            decapsulate: settings.capture.decapsulate,
            load_bytes: support.load_bytes,
            ..Frozen::of(shape)
        };
        let ignores = networks::Ignores::of(&settings.ignore);
        let (object, parts, ..) =
            kernel::load_ignoring(frozen, &ignores).map_err(|error| input(&error))?;
        let counters = Counters::new(vec![parts.lines], clock::now());
        let territory = Territory::new(
            guarded.ours,
            plan,
            &writes,
            shape,
            vec![parts.directory],
            vec![parts.flags],
        );
        let programs: &'static [_] = match settings.capture.role {
            RoleName::Uplink => {
                &[("arriving", program::XDP_UPLINK), ("leaving", program::TC_EGRESS)]
            }
            RoleName::Mirror => &[("seen", program::XDP_MIRROR)],
        };
        Ok(Self { object, counters, territory, programs })
    }

    fn explain(&mut self, frame: &[u8]) -> Result<String, Failure> {
        if frame.len() < SHORTEST {
            return Ok(format!("{} bytes are no Ethernet frame", frame.len()));
        }
        let mut told = Vec::new();
        for &(when, name) in self.programs {
            let outcome = if name == program::TC_EGRESS {
                self.object.run_classifier(name, frame, &[])
            } else {
                self.object.run_xdp(name, frame)
            };
            let what = match outcome {
                Ok(_verdict) => {
                    let reading = self.counters.read(clock::now());
                    counted(&reading, &self.territory)
                }
                // The kernel's own test of a classifier wants the header its type promises.
                Err(KernelError::Load { .. }) if name == program::TC_EGRESS => {
                    "cannot leave: the frame is not whole".to_owned()
                }
                Err(error) => return Err(Failure::Refused(error.to_string())),
            };
            told.push(format!("{when}: {what}"));
        }
        Ok(told.join("; "))
    }
}

/// What the tables gained, in words.
fn counted(reading: &Reading, territory: &Territory) -> String {
    let mut words = Vec::new();
    for gain in &reading.gains {
        let whose = match territory.occupant(gain.host) {
            Some(Occupant::Host(address)) => address.to_string(),
            Some(Occupant::Strangers(prefix)) => format!("{prefix} (no line of its own yet)"),
            None => format!("slot {}", gain.host.0),
        };
        for class in Class::ALL {
            let Tally { packets, bytes } = gain.counts().class(class);
            if packets > 0 {
                let (direction, class) = (gain.direction.name(), class.name());
                words.push(format!("{direction} {whose} {class}, {bytes} bytes"));
            }
        }
    }
    let House {
        other,
        internal_incoming,
        internal_outgoing,
        mirrored,
        ignored,
        unparsed,
        padding,
        ..
    } = reading.house;
    for (name, tally) in [
        ("internal", internal_incoming),
        ("internal", internal_outgoing),
        ("internal", mirrored),
        ("other", other),
        ("ignored", ignored),
    ] {
        if !tally.is_zero() {
            words.push(format!("{name}, {} bytes", tally.bytes));
        }
    }
    for (reason, tally) in Unparsed::ALL.into_iter().zip(unparsed) {
        if !tally.is_zero() {
            words.push(format!("not readable ({})", reason.name()));
        }
    }
    if padding.bytes > 0 {
        words.push(format!("{} bytes beyond the IP packet", padding.bytes));
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(" + ") }
}
