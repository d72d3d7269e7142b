//! The types of an application, for the typed commands.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
#[cfg(feature = "explorer")]
use std::panic::catch_unwind;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::chrono::{DateTime, Utc};
#[cfg(feature = "explorer")]
use es_core::event::{Event, EventData};
use es_core::feed::Feed;
use es_core::personal::{Keyring, redacted};
use es_core::projection::WaitError;
use es_core::serde::Serialize;
use es_core::{Aggregate, BoxError, Cost, Projection, Projector, Repository, Version};
use futures_util::FutureExt;
use serde_json::Value;

use crate::output::Progress;
use crate::store::Store;

/// How long readers may use the previous build after a switch.
pub(crate) const SWITCH: Duration = Duration::from_secs(2);

/// Returns a handle on a store that opens personal data with the keyring of the application.
type Unseal = Box<dyn Fn(&Store) -> Store + Send + Sync>;

/// The types of an application, which add the commands `state` and `rebuild`.
///
/// ```
/// use es_core::prelude::*;
/// use es_tools::Application;
/// # use serde::{Deserialize, Serialize};
/// # #[event]
/// # pub struct OrderPlaced;
/// # #[derive(Aggregate, Default, Serialize, Deserialize)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # impl Apply<OrderPlaced> for Order { fn apply(&mut self, _: &OrderPlaced) {} }
/// # #[derive(Clone, Projection)]
/// # #[projection(name = "mails", events(Order(OrderPlaced)))]
/// # struct Mails;
/// # impl Project<OrderPlaced> for Mails {
/// #     async fn project(&mut self, _: &OrderPlaced, _: &EventContext) -> Result<(), BoxError> { Ok(()) }
/// # }
///
/// let application = Application::new("shop").aggregate::<Order>().projection(|_| Mails);
/// ```
pub struct Application {
    name: &'static str,
    unseal: Option<Unseal>,
    aggregates: BTreeMap<&'static str, Box<dyn LoadState>>,
    projections: BTreeMap<&'static str, Box<dyn RunRebuild>>,
}

impl Application {
    /// Creates an application without types. `name` is the name of its command, for help and completions.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, unseal: None, aggregates: BTreeMap::new(), projections: BTreeMap::new() }
    }

    /// Sets the keyring of the application's personal data. `open` returns it for the store of the command line, or
    /// `None` if there is none for such a store.
    ///
    /// Without it, states that contain personal data cannot be loaded, and projections that handle such events cannot
    /// be rebuilt. The values themselves are never shown.
    ///
    /// ```
    /// use es_core::StoreError;
    /// use es_dynamo::keyring::{DynamoKeyring, LocalMasterKey};
    /// use es_tools::Application;
    ///
    /// fn application() -> Result<Application, StoreError> {
    ///     let key = LocalMasterKey::from_env()?;
    ///     Ok(Application::new("shop").keyring(move |store| {
    ///         Some(DynamoKeyring::builder(store.dynamo()?.client(), key.clone()).build())
    ///     }))
    /// }
    /// ```
    #[must_use]
    pub fn keyring<K: Keyring>(mut self, open: impl Fn(&Store) -> Option<K> + Send + Sync + 'static) -> Self {
        self.unseal = Some(Box::new(move |store| match open(store) {
            Some(keyring) => store.with_keyring(keyring),
            None => store.clone(),
        }));
        self
    }

    /// Adds an aggregate, whose state `state` shows as JSON. The state implements `Serialize`, and the id `FromStr`.
    #[must_use]
    pub fn aggregate<A>(mut self) -> Self
    where
        A: Aggregate + Serialize,
        A::Id: FromStr<Err: Into<BoxError>>,
    {
        self.aggregates.insert(A::NAME, Box::new(States::<A>(PhantomData)));
        self
    }

    /// Adds a projection, which `rebuild` rebuilds. `create` returns it for the store of the command line, which opens
    /// personal data if there is a [keyring](Self::keyring).
    #[must_use]
    pub fn projection<P: Projection>(
        mut self,
        create: impl Fn(&Arc<dyn Feed>) -> P + Send + Sync + 'static,
    ) -> Self {
        let create = move |store: &Store| Ok(create(&store.feed()));
        self.projections.insert(P::NAME, Box::new(Rebuilds(create)));
        self
    }

    /// Adds a projection that needs a store on PostgreSQL, such as one with an `es_postgres::SqlReadModel`. `rebuild`
    /// fails on other stores.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn postgres_projection<P: Projection>(
        mut self,
        create: impl Fn(&es_postgres::PostgresStore) -> P + Send + Sync + 'static,
    ) -> Self {
        let create = move |store: &Store| match store.postgres() {
            Some(store) => Ok(create(store)),
            None => {
                Err(format!("the projection `{}` needs a store on PostgreSQL: pass --postgres", P::NAME)
                    .into())
            }
        };
        self.projections.insert(P::NAME, Box::new(Rebuilds(create)));
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the store that the types of the application use.
    pub(crate) fn unsealed(&self, store: &Store) -> Store {
        self.unseal.as_ref().map_or_else(|| store.clone(), |unseal| unseal(store))
    }

    #[cfg(feature = "explorer")]
    pub(crate) fn has_keyring(&self) -> bool {
        self.unseal.is_some()
    }

    pub(crate) fn has_types(&self) -> bool {
        !self.aggregates.is_empty() || !self.projections.is_empty()
    }

    pub(crate) fn aggregates(&self) -> &BTreeMap<&'static str, Box<dyn LoadState>> {
        &self.aggregates
    }

    pub(crate) fn projections(&self) -> &BTreeMap<&'static str, Box<dyn RunRebuild>> {
        &self.projections
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("name", &self.name)
            .field("has_keyring", &self.unseal.is_some())
            .field("aggregates", &self.aggregates.keys())
            .field("projections", &self.projections.keys())
            .finish()
    }
}

