//! `[webhook]`: who is told over HTTP.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::actions::{Seconds, Workers};

/// Whom to post events to.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where each event is posted to as [JSON](operations.md#the-event-as-json): `https://…` or
    /// `http://…`. Empty: nowhere. Refused: a password in it.
    pub url: Address,
    /// File with the secret that events are signed with. Empty: the environment variable
    /// `FASTNETMON_WEBHOOK_SECRET`, and where there is none, nothing is signed. Refused at the
    /// start and at a reload: unreadable, empty, or readable by everybody.
    pub secret_file: PathBuf,
    /// Certificates in PEM form; the other side's must be signed by one of them, or be one of
    /// them. Empty: those the system trusts. Refused at the start and at a reload: unreadable,
    /// none in it.
    pub ca_file: PathBuf,
    /// What one attempt may take, from the lookup of the name to the end of the answer.
    pub timeout_secs: Seconds,
    /// Attempts at one event: the second comes half a second after the first, then each pause is
    /// twice as long, up to a minute; 16 are about ten minutes.
    pub attempts: Attempts,
    /// Events on their way at the same time, each about another host.
    pub concurrency: Workers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Address::default(),
            secret_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            timeout_secs: Seconds::TEN,
            attempts: Attempts(16),
            concurrency: Workers::TWO,
        }
    }
}

/// An address of the web, or none.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

impl Address {
    /// As it is written; `None` when there is none.
    pub fn written(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }

    /// Does it go over TLS?
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let wrong = |what: &str| {
            Err(format!(
                "`url` {what}: write it as `https://host/path`, or leave it empty for no webhook"
            ))
        };
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let Some(rest) = rest else { return wrong("begins with neither https:// nor http://") };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || text.contains(char::is_whitespace) {
            return wrong("is no address");
        }
        // It would stand in logs and in `check`.
        if authority.contains('@') {
            return wrong("has a password in it, which would be shown; use `secret_file`");
        }
        Ok(Self(text))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

/// Attempts: 1 to 1000.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
pub struct Attempts(u32);

impl Attempts {
    /// How many.
    pub const fn count(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Attempts {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        if (1..=1000).contains(&count) {
            return Ok(Self(count));
        }
        Err(format!("`attempts` is {count}: it can be 1 to 1000"))
    }
}

impl From<Attempts> for u32 {
    fn from(attempts: Attempts) -> Self {
        attempts.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_the_web_and_holds_no_password() {
        for text in ["", "https://example.net/hook?x=1", "http://[::1]:8080"] {
            assert_eq!(Address::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for (text, expected) in [
            ("ftp://x/", "`url` begins with neither https:// nor http://"),
            ("https:///x", "`url` is no address"),
            ("https://a b/", "`url` is no address"),
            ("https://me:word@host/", "`url` has a password in it"),
        ] {
            let error = Address::try_from(text.to_owned()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
