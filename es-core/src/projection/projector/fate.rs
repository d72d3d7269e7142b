//! What has become of an event or a timeout, for a process that waits for the reaction to it.

use serde::{Deserialize, Serialize};

use super::state::{Names, SliceState, Slot, read};
use crate::documents::DocumentKey;
use crate::feed::{Feed, FeedAnchor, Position, Slice, mismatch};
use crate::projection::{EventContext, ProjectorError, timeout};

/// What a reaction is to: an event of the feed, or a timeout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde", rename_all = "snake_case")]
pub(crate) enum Origin {
    Event {
        slice: Slice,
        position: Position,
        /// The part of the feed that holds the position.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anchor: Option<FeedAnchor>,
    },
    /// With the name of its document.
    Timeout { slice: Slice, name: String },
}

impl Origin {
    pub(crate) fn of(ctx: &EventContext) -> Self {
        let slice = ctx.slice();
        match ctx.timeout_key() {
            Some(key) => Self::Timeout { slice, name: timeout::document(ctx.time(), key) },
            None => Self::Event { slice, position: ctx.position(), anchor: ctx.anchor() },
        }
    }
}

/// What has become of an event or a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is still to be handled, or being handled.
    Pending,
    /// It is set aside.
    Parked,
    /// It was handled or skipped.
    Passed,
    /// It is not in the feed any more: the feed was restored to an earlier state.
    Gone,
}

/// What has become of an event or a timeout of the process `process`.
pub(crate) async fn fate(
    store: &(impl Feed + ?Sized),
    process: &str,
    origin: &Origin,
) -> Result<Fate, ProjectorError> {
    let names = Names::new(process)?;
    let slice = match origin {
        Origin::Event { slice, .. } | Origin::Timeout { slice, .. } => *slice,
    };
    // A process has one build only.
    let slot = Slot { build: 1, slice };
    let state = read::<SliceState>(store, &names.slice(slot)).await?.value;
    let is_skipped = state.exception.is_some_and(|exception| !exception.park && exception.is_of(origin));
    if is_skipped {
        return Ok(Fate::Passed);
    }
    let (is_pending, parked) = match origin {
        Origin::Event { position, anchor, .. } => {
            let is_pending = state.position < *position;
            if is_pending && mismatch(store, slice, *position, *anchor).await?.is_some() {
                return Ok(Fate::Gone);
            }
            (is_pending, names.parked_event(slot, *position))
        }
        Origin::Timeout { name, .. } => {
            let key = DocumentKey::new(timeout::collection(process, slice), name);
            (store.document(&key).await?.is_some(), names.parked_timeout(slot, name))
        }
    };
    if is_pending {
        return Ok(Fate::Pending);
    }
    let is_parked = store.document(&parked).await?.is_some();
    Ok(if is_parked { Fate::Parked } else { Fate::Passed })
}
