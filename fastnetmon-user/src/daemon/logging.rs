//! The log: sentences with fields, to standard error, where the journal or the operator reads them.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Logs from `level` on: `error`, `warn`, `info`, `debug` or `trace`. Once a process.
pub fn start(level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_unknown| EnvFilter::new("info"));
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    // The second one in a process (tests) goes on with the first.
    drop(logger);
}
