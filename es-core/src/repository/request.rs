//! Commands with what accompanies them.

use std::any::type_name;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::aggregate::Aggregate;
use crate::command::{Context, HandledBy};
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::attempt::Attempt;
use crate::repository::joining::{self, Decided, Joining, OnceRequest, USUAL_RETENTION};
use crate::repository::{ExecuteError, Outcome, Repository};
use crate::version::ExpectedVersion;

/// A repository together with what accompanies its commands: made by [`Repository::with`] and
/// [`Repository::once`].
///
/// ```
/// # use es_core::prelude::*;
/// # use es_core::MemoryStore;
/// # #[event] pub struct Paid { pub cents: u64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "invoice", id = String, events(Paid))]
/// # pub struct Invoice { paid: u64 }
/// # impl Apply<Paid> for Invoice { fn apply(&mut self, event: &Paid) { self.paid += event.cents; } }
/// # pub struct Pay { pub cents: u64 }
/// # impl Handle<Pay> for Invoice {
/// #     type Error = std::convert::Infallible;
/// #     fn handle(&self, command: &Pay, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
/// #         Ok(Paid { cents: command.cents }.into())
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (invoices, id): (Repository<Invoice>, _) = (Repository::new(MemoryStore::new()), "7".to_owned());
/// // A message that is delivered twice pays once.
/// for delivery in 1..=2 {
///     let metadata = Metadata::new().with_actor("bank");
///     let done = invoices.with(metadata).once("message-4711").execute(&id, Pay { cents: 100 }).await?;
///     assert_eq!((done.state.paid, done.repeated), (100, delivery == 2));
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a request does nothing until it is executed"]
pub struct Request<'a, A: Aggregate> {
    pub(crate) repository: &'a Repository<A>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) expected: ExpectedVersion,
    pub(crate) deadline: Option<Duration>,
    pub(crate) once: Option<OnceRequest>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) joining: Option<Joining<'a, A>>,
}

impl<'a, A: Aggregate> Request<'a, A> {
    pub(crate) fn new(repository: &'a Repository<A>, metadata: Metadata) -> Self {
        let metadata = Arc::new(metadata);
        Self {
            repository,
            metadata,
            expected: ExpectedVersion::Any,
            deadline: repository.inner.deadline,
            once: None,
            fingerprint: None,
            joining: None,
        }
    }

    /// Sets how long the command may take, instead of the repository's
    /// [`deadline`](crate::RepositoryBuilder::deadline).
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Lets the command take as long as its retries last.
    pub fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// Carries the command out only when the aggregate is at the version that the caller has seen: what `If-Match`
    /// asks for in HTTP. Otherwise it ends with [`ExecuteError::Outdated`], and is not decided at all.
    ///
    /// A command that was carried out before under its [key](Self::once) is answered as before.
    pub fn expecting(mut self, version: ExpectedVersion) -> Self {
        self.expected = version;
        self
    }

    /// Carries the command out once, however often it is asked for under this `key`: what comes later gets the
    /// outcome of the first, and records nothing.
    ///
    /// The key belongs to the aggregate: the same key for another one is another key. It is remembered for
    /// 7 days, together with where the events are; that nothing was to be done is remembered, too. A rejection
    /// is not, nor is any other error: the command may be carried out later under its key.
    ///
    /// A key that was used for another command is an error, [`ExecuteError::KeyReused`]: see
    /// [`fingerprint`](Self::fingerprint).
    ///
    /// It makes of the one write a transaction of two items, which costs four units for a small event.
    pub fn once(self, key: impl Into<String>) -> Self {
        self.once_for(USUAL_RETENTION, key)
    }

    /// The same, remembered for `retention`, in whole seconds.
    pub fn once_for(mut self, retention: Duration, key: impl Into<String>) -> Self {
        self.once = Some(OnceRequest { key: key.into(), retention });
        self
    }

    /// Sets what identifies the command under its [key](Self::once), instead of the name of its type: the body of a
    /// request together with its path, say. Only a digest is stored.
    ///
    /// A repetition has to have the fingerprint of the first command, or it ends with [`ExecuteError::KeyReused`].
    /// The name of a type is compared without its module, so moving a command type is safe. Renaming one is not,
    /// while messages from before may be delivered again: give those commands a fingerprint that stays. Decisions
    /// by [`decide`](Self::decide) have no fingerprint unless one is set, and match any command.
    pub fn fingerprint(mut self, content: impl AsRef<[u8]>) -> Self {
        self.fingerprint = Some(joining::digest(content.as_ref()));
        self
    }

    /// Writes of the caller's own that are carried out together with the events, or not at all: the row of a
    /// read model, say. Which kinds there are is the store's to say, see
    /// [`JoinedWrite`](crate::store::JoinedWrite).
    ///
    /// `join` makes them of what was decided. It runs again when another writer comes first, and not at all
    /// when there are no events.
    pub fn joining<F, I>(mut self, join: F) -> Self
    where
        F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'a,
        I: IntoIterator,
        I::Item: Send + Sync + 'static,
    {
        self.joining = Some(joining::boxed(join));
        self
    }

    /// As [`Repository::execute`]; the events record this request's metadata.
    ///
    /// # Errors
    ///
    /// As [`Repository::execute`].
    pub async fn execute<C>(&self, id: &A::Id, command: C) -> Result<Outcome<A>, ExecuteError<C::Error>>
    where
        C: HandledBy<A>,
    {
        let attempt = Attempt::new(self, id, Some(short_name::<C>))?;
        let span = attempt.report().span().clone();
        attempt.run(|state, context| command.handled_by(state, context)).instrument(span).await
    }

    /// As [`Repository::decide`]; the events record this request's metadata.
    ///
    /// # Errors
    ///
    /// As [`Repository::decide`].
    pub async fn decide<F, E>(&self, id: &A::Id, decide: F) -> Result<Outcome<A>, ExecuteError<E>>
    where
        F: AsyncFn(&A, &Context<A>) -> Result<Events<A>, E>,
    {
        let attempt = Attempt::new(self, id, None)?;
        let span = attempt.report().span().clone();
        attempt.run_async(decide).instrument(span).await
    }

    /// Records events that were decided elsewhere.
    pub(crate) async fn record(
        &self,
        id: &A::Id,
        events: Events<A>,
    ) -> Result<Outcome<A>, ExecuteError<Infallible>> {
        let attempt = Attempt::new(self, id, None)?;
        let span = attempt.report().span().clone();
        attempt.run(|_, _| Ok(events.clone())).instrument(span).await
    }
}

impl<A: Aggregate> fmt::Debug for Request<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("repository", self.repository)
            .field("metadata", &self.metadata)
            .field("expected", &self.expected)
            .field("once", &self.once)
            .field("joining", &self.joining.is_some())
            .finish()
    }
}

/// The name of a type without its path.
pub(crate) fn short_name<T>() -> &'static str {
    let name = type_name::<T>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}
