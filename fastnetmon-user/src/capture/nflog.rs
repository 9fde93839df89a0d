//! NFLOG: packets that rules of the firewall log to a group, by netlink.
//!
//! What is seen is what the rules select; [`nflog_rules`] prints the ones that are meant. Each packet
//! carries a number, so what the socket had no room for is known to the packet as soon as the next one
//! comes; until then, that there was no room (`ENOBUFS`) counts as one.
//!
//! **Invariant**: a packet that the group logged is handed over once or told as lost.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
    sockopt,
};

use crate::capture::engine_settings::NflogSettings;
use crate::capture::nflog_message::{Logged, Message, Request, walk};
use crate::capture::trouble::Trouble;
use crate::capture::waiting::{broken, wait};
use crate::capture::{CaptureError, Engine, Intake, Polled, Way};
use crate::kernel::Role;
use crate::model::{Moment, Sides};

/// A socket that a group is bound to.
#[derive(Debug)]
pub struct NflogEngine {
    settings: NflogSettings,
    role: Role,
    now: fn() -> Moment,
    /// `None` while it is broken.
    socket: Option<OwnedFd>,
    trouble: Option<Trouble>,
    buffer: Vec<u8>,
    /// What came before the answer to our request did.
    early: Vec<Vec<u8>>,
    numbers: Numbers,
    /// When something was heard the last time.
    heard: Moment,
    silent: bool,
    /// The rules that would make it heard.
    rules: String,
}

/// The numbers of the packets, and what their gaps tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Numbers {
    next: u32,
    /// Told as lost before it was known how many there were.
    ahead: u64,
}

impl Numbers {
    /// The socket had no room: for one at least.
    const fn overrun(&mut self) -> u64 {
        self.ahead += 1;
        1
    }

    /// A packet came. How many more did not than were told.
    fn take(&mut self, number: u32) -> u64 {
        let gap = number.wrapping_sub(self.next);
        if gap > u32::MAX / 2 {
            // It is an old one.
            return 0;
        }
        self.next = number.wrapping_add(1);
        let told = self.ahead.min(gap.into());
        self.ahead -= told;
        u64::from(gap) - told
    }
}

impl NflogEngine {
    /// Binds the group. The interfaces are for the rules that are shown when nothing comes.
    ///
    /// # Errors
    /// When the group cannot be had.
    pub fn open(
        settings: &NflogSettings,
        role: Role,
        interfaces: &[String],
        now: fn() -> Moment,
    ) -> Result<Self, CaptureError> {
        let mut engine = Self {
            settings: settings.clone(),
            role,
            now,
            socket: None,
            trouble: None,
            buffer: vec![0; READ_BYTES],
            early: Vec::new(),
            numbers: Numbers::default(),
            heard: now(),
            silent: false,
            rules: nflog_rules(settings, interfaces),
        };
        engine.socket = Some(engine.bind().map_err(|reason| engine.refused(reason))?);
        Ok(engine)
    }

