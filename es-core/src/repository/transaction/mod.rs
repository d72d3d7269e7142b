//! Atomic execution of commands on several aggregates.

mod party;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::aggregate::{Aggregate, IdFrom};
use crate::clock::{Clock, SystemClock};
use crate::command::HandledBy;
use crate::cost::Cost;
use crate::keys::short_name;
use crate::metadata::Metadata;
use crate::repository::execution::{
    DEFAULT_RETENTION, Done, Execution, Idempotency, KeyOption, Next, Participants, digest,
};
use crate::repository::report::{Numbers, Report};
use crate::repository::request::{Decided, boxed};
use crate::repository::retry::{DEFAULT_DEADLINE, Deadline, Retrying};
use crate::repository::{ExecuteError, Outcome, Repository, RetryPolicy};
use crate::store::{AdditionalWrite, EventStore, StoreError};
use crate::stream_id::StreamId;
use crate::version::ExpectedVersion;
use party::{AnyOutcome, Parties, Party, PartyCommand};

/// The maximum length of a fingerprint that is stored without hashing, in bytes.
const MAX_FINGERPRINT_BYTES: usize = 256;

/// The error of a transaction that was not executed; nothing was recorded unless the outcome is unknown.
pub type TransactionError = ExecuteError<Rejection>;

/// Executes commands on several aggregates atomically. The aggregates may have different types. Their commands are
/// decided together, recorded together, and retried together after a conflict.
///
/// ```
/// # use es_core::prelude::*;
/// use es_core::{MemoryStore, Transaction};
/// # #[event] pub struct Moved { pub cents: i64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "account", id = String, events(Moved))]
/// # pub struct Account { balance: i64 }
/// # #[handlers]
/// # impl Account {
/// #     #[apply]
/// #     fn moved(&mut self, event: &Moved) { self.balance += event.cents; }
/// # }
/// # pub struct Move { pub cents: i64 }
/// # #[derive(Debug)] pub struct Overdrawn;
/// # impl std::fmt::Display for Overdrawn {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("too little") }
/// # }
/// # impl std::error::Error for Overdrawn {}
/// # #[handlers]
/// # impl Account {
/// #     #[handle]
/// #     fn move_cents(&self, command: &Move) -> Result<Moved, Overdrawn> {
/// #         if self.balance + command.cents < 0 { return Err(Overdrawn); }
/// #         Ok(Moved { cents: command.cents })
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let accounts: Repository<Account> = Repository::new(store.clone());
/// let (ann, bob) = ("ann".to_owned(), "bob".to_owned());
/// accounts.execute(&ann, Move { cents: 500 }).await?;
///
/// let done = Transaction::new(&store)
///     .execute(&accounts, &ann, Move { cents: -300 })
///     .execute(&accounts, &bob, Move { cents: 300 })
///     .commit()
///     .await?;
/// assert_eq!(done.outcome::<Account>(&bob).map(|outcome| outcome.state.balance), Some(300));
///
/// let error = Transaction::new(&store)
///     .execute(&accounts, &bob, Move { cents: 300 })
///     .execute(&accounts, &ann, Move { cents: -300 })
///     .commit()
///     .await
///     .unwrap_err();
/// assert_eq!(error.rejection().map(|rejection| rejection.stream().id()), Some("ann"));
/// assert_eq!(accounts.load(&bob).await?.state.balance, 300);
/// # Ok(())
/// # }
/// ```
///
/// Several commands on one aggregate are decided in order, each on the state after the previous command, and recorded
/// as one commit. An aggregate whose commands have nothing to do is part of the transaction, too: the transaction is
/// recorded only if that aggregate has not changed.
///
/// On DynamoDB, this is one `TransactWriteItems`: up to 100 items and 4 MB, at twice the write units. The repositories
/// must use the same store as the transaction: create them from clones of one handle.
#[must_use = "a transaction does nothing until `commit` is called"]
pub struct Transaction {
    store: Arc<dyn EventStore>,
    parties: Parties,
    metadata: Arc<Metadata>,
    retry: RetryPolicy,
    deadline: Option<Duration>,
    clock: Arc<dyn Clock>,
    once: Option<KeyOption>,
    fingerprint: Option<String>,
    /// The first invalid argument, reported by `commit`.
    invalid: Option<StoreError>,
}

