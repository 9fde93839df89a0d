//! One conversation over the control socket.

use std::io::{self, BufReader};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;

use crate::control::{
    CodecError, Happened, Hello, HostView, Networks, PROTOCOL_VERSION, Reply, Request, Status,
    read_line, write_line,
};

/// Bytes of an answer, at most.
const LONGEST_REPLY: u64 = 64 * 1024 * 1024;

/// How long the agent may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody there.
    #[error("no agent answers at `{}` ({source}); is it running, and is `--socket` right?", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not allowed.
    #[error(
        "not permitted to ask at `{}`: become a member of its group (`fastnetmon`), or ask as root",
        path.display()
    )]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// Another version.
    #[error(
        "the agent ({agent}) speaks version {theirs} of the protocol and this client {ours}: use the client that came with it"
    )]
    Version {
        /// The agent's version.
        agent: String,
        /// Its protocol.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The conversation broke.
    #[error("the agent went away: {0}")]
    Lost(#[from] CodecError),
    /// The agent said no.
    #[error("{0}")]
    Refused(String),
    /// The agent said something else.
    #[error("the agent gave another answer than was asked for")]
    Unexpected,
}

/// A conversation.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<UnixStream>,
}

impl Connection {
    /// Begins one.
    ///
    /// # Errors
    /// When nobody is there, or another version.
    pub fn open(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| {
            let path = path.to_owned();
            if source.kind() == io::ErrorKind::PermissionDenied {
                ClientError::Forbidden { path }
            } else {
                ClientError::Nobody { path, source }
            }
        })?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(CodecError::from)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(CodecError::from)?;
        let mut reader = BufReader::new(stream);
        let hello: Hello = read_line(&mut reader, LONGEST_REPLY)?;
        if hello.protocol != PROTOCOL_VERSION {
            return Err(ClientError::Version {
                agent: hello.fastnetmon,
                theirs: hello.protocol,
                ours: PROTOCOL_VERSION,
            });
        }
        Ok(Self { reader })
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        write_line(self.reader.get_mut(), request)?;
        Ok(read_line(&mut self.reader, LONGEST_REPLY)?)
    }

    /// The state, with at most so many hosts a list.
    ///
    /// # Errors
    /// When the conversation breaks.
    pub fn status(&mut self, hosts: usize) -> Result<Status, ClientError> {
        match self.ask(&Request::Status { hosts })? {
            Reply::Status(status) => Ok(*status),
            Reply::Refused { reason } => Err(ClientError::Refused(reason)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// What one host does, and what happened to it.
    ///
    /// # Errors
    /// When it is in none of the networks, or the conversation breaks.
    pub fn host(&mut self, ip: IpAddr) -> Result<HostView, ClientError> {
        match self.ask(&Request::Host { ip })? {
            Reply::Host(host) => Ok(*host),
            Reply::Refused { reason } => Err(ClientError::Refused(reason)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// What happened after an event; at most so much as fits into a reply.
    ///
    /// # Errors
    /// When the conversation breaks.
    pub fn events(&mut self, after: u64) -> Result<Happened, ClientError> {
        match self.ask(&Request::Events { after })? {
            Reply::Events(happened) => Ok(happened),
            Reply::Refused { reason } => Err(ClientError::Refused(reason)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Networks for which nothing was counted.
    ///
    /// # Errors
    /// When the conversation breaks.
    pub fn networks(&mut self) -> Result<Networks, ClientError> {
        match self.ask(&Request::Networks)? {
            Reply::Networks(networks) => Ok(networks),
            Reply::Refused { reason } => Err(ClientError::Refused(reason)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// The number of the agent's process, where it is one of our namespace.
    pub fn process(&self) -> Option<u32> {
        let agent = socket_peercred(self.reader.get_ref()).ok()?;
        u32::try_from(agent.pid.as_raw_nonzero().get()).ok()
    }

    /// Gives an order. Returns what was done.
    ///
    /// # Errors
    /// When the agent refuses.
    pub fn order(&mut self, request: &Request) -> Result<String, ClientError> {
        match self.ask(request)? {
            Reply::Done { what } => Ok(what),
            Reply::Refused { reason } => Err(ClientError::Refused(reason)),
            _ => Err(ClientError::Unexpected),
        }
    }
}
