//! Over HTTP: the page, the API behind it, and the metrics.
//!
//! **Invariant**: reads what reports tell and gives orders like any operator; knows no counter and no
//! judge. Without `[web] listen` there is no socket. What changes something needs the token; beyond
//! loopback everything does. Requests and clients are bounded, and nobody here is waited for by the
//! tick.

mod api;
mod guard;
mod metrics;
mod page;
mod ranks;
mod server;
mod settings;
mod stream;
mod whence;
mod words;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

pub use self::guard::Token;
pub use self::server::{Door, WebError};
pub use self::settings::{Listen, Settings};
use crate::actions::PacketShelf;
use crate::model::{Direction, Moment};
use crate::origins::Origins;
use crate::reports::{Book, Told};

/// An operator's order that came over HTTP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Ban a host.
    Ban {
        /// Its address.
        address: IpAddr,
        /// Which way the attack goes.
        direction: Direction,
        /// For this reason.
        reason: Option<String>,
        /// For so long at least, instead of what the configuration says.
        time: Option<Duration>,
    },
    /// Let it go.
    Unban {
        /// Its address.
        address: IpAddr,
    },
}

/// What was done, or why not.
pub type Answer = Result<String, String>;

/// An order and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// What is to be done.
    pub order: Order,
    /// What became of it.
    pub answer: oneshot::Sender<Answer>,
}

/// What the handlers know.
#[derive(Debug)]
struct Office {
    told: Told,
    book: Arc<Book>,
    asks: mpsc::Sender<Ask>,
    guard: guard::Guard,
    /// The configuration in force.
    configuration: serde_json::Value,
    metrics_hosts: usize,
    packets: PacketShelf,
    origins: Origins,
    /// Hosts in the orders that were asked for.
    ranks: ranks::Ranks,
    /// What readers of the stream are told.
    bulletin: stream::Bulletin,
    /// Asks what time it is.
    now: fn() -> Moment,
}

/// What there is to tell, beside the reports that come.
#[derive(Debug)]
pub struct Known {
    /// The last reports.
    pub book: Arc<Book>,
    /// The configuration in force.
    pub configuration: serde_json::Value,
    /// Packets of attacks.
    pub packets: PacketShelf,
    /// Whence packets come.
    pub origins: Origins,
}

/// Serves until the runtime ends.
pub async fn serve(
    door: Door,
    told: Told,
    known: Known,
    asks: mpsc::Sender<Ask>,
    now: fn() -> Moment,
) {
    let Known { book, configuration, packets, origins } = known;
    let Door { listener, guard, connections, metrics_hosts } = door;
    let Ok(listener) = TcpListener::from_std(listener) else {
        tracing::error!("The runtime takes no listening socket.");
        return;
    };
    // Charts, networks and the first page of hosts; who asks for more is given it while they ask.
    let _hold = told.wants.hold(crate::reports::Interest::Loudest(crate::reports::history::HOSTS));
    let office = Arc::new(Office {
        told,
        book,
        asks,
        guard,
        configuration,
        metrics_hosts,
        packets,
        origins,
        ranks: ranks::Ranks::default(),
        bulletin: stream::Bulletin::default(),
        now,
    });
    server::run(listener, connections, api::router(office)).await;
}
