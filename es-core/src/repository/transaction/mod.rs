//! Commands on several aggregates, carried out as one.

mod committed;
mod participant;
mod run;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

pub use committed::{Committed, Rejection};

use crate::aggregate::Aggregate;
use crate::clock::{Clock, SystemClock};
use crate::command::HandledBy;
use crate::metadata::Metadata;
use crate::repository::joining::{self, Decided, OnceRequest, USUAL_RETENTION};
use crate::repository::report::Report;
use crate::repository::request::short_name;
use crate::repository::retrying::DEFAULT_DEADLINE;
use crate::repository::{ExecuteError, Repository, RetryPolicy};
use crate::store::{EventStore, JoinedWrite, StoreError};
use crate::stream_id::StreamId;
use crate::version::ExpectedVersion;
use participant::{PartCommand, Participant, Party};

/// Why a transaction was not carried out; none of it was.
pub type TransactionError = ExecuteError<Rejection>;

/// Commands on several aggregates, of different types too, that are carried out as one: decided together,
/// recorded together, and tried again together when another writer comes first.
///
/// ```
/// # use es_core::prelude::*;
/// use es_core::{MemoryStore, Transaction};
/// # #[event] pub struct Moved { pub cents: i64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "account", id = String, events(Moved))]
/// # pub struct Account { balance: i64 }
/// # impl Apply<Moved> for Account { fn apply(&mut self, event: &Moved) { self.balance += event.cents; } }
/// # pub struct Move { pub cents: i64 }
/// # #[derive(Debug)] pub struct Overdrawn;
/// # impl std::fmt::Display for Overdrawn {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("too little") }
/// # }
/// # impl std::error::Error for Overdrawn {}
/// # impl Handle<Move> for Account {
/// #     type Error = Overdrawn;
/// #     fn handle(&self, command: &Move, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
/// #         if self.balance + command.cents < 0 { return Err(Overdrawn); }
/// #         Ok(Moved { cents: command.cents }.into())
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
/// Several commands for one aggregate are decided one after the other, each on the state after the one
/// before, and recorded as one commit. A command that has nothing to do takes part, too: the transaction is
/// recorded only if what it has seen is still so.
///
/// On DynamoDB it is one `TransactWriteItems`: up to 100 items and 4 MB, at twice the write units. Its
/// repositories have to be on the same store as the transaction, made from clones of one handle.
#[must_use = "a transaction does nothing until `commit` is called"]
pub struct Transaction {
    store: Arc<dyn EventStore>,
    participants: Vec<Box<dyn Participant>>,
    metadata: Arc<Metadata>,
    retry: RetryPolicy,
    deadline: Option<Duration>,
    clock: Arc<dyn Clock>,
    once: Option<OnceRequest>,
    fingerprint: Option<String>,
    joined: Vec<JoinedWrite>,
    /// What was wrong with a part of it.
    invalid: Option<StoreError>,
}

impl Transaction {
    /// A transaction on `store`, without commands.
    pub fn new(store: &(impl EventStore + Clone)) -> Self {
        Self {
            store: Arc::new(store.clone()),
            participants: Vec::new(),
            metadata: Arc::default(),
            retry: RetryPolicy::default(),
            deadline: Some(DEFAULT_DEADLINE),
            clock: Arc::new(SystemClock),
            once: None,
            fingerprint: None,
            joined: Vec::new(),
            invalid: None,
        }
    }

