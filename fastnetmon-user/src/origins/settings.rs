//! `[origins]`: where the databases of autonomous systems and countries are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which databases are read.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Files in MaxMind's format; what the first says of an address goes before what the next says.
    pub databases: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        let databases =
            ["/var/lib/GeoIP/GeoLite2-ASN.mmdb", "/var/lib/GeoIP/GeoLite2-Country.mmdb"];
        Self { databases: databases.map(PathBuf::from).into() }
    }
}
