//! A client that says exactly what it is told to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use xtask::lab::Lab;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks from within the lab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) server: SocketAddr,
    pub(crate) token: Option<&'a str>,
}

impl Client<'_> {
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// Is it there yet?
    pub(crate) fn try_get(&self, path: &str) -> Option<Answer> {
        self.exchange(&self.request("GET", path, "")).ok()
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.raw(&self.request(method, path, body))
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let token = self
            .token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let (server, length) = (self.server, body.len());
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {server}\r\n{token}Connection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    /// Sends these bytes and reads to the end.
    #[track_caller]
    pub(crate) fn raw(&self, request: &str) -> Answer {
        self.exchange(request).unwrap()
    }

    fn exchange(&self, request: &str) -> std::io::Result<Answer> {
        let (server, request) = (self.server, request.to_owned());
        let text = self.lab.run_inside(move || {
            let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(request.as_bytes())?;
            let mut text = Vec::new();
            stream.read_to_end(&mut text)?;
            std::io::Result::Ok(String::from_utf8_lossy(&text).into_owned())
        });
        let text = text.unwrap()?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
            unchunked(body)
        } else {
            body.to_owned()
        };
        Ok(Answer { status, head: head.to_owned(), body })
    }

    /// Opens a stream and reads lines of it until `enough`.
    pub(crate) fn stream(&self, path: &str, enough: impl Fn(&str) -> bool + Send) -> String {
        let request = self.request("GET", path, "");
        let server = self.server;
        let text = self.lab.run_inside(move || {
            let mut stream = TcpStream::connect(server).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            while !enough(&text) {
                let read = stream.read(&mut buffer).expect(&text);
                assert!(read > 0, "the stream ended: {text}");
                text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            text
        });
        text.unwrap()
    }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..length).filter(|chunk| !chunk.is_empty()) else { break };
        text.push_str(chunk);
        body = rest.get(length + 2..).unwrap_or_default();
    }
    text
}
