//! The tables, in hash maps: slow, plain, and without anything the design is clever about.
//!
//! **Invariant**: does what it is told. It limits nothing and remembers everything.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};

use fastnetmon_common::class::{Class, Direction};
use fastnetmon_common::directory::{FLAGGED, HASHED, NODE, OVERFLOWN, PROFILE_SHIFT, mix};
use fastnetmon_common::table::{Limit, Line, NOTES, Tables, WORDS, Waiting, gained};

use crate::frames::halves;

const BUCKETS: u32 = 64;
const SEED: u64 = 0x5eed_5eed_5eed_5eed;

/// A place of the directory where an entry may stand.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Step {
    Root4(u32),
    Root6(u32),
    Element(u32, u32),
}

/// What eight words belong to.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Owner {
    Bucket(u32),
    Line(Direction, u32),
}

type Words = RefCell<HashMap<Owner, [u64; WORDS]>>;

/// Tables of one writer.
#[derive(Default)]
pub(crate) struct House {
    entries: HashMap<Step, u32>,
    elements: u32,
    words: Words,
    limits: HashMap<(Direction, u32), Limit>,
    /// Slots that were said to have moved.
    pub(crate) stirred: RefCell<BTreeSet<(Direction, u32)>>,
    /// Hints raised: direction, slot, window word.
    pub(crate) hints: RefCell<Vec<(Direction, u32, u64)>>,
    /// The ring of hints is full.
    pub(crate) hints_full: Cell<bool>,
    /// Strangers told: direction, address, slot of the prefix.
    pub(crate) strangers: RefCell<Vec<(Direction, [u64; 2], u32)>>,
    /// The ring of strangers is full.
    pub(crate) strangers_full: Cell<bool>,
    /// Additions wait for each other.
    pub(crate) puts_off: bool,
    /// Those that wait.
    waiting: RefCell<Vec<Waiting>>,
}

impl House {
    /// The /24 around `network` is ours: slots from `block` times 256 on.
    pub(crate) fn guard4(&mut self, network: Ipv4Addr, block: u32, profile: u32) {
        let (root, third, _) = steps4(network);
        let element = self.node(root);
        self.entries.insert(Step::Element(element, third), block | (profile << PROFILE_SHIFT));
    }

    /// This address alone is ours.
    pub(crate) fn guard4_host(&mut self, host: Ipv4Addr, block: u32, profile: u32) {
        let (root, third, fourth) = steps4(host);
        let element = self.node(root);
        let below = self.node(Step::Element(element, third));
        self.entries.insert(Step::Element(below, fourth), block | (profile << PROFILE_SHIFT));
    }

    /// The first so many bytes of `prefix` are ours; `slot` counts hosts without a line.
    pub(crate) fn guard6(&mut self, prefix: Ipv6Addr, bytes: usize, slot: u32, profile: u32) {
        let octets = prefix.octets();
        let mut step = Step::Root6(u32::from(u16::from_be_bytes([octets[0], octets[1]])));
        for octet in &octets[2..bytes] {
            step = Step::Element(self.node(step), u32::from(*octet));
        }
        self.entries.insert(step, slot | HASHED | (profile << PROFILE_SHIFT));
    }

    /// Gives a host of ours a line, in one of the three `cells` of one of its two buckets.
    pub(crate) fn adopt(&mut self, host: Ipv6Addr, slot: u32, second: bool, cell: usize) {
        let key = halves(host);
        let bucket = Owner::Bucket(bucket_of(host, second));
        {
            let mut words = self.words.borrow_mut();
            let words = words.entry(bucket).or_default();
            words[2 * cell] = key[0];
            words[2 * cell + 1] = key[1];
            words[6 + cell / 2] |= u64::from(slot) << (32 * (cell % 2));
        }
        if second {
            self.overflow(host, true);
        }
    }

    /// Makes the additions that wait, once there are so many.
    pub(crate) fn make_up(&self, at_least: usize, window: u64) {
        if self.waiting.borrow().len() < at_least {
            return;
        }
        let mut waiting = self.waiting.take();
        for one in waiting.iter().filter(|one| one.is_sought()) {
            one.fetch_bucket(&self);
        }
        for one in waiting.iter_mut().filter(|one| one.is_sought()) {
            *one = one.sought(&self, window);
        }
        for one in &waiting {
            one.fetch_line(&self);
        }
        for one in waiting {
            one.add(&self, window);
        }
    }

    /// Says of a host's first bucket whether one of its hosts lives in the second.
    pub(crate) fn overflow(&mut self, host: Ipv6Addr, overflown: bool) {
        let bucket = Owner::Bucket(bucket_of(host, false));
        let mut words = self.words.borrow_mut();
        let last = &mut words.entry(bucket).or_default()[7];
        *last = (*last & !OVERFLOWN) | if overflown { OVERFLOWN } else { 0 };
    }

