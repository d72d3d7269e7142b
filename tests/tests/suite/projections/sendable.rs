//! Every public future is `Send`: it can be spawned, and awaited in a handler of a web server.
//!
//! The functions here are compiled and never called. They are generic where the API is, because the compiler finds
//! "implementation of `Send` is not general enough" only in generic or spawned code.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use es_core::clock::Clock;
use es_core::feed::Slice;
use es_core::process::{Reacting, Reactor};
use es_core::publish::{Envelopes, Outbox, Publisher, Publishing};
use es_core::read_model::{FieldValue, RowIndex};
use es_core::serde::Serialize;
use es_core::serde::de::DeserializeOwned;
use es_core::testing::{Projected, Reacted};
use es_core::{
    Aggregate, Context, Event, EventContext, EventStore, Events, Handle, Metadata, Process, Projection,
    Projector, React, Reaction, ReadModel, Repository, RetryPolicy, Row, StreamId, Transaction, Version,
};
use es_dynamo::embedded::Engine;
use es_dynamo::import::Import;
use es_dynamo::publishers::KinesisPublisher;
use es_dynamo::{DynamoStore, Indexer, Reconciler, TableOptions, lambda};

/// Checks at compile time that a future can be moved to another thread.
fn assert_send<T>(_: impl Future<Output = T> + Send) {}

#[allow(dead_code)] // compiling it is the test
fn repository<A, C, E>(repository: &Repository<A>, id: &A::Id, command: impl Fn() -> C)
where
    A: Handle<C, Error: Send>,
    C: Send + Sync,
    E: Send,
{
    assert_send(repository.execute(id, command()));
    assert_send(repository.with_metadata(Metadata::new()).execute(id, command()));
    assert_send(repository.decide(id, async move |_: &A, _: &Context<A>| Ok::<Events<A>, E>(Events::none())));
    let decide = async move |_: &A, _: &Context<A>| Ok::<Events<A>, E>(Events::none());
    assert_send(repository.with_metadata(Metadata::new()).decide(id, decide));
    assert_send(repository.claim_holder("name", "value"));
    assert_send(repository.load(id));
    assert_send(repository.load_at(id, Version::NONE));
    assert_send(repository.load_as_of(id, chrono::DateTime::UNIX_EPOCH));
    assert_send(repository.flush());
    assert_send(repository.version(id));
    assert_send(repository.exists(id));
    assert_send(repository.history(id).all());
    assert_send(repository.history(id).next());
}

#[allow(dead_code)]
fn transaction<A, C>(store: &(impl EventStore + Clone), repository: &Repository<A>, id: &A::Id, command: C)
where
    A: Handle<C, Error: Into<Box<dyn Error + Send + Sync>>>,
    C: Send + Sync + 'static,
{
    assert_send(Transaction::new(store).execute(repository, id, command).commit());
}

#[allow(dead_code)]
fn projector<P: Projection>(projector: &Projector<P>, stream: &StreamId) {
    assert_send(projector.run());
    assert_send(projector.run_until_caught_up());
    assert_send(projector.caught_up());
    assert_send(projector.wait_for(stream, Version::NONE, Duration::ZERO));
    assert_send(projector.progress());
    assert_send(projector.rebuild_progress());
    assert_send(projector.pause());
    assert_send(projector.resume());
    assert_send(projector.reset());
    assert_send(projector.rebuild());
    assert_send(projector.switch());
    assert_send(projector.switch_anyway());
    assert_send(projector.cancel_rebuild());
    assert_send(projector.replaced_builds());
    assert_send(projector.delete_replaced());
    assert_send(projector.remove());
    assert_send(projector.retry(Slice::new(0)));
    assert_send(projector.park(Slice::new(0)));
    assert_send(projector.skip(Slice::new(0)));
    assert_send(projector.parked());
    assert_send(projector.replay_parked());
    assert_send(projector.dismiss_passed_over());
}

#[allow(dead_code)]
fn process<P, E>(
    projector: &Projector<Reacting<P>>,
    reactor: &mut Reactor<P::State>,
    (process, event, ctx): (&P, &E, &EventContext),
    id: &<P::State as Aggregate>::Id,
) where
    P: Process + React<E>,
    E: Event,
{
    assert_send(projector.abandon(id));
    assert_send(reactor.react(process, event, ctx));
}

#[allow(dead_code)]
fn reaction<S, A, C>(
    reaction: &mut Reaction<'_, S>,
    repository: &Repository<A>,
    id: &A::Id,
    command: impl Fn() -> C,
) where
    S: Aggregate,
    A: Handle<C, Error: Error + Debug + Serialize + DeserializeOwned + Send + Sync + 'static>,
    C: Send + Sync,
{
    assert_send(reaction.execute(repository, id, command()));
    assert_send(reaction.ask(repository, id, command()));
}

#[allow(dead_code)]
fn read_model<T, K, G, F>(
    rows: &ReadModel<T>,
    key: &K,
    index: RowIndex<T, G, (F, ())>,
    (group, first): (&G, &F),
) where
    T: Row,
    K: FieldValue<T::Key>,
    G: FieldValue<G>,
    F: FieldValue<F>,
{
    assert_send(rows.get(key));
    assert_send(rows.all());
    assert_send(rows.rows().page());
    assert_send(rows.find(index, group).page());
    assert_send(rows.find(index, group).from(first).all());
}

#[allow(dead_code)]
fn publishing<P: Publisher, E: Envelopes>(publisher: &P, publishing: &Publishing<P, E>, clock: &dyn Clock) {
    let mut outbox = Outbox::new();
    assert_send(outbox.send(publisher, RetryPolicy::default(), clock));
    assert_send(outbox.send_once(publisher));
    assert_send(lambda::publish(publishing, serde_json::Value::Null));
}

#[allow(dead_code)]
fn kits<P: Projection, Q: Process, A: Aggregate>(
    projected: impl Fn() -> Projected<P>,
    reacted: impl Fn() -> Reacted<Q>,
) {
    assert_send(projected().given::<A>("id", Events::none()));
    assert_send(reacted().given::<A>("id", Events::none()));
    assert_send(reacted().when::<A>("id", Events::none()));
    assert_send(reacted().later(Duration::ZERO));
}

#[allow(dead_code)]
fn dynamo(store: &DynamoStore, indexer: &Indexer, reconciler: &Reconciler, engine: &Engine, import: &Import) {
    assert_send(DynamoStore::builder().from_env());
    assert_send(DynamoStore::from_env());
    assert_send(DynamoStore::embedded());
    assert_send(DynamoStore::embedded_at("path"));
    assert_send(store.create_table());
    assert_send(store.create_table_with(TableOptions::default()));
    assert_send(store.verify_table());
    assert_send(indexer.run());
    assert_send(reconciler.run());
    assert_send(reconciler.audit());
    assert_send(engine.store());
    assert_send(lambda::handle(store, serde_json::Value::Null));
    assert_send(import.run(store));
    assert_send(KinesisPublisher::from_env("stream"));
}
