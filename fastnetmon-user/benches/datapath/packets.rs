//! What a packet costs in the kernel: the whole program beside an empty one.
//!
//! The ratio is that of `datapath.md`: the whole path on a random destination, times
//! an empty `XDP_PASS` program, what the harness takes included in both.
//!
//! **Invariant**: programs are run in turns on one CPU; a figure is the median of its rounds, and
//! the first round is for the caches.

use std::collections::BTreeMap;

use fastnetmon_user::model::Signature;

use crate::Effort;
use crate::machine::{median, on_cpu, quiet_cpu};
use crate::programs::{Layout, Programs, XDP_DROP, XDP_PASS, frame4, frame6};
use crate::report::{Must, Report, Row};

/// One layout and what is run on it.
struct Scene {
    layout: Layout,
    frame: Vec<u8>,
    names: &'static [&'static str],
    repeat: u32,
    /// Every host is banned, and this of its traffic dropped.
    banned: Option<Signature>,
}

/// Nanoseconds by layout and program, one for each round.
type Rounds = BTreeMap<(&'static str, &'static str), Vec<f64>>;

/// Measures all rows of the kernel's side.
pub(crate) fn measure(object: &[u8], effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    Report::chapter("a packet, in the kernel (random destination; × an empty XDP_PASS program)");
    let scenes = scenes(effort)?;
    let rounds = on_cpu(quiet_cpu(), || run(object, &scenes, effort))?;
    let taken = |layout, name| rounds.get(&(layout, name)).cloned().unwrap_or_default();
    let of = |layout, name| median(taken(layout, name));

    for (what, layout, whole, vary, most) in [
        ("IPv4/UDP, 1 k hosts in 1 network", SMALL, "whole4", "only_vary4", 1.6),
        ("IPv4/UDP, 65 k hosts in 128 networks", MIDDLE, "whole4", "only_vary4", 1.9),
        ("IPv4/UDP, 1 M hosts, all hot", LARGE, "whole4", "only_vary4", 7.0),
        ("IPv6/UDP, 65 k known hosts, each in a /64 of its own", SIX, "whole6", "only_vary6", 3.0),
    ] {
        let (empty, whole, vary) = (of(layout, "empty"), of(layout, whole), of(layout, vary));
        report.add(Row {
            what: format!("whole program, {what}"),
            value: whole / empty,
            unit: "×",
            must: Must::AtMost(most),
            detail: format!(
                "{whole:.1} ns, of which {empty:.1} the empty program and {:.1} the varying",
                vary - empty
            ),
        });
    }
    for (what, layout, whole, floor) in [
        ("IPv4, 1 k hosts: one line a packet", SMALL, "whole4", "floor4"),
        ("IPv4, 65 k hosts: one line a packet", MIDDLE, "whole4", "floor4"),
        ("IPv4, 1 M hosts: one line a packet", LARGE, "whole4", "floor4"),
        ("IPv6, 65 k hosts: a bucket, then a line", SIX, "whole6", "floor6"),
    ] {
        let (empty, whole_nanos, floor_nanos) =
            (of(layout, "empty"), of(layout, whole), of(layout, floor));
        // Round by round: what neighbours take of the caches differs more from one to the next.
        let pairs = taken(layout, whole).into_iter().zip(taken(layout, floor));
        report.add(Row {
            what: format!("whole program ÷ its memory alone, {what}"),
            value: median(pairs.map(|(whole, floor)| whole / floor).collect()),
            unit: "×",
            must: Must::Inform,
            detail: format!(
                "{whole_nanos:.1} ns against {floor_nanos:.1} ns, which is {:.2} × empty",
                floor_nanos / empty
            ),
        });
    }
    for (layout, hosts, must) in
        [(SMALL, "1 k", Must::AtMost(1.0)), (MIDDLE, "65 k", Must::AtMost(1.0))]
    {
        let (whole, ungated) = (of(layout, "whole4"), of(layout, "ungated4"));
        // Round by round: a nanosecond is less than what one round differs from the next.
        let pairs = taken(layout, "whole4").into_iter().zip(taken(layout, "ungated4"));
        let gate = median(pairs.map(|(whole, ungated)| whole - ungated).collect());
        report.add(Row {
            what: format!("gate, nobody banned, {hosts} hosts"),
            value: gate,
            unit: "ns",
            must,
            detail: format!("{whole:.1} ns with it, {ungated:.1} without"),
        });
    }
    for (layout, what) in [
        (DROPPED, "dropped: protocol and source port, deadline"),
        (SPARED, "of a banned host, not what is dropped"),
    ] {
        let (empty, whole, vary) =
            (of(layout, "empty"), of(layout, "whole4"), of(layout, "only_vary4"));
        let quiet = of(SMALL, "whole4");
        report.add(Row {
            what: format!("a packet {what}, 1 k hosts"),
            value: whole / empty,
            unit: "×",
            must: Must::Inform,
            detail: format!(
                "{whole:.1} ns, of which {empty:.1} the empty program and {:.1} the varying; \
                 {quiet:.1} when nobody is banned",
                vary - empty
            ),
        });
    }
    for (layout, hosts) in [(SMALL, "1 k"), (MIDDLE, "65 k")] {
        let (empty, whole, usual) =
            (of(layout, "empty"), of(layout, "whole4"), of(layout, "usual4"));
        report.add(Row {
            what: format!("usual design ÷ ours, above empty, {hosts} hosts"),
            value: (usual - empty) / (whole - empty),
            unit: "×",
            must: Must::AtLeast(2.5),
            detail: format!(
                "LPM trie ×2, per-CPU hash, ktime: {usual:.1} ns, {:.1} × empty",
                usual / empty
            ),
        });
    }
    Ok(())
}

