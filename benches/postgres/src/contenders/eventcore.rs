//! eventcore on eventcore-postgres, with `execute` and `run_projection`, or with its transactional projections.

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use eventcore::{
    Command, CommandError, CommandLogic, Event, NewEvents, ProjectionConfig, RetryPolicy, StreamId, execute,
    run_projection,
};
use eventcore_postgres::{
    NoopAfterCommit, PostgresEventStore, PostgresProjectionConfig, PostgresProjectionSource,
    PostgresProjectionStore, PostgresProjector, run_transactional_projection,
};
use eventcore_types::{
    DeliveryPosition, DeliverySourceId, EventStore, EventTypeName, ProjectionSelection,
    ProjectionSelectionId, ProjectionStreamFilter, Projector, ProjectorName, StreamPosition,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sqlx_peers::{PgPool, Postgres, Transaction};

use super::{Contender, Delivered, Subscription};
use crate::Failure;
use crate::domain::{Account, Deposited};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AccountEvent {
    Deposited { account: StreamId, deposited: Deposited },
}

impl Event for AccountEvent {
    fn stream_id(&self) -> &StreamId {
        let Self::Deposited { account, .. } = self;
        account
    }

    fn event_type_name() -> &'static str {
        "AccountEvent"
    }
}

#[derive(Command)]
struct Deposit {
    #[stream]
    account: StreamId,
    times: u64,
}

impl CommandLogic for Deposit {
    type Event = AccountEvent;
    type State = Account;

    fn apply(&self, mut state: Account, event: &AccountEvent) -> Account {
        let AccountEvent::Deposited { deposited, .. } = event;
        state.add(deposited);
        state
    }

    fn handle(&self, _: Account) -> Result<NewEvents<AccountEvent>, CommandError> {
        let deposits = super::deposits(self.times);
        let event = |deposited| AccountEvent::Deposited { account: self.account.clone(), deposited };
        let events: Vec<_> = deposits.events().map(event).collect();
        Ok(events.into())
    }
}

pub struct Eventcore {
    store: PostgresEventStore,
    pool: PgPool,
    delivered: Delivered,
    /// Whether its transactional projections are used.
    is_transactional: bool,
}

impl Eventcore {
    pub async fn open(
        url: &str,
        connections: u32,
        delivered: Delivered,
        is_transactional: bool,
    ) -> Result<Self, Failure> {
        let pool = super::peer_pool(url, connections).await?;
        Ok(Self { store: PostgresEventStore::from_pool(pool.clone()), pool, delivered, is_transactional })
    }
}

#[async_trait]
impl Contender for Eventcore {
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        let command = Deposit { account: StreamId::try_new(id.to_owned())?, times: events };
        execute(&self.store, command, RetryPolicy::new()).await?;
        Ok(())
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        let mut events = self.store.read_stream::<AccountEvent>(StreamId::try_new(id.to_owned())?).await?;
        let mut account = Account::default();
        while let Some(event) = events.next().await {
            let AccountEvent::Deposited { deposited, .. } = event?;
            account.add(&deposited);
        }
        Ok(account)
    }

    fn subscribe(&self, poll: Option<Duration>) -> Option<Subscription> {
        if self.is_transactional {
            let (pool, delivered) = (self.pool.clone(), self.delivered.clone());
            return Subscription::start(async move {
                if let Err(error) = run_transactional(pool, delivered, poll).await {
                    eprintln!("the transactional projection has stopped: {error}");
                }
            });
        }
        let (store, deliveries) = (self.store.clone(), Deliveries(self.delivered.clone()));
        let config = ProjectionConfig::default().continuous();
        let config = match poll {
            Some(interval) => config.poll_interval(interval).empty_poll_backoff(Duration::ZERO),
            None => config,
        };
        Subscription::start(async move {
            if let Err(error) = run_projection(deliveries, &store, config).await {
                eprintln!("the projection has stopped: {error}");
            }
        })
    }
}

struct Deliveries(Delivered);

impl Projector for Deliveries {
    type Event = AccountEvent;
    type Error = Infallible;
    type Context = ();

    fn apply(&mut self, event: AccountEvent, _: StreamPosition, (): &mut ()) -> Result<(), Infallible> {
        self.0.push(event.stream_id().as_ref());
        Ok(())
    }

    fn name(&self) -> &str {
        "deliveries"
    }
}

struct TransactionalDeliveries {
    name: ProjectorName,
    delivered: Delivered,
}

impl PostgresProjector for TransactionalDeliveries {
    type Event = AccountEvent;
    type Error = Infallible;
    type AfterCommit = NoopAfterCommit;

    fn name(&self) -> &ProjectorName {
        &self.name
    }

    async fn apply<'a, 'c>(
        &'a mut self,
        event: &'a AccountEvent,
        _: DeliveryPosition,
        _: &'a mut Transaction<'c, Postgres>,
    ) -> Result<NoopAfterCommit, Infallible>
    where
        'c: 'a,
    {
        self.delivered.push(event.stream_id().as_ref());
        Ok(NoopAfterCommit)
    }
}

async fn run_transactional(
    pool: PgPool,
    delivered: Delivered,
    poll: Option<Duration>,
) -> Result<(), Failure> {
    let deliveries = TransactionalDeliveries { name: ProjectorName::try_new("deliveries")?, delivered };
    let selection = ProjectionSelection::try_new(
        ProjectionSelectionId::try_new("deliveries")?,
        ProjectionStreamFilter::All,
        vec![EventTypeName::try_new(AccountEvent::event_type_name())?],
    )?;
    let config =
        PostgresProjectionConfig::new(selection).continuous(tokio_util::sync::CancellationToken::new());
    let config = match poll {
        Some(interval) => config.with_continuous_poll_interval(interval)?,
        None => config,
    };
    let source = source(&pool)?;
    run_transactional_projection(deliveries, &source, &PostgresProjectionStore::from_pool(pool), config)
        .await?;
    Ok(())
}

fn source(pool: &PgPool) -> Result<PostgresProjectionSource, Failure> {
    Ok(PostgresProjectionSource::from_pool(pool.clone(), DeliverySourceId::try_new("bench")?))
}

pub async fn create(url: &str, is_transactional: bool) -> Result<(), Failure> {
    let pool = super::peer_pool(url, 2).await?;
    PostgresEventStore::from_pool(pool.clone()).migrate().await;
    if is_transactional {
        source(&pool)?.migrate().await?;
        PostgresProjectionStore::from_pool(pool).migrate().await?;
    }
    Ok(())
}

/// The ids of the events are below those of all later ones: the order of the feed is that of the ids.
pub fn fill() -> Result<String, Failure> {
    let account = StreamId::try_new("ACCOUNT")?;
    let event = serde_json::to_string(&AccountEvent::Deposited { account, deposited: Deposited::new() })?;
    Ok(format!(
        "INSERT INTO eventcore_events (event_id, stream_id, event_type, event_data) \
         SELECT ('0000' || substr(md5('{{id}}' || account || ' ' || version), 5))::uuid, '{{id}}' || account, 'AccountEvent', \
             replace('{event}', 'ACCOUNT', '{{id}}' || account)::jsonb \
         FROM generate_series(1, {{accounts}}) AS account, generate_series(1, {{events}}) AS version"
    ))
}
