//! Posts to a database over HTTP.
//!
//! **Invariant**: blocks beside the runtime and one post at a time: one that was given up has ended
//! before the next begins. Passwords and tokens go into a header and nowhere else.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use ureq::Agent;

use crate::actions::{Untrusted, poster};
use crate::model::plain_words;
use crate::reports::ExportError;
use crate::reports::secret::{Secret, SecretError};
use crate::reports::settings::BaseUrl;

/// How much of an answer is read, and how much of it is told.
const ANSWER: u64 = 65_536;
pub(super) const TOLD: usize = 300;

/// Why a database cannot be reached, known before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Its password or token is not there.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Who signed its certificate is not known.
    #[error("`ca_file` in `[{section}]`: `{}`: {source}", file.display())]
    Certificates {
        /// Which section.
        section: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody is trusted.
    #[error("`[{section}]`: `{}` holds no certificate: name a file in PEM form with `ca_file`", file.display())]
    NoCertificate {
        /// Which section.
        section: &'static str,
        /// The file.
        file: PathBuf,
    },
}

/// By what we are let in.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// A user and a password.
    Basic(String, Secret),
    /// A user without a password.
    User(String),
    /// A token.
    Token(Secret),
}

/// What the other side said.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// The status.
    pub(super) status: u16,
    /// Its words: the first of them, on one line, when it refuses; all when it does not.
    pub(super) words: String,
}

/// The client.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    access: Option<Access>,
    gzip: bool,
    patience: Duration,
    /// Held by the post that runs.
    turn: Arc<Semaphore>,
}

impl Http {
    /// For `url`, which stands in `section`.
    ///
    /// # Errors
    /// When nobody is trusted to sign its certificate.
    pub(super) fn new(
        section: &'static str,
        url: &BaseUrl,
        access: Option<Access>,
        ca_file: &Path,
        gzip: bool,
    ) -> Result<Self, HttpError> {
        let agent = poster(url.is_secure().then_some(ca_file)).map_err(|why| match why {
            Untrusted::Unreadable(file, source) => {
                HttpError::Certificates { section, file, source }
            }
            Untrusted::Empty(file) => HttpError::NoCertificate { section, file },
        })?;
        Ok(Self {
            agent,
            access,
            gzip,
            patience: Duration::from_secs(5),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// A post may take so long.
    #[must_use]
    pub(super) const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Posts, and waits for the answer.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn post(&self, url: &str, body: &[u8]) -> Result<Reply, ExportError> {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            return Err(ExportError::retry("the last attempt has not ended yet"));
        };
        let (post, body) = (self.prepared(url), body.to_vec());
        let work = spawn_blocking(move || {
            let _turn = turn;
            post.send(body)
        });
        work.await.map_err(ExportError::retry)?.map_err(ExportError::retry)
    }

    /// The same, on this thread.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn post_and_wait(&self, url: &str, body: &[u8]) -> Result<Reply, ExportError> {
        self.prepared(url).send(body.to_vec()).map_err(ExportError::retry)
    }

    fn prepared(&self, url: &str) -> Post {
        Post {
            agent: self.agent.clone(),
            url: url.to_owned(),
            access: self.access.clone(),
            gzip: self.gzip,
            patience: self.patience,
        }
    }
}

struct Post {
    agent: Agent,
    url: String,
    access: Option<Access>,
    gzip: bool,
    patience: Duration,
}

impl Post {
    fn send(self, body: Vec<u8>) -> Result<Reply, String> {
        let Self { agent, url, access, gzip, patience } = self;
        let place = url.split('?').next().unwrap_or_default();
        let named = |error: &dyn std::fmt::Display| format!("`{place}`: {error}");
        let mut request = agent
            .post(&url)
            .config()
            .timeout_global(Some(patience))
            .build()
            .content_type("text/plain");
        match &access {
            None => {}
            Some(Access::Basic(user, password)) => {
                let both = BASE64_STANDARD.encode(format!("{user}:{}", password.reveal()));
                request = request.header("Authorization", format!("Basic {both}"));
            }
            Some(Access::User(user)) => {
                let both = BASE64_STANDARD.encode(format!("{user}:"));
                request = request.header("Authorization", format!("Basic {both}"));
            }
            Some(Access::Token(token)) => {
                request = request.header("Authorization", format!("Token {}", token.reveal()));
            }
        }
        let body = if gzip {
            request = request.header("Content-Encoding", "gzip");
            zipped(&body).map_err(|error| named(&error))?
        } else {
            body
        };
        let mut response = request.send(&body).map_err(|error| named(&error))?;
        let status = response.status().as_u16();
        let words = response.body_mut().with_config().limit(ANSWER).read_to_string();
        let words = words.unwrap_or_default();
        let words = if (200..300).contains(&status) { words } else { plain_words(&words, TOLD) };
        Ok(Reply { status, words })
    }
}

fn zipped(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
