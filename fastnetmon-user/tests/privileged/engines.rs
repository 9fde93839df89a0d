//! The same story under every engine: the ban, a hundred packets, the end, and the hook each time.
//!
//! A new engine is a line in [`Engine`] and one test here.

use std::net::Ipv4Addr;

use fastnetmon_user::capture::{NflogSettings, nflog_rules};
use fastnetmon_user::control::Way;
use xtask::lab::{INSIDE_INTERFACE, Lab};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Agent, Setup};
use crate::crowd::VICTIM;

/// What a test needs to know of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    /// Its name in the configuration and in `status`.
    pub(crate) name: &'static str,
    /// What the lab needs before the agent starts.
    pub(crate) prepare: fn(&Lab),
}

pub(crate) const XDP: Engine = Engine { name: "xdp", prepare: nothing };
pub(crate) const XDP_GENERIC: Engine = Engine { name: "xdp_generic", prepare: nothing };
pub(crate) const AF_PACKET: Engine = Engine { name: "af_packet", prepare: nothing };
#[cfg(feature = "pcap")]
pub(crate) const PCAP: Engine = Engine { name: "pcap", prepare: nothing };
pub(crate) const NFLOG: Engine = Engine { name: "nflog", prepare: add_rules };

const fn nothing(_: &Lab) {}

/// The rules that the agent prints, as an operator would copy them.
pub(crate) fn add_rules(lab: &Lab) {
    let rules = nflog_rules(&NflogSettings::default(), &[INSIDE_INTERFACE.to_owned()]);
    let (nft, _iptables) = rules.split_once("or, with").unwrap();
    shell(lab, nft);
}

/// Runs these lines in the inner namespace.
#[track_caller]
pub(crate) fn shell(lab: &Lab, lines: &str) {
    let output = lab.command_inside("sh").args(["-ec", lines]).output().unwrap();
    assert!(output.status.success(), "{lines}: {output:?}");
}

/// What a flood is made of: each of 250 hosts of the world and the victim, from or to its port 53.
pub(crate) fn flood(way: Way) -> Pool {
    Pool::new((1..=250_u8).map(|last| {
        let world = Ipv4Addr::new(203, 0, 113, last);
        match way {
            Way::Incoming => Frame::udp(world, VICTIM, 40_000, 53).payload(18),
            Way::Outgoing => Frame::udp(VICTIM, world, 53, 40_000).payload(18).outwards(),
        }
    }))
}

/// How often a flood may have been banned by the time it is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Attacks {
    One,
    /// A sender that is starved pauses, and makes a second attack of it, which may go on.
    OneAndMore,
}

/// The recorder was told of the flood: the ban, a hundred packets, the end.
#[track_caller]
pub(crate) fn is_banned_told_and_let_go(agent: &Agent, way: Way, attacks: Attacks) {
    const STORY: [&str; 3] = ["ban", "attack_details", "unban"];
    let text = agent.folder.wait_for("calls", |text| text.contains(" unban\n"));
    let calls: Vec<Vec<&str>> =
        text.split("end\n").filter(|call| !call.is_empty()).map(|c| c.lines().collect()).collect();
    if attacks == Attacks::One {
        assert_eq!(calls.len(), 3, "{text}");
    }
    let story = STORY.map(|what| format!("call 192.0.2.77 {} {what}", way.name()));
    for (number, attack) in calls.chunks(3).enumerate() {
        let heads: Vec<&str> = attack.iter().map(|call| call[0]).collect();
        let told = if number == 0 { 3 } else { attack.len() };
        assert_eq!(heads, story[..told], "attack {number}: {text}");
        let lengths: Vec<usize> = attack.iter().map(Vec::len).collect();
        // A second one may be over before a hundred packets came.
        let packets = lengths.get(1).copied().filter(|_| number > 0).unwrap_or(101);
        assert!((2..=101).contains(&packets), "attack {number}: {text}");
        assert_eq!(lengths, [1, packets, 1][..told], "attack {number}: {text}");
        for line in attack.get(1).into_iter().flat_map(|call| &call[1..]) {
            let (start, end) = match way {
                Way::Incoming => {
                    ("203.0.113.", ":40000 > 192.0.2.77:53 protocol: udp size: 46 bytes")
                }
                Way::Outgoing => {
                    ("192.0.2.77:53 > 203.0.113.", ":40000 protocol: udp size: 46 bytes")
                }
            };
            assert!(line.starts_with(start) && line.ends_with(end), "{line}");
        }
    }
}

/// Far above the threshold for some seconds, and no more than a busy machine can.
const SENT: u64 = 60_000;

pub(crate) const RECORDER: &str = "{ echo \"call $1 $2 $4\"; cat; echo end; } > HERE/$$.tmp; \
                        cat HERE/$$.tmp >> HERE/calls";

#[track_caller]
fn the_story_is_the_same(engine: Engine) {
    let lab = Lab::new(&format!("story{}", engine.name.replace('_', ""))).unwrap();
    (engine.prepare)(&lab);
    let capture = format!("engine = \"{}\"", engine.name);
    let rest = "[thresholds]\npps = 5000\n[ban]\ntime_secs = 2\n";
    let setup = Setup { hook: RECORDER, rest, capture: &capture, ..Setup::default() };
    let agent = Agent::start(&lab, &setup);
    let status = agent.status();
    assert_eq!(status.engine, engine.name);
    assert_eq!(status.engine_reason, "it is named in the configuration");

    let mut sender = lab.sender_outside().unwrap();
    sender.send(&flood(Way::Incoming), SENT, Pace::Pps(20_000)).unwrap();
    is_banned_told_and_let_go(&agent, Way::Incoming, Attacks::One);
    // And not a packet was missed on the way.
    let status = agent.settled(SENT);
    assert_eq!((status.packets.received, status.packets.dropped), (SENT, 0));
    assert_eq!(status.totals.incoming.bytes, SENT * 46);
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
}

#[test]
fn a_flood_is_banned_told_and_let_go_under_xdp() {
    the_story_is_the_same(XDP);
}

#[test]
fn a_flood_is_banned_told_and_let_go_under_generic_xdp() {
    the_story_is_the_same(XDP_GENERIC);
}

#[test]
fn a_flood_is_banned_told_and_let_go_under_packet_sockets() {
    the_story_is_the_same(AF_PACKET);
}

#[test]
#[cfg(feature = "pcap")]
fn a_flood_is_banned_told_and_let_go_under_libpcap() {
    the_story_is_the_same(PCAP);
}

#[test]
fn a_flood_is_banned_told_and_let_go_under_nflog() {
    the_story_is_the_same(NFLOG);
}

#[test]
#[cfg(not(feature = "pcap"))]
fn without_libpcap_the_engine_is_refused_with_the_way_out() {
    let lab = Lab::new("nopcap").unwrap();
    let folder = crate::agent::Folder::new();
    let setup = Setup { capture: "engine = \"pcap\"", ..Setup::default() };
    let config = crate::agent::configure(&folder, &setup);
    let output = crate::agent::command(&lab, &config, INSIDE_INTERFACE).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let expected = "engine `pcap`: this agent was built without libpcap (the feature `pcap`), as static \
                    ones are: use `engine = \"af_packet\"`, or the package that is not static";
    assert!(text.contains(expected), "{text}");
}