    /// Adds `command` for the aggregate `id`.
    pub fn execute<A, C>(mut self, repository: &Repository<A>, id: &A::Id, command: C) -> Self
    where
        A: Aggregate,
        C: HandledBy<A> + Send + Sync + 'static,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(party) = self.party(repository, id) {
            party.add(PartCommand {
                name: short_name::<C>(),
                decide: Box::new(move |state, context| {
                    command.handled_by(state, context).map_err(Into::into)
                }),
            });
        }
        self
    }

    /// Carries the transaction out only when the aggregate `id`, which has to have a command, is at the version
    /// that the caller has seen: see [`Request::expecting`](crate::Request::expecting).
    pub fn expecting<A: Aggregate>(
        mut self,
        repository: &Repository<A>,
        id: &A::Id,
        version: ExpectedVersion,
    ) -> Self {
        if let Some(party) = self.party(repository, id) {
            party.expect(version);
        }
        self
    }

    /// Adds writes of the caller's own that are made of what was decided for the aggregate `id`, which has to
    /// have a command: see [`Request::joining`](crate::Request::joining).
    pub fn joining<A, F, I>(mut self, repository: &Repository<A>, id: &A::Id, join: F) -> Self
    where
        A: Aggregate,
        F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: Send + Sync + 'static,
    {
        if let Some(party) = self.party(repository, id) {
            party.join(joining::boxed(join));
        }
        self
    }

    /// Adds a write of the caller's own.
    pub fn join(mut self, write: impl Send + Sync + 'static) -> Self {
        self.joined.push(JoinedWrite::new(write));
        self
    }

    /// The metadata that all events record.
    pub fn with(mut self, metadata: Metadata) -> Self {
        self.metadata = Arc::new(metadata);
        self
    }

    /// Carries the transaction out once, however often it is asked for under this `key`: see
    /// [`Request::once`](crate::Request::once). The key belongs to all transactions on the store, so it has to
    /// be unique among them.
    pub fn once(self, key: impl Into<String>) -> Self {
        self.once_for(USUAL_RETENTION, key)
    }

    /// The same, remembered for `retention`, in whole seconds.
    pub fn once_for(mut self, retention: Duration, key: impl Into<String>) -> Self {
        self.once = Some(OnceRequest { key: key.into(), retention });
        self
    }

    /// Sets what identifies the transaction under its key, instead of its aggregates and the names of its commands:
    /// see [`Request::fingerprint`](crate::Request::fingerprint). The aggregates have to be the same in any case.
    pub fn fingerprint(mut self, content: impl AsRef<[u8]>) -> Self {
        self.fingerprint = Some(joining::digest(content.as_ref()));
        self
    }

    /// Where the time comes from, for waits and for keys that expire. Decisions take it from their repositories.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets how often and how fast to retry. Retries of requests are charged to the
    /// [budgets](crate::RetryBudget) of the repositories: those of the write to the first one's.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets how long the transaction may take (default: 30 seconds): see
    /// [`RepositoryBuilder::deadline`](crate::RepositoryBuilder::deadline).
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Lets the transaction take as long as its retries last.
    pub fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// Decides all commands, and records their events.
    ///
    /// The future may be dropped at any time. All is then recorded, or nothing.
    ///
    /// # Errors
    ///
    /// As [`Repository::execute`]; a [`Rejection`] tells which aggregate said no. [`StoreError::Invalid`] when
    /// there are no commands, or a repository is on another store.
    pub async fn commit(self) -> Result<Committed, TransactionError> {
        let mut report = Report::transaction(self.participants.len());
        let span = report.span().clone();
        async { self.run(&mut report).await }.instrument(span).await
    }

    /// The part that the aggregate `id` has in the transaction.
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
        let index = match self.participants.iter().position(|known| *known.stream() == stream) {
            Some(index) => index,
            None => {
                let party: Party<A> = Party::new(Arc::clone(&repository.inner), id.clone(), stream);
                self.participants.push(Box::new(party));
                self.participants.len() - 1
            }
        };
        let participant: &mut dyn Any = self.participants[index].as_mut();
        let party = participant.downcast_mut();
        if party.is_none() {
            let reason = format!("two types of aggregates have the name `{}`", A::NAME);
            self.invalid.get_or_insert(StoreError::invalid(reason));
        }
        party
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self.participants.iter().map(|participant| participant.stream()).collect();
        f.debug_struct("Transaction")
            .field("store", &self.store)
            .field("streams", &streams)
            .finish_non_exhaustive()
    }
}
