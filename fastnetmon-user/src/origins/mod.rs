//! Whence packets come and where they go: autonomous systems and countries of the remote side.
//!
//! [`Atlas`] looks addresses up in the databases that are read, [`Recent`] adds up the always-on
//! samples, and [`Origins`] is what everybody is shown: the atlas in force, the loudest of the last
//! minute, and for each ban what its packets say.
//!
//! **Invariant**: knows no counter and no verdict, and nobody on the way of a packet asks here. A
//! database is bytes somebody else made: whatever it says is an answer or none, never a panic.

mod atlas;
#[cfg(test)]
pub(crate) mod database;
mod recent;
mod remotes;
mod row;
mod settings;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use self::atlas::{Atlas, Database, DatabaseError};
pub use self::recent::{Estimate, Recent, Sampled, Summary};
pub use self::remotes::Loudest;
pub use self::row::{Country, Origin};
pub use self::settings::Settings;
use crate::model::Remotes;

/// Bans whose packets are remembered.
const BANS: usize = 1000;

/// What is known, shared by those who find out and those who tell.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    board: Arc<Mutex<Board>>,
}

#[derive(Debug, Default)]
struct Board {
    atlas: Option<Arc<Atlas>>,
    summary: Option<Arc<Summary>>,
    bans: BTreeMap<u64, Arc<Remotes>>,
    troubles: Vec<String>,
}

impl Origins {
    /// The databases in force; `None`: there is none.
    pub fn atlas(&self) -> Option<Arc<Atlas>> {
        self.look(|board| board.atlas.clone())
    }

    /// Goes on with these.
    pub fn turn_to(&self, atlas: Option<Arc<Atlas>>) {
        let before = self.look(|board| std::mem::replace(&mut board.atlas, atlas));
        // Giving hundreds of megabytes back takes its time, and the tick may want in.
        drop(before);
    }

    /// The loudest of the last minute; `None` without a database.
    pub fn summary(&self) -> Option<Arc<Summary>> {
        self.look(|board| board.summary.clone())
    }

    /// Shows this from now on.
    pub fn publish(&self, summary: Option<Arc<Summary>>) {
        self.look(|board| board.summary = summary);
    }

    /// What the packets of a ban say; `None`: they were not looked up.
    pub fn of_ban(&self, ban: u64) -> Option<Arc<Remotes>> {
        self.look(|board| board.bans.get(&ban).cloned())
    }

    /// Remembers it; the oldest ban makes room.
    pub fn remember(&self, ban: u64, remotes: Remotes) {
        self.look(|board| {
            board.bans.insert(ban, Arc::new(remotes));
            if board.bans.len() > BANS {
                board.bans.pop_first();
            }
        });
    }

    /// What an operator should know.
    pub fn troubles(&self) -> Vec<String> {
        self.look(|board| board.troubles.clone())
    }

    /// Says so from now on.
    pub fn complain(&self, troubles: Vec<String>) {
        self.look(|board| board.troubles = troubles);
    }

    fn look<T>(&self, at: impl FnOnce(&mut Board) -> T) -> T {
        at(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ban_is_forgotten_when_there_are_too_many() {
        let origins = Origins::default();
        for ban in 0..=1000 {
            origins.remember(ban, Remotes::default());
        }
        assert!(origins.of_ban(0).is_none());
        assert!(origins.of_ban(1).is_some() && origins.of_ban(1000).is_some());
    }
}
