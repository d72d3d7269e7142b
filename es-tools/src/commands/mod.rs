//! The commands, one module per group.

mod claim;
mod copy;
#[cfg(feature = "explorer")]
mod explore;
mod export;
pub(crate) mod feed;
mod import;
mod lines;
mod payload;
mod projection;
mod reference;
#[cfg(feature = "postgres")]
mod schema;
mod stream;
mod table;
mod template;
mod typed;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Subcommand};
use serde_json::json;

use crate::application::Application;
use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::output::printable;
use crate::session::Session;

/// Operates an event store on Amazon DynamoDB, in an embedded file, or on PostgreSQL.
///
/// The credentials, the region, and other settings of DynamoDB are those of the AWS CLI.
#[derive(Debug, Subcommand)]
enum Command {
    /// Create, verify, describe as code, or reset the table on DynamoDB or in a file
    #[command(subcommand)]
    Table(table::Command),
    /// Print, migrate, or verify the schema of the events or of a keyring on PostgreSQL
    #[cfg(feature = "postgres")]
    Schema(schema::Options),
    /// Show, follow, export, close, or delete streams
    #[command(subcommand)]
    Stream(stream::Command),
    /// Inspect, audit, or reconcile the feed of all events
    #[command(subcommand)]
    Feed(feed::Command),
    /// Operate projections and publishers
    #[command(subcommand)]
    Projection(projection::Command),
    /// Operate processes
    #[command(subcommand)]
    Process(projection::ProcessCommand),
    /// Sweep the payload store of events and snapshots that do not fit into an item
    #[command(subcommand)]
    Payload(payload::Command),
    /// Show which stream holds a claim
    Claim(claim::ClaimOptions),
    /// Show the record of an idempotency key
    Key(claim::KeyOptions),
    /// Import events that `stream export` has written
    Import(import::Options),
    /// Copy a store to another one, and verify the copy
    Copy(copy::Options),
    /// Serve pages that show streams, traces, the feed, and projections
    #[cfg(feature = "explorer")]
    Explore(explore::Options),
    /// Print the completions of a shell
    Completions(reference::Completions),
    /// Print the manual page, or write the pages of all commands to a directory
    Man(reference::Man),
}

/// Parses the arguments, and runs the command.
pub(crate) async fn run(application: Application, arguments: Vec<OsString>) -> ExitCode {
    let mut parser = parser(&application);
    let matches = parser.clone().get_matches_from(arguments);
    let arguments = Arguments::from_arg_matches(&matches).and_then(|mut arguments| {
        let completed = arguments.place.complete(&matches);
        completed.map_err(|text| parser.error(ErrorKind::ValueValidation, text))?;
        Ok(arguments)
    });
    let arguments = arguments.unwrap_or_else(|error| error.exit());
    #[cfg(feature = "postgres")]
    let is_postgres = arguments.place.postgres.is_selected();
    #[cfg(not(feature = "postgres"))]
    let is_postgres = false;
    let is_json = arguments.mode.json;
    match dispatch(application, parser, arguments, &matches).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_output() => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, failure.help(is_postgres), is_json);
            failure.exit_code()
        }
    }
}

/// Prints on standard error why a command has not succeeded, as text or as a line of JSON.
fn report(failure: &Failure, help: Option<&str>, is_json: bool) {
    let error = failure.to_string();
    if is_json {
        return eprintln!("{}", json!({ "error": error, "help": help }));
    }
    eprintln!("error: {}", printable(&error));
    if let Some(help) = help {
        eprintln!("help: {help}");
    }
}

/// Returns the command line, with the typed commands if the application has types.
fn parser(application: &Application) -> clap::Command {
    let arguments = Arguments::command().name(application.name());
    let about = arguments.get_about().cloned().unwrap_or_default();
    let long_about = arguments.get_long_about().cloned().unwrap_or_default();
    let parser = Command::augment_subcommands(arguments);
    let parser = match application.has_types() {
        true => typed::Command::augment_subcommands(parser),
        false => parser,
    };
    // Both groups of commands have replaced the description by their own.
    parser.about(about).long_about(long_about)
}

async fn dispatch(
    application: Application,
    parser: clap::Command,
    arguments: Arguments,
    matches: &clap::ArgMatches,
) -> Result {
    let invalid = |error: clap::Error| Failure::Error(error.into());
    let Arguments { place, mode } = arguments;
    if let Some((name, _)) = matches.subcommand()
        && typed::Command::has_subcommand(name)
    {
        let command = typed::Command::from_arg_matches(matches).map_err(invalid)?;
        return typed::run(&application, command, &Session::open(&place, mode).await?).await;
    }
    let open = || Session::open(&place, mode);
    match Command::from_arg_matches(matches).map_err(invalid)? {
        Command::Table(command) => table::run(command, &place, mode).await,
        #[cfg(feature = "postgres")]
        Command::Schema(options) => schema::run(options, &place, mode).await,
        Command::Stream(command) => stream::run(command, &open().await?).await,
        Command::Feed(command) => feed::run(command, &open().await?).await,
        Command::Projection(command) => projection::run(command, &open().await?).await,
        Command::Process(command) => projection::run_process(command, &open().await?).await,
        Command::Payload(command) => payload::run(command, &place, mode).await,
        Command::Claim(options) => claim::holder(&options, &application, &open().await?).await,
        Command::Key(options) => claim::record(&options, &open().await?).await,
        Command::Copy(options) => copy::run(&options, &place, mode).await,
        Command::Import(options) => import::run(&options, &open().await?).await,
        #[cfg(feature = "explorer")]
        Command::Explore(options) => explore::run(options, application, &open().await?).await,
        Command::Completions(options) => options.print(parser),
        Command::Man(options) => options.print(parser),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        let parser = parser(&Application::new("es"));
        parser.clone().debug_assert();
        typed::Command::augment_subcommands(parser).debug_assert();
    }

    #[test]
    fn the_help_describes_the_tool() {
        let mut parser = parser(&Application::new("es"));
        let help = parser.render_help().to_string();
        assert!(help.starts_with("Operates an event store"), "{help}");
        assert!(parser.render_long_help().to_string().contains("The credentials, the region"));
    }
}
