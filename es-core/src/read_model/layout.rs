//! The stored form of rows, and the documents that hold them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::key::SEPARATOR;
use super::{IndexPlace, ReadModelError, Row};
use crate::documents::{DocumentChange, DocumentKey, Documents, ExpectedDocument};
use crate::event::without_values;
use crate::personal::encoding;
use crate::projection::active_build;

/// The number of collections over which rows are spread, to distribute writes.
pub(super) const BUCKETS: u32 = 16;

/// The documents of one build of a read model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    prefix: String,
}

impl Layout {
    pub(super) fn new(projection: &str, build: u32, model: &str) -> Self {
        Self { prefix: format!("read#{projection}#{build}#{model}") }
    }

    /// Returns the collection of rows with the index `bucket`.
    pub(super) fn bucket(&self, bucket: u32) -> String {
        format!("{}#r#{bucket}", self.prefix)
    }

    /// Returns the key of a row's document.
    pub(super) fn row(&self, key: &str) -> DocumentKey {
        DocumentKey::new(self.bucket(crc32fast::hash(key.as_bytes()) % BUCKETS), key)
    }

    /// Returns the collection of a group of an index.
    pub(super) fn group(&self, index: &str, group: &str) -> String {
        format!("{}#i#{index}#{group}", self.prefix)
    }

    /// Returns the changes that replace a row. `before` is the stored body, and `expected` its required revision.
    pub(super) fn changes<T: Row>(
        &self,
        key: &str,
        expected: ExpectedDocument,
        before: Option<&str>,
        after: Option<&T>,
    ) -> Result<Vec<DocumentChange>, ReadModelError> {
        let old = before.map(places::<T>).transpose()?.unwrap_or_default();
        let new = match after {
            Some(row) => places_of(row)?,
            None => Vec::new(),
        };
        let gone = old.iter().filter(|place| !new.contains(place));
        let mut changes: Vec<_> = gone.map(|place| DocumentChange::delete(self.place(place, key))).collect();
        let Some(row) = after else {
            changes.push(DocumentChange { expected, ..DocumentChange::delete(self.row(key)) });
            return Ok(changes);
        };
        if !new.is_empty() {
            let body = encode(&Stored { row, places: Vec::new() })?;
            changes.extend(new.iter().map(|place| DocumentChange::put(self.place(place, key), body.clone())));
        }
        let body = encode(&Stored { row, places: new })?;
        changes.push(DocumentChange { expected, ..DocumentChange::put(self.row(key), body) });
        Ok(changes)
    }

    /// Returns the changes that delete a row of any type. `body` is its stored body.
    pub(super) fn deletion(&self, key: &str, body: &str) -> Result<Vec<DocumentChange>, serde_json::Error> {
        let Stored::<IgnoredAny> { places, .. } = serde_json::from_str(body)?;
        let places = places.iter().map(|place| self.place(place, key));
        Ok(places.chain([self.row(key)]).map(DocumentChange::delete).collect())
    }

    /// Returns the key of a row's document in an index.
    fn place(&self, place: &Place, key: &str) -> DocumentKey {
        let name = format!("{}{SEPARATOR}{key}", place.order);
        DocumentKey::new(self.group(&place.index, &place.group), name)
    }
}

/// The stored form of a row.
#[derive(Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct Stored<T> {
    row: T,
    /// The row's places in indexes, from which it is deleted when it changes.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    places: Vec<Place>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct Place {
    index: String,
    group: String,
    order: String,
}

fn places_of<T: Row>(row: &T) -> Result<Vec<Place>, ReadModelError> {
    let place = |(index, place): (&&str, IndexPlace)| Place {
        index: (*index).to_owned(),
        group: place.group,
        order: place.order,
    };
    Ok(T::INDEXES.iter().zip(row.places()?).map(place).collect())
}

fn encode<T: Row>(stored: &Stored<&T>) -> Result<String, ReadModelError> {
    stored.row.bind_personal()?;
    encoding(|| serde_json::to_string(stored))
        .map_err(|error| ReadModelError::Encode { model: T::NAME, reason: without_values(&error) })
}

/// Returns the row as readers will decode it.
pub(super) fn read_back<T: Row>(key: &str, row: &T) -> Result<T, ReadModelError> {
    let body = encode(&Stored { row, places: Vec::new() })?;
    let rejected = |reason| ReadModelError::Encode { model: T::NAME, reason };
    let row: T = match decode(&body) {
        Err(ReadModelError::Decode { reason, .. }) => {
            return Err(rejected(format!("it cannot be decoded again: {reason}")));
        }
        row => row?,
    };
    match row.key()? == key {
        true => Ok(row),
        false => Err(rejected("its key changes when it is decoded: serialize the key's field".to_owned())),
    }
}

/// Returns the index places of a stored row, even if its type has changed.
fn places<T: Row>(body: &str) -> Result<Vec<Place>, ReadModelError> {
    Ok(parse::<T, IgnoredAny>(body)?.places)
}

/// Decodes a stored row.
pub(super) fn decode<T: Row>(body: &str) -> Result<T, ReadModelError> {
    Ok(parse::<T, T>(body)?.row)
}

fn parse<T: Row, R: DeserializeOwned>(body: &str) -> Result<Stored<R>, ReadModelError> {
    serde_json::from_str(body)
        .map_err(|error| ReadModelError::Decode { model: T::NAME, reason: without_values(&error) })
}

