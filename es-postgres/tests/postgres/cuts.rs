//! Connections that are cut at each message between the store and the server: an error says whether its write may have
//! been executed, and the repetition of the write resolves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use es_core::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument};
use es_core::personal::{KeyState, Keyring, SealedStore};
use es_core::projection::Stage;
use es_core::store::{Append, AppendError, Claim, ClaimChange, WriteError, WriteSet};
use es_core::{EventStore, ExpectedVersion, Repository, StoreError, StreamId, Version};
use es_postgres::sqlx::postgres::PgPoolOptions;
use es_postgres::sqlx::{self, AssertSqlSafe};
use es_postgres::{PostgresStore, SqlReadModel, Statement};
use es_tests::conformance::{events, new_commit, new_stream};
use uuid::Uuid;

use crate::keys;
use crate::proxy::Proxy;
use crate::sql_projections::{self, Effects, LEASE, Trouble};

/// The most messages of one operation on a new connection. No operation has so many.
const MAX_MESSAGES: u64 = 300;

/// The number of messages after the effects of an event at which the connection is cut, which is more than a checkpoint
/// has.
const CHECKPOINT_MESSAGES: u64 = 60;

/// A store behind a proxy, and one on the same schema beside it.
struct World {
    direct: PostgresStore,
    proxy: Proxy,
}

/// How the cuts of one operation ended.
#[derive(Debug, Default)]
struct Ends {
    done: u32,
    /// Errors that say that nothing was written.
    nothing_written: u32,
    /// Errors with an unknown outcome after which the write was found.
    unknown_but_written: u32,
    /// Errors with an unknown outcome after which nothing was found.
    unknown_and_lost: u32,
}

impl World {
    async fn new() -> Self {
        let direct = crate::store().await;
        let options = direct.pool().connect_options();
        let proxy = Proxy::start(options.get_host().to_owned(), options.get_port()).await;
        Self { direct, proxy }
    }

    /// Returns a store with new connections through the proxy, the next of which are cut at `message`.
    fn cut_at(&self, message: u64, schema: &str) -> (PostgresStore, String) {
        let name = format!("cut {}", Uuid::new_v4().simple());
        let options = (*self.direct.pool().connect_options()).clone();
        let options = options.host("127.0.0.1").port(self.proxy.port()).application_name(&name);
        let options = options.ssl_mode(sqlx::postgres::PgSslMode::Disable);
        let pool = PgPoolOptions::new().max_connections(2).test_before_acquire(false);
        let store = PostgresStore::builder(pool.connect_lazy_with(options)).schema(schema);
        self.proxy.cut_at(message);
        (store.build().expect("a valid name"), name)
    }

    /// Waits until the server has noticed that all connections have ended.
    async fn settle(&self, store: PostgresStore, name: &str) {
        store.pool().close().await;
        let started = Instant::now();
        loop {
            let count =
                sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1");
            let open: i64 = count.bind(name).fetch_one(self.direct.pool()).await.expect("counts");
            if open == 0 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{open} sessions do not end");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn head(&self, stream: &StreamId) -> Version {
        self.direct.head(stream).await.expect("is known").version
    }
}

impl Ends {
    /// Records the end of an operation, and checks that its error fits the state of the store.
    fn record(&mut self, cut: u64, result: Result<(), StoreError>, is_written: bool) {
        match result {
            Ok(()) => {
                assert!(is_written, "message {cut}: an acknowledged write is lost");
                self.done += 1;
            }
            Err(error) => {
                assert!(error.is_transient() && error.is_retryable(), "message {cut}: {error:?}");
                match (error.is_outcome_unknown(), is_written) {
                    (false, true) => panic!("message {cut}: written despite {error:?}"),
                    (false, false) => self.nothing_written += 1,
                    (true, true) => self.unknown_but_written += 1,
                    (true, false) => self.unknown_and_lost += 1,
                }
            }
        }
    }

