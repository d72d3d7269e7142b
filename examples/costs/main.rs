//! Measures the cost of commands and loads, and prints a table of requests and capacity units.

mod metered;
mod personal;
mod waiting;

use std::convert::Infallible;
use std::error::Error;

use es_core::payloads::MemoryPayloads;
use es_core::repository::Archives;
use es_core::snapshot::SnapshotPolicy;
use es_core::{Aggregate, Apply, Context, Cost, Events, Handle, Repository, Transaction, event};
use es_dynamo::DynamoStore;
use serde::{Deserialize, Serialize};

/// An event with a payload of about 200 bytes.
#[event]
struct Noted {
    text: String,
}

#[derive(Aggregate, Clone, Default, Serialize, Deserialize)]
#[aggregate(name = "notebook", id = String, events(Noted), snapshot(every = 20))]
struct Notebook {
    notes: u64,
    last: String,
}

impl Apply<Noted> for Notebook {
    fn apply(&mut self, event: &Noted) {
        self.notes += 1;
        self.last.clone_from(&event.text);
    }
}

struct Note {
    times: usize,
}

impl Handle<Note> for Notebook {
    type Error = Infallible;

    fn handle(&self, command: &Note, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        let text = "x".repeat(200 - r#"{"text":""}"#.len());
        Ok(vec![Noted { text }; command.times].into())
    }
}

/// Notes a long text.
struct Scan {
    bytes: usize,
}

impl Handle<Scan> for Notebook {
    type Error = Infallible;

    fn handle(&self, command: &Scan, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Noted { text: "x".repeat(command.bytes) }.into())
    }
}

/// Notes the lines of an order, which differ in their ids and quantities.
struct Order {
    lines: usize,
}

impl Handle<Order> for Notebook {
    type Error = Infallible;

    fn handle(&self, command: &Order, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        let line = |number: usize| {
            let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &number.to_be_bytes());
            let text =
                format!("{number} articles {id} from the warehouse in Rotterdam, at the usual discount");
            Noted { text: format!("{text:<189}") }
        };
        Ok((0..command.lines).map(line).collect::<Vec<_>>().into())
    }
}

/// Gives the notebook a unique name.
struct Name {
    name: String,
}

impl Handle<Name> for Notebook {
    type Error = Infallible;

    fn handle(&self, command: &Name, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Events::from(Noted { text: "x".repeat(189) }).claim("name", &command.name))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = DynamoStore::embedded().await?;
    println!("| what | events | requests | RCU | WCU |");
    println!("|---|---:|---:|---:|---:|");
    for events in [1, 5] {
        let cost = command(&store, events, 0, SnapshotPolicy::Never).await?;
        row("command on a new aggregate", events, cost);
    }
    for events in [1, 5] {
        let (notebooks, id) = notebook(&store, 0, SnapshotPolicy::Never).await?;
        let done = notebooks.create(&id, Note { times: events }).await?;
        row("command that creates an aggregate", events, done.cost);
    }
    for events in [1, 5] {
        let cost = command(&store, events, 100, SnapshotPolicy::Never).await?;
        row("command after 100 events, no snapshot", events, cost);
    }
    for events in [1, 5] {
        let cost = command(&store, events, 100, SnapshotPolicy::Every(20)).await?;
        row("command after 100 events, snapshot every 20", events, cost);
    }
    for events in [1, 5] {
        let cost = warm_command(&store, events).await?;
        row("command on a cached aggregate", events, cost);
    }
    let (notebooks, id) = notebook(&store, 0, SnapshotPolicy::Never).await?;
    row("new aggregate with 20 events at once", 20, notebooks.execute(&id, Order { lines: 20 }).await?.cost);
    row("new aggregate with 20 events at once, compressed", 20, compressed(20).await?);
    row("64 commands at once on a new aggregate, together", 64, together(&store, 64).await?);
    for events in [1, 5] {
        let (notebooks, id) = notebook(&store, 0, SnapshotPolicy::Never).await?;
        let done = notebooks.once("message-1").execute(&id, Note { times: events }).await?;
        row("command under an idempotency key", events, done.cost);
    }
    let (notebooks, id) = notebook(&store, 0, SnapshotPolicy::Never).await?;
    row("command that takes a claim", 1, notebooks.execute(&id, Name { name: id.clone() }).await?.cost);
    for events in [1, 5] {
        row("transaction over two new aggregates", events, transaction(&store, events).await?);
    }
    let (command, load) = large().await?;
    row("large event of 500 KB on a new aggregate, in a payload store", 1, command);
    row("load of a large event of 500 KB in a payload store", 0, load);
    for (label, policy) in
        [("no snapshot", SnapshotPolicy::Never), ("snapshot every 20", SnapshotPolicy::Every(20))]
    {
        let (notebooks, id) = notebook(&store, 100, policy).await?;
        row(&format!("load of 100 events, {label}"), 0, notebooks.load(&id).await?.cost);
    }
    let (_, id) = notebook(&store, 1_000, SnapshotPolicy::Every(100)).await?;
    let cold: Repository<Notebook> =
        Repository::builder(store.clone()).snapshots(SnapshotPolicy::Every(100)).build();
    row("load of 1,000 events, snapshot every 100, in a new process", 0, cold.load(&id).await?.cost);
    ends_of_streams(&store).await?;
    let meter = metered::Meter::install()?;
    waiting::rows(&meter).await?;
    personal::rows(&meter).await
}

