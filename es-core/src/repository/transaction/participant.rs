//! One aggregate's part in a transaction.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::cost::Cost;
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::joining::{Decided, Joining};
use crate::repository::report::{Numbers, Report};
use crate::repository::retry::RetryTokens;
use crate::repository::subject::Subject;
use crate::repository::{Inner, Outcome};
use crate::store::{Append, ClaimChange, Conflict, JoinedWrite, MarkerRead, OnceKey, Place, StoreError};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

pub(super) type Rejected = Box<dyn Error + Send + Sync>;

/// Decides a command on a state.
pub(super) type Decide<A> = Box<dyn Fn(&A, &Context<A>) -> Result<Events<A>, Rejected> + Send + Sync>;

/// A command of a transaction.
pub(super) struct PartCommand<A: Aggregate> {
    pub(super) name: &'static str,
    pub(super) decide: Decide<A>,
}

/// An [`Outcome`], of whatever aggregate.
pub(super) type AnyOutcome = Box<dyn Any + Send + Sync>;

/// Why commands are not decided.
pub(super) enum Undecided {
    Rejected(Rejected),
    Outdated(Conflict),
    Failed(StoreError),
}

/// One aggregate's part in a transaction, whatever its type.
pub(super) trait Participant: Any + Send + Sync {
    fn stream(&self) -> &StreamId;
    /// Whether it has no commands.
    fn is_idle(&self) -> bool;
    /// The names of its commands, in their order.
    fn commands(&self) -> Vec<&'static str>;
    /// Starts the spans of its commands, and gives it until `limit` from now.
    fn begin(&mut self, limit: Option<Duration>);
    /// The retries that its repository may make.
    fn tokens(&self) -> Arc<RetryTokens>;
    fn load(&mut self) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Brings the state up to date; says whether it has changed.
    fn refresh(&mut self) -> BoxFuture<'_, Result<bool, StoreError>>;
    fn is_fresh(&self) -> bool;
    /// The version of the state that was decided on.
    fn version(&self) -> Version;
    /// What its reads cost.
    fn cost(&self) -> Cost;
    fn decide(&mut self, metadata: &Arc<Metadata>) -> Result<(), Undecided>;
    /// The commit that the decision leads to.
    fn append(&self) -> Option<&Append>;
    fn claims(&self) -> &[ClaimChange];
    fn joined(&self) -> Vec<JoinedWrite>;
    /// Records in the spans of its commands how they ended.
    fn report(&mut self, outcome: &str);
    /// Goes on to the state after the commit, which is recorded.
    fn recorded(self: Box<Self>) -> Option<AnyOutcome>;
    fn marker(&self, key: OnceKey) -> BoxFuture<'_, Result<MarkerRead, StoreError>>;
    fn first_outcome<'s>(
        &'s mut self,
        place: &'s Place,
    ) -> BoxFuture<'s, Result<Option<AnyOutcome>, StoreError>>;
}

/// One aggregate's part in a transaction.
pub(super) struct Party<A: Aggregate> {
    inner: Arc<Inner<A>>,
    id: A::Id,
    stream: StreamId,
    expected: ExpectedVersion,
    commands: Vec<PartCommand<A>>,
    /// The spans of the commands, and how many events each of them led to.
    reports: Vec<(Report, usize)>,
    joining: Vec<Joining<'static, A>>,
    /// There from the beginning of the commit on.
    subject: Option<Subject<A>>,
    decision: Decision<A>,
}

/// What was decided last.
struct Decision<A: Aggregate> {
    append: Option<Append>,
    events: Vec<A::Event>,
    claims: Vec<ClaimChange>,
}

impl<A: Aggregate> Decision<A> {
    fn none() -> Self {
        Self { append: None, events: Vec::new(), claims: Vec::new() }
    }
}

impl<A: Aggregate> Party<A> {
    pub(super) fn new(inner: Arc<Inner<A>>, id: A::Id, stream: StreamId) -> Self {
        Self {
            inner,
            id,
            stream,
            expected: ExpectedVersion::Any,
            commands: Vec::new(),
            reports: Vec::new(),
            joining: Vec::new(),
            subject: None,
            decision: Decision::none(),
        }
    }

    pub(super) fn expect(&mut self, version: ExpectedVersion) {
        self.expected = version;
    }

    pub(super) fn add(&mut self, command: PartCommand<A>) {
        self.commands.push(command);
    }

    pub(super) fn join(&mut self, join: Joining<'static, A>) {
        self.joining.push(join);
    }

    fn outcome(state: A, version: Version, decision: Decision<A>) -> Outcome<A> {
        Outcome {
            state,
            version,
            events: decision.events,
            commit: decision.append.map(|append| append.commit().id),
            repeated: false,
            attempts: 1,
            cost: Cost::ZERO,
        }
    }
}

