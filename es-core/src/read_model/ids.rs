//! A projection that lists the ids of an aggregate.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::key::key_text;
use super::kind::{KeyKind, RowKinds};
use super::{IndexPlace, ReadModel, ReadModelError, Row, RowPage};
use crate::aggregate::Aggregate;
use crate::documents::Documents;
use crate::event::{Event, EventData};
use crate::feed::EventFilter;
use crate::projection::{EventContext, ProjectError, Projection, Stage};
use crate::version::Version;

/// A projection that lists the ids of all aggregates of the type `A`. Run it with a
/// [`Projector`](crate::Projector), and read it anywhere.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::read_model::AggregateIds;
/// use es_core::MemoryStore;
/// # #[event]
/// # pub struct OrderPlaced;
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = u64, events(OrderPlaced))]
/// # pub struct Order;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// # }
/// # struct Place;
/// # #[handlers]
/// # impl Order {
/// #     #[handle]
/// #     fn place(&self, _: &Place) -> OrderPlaced {
/// #         OrderPlaced
/// #     }
/// # }
///
/// # futures_executor::block_on(async {
/// let store = MemoryStore::new();
/// Repository::<Order>::new(store.clone()).execute(&1001, Place).await?;
///
/// let ids = AggregateIds::<Order>::new(&store);
/// Projector::new(store, ids.clone()).run_until_caught_up().await?;
///
/// let page = ids.page(100, None).await?;
/// assert_eq!((page.rows, page.next), (vec![1001], None));
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
///
/// # Cost
///
/// Each aggregate is one small row, written once, after its first event: 1 to 2 WCU on DynamoDB. The projection reads
/// all events of the aggregate.
///
/// # Names
///
/// The projection's name is `$ids.` and the name of the aggregate.
pub struct AggregateIds<A> {
    rows: ReadModel<IdRow>,
    aggregate: PhantomData<fn() -> A>,
}

/// An aggregate in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct IdRow {
    /// The id, as text.
    pub id: String,
    /// The time of the first commit.
    pub created: DateTime<Utc>,
}

// Not derived, so that compiler messages about other types do not mention it.
#[diagnostic::do_not_recommend]
impl Row for IdRow {
    const NAME: &'static str = "ids";
    type Key = String;
    const INDEXES: &'static [&'static str] = &[];

    fn key(&self) -> Result<String, ReadModelError> {
        key_text(Self::NAME, KeyKind::Text, &self.id)
    }

    fn places(&self) -> Result<Vec<IndexPlace>, ReadModelError> {
        Ok(Vec::new())
    }

    fn kinds() -> &'static RowKinds {
        static KINDS: RowKinds = RowKinds::new(KeyKind::Text, Vec::new());
        &KINDS
    }
}

impl<A: Aggregate> AggregateIds<A> {
    /// Creates the projection on `store`.
    #[must_use]
    pub fn new(store: &(impl Documents + Clone)) -> Self {
        Self { rows: ReadModel::of::<Self>(store), aggregate: PhantomData }
    }

    /// Returns the read model: a row for each aggregate, with its id as the key.
    #[must_use]
    pub fn rows(&self) -> &ReadModel<IdRow> {
        &self.rows
    }

    /// Returns a page of up to `limit` ids, in an unspecified order. `after` is the [`next`](RowPage::next) token of
    /// the previous page, or `None` for the first.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::PageToken`] if the token is damaged, or comes from another listing.
    /// [`ReadModelError::Decode`] if a stored id is not a valid `A::Id`. Other errors if the rows cannot be read.
    pub async fn page(&self, limit: u32, after: Option<String>) -> Result<RowPage<A::Id>, ReadModelError>
    where
        A::Id: FromStr,
    {
        let RowPage { rows, next } = self.rows.rows().limit(limit).after(after).page().await?;
        let ids = rows.iter().map(|row| {
            row.id.parse().map_err(|_| ReadModelError::Decode {
                model: A::NAME,
                reason: format!("an id is not a valid `{}`", type_name::<A::Id>()),
            })
        });
        Ok(RowPage { rows: ids.collect::<Result<_, _>>()?, next })
    }
}

#[diagnostic::do_not_recommend]
impl<A: Aggregate> Projection for AggregateIds<A> {
    const NAME: &'static str = Name::<A>::TEXT;

    fn filter(&self) -> EventFilter {
        let retired = A::RETIRED.iter().copied();
        EventFilter::none().with_events(A::NAME, retired).with_kinds(A::NAME, A::Event::KINDS)
    }

    async fn handle(&mut self, _: &EventData, ctx: &EventContext) -> Result<(), ProjectError> {
        if ctx.version() != Version::new(1) {
            return Ok(());
        }
        let row = IdRow { id: ctx.id().to_owned(), created: ctx.time() };
        self.rows.put(row).map_err(|error| ProjectError::Handler(error.into()))
    }

    fn stages(&mut self) -> Vec<&mut dyn Stage> {
        vec![&mut self.rows]
    }
}

impl<A> Clone for AggregateIds<A> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), aggregate: PhantomData }
    }
}

impl<A: Aggregate> fmt::Debug for AggregateIds<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregateIds").field("aggregate", &A::NAME).finish_non_exhaustive()
    }
}

/// The name of the projection, computed at compile time.
struct Name<A>(PhantomData<A>);

impl<A: Aggregate> Name<A> {
    /// The start of the name. User-defined names do not start with `$`.
    const PREFIX: &'static str = "$ids.";
    const LENGTH: usize = Self::PREFIX.len() + A::NAME.len();
    /// The name, padded with zeros. An aggregate's name has at most 100 bytes.
    const BYTES: [u8; 128] = joined(Self::PREFIX.as_bytes(), A::NAME.as_bytes());
    const TEXT: &'static str = match str::from_utf8(Self::BYTES.split_at(Self::LENGTH).0) {
        Ok(name) => name,
        Err(_) => panic!("two strings are joined to a string"),
    };
}

const fn joined<const N: usize>(first: &[u8], second: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut index = 0;
    while index < first.len() + second.len() {
        bytes[index] = if index < first.len() { first[index] } else { second[index - first.len()] };
        index += 1;
    }
    bytes
}
