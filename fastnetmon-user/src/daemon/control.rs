//! The control socket: operators come in here.
//!
//! **Invariant**: at most [`MOST`] clients at a time, each with a deadline for every line, so that
//! nobody can hold the agent up by being slow. State is read from the last report; only orders
//! reach the tick.

use std::fs;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use tracing::{debug, warn};

use crate::control::{
    CodecError, Hello, LONGEST_REQUEST, PROTOCOL_VERSION, Reply, Request, read_line, write_line,
};
use crate::daemon::people::{GROUP, agents_group};
use crate::daemon::reload::Reloader;
use crate::daemon::shown::Shown;
use crate::daemon::tick::{Answer, Wish};
use crate::daemon::{StartError, clock};
use crate::model::Moment;

/// Clients at a time.
const MOST: usize = 64;

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_mins(1);

/// How long it may take over a line it has begun, and to read an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts when the system has no descriptor for another client.
const BREATH: Duration = Duration::from_millis(200);

/// How long the tick may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long an answer waits until what was done is on disk.
const SAFE: Duration = Duration::from_secs(1);

/// The socket; its path is removed with it.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

impl Door {
    /// Makes the socket. One that nobody answers at is the rest of an agent that was killed.
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        let refuse = |reason: String| StartError::Socket { path: path.to_owned(), reason };
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            fs::create_dir_all(folder)
                .map_err(|error| refuse(format!("its folder cannot be made: {error}")))?;
        }
        // Connecting to a plain file is refused as well: only a socket may be taken for an old one.
        if fs::symlink_metadata(path).is_ok_and(|old| !old.file_type().is_socket()) {
            return Err(refuse("there is something else than a socket: name another path".into()));
        }
        match UnixStream::connect(path) {
            Ok(_answered) => {
                return Err(refuse("another agent answers there: end it first".to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)
                    .map_err(|error| refuse(format!("an old socket cannot be removed: {error}")))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refuse(error.to_string())),
        }
        // Nobody but us between its making and its mode.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(|error| refuse(error.to_string()))?;
        let door = Self { listener, path: path.to_owned() };
        if let Some(group) = agents_group() {
            chown(path, None, Some(group))
                .map_err(|error| refuse(format!("cannot be given to `{GROUP}`: {error}")))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))
            .map_err(|error| refuse(error.to_string()))?;
        Ok(door)
    }

    /// Takes the path away; who is inside may finish.
    pub(super) fn close(&self) {
        // Somebody may have removed it already.
        let _gone = fs::remove_file(&self.path);
    }

    /// Serves clients, each on a thread, until the process ends.
    pub(super) fn serve(
        &self,
        shown: &Arc<Shown>,
        wishes: &Sender<Wish>,
        reloader: &Arc<Reloader>,
    ) {
        let inside = Arc::new(AtomicUsize::new(0));
        for stream in self.listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    warn!(%error, "No client can be let in.");
                    #[expect(clippy::disallowed_methods, reason = "a breath between two attempts")]
                    std::thread::sleep(BREATH);
                    continue;
                }
            };
            let guest = Guest::enter(&inside);
            if inside.load(Ordering::Relaxed) > MOST {
                debug!("Too many clients at the control socket; one is turned away.");
                turn_away(&stream);
                continue;
            }
            let (shown, wishes) = (Arc::clone(shown), wishes.clone());
            let reloader = Arc::clone(reloader);
            let thread = std::thread::Builder::new().name("client".to_owned()).spawn(move || {
                let _guest = guest;
                if let Err(error) = attend(&stream, &shown, &wishes, &reloader) {
                    debug!(%error, "A client left.");
                }
            });
            if let Err(error) = thread {
                warn!(%error, "A client cannot be served.");
            }
        }
    }
}

/// Counts a client for as long as it is here.
#[derive(Debug)]
struct Guest(Arc<AtomicUsize>);

impl Guest {
    fn enter(inside: &Arc<AtomicUsize>) -> Self {
        inside.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(inside))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn hello() -> Hello {
    Hello { fastnetmon: env!("CARGO_PKG_VERSION").to_owned(), protocol: PROTOCOL_VERSION }
}

/// Tells a client that there is no room, as far as it listens.
fn turn_away(stream: &UnixStream) {
    let mut writer = stream;
    let reason = format!("{MOST} clients are served already: try again");
    // It may have gone, or not listen: it is turned away all the same.
    let _unheard = stream
        .set_write_timeout(Some(BREATH))
        .map_err(CodecError::from)
        .and_then(|()| write_line(&mut writer, &hello()))
        .and_then(|()| write_line(&mut writer, &Reply::Refused { reason }));
}

/// A client's words. It may be silent for a while, but a line it has begun has a deadline: one byte
/// now and then keeps nobody else out.
struct Patient<'a> {
    stream: &'a UnixStream,
    until: Option<Moment>,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match self.until {
            None => SILENCE,
            Some(until) => until.since(clock::now()),
        };
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let read = self.stream.read(buffer)?;
        self.until.get_or_insert_with(|| clock::now() + PATIENCE);
        Ok(read)
    }
}

fn attend(
    stream: &UnixStream,
    shown: &Shown,
    wishes: &Sender<Wish>,
    reloader: &Reloader,
) -> Result<(), CodecError> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut writer = stream;
    write_line(&mut writer, &hello())?;
    let mut reader = BufReader::new(Patient { stream, until: None });
    loop {
        reader.get_mut().until = None;
        let reply = match read_line::<Request>(&mut reader, LONGEST_REQUEST) {
            Ok(Request::Status { hosts }) => Reply::Status(Box::new(shown.whole(hosts))),
            Ok(Request::Reload) => match reloader.reload() {
                Ok(what) => Reply::Done { what },
                Err(reason) => Reply::Refused { reason },
            },
            Ok(order) => ask(order, wishes),
            Err(CodecError::Malformed(error)) => {
                Reply::Refused { reason: format!("not understood: {error}") }
            }
            Err(CodecError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        write_line(&mut writer, &reply)?;
    }
}

/// Has the tick obey.
pub(super) fn ask(order: Request, wishes: &Sender<Wish>) -> Reply {
    let (answer, answered) = bounded(1);
    let busy = || Reply::Refused { reason: "the agent is busy: try again".to_owned() };
    if wishes.send_timeout(Wish { order, answer }, ANSWER).is_err() {
        return busy();
    }
    let Ok(Answer { reply, written }) = answered.recv_timeout(ANSWER) else { return busy() };
    // What is answered outlives the agent; a disk that is too slow for that has an alarm.
    if let Some(written) = written {
        let _late = written.wait(SAFE);
    }
    reply
}
