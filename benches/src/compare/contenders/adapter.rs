//! event-store-adapter-rs, with the repository of its example: the newest snapshot, then the events after it.
//!
//! It appends one event at a time, so a command with several events takes several transactions. A load does not read
//! events if the store reports that the snapshot is at the head of the stream.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ProjectionType, ScalarAttributeType};
use chrono::Utc;
use event_store_adapter_rs::{
    AggregateId, DynamoDbOptions, DynamoDbTables, EventEnvelope, EventStoreForDynamoDB, SnapshotEnvelope,
};
use serde::{Deserialize, Serialize};

use super::{Contender, Failure, Layout};
use crate::domain::{Account, Deposit, Deposited, SNAPSHOT_EVERY};
use crate::tables::{self, Index, Item};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AccountEvent {
    Deposited(Deposited),
}

#[derive(Clone, Debug)]
struct AccountId(String);

impl AggregateId for AccountId {
    fn type_name(&self) -> String {
        "account".to_owned()
    }

    fn value(&self) -> String {
        self.0.clone()
    }
}

pub struct Adapter {
    store: EventStoreForDynamoDB<AccountId, Account, AccountEvent>,
    snapshots: bool,
}

impl Adapter {
    pub async fn plain(client: &Client, prefix: &str) -> Result<Self, Failure> {
        Self::open(client, prefix, false).await
    }

    pub async fn with_snapshots(client: &Client, prefix: &str) -> Result<Self, Failure> {
        Self::open(client, prefix, true).await
    }

    async fn open(client: &Client, prefix: &str, snapshots: bool) -> Result<Self, Failure> {
        let [journal, snapshot, head] = names(prefix);
        let tables = DynamoDbTables {
            journal_table_name: journal,
            snapshot_table_name: snapshot,
            head_table_name: head,
            snapshot_history_index_name: HISTORY_INDEX.to_owned(),
        };
        let store = EventStoreForDynamoDB::open(client.clone(), tables, DynamoDbOptions::default()).await?;
        Ok(Self { store, snapshots })
    }

    async fn state(&self, id: &AccountId) -> Result<(Account, u64), Failure> {
        let Some(read) = self.store.get_latest_snapshot_by_id(id).await? else {
            return Ok((Account::default(), 0));
        };
        let (snapshot, head) = read.into_parts();
        let (mut account, mut sequence) = match snapshot {
            Some(snapshot) => {
                let sequence = snapshot.seq_nr();
                (snapshot.into_aggregate(), sequence)
            }
            None => (Account::default(), 0),
        };
        if sequence < head {
            for event in self.store.get_events_by_id_since_seq_nr(id, sequence + 1).await? {
                sequence = event.seq_nr();
                let AccountEvent::Deposited(event) = event.into_payload();
                account.add(&event);
            }
        }
        Ok((account, sequence))
    }
}

#[async_trait]
impl Contender for Adapter {
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        let id = AccountId(id.to_owned());
        let (mut account, mut sequence) = self.state(&id).await?;
        for event in (Deposit { times: events }).events() {
            sequence += 1;
            account.add(&event);
            let event = EventEnvelope::new(id.clone(), sequence, Utc::now(), AccountEvent::Deposited(event));
            if self.snapshots && sequence.is_multiple_of(SNAPSHOT_EVERY) {
                let snapshot = SnapshotEnvelope::new(account.clone(), sequence);
                self.store.persist_event_and_snapshot(event, snapshot).await?;
            } else {
                self.store.persist_event(event).await?;
            }
        }
        std::hint::black_box(account);
        Ok(())
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        Ok(self.state(&AccountId(id.to_owned())).await?.0)
    }
}

const HISTORY_INDEX: &str = "snapshot-history";

fn names(prefix: &str) -> [String; 3] {
    Layout::Adapter.tables(prefix).try_into().expect("three tables")
}

pub async fn create(client: &Client, prefix: &str) -> Result<(), Failure> {
    let [journal, snapshot, head] = names(prefix);
    let key = ("aid", ScalarAttributeType::S);
    let number = |name| (name, ScalarAttributeType::N);
    tables::create(client, &journal, &[key.clone(), number("seq_nr")], None).await?;
    let history = Index {
        name: HISTORY_INDEX,
        keys: [key.clone(), number("active_history_seq_nr")],
        projection: ProjectionType::KeysOnly,
    };
    tables::create(client, &snapshot, &[key.clone(), number("skey")], Some(history)).await?;
    tables::create(client, &head, &[key], None).await
}

pub async fn fill(client: &Client, prefix: &str, id: &str, events: u64) -> Result<(), Failure> {
    let [journal, _, head] = names(prefix);
    let payload = serde_json::to_vec(&AccountEvent::Deposited(Deposited::new()))?;
    let event = |sequence: u64| {
        HashMap::from([
            ("seq_nr".to_owned(), AttributeValue::N(sequence.to_string())),
            ("occurred_at".to_owned(), AttributeValue::N("1800000000000000000".to_owned())),
            ("manifest".to_owned(), AttributeValue::S(String::new())),
            ("payload".to_owned(), AttributeValue::B(Blob::new(payload.clone()))),
        ])
    };
    let items = (1..=events).map(|sequence| {
        let mut item = event(sequence);
        item.insert("aid".to_owned(), aid(id));
        item
    });
    tables::fill(client, &journal, items).await?;
    let newest = Item::from([
        ("aid".to_owned(), aid(id)),
        ("type_name".to_owned(), AttributeValue::S("account".to_owned())),
        ("seq_nr".to_owned(), AttributeValue::N(events.to_string())),
        ("events".to_owned(), AttributeValue::L(vec![AttributeValue::M(event(events))])),
    ]);
    tables::fill(client, &head, std::iter::once(newest)).await
}

pub async fn fill_snapshot(client: &Client, prefix: &str, id: &str, events: u64) -> Result<(), Failure> {
    let [_, table, _] = names(prefix);
    let state = serde_json::to_vec(&Account::after(events))?;
    let item = Item::from([
        ("aid".to_owned(), aid(id)),
        ("skey".to_owned(), AttributeValue::N("0".to_owned())),
        ("seq_nr".to_owned(), AttributeValue::N(events.to_string())),
        ("manifest".to_owned(), AttributeValue::S(String::new())),
        ("payload".to_owned(), AttributeValue::B(Blob::new(state))),
        ("last_updated_at".to_owned(), AttributeValue::N("1800000000000".to_owned())),
    ]);
    tables::fill(client, &table, std::iter::once(item)).await
}

fn aid(id: &str) -> AttributeValue {
    AttributeValue::S(format!("account-{id}"))
}
