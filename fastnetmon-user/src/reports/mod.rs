//! What everybody is told: one report a second.
//!
//! The tick hands a [`Round`] over: numbers it has at hand, and the gains of the readings as they
//! are. On a thread of its own a [`Press`] makes a [`Report`] of it, as detailed as somebody
//! [`Wants`] it.
//!
//! **Invariant**: a report is a value; whoever is slow to read it misses reports and delays nobody.
//! Each byte is in exactly one report.

mod book;
pub mod clickhouse;
mod desk;
mod drive;
mod event;
mod exporter;
mod gather;
pub mod graphite;
pub mod history;
mod http;
pub mod influxdb;
pub mod meters;
mod parts;
mod press;
mod queue;
pub mod redis;
mod report;
mod secret;
mod settings;
mod top;
mod wants;

pub use self::book::Book;
pub use self::desk::{Desk, Subscription, Told};
pub use self::drive::{Pace, Shown, Standing, drive, shown, standing};
pub use self::event::{Event, Events, What};
pub use self::exporter::{Backlog, Batch, Carrier, ExportError, Exporter};
pub use self::gather::{Gatherer, Round};
pub use self::history::History;
pub use self::http::HttpError;
pub use self::meters::Meters;
pub use self::press::Press;
pub use self::report::{Channels, Families, Gained, Health, HostLoad, NetworkLoad, Report};
pub use self::secret::{Place, Secret, SecretError};
pub use self::settings::{BaseUrl, Endpoint, Name, QueueMb, Settings, Span};
pub use self::top::{Loudest, loudest};
pub use self::wants::{Hold, Interest, Wants};

#[cfg(test)]
mod known;
#[cfg(test)]
mod laws;
