//! Personal data with keys in PostgreSQL: wrapping, rotation, and connections that are cut.

use std::sync::Arc;
use std::time::Duration;

use es_core::personal::{KeyState, Keyring, Personal, SealedStore, Subject};
use es_core::prelude::*;
use es_core::{Projector, StoreError, StreamId};
use es_postgres::keyring::{LocalMasterKey, MasterKey, PostgresKeyring, PostgresKeyringBuilder};
use es_postgres::sqlx::postgres::PgPoolOptions;
use es_postgres::sqlx::{self, AssertSqlSafe, PgPool};
use es_tests::conformance::feed::is_indexed;
use es_tests::conformance::keyring::ForgettingMasterKey;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The value of the personal fields, for which the tests search.
const NAME: &str = "Planted-Secret";

#[event]
pub(crate) struct Registered {
    customer: String,
    #[personal(subject = customer)]
    name: Personal<String>,
}

#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[aggregate(name = "customer", id = String, events(Registered), snapshot)]
pub(crate) struct Customer {
    pub(crate) name: Option<Personal<String>>,
}

pub(crate) struct Register;

#[handlers]
impl Customer {
    #[apply]
    fn registered(&mut self, event: &Registered) {
        self.name = Some(event.name.clone());
    }

    #[handle]
    fn register(&self, _: &Register, ctx: &Context<Self>) -> Events<Self> {
        let registered = Registered { customer: ctx.id().clone(), name: NAME.to_owned().into() };
        Events::from(registered).claim_personal("name", format!("{NAME} of {}", ctx.id()))
    }
}

#[derive(Clone, Row, Serialize, Deserialize)]
#[row(name = "names", key = customer)]
struct NameRow {
    customer: String,
    #[personal(subject = customer)]
    name: Personal<String>,
}

#[derive(Clone, Projection)]
#[projection(name = "names", events(Customer(Registered)))]
struct Names {
    #[read_model]
    rows: ReadModel<NameRow>,
}

#[handlers]
impl Names {
    #[project]
    async fn registered(&mut self, event: &Registered, ctx: &EventContext) -> Result<(), BoxError> {
        Ok(self.rows.put(NameRow { customer: ctx.id().to_owned(), name: event.name.clone() })?)
    }
}

pub(crate) fn subject(id: impl ToString) -> Subject {
    Subject::new(id.to_string()).expect("valid")
}

pub(crate) fn master_key(number: u8) -> LocalMasterKey {
    LocalMasterKey::new([number; 32])
}

fn new_schema() -> String {
    format!("test_{}", Uuid::new_v4().simple())
}

/// Opens the keyring of a schema with an empty cache, as a new process does.
pub(crate) fn open(pool: &PgPool, schema: &str, master_key: impl MasterKey) -> PostgresKeyringBuilder {
    PostgresKeyring::builder(pool.clone(), master_key).schema(schema)
}

pub(crate) fn build(builder: PostgresKeyringBuilder) -> PostgresKeyring {
    builder.build().expect("a valid name")
}

/// A keyring in a new schema.
pub(crate) async fn keyring(pool: PgPool) -> PostgresKeyring {
    let keyring = build(open(&pool, &new_schema(), master_key(1)));
    keyring.migrate().await.expect("creates the schema");
    keyring
}

/// Opens the same keyring with an empty cache, as a new process does.
pub(crate) fn reopened(keyring: &PostgresKeyring) -> PostgresKeyring {
    build(open(keyring.pool(), keyring.schema(), master_key(1)))
}

