//! Workers that hang, fail and are many.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::model::{Prefix, Wall};
use crate::verdicts::Ending;

fn errand(verdict: Verdict) -> Arc<Errand> {
    Arc::new(Errand { verdict, wall: Wall::default() })
}

fn ban(last: u8) -> Arc<Errand> {
    errand(Verdict::Ban(Ban::of([192, 0, 2, last])))
}

fn unban(last: u8) -> Arc<Errand> {
    errand(Verdict::Unban(Ban::of([192, 0, 2, last]), Ending::Over))
}

fn terms(workers: u32) -> Terms {
    Terms {
        workers,
        patience: Duration::from_secs(1),
        attempts: 5,
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
    }
}

fn crew<A: Action + Clone>(action: A, workers: u32) -> (Crew<A>, Receiver<Box<Deed>>) {
    let (deeds, done) = bounded(100_000);
    let crew = Crew::start(action, terms(workers), &[], &Notebook::default(), &deeds).unwrap();
    (crew, done)
}

/// Waits for a word before it does anything about host 1.
#[derive(Clone)]
struct Slow {
    go: Receiver<()>,
}

impl Action for Slow {
    const NAME: &'static str = "slow";
    const SORT: Sort = Sort::Tells;

    fn wants(&self, _: &Verdict) -> bool {
        true
    }

    fn carry_out(&mut self, errand: &Errand, _: Duration) -> Result<(), ActionError> {
        if errand.about() == Prefix::host([192, 0, 2, 1].into()) && self.go.recv().is_err() {
            return Err(ActionError::Refused { reason: "nobody says go".into() });
        }
        Ok(())
    }
}

fn told(deed: &Deed) -> (String, &'static str) {
    (deed.errand.about().address().to_string(), deed.errand.verdict.name())
}

#[test]
fn one_that_hangs_holds_up_its_own_host_and_nobody_else() {
    let (go, wait) = bounded(0);
    let (crew, done) = crew(Slow { go: wait }, 2);
    crew.hand(ban(1)).unwrap();
    crew.hand(unban(1)).unwrap();
    for last in 2..10 {
        crew.hand(ban(last)).unwrap();
    }
    for last in 2..10 {
        assert_eq!(told(&done.recv().unwrap()), (format!("192.0.2.{last}"), "ban"));
    }
    go.send(()).unwrap();
    assert_eq!(told(&done.recv().unwrap()), ("192.0.2.1".to_owned(), "ban"));
    go.send(()).unwrap();
    assert_eq!(told(&done.recv().unwrap()), ("192.0.2.1".to_owned(), "unban"));
    assert_eq!(crew.finish(Duration::from_secs(9)), 0);
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let (go, wait) = bounded(0);
    let (crew, _done) = crew(Slow { go: wait }, 1);
    for _ in 0..3 {
        crew.hand(ban(1)).unwrap();
    }
    assert_eq!(crew.finish(Duration::from_millis(50)), 2);
    drop(go);
}

/// Fails until it was asked often enough, each host by itself.
#[derive(Clone)]
struct Stubborn {
    asked: Arc<AtomicU32>,
    until: u32,
}

impl Stubborn {
    fn until(until: u32) -> Self {
        Self { asked: Arc::default(), until }
    }
}

impl Action for Stubborn {
    const NAME: &'static str = "stubborn";
    const SORT: Sort = Sort::Tells;

    fn wants(&self, _: &Verdict) -> bool {
        true
    }

    fn carry_out(&mut self, errand: &Errand, _: Duration) -> Result<(), ActionError> {
        if errand.about() != Prefix::host([192, 0, 2, 1].into())
            || self.asked.fetch_add(1, Ordering::Relaxed) + 1 >= self.until
        {
            return Ok(());
        }
        Err(ActionError::Retry { reason: "busy".into() })
    }
}

#[test]
fn what_may_work_in_a_moment_is_tried_again_but_not_for_ever() {
    let (patient, done) = crew(Stubborn::until(3), 1);
    patient.hand(ban(1)).unwrap();
    assert_eq!(done.recv().unwrap().outcome, Ok(()));
    assert_eq!(patient.finish(Duration::from_secs(9)), 0);
    let hopeless = Stubborn::until(99);
    let asked = Arc::clone(&hopeless.asked);
    let (crew, done) = crew(hopeless, 1);
    crew.hand(ban(1)).unwrap();
    assert!(matches!(done.recv().unwrap().outcome, Err(ActionError::Retry { .. })));
    assert_eq!(asked.load(Ordering::Relaxed), 5);
    assert_eq!(crew.finish(Duration::from_secs(9)), 0);
}

