//! The commands of `projection` that start, activate, and delete builds.

use std::pin::pin;
use std::time::Duration;

use clap::Subcommand;
use es_core::projection::{ProjectorError, Registration};
use serde_json::json;

use super::report;
use crate::application::SWITCH;
use crate::consumers::{Kind, find, projection_with};
use crate::failure::Result;
use crate::output::on_interrupt;
use crate::session::Session;
use crate::store::StoredModel;

/// How often the number of deleted rows is shown.
const REDRAW: Duration = Duration::from_millis(200);

/// The commands that change which builds of a projection there are.
#[derive(Debug, Subcommand)]
pub(in crate::commands) enum BuildCommand {
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

impl BuildCommand {
    fn name(&self) -> &str {
        match self {
            Self::Reset { name }
            | Self::Rebuild { name }
            | Self::Switch { name, .. }
            | Self::CancelRebuild { name }
            | Self::DeleteReplaced { name }
            | Self::Remove { name } => name,
        }
    }

    /// Asks for permission, makes the change, and prints the result.
    pub(super) async fn run(self, session: &Session) -> Result {
        let found = find(&session.store, self.name(), Kind::Projection).await?;
        let models = session.store.stored_models(&found);
        let projector = projection_with(&session.store, &found, models.clone());
        let replaced = projector.replaced_builds().await?;
        if matches!(self, Self::DeleteReplaced { .. }) && replaced.is_empty() {
            let value = json!({ "name": found.name, "replaced_builds": replaced });
            return session.output.value(&value, || format!("`{}` has no replaced builds", found.name));
        }
        let change = self.change(&found, &replaced);
        let is_allowed = match self {
            Self::Reset { .. } | Self::DeleteReplaced { .. } | Self::Remove { .. } => {
                session.may_irrevocably(&change)?
            }
            Self::Rebuild { .. } | Self::Switch { .. } | Self::CancelRebuild { .. } => {
                session.may(&change)?
            }
        };
        if !is_allowed {
            return Ok(());
        }
        match self {
            Self::Reset { .. } => projector.reset().await?,
            Self::Rebuild { .. } => projector.rebuild().await?,
            Self::Switch { anyway: true, .. } => projector.switch_anyway().await?,
            Self::Switch { .. } => projector.switch().await?,
            Self::CancelRebuild { .. } => projector.cancel_rebuild().await?,
            Self::DeleteReplaced { .. } => {
                // The switch may have been a moment ago.
                tokio::time::sleep(SWITCH).await;
                deleting(session, &models, projector.delete_replaced()).await?;
            }
            Self::Remove { .. } => deleting(session, &models, projector.remove()).await?,
        }
        let rows = match self {
            Self::DeleteReplaced { .. } | Self::Remove { .. } => Some(deleted(&models)),
            _ => None,
        };
        report::done(session.output, &found.name, &change, &projector.replaced_builds().await?, rows)
    }

    /// Describes the change of a projection with these replaced builds.
    fn change(&self, Registration { name, read_models, .. }: &Registration, replaced: &[u32]) -> String {
        match self {
            Self::Reset { .. } => format!("empty the read models of `{name}`, and start it again"),
            Self::Rebuild { .. } => format!("start a new build of `{name}`"),
            Self::Switch { .. } => format!("activate the new build of `{name}`"),
            Self::CancelRebuild { .. } => format!("cancel the new build of `{name}`"),
            Self::DeleteReplaced { .. } => {
                format!("delete the data of the replaced {} of `{name}`", report::builds(replaced))
            }
            Self::Remove { .. } => {
                let rows = read_models.iter().map(|model| format!(", its rows in `{model}`"));
                let rows = rows.collect::<String>();
                format!("remove `{name}`: its checkpoints{rows}, and its parked events, of all builds")
            }
        }
    }
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