    /// Some host behind every leaf has a flag word.
    pub(crate) fn flag(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| **entry & NODE == 0) {
            *entry |= FLAGGED;
        }
    }

    /// Sets a limit of a profile.
    pub(crate) fn limit(&mut self, direction: Direction, profile: u32, limit: Limit) {
        self.limits.insert((direction, profile), limit);
    }

    /// One word of a line.
    pub(crate) fn word(&self, direction: Direction, slot: u32, word: usize) -> u64 {
        let owner = Owner::Line(direction, slot);
        self.words.borrow().get(&owner).map_or(0, |words| words[word])
    }

    /// Packets and bytes of one class.
    pub(crate) fn class(&self, direction: Direction, slot: u32, class: Class) -> (u64, u64) {
        gained(0, self.word(direction, slot, class as usize))
    }

    /// Packets and bytes of all classes.
    pub(crate) fn sum(&self, direction: Direction, slot: u32) -> (u64, u64) {
        Class::ALL.iter().fold((0, 0), |(packets, bytes), class| {
            let (more_packets, more_bytes) = self.class(direction, slot, *class);
            (packets + more_packets, bytes + more_bytes)
        })
    }

    /// Lines whose counting words are not all zero, in order, less the writer's own notes.
    pub(crate) fn touched(&self) -> Vec<(Direction, u32)> {
        let mut lines: Vec<(Direction, u32)> = self
            .words
            .borrow()
            .iter()
            .filter_map(|(owner, words)| match owner {
                Owner::Line(_, NOTES) => None,
                Owner::Line(direction, slot) if words[..6].iter().any(|word| *word != 0) => {
                    Some((*direction, *slot))
                }
                _ => None,
            })
            .collect();
        lines.sort_unstable();
        lines
    }

    /// The element that a step leads to, made when it is not there yet.
    fn node(&mut self, step: Step) -> u32 {
        let entry = self.entries.entry(step).or_insert_with(|| {
            self.elements += 1;
            NODE | self.elements
        });
        assert!(*entry & NODE != 0, "a shorter prefix ends here");
        *entry & !NODE
    }

    fn entry(&self, step: Step) -> u32 {
        self.entries.get(&step).copied().unwrap_or(0)
    }
}

/// One of the two buckets a host may be in.
pub(crate) fn bucket_of(host: Ipv6Addr, second: bool) -> u32 {
    let hash = mix(halves(host), SEED) >> if second { 32 } else { 0 };
    u32::try_from(hash % u64::from(BUCKETS)).unwrap()
}

fn steps4(address: Ipv4Addr) -> (Step, u32, u32) {
    let [first, second, third, fourth] = address.octets();
    let root = u32::from(u16::from_be_bytes([first, second]));
    (Step::Root4(root), u32::from(third), u32::from(fourth))
}

/// Eight words of a house.
#[derive(Clone, Copy)]
pub(crate) struct Eight<'a> {
    words: &'a Words,
    owner: Owner,
}

impl Line for Eight<'_> {
    fn get(self, word: usize) -> u64 {
        self.words.borrow().get(&self.owner).map_or(0, |words| words[word])
    }

    fn set(self, word: usize, value: u64) {
        self.words.borrow_mut().entry(self.owner).or_default()[word] = value;
    }
}

impl<'a> Tables for &'a House {
    type Line = Eight<'a>;
    type Down = [u64; 6];

    fn t1(&self, high: u32) -> u32 {
        self.entry(Step::Root4(high))
    }

    fn t6(&self, high: u32) -> u32 {
        self.entry(Step::Root6(high))
    }

    fn t2(&self, element: u32, byte: u32) -> u32 {
        self.entry(Step::Element(element, byte))
    }

    fn bucket(&self, hash: u32) -> Option<Eight<'a>> {
        Some(Eight { words: &self.words, owner: Owner::Bucket(hash % BUCKETS) })
    }

    fn seed(&self) -> u64 {
        SEED
    }

    fn place(&self, direction: Direction, slot: u32) -> u32 {
        slot * 2 + direction as u32
    }

    fn line_at(&self, place: u32) -> Option<Eight<'a>> {
        let direction = Direction::BOTH[place as usize % 2];
        Some(Eight { words: &self.words, owner: Owner::Line(direction, place / 2) })
    }

    fn notes(&self) -> Option<Eight<'a>> {
        self.line(Direction::Incoming, NOTES)
    }

    fn put_down(&self, words: [u64; 6]) -> [u64; 6] {
        words
    }

    fn take_up(&self, down: [u64; 6], word: usize) -> u64 {
        down.get(word).copied().unwrap_or_default()
    }

    fn stir(&self, direction: Direction, slot: u32) {
        self.stirred.borrow_mut().insert((direction, slot));
    }

    fn limit(&self, direction: Direction, profile: u32) -> Limit {
        self.limits.get(&(direction, profile)).copied().unwrap_or_default()
    }

    fn puts_off(&self) -> bool {
        self.puts_off
    }

    fn put_off(&self, waiting: Waiting) {
        self.waiting.borrow_mut().push(waiting);
    }

    fn hint(&self, direction: Direction, slot: u32, window: u64) -> bool {
        if self.hints_full.get() {
            return false;
        }
        self.hints.borrow_mut().push((direction, slot, window));
        true
    }

    fn stranger(&self, direction: Direction, address: [u64; 2], prefix: u32) -> bool {
        if self.strangers_full.get() {
            return false;
        }
        self.strangers.borrow_mut().push((direction, address, prefix));
        true
    }
}