#[test]
fn what_rests_holds_up_nobody_and_keeps_its_hosts_order() {
    let (deeds, done) = bounded(100);
    let terms = Terms { pause: Duration::from_hours(1), ..terms(1) };
    let terms = Terms { longest_pause: Duration::from_hours(1), ..terms };
    let action = Stubborn::until(2);
    let crew = Crew::start(action, terms, &[], &Notebook::default(), &deeds).unwrap();
    crew.hand(ban(1)).unwrap();
    crew.hand(unban(1)).unwrap();
    crew.hand(ban(2)).unwrap();
    assert_eq!(told(&done.recv().unwrap()), ("192.0.2.2".to_owned(), "ban"));
    assert_eq!(crew.waiting(), (2, Some("busy".to_owned())));
    // The end wakes what rests.
    assert_eq!(crew.finish(Duration::from_secs(9)), 0);
    let rest: Vec<_> = done.iter().take(2).map(|deed| told(&deed)).collect();
    assert_eq!(rest, [("192.0.2.1".to_owned(), "ban"), ("192.0.2.1".to_owned(), "unban")]);
}

/// Writes down what was done, and how many did it at the same time.
#[derive(Clone, Default)]
struct Busy {
    now: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    seen: Arc<Mutex<BTreeMap<IpAddr, Vec<&'static str>>>>,
}

impl Action for Busy {
    const NAME: &'static str = "busy";
    const SORT: Sort = Sort::Tells;

    fn wants(&self, _: &Verdict) -> bool {
        true
    }

    fn carry_out(&mut self, errand: &Errand, _: Duration) -> Result<(), ActionError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let address = errand.about().address();
        self.seen.lock().unwrap().entry(address).or_default().push(errand.verdict.name());
        std::thread::yield_now();
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn ten_thousand_attacks_at_once_are_all_carried_out_in_order_by_few() {
    let busy = Busy::default();
    let (crew, _done) = crew(busy.clone(), 8);
    let ban = |number: u32| Ban::of((0x0a00_0000_u32 + number).to_be_bytes());
    for number in 0..10_000 {
        crew.hand(errand(Verdict::Ban(ban(number)))).unwrap();
    }
    for number in 0..10_000 {
        crew.hand(errand(Verdict::Details(ban(number), [].into()))).unwrap();
        crew.hand(errand(Verdict::Unban(ban(number), Ending::Over))).unwrap();
    }
    assert_eq!(crew.finish(Duration::from_mins(1)), 0);
    let seen = busy.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 10_000);
    assert!(seen.values().all(|calls| calls == &["ban", "attack_details", "unban"]));
    assert!(busy.most.load(Ordering::SeqCst) <= 8);
}

#[test]
fn a_full_queue_refuses_and_names_the_action() {
    let (go, wait) = bounded(0);
    let (crew, _done) = crew(Slow { go: wait }, 1);
    let full = (0..=ROOM + 1).map(|_| crew.hand(ban(1))).find_map(Result::err).unwrap();
    assert_eq!(full.to_string(), "65536 calls of `slow` wait already, so this one is not made");
    drop(go);
    assert_eq!(crew.finish(Duration::from_mins(1)), 0);
}

/// Tells its name, so that one can be told from the next.
#[derive(Clone)]
struct Named(&'static str, Sender<&'static str>);

impl Action for Named {
    const NAME: &'static str = "named";
    const SORT: Sort = Sort::Once;

    fn wants(&self, _: &Verdict) -> bool {
        true
    }

    fn carry_out(&mut self, _: &Errand, _: Duration) -> Result<(), ActionError> {
        self.1.send(self.0).map_err(|_gone| ActionError::Refused { reason: "gone".into() })
    }
}

#[test]
fn what_waits_is_done_by_the_action_as_it_is_then() {
    let (tell, heard) = bounded(0);
    let (mut crew, _done) = crew(Named("old", tell.clone()), 4);
    crew.hand(ban(1)).unwrap();
    assert_eq!(heard.recv(), Ok("old"));
    crew.replace(Named("new", tell.clone()), terms(1)).unwrap();
    crew.hand(ban(2)).unwrap();
    assert_eq!(heard.recv(), Ok("new"));
    // More workers again, and they work.
    crew.replace(Named("newest", tell), terms(2)).unwrap();
    for last in 3..9 {
        crew.hand(ban(last)).unwrap();
    }
    assert!(heard.iter().take(6).all(|name| name == "newest"));
    assert_eq!(crew.finish(Duration::from_secs(9)), 0);
}

#[test]
fn who_does_nothing_twice_notes_it_before_and_after() {
    let (notes, noted) = bounded(16);
    let (deeds, _done) = bounded(16);
    let (tell, heard) = bounded(16);
    let notebook = Notebook::new(notes);
    let crew = Crew::start(Named("x", tell), terms(1), &[], &notebook, &deeds).unwrap();
    crew.hand(ban(1)).unwrap();
    let Note::Begun { event, action, written } = *noted.recv().unwrap() else { panic!() };
    assert_eq!((event, action), (ban(1).event(), "named"));
    assert!(heard.is_empty(), "nothing is done before the note is safe");
    drop(written);
    let Note::Settled { event, failed, .. } = *noted.recv().unwrap() else { panic!() };
    assert_eq!((event, failed), (ban(1).event(), None));
    // A disk that does not answer holds a call up, and not for long.
    crew.hand(ban(2)).unwrap();
    let Note::Begun { written, .. } = *noted.recv().unwrap() else { panic!() };
    assert_eq!(heard.iter().take(2).count(), 2);
    drop(written);
    assert_eq!(crew.finish(Duration::from_secs(9)), 0);
}
