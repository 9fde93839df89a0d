//! The page, the API and the metrics, of an agent that counts real packets.

use std::net::SocketAddr;
use std::process::Child;

use fastnetmon_user::client::Connection;
use fastnetmon_user::control::Status;
use serde_json::{Value, json};
use xtask::lab::{GUARDED, Lab, Signal};
use xtask::traffic::{Frame, Pace, Pool};

use crate::agent::{Folder, Setup, command, configure, wait};
use crate::http::Client;

const TOKEN: &str = "0123456789abcdef0123";
const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9209);

/// An agent with its web server, in a lab.
pub(crate) struct House {
    agent: Child,
    pub(crate) lab: Lab,
    folder: Folder,
}

impl House {
    pub(crate) fn new(label: &str, rest: &str) -> Self {
        Self::new_with(label, "", rest)
    }

    /// With these lines in `[capture]`.
    pub(crate) fn new_with(label: &str, capture: &str, rest: &str) -> Self {
        let lab = Lab::new(label).unwrap();
        let up = lab.command_inside("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let folder = Folder::new();
        let token = folder.write("token", &format!("{TOKEN}\n"));
        let rest = format!(
            "[web]\nlisten = \"{SERVER}\"\ntoken_file = \"{}\"\n{rest}\n[thresholds]\npps = 30000\n",
            token.display()
        );
        let config = configure(&folder, &Setup { rest: &rest, capture, ..Setup::default() });
        let agent = command(&lab, &config, "in0").spawn().unwrap();
        let house = Self { agent, lab, folder };
        let client = house.client();
        wait("the first report", || {
            client.try_get("/readyz").filter(|answer| answer.status == 200)
        });
        house
    }

    pub(crate) fn client(&self) -> Client<'_> {
        Client { lab: &self.lab, server: SERVER, token: None }
    }

    pub(crate) fn status(&self) -> Status {
        let mut connection = Connection::open(&self.folder.path("control.sock")).unwrap();
        connection.status(7).unwrap()
    }

    pub(crate) fn known(&self) -> Client<'_> {
        Client { token: Some(TOKEN), ..self.client() }
    }

    pub(crate) fn flood(&self) {
        let flood = Pool::new([Frame::udp([203, 0, 113, 99], GUARDED, 40_000, 4444).payload(18)]);
        self.lab.sender_outside().unwrap().send(&flood, 100_000, Pace::Pps(60_000)).unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // One that is gone already is what the test is about, or has failed.
        let _gone = xtask::lab::signal(self.agent.id(), Signal::Terminate);
        let _status = self.agent.wait();
    }
}

/// Does a value have the shape that the document states?
#[track_caller]
fn check_shape(place: &str, value: &Value, schema: &Value, document: &Value) {
    if let Some(name) = schema["$ref"].as_str() {
        let path = name.trim_start_matches('#');
        let schema = document.pointer(path).unwrap_or_else(|| panic!("{place}: no {name}"));
        return check_shape(place, value, schema, document);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check_shape(place, value, part, document);
    }
    if let Some(kinds) = schema["oneOf"].as_array() {
        if value.is_null() {
            return;
        }
        let kind = kinds.iter().find(|kind| kind["type"] != "null").expect(place);
        return check_shape(place, value, kind, document);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let fits = types.iter().any(|name| match *name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    });
    assert!(fits, "{place} is {value}, which is none of {types:?}");
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(value.get(name).is_some(), "{place} lacks `{name}`: {value}");
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        for (name, part) in object {
            if let Some(schema) = properties.get(name) {
                check_shape(&format!("{place}.{name}"), part, schema, document);
            }
        }
    }
    for part in value.as_array().into_iter().flatten().take(5) {
        check_shape(&format!("{place}[]"), part, &schema["items"], document);
    }
}

/// Demands that whatever is called by its name is in the document. How many there are.
fn names_are_known(part: &Value, document: &Value) -> usize {
    let named = part.get("$ref").and_then(Value::as_str).map_or(0, |name| {
        let at = name.strip_prefix('#').unwrap();
        assert!(document.pointer(at).is_some(), "{name}");
        1
    });
    let parts = part.as_object().into_iter().flat_map(|object| object.values());
    let parts = parts.chain(part.as_array().into_iter().flatten());
    named + parts.map(|part| names_are_known(part, document)).sum::<usize>()
}

