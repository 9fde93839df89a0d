//! All actions that are configured, each with its crew.
//!
//! **Invariant**: what is prepared can be started: whatever may be wrong with it was found before
//! anything changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use tracing::{info, warn};

use crate::actions::drive::settle;
use crate::actions::log_file::{self, LogFile};
use crate::actions::script::Script;
use crate::actions::webhook::{self, Webhook, WebhookError};
use crate::actions::xdp_drop::XdpDrop;
use crate::actions::{
    Action, ActionError, Crew, Deed, Errand, EventId, Note, Notebook, Overflow, Receipt, Settings,
    Sort, Terms,
};
use crate::model::Wall;
use crate::origins::Origins;
use crate::verdicts::{Ban, Verdict};

/// Actions that were looked at and can be started.
#[derive(Clone, Debug)]
pub struct Prepared {
    script: (Script, Terms),
    webhook: Option<(Webhook, Terms)>,
    log_file: Option<(LogFile, Terms)>,
}

/// Looks at what the settings say: reads secrets and certificates.
///
/// # Errors
/// When something of it cannot be used.
pub fn prepare(
    notify: &Settings,
    webhook: &webhook::Settings,
    attack_log: &log_file::Settings,
) -> Result<Prepared, WebhookError> {
    let script = Script::new(notify.script.clone(), notify.args, notify.format);
    let script_terms = Terms {
        workers: notify.concurrency.count(),
        patience: notify.timeout_secs.duration(),
        attempts: 5,
        pause: Duration::from_millis(50),
        longest_pause: Duration::from_millis(50),
    };
    let webhook_terms = Terms {
        workers: webhook.concurrency.count(),
        patience: webhook.timeout_secs.duration(),
        attempts: webhook.attempts.count(),
        pause: Duration::from_millis(500),
        longest_pause: Duration::from_mins(1),
    };
    let log_terms = Terms {
        // One: files of one second are told apart by what is there.
        workers: 1,
        patience: Duration::from_secs(10),
        attempts: 8,
        pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(30),
    };
    let log_file =
        attack_log.enabled.then(|| LogFile::new(attack_log.folder.clone(), attack_log.keep));
    Ok(Prepared {
        script: (script, script_terms),
        webhook: Webhook::new(webhook)?.map(|webhook| (webhook, webhook_terms)),
        log_file: log_file.map(|log_file| (log_file, log_terms)),
    })
}

impl Prepared {
    /// Events will say where packets come from, as far as that is known.
    #[must_use]
    pub fn knowing(self, origins: &Origins) -> Self {
        let Self { script: (script, terms), webhook, log_file } = self;
        Self {
            script: (script.knowing(origins.clone()), terms),
            webhook: webhook.map(|(webhook, terms)| (webhook.knowing(origins.clone()), terms)),
            log_file: log_file.map(|(log, terms)| (log.knowing(origins.clone()), terms)),
        }
    }
}

/// The kernel answers at once.
const DROPS: Terms = Terms {
    workers: 1,
    patience: Duration::from_secs(1),
    attempts: 1,
    pause: Duration::ZERO,
    longest_pause: Duration::ZERO,
};

/// Something an action was sent to do before the agent ended, and did not do.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The errand.
    pub errand: Errand,
    /// Who was sent.
    pub to: BTreeSet<String>,
}

/// The crews.
#[derive(Debug)]
pub struct Actions {
    script: Crew<Script>,
    xdp_drop: Option<Crew<XdpDrop>>,
    webhook: Option<Crew<Webhook>>,
    log_file: Option<Crew<LogFile>>,
    notebook: Notebook,
    deeds: Sender<Box<Deed>>,
    /// What was done, or begun, before the agent started.
    done: BTreeMap<EventId, BTreeSet<String>>,
}

/// Says the same to every crew there is.
macro_rules! each {
    ($actions:expr, $crew:ident => $say:expr) => {{
        let $crew = &$actions.script;
        $say;
        if let Some($crew) = &$actions.xdp_drop {
            $say;
        }
        if let Some($crew) = &$actions.webhook {
            $say;
        }
        if let Some($crew) = &$actions.log_file {
            $say;
        }
    }};
}

