//! The events of one aggregate in order.

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use chrono::{DateTime, Utc};
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::aggregate::Aggregate;
use crate::event::EventId;
use crate::metadata::Metadata;
use crate::repository::Inner;
use crate::repository::loading::decode;
use crate::store::{ClosedStream, Page, Read, StoreError, StreamState};
use crate::stream_id::StreamId;
use crate::version::Version;

/// A recorded event with its version, time, and metadata.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recorded<E> {
    /// The event, upcast to its current schema version.
    pub event: E,
    /// The version of the event.
    pub version: Version,
    /// The id of the event, which is unique in all streams.
    pub id: EventId,
    /// The time of its commit.
    pub time: DateTime<Utc>,
    /// The metadata of its commit.
    pub metadata: Arc<Metadata>,
}

/// The events of one aggregate in order, returned by [`Repository::history`](crate::Repository::history).
///
/// Use it as a [`Stream`], or call [`next`](Self::next) and [`all`](Self::all). Events are read page by page on demand,
/// so a long history needs no more memory than a short one. Each page has the retries and the
/// [deadline](crate::repository::RepositoryBuilder::deadline) of a load. The history ends with the first error.
pub struct History<'a, A: Aggregate> {
    stream: Option<StreamId>,
    pages: BoxStream<'a, Result<Page, StoreError>>,
    ready: VecDeque<Recorded<A::Event>>,
    failed: Option<StoreError>,
    /// The versions to return. Commits are read as a whole.
    versions: RangeInclusive<Version>,
    /// The version of the last event that changed the state of the stream, and that state.
    end: (Version, StreamState),
}

impl<'a, A: Aggregate> History<'a, A> {
    /// Reads the part of the stream that `read` selects.
    pub(super) fn new(inner: &'a Inner<A>, id: &A::Id, read: impl FnOnce(StreamId) -> Read) -> Self {
        let mut versions = Version::FIRST..=Version::MAX;
        let (stream, pages) = match StreamId::new(A::NAME, id) {
            Ok(id) => {
                let read = read(id.clone());
                versions = read.start().next()..=read.end().unwrap_or(Version::MAX);
                (Some(id), inner.pages(read))
            }
            Err(error) => (None, stream::iter([Err(error.into())]).boxed()),
        };
        let end = (Version::NONE, StreamState::Open);
        Self { stream, pages, ready: VecDeque::new(), failed: None, versions, end }
    }

    /// Returns the next event; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the stream cannot be read, is corrupt, or has an event that is unknown.
    pub async fn next(&mut self) -> Option<Result<Recorded<A::Event>, StoreError>> {
        StreamExt::next(self).await
    }

    /// Returns all remaining events.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn all(self) -> Result<Vec<Recorded<A::Event>>, StoreError> {
        self.try_collect().await
    }

    /// Decodes a page. If an event cannot be decoded, the events before it are still returned.
    fn decode_page(&mut self, page: &Page) {
        let Some(stream) = &self.stream else { return };
        for commit in &page.commits {
            for (version, id, data) in commit.numbered() {
                if !self.versions.contains(&version) {
                    continue;
                }
                match decode::<A>(data) {
                    Ok(None) => {
                        if let Some(state) = StreamState::after(data) {
                            self.end = (version, state);
                        }
                    }
                    Ok(Some(event)) => self.ready.push_back(Recorded {
                        event,
                        version,
                        id,
                        time: commit.time,
                        metadata: Arc::clone(&commit.metadata),
                    }),
                    Err(error) => {
                        self.fail(StoreError::decode(stream, version, error));
                        return;
                    }
                }
            }
        }
    }

    /// Returns the error of a history whose stream is deleted or archived, but not erased yet.
    fn unreadable(&mut self) -> Option<StoreError> {
        let (version, state) = std::mem::replace(&mut self.end, (Version::NONE, StreamState::Open));
        let stream = self.stream.clone().filter(|_| !state.is_readable())?;
        Some(ClosedStream::new(stream, version, state).into())
    }

    fn fail(&mut self, error: StoreError) {
        self.failed = Some(error);
        self.pages = stream::empty().boxed();
    }
}

impl<A: Aggregate> Stream for History<'_, A> {
    type Item = Result<Recorded<A::Event>, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            match ready!(self.pages.poll_next_unpin(context)) {
                Some(Ok(page)) => self.decode_page(&page),
                Some(Err(error)) => self.fail(error),
                None => return Poll::Ready(self.unreadable().map(Err)),
            }
        }
    }
}

// Nothing in it is pinned: the pages are boxed.
impl<A: Aggregate> Unpin for History<'_, A> {}

impl<A: Aggregate> fmt::Debug for History<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("stream", &self.stream).finish_non_exhaustive()
    }
}
