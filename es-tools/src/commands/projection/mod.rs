//! `projection` and `process`: the operations that need no types.

mod operations;
mod report;

use clap::Subcommand;

pub(super) use self::operations::Operation;
use crate::consumers::{Overview, find, overview, projector};
use crate::failure::Result;
use crate::output::{Grid, count};
use crate::session::Session;

/// The commands of `projection`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the projections and publishers that have run on the store
    List,
    #[command(flatten)]
    Operation(Operation),
    /// Start again at the first event with empty read models, which readers use immediately
    Reset {
        /// The projection
        name: String,
    },
    /// Start a new build beside the active one, which the application's workers process
    Rebuild {
        /// The projection
        name: String,
    },
    /// Activate the new build
    Switch {
        /// The projection
        name: String,
        /// Even if the new build has stopped slices or parked events, whose effects are then missing
        #[arg(long)]
        anyway: bool,
    },
    /// Cancel the new build
    CancelRebuild {
        /// The projection
        name: String,
    },
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
    #[command(flatten)]
    Operation(Operation),
}

pub(super) async fn run(command: Command, session: &Session) -> Result {
    let (name, change): (_, fn(&str) -> String) = match &command {
        Command::List => return list(session, false).await,
        Command::Operation(operation) => {
            let found = find(&session.store, operation.name(), false).await?;
            return operation
                .run(session, &projector::<false>(&session.store, operation.name()), &found)
                .await;
        }
        Command::Reset { name } => {
            (name, |name| format!("empty the read models of `{name}`, and start it again"))
        }
        Command::Rebuild { name } => (name, |name| format!("start a new build of `{name}`")),
        Command::Switch { name, .. } => (name, |name| format!("activate the new build of `{name}`")),
        Command::CancelRebuild { name } => (name, |name| format!("cancel the new build of `{name}`")),
    };
    find(&session.store, name, false).await?;
    let projector = projector::<false>(&session.store, name);
    let change = change(name);
    let may = match command {
        Command::Reset { .. } => session.may_irrevocably(&change)?,
        _ => session.may(&change)?,
    };
    if !may {
        return Ok(());
    }
    match command {
        Command::Reset { .. } => projector.reset().await?,
        Command::Rebuild { .. } => projector.rebuild().await?,
        Command::Switch { anyway: true, .. } => projector.switch_anyway().await?,
        Command::Switch { .. } => projector.switch().await?,
        Command::CancelRebuild { .. } => projector.cancel_rebuild().await?,
        Command::List | Command::Operation(_) => {}
    }
    let replaced = session.store.replaced_tables(&projector, name).await?;
    report::done(session.output, name, &change, &replaced)
}

pub(super) async fn run_process(command: ProcessCommand, session: &Session) -> Result {
    match command {
        ProcessCommand::List => list(session, true).await,
        ProcessCommand::Timeouts { name, limit } => {
            find(&session.store, &name, true).await?;
            let timeouts = projector::<true>(&session.store, &name).pending_timeouts(limit).await?;
            report::timeouts(session.output, &timeouts)
        }
        ProcessCommand::Operation(operation) => {
            let found = find(&session.store, operation.name(), true).await?;
            operation.run(session, &projector::<true>(&session.store, operation.name()), &found).await
        }
    }
}

async fn list(session: &Session, processes: bool) -> Result {
    let mut all = overview(&session.store).await?;
    all.retain(|one| one.registration.is_process == processes);
    let values: Vec<_> = all.iter().map(Overview::value).collect();
    session.output.value(&values, || {
        let mut grid = Grid::new(["name", ">build", ">lag", ">parked", ">stopped", "state"]);
        for one in &all {
            let (lag, parked) = (count(one.progress.lag()), count(one.parked()));
            let stopped = one.progress.stopped().count().to_string();
            let build = one.progress.build.to_string();
            grid.row([one.registration.name.clone(), build, lag, parked, stopped, one.state().to_owned()]);
        }
        match grid.is_empty() {
            true if processes => "no process has run on this store".to_owned(),
            true => "no projection has run on this store".to_owned(),
            false => grid.to_string(),
        }
    })
}
