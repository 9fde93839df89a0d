//! `[report]`, and what the sections of the exports have in common.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[report]`: under which name this agent tells.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The name of this agent in databases. Empty: the name of the machine. Refused: anything but
    /// letters, digits, `.`, `_`, `-`.
    pub name: Name,
}

/// A name: letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This one, or another when it is empty.
    #[must_use]
    pub fn or(&self, other: &str) -> String {
        if self.0.is_empty() { other.to_owned() } else { self.0.clone() }
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let is_plain =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        if name.chars().all(is_plain) {
            return Ok(Self(name));
        }
        Err(format!("`{name}` is no name: letters, digits, `.`, `_` and `-` are"))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

/// A span: one second to one hour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u64", into = "u64")]
pub struct Span(u64);

impl Span {
    /// One that is known to be in range.
    pub(super) const fn of(secs: u64) -> Self {
        Self(secs)
    }

    /// As a span of time.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl TryFrom<u64> for Span {
    type Error = String;

    fn try_from(secs: u64) -> Result<Self, String> {
        if (1..=3600).contains(&secs) {
            return Ok(Self(secs));
        }
        Err(format!("{secs} seconds are out of range: it can be 1 to 3600"))
    }
}

impl From<Span> for u64 {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// Megabytes that may wait for a sink.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
pub struct QueueMb(u32);

impl QueueMb {
    /// In bytes.
    pub const fn bytes(self) -> usize {
        self.0 as usize * 1_000_000
    }
}

impl Default for QueueMb {
    fn default() -> Self {
        Self(16)
    }
}

impl TryFrom<u32> for QueueMb {
    type Error = String;

    fn try_from(megabytes: u32) -> Result<Self, String> {
        if (1..=4096).contains(&megabytes) {
            return Ok(Self(megabytes));
        }
        Err(format!("`queue_mb` is {megabytes}: it can be 1 to 4096"))
    }
}

impl From<QueueMb> for u32 {
    fn from(megabytes: QueueMb) -> Self {
        megabytes.0
    }
}

/// `host:port`; an IPv6 address in brackets.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    text: String,
    host: usize,
    port: u16,
}

impl Endpoint {
    /// On this machine.
    pub fn here(port: u16) -> Self {
        let host = "127.0.0.1";
        Self { text: format!("{host}:{port}"), host: host.len(), port }
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        let host = self.text.get(..self.host).unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no place: write `host:port`, or `[2001:db8::1]:port`");
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().map_err(|_not_a_port| refuse())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || port == 0 || (bare.is_none() && host.contains(':')) {
            return Err(refuse());
        }
        Ok(Self { host: host.len(), port, text })
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.text
    }
}

/// `http://host:port` or `https://host`, without anything behind it.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl(String);

impl BaseUrl {
    /// As it was written, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it `https`?
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl From<&'static str> for BaseUrl {
    fn from(text: &'static str) -> Self {
        Self(text.to_owned())
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let refuse = |why: &str| Err(format!("`{text}` {why}: write `http://host:port`"));
        match rest.map(|rest| rest.trim_end_matches('/')) {
            None => refuse("is no address of a web server"),
            Some(host) if host.is_empty() || host.contains(char::is_whitespace) => {
                refuse("names no host")
            }
            Some(host) if host.contains('@') => {
                refuse("holds a name or a password, which have keys of their own")
            }
            Some(host) if host.contains(['?', '#']) => refuse("holds a question"),
            Some(_) => Ok(Self(text.trim_end_matches('/').to_owned())),
        }
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused<T: TryFrom<String, Error = String>>(text: &str, expected: &str) {
        let error = T::try_from(text.to_owned()).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_place_is_host_and_port() {
        for (text, host, port) in
            [("db:6379", "db", 6379), ("[::1]:2003", "::1", 2003), ("10.0.0.1:1", "10.0.0.1", 1)]
        {
            let place = Endpoint::try_from(text.to_owned()).unwrap();
            assert_eq!((place.host(), place.port(), place.as_str()), (host, port, text));
        }
        for text in ["", "db", ":1", "db:0", "db:65536", "::1:2003", "db:x"] {
            refused::<Endpoint>(text, "is no place: write `host:port`");
        }
    }

    #[test]
    fn an_address_holds_neither_password_nor_question() {
        assert_eq!(BaseUrl::try_from("http://h:1/".to_owned()).unwrap().as_str(), "http://h:1");
        refused::<BaseUrl>("h:8086", "is no address of a web server");
        refused::<BaseUrl>("http://", "names no host");
        refused::<BaseUrl>("http://u:p@h", "holds a name or a password");
        refused::<BaseUrl>("http://h/?db=x", "holds a question");
    }

    #[test]
    fn a_name_is_plain() {
        assert_eq!(Name::try_from("edge-1.ams".to_owned()).unwrap().or("x"), "edge-1.ams");
        assert_eq!(Name::default().or("machine"), "machine");
        refused::<Name>("a b", "`a b` is no name");
    }
}
