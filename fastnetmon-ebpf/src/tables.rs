//! The tables over the maps: what `count()` sees of the kernel.
//!
//! **Invariant**: a line belongs to the CPU the program runs on. Both hooks run with bottom halves
//! disabled, so no two programs write one line at a time and an addition needs no lock.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr::{null_mut, read_volatile};

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_jiffies64};
use fastnetmon_common::abi::{Hint, MOST_CPUS, Stranger, waiting};
use fastnetmon_common::class::Direction;
use fastnetmon_common::table::{Limit, Line, Tables, Waiting, mark_of};

use crate::maps::{BUCKETS, HINTS, LINES, Queue, ROOTS, Roots, STRANGERS, T2, WAITING, Words};

// Constants to the verifier, set by the loader before the programs are verified.
#[unsafe(no_mangle)]
static SLOTS: u32 = 0;
#[unsafe(no_mangle)]
static BUCKET_COUNT: u32 = 0;
#[unsafe(no_mangle)]
static WINDOW_SHIFT: u32 = 0;
#[unsafe(no_mangle)]
pub static SPARSE_EVERY: u32 = 0;
#[unsafe(no_mangle)]
pub static DECAPSULATE: u32 = 0;
#[unsafe(no_mangle)]
pub static GATE: u32 = 0;
#[unsafe(no_mangle)]
pub static IGNORING: u32 = 0;
#[unsafe(no_mangle)]
pub static LOAD_BYTES: u32 = 0;
#[unsafe(no_mangle)]
static PUTS_OFF: u32 = 0;
#[unsafe(no_mangle)]
static SEED: u64 = 0;

/// Reads a constant of the loader's. Volatile, or the compiler would take the value above for it.
#[inline(always)]
pub fn frozen<T: Copy>(constant: &'static T) -> T {
    // SAFETY: a reference is valid, aligned and initialised.
    unsafe { read_volatile(constant) }
}

/// The kernel's tick counter.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

/// A line of this CPU, or a bucket.
#[derive(Clone, Copy)]
pub struct Pointer(*mut Words);

impl Line for Pointer {
    #[inline(always)]
    fn get(self, word: usize) -> u64 {
        // SAFETY: the pointer came from a map lookup that succeeded; the index is masked.
        unsafe { (&raw const (*self.0).0[word & 7]).read() }
    }

    #[inline(always)]
    fn set(self, word: usize, value: u64) {
        // SAFETY: as above; this CPU is the only writer.
        unsafe { (&raw mut (*self.0).0[word & 7]).write(value) }
    }
}

/// Lines for notes: with more CPUs the loader does not load.
const NOTES: usize = MOST_CPUS as usize;
/// Where the words of a packet are forgotten; those before belong to `count()`.
const FORGOTTEN: usize = 2;

/// What each CPU notes down for itself. No map of its own: the address is in the program, and a
/// place in it is found without a call.
#[repr(transparent)]
struct Notes(UnsafeCell<[Words; NOTES]>);

// SAFETY: each CPU writes its own line, and there are as many.
unsafe impl Sync for Notes {}

static OWN: Notes = Notes(UnsafeCell::new([const { Words([0; 8]) }; NOTES]));

/// The maps, as tables, for the CPU the program runs on.
///
/// Made before anything else is looked at: a call takes every register that is not saved, and there
/// is nothing in them yet.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// Number of its first line.
    row: u32,
    notes: Pointer,
    roots: *mut Roots,
    /// Where additions wait, if they do.
    queue: *mut Queue,
    /// Number of the running window.
    pub window: u64,
}

impl Kernel {
    /// Of this CPU, now. There is always one; the verifier cannot know it.
    #[inline(always)]
    pub fn here() -> Option<Self> {
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
        let first = OWN.0.get().cast::<Words>();
        // SAFETY: the index is below the number of lines.
        let notes = Pointer(unsafe { first.add(cpu as usize & (NOTES - 1)) });
        let window = jiffies() >> (frozen(&WINDOW_SHIFT) & 63);
        let row = cpu * 2 * frozen(&SLOTS);
        let queue = if puts_off() { WAITING.get_ptr_mut(cpu)? } else { null_mut() };
        ROOTS.get_ptr_mut(0).map(|roots| Self { row, notes, roots, queue, window })
    }

    /// Puts six words down and takes all of them up again.
    #[inline(always)]
    pub fn forgotten(&self, words: [u64; 6]) -> [u64; 6] {
        self.put_down(words);
        core::array::from_fn(|word| self.take_up((), word))
    }

