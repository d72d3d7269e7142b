//! How far turns have begun in a slice of the feed.

use serde::{Deserialize, Serialize};

use crate::documents::DocumentKey;
use crate::event::without_values;
use crate::feed::{Feed, FeedAnchor, Position, Slice, mismatch};
use crate::projection::EventContext;
use crate::store::StoreError;

/// The last event of a slice for which a turn has begun. A slice is handled in order, so all events before it are
/// finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Reached {
    position: Position,
    /// The part of the feed that holds the position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<FeedAnchor>,
}

/// The document that says how far turns of the process have begun in a slice.
pub(crate) fn reached_key(process: &str, slice: Slice) -> DocumentKey {
    DocumentKey::new(format!("process#{process}#reached#{slice}"), "")
}

impl Reached {
    /// A turn for the event begins.
    pub(super) fn of(ctx: &EventContext) -> Self {
        Self { position: ctx.position(), anchor: ctx.anchor() }
    }

    /// Whether a turn has begun for an event of the slice after this one.
    pub(super) fn is_after(&self, ctx: &EventContext) -> bool {
        self.position > ctx.position()
    }

    /// Reads how far turns had begun when the work on the slice of the event began. The start of the slice, if the feed
    /// is not the one that the process has read: then its events may be others, and all of them are reacted to.
    pub(super) async fn read(
        store: &dyn Feed,
        process: &str,
        ctx: &EventContext,
    ) -> Result<Self, StoreError> {
        let (slice, key) = (ctx.slice(), reached_key(process, ctx.slice()));
        let Some(document) = store.document(&key).await? else { return Ok(Self::default()) };
        let reached: Self = serde_json::from_str(&document.body).map_err(|error| {
            StoreError::corrupt_item(format!("the document `{key}`"), without_values(&error))
        })?;
        // Usually the checkpoint is not behind it, and there is nothing to verify.
        if !reached.is_after(ctx) {
            return Ok(reached);
        }
        let Self { position, anchor } = reached;
        let Some(error) = mismatch(store, slice, position, anchor).await? else { return Ok(reached) };
        tracing::warn!(
            process,
            slice = slice.get(),
            position = position.get(),
            %error,
            "the feed is not the one that the process has read: events from the checkpoint on are reacted to"
        );
        Ok(Self::default())
    }
}
