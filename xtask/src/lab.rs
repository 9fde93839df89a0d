//! Two network namespaces joined by a cable, to try the agent on real packets.
//!
//! ```text
//!   outside: out0  203.0.113.1  2001:db8:ffff::1  ═══ veth ═══  in0  203.0.113.2  2001:db8:ffff::2 :inside
//! ```
//! The outside is the world: it routes the guarded prefixes to the inside. The inside is the host
//! the agent runs on, as a guard of `192.0.2.0/24`, `198.51.100.0/24`, `10.0.0.0/8` and
//! `2001:db8::/32`; of all those addresses only [`GUARDED`] and [`GUARDED_V6`] answer.
//!
//! **Invariants**: nothing but the tests' own frames crosses the cable: no neighbour discovery, no
//! multicast reports, no replies to a flood. What is made is removed with the [`Lab`], together with
//! the programs that still run in it.
#![expect(unsafe_code, reason = "entering a namespace between fork and exec is unsafe in std")]

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, bail};
use serde_json::Value;

pub use crate::system::{Signal, signal};
use crate::{
    process,
    system::{Hook, attached_programs, enter, interface_index},
    traffic::Sender,
};

/// The outer end of the cable.
pub const OUTSIDE_INTERFACE: &str = "out0";
/// The inner end of the cable, where the agent listens.
pub const INSIDE_INTERFACE: &str = "in0";
/// The hardware address of the outer end.
pub const OUTSIDE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The hardware address of the inner end.
pub const INSIDE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// The outside's own address.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The inside's own address; it is not in a guarded prefix.
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The outside's own address.
pub const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// The inside's own address.
pub const INSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2);
/// A guarded address that answers; frames to any other are swallowed in silence.
pub const GUARDED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// A guarded address that answers; frames to any other are swallowed in silence.
pub const GUARDED_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);

/// Two namespaces and the cable between them; dropping it removes all of it.
#[derive(Debug)]
pub struct Lab {
    outside: Namespace,
    inside: Namespace,
}

/// What may differ between labs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabOptions {
    /// Queues of each end of the cable.
    pub queues: u32,
}

/// What an interface has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Packets that came in through the cable.
    pub rx_packets: u64,
    /// Their bytes; the kernel counts them here without Ethernet headers.
    pub rx_bytes: u64,
    /// Packets lost on the way in.
    pub rx_dropped: u64,
    /// Packets that went out through the cable.
    pub tx_packets: u64,
    /// Their bytes, as the kernel counts them.
    pub tx_bytes: u64,
    /// Packets lost on the way out.
    pub tx_dropped: u64,
}

/// What hangs on the inner end of the cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// The XDP program, by the way it is attached.
    pub xdp: Xdp,
    /// Programs on the way in, after XDP.
    pub tcx_ingress: u32,
    /// Programs on the way out.
    pub tcx_egress: u32,
}

/// How an XDP program is attached, if one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Xdp {
    /// There is none.
    None,
    /// In the driver, before a packet has a socket buffer.
    Native,
    /// After the driver, by the kernel's common code.
    Generic,
    /// In the card, or several at once.
    Other,
}

#[derive(Debug)]
struct Namespace {
    name: String,
    interface: &'static str,
    /// Keeps the door open for threads and programs that enter; the name alone may be taken away.
    door: Arc<File>,
}

