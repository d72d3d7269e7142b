//! Commands on one aggregate: their options, how they are executed, and what they return.

use std::any::type_name;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::Instrument;
use uuid::Uuid;

use crate::aggregate::{Aggregate, IdFrom};
use crate::command::{Context, HandledBy};
use crate::cost::Cost;
use crate::event::CommitId;
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::execution::{
    DEFAULT_RETENTION, Done, Execution, Idempotency, KeyOption, Next, Participants, digest,
};
use crate::repository::participant::Participant;
use crate::repository::report::{Numbers, Report};
use crate::repository::retry::Deadline;
use crate::repository::{ExecuteError, Repository};
use crate::store::{AdditionalWrite, Append, Commit, EventRange, IdempotencyRecord, StoreError, WriteSet};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// The result of a command that was executed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome<A: Aggregate> {
    /// The state after the command.
    pub state: A,
    /// The version of the last event.
    pub version: Version,
    /// The events that the command recorded, as they are stored; empty if there was nothing to do.
    pub events: Vec<A::Event>,
    /// The commit that recorded them; `None` if there was nothing to do.
    pub commit: Option<CommitId>,
    /// Whether this is the outcome of an earlier execution under the same idempotency key, see [`Request::once`]. If
    /// so, this call recorded nothing.
    pub repeated: bool,
    /// The number of times the command was decided: more than one after conflicts.
    pub attempts: u32,
    /// The total cost of all attempts, without snapshots that are written in the background.
    pub cost: Cost,
}

/// The state of an aggregate at a version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded<A> {
    /// The state; the [`Default`] of the aggregate if it has no events.
    pub state: A,
    /// The version of the last event in the state.
    pub version: Version,
    /// The time of the commit that recorded that event.
    pub time: Option<DateTime<Utc>>,
    /// The version of the snapshot that the load started from, if any.
    pub snapshot: Option<Version>,
    /// The cost of the load.
    pub cost: Cost,
}

impl<A> Loaded<A> {
    /// Returns whether the aggregate has events.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.version.is_none()
    }
}

/// The decision of a command before it is recorded. The argument of the function that creates [additional
/// writes](Request::with_writes).
#[derive(Debug)]
#[non_exhaustive]
pub struct Decided<'a, A: Aggregate> {
    /// The id of the aggregate.
    pub id: &'a A::Id,
    /// The state after the events.
    pub state: &'a A,
    /// The version of the last event.
    pub version: Version,
    /// The events that will be recorded.
    pub events: &'a [A::Event],
}

/// Creates the additional writes of a decision.
pub(super) type MakeWrites<'a, A> = Box<dyn Fn(&Decided<'_, A>) -> Vec<AdditionalWrite> + Send + Sync + 'a>;

/// Boxes a function that creates writes of one type.
pub(super) fn boxed<'a, A, F, I>(make: F) -> MakeWrites<'a, A>
where
    A: Aggregate,
    F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'a,
    I: IntoIterator,
    I::Item: Send + Sync + 'static,
{
    Box::new(move |decided| make(decided).into_iter().map(AdditionalWrite::new).collect())
}

/// A command with options: returned by [`Repository::with_metadata`], [`Repository::once`], and other methods.
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
///     let request = invoices.with_metadata(metadata).once("message-4711");
///     let done = request.execute(&id, Pay { cents: 100 }).await?;
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
    deadline: Option<Duration>,
    once: Option<KeyOption>,
    fingerprint: Option<String>,
    writes: Option<MakeWrites<'a, A>>,
}

impl<'a, A: Aggregate> Request<'a, A> {
    pub(super) fn new(repository: &'a Repository<A>, metadata: Metadata) -> Self {
        Self {
            repository,
            metadata: Arc::new(metadata),
            expected: ExpectedVersion::Any,
            deadline: repository.inner.deadline,
            once: None,
            fingerprint: None,
            writes: None,
        }
    }

