//! Batches that wait for a sink: a bounded queue that keeps the newest.
//!
//! **Invariant**: never more bytes than it was made for, but for the newest batch; what makes room
//! is counted.

use std::collections::VecDeque;

use crate::reports::{Backlog, Batch};

/// Batches that wait, oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Batch>,
    room: usize,
    bytes: usize,
    lines: u64,
    dropped: u64,
}

impl Queue {
    /// For so many bytes.
    pub(super) const fn new(room: usize) -> Self {
        Self { waiting: VecDeque::new(), room, bytes: 0, lines: 0, dropped: 0 }
    }

    /// Puts a batch at the end.
    pub(super) fn push(&mut self, mut batch: Batch) {
        if batch.lines == 0 {
            return;
        }
        // It may wait for long, and what is counted is what it holds.
        batch.bytes.shrink_to_fit();
        self.count(&batch);
        self.waiting.push_back(batch);
        self.make_room();
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Batch> {
        let batch = self.waiting.pop_front()?;
        self.bytes -= batch.bytes.len();
        self.lines -= batch.lines;
        Some(batch)
    }

    /// Puts the oldest back, unless newer ones have taken its room.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.count(&batch);
        self.waiting.push_front(batch);
        self.make_room();
    }

    pub(super) fn backlog(&self) -> Backlog {
        let bytes = u64::try_from(self.bytes).unwrap_or(u64::MAX);
        Backlog { lines: self.lines, bytes, dropped: self.dropped, ..Backlog::default() }
    }

    fn count(&mut self, batch: &Batch) {
        self.bytes += batch.bytes.len();
        self.lines += batch.lines;
    }

    fn make_room(&mut self) {
        while self.bytes > self.room && self.waiting.len() > 1 {
            if let Some(oldest) = self.pop() {
                self.dropped += oldest.lines;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(name: &'static str, bytes: usize) -> Batch {
        Batch { to: name, lines: 10, bytes: vec![b'x'; bytes] }
    }

    #[test]
    fn the_newest_are_kept_and_what_makes_room_is_counted() {
        let mut queue = Queue::new(100);
        for name in ["a", "b", "c"] {
            queue.push(batch(name, 40));
        }
        assert_eq!(
            queue.backlog(),
            Backlog { lines: 20, bytes: 80, dropped: 10, dropped_traffic: 0 }
        );
        let taken = queue.pop().unwrap();
        assert_eq!(taken.to, "b");
        queue.push(batch("d", 40));
        queue.put_back(taken);
        assert_eq!(queue.backlog().dropped, 20, "newer ones had taken its room");
        assert_eq!([queue.pop().unwrap().to, queue.pop().unwrap().to], ["c", "d"]);
        assert_eq!(
            queue.backlog(),
            Backlog { lines: 0, bytes: 0, dropped: 20, dropped_traffic: 0 }
        );
    }

    #[test]
    fn one_that_is_larger_than_the_room_is_still_told() {
        let mut queue = Queue::new(10);
        queue.push(batch("a", 40));
        queue.push(batch("b", 50));
        assert_eq!(queue.pop().unwrap().to, "b");
        queue.push(Batch::default());
        assert_eq!(queue.pop(), None);
    }
}
