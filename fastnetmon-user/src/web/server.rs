//! The socket and those who come in.
//!
//! **Invariant**: at most so many clients at the same time; one more is told so and let go. Who takes
//! longer than [`HEADERS`] over the head of a request is let go as well.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use crate::web::guard::{Guard, Token};
use crate::web::settings::Settings;

/// How long the head of a request may take to come.
const HEADERS: Duration = Duration::from_secs(10);

/// Between two attempts when the system has no descriptor for another client.
const BREATH: Duration = Duration::from_millis(200);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The settings contradict each other, or a file cannot be read.
    #[error("[web]: {0}")]
    Settings(String),
    /// The address cannot be had.
    #[error("[web] `listen` = \"{address}\": {source}; is another agent or server there?")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A socket that listens, and who may come in.
#[derive(Debug)]
pub struct Door {
    pub(super) listener: std::net::TcpListener,
    pub(super) guard: Guard,
    pub(super) connections: NonZeroU32,
    pub(super) metrics_hosts: usize,
}

impl Door {
    /// Listens where the settings say; `None`: they say nowhere.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn open(settings: &Settings) -> Result<Option<Self>, WebError> {
        let Some(address) = settings.listen.address() else { return Ok(None) };
        let token = if settings.token_file.as_os_str().is_empty() {
            None
        } else {
            Some(Token::read(&settings.token_file).map_err(WebError::Settings)?)
        };
        let guard = Guard::new(address, token).map_err(WebError::Settings)?;
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| WebError::Listen { address, source })?;
        Ok(Some(Self {
            listener,
            guard,
            connections: settings.connections,
            metrics_hosts: usize::try_from(settings.metrics_hosts).unwrap_or(usize::MAX),
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves until the runtime ends.
pub(super) async fn run(listener: TcpListener, connections: NonZeroU32, router: Router) {
    let room = Arc::new(Semaphore::new(usize::try_from(connections.get()).unwrap_or(1)));
    loop {
        match listener.accept().await {
            Ok((stream, _whence)) => match Arc::clone(&room).try_acquire_owned() {
                Ok(permit) => drop(tokio::spawn(attend(stream, router.clone(), permit))),
                Err(_full) => drop(tokio::spawn(turn_away(stream))),
            },
            Err(error) => {
                warn!(%error, "No HTTP client can be let in.");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

async fn attend(stream: TcpStream, router: Router, _permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "An HTTP client's answers may be late.");
    }
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "An HTTP client left.");
    }
}

async fn turn_away(mut stream: TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 55\r\n\r\n\
        {\"error\":\"as many clients as are allowed are here now\"}";
    // It may not listen; it is turned away all the same.
    let _unheard = tokio::time::timeout(BREATH, stream.write_all(FULL)).await;
}
