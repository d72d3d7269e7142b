//! Whether subscriptions skip or repeat events while transactions are held open, killed, or overtaken.
//!
//! Each writer has a connection through a proxy that holds its `COMMIT`. The steps of an interleaving are chosen by a
//! seed. Every append writes one event of a separate account, so that no append conflicts with another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::contenders::{Contender, Delivered, Kind, Subscription, reason};
use crate::costs::Results;
use crate::plan::Plan;
use crate::proxy::{End, Proxy};
use crate::server::{CONNECTIONS, Database, Server};

/// The number of writers whose transactions are held open.
const WRITERS: usize = 3;

/// The steps of an interleaving.
const STEPS: u32 = 20;

/// The interval at which subscriptions poll.
const POLL: Duration = Duration::from_millis(2);

/// How long a subscription may deliver nothing until everything that it has not delivered counts as skipped.
const SILENCE: Duration = Duration::from_secs(3);

/// How long to wait until an append has reached its `COMMIT`, unless it waits for a lock.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The counts of one contender.
#[derive(Default)]
pub struct Deliveries {
    pub stored: usize,
    /// Transactions that were held open before their `COMMIT`.
    pub held: usize,
    /// Transactions whose connection was closed before `COMMIT`, or before its response.
    pub killed: usize,
    pub unanswered: usize,
    /// Appends that had to wait for a lock of a held transaction.
    pub blocked: usize,
    pub skipped: usize,
    pub repeated: usize,
    /// The counts for a burst of concurrent appends without held transactions.
    pub burst_stored: usize,
    pub burst_skipped: usize,
    pub burst_repeated: usize,
}

pub async fn measure(server: &Server, plan: &Plan) -> Results<Deliveries> {
    let mut all = Vec::new();
    for kind in Kind::DELIVERIES {
        eprintln!("interleavings: {kind}");
        all.push((kind, deliveries(server, plan, kind).await.map_err(reason)));
    }
    all
}

async fn deliveries(server: &Server, plan: &Plan, kind: Kind) -> Result<Deliveries, Failure> {
    let database = server.create("interleavings").await?;
    kind.create(&database).await?;
    let delivered = Delivered::default();
    let reader = kind.open(&database.url(), CONNECTIONS, &delivered).await?;
    let subscription = reader.subscribe(Some(POLL));
    let mut world = World::new(&database, kind, &reader, &delivered).await?;
    for seed in 0..plan.interleavings {
        world.random = fastrand::Rng::with_seed(seed);
        for _ in 0..STEPS {
            world.step().await?;
        }
        world.end_all().await?;
    }
    let mut counts = std::mem::take(&mut world.counts);
    drop(world);
    let (stored, skipped, repeated) =
        compare(kind, &database, &delivered, subscription.as_ref(), "i").await?;
    (counts.stored, counts.skipped, counts.repeated) = (stored, skipped, repeated);
    burst(plan, &reader).await?;
    let (stored, skipped, repeated) =
        compare(kind, &database, &delivered, subscription.as_ref(), "b").await?;
    (counts.burst_stored, counts.burst_skipped, counts.burst_repeated) = (stored, skipped, repeated);
    drop((subscription, reader));
    server.drop(&database.name).await?;
    Ok(counts)
}

