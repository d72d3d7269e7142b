//! `schema`: printing, migrating, and verifying the schema of a store on PostgreSQL.

use clap::Subcommand;
use serde_json::json;

use crate::arguments::{Mode, Place};
use crate::failure::{Failure, Result, in_commands, is_schema_finding};
use crate::output::Output;
use crate::session::Consent;

/// The commands of `schema`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Command {
    /// Print the SQL statements that create the schema, for a user that may create tables; needs no database
    Print,
    /// Create the schema and its tables, or migrate them to the format of this version
    Migrate,
    /// Check that the schema has the format of this version
    Verify,
}

pub(super) async fn run(command: Command, place: &Place, mode: Mode) -> Result {
    let (output, postgres) = (Output::new(mode.json), &place.postgres);
    match command {
        Command::Print => {
            let ddl = postgres.unconnected()?.ddl();
            output.value(&json!({ "sql": ddl }), || ddl.clone())
        }
        Command::Migrate => {
            let store = postgres.need("schema migrate").await?;
            let name = store.schema();
            let change = format!("create the schema `{name}`, or migrate it to the format of this version");
            if Consent::new(mode).to(&change)? {
                store.migrate().await?;
                output.value(&json!({ "schema": name }), || format!("the schema `{name}` is ready"))?;
            }
            Ok(())
        }
        Command::Verify => {
            let store = postgres.need("schema verify").await?;
            let name = store.schema();
            match store.verify().await {
                Ok(()) => output.value(&json!({ "schema": name }), || {
                    format!("the schema `{name}` has the format of this version")
                }),
                Err(error) if is_schema_finding(&error) => {
                    let error = in_commands(es_core::error_text(&error));
                    output.value(&json!({ "schema": name, "error": error }), || error.clone())?;
                    Err(Failure::Found)
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}