/// The moment of which to show the state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    Now,
    Version(Version),
    Time(DateTime<Utc>),
}

/// The state of an aggregate as JSON.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) version: Version,
    pub(crate) snapshot: Option<Version>,
    pub(crate) cost: Cost,
    pub(crate) state: Value,
}

/// Loads the states of an aggregate type.
#[async_trait]
pub(crate) trait LoadState: Send + Sync {
    async fn load(&self, store: &Store, id: &str, moment: Moment) -> Result<State, BoxError>;

    /// Returns the name and the payload of an event as the application decodes it, or `None` if it is retired.
    #[cfg(feature = "explorer")]
    fn upcast(&self, event: &EventData) -> Result<Option<(String, Value)>, BoxError>;
}

struct States<A>(PhantomData<fn() -> A>);

#[async_trait]
impl<A> LoadState for States<A>
where
    A: Aggregate + Serialize,
    A::Id: FromStr<Err: Into<BoxError>>,
{
    async fn load(&self, store: &Store, id: &str, moment: Moment) -> Result<State, BoxError> {
        let load = async {
            let invalid =
                |error: BoxError| format!("`{id}` is not an id of the aggregate `{}`: {error}", A::NAME);
            let id: A::Id = id.parse().map_err(|error: <A::Id as FromStr>::Err| invalid(error.into()))?;
            let repository: Repository<A> = Repository::new(store.feed());
            let loaded = match moment {
                Moment::Now => repository.load(&id).await?,
                Moment::Version(version) => repository.load_at(&id, version).await?,
                Moment::Time(time) => repository.load_as_of(&id, time).await?,
            };
            let state = redacted(&loaded.state)?;
            Ok(State { version: loaded.version, snapshot: loaded.snapshot, cost: loaded.cost, state })
        };
        AssertUnwindSafe(load).catch_unwind().await.unwrap_or_else(|panic| Err(panicked::<A>(&*panic)))
    }

    #[cfg(feature = "explorer")]
    fn upcast(&self, event: &EventData) -> Result<Option<(String, Value)>, BoxError> {
        let upcast = || {
            if A::RETIRED.contains(&event.name()) {
                return Ok(None);
            }
            let event = A::Event::decode(event)?.to_data()?;
            let name = format!("{} v{}", event.name(), event.version());
            let payload: Value = serde_json::from_str(event.payload())?;
            Ok(Some((name, redacted(&payload)?)))
        };
        catch_unwind(AssertUnwindSafe(upcast)).unwrap_or_else(|panic| Err(panicked::<A>(&*panic)))
    }
}

/// Returns the error for a panic in the code of an aggregate.
fn panicked<A: Aggregate>(panic: &(dyn Any + Send)) -> BoxError {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    format!("the code of the aggregate `{}` panicked: {message}", A::NAME).into()
}

/// Rebuilds a projection.
#[async_trait]
pub(crate) trait RunRebuild: Send + Sync {
    /// Returns the number of events in the feed, all of which a rebuild reads.
    async fn events(&self, store: &Store) -> Result<u64, BoxError>;

    /// Rebuilds the projection in this process, activates the new build, and deletes the data of the previous one.
    /// Continues a rebuild that has begun. Returns the number of the new build.
    async fn rebuild(&self, store: &Store, bar: Progress) -> Result<u32, BoxError>;
}

struct Rebuilds<F>(F);

#[async_trait]
impl<P: Projection, F: Fn(&Store) -> Result<P, BoxError> + Send + Sync> RunRebuild for Rebuilds<F> {
    async fn events(&self, store: &Store) -> Result<u64, BoxError> {
        Ok(Projector::new(store.feed(), (self.0)(store)?).progress().await?.total())
    }

    async fn rebuild(&self, store: &Store, bar: Progress) -> Result<u32, BoxError> {
        let projector = Projector::new(store.feed(), (self.0)(store)?);
        if projector.rebuild_progress().await?.is_none() {
            projector.rebuild().await?;
        }
        tokio::select! {
            built = projector.run_until_caught_up() => built?,
            watched = watch(&projector, &bar) => return Err(watched.into()),
        }
        projector.switch().await?;
        tokio::time::sleep(SWITCH).await;
        projector.delete_replaced().await?;
        Ok(projector.progress().await?.build)
    }
}

/// Shows the progress of the new build until it cannot be read.
async fn watch<P: Projection>(projector: &Projector<P>, bar: &Progress) -> WaitError {
    loop {
        match projector.rebuild_progress().await {
            Ok(progress) => bar.set(progress.map_or(0, |progress| progress.finished())),
            Err(error) if error.is_transient() => {}
            Err(error) => return error.into(),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
