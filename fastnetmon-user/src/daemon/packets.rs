//! Packets of attacks on their way to disk.
//!
//! **Invariant**: the tick hands them over and does not wait. What finds no room, or no disk, is told
//! and never stops a ban.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::{debug, error, info};

use crate::actions::{Attack, PacketFolder, PacketSettings};
use crate::daemon::people::agents_group;
use crate::model::{Caught, Wall};
use crate::verdicts::Ban;

/// Attacks that wait.
const ROOM: usize = 4096;

/// Packets that wait, of all attacks: about 80 MB.
const PACKETS: usize = 262_144;

/// An attack that waits.
#[derive(Debug)]
struct Kept {
    ban: Ban,
    packets: Vec<Caught>,
    wall: Wall,
}

/// What both sides know.
#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    refused: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// The tick's side.
#[derive(Debug)]
pub(super) struct Tray {
    settings: PacketSettings,
    /// `None`: nothing is written.
    hand: Option<Sender<Box<Kept>>>,
    shared: Arc<Shared>,
}

/// The thread's side.
#[derive(Debug)]
pub(super) struct Clerk {
    folder: PacketFolder,
    kept: Receiver<Box<Kept>>,
    shared: Arc<Shared>,
}

/// Both sides; no clerk where nothing is to be written.
pub(super) fn prepare(settings: &PacketSettings, interfaces: &[String]) -> (Tray, Option<Clerk>) {
    let shared = Arc::new(Shared::default());
    let settings = settings.clone();
    if !settings.enabled {
        return (Tray { settings, hand: None, shared }, None);
    }
    let (hand, kept) = bounded(ROOM);
    let group = agents_group();
    let folder = PacketFolder::new(&settings, interfaces.join(","), group);
    let clerk = Clerk { folder, kept, shared: Arc::clone(&shared) };
    (Tray { settings, hand: Some(hand), shared }, Some(clerk))
}

impl Tray {
    /// How many packets are to be collected, when the dump has so many.
    pub(super) const fn wanted(&self, dump: u32) -> u32 {
        self.settings.wanted(dump)
    }

    /// Hands the packets of an attack over, when its dump has so many.
    pub(super) fn put(&self, ban: &Ban, mut packets: Vec<Caught>, dump: u32, wall: Wall) {
        let Some(hand) = self.hand.as_ref().filter(|_| ban.deeds.log_file) else { return };
        packets.truncate(self.settings.written(dump));
        let more = packets.len();
        if more == 0 {
            return;
        }
        let waiting = self.shared.waiting.fetch_add(more, Ordering::Relaxed);
        // The channel has its room from the start: thousands of places, each as large as what goes in.
        let kept = Box::new(Kept { ban: ban.clone(), packets, wall });
        if waiting + more > PACKETS || hand.try_send(kept).is_err() {
            self.shared.waiting.fetch_sub(more, Ordering::Relaxed);
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What an operator should know.
    pub(super) fn alarms(&self) -> impl Iterator<Item = String> + use<> {
        let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble =
            trouble.map(|reason| format!("The packets of attacks are not written: {reason}."));
        let refused = self.shared.refused.load(Ordering::Relaxed);
        let refused = (refused > 0).then(|| {
            format!("The packets of {refused} attacks found the disk too slow and are not written.")
        });
        trouble.into_iter().chain(refused)
    }
}

impl Clerk {
    /// Writes until nobody hands anything over any more.
    pub(super) fn run(mut self) {
        for kept in &self.kept {
            let Kept { ban, packets, wall } = *kept;
            let attack = Attack { ban: &ban, packets: &packets, wall };
            let outcome = self.folder.write(&attack);
            self.shared.waiting.fetch_sub(packets.len(), Ordering::Relaxed);
            let reason = outcome.as_ref().err().cloned();
            let mut trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut *trouble, reason);
            drop(trouble);
            match (outcome, before) {
                (Ok(bytes), None) => debug!(ip = %ban.address, bytes, "Packets written."),
                (Ok(_), Some(_)) => info!("The packets of attacks are written again."),
                // One disk, one line, however many attacks.
                (Err(reason), Some(before)) if reason == before => debug!(%reason, "Still not."),
                (Err(reason), _) => error!(%reason, "The packets of an attack are not written."),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Moment, Raw, Seen, Starts};

    fn packet() -> Caught {
        let at = Moment::after_boot(Duration::from_secs(9));
        let seen = Seen { at, ..Seen::of([203, 0, 113, 9], [192, 0, 2, 7]) };
        Caught { seen, raw: Raw::of(Starts::Ip, &[0x45; 46], 46) }
    }

    #[test]
    fn what_finds_no_room_is_told_and_a_bad_disk_until_it_is_mended() {
        let place = std::env::temp_dir().join(format!("fnm-clerk-{}", std::process::id()));
        std::fs::write(&place, "a file where the folder should be").unwrap();
        let settings = PacketSettings { folder: place.clone(), ..PacketSettings::default() };
        let (tray, clerk) = prepare(&settings, &["eth0".to_owned()]);
        let ban = Ban::of([192, 0, 2, 7]);
        let alarms = |tray: &Tray| tray.alarms().collect::<Vec<_>>();
        for _ in 0..=PACKETS / 10_000 {
            tray.put(&ban, vec![packet(); 10_000], 10_000, Wall::default());
        }
        let refused = "The packets of 1 attacks found the disk too slow and are not written.";
        assert_eq!(alarms(&tray), [refused]);
        let clerk = std::thread::spawn(move || clerk.unwrap().run());
        while tray.shared.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        while alarms(&tray).len() < 2 {
            std::thread::yield_now();
        }
        assert!(alarms(&tray)[0].contains("set `enabled = false`"), "{:?}", alarms(&tray));
        std::fs::remove_file(&place).unwrap();
        tray.put(&ban, vec![packet()], 100, Wall::default());
        let unwanted =
            Ban { deeds: crate::verdicts::Deeds { log_file: false, ..ban.deeds.clone() }, ..ban };
        tray.put(&unwanted, vec![packet()], 100, Wall::default());
        while alarms(&tray).len() > 1 {
            std::thread::yield_now();
        }
        drop(tray);
        clerk.join().unwrap();
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
        std::fs::remove_dir_all(&place).unwrap();
    }
}
