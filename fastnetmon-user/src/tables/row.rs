//! One writer's row in tables of our own: what `count()` sees of an engine.
//!
//! **Invariant**: a [`Row`] is not `Clone`: having it is the right to write it, so each word has
//! one writer and no addition is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_channel::Sender;
use fastnetmon_common::abi::{Hint, Stranger};
use fastnetmon_common::directory::INDEX;
use fastnetmon_common::table::{Limit, Line, MARKS, NOTES, Tables, WORDS, mark_of};

use crate::model::{Direction, HostId};
use crate::tables::{Directory, Flags, Limits, Lines, Mapping, MappingError, Parts, Shape};

/// What an engine noticed while it counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notice {
    /// A line crossed its limit.
    Hint(Hint),
    /// An IPv6 host has no line yet.
    Stranger(Stranger),
}

/// One row: the right to count.
#[derive(Debug)]
pub struct Row {
    number: u32,
    shape: Shape,
    lines: Arc<Mapping>,
    marks: Arc<Mapping>,
    directory: Directory,
    limits: Limits,
    flags: Flags,
    notices: Option<Sender<Notice>>,
}

impl Row {
    /// Tells hints and strangers to `notices` from now on. A full channel is counted as a loss.
    pub fn notify(&mut self, notices: Sender<Notice>) {
        self.notices = Some(notices);
    }

    /// Takes one packet from the host's budget, as the kernel does. Tells whether there was one.
    pub fn spend(&self, host: HostId) -> bool {
        self.flags.spend(host)
    }

    fn tell(&self, notice: Notice) -> bool {
        self.notices.as_ref().is_some_and(|notices| notices.try_send(notice).is_ok())
    }

    fn element(&self, element: u32, byte: u32) -> Option<&AtomicU32> {
        let at = (element & INDEX) as usize * 256 + (byte & 255) as usize;
        self.directory.elements.halves().get(at)
    }
}

/// A line, or a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(&'a [AtomicU64; WORDS]);

impl Line for Words<'_> {
    #[inline]
    fn get(self, word: usize) -> u64 {
        self.0.get(word & 7).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    #[inline]
    fn set(self, word: usize, value: u64) {
        if let Some(word) = self.0.get(word & 7) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

impl<'a> Tables for &'a Row {
    type Line = Words<'a>;
    type Down = [u64; 6];

    #[inline]
    fn t1(&self, high: u32) -> u32 {
        let root = self.directory.root4.halves().get((high & 0xffff) as usize);
        root.map_or(0, |entry| entry.load(Ordering::Acquire))
    }

    #[inline]
    fn t6(&self, high: u32) -> u32 {
        let root = self.directory.root6.halves().get((high & 0xffff) as usize);
        root.map_or(0, |entry| entry.load(Ordering::Acquire))
    }

    #[inline]
    fn t2(&self, element: u32, byte: u32) -> u32 {
        self.element(element, byte).map_or(0, |entry| entry.load(Ordering::Acquire))
    }

    #[inline]
    fn bucket(&self, hash: u32) -> Option<Words<'a>> {
        let bucket = ((u64::from(hash) * u64::from(self.shape.buckets)) >> 32) as usize;
        self.directory.buckets.words().as_chunks().0.get(bucket).map(Words)
    }

    #[inline]
    fn seed(&self) -> u64 {
        self.shape.seed
    }

    #[inline]
    fn place(&self, direction: Direction, slot: u32) -> u32 {
        (self.number * 2 + direction as u32) * self.shape.slots + slot
    }

    #[inline]
    fn line_at(&self, place: u32) -> Option<Words<'a>> {
        self.lines.words().as_chunks().0.get(place as usize).map(Words)
    }

    #[inline]
    fn notes(&self) -> Option<Words<'a>> {
        self.line(Direction::Incoming, NOTES)
    }

    #[inline]
    fn put_down(&self, words: [u64; 6]) -> [u64; 6] {
        words
    }

    #[inline]
    fn take_up(&self, down: [u64; 6], word: usize) -> u64 {
        down.get(word).copied().unwrap_or_default()
    }

    #[inline]
    fn stir(&self, direction: Direction, slot: u32) {
        let marks = self.marks.bytes().as_chunks::<{ MARKS as usize }>().0;
        let mark = marks.get(direction as usize).and_then(|marks| marks.get(mark_of(slot)));
        if let Some(mark) = mark
            && mark.load(Ordering::Relaxed) == 0
        {
            mark.store(1, Ordering::Release);
        }
    }

    #[inline]
    fn limit(&self, direction: Direction, profile: u32) -> Limit {
        self.limits.of(profile, direction)
    }

    fn hint(&self, direction: Direction, slot: u32, window: u64) -> bool {
        self.tell(Notice::Hint(Hint { slot, direction: direction as u32, window }))
    }

    fn stranger(&self, direction: Direction, address: [u64; 2], prefix: u32) -> bool {
        self.tell(Notice::Stranger(Stranger { address, prefix, direction: direction as u32 }))
    }
}

pub(super) fn own(shape: Shape) -> Result<(Parts, Vec<Row>), MappingError> {
    let map = |what, bytes| Mapping::anonymous(what, bytes).map(Arc::new);
    let writers = shape.writers.get();
    let lines = map("counter lines", writers as usize * 2 * shape.slots as usize * 64)?;
    let directory = Directory::new(
        map("IPv4 root", 65_536 * 4)?,
        map("IPv6 root", 65_536 * 4)?,
        map("directory elements", shape.elements as usize * 1024)?,
        map("IPv6 buckets", shape.buckets as usize * 64)?,
    );
    let marks = map("marks", Lines::MARK_BYTES)?;
    let limits = map("limits", Limits::BYTES)?;
    let flags = map("flag words", shape.slots as usize * 8)?;
    let rows = (0..writers)
        .map(|number| Row {
            number,
            shape,
            lines: Arc::clone(&lines),
            marks: Arc::clone(&marks),
            directory: directory.clone(),
            limits: Limits::new(Arc::clone(&limits)),
            flags: Flags::new(Arc::clone(&flags)),
            notices: None,
        })
        .collect();
    let parts = Parts {
        lines: Lines::new(lines, marks, shape),
        directory,
        flags: Flags::new(flags),
        limits: Limits::new(limits),
    };
    Ok((parts, rows))
}
