//! Commands on one aggregate while they are executed: alone, or together with others in a [lane](super::lanes).

use std::ops::ControlFlow;
use std::sync::Arc;

use tracing::Span;
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::events::Events;
use crate::repository::ExecuteError;
use crate::repository::execution::{Done, Execution, Idempotency, Next, Participants};
use crate::repository::lanes::{Ended, Entered, Lanes, Member};
use crate::repository::loading::Fold;
use crate::repository::participant::Participant;
use crate::repository::report::{Numbers, Report};
use crate::repository::request::{Outcome, Request};
use crate::repository::retry::Deadline;
use crate::store::{Append, Commit, EventRange, IdempotencyRecord, NewCommit, StoreError, WriteSet};
use crate::stream_id::StreamId;
use crate::version::ExpectedVersion;

/// How a command was executed, or why it failed.
type Ran<A, E> = Result<Done<Box<Outcome<A>>>, ExecuteError<E>>;

/// The name of a command type; `None` for decisions without one.
type CommandName = Option<fn() -> &'static str>;

/// Returns the name of a command in spans and in the log.
fn shown(name: CommandName) -> &'static str {
    name.map_or("decide", |name| name())
}

/// A command on one aggregate while it is executed.
///
/// The methods that execute it borrow it, because each future that owned it would have a copy of its memory.
pub(super) struct Running<'r, A: Aggregate> {
    name: CommandName,
    execution: Execution<'r, Single<'r, A>>,
    report: Report,
    /// The number of commits that were written together with that of this command.
    group: Option<usize>,
}

impl<'r, A: Aggregate> Running<'r, A> {
    pub(super) fn new<E>(
        request: &'r Request<'r, A>,
        id: &'r A::Id,
        name: CommandName,
    ) -> Result<Self, ExecuteError<E>> {
        let mut report = Report::command::<A>(id, || shown(name));
        match Self::execution(request, id, name) {
            Ok(execution) => Ok(Self { name, execution, report, group: None }),
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

    pub(super) fn span(&self) -> Span {
        self.report.span().clone()
    }

    /// Makes the command create the aggregate.
    pub(super) fn create(&mut self) {
        self.execution.participants.participant.create();
    }

    /// Executes a command that is decided synchronously, together with others on the same aggregate if there are any.
    pub(super) async fn run_with_others<E>(
        &mut self,
        decide: impl Fn(&A, &Context<A>) -> Result<Events<A>, E>,
    ) -> Ran<A, E> {
        if let Some(member) = self.enter() {
            // Boxed, to keep the future of a command without others small.
            if let ControlFlow::Break(result) = Box::pin(self.run_as_member(member, &decide)).await {
                return result;
            }
            // The state may have events that were never recorded.
            self.execution.participants.participant.continue_from(Fold::new());
        }
        self.run(decide).await
    }

    /// Enters the lane of the aggregate. Returns `None` if the command is executed alone.
    fn enter(&mut self) -> Option<Member<A>> {
        let Single { request, participant, .. } = &mut self.execution.participants;
        let needs_own_write =
            request.once.is_some() || request.writes.is_some() || request.expected != ExpectedVersion::Any;
        if needs_own_write {
            return None;
        }
        match Lanes::enter(&request.repository.inner, participant.stream(), participant.deadline) {
            Entered::Member(member) => return Some(member),
            Entered::Head(head) => participant.lead(head),
            Entered::Alone => {}
        }
        None
    }

    /// Executes a command as a member of a lane, unless it must be executed alone.
    async fn run_as_member<E>(
        &mut self,
        member: Member<A>,
        decide: &impl Fn(&A, &Context<A>) -> Result<Events<A>, E>,
    ) -> ControlFlow<Ran<A, E>> {
        let mut decisions = 0;
        loop {
            self.execution.attempts = decisions + 1;
            let (mut refusal, mut shared) = (None, None);
            let ended = match member.turn().await {
                Err(ended) => ended,
                Ok(turn) => {
                    let Some(state) = turn.state() else { return ControlFlow::Continue(()) };
                    decisions += 1;
                    let single = &mut self.execution.participants;
                    let counts = match single.decide(state, decide) {
                        Ok(_) if single.participant.has_claims() => return ControlFlow::Continue(()),
                        Ok(Some((commit, after))) => {
                            let after = Arc::new(after);
                            shared = Some(Arc::clone(&after));
                            turn.accept(commit, after)
                        }
                        Ok(None) => turn.refuse(),
                        Err(ExecuteError::Rejected(error)) => {
                            refusal = Some(error);
                            turn.refuse()
                        }
                        Err(error) => return ControlFlow::Break(Err(error)),
                    };
                    match counts {
                        true => member.end().await,
                        false => Ended::Again,
                    }
                }
            };
            let result = match ended {
                Ended::Again => continue,
                Ended::Alone => return ControlFlow::Continue(()),
                Ended::Failed { failure, cost } => {
                    self.execution.cost += cost;
                    Err(failure.into())
                }
                Ended::Confirmed { cost } => {
                    self.execution.cost += cost;
                    refusal.map_or(Ok(Done::Now), |error| Err(ExecuteError::Rejected(error)))
                }
                Ended::Recorded { commits, cost } => {
                    self.execution.cost += cost;
                    self.group = Some(commits);
                    let participant = &mut self.execution.participants.participant;
                    match shared {
                        Some(shared) => participant.take_back(shared).await.map(|()| Done::Now),
                        None => Ok(Done::Now),
                    }
                }
            };
            return ControlFlow::Break(result);
        }
    }

    /// Executes a command that is decided synchronously.
    pub(super) async fn run<E>(
        &mut self,
        decide: impl Fn(&A, &Context<A>) -> Result<Events<A>, E>,
    ) -> Ran<A, E> {
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
                Ok(Next::Done(done)) => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// Executes a command that is decided asynchronously.
    pub(super) async fn run_async<F, E>(&mut self, decide: F) -> Ran<A, E>
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
                Ok(Next::Done(done)) => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reports how the command ended, and returns its outcome.
    pub(super) fn finish<E>(self, result: Ran<A, E>) -> Result<Outcome<A>, ExecuteError<E>> {
        let Self { name, execution, mut report, group } = self;
        let span = report.span().clone();
        let _entered = span.enter();
        let (attempts, mut participant) = (execution.attempts, execution.participants.participant);
        let cost = execution.cost + participant.cost();
        let mut numbers = Numbers { attempts, version: participant.version(), events: 0, group, cost };
        let (label, outcome) = match result {
            Ok(Done::Now) => {
                let label = if participant.commit().is_some() { "accepted" } else { "nothing" };
                participant.recorded();
                participant.hand_over();
                (label, participant.into_outcome(attempts, cost))
            }
            Ok(Done::Before(outcome)) => ("repeated", Outcome { attempts, cost, ..*outcome }),
            Err(error) => {
                if matches!(error, ExecuteError::Rejected(_)) {
                    participant.hand_over();
                }
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

    /// Decides a command on a state that other commands share. Returns its commit and the state after it, if there is
    /// something to record.
    fn decide<E>(
        &mut self,
        state: Fold<A>,
        decide: &impl Fn(&A, &Context<A>) -> Result<Events<A>, E>,
    ) -> Result<Option<(NewCommit, Fold<A>)>, ExecuteError<E>> {
        self.participant.continue_from(state);
        let context = self.context()?;
        let decision = decide(self.participant.state(), &context).map_err(ExecuteError::Rejected)?;
        self.participant.add(decision)?;
        Ok(if self.participant.has_claims() { None } else { self.participant.share(&context) })
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
