//! Scenarios for projections: given events, then rows.

use std::fmt::{self, Debug, Display};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::diff;
use super::store::{TestStore, at_once, commit_given, forget, new_store, stream};
use crate::aggregate::Aggregate;
use crate::clock::{Clock, ManualClock};
use crate::events::IntoEvents;
use crate::ids::SequentialIds;
use crate::personal::MemoryKeyring;
use crate::projection::{Projection, Projector, WaitError};
use crate::read_model::{FieldValue, ReadModel, Row};
use crate::repository::RetryPolicy;

/// Starts a scenario with the projection that `new` creates, on a new in-memory store with a keyring.
///
/// Each event is handled once: a failure stops the projection. Commits have the time of the start of 1970, or the
/// time set with [`at`](Projected::at).
///
/// ```
/// use es_core::prelude::*;
/// use es_core::testing::{TestStore, project};
/// use es_core::serde::{Deserialize, Serialize};
/// # #[event]
/// # pub struct OrderPlaced { pub customer: String }
/// # #[event]
/// # pub struct OrderCancelled;
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced, OrderCancelled))]
/// # pub struct Order;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// #     #[apply]
/// #     fn order_cancelled(&mut self, _: &OrderCancelled) {}
/// # }
///
/// #[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
/// #[serde(crate = "es_core::serde")]
/// #[row(name = "orders", key = order)]
/// struct OrderRow { order: String, customer: String }
///
/// #[derive(Clone, Projection)]
/// #[projection(name = "order_list", events(Order(OrderPlaced, OrderCancelled)))]
/// struct OrderList { #[read_model] orders: ReadModel<OrderRow> }
///
/// impl OrderList {
///     fn new(store: &TestStore) -> Self {
///         Self { orders: ReadModel::of::<Self>(store) }
///     }
/// }
/// # #[handlers]
/// # impl OrderList {
/// #     #[project]
/// #     async fn order_placed(&mut self, event: &OrderPlaced, ctx: &EventContext) -> Result<(), BoxError> {
/// #         if event.customer.is_empty() { return Err("the customer has no name".into()); }
/// #         Ok(self.orders.put(OrderRow { order: ctx.id().to_owned(), customer: event.customer.clone() })?)
/// #     }
/// #
/// #     #[project]
/// #     async fn order_cancelled(&mut self, _: &OrderCancelled, ctx: &EventContext) -> Result<(), BoxError> {
/// #         Ok(self.orders.delete(ctx.id())?)
/// #     }
/// # }
///
/// # futures_executor::block_on(async {
/// project(OrderList::new)
///     .given::<Order>("1001", [OrderPlaced { customer: "ada".into() }])
///     .await
///     .then_row(|list| &list.orders, "1001", OrderRow { order: "1001".into(), customer: "ada".into() })
///     .given::<Order>("1001", [OrderCancelled])
///     .await
///     .then_no_row(|list| &list.orders, "1001");
///
/// project(OrderList::new)
///     .given::<Order>("1002", [OrderPlaced { customer: String::new() }])
///     .await
///     .then_failed("the customer has no name");
/// # });
/// ```
#[must_use = "nothing is tested without `given`"]
pub fn project<P: Projection>(new: impl FnOnce(&TestStore) -> P) -> Projected<P> {
    let (store, keyring) = new_store();
    let projection = new(&store);
    let time = ManualClock::at(DateTime::UNIX_EPOCH);
    let projector = Projector::builder(store.clone(), projection.clone())
        .retry(RetryPolicy::never())
        .restart(RetryPolicy::never())
        .clock(FixedClock(time.clone()))
        .ids(SequentialIds::default())
        .build();
    let commits = SequentialIds::default();
    Projected { store, keyring, projection, projector, time, commits, failure: None }
}

/// A projection in a test. Created by [`project`].
pub struct Projected<P: Projection> {
    store: TestStore,
    keyring: MemoryKeyring,
    projection: P,
    projector: Projector<P>,
    time: ManualClock,
    commits: SequentialIds,
    failure: Option<WaitError>,
}

impl<P: Projection> Projected<P> {
    /// Sets the time of the following commits and of the projection (default: the start of 1970).
    #[must_use = "nothing is tested without `given`"]
    pub fn at(self, now: DateTime<Utc>) -> Self {
        self.time.set(now);
        self
    }

