//! Endpoints that are dead, slow, broken or somebody else.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::actions::Errand;
use crate::model::Wall;
use crate::verdicts::Ban;

/// What was posted.
#[derive(Clone, Debug, Default)]
pub(in crate::actions) struct Posted {
    pub(in crate::actions) headers: BTreeMap<String, String>,
    pub(in crate::actions) body: String,
}

/// How an endpoint behaves.
#[derive(Clone)]
pub(in crate::actions) enum Manner {
    /// Answers with these, then with the last one for ever.
    Answers(Vec<&'static str>),
    /// Takes the words and says nothing.
    Silent,
}

/// An endpoint on this machine.
pub(in crate::actions) struct Endpoint {
    pub(in crate::actions) port: u16,
    posted: Arc<Mutex<Vec<Posted>>>,
}

pub(in crate::actions) const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

impl Endpoint {
    pub(in crate::actions) fn open(manner: Manner) -> Self {
        Self::serve(0, manner, None)
    }

    pub(in crate::actions) fn open_at(port: u16, manner: Manner) -> Self {
        Self::serve(port, manner, None)
    }

    fn serve(port: u16, manner: Manner, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let posted: Arc<Mutex<Vec<Posted>>> = Arc::default();
        let heard = Arc::clone(&posted);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let answer = match &manner {
                    Manner::Answers(answers) => {
                        answers.get(number).or_else(|| answers.last()).copied()
                    }
                    Manner::Silent => None,
                };
                match &tls {
                    None => talk(&stream, &heard, answer),
                    Some(config) => {
                        let server = ServerConnection::new(Arc::clone(config)).unwrap();
                        talk(StreamOwned::new(server, &stream), &heard, answer);
                    }
                }
                if answer.is_none() {
                    silent.push(stream);
                }
            }
        });
        Self { port, posted }
    }

    pub(in crate::actions) fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    pub(in crate::actions) fn settings(&self) -> Settings {
        settings(&format!("http://127.0.0.1:{}/hook", self.port))
    }
}

fn talk(stream: impl Read + Write, heard: &Mutex<Vec<Posted>>, answer: Option<&str>) {
    let mut reader = BufReader::new(stream);
    let mut posted = Posted::default();
    let mut line = String::new();
    loop {
        line.clear();
        // Who does not trust us hangs up.
        if reader.read_line(&mut line).is_err() || line.is_empty() {
            return;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            posted.headers.insert(name.to_lowercase(), value.to_owned());
        } else {
            posted.headers.insert("request".to_owned(), line.to_owned());
        }
    }
    let length = posted.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    posted.body = String::from_utf8(body).unwrap();
    heard.lock().unwrap().push(posted);
    if let Some(answer) = answer {
        let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        reader.get_mut().flush().unwrap();
    }
}

pub(in crate::actions) fn settings(url: &str) -> Settings {
    Settings { url: url.to_owned().try_into().unwrap(), ..Settings::default() }
}

fn webhook(settings: &Settings) -> Webhook {
    Webhook::new(settings).unwrap().unwrap()
}

fn errand() -> Errand {
    Errand { verdict: Verdict::Ban(Ban::of([192, 0, 2, 7])), wall: Wall::default() }
}

fn carry_out(settings: &Settings) -> Result<(), ActionError> {
    webhook(settings).carry_out(&errand(), Duration::from_secs(5))
}

/// A folder of its own for each test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fnm-hook-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn an_event_is_posted_signed_and_named() {
    let folder = Folder::new("signed");
    let endpoint = Endpoint::open(Manner::Answers(vec![OK]));
    let secret_file = folder.write("secret", "Jefe\n", 0o600);
    let settings = Settings { secret_file, ..endpoint.settings() };
    assert_eq!(carry_out(&settings), Ok(()));
    let posted = endpoint.posted();
    let [Posted { headers, body }] = posted.as_slice() else { panic!("{posted:?}") };
    assert_eq!(headers["request"], "POST /hook HTTP/1.1");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["idempotency-key"], "1-ban");
    assert_eq!(headers["x-fastnetmon-event"], "ban");
    let event: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&event["ip"], &event["id"]), (&"192.0.2.7".into(), &"1-ban".into()));
    // The other side's way of checking it.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
    let signature = headers["x-fastnetmon-signature"].strip_prefix("sha256=").unwrap();
    let (pairs, []) = signature.as_bytes().as_chunks::<2>() else { panic!("{signature}") };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = pairs.iter().map(byte).collect();
    hmac::verify(&key, body.as_bytes(), &bytes).unwrap();
}

#[test]
fn the_signature_is_that_of_rfc_4231() {
    // Test case 2.
    let folder = Folder::new("rfc");
    let secret_file = folder.write("secret", "Jefe", 0o600);
    let settings = Settings { secret_file, ..settings("http://127.0.0.1:9/") };
    let signed = webhook(&settings).signature(b"what do ya want for nothing?").unwrap();
    let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(signed, expected);
}

