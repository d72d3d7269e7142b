//! The contenders: each one is used as its documentation shows.

mod disintegrate;
mod eventcore;
mod postgres_es;
mod raw;
mod this;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx_peers::PgPool as PeerPool;
use sqlx_peers::postgres::PgPoolOptions as PeerPoolOptions;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::domain::{Account, Deposit};
use crate::server::Database;

/// A library, or a way of using it, on one database.
#[async_trait]
pub trait Contender: Send + Sync {
    /// Loads an account, decides, and records events.
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure>;

    /// Like [`execute`](Self::execute) with one event, in a transaction that ends with `COMMIT`.
    async fn execute_in_transaction(&self, id: &str) -> Result<(), Failure> {
        self.execute(id, 1).await
    }

    async fn load(&self, id: &str) -> Result<Account, Failure>;

    /// Starts the subscription of the library, which continues until it is dropped. It polls at the interval, or at the
    /// default. Returns `None` if there is none.
    fn subscribe(&self, poll: Option<Duration>) -> Option<Subscription>;
}

/// A contender that is connected, or the reason why it is not.
pub type Opened = (Kind, Result<Arc<dyn Contender>, String>);

/// A running subscription.
pub struct Subscription(JoinHandle<()>);

impl Subscription {
    fn start(run: impl Future<Output = ()> + Send + 'static) -> Option<Self> {
        Some(Self(tokio::spawn(run)))
    }

    pub fn is_running(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The events that a subscription has delivered: their accounts, and when.
#[derive(Clone, Default)]
pub struct Delivered(Arc<Mutex<Vec<(String, Instant)>>>);

impl Delivered {
    pub fn push(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((id.to_owned(), Instant::now()));
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn all(&self) -> Vec<(String, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Raw,
    This,
    /// With the feed in another process.
    ThisApart,
    Cached,
    PostgresEs,
    Eventcore,
    /// With its transactional projections.
    EventcoreDelivery,
    Disintegrate,
}

impl Kind {
    /// Those that execute commands differently.
    pub const COMMANDS: [Self; 7] = [
        Self::Raw,
        Self::This,
        Self::Cached,
        Self::PostgresEs,
        Self::Eventcore,
        Self::EventcoreDelivery,
        Self::Disintegrate,
    ];

    /// Those that load and store differently.
    pub const STORES: [Self; 5] =
        [Self::Raw, Self::This, Self::PostgresEs, Self::Eventcore, Self::Disintegrate];

    /// Those with a feed, and the intervals at which it is polled, unless they are the defaults.
    pub const FEEDS: [(Self, Option<Duration>); 6] = [
        (Self::This, None),
        (Self::ThisApart, None),
        (Self::ThisApart, Some(Duration::from_millis(20))),
        (Self::Eventcore, None),
        (Self::EventcoreDelivery, None),
        (Self::Disintegrate, None),
    ];

    /// Those whose deliveries are compared with the stored events.
    pub const DELIVERIES: [Self; 5] =
        [Self::ThisApart, Self::PostgresEs, Self::Eventcore, Self::EventcoreDelivery, Self::Disintegrate];

    pub fn is_this(self) -> bool {
        matches!(self, Self::This | Self::ThisApart | Self::Cached)
    }

    pub fn is_peer(self) -> bool {
        !self.is_this() && self != Self::Raw
    }

    /// Creates the tables in an empty database.
    pub async fn create(self, database: &Database) -> Result<(), Failure> {
        let url = database.url();
        match self {
            Self::Raw | Self::This | Self::ThisApart | Self::Cached => this::create(&url).await,
            Self::PostgresEs => database.execute(postgres_es::TABLES).await,
            Self::Eventcore => eventcore::create(&url, false).await,
            Self::EventcoreDelivery => eventcore::create(&url, true).await,
            Self::Disintegrate => disintegrate::create(database).await,
        }
    }

    /// Connects to a database with tables.
    pub async fn open(
        self,
        url: &str,
        connections: u32,
        delivered: &Delivered,
    ) -> Result<Arc<dyn Contender>, Failure> {
        let delivered = delivered.clone();
        Ok(match self {
            Self::Raw => Arc::new(raw::Raw::open(url, connections).await?),
            Self::This => Arc::new(this::This::open(url, connections, delivered).await?),
            Self::ThisApart => Arc::new(this::This::open(url, connections, delivered).await?.apart().await?),
            Self::Cached => Arc::new(this::This::open(url, connections, delivered).await?.cached()),
            Self::PostgresEs => Arc::new(postgres_es::PostgresEs::open(url, connections, delivered).await?),
            Self::Eventcore => {
                Arc::new(eventcore::Eventcore::open(url, connections, delivered, false).await?)
            }
            Self::EventcoreDelivery => {
                Arc::new(eventcore::Eventcore::open(url, connections, delivered, true).await?)
            }
            Self::Disintegrate => {
                Arc::new(disintegrate::Disintegrate::open(url, connections, delivered).await?)
            }
        })
    }

    /// Stores `events` events of separate commands on each of `accounts` accounts, whose names are `id` with a number.
    pub async fn fill(
        self,
        database: &Database,
        id: &str,
        accounts: u64,
        events: u64,
    ) -> Result<(), Failure> {
        let sql = match self {
            Self::Raw | Self::This | Self::ThisApart | Self::Cached => this::fill(),
            Self::PostgresEs => postgres_es::fill()?,
            Self::Eventcore | Self::EventcoreDelivery => eventcore::fill()?,
            Self::Disintegrate => disintegrate::fill()?,
        };
        let sql = sql.replace("{id}", id).replace("{accounts}", &accounts.to_string());
        database.execute(&sql.replace("{events}", &events.to_string())).await?;
        database.analyze().await
    }

    /// Returns the accounts of all stored events.
    pub async fn stored(self, database: &Database) -> Result<Vec<String>, Failure> {
        let sql = match self {
            Self::Raw | Self::This | Self::ThisApart | Self::Cached => {
                "SELECT split_part(stream, '#', 2) FROM es.commits"
            }
            Self::PostgresEs => "SELECT aggregate_id FROM events",
            Self::Eventcore | Self::EventcoreDelivery => "SELECT stream_id FROM eventcore_events",
            Self::Disintegrate => "SELECT account_id::text FROM event",
        };
        Ok(sqlx::query_scalar(sql).fetch_all(&database.pool).await?)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw sqlx loop",
            Self::This => "**this framework**",
            Self::ThisApart => "**this framework**, another process",
            Self::Cached => "**this framework**, cache",
            Self::PostgresEs => "postgres-es",
            Self::Eventcore => "eventcore-postgres",
            Self::EventcoreDelivery => "eventcore-postgres, transactional projections",
            Self::Disintegrate => "disintegrate-postgres",
        })
    }
}

/// Returns an error as one line of a table.
pub fn reason(error: Failure) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A pool for the other libraries. Like the others, it does not test connections before their use.
async fn peer_pool(url: &str, connections: u32) -> Result<PeerPool, Failure> {
    let options = PeerPoolOptions::new().max_connections(connections).test_before_acquire(false);
    Ok(options.connect(url).await?)
}

/// The events of a command as they are stored by all contenders.
fn deposits(events: u64) -> Deposit {
    Deposit { times: events }
}
