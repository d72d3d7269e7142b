//! `schema`: printing, migrating, and verifying the schema of a store or a keyring on PostgreSQL.

use clap::{Args, Subcommand};
use es_core::StoreError;
use es_postgres::PostgresStore;
use es_postgres::keyring::PostgresKeyring;
use serde_json::json;

use crate::arguments::{Mode, Place};
use crate::failure::{Failure, Result, in_commands, is_finding};
use crate::output::Output;
use crate::postgres::Database;
use crate::session::Consent;

/// The options of `schema`.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
    /// The schema of a keyring, by default `es_keys`, instead of that of the events
    #[arg(long, global = true)]
    keyring: bool,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Print the SQL statements that create the schema, for a user that may create tables; needs no database
    Print,
    /// Create the schema and its tables, or migrate them to the format of this version
    Migrate,
    /// Check that the schema has the format of this version
    Verify,
}

pub(super) async fn run(options: Options, place: &Place, mode: Mode) -> Result {
    let (output, postgres) = (Output::new(mode.json), &place.postgres);
    match options.command {
        Command::Print => {
            let ddl = Schema::unconnected(postgres, options.keyring)?.ddl();
            output.value(&json!({ "sql": ddl }), || ddl.clone())
        }
        Command::Migrate => {
            let schema = Schema::open(postgres, options.keyring, "schema migrate").await?;
            let name = schema.name();
            let change = format!("create the schema `{name}`, or migrate it to the format of this version");
            if Consent::new(mode).to(&change)? {
                schema.migrate().await?;
                output.value(&json!({ "schema": name }), || format!("the schema `{name}` is ready"))?;
            }
            Ok(())
        }
        Command::Verify => {
            let schema = Schema::open(postgres, options.keyring, "schema verify").await?;
            let name = schema.name();
            match schema.verify().await {
                Ok(()) => output.value(&json!({ "schema": name }), || {
                    format!("the schema `{name}` has the format of this version")
                }),
                Err(error) if is_finding(&error) => {
                    let error = in_commands(es_core::error_text(&error));
                    output.value(&json!({ "schema": name, "error": error }), || error.clone())?;
                    Err(Failure::Found)
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// The schema of a store or a keyring.
enum Schema {
    Store(PostgresStore),
    Keyring(PostgresKeyring),
}

impl Schema {
    async fn open(postgres: &Database, is_keyring: bool, command: &str) -> Result<Self> {
        Ok(match is_keyring {
            true => Self::Keyring(postgres.need_keyring(command).await?),
            false => Self::Store(postgres.need(command).await?),
        })
    }

    /// Returns one that never connects.
    fn unconnected(postgres: &Database, is_keyring: bool) -> Result<Self> {
        Ok(match is_keyring {
            true => Self::Keyring(postgres.unconnected_keyring()?),
            false => Self::Store(postgres.unconnected()?),
        })
    }

    fn name(&self) -> &str {
        match self {
            Self::Store(store) => store.schema(),
            Self::Keyring(keyring) => keyring.schema(),
        }
    }

    fn ddl(&self) -> String {
        match self {
            Self::Store(store) => store.ddl(),
            Self::Keyring(keyring) => keyring.ddl(),
        }
    }

    async fn migrate(&self) -> std::result::Result<(), StoreError> {
        match self {
            Self::Store(store) => store.migrate().await,
            Self::Keyring(keyring) => keyring.migrate().await,
        }
    }

    async fn verify(&self) -> std::result::Result<(), StoreError> {
        match self {
            Self::Store(store) => store.verify().await,
            Self::Keyring(keyring) => keyring.verify().await,
        }
    }
}
