//! Scenarios for processes: given events, when an event happens, then the process acts.

use std::collections::HashMap;
use std::fmt::{self, Debug, Display};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;

use super::diff;
use super::projected::FixedClock;
use super::store::{TestStore, at_once, commit_given, forget, new_store, recorded_after, stream};
use crate::aggregate::Aggregate;
use crate::clock::{Clock, ManualClock};
use crate::documents::{DocumentKey, DocumentQuery, pages};
use crate::event::{Event, EventData};
use crate::events::{Events, IntoEvents};
use crate::feed::Feed;
use crate::ids::SequentialIds;
use crate::personal::MemoryKeyring;
use crate::process::{Process, Reacting};
use crate::projection::{Projector, timeout};
use crate::repository::{Repository, RetryPolicy};
use crate::store::EventStore;
use crate::stream_id::StreamId;
use crate::version::Version;

/// Starts a scenario with the process that `new` creates, on a new in-memory store with a keyring.
///
/// The process also reacts to [`given`](Reacted::given) events. [`when`](Reacted::when) and
/// [`later`](Reacted::later) begin a step, and the expectations refer to the last step. Each event is handled
/// once: a failure stops the process. The clock is fixed at the start of 1970 until [`later`](Reacted::later)
/// advances it.
///
/// ```
/// use std::time::Duration;
/// use es_core::prelude::*;
/// use es_core::testing::{TestStore, react};
/// # #[event] pub struct OrderPlaced { pub item: String }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// # }
/// # #[event] pub struct Received;
/// # #[event] pub struct Reserved { pub order: String }
/// # #[event] pub struct Released { pub order: String }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "stock", id = String, events(Received, Reserved, Released))]
/// # pub struct Stock { free: u32 }
/// # #[handlers]
/// # impl Stock {
/// #     #[apply]
/// #     fn received(&mut self, _: &Received) { self.free += 1; }
/// #     #[apply]
/// #     fn reserved(&mut self, _: &Reserved) { self.free -= 1; }
/// #     #[apply]
/// #     fn released(&mut self, _: &Released) { self.free += 1; }
/// # }
/// # pub struct Reserve(String);
/// # #[handlers]
/// # impl Stock {
/// #     #[handle]
/// #     fn reserve(&self, command: &Reserve) -> Reserved {
/// #         Reserved { order: command.0.clone() }
/// #     }
/// # }
/// # pub struct Release(String);
/// # #[handlers]
/// # impl Stock {
/// #     #[handle]
/// #     fn release(&self, command: &Release) -> Released {
/// #         Released { order: command.0.clone() }
/// #     }
/// # }
/// # #[event] pub struct Waiting { pub item: String }
/// # #[event] pub struct GivenUp;
/// # #[event] pub struct Overdue;
/// # #[derive(Aggregate, Debug, Default, PartialEq)]
/// # #[aggregate(name = "fulfillment", id = String, events(Waiting, GivenUp))]
/// # pub struct Fulfillment { waiting: Option<String> }
/// # #[handlers]
/// # impl Fulfillment {
/// #     #[apply]
/// #     fn waiting(&mut self, event: &Waiting) {
/// #         self.waiting = Some(event.item.clone());
/// #     }
/// #
/// #     #[apply]
/// #     fn given_up(&mut self, _: &GivenUp) { self.waiting = None; }
/// # }
///
/// #[derive(Clone, Process)]
/// #[process(name = "fulfillment", state = Fulfillment, events(Order(OrderPlaced)), timeouts(Overdue))]
/// struct FulfillOrders { stock: Repository<Stock> }
///
/// impl FulfillOrders {
///     fn new(store: &TestStore) -> Self {
///         Self { stock: Repository::new(store.clone()) }
///     }
/// }
/// # impl React<OrderPlaced> for FulfillOrders {
/// #     fn instance(&self, _: &OrderPlaced, ctx: &EventContext) -> Result<Option<String>, BoxError> { Ok(Some(ctx.id().to_owned())) }
/// #     async fn react(&self, event: &OrderPlaced, reaction: &mut Reaction<'_, Fulfillment>)
/// #         -> Result<Events<Fulfillment>, BoxError>
/// #     {
/// #         let order = reaction.id().clone();
/// #         reaction.execute(&self.stock, &event.item, Reserve(order)).await?;
/// #         reaction.schedule(Duration::from_secs(3600), Overdue)?;
/// #         Ok(Waiting { item: event.item.clone() }.into())
/// #     }
/// # }
/// # impl React<Overdue> for FulfillOrders {
/// #     fn instance(&self, _: &Overdue, ctx: &EventContext) -> Result<Option<String>, BoxError> { Ok(Some(ctx.id().to_owned())) }
/// #     async fn react(&self, _: &Overdue, reaction: &mut Reaction<'_, Fulfillment>)
/// #         -> Result<Events<Fulfillment>, BoxError>
/// #     {
/// #         let Some(item) = reaction.state().waiting.clone() else { return Ok(Events::none()) };
/// #         let order = reaction.id().clone();
/// #         reaction.execute(&self.stock, &item, Release(order)).await?;
/// #         Ok(GivenUp.into())
/// #     }
/// # }
///
/// # futures_executor::block_on(async {
/// react(FulfillOrders::new)
///     .given::<Stock>("tea", [Received])
///     .await
///     .when::<Order>("1001", OrderPlaced { item: "tea".into() })
///     .await
///     .then_events::<Stock>("tea", [Reserved { order: "1001".into() }])
///     .then_state(&"1001".to_owned(), |state| assert_eq!(state.waiting.as_deref(), Some("tea")))
///     .later(Duration::from_secs(3599))
///     .await
///     .then_nothing::<Stock>("tea")
///     .later(Duration::from_secs(1))
///     .await
///     .then_events::<Stock>("tea", [Released { order: "1001".into() }])
///     .then_events::<Fulfillment>("1001", [GivenUp]);
/// # });
/// ```
#[must_use = "nothing is tested without `when`"]
pub fn react<P: Process>(new: impl FnOnce(&TestStore) -> P) -> Reacted<P> {
    let (store, keyring) = new_store();
    let process = new(&store);
    let time = ManualClock::at(DateTime::UNIX_EPOCH);
    let projector = Projector::process_builder(store.clone(), process)
        .retry(RetryPolicy::never())
        .restart(RetryPolicy::never())
        .clock(FixedClock(time.clone()))
        .ids(SequentialIds::default())
        .build();
    let commits = SequentialIds::default();
    Reacted { store, keyring, projector, time, commits, before: HashMap::new(), failure: None }
}

