//! Who posts to servers, and who may sign their certificates: whoever stands in a file, or whom the
//! system trusts.
//!
//! **Invariant**: a file without any certificate trusts nobody, and that is told.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// Where systems keep the certificates they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why nobody is trusted.
#[derive(Debug)]
pub enum Untrusted {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// No certificate is in it.
    Empty(PathBuf),
}

/// Who posts: to nobody but whom it is told to, and by TLS where `ca_file` says whom to trust.
///
/// # Errors
/// When nobody is trusted.
pub fn poster(ca_file: Option<&Path>) -> Result<Agent, Untrusted> {
    let mut config = Agent::config_builder()
        // A post that is sent on somewhere else is not what was asked for.
        .max_redirects(0)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(concat!("fastnetmon/", env!("CARGO_PKG_VERSION")));
    if let Some(ca_file) = ca_file {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(trusted(ca_file)?)
            .build();
        config = config.tls_config(tls);
    }
    Ok(config.build().new_agent())
}

/// Those in `ca_file`; when it is empty, those in the system's bundle.
///
/// # Errors
/// With the file that was looked into.
fn trusted(ca_file: &Path) -> Result<RootCerts, Untrusted> {
    let file = if ca_file.as_os_str().is_empty() {
        let found = BUNDLES.iter().map(Path::new).find(|bundle| bundle.exists());
        found.unwrap_or_else(|| Path::new(BUNDLES[0]))
    } else {
        ca_file
    };
    let text =
        std::fs::read(file).map_err(|source| Untrusted::Unreadable(file.to_owned(), source))?;
    let certificates: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Untrusted::Empty(file.to_owned()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