/// Decides all commands of a party, each on the state after the one before.
fn decide_all<A: Aggregate>(
    subject: &mut Subject<A>,
    id: &A::Id,
    commands: &[PartCommand<A>],
    reports: &mut [(Report, usize)],
    state_is_seen: bool,
    metadata: &Arc<Metadata>,
) -> Result<Decision<A>, Undecided> {
    let first = subject.context(id, metadata).map_err(Undecided::Failed)?;
    let mut decision = Decision::none();
    let mut data = Vec::new();
    for (command, (report, events_of_it)) in commands.iter().zip(reports) {
        let context = subject.context(id, metadata).map_err(Undecided::Failed)?;
        let decided = report.span().in_scope(|| (command.decide)(subject.state(), &context));
        let prepared = subject.prepare(decided.map_err(Undecided::Rejected)?).map_err(Undecided::Failed)?;
        *events_of_it = prepared.events.len();
        // One command whose state nobody else sees is applied when it is recorded, as without a transaction.
        if state_is_seen || commands.len() > 1 {
            subject.apply_ahead(&prepared.events, prepared.data.len());
        }
        data.extend(prepared.data);
        decision.events.extend(prepared.events);
        decision.claims.extend(prepared.claims);
    }
    if !data.is_empty() {
        decision.append = Some(subject.append(data, &first));
    }
    Ok(decision)
}

impl<A: Aggregate> Participant for Party<A> {
    fn stream(&self) -> &StreamId {
        &self.stream
    }

    fn is_idle(&self) -> bool {
        self.commands.is_empty()
    }

    fn commands(&self) -> Vec<&'static str> {
        self.commands.iter().map(|command| command.name).collect()
    }

    fn begin(&mut self, limit: Option<Duration>) {
        let names = self.commands.iter().map(|command| command.name);
        self.reports = names.map(|name| (Report::part::<A>(&self.id, name), 0)).collect();
        self.subject = Some(Subject::new(Arc::clone(&self.inner), self.stream.clone(), limit));
    }

    fn tokens(&self) -> Arc<RetryTokens> {
        Arc::clone(&self.inner.tokens)
    }

    fn load(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            match &mut self.subject {
                Some(subject) => subject.load().await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn refresh(&mut self) -> BoxFuture<'_, Result<bool, StoreError>> {
        async {
            match &mut self.subject {
                Some(subject) => subject.refresh().await,
                None => Ok(false),
            }
        }
        .boxed()
    }

    fn is_fresh(&self) -> bool {
        self.subject.as_ref().is_some_and(Subject::is_fresh)
    }

    fn version(&self) -> Version {
        self.subject.as_ref().map_or(Version::NONE, Subject::version)
    }

    fn cost(&self) -> Cost {
        self.subject.as_ref().map_or(Cost::ZERO, Subject::cost)
    }

    fn decide(&mut self, metadata: &Arc<Metadata>) -> Result<(), Undecided> {
        let Some(subject) = &mut self.subject else { return Ok(()) };
        if !self.expected.allows(subject.version()) {
            let (stream, version) = (self.stream.clone(), subject.version());
            let conflict = Conflict::new(stream, self.expected, Some(version), subject.cost());
            return Err(Undecided::Outdated(conflict));
        }
        let state_is_seen = !self.joining.is_empty();
        let (commands, reports) = (&self.commands, &mut self.reports);
        self.decision = decide_all(subject, &self.id, commands, reports, state_is_seen, metadata)?;
        Ok(())
    }

    fn append(&self) -> Option<&Append> {
        self.decision.append.as_ref()
    }

    fn claims(&self) -> &[ClaimChange] {
        &self.decision.claims
    }

    fn joined(&self) -> Vec<JoinedWrite> {
        let (Some(subject), Some(append)) = (&self.subject, &self.decision.append) else {
            return Vec::new();
        };
        let decided = Decided {
            id: &self.id,
            state: subject.state(),
            version: subject.version().plus(append.commit().events.len() as u64),
            events: &self.decision.events,
        };
        self.joining.iter().flat_map(|join| join(&decided)).collect()
    }

    fn report(&mut self, outcome: &str) {
        let mut version = self.version();
        if outcome == "accepted" {
            version = version.plus(self.append().map_or(0, |append| append.commit().events.len() as u64));
        }
        for (report, events) in &mut self.reports {
            let events = if outcome == "accepted" { *events } else { 0 };
            report.end(outcome, Numbers { version, events, ..Numbers::default() });
        }
    }

    fn recorded(self: Box<Self>) -> Option<AnyOutcome> {
        let Self { subject, decision, .. } = *self;
        let mut subject = subject?;
        if let Some(append) = &decision.append {
            let last = subject.version().plus(append.commit().events.len() as u64);
            subject.recorded(append, &decision.events, last);
        }
        let version = subject.version();
        Some(Box::new(Self::outcome(subject.into_state(), version, decision)))
    }

    fn marker(&self, key: OnceKey) -> BoxFuture<'_, Result<MarkerRead, StoreError>> {
        async move {
            match &self.subject {
                Some(subject) => subject.marker(&key).await,
                None => Ok(MarkerRead::new(None, Cost::ZERO)),
            }
        }
        .boxed()
    }

    fn first_outcome<'s>(
        &'s mut self,
        place: &'s Place,
    ) -> BoxFuture<'s, Result<Option<AnyOutcome>, StoreError>> {
        async {
            let Some(subject) = &mut self.subject else { return Ok(None) };
            let mut outcome = subject.first_outcome(place).await?;
            subject.add_cost(std::mem::take(&mut outcome.cost));
            Ok(Some(Box::new(outcome) as AnyOutcome))
        }
        .boxed()
    }
}
