//! Questions and orders to the agent: `top`, `status`, `bans`, `ban`, `unban`, `resume`, `reload`.

use std::env;
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::path::Path;

use clap::{Args, ValueEnum};

use crate::client::{self, ClientError, Connection, ConsoleError, Screen, Theme};
use crate::commands::{Failure, Order, Where, say};
use crate::control::{self, Request};

#[derive(Args, Debug)]
pub(super) struct Top {
    #[command(flatten)]
    at: Where,
    /// Print the screen once and leave
    #[arg(long)]
    once: bool,
    /// The same as JSON, once
    #[arg(long)]
    json: bool,
    /// Print the screen each second, without keys to go anywhere: for pipes and simple terminals
    #[arg(long)]
    plain: bool,
    /// By what hosts are ordered
    #[arg(long, value_enum, default_value = "packets")]
    order: Order,
    /// Hosts in each table of what is printed, at most
    #[arg(long, default_value_t = 7)]
    rows: usize,
}

#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    at: Where,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Bans {
    #[command(flatten)]
    at: Where,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A direction on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    Incoming,
    Outgoing,
}

#[derive(Args, Debug)]
pub(super) struct Ban {
    /// Address of the host
    ip: IpAddr,
    /// Which way the attack goes
    #[arg(long, value_enum, default_value = "incoming")]
    direction: Direction,
    /// Why, for logs and reports
    #[arg(long)]
    reason: Option<String>,
    /// For how many seconds at least, instead of what the configuration says; 0: until unbanned
    #[arg(long)]
    time_secs: Option<u64>,
    #[command(flatten)]
    at: Where,
}

#[derive(Args, Debug)]
pub(super) struct Unban {
    /// Address of the host
    ip: IpAddr,
    /// Why, for logs and reports
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    at: Where,
}

#[derive(Args, Debug)]
pub(super) struct Resume {
    #[command(flatten)]
    at: Where,
}

#[derive(Args, Debug)]
pub(super) struct Reload {
    #[command(flatten)]
    at: Where,
}

pub(super) fn top(arguments: &Top) -> Result<(), Failure> {
    let Top { at, once, json, plain, order, rows } = arguments;
    let order = match order {
        Order::Packets => client::Order::Packets,
        Order::Bytes => client::Order::Bytes,
    };
    if *json {
        say(&as_json(&fetch(&at.socket, *rows)?))?;
    } else if *once {
        let status = fetch(&at.socket, *rows)?;
        say(&Screen { status: &status, order, rows: *rows }.to_string())?;
    } else if *plain || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        client::watch(&at.socket, order, *rows)
            .map_err(|error| Failure::Refused(error.to_string()))?;
    } else {
        client::console(&at.socket, order, Theme::new(has_colours())).map_err(
            |error| match error {
                ConsoleError::Client(error) => failure(error),
                other => Failure::Refused(other.to_string()),
            },
        )?;
    }
    Ok(())
}

/// Does the terminal want colours? <https://no-color.org>: not with a word in `NO_COLOR`.
pub(super) fn has_colours() -> bool {
    let said = |name| env::var_os(name).filter(|value| !value.is_empty());
    let is_plain = said("TERM").is_some_and(|term| term == "dumb" || term == "vt100");
    said("NO_COLOR").is_none() && !is_plain
}

pub(super) fn status(arguments: &Status) -> Result<(), Failure> {
    let status = fetch(&arguments.at.socket, 7)?;
    say(&if arguments.json { as_json(&status) } else { sentences(&status) })?;
    Ok(())
}

pub(super) fn bans(arguments: &Bans) -> Result<(), Failure> {
    let status = fetch(&arguments.at.socket, 0)?;
    say(&if arguments.json { as_json(&status.bans) } else { client::bans(&status.bans) })?;
    Ok(())
}

pub(super) fn ban(arguments: &Ban) -> Result<(), Failure> {
    let direction = match arguments.direction {
        Direction::Incoming => control::Way::Incoming,
        Direction::Outgoing => control::Way::Outgoing,
    };
    let Ban { ip, ref reason, time_secs, ref at, .. } = *arguments;
    order(&at.socket, &Request::Ban { ip, direction, reason: reason.clone(), time_secs })
}