impl Transaction {
    /// Returns a transaction on `store` without commands.
    pub fn new(store: &(impl EventStore + Clone)) -> Self {
        Self {
            store: Arc::new(store.clone()),
            parties: Parties { all: Vec::new(), writes: Vec::new() },
            metadata: Arc::default(),
            retry: RetryPolicy::default(),
            deadline: Some(DEFAULT_DEADLINE),
            clock: Arc::new(SystemClock),
            once: None,
            fingerprint: None,
            invalid: None,
        }
    }

    /// Adds `command` for the aggregate `id`.
    pub fn execute<A, C, Q>(mut self, repository: &Repository<A>, id: &Q, command: C) -> Self
    where
        A: Aggregate,
        C: HandledBy<A> + Send + Sync + 'static,
        C::Error: Into<Box<dyn Error + Send + Sync>>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        if let Some(party) = self.party(repository, &A::Id::id_from(id)) {
            party.add(PartyCommand {
                name: short_name::<C>(),
                decide: Box::new(move |state, context| {
                    command.handled_by(state, context).map_err(Into::into)
                }),
            });
        }
        self
    }

    /// Adds `command`, which creates the aggregate `id`: see [`Repository::create`]. The aggregate is not loaded, and
    /// the transaction fails with [`ExecuteError::AlreadyExists`] if it exists. This applies to all commands on the
    /// aggregate in the transaction; they are decided in order as usual.
    pub fn create<A, C, Q>(mut self, repository: &Repository<A>, id: &Q, command: C) -> Self
    where
        A: Aggregate,
        C: HandledBy<A> + Send + Sync + 'static,
        C::Error: Into<Box<dyn Error + Send + Sync>>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        if let Some(party) = self.party(repository, &A::Id::id_from(id)) {
            party.create();
        }
        self.execute(repository, id, command)
    }

    /// Executes the transaction only if the aggregate `id` is at the given version. The aggregate must have a command
    /// in the transaction. See [`Request::expected_version`](crate::repository::Request::expected_version).
    pub fn expected_version<A: Aggregate, Q>(
        mut self,
        repository: &Repository<A>,
        id: &Q,
        version: ExpectedVersion,
    ) -> Self
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        if let Some(party) = self.party(repository, &A::Id::id_from(id)) {
            party.expect(version);
        }
        self
    }

    /// Adds writes that `make` creates from the decision for the aggregate `id`. The aggregate must have a command in
    /// the transaction. See [`Request::with_writes`](crate::repository::Request::with_writes).
    pub fn with_writes<A, F, I, Q>(mut self, repository: &Repository<A>, id: &Q, make: F) -> Self
    where
        A: Aggregate,
        F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: Send + Sync + 'static,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        if let Some(party) = self.party(repository, &A::Id::id_from(id)) {
            party.add_writes(boxed(make));
        }
        self
    }

    /// Adds a write to the transaction: see [`AdditionalWrite`].
    pub fn with_write(mut self, write: impl Send + Sync + 'static) -> Self {
        self.parties.writes.push(AdditionalWrite::new(write));
        self
    }

    /// Sets the metadata of all commits.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Arc::new(metadata);
        self
    }

    /// Sets an idempotency key: repeated calls with this `key` execute the transaction once. See
    /// [`Request::once`](crate::repository::Request::once).
    ///
    /// The key must be unique among all transactions on the store.
    #[doc(alias = "idempotency key")]
    pub fn once(self, key: impl Into<String>) -> Self {
        self.once_for(DEFAULT_RETENTION, key)
    }

    /// Sets an [idempotency key](Self::once) that is remembered for `retention`, in whole seconds.
    pub fn once_for(mut self, retention: Duration, key: impl Into<String>) -> Self {
        self.once = Some(KeyOption { key: key.into(), retention });
        self
    }

    /// Sets the fingerprint that identifies the transaction under its key (default: the names of its commands): see
    /// [`Request::fingerprint`](crate::repository::Request::fingerprint). A repetition must also have the same
    /// aggregates.
    pub fn fingerprint(mut self, content: impl AsRef<[u8]>) -> Self {
        self.fingerprint = Some(digest(content.as_ref()));
        self
    }

    /// Sets the clock for retries and for the expiry of keys (default: [`SystemClock`]). Decisions use the clocks of
    /// their repositories.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets how often and how fast to retry. Retries of requests are charged to the
    /// [budgets](crate::repository::RetryBudget) of the repositories: retries of the write to the budget of the first
    /// one.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets how long the transaction may take (default: 30 seconds): see
    /// [`RepositoryBuilder::deadline`](crate::repository::RepositoryBuilder::deadline).
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Removes the deadline: the transaction may take as long as its retries last.
    pub fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// Decides all commands, and records their events.
    ///
    /// The future may be dropped at any time. Either all events are recorded then, or none.
    ///
    /// # Errors
    ///
    /// As [`Repository::execute`]. A [`Rejection`] names the aggregate that rejected its command.
    /// [`StoreError::Invalid`] if there are no commands, or if a repository uses another store.
    pub async fn commit(self) -> Result<Committed, TransactionError> {
        let mut report = Report::transaction(self.parties.all.len());
        let span = report.span().clone();
        async { self.run(&mut report).await }.instrument(span).await
    }

    async fn run(mut self, report: &mut Report) -> Result<Committed, TransactionError> {
        let idempotency = match self.validated() {
            Ok(idempotency) => idempotency,
            Err(error) => return Err(failed(&mut self.parties, error.into(), 0, report, Numbers::default())),
        };
        let Self { store, mut parties, metadata, retry: policy, deadline: limit, clock, .. } = self;
        parties.all.iter_mut().for_each(|party| party.begin(limit));
        let tokens = parties.all[0].tokens();
        let retrying =
            Retrying { clock: &*clock, policy, tokens: &tokens, deadline: Deadline::after(limit, &*clock) };
        let mut execution = Execution::new(parties, &*store, retrying, idempotency);

        let mut next = execution.begin().await;
        let result = loop {
            match next {
                Ok(Next::Decide) => {
                    let decided = execution.participants.decide(&metadata);
                    next = execution.conclude(decided).await;
                }
                Ok(Next::Done(Done::Now)) => {
                    let checked = execution.participants.check_writes();
                    break checked.map(|()| Done::Now).map_err(ExecuteError::Store);
                }
                Ok(Next::Done(done)) => break Ok(done),
                Err(error) => break Err(error),
            }
        };

        let Execution { participants: mut parties, attempts, cost, .. } = execution;
        let cost = cost + parties.all.iter().map(|party| party.cost()).sum();
        let mut numbers = Numbers { attempts, cost, ..Numbers::default() };
        let done = match result {
            Ok(done) => done,
            Err(error) => return Err(failed(&mut parties, error, attempts, report, numbers)),
        };
        let outcome = match done {
            Done::Before(_) => "repeated",
            Done::Now if parties.is_noop() => "nothing",
            Done::Now => "accepted",
        };
        parties.all.iter_mut().for_each(|party| party.report(outcome));
        let repeated = matches!(done, Done::Before(_));
        let outcomes = match done {
            Done::Before(outcomes) => outcomes,
            Done::Now => {
                let appends = parties.all.iter().filter_map(|party| party.append());
                numbers.events = appends.map(|append| append.events() as usize).sum();
                parties.all.into_iter().map(|party| (party.stream().clone(), party.recorded())).collect()
            }
        };
        report.end(outcome, numbers);
        Ok(Committed { attempts, cost, repeated, outcomes })
    }

    /// Returns the idempotency key of the transaction, if it has one and is valid.
    fn validated(&mut self) -> Result<Option<Idempotency>, StoreError> {
        if let Some(error) = self.invalid.take() {
            return Err(error);
        }
        if self.parties.all.is_empty() {
            return Err(StoreError::invalid("the transaction has no commands: add one with `execute`"));
        }
        if let Some(idle) = self.parties.all.iter().find(|party| party.commands().is_empty()) {
            let reason = format!("the transaction has options for `{}`, but no command", idle.stream());
            return Err(StoreError::invalid(reason));
        }
        match &self.once {
            Some(once) => Idempotency::new(once, None, Some(self.identity())).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the fingerprint of the transaction: the caller's, or the names of its commands. The fingerprint does not
    /// contain the aggregates, because the idempotency record contains their streams.
    fn identity(&self) -> String {
        if let Some(fingerprint) = &self.fingerprint {
            return fingerprint.clone();
        }
        let mut parties: Vec<_> = self.parties.all.iter().collect();
        parties.sort_by_key(|party| party.stream());
        let names = parties.iter().flat_map(|party| party.commands()).collect::<Vec<_>>().join(", ");
        if names.len() <= MAX_FINGERPRINT_BYTES { names } else { digest(names.as_bytes()) }
    }

    /// Returns the party of the aggregate `id`, which is added if it is missing.
    fn party<A: Aggregate>(&mut self, repository: &Repository<A>, id: &A::Id) -> Option<&mut Party<A>> {
        let stream = match StreamId::new(A::NAME, id) {
            Ok(stream) => stream,
            Err(error) => {
                self.invalid.get_or_insert(error.into());
                return None;
            }
        };
        if repository.inner.store.identity() != self.store.identity() {
            self.invalid.get_or_insert(StoreError::invalid(format!(
                "the repository of `{stream}` is on another store than the transaction: make both from clones of one"
            )));
            return None;
        }
        let parties = &mut self.parties.all;
        let index = match parties.iter().position(|known| *known.stream() == stream) {
            Some(index) => index,
            None => {
                let party: Party<A> = Party::new(Arc::clone(&repository.inner), id.clone(), stream);
                parties.push(Box::new(party));
                parties.len() - 1
            }
        };
        let party: &mut dyn Any = parties[index].as_mut();
        let party = party.downcast_mut();
        if party.is_none() {
            let reason = format!("two types of aggregates have the name `{}`", A::NAME);
            self.invalid.get_or_insert(StoreError::invalid(reason));
        }
        party
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self.parties.all.iter().map(|party| party.stream()).collect();
        f.debug_struct("Transaction")
            .field("store", &self.store)
            .field("streams", &streams)
            .finish_non_exhaustive()
    }
}

/// Records the failure in the spans and in the log, and returns the error.
fn failed(
    parties: &mut Parties,
    error: TransactionError,
    attempts: u32,
    report: &mut Report,
    numbers: Numbers,
) -> TransactionError {
    let rejected = error.rejection().map(Rejection::stream);
    for party in &mut parties.all {
        let is_cause = rejected.is_none_or(|stream| stream == party.stream());
        party.report(if is_cause { error.outcome() } else { "not recorded" });
    }
    let streams = parties.all.iter().map(|party| party.stream().as_str()).collect::<Vec<_>>().join(", ");
    let commands = parties.all.iter().flat_map(|party| party.commands()).collect::<Vec<_>>().join(", ");
    error.log(&streams, &commands, attempts);
    report.end(error.outcome(), numbers);
    error
}

/// The result of a transaction that was executed.
#[non_exhaustive]
pub struct Committed {
    /// The number of times the transaction was decided: more than one after conflicts.
    pub attempts: u32,
    /// The total cost of all attempts.
    pub cost: Cost,
    /// Whether these are the outcomes of an earlier execution under the same idempotency key.
    pub repeated: bool,
    outcomes: Vec<(StreamId, AnyOutcome)>,
}

impl Committed {
    /// Returns the outcome of the aggregate `id`: its state, and the events of all its commands. `None` if the
    /// aggregate is not part of the transaction.
    ///
    /// The attempts and the cost are those of the whole transaction, because they are not known for each aggregate.
    #[must_use]
    pub fn outcome<A: Aggregate>(&self, id: &A::Id) -> Option<&Outcome<A>> {
        let stream = StreamId::new(A::NAME, id).ok()?;
        let (_, outcome) = self.outcomes.iter().find(|(known, _)| *known == stream)?;
        outcome.downcast_ref()
    }

    /// Removes and returns the [outcome](Self::outcome) of the aggregate `id`.
    pub fn take_outcome<A: Aggregate>(&mut self, id: &A::Id) -> Option<Outcome<A>> {
        let stream = StreamId::new(A::NAME, id).ok()?;
        let is_it =
            |(known, outcome): &(StreamId, AnyOutcome)| *known == stream && outcome.is::<Outcome<A>>();
        let index = self.outcomes.iter().position(is_it)?;
        let (_, outcome) = self.outcomes.remove(index);
        outcome.downcast().ok().map(|outcome| *outcome)
    }

    /// Returns the streams of the aggregates, in the order of their first commands.
    pub fn streams(&self) -> impl Iterator<Item = &StreamId> {
        self.outcomes.iter().map(|(stream, _)| stream)
    }
}

impl fmt::Debug for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self.streams().collect();
        f.debug_struct("Committed")
            .field("streams", &streams)
            .field("attempts", &self.attempts)
            .field("cost", &self.cost)
            .field("repeated", &self.repeated)
            .finish()
    }
}

/// The rejection of one command of a transaction. Its text contains the stream and the domain's error.
#[derive(Debug)]
pub struct Rejection {
    stream: StreamId,
    error: Box<dyn Error + Send + Sync>,
}

impl Rejection {
    fn new(stream: StreamId, error: Box<dyn Error + Send + Sync>) -> Self {
        Self { stream, error }
    }

    /// Returns the stream of the aggregate that rejected its command.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Returns the domain's error if it is of the type `E`.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.stream, self.error)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}
