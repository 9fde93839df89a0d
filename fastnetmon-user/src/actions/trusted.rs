//! Who may sign a server's certificate: whoever stands in a file, or whom the system trusts.
//!
//! **Invariant**: a file without any certificate trusts nobody, and that is told.

use std::io;
use std::path::{Path, PathBuf};

use ureq::tls::{PemItem, RootCerts, parse_pem};

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

/// Those in `ca_file`; when it is empty, those in the system's bundle.
///
/// # Errors
/// With the file that was looked into.
pub fn trusted(ca_file: &Path) -> Result<RootCerts, Untrusted> {
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