impl Actions {
    /// Starts them: the world is made to agree with `standing`. Events that were `done` before are
    /// not carried out again.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        prepared: Prepared,
        xdp_drop: Option<XdpDrop>,
        standing: &[Ban],
        done: BTreeMap<EventId, BTreeSet<String>>,
        notebook: Notebook,
        deeds: Sender<Box<Deed>>,
    ) -> io::Result<Self> {
        let Prepared { script: (script, terms), webhook, log_file } = prepared;
        Ok(Self {
            script: Crew::start(script, terms, standing, &notebook, &deeds)?,
            xdp_drop: xdp_drop
                .map(|drops| Crew::start(drops, DROPS, standing, &notebook, &deeds))
                .transpose()?,
            webhook: webhook
                .map(|(webhook, terms)| Crew::start(webhook, terms, standing, &notebook, &deeds))
                .transpose()?,
            log_file: log_file
                .map(|(log, terms)| Crew::start(log, terms, standing, &notebook, &deeds))
                .transpose()?,
            notebook,
            deeds,
            done,
        })
    }

    /// Goes on with what was prepared. Nothing that waits is lost; what an action that is no more
    /// has to do, it may do within `farewell`.
    ///
    /// # Errors
    /// When a thread cannot be started. What went before stays changed.
    pub fn replace(&mut self, prepared: Prepared, farewell: Duration) -> io::Result<()> {
        let Self { notebook, deeds, .. } = self;
        let Prepared { script: (script, terms), webhook, log_file } = prepared;
        self.script.replace(script, terms)?;
        swap(&mut self.webhook, webhook, notebook, deeds, farewell)?;
        swap(&mut self.log_file, log_file, notebook, deeds, farewell)
    }

    /// Sends every action whose business it is. The note of it comes first; the receipt tells when
    /// that is safe.
    ///
    /// # Errors
    /// Whose queue is full.
    pub fn hand(&self, verdict: Verdict, wall: Wall) -> Result<Receipt, Vec<Overflow>> {
        let errand = Arc::new(Errand { verdict, wall });
        let mut to = Vec::new();
        each!(self, crew => if self.sends(crew, &errand) { to.push(name_of(crew)) });
        let (written, receipt) = Receipt::new();
        if errand.verdict.ban().is_some() {
            let (errand, to) = (Arc::clone(&errand), to.clone());
            self.notebook.put(Note::Told { errand, to, written });
        }
        self.send(&errand, |name| to.contains(&name)).map(|()| receipt)
    }

    /// Sends those who were sent before the agent started and did not come back.
    ///
    /// # Errors
    /// Whose queue is full.
    pub fn resume(&self, pending: Pending) -> Result<(), Vec<Overflow>> {
        let Pending { errand, to } = pending;
        self.send(&Arc::new(errand), |name| to.contains(name))
    }

    fn send(
        &self,
        errand: &Arc<Errand>,
        is_sent: impl Fn(&'static str) -> bool,
    ) -> Result<(), Vec<Overflow>> {
        let mut full = Vec::new();
        each!(self, crew => if is_sent(name_of(crew))
            && let Err(overflow) = crew.hand(Arc::clone(errand))
        {
            let error = ActionError::Refused { reason: overflow.to_string() };
            settle(&self.notebook, name_of(crew), errand, Some(&error));
            full.push(overflow);
        });
        if full.is_empty() { Ok(()) } else { Err(full) }
    }

    fn sends<A: Action + Clone>(&self, crew: &Crew<A>, errand: &Errand) -> bool {
        let is_done = self.done.get(&errand.event()).is_some_and(|done| done.contains(A::NAME));
        if is_done || !crew.wants(&errand.verdict) {
            return false;
        }
        let is_dry = errand.verdict.ban().is_some_and(|ban| ban.dry_run);
        if is_dry && A::SORT != Sort::Tells {
            let (host, what) = (errand.named(), errand.verdict.name());
            info!(%host, action = A::NAME, what, "Dry run: not done.");
            return false;
        }
        true
    }

    /// Forgets what was done about a ban that is over.
    pub fn forget(&mut self, verdict: &Verdict) {
        let ban = EventId::from(verdict).ban;
        self.done.retain(|event, _| event.ban != ban);
    }

    /// Where notes are put.
    pub const fn notebook(&self) -> &Notebook {
        &self.notebook
    }

    /// Errands that wait, of all actions.
    pub fn waiting(&self) -> usize {
        let mut waiting = 0;
        each!(self, crew => waiting += crew.waiting().0);
        waiting
    }

    /// Who waits for something that does not work, in sentences.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        each!(self, crew => if let (waiting, Some(reason)) = crew.waiting() {
            let name = name_of(crew);
            troubles.push(format!("{waiting} events wait for `{name}`, which does not work: {reason}."));
        });
        troubles
    }

    /// Lets what waits and what runs come to its end, within `patience`. Returns how many errands
    /// nobody came to.
    pub fn finish(self, patience: Duration) -> usize {
        // Side by side: one that hangs takes no time from the others.
        let Self { script, xdp_drop, webhook, log_file, .. } = self;
        std::thread::scope(|scope| {
            let others = [
                xdp_drop.map(|crew| scope.spawn(move || crew.finish(patience))),
                webhook.map(|crew| scope.spawn(move || crew.finish(patience))),
                log_file.map(|crew| scope.spawn(move || crew.finish(patience))),
            ];
            let left = script.finish(patience);
            let others = others.into_iter().flatten().map(|other| other.join().unwrap_or_default());
            left + others.sum::<usize>()
        })
    }
}

