//! cqrs-es on dynamo-es, with the tables of the project's template, and `CqrsFramework::execute`.

use std::collections::HashMap;
use std::convert::Infallible;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{AggregateContext, CqrsFramework, DomainEvent, EventStore};
use dynamo_es::DynamoEventRepository;
use serde::{Deserialize, Serialize};

use super::{Contender, Failure, Layout};
use crate::domain::{Account, Deposit, Deposited, SNAPSHOT_EVERY};
use crate::tables::{self, Item};

/// The events in the form that cqrs-es requires: an enum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccountEvent {
    Deposited(Deposited),
}

impl DomainEvent for AccountEvent {
    fn event_type(&self) -> String {
        "Deposited".to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl cqrs_es::Aggregate for Account {
    const TYPE: &'static str = "account";
    type Command = Deposit;
    type Event = AccountEvent;
    type Error = Infallible;
    type Services = ();

    async fn handle(&mut self, command: Deposit, (): &(), sink: &EventSink<Self>) -> Result<(), Infallible> {
        for event in command.events() {
            sink.write(AccountEvent::Deposited(event), self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: AccountEvent) {
        let AccountEvent::Deposited(event) = event;
        self.add(&event);
    }
}

type Store = PersistedEventStore<DynamoEventRepository, Account>;

pub struct DynamoEs {
    /// Executes commands.
    framework: CqrsFramework<Account, Store>,
    /// Loads aggregates. The framework has no function for that; its commands use this store.
    store: Store,
}

impl DynamoEs {
    pub fn plain(client: &Client, prefix: &str) -> Self {
        Self::on(|| Store::new_event_store(repository(client, prefix)))
    }

    pub fn with_snapshots(client: &Client, prefix: &str) -> Self {
        Self::on(|| Store::new_snapshot_store(repository(client, prefix), SNAPSHOT_EVERY as usize))
    }

    fn on(store: impl Fn() -> Store) -> Self {
        Self { framework: CqrsFramework::new(store(), vec![], ()), store: store() }
    }
}

fn repository(client: &Client, prefix: &str) -> DynamoEventRepository {
    let [events, snapshots] = names(prefix);
    DynamoEventRepository::new(client.clone()).with_tables(&events, &snapshots)
}

fn names(prefix: &str) -> [String; 2] {
    Layout::DynamoEs.tables(prefix).try_into().expect("two tables")
}

#[async_trait]
impl Contender for DynamoEs {
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        Ok(self.framework.execute(id, Deposit { times: events }).await?)
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        Ok(self.store.load_aggregate(id).await?.aggregate().clone())
    }
}

pub async fn create(client: &Client, prefix: &str) -> Result<(), Failure> {
    let [events, snapshots] = names(prefix);
    let key = ("AggregateTypeAndId", ScalarAttributeType::S);
    let sequence = ("AggregateIdSequence", ScalarAttributeType::N);
    tables::create(client, &events, &[key.clone(), sequence], None).await?;
    tables::create(client, &snapshots, &[key], None).await
}

pub async fn fill(client: &Client, prefix: &str, id: &str, events: u64) -> Result<(), Failure> {
    let [table, _] = names(prefix);
    let payload = serde_json::to_vec(&AccountEvent::Deposited(Deposited::new()))?;
    let items = (1..=events).map(|sequence| {
        let mut item = frame(id);
        item.insert("AggregateIdSequence".to_owned(), AttributeValue::N(sequence.to_string()));
        item.insert("EventVersion".to_owned(), AttributeValue::S("1.0".to_owned()));
        item.insert("EventType".to_owned(), AttributeValue::S("Deposited".to_owned()));
        item.insert("Payload".to_owned(), AttributeValue::B(Blob::new(payload.clone())));
        item.insert("Metadata".to_owned(), AttributeValue::B(Blob::new("{}")));
        item
    });
    tables::fill(client, &table, items).await
}

pub async fn fill_snapshot(client: &Client, prefix: &str, id: &str, events: u64) -> Result<(), Failure> {
    let [_, table] = names(prefix);
    let snapshots = events / SNAPSHOT_EVERY;
    let state = serde_json::to_vec(&Account::after(events))?;
    let mut item = frame(id);
    item.insert("CurrentSequence".to_owned(), AttributeValue::N(events.to_string()));
    item.insert("CurrentSnapshot".to_owned(), AttributeValue::N(snapshots.to_string()));
    item.insert("Payload".to_owned(), AttributeValue::B(Blob::new(state)));
    tables::fill(client, &table, std::iter::once(item)).await
}

/// The attributes of an item that identify its aggregate.
fn frame(id: &str) -> Item {
    HashMap::from([
        ("AggregateTypeAndId".to_owned(), AttributeValue::S(format!("account:{id}"))),
        ("AggregateType".to_owned(), AttributeValue::S("account".to_owned())),
        ("AggregateId".to_owned(), AttributeValue::S(id.to_owned())),
    ])
}
