//! `projection` and `process`: the operations that need no types.

mod operations;
mod report;

use std::pin::pin;
use std::time::Duration;

use clap::Subcommand;
use es_core::StreamId;
use es_core::projection::{ProjectionStatus, ProjectorError};
use serde_json::json;

pub(super) use self::operations::Operation;
use crate::application::SWITCH;
use crate::consumers::{Kind, find, overview, process, projection, projection_with, state};
use crate::failure::{Failure, Result};
use crate::output::{Grid, count, on_interrupt};
use crate::session::Session;
use crate::store::StoredModel;

/// How often the number of deleted rows is shown.
const REDRAW: Duration = Duration::from_millis(200);

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
    /// Delete the rows, checkpoints, and parked events of builds that a rebuild or a reset has replaced
    DeleteReplaced {
        /// The projection
        name: String,
    },
    /// Delete all that a retired projection has stored: rows, checkpoints, and parked events
    ///
    /// Stop its workers first. If some have crashed and not been replaced, this command waits 30 seconds to see whether
    /// they are alive. The projection is paused until it is removed; repeat the command if it was interrupted. If the
    /// application runs the projection again, it starts at the first event.
    Remove {
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
    let name = match &command {
        Command::List => return list(session, Kind::Projection).await,
        Command::Operation(operation) => {
            let found = find(&session.store, operation.name(), Kind::Projection).await?;
            let projector = projection(&session.store, &found);
            return operation.run(session, &projector, &found).await;
        }
        Command::Reset { name }
        | Command::Rebuild { name }
        | Command::Switch { name, .. }
        | Command::CancelRebuild { name }
        | Command::DeleteReplaced { name }
        | Command::Remove { name } => name,
    };
    let found = find(&session.store, name, Kind::Projection).await?;
    let models = session.store.stored_models(&found);
    let projector = projection_with(&session.store, &found, models.clone());
    let replaced = projector.replaced_builds().await?;
    let (change, is_irrevocable) = match &command {
        Command::List | Command::Operation(_) => return Ok(()),
        Command::Reset { .. } => (format!("empty the read models of `{name}`, and start it again"), true),
        Command::Rebuild { .. } => (format!("start a new build of `{name}`"), false),
        Command::Switch { .. } => (format!("activate the new build of `{name}`"), false),
        Command::CancelRebuild { .. } => (format!("cancel the new build of `{name}`"), false),
        Command::DeleteReplaced { .. } if replaced.is_empty() => {
            let value = json!({ "name": name, "replaced_builds": replaced });
            return session.output.value(&value, || format!("`{name}` has no replaced builds"));
        }
        Command::DeleteReplaced { .. } => {
            (format!("delete the data of the replaced {} of `{name}`", report::builds(&replaced)), true)
        }
        Command::Remove { .. } => {
            let models = found.read_models.iter().map(|model| format!(", its rows in `{model}`"));
            let all = models.collect::<String>();
            (format!("remove `{name}`: its checkpoints{all}, and its parked events, of all builds"), true)
        }
    };
    let may = match is_irrevocable {
        true => session.may_irrevocably(&change)?,
        false => session.may(&change)?,
    };
    if !may {
        return Ok(());
    }
    match &command {
        Command::Reset { .. } => projector.reset().await?,
        Command::Rebuild { .. } => projector.rebuild().await?,
        Command::Switch { anyway: true, .. } => projector.switch_anyway().await?,
        Command::Switch { .. } => projector.switch().await?,
        Command::CancelRebuild { .. } => projector.cancel_rebuild().await?,
        Command::DeleteReplaced { .. } => {
            // The switch may have been a moment ago.
            tokio::time::sleep(SWITCH).await;
            deleting(session, &models, projector.delete_replaced()).await?;
        }
        Command::Remove { .. } => deleting(session, &models, projector.remove()).await?,
        Command::List | Command::Operation(_) => {}
    }
    let rows = match command {
        Command::DeleteReplaced { .. } | Command::Remove { .. } => Some(deleted(&models)),
        _ => None,
    };
    report::done(session.output, &found.name, &change, &projector.replaced_builds().await?, rows)
}

/// Shows the number of deleted rows until the deletion has ended.
async fn deleting(
    session: &Session,
    models: &[StoredModel],
    deletion: impl Future<Output = std::result::Result<(), ProjectorError>>,
) -> Result {
    on_interrupt("run the same command to delete the rest")?;
    let bar = session.output.progress(0, "rows");
    let mut deletion = pin!(deletion);
    loop {
        tokio::select! {
            done = &mut deletion => return Ok(done?),
            () = tokio::time::sleep(REDRAW) => bar.set(deleted(models)),
        }
    }
}

/// Returns the number of rows that were deleted.
fn deleted(models: &[StoredModel]) -> u64 {
    models.iter().map(StoredModel::deleted).sum()
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
            let ProjectionStatus { build, parked, stopped, .. } = &one.status;
            let (lag, parked) = (count(one.status.lag(&ends)), count(*parked));
            let (name, stopped) = (one.registration.name.clone(), stopped.len().to_string());
            grid.row([name, build.to_string(), lag, parked, stopped, state(&one.status).to_owned()]);
        }
        match grid.is_empty() {
            true => format!("no {} has run on this store", kind.name()),
            false => grid.to_string(),
        }
    })
}
