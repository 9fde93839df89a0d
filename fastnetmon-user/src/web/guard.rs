//! Who may do what.
//!
//! **Invariant**: the page itself holds no data and is given to anybody; so are `/healthz` and
//! `/readyz`, without their reasons. A token is compared in constant time and never shown. Where no
//! token is needed, the request must name the loopback as its host: a page of somebody else's in the
//! operator's browser (DNS rebinding) cannot.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use axum::http::{HeaderMap, Method, StatusCode, header};
use subtle::ConstantTimeEq as _;

/// Who knows it may change things.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The first line of a file.
    ///
    /// # Errors
    /// When there is none, or one that is guessed too easily.
    pub fn read(file: &Path) -> Result<Self, String> {
        let told = |reason: String| format!("`token_file` {}: {reason}", file.display());
        let opened = fs::File::open(file).map_err(|error| told(error.to_string()))?;
        let mut line = String::new();
        BufReader::new(opened.take(4096))
            .read_line(&mut line)
            .map_err(|error| told(error.to_string()))?;
        let token = line.trim();
        if token.len() < SHORTEST {
            return Err(told(format!(
                "its first line has {} characters, and a token needs {SHORTEST}: make one with \
                 `openssl rand -hex 32`",
                token.len()
            )));
        }
        Ok(Self(token.to_owned()))
    }

    fn is(&self, offered: &str) -> bool {
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }
}

/// Characters of a token, at least.
const SHORTEST: usize = 16;

/// Decides who is let in.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    address: SocketAddr,
    token: Option<Token>,
}

/// Why somebody is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str);

impl Guard {
    /// Beyond loopback there must be a token.
    pub(super) fn new(address: SocketAddr, token: Option<Token>) -> Result<Self, String> {
        if token.is_none() && !address.ip().is_loopback() {
            return Err(format!(
                "`listen` is {address}, which others can reach: name a `token_file` in `[web]`, or \
                 listen on 127.0.0.1"
            ));
        }
        Ok(Self { address, token })
    }

    /// May this be done?
    pub(super) fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let is_reading = matches!(*method, Method::GET | Method::HEAD);
        if is_reading && OPEN.contains(&path) {
            return Ok(());
        }
        let is_local = self.address.ip().is_loopback();
        let is_payload = path.ends_with(PAYLOAD);
        if is_reading && is_local && !is_payload {
            return if names_loopback(headers) { Ok(()) } else { Err(MISDIRECTED) };
        }
        let Some(token) = &self.token else {
            return Err(if is_payload { NO_PAYLOAD } else { NO_TOKEN });
        };
        match offered(headers) {
            Some(offered) if token.is(offered) => Ok(()),
            Some(_wrong) => Err(WRONG_TOKEN),
            None => Err(TOKEN_NEEDED),
        }
    }
}

/// Given to anybody.
const OPEN: [&str; 8] =
    ["/", "/icon.svg", "/page.js", "/page.css", "/uplot.js", "/uplot.css", "/healthz", "/readyz"];

/// What users of a host sent and received is not for everybody who has an account on it.
const PAYLOAD: &str = "/packets";

const MISDIRECTED: Refusal = Refusal(
    StatusCode::MISDIRECTED_REQUEST,
    "this server is asked as `localhost`, `127.0.0.1` or `[::1]` only",
);
const NO_TOKEN: Refusal = Refusal(
    StatusCode::FORBIDDEN,
    "nothing can be changed here: name a `token_file` in `[web]`, or use `fastnetmon ban` and `unban`",
);
const NO_PAYLOAD: Refusal = Refusal(
    StatusCode::FORBIDDEN,
    "packets carry what users sent, so they need a token: name a `token_file` in `[web]`, or read the \
     file in `folder` of `[packets]`",
);
const TOKEN_NEEDED: Refusal =
    Refusal(StatusCode::UNAUTHORIZED, "send the token as `Authorization: Bearer …`");
const WRONG_TOKEN: Refusal = Refusal(StatusCode::UNAUTHORIZED, "this is not the token");

fn offered(headers: &HeaderMap) -> Option<&str> {
    let (kind, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    const SECRET: &str = "0123456789abcdef";

    #[track_caller]
    fn check(
        listen: &str,
        has_token: bool,
        request: (Method, &str, &[(header::HeaderName, &str)]),
        expected: Option<u16>,
    ) {
        let token = has_token.then(|| Token(SECRET.to_owned()));
        let guard = Guard::new(listen.parse().unwrap(), token).unwrap();
        let (method, path, pairs) = request;
        let outcome = guard.check(&method, path, &headers(pairs));
        assert_eq!(outcome.err().map(|refusal| refusal.0.as_u16()), expected);
    }

    #[test]
    fn loopback_reads_freely_and_changes_with_the_token() {
        let local = "127.0.0.1:9209";
        let host = (header::HOST, "localhost:9209");
        let right = (header::AUTHORIZATION, "Bearer 0123456789abcdef");
        let wrong = (header::AUTHORIZATION, "Bearer 0123456789abcdeX");
        let bans = "/api/v1/bans";
        check(local, false, (Method::GET, bans, std::slice::from_ref(&host)), None);
        check(local, false, (Method::GET, bans, &[(header::HOST, "[::1]")]), None);
        check(local, false, (Method::GET, bans, &[(header::HOST, "evil.example:9209")]), Some(421));
        check(local, false, (Method::GET, bans, &[]), Some(421));
        check(local, false, (Method::POST, bans, &[host.clone(), right.clone()]), Some(403));
        check(local, true, (Method::POST, bans, std::slice::from_ref(&host)), Some(401));
        check(local, true, (Method::POST, bans, &[host.clone(), wrong]), Some(401));
        check(local, true, (Method::DELETE, bans, &[host.clone(), right.clone()]), None);
        let packets = "/api/v1/bans/7/packets";
        check(local, false, (Method::GET, packets, std::slice::from_ref(&host)), Some(403));
        check(local, true, (Method::GET, packets, std::slice::from_ref(&host)), Some(401));
        check(local, true, (Method::GET, packets, &[host, right]), None);
    }

    #[test]
    fn beyond_loopback_everything_but_the_page_needs_the_token() {
        let open = "192.0.2.1:9209";
        let host = (header::HOST, "192.0.2.1:9209");
        let right = (header::AUTHORIZATION, "bearer 0123456789abcdef");
        check(open, true, (Method::GET, "/", std::slice::from_ref(&host)), None);
        check(open, true, (Method::GET, "/healthz", &[]), None);
        check(open, true, (Method::GET, "/metrics", std::slice::from_ref(&host)), Some(401));
        check(open, true, (Method::GET, "/metrics", &[host, right]), None);
        let error = Guard::new(open.parse().unwrap(), None).unwrap_err();
        assert!(error.starts_with("`listen` is 192.0.2.1:9209, which others can reach"), "{error}");
    }

    #[test]
    fn a_token_is_not_shown_and_not_short() {
        assert_eq!(format!("{:?}", Token(SECRET.to_owned())), "Token(…)");
        let folder = std::env::temp_dir().join(format!("fnm-token-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("token");
        assert!(Token::read(&file).unwrap_err().contains("No such file"));
        fs::write(&file, "short\n").unwrap();
        assert!(Token::read(&file).unwrap_err().contains("has 5 characters"));
        fs::write(&file, format!("{SECRET}\nsecond line\n")).unwrap();
        assert_eq!(Token::read(&file), Ok(Token(SECRET.to_owned())));
        fs::remove_dir_all(&folder).unwrap();
    }
}
