//! `[origins]`: where the databases of autonomous systems and countries are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which databases are read.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Databases of autonomous systems and countries in MaxMind's format, 512 MB each at most, see
    /// [operations](operations.md#autonomous-systems-and-countries). Known are the fields of
    /// GeoLite2, GeoIP2 and DB-IP (`autonomous_system_number`, `autonomous_system_organization`,
    /// `country.iso_code`, `registered_country.iso_code`) and of IPinfo (`asn`, `as_name`,
    /// `country_code`, `country`). What the first says of an address goes before what the next
    /// says. Empty: none. One that is missing is looked for again every three seconds, one that is
    /// broken is an alarm.
    pub databases: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        let databases =
            ["/var/lib/GeoIP/GeoLite2-ASN.mmdb", "/var/lib/GeoIP/GeoLite2-Country.mmdb"];
        Self { databases: databases.map(PathBuf::from).into() }
    }
}
