//! The databases that are read, and what they say of an address.
//!
//! **Invariant**: a database is in memory as a whole, so nothing that happens to its file is felt here.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::{MaxMindDbError, Reader};

use crate::origins::row::{Origin, Row};

/// All databases there are, in order.
#[derive(Debug, Default)]
pub struct Atlas {
    databases: Vec<Arc<Database>>,
}

impl Atlas {
    /// What the first says goes before what the next says.
    pub const fn new(databases: Vec<Arc<Database>>) -> Self {
        Self { databases }
    }

    /// Whose address it is. What cannot be read is not known.
    pub fn find(&self, address: IpAddr) -> Origin {
        let mut origin = Origin::default();
        for database in &self.databases {
            // It was tried when it was read; a record that is broken all the same says nothing.
            let _unreadable = database.add_to(&mut origin, address);
            if origin.system != 0 && origin.country.is_some() {
                break;
            }
        }
        origin
    }

    /// The databases.
    pub fn databases(&self) -> impl Iterator<Item = &Database> + '_ {
        self.databases.iter().map(AsRef::as_ref)
    }
}

/// A database.
pub struct Database {
    path: PathBuf,
    reader: Reader<Vec<u8>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.path.display())
    }
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be read.
    #[error("`{}`: {source}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is too long.
    #[error("`{}`: it has more than {} MB", .0.display(), LONGEST / 1_000_000)]
    Long(PathBuf),
    /// It is something else, or broken.
    #[error("`{}`: it is no whole MaxMind database: {reason}", path.display())]
    Broken {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Database {
    /// Reads a file, and tries it.
    ///
    /// # Errors
    /// When it cannot be read, or says what no database says.
    pub fn read(path: &Path) -> Result<Self, DatabaseError> {
        let unreadable = |source| DatabaseError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LONGEST {
            return Err(DatabaseError::Long(path.to_owned()));
        }
        Self::of(path, bytes)
    }

    /// Takes the bytes of a file, and tries them.
    ///
    /// # Errors
    /// When they say what no database says.
    pub fn of(path: &Path, bytes: Vec<u8>) -> Result<Self, DatabaseError> {
        let broken = |error: MaxMindDbError| DatabaseError::Broken {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let reader = Reader::from_source(bytes).map_err(broken)?;
        let database = Self { path: path.to_owned(), reader };
        for number in 0..PROBES {
            let mut origin = Origin::default();
            for address in probes(number) {
                database.add_to(&mut origin, address).map_err(broken)?;
            }
        }
        Ok(database)
    }

    fn add_to(&self, origin: &mut Origin, address: IpAddr) -> Result<(), MaxMindDbError> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(());
        }
        if let Some(row) = self.reader.lookup(address)?.decode::<Row<'_>>()? {
            row.add_to(origin);
        }
        Ok(())
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its kind, as it says itself.
    pub fn kind(&self) -> String {
        let plain = |c: &char| c.is_ascii_graphic();
        self.reader.metadata().database_type.chars().filter(plain).take(60).collect()
    }

    /// When it was made, in seconds since 1970.
    pub fn made(&self) -> u64 {
        self.reader.metadata().build_epoch
    }
}

/// Addresses all over the place, always the same.
fn probes(number: u32) -> [IpAddr; 2] {
    // Fibonacci hashing: neighbours of no two numbers lie together.
    let spread = number.wrapping_mul(0x9e37_79b9);
    let high = 0x2000 | u128::from(spread >> 19);
    let v6 = (high << 112) | (u128::from(spread.wrapping_mul(0x85eb_ca6b)) << 80);
    [IpAddr::V4(Ipv4Addr::from(spread)), IpAddr::V6(Ipv6Addr::from(v6))]
}

/// Bytes of a database, at most: the largest there are have half as many.
const LONGEST: u64 = 512_000_000;