    /// Checks that the cuts have hit all phases.
    fn check(&self) {
        assert!(self.unknown_but_written > 0 && self.nothing_written > 0, "{self:?}");
        assert!(self.unknown_and_lost <= self.nothing_written, "most outcomes are known: {self:?}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_an_append() {
    let (world, mut ends) = (World::new().await, Ends::default());
    for cut in 0..MAX_MESSAGES {
        let (store, name) = world.cut_at(cut, world.direct.schema());
        let append = Append::after_loaded(new_stream(), Version::NONE, new_commit(events(2)));
        let result = match store.append(&append).await {
            Ok(_) => Ok(()),
            Err(AppendError::Store(error)) => Err(error),
            Err(error) => panic!("message {cut}: {error:?}"),
        };
        let has_cut = world.proxy.has_cut();
        world.settle(store, &name).await;
        let is_written = world.head(append.stream()).await == Version::new(2);
        ends.record(cut, result, is_written);
        let again = world.direct.append(&append).await.expect("appends, or finds the commit");
        assert_eq!(again.repeated, is_written, "message {cut}");
        assert_eq!(world.head(append.stream()).await, Version::new(2), "message {cut}");
        if !has_cut {
            return ends.check();
        }
    }
    panic!("an append has more than {MAX_MESSAGES} messages");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_a_transaction() {
    let (world, mut ends) = (World::new().await, Ends::default());
    let table = crate::table(&world.direct, "notes");
    let create = format!("CREATE TABLE {table} (note uuid)");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(world.direct.pool()).await.expect("creates");
    for cut in 0..MAX_MESSAGES {
        let (store, name) = world.cut_at(cut, world.direct.schema());
        let (first, second, note) = (new_stream(), new_stream(), Uuid::new_v4());
        let append =
            |stream: &StreamId| Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(1)));
        let claim = Claim::new("note", note.to_string()).expect("valid");
        let insert = Statement::new(AssertSqlSafe(format!("INSERT INTO {table} VALUES ($1)"))).bind(note);
        let set = WriteSet::new()
            .append(append(&first))
            .append(append(&second))
            .claims([ClaimChange::Take { claim: claim.clone(), stream: first.clone() }])
            .with_additional([es_core::store::AdditionalWrite::new(insert)]);
        let result = match store.write(&set).await {
            Ok(_) => Ok(()),
            Err(WriteError::Store(error)) => Err(error),
            Err(error) => panic!("message {cut}: {error:?}"),
        };
        let has_cut = world.proxy.has_cut();
        world.settle(store, &name).await;
        let count = || async {
            let count = format!("SELECT count(*) FROM {table} WHERE note = $1");
            let count = sqlx::query_scalar(AssertSqlSafe(count)).bind(note);
            let notes: i64 = count.fetch_one(world.direct.pool()).await.expect("counts");
            let holder = world.direct.claim_holder(&claim).await.expect("is known").stream;
            (world.head(&first).await.get(), world.head(&second).await.get(), notes, holder.is_some())
        };
        let written = count().await;
        assert!([(0, 0, 0, false), (1, 1, 1, true)].contains(&written), "message {cut}: {written:?}");
        ends.record(cut, result, written.3);
        let again = world.direct.write(&set).await.expect("writes, or finds the set");
        assert_eq!((again.repeated, count().await), (written.3, (1, 1, 1, true)), "message {cut}");
        if !has_cut {
            return ends.check();
        }
    }
    panic!("a transaction has more than {MAX_MESSAGES} messages");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_a_change_of_documents() {
    let (world, mut ends) = (World::new().await, Ends::default());
    for cut in 0..MAX_MESSAGES {
        let (store, name) = world.cut_at(cut, world.direct.schema());
        let keys = ["a", "b"].map(|document| DocumentKey::new(format!("cuts {cut}"), document));
        let set = ChangeSet::new(Uuid::new_v4()).put(keys[0].clone(), ExpectedDocument::Absent, "1").put(
            keys[1].clone(),
            ExpectedDocument::Absent,
            "2",
        );
        let result = match store.change(&set).await {
            Ok(()) => Ok(()),
            Err(ChangeError::Store(error)) => Err(error),
            Err(error) => panic!("message {cut}: {error:?}"),
        };
        let has_cut = world.proxy.has_cut();
        world.settle(store, &name).await;
        let mut found = [false; 2];
        for (found, key) in found.iter_mut().zip(&keys) {
            *found = world.direct.document(key).await.expect("reads").is_some();
        }
        assert_eq!(found[0], found[1], "message {cut}: a part of the set was written");
        ends.record(cut, result, found[0]);
        world.direct.change(&set).await.expect("changes, or finds the set");
        if !has_cut {
            return ends.check();
        }
    }
    panic!("a change has more than {MAX_MESSAGES} messages");
}

/// The checkpoint of a projection with tables of the application. Its repetition cannot make the changes again, and
/// says so.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_a_checkpoint_with_tables() {
    let (world, mut ends) = (World::new().await, Ends::default());
    let mut refused = 0;
    let reader = SqlReadModel::named(&world.direct, "cuts", "CREATE TABLE effects (cut bigint)");
    drop(reader.read().await.expect("creates the tables"));
    for cut in 0..MAX_MESSAGES {
        let (store, name) = world.cut_at(cut, world.direct.schema());
        let mut tables = SqlReadModel::named(&store, "cuts", "CREATE TABLE effects (cut bigint)");
        tables.bind("cuts", 1);
        let insert = sqlx::query("INSERT INTO effects VALUES ($1)").bind(cut as i64);
        let is_handled = match tables.transaction().await {
            Ok(db) => insert.execute(db).await.is_ok(),
            Err(_) => false,
        };
        let key = DocumentKey::new("cuts", cut.to_string());
        let mut is_committed = false;
        if is_handled {
            let open = Stage::transaction(&mut tables).expect("a transaction is open");
            let set = ChangeSet::new(Uuid::new_v4()).put(key.clone(), ExpectedDocument::Absent, "1");
            let set = set.with_additional([open]);
            let first = match store.change(&set).await {
                Ok(()) => Ok(()),
                Err(ChangeError::Store(error)) => Err(error),
                Err(error) => panic!("message {cut}: {error:?}"),
            };
            is_committed = match &first {
                Ok(()) => true,
                Err(_) => match store.change(&set).await {
                    Ok(()) => true,
                    Err(ChangeError::Refused) => {
                        refused += 1;
                        false
                    }
                    Err(error) => panic!("message {cut}: {error:?}"),
                },
            };
            ends.record(cut, first, is_committed);
        }
        let has_cut = world.proxy.has_cut();
        drop(tables);
        world.settle(store, &name).await;
        let count = sqlx::query_scalar("SELECT count(*) FROM effects WHERE cut = $1").bind(cut as i64);
        let mut read = reader.read().await.expect("reads");
        let effects: i64 = count.fetch_one(&mut *read).await.expect("counts");
        let has_checkpoint = world.direct.document(&key).await.expect("reads").is_some();
        assert_eq!((effects, has_checkpoint), (i64::from(is_committed), is_committed), "message {cut}");
        if !has_cut {
            assert!(refused > 0, "{ends:?}");
            return ends.check();
        }
    }
    panic!("a checkpoint has more than {MAX_MESSAGES} messages");
}

/// A projection whose connection is cut at each message between the effects of an event and the end of its checkpoint.
/// The effects and the checkpoint are one transaction: otherwise, a cut between two commits would repeat an event or
/// lose its effects.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn between_the_effects_of_an_event_and_its_checkpoint() {
    let world = World::new().await;
    let reader = Effects::new(&world.direct, Trouble::default());
    let waiting = sql_projections::builder(world.direct.clone(), &reader).build();

