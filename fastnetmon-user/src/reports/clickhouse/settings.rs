//! `[clickhouse]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::reports::secret::{Place, Secret, SecretError};
use crate::reports::settings::{BaseUrl, QueueMb, Span};

/// Where ClickHouse listens, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Is it told at all?
    pub enabled: bool,
    /// Its HTTP address, without a path.
    pub url: BaseUrl,
    /// The database.
    pub database: Database,
    /// The user.
    pub username: String,
    /// The file that holds the user's password.
    pub password_file: PathBuf,
    /// Or the variable of the environment that does.
    pub password_env: String,
    /// Who signed the server's certificate, in PEM form; empty: whom the system trusts.
    pub ca_file: PathBuf,
    /// Seconds between two rows of one host, network or direction.
    pub interval_secs: Span,
    /// Seconds whose rows are inserted together.
    pub batch_secs: Span,
    /// Packets a second of a host, at least, to be told of.
    pub min_pps: u64,
    /// Hosts, at most.
    pub top_hosts: u32,
    /// Days metrics are kept; `export init clickhouse` writes it into the tables.
    pub keep_days: u32,
    /// Days attacks are kept.
    pub keep_attacks_days: u32,
    /// Megabytes that may wait.
    pub queue_mb: QueueMb,
    /// Seconds a delivery may take.
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
