//! One command on its way: load, decide, record, and again.

use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::cost::Cost;
use crate::event::CommitId;
use crate::events::Events;
use crate::repository::error::KeyReused;
use crate::repository::joining::Decided;
use crate::repository::report::{Numbers, Report};
use crate::repository::request::Request;
use crate::repository::subject::{Prepared, Subject};
use crate::repository::{ExecuteError, Outcome};
use crate::store::{
    Append, AppendError, ClaimChange, Conflict, Marker, Place, StoreError, WriteError, WriteSet,
};
use crate::stream_id::StreamId;

/// The name of a command type; `None` for decisions of no such type.
pub(crate) type CommandName = Option<fn() -> &'static str>;

/// A command on its way through its attempts.
pub(crate) struct Attempt<'r, 'a, A: Aggregate> {
    request: &'r Request<'a, A>,
    id: &'r A::Id,
    name: CommandName,
    subject: Subject<A>,
    attempts: u32,
    report: Report,
}

/// What comes next.
enum Next<A: Aggregate> {
    /// Decide on the state as it is now: for the first time, or again because another writer came first.
    Decide(Context<A>),
    Done(Done<A>),
}

/// How a command was carried out.
enum Done<A: Aggregate> {
    /// By these events, in this commit; there is none when there was nothing to do.
    Now(Vec<A::Event>, Option<CommitId>),
    /// Before, under the same key.
    Before(Box<Outcome<A>>),
}

impl<'r, 'a, A: Aggregate> Attempt<'r, 'a, A> {
    pub(crate) fn new<E>(
        request: &'r Request<'a, A>,
        id: &'r A::Id,
        name: CommandName,
    ) -> Result<Self, ExecuteError<E>> {
        let mut report = Report::command::<A>(id, || shown(name));
        let stream = match StreamId::new(A::NAME, id) {
            Ok(stream) => stream,
            Err(error) => {
                let error: ExecuteError<E> = StoreError::from(error).into();
                error.log(&format_args!("{}#{id}", A::NAME), shown(name), 0);
                report.end(error.outcome(), Numbers::default());
                return Err(error);
            }
        };
        let subject = Subject::new(Arc::clone(&request.repository.inner), stream, request.deadline);
        Ok(Self { request, id, name, subject, attempts: 1, report })
    }

    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// Carries the command out.
    pub(crate) async fn run<E>(
        mut self,
        decide: impl Fn(&A, &Context<A>) -> Result<Events<A>, E>,
    ) -> Result<Outcome<A>, ExecuteError<E>> {
        let mut next = self.begin().await;
        let result = loop {
            match next {
                Ok(Next::Decide(context)) => {
                    let decision = decide(self.subject.state(), &context);
                    next = self.conclude(decision, &context).await;
                }
                Ok(Next::Done(done)) => break Ok(done),
                Err(error) => break Err(error),
            }
        };
        self.finish(result)
    }

    /// Carries out a command that is decided asynchronously.
    pub(crate) async fn run_async<F, E>(mut self, decide: F) -> Result<Outcome<A>, ExecuteError<E>>
    where
        F: AsyncFn(&A, &Context<A>) -> Result<Events<A>, E>,
    {
        let mut next = self.begin().await;
        let result = loop {
            match next {
                Ok(Next::Decide(context)) => {
                    let decision = decide(self.subject.state(), &context).await;
                    next = self.conclude(decision, &context).await;
                }
                Ok(Next::Done(done)) => break Ok(done),
                Err(error) => break Err(error),
            }
        };
        self.finish(result)
    }

    async fn begin<E>(&mut self) -> Result<Next<A>, ExecuteError<E>> {
        self.subject.load().await?;
        self.decide().await
    }

    /// Goes on to the decision, if the aggregate is at the version that the caller expects.
    async fn decide<E>(&mut self) -> Result<Next<A>, ExecuteError<E>> {
        while !self.request.expected.allows(self.subject.version()) {
            if !self.is_outdated().await? {
                let (stream, version) = (self.subject.stream().clone(), self.subject.version());
                let cost = self.subject.cost();
                let conflict = Conflict::new(stream, self.request.expected, Some(version), cost);
                return self.unless_done_before(ExecuteError::Outdated(conflict)).await;
            }
        }
        Ok(Next::Decide(self.subject.context(self.id, &self.request.metadata)?))
    }

    /// Records what was decided.
    async fn conclude<E>(
        &mut self,
        decision: Result<Events<A>, E>,
        context: &Context<A>,
    ) -> Result<Next<A>, ExecuteError<E>> {
        let prepared = match decision.map(|events| self.subject.prepare(events)) {
            Ok(prepared) => match prepared? {
                prepared if !prepared.data.is_empty() => prepared,
                _ if self.is_outdated().await? => return self.decide().await,
                _ => return self.nothing_to_do().await,
            },
            Err(_) if self.is_outdated().await? => return self.decide().await,
            Err(error) => return self.unless_done_before(ExecuteError::Rejected(error)).await,
        };
        let Prepared { data, events, claims } = prepared;
        let append = self.subject.append(data, context);
        if claims.is_empty() && self.request.once.is_none() && self.request.joining.is_none() {
            return self.append(&append, events).await;
        }
        // What is rare is boxed: the future of a command stays small.
        Box::pin(self.append_with(append, events, claims)).await
    }

