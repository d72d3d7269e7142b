//! One command on its way: load, decide, record, and again.

use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::cost::Cost;
use crate::event::CommitId;
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::joining::{Decided, Joining, OnceRequest};
use crate::repository::subject::{Prepared, Subject};
use crate::repository::{ExecuteError, Inner, Outcome};
use crate::store::{
    Append, AppendError, ClaimChange, Conflict, Marker, Place, StoreError, WriteError, WriteSet,
};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// A command on its way through its attempts.
///
/// The caller decides between [`context`](Self::context) and [`conclude`](Self::conclude): decisions may be
/// synchronous or not, and this type need not know.
pub(crate) struct Attempt<A: Aggregate> {
    subject: Subject<A>,
    attempts: u32,
}

/// What is written besides the events.
pub(crate) struct Extras<'a, A: Aggregate> {
    /// The version that the aggregate has to have.
    pub(crate) expected: ExpectedVersion,
    pub(crate) once: Option<&'a OnceRequest>,
    pub(crate) joining: Option<&'a Joining<'a, A>>,
}

/// What comes next.
pub(crate) enum Next<A: Aggregate> {
    /// Decide on the state as it is now: for the first time, or again because another writer came first.
    Decide,
    Done(Done<A>),
}

/// How a command was carried out.
pub(crate) enum Done<A: Aggregate> {
    /// By these events, in this commit; there is none when there was nothing to do.
    Now(Vec<A::Event>, Option<CommitId>),
    /// Before, under the same key.
    Before(Box<Outcome<A>>),
}

impl<A: Aggregate> Attempt<A> {
    pub(crate) async fn start(inner: &Arc<Inner<A>>, id: &A::Id) -> Result<Self, StoreError> {
        let stream = StreamId::new(A::NAME, id)?;
        Ok(Self { subject: Subject::load(Arc::clone(inner), stream).await?, attempts: 1 })
    }

    pub(crate) fn state(&self) -> &A {
        self.subject.state()
    }

    pub(crate) fn context(&self, id: &A::Id, metadata: &Arc<Metadata>) -> Context<A> {
        self.subject.context(id, metadata)
    }

    /// How far the command has come: after how many attempts, at which version, and what they cost.
    pub(crate) fn progress(&self) -> (u32, Version, Cost) {
        (self.attempts, self.subject.version(), self.subject.cost())
    }

    /// Decides only if the aggregate is at the version that the caller expects.
    pub(crate) async fn check<E>(&mut self, extras: &Extras<'_, A>) -> Result<Next<A>, ExecuteError<E>> {
        while !extras.expected.allows(self.subject.version()) {
            if !self.is_outdated().await? {
                let (stream, version) = (self.subject.stream().clone(), self.subject.version());
                let conflict = Conflict::new(stream, extras.expected, Some(version), self.subject.cost());
                return self.unless_done_before(ExecuteError::Outdated(conflict), extras).await;
            }
        }
        Ok(Next::Decide)
    }

    /// Records what was decided.
    pub(crate) async fn conclude<E>(
        &mut self,
        decision: Result<Events<A>, E>,
        context: &Context<A>,
        extras: &Extras<'_, A>,
    ) -> Result<Next<A>, ExecuteError<E>> {
        let prepared = match decision.map(|events| self.subject.prepare(events)) {
            Ok(prepared) => match prepared? {
                prepared if !prepared.data.is_empty() => prepared,
                _ if self.is_outdated().await? => return Ok(Next::Decide),
                _ => return self.nothing_to_do(extras).await,
            },
            Err(_) if self.is_outdated().await? => return Ok(Next::Decide),
            Err(error) => return self.unless_done_before(ExecuteError::Rejected(error), extras).await,
        };
        let Prepared { data, events, claims } = prepared;
        let append = self.subject.append(data, context);
        if claims.is_empty() && extras.once.is_none() && extras.joining.is_none() {
            return self.append(&append, events).await;
        }
        // What is rare is boxed: the future of a command stays small.
        Box::pin(self.append_with(append, events, claims, context, extras)).await
    }

    /// Writes the commit with what accompanies it.
    async fn append_with<E>(
        &mut self,
        append: Append,
        events: Vec<A::Event>,
        claims: Vec<ClaimChange>,
        context: &Context<A>,
        extras: &Extras<'_, A>,
    ) -> Result<Next<A>, ExecuteError<E>> {
        let mut set = WriteSet::new().append(append.clone()).claims(claims);
        let last = append.last_version_after(self.subject.version())?;
        if let Some(join) = extras.joining {
            self.subject.apply_ahead(&events, append.commit().events.len());
            let id = context.id();
            set =
                set.join(join(&Decided { id, state: self.subject.state(), version: last, events: &events }));
        }
        if let Some(once) = extras.once {
            let first = self.subject.version().next();
            let place = Place { stream: self.subject.stream().clone(), first, last };
            let key = once.key_of(Some(self.subject.stream()))?;
            // Not the time of the commit, which may be ahead of the clock when another writer's is.
            let now = self.subject.inner().clock.now();
            set = set.once(once.once(key, append.commit().id.as_uuid(), now, vec![place]));
        }
        self.write(&set, &append, events).await
    }