/// Prints the costs of closing, archiving, restoring, and deleting aggregates with 1,000 events, each in a separate
/// commit.
async fn ends_of_streams(store: &DynamoStore) -> Result<(), Box<dyn Error>> {
    let archives = Archives::new(MemoryPayloads::new(), "notebooks/archives".parse()?);
    // Cached, because 1,000 loads of a long stream take minutes.
    let notebooks: Repository<Notebook> =
        Repository::builder(store.clone()).cache(1).snapshots(SnapshotPolicy::Never).build();
    let id = uuid::Uuid::new_v4().to_string();
    for _ in 0..1_000 {
        notebooks.execute(&id, Note { times: 1 }).await?;
    }
    row("close", 1, notebooks.close(&id).await?.cost);
    row("archive of 1,000 events", 1, notebooks.archive(&id, &archives).await?.cost);
    row("restore of 1,000 events", 1, notebooks.restore(&id, &archives).await?.cost);
    row("delete of 1,000 events", 1, notebooks.delete(&id).await?.cost);
    Ok(())
}

/// Returns the cost of a command with `events` events on an aggregate with `history` events.
async fn command(
    store: &DynamoStore,
    events: usize,
    history: u64,
    policy: SnapshotPolicy,
) -> Result<Cost, Box<dyn Error>> {
    let (notebooks, id) = notebook(store, history, policy).await?;
    Ok(notebooks.execute(&id, Note { times: events }).await?.cost)
}

/// Returns the cost of a command with `events` events on a cached aggregate.
async fn warm_command(store: &DynamoStore, events: usize) -> Result<Cost, Box<dyn Error>> {
    let notebooks: Repository<Notebook> = Repository::builder(store.clone()).cache(10).build();
    let id = uuid::Uuid::new_v4().to_string();
    notebooks.execute(&id, Note { times: 1 }).await?;
    Ok(notebooks.execute(&id, Note { times: events }).await?.cost)
}

/// Returns the cost of a command with `lines` events whose commit is compressed.
async fn compressed(lines: usize) -> Result<Cost, Box<dyn Error>> {
    let engine = es_dynamo::embedded::Engine::in_memory()?;
    let store = DynamoStore::builder().engine(&engine).compress_commits_above(1024).build()?;
    store.create_table().await?;
    let (notebooks, id) = notebook(&store, 0, SnapshotPolicy::Never).await?;
    Ok(notebooks.execute(&id, Order { lines }).await?.cost)
}

/// Returns the costs of a command with an event of 500 KB, and of a load, without those of the payload store.
async fn large() -> Result<(Cost, Cost), Box<dyn Error>> {
    let engine = es_dynamo::embedded::Engine::in_memory()?;
    let store = DynamoStore::builder().engine(&engine).payloads(MemoryPayloads::new()).build()?;
    store.create_table().await?;
    let (notebooks, id) = notebook(&store, 0, SnapshotPolicy::Never).await?;
    let done = notebooks.execute(&id, Scan { bytes: 500 * 1024 }).await?;
    Ok((done.cost, notebooks.load(&id).await?.cost))
}

/// Returns the cost of `commands` commands that wait for the same aggregate, with one event each: the lowest of ten
/// runs.
async fn together(store: &DynamoStore, commands: usize) -> Result<Cost, Box<dyn Error>> {
    let mut costs = Vec::new();
    // On a busy machine, some commands may come only after the first one has loaded the aggregate, and share a second
    // write.
    for _ in 0..10 {
        let (notebooks, id) = notebook(store, 0, SnapshotPolicy::Never).await?;
        let all = (0..commands).map(|_| notebooks.execute(&id, Note { times: 1 }));
        let outcomes = futures_util::future::try_join_all(all).await?;
        costs.push(outcomes.iter().map(|outcome| outcome.cost).sum());
    }
    Ok(costs.into_iter().min_by_key(|cost: &Cost| cost.requests).unwrap_or_default())
}

/// Returns the cost of a transaction that records `events` events in each of two aggregates.
async fn transaction(store: &DynamoStore, events: usize) -> Result<Cost, Box<dyn Error>> {
    let (notebooks, first) = notebook(store, 0, SnapshotPolicy::Never).await?;
    let second = uuid::Uuid::new_v4().to_string();
    let done = Transaction::new(store)
        .execute(&notebooks, &first, Note { times: events })
        .execute(&notebooks, &second, Note { times: events })
        .commit()
        .await?;
    Ok(done.cost)
}

/// Creates an aggregate with `events` events, in commits of one, and waits for its snapshot.
async fn notebook(
    store: &DynamoStore,
    history: u64,
    policy: SnapshotPolicy,
) -> Result<(Repository<Notebook>, String), Box<dyn Error>> {
    let notebooks = Repository::builder(store.clone()).snapshots(policy).build();
    let id = uuid::Uuid::new_v4().to_string();
    for _ in 0..history {
        notebooks.execute(&id, Note { times: 1 }).await?;
        notebooks.flush().await;
    }
    Ok((notebooks, id))
}

fn row(what: &str, events: usize, cost: Cost) {
    let events = if events == 0 { "-".to_owned() } else { events.to_string() };
    println!("| {what} | {events} | {} | {} | {} |", cost.requests, cost.read_units, cost.write_units);
}
