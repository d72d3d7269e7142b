//! The options of all commands.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser};
use es_core::payloads::Payloads;
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, DynamoStoreBuilder};

use crate::failure::{Failure, Result};
use crate::payloads;
#[cfg(feature = "postgres")]
use crate::postgres;
use crate::store::Store;

/// Operates an event store on Amazon DynamoDB, in an embedded file, or on PostgreSQL.
///
/// The credentials, the region, and other settings of DynamoDB are those of the AWS CLI.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 invalid arguments, 3 a check found a problem, 4 not confirmed"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) mode: Mode,
}

/// Where the store is.
#[derive(Args, Debug)]
#[command(next_help_heading = "Store")]
pub(crate) struct Place {
    /// The name of the table
    #[arg(long, global = true, value_name = "NAME", env = "ES_DYNAMO_TABLE", default_value = "events")]
    pub(crate) table: String,

    /// Use a DynamoDB-compatible server without credentials, such as `http://localhost:8000`
    #[arg(long, global = true, value_name = "URL", conflicts_with = "file", value_parser = endpoint)]
    pub(crate) endpoint: Option<String>,

    /// Use the embedded engine on this file
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,

    /// The place of the table's large events and snapshots: a directory, or `s3://BUCKET/PREFIX`
    #[arg(long, global = true, value_name = "PLACE", env = "ES_PAYLOAD_STORE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) payload_store: Option<String>,

    #[cfg(feature = "postgres")]
    #[command(flatten)]
    pub(crate) postgres: postgres::Database,
}

/// Checks the address of a server, because the SDK reports an invalid one with each request.
fn endpoint(text: &str) -> std::result::Result<String, &'static str> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with(['/', ':']) => Ok(text.to_owned()),
        _ => Err("use an address such as http://localhost:8000"),
    }
}

/// How a command prints, and whether it asks.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Output and safety")]
pub(crate) struct Mode {
    /// Print JSON instead of text, also for an error, which is on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print what the command would change, and change nothing
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,

    /// Do not ask for confirmation
    #[arg(long, global = true)]
    pub(crate) yes: bool,
}

impl Place {
    /// Returns the place of a table on Amazon DynamoDB.
    pub(crate) fn dynamo(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            endpoint: None,
            file: None,
            payload_store: None,
            #[cfg(feature = "postgres")]
            postgres: postgres::Database::default(),
        }
    }

    /// Checks the options, and takes the address of a database from the environment if no option selects a store.
    ///
    /// Returns a text that says what is wrong with the options.
    pub(crate) fn complete(&mut self, matches: &ArgMatches) -> std::result::Result<(), String> {
        let is_given = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let selects_dynamo = ["table", "endpoint", "file"].into_iter().any(is_given);
        #[cfg(feature = "postgres")]
        self.postgres.complete(selects_dynamo)?;
        let _ = selects_dynamo;
        Ok(())
    }

    /// Opens the store. A file must exist.
    pub(crate) async fn open(&self) -> Result<Store> {
        #[cfg(feature = "postgres")]
        if let Some(store) = self.postgres.open().await? {
            return Ok(store.into());
        }
        Ok(self.open_dynamo().await?.into())
    }

    /// Fails if the store is on PostgreSQL, for a `command` without a counterpart there.
    pub(crate) fn check_dynamo(&self, command: &str, reason: &str) -> Result {
        #[cfg(feature = "postgres")]
        if self.postgres.is_selected() {
            return Err(Failure::of(format!("`{command}` is for DynamoDB: {reason}")));
        }
        let _ = (command, reason);
        Ok(())
    }

    /// Opens the store on DynamoDB or in a file, which must exist.
    pub(crate) async fn open_dynamo(&self) -> Result<DynamoStore> {
        if let Some(path) = &self.file
            && !path.exists()
        {
            let path = path.display();
            return Err(Failure::of(format!(
                "the file {path} does not exist: create it with `table create`"
            )));
        }
        Ok(self.builder().await?.build()?)
    }

    /// Returns a builder for the store. A file is created if it does not exist.
    pub(crate) async fn builder(&self) -> Result<DynamoStoreBuilder> {
        let mut builder = DynamoStore::builder().table(&self.table);
        if let Some(place) = &self.payload_store {
            // Another store, or the application, has accepted the events that `import` and `copy` write.
            builder = builder.payloads(Payloads::new(payloads::open(place).await?).with_max_bytes(u64::MAX));
        }
        Ok(match (&self.file, &self.endpoint) {
            (Some(path), _) => {
                let path = path.clone();
                // Opening may block on a lock of another program.
                let engine = tokio::task::spawn_blocking(|| Engine::in_file(path)).await??;
                builder.engine(&engine)
            }
            (None, Some(url)) => builder.endpoint(url),
            (None, None) => builder.from_env().await,
        })
    }
}
