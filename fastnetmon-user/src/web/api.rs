//! The paths of the API.
//!
//! **Invariant**: what is answered here is stated in `/openapi.json`, which is made of these very
//! functions; a test asks each of its paths.
#![expect(unused_qualifications, reason = "the macro that states a path names its words in full")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::oneshot;
use utoipa::{IntoParams, OpenApi};

use crate::model::{Direction, Prefix};
use crate::reports::{Interest, Report, What};
use crate::verdicts::{self, BanId, Verdict};
use crate::web::guard::Refusal;
use crate::web::whence::{Origins, Remotes};
use crate::web::words::{
    Ban, BanOrder, Done, Happening, Health, History, Host, HostDetail, Hosts, MOST, Network,
    Networks, Packets, PageQuery, Problem, Sort, Speed, Totals, is_banned, wall,
};
use crate::web::{Ask, Office, Order, metrics, page, ranks, stream};

/// Bytes of a request's body.
const LONGEST_BODY: usize = 16 * 1024;

/// A report that is older than this says that the agent is stuck.
const FRESH: Duration = Duration::from_secs(5);

/// How long an answer may wait for a report with all hosts in it.
const PATIENCE: Duration = Duration::from_millis(1500);

type Desk = State<Arc<Office>>;

type Asked = Result<Query<PageQuery>, QueryRejection>;

/// What the document says of the whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "fastnetmon",
        description = "What the agent sees and does. Rates are those of \
        the last second; bytes are bytes of IP packets."
    ),
    paths(
        totals,
        health,
        networks,
        origins,
        hosts,
        host,
        bans,
        ban,
        unban,
        packets,
        events,
        stream::stream,
        totals_history,
        network_history,
        configuration,
        version,
        healthz,
        readyz
    ),
    // Words of parameters are not found by themselves.
    components(schemas(Sort))
)]
struct Document;

/// All paths.
pub(super) fn router(office: Arc<Office>) -> Router {
    let api = Router::new()
        .route("/totals", get(totals))
        .route("/health", get(health))
        .route("/networks", get(networks))
        .route("/origins", get(origins))
        .route("/hosts", get(hosts))
        .route("/hosts/{ip}", get(host))
        .route("/bans", get(bans).post(ban))
        .route("/bans/{ip}", delete(unban))
        .route("/bans/{id}/packets", get(packets))
        .route("/events", get(events))
        .route("/stream", get(stream::stream))
        .route("/history", get(totals_history))
        .route("/history/network", get(network_history))
        .route("/configuration", get(configuration))
        .route("/version", get(version));
    Router::new()
        .nest("/api/v1", api)
        .route("/openapi.json", get(async || Json(Document::openapi())))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(page::router())
        .fallback(async || {
            problem(StatusCode::NOT_FOUND, "there is nothing here; see /openapi.json")
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn_with_state(Arc::clone(&office), let_in))
        .with_state(office)
}

/// Who may not is told why.
async fn let_in(State(office): Desk, request: Request, next: Next) -> Response {
    let outcome = office.guard.check(request.method(), request.uri().path(), request.headers());
    match outcome {
        Ok(()) => next.run(request).await,
        Err(Refusal(status, reason)) => problem(status, reason),
    }
}

/// An error, as JSON.
pub(super) fn problem(status: StatusCode, reason: impl Into<String>) -> Response {
    (status, Json(Problem { error: reason.into() })).into_response()
}

/// The latest report, or why there is none.
fn latest(office: &Office) -> Result<Arc<Report>, Box<Response>> {
    let none = || {
        let reason = "there is no report yet: ask again in a second";
        Box::new(problem(StatusCode::SERVICE_UNAVAILABLE, reason))
    };
    office.book.latest().ok_or_else(none)
}

/// Answers with what `read` makes of the latest report.
fn answer<T: serde::Serialize>(office: &Office, read: impl FnOnce(&Report) -> T) -> Response {
    match latest(office) {
        Ok(report) => Json(read(&report)).into_response(),
        Err(problem) => *problem,
    }
}

/// The four kinds of traffic
#[utoipa::path(get, path = "/api/v1/totals", responses((status = 200, body = Totals), (status = 503, body = Problem)))]
async fn totals(State(office): Desk) -> Response {
    answer(&office, Totals::of)
}

/// How the agent is
#[utoipa::path(get, path = "/api/v1/health", responses((status = 200, body = Health), (status = 503, body = Problem)))]
async fn health(State(office): Desk) -> Response {
    answer(&office, Health::of)
}

/// Networks that are guarded, in order
#[utoipa::path(get, path = "/api/v1/networks", params(PageQuery),
    responses((status = 200, body = Networks), (status = 400, body = Problem), (status = 503, body = Problem)))]
