//! `[web]`: where the page, the API and the metrics are.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The HTTP server.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the HTTP server listens, such as `"127.0.0.1:9209"` or `"[::1]:9209"`. Empty: there
    /// is none, and nothing of what it needs is kept. Refused: a name, a port alone; at the start:
    /// an address that cannot be had, one beyond loopback without `token_file`.
    pub listen: Listen,
    /// A file whose first line is a token, at least 16 characters. Banning and letting go need it;
    /// beyond loopback everything does but the page itself, `/healthz` and `/readyz`. The page
    /// asks for it when it needs it. Refused at the start: a file that cannot be read, a shorter
    /// token.
    pub token_file: PathBuf,
    /// Clients at the same time; one more is answered with 503.
    pub connections: NonZeroU32,
    /// The loudest hosts have series of their own in `/metrics`, at most so many.
    pub metrics_hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Listen(None),
            token_file: PathBuf::new(),
            connections: NonZeroU32::MIN.saturating_add(511),
            metrics_hosts: 100,
        }
    }
}

/// An address and a port, or nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Listen(Option<SocketAddr>);

impl Listen {
    /// Where.
    pub const fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_neither| {
            format!(
                "`{text}` is no address with a port: write it as \"127.0.0.1:9209\" or \
                 \"[::1]:9209\", or \"\" for none"
            )
        })
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.0.map(|address| address.to_string()).unwrap_or_default()
    }
}
