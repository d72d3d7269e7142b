//! The order of the feed: writers that are held open, overtake each other, roll back, are killed between their inserts
//! and their commits, or leave prepared transactions behind. No event is skipped, and none is delivered twice.

use std::collections::BTreeMap;
use std::time::Duration;

use es_core::feed::{Feed, FeedAnchor, FeedEntry, FeedRead, Position, Slice};
use es_core::store::Append;
use es_core::{EventStore, StreamId, Version};
use es_postgres::PostgresStore;
use es_postgres::sqlx::{self, AssertSqlSafe, Connection, PgConnection};
use es_tests::conformance::{events, new_commit};
use fastrand::Rng;
use uuid::Uuid;

/// The number of interleavings, which `ES_FAULT_RUNS` overrides. Each has its seed, which failures name.
const INTERLEAVINGS: u64 = 2_000;

/// The most interleavings during which an old transaction stays open.
const MAX_HELD: u64 = 3;

const SLICE: Slice = Slice::new(0);

/// A writer with a connection, and its transaction if one is open.
struct Writer {
    connection: PgConnection,
    open: Option<Open>,
}

/// An open transaction: the stream that it writes to, and its commits.
struct Open {
    stream: usize,
    inserted: Vec<(Uuid, u64, u64)>,
}

/// A transaction that holds back the feed.
struct Holder {
    connection: PgConnection,
    /// How many interleavings it still stays open.
    left: u64,
    /// The number of acknowledged events when it began. The feed must not go on behind them.
    most: u64,
}

struct World {
    store: PostgresStore,
    random: Rng,
    streams: Vec<StreamId>,
    /// The commits of each stream that are acknowledged: their ids, first and last versions.
    acknowledged: Vec<Vec<(Uuid, u64, u64)>>,
    writers: Vec<Writer>,
    /// The prepared transactions, which outlive their sessions, with their global ids.
    prepared: Vec<(String, Open)>,
    /// A transaction that stays open over several interleavings and holds back the feed, and the end of the feed before
    /// it.
    holder: Option<Holder>,
    /// What the reader has been given, and where it continues.
    seen: Vec<FeedEntry>,
    through: Position,
    anchor: Option<FeedAnchor>,
}

async fn connect(store: &PostgresStore) -> PgConnection {
    let options = store.pool().connect_options();
    PgConnection::connect_with(&options).await.expect("connects")
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
}

impl World {
    async fn new(store: PostgresStore) -> Self {
        let mut writers = Vec::new();
        for _ in 0..4 {
            writers.push(Writer { connection: connect(&store).await, open: None });
        }
        let streams: Vec<_> =
            (0..5).map(|n| StreamId::new("interleaved", format!("{n}")).expect("valid")).collect();
        Self {
            store,
            random: Rng::with_seed(0),
            acknowledged: vec![Vec::new(); streams.len()],
            streams,
            writers,
            prepared: Vec::new(),
            holder: None,
            seen: Vec::new(),
            through: Position::NONE,
            anchor: None,
        }
    }

    fn end(&self, stream: usize) -> u64 {
        self.acknowledged[stream].last().map_or(0, |(.., last)| *last)
    }

    /// Returns a stream to which no open transaction writes.
    fn free_stream(&mut self) -> Option<usize> {
        let taken = |stream: &usize| {
            let open = self.writers.iter().filter_map(|writer| writer.open.as_ref());
            open.chain(self.prepared.iter().map(|(_, open)| open)).any(|open| open.stream == *stream)
        };
        let free: Vec<_> = (0..self.streams.len()).filter(|stream| !taken(stream)).collect();
        if free.is_empty() { None } else { Some(free[self.random.usize(..free.len())]) }
    }

    /// Does something that a client, the network, or an operator might do.
    async fn step(&mut self) {
        let writer = self.random.usize(..self.writers.len());
        match self.random.u32(..100) {
            0..25 => self.read().await,
            25..35 => self.append().await,
            35..60 => match self.writers[writer].open {
                None => self.begin(writer).await,
                Some(_) => self.insert(writer).await,
            },
            60..68 => self.insert(writer).await,
            68..82 => self.end_transaction(writer, "COMMIT").await,
            82..88 => self.end_transaction(writer, "ROLLBACK").await,
            88..91 => self.prepare(writer).await,
            91..95 => self.end_prepared().await,
            _ => self.kill(writer).await,
        }
    }

