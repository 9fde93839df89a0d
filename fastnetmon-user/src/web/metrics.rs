//! `/metrics`: for Prometheus, in the `OpenMetrics` format.
//!
//! **Invariant**: bounded. Series of hosts are at most as many as `metrics_hosts` says; whoever is
//! not among the loudest has none. Names are listed in docs/metrics.md, and a test compares.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::model::{Class, Direction, PerSecond, Unparsed};
use crate::reports::meters::{Histogram, LATENCIES};
use crate::reports::{Meters, Report};
use crate::web::Office;
use crate::web::api::problem;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(office): State<Arc<Office>>) -> Response {
    let Some(report) = office.book.latest() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "there is no report yet");
    };
    let page = Page { report, meters: office.book.meters(), hosts: office.metrics_hosts };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(page));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// What is told at one scrape.
#[derive(Debug)]
struct Page {
    report: Arc<Report>,
    meters: Meters,
    hosts: usize,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.traffic(&mut encoder)?;
        self.places(&mut encoder)?;
        self.health(&mut encoder)?;
        self.deeds(&mut encoder)
    }
}

impl Page {
    /// The whole, under the names that dashboards of the incumbent ask for, and what it lacks.
    fn traffic(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Report { totals, families, .. } = &*self.report;
        let mut packets: Vec<(Labels<'_>, u64)> = Vec::new();
        let mut bits: Vec<(Labels<'_>, u64)> = Vec::new();
        let mut put = |way: &'static str, version: &'static str, rate: PerSecond| {
            let labels = vec![("traffic_direction", way), ("protocol_version", version)];
            packets.push((labels.clone(), rate.pps));
            bits.push((labels, rate.bits()));
        };
        for direction in Direction::BOTH {
            let way = direction.name();
            put(way, "ipv4", self.report.per_second(families.v4.of(direction).total()));
            put(way, "ipv6", self.report.per_second(families.v6.of(direction).total()));
        }
        put("internal", "all", totals.internal.per_second);
        put("other", "all", totals.other.per_second);
        gauges(encoder, "fastnetmon_total_traffic_packets", "Packets a second", packets)?;
        gauges(encoder, "fastnetmon_total_traffic_bits", "Bits a second", bits)?;

        let mut packets: Vec<(Labels<'_>, u64)> = Vec::new();
        let mut bits: Vec<(Labels<'_>, u64)> = Vec::new();
        for direction in Direction::BOTH {
            for class in Class::ALL {
                let mut tally = families.v4.of(direction).class(class);
                tally += families.v6.of(direction).class(class);
                let labels = vec![("direction", direction.name()), ("class", class.name())];
                let rate = self.report.per_second(tally);
                packets.push((labels.clone(), rate.pps));
                bits.push((labels, rate.bits()));
            }
        }
        gauges(encoder, "fastnetmon_class_packets", "Packets a second by class", packets)?;
        gauges(encoder, "fastnetmon_class_bits", "Bits a second by class", bits)?;

        let kinds = [
            ("incoming", totals.incoming),
            ("outgoing", totals.outgoing),
            ("internal", totals.internal),
            ("other", totals.other),
        ];
        let since = |value: fn(crate::model::Tally) -> u64| {
            kinds.map(|(kind, channel)| (vec![("direction", kind)], value(channel.total)))
        };
        let help = "Packets since the agent started";
        counters(encoder, "fastnetmon_packets", help, since(|tally| tally.packets))?;
        let help = "Bytes of IP packets since the agent started";
        counters(encoder, "fastnetmon_bytes", help, since(|tally| tally.bytes))
    }

    /// Networks and the loudest hosts.
    fn places(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let report = &self.report;
        let networks: Vec<String> =
            report.networks.iter().map(|load| load.prefix.to_string()).collect();
        let mut packets: Vec<(Labels<'_>, u64)> = Vec::new();
        let mut bits: Vec<(Labels<'_>, u64)> = Vec::new();
        for (load, name) in report.networks.iter().zip(&networks) {
            for direction in Direction::BOTH {
                let rate = report.per_second(load.gained.of(direction).total());
                let labels = vec![("network", name.as_str()), ("direction", direction.name())];
                packets.push((labels.clone(), rate.pps));
                bits.push((labels, rate.bits()));
            }
        }
        gauges(encoder, "fastnetmon_network_packets", "Packets a second by network", packets)?;
        gauges(encoder, "fastnetmon_network_bits", "Bits a second by network", bits)?;

        let loudest = report.loudest(1, self.hosts);
        let names: Vec<String> = loudest.iter().map(|host| host.address.to_string()).collect();
        let mut packets: Vec<(Labels<'_>, u64)> = Vec::new();
        let mut bits: Vec<(Labels<'_>, u64)> = Vec::new();
        for (load, name) in loudest.iter().zip(&names) {
            for direction in Direction::BOTH {
                let rate = report.per_second(load.total(direction));
                let labels = vec![("host", name.as_str()), ("direction", direction.name())];
                packets.push((labels.clone(), rate.pps));
                bits.push((labels, rate.bits()));
            }
        }
        let help = "Packets a second of the loudest hosts";
        gauges(encoder, "fastnetmon_host_packets", help, packets)?;
        gauges(encoder, "fastnetmon_host_bits", "Bits a second of the loudest hosts", bits)?;
        let moved = u64::try_from(report.moved).unwrap_or(u64::MAX);
        gauge(encoder, "fastnetmon_hosts", "Hosts that moved in the last second", moved)
    }

    fn health(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let report = &self.report;
        let health = &report.health;
        let help = "Packets seen, readable or not";
        let received = report.totals.received();
        counter(encoder, "fastnetmon_received_packets", help, received)?;
        let help = "Packets lost before they were seen";
        counter(encoder, "fastnetmon_dropped_packets", help, health.dropped)?;
        let unparsed: Vec<_> = Unparsed::ALL
            .into_iter()
            .zip(report.totals.unparsed)
            .map(|(reason, tally)| (vec![("reason", reason.name())], tally.packets))
            .collect();
        let help = "Frames that could not be read, by reason";
        counters(encoder, "fastnetmon_unparsed_packets", help, unparsed)?;
        let ignored = report.totals.ignored;
        let help = "Packets that a rule has us not count for anybody";
        counter(encoder, "fastnetmon_ignored_packets", help, ignored.packets)?;
        let help = "Bytes of IP packets that a rule has us not count for anybody";
        counter(encoder, "fastnetmon_ignored_bytes", help, ignored.bytes)?;
        let help = "Packets for dumps that found no room";
        counter(encoder, "fastnetmon_samples_lost", help, health.samples_lost)?;
        let help = "Hints that found no room; the next reading is the net under them";
        let lost = report.totals.hints_lost + health.notices_lost;
        counter(encoder, "fastnetmon_hints_lost", help, lost)?;
        let is_blind = health.alarms.iter().any(|alarm| alarm.contains("capture is broken"));
        let help = "1: packets are seen; 0: the capture is broken";
        gauge(encoder, "fastnetmon_capture_up", help, u64::from(!is_blind))?;
        let alarms = u64::try_from(health.alarms.len()).unwrap_or(u64::MAX);
        gauge(encoder, "fastnetmon_alarms", "Alarms that stand", alarms)?;
        let help = "IPv6 hosts with lines of their own";
        gauge(encoder, "fastnetmon_ipv6_hosts", help, health.residents.0)?;
        let help = "IPv6 hosts that may have lines of their own";
        gauge(encoder, "fastnetmon_ipv6_hosts_room", help, health.residents.1)?;
        gauge(encoder, "fastnetmon_uptime_seconds", "Since start", health.uptime.as_secs())?;
        let help = "CPU time of a reading, with rates and verdicts";
        histogram(encoder, "fastnetmon_tick_seconds", help, &self.meters.ticks)?;
        let (version, engine) = (health.version.to_string(), health.engine.to_string());
        let labels = vec![("version", version.as_str()), ("engine", engine.as_str())];
        gauges(encoder, "fastnetmon_build", "Which agent this is", [(labels, 1)])
    }

    fn deeds(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let banned = u64::try_from(self.report.banned.len()).unwrap_or(u64::MAX);
        gauge(encoder, "fastnetmon_bans_standing", "Bans that stand", banned)?;
        let verdicts = self.meters.verdicts.iter();
        let verdicts = verdicts.map(|(name, number)| (vec![("verdict", *name)], *number));
        let help = "Verdicts that went out";
        counters(encoder, "fastnetmon_verdicts", help, verdicts.collect::<Vec<_>>())?;
        let deeds = self.meters.deeds.iter().map(|((action, verdict, is_done), number)| {
            let outcome = if *is_done { "done" } else { "failed" };
            (vec![("action", *action), ("verdict", *verdict), ("outcome", outcome)], *number)
        });
        let help = "Calls of actions and what became of them";
        counters(encoder, "fastnetmon_action_calls", help, deeds.collect::<Vec<_>>())?;
        let help = "Calls of actions that wait";
        gauge(encoder, "fastnetmon_action_calls_waiting", help, self.report.health.waiting)?;
        let help = "How long calls of actions took";
        let calls = self.meters.calls.iter();
        let calls = calls.map(|(action, took)| (vec![("action", *action)], took));
        histograms(encoder, "fastnetmon_action_seconds", help, calls)?;
        let help = "From the first hint at a host to its ban";
        histogram(encoder, "fastnetmon_detection_seconds", help, &self.meters.latency)
    }
}

#[expect(single_use_lifetimes, reason = "it cannot be left out of an `impl` in an argument")]
fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        metric.encode_family(&labels)?.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))?;
    }
    Ok(())
}

#[expect(single_use_lifetimes, reason = "it cannot be left out of an `impl` in an argument")]
fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    gauges(encoder, name, help, [(Labels::new(), value)])
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    counters(encoder, name, help, [(Labels::new(), value)])
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: &Histogram,
) -> fmt::Result {
    histograms(encoder, name, help, [(Labels::new(), values)])
}

fn histograms<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    histograms: impl IntoIterator<Item = (Labels<'a>, &'a Histogram)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, values) in histograms {
        // Without a bucket that says `+Inf` no quantile can be asked for.
        let bounds = LATENCIES.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(values.buckets).collect();
        metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            values.sum,
            values.count(),
            &buckets,
            None,
        )?;
    }
    Ok(())
}