pub(super) fn unban(arguments: &Unban) -> Result<(), Failure> {
    let Unban { ip, reason, at } = arguments;
    order(&at.socket, &Request::Unban { ip: *ip, reason: reason.clone() })
}

pub(super) fn resume(arguments: &Resume) -> Result<(), Failure> {
    order(&arguments.at.socket, &Request::Resume)
}

pub(super) fn reload(arguments: &Reload) -> Result<(), Failure> {
    order(&arguments.at.socket, &Request::Reload)
}

fn order(socket: &Path, request: &Request) -> Result<(), Failure> {
    let done = Connection::open(socket).and_then(|mut open| open.order(request));
    say(&done.map_err(failure)?)?;
    Ok(())
}

fn fetch(socket: &Path, hosts: usize) -> Result<control::Status, Failure> {
    Connection::open(socket).and_then(|mut open| open.status(hosts)).map_err(failure)
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Refused(_) | ClientError::Lost(_) | ClientError::Unexpected => {
            Failure::Refused(error.to_string())
        }
        ClientError::Nobody { .. }
        | ClientError::Forbidden { .. }
        | ClientError::Version { .. } => Failure::Input(error.to_string()),
    }
}

fn as_json(what: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(what).unwrap_or_default()
}

fn sentences(status: &control::Status) -> String {
    let control::Status {
        version,
        engine,
        engine_reason,
        role,
        interfaces,
        uptime_secs,
        totals,
        packets,
        evidence,
        ..
    } = status;
    let mut lines = vec![
        format!(
            "fastnetmon {version}, engine {engine}, {role} {}, up {uptime_secs} s",
            interfaces.join(",")
        ),
        format!("engine    {engine}: {engine_reason}"),
        format!(
            "networks {}, IPv6 hosts {} of {}",
            status.networks, status.ipv6.hosts, status.ipv6.room
        ),
    ];
    for (name, traffic) in [
        ("incoming", totals.incoming),
        ("outgoing", totals.outgoing),
        ("internal", totals.internal),
        ("other", totals.other),
    ] {
        let control::Traffic { packets, bytes, pps, bps } = traffic;
        lines.push(format!("{name:9} {packets} packets, {bytes} bytes, {pps} pps, {bps} bps"));
    }
    let control::Packets { received, dropped, unparsed, ignored_packets, ignored_bytes, .. } =
        packets;
    if *ignored_packets > 0 {
        lines.push(format!("ignored   {ignored_packets} packets, {ignored_bytes} bytes"));
    }
    lines.push(format!(
        "packets   {received} received, {dropped} dropped, {} unparsed (short {}, not_ip {}, \
         version {}, nested {}, arp {})",
        unparsed.total(),
        unparsed.short,
        unparsed.not_ip,
        unparsed.version,
        unparsed.nested,
        unparsed.arp
    ));
    let control::Packets { redirected, samples_lost, .. } = packets;
    lines.push(format!("evidence  by {evidence}, {redirected} redirected, {samples_lost} lost"));
    lines.push(format!("bans      {}", status.bans.len()));
    for export in &status.exports {
        let control::Export { name, to, up, sent, lost, uncertain, waiting, .. } = export;
        let how = if *up { "works" } else { "does not work" };
        lines.push(format!(
            "export    {name} {to} {how}, {sent} sent, {lost} lost, {uncertain} uncertain, {waiting} waiting"
        ));
    }
    if let Some(found) = &status.self_check {
        let control::SelfCheck { failures, warnings, findings, .. } = found;
        lines.push(format!("doctor    {failures} failures, {warnings} warnings at the start"));
        lines.extend(findings.iter().map(|finding| {
            let control::Finding { id, severity, about, seen, .. } = finding;
            let about = about.as_ref().map(|about| format!(" {about}")).unwrap_or_default();
            format!("          {} {id}{about}: {seen}", severity.name())
        }));
    }
    lines.extend(status.alarms.iter().map(|alarm| format!("alarm     {alarm}")));
    lines.join("\n")
}
