//! `fastnetmon export`: what databases need before they can be told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::commands::{Failure, say};
use crate::daemon::Settings;
use crate::reports::clickhouse::{Inserter, Spread, has_ttl, statements};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make what an export needs in its database; doing it twice does no harm
    Init(Init),
}

#[derive(Args, Debug)]
struct Init {
    #[command(subcommand)]
    sink: Sink,
}

#[derive(Debug, Subcommand)]
enum Sink {
    /// The database and its tables
    Clickhouse(ClickHouse),
}

#[derive(Args, Debug)]
struct ClickHouse {
    /// Configuration file: where ClickHouse is, and how long rows are kept
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the statements instead
    #[arg(long)]
    print: bool,
    /// Tables with copies on other servers (`ReplicatedMergeTree`)
    #[arg(long)]
    replicated: bool,
    /// A table on each server of this cluster, and one over all (`Distributed`)
    #[arg(long, value_name = "NAME", value_parser = cluster)]
    cluster: Option<String>,
}

pub(super) fn export(arguments: &Arguments) -> Result<(), Failure> {
    let What::Init(Init { sink: Sink::Clickhouse(wanted) }) = &arguments.what;
    let input = |error: &dyn std::fmt::Display| Failure::Input(error.to_string());
    let settings = Settings::read(&wanted.config).map_err(|error| input(&error))?.clickhouse;
    let spread = Spread { replicated: wanted.replicated, cluster: wanted.cluster.clone() };
    if wanted.print {
        return say(&(statements(&settings, &spread, true).join(";\n\n") + ";"));
    }
    let inserter = Inserter::new(&settings).map_err(|error| input(&error))?;
    let version = inserter.init(&settings, &spread).map_err(Failure::Refused)?;
    let (url, database) = (settings.url.as_str(), settings.database.as_str());
    let mut told = format!("ClickHouse {version} at {url} has the tables of `{database}`.");
    if !has_ttl(&version) {
        told.push_str(
            "\nIt is older than 19.6 and forgets nothing by itself: drop old partitions by hand.",
        );
    }
    say(&told)
}

/// A name that needs no quotes.
fn cluster(name: &str) -> Result<String, String> {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(name.to_owned());
    }
    Err("letters, digits and `_` make the name of a cluster".to_owned())
}