async fn networks(State(office): Desk, query: Asked) -> Response {
    let (query, within) = match page_of(query) {
        Ok(page) => page,
        Err(problem) => return *problem,
    };
    answer(&office, |report| {
        let by = (query.direction.direction(), query.sort);
        let found = ranks::networks(report, by, within, query.range());
        let shown = found.places.iter().filter_map(|&place| report.networks.get(place));
        Networks {
            matching: u64::try_from(found.matching).unwrap_or(u64::MAX),
            networks: shown.map(|load| Network::of(load, report.span)).collect(),
        }
    })
}

/// Hosts that moved in the last second, in order
#[utoipa::path(get, path = "/api/v1/hosts", params(PageQuery),
    responses((status = 200, body = Hosts), (status = 400, body = Problem), (status = 503, body = Problem)))]
async fn hosts(State(office): Desk, query: Asked) -> Response {
    let (query, within) = match page_of(query) {
        Ok(page) => page,
        Err(problem) => return *problem,
    };
    let (offset, limit) = query.range();
    let all_needed = within.is_some()
        || query.sort != Sort::Packets
        || query.direction.direction() == Direction::Outgoing
        || offset.saturating_add(limit) > MOST;
    let report = match detailed(&office, all_needed).await {
        Ok(report) => report,
        Err(problem) => return *problem,
    };
    Json(found(&office, &report, &query, within)).into_response()
}

/// What a query asks for, and within what.
fn page_of(query: Asked) -> Result<(PageQuery, Option<Prefix>), Box<Response>> {
    let refused = |reason| Box::new(problem(StatusCode::BAD_REQUEST, reason));
    let Query(query) = query.map_err(|error| refused(error.body_text()))?;
    let within = match query.within.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => match Prefix::parse_masked(text) {
            Ok((prefix, _masked)) => Some(prefix),
            Err(error) => return Err(refused(format!("`within`: {error}"))),
        },
    };
    Ok((query, within))
}

/// The hosts that a query is about.
fn found(office: &Office, report: &Report, query: &PageQuery, within: Option<Prefix>) -> Hosts {
    let by = (query.direction.direction(), query.sort);
    let found = office.ranks.find(report, by, within, query.range());
    let shown = found.places.iter().filter_map(|&place| report.hosts.get(place));
    Hosts {
        matching: u64::try_from(found.matching).unwrap_or(u64::MAX),
        hosts: shown.map(|host| Host::of(host, report)).collect(),
    }
}

/// A report that has all hosts in it, when that is needed: the next one, when the latest has not.
async fn detailed(office: &Office, all: bool) -> Result<Arc<Report>, Box<Response>> {
    let report = latest(office)?;
    if !all {
        return Ok(report);
    }
    // For a while after the last question, so that the next answer is there at once.
    let hold = office.told.wants.hold(Interest::AllHosts);
    drop(tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(15)).await;
        drop(hold);
    }));
    if report.hosts.len() >= report.moved {
        return Ok(report);
    }
    let mut reports = office.told.latest.clone();
    let full = reports.wait_for(|report| {
        report.as_ref().is_some_and(|report| report.hosts.len() >= report.moved)
    });
    match tokio::time::timeout(PATIENCE, full).await {
        Ok(Ok(report)) => Ok(report.as_ref().map_or_else(Default::default, Arc::clone)),
        // Better the loudest than nothing.
        _ => Ok(report),
    }
}

/// Everything about one host
#[utoipa::path(get, path = "/api/v1/hosts/{ip}", params(("ip" = String, Path)),
    responses((status = 200, body = HostDetail), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)))]