/// A process in a test. Created by [`react`].
pub struct Reacted<P: Process> {
    store: TestStore,
    keyring: MemoryKeyring,
    projector: Projector<Reacting<P>>,
    time: ManualClock,
    commits: SequentialIds,
    /// The version of each stream before the last step.
    before: HashMap<StreamId, Version>,
    failure: Option<String>,
}

impl<P: Process> Reacted<P> {
    /// Sets the time (default: the start of 1970).
    #[must_use = "nothing is tested without `when`"]
    pub fn at(self, now: DateTime<Utc>) -> Self {
        self.time.set(now);
        self
    }

    /// Commits these events to the stream of the aggregate `A` with the id `id`, and runs the process.
    ///
    /// # Panics
    ///
    /// Panics if an event cannot be stored, or if the process failed before.
    #[must_use = "nothing is tested without `when`"]
    pub async fn given<A: Aggregate>(self, id: impl Display, events: impl IntoEvents<A>) -> Self {
        self.step::<A>(id, events.into_events()).await
    }

    /// Commits these events to the stream of the aggregate `A` with the id `id` as the next step, and runs the
    /// process.
    ///
    /// # Panics
    ///
    /// As for [`given`](Self::given).
    #[must_use = "nothing is tested without `then_events` and its like"]
    pub async fn when<A: Aggregate>(self, id: impl Display, events: impl IntoEvents<A>) -> Self {
        self.step::<A>(id, events.into_events()).await
    }

    /// Advances the clock, and handles the timeouts that become due.
    ///
    /// # Panics
    ///
    /// Panics if the process failed before.
    #[must_use = "nothing is tested without `then_events` and its like"]
    pub async fn later(mut self, passed: Duration) -> Self {
        self.assert_works();
        self.begin();
        self.time.advance(chrono::Duration::from_std(passed).expect("a time within the calendar"));
        self.work().await
    }

    /// Forgets the subject with the id `subject`: its [personal data](crate::personal) in states, timeouts, and later
    /// events becomes [forgotten](crate::Personal::is_forgotten).
    ///
    /// # Panics
    ///
    /// Panics if the id is not valid: see [`Subject::new`](crate::personal::Subject::new).
    #[track_caller]
    #[must_use = "nothing is tested without `then_events` and its like"]
    pub fn forgetting(self, subject: impl Display) -> Self {
        forget(&self.keyring, subject);
        self
    }