    /// The same of one number, in the place of the first word: of whatever was put down before, that one
    /// is gone.
    #[inline(always)]
    pub fn forgotten_number(&self, number: u32) -> u32 {
        let Pointer(notes) = self.notes;
        // SAFETY: as in `put_down`, which writes the same words anew.
        let word = unsafe { &raw mut (*notes).0[FORGOTTEN] };
        // SAFETY: as above.
        unsafe { word.write_volatile(number.into()) };
        // SAFETY: as above.
        unsafe { word.read_volatile() as u32 }
    }
}

#[inline(always)]
fn puts_off() -> bool {
    frozen(&PUTS_OFF) != 0
}

/// Calls a step for each of the first `count` that wait.
///
/// At its end the verifier knows of the number how often the step was called, and would walk what
/// follows once for each: so it forgets the number before.
#[inline(always)]
fn each(kernel: &Kernel, count: u32, mut step: impl FnMut(usize)) {
    let count = kernel.forgotten_number(count);
    for at in 0..waiting::MOST {
        if at as u32 >= count {
            return;
        }
        step(at);
    }
}

/// Makes the first `count` additions that wait on this CPU: the memory of all of them is on its way
/// before the first one needs it.
///
/// A function of its own: what it keeps in registers no packet has to make room for.
#[inline(never)]
fn make_up(count: u32) -> u32 {
    let Some(kernel) = Kernel::here() else { return 0 };
    if !puts_off() {
        return 0;
    }
    let queue = kernel.queue;
    let waiting = move |at: usize| {
        // SAFETY: the lookup succeeded; the index is below the length.
        unsafe { (&raw const (*queue).waiting[at]).read() }
    };
    // SAFETY: as above, and this CPU alone writes its queue.
    let sought = unsafe { &raw mut (*queue).sought };
    // SAFETY: as above.
    if unsafe { sought.read() } != 0 {
        each(&kernel, count, |at| {
            if waiting(at).is_sought() {
                waiting(at).fetch_bucket(&kernel);
            }
        });
        each(&kernel, count, |at| {
            if waiting(at).is_sought() {
                let found = waiting(at).sought(&kernel, kernel.window);
                // SAFETY: as above; nothing else of it changed.
                let place = unsafe { &mut (*queue).waiting[at] };
                (place.slot, place.place, place.kind) = (found.slot, found.place, found.kind);
            }
        });
        // SAFETY: as above.
        unsafe { sought.write(0) };
    }
    // Those that are there nearly always, without asking: where fewer wait, what waited last is fetched
    // once more, and nobody looks at it. Two loops: one with both conditions takes 8 instructions more a
    // packet.
    for at in 0..waiting::ENOUGH as usize {
        waiting(at).fetch_line(&kernel);
    }
    for at in waiting::ENOUGH as usize..waiting::MOST {
        if at as u32 >= count {
            break;
        }
        waiting(at).fetch_line(&kernel);
    }
    each(&kernel, count, |at| waiting(at).add(&kernel, kernel.window));
    // SAFETY: the lookup succeeded, and this CPU alone writes its queue.
    let state = unsafe { &raw mut (*queue).state };
    // SAFETY: as above.
    unsafe { state.write((state.read() | waiting::NUMBER) + 1) };
    count
}

impl Kernel {
    /// Makes the additions that wait on this CPU once there are so many. Returns how many were made.
    ///
    /// To be called before a packet is looked at: there is nothing yet that has to be kept meanwhile,
    /// and to the verifier all packets are one.
    #[inline(always)]
    pub fn make_up(&self, enough: u32) -> u32 {
        if !puts_off() {
            return 0;
        }
        // SAFETY: the lookup succeeded.
        let state = unsafe { (&raw const (*self.queue).state).read() };
        let number = (state & waiting::NUMBER) as u32;
        if number < enough { 0 } else { make_up(number) }
    }
}

impl Tables for Kernel {
    type Line = Pointer;
    type Down = ();

    #[inline(always)]
    fn t1(&self, high: u32) -> u32 {
        // SAFETY: the lookup succeeded; the index is masked.
        unsafe { (&raw const (*self.roots).t1[(high & 0xffff) as usize]).read() }
    }