    /// Sets how long the command may take (default: the [deadline](crate::repository::RepositoryBuilder::deadline) of the
    /// repository).
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Removes the deadline: the command may take as long as its retries last.
    pub fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// Executes the command only if the aggregate is at the given version, usually the version that the caller has
    /// seen. This is optimistic concurrency for a client, like `If-Match` in HTTP.
    ///
    /// Otherwise, the command fails with [`ExecuteError::Outdated`] and is not decided. If it was already executed
    /// under its [idempotency key](Self::once), it returns the first outcome at any version.
    pub fn expected_version(mut self, version: ExpectedVersion) -> Self {
        self.expected = version;
        self
    }

    /// Sets an idempotency key: repeated calls with this `key` execute the command once. A repetition records nothing
    /// and returns the outcome of the first execution.
    ///
    /// The key belongs to the aggregate; another aggregate may use the same key for another command. Keys are
    /// remembered for 7 days, including those of commands that had nothing to do. Rejections and other errors are not
    /// remembered: the command may be executed later under the same key.
    ///
    /// A key that was already used for a different command fails with [`ExecuteError::KeyReused`], see
    /// [`fingerprint`](Self::fingerprint).
    ///
    /// The write becomes a transaction of two items, which costs four write units for a small event.
    #[doc(alias = "idempotency key")]
    pub fn once(self, key: impl Into<String>) -> Self {
        self.once_for(DEFAULT_RETENTION, key)
    }

    /// Sets an [idempotency key](Self::once) that is remembered for `retention`, in whole seconds.
    pub fn once_for(mut self, retention: Duration, key: impl Into<String>) -> Self {
        self.once = Some(KeyOption { key: key.into(), retention });
        self
    }

    /// Sets the fingerprint that identifies the command under its [idempotency key](Self::once), for example the path
    /// and the body of a request (default: the name of the command's type). Only a digest is stored.
    ///
    /// A repetition must have the fingerprint of the first command; otherwise it fails with
    /// [`ExecuteError::KeyReused`]. The name of a type is compared without its module, so a command type can be moved
    /// safely. Do not rename one while older messages may be delivered again, or set a fingerprint that does not
    /// change. Decisions by [`decide`](Self::decide) have no fingerprint by default, and match any command.
    pub fn fingerprint(mut self, content: impl AsRef<[u8]>) -> Self {
        self.fingerprint = Some(digest(content.as_ref()));
        self
    }

    /// Adds writes to the transaction that records the events, such as the row of a read model: all are written, or
    /// none. The store determines the supported kinds of writes, see [`AdditionalWrite`].
    ///
    /// `make` is called with each decision, so again after a conflict, and not at all if there are no events.
    pub fn with_writes<F, I>(mut self, make: F) -> Self
    where
        F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'a,
        I: IntoIterator,
        I::Item: Send + Sync + 'static,
    {
        self.writes = Some(boxed(make));
        self
    }

    /// Executes `command` with these options, see [`Repository::execute`].
    ///
    /// # Errors
    ///
    /// As [`Repository::execute`].
    pub async fn execute<C, Q>(&self, id: &Q, command: C) -> Result<Outcome<A>, ExecuteError<C::Error>>
    where
        C: HandledBy<A>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let id = A::Id::id_from(id);
        let running = Running::new(self, &id, Some(short_name::<C>))?;
        let span = running.report.span().clone();
        running.run(|state, context| command.handled_by(state, context)).instrument(span).await
    }

    /// Executes `command`, which creates the aggregate `id`, with these options: see [`Repository::create`].
    ///
    /// # Errors
    ///
    /// As [`Repository::create`].
    pub async fn create<C, Q>(&self, id: &Q, command: C) -> Result<Outcome<A>, ExecuteError<C::Error>>
    where
        C: HandledBy<A>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let id = A::Id::id_from(id);
        let mut running = Running::new(self, &id, Some(short_name::<C>))?;
        running.execution.participants.participant.create();
        let span = running.report.span().clone();
        running.run(|state, context| command.handled_by(state, context)).instrument(span).await
    }

    /// Executes an asynchronous decision with these options, see [`Repository::decide`].
    ///
    /// # Errors
    ///
    /// As [`Repository::decide`].
    pub async fn decide<F, E, Q>(&self, id: &Q, decide: F) -> Result<Outcome<A>, ExecuteError<E>>
    where
        F: AsyncFn(&A, &Context<A>) -> Result<Events<A>, E>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let id = A::Id::id_from(id);
        let running = Running::new(self, &id, None)?;
        let span = running.report.span().clone();
        running.run_async(decide).instrument(span).await
    }

    /// Records events that were decided elsewhere.
    pub(crate) async fn record(
        &self,
        id: &A::Id,
        events: Events<A>,
    ) -> Result<Outcome<A>, ExecuteError<Infallible>> {
        let running = Running::new(self, id, None)?;
        let span = running.report.span().clone();
        running.run(|_, _| Ok(events.clone())).instrument(span).await
    }
}

