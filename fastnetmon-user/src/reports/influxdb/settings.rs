//! `[influxdb]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::reports::secret::{Place, Secret, SecretError};
use crate::reports::settings::{BaseUrl, QueueMb, Span};

/// Where InfluxDB listens, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether it is told.
    pub enabled: bool,
    /// Its address, `http` or `https`, without a path. Refused: a path's question, a name or a
    /// password in it.
    pub url: BaseUrl,
    /// `"v1"`: `/write`. `"v2"`: `/api/v2/write`.
    pub api: Api,
    /// The database, with `api = "v1"`.
    pub database: String,
    /// The organisation, with `api = "v2"`.
    pub org: String,
    /// The bucket, with `api = "v2"`.
    pub bucket: String,
    /// A user, with `api = "v1"`. Empty: none.
    pub username: String,
    /// A file with the password, up to the end of its line. Empty: none. Refused at the start: not
    /// there, empty, readable by everybody; the same with `password_env`.
    pub password_file: PathBuf,
    /// Or a variable of the environment that holds the password. Empty: none. Refused at the
    /// start: not set.
    pub password_env: String,
    /// A file with the token, up to the end of its line, with `api = "v2"`. Empty: none. Refused
    /// at the start: not there, empty, readable by everybody; the same with `token_env`.
    pub token_file: PathBuf,
    /// Or a variable of the environment that holds the token. Empty: none. Refused at the start:
    /// not set.
    pub token_env: String,
    /// Who signed the certificate of an `https` address, in PEM form. Empty: whom the system
    /// trusts. Refused at the start: not there, no certificate in it.
    pub ca_file: PathBuf,
    /// Whether what is sent is compressed.
    pub gzip: bool,
    /// Between two points of one host, network or direction.
    pub interval_secs: Span,
    /// What a host must have in one direction to be told.
    pub min_pps: u64,
    /// Hosts that are told in one interval, at most: the loudest. Totals and networks always are.
    /// 0: no host.
    pub top_hosts: u32,
    /// What may wait while the database is slow or dead. The newest are kept; what was dropped is
    /// counted in `fastnetmon status`.
    pub queue_mb: QueueMb,
    /// What one delivery may take.
    pub timeout_secs: Span,
}

/// Which way to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
