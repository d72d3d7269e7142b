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

/// The time for which the active build is cached. The rows of a replaced build remain until they are deleted
/// explicitly.
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
