//! The connection to Redis.
//!
//! **Invariant**: blocks beside the runtime, one pipeline at a time. A pipeline that was given up
//! ends at the next answer, and its connection with it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use redis::{
    Client, Connection, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    Value,
};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::model::plain_words;
use crate::reports::http::TOLD;
use crate::reports::redis::{COUNTS, Server, Settings};
use crate::reports::secret::SecretError;
use crate::reports::{Batch, Carrier, ExportError};

/// How long a connection may take, and an answer to `PING`.
const CONNECT: Duration = Duration::from_millis(1500);

/// The part that has a socket.
pub struct Link {
    place: String,
    client: Client,
    connection: Option<Connection>,
    patience: Duration,
    /// Held by the pipeline that runs.
    turn: Arc<Semaphore>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Why there is no link, known before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Its password is not there.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The client does not take it.
    #[error("`server` in `[redis]`: {0}")]
    Place(RedisError),
}

impl Link {
    /// As the settings say. Redis need not be there yet.
    ///
    /// # Errors
    /// When the password is not there.
    pub fn new(settings: &Settings) -> Result<Self, LinkError> {
        let mut redis = RedisConnectionInfo::default()
            .set_db(i64::from(settings.database))
            .set_skip_set_lib_name();
        if !settings.username.is_empty() {
            redis = redis.set_username(&settings.username);
        }
        if let Some(secret) = settings.secret()? {
            redis = redis.set_password(secret.reveal());
        }
        let address = match &settings.server {
            Server::Tcp(endpoint) => {
                ConnectionAddr::Tcp(endpoint.host().to_owned(), endpoint.port())
            }
            Server::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let info = address.into_connection_info().map_err(LinkError::Place)?;
        let client = Client::open(info.set_redis_settings(redis)).map_err(LinkError::Place)?;
        Ok(Self {
            place: settings.server.clone().into(),
            client,
            connection: None,
            patience: settings.timeout_secs.duration(),
            turn: Arc::new(Semaphore::new(1)),
        })
    }
}

impl Carrier for Link {
    async fn carry(&mut self, batch: &Batch) -> Result<(), ExportError> {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            return Err(ExportError::retry("the last attempt has not ended yet"));
        };
        let stage = Giver::default();
        let pipeline = Pipeline {
            client: self.client.clone(),
            patience: self.patience,
            stage: Arc::clone(&stage.0),
        };
        let (sent, connection) = (batch.clone(), self.connection.take());
        let work = spawn_blocking(move || {
            let _turn = turn;
            pipeline.run(connection, &sent)
        });
        let outcome = match timeout(self.patience, work).await {
            Ok(ended) => {
                let (connection, outcome) = ended.map_err(ExportError::retry)?;
                self.connection = connection;
                outcome
            }
            Err(_late) => {
                let reason = format!("no answer within {} s", self.patience.as_secs_f32());
                if stage.give_up() == Stage::BEGUN && batch.to == COUNTS {
                    Err(ExportError::Uncertain { reason, lines: batch.lines })
                } else {
                    Err(ExportError::Retry { reason })
                }
            }
        };
        outcome.map_err(|error| named(&self.place, error))
    }
}

fn named(place: &str, error: ExportError) -> ExportError {
    let named = |reason: String| format!("`{place}`: {reason}");
    match error {
        ExportError::Retry { reason } => ExportError::Retry { reason: named(reason) },
        ExportError::Refused { reason, lines } => {
            ExportError::Refused { reason: named(reason), lines }
        }
        ExportError::Uncertain { reason, lines } => {
            ExportError::Uncertain { reason: named(reason), lines }
        }
    }
}

/// How far a pipeline is. Whoever waits and whoever works agree on it, so that what was given up
/// before it began never begins.
#[derive(Debug, Default)]
struct Stage(AtomicU8);