async fn host(State(office): Desk, Path(ip): Path<String>) -> Response {
    let address = match address(&ip) {
        Ok(address) => address,
        Err(problem) => return *problem,
    };
    let is_known = |report: &Report| report.hosts.iter().any(|host| host.address == address);
    let report = match latest(&office) {
        Ok(report) if is_known(&report) => report,
        Ok(_) => match detailed(&office, true).await {
            Ok(report) => report,
            Err(problem) => return *problem,
        },
        Err(problem) => return *problem,
    };
    if !report.networks.iter().any(|load| load.prefix.contains(address)) {
        return problem(StatusCode::NOT_FOUND, format!("`{ip}` is in none of our networks"));
    }
    let load = report.hosts.iter().find(|host| host.address == address);
    let silent = || Host {
        ip: address,
        incoming: Speed::default(),
        outgoing: Speed::default(),
        banned: is_banned(&report, address),
    };
    let classes = |direction| HostDetail::classes(load, direction, report.span);
    let ban = report.banned.iter().find(|ban| ban.address == address);
    let its = report.events.iter().filter(|event| event.is_of(address));
    Json(HostDetail {
        host: load.map_or_else(silent, |load| Host::of(load, &report)),
        incoming_classes: classes(Direction::Incoming),
        outgoing_classes: classes(Direction::Outgoing),
        history: office
            .book
            .history(|history| history.host(address).map(History::of))
            .unwrap_or_default(),
        ban: ban.map(|ban| Ban::of(ban, wall(&report), &office.origins)),
        remotes: last_dump(&report, address).and_then(|id| Remotes::of(&office.origins, id.0)),
        events: its.map(|event| Happening::of(event, Packets::Shown)).collect(),
    })
    .into_response()
}

/// The last ban of this host whose packets are among the events.
fn last_dump(report: &Report, address: IpAddr) -> Option<BanId> {
    report.events.iter().rev().find_map(|event| match &event.what {
        What::Verdict { verdict: Verdict::Details(ban, _), .. } if ban.address == address => {
            Some(ban.id)
        }
        _ => None,
    })
}

/// Whence packets come and where they go: the loudest systems and countries, by samples
#[utoipa::path(get, path = "/api/v1/origins", responses((status = 200, body = Origins)))]
async fn origins(State(office): Desk) -> Json<Origins> {
    Json(Origins::of(&office.origins))
}

/// How many bans.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct BansQuery {
    /// At most so many, those with the highest peaks; all when it is left out.
    limit: Option<usize>,
}

/// Bans that stand, by address
#[utoipa::path(get, path = "/api/v1/bans", params(BansQuery),
    responses((status = 200, body = Vec<Ban>), (status = 400, body = Problem), (status = 503, body = Problem)))]
async fn bans(State(office): Desk, query: Result<Query<BansQuery>, QueryRejection>) -> Response {
    let limit = match query {
        Ok(Query(query)) => query.limit.unwrap_or(usize::MAX),
        Err(error) => return problem(StatusCode::BAD_REQUEST, error.body_text()),
    };
    answer(&office, |report| {
        let wall = wall(report);
        let mut bans: Vec<_> = report.banned.iter().collect();
        if bans.len() > limit {
            let key = |ban: &&verdicts::Ban| (std::cmp::Reverse(ban.peak_pps), ban.address);
            bans.select_nth_unstable_by_key(limit, key);
            bans.truncate(limit);
            bans.sort_unstable_by_key(|ban| ban.address);
        }
        bans.into_iter().map(|ban| Ban::of(ban, wall, &office.origins)).collect::<Vec<_>>()
    })
}

/// Ban a host of ours; needs the token
#[utoipa::path(post, path = "/api/v1/bans", request_body = BanOrder,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 409, body = Problem)))]
async fn ban(
    State(office): Desk,
    order: Result<Json<BanOrder>, axum::extract::rejection::JsonRejection>,
) -> Response {
    match order {
        Ok(Json(BanOrder { ip, direction, reason, time_secs })) => {
            let time = time_secs.map(Duration::from_secs);
            let direction = direction.direction();
            obey(&office, Order::Ban { address: ip, direction, reason, time }).await
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, error.body_text()),
    }
}

/// Let a host go; needs the token
#[utoipa::path(delete, path = "/api/v1/bans/{ip}", params(("ip" = String, Path)),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 409, body = Problem)))]
async fn unban(State(office): Desk, Path(ip): Path<String>) -> Response {
    match address(&ip) {
        Ok(address) => obey(&office, Order::Unban { address }).await,
        Err(problem) => *problem,
    }
}

/// Packets of a ban's attack as pcapng, as long as its file is kept; `id` as in a ban or an event;
/// needs the token
#[utoipa::path(get, path = "/api/v1/bans/{id}/packets", params(("id" = String, Path)),
    responses((status = 200, content_type = "application/x-pcapng", body = Vec<u8>), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 500, body = Problem)))]