    /// Writes the commit with what accompanies it.
    async fn append_with<E>(
        &mut self,
        append: Append,
        events: Vec<A::Event>,
        claims: Vec<ClaimChange>,
    ) -> Result<Next<A>, ExecuteError<E>> {
        let mut set = WriteSet::new().append(append.clone()).claims(claims);
        let last = append.last_version_after(self.subject.version())?;
        if let Some(join) = &self.request.joining {
            self.subject.apply_ahead(&events, append.commit().events.len());
            let (id, state) = (self.id, self.subject.state());
            set = set.join(join(&Decided { id, state, version: last, events: &events }));
        }
        if let Some(once) = &self.request.once {
            let first = self.subject.version().next();
            let place = Place { stream: self.subject.stream().clone(), first, last };
            let key = once.key_of(Some(self.subject.stream()))?;
            // Not the time of the commit, which may be ahead of the clock when another writer's is.
            let now = self.subject.inner().clock.now();
            let once = once.once(key, append.commit().id.as_uuid(), now, vec![place]);
            set = set.once(once.with_fingerprint(self.fingerprint()));
        }
        self.write(&set, &append, events).await
    }

    /// What identifies the command under its key.
    fn fingerprint(&self) -> Option<String> {
        self.request.fingerprint.clone().or_else(|| self.name.map(|name| name().to_owned()))
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
        let result = self.subject.sender().append(append, &mut cost).await;
        self.subject.add_cost(cost);
        match result {
            Ok(appended) => {
                self.subject.recorded(append, &events, appended.last);
                Ok(Next::Done(Done::Now(events, Some(append.commit().id))))
            }
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
        let result = self.subject.sender().write(set, &mut cost).await;
        self.subject.add_cost(cost);
        match result {
            Ok(written) => {
                let last = written.appended.first().map_or(self.subject.version(), |appended| appended.last);
                self.subject.recorded(append, &events, last);
                Ok(Next::Done(Done::Now(events, Some(append.commit().id))))
            }
            Err(WriteError::Done(marker)) => self.done_before(&marker).await,
            Err(WriteError::Conflict(conflict)) => self.again(conflict).await,
            Err(WriteError::Claimed(claimed)) => Err(ExecuteError::Claimed(claimed)),
            Err(WriteError::Refused(refused)) => Err(ExecuteError::Refused(refused)),
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }

    /// There are no events. Under a key, that is remembered, too: it is the command's outcome.
    async fn nothing_to_do<E>(&mut self) -> Result<Next<A>, ExecuteError<E>> {
        if let Some(once) = &self.request.once {
            let (stream, version) = (self.subject.stream().clone(), self.subject.version());
            let inner = self.subject.inner();
            let key = once.key_of(Some(&stream))?;
            let places = vec![Place { stream, first: version.next(), last: version }];
            let once = once.once(key, inner.ids.new_id(), inner.clock.now(), places);
            let set = WriteSet::new().once(once.with_fingerprint(self.fingerprint()));
            let mut cost = Cost::ZERO;
            let result = self.subject.sender().write(&set, &mut cost).await;
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
    async fn unless_done_before<E>(&mut self, error: ExecuteError<E>) -> Result<Next<A>, ExecuteError<E>> {
        if let Some(once) = &self.request.once {
            let key = once.key_of(Some(self.subject.stream()))?;
            let found = self.subject.marker(&key).await?;
            self.subject.add_cost(found.cost);
            let now = self.subject.inner().clock.now();
            if let Some(marker) = found.marker.filter(|marker| marker.counts_at(now)) {
                return self.done_before(&marker).await;
            }
        }
        Err(error)
    }

    async fn done_before<E>(&mut self, marker: &Marker) -> Result<Next<A>, ExecuteError<E>> {
        if !marker.is_of(self.fingerprint().as_deref()) {
            return Err(ExecuteError::KeyReused(KeyReused::new(marker.fingerprint.clone())));
        }
        let stream = self.subject.stream();
        let Some(place) = marker.places.iter().find(|place| place.stream == *stream) else {
            return Err(StoreError::corrupt(stream, "a marker of its keys tells of another stream").into());
        };
        let outcome = self.subject.first_outcome(place).await;
        let mut outcome = outcome.map_err(StoreError::after_a_write)?;
        self.subject.add_cost(outcome.cost);
        outcome.attempts = self.attempts;
        Ok(Next::Done(Done::Before(Box::new(outcome))))
    }

    async fn again<E>(&mut self, conflict: Conflict) -> Result<Next<A>, ExecuteError<E>> {
        self.subject.retrying().wait_after_conflict(conflict, self.attempts).await?;
        self.attempts += 1;
        self.subject.refresh().await?;
        self.decide().await
    }

    /// Reports how the command ended, and returns it.
    fn finish<E>(mut self, result: Result<Done<A>, ExecuteError<E>>) -> Result<Outcome<A>, ExecuteError<E>> {
        let attempts = self.attempts;
        let (version, cost) = (self.subject.version(), self.subject.cost());
        let mut numbers = Numbers { attempts, version, events: 0, cost };
        match result {
            Ok(Done::Now(events, commit)) => {
                numbers.events = events.len();
                self.report.end(if commit.is_some() { "accepted" } else { "nothing" }, numbers);
                let state = self.subject.into_state();
                Ok(Outcome { state, version, events, commit, repeated: false, attempts, cost })
            }
            Ok(Done::Before(mut outcome)) => {
                outcome.cost = cost;
                (numbers.version, numbers.events) = (outcome.version, outcome.events.len());
                self.report.end("repeated", numbers);
                Ok(*outcome)
            }
            Err(error) => {
                error.log(self.subject.stream(), shown(self.name), attempts);
                self.report.end(error.outcome(), numbers);
                Err(error)
            }
        }
    }
}

/// The name of a command in spans and in the log.
fn shown(name: CommandName) -> &'static str {
    name.map_or("decide", |name| name())
}