#[test]
fn every_path_of_the_document_answers_in_the_shape_it_states() {
    let house = House::new("webdoc", "");
    house.flood();
    let client = house.client();
    let attacked = format!("/api/v1/hosts/{GUARDED}");
    wait("the ban in a report", || {
        Some(client.get("/api/v1/bans").json()).filter(|bans| bans[0]["ip"] == GUARDED.to_string())
    });
    let document = client.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 15, "{paths:?}");
    assert!(names_are_known(&document, &document) >= 20);
    let orders = &document["components"]["schemas"]["Sort"]["enum"];
    assert_eq!(orders, &json!(["packets", "bytes", "address"]));
    for (path, methods) in paths {
        let Some(stated) = methods.get("get") else { continue };
        let asked = match path.as_str() {
            "/api/v1/hosts/{ip}" => attacked.clone(),
            "/api/v1/history/network" => format!("{path}?prefix=192.0.2.0%2F24"),
            "/api/v1/stream" | "/api/v1/bans/{id}/packets" => continue,
            plain => plain.to_owned(),
        };
        let answer = client.get(&asked);
        assert_eq!(answer.status, 200, "{asked}: {answer:?}");
        let schema = &stated["responses"]["200"]["content"]["application/json"]["schema"];
        if !schema.is_null() {
            check_shape(path, &answer.json(), schema, &document);
        }
    }
    let host = wait("the dump in a report, and two points of its history", || {
        let host = client.get(&attacked).json();
        let points = host["history"]["incoming_pps"].as_array().map_or(0, Vec::len);
        let dumped = host["events"].as_array().is_some_and(|events| events.len() >= 2);
        Some(host).filter(|_| points >= 2 && dumped)
    });
    assert_eq!(host["ban"]["attack"], "udp_flood", "{host}");
    let page = client.get("/api/v1/networks?within=192.0.2.0%2F24").json();
    assert_eq!(
        (&page["matching"], &page["networks"][0]["prefix"]),
        (&json!(1), &json!("192.0.2.0/24"))
    );
    let page = client.get("/api/v1/networks?limit=0").json();
    assert_eq!(page["networks"], json!([]), "{page}");
    let first = client.get("/api/v1/networks?sort=address&limit=1").json();
    assert_eq!(first["networks"].as_array().map(Vec::len), Some(1), "{first}");
    assert!(page["matching"].as_u64() > Some(0), "{page}");
    let metrics = client.get("/metrics");
    assert!(metrics.head.contains("application/openmetrics-text"), "{}", metrics.head);
    assert!(metrics.body.ends_with("# EOF\n"), "{}", metrics.body);
    assert!(metrics.body.contains("fastnetmon_bans_standing 1\n"), "{}", metrics.body);
}

#[test]
fn orders_need_the_token_and_events_tell_of_them() {
    let house = House::new("weborder", "");
    let (anybody, known) = (house.client(), house.known());
    let body = json!({ "ip": GUARDED, "reason": "a test" }).to_string();
    let refused = anybody.ask("POST", "/api/v1/bans", &body);
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.body.contains("send the token as"), "{refused:?}");
    let done = known.ask("POST", "/api/v1/bans", &body);
    assert_eq!(
        (done.status, done.json()["done"].clone()),
        (200, json!(format!("`{GUARDED}` is banned")))
    );
    let again = known.ask("POST", "/api/v1/bans", &body);
    assert_eq!(again.status, 409, "{again:?}");
    wait("the ban in a report", || {
        Some(anybody.get("/api/v1/bans").json()).filter(|bans| bans[0]["ip"] == GUARDED.to_string())
    });
    for (limit, number) in [(0, 0), (1, 1), (9, 1)] {
        let bans = anybody.get(&format!("/api/v1/bans?limit={limit}")).json();
        assert_eq!(bans.as_array().map(Vec::len), Some(number), "{bans}");
    }
    let gone = known.ask("DELETE", &format!("/api/v1/bans/{GUARDED}"), "");
    assert_eq!(gone.status, 200, "{gone:?}");
    let told = anybody.stream("/api/v1/stream", |text| text.contains("event: totals"));
    assert!(told.contains("text/event-stream"), "{told}");
    let events = wait("the events", || {
        let events = anybody.get("/api/v1/events?after=0").json();
        events.as_array().filter(|events| events.len() >= 3).cloned()
    });
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds, ["ban", "attack_details", "unban"]);
}

#[test]
fn bad_requests_are_refused_with_the_remedy() {
    let house = House::new("webbad", "");
    let (client, known) = (house.client(), house.known());
    for (path, status, expected) in [
        ("/api/v1/nothing", 404, "there is nothing here"),
        ("/api/v1/hosts/1.2.3", 400, "`1.2.3` is no address"),
        ("/api/v1/hosts/198.18.0.1", 404, "is in none of our networks"),
        ("/api/v1/hosts?within=1.2.3", 400, "`within`: `1.2.3` is not an address or a network"),
        ("/api/v1/networks?within=1.2.3", 400, "`within`: `1.2.3` is not an address or a network"),
        ("/api/v1/networks?order=up", 400, "unknown field `order`"),
        ("/api/v1/hosts?sort=name", 400, "unknown variant `name`"),
        ("/api/v1/hosts?order=up", 400, "unknown field `order`"),
        ("/api/v1/bans?limit=some", 400, "invalid digit found in string"),
        ("/api/v1/history/network?prefix=10.0.0.0/8", 404, "did not move in the last hour"),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.body.contains(expected), "{path}: {answer:?}");
    }
    for body in ["", "{", "{\"ip\":\"1.2.3\"}", "{\"ip\":\"192.0.2.7\",\"for\":1}"] {
        assert_eq!(known.ask("POST", "/api/v1/bans", body).status, 400, "{body}");
    }
    let long = "x".repeat(100_000);
    assert_eq!(known.ask("POST", "/api/v1/bans", &long).status, 400);
    let elsewhere = "GET /api/v1/bans HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(client.raw(elsewhere).status, 421);
    assert_eq!(client.raw("what is this\r\n\r\n").status, 400);
    assert_eq!(client.get("/").status, 200);
}