/// Packets that bring 65 k hosts into the caches; 1 M hosts do not fit.
const WARM: u32 = 400_000;

const SMALL: &str = "1k";
const MIDDLE: &str = "65k";
const LARGE: &str = "1M";
const SIX: &str = "65k, IPv6";
const DROPPED: &str = "1k, dropped";
const SPARED: &str = "1k, spared";

/// UDP from this port; the frame's is 53.
fn from_port(port: u16) -> Signature {
    Signature { protocol: Some(17), source_port: Some(port), ..Signature::default() }
}

fn scenes(effort: Effort) -> anyhow::Result<Vec<Scene>> {
    const WITH_USUAL: &[&str] = &["empty", "only_vary4", "floor4", "whole4", "ungated4", "usual4"];
    const BANNED: &[&str] = &["empty", "only_vary4", "whole4"];
    let repeat = effort.of(1_000_000, 200_000);
    let four = |layout, names| Scene { layout, frame: frame4(), names, repeat, banned: None };
    Ok(vec![
        four(Layout::v4(SMALL, 1, 22), WITH_USUAL),
        four(Layout::v4(MIDDLE, 128, 23), WITH_USUAL),
        four(Layout::v4(LARGE, 16, 16), &["empty", "only_vary4", "floor4", "whole4"]),
        Scene {
            layout: Layout::v6(SIX, 65_536),
            frame: frame6()?,
            names: &["empty", "only_vary6", "floor6", "whole6"],
            repeat,
            banned: None,
        },
        Scene { banned: Some(from_port(53)), ..four(Layout::v4(DROPPED, 1, 22), BANNED) },
        Scene { banned: Some(from_port(54)), ..four(Layout::v4(SPARED, 1, 22), BANNED) },
    ])
}

fn run(object: &[u8], scenes: &[Scene], effort: Effort) -> anyhow::Result<Rounds> {
    let mut loaded = Vec::new();
    for scene in scenes {
        let mut programs = Programs::load(object, &scene.layout)?;
        if scene.names.contains(&"usual4") {
            programs.fill_usual(&scene.layout)?;
        }
        if let Some(signature) = &scene.banned {
            programs.drop_all(&scene.layout, signature)?;
        }
        loaded.push((scene, programs));
    }
    let rounds = effort.of(21, 3);
    let mut taken = Rounds::new();
    for round in 0..=rounds {
        for (scene, programs) in &mut loaded {
            for name in scene.names {
                // The tables of the layout before are in the caches, and ours are not.
                let drops = scene.layout.name == DROPPED && *name == "whole4";
                let verdict = if drops { XDP_DROP } else { XDP_PASS };
                programs.run(name, &scene.frame, WARM, verdict)?;
                let nanos = programs.run(name, &scene.frame, scene.repeat, verdict)?;
                if round > 0 {
                    taken.entry((scene.layout.name, name)).or_default().push(nanos);
                }
            }
        }
    }
    Ok(taken)
}
