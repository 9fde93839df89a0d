//! Whence packets come, told by an agent that counts real ones.

use std::fs;
use std::net::Ipv4Addr;

use serde_json::Value;
use xtask::lab::Lab;
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Folder, wait};
use crate::mmdb::{Make, country, geolite, ipinfo};
use crate::web::House;

/// A guarded host that is not there: unlike the lab's own address it answers nothing, so that not
/// one packet leaves.
const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// Three quarters of the flood from one network, a quarter from another.
fn flood(lab: &Lab, packets: u64) {
    let from =
        |last: u8, other: u8| Frame::udp([203, 0, other, last], VICTIM, 40_000, 4444).payload(18);
    let flood = Pool::new([from(1, 113), from(2, 113), from(3, 113), from(4, 114)]);
    lab.sender_outside().unwrap().send(&flood, packets, Pace::Pps(60_000)).unwrap();
}

fn first(list: &Value) -> (u64, &str) {
    (list[0]["asn"].as_u64().unwrap_or(u64::MAX), list[0]["name"].as_str().unwrap_or_default())
}

#[test]
fn an_attack_has_systems_and_countries_and_a_changed_database_is_read() {
    let folder = Folder::new();
    let write = |name: &str, bytes: &[u8]| {
        // As `geoipupdate` does it: written aside and renamed.
        fs::write(folder.path("aside"), bytes).unwrap();
        fs::rename(folder.path("aside"), folder.path(name)).unwrap();
    };
    let (asn, place) = (folder.path("asn.mmdb"), folder.path("country.mmdb"));
    let (asn, place, log) = (asn.display(), place.display(), folder.path("attacks"));
    let systems = |name: &str| Make::default().file(&[("203.0.113.0/24", geolite(64_500, name))]);
    write("asn.mmdb", &systems("Example Net"));
    let rest = format!(
        "[origins]\ndatabases = [\"{asn}\", \"{place}\"]\n[attack_log]\nfolder = \"{}\"\n",
        log.display()
    );
    // No multiple of the number of frames: each of them is sampled.
    let house = House::new_with("origins", "sparse_every = 17", &rest);
    let client = house.client();
    flood(&house.lab, 120_000);
    let bans = wait("the ban and whence it comes", || {
        let bans = client.get("/api/v1/bans").json();
        Some(bans).filter(|bans| !bans[0]["remotes"].is_null())
    });
    let remotes = &bans[0]["remotes"];
    assert_eq!(first(&remotes["systems"]), (64_500, "Example Net"), "{remotes}");
    let share = remotes["systems"][0]["packets"].as_u64().unwrap();
    assert!((65..=85).contains(&share), "of a hundred packets: {remotes}");
    assert_eq!(remotes["packets"], 100, "{remotes}");
    assert!(remotes["text"].as_str().unwrap().starts_with("AS64500 Example Net "), "{remotes}");
    let host = client.get(&format!("/api/v1/hosts/{VICTIM}")).json();
    assert_eq!(host["remotes"], *remotes);

    // The whole, from samples: 45,000 of 60,000 packets a second.
    let origins = wait("samples", || {
        let origins = client.get("/api/v1/origins").json();
        Some(origins).filter(|all| all["incoming"]["samples"].as_u64() >= Some(2000))
    });
    assert_eq!(first(&origins["incoming"]["systems"]), (64_500, "Example Net"), "{origins}");
    assert_eq!(origins["databases"][0]["kind"], "Test", "{origins}");
    assert_eq!(origins["sample_every"], 17);
    let samples = origins["incoming"]["samples"].as_u64().unwrap();
    let of_first = origins["incoming"]["systems"][0]["samples"].as_u64().unwrap();
    assert!((70..=80).contains(&(of_first * 100 / samples)), "{origins}");
    assert!(samples <= 120_000 / 17 + 16, "packets for the dump are no samples: {origins}");
    assert_eq!(origins["outgoing"]["samples"], 0, "{origins}");

    // The event, as scripts and webhooks are given it.
    let event: Value = wait("the event with its packets", || {
        let mut files = fs::read_dir(&log).ok()?.map(|file| file.unwrap().path());
        let json = files.find(|path| path.extension().is_some_and(|is| is == "json"))?;
        let event: Value = serde_json::from_slice(&fs::read(json).ok()?).ok()?;
        Some(event).filter(|event| !event["remotes"].is_null())
    });
    assert_eq!(first(&event["remotes"]["systems"]), (64_500, "Example Net"), "{event}");
    let status = house.status();
    let shown = status.bans[0].remotes.as_ref().unwrap();
    assert_eq!(shown.systems[0].asn, 64_500);
    assert_eq!(status.origins.unwrap().incoming.systems[0].asn, 64_500);

    // A second database appears, and the first is made anew.
    write(
        "country.mmdb",
        &Make::default().file(&[
            ("203.0.113.0/24", country("country", "DE")),
            ("203.0.114.0/24", ipinfo("AS64501", "Other Net", "FR", "France")),
        ]),
    );
    write("asn.mmdb", &systems("Another Name"));
    let renewed = || {
        wait("the new databases", || {
            flood(&house.lab, 2000);
            let origins = client.get("/api/v1/origins").json();
            let databases = origins["databases"].as_array().map_or(0, Vec::len);
            let is_there =
                |list: &str, what: &str| origins["incoming"][list].to_string().contains(what);
            (databases == 2 && is_there("countries", "FR") && is_there("systems", "64501"))
                .then_some(())
        });
    };
    renewed();
    // A broken one is an alarm, and what was there stays.
    let good = systems("Another Name");
    write("asn.mmdb", &good[..good.len() / 2]);
    let alarm = wait("the alarm", || {
        house
            .status()
            .alarms
            .into_iter()
            .find(|alarm| alarm.contains("the one before stays in use"))
    });
    assert!(alarm.contains("asn.mmdb`: it is no whole MaxMind database"), "{alarm}");
    renewed();
    write("asn.mmdb", &systems("Third Name"));
    wait("the end of the alarm", || {
        let alarms = house.status().alarms;
        (!alarms.iter().any(|alarm| alarm.contains("database"))).then_some(())
    });
}