    let (store, name) = world.cut_at(u64::MAX, world.direct.schema());
    let (next_cut, handled) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU64::new(0)));
    let after_effects = {
        let (proxy, next_cut, handled) = (world.proxy.clone(), Arc::clone(&next_cut), Arc::clone(&handled));
        move || {
            handled.fetch_add(1, Ordering::SeqCst);
            // The repetition is not cut.
            proxy.cut_at(next_cut.swap(u64::MAX, Ordering::SeqCst));
        }
    };
    let effects = Effects::new(&store, Trouble::after_effects(after_effects));
    let projector = sql_projections::builder(store.clone(), &effects).lease(LEASE).build();
    let worker = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run().await }
    });
    let mut repeated = Vec::new();
    for cut in 0..CHECKPOINT_MESSAGES {
        next_cut.store(cut, Ordering::SeqCst);
        handled.store(0, Ordering::SeqCst);
        sql_projections::deposit(&world.direct, "ann", 1).await;
        let done = sql_projections::wait_for(&waiting, &world.direct, "ann").await;
        done.unwrap_or_else(|error| panic!("message {cut}: {error}"));
        let events = cut as i64 + 1;
        assert_eq!(reader.positions().await, (1..=events).collect::<Vec<_>>(), "message {cut}");
        repeated.push(handled.load(Ordering::SeqCst) > 1);
    }
    projector.shutdown();
    worker.await.expect("no panic").expect("stops");
    world.settle(store, &name).await;
    let (first, last) = (repeated.iter().position(|repeated| *repeated), repeated.last());
    assert_eq!((first, last), (Some(0), Some(&false)), "the cuts miss the checkpoint: {repeated:?}");
}

