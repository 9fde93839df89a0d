//! `[clickhouse]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::reports::secret::{Place, Secret, SecretError};
use crate::reports::settings::{BaseUrl, QueueMb, Span};

/// Where ClickHouse listens, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether it is told.
    pub enabled: bool,
    /// Its HTTP address, `http` or `https`, without a path.
    pub url: BaseUrl,
    /// Its database. Refused: anything but letters, digits, `_`.
    pub database: Database,
    /// Its user.
    pub username: String,
    /// A file with the password, up to the end of its line. Empty: none. Refused at the start: not
    /// there, empty, readable by everybody; the same with `password_env`.
    pub password_file: PathBuf,
    /// Or a variable of the environment that holds the password. Empty: none. Refused at the
    /// start: not set.
    pub password_env: String,
    /// Who signed the certificate of an `https` address, in PEM form. Empty: whom the system
    /// trusts. Refused at the start: not there, no certificate in it.
    pub ca_file: PathBuf,
    /// Between two points of one host, network or direction.
    pub interval_secs: Span,
    /// Seconds whose rows are inserted together; rows about attacks go at once.
    pub batch_secs: Span,
    /// What a host must have in one direction to be told.
    pub min_pps: u64,
    /// Hosts that are told in one interval, at most: the loudest. Totals and networks always are.
    /// 0: no host.
    pub top_hosts: u32,
    /// How long metrics are kept: written into the tables when they are made. 0: for ever.
    pub keep_days: u32,
    /// How long attacks are kept, likewise. 0: for ever.
    pub keep_attacks_days: u32,
    /// What may wait while the database is slow or dead. The newest are kept; what was dropped is
    /// counted in `fastnetmon status`.
    pub queue_mb: QueueMb,
    /// What one delivery may take.
    pub timeout_secs: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            url: BaseUrl::from("http://127.0.0.1:8123"),
            database: Database("fastnetmon".to_owned()),
            username: "default".to_owned(),
            password_file: PathBuf::new(),
            password_env: String::new(),
            ca_file: PathBuf::new(),
            interval_secs: Span::of(1),
            batch_secs: Span::of(10),
            min_pps: 10,
            top_hosts: 1000,
            keep_days: 7,
            keep_attacks_days: 365,
            queue_mb: QueueMb::default(),
            timeout_secs: Span::of(10),
        }
    }
}

impl Settings {
    /// Reads the password.
    pub(super) fn secret(&self) -> Result<Option<Secret>, SecretError> {
        let (file, variable) = (&self.password_file, &self.password_env);
        Place { section: "clickhouse", word: "password", file, variable }.read()
    }
}

/// The name of a database: letters, digits and `_`, so that it needs no quotes.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Database(String);

impl Database {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Database {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Ok(Self(name));
        }
        Err(format!("`{name}` is no name of a database: letters, digits and `_` are"))
    }
}

impl From<Database> for String {
    fn from(name: Database) -> Self {
        name.0
    }
}
