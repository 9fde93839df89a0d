//! Files that are torn, damaged, somebody else's or full.

use std::os::unix::fs::PermissionsExt as _;

use crossbeam_channel::bounded;

use super::*;
use crate::actions::{Errand, EventId, Occasion, Receipt};
use crate::model::{HostId, Wall};
use crate::verdicts::{Ban, BanId, Ending, Verdict};

/// A folder of its own for each test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fnm-journal-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("journal")
    }

    fn open(&self) -> Journal {
        Journal::open(&self.path()).unwrap()
    }

    fn text(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn ban(id: u64) -> Ban {
    let [.., third, fourth] = id.to_be_bytes();
    Ban { id: BanId(id), ..Ban::of([10, 0, third, fourth]) }
}

fn told(verdict: Verdict, to: &[&'static str]) -> Note {
    let errand = Arc::new(Errand { verdict, wall: Wall::default() });
    Note::Told { errand, to: to.to_vec(), written: Receipt::new().0 }
}

fn begun(id: u64, occasion: Occasion) -> Note {
    let event = EventId { ban: BanId(id), occasion };
    Note::Begun { event, action: "script", written: Receipt::new().0 }
}

fn settled(id: u64, occasion: Occasion, action: &'static str) -> Note {
    Note::Settled { event: EventId { ban: BanId(id), occasion }, action, failed: None }
}

fn taken_up(journal: &Journal) -> Resumed {
    resume(journal, Wall::default(), |_| Some(HostId(256)))
}

fn standing(journal: &Journal) -> Vec<u64> {
    taken_up(journal).standing.iter().map(|ban| ban.id.0).collect()
}

#[test]
fn bans_outlive_the_agent_and_nobody_else_may_read_them() {
    let folder = Folder::new("outlive");
    let mut journal = folder.open();
    journal.write((1..=3).map(|id| told(Verdict::Ban(ban(id)), &[])));
    journal.write([told(Verdict::Unban(ban(2), Ending::Over), &[])].into_iter());
    drop(journal);
    assert_eq!(standing(&folder.open()), [1, 3]);
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_agent_is_refused() {
    let folder = Folder::new("taken");
    let _first = folder.open();
    let error = Journal::open(&folder.path()).unwrap_err().to_string();
    assert!(error.contains("another agent writes it"), "{error}");
}

#[test]
fn a_file_that_ends_anywhere_is_read_as_far_as_it_is_whole() {
    let folder = Folder::new("torn");
    let mut journal = folder.open();
    for id in 1..=3 {
        journal.write([told(Verdict::Ban(ban(id)), &["script"])].into_iter());
    }
    drop(journal);
    let text = folder.text();
    let ends: Vec<usize> =
        text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    for at in 0..=text.len() {
        fs::write(folder.path(), &text[..at]).unwrap();
        let whole = ends.iter().filter(|end| **end <= at).count();
        let journal = folder.open();
        assert_eq!(standing(&journal).len(), whole.saturating_sub(1), "cut at {at}");
        drop(journal);
        // It was begun anew without the rest, and nothing is called damaged.
        assert!(folder.text().ends_with(b"\n"));
        assert!(!folder.0.join("journal.damaged").exists());
    }
}

#[test]
fn a_damaged_line_in_the_middle_costs_itself_and_is_kept() {
    let folder = Folder::new("damaged");
    let mut journal = folder.open();
    for id in 1..=3 {
        journal.write([told(Verdict::Ban(ban(id)), &["script"])].into_iter());
    }
    drop(journal);
    let mut text = folder.text();
    let middle = text.len() / 2;
    text[middle] ^= 1;
    fs::write(folder.path(), &text).unwrap();
    assert_eq!(standing(&folder.open()), [1, 3]);
    assert_eq!(fs::read(folder.0.join("journal.damaged")).unwrap(), text);
    // Zeros at the end, as a power cut leaves them, are no damage.
    fs::remove_file(folder.0.join("journal.damaged")).unwrap();
    let mut text = folder.text();
    text.extend([0; 512]);
    fs::write(folder.path(), &text).unwrap();
    assert_eq!(standing(&folder.open()), [1, 3]);
    assert!(!folder.0.join("journal.damaged").exists());
}

#[test]
fn a_journal_of_another_version_is_refused() {
    let folder = Folder::new("version");
    fs::write(folder.path(), Record::Journal { version: 99 }.line().unwrap()).unwrap();
    let error = Journal::open(&folder.path()).unwrap_err().to_string();
    assert!(error.contains("its version is 99, and this agent writes 1"), "{error}");
}

#[test]
fn a_path_that_cannot_be_is_refused_with_the_remedy() {
    let folder = Folder::new("refused");
    fs::write(folder.0.join("file"), "").unwrap();
    let error = Journal::open(&folder.0.join("file/journal")).unwrap_err().to_string();
    assert!(error.contains("name another `path` in `[journal]`"), "{error}");
}

#[test]
fn it_stays_short_however_much_happens() {
    let folder = Folder::new("short");
    let mut journal = folder.open();
    for round in 0..40_u64 {
        let ids = round * 500..(round + 1) * 500;
        journal.write(ids.clone().map(|id| told(Verdict::Ban(ban(id)), &["script"])));
        journal.write(ids.clone().map(|id| begun(id, Occasion::Ban)));
        journal.write(ids.clone().map(|id| settled(id, Occasion::Ban, "script")));
        journal.write(ids.map(|id| told(Verdict::Unban(ban(id), Ending::Over), &[])));
        assert!(fs::metadata(folder.path()).unwrap().len() <= LONG);
    }
    assert_eq!(journal.book.bans.len(), 0);
}

#[test]
fn what_a_script_has_begun_is_not_done_again_and_the_rest_is() {
    let folder = Folder::new("once");
    let mut journal = folder.open();
    let to = &["script", "webhook"];
    journal.write(
        [
            // 1: all done. 2: began. 3: only sent. 4: over, and the script never heard of it.
            told(Verdict::Ban(ban(1)), to),
            settled(1, Occasion::Ban, "script"),
            settled(1, Occasion::Ban, "webhook"),
            told(Verdict::Details(ban(1), [].into()), to),
            begun(1, Occasion::AttackDetails),
            settled(1, Occasion::AttackDetails, "webhook"),
            told(Verdict::Ban(ban(2)), to),
            begun(2, Occasion::Ban),
            told(Verdict::Ban(ban(3)), to),
            told(Verdict::Ban(ban(4)), &["script"]),
            told(Verdict::Unban(ban(4), Ending::Over), &["script"]),
        ]
        .into_iter(),
    );
    drop(journal);
    let resumed = taken_up(&folder.open());
    let pending: Vec<String> = resumed
        .pending
        .iter()
        .map(|pending| {
            let to: Vec<&str> = pending.to.iter().map(String::as_str).collect();
            format!("{} {}", pending.errand.event(), to.join(","))
        })
        .collect();
    assert_eq!(
        pending,
        ["2-ban webhook", "3-ban script,webhook", "4-ban script", "4-unban script"]
    );
    let untold: Vec<String> = resumed.untold.iter().map(ToString::to_string).collect();
    assert_eq!(untold, ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(resumed.standing.len(), 3);
    let details = EventId { ban: BanId(1), occasion: Occasion::AttackDetails };
    assert!(resumed.done[&details].contains("script"));
    assert_eq!(resumed.last, BanId(4));
}

#[test]
fn who_is_ours_no_more_is_let_go() {
    let folder = Folder::new("gone");
    let mut journal = folder.open();
    journal.write([told(Verdict::Ban(ban(1)), &[]), told(Verdict::Ban(ban(2)), &[])].into_iter());
    let ours = ban(2).address;
    let resumed = resume(&journal, Wall::default(), |ip| (ip == ours).then_some(HostId(300)));
    assert_eq!((resumed.gone.len(), resumed.standing.len()), (1, 1));
    assert_eq!((resumed.gone[0].id, resumed.standing[0].host), (BanId(1), HostId(300)));
}

#[test]
fn the_thread_gives_receipts_and_ends_when_nobody_is_left() {
    let folder = Folder::new("thread");
    let journal = folder.open();
    let (notes, noted) = bounded(16);
    let thread = std::thread::spawn(move || journal.run(&noted));
    let errand = Arc::new(Errand { verdict: Verdict::Ban(ban(1)), wall: Wall::default() });
    let (written, receipt) = Receipt::new();
    notes.send(Box::new(Note::Told { errand, to: vec!["script"], written })).unwrap();
    assert!(receipt.wait(Duration::from_secs(9)));
    let text = String::from_utf8(folder.text()).unwrap();
    assert!(text.contains("\"event\":\"1-ban\""), "on disk before the receipt: {text}");
    // A snapshot that knows better: 1 was let go, 2 was banned.
    let one = Note::Standing { bans: vec![ban(2)], wall: Wall::default() };
    notes.send(Box::new(one)).unwrap();
    drop(notes);
    thread.join().unwrap();
    assert_eq!(standing(&folder.open()), [2]);
}
