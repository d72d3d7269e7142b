//! Commands with what accompanies them.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use tracing::{Instrument, Span, field};

use crate::aggregate::Aggregate;
use crate::command::{Context, Handle};
use crate::cost::Cost;
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::attempt::{Attempt, Conclusion};
use crate::repository::{ExecuteError, Outcome, Repository};
use crate::version::Version;

/// A repository together with the metadata that its commands carry: made by [`Repository::with`].
pub struct Request<'a, A: Aggregate> {
    repository: &'a Repository<A>,
    metadata: Arc<Metadata>,
}

impl<'a, A: Aggregate> Request<'a, A> {
    pub(crate) fn new(repository: &'a Repository<A>, metadata: Metadata) -> Self {
        Self { repository, metadata: Arc::new(metadata) }
    }

    /// As [`Repository::execute`]; the events record this request's metadata.
    ///
    /// # Errors
    ///
    /// As [`Repository::execute`].
    pub async fn execute<C>(&self, id: &A::Id, command: C) -> Result<Outcome<A>, ExecuteError<A::Error>>
    where
        A: Handle<C>,
    {
        let span = self.span(id, short_name::<C>());
        async {
            let mut attempt = Attempt::start(&self.repository.inner, id).await?;
            loop {
                let context = attempt.context(id, &self.metadata);
                let decision = attempt.state().handle(&command, &context);
                attempt = match self.conclude(attempt, decision, &context).await? {
                    Conclusion::Done(outcome) => return Ok(*outcome),
                    Conclusion::Again(attempt) => attempt,
                };
            }
        }
        .instrument(span)
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
        let span = self.span(id, "decide");
        async {
            let mut attempt = Attempt::start(&self.repository.inner, id).await?;
            loop {
                let context = attempt.context(id, &self.metadata);
                let decision = decide(attempt.state(), &context).await;
                attempt = match self.conclude(attempt, decision, &context).await? {
                    Conclusion::Done(outcome) => return Ok(*outcome),
                    Conclusion::Again(attempt) => attempt,
                };
            }
        }
        .instrument(span)
        .await
    }

    async fn conclude<'r, E>(
        &self,
        attempt: Attempt<'r, A>,
        decision: Result<Events<A>, E>,
        context: &Context<A>,
    ) -> Result<Conclusion<'r, A>, ExecuteError<E>> {
        record(attempt.attempts(), context.version(), attempt.cost());
        let conclusion = attempt.conclude(decision, context).await?;
        if let Conclusion::Done(outcome) = &conclusion {
            record(outcome.attempts, outcome.version, outcome.cost);
        }
        Ok(conclusion)
    }

    fn span(&self, id: &A::Id, command: &str) -> Span {
        tracing::info_span!(
            "execute",
            aggregate = A::NAME,
            %id,
            command,
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
            .finish()
    }
}

/// Records in the command's span how far it has come, and what it has cost.
fn record(attempts: u32, version: Version, cost: Cost) {
    let span = Span::current();
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