async fn packets(State(office): Desk, Path(id): Path<String>) -> Response {
    let Ok(ban) = id.parse().map(BanId) else {
        let reason = format!("`{id}` is no number of a ban: it is `id` in /api/v1/bans");
        return problem(StatusCode::BAD_REQUEST, reason);
    };
    let shelf = office.packets.clone();
    match tokio::task::spawn_blocking(move || shelf.read(ban)).await {
        Ok(Ok(Some((name, bytes)))) => {
            let headers = [
                (header::CONTENT_TYPE, "application/x-pcapng".to_owned()),
                (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ];
            (headers, bytes).into_response()
        }
        Ok(Ok(None)) => {
            let reason = format!(
                "there are no packets of ban {id}: not yet, not any more, its `actions` are without \
                 \"log_file\", or `enabled` in `[packets]` is false"
            );
            problem(StatusCode::NOT_FOUND, reason)
        }
        Ok(Err(error)) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the packets of ban {id} cannot be read: {error}"),
        ),
        Err(_ended) => problem(StatusCode::SERVICE_UNAVAILABLE, "the agent ends"),
    }
}

async fn obey(office: &Office, order: Order) -> Response {
    let busy = || problem(StatusCode::SERVICE_UNAVAILABLE, "the agent is busy: try again");
    let (answer, answered) = oneshot::channel();
    if office.asks.try_send(Ask { order, answer }).is_err() {
        return busy();
    }
    match answered.await {
        Ok(Ok(done)) => Json(Done { done }).into_response(),
        Ok(Err(reason)) => problem(StatusCode::CONFLICT, reason),
        Err(_gone) => busy(),
    }
}

fn address(text: &str) -> Result<IpAddr, Box<Response>> {
    text.parse().map_err(|_neither| {
        let reason = format!("`{text}` is no address: write it as `192.0.2.7` or `2001:db8::7`");
        Box::new(problem(StatusCode::BAD_REQUEST, reason))
    })
}

/// After which event.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// The number of the last one that is known.
    after: u64,
}

/// What happened, oldest first: the last thousand events
#[utoipa::path(get, path = "/api/v1/events", params(EventsQuery),
    responses((status = 200, body = Vec<Happening>), (status = 400, body = Problem), (status = 503, body = Problem)))]
async fn events(
    State(office): Desk,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(EventsQuery { after })) => answer(&office, |report| {
            let events = report.events_after(after);
            events.map(|event| Happening::of(event, Packets::Hidden)).collect::<Vec<_>>()
        }),
        Err(error) => problem(StatusCode::BAD_REQUEST, error.body_text()),
    }
}

/// The whole, for the last hour
#[utoipa::path(get, path = "/api/v1/history", responses((status = 200, body = History)))]
async fn totals_history(State(office): Desk) -> Json<History> {
    Json(office.book.history(|history| History::of(history.totals())))
}

/// Which network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkQuery {
    /// As `/api/v1/networks` has it.
    prefix: Prefix,
}

/// A network, for the last hour
#[utoipa::path(get, path = "/api/v1/history/network", params(("prefix" = String, Query)),
    responses((status = 200, body = History), (status = 400, body = Problem), (status = 404, body = Problem)))]
async fn network_history(
    State(office): Desk,
    query: Result<Query<NetworkQuery>, QueryRejection>,
) -> Response {
    let prefix = match query {
        Ok(Query(NetworkQuery { prefix })) => prefix,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error.body_text()),
    };
    match office.book.history(|history| history.network(prefix).map(History::of)) {
        Some(history) => Json(history).into_response(),
        None => problem(StatusCode::NOT_FOUND, format!("`{prefix}` did not move in the last hour")),
    }
}

/// The configuration in force; secrets are in files of their own and not shown
#[utoipa::path(get, path = "/api/v1/configuration", responses((status = 200, body = serde_json::Value)))]
async fn configuration(State(office): Desk) -> Json<serde_json::Value> {
    Json(office.configuration.clone())
}

/// Which agent this is
#[derive(serde::Serialize, utoipa::ToSchema)]
struct Version {
    /// Version of the agent.
    fastnetmon: &'static str,
    /// Version of this API.
    api: u32,
}

/// Which agent this is
#[utoipa::path(get, path = "/api/v1/version", responses((status = 200, body = Version)))]
async fn version() -> Json<Version> {
    Json(Version { fastnetmon: env!("CARGO_PKG_VERSION"), api: 1 })
}

/// Is the server there?
#[utoipa::path(get, path = "/healthz", responses((status = 200)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Are packets counted right now?
#[utoipa::path(get, path = "/readyz", responses((status = 200), (status = 503)))]
async fn readyz(State(office): Desk) -> (StatusCode, &'static str) {
    let Some(report) = office.book.latest() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no report yet\n");
    };
    if (office.now)().since(report.at) > FRESH {
        return (StatusCode::SERVICE_UNAVAILABLE, "the last report is old\n");
    }
    (StatusCode::OK, "ready\n")
}
