//! One line of JSON each way.
//!
//! **Invariant**: a line has a bound, so that whoever speaks to us cannot fill our memory.

use std::io::{self, BufRead, Read as _, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a request, at most.
pub const LONGEST_REQUEST: u64 = 4096;

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The other side closed.
    #[error("the other side closed the connection")]
    Closed,
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is too long.
    #[error("a line is longer than {0} bytes")]
    TooLong(u64),
    /// It is not what was expected.
    #[error("not understood: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Reads one line of at most `longest` bytes.
///
/// # Errors
/// When there is none, or it says something else.
pub fn read_line<T: DeserializeOwned>(
    from: &mut impl BufRead,
    longest: u64,
) -> Result<T, CodecError> {
    let mut line = Vec::new();
    let read = from.by_ref().take(longest + 1).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Err(CodecError::Closed);
    }
    if line.last() != Some(&b'\n') && u64::try_from(read).unwrap_or(u64::MAX) > longest {
        return Err(CodecError::TooLong(longest));
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Writes one line.
///
/// # Errors
/// When the other side does not take it.
pub fn write_line<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), CodecError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Request, Way};

    #[test]
    fn what_is_written_is_read() {
        let request = Request::Ban {
            ip: "2001:db8::7".parse().unwrap(),
            direction: Way::Incoming,
            reason: Some("abuse report".to_owned()),
            time_secs: Some(60),
        };
        let mut line = Vec::new();
        write_line(&mut line, &request).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&line),
            "{\"request\":\"ban\",\"ip\":\"2001:db8::7\",\"direction\":\"incoming\",\"reason\":\"abuse report\",\"time_secs\":60}\n"
        );
        assert_eq!(read_line::<Request>(&mut line.as_slice(), LONGEST_REQUEST).unwrap(), request);
    }

    #[track_caller]
    fn check(line: &[u8], expected: &str) {
        let mut line = line;
        let error = read_line::<Request>(&mut line, 64).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn a_bad_line_is_refused_and_never_swallowed() {
        check(b"", "the other side closed");
        check(&[b'x'; 1000], "a line is longer than 64 bytes");
        check(b"{\"request\":\"nothing\"}\n", "not understood: unknown variant `nothing`");
        check(b"{\"request\":\"ban\",\"ip\":\"1.2.3\"}\n", "not understood: ");
    }
}
