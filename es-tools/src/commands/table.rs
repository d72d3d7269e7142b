//! `table`: creating, verifying, and resetting the table.

use clap::{Args, Subcommand};
use es_core::feed::{Feed, Slices};
use es_dynamo::{DynamoStore, TableOptions};
use serde_json::json;

use super::template;
use crate::arguments::{Mode, Place};
use crate::failure::{Failure, Result, in_commands, is_finding};
use crate::output::{Output, counted};
use crate::session::Consent;

/// The commands of `table`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create the table, and wait until it is active; verify it if it exists
    Create(Settings),
    /// Verify the shape of the table and the settings of its feed
    Verify,
    /// Print the table and a policy with least privilege as a CloudFormation template or a Terraform module
    Template(template::Options),
    /// Delete the table with all its events, and create it again
    ///
    /// Refuses a table that has deletion protection, or that is not an event store.
    Reset(Settings),
}

/// The settings of a new table.
#[derive(Args, Debug)]
pub(super) struct Settings {
    /// Use provisioned capacity, in units per second, instead of on-demand capacity
    #[arg(long, num_args = 2, value_names = ["READ", "WRITE"], value_parser = clap::value_parser!(u32).range(1..))]
    provisioned: Option<Vec<u32>>,
    /// Do not turn on deletion protection
    #[arg(long)]
    no_deletion_protection: bool,
    /// Do not turn on point-in-time recovery
    #[arg(long)]
    no_point_in_time_recovery: bool,
    /// The number of slices with which the feed begins; `feed split` adds more [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = slices)]
    slices: Option<Slices>,
}

fn slices(text: &str) -> std::result::Result<Slices, String> {
    let count = text.parse().ok().and_then(Slices::new);
    count.ok_or_else(|| format!("expected a number from 1 to {}", Slices::MAX))
}

impl Settings {
    fn options(&self, place: &Place) -> TableOptions {
        let options = match self.provisioned.as_deref() {
            Some(&[read, write]) => TableOptions::provisioned(read, write),
            _ => TableOptions::on_demand(),
        };
        // The embedded engine has no backups, and a file can be deleted in any case.
        let is_file = place.file.is_some();
        options
            .deletion_protection(!self.no_deletion_protection && !is_file)
            .point_in_time_recovery(!self.no_point_in_time_recovery && !is_file)
    }

    async fn create(&self, place: &Place) -> Result<DynamoStore> {
        let mut builder = place.builder().await?;
        if let Some(slices) = self.slices {
            builder = builder.slices(slices);
        }
        let store = builder.build()?;
        store.create_table_with(self.options(place)).await?;
        Ok(store)
    }
}

pub(super) async fn run(command: Command, place: &Place, mode: Mode) -> Result {
    let (output, consent, name) = (Output::new(mode.json), Consent::new(mode), &place.table);
    if !matches!(command, Command::Template(_)) {
        place.check_dynamo("table", "`schema` creates and verifies the tables on PostgreSQL")?;
    }
    match command {
        Command::Create(settings) => {
            if consent.to(&format!("create the table `{name}`, or verify it if it exists"))? {
                report(output, &settings.create(place).await?, "is ready").await?;
            }
            Ok(())
        }
        Command::Verify => {
            let store = place.open_dynamo().await?;
            match store.verify_table().await {
                Ok(()) => report(output, &store, "is as it should be").await,
                Err(error) if is_finding(&error) => {
                    let error = in_commands(es_core::error_text(&error));
                    output.value(&json!({ "table": name, "error": error }), || error.clone())?;
                    Err(Failure::Found)
                }
                Err(error) => Err(error.into()),
            }
        }
        Command::Template(options) => {
            // The template contains the name as it is.
            if !is_table_name(name) {
                return Err(Failure::of(format!(
                    "`{name}` is not a valid name of a table: use 3 to 255 letters, digits, `_`, `.`, or `-`"
                )));
            }
            template::print(&options, name, output)
        }
        Command::Reset(settings) => {
            if consent.to_lose(&format!("delete the table `{name}` with all its events"))? {
                place.open_dynamo().await?.delete_table().await?;
                report(output, &settings.create(place).await?, "is empty").await?;
            }
            Ok(())
        }
    }
}

fn is_table_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (3..=255).contains(&name.len()) && name.bytes().all(is_allowed)
}

async fn report(output: Output, store: &DynamoStore, state: &str) -> Result {
    let (name, slices) = (store.table_name(), store.slice_tree().await?.open().count());
    output.value(&json!({ "table": name, "slices": slices }), || {
        format!("the table `{name}` {state}; its feed has {}", counted(slices as u64, "slice"))
    })
}
