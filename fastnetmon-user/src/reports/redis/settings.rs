//! `[redis]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::reports::secret::{Place, Secret, SecretError};
use crate::reports::settings::{Endpoint, Name, QueueMb, Span};

/// Where Redis listens, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each kind of key by itself is there or not")]
pub struct Settings {
    /// Is it told at all?
    pub enabled: bool,
    /// Its place.
    pub server: Server,
    /// Which of its databases.
    pub database: u32,
    /// A user of its access list; empty: the default one.
    pub username: String,
    /// The file that holds the password.
    pub password_file: PathBuf,
    /// Or the variable of the environment that does.
    pub password_env: String,
    /// What every key begins with, before a `_`; empty: nothing.
    pub prefix: Name,
    /// Are bytes counted: `<ip>_incoming`, `<ip>_outgoing`?
    pub traffic: bool,
    /// Are packets counted as well: `<ip>_incoming_packets`, `<ip>_outgoing_packets`?
    pub packets: bool,
    /// Are bans told: `<ip>_information`, `<ip>_flow_dump`?
    pub bans: bool,
    /// Seconds after its last change for which a key is kept; 0: for ever.
    pub ttl_secs: u32,
    /// Seconds whose counts are added up before they are sent.
    pub interval_secs: Span,
    /// Megabytes that may wait.
    pub queue_mb: QueueMb,
    /// Seconds a delivery may take.
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