    /// Whether the state was only remembered, and the stream has gone on since. No write verifies a rejection,
    /// nor that there is nothing to do: these stand only on a state that was read.
    async fn is_outdated(&mut self) -> Result<bool, StoreError> {
        Ok(!self.subject.is_fresh() && self.subject.refresh().await?)
    }

    /// Appends the commit, and nothing besides it.
    async fn append<E>(
        &mut self,
        append: &Append,
        events: Vec<A::Event>,
    ) -> Result<Next<A>, ExecuteError<E>> {
        let mut cost = Cost::ZERO;
        let result = self.subject.inner().sender().append(append, &mut cost).await;
        self.subject.add_cost(cost);
        match result {
            Ok(appended) => Ok(self.recorded(append, events, appended.last)),
            Err(AppendError::Conflict(conflict)) => Box::pin(self.again(conflict)).await,
            Err(AppendError::Store(error)) => Err(error.into()),
        }
    }

    async fn write<E>(
        &mut self,
        set: &WriteSet,
        append: &Append,
        events: Vec<A::Event>,
    ) -> Result<Next<A>, ExecuteError<E>> {
        let mut cost = Cost::ZERO;
        let result = self.subject.inner().sender().write(set, &mut cost).await;
        self.subject.add_cost(cost);
        match result {
            Ok(written) => {
                let last = written.appended.first().map_or(self.subject.version(), |appended| appended.last);
                Ok(self.recorded(append, events, last))
            }
            Err(WriteError::Done(marker)) => self.done_before(&marker).await,
            Err(WriteError::Conflict(conflict)) => self.again(conflict).await,
            Err(WriteError::Claimed(claimed)) => Err(ExecuteError::Claimed(claimed)),
            Err(WriteError::Refused(refused)) => Err(ExecuteError::Refused(refused)),
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }

    /// There are no events. Under a key, that is remembered, too: it is the command's outcome.
    async fn nothing_to_do<E>(&mut self, extras: &Extras<'_, A>) -> Result<Next<A>, ExecuteError<E>> {
        if let Some(once) = extras.once {
            let (stream, version) = (self.subject.stream().clone(), self.subject.version());
            let inner = self.subject.inner();
            let key = once.key_of(Some(&stream))?;
            let places = vec![Place { stream, first: version.next(), last: version }];
            let set = WriteSet::new().once(once.once(key, inner.ids.new_id(), inner.clock.now(), places));
            let mut cost = Cost::ZERO;
            let result = inner.sender().write(&set, &mut cost).await;
            self.subject.add_cost(cost);
            match result {
                Ok(_) => {}
                Err(WriteError::Done(marker)) => return self.done_before(&marker).await,
                Err(WriteError::Store(error)) => return Err(error.into()),
                Err(other) => return Err(StoreError::Backend(other.into()).into()),
            }
        }
        Ok(Next::Done(Done::Now(Vec::new(), None)))
    }

    /// The command cannot be carried out; unless it has been before, under the same key.
    async fn unless_done_before<E>(
        &mut self,
        error: ExecuteError<E>,
        extras: &Extras<'_, A>,
    ) -> Result<Next<A>, ExecuteError<E>> {
        if let Some(once) = extras.once {
            let key = once.key_of(Some(self.subject.stream()))?;
            let found = self.subject.inner().marker(&key).await?;
            self.subject.add_cost(found.cost);
            let now = self.subject.inner().clock.now();
            if let Some(marker) = found.marker.filter(|marker| marker.counts_at(now)) {
                return self.done_before(&marker).await;
            }
        }
        Err(error)
    }

    async fn done_before<E>(&self, marker: &Marker) -> Result<Next<A>, ExecuteError<E>> {
        let stream = self.subject.stream();
        let Some(place) = marker.places.iter().find(|place| place.stream == *stream) else {
            return Err(StoreError::corrupt(stream, "a marker of its keys tells of another stream").into());
        };
        let mut outcome = self.subject.inner().first_outcome(stream, place, self.subject.cost()).await?;
        outcome.attempts = self.attempts;
        Ok(Next::Done(Done::Before(Box::new(outcome))))
    }

    fn recorded(&mut self, append: &Append, events: Vec<A::Event>, last: Version) -> Next<A> {
        self.subject.recorded(append, &events, last);
        Next::Done(Done::Now(events, Some(append.commit().id)))
    }

    async fn again<E>(&mut self, conflict: Conflict) -> Result<Next<A>, ExecuteError<E>> {
        let inner = self.subject.inner();
        if !inner.retry.allows_another(self.attempts) {
            return Err(ExecuteError::Conflict(conflict));
        }
        tracing::debug!(stream = %conflict.stream, attempts = self.attempts, "another writer came first");
        inner.wait(&inner.retry, self.attempts).await;
        self.attempts += 1;
        self.subject.refresh().await?;
        Ok(Next::Decide)
    }

    /// What came of the command.
    pub(crate) fn outcome(self, done: Done<A>) -> Outcome<A> {
        let (events, commit) = match done {
            Done::Now(events, commit) => (events, commit),
            Done::Before(outcome) => return *outcome,
        };
        Outcome {
            version: self.subject.version(),
            cost: self.subject.cost(),
            events,
            commit,
            repeated: false,
            attempts: self.attempts,
            state: self.subject.into_state(),
        }
    }
}