impl<A: Aggregate> fmt::Debug for Request<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("repository", self.repository)
            .field("metadata", &self.metadata)
            .field("expected", &self.expected)
            .field("once", &self.once)
            .field("writes", &self.writes.is_some())
            .finish()
    }
}

/// Returns the name of a type without its path.
pub(super) fn short_name<T>() -> &'static str {
    let name = type_name::<T>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}

/// The name of a command type; `None` for decisions without one.
type CommandName = Option<fn() -> &'static str>;

/// Returns the name of a command in spans and in the log.
fn shown(name: CommandName) -> &'static str {
    name.map_or("decide", |name| name())
}

/// A command on one aggregate while it is executed.
struct Running<'r, A: Aggregate> {
    name: CommandName,
    execution: Execution<'r, Single<'r, A>>,
    report: Report,
}

impl<'r, A: Aggregate> Running<'r, A> {
    fn new<E>(
        request: &'r Request<'r, A>,
        id: &'r A::Id,
        name: CommandName,
    ) -> Result<Self, ExecuteError<E>> {
        let mut report = Report::command::<A>(id, || shown(name));
        match Self::execution(request, id, name) {
            Ok(execution) => Ok(Self { name, execution, report }),
            Err(error) => {
                let error: ExecuteError<E> = error.into();
                error.log(&format_args!("{}#{id}", A::NAME), shown(name), 0);
                report.end(error.outcome(), Numbers::default());
                Err(error)
            }
        }
    }

    fn execution(
        request: &'r Request<'r, A>,
        id: &'r A::Id,
        name: CommandName,
    ) -> Result<Execution<'r, Single<'r, A>>, StoreError> {
        let (inner, stream) = (&request.repository.inner, StreamId::new(A::NAME, id)?);
        let idempotency = match &request.once {
            None => None,
            Some(once) => {
                let fingerprint = request.fingerprint.clone().or_else(|| name.map(|name| name().to_owned()));
                Some(Idempotency::new(once, Some(stream.clone()), fingerprint)?)
            }
        };
        let deadline = Deadline::after(request.deadline, &*inner.clock);
        let participant = Participant::new(Arc::clone(inner), stream, deadline);
        let single = Single { request, id, participant };
        Ok(Execution::new(single, &*inner.store, inner.retrying(deadline), idempotency))
    }

    /// Executes a command that is decided synchronously.
    async fn run<E>(
        mut self,
        decide: impl Fn(&A, &Context<A>) -> Result<Events<A>, E>,
    ) -> Result<Outcome<A>, ExecuteError<E>> {
        let mut next = self.execution.begin().await;
        loop {
            match next {
                Ok(Next::Decide) => {
                    let single = &mut self.execution.participants;
                    let decided = match single.context() {
                        Ok(context) => single.accept(decide(single.participant.state(), &context), &context),
                        Err(error) => Err(error),
                    };
                    next = self.execution.conclude(decided).await;
                }
                Ok(Next::Done(done)) => return self.finish(Ok(done)),
                Err(error) => return self.finish(Err(error)),
            }
        }
    }

    /// Executes a command that is decided asynchronously.
    async fn run_async<F, E>(mut self, decide: F) -> Result<Outcome<A>, ExecuteError<E>>
    where
        F: AsyncFn(&A, &Context<A>) -> Result<Events<A>, E>,
    {
        let mut next = self.execution.begin().await;
        loop {
            match next {
                Ok(Next::Decide) => {
                    let single = &mut self.execution.participants;
                    let decided = match single.context() {
                        Ok(context) => {
                            let decision = decide(single.participant.state(), &context).await;
                            single.accept(decision, &context)
                        }
                        Err(error) => Err(error),
                    };
                    next = self.execution.conclude(decided).await;
                }
                Ok(Next::Done(done)) => return self.finish(Ok(done)),
                Err(error) => return self.finish(Err(error)),
            }
        }
    }

