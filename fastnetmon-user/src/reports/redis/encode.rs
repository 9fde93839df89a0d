//! Commands as Redis reads them (RESP2, arrays of bulk strings).
//!
//! **Invariant**: pure, and without allocation but for the text itself.

use std::net::IpAddr;

use crate::model::{Direction, Tally};
use crate::reports::Batch;
use crate::reports::parts::{self, number, words};
use crate::reports::redis::Keys;

/// About how many bytes a command takes.
const LINE: usize = 72;

/// Commands in the making.
#[derive(Debug, Default)]
pub(super) struct Commands {
    out: Vec<u8>,
    count: u64,
    /// The key that is being written.
    key: Vec<u8>,
}

impl Commands {
    /// With room for so many.
    pub(super) fn with_room(commands: usize) -> Self {
        Self { out: Vec::with_capacity(LINE.saturating_mul(commands)), ..Self::default() }
    }

    /// `INCRBY`, for what a host gained in one direction; nothing for nothing.
    pub(super) fn add(&mut self, keys: &Keys, address: IpAddr, way: Direction, sum: Tally) {
        if sum.is_zero() {
            return;
        }
        self.key.clear();
        self.key.extend_from_slice(keys.prefix.as_bytes());
        parts::address(&mut self.key, address);
        words(&mut self.key, &["_", way.name()]);
        self.increment(sum.bytes, keys.ttl_secs);
        if keys.packets {
            self.key.extend_from_slice(b"_packets");
            self.increment(sum.packets, keys.ttl_secs);
        }
    }

    /// `SET`.
    pub(super) fn set(&mut self, key: &str, value: &[u8], ttl_secs: u32) {
        self.key.clear();
        self.key.extend_from_slice(key.as_bytes());
        self.begin(b"*3\r\n$3\r\nSET\r\n");
        bulk(&mut self.out, value);
        self.expire(ttl_secs);
    }

    /// All of them.
    pub(super) fn batch(self, to: &'static str) -> Batch {
        Batch { to, lines: self.count, bytes: self.out }
    }

    fn increment(&mut self, by: u64, ttl_secs: u32) {
        self.begin(b"*3\r\n$6\r\nINCRBY\r\n");
        let mut text = itoa::Buffer::new();
        bulk(&mut self.out, text.format(by).as_bytes());
        self.expire(ttl_secs);
    }

    fn expire(&mut self, ttl_secs: u32) {
        if ttl_secs > 0 {
            self.begin(b"*3\r\n$6\r\nEXPIRE\r\n");
            let mut text = itoa::Buffer::new();
            bulk(&mut self.out, text.format(ttl_secs).as_bytes());
        }
    }

    /// A command and its key.
    fn begin(&mut self, command: &[u8]) {
        self.out.extend_from_slice(command);
        bulk(&mut self.out, &self.key);
        self.count += 1;
    }
}

/// A bulk string: its length, itself.
fn bulk(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'$');
    number(out, u64::try_from(text.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prefix: &str, packets: bool, ttl_secs: u32, expected: &str) {
        let keys = Keys { prefix: prefix.to_owned(), packets, ttl_secs };
        let mut commands = Commands::default();
        let sum = Tally { packets: 3, bytes: 1500 };
        commands.add(&keys, [192, 0, 2, 7].into(), Direction::Incoming, sum);
        commands.add(&keys, [192, 0, 2, 7].into(), Direction::Outgoing, Tally::default());
        let batch = commands.batch("counts");
        assert_eq!(String::from_utf8(batch.bytes).unwrap().replace("\r\n", " "), expected);
        let count = expected.matches("*3 ").count();
        assert_eq!(batch.lines, u64::try_from(count).unwrap());
    }

    #[test]
    fn a_host_is_one_key_a_direction_that_moved() {
        check("", false, 0, "*3 $6 INCRBY $18 192.0.2.7_incoming $4 1500 ");
        check("edge_", false, 0, "*3 $6 INCRBY $23 edge_192.0.2.7_incoming $4 1500 ");
    }

    #[test]
    fn packets_and_expiry_are_commands_of_their_own() {
        check(
            "",
            true,
            60,
            "*3 $6 INCRBY $18 192.0.2.7_incoming $4 1500 *3 $6 EXPIRE $18 192.0.2.7_incoming $2 60 \
             *3 $6 INCRBY $26 192.0.2.7_incoming_packets $1 3 *3 $6 EXPIRE $26 \
             192.0.2.7_incoming_packets $2 60 ",
        );
    }

    #[test]
    fn an_ipv6_address_is_written_as_everywhere() {
        let mut commands = Commands::default();
        let keys = Keys { prefix: String::new(), packets: false, ttl_secs: 0 };
        let sum = Tally { packets: 1, bytes: 9 };
        commands.add(&keys, "2001:db8::7".parse().unwrap(), Direction::Outgoing, sum);
        let text = String::from_utf8(commands.batch("").bytes).unwrap();
        assert_eq!(text, "*3\r\n$6\r\nINCRBY\r\n$20\r\n2001:db8::7_outgoing\r\n$1\r\n9\r\n");
    }
}