    /// Begins a transaction, whose id is assigned now or with its first insert.
    async fn begin(&mut self, writer: usize) {
        let Some(stream) = self.free_stream() else { return };
        let connection = &mut self.writers[writer].connection;
        execute(connection, "BEGIN").await.expect("begins");
        if self.random.bool() {
            execute(connection, "SELECT pg_current_xact_id()").await.expect("assigns an id");
        }
        self.writers[writer].open = Some(Open { stream, inserted: Vec::new() });
    }

    /// Inserts a commit of up to three events as the store does.
    async fn insert(&mut self, writer: usize) {
        let Some(open) = &self.writers[writer].open else { return };
        let stream = open.stream;
        let before = open.inserted.last().map_or_else(|| self.end(stream), |(.., last)| *last);
        let (id, count) = (Uuid::from_u128(self.random.u128(..)), self.random.u64(1..4));
        let (first, last) = (before + 1, before + count);
        let events = vec![r#"{"t":"Counted","p":{}}"#; count as usize].join(",");
        let sql = format!(
            "INSERT INTO {} (stream, first, last, id, at, bytes, events) \
             VALUES ('{}', {first}, {last}, '{id}', now(), 30, '[{events}]')",
            crate::table(&self.store, "commits"),
            self.streams[stream],
        );
        let writer = &mut self.writers[writer];
        execute(&mut writer.connection, &sql).await.expect("inserts");
        writer.open.as_mut().expect("is open").inserted.push((id, first, last));
    }

    async fn end_transaction(&mut self, writer: usize, how: &str) {
        let Some(open) = self.writers[writer].open.take() else { return };
        execute(&mut self.writers[writer].connection, how).await.expect("ends");
        if how == "COMMIT" {
            self.acknowledged[open.stream].extend(open.inserted);
        }
    }

    /// Prepares the transaction of a writer, whose session may be killed afterwards.
    async fn prepare(&mut self, writer: usize) {
        let Some(open) = self.writers[writer].open.take() else { return };
        let gid = format!("{}-{}", self.store.schema(), self.random.u64(..));
        let sql = format!("PREPARE TRANSACTION '{gid}'");
        execute(&mut self.writers[writer].connection, &sql).await.expect("prepares");
        self.prepared.push((gid, open));
        if self.random.bool() {
            self.kill(writer).await;
        }
    }

    /// Commits a prepared transaction, or rolls it back.
    async fn end_prepared(&mut self) {
        if self.prepared.is_empty() {
            return;
        }
        let (gid, open) = self.prepared.swap_remove(self.random.usize(..self.prepared.len()));
        let how = if self.random.bool() { "COMMIT" } else { "ROLLBACK" };
        let sql = AssertSqlSafe(format!("{how} PREPARED '{gid}'"));
        sqlx::raw_sql(sql).execute(self.store.pool()).await.expect("ends");
        if how == "COMMIT" {
            self.acknowledged[open.stream].extend(open.inserted);
        }
    }

    fn total(&self) -> u64 {
        (0..self.streams.len()).map(|stream| self.end(stream)).sum()
    }

    /// Begins a transaction that stays open over some interleavings, or ends it.
    async fn hold(&mut self) {
        match &mut self.holder {
            None if self.random.u8(..20) == 0 => {
                let mut connection = connect(&self.store).await;
                execute(&mut connection, "BEGIN; SELECT pg_current_xact_id()").await.expect("begins");
                let left = self.random.u64(1..=MAX_HELD);
                self.holder = Some(Holder { connection, left, most: self.total() });
            }
            Some(Holder { left: 0, connection, .. }) => {
                execute(connection, "ROLLBACK").await.expect("ends");
                self.holder = None;
            }
            Some(holder) => holder.left -= 1,
            None => {}
        }
    }

    /// Kills the session of a writer, with its transaction.
    async fn kill(&mut self, writer: usize) {
        self.writers[writer].open = None;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()");
        let pid: i32 = pid.fetch_one(&mut self.writers[writer].connection).await.expect("is known");
        let kill = sqlx::query("SELECT pg_terminate_backend($1, 60000)").bind(pid);
        kill.execute(self.store.pool()).await.expect("kills");
        self.writers[writer].connection = connect(&self.store).await;
    }

    /// Appends through the store, while the transactions of the writers are open.
    async fn append(&mut self) {
        let Some(stream) = self.free_stream() else { return };
        let version = Version::new(self.end(stream));
        let append = Append::after_loaded(
            self.streams[stream].clone(),
            version,
            new_commit(events(self.random.usize(1..4))),
        );
        let appended = self.store.append(&append).await.expect("appends");
        let commit = (append.id().as_uuid(), appended.first.get(), appended.last.get());
        self.acknowledged[stream].push(commit);
    }

    /// Reads a page, as a projector does.
    async fn read(&mut self) {
        let limit = self.random.u32(1..6);
        let read = FeedRead::new(SLICE, self.through).anchored(self.anchor).limit(limit);
        let page = self.store.read_feed(&read).await.expect("reads");
        self.seen.extend(page.entries);
        (self.through, self.anchor) = (page.through, page.anchor);
        if let Some(holder) = &self.holder {
            assert!(self.through.get() <= holder.most, "the feed has passed an open transaction");
        }
    }

    /// Checks that everything after the beginning of the old transaction waits for it, and is reported.
    async fn check_held(&mut self, seed: u64) {
        self.read().await;
        let Some(holder) = &self.holder else { return };
        let after = self.total() - holder.most;
        let delay = self.store.feed_delay().await.expect("is known");
        assert!(delay.oldest.is_some(), "seed {seed}: the old transaction is not reported");
        assert!(
            (delay.waiting > 0) || after == 0,
            "seed {seed}: {after} events wait, and {delay:?} is reported"
        );
    }

    /// Ends all transactions, and checks everything that was seen.
    async fn settle(&mut self, seed: u64) {
        for writer in 0..self.writers.len() {
            let how = if self.random.bool() { "COMMIT" } else { "ROLLBACK" };
            self.end_transaction(writer, how).await;
        }
        while !self.prepared.is_empty() {
            self.end_prepared().await;
        }
        if self.holder.is_some() {
            return self.check_held(seed).await;
        }
        let total = self.total();
        // Transactions of other tests on this server may be open.
        for _ in 0..2_000 {
            self.read().await;
            if self.through.get() >= total {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(
            self.through,
            Position::new(total),
            "seed {seed}: events are missing, or there are too many"
        );
        let end = self.store.feed_end(SLICE).await.expect("is known");
        assert_eq!((end.position, end.anchor), (self.through, self.anchor), "seed {seed}");

        let mut position = Position::NONE;
        let mut told: BTreeMap<&StreamId, Vec<(Uuid, u64, u64)>> = BTreeMap::new();
        for entry in &self.seen {
            assert_eq!(entry.position, position.next(), "seed {seed}: positions are not dense");
            position = entry.last();
            let commit = &entry.commit;
            let versions = (commit.id.as_uuid(), commit.first.get(), commit.last().get());
            told.entry(&entry.stream).or_default().push(versions);
        }
        for (stream, acknowledged) in self.streams.iter().zip(&self.acknowledged) {
            assert_eq!(told.get(stream).unwrap_or(&Vec::new()), acknowledged, "seed {seed}: `{stream}`");
        }
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn no_interleaving_skips_or_repeats_an_event() {
    let mut world = World::new(crate::store().await).await;
    let runs = std::env::var("ES_FAULT_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = runs.unwrap_or(INTERLEAVINGS);
    let mut held = 0;
    for seed in 0..runs {
        world.random = Rng::with_seed(seed);
        world.hold().await;
        held += u64::from(world.holder.is_some());
        for _ in 0..world.random.u32(10..30) {
            world.step().await;
        }
        world.settle(seed).await;
    }
    assert!(runs < 100 || held > runs / 20, "only {held} of {runs} interleavings have an old transaction");
    if let Some(mut holder) = world.holder.take() {
        execute(&mut holder.connection, "ROLLBACK").await.expect("ends");
        world.settle(runs).await;
    }
    // A second reader sees the same, from the start.
    let (mut again, mut through) = (Vec::new(), Position::NONE);
    loop {
        let page = world.store.read_feed(&FeedRead::new(SLICE, through).limit(1_000)).await.expect("reads");
        again.extend(page.entries);
        through = page.through;
        if page.is_last {
            break;
        }
    }
    assert!(again == world.seen, "the feed has changed");
    let marks = format!("SELECT count(*) FROM {}", crate::table(&world.store, "feed_marks"));
    let marks: i64 =
        sqlx::query_scalar(AssertSqlSafe(marks)).fetch_one(world.store.pool()).await.expect("counts");
    assert!(marks as usize > again.len() / 200, "{marks} marks for {} commits", again.len());
}

/// An event is not delivered before an older transaction has ended, even if nothing else happens.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn an_open_transaction_holds_back_the_feed_and_is_reported() {
    let store = crate::store().await;
    let mut writer = connect(&store).await;
    execute(&mut writer, "BEGIN; SELECT pg_current_xact_id()").await.expect("begins");
    let stream = StreamId::new("held", "1").expect("valid");
    let append = Append::after_loaded(stream.clone(), Version::NONE, new_commit(events(2)));
    store.append(&append).await.expect("appends");
    let page = store.read_feed(&FeedRead::new(SLICE, Position::NONE)).await.expect("reads");
    assert!(page.entries.is_empty() && page.is_last, "an older transaction may still insert");
    assert_eq!(store.indexed(&stream).await.expect("is known"), Version::NONE);
    let delay = store.feed_delay().await.expect("is known");
    assert_eq!(delay.waiting, 1);
    assert!(delay.oldest.is_some_and(|oldest| oldest.pid.is_some()));
    execute(&mut writer, "COMMIT").await.expect("ends");
    for _ in 0..2_000 {
        let page = store.read_feed(&FeedRead::new(SLICE, Position::NONE)).await.expect("reads");
        if page.through == Position::new(2) {
            assert_eq!(store.indexed(&stream).await.expect("is known"), Version::new(2));
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the commit is not delivered");
}

/// A reader may start far behind the end, or far from the last mark. Its pages do not depend on what follows them.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_read_far_from_the_last_mark_finds_its_position() {
    const APPENDS: u64 = 40;
    const COMMITS: u64 = 100;
    let store = crate::store().await;
    let stream = StreamId::new("long", "1").expect("valid");
    for number in 0..APPENDS {
        let following = (1..COMMITS).map(|_| new_commit(events(1)));
        let version = Version::new(number * COMMITS);
        let append = Append::after_loaded(stream.clone(), version, new_commit(events(1)));
        store.append(&append.with_following(following)).await.expect("appends");
    }
    let total = APPENDS * COMMITS;
    wait_for(&store, total).await;

    let read = |after: u64| FeedRead::new(SLICE, Position::new(after)).limit(10);
    let page = store.read_feed(&read(total - 500)).await.expect("reads");
    let positions: Vec<_> = page.entries.iter().map(|entry| entry.position.get()).collect();
    assert_eq!(positions, (total - 499..=total - 490).collect::<Vec<_>>());
    assert!(!page.is_last);
    let page = store.read_feed(&read(total)).await.expect("reads");
    assert!(page.entries.is_empty() && page.is_last);
    store.read_feed(&read(total + 1)).await.expect_err("the position is beyond the end");

    let (mut through, mut count) = (Position::NONE, 0);
    loop {
        let page = store.read_feed(&FeedRead::new(SLICE, through).limit(700)).await.expect("reads");
        (through, count) = (page.through, count + page.entries.len() as u64);
        if page.is_last {
            break;
        }
    }
    assert_eq!((through.get(), count), (total, total));
}

/// Waits until the feed has `total` events: transactions of other tests on this server may be open.
async fn wait_for(store: &PostgresStore, total: u64) {
    for _ in 0..2_000 {
        let last = store.indexed(&StreamId::new("long", "1").expect("valid")).await.expect("is known");
        if last == Version::new(total) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the feed does not have {total} events");
}