/// Addresses of each family that a database is tried with before it is believed: a few milliseconds.
const PROBES: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origins::database::{Make, country, geolite, ipinfo, text};

    fn atlas(files: &[Vec<u8>]) -> Atlas {
        let database =
            |bytes: &Vec<u8>| Arc::new(Database::of(Path::new("x"), bytes.clone()).unwrap());
        Atlas::new(files.iter().map(database).collect())
    }

    #[track_caller]
    fn check(atlas: &Atlas, address: &str, expected: (u32, &str, &str)) {
        let Origin { system, name, country } = atlas.find(address.parse().unwrap());
        let country = country.map(|country| country.to_string()).unwrap_or_default();
        assert_eq!((system, &*name, country.as_str()), expected, "{address}");
    }

    #[test]
    fn system_and_country_come_from_whichever_database_knows_them() {
        for record_bits in [24, 28, 32] {
            let make = Make { record_bits, ..Make::default() };
            let systems = make.file(&[
                ("203.0.113.0/24", geolite(64_500, "Example Net")),
                ("2001:db8:77::/48", geolite(4_200_000_001, "Example Six")),
            ]);
            let countries = make.file(&[
                ("203.0.113.0/25", country("country", "de")),
                ("203.0.113.128/25", country("registered_country", "FR")),
                ("2001:db8::/32", country("country", "NL")),
            ]);
            let atlas = atlas(&[systems, countries]);
            check(&atlas, "203.0.113.7", (64_500, "Example Net", "DE"));
            check(&atlas, "203.0.113.200", (64_500, "Example Net", "FR"));
            check(&atlas, "2001:db8:77::1", (4_200_000_001, "Example Six", "NL"));
            check(&atlas, "2001:db8:78::1", (0, "", "NL"));
            check(&atlas, "10.0.0.1", (0, "", ""));
        }
    }

    #[test]
    fn names_of_other_makers_are_known_and_one_file_may_have_both() {
        let both = Make::default().file(&[
            (
                "203.0.113.0/24",
                ipinfo("AS64501", "Example\n\u{1b}[31m\u{202e}teN\u{2066}", "US", "United States"),
            ),
            ("198.51.100.0/24", vec![("asn", text("64502")), ("country", text("jp"))]),
            ("192.0.2.0/24", vec![("asn", text("ASX")), ("country", text("United States"))]),
        ]);
        let only_v4 = Make { version: 4, ..Make::default() };
        let only_v4 = only_v4.file(&[("192.0.2.0/24", geolite(64_503, &"é".repeat(200)))]);
        let atlas = atlas(&[both, only_v4]);
        check(&atlas, "203.0.113.7", (64_501, "Example  [31m teN", "US"));
        check(&atlas, "198.51.100.7", (64_502, "", "JP"));
        check(&atlas, "192.0.2.7", (64_503, &"é".repeat(60), ""));
        check(&atlas, "2001:db8::1", (0, "", ""));
        let database = atlas.databases().next().unwrap();
        assert_eq!((database.kind().as_str(), database.made()), ("Test", 1_795_000_000));
    }

    #[test]
    fn whatever_the_bytes_are_there_is_an_answer_or_an_error() {
        let good = Make::default().file(&[
            ("203.0.113.0/24", geolite(64_500, "Example Net")),
            ("198.51.100.0/24", country("country", "de")),
            ("2001:db8::/32", ipinfo("AS64501", "Example", "US", "United States")),
        ]);
        let try_all = |bytes: Vec<u8>| {
            let database = Database::of(Path::new("x"), bytes).ok()?;
            let atlas = Atlas::new(vec![Arc::new(database)]);
            for address in ["203.0.113.7", "198.51.100.9", "2001:db8::1", "::"] {
                atlas.find(address.parse().unwrap());
            }
            Some(())
        };
        assert!(try_all(good.clone()).is_some());
        for length in 0..good.len() {
            assert!(try_all(good[..length].to_vec()).is_none(), "{length} bytes are not all");
        }
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut believed = 0;
        for _ in 0..200 {
            let mut bad = good.clone();
            // Where the data and the description are: the tree is long and all alike.
            for _ in 0..=random(4) {
                let from = if random(2) == 0 { 0 } else { bad.len() - 400 };
                let at = from + random(bad.len() - from);
                bad[at] = u8::try_from(random(256)).unwrap();
            }
            believed += usize::from(try_all(bad).is_some());
        }
        assert!(believed > 0, "some changes do no harm");
        for bytes in [Vec::new(), b"PK\x03\x04".to_vec(), vec![0; 100_000]] {
            let error = Database::of(Path::new("/x.mmdb"), bytes).unwrap_err().to_string();
            assert!(error.starts_with("`/x.mmdb`: it is no whole MaxMind database: "), "{error}");
        }
        let error = Database::read(Path::new("/nowhere/x.mmdb")).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
