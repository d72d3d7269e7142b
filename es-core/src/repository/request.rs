//! Commands with what accompanies them.

use std::any::type_name;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument, Span, field};

use crate::aggregate::Aggregate;
use crate::command::{Context, HandledBy};
use crate::cost::Cost;
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::attempt::{Attempt, Done, Extras, Next};
use crate::repository::joining::{self, Decided, Joining, OnceRequest, USUAL_RETENTION};
use crate::repository::{ExecuteError, Outcome, Repository};
use crate::version::{ExpectedVersion, Version};

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
    repository: &'a Repository<A>,
    metadata: Arc<Metadata>,
    expected: ExpectedVersion,
    once: Option<OnceRequest>,
    joining: Option<Joining<'a, A>>,
}

impl<'a, A: Aggregate> Request<'a, A> {
    pub(crate) fn new(repository: &'a Repository<A>, metadata: Metadata) -> Self {
        let metadata = Arc::new(metadata);
        Self { repository, metadata, expected: ExpectedVersion::Any, once: None, joining: None }
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
    /// It makes of the one write a transaction of two items, which costs four units for a small event.
    pub fn once(self, key: impl Into<String>) -> Self {
        self.once_for(USUAL_RETENTION, key)
    }

    /// The same, remembered for `retention`, in whole seconds.
    pub fn once_for(mut self, retention: Duration, key: impl Into<String>) -> Self {
        self.once = Some(OnceRequest { key: key.into(), retention });
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
        let span = self.span(id, short_name::<C>);
        let entered = span.clone();
        async {
            let mut attempt = Attempt::start(&self.repository.inner, id).await?;
            let mut next = attempt.check(&self.extras()).await?;
            loop {
                if let Next::Done(done) = next {
                    return Ok(attempt.outcome(done));
                }
                let context = attempt.context(id, &self.metadata);
                let decision = command.handled_by(attempt.state(), &context);
                next = self.conclude(&mut attempt, decision, &context, &span).await?;
            }
        }
        .instrument(entered)
        .await
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
        let span = self.span(id, || "decide");
        let entered = span.clone();
        async {
            let mut attempt = Attempt::start(&self.repository.inner, id).await?;
            let mut next = attempt.check(&self.extras()).await?;
            loop {
                if let Next::Done(done) = next {
                    return Ok(attempt.outcome(done));
                }
                let context = attempt.context(id, &self.metadata);
                let decision = decide(attempt.state(), &context).await;
                next = self.conclude(&mut attempt, decision, &context, &span).await?;
            }
        }
        .instrument(entered)
        .await
    }

    /// Records events that were decided elsewhere.
    pub(crate) async fn record(
        &self,
        id: &A::Id,
        events: Events<A>,
    ) -> Result<Outcome<A>, ExecuteError<Infallible>> {
        let mut attempt = Attempt::start(&self.repository.inner, id).await?;
        let mut next = attempt.check(&self.extras()).await?;
        loop {
            if let Next::Done(done) = next {
                return Ok(attempt.outcome(done));
            }
            let context = attempt.context(id, &self.metadata);
            next = self.conclude(&mut attempt, Ok(events.clone()), &context, &Span::none()).await?;
        }
    }

    async fn conclude<E>(
        &self,
        attempt: &mut Attempt<A>,
        decision: Result<Events<A>, E>,
        context: &Context<A>,
        span: &Span,
    ) -> Result<Next<A>, ExecuteError<E>> {
        record(span, attempt.progress());
        let next = attempt.conclude(decision, context, &self.extras()).await?;
        match &next {
            Next::Decide => return attempt.check(&self.extras()).await,
            Next::Done(Done::Now(..)) => record(span, attempt.progress()),
            Next::Done(Done::Before(outcome)) => {
                record(span, (outcome.attempts, outcome.version, outcome.cost));
            }
        }
        Ok(next)
    }

    fn extras(&self) -> Extras<'_, A> {
        Extras { expected: self.expected, once: self.once.as_ref(), joining: self.joining.as_ref() }
    }

    /// The span of a command, whose name is asked for only when someone listens.
    fn span(&self, id: &A::Id, command: fn() -> &'static str) -> Span {
        tracing::info_span!(
            "execute",
            aggregate = A::NAME,
            %id,
            command = command(),
            attempts = field::Empty,
            version = field::Empty,
            requests = field::Empty,
            rcu = field::Empty,
            wcu = field::Empty,
        )
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

/// Records in a command's span, if anyone listens, how far it has come, and what it has cost.
fn record(span: &Span, (attempts, version, cost): (u32, Version, Cost)) {
    if span.is_disabled() {
        return;
    }
    span.record("attempts", attempts);
    span.record("version", u64::from(version));
    span.record("requests", cost.requests);
    span.record("rcu", cost.read_units);
    span.record("wcu", cost.write_units);
}

/// The name of a type without its path.
fn short_name<T>() -> &'static str {
    let name = type_name::<T>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}