#[test]
fn without_a_secret_nothing_is_signed_and_a_secret_is_never_shown() {
    let endpoint = Endpoint::open(Manner::Answers(vec![OK]));
    assert_eq!(carry_out(&endpoint.settings()), Ok(()));
    assert!(!endpoint.posted()[0].headers.contains_key("x-fastnetmon-signature"));
    let folder = Folder::new("shown");
    let secret_file = folder.write("secret", "hunter2", 0o600);
    let settings = Settings { secret_file, ..settings("http://127.0.0.1:9/") };
    let webhook = webhook(&settings);
    assert!(!format!("{webhook:?} {settings:?}").contains("hunter2"));
}

#[test]
fn a_secret_that_is_none_or_open_to_all_is_refused() {
    let folder = Folder::new("open");
    for (name, text, mode, expected) in [
        ("open", "word", 0o644, "may be read by everybody: `chmod 600` it"),
        ("empty", " \n", 0o600, "is empty: put the secret into it"),
    ] {
        let secret_file = folder.write(name, text, mode);
        let settings = Settings { secret_file, ..settings("http://127.0.0.1:9/") };
        let error = Webhook::new(&settings).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
    let secret_file = folder.0.join("none");
    let settings = Settings { secret_file, ..settings("http://127.0.0.1:9/") };
    let error = Webhook::new(&settings).unwrap_err().to_string();
    assert!(error.contains("(`secret_file` in `[webhook]`): No such file"), "{error}");
}

/// Is it tried again, and what is said?
#[track_caller]
fn check(answer: &'static str, is_tried_again: bool, expected: &str) {
    let endpoint = Endpoint::open(Manner::Answers(vec![answer]));
    let error = carry_out(&endpoint.settings()).unwrap_err();
    assert_eq!(matches!(error, ActionError::Retry { .. }), is_tried_again, "{error}");
    let port = endpoint.port.to_string();
    assert_eq!(error.to_string().replace(&port, "PORT"), expected);
}

#[test]
fn who_cannot_now_is_asked_again_and_who_will_not_is_not() {
    check(
        "HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nno\x1b  disk",
        true,
        "not now: `http://127.0.0.1:PORT/hook` answers 500: no disk",
    );
    check(
        "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n",
        true,
        "not now: `http://127.0.0.1:PORT/hook` answers 429",
    );
    check(
        "HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n",
        false,
        "`http://127.0.0.1:PORT/hook` answers 404",
    );
    check(
        "HTTP/1.1 301 There\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        false,
        "`http://127.0.0.1:PORT/hook` answers 301; give the address it sends us on to as `url` in \
         `[webhook]`",
    );
}

#[test]
fn a_dead_endpoint_is_tried_again() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let error = carry_out(&settings(&format!("http://127.0.0.1:{port}/"))).unwrap_err();
    assert!(matches!(error, ActionError::Retry { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_slow_endpoint_has_a_deadline() {
    let endpoint = Endpoint::open(Manner::Silent);
    let begun = now();
    let mut webhook = webhook(&endpoint.settings());
    let error = webhook.carry_out(&errand(), Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, ActionError::Retry { .. }), "{error}");
    assert!(error.to_string().contains("timeout"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[expect(clippy::disallowed_methods, reason = "a test of a deadline")]
fn now() -> Instant {
    Instant::now()
}

/// A TLS endpoint named `localhost`, and its certificate.
fn secure(name: &str) -> (Endpoint, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let endpoint = Endpoint::serve(0, Manner::Answers(vec![OK]), Some(Arc::new(config)));
    (endpoint, cert.pem())
}

#[test]
fn a_certificate_is_trusted_when_it_is_named_and_not_otherwise() {
    let folder = Folder::new("tls");
    let (endpoint, pem) = secure("localhost");
    let url = format!("https://localhost:{}/", endpoint.port);
    let ca_file = folder.write("ca.pem", &pem, 0o644);
    let trusting = Settings { ca_file, ..settings(&url) };
    assert_eq!(carry_out(&trusting), Ok(()));
    assert_eq!(endpoint.posted().len(), 1);
    // Somebody else's certificate is trusted: this one is not.
    let (_, other) = secure("localhost");
    let ca_file = folder.write("other.pem", &other, 0o644);
    let error = carry_out(&Settings { ca_file, ..settings(&url) }).unwrap_err();
    assert!(matches!(error, ActionError::Retry { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("invalid peer certificate") && text.contains("`ca_file`"), "{text}");
    // Trusted, but in another name.
    let (stranger, pem) = secure("example.net");
    let ca_file = folder.write("stranger.pem", &pem, 0o644);
    let url = format!("https://localhost:{}/", stranger.port);
    let error = carry_out(&Settings { ca_file, ..settings(&url) }).unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert!(stranger.posted().is_empty() && endpoint.posted().len() == 1, "nothing was told");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let folder = Folder::new("pem");
    let ca_file = folder.write("ca.pem", "no certificate", 0o644);
    let error = Webhook::new(&Settings { ca_file, ..settings("https://localhost/") }).unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("name a file in PEM form with `ca_file` in `[webhook]`"), "{text}");
}

#[test]
fn a_connection_that_ends_in_the_middle_is_tried_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let accepted: Option<TcpStream> = listener.incoming().next().and_then(Result::ok);
        drop(accepted);
    });
    let error = carry_out(&settings(&format!("http://127.0.0.1:{port}/"))).unwrap_err();
    assert!(matches!(error, ActionError::Retry { .. }), "{error}");
}
