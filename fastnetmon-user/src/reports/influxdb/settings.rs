//! `[influxdb]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::reports::secret::{Place, Secret, SecretError};
use crate::reports::settings::{BaseUrl, QueueMb, Span};

/// Where InfluxDB listens, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Is it told at all?
    pub enabled: bool,
    /// Its address, without a path.
    pub url: BaseUrl,
    /// Which way to write.
    pub api: Api,
    /// The database, with `api = "v1"`.
    pub database: String,
    /// The organisation, with `api = "v2"`.
    pub org: String,
    /// The bucket, with `api = "v2"`.
    pub bucket: String,
    /// A user, with `api = "v1"`; empty: none.
    pub username: String,
    /// The file that holds the user's password.
    pub password_file: PathBuf,
    /// Or the variable of the environment that does.
    pub password_env: String,
    /// The file that holds the token, with `api = "v2"`.
    pub token_file: PathBuf,
    /// Or the variable of the environment that does.
    pub token_env: String,
    /// Who signed the server's certificate, in PEM form; empty: whom the system trusts.
    pub ca_file: PathBuf,
    /// Is what is sent compressed?
    pub gzip: bool,
    /// Seconds between two points.
    pub interval_secs: Span,
    /// Packets a second of a host, at least, to be told of.
    pub min_pps: u64,
    /// Hosts, at most.
    pub top_hosts: u32,
    /// Megabytes that may wait.
    pub queue_mb: QueueMb,
    /// Seconds a delivery may take.
    pub timeout_secs: Span,
}

/// Which way to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `/write`: InfluxDB 1, and 2 and 3 in their compatible way.
    V1,
    /// `/api/v2/write`: InfluxDB 2 and 3.
    V2,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            url: BaseUrl::from("http://127.0.0.1:8086"),
            api: Api::V1,
            database: "fastnetmon".to_owned(),
            org: String::new(),
            bucket: "fastnetmon".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            password_env: String::new(),
            token_file: PathBuf::new(),
            token_env: String::new(),
            ca_file: PathBuf::new(),
            gzip: true,
            interval_secs: Span::of(1),
            min_pps: 10,
            top_hosts: 1000,
            queue_mb: QueueMb::default(),
            timeout_secs: Span::of(5),
        }
    }
}

impl Settings {
    /// Reads the password or the token.
    pub(super) fn secret(&self) -> Result<Option<Secret>, SecretError> {
        let (section, word) = match self.api {
            Api::V1 => ("influxdb", "password"),
            Api::V2 => ("influxdb", "token"),
        };
        let (file, variable) = match self.api {
            Api::V1 => (&self.password_file, &self.password_env),
            Api::V2 => (&self.token_file, &self.token_env),
        };
        Place { section, word, file, variable }.read()
    }
}