const fn name_of<A: Action + Clone>(_crew: &Crew<A>) -> &'static str {
    A::NAME
}

fn swap<A: Action + Clone>(
    crew: &mut Option<Crew<A>>,
    prepared: Option<(A, Terms)>,
    notebook: &Notebook,
    deeds: &Sender<Box<Deed>>,
    farewell: Duration,
) -> io::Result<()> {
    match (crew.as_mut(), prepared) {
        (Some(crew), Some((action, terms))) => crew.replace(action, terms)?,
        (None, Some((action, terms))) => {
            *crew = Some(Crew::start(action, terms, &[], notebook, deeds)?);
        }
        (Some(_), None) => {
            if let Some(old) = crew.take() {
                let name = format!("{}-end", A::NAME);
                std::thread::Builder::new().name(name).spawn(move || {
                    let left = old.finish(farewell);
                    if left > 0 {
                        warn!(
                            left,
                            action = A::NAME,
                            "Events were not told before it was switched off."
                        );
                    }
                })?;
            }
        }
        (None, None) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use crossbeam_channel::{Receiver, bounded};

    use super::*;
    use crate::actions::webhook::tests::{Endpoint, Manner, OK};
    use crate::model::Prefix;
    use crate::verdicts::{Alert, Ending};

    /// A folder of its own for each test, with a script that writes down its events.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("fnm-crews-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            let script = path.join("script");
            let calls = path.join("calls");
            let text = format!("#!/bin/sh\necho $FASTNETMON_EVENT >> {}\n", calls.display());
            fs::write(&script, text).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            Self(path)
        }

        fn notify(&self) -> Settings {
            Settings { script: self.0.join("script"), ..Settings::default() }
        }

        fn log(&self, enabled: bool) -> log_file::Settings {
            let folder = self.0.join("log");
            log_file::Settings { enabled, folder, ..log_file::Settings::default() }
        }

        fn calls(&self) -> Vec<String> {
            let text = fs::read_to_string(self.0.join("calls")).unwrap_or_default();
            let mut calls: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
            calls.sort();
            calls
        }

        fn reports(&self) -> usize {
            fs::read_dir(self.0.join("log")).map_or(0, Iterator::count)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    type Done = BTreeMap<EventId, BTreeSet<String>>;

    fn start(prepared: Prepared, done: Done) -> (Actions, Receiver<Box<Note>>) {
        let (notes, noted) = bounded(1000);
        let (deeds, _) = bounded(1000);
        (Actions::start(prepared, None, &[], done, Notebook::new(notes), deeds).unwrap(), noted)
    }

    fn ban(id: u64) -> Ban {
        let address = [192, 0, 2, u8::try_from(id).unwrap()];
        Ban { id: crate::verdicts::BanId(id), ..Ban::of(address) }
    }

    fn posted(endpoint: &Endpoint) -> Vec<String> {
        let posted = endpoint.posted().into_iter();
        let mut keys: Vec<String> =
            posted.map(|mut posted| posted.headers.remove("idempotency-key").unwrap()).collect();
        keys.sort();
        keys
    }

    /// Who was sent, by the notes.
    fn told(noted: &Receiver<Box<Note>>) -> Vec<String> {
        let notes = noted.try_iter().filter_map(|note| match *note {
            Note::Told { errand, to, .. } => Some(format!("{} {}", errand.event(), to.join(","))),
            _ => None,
        });
        notes.collect()
    }

    #[test]
    fn a_dry_run_is_told_and_not_done_and_a_network_is_told_alone() {
        let folder = Folder::new("dry");
        let endpoint = Endpoint::open(Manner::Answers(vec![OK]));
        let prepared = prepare(&folder.notify(), &endpoint.settings(), &folder.log(true)).unwrap();
        let (actions, noted) = start(prepared, Done::new());
        let dry = Ban { dry_run: true, ..ban(1) };
        let Ban { id, direction, cause, loads, pps, peak_pps, group, since, .. } = ban(2);
        let prefix = Prefix::parse_masked("192.0.2.0/24").unwrap().0;
        let hosts = 9;
        let alert =
            Alert { id, prefix, direction, hosts, cause, pps, peak_pps, loads, group, since };
        let mut own = ban(3);
        own.deeds.webhook = false;
        for verdict in [Verdict::Ban(dry), Verdict::Alert(alert), Verdict::Ban(own)] {
            actions.hand(verdict, Wall::default()).unwrap();
        }
        assert_eq!(actions.finish(Duration::from_mins(1)), 0);
        assert_eq!(folder.calls(), ["3-ban"]);
        assert_eq!(posted(&endpoint), ["1-ban", "2-alert"]);
        assert_eq!(folder.reports(), 5, "two of each ban, one of the network");
        // Of the network nothing is kept.
        assert_eq!(told(&noted), ["1-ban webhook,log_file", "3-ban script,log_file"]);
    }

    #[test]
    fn what_was_done_before_is_not_done_again_and_what_was_not_is() {
        let folder = Folder::new("before");
        let endpoint = Endpoint::open(Manner::Answers(vec![OK]));
        let prepared = prepare(&folder.notify(), &endpoint.settings(), &folder.log(false)).unwrap();
        let done = |verdict: &Verdict| {
            Done::from([(EventId::from(verdict), BTreeSet::from(["script".to_owned()]))])
        };
        let details = Verdict::Details(ban(1), [].into());
        let (mut actions, noted) = start(prepared, done(&details));
        let pending = Errand { verdict: Verdict::Ban(ban(1)), wall: Wall::default() };
        actions
            .resume(Pending { errand: pending, to: BTreeSet::from(["webhook".to_owned()]) })
            .unwrap();
        actions.hand(details, Wall::default()).unwrap();
        let unban = Verdict::Unban(ban(1), Ending::Over);
        actions.hand(unban.clone(), Wall::default()).unwrap();
        actions.forget(&unban);
        assert!(actions.done.is_empty());
        assert_eq!(actions.finish(Duration::from_mins(1)), 0);
        assert_eq!(folder.calls(), ["1-unban"]);
        assert_eq!(posted(&endpoint), ["1-attack_details", "1-ban", "1-unban"]);
        assert_eq!(told(&noted), ["1-attack_details webhook", "1-unban script,webhook"]);
    }

    #[test]
    fn actions_are_switched_on_and_off_and_nothing_that_waits_is_lost() {
        let folder = Folder::new("switch");
        let endpoint = Endpoint::open(Manner::Answers(vec![OK]));
        let with = |url: &webhook::Settings, log: bool| {
            prepare(&folder.notify(), url, &folder.log(log)).unwrap()
        };
        let none = webhook::Settings::default();
        let (mut actions, _noted) = start(with(&none, true), Done::new());
        let hand = |actions: &Actions, id| {
            actions.hand(Verdict::Ban(ban(id)), Wall::default()).unwrap();
        };
        hand(&actions, 1);
        actions.replace(with(&endpoint.settings(), false), Duration::from_secs(9)).unwrap();
        hand(&actions, 2);
        // Somewhere else from now on.
        let other = Endpoint::open(Manner::Answers(vec![OK]));
        actions.replace(with(&other.settings(), false), Duration::from_secs(9)).unwrap();
        hand(&actions, 3);
        assert_eq!(actions.finish(Duration::from_mins(1)), 0);
        assert_eq!(folder.calls(), ["1-ban", "2-ban", "3-ban"]);
        let mut all = [posted(&endpoint), posted(&other)].concat();
        all.sort();
        assert_eq!(all, ["2-ban", "3-ban"]);
        assert!(posted(&other).contains(&"3-ban".to_owned()));
    }

    #[test]
    fn who_waits_for_something_that_does_not_work_is_an_alarm() {
        let folder = Folder::new("alarm");
        let endpoint =
            Endpoint::open(Manner::Answers(vec!["HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"]));
        let prepared = prepare(&folder.notify(), &endpoint.settings(), &folder.log(false)).unwrap();
        let (actions, _noted) = start(prepared, Done::new());
        actions.hand(Verdict::Ban(ban(1)), Wall::default()).unwrap();
        let alarm = loop {
            if let Some(alarm) = actions.troubles().pop() {
                break alarm;
            }
            std::thread::yield_now();
        };
        let expected = format!(
            "1 events wait for `webhook`, which does not work: \
             `http://127.0.0.1:{}/hook` answers 503.",
            endpoint.port
        );
        assert_eq!(alarm, expected);
        assert_eq!(actions.finish(Duration::from_secs(30)), 0);
    }
}
