//! The lab on a real kernel: what is sent arrives, and nothing stays behind.
//!
//! **Invariant**: needs root; without it these tests fail, they never skip.

#![expect(
    clippy::disallowed_methods,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "this whole file is tests, against a real clock and real programs"
)]

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use xtask::{
    lab::{GUARDED, GUARDED_V6, INSIDE, INSIDE_V6, Lab, LabOptions, Statistics, Xdp},
    process,
    traffic::{Frame, Pace, Pool},
};

fn pool() -> Pool {
    Pool::new((0..200_u8).flat_map(|host| {
        let stranger = Ipv4Addr::new(198, 18, 7, host);
        [
            Frame::udp(stranger, Ipv4Addr::new(192, 0, 2, host), 53, 4000).payload(18),
            Frame::tcp_syn(stranger, Ipv4Addr::new(198, 51, 100, host), 4000, 80),
            Frame::udp(
                Ipv6Addr::new(0x2400, 1, 0, 0, 0, 0, 0, u16::from(host)),
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(host)),
                53,
                4000,
            ),
        ]
    }))
}

fn outward_pool() -> Pool {
    Pool::new((0..200_u8).flat_map(|host| {
        let stranger = Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, u16::from(host));
        let guarded = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(host));
        [
            Frame::udp(Ipv4Addr::new(192, 0, 2, host), Ipv4Addr::new(198, 18, 7, host), 4000, 53)
                .payload(100)
                .outwards(),
            Frame::udp(guarded, stranger, 4000, 53).outwards(),
        ]
    }))
}

/// The statistics once they hold still, or after two seconds.
fn settled(read: impl Fn() -> Statistics, packets: u64) -> Statistics {
    let begun = Instant::now();
    loop {
        let now = read();
        if now.rx_packets >= packets || begun.elapsed() > Duration::from_secs(2) {
            return now;
        }
        thread::yield_now();
    }
}

#[track_caller]
fn check_all_arrive(options: LabOptions) {
    let lab = Lab::with("arrive", options).unwrap();
    let mut sender = lab.sender_outside().unwrap();
    assert_eq!(sender.send(&pool(), 100_000, Pace::Full).unwrap(), 100_000);
    let inside = settled(|| lab.statistics_inside().unwrap(), 100_000);
    assert_eq!((inside.rx_packets, inside.tx_packets), (100_000, 0));
    let outside = lab.statistics_outside().unwrap();
    assert_eq!((outside.tx_packets, outside.tx_dropped), (100_000, 0));
}

#[test]
fn every_frame_sent_inwards_arrives_and_nothing_answers() {
    check_all_arrive(LabOptions::default());
}

#[test]
fn every_frame_arrives_over_two_queues() {
    check_all_arrive(LabOptions { queues: 2 });
}

#[test]
fn every_frame_sent_outwards_arrives_and_nothing_answers() {
    let lab = Lab::new("outwards").unwrap();
    let mut sender = lab.sender_inside().unwrap();
    assert_eq!(sender.send(&outward_pool(), 100_000, Pace::Full).unwrap(), 100_000);
    let outside = settled(|| lab.statistics_outside().unwrap(), 100_000);
    assert_eq!((outside.rx_packets, outside.tx_packets), (100_000, 0));
    assert_eq!(lab.statistics_inside().unwrap().tx_dropped, 0);
    assert_eq!(sender.refused(), 0, "a refused frame passes the programs on its way twice");
}

#[test]
fn the_rate_is_kept() {
    let lab = Lab::new("rate").unwrap();
    let mut sender = lab.sender_outside().unwrap();
    let begun = Instant::now();
    sender.send(&pool(), 20_000, Pace::Pps(20_000)).unwrap();
    let took = begun.elapsed().as_millis();
    assert!((950..2500).contains(&took), "20,000 frames at 20,000 pps took {took} ms");
}

#[test]
fn sending_stops_when_it_is_told_to() {
    let lab = Lab::new("stop").unwrap();
    let mut sender = lab.sender_outside().unwrap();
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| sender.send_until(&pool(), Pace::Pps(10_000), &stop));
        settled(|| lab.statistics_inside().unwrap(), 1000);
        stop.store(true, Ordering::Relaxed);
        sending.join().unwrap().unwrap()
    });
    let inside = settled(|| lab.statistics_inside().unwrap(), sent);
    assert_eq!(inside.rx_packets, sent);
}

#[test]
fn the_inside_answers_pings_on_its_own_and_on_guarded_addresses() {
    let lab = Lab::new("ping").unwrap();
    for address in
        [INSIDE.to_string(), INSIDE_V6.to_string(), GUARDED.to_string(), GUARDED_V6.to_string()]
    {
        process::output(lab.command_outside("ping").args(["-c", "1", "-W", "2", &address]))
            .unwrap_or_else(|error| panic!("{address}: {error:#}"));
    }
    let inside = lab.statistics_inside().unwrap();
    assert_eq!((inside.rx_packets, inside.tx_packets), (4, 4), "only the pings and their answers");
}

#[test]
fn an_idle_lab_is_silent() {
    let lab = Lab::new("idle").unwrap();
    let begun = Instant::now();
    // The kernel repeats what it has to say within seconds; this is a time to wait out, no event.
    while begun.elapsed() < Duration::from_secs(3) {
        thread::park_timeout(Duration::from_millis(200));
    }
    assert_eq!(lab.statistics_inside().unwrap(), Statistics::default());
    assert_eq!(lab.statistics_outside().unwrap(), Statistics::default());
}

#[test]
fn nothing_hangs_on_a_new_interface() {
    let lab = Lab::new("attached").unwrap();
    let attached = lab.attached_inside().unwrap();
    assert_eq!((attached.xdp, attached.tcx_ingress, attached.tcx_egress), (Xdp::None, 0, 0));
}

#[test]
fn a_lab_takes_its_programs_with_it() {
    let lab = Lab::new("gone").unwrap();
    let names = [lab.inside_name().to_owned(), lab.outside_name().to_owned()];
    let mut child = lab.command_inside("sleep").arg("1000").spawn().unwrap();
    assert!(names.iter().all(|name| Path::new("/run/netns").join(name).exists()));
    drop(lab);
    assert!(!names.iter().any(|name| Path::new("/run/netns").join(name).exists()));
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_panic_leaves_no_lab_behind() {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let thread = thread::spawn(move || {
        let lab = Lab::new("panic").unwrap();
        sender.send(lab.inside_name().to_owned()).unwrap();
        panic!("on purpose");
    });
    let name = receiver.recv().unwrap();
    thread.join().unwrap_err();
    assert!(!Path::new("/run/netns").join(name).exists());
}

#[test]
fn the_lab_of_a_process_that_is_gone_is_swept_and_others_stay() {
    let lab = Lab::new("stays").unwrap();
    // Beyond the highest pid the kernel gives away.
    let stale = "fnm-stale-4194999-0-in";
    process::output(std::process::Command::new("ip").args(["netns", "add", stale])).unwrap();
    assert!(Lab::sweep().contains(&stale.to_owned()));
    assert!(!Path::new("/run/netns").join(stale).exists());
    assert!(Path::new("/run/netns").join(lab.inside_name()).exists());
}