    /// Reports how the command ended, and returns its outcome.
    fn finish<E>(
        self,
        result: Result<Done<Box<Outcome<A>>>, ExecuteError<E>>,
    ) -> Result<Outcome<A>, ExecuteError<E>> {
        let Self { name, execution, mut report } = self;
        let (attempts, mut participant) = (execution.attempts, execution.participants.participant);
        let cost = execution.cost + participant.cost();
        let mut numbers = Numbers { attempts, version: participant.version(), events: 0, cost };
        let (label, outcome) = match result {
            Ok(Done::Now) => {
                let label = if participant.append().is_some() { "accepted" } else { "nothing" };
                participant.recorded();
                (label, participant.into_outcome(attempts, cost))
            }
            Ok(Done::Before(outcome)) => ("repeated", Outcome { attempts, cost, ..*outcome }),
            Err(error) => {
                error.log(participant.stream(), shown(name), attempts);
                report.end(error.outcome(), numbers);
                return Err(error);
            }
        };
        (numbers.version, numbers.events) = (outcome.version, outcome.events.len());
        report.end(label, numbers);
        Ok(outcome)
    }
}

/// The one aggregate of a request.
struct Single<'r, A: Aggregate> {
    request: &'r Request<'r, A>,
    id: &'r A::Id,
    participant: Participant<A>,
}

impl<A: Aggregate> Single<'_, A> {
    /// Returns the context of the decision, if the aggregate is at the expected version.
    fn context<E>(&mut self) -> Result<Context<A>, ExecuteError<E>> {
        self.participant.start_decision();
        self.participant.check(self.request.expected)?;
        Ok(self.participant.context(self.id, &self.request.metadata)?)
    }

    fn accept<E>(
        &mut self,
        decision: Result<Events<A>, E>,
        context: &Context<A>,
    ) -> Result<(), ExecuteError<E>> {
        self.participant.add(decision.map_err(ExecuteError::Rejected)?)?;
        self.participant.finish_decision(context);
        Ok(())
    }
}

impl<A: Aggregate> Participants for Single<'_, A> {
    type Outcome = Box<Outcome<A>>;

    async fn load(&mut self) -> Result<(), StoreError> {
        self.participant.load().await
    }

    async fn refresh(&mut self) -> Result<bool, StoreError> {
        self.participant.refresh().await
    }

    fn follow(&mut self, _: &StreamId, commits: &[Commit]) -> bool {
        self.participant.follow(commits)
    }

    fn are_fresh(&self) -> bool {
        self.participant.is_fresh()
    }

    fn creates(&self, _: &StreamId) -> bool {
        self.participant.creates()
    }

    fn is_noop(&self) -> bool {
        self.participant.append().is_none()
    }

    fn only_append(&self) -> Option<&Append> {
        let is_alone = self.request.writes.is_none() && !self.participant.has_claims();
        self.participant.append().filter(|_| is_alone)
    }

    fn write_set(&mut self) -> Result<WriteSet, StoreError> {
        if self.is_noop() {
            return Ok(WriteSet::new());
        }
        let set = self.participant.add_to(WriteSet::new())?;
        let Some(make) = &self.request.writes else { return Ok(set) };
        self.participant.apply_ahead();
        Ok(set.with_additional(self.participant.additional_writes(self.id, make)))
    }

    fn ranges(&self) -> Vec<EventRange> {
        vec![self.participant.range()]
    }

    fn new_id(&self) -> Uuid {
        self.request.repository.inner.ids.new_id()
    }

    async fn first_outcome(
        &mut self,
        record: &IdempotencyRecord,
    ) -> Result<Option<Box<Outcome<A>>>, StoreError> {
        let stream = self.participant.stream();
        match record.range_of(stream) {
            Some(range) => Ok(Some(Box::new(self.participant.first_outcome(range).await?))),
            None => {
                Err(StoreError::corrupt(stream, "one of its idempotency records refers to another stream"))
            }
        }
    }
}
