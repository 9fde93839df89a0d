//! The folder on a real file system.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::{Moment, Seen, Starts};

/// A folder of its own for each test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("fnm-packets-{}-{name}", std::process::id())))
    }

    fn folder(&self, keep: u32) -> PacketFolder {
        let keep = NonZeroU32::new(keep).unwrap();
        let settings = Settings { folder: self.0.clone(), keep, ..Settings::default() };
        PacketFolder::new(&settings, "eth7".to_owned(), None)
    }

    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn packet() -> Caught {
    let at = Moment::after_boot(Duration::from_secs(9));
    let seen = Seen { at, ..Seen::of([203, 0, 113, 9], [192, 0, 2, 7]) };
    let bytes: Arc<[u8]> = Arc::from([0x45; 46]);
    Caught { seen, raw: Raw { starts: Starts::Ip, wire_bytes: 46, bytes } }
}

fn write(folder: &mut PacketFolder, id: u64, packets: usize) -> Result<u64, String> {
    let ban = Ban { id: BanId(id), ..Ban::of([192, 0, 2, 7]) };
    let packets = vec![packet(); packets];
    let unix = Duration::from_secs(1_795_367_873);
    let wall = Wall { read_at: Moment::default(), unix };
    folder.write(&Attack { ban: &ban, packets: &packets, wall })
}

#[test]
fn a_file_is_whole_named_by_its_ban_and_for_the_group_alone() {
    let place = Place::new("file");
    let mut folder = place.folder(9);
    let length = write(&mut folder, 77, 100).unwrap();
    assert_eq!(place.files(), ["77_192.0.2.7.pcapng"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.0), 0o750);
    assert_eq!(mode(&place.0.join("77_192.0.2.7.pcapng")), 0o640);
    let shelf = Shelf::new(place.0.clone());
    let (name, bytes) = shelf.read(BanId(77)).unwrap().unwrap();
    assert_eq!((name.as_str(), bytes.len() as u64), ("77_192.0.2.7.pcapng", length));
    assert_eq!(shelf.read(BanId(7)).unwrap(), None);
    assert_eq!(Shelf::new(place.0.join("nowhere")).read(BanId(77)).unwrap(), None);
    // A host that is collected again after a restart has one file.
    write(&mut folder, 77, 3).unwrap();
    assert_eq!(place.files().len(), 1);
}

#[test]
fn the_oldest_go_and_what_is_not_ours_stays() {
    let place = Place::new("rotate");
    fs::create_dir_all(&place.0).unwrap();
    for (name, text) in [("notes.pcapng", "mine"), ("8_my.pcapng", "mine"), ("1_::1", "mine")] {
        fs::write(place.0.join(name), text).unwrap();
    }
    // What a killed agent left, and what an earlier one wrote.
    fs::write(place.0.join(".5_192.0.2.7.pcapng.new"), "half").unwrap();
    fs::write(place.0.join("5_2001-db8--7.pcapng"), "old").unwrap();
    let mut folder = place.folder(3);
    for id in 6..20 {
        write(&mut folder, id, 1).unwrap();
    }
    let ours = [17, 18, 19].map(|id| format!("{id}_192.0.2.7.pcapng"));
    let expected =
        [&ours[..], &["1_::1", "8_my.pcapng", "notes.pcapng"].map(String::from)].concat();
    let mut expected = expected;
    expected.sort();
    assert_eq!(place.files(), expected);
    // Somebody tidied up.
    fs::remove_file(place.0.join(&ours[0])).unwrap();
    write(&mut folder, 20, 1).unwrap();
    assert_eq!(place.files().len(), 6);
}

#[test]
fn bytes_are_bounded_too() {
    let place = Place::new("bytes");
    let settings = Settings { keep_mb: NonZeroU32::MIN, ..Settings::default() };
    let settings = Settings { folder: place.0.clone(), ..settings };
    let mut folder = PacketFolder::new(&settings, "eth7".to_owned(), None);
    let mut longest = 0;
    for id in 1..12 {
        longest = write(&mut folder, id, 2000).unwrap();
    }
    let bytes: u64 =
        place.files().iter().map(|name| fs::metadata(place.0.join(name)).unwrap().len()).sum();
    assert!(bytes <= 1_000_000 && bytes > 1_000_000 - 2 * longest, "{bytes}");
    let error = write(&mut folder, 12, 20_000).unwrap_err();
    assert!(error.contains("one attack takes 2 MB and `keep_mb` is 1"), "{error}");
}

#[test]
fn a_link_laid_in_its_place_is_not_followed() {
    let place = Place::new("link");
    fs::create_dir_all(&place.0).unwrap();
    let victim = place.0.join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in [".3_192.0.2.7.pcapng.new", "3_192.0.2.7.pcapng"] {
        std::os::unix::fs::symlink(&victim, place.0.join(name)).unwrap();
    }
    assert!(Shelf::new(place.0.clone()).read(BanId(3)).is_err());
    write(&mut place.folder(9), 3, 1).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(Shelf::new(place.0.clone()).read(BanId(3)).unwrap().is_some());
}

#[test]
fn a_folder_that_cannot_be_is_told_with_the_remedy() {
    let place = Place::new("refused");
    fs::create_dir_all(&place.0).unwrap();
    fs::write(place.0.join("file"), "").unwrap();
    let settings = Settings { folder: place.0.join("file"), ..Settings::default() };
    let error = write(&mut PacketFolder::new(&settings, String::new(), None), 1, 1).unwrap_err();
    assert!(error.contains("name another `folder` in `[packets]`"), "{error}");
}