impl Stage {
    const CONNECTING: u8 = 0;
    const BEGUN: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// Is it still wanted? From now on, something may have arrived.
    fn begin(&self) -> bool {
        let (from, to) = (Self::CONNECTING, Self::BEGUN);
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn is_given_up(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::GIVEN_UP
    }
}

/// Gives a pipeline up when it is dropped.
#[derive(Debug, Default)]
struct Giver(Arc<Stage>);

impl Giver {
    /// Returns how far it was.
    fn give_up(&self) -> u8 {
        self.0.0.swap(Stage::GIVEN_UP, Ordering::AcqRel)
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.give_up();
    }
}

struct Pipeline {
    client: Client,
    patience: Duration,
    stage: Arc<Stage>,
}

impl Pipeline {
    /// Sends a batch and reads the answers. The connection comes back if it can be used again.
    fn run(
        self,
        connection: Option<Connection>,
        batch: &Batch,
    ) -> (Option<Connection>, Result<(), ExportError>) {
        let mut connection = match self.open(connection) {
            Ok(connection) => connection,
            // Nothing was sent.
            Err(error) => return (None, Err(ExportError::retry(told(&error)))),
        };
        if !self.stage.begin() {
            return (None, Err(ExportError::retry("given up")));
        }
        match self.exchange(&mut connection, batch) {
            Ok(answers) => (Some(connection), answers.judged(batch)),
            Err((error, answered)) if batch.to == COUNTS => {
                let lines = batch.lines - answered;
                (None, Err(ExportError::Uncertain { reason: error, lines }))
            }
            Err((error, _)) => (None, Err(ExportError::retry(error))),
        }
    }

    /// A connection whose other end has just answered.
    fn open(&self, connection: Option<Connection>) -> Result<Connection, RedisError> {
        if let Some(mut connection) = connection {
            connection.set_read_timeout(Some(CONNECT))?;
            if redis::cmd("PING").query::<String>(&mut connection).is_ok() {
                return Ok(connection);
            }
        }
        let mut connection = self.client.get_connection_with_timeout(CONNECT)?;
        connection.set_read_timeout(Some(CONNECT))?;
        redis::cmd("PING").query::<String>(&mut connection)?;
        Ok(connection)
    }

    /// On failure also tells how many commands were answered.
    fn exchange(
        &self,
        connection: &mut Connection,
        batch: &Batch,
    ) -> Result<Answers, (String, u64)> {
        let broken = |answered| move |error: RedisError| (told(&error), answered);
        connection.set_write_timeout(Some(self.patience)).map_err(broken(0))?;
        connection.set_read_timeout(Some(self.patience)).map_err(broken(0))?;
        connection.send_packed_command(&batch.bytes).map_err(broken(0))?;
        let mut answers = Answers::default();
        for answered in 0..batch.lines {
            if self.stage.is_given_up() {
                return Err(("given up".to_owned(), answered));
            }
            if let Value::ServerError(error) =
                connection.recv_response().map_err(broken(answered))?
            {
                answers.refused += 1;
                answers.reason.get_or_insert_with(|| told(&error));
            }
        }
        Ok(answers)
    }
}

/// A server's words, as they may be shown.
fn told(error: &impl fmt::Display) -> String {
    plain_words(&error.to_string(), TOLD)
}

/// What the server said to a pipeline.
#[derive(Debug, Default)]
struct Answers {
    refused: u64,
    reason: Option<String>,
}

impl Answers {
    fn judged(self, batch: &Batch) -> Result<(), ExportError> {
        let Some(mut reason) = self.reason else { return Ok(()) };
        if reason.contains("MOVED") {
            reason.push_str("; a cluster is reached by a proxy that knows where its keys are");
        }
        if self.refused == batch.lines {
            // Nothing was done: it loads, is full, wants a password, is a replica.
            return Err(ExportError::Retry { reason });
        }
        Err(ExportError::Refused { reason, lines: self.refused })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers so, one connection after the other.
    fn server(connections: &'static [&'static [&'static str]]) -> Settings {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for answers in connections {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in *answers {
                    assert_ne!(stream.read(&mut [0; 512]).unwrap(), 0);
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        Settings { server: Server::try_from(place).unwrap(), ..Settings::default() }
    }

    #[test]
    fn what_a_server_says_against_it_is_plain() {
        const REFUSED: &str = "-ERR no\u{1b}]0;gone\u{7} \u{202e}room\r\n";
        let settings = server(&[&[REFUSED], &["+PONG\r\n", REFUSED]]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut link = Link::new(&settings).unwrap();
        let bytes = redis::cmd("PING").get_packed_command();
        let batch = Batch { lines: 1, bytes, ..Batch::default() };
        for what in ["before it is asked for anything", "when it is"] {
            let Err(ExportError::Retry { reason }) = runtime.block_on(link.carry(&batch)) else {
                panic!("{what}: taken");
            };
            assert!(reason.contains("no ]0;gone room"), "{what}: {reason:?}");
            assert!(!reason.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{what}: {reason:?}");
        }
    }
}
