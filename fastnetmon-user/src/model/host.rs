//! Hosts and prefixes.
//!
//! **Invariant**: a [`Prefix`] has no host bits; it cannot be made with them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr as _;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// A host's slot in the counter table; stable as long as the host is guarded.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostId(pub u32);

/// An address range without host bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(IpNetwork);

/// Why a text is not a prefix.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PrefixError {
    /// Not an address, or a length it cannot have.
    #[error("`{0}` is not an address or a network: write it as `192.0.2.0/24` or `2001:db8::/32`")]
    Malformed(String),
}

impl Prefix {
    /// Reads `address` or `address/length` and masks host bits. Tells whether there were any.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse_masked(text: &str) -> Result<(Self, bool), PrefixError> {
        let network = IpNetwork::from_str(text)
            .map_err(|_not_a_network| PrefixError::Malformed(text.to_owned()))?;
        let masked = Self::masked(network);
        Ok((masked, masked.0.ip() != network.ip()))
    }

    fn masked(network: IpNetwork) -> Self {
        // The length is valid already, so the masked form is too.
        Self(IpNetwork::new(network.network(), network.prefix()).unwrap_or(network))
    }

    /// The prefix that holds this address and nothing else.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNetwork::from(address))
    }

    /// The prefix of this length that holds the address.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        // A length up to the longest is valid.
        IpNetwork::new(address, length.min(longest))
            .map_or_else(|_| Self::host(address), Self::masked)
    }

    /// Its first address.
    pub fn address(self) -> IpAddr {
        self.0.ip()
    }

    /// Its length in bits.
    pub fn len(self) -> u8 {
        self.0.prefix()
    }

    /// A prefix of length 0: everything.
    pub fn is_empty(self) -> bool {
        self.0.prefix() == 0
    }

    /// Is this address within?
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// The network behind it, for a trie.
    pub fn network(self) -> IpNetwork {
        self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.ip(), self.0.prefix())
    }
}

impl From<IpNetwork> for Prefix {
    fn from(network: IpNetwork) -> Self {
        Self::masked(network)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        Self::parse_masked(&text).map(|(prefix, _masked)| prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str, masked: bool) {
        let (prefix, was_masked) = Prefix::parse_masked(text).unwrap();
        assert_eq!((prefix.to_string().as_str(), was_masked), (expected, masked));
    }

    #[test]
    fn host_bits_are_masked_and_told() {
        check("192.0.2.0/24", "192.0.2.0/24", false);
        check("192.0.2.7/24", "192.0.2.0/24", true);
        check("192.0.2.7", "192.0.2.7/32", false);
        check("2001:db8::7/32", "2001:db8::/32", true);
        check("2001:db8::7", "2001:db8::7/128", false);
    }

    #[test]
    fn what_is_no_prefix_is_refused_by_name() {
        for text in ["", "192.0.2.0/33", "192.0.2/24", "host", "2001:db8::/129"] {
            let error = Prefix::parse_masked(text).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is not")), "{error}");
        }
    }
}