    /// Opens a socket and waits for the kernel's word that the group is ours.
    fn bind(&mut self) -> Result<OwnedFd, String> {
        let NflogSettings { group, copy_bytes, threshold, buffer_mb, .. } = self.settings;
        let text = |error: Errno| io::Error::from(error).to_string();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::NETFILTER);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map_err(|error| format!("a netlink socket: {}", text(error)))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0)).map_err(text)?;
        let megabytes = usize::try_from(buffer_mb.number()).unwrap_or(usize::MAX);
        let bytes = megabytes.saturating_mul(1 << 20);
        // Beyond the system's limit only with CAP_NET_ADMIN, which binding a group needs as well.
        if sockopt::set_socket_recv_buffer_size_force(&socket, bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, bytes).map_err(text)?;
        }
        let (copy_bytes, threshold) = (copy_bytes.number(), threshold.number());
        let request = Request { group, copy_bytes, threshold };
        send(&socket, &request.bytes(REQUEST), SendFlags::empty()).map_err(text)?;
        self.numbers = Numbers::default();
        match self.answer(&socket)? {
            0 => Ok(socket),
            errno => {
                let remedy = match errno {
                    // So it says as well when another program has the group.
                    libc::EPERM | libc::EBUSY => {
                        "; another program may have it: choose another `group`, or CAP_NET_ADMIN is \
                         missing"
                    }
                    libc::EINVAL | libc::EOPNOTSUPP => {
                        "; is the module `nfnetlink_log` there? `modprobe nfnetlink_log`"
                    }
                    _ => "",
                };
                Err(format!("{}{remedy}", io::Error::from_raw_os_error(errno)))
            }
        }
    }

    /// The kernel's answer. Packets that come before it are kept.
    fn answer(&mut self, socket: &OwnedFd) -> Result<i32, String> {
        for _ in 0..EARLY {
            wait(&mut [readable(socket)], ANSWER).map_err(|error| error.to_string())?;
            let received = match recv(socket, &mut *self.buffer, RecvFlags::empty()) {
                Ok((_, length)) => self.buffer.get(..length).unwrap_or_default(),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(io::Error::from(error).to_string()),
            };
            let mut answer = None;
            walk(received, |message| {
                if let Message::Answer(REQUEST, errno) = message {
                    answer = Some(errno);
                }
            });
            if let Some(errno) = answer {
                return Ok(errno);
            }
            self.early.push(received.to_vec());
        }
        Err("the kernel does not answer".to_owned())
    }

    fn refused(&self, reason: String) -> CaptureError {
        let reason = format!("group {} cannot be had: {reason}", self.settings.group);
        CaptureError::Broken { engine: Self::NAME, reason }
    }

    /// Reads what there is, within bounds, so that the stop flag is looked at.
    fn drain(&mut self, intake: &mut impl Intake) -> Polled {
        let now = (self.now)();
        let mut polled = Polled::default();
        for received in std::mem::take(&mut self.early) {
            polled += self.show(now, &received, intake);
        }
        for _ in 0..READS {
            let Some(socket) = &self.socket else { break };
            match recv(socket, &mut *self.buffer, RecvFlags::empty()) {
                Ok((_, length)) => {
                    let buffer = std::mem::take(&mut self.buffer);
                    let received = buffer.get(..length).unwrap_or_default();
                    polled += self.show(now, received, intake);
                    self.buffer = buffer;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::NOBUFS) => polled.lost += self.numbers.overrun(),
                Err(error) => {
                    let reason = io::Error::from(error).to_string();
                    self.trouble = Some(Trouble::new(now, reason));
                    self.socket = None;
                }
            }
        }
        if polled.taken > 0 {
            self.heard = now;
        }
        polled
    }

    fn show(&mut self, now: Moment, received: &[u8], intake: &mut impl Intake) -> Polled {
        let mut polled = Polled::default();
        walk(received, |message| match message {
            Message::Packet(packet) => {
                if let Some(number) = packet.number {
                    polled.lost += self.numbers.take(number);
                }
                intake.frame(now, sides(&self.settings, self.role, &packet), &packet.frame);
                polled.taken += 1;
            }
            // It has a number of its own, which the next one's gap tells.
            Message::Unreadable | Message::Answer(..) => {}
        });
        polled
    }

    /// Tries again, now and then.
    fn tend(&mut self) {
        let now = (self.now)();
        let quiet = self.settings.quiet_secs.number();
        self.silent = quiet != 0 && now.since(self.heard) >= Duration::from_secs(quiet.into());
        if self.trouble.as_ref().is_none_or(|trouble| !trouble.is_due(now)) {
            return;
        }
        match self.bind() {
            Ok(socket) => {
                self.socket = Some(socket);
                self.trouble = None;
            }
            Err(reason) => {
                self.trouble = Some(Trouble::after(self.trouble.as_ref(), now, reason));
            }
        }
    }
}

impl Engine for NflogEngine {
    const NAME: &'static str = "nflog";

