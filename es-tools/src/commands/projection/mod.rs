//! `projection` and `process`: the operations that need no types.

mod builds;
mod operations;
mod report;

use clap::Subcommand;
use es_core::StreamId;
use es_core::projection::ProjectionStatus;

use self::builds::BuildCommand;
pub(super) use self::operations::Operation;
use crate::consumers::{Kind, find, overview, process, projection, state, stopped};
use crate::failure::{Failure, Result};
use crate::output::{Grid, count};
use crate::session::Session;

/// The commands of `projection`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the projections and publishers that have run on the store
    List,
    #[command(flatten)]
    Operation(Operation),
    #[command(flatten)]
    Builds(BuildCommand),
}

/// The commands of `process`.
#[derive(Debug, Subcommand)]
pub(super) enum ProcessCommand {
    /// List the processes that have run on the store
    List,
    /// Show the pending timeouts, ordered by due time
    Timeouts {
        /// The process
        name: String,
        /// The maximum number of timeouts
        #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Unblock an instance whose reaction has begun, and whose event was skipped, is lost, or will not be replayed
    ///
    /// The effects of the reaction are not undone. The error that blocks the instance names it.
    Abandon {
        /// The process
        name: String,
        /// The instance: the name of the process's state, `#`, and its id
        instance: StreamId,
    },
    #[command(flatten)]
    Operation(Operation),
}

pub(super) async fn run(command: Command, session: &Session) -> Result {
    match command {
        Command::List => list(session, Kind::Projection).await,
        Command::Operation(operation) => {
            let found = find(&session.store, operation.name(), Kind::Projection).await?;
            operation.run(session, &projection(&session.store, &found), &found).await
        }
        Command::Builds(command) => command.run(session).await,
    }
}

pub(super) async fn run_process(command: ProcessCommand, session: &Session) -> Result {
    match command {
        ProcessCommand::List => list(session, Kind::Process).await,
        ProcessCommand::Timeouts { name, limit } => {
            let found = find(&session.store, &name, Kind::Process).await?;
            let timeouts = process(&session.store, &found).pending_timeouts(limit).await?;
            report::timeouts(session.output, &timeouts)
        }
        ProcessCommand::Abandon { name, instance } => {
            let found = find(&session.store, &name, Kind::Process).await?;
            let change = format!("abandon the unfinished reaction of `{instance}`");
            if !session.may_irrevocably(&change)? {
                return Ok(());
            }
            if !process(&session.store, &found).abandon_instance(&instance).await? {
                return Err(Failure::of(format!(
                    "no reaction of `{name}` has begun and not finished for `{instance}`: check the instance"
                )));
            }
            report::done(session.output, &name, &change, &[], None)
        }
        ProcessCommand::Operation(operation) => {
            let found = find(&session.store, operation.name(), Kind::Process).await?;
            operation.run(session, &process(&session.store, &found), &found).await
        }
    }
}

async fn list(session: &Session, kind: Kind) -> Result {
    let mut all = overview(&session.store).await?;
    all.retain(|one| Kind::of(&one.registration) == kind);
    let ends = session.store.ends().await?;
    let values: Vec<_> = all.iter().map(|one| one.value(&ends)).collect();
    session.output.value(&values, || {
        let mut grid = Grid::new(["name", ">build", ">lag", ">parked", ">stopped", "state"]);
        for one in &all {
            let ProjectionStatus { build, parked, .. } = &one.status;
            let (lag, parked) = (count(one.status.lag(&ends)), count(*parked));
            let stopped = stopped(&one.status, &ends).len().to_string();
            let (name, state) = (one.registration.name.clone(), state(&one.status, &ends));
            grid.row([name, build.to_string(), lag, parked, stopped, state.to_owned()]);
        }
        match grid.is_empty() {
            true => format!("no {} has run on this store", kind.name()),
            false => grid.to_string(),
        }
    })
}