impl Lab {
    /// Makes a lab; the label becomes part of its namespaces' names.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        Self::with(label, LabOptions::default())
    }

    /// Makes a lab that differs from the usual one.
    pub fn with(label: &str, options: LabOptions) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !process::is_root() {
            bail!("a lab needs root: it makes network namespaces");
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = base_name(label, std::process::id(), number);
        let outside = Namespace::add(format!("{base}-out"), OUTSIDE_INTERFACE)?;
        let inside = Namespace::add(format!("{base}-in"), INSIDE_INTERFACE)?;
        let lab = Self { outside, inside };
        lab.lay_cable(options).with_context(|| format!("the lab `{base}` could not be made"))?;
        Ok(lab)
    }

    /// A command that will run in the namespace the agent is for; its pid is the program's own.
    pub fn command_inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.inside.command(program)
    }

    /// A command that will run on the other side of the cable; its pid is the program's own.
    pub fn command_outside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.outside.command(program)
    }

    /// Moves the calling thread inside, for good; meant for a thread started for that.
    pub fn enter_inside(&self) -> io::Result<()> {
        enter(&self.inside.door)
    }

    /// Moves the calling thread outside, for good; meant for a thread started for that.
    pub fn enter_outside(&self) -> io::Result<()> {
        enter(&self.outside.door)
    }

    /// Does the work in a thread of its own inside, and waits for it.
    pub fn run_inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        self.inside.run(work)
    }

    /// Does the work in a thread of its own outside, and waits for it.
    pub fn run_outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        self.outside.run(work)
    }

    /// A sender whose frames come in to the inside; it may be used from any thread.
    pub fn sender_outside(&self) -> anyhow::Result<Sender> {
        self.outside.run(|| Sender::open(OUTSIDE_INTERFACE))?
    }

    /// A sender whose frames leave the inside; it may be used from any thread.
    pub fn sender_inside(&self) -> anyhow::Result<Sender> {
        self.inside.run(|| Sender::open(INSIDE_INTERFACE))?
    }

    /// What the outer end of the cable has counted.
    pub fn statistics_outside(&self) -> anyhow::Result<Statistics> {
        self.outside.statistics()
    }

    /// What the inner end of the cable has counted.
    pub fn statistics_inside(&self) -> anyhow::Result<Statistics> {
        self.inside.statistics()
    }

    /// Which programs hang on the inner end of the cable.
    pub fn attached_inside(&self) -> anyhow::Result<Attached> {
        let link = self.inside.link()?;
        let (tcx_ingress, tcx_egress) = self.inside.run(|| {
            let index = interface_index(INSIDE_INTERFACE)?;
            Ok::<_, io::Error>((
                attached_programs(index, Hook::TcxIngress)?,
                attached_programs(index, Hook::TcxEgress)?,
            ))
        })??;
        Ok(Attached { xdp: xdp_mode(&link), tcx_ingress, tcx_egress })
    }

    /// The name of the namespace the agent is for, as `ip netns` lists it.
    pub fn inside_name(&self) -> &str {
        &self.inside.name
    }

    /// The name of the namespace on the other side, as `ip netns` lists it.
    pub fn outside_name(&self) -> &str {
        &self.outside.name
    }

    /// Removes the labs of processes that are gone, and returns the names of what it removed.
    pub fn sweep() -> Vec<String> {
        remove_labs(|owner| !Path::new("/proc").join(owner.to_string()).exists())
    }

    /// Removes the labs of this process, for the moment before it has to leave in a hurry.
    pub fn remove_own() -> Vec<String> {
        remove_labs(|owner| owner == std::process::id())
    }

    fn lay_cable(&self, options: LabOptions) -> anyhow::Result<()> {
        // Each family of settings has a copy per interface that is taken from `default` when the
        // interface is made, so they come before the cable.
        self.outside.run(quieten)??;
        self.inside.run(quieten)??;
        let (out_name, in_name) = (&self.outside.name, &self.inside.name);
        let queues = options.queues;
        process::feed(
            Command::new("ip").args(["-batch", "-"]),
            &format!(
                "link add {OUTSIDE_INTERFACE} netns {out_name} address {} numtxqueues {queues} numrxqueues {queues} \
                 type veth peer name {INSIDE_INTERFACE} netns {in_name} address {} numtxqueues {queues} numrxqueues {queues}\n",
                mac(OUTSIDE_MAC),
                mac(INSIDE_MAC),
            ),
        )?;
        self.outside.configure(&format!(
            "{}\
             route add 192.0.2.0/24 via {INSIDE}\n\
             route add 198.51.100.0/24 via {INSIDE}\n\
             route add 10.0.0.0/8 via {INSIDE}\n\
             route add 2001:db8::/32 via {INSIDE_V6}\n\
             route add blackhole default\n\
             route add blackhole ::/0\n",
            common_commands(OUTSIDE_INTERFACE, OUTSIDE, OUTSIDE_V6, INSIDE, INSIDE_V6, INSIDE_MAC),
        ))?;
        self.inside.configure(&format!(
            "{}\
             address add {GUARDED}/32 dev lo\n\
             address add {GUARDED_V6}/128 dev lo nodad\n\
             route add default via {OUTSIDE}\n\
             route add default via {OUTSIDE_V6}\n",
            common_commands(INSIDE_INTERFACE, INSIDE, INSIDE_V6, OUTSIDE, OUTSIDE_V6, OUTSIDE_MAC),
        ))?;
        // With a queue in front of it, a full ring of the cable makes the sender wait (kernel 6.16,
        // dc82a33297fc); without one the packet is lost.
        process::run(Command::new("tc").args(["-n", out_name]).args([
            "qdisc",
            "replace",
            "dev",
            OUTSIDE_INTERFACE,
            "root",
            "pfifo",
            "limit",
            "10000",
        ]))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A drop has nobody to tell; `Lab::sweep` finds what could not be removed.
        for namespace in [&self.inside, &self.outside] {
            let _swept_later = remove(&namespace.name);
        }
    }
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { queues: 1 }
    }
}