    fn poll(
        &mut self,
        patience: Duration,
        intake: &mut impl Intake,
    ) -> Result<Polled, CaptureError> {
        let mut polled = self.drain(intake);
        if polled.taken == 0 {
            // Without a socket there is nothing to wait for but the time.
            let mut waiting = self.socket.as_ref().map(readable);
            wait(waiting.as_mut_slice(), patience).map_err(broken(Self::NAME))?;
            polled += self.drain(intake);
        }
        self.tend();
        Ok(polled)
    }

    fn trouble(&self) -> Option<CaptureError> {
        if let Some(trouble) = &self.trouble {
            return Some(self.refused(trouble.reason.clone()));
        }
        let NflogSettings { group, quiet_secs, .. } = self.settings;
        self.silent.then(|| CaptureError::Silent {
            engine: Self::NAME,
            what: format!("group {group}"),
            secs: quiet_secs.number().into(),
            remedy: format!("are its rules there?\n{}", self.rules.trim_end()),
        })
    }
}

/// The end that is counted: as the rule's prefix says, else as the devices do. What is forwarded and
/// logged once is counted for both ends, as on a mirror port.
fn sides(settings: &NflogSettings, role: Role, packet: &Logged<'_>) -> Sides {
    let named = |prefix: &str| !prefix.is_empty() && packet.prefix.starts_with(prefix.as_bytes());
    match role {
        Role::Mirror => Sides::Both,
        Role::Uplink if named(&settings.prefix_in) => Sides::Destination,
        Role::Uplink if named(&settings.prefix_out) => Sides::Source,
        Role::Uplink => packet.way.map_or(Sides::Both, Way::sides),
    }
}

/// The rules that show packets of these interfaces to the group: for nftables, and the same for
/// iptables. Without interfaces, a place to write one is left.
pub fn nflog_rules(settings: &NflogSettings, interfaces: &[String]) -> String {
    let NflogSettings { group, copy_bytes, threshold, prefix_in, prefix_out, .. } = settings;
    let (copy_bytes, threshold) = (copy_bytes.number(), threshold.number());
    let unnamed = ["INTERFACE".to_owned()];
    let interfaces = if interfaces.is_empty() { unnamed.as_slice() } else { interfaces };
    let quoted = interfaces.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let (mut nft, mut iptables) = (String::new(), String::new());
    // Before fragments are put together (-400), and after all that changes what leaves.
    for (chain, hook, priority, key, prefix) in [
        ("arrives", "prerouting", "-500", "iifname", prefix_in),
        ("leaves", "postrouting", "500", "oifname", prefix_out),
    ] {
        let prefix =
            if prefix.is_empty() { String::new() } else { format!("prefix \"{prefix}\" ") };
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            nft,
            "nft add chain inet fastnetmon {chain} '{{ type filter hook {hook} priority {priority}; }}'\n\
             nft add rule inet fastnetmon {chain} {key} '{{ {quoted} }}' log {prefix}group {group} \
             snaplen {copy_bytes} queue-threshold {threshold}"
        );
    }
    for program in ["iptables", "ip6tables"] {
        for interface in interfaces {
            for (table, chain, key, prefix) in [
                ("raw", "PREROUTING", "-i", prefix_in),
                ("mangle", "POSTROUTING", "-o", prefix_out),
            ] {
                let prefix = if prefix.is_empty() {
                    String::new()
                } else {
                    format!(" --nflog-prefix \"{prefix}\"")
                };
                let _infallible = writeln!(
                    iptables,
                    "{program} -t {table} -A {chain} {key} {interface} -j NFLOG --nflog-group {group} \
                     --nflog-size {copy_bytes} --nflog-threshold {threshold}{prefix}"
                );
            }
        }
    }
    format!("nft add table inet fastnetmon\n{nft}or, with iptables:\n{iptables}")
}

fn readable(socket: &OwnedFd) -> PollFd<'_> {
    PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)
}

