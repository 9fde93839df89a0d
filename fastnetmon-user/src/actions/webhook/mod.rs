//! Posts the event as JSON, signed.
//!
//! | header | says |
//! |---|---|
//! | `Idempotency-Key` | the event's name, the same for each attempt and after a restart |
//! | `X-FastNetMon-Event` | `ban`, `attack_details`, `unban`, `alert`, `calm` |
//! | `X-FastNetMon-Signature` | `sha256=` and the HMAC-SHA256 of the body in hex, with a secret |
//!
//! **Invariant**: the secret is in no log, no error and no answer. Who does not show a certificate
//! that is trusted is told nothing.

mod settings;

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::hmac;
use ureq::Agent;
use ureq::http::StatusCode;

pub use self::settings::{Address, Attempts, Settings};
use crate::actions::{Action, ActionError, Errand, Sort, Untrusted, event, poster};
use crate::model::plain_words;
use crate::origins::Origins;
use crate::verdicts::Verdict;

/// The environment's word for the secret.
const VARIABLE: &str = "FASTNETMON_WEBHOOK_SECRET";

/// How much of an answer is read, and how much of it is told.
const ANSWER: u64 = 4096;
const TOLD: usize = 200;

/// Why there is no webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// A file cannot be read.
    #[error("`{file}` ({key} in `[webhook]`): {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// The key that names it.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The secret is none.
    #[error("`{0}` (`secret_file` in `[webhook]`) is empty: put the secret into it")]
    NoSecret(String),
    /// Others may read the secret.
    #[error("`{0}` (`secret_file` in `[webhook]`) may be read by everybody: `chmod 600` it")]
    Open(String),
    /// Nobody is trusted.
    #[error("`{0}` holds no certificate: name a file in PEM form with `ca_file` in `[webhook]`")]
    NoCertificate(String),
}

/// The other side.
#[derive(Clone)]
pub struct Webhook {
    url: Address,
    agent: Agent,
    key: Option<Arc<hmac::Key>>,
    origins: Origins,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs = self.key.is_some();
        f.debug_struct("Webhook")
            .field("url", &self.url)
            .field("signs", &signs)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// As the settings say; `None` when they name no address.
    ///
    /// # Errors
    /// When a file they name cannot be used.
    pub fn new(settings: &Settings) -> Result<Option<Self>, WebhookError> {
        let Settings { url, secret_file, ca_file, .. } = settings;
        if url.written().is_none() {
            return Ok(None);
        }
        let secret = if secret_file.as_os_str().is_empty() {
            from_environment()
        } else {
            Some(from_file(secret_file)?)
        };
        let key = secret.map(|secret| Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)));
        let agent = poster(url.is_secure().then_some(ca_file)).map_err(untrusted)?;
        let origins = Origins::default();
        Ok(Some(Self { url: url.clone(), agent, key, origins }))
    }

    /// Will tell where packets come from, as far as that is known.
    #[must_use]
    pub fn knowing(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// The signature of this body.
    fn signature(&self, body: &[u8]) -> Option<String> {
        let key = self.key.as_deref()?;
        let mut text = "sha256=".to_owned();
        for byte in hmac::sign(key, body).as_ref() {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "{byte:02x}");
        }
        Some(text)
    }

    fn post(
        &self,
        errand: &Errand,
        patience: Duration,
    ) -> Result<(StatusCode, String), ureq::Error> {
        let body = event::json(errand, &self.origins).to_string();
        let mut request = self
            .agent
            .post(self.url.written().unwrap_or_default())
            .config()
            .timeout_global(Some(patience))
            .build()
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", errand.event().to_string())
            .header("X-FastNetMon-Event", errand.verdict.name());
        if let Some(signature) = self.signature(body.as_bytes()) {
            request = request.header("X-FastNetMon-Signature", signature);
        }
        let mut response = request.send(body)?;
        let status = response.status();
        // Its words are told when it refuses; when they cannot be read, the status has to do.
        let words = response.body_mut().with_config().limit(ANSWER).read_to_string();
        Ok((status, words.map(|words| plain_words(&words, TOLD)).unwrap_or_default()))
    }
}

impl Action for Webhook {
    const NAME: &'static str = "webhook";
    const SORT: Sort = Sort::Tells;

    fn wants(&self, verdict: &Verdict) -> bool {
        verdict.ban().is_none_or(|ban| ban.deeds.webhook)
    }

    fn carry_out(&mut self, errand: &Errand, patience: Duration) -> Result<(), ActionError> {
        let url = &self.url;
        let (status, words) = self.post(errand, patience).map_err(|error| {
            let remedy = if is_distrust(&error) {
                "; name who signed it with `ca_file` in `[webhook]`, if you trust it"
            } else {
                ""
            };
            ActionError::Retry { reason: format!("`{url}`: {error}{remedy}") }
        })?;
        if status.is_success() {
            return Ok(());
        }
        let mut reason = format!("`{url}` answers {}", status.as_u16());
        if !words.is_empty() {
            let _infallible = write!(reason, ": {words}");
        }
        // It may be up again in a moment, or asks us to come back.
        if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            return Err(ActionError::Retry { reason });
        }
        if status.is_redirection() {
            reason.push_str("; give the address it sends us on to as `url` in `[webhook]`");
        }
        Err(ActionError::Refused { reason })
    }
}

/// Was it the certificate?
fn is_distrust(error: &ureq::Error) -> bool {
    let error = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|error| error.downcast_ref()),
        _ => None,
    };
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

#[expect(clippy::disallowed_methods, reason = "a secret may come by the environment")]
fn from_environment() -> Option<Vec<u8>> {
    std::env::var(VARIABLE).ok().filter(|secret| !secret.is_empty()).map(String::into_bytes)
}

fn from_file(file: &Path) -> Result<Vec<u8>, WebhookError> {
    let unreadable = |source| WebhookError::Unreadable {
        file: file.display().to_string(),
        key: "`secret_file`",
        source,
    };
    let mode = fs::metadata(file).map_err(unreadable)?.permissions().mode();
    if mode & 0o004 != 0 {
        return Err(WebhookError::Open(file.display().to_string()));
    }
    let secret = fs::read(file).map_err(unreadable)?;
    let secret = secret.trim_ascii();
    if secret.is_empty() {
        return Err(WebhookError::NoSecret(file.display().to_string()));
    }
    Ok(secret.to_vec())
}

/// Nobody is trusted to sign a certificate.
fn untrusted(why: Untrusted) -> WebhookError {
    match why {
        Untrusted::Unreadable(file, source) => {
            let file = file.display().to_string();
            WebhookError::Unreadable { file, key: "`ca_file`", source }
        }
        Untrusted::Empty(file) => WebhookError::NoCertificate(file.display().to_string()),
    }
}

#[cfg(test)]
pub(in crate::actions) mod tests;