/// The time for which the active build is cached. The rows of a replaced build remain for at least this time, and until
/// they are deleted explicitly.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Determines which build of a projection readers use.
#[derive(Clone)]
pub struct Builds {
    store: Arc<dyn Documents>,
    projection: Arc<str>,
    known: Arc<Mutex<Option<(Instant, u32)>>>,
}

impl Builds {
    /// Returns the builds of the projection `projection` in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Documents>, projection: &str) -> Self {
        Self { store, projection: projection.into(), known: Arc::default() }
    }

    /// Returns the name of the projection.
    #[must_use]
    pub fn projection(&self) -> &str {
        &self.projection
    }

    /// Returns the number of the active build, which may have been replaced less than two seconds ago.
    ///
    /// # Errors
    ///
    /// [`ReadModelError`] if it cannot be read.
    pub async fn active(&self) -> Result<u32, ReadModelError> {
        if let Some((since, build)) = *self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && since.elapsed() < REMEMBERED
        {
            return Ok(build);
        }
        let build = active_build(&*self.store, &self.projection).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), build));
        Ok(build)
    }
}

impl fmt::Debug for Builds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builds").field("projection", &self.projection).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use async_trait::async_trait;

    use super::*;
    use crate::MemoryStore;
    use crate::documents::{ChangeError, ChangeSet, Document, DocumentPage, DocumentQuery};
    use crate::event::EventData;
    use crate::feed::EventFilter;
    use crate::ids::{IdSource, RandomIds};
    use crate::projection::{EventContext, ProjectError, Projection, Projector, Stage};
    use crate::read_model::ReadModel;
    use crate::store::StoreError;

    #[derive(Clone, Debug, PartialEq, es_macros::Row, Serialize, Deserialize)]
    #[serde(crate = "crate::serde")]
    #[row(name = "numbers", key = number, index(by_group(group)))]
    struct Number {
        number: u64,
        group: String,
    }

    const NUMBERS: u64 = 40;

    #[derive(Clone)]
    struct Numbers(ReadModel<Number>);

    impl Projection for Numbers {
        const NAME: &'static str = "numbers";

        fn filter(&self) -> EventFilter {
            EventFilter::none()
        }

        async fn handle(&mut self, _: &EventData, _: &EventContext) -> Result<(), ProjectError> {
            Ok(())
        }

        fn stages(&mut self) -> Vec<&mut dyn Stage> {
            vec![&mut self.0]
        }
    }

    /// Writes the rows of a build.
    async fn fill(store: &MemoryStore, build: u32) {
        let layout = Layout::new(Numbers::NAME, build, Number::NAME);
        for number in 0..NUMBERS {
            let row = Number { number, group: "all".to_owned() };
            let key = row.key().expect("a key");
            let changes = layout.changes(&key, ExpectedDocument::Any, None, Some(&row)).expect("changes");
            let set = ChangeSet::new(RandomIds.new_id()).with_changes(changes);
            store.change(&set).await.expect("stored");
        }
    }

    /// A store that replaces the build, and deletes the previous one, after some reads of rows. To the reader, this is
    /// a long time.
    #[derive(Debug)]
    struct Replacing {
        store: MemoryStore,
        reads_before: Mutex<u32>,
        reader: OnceLock<Builds>,
    }

    impl Replacing {
        async fn after_a_read(&self) {
            {
                let mut left = self.reads_before.lock().expect("no panic");
                *left = left.wrapping_sub(1);
                if *left != 0 {
                    return;
                }
            }
            let numbers = Numbers(ReadModel::of::<Numbers>(&self.store));
            let projector = Projector::new(self.store.clone(), numbers);
            projector.rebuild().await.expect("begins");
            projector.run_until_caught_up().await.expect("works");
            fill(&self.store, 2).await;
            projector.switch().await.expect("switches");
            projector.delete_replaced().await.expect("deletes");
            let reader = self.reader.get().expect("a reader");
            *reader.known.lock().expect("no panic") = None;
        }
    }

    #[async_trait]
    impl Documents for Replacing {
        async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
            let document = self.store.document(key).await;
            if key.collection().starts_with("read#") {
                self.after_a_read().await;
            }
            document
        }

        async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
            let page = self.store.documents(query).await;
            self.after_a_read().await;
            page
        }

        async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
            self.store.change(set).await
        }
    }

    #[test]
    fn reads_are_complete_if_the_build_is_replaced_and_deleted_meanwhile() {
        futures_executor::block_on(async {
            let mut replaced = 0;
            for reads_before in 1..30 {
                for kind in 0..5 {
                    let store = MemoryStore::new();
                    fill(&store, 1).await;
                    let replacing =
                        Replacing { store, reads_before: Mutex::new(reads_before), reader: OnceLock::new() };
                    let replacing = Arc::new(replacing);
                    let rows = ReadModel::<Number>::of::<Numbers>(&replacing);
                    replacing.reader.set(rows.builds.clone()).expect("one reader");
                    let query = || rows.find(Number::BY_GROUP, "all").limit(7);
                    let found = match kind {
                        0 => rows.all().await.expect("rows").len() as u64,
                        1 => query().all().await.expect("rows").len() as u64,
                        2 => query().count(1000).await.expect("a count"),
                        3 => rows.rows().limit(1000).page().await.expect("a page").rows.len() as u64,
                        _ => rows.get(&7).await.expect("a row").map_or(0, |_| NUMBERS),
                    };
                    assert_eq!(found, NUMBERS, "kind {kind}, replaced after {reads_before} reads");
                    replaced += u32::from(rows.builds.active().await.expect("a build") == 2);
                }
            }
            assert!(replaced > 40, "{replaced}");
        });
    }
}