/// A key that was stored without a response is the one that all processes use.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_creating_a_key() {
    let (world, mut ends) = (World::new().await, Ends::default());
    let direct = keys::keyring(world.direct.pool().clone()).await;
    for cut in 0..MAX_MESSAGES {
        let (store, name) = world.cut_at(cut, world.direct.schema());
        let keyring = keys::build(keys::open(store.pool(), direct.schema(), keys::master_key(1)));
        let subject = [keys::subject(cut)];
        let result = keyring.keys_or_create(&subject).await;
        let has_cut = world.proxy.has_cut();
        world.settle(store, &name).await;
        let stored = keys::reopened(&direct).keys(&subject).await.expect("reads");
        if let Ok(created) = &result {
            assert_eq!(*created, stored, "message {cut}");
        }
        let is_written = stored != [KeyState::Missing];
        ends.record(cut, result.map(drop), is_written);
        let again =
            keys::reopened(&direct).keys_or_create(&subject).await.expect("creates, or finds the key");
        assert!(matches!(again[..], [KeyState::Known(_)]), "message {cut}: {again:?}");
        assert!(!is_written || again == stored, "message {cut}: the key has changed");
        if !has_cut {
            return ends.check();
        }
    }
    panic!("creating a key has more than {MAX_MESSAGES} messages");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_forgetting() {
    let (world, mut ends) = (World::new().await, Ends::default());
    let direct = keys::keyring(world.direct.pool().clone()).await;
    for cut in 0..MAX_MESSAGES {
        let (store, name) = world.cut_at(cut, world.direct.schema());
        let keyring = keys::build(keys::open(store.pool(), direct.schema(), keys::master_key(1)));
        let subject = [keys::subject(cut)];
        let created = direct.keys_or_create(&subject).await.expect("creates");
        let result = keyring.forget(&subject[0]).await;
        let has_cut = world.proxy.has_cut();
        world.settle(store, &name).await;
        let stored = keys::reopened(&direct).keys_or_create(&subject).await.expect("reads");
        let is_forgotten = stored == [KeyState::Forgotten];
        assert!(is_forgotten || stored == created, "message {cut}: {stored:?}");
        ends.record(cut, result, is_forgotten);
        direct.forget(&subject[0]).await.expect("forgets again");
        let stored = keys::reopened(&direct).keys_or_create(&subject).await.expect("reads");
        assert_eq!(stored, [KeyState::Forgotten], "message {cut}");
        if !has_cut {
            return ends.check();
        }
    }
    panic!("forgetting has more than {MAX_MESSAGES} messages");
}

