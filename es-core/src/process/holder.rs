//! The reaction that holds the turn of an instance, and giving it up.

use std::sync::Arc;

use super::reactor::failed;
use super::turn::{Turn, turn_key};
use crate::documents::Documents;
use crate::feed::Feed;
use crate::ids::IdSource;
use crate::projection::{BoxError, Fate, ProjectError, ProjectorError, fate};
use crate::store::{IdempotencyKey, StoreError};
use crate::stream_id::StreamId;

/// The state of the reaction that holds the turn.
pub(super) enum Holder {
    /// It has finished.
    Finished,
    /// It will finish.
    Pending,
    /// Its event or timeout is parked.
    Parked,
    /// Its event or timeout was skipped.
    Skipped,
    /// Its event is no longer in the feed.
    Gone,
}

/// Returns the state of the reaction that holds the turn of the instance with the stream `instance`.
pub(super) async fn holder(
    store: &dyn Feed,
    process: &str,
    instance: &StreamId,
    turn: &Turn,
) -> Result<Holder, ProjectError> {
    let fate = fate(store, process, turn.origin()).await.map_err(|error| match error {
        ProjectorError::Store(error) => failed(error),
        error => ProjectError::Handler(error.into()),
    })?;
    if fate == Fate::Pending {
        return Ok(Holder::Pending);
    }
    // Read after the checkpoint: once the record is stored, the reaction is no longer pending.
    let once = IdempotencyKey::new(Some(instance.clone()), turn.reaction()).map_err(failed)?;
    let is_finished = store.idempotency_record(&once).await.map_err(failed)?.record.is_some();
    Ok(match fate {
        _ if is_finished => Holder::Finished,
        Fate::Parked => Holder::Parked,
        Fate::Gone => Holder::Gone,
        _ => Holder::Skipped,
    })
}

/// Ends the turn of a reaction that will never be finished. Returns whether there was one.
pub(crate) async fn abandon(
    store: &Arc<dyn Feed>,
    ids: &Arc<dyn IdSource>,
    process: &str,
    instance: &StreamId,
) -> Result<bool, ProjectorError> {
    let documents = Arc::clone(store) as Arc<dyn Documents>;
    let mut is_abandoned = false;
    loop {
        let turn = Turn::held(Arc::clone(&documents), Arc::clone(ids), turn_key(process, instance)).await;
        let Some(turn) = turn.map_err(as_projector_error)? else { return Ok(is_abandoned) };
        let holder = holder(&**store, process, instance, &turn).await;
        if let Holder::Pending = holder.map_err(|error| as_projector_error(error.into()))? {
            return Err(ProjectorError::invalid(format!(
                "the reaction `{}` of the instance `{instance}` has not finished: `park` or `skip` it first, once its \
                 slice has stopped there",
                turn.reaction()
            )));
        }
        turn.end().await.map_err(as_projector_error)?;
        is_abandoned = true;
    }
}

fn as_projector_error(error: BoxError) -> ProjectorError {
    match error.downcast::<StoreError>() {
        Ok(error) => ProjectorError::Store(*error),
        Err(error) => ProjectorError::invalid(error.to_string()),
    }
}