    #[inline(always)]
    fn t6(&self, high: u32) -> u32 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.roots).t6[(high & 0xffff) as usize]).read() }
    }

    #[inline(always)]
    fn t2(&self, element: u32, byte: u32) -> u32 {
        T2.get(element).map_or(0, |element| element.0[(byte & 255) as usize])
    }

    #[inline(always)]
    fn bucket(&self, hash: u32) -> Option<Pointer> {
        let bucket = (u64::from(hash) * u64::from(frozen(&BUCKET_COUNT))) >> 32;
        BUCKETS.get_ptr_mut(bucket as u32).map(Pointer)
    }

    #[inline(always)]
    fn seed(&self) -> u64 {
        frozen(&SEED)
    }

    #[inline(always)]
    fn place(&self, direction: Direction, slot: u32) -> u32 {
        slot + match direction {
            Direction::Incoming => self.row,
            Direction::Outgoing => self.row + frozen(&SLOTS),
        }
    }

    #[inline(always)]
    fn line_at(&self, place: u32) -> Option<Pointer> {
        LINES.get_ptr_mut(place).map(Pointer)
    }

    #[inline(always)]
    fn notes(&self) -> Option<Pointer> {
        Some(self.notes)
    }

    #[inline(always)]
    fn stir(&self, direction: Direction, slot: u32) {
        // SAFETY: the lookup succeeded; both indices are masked.
        let mark = unsafe { &raw mut (*self.roots).marks[direction as usize & 1][mark_of(slot)] };
        // Read first: a line of memory that is only read is every CPU's.
        // SAFETY: as above. Volatile, because the agent and other CPUs write it.
        if unsafe { mark.read_volatile() } == 0 {
            // SAFETY: as above.
            unsafe { mark.write_volatile(1) };
        }
    }

    #[inline(always)]
    fn limit(&self, direction: Direction, profile: u32) -> Limit {
        let (profile, direction) = ((profile & 127) as usize, direction as usize & 1);
        // SAFETY: as above.
        unsafe { (&raw const (*self.roots).limits[profile][direction]).read() }
    }

    #[inline(always)]
    fn put_down(&self, words: [u64; 6]) {
        let Pointer(notes) = self.notes;
        for (at, word) in words.into_iter().enumerate() {
            // SAFETY: a line has eight words, and this CPU alone writes its notes. Volatile, or the
            // compiler would not go by way of memory.
            unsafe { (&raw mut (*notes).0[FORGOTTEN + at]).write_volatile(word) };
        }
    }

    #[inline(always)]
    fn take_up(&self, (): (), word: usize) -> u64 {
        let Pointer(notes) = self.notes;
        // SAFETY: as above; the index is masked.
        unsafe { (&raw const (*notes).0[(FORGOTTEN + word) & 7]).read_volatile() }
    }

    #[inline(always)]
    fn all_if_zero(&self, word: u64) -> u64 {
        let mut mask = word;
        // SAFETY: registers only. Of a number and its opposite one has the topmost bit, unless both
        // are 0; the compiler would make a comparison of it, and a jump.
        unsafe {
            asm!("{0} = -{0}", "{0} |= {1}", "{0} s>>= 63", "{0} ^= -1", inout(reg) mask, in(reg) word);
        }
        mask
    }

    #[inline(always)]
    fn puts_off(&self) -> bool {
        puts_off()
    }

    #[inline(always)]
    fn fetch(&self, Pointer(line): Pointer) {
        // SAFETY: the lookup succeeded; nothing is done with what is read.
        unsafe {
            asm!("{0} = *(u64 *)({0} + 0)", inout(reg) line => _, options(readonly, nostack))
        };
    }

    #[inline(always)]
    fn put_off(&self, waiting: Waiting) {
        let queue = self.queue;
        // SAFETY: the lookup succeeded, and this CPU alone writes its queue.
        let state = unsafe { &raw mut (*queue).state };
        // SAFETY: as above.
        let number = unsafe { state.read() };
        let at = (number & waiting::NUMBER) as usize;
        // SAFETY: as above; the index is masked.
        unsafe { (&raw mut (*queue).waiting[at]).write(waiting) };
        if waiting.is_sought() {
            // SAFETY: as above.
            unsafe { (&raw mut (*queue).sought).write(1) };
        }
        // SAFETY: as above. There is room: a packet begins with less than enough of them.
        unsafe { state.write(number + 1) };
    }

    #[inline(always)]
    fn hint(&self, direction: Direction, slot: u32, window: u64) -> bool {
        let Some(mut room) = HINTS.reserve::<Hint>(0) else { return false };
        room.write(Hint { slot, direction: direction as u32, window });
        room.submit(0);
        true
    }

    #[inline(always)]
    fn stranger(&self, direction: Direction, address: [u64; 2], prefix: u32) -> bool {
        let Some(mut room) = STRANGERS.reserve::<Stranger>(0) else { return false };
        room.write(Stranger { address, prefix, direction: direction as u32 });
        room.submit(0);
        true
    }
}