async fn run(keyring: &PostgresKeyring, sql: &str) {
    let sql = sql.replace("{keys}", &format!("{}.keys", keyring.schema()));
    let sql = AssertSqlSafe(sql.replace("{schema}", keyring.schema()));
    sqlx::raw_sql(sql).execute(keyring.pool()).await.expect("runs");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_schema_is_migrated_and_verified() {
    let keyring = build(open(&crate::pool().await, &new_schema(), master_key(1)));
    let ann = [subject("ann")];
    for error in [
        keyring.verify().await.expect_err("is empty"),
        keyring.keys(&ann).await.expect_err("is empty"),
        keyring.keys_or_create(&ann).await.expect_err("is empty"),
        keyring.forget(&ann[0]).await.expect_err("is empty"),
        keyring.rewrap().await.expect_err("is empty"),
    ] {
        assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
        assert!(error.to_string().contains("call `PostgresKeyring::migrate`"), "{error}");
    }
    for result in join_all((0..4).map(|_| keyring.migrate())).await {
        result.expect("migrates");
    }
    keyring.verify().await.expect("is as it was made");
    keyring.keys_or_create(&ann).await.expect("creates");
    run(&keyring, "UPDATE {schema}.keyring SET format = 99").await;
    for error in [keyring.verify().await.expect_err("newer"), keyring.migrate().await.expect_err("newer")] {
        assert!(error.to_string().contains("use a newer version"), "{error}");
    }
    let ddl = keyring.ddl();
    run(&keyring, "DROP SCHEMA {schema} CASCADE").await;
    sqlx::raw_sql(AssertSqlSafe(ddl)).execute(keyring.pool()).await.expect("creates the schema");
    keyring.verify().await.expect("is as `migrate` makes it");
}

/// The application needs no privilege to delete rows, so that tombstones are safe from it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn three_privileges_are_enough() {
    let admin = keyring(crate::pool().await).await;
    let user = format!("user_{}", Uuid::new_v4().simple());
    run(
        &admin,
        &format!(
            "CREATE ROLE {user} LOGIN; GRANT USAGE ON SCHEMA {{schema}} TO {user}; \
             GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {{schema}} TO {user}"
        ),
    )
    .await;
    let options = admin.pool().connect_options().as_ref().clone().username(&user);
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("connects");
    let keyring = build(open(&pool, admin.schema(), master_key(2)).previous_master_key(master_key(1)));
    let subjects = ["ann", "bob"].map(subject);
    admin.keys_or_create(&subjects[..1]).await.expect("created");
    keyring.verify().await.expect("is readable");
    keyring.keys_or_create(&subjects).await.expect("created");
    assert_eq!(keyring.rewrap().await.expect("rewrapped"), 1);
    keyring.forget(&subjects[1]).await.expect("forgotten");
    let delete = format!("DELETE FROM {}.keys", admin.schema());
    sqlx::raw_sql(AssertSqlSafe(delete)).execute(&pool).await.expect_err("may not delete");
    run(&admin, &format!("DROP OWNED BY {user}; DROP ROLE {user}")).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_wrapped_key_belongs_to_its_subject_and_its_schema() {
    let keyring = keyring(crate::pool().await).await;
    let subjects = ["ann", "bob"].map(subject);
    let keys = keyring.keys_or_create(&subjects).await.expect("created");
    let original = keyring.schema().to_owned();
    let renamed = new_schema();
    run(&keyring, &format!("ALTER SCHEMA {{schema}} RENAME TO {renamed}")).await;
    let new = || open(keyring.pool(), &renamed, master_key(1));
    let error = build(new()).keys(&subjects).await.expect_err("another schema");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("original_schema"), "{error}");
    let restored = build(new().original_schema(&original));
    assert_eq!(restored.keys(&subjects).await.expect("read"), keys);

    run(
        &restored,
        "UPDATE {keys} SET wrapped = (SELECT wrapped FROM {keys} WHERE subject = 'ann') WHERE subject = 'bob'",
    )
    .await;
    let after = build(new().original_schema(&original));
    assert_eq!(after.keys(&subjects[..1]).await.expect("read"), keys[..1]);
    for result in [after.keys(&subjects[1..]).await, after.keys_or_create(&subjects[1..]).await] {
        let error = result.expect_err("the key of another subject");
        assert!(
            matches!(error, StoreError::Corrupt { .. }) && error.to_string().contains("`bob`"),
            "{error}"
        );
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn forgetting_deletes_the_key_and_keeps_a_tombstone() {
    let keyring = keyring(crate::pool().await).await;
    let subjects = ["ann", "bob"].map(subject);
    let keys = keyring.keys_or_create(&subjects).await.expect("created");
    // Another process has cached both keys.
    let cached = reopened(&keyring);
    cached.keys(&subjects).await.expect("read");
    keyring.forget(&subjects[0]).await.expect("forgotten");
    assert_eq!(cached.keys(&subjects).await.expect("cached"), keys);
    assert_eq!(
        keyring.keys(&subjects[..1]).await.expect("read"),
        [KeyState::Forgotten],
        "not cached any more"
    );
    let uncached = build(open(keyring.pool(), keyring.schema(), master_key(1)).cache(Duration::ZERO));
    assert_eq!(uncached.keys(&subjects).await.expect("read"), [KeyState::Forgotten, keys[1].clone()]);

    let rows = format!("SELECT subject, wrapped, master_key FROM {}.keys ORDER BY subject", keyring.schema());
    let rows = sqlx::query_as::<_, (String, Option<String>, Option<String>)>(AssertSqlSafe(rows));
    let rows = rows.fetch_all(keyring.pool()).await.expect("reads");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0], ("ann".to_owned(), None, None));
    assert!(rows[1].1.is_some() && rows[1].2.is_some());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_master_key_can_be_rotated() {
    let before = keyring(crate::pool().await).await;
    let subjects = ["ann", "bob", "eve"].map(subject);
    let keys = before.keys_or_create(&subjects).await.expect("created");
    before.forget(&subjects[2]).await.expect("forgotten");
    let expected = [keys[0].clone(), keys[1].clone(), KeyState::Forgotten];

    let new = || open(before.pool(), before.schema(), master_key(2));
    let error = build(new()).keys(&subjects).await.expect_err("another master key");
    assert!(
        matches!(error, StoreError::Setup { .. }) && error.to_string().contains("previous_master_key"),
        "{error}"
    );
    let during = build(new().previous_master_key(master_key(1)));
    assert_eq!(during.keys(&subjects).await.expect("read"), expected);
    assert_eq!(during.rewrap().await.expect("rewrapped"), 2);
    assert_eq!(during.rewrap().await.expect("rewrapped before"), 0);
    assert_eq!(build(new()).keys(&subjects).await.expect("read"), expected);
    assert!(reopened(&before).keys(&subjects).await.is_err(), "nothing is left under the old one");
}

/// Reads and rotations take several statements.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn more_than_a_thousand_keys_are_read_and_rotated() {
    let keyring = keyring(crate::pool().await).await;
    let subjects: Vec<_> = (0..1_005).map(subject).collect();
    let keys = keyring.keys_or_create(&subjects).await.expect("created");
    assert_eq!(reopened(&keyring).keys(&subjects).await.expect("read"), keys);
    let rotated =
        build(open(keyring.pool(), keyring.schema(), master_key(2)).previous_master_key(master_key(1)));
    assert_eq!(rotated.rewrap().await.expect("rewrapped"), 1_005);
    let rotated = build(open(keyring.pool(), keyring.schema(), master_key(2)));
    assert_eq!(rotated.keys(&subjects).await.expect("read"), keys);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_subject_that_is_forgotten_meanwhile_stays_forgotten() {
    let keyring = keyring(crate::pool().await).await;
    let subjects = ["ann", "bob"].map(subject);
    let keys = keyring.keys_or_create(&subjects).await.expect("created");
    let interrupted = |number, subject| ForgettingMasterKey {
        key: master_key(number),
        keyring: Arc::new(keyring.clone()),
        subject,
    };
    let during = open(keyring.pool(), keyring.schema(), interrupted(2, subjects[1].clone()));
    let during = build(during.previous_master_key(master_key(1)));
    assert_eq!(during.rewrap().await.expect("rewrapped"), 1);
    let after = build(open(keyring.pool(), keyring.schema(), master_key(2)));
    assert_eq!(after.keys_or_create(&subjects).await.expect("read"), [keys[0].clone(), KeyState::Forgotten]);

    // While its first key is created.
    let eve = [subject("eve")];
    let creating = build(open(keyring.pool(), keyring.schema(), interrupted(2, eve[0].clone())));
    assert_eq!(creating.keys_or_create(&eve).await.expect("read"), [KeyState::Forgotten]);
}

/// The keys are in another database than the events.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn values_can_be_read_until_their_subject_is_forgotten() {
    let store = crate::store().await;
    let database = format!("keys_{}", Uuid::new_v4().simple());
    let create = format!("CREATE DATABASE {database} TEMPLATE template0");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(store.pool()).await.expect("creates");
    let options = store.pool().connect_options().as_ref().clone().database(&database);
    let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await.expect("connects");
    let keyring = PostgresKeyring::from_pool(pool, master_key(1));
    assert_eq!(keyring.schema(), "es_keys");
    keyring.migrate().await.expect("creates the schema");

    let sealed = || SealedStore::new(store.clone(), reopened(&keyring));
    let here: Repository<Customer> = Repository::new(sealed());
    for id in ["17", "18"] {
        here.execute(id, Register).await.expect("accepted");
    }
    here.flush().await;
    for id in ["17", "18"] {
        is_indexed(&store, &StreamId::new("customer", id).expect("valid")).await;
    }
    let project = async || {
        let names = Names { rows: ReadModel::of::<Names>(&sealed()) };
        let rows = names.rows.clone();
        Projector::new(sealed(), names).run_until_caught_up().await.expect("caught up");
        rows
    };
    let read = async |id: &str| {
        let customers: Repository<Customer> = Repository::new(sealed());
        let row = project().await.get(id).await.expect("reads").expect("a row");
        let name = customers.load(id).await.expect("loads").state.name.expect("registered");
        assert_eq!(row.name, name);
        name.into_value()
    };
    assert_eq!(read("17").await.as_deref(), Some(NAME));
    let holder: Repository<Customer> = Repository::new(sealed());
    let holder = holder.personal_claim_holder("name", &format!("{NAME} of 17")).await.expect("reads");
    assert!(holder.is_some());
    for table in ["commits", "claims", "documents", "snapshots", "idempotency"] {
        let sql = format!("SELECT t::text FROM {} AS t", crate::table(&store, table));
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(store.pool()).await.expect("reads");
        assert!(rows.iter().all(|row| !row.contains(NAME)), "{table}: {rows:?}");
        assert!(!rows.is_empty() || ["idempotency", "snapshots"].contains(&table), "{table} is searched");
    }

    keyring.forget(&subject("17")).await.expect("forgotten");
    assert_eq!(read("17").await, None);
    assert_eq!(read("18").await.as_deref(), Some(NAME));
    let customers: Repository<Customer> = Repository::new(sealed());
    let error = customers.execute("17", Register).await.expect_err("was forgotten");
    assert!(es_core::error_text(&error).contains("was forgotten"), "{error}");

    keyring.pool().close().await;
    drop(here);
    let drop = format!("DROP DATABASE {database} WITH (FORCE)");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(store.pool()).await.expect("drops");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_keyring_connects_to_a_url() {
    let url = std::env::var(crate::URL).expect("set");
    let keyring = PostgresKeyring::connect(&url, master_key(1)).await.expect("connects");
    assert_eq!(keyring.schema(), "es_keys");
    let error = PostgresKeyring::connect("nonsense", master_key(1)).await.expect_err("invalid");
    assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
    let debug = format!("{keyring:?}");
    assert!(debug.contains("es_keys") && debug.contains(master_key(1).id()), "{debug}");
}