/// Waits until nothing more is delivered, and compares the deliveries with the stored events of accounts with a prefix.
async fn compare(
    kind: Kind,
    database: &Database,
    delivered: &Delivered,
    subscription: Option<&Subscription>,
    prefix: &str,
) -> Result<(usize, usize, usize), Failure> {
    let (mut count, mut since) = (delivered.count(), Instant::now());
    let stored: Vec<_> =
        kind.stored(database).await?.into_iter().filter(|id| id.starts_with(prefix)).collect();
    loop {
        let mut times: HashMap<_, usize> = HashMap::new();
        for (id, _) in delivered.all() {
            *times.entry(id).or_default() += 1;
        }
        let of = |id: &String| times.get(id).copied().unwrap_or_default();
        let skipped = stored.iter().filter(|id| of(id) == 0).count();
        if skipped == 0 || since.elapsed() > SILENCE {
            if subscription.is_some_and(|subscription| !subscription.is_running()) {
                return Err("the subscription has stopped".into());
            }
            let repeated = stored.iter().filter(|id| of(id) > 1).count();
            return Ok((stored.len(), skipped, repeated));
        }
        if delivered.count() > count {
            (count, since) = (delivered.count(), Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Appends events through all connections at the same time.
async fn burst(plan: &Plan, contender: &Arc<dyn Contender>) -> Result<(), Failure> {
    let writers = (0..CONNECTIONS / 2).map(|writer| {
        let contender = Arc::clone(contender);
        let count = plan.burst;
        tokio::spawn(async move {
            for number in 0..count {
                contender.execute(&format!("b {writer} {number}"), 1).await?;
            }
            Ok::<_, Failure>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    Ok(())
}

/// A writer whose transactions are held open.
struct Writer {
    proxy: Proxy,
    contender: Arc<dyn Contender>,
    /// The append in progress.
    appending: Option<JoinHandle<Result<(), Failure>>>,
}

struct World<'a> {
    database: &'a Database,
    reader: &'a Arc<dyn Contender>,
    delivered: &'a Delivered,
    random: fastrand::Rng,
    writers: Vec<Writer>,
    /// A transaction that does nothing and stays open.
    long: Option<PgConnection>,
    appends: u64,
    counts: Deliveries,
}

impl<'a> World<'a> {
    async fn new(
        database: &'a Database,
        kind: Kind,
        reader: &'a Arc<dyn Contender>,
        delivered: &'a Delivered,
    ) -> Result<Self, Failure> {
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let proxy = Proxy::start(database.address()).await?;
            // The feed of this framework is read by another process.
            let kind = if kind == Kind::ThisApart { Kind::This } else { kind };
            let contender = kind.open(&database.url_through(proxy.port), 1, delivered).await?;
            writers.push(Writer { proxy, contender, appending: None });
        }
        Ok(Self {
            database,
            reader,
            delivered,
            random: fastrand::Rng::new(),
            writers,
            long: None,
            appends: 0,
            counts: Deliveries::default(),
        })
    }

    fn new_account(&mut self) -> String {
        self.appends += 1;
        format!("i {}", self.appends)
    }

    async fn step(&mut self) -> Result<(), Failure> {
        let writer = self.random.usize(..WRITERS);
        match self.random.u32(..100) {
            0..35 => self.begin(writer).await,
            35..50 => self.end(writer, End::Forwarded).await,
            50..58 => self.end(writer, End::Killed).await,
            58..64 => self.end(writer, End::Unanswered).await,
            64..80 => self.append().await,
            80..85 => self.toggle_long().await,
            _ => {
                self.wait_for_delivery().await;
                Ok(())
            }
        }
    }

    /// Starts an append, and waits until its transaction is held before its `COMMIT`, or waits for a lock.
    async fn begin(&mut self, writer: usize) -> Result<(), Failure> {
        let id = self.new_account();
        let writer = &mut self.writers[writer];
        if writer.appending.is_some() {
            return Ok(());
        }
        writer.proxy.hold(true);
        let contender = Arc::clone(&writer.contender);
        writer.appending = Some(tokio::spawn(async move { contender.execute_in_transaction(&id).await }));
        let start = Instant::now();
        while !writer.proxy.is_holding() {
            if writer.appending.as_ref().is_some_and(JoinHandle::is_finished) {
                return Err("an append has ended before its `COMMIT` was held".into());
            }
            if self.database.waiting().await? > 0 {
                self.counts.blocked += 1;
                return Ok(());
            }
            if start.elapsed() > APPEND_TIMEOUT {
                return Err("an append does not reach its `COMMIT`".into());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        self.counts.held += 1;
        Ok(())
    }

    /// Ends the transaction of a writer that is held.
    async fn end(&mut self, writer: usize, end: End) -> Result<(), Failure> {
        let writer = &mut self.writers[writer];
        if !writer.proxy.is_holding() {
            return Ok(());
        }
        // A library may repeat the append after it has lost its connection.
        writer.proxy.hold(false);
        writer.proxy.end(end);
        match end {
            End::Forwarded => {}
            End::Killed => self.counts.killed += 1,
            End::Unanswered => self.counts.unanswered += 1,
        }
        if let Some(appending) = writer.appending.take() {
            let result = tokio::time::timeout(APPEND_TIMEOUT, appending).await??;
            if end == End::Forwarded {
                result?;
            }
        }
        Ok(())
    }

    /// Appends without being held, in a time in which a lock of a held transaction would show.
    async fn append(&mut self) -> Result<(), Failure> {
        let id = self.new_account();
        let append = self.reader.execute(&id, 1);
        let mut append = std::pin::pin!(append);
        let start = Instant::now();
        loop {
            match tokio::time::timeout(Duration::from_millis(20), &mut append).await {
                Ok(result) => return result,
                Err(_) if self.database.waiting().await? > 0 => {
                    // Without the end of the held transactions, it would not end.
                    self.counts.blocked += 1;
                    for writer in &self.writers {
                        writer.proxy.hold(false);
                        writer.proxy.end(End::Forwarded);
                    }
                }
                Err(_) if start.elapsed() > APPEND_TIMEOUT => return Err("an append does not end".into()),
                Err(_) => {}
            }
        }
    }

    async fn toggle_long(&mut self) -> Result<(), Failure> {
        match self.long.take() {
            Some(long) => long.close().await?,
            None => {
                let mut long = PgConnection::connect(&self.database.url()).await?;
                sqlx::raw_sql("BEGIN; SELECT pg_current_xact_id()").execute(&mut long).await?;
                self.long = Some(long);
            }
        }
        Ok(())
    }

    /// Gives the subscription time to read what it can.
    async fn wait_for_delivery(&self) {
        let mut count = self.delivered.count();
        loop {
            tokio::time::sleep(POLL * 4).await;
            let now = self.delivered.count();
            if now == count {
                return;
            }
            count = now;
        }
    }

    /// Ends all transactions.
    async fn end_all(&mut self) -> Result<(), Failure> {
        for writer in &self.writers {
            writer.proxy.hold(false);
            writer.proxy.end(End::Forwarded);
        }
        for writer in &mut self.writers {
            if let Some(appending) = writer.appending.take() {
                tokio::time::timeout(APPEND_TIMEOUT, appending).await???;
            }
        }
        if let Some(long) = self.long.take() {
            long.close().await?;
        }
        Ok(())
    }
}
