//! The source and the target of a copy: stores, and files with lines of JSON.

use std::path::{Path, PathBuf};

use es_core::StreamId;
use es_core::feed::{EventFilter, FeedRead, Position, Slice};
use es_core::store::{Commit, StoredKey};
use es_dynamo::DynamoStore;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::arguments::Place;
use crate::commands::lines::{Entry, Input};
use crate::failure::{Failure, Result};
use crate::store::Store;

/// How many events a page of a source has, approximately.
const PAGE: u32 = 500;

/// A page of commits, those of each stream in order.
pub(super) type Page = Vec<(StreamId, Commit)>;

/// A store, or a file.
pub(super) enum Endpoint {
    Store(Store),
    /// An export to read.
    Input(Input),
    /// The path of an export to write.
    Output(PathBuf),
}

/// The addresses of endpoints, for errors.
const ADDRESSES: &str = "use `dynamodb:TABLE`, `http://HOST:PORT`, `file:PATH`, `postgres`, `postgres://HOST/DATABASE`, or \
                         `export:PATH`";

impl Endpoint {
    /// Opens the source with an address: see [`open`](Self::open).
    pub(super) async fn source(address: &str, payload_store: Option<&str>, place: &Place) -> Result<Self> {
        match Self::open(address, payload_store, place).await? {
            Self::Output(path) => Ok(Self::Input(Input::open(path).await?)),
            store => Ok(store),
        }
    }

    /// Opens the target with an address: see [`open`](Self::open).
    pub(super) async fn target(address: &str, payload_store: Option<&str>, place: &Place) -> Result<Self> {
        match Self::open(address, payload_store, place).await? {
            Self::Output(path) if path == Path::new("-") => Err(Failure::of(
                "a copy is verified by reading it, so it cannot be written to standard output: use the path of a file",
            )),
            target => Ok(target),
        }
    }

    /// Opens the endpoint with an address. A store must exist. A name after `#` is that of the table or schema; `place`
    /// has the default. Large events of a table are in `payload_store`.
    async fn open(address: &str, payload_store: Option<&str>, place: &Place) -> Result<Self> {
        let is_dynamo =
            ["dynamodb:", "http:", "https:", "file:"].iter().any(|scheme| address.starts_with(scheme));
        if payload_store.is_some() && !is_dynamo {
            return Err(Failure::of(
                "only a table has a payload store: files and PostgreSQL contain large events themselves",
            ));
        }
        if let Some(path) = address.strip_prefix("export:") {
            return Ok(Self::Output(path.into()));
        }
        if address == "postgres" || address.starts_with("postgres:") || address.starts_with("postgresql:") {
            return open_postgres(address, place).await;
        }
        let (address, name) = address.rsplit_once('#').unwrap_or((address, &place.table));
        let mut dynamo = Place::dynamo(name);
        dynamo.payload_store = payload_store.map(str::to_owned);
        match address.split_once(':') {
            Some(("dynamodb", table)) => dynamo.table = table.to_owned(),
            Some(("http" | "https", _)) => dynamo.endpoint = Some(address.to_owned()),
            Some(("file", path)) => dynamo.file = Some(path.into()),
            // The address may contain a password.
            _ => return Err(Failure::of(format!("the address of a store is invalid: {ADDRESSES}"))),
        }
        let store = dynamo.open_dynamo().await?;
        store.verify_table().await?;
        Ok(Self::Store(store.into()))
    }

    /// Returns the store, if it is one.
    pub(super) fn store(&self) -> Option<&Store> {
        match self {
            Self::Store(store) => Some(store),
            Self::Input(_) | Self::Output(_) => None,
        }
    }

    /// Returns the name of the table, if it is one.
    pub(super) fn table(&self) -> Option<&str> {
        self.store().and_then(Store::dynamo).map(DynamoStore::table_name)
    }

    /// Returns the ends of the feed, or nothing for a file.
    pub(super) async fn ends(&self) -> Result<Vec<(Slice, Position)>> {
        match self {
            Self::Store(store) => store.ends().await,
            Self::Input(_) | Self::Output(_) => Ok(Vec::new()),
        }
    }

    /// Returns all commits, up to these ends of the feed.
    pub(super) fn pages(&self, ends: &[(Slice, Position)]) -> Result<BoxStream<'_, Result<Page>>> {
        match self {
            Self::Store(store) => Ok(feed(store, ends.to_vec())),
            Self::Output(_) => Ok(stream::empty().boxed()),
            Self::Input(export) => {
                let commits = export.lines()?.filter_map(|line| match line {
                    Ok((_, Entry::Commit(stream, commit))) => Some(Ok((stream, commit))),
                    Ok((_, Entry::Key(_))) => None,
                    Err(error) => Some(Err(error)),
                });
                Ok(stream::iter(commits).try_chunks(PAGE as usize).map_err(|error| error.1).boxed())
            }
        }
    }

    /// Returns all claims and idempotency keys.
    pub(super) async fn keys(&self) -> Result<Vec<StoredKey>> {
        match self {
            Self::Store(store) => Ok(store.stored_keys().try_collect().await?),
            Self::Output(_) => Ok(Vec::new()),
            Self::Input(export) => {
                let keys = export.lines()?.filter_map(|line| match line {
                    Ok((_, Entry::Key(key))) => Some(Ok(key)),
                    Ok((_, Entry::Commit(..))) => None,
                    Err(error) => Some(Err(error)),
                });
                keys.collect()
            }
        }
    }
}

#[cfg(feature = "postgres")]
async fn open_postgres(address: &str, place: &Place) -> Result<Endpoint> {
    let (url, schema) = match address.rsplit_once('#') {
        Some((url, schema)) => (url, Some(schema)),
        None => (address, None),
    };
    let url = (url != "postgres").then_some(url);
    let store = place.postgres.open_at(url, schema).await?;
    store.verify().await?;
    Ok(Endpoint::Store(store.into()))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(_: &str, _: &Place) -> Result<Endpoint> {
    Err(Failure::of("this program was built without PostgreSQL: enable the feature `postgres` of es-tools"))
}

/// Returns the commits of a feed, one slice after the other.
fn feed(store: &Store, ends: Vec<(Slice, Position)>) -> BoxStream<'_, Result<Page>> {
    let start = |slice| FeedRead::new(slice, Position::NONE).limit(PAGE).filter(EventFilter::everything());
    let mut ends = ends.into_iter().filter(|(_, end)| *end > Position::NONE);
    let first = ends.next().map(|(slice, end)| (start(slice), end));
    let pages = stream::try_unfold((first, ends), move |(current, mut ends)| async move {
        let Some((mut read, end)) = current else { return Ok(None) };
        let page = store.read_feed(&read).await?;
        (read.after, read.anchor) = (page.through, page.anchor);
        let next = match page.is_last || read.after >= end {
            true => ends.next().map(|(slice, end)| (start(slice), end)),
            false => Some((read, end)),
        };
        let commits = page.entries.into_iter().map(|entry| (entry.stream, entry.commit));
        Ok(Some((commits.collect(), (next, ends))))
    });
    pages.boxed()
}
