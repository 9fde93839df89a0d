//! What the journal says, added up.
//!
//! **Invariant**: pure, and no larger than the bans that stand and the deeds that are not done: a
//! ban that is over, with all its errands come to an end, is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::actions::{EventId, Occasion};
use crate::daemon::journal::record::{End, Record, Stored, VERSION};
use crate::verdicts::BanId;

/// All bans that matter.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Book {
    pub(super) bans: BTreeMap<BanId, Entry>,
    /// The highest there ever was.
    pub(super) last: BanId,
}

/// One ban and what was done about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) ban: Stored,
    pub(super) ending: Option<End>,
    pub(super) events: BTreeMap<Occasion, Event>,
}

/// One event of a ban, and how far each action came that was sent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Event {
    pub(super) to: BTreeMap<String, Progress>,
}

/// How far an action came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// It was sent.
    Sent,
    /// It began, which it will do once.
    Begun,
    /// It came to an end, be it this failure.
    Settled(Option<String>),
}

impl Entry {
    /// Is there nothing left to do about it?
    fn is_over(&self) -> bool {
        let is_settled = |progress: &Progress| matches!(progress, Progress::Settled(_));
        self.ending.is_some() && self.events.values().all(|event| event.to.values().all(is_settled))
    }
}

impl Book {
    /// Adds what a line says.
    pub(super) fn add(&mut self, record: Record) {
        match record {
            Record::Journal { .. } => {}
            Record::Told { event, to, ban, ending } => {
                self.last = self.last.max(event.ban);
                let is_new = !self.bans.contains_key(&event.ban);
                // The end of a ban that is forgotten already.
                if is_new && event.occasion != Occasion::Ban && ending.is_none() {
                    return;
                }
                let entry = self.bans.entry(event.ban).or_insert_with(|| Entry {
                    ban: (*ban).clone(),
                    ending: None,
                    events: BTreeMap::new(),
                });
                entry.ban = *ban;
                entry.ending = ending.or_else(|| entry.ending.take());
                let told = entry.events.entry(event.occasion).or_default();
                for action in to {
                    told.to.entry(action).or_insert(Progress::Sent);
                }
                self.close(event.ban);
            }
            Record::Begun { event, action } => self.step(event, action, Progress::Begun),
            Record::Settled { event, action, failed } => {
                self.step(event, action, Progress::Settled(failed));
                self.close(event.ban);
            }
            Record::Known { ban } => {
                if let Some(entry) = self.bans.get_mut(&ban.id) {
                    entry.ban = *ban;
                }
            }
        }
    }

    fn step(&mut self, event: EventId, action: String, progress: Progress) {
        let Some(entry) = self.bans.get_mut(&event.ban) else { return };
        entry.events.entry(event.occasion).or_default().to.insert(action, progress);
    }

    fn close(&mut self, ban: BanId) {
        if self.bans.get(&ban).is_some_and(Entry::is_over) {
            self.bans.remove(&ban);
        }
    }

    /// What began and did not come to its end will not: it may have been done or not. Returns each,
    /// with the host it was about; it is settled by that.
    pub(super) fn give_up(&mut self) -> Vec<(EventId, IpAddr, String)> {
        let mut unknown = Vec::new();
        for (id, entry) in &mut self.bans {
            for (occasion, event) in &mut entry.events {
                for (action, progress) in &mut event.to {
                    if *progress == Progress::Begun {
                        let failed = "the agent ended while it was done".to_owned();
                        *progress = Progress::Settled(Some(failed));
                        let event = EventId { ban: *id, occasion: *occasion };
                        unknown.push((event, entry.ban.ip, action.clone()));
                    }
                }
            }
        }
        self.bans.retain(|_, entry| !entry.is_over());
        unknown
    }

    /// These bans stand and no others: what was told of the rest was lost on its way here.
    pub(super) fn agree(&mut self, standing: &[Stored]) {
        for ban in standing {
            self.last = self.last.max(ban.id);
            let entry = self.bans.entry(ban.id).or_insert_with(|| Entry {
                ban: ban.clone(),
                ending: None,
                events: BTreeMap::from([(Occasion::Ban, Event::default())]),
            });
            entry.ban.clone_from(ban);
        }
        let ids: BTreeSet<BanId> = standing.iter().map(|ban| ban.id).collect();
        for (id, entry) in &mut self.bans {
            if !ids.contains(id) {
                entry.ending.get_or_insert(End::Over);
                entry.events.entry(Occasion::Unban).or_default();
            }
        }
        self.bans.retain(|_, entry| !entry.is_over());
    }

