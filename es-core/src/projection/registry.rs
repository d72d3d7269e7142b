//! The registry: which projections, processes, and publishers have run on a store.

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::guard::caught;
use super::{Projection, ProjectorError, Stage};
use crate::documents::{
    ChangeError, ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument, pages,
};
use crate::event::without_values;

/// The collection of the registered projections.
const COLLECTION: &str = "projections";

/// A projection, process, or publisher that has run on a store.
///
/// A worker registers its projection when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The name.
    pub name: String,
    /// Whether it is a process, which cannot be replayed from the first event.
    pub is_process: bool,
    /// The names of its read models, which have to be rebuilt to continue at another position.
    pub read_models: Vec<String>,
}

/// The stored form of a [`Registration`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct Entry {
    process: bool,
    read_models: Vec<String>,
}

impl Entry {
    fn of<P: Projection>(projection: &P) -> Self {
        let mut projection = projection.clone();
        let stages = projection.stages();
        let read_models = stages.iter().map(|stage: &&mut dyn Stage| stage.name().to_owned()).collect();
        Self { process: !P::IS_REPLAYABLE, read_models }
    }
}

/// Returns the projections, processes, and publishers that have run on a store, ordered by name.
///
/// ```
/// # async fn example(store: es_core::MemoryStore) -> Result<(), es_core::projection::ProjectorError> {
/// for projection in es_core::projection::registered(&store).await? {
///     println!("{} ({})", projection.name, if projection.is_process { "process" } else { "projection" });
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ProjectorError`] if a registration cannot be read or decoded.
pub async fn registered(store: &(impl Documents + ?Sized)) -> Result<Vec<Registration>, ProjectorError> {
    let mut all = Vec::new();
    let mut pages = pages(store, DocumentQuery::new(COLLECTION));
    while let Some(page) = pages.try_next().await? {
        for (name, document) in page.documents {
            let Entry { process: is_process, read_models } = decode(&name, &document.body)?;
            all.push(Registration { name, is_process, read_models });
        }
    }
    Ok(all)
}

/// Returns the key of a registration.
pub(super) fn key(name: &str) -> DocumentKey {
    DocumentKey::new(COLLECTION, name)
}

/// Registers a projection, unless it is registered already.
pub(super) async fn register<P: Projection>(
    store: &(impl Documents + ?Sized),
    name: &str,
    projection: &P,
    id: Uuid,
) -> Result<(), ProjectorError> {
    // A projection whose clones panic cannot run; its slices say so.
    let Ok(entry) = caught(|| Entry::of(projection)) else { return Ok(()) };
    let key = key(name);
    if let Some(document) = store.document(&key).await?
        && decode(name, &document.body).is_ok_and(|known| known == entry)
    {
        return Ok(());
    }
    let body =
        serde_json::to_string(&entry).map_err(|error| ProjectorError::invalid(without_values(&error)))?;
    // Workers of one release write the same content, so that the last write wins.
    let set = ChangeSet::new(id).put(key, ExpectedDocument::Any, body);
    Ok(store.change(&set).await.map_err(ChangeError::into_store_error)?)
}

fn decode(name: &str, body: &str) -> Result<Entry, ProjectorError> {
    serde_json::from_str(body).map_err(|error| ProjectorError::Unreadable {
        key: key(name).to_string(),
        reason: without_values(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use crate::event::EventData;
    use crate::feed::EventFilter;
    use crate::ids::{IdSource, RandomIds};
    use crate::projection::{EventContext, ProjectError};

    #[derive(Clone)]
    struct Empty<const IS_REPLAYABLE: bool>;

    impl<const IS_REPLAYABLE: bool> Projection for Empty<IS_REPLAYABLE> {
        const NAME: &'static str = "empty";
        const IS_REPLAYABLE: bool = IS_REPLAYABLE;

        fn filter(&self) -> EventFilter {
            EventFilter::none()
        }

        async fn handle(&mut self, _: &EventData, _: &EventContext) -> Result<(), ProjectError> {
            Ok(())
        }
    }

    #[test]
    fn a_projection_is_registered_once_and_again_when_it_changes() {
        futures_executor::block_on(async {
            let store = MemoryStore::new();
            assert_eq!(registered(&store).await.expect("reads"), []);
            let key = DocumentKey::new(COLLECTION, "b");
            let mut revisions = Vec::new();
            for _ in 0..2 {
                register(&store, "b", &Empty::<true>, RandomIds.new_id()).await.expect("registers");
                revisions.push(store.document(&key).await.expect("reads").expect("is there").revision);
            }
            assert_eq!(revisions[0], revisions[1]);
            register(&store, "a", &Empty::<false>, RandomIds.new_id()).await.expect("registers");
            let all = registered(&store).await.expect("reads");
            let found: Vec<_> = all.iter().map(|one| (&*one.name, one.is_process)).collect();
            assert_eq!(found, [("a", true), ("b", false)]);

            register(&store, "b", &Empty::<false>, RandomIds.new_id()).await.expect("registers");
            assert!(registered(&store).await.expect("reads")[1].is_process);
        });
    }
}