/// The largest message the kernel makes, and some more.
const READ_BYTES: usize = 192 * 1024;
/// Messages read before the stop flag is looked at.
const READS: usize = 64;
/// Number of our one request.
const REQUEST: u32 = 1;
/// How long the kernel may take to answer it, and how many reads may come before.
const ANSWER: Duration = Duration::from_secs(1);
const EARLY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Frame, Starts};

    #[test]
    fn gaps_are_told_once_however_the_loss_was_noticed() {
        let mut numbers = Numbers::default();
        assert_eq!([0, 1, 2].map(|number| numbers.take(number)), [0, 0, 0]);
        // Noticed by the gap alone.
        assert_eq!(numbers.take(7), 4);
        // Noticed by the system first, which knows of one.
        assert_eq!(numbers.overrun(), 1);
        assert_eq!(numbers.take(18), 9);
        assert_eq!([numbers.overrun(), numbers.overrun()], [1, 1]);
        assert_eq!([numbers.take(20), numbers.take(22)], [0, 0]);
        // An old one tells nothing, and the numbers go round.
        assert_eq!(numbers.take(3), 0);
        numbers.next = u32::MAX;
        assert_eq!([numbers.take(u32::MAX), numbers.take(1)], [0, 1]);
    }

    #[track_caller]
    fn check(role: Role, prefix: &[u8], way: Option<Way>, expected: Sides) {
        let settings = NflogSettings {
            prefix_in: "from-world".to_owned(),
            prefix_out: "to-world".to_owned(),
            ..NflogSettings::default()
        };
        let frame = Frame { bytes: &[], starts: Starts::Ip, wire_bytes: None, piece: 0 };
        let packet = Logged { frame, way, prefix, number: None };
        assert_eq!(sides(&settings, role, &packet), expected);
    }

    #[test]
    fn the_prefix_goes_before_the_devices_and_a_mirror_has_no_sides() {
        let (arrives, leaves) = (Some(Way::Arrives), Some(Way::Leaves));
        check(Role::Uplink, b"", arrives, Sides::Destination);
        check(Role::Uplink, b"", leaves, Sides::Source);
        check(Role::Uplink, b"", None, Sides::Both);
        check(Role::Uplink, b"from-world 1", leaves, Sides::Destination);
        check(Role::Uplink, b"to-world", None, Sides::Source);
        check(Role::Uplink, b"from", leaves, Sides::Source);
        check(Role::Mirror, b"to-world", arrives, Sides::Both);
    }

    #[test]
    fn the_rules_name_group_sizes_prefixes_and_interfaces() {
        let settings = NflogSettings { prefix_in: "in".to_owned(), ..NflogSettings::default() };
        assert_eq!(
            nflog_rules(&settings, &["eth0".to_owned(), "eth1".to_owned()])
                .lines()
                .take(5)
                .collect::<Vec<_>>(),
            [
                "nft add table inet fastnetmon",
                "nft add chain inet fastnetmon arrives '{ type filter hook prerouting priority -500; }'",
                "nft add rule inet fastnetmon arrives iifname '{ \"eth0\", \"eth1\" }' log prefix \"in\" \
                 group 1 snaplen 128 queue-threshold 64",
                "nft add chain inet fastnetmon leaves '{ type filter hook postrouting priority 500; }'",
                "nft add rule inet fastnetmon leaves oifname '{ \"eth0\", \"eth1\" }' log group 1 \
                 snaplen 128 queue-threshold 64",
            ]
        );
        let rules = nflog_rules(&NflogSettings::default(), &[]);
        let last = "ip6tables -t mangle -A POSTROUTING -o INTERFACE -j NFLOG --nflog-group 1 \
                    --nflog-size 128 --nflog-threshold 64";
        assert_eq!(rules.lines().last(), Some(last));
    }

    #[test]
    fn the_documentation_shows_these_rules() {
        let page = include_str!("../../../docs/operations.md");
        for line in nflog_rules(&NflogSettings::default(), &["eth0".to_owned()]).lines() {
            let is_rule = !line.starts_with("or, ") && !line.starts_with("ip6tables");
            assert!(!is_rule || page.contains(line), "{line}");
        }
    }
}
