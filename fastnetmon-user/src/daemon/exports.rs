//! The threads of the exports: made when somebody outside is to be told.
//!
//! **Invariant**: one thread with one runtime that never has much to do at a time, and one that makes
//! the reports. Nothing on them is waited for by the tick, and both stand behind it where there are
//! fewer CPUs than work. What blocks runs beside them.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, error};

use crate::actions::PacketShelf;
use crate::control::{Reply, Request, Status, Way};
use crate::daemon::sinks::Sinks;
use crate::daemon::tick::Wish;
use crate::daemon::{Settings, StartError, clock, control};
use crate::model::Direction;
use crate::origins::Origins;
use crate::reports::{Book, Desk, Gatherer, Health, Round, Wants};
use crate::web;

/// Rounds that wait for the thread.
const ROUNDS: usize = 2;

/// Orders over HTTP that wait for the tick.
const ASKS: usize = 16;

/// Steps (`nice(2)`) that the threads here stand behind the others: whoever asks is told after an attack
/// was found.
const STEPS: i32 = 5;

/// How long what is on its way may take when the agent ends.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// What the tick keeps, and what the thread is to do.
///
/// # Errors
/// When the web server's socket cannot be had.
pub(super) fn prepare(
    settings: &Settings,
    origins: &Origins,
) -> Result<(Gatherer, Option<Exports>), StartError> {
    let wants = Arc::new(Wants::default());
    let web = web::Door::open(&settings.web)?;
    let sinks = Sinks::new(settings, &wants)?;
    let standings = sinks.standings();
    if web.is_none() && standings.is_empty() {
        return Ok((Gatherer::new(wants, None, standings), None));
    }
    let (hand, rounds) = mpsc::channel(ROUNDS);
    let configuration = serde_json::to_value(settings).unwrap_or_default();
    let exports = Exports {
        wants: Arc::clone(&wants),
        rounds,
        book: Arc::default(),
        web,
        configuration,
        packets: PacketShelf::new(settings.packets.folder.clone()),
        origins: origins.clone(),
        sinks,
    };
    Ok((Gatherer::new(wants, Some(hand), standings), Some(exports)))
}

/// What the thread is given.
#[derive(Debug)]
pub(super) struct Exports {
    wants: Arc<Wants>,
    rounds: mpsc::Receiver<Round>,
    book: Arc<Book>,
    web: Option<web::Door>,
    configuration: serde_json::Value,
    packets: PacketShelf,
    origins: Origins,
    sinks: Sinks,
}

impl Exports {
    /// Runs until the tick has ended, and a little longer.
    pub(super) fn run(self, wishes: &Sender<Wish>) {
        stand_back();
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.serve(wishes));
                runtime.shutdown_timeout(FAREWELL);
            }
            Err(error) => error!(%error, "The exports cannot start."),
        }
    }

    async fn serve(self, wishes: &Sender<Wish>) {
        let Self { wants, rounds, book, web, configuration, packets, origins, sinks } = self;
        let mut desk = Desk::new(wants);
        let mut tasks = JoinSet::new();
        sinks.start(&mut desk, &mut tasks);
        // Ended with the runtime: nothing of theirs has to be finished.
        let mut shown = JoinSet::new();
        if let Some(door) = web {
            let (asks, asked) = mpsc::channel(ASKS);
            desk.keep(Arc::clone(&book));
            shown.spawn(carry(asked, wishes.clone()));
            let told = desk.told();
            let known = web::Known { book, configuration, packets, origins };
            shown.spawn(web::serve(door, told, known, asks, clock::now));
        }
        print(desk, rounds).await;
        // Who adds up sees its queue closed and sends what is left; who only shows is ended.
        let _late =
            tokio::time::timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} })
                .await;
    }
}

/// Makes reports on a thread of its own until there are no more rounds: of 65,536 hosts one takes
/// longer than an answer may.
async fn print(desk: Desk, rounds: mpsc::Receiver<Round>) {
    let (last, ended) = oneshot::channel::<Infallible>();
    let press = thread::Builder::new().name("press".to_owned()).spawn(move || {
        let _last = last;
        desk.run(rounds);
    });
    match press {
        // It never speaks: the channel closes when the thread ends, however that comes.
        Ok(press) => {
            drop(ended.await);
            if let Err(panic) = press.join() {
                std::panic::resume_unwind(panic);
            }
        }
        Err(error) => error!(%error, "No reports can be made."),
    }
}

/// Leaves the CPU to others first: the calling thread, and those it will start.
fn stand_back() {
    let asked = getpriority_process(None).and_then(|nice| setpriority_process(None, nice + STEPS));
    if let Err(error) = asked {
        debug!(%error, "A thread of the exports stands beside those that find attacks.");
    }
}

/// Carries orders to the tick, and answers back; one after the other, as the tick takes them.
async fn carry(mut asked: mpsc::Receiver<web::Ask>, wishes: Sender<Wish>) {
    while let Some(web::Ask { order, answer }) = asked.recv().await {
        let wishes = wishes.clone();
        let obeyed = tokio::task::spawn_blocking(move || control::ask(request(order), &wishes));
        let reply = match obeyed.await {
            Ok(Reply::Done { what }) => Ok(what),
            Ok(Reply::Refused { reason }) => Err(reason),
            Ok(_) | Err(_) => Err("the agent is busy: try again".to_owned()),
        };
        // Who asked may have gone; the order is obeyed all the same.
        let _unheard = answer.send(reply);
    }
}

/// The same order in the words of the control socket.
fn request(order: web::Order) -> Request {
    match order {
        web::Order::Ban { address, direction, reason, time } => {
            let direction = match direction {
                Direction::Incoming => Way::Incoming,
                Direction::Outgoing => Way::Outgoing,
            };
            let time_secs = time.map(|time| time.as_secs());
            Request::Ban { ip: address, direction, reason, time_secs }
        }
        web::Order::Unban { address } => Request::unban(address),
    }
}

/// How the agent is, as reports have it.
pub(super) fn health(status: &Status, notices_lost: u64, waiting: usize) -> Health {
    Health {
        version: status.version.as_str().into(),
        engine: status.engine.as_str().into(),
        role: status.role.as_str().into(),
        interfaces: status.interfaces.as_slice().into(),
        uptime: Duration::from_secs(status.uptime_secs),
        dropped: status.packets.dropped,
        redirected: status.packets.redirected,
        samples_lost: status.packets.samples_lost,
        notices_lost,
        tick: Duration::from_micros(status.tick_micros),
        residents: (status.ipv6.hosts, status.ipv6.room),
        turned_away: (status.ipv6.evicted, status.ipv6.refused),
        waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
        alarms: status.alarms.as_slice().into(),
        ..Health::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_exports_stand_behind_and_those_they_start_behind_them() {
        let nice = || getpriority_process(None).unwrap();
        let before = nice();
        let behind = thread::spawn(move || {
            stand_back();
            (nice(), thread::spawn(nice).join().unwrap())
        });
        let last = (before + STEPS).min(19);
        assert_eq!(behind.join().unwrap(), (last, last));
        assert_eq!(nice(), before, "and nobody else");
    }
}