    /// All of it as lines, the fewest there can be.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let first = Record::Journal { version: VERSION };
        std::iter::once(first).chain(self.bans.values().flat_map(records))
    }
}

fn records(entry: &Entry) -> Vec<Record> {
    let id = entry.ban.id;
    let mut records = Vec::new();
    // The ban is told first, be it that nobody was sent.
    let ban = (Occasion::Ban, entry.events.get(&Occasion::Ban).cloned().unwrap_or_default());
    let later = entry.events.iter().filter(|(occasion, _)| **occasion != Occasion::Ban);
    let later = later.map(|(occasion, event)| (*occasion, event.clone()));
    for (occasion, Event { to }) in std::iter::once(ban).chain(later) {
        let event = EventId { ban: id, occasion };
        let ending = entry.ending.clone().filter(|_| occasion == Occasion::Unban);
        records.push(Record::Told {
            event,
            to: to.keys().cloned().collect(),
            ban: Box::new(entry.ban.clone()),
            ending,
        });
        for (action, progress) in to {
            match progress {
                Progress::Sent => {}
                Progress::Begun => records.push(Record::Begun { event, action }),
                Progress::Settled(failed) => {
                    records.push(Record::Settled { event, action, failed });
                }
            }
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Wall;
    use crate::verdicts::Ban;

    fn stored(id: u64) -> Stored {
        let ban = Ban { id: BanId(id), ..Ban::of([192, 0, 2, u8::try_from(id).unwrap()]) };
        Stored::new(&ban, Wall::default())
    }

    fn event(id: u64, occasion: Occasion) -> EventId {
        EventId { ban: BanId(id), occasion }
    }

    fn told(id: u64, occasion: Occasion, to: &[&str]) -> Record {
        Record::Told {
            event: event(id, occasion),
            to: to.iter().map(ToString::to_string).collect(),
            ban: Box::new(stored(id)),
            ending: (occasion == Occasion::Unban).then_some(End::Over),
        }
    }

    fn settled(id: u64, occasion: Occasion, action: &str) -> Record {
        Record::Settled { event: event(id, occasion), action: action.to_owned(), failed: None }
    }

    fn book(records: impl IntoIterator<Item = Record>) -> Book {
        let mut book = Book::default();
        for record in records {
            book.add(record);
        }
        book
    }

    #[test]
    fn a_ban_is_kept_until_its_end_and_all_its_errands() {
        let mut book = book([
            told(1, Occasion::Ban, &["script", "webhook"]),
            settled(1, Occasion::Ban, "script"),
            told(1, Occasion::Unban, &["script", "webhook"]),
            settled(1, Occasion::Unban, "script"),
            settled(1, Occasion::Unban, "webhook"),
        ]);
        let progress = &book.bans[&BanId(1)].events[&Occasion::Ban].to["webhook"];
        assert_eq!(*progress, Progress::Sent, "the webhook was never told of the ban");
        book.add(settled(1, Occasion::Ban, "webhook"));
        assert!(book.bans.is_empty());
        // Words about what is forgotten make nothing of it.
        book.add(settled(1, Occasion::Unban, "webhook"));
        book.add(told(1, Occasion::AttackDetails, &["script"]));
        assert!(book.bans.is_empty());
        assert_eq!(book.last, BanId(1));
    }

    #[test]
    fn written_anew_it_says_the_same() {
        let begun =
            Record::Begun { event: event(2, Occasion::AttackDetails), action: "script".to_owned() };
        let book = book([
            told(1, Occasion::Ban, &[]),
            told(2, Occasion::Ban, &["script", "log_file"]),
            settled(2, Occasion::Ban, "script"),
            told(2, Occasion::AttackDetails, &["script"]),
            begun,
            told(3, Occasion::Ban, &["webhook"]),
            told(3, Occasion::Unban, &["webhook"]),
        ]);
        assert_eq!(book.bans.len(), 3);
        assert_eq!(self::book(book.records()), book);
    }

    #[test]
    fn what_was_lost_on_the_way_is_made_good() {
        let mut book = book([told(1, Occasion::Ban, &[]), told(2, Occasion::Ban, &["script"])]);
        book.agree(&[stored(3)]);
        // 1 is over and nobody was sent; of 2 the script has still to come back.
        assert_eq!(book.bans.keys().collect::<Vec<_>>(), [&BanId(2), &BanId(3)]);
        assert_eq!(book.bans[&BanId(2)].ending, Some(End::Over));
        assert_eq!(self::book(book.records()), book);
    }
}
