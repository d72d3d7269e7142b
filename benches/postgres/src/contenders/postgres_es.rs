//! cqrs-es on postgres-es, with `CqrsFramework::execute`.

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{AggregateContext, CqrsFramework, DomainEvent, EventEnvelope, EventStore, Query};
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};

use super::{Contender, Delivered, Subscription};
use crate::Failure;
use crate::domain::{Account, Deposit, Deposited};

/// The table of the project's template.
pub const TABLES: &str = "CREATE TABLE events ( \
     aggregate_type text NOT NULL, aggregate_id text NOT NULL, sequence bigint CHECK (sequence >= 0) NOT NULL, \
     event_type text NOT NULL, event_version text NOT NULL, payload json NOT NULL, metadata json NOT NULL, \
     PRIMARY KEY (aggregate_type, aggregate_id, sequence))";

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

type Store = PersistedEventStore<PostgresEventRepository, Account>;

pub struct PostgresEs {
    /// Executes commands.
    framework: CqrsFramework<Account, Store>,
    /// Loads aggregates. The framework has no function for that; its commands use this store.
    store: Store,
}

/// Its form of a subscription: the command calls queries after it has committed.
struct Deliveries(Delivered);

#[async_trait]
impl Query<Account> for Deliveries {
    async fn dispatch(&self, id: &str, events: &[EventEnvelope<Account>]) {
        events.iter().for_each(|_| self.0.push(id));
    }
}

impl PostgresEs {
    pub async fn open(url: &str, connections: u32, delivered: Delivered) -> Result<Self, Failure> {
        let pool = super::peer_pool(url, connections).await?;
        let store = || Store::new_event_store(PostgresEventRepository::new(pool.clone()));
        let framework = CqrsFramework::new(store(), vec![Box::new(Deliveries(delivered))], ());
        Ok(Self { framework, store: store() })
    }
}

#[async_trait]
impl Contender for PostgresEs {
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        Ok(self.framework.execute(id, super::deposits(events)).await?)
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        Ok(self.store.load_aggregate(id).await?.aggregate().clone())
    }

    fn subscribe(&self, _: Option<Duration>) -> Option<Subscription> {
        None
    }
}

pub fn fill() -> Result<String, Failure> {
    let payload = serde_json::to_string(&AccountEvent::Deposited(Deposited::new()))?;
    let empty = "{}";
    Ok(format!(
        "INSERT INTO events SELECT 'account', '{{id}}' || account, version, 'Deposited', '1.0', '{payload}', '{empty}' \
         FROM generate_series(1, {{accounts}}) AS account, generate_series(1, {{events}}) AS version"
    ))
}