    /// Expects that the last step recorded exactly these events in the stream of the aggregate `A` with the id
    /// `id`. The events passed to [`when`](Self::when) are not included.
    ///
    /// # Panics
    ///
    /// Panics if the events differ, in which case the message shows the difference, or if the process failed.
    #[track_caller]
    pub fn then_events<A: Aggregate>(self, id: impl Display, expected: impl IntoEvents<A>) -> Self {
        self.assert_works();
        let stream = stream::<A>(&id);
        let decode = |data: &EventData| match A::Event::decode(data) {
            Ok(event) => event,
            Err(error) => panic!("an event of `{stream}` cannot be read: {error}"),
        };
        let actual: Vec<_> = self.recorded(&stream).iter().map(decode).collect();
        let expected = expected.into_events();
        assert!(
            actual == expected.as_slice(),
            "`{stream}` has different events than expected\n{}",
            diff(&expected.as_slice(), &actual)
        );
        self
    }

    /// Expects that the last step recorded no events in the stream of the aggregate `A` with the id `id`.
    ///
    /// # Panics
    ///
    /// Panics if it recorded events, or if the process failed.
    #[track_caller]
    pub fn then_nothing<A: Aggregate>(self, id: impl Display) -> Self {
        self.then_events::<A>(id, Events::none())
    }

    /// Passes the state of the process instance `id` to `look`.
    ///
    /// # Panics
    ///
    /// Panics if the state cannot be loaded, or if the process failed.
    #[track_caller]
    pub fn then_state(self, id: &<P::State as Aggregate>::Id, look: impl FnOnce(&P::State)) -> Self {
        self.assert_works();
        let states = Repository::<P::State>::new(self.store.clone());
        match at_once(states.load(id)) {
            Ok(loaded) => look(&loaded.state),
            Err(error) => panic!("the state of the process cannot be loaded: {error}"),
        }
        self
    }

    /// Expects that the process failed with an error that contains `expected`.
    ///
    /// # Panics
    ///
    /// Panics if it did not fail, or failed with a different error.
    #[track_caller]
    pub fn then_failed(self, expected: &str) {
        match self.failure {
            Some(reason) => {
                assert!(
                    reason.contains(expected),
                    "the process failed with a different error: {reason}\nexpected: {expected}"
                );
            }
            None => panic!("the process handled all events; expected the failure: {expected}"),
        }
    }

    async fn step<A: Aggregate>(mut self, id: impl Display, events: Events<A>) -> Self {
        self.assert_works();
        self.begin();
        let stream = stream::<A>(&id);
        commit_given(&self.store, &self.commits, self.time.now(), stream.clone(), &events).await;
        let head = self.store.head(&stream).await.expect("the in-memory store does not fail");
        self.before.insert(stream, head.version);
        self.work().await
    }

    /// Begins a step: remembers the version of each stream.
    fn begin(&mut self) {
        self.before = self.store.inner().versions();
    }

    async fn work(mut self) -> Self {
        self.failure = self.react().await.err();
        self
    }

    /// Runs the process until it has nothing left to do, including reactions to its own events.
    async fn react(&self) -> Result<(), String> {
        loop {
            let before = (self.store.inner().versions(), self.due().await?);
            self.projector.run_until_caught_up().await.map_err(|error| error.to_string())?;
            let after = (self.store.inner().versions(), self.due().await?);
            if before == after {
                return Ok(());
            }
        }
    }

    /// Returns the documents of the due timeouts.
    async fn due(&self) -> Result<Vec<DocumentKey>, String> {
        let mut due = Vec::new();
        let now = timeout::document(self.time.now() + chrono::Duration::milliseconds(1), "");
        for slice in self.store.slice_tree().await.map_err(|error| error.to_string())?.iter() {
            let collection = timeout::collection(P::NAME, slice);
            let mut pages = pages(&self.store, DocumentQuery::new(&collection));
            while let Some(page) = pages.try_next().await.map_err(|error| error.to_string())? {
                let names = page.documents.into_iter().map(|(name, _)| name).filter(|name| *name < now);
                due.extend(names.map(|name| DocumentKey::new(&collection, name)));
            }
        }
        Ok(due)
    }

    /// Returns the events that the last step recorded in a stream.
    fn recorded(&self, stream: &StreamId) -> Vec<EventData> {
        let before = self.before.get(stream).copied().unwrap_or(Version::NONE);
        recorded_after(&self.store, stream, before)
    }

    #[track_caller]
    fn assert_works(&self) {
        if let Some(failure) = &self.failure {
            panic!("{failure}");
        }
    }
}

impl<P: Process> Debug for Reacted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reacted")
            .field("process", &P::NAME)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