    /// Commits these events to the stream of the aggregate `A` with the id `id`, and runs the projection.
    ///
    /// # Panics
    ///
    /// Panics if an event cannot be stored, or if the projection failed before.
    #[must_use = "nothing is tested without `then_row` and its like"]
    pub async fn given<A: Aggregate>(mut self, id: impl Display, events: impl IntoEvents<A>) -> Self {
        self.assert_works();
        commit_given(&self.store, &self.commits, self.time.now(), stream::<A>(&id), &events.into_events())
            .await;
        self.failure = self.projector.run_until_caught_up().await.err();
        self
    }

    /// Forgets the subject with the id `subject`: its [personal data](crate::personal) in rows and in later events
    /// becomes [forgotten](crate::Personal::is_forgotten).
    ///
    /// # Panics
    ///
    /// Panics if the id is not valid: see [`Subject::new`](crate::personal::Subject::new).
    #[track_caller]
    #[must_use = "nothing is tested without `then_row` and its like"]
    pub fn forgetting(self, subject: impl Display) -> Self {
        forget(&self.keyring, subject);
        self
    }

    /// Expects that the row with the key `key` in one of the projection's read models equals `expected`.
    ///
    /// # Panics
    ///
    /// Panics if the row does not exist or differs, in which case the message shows the difference, or if the
    /// projection failed.
    #[track_caller]
    #[allow(clippy::needless_pass_by_value)] // reads better at the call site
    pub fn then_row<T: Row + Debug + PartialEq>(
        self,
        rows: impl FnOnce(&P) -> &ReadModel<T>,
        key: &(impl FieldValue<T::Key> + ?Sized),
        expected: T,
    ) -> Self {
        match self.row(rows, key) {
            Some(actual) if actual == expected => self,
            Some(actual) => {
                panic!("the row of `{}` differs from the expected row\n{}", T::NAME, diff(&expected, &actual))
            }
            None => panic!("`{}` has no such row; expected: {expected:#?}", T::NAME),
        }
    }

    /// Expects that there is no row with the key `key`.
    ///
    /// # Panics
    ///
    /// Panics if there is such a row, or if the projection failed.
    #[track_caller]
    pub fn then_no_row<T: Row + Debug>(
        self,
        rows: impl FnOnce(&P) -> &ReadModel<T>,
        key: &(impl FieldValue<T::Key> + ?Sized),
    ) -> Self {
        match self.row(rows, key) {
            None => self,
            Some(actual) => panic!("`{}` has an unexpected row: {actual:#?}", T::NAME),
        }
    }

    /// Expects that the projection failed with an error that contains `expected`.
    ///
    /// # Panics
    ///
    /// Panics if it did not fail, or failed with a different error.
    #[track_caller]
    pub fn then_failed(self, expected: &str) {
        match self.failure {
            Some(failure) => {
                let reason = failure.to_string();
                assert!(
                    reason.contains(expected),
                    "the projection failed with a different error: {reason}\nexpected: {expected}"
                );
            }
            None => panic!("the projection handled all events; expected the failure: {expected}"),
        }
    }

    /// Returns the projection, for custom assertions.
    pub fn projection(&self) -> &P {
        &self.projection
    }

    #[track_caller]
    fn row<T: Row>(
        &self,
        rows: impl FnOnce(&P) -> &ReadModel<T>,
        key: &(impl FieldValue<T::Key> + ?Sized),
    ) -> Option<T> {
        self.assert_works();
        match at_once(rows(&self.projection).get(key)) {
            Ok(row) => row,
            Err(error) => panic!("the row cannot be read: {error}"),
        }
    }

    #[track_caller]
    fn assert_works(&self) {
        if let Some(failure) = &self.failure {
            panic!("{failure}");
        }
    }
}

impl<P: Projection> Debug for Projected<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projected")
            .field("projection", &self.projection.name())
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// A clock that only the test advances.
#[derive(Debug)]
pub(super) struct FixedClock(pub(super) ManualClock);

#[async_trait]
impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    async fn sleep(&self, _: Duration) {}

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}
