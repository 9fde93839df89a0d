//! `[redis]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::reports::secret::{Place, Secret, SecretError};
use crate::reports::settings::{Endpoint, Name, QueueMb, Span};

/// Where Redis listens, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each kind of key by itself is there or not")]
pub struct Settings {
    /// Whether it is told.
    pub enabled: bool,
    /// `host:port`, `[2001:db8::1]:port`, or `unix:/path`.
    pub server: Server,
    /// Which of its databases.
    pub database: u32,
    /// A user of its access list. Empty: the default one.
    pub username: String,
    /// A file with the password, up to the end of its line. Empty: none. Refused at the start: not
    /// there, empty, readable by everybody; the same with `password_env`.
    pub password_file: PathBuf,
    /// Or a variable of the environment that holds the password. Empty: none. Refused at the
    /// start: not set.
    pub password_env: String,
    /// What keys begin with, before a `_`. Empty: nothing.
    pub prefix: Name,
    /// Whether bytes are counted.
    pub traffic: bool,
    /// Whether packets are counted as well.
    pub packets: bool,
    /// Whether bans are told.
    pub bans: bool,
    /// How long a key is kept after its last change. 0: for ever.
    pub ttl_secs: u32,
    /// What is added up before it is sent.
    pub interval_secs: Span,
    /// Three quarters of it hold hosts, 128 bytes each, however long the outage; the rest holds
    /// bans.
    pub queue_mb: QueueMb,
    /// What one delivery may take.
    pub timeout_secs: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            server: Server::Tcp(Endpoint::here(6379)),
            database: 0,
            username: String::new(),
            password_file: PathBuf::new(),
            password_env: String::new(),
            prefix: Name::default(),
            traffic: true,
            packets: false,
            bans: true,
            ttl_secs: 0,
            interval_secs: Span::of(1),
            queue_mb: QueueMb::default(),
            timeout_secs: Span::of(5),
        }
    }
}

impl Settings {
    /// Reads the password.
    pub(super) fn secret(&self) -> Result<Option<Secret>, SecretError> {
        let (file, variable) = (&self.password_file, &self.password_env);
        Place { section: "redis", word: "password", file, variable }.read()
    }
}

/// `host:port`, or `unix:/path`.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub enum Server {
    /// By TCP.
    Tcp(Endpoint),
    /// By a socket of this machine.
    Unix(PathBuf),
}

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(path) => Err(format!("`{path}` is no absolute path: write `unix:/path`")),
            None => Endpoint::try_from(text).map(Self::Tcp),
        }
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        match server {
            Server::Tcp(endpoint) => endpoint.into(),
            Server::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}
