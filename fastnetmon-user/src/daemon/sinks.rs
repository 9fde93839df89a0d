//! The databases that are told: made of the settings, each a task on the thread of the exports.
//!
//! **Invariant**: what can be wrong with one is found before the first thread starts; whether its
//! database is there is nobody's condition for anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::control;
use crate::daemon::{Settings, StartError};
use crate::reports::clickhouse::{ClickHouse, Inserter};
use crate::reports::graphite::{Connection, Graphite};
use crate::reports::influxdb::{InfluxDb, Writer};
use crate::reports::redis::{Link, Redis};
use crate::reports::{Desk, Exporter, Hold, Interest, Pace, Shown, Standing, Wants, drive, shown};

/// What is configured.
#[derive(Debug)]
pub(super) struct Sinks {
    redis: Option<Sink<Redis>>,
    graphite: Option<Sink<Graphite>>,
    influxdb: Option<Sink<InfluxDb>>,
    clickhouse: Option<Sink<ClickHouse>>,
}

impl Sinks {
    /// Reads secrets; nobody is spoken to yet.
    pub(super) fn new(settings: &Settings, wants: &Arc<Wants>) -> Result<Self, StartError> {
        let agent = agent(settings);
        let refuse = |error: &dyn std::fmt::Display| StartError::Export(error.to_string());
        let mut sinks = Self { redis: None, graphite: None, influxdb: None, clickhouse: None };
        let loudest = |hosts: u32| Interest::Loudest(hosts as usize);
        let redis = &settings.redis;
        if redis.enabled {
            let interest = if redis.traffic { Interest::AllHosts } else { Interest::NoHosts };
            sinks.redis = Some(Sink {
                exporter: Redis::new(redis),
                carrier: Link::new(redis).map_err(|error| refuse(&error))?,
                // The link keeps the deadline itself: it knows whether anything was sent.
                pace: Pace::with_deadline(redis.timeout_secs.duration() + Duration::from_secs(1)),
                shown: shown(Redis::NAME, String::from(redis.server.clone())),
                hold: wants.hold(interest),
            });
        }
        let graphite = &settings.graphite;
        if graphite.enabled {
            sinks.graphite = Some(Sink {
                exporter: Graphite::new(graphite),
                carrier: Connection::new(graphite.server.clone()),
                pace: Pace::with_deadline(graphite.timeout_secs.duration()),
                shown: shown(Graphite::NAME, graphite.server.as_str()),
                hold: wants.hold(loudest(graphite.top_hosts)),
            });
        }
        let influxdb = &settings.influxdb;
        if influxdb.enabled {
            sinks.influxdb = Some(Sink {
                exporter: InfluxDb::new(influxdb, &agent),
                carrier: Writer::new(influxdb).map_err(|error| refuse(&error))?,
                pace: Pace::with_deadline(influxdb.timeout_secs.duration()),
                shown: shown(InfluxDb::NAME, influxdb.url.as_str()),
                hold: wants.hold(loudest(influxdb.top_hosts)),
            });
        }
        let clickhouse = &settings.clickhouse;
        if clickhouse.enabled {
            sinks.clickhouse = Some(Sink {
                exporter: ClickHouse::new(clickhouse, &agent),
                carrier: Inserter::new(clickhouse).map_err(|error| refuse(&error))?,
                pace: Pace::with_deadline(clickhouse.timeout_secs.duration()),
                shown: shown(ClickHouse::NAME, clickhouse.url.as_str()),
                hold: wants.hold(loudest(clickhouse.top_hosts)),
            });
        }
        Ok(sinks)
    }

    /// How each stands.
    pub(super) fn standings(&self) -> Vec<Shown> {
        let Self { redis, graphite, influxdb, clickhouse } = self;
        let all = [
            redis.as_ref().map(Sink::shown),
            graphite.as_ref().map(Sink::shown),
            influxdb.as_ref().map(Sink::shown),
            clickhouse.as_ref().map(Sink::shown),
        ];
        all.into_iter().flatten().collect()
    }

    /// Starts a task for each.
    pub(super) fn start(self, desk: &mut Desk, tasks: &mut JoinSet<()>) {
        let Self { redis, graphite, influxdb, clickhouse } = self;
        start(redis, desk, tasks);
        start(graphite, desk, tasks);
        start(influxdb, desk, tasks);
        start(clickhouse, desk, tasks);
    }
}

/// One of them.
#[derive(Debug)]
struct Sink<E: Exporter> {
    exporter: E,
    carrier: E::Carrier,
    pace: Pace,
    shown: Shown,
    hold: Hold,
}

impl<E: Exporter> Sink<E> {
    fn shown(&self) -> Shown {
        Arc::clone(&self.shown)
    }
}

fn start<E: Exporter>(sink: Option<Sink<E>>, desk: &mut Desk, tasks: &mut JoinSet<()>) {
    let Some(Sink { exporter, carrier, pace, shown, hold }) = sink else { return };
    let subscription = desk.subscribe();
    tasks.spawn(async move {
        let _wanted = hold;
        drive(exporter, carrier, subscription, pace, shown).await;
    });
}

/// The name of this agent.
fn agent(settings: &Settings) -> String {
    let system = rustix::system::uname();
    settings.report.name.or(&system.nodename().to_string_lossy())
}

/// How an export stands, as the control socket says it.
pub(super) fn shown_export(standing: Standing) -> control::Export {
    let Standing { name, to, up, error, sent, lost, uncertain, waiting, failures, .. } = standing;
    control::Export {
        name: name.to_owned(),
        to,
        up,
        error,
        sent,
        lost,
        uncertain,
        waiting,
        failures,
        lost_traffic_bytes: standing.lost_traffic,
        missed: standing.missed,
    }
}