impl Namespace {
    fn add(name: String, interface: &'static str) -> anyhow::Result<Self> {
        process::output(Command::new("ip").args(["netns", "add", &name]))?;
        let path = Path::new(NAMESPACES).join(&name);
        match File::open(&path) {
            Ok(door) => Ok(Self { name, interface, door: Arc::new(door) }),
            Err(error) => {
                remove(&name)?;
                Err(error).with_context(|| format!("`{}` could not be opened", path.display()))
            }
        }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let door = Arc::clone(&self.door);
        let mut command = Command::new(program);
        let hook = move || enter(&door);
        // SAFETY: between fork and exec the hook only calls setns(2), which is a bare system call,
        // on a descriptor that the closure keeps open; it neither allocates nor locks.
        unsafe { command.pre_exec(hook) };
        command
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let outcome = std::thread::scope(|scope| {
            let thread = scope.spawn(|| enter(&self.door).map(|()| work()));
            thread.join()
        });
        match outcome {
            Ok(result) => result
                .with_context(|| format!("the namespace `{}` could not be entered", self.name)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn configure(&self, commands: &str) -> anyhow::Result<()> {
        process::feed(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), commands)
    }

    /// The interface as `ip` describes it.
    fn link(&self) -> anyhow::Result<Value> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-s", "-d", "-j", "link", "show", "dev", self.interface]);
        let text = process::output(&mut command)?;
        let links: Value = serde_json::from_str(&text)
            .with_context(|| format!("`{}` printed no JSON", process::line(&command)))?;
        links
            .get(0)
            .cloned()
            .with_context(|| format!("`{}` is not in `{}`", self.interface, self.name))
    }

    fn statistics(&self) -> anyhow::Result<Statistics> {
        statistics(&self.link()?)
            .with_context(|| format!("`ip` shows no statistics of `{}`", self.interface))
    }
}

/// Where `ip netns` keeps the names.
const NAMESPACES: &str = "/run/netns";

/// How the names of all labs begin.
const PREFIX: &str = "fnm-";

fn base_name(label: &str, owner: u32, number: u32) -> String {
    let label: String =
        label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{PREFIX}{label}-{owner}-{number}")
}

/// The process that made the namespace of this name, when it is one of ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.rsplit('-');
    let side = parts.next()?;
    let _number: u32 = parts.next()?.parse().ok()?;
    let owner = parts.next()?.parse().ok()?;
    (side == "in" || side == "out").then_some(owner)
}

fn remove_labs(doomed: impl Fn(u32) -> bool) -> Vec<String> {
    std::fs::read_dir(NAMESPACES)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(&doomed))
        .filter(|name| remove(name).is_ok())
        .collect()
}

/// Ends what still runs in the namespace and takes it away.
fn remove(name: &str) -> anyhow::Result<()> {
    let pids = process::output(Command::new("ip").args(["netns", "pids", name]))?;
    for pid in pids.lines().filter_map(|pid| pid.trim().parse().ok()) {
        if pid != std::process::id() {
            // It may have ended by itself meanwhile.
            let _gone = signal(pid, Signal::Kill);
        }
    }
    // The kernel takes interfaces apart at leisure; ours is gone at once, with its peer.
    for interface in [OUTSIDE_INTERFACE, INSIDE_INTERFACE] {
        let _gone =
            process::output(Command::new("ip").args(["-n", name, "link", "del", interface]));
    }
    process::output(Command::new("ip").args(["netns", "del", name]))?;
    Ok(())
}