/// A rotation that is cut leaves each key under one of the two master keys, and can be repeated.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_a_rotation() {
    let world = World::new().await;
    let direct = keys::keyring(world.direct.pool().clone()).await;
    let subjects = ["ann", "bob", "eve"].map(keys::subject);
    let mut expected = direct.keys_or_create(&subjects).await.expect("creates");
    direct.forget(&subjects[2]).await.expect("forgets");
    expected[2] = KeyState::Forgotten;
    let rotating = |pool: &sqlx::PgPool, from, to| {
        let builder = keys::open(pool, direct.schema(), keys::master_key(to));
        keys::build(builder.previous_master_key(keys::master_key(from)))
    };
    let mut interrupted = 0;
    for cut in 0..MAX_MESSAGES {
        let (store, name) = world.cut_at(cut, world.direct.schema());
        let result = rotating(store.pool(), 1, 2).rewrap().await;
        let has_cut = world.proxy.has_cut();
        world.settle(store, &name).await;
        let during = rotating(direct.pool(), 1, 2);
        assert_eq!(during.keys(&subjects).await.expect("reads"), expected, "message {cut}");
        let rest = during.rewrap().await.expect("continues");
        match result {
            Ok(rewrapped) => assert_eq!((rewrapped, rest), (2, 0), "message {cut}"),
            Err(error) => {
                assert!(error.is_retryable(), "message {cut}: {error:?}");
                interrupted += u32::from(rest == 1);
            }
        }
        // Back to the first master key.
        assert_eq!(rotating(direct.pool(), 2, 1).rewrap().await.expect("rewraps"), 2);
        assert_eq!(keys::reopened(&direct).keys(&subjects).await.expect("reads"), expected);
        if !has_cut {
            assert!(interrupted > 0, "no cut was between two keys");
            return;
        }
    }
    panic!("a rotation has more than {MAX_MESSAGES} messages");
}

/// A command waits until the keyring responds again.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_the_keyring_of_a_command() {
    let world = World::new().await;
    let direct = keys::keyring(world.direct.pool().clone()).await;
    for cut in 0..MAX_MESSAGES {
        let (store, name) = world.cut_at(cut, world.direct.schema());
        let keyring = keys::build(keys::open(store.pool(), direct.schema(), keys::master_key(1)));
        let customers: Repository<keys::Customer> =
            Repository::new(SealedStore::new(world.direct.clone(), keyring));
        let id = cut.to_string();
        customers
            .execute(&id, keys::Register)
            .await
            .unwrap_or_else(|error| panic!("message {cut}: {error:?}"));
        customers.flush().await;
        let has_cut = world.proxy.has_cut();
        world.settle(store, &name).await;
        let sealed = SealedStore::new(world.direct.clone(), keys::reopened(&direct));
        let customers: Repository<keys::Customer> = Repository::new(sealed);
        let loaded = customers.load(&id).await.expect("loads");
        assert_eq!(loaded.version, Version::new(1), "message {cut}");
        assert!(loaded.state.name.is_some_and(|name| !name.is_forgotten()), "message {cut}");
        if !has_cut {
            return;
        }
    }
    panic!("a command has more than {MAX_MESSAGES} messages");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn of_a_migration() {
    let world = World::new().await;
    let mut failed = 0;
    for cut in 0..MAX_MESSAGES {
        let schema = format!("test_{}", Uuid::new_v4().simple());
        let (store, name) = world.cut_at(cut, &schema);
        let result = store.migrate().await;
        let has_cut = world.proxy.has_cut();
        world.settle(store, &name).await;
        let direct = PostgresStore::builder(world.direct.pool().clone()).schema(&schema);
        let direct = direct.build().expect("a valid name");
        match result {
            Ok(()) => direct.verify().await.expect("is complete"),
            Err(error) => {
                assert!(error.is_transient(), "message {cut}: {error:?}");
                assert!(
                    error.is_outcome_unknown() || direct.verify().await.is_err(),
                    "message {cut}: {error:?}"
                );
                failed += 1;
            }
        }
        direct.migrate().await.expect("migrates, or finds the schema");
        direct.verify().await.expect("is complete");
        let drop = format!("DROP SCHEMA {schema} CASCADE");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(world.direct.pool()).await.expect("drops");
        if !has_cut {
            assert!(failed > 0);
            return;
        }
    }
    panic!("a migration has more than {MAX_MESSAGES} messages");
}
