//! The thread that speaks with the agent, so that keys never wait for it.
//!
//! **Invariant**: a lost agent is looked for again, at first after a second, then less often, never
//! less than every ten; whatever it said before is not taken for the present.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::client::state::{Intent, Message, Told};
use crate::client::{ClientError, Connection};
use crate::control::{EVENTS, Request};

/// Between two pictures.
const REFRESH: Duration = Duration::from_secs(1);

/// Between two attempts to find a lost agent, at most.
const RAREST: u64 = 10;

/// Hosts of each direction and order: as many as the agent keeps.
const HOSTS: usize = 100;

/// Who asks.
pub(super) struct Asker {
    pub(super) socket: PathBuf,
    /// `None`: it is looked for.
    pub(super) connection: Option<Connection>,
    /// The host that is looked at.
    pub(super) watched: Option<IpAddr>,
    /// The last event that was told in this conversation; `None`: nothing was told yet.
    pub(super) last: Option<u64>,
    /// Attempts that failed since it answered.
    pub(super) failures: u32,
}

impl Asker {
    /// Asks until nobody wants to know any more.
    pub(super) fn run(mut self, wanted: &Receiver<Intent>, say: &Sender<Message>) {
        let mut patience = Duration::ZERO;
        loop {
            let order = match wanted.recv_timeout(patience) {
                Ok(Intent::Watch(host)) => {
                    self.watched = host;
                    None
                }
                Ok(Intent::Order(request)) => Some(request),
                Ok(Intent::Suspend | Intent::Leave) | Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(request) = order {
                let answer = self.order(&request).map_err(|error| error.to_string());
                if say.send(Message::Answer(answer)).is_err() {
                    return;
                }
            }
            let message = match self.round() {
                Ok(told) => {
                    self.failures = 0;
                    patience = REFRESH;
                    Message::Told(Box::new(told))
                }
                Err(error) => {
                    self.connection = None;
                    let again_secs = pause(self.failures);
                    self.failures = self.failures.saturating_add(1);
                    patience = Duration::from_secs(again_secs);
                    Message::Lost { reason: error.to_string(), again_secs }
                }
            };
            if say.send(message).is_err() {
                return;
            }
        }
    }

    fn open(&mut self) -> Result<&mut Connection, ClientError> {
        match &mut self.connection {
            Some(open) => Ok(open),
            none => Ok(none.insert(Connection::open(&self.socket)?)),
        }
    }

    fn order(&mut self, request: &Request) -> Result<String, ClientError> {
        self.open()?.order(request)
    }

    /// Everything that is shown.
    fn round(&mut self) -> Result<Told, ClientError> {
        let watched = self.watched;
        if self.connection.is_none() {
            // Another agent may count its events anew.
            self.last = None;
        }
        let before = self.last;
        let open = self.open()?;
        let status = open.status(HOSTS)?;
        let mut told = Told { status, is_first: before.is_none(), ..Told::default() };
        let mut last = before.unwrap_or(0);
        loop {
            let happened = open.events(last)?;
            told.unix_secs = happened.unix_secs;
            let count = happened.events.len();
            last = happened.events.last().map_or(last, |event| event.number);
            told.events.extend(happened.events);
            if count < EVENTS || last >= happened.last {
                break;
            }
        }
        told.host = match watched.map(|ip| open.host(ip)) {
            None => None,
            Some(Ok(host)) => Some(Ok(host)),
            Some(Err(ClientError::Refused(reason))) => Some(Err(reason)),
            Some(Err(error)) => return Err(error),
        };
        self.last = Some(last);
        Ok(told)
    }
}

/// Seconds until the next attempt, after so many that failed.
fn pause(failures: u32) -> u64 {
    1_u64.checked_shl(failures).map_or(RAREST, |secs| secs.clamp(1, RAREST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_agent_is_looked_for_less_and_less_often() {
        let pauses: Vec<u64> = [0, 1, 2, 3, 4, 63, 64, u32::MAX].map(pause).into();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10, 10, 10]);
    }
}