/// Settings of the calling thread's namespace that keep the kernel from sending on its own.
fn quieten() -> anyhow::Result<()> {
    for (setting, value) in [
        ("ipv4/ip_forward", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv6/conf/all/accept_ra", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/dad_transmits", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        ("ipv6/conf/default/addr_gen_mode", "1"),
    ] {
        let path = Path::new("/proc/sys/net").join(setting);
        std::fs::write(&path, value)
            .with_context(|| format!("`{}` could not be set to {value}", path.display()))?;
    }
    Ok(())
}

/// Addresses and neighbours of one end; the neighbours are told, so that nobody has to ask.
fn common_commands(
    interface: &str,
    own: Ipv4Addr,
    own_v6: Ipv6Addr,
    peer: Ipv4Addr,
    peer_v6: Ipv6Addr,
    peer_mac: [u8; 6],
) -> String {
    let peer_mac = mac(peer_mac);
    // Without ARP the kernel joins no multicast group, so it reports none either.
    format!(
        "link set {interface} arp off addrgenmode none\n\
         link set lo up\n\
         link set {interface} up\n\
         address add {own}/24 dev {interface}\n\
         address add {own_v6}/64 dev {interface} nodad\n\
         neighbour replace {peer} lladdr {peer_mac} dev {interface} nud permanent\n\
         neighbour replace {peer_v6} lladdr {peer_mac} dev {interface} nud permanent\n"
    )
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

fn statistics(link: &Value) -> Option<Statistics> {
    let side = |name: &str| link.get("stats64")?.get(name);
    let number = |of: &Value, name: &str| of.get(name)?.as_u64();
    let (rx, tx) = (side("rx")?, side("tx")?);
    Some(Statistics {
        rx_packets: number(rx, "packets")?,
        rx_bytes: number(rx, "bytes")?,
        rx_dropped: number(rx, "dropped")?,
        tx_packets: number(tx, "packets")?,
        tx_bytes: number(tx, "bytes")?,
        tx_dropped: number(tx, "dropped")?,
    })
}

fn xdp_mode(link: &Value) -> Xdp {
    // The numbers are XDP_ATTACHED_* of linux/if_link.h.
    match link.get("xdp").and_then(|xdp| xdp.get("mode")).and_then(Value::as_u64) {
        None | Some(0) => Xdp::None,
        Some(1) => Xdp::Native,
        Some(2) => Xdp::Generic,
        Some(_) => Xdp::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_namespace_is_in_its_name() {
        assert_eq!(base_name("xdp drop/1", 123, 4), "fnm-xdp-drop-1-123-4");
        assert_eq!(owner("fnm-xdp-drop-1-123-4-out"), Some(123));
        assert_eq!(owner("fnm-demo-77-0-in"), Some(77));
        for name in ["fnm-demo-77-0", "demo-77-0-in", "fnm-x-in", "fnm-demo-77-0-up", ""] {
            assert_eq!(owner(name), None, "{name}");
        }
    }

    #[test]
    fn statistics_are_read_from_what_ip_prints() {
        let link = serde_json::json!({ "stats64": {
            "rx": { "bytes": 10, "packets": 1, "dropped": 2 },
            "tx": { "bytes": 30, "packets": 3, "dropped": 4 },
        }});
        let expected = Statistics {
            rx_packets: 1,
            rx_bytes: 10,
            rx_dropped: 2,
            tx_packets: 3,
            tx_bytes: 30,
            tx_dropped: 4,
        };
        assert_eq!(statistics(&link), Some(expected));
        assert_eq!(statistics(&serde_json::json!({})), None);
    }

    #[test]
    fn the_mode_of_a_program_is_read_from_what_ip_prints() {
        let mode = |mode: u64| xdp_mode(&serde_json::json!({ "xdp": { "mode": mode } }));
        assert_eq!(xdp_mode(&serde_json::json!({})), Xdp::None);
        assert_eq!((mode(1), mode(2), mode(4)), (Xdp::Native, Xdp::Generic, Xdp::Other));
    }
}
