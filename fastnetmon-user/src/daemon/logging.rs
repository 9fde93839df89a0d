//! The log: sentences with fields, to standard error, where the journal or the operator reads them.
//!
//! **Invariant**: who logs never waits and never fails. Lines go through a bounded channel to a
//! thread of their own; when whoever reads them stands still, lines are left out and counted, and
//! the agent goes on.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing_subscriber::filter::LevelFilter;

use crate::daemon::rights;

/// Lines that wait, at most.
const ROOM: usize = 8192;

/// How long the last lines may take at the end of the process.
const FAREWELL: Duration = Duration::from_secs(1);

/// Keeps the log going; dropping it gives the last lines a moment to be written.
#[derive(Debug)]
pub struct Log {
    lines: Option<Sender<Vec<u8>>>,
    written: Receiver<()>,
}

/// Logs from `level` on: `error`, `warn`, `info` or `debug`. Once a process.
pub fn start(level: &str) -> Log {
    let (lines, waiting) = bounded(ROOM);
    let (done, written) = bounded(1);
    let left_out = Arc::new(AtomicU64::new(0));
    // A level and no directives: those would bring an engine of regular expressions into memory.
    let level = level.parse().unwrap_or(LevelFilter::INFO);
    let writer = lines.clone();
    let lost = Arc::clone(&left_out);
    let logger = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(move || Line {
            text: Vec::new(),
            lines: writer.clone(),
            lost: Arc::clone(&lost),
        })
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false)
        .try_init();
    // The second one in a process (tests) goes on with the first.
    drop(logger);
    let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        // It was there before the others, and needs none of what they do.
        rights::give_up_all();
        write(&waiting, &left_out);
        // Nobody may be waiting any more.
        let _unheard = done.try_send(());
    });
    // Without the thread lines are left out; the agent is worth more than its log.
    drop(thread);
    Log { lines: Some(lines), written }
}

impl Drop for Log {
    fn drop(&mut self) {
        // An empty line is the last one.
        if let Some(lines) = self.lines.take()
            && lines.try_send(Vec::new()).is_ok()
        {
            let _late = self.written.recv_timeout(FAREWELL);
        }
    }
}

/// Writes until the last line. What cannot be written is gone: there is no other place to say so.
fn write(waiting: &Receiver<Vec<u8>>, left_out: &AtomicU64) {
    for line in waiting {
        if line.is_empty() {
            return;
        }
        let mut stderr = io::stderr().lock();
        let lost = left_out.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _full = writeln!(stderr, "WARN {lost} lines of the log are left out.");
        }
        let _full = stderr.write_all(&line);
    }
}

/// One line in the making; it is handed over whole.
struct Line {
    text: Vec<u8>,
    lines: Sender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() && self.lines.try_send(text).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
