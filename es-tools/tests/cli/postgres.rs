//! `es --postgres` on the server that `ES_POSTGRES_URL` names: `just test-postgres` starts one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use es_core::personal::{Keyring, SealedStore, Subject};
use es_core::prelude::*;
use es_core::{EventStore, RetryPolicy};
use es_postgres::keyring::{LocalMasterKey, PostgresKeyring};
use es_postgres::{PostgresStore, SqlReadModel, sqlx};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::copy::{address, digests, fill, fill_with_large_events};
use crate::personal::{Directory, Join, Member, MemberRow, NAME, application, page};
use crate::support::{Account, AccountEvent, Deposit, Deposited, Place, Ran, lines};

/// The variable that names the server.
const URL: &str = "ES_POSTGRES_URL";

fn url() -> String {
    std::env::var(URL).unwrap_or_else(|_| panic!("{URL} is not set: `scripts/postgres COMMAND` sets it"))
}

/// A schema for one test.
struct Schema {
    name: String,
}

impl Schema {
    fn new() -> Self {
        Self { name: format!("tool_{}", Uuid::new_v4().simple()) }
    }

    /// Creates the schema, and returns its store.
    async fn store(&self) -> PostgresStore {
        let pool = PostgresStore::connect(&url()).await.expect("connects").pool().clone();
        let store = PostgresStore::builder(pool).schema(&self.name).build().expect("a valid name");
        store.migrate().await.expect("creates the schema");
        store
    }

    /// Returns the address for `copy`.
    fn address(&self) -> String {
        format!("{}#{}", url(), self.name)
    }

    /// Runs the binary on the schema.
    fn es(&self, arguments: &[&str]) -> Ran {
        run(&[&["--postgres", &url(), "--schema", &self.name], arguments].concat(), &[])
    }
}

/// Runs the binary with these arguments and variables.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_es"));
    command.args(arguments).env_remove("ES_DYNAMO_TABLE").env_remove(URL);
    Ran::of(command.envs(variables.iter().copied()))
}

async fn deposit(store: &PostgresStore, id: &str, deposits: &[u64]) {
    let accounts: Repository<Account> = Repository::new(store.clone());
    for cents in deposits {
        accounts.execute(id, Deposit(*cents)).await.expect("accepted");
    }
}

/// Waits until all commits are in the feed, which the transactions of other tests may hold back.
async fn all_are_indexed(store: &PostgresStore) {
    for _ in 0..6_000 {
        if store.feed_delay().await.expect("is known").waiting == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("older transactions do not end");
}

#[tokio::test]
async fn a_password_on_the_command_line_is_refused() {
    for position in [0, 2] {
        let mut arguments = vec!["stream", "show", "account#ann"];
        arguments.splice(position..position, ["--postgres", "postgres://ann:planted-secret@localhost/shop"]);
        let refused = run(&arguments, &[]).fails(2);
        assert!(refused.contains("PGPASSWORD") && !refused.contains("planted-secret"), "{refused}");
    }
    let closed = "postgres://ann:planted-secret@127.0.0.1:1/shop";
    for arguments in [&["feed", "lag"][..], &["schema", "verify"], &["claim", "email", "a"]] {
        let failed = run(arguments, &[(URL, closed)]).fails(1);
        assert!(failed.contains("no connection to PostgreSQL at `127.0.0.1:1`"), "{failed}");
        assert!(failed.contains("help: check that this computer can reach PostgreSQL"), "{failed}");
        assert!(!failed.contains("planted-secret"), "{failed}");
    }
    let malformed = run(&["feed", "lag"], &[(URL, "ann:planted-secret@localhost")]).fails(1);
    assert!(!malformed.contains("planted-secret"), "{malformed}");
}

#[tokio::test]
async fn options_take_precedence_over_the_environment() {
    let closed = [(URL, "postgres://127.0.0.1:1/shop")];
    let missing = run(&["--file", "missing.db", "feed", "lag"], &closed).fails(1);
    assert!(missing.contains("missing.db does not exist"), "{missing}");
    let template = run(&["table", "template", "terraform"], &closed).succeeds();
    assert!(template.contains("aws_dynamodb_table"), "{template}");
    let both = run(&["--file", "a.db", "--postgres", "postgres://localhost", "feed", "lag"], &[]).fails(2);
    assert!(both.contains("cannot be used with"), "{both}");
    let neither = run(&["schema", "verify"], &[]).fails(1);
    assert!(neither.contains("pass --postgres, or set ES_POSTGRES_URL"), "{neither}");
}

#[tokio::test]
async fn the_schema_is_printed_without_a_database() {
    let sql = run(&["--schema", "shop", "schema", "print"], &[]).succeeds();
    assert!(sql.contains("CREATE TABLE \"shop\".commits"), "{sql}");
    for (arguments, name) in [
        (&["schema", "print"][..], "\"es\".commits"),
        (&["schema", "print", "--keyring"], "\"es_keys\".keys"),
        (&["--schema", "shop_keys", "schema", "--keyring", "print"], "\"shop_keys\".keys"),
    ] {
        let sql = run(arguments, &[]).succeeds();
        assert!(sql.contains(&format!("CREATE TABLE {name} (")), "{sql}");
        assert_eq!(sql.contains(".commits"), name.ends_with("commits"), "{sql}");
    }
    let invalid = run(&["--schema", "Shop", "schema", "print"], &[]).fails(1);
    assert!(invalid.contains("not a valid name of a schema"), "{invalid}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_schema_is_migrated_and_verified() {
    let schema = Schema::new();
    let missing = schema.es(&["schema", "verify"]).exits(3);
    assert!(missing.contains("has no event store: use `schema migrate`"), "{missing}");
    let list = schema.es(&["projection", "list"]).fails(1);
    assert!(list.contains("is not that of an event store: use `schema migrate`"), "{list}");
    assert!(list.contains("\nhelp: to use another schema or database, pass --schema"), "{list}");
    let url = url();
    let (server, _) = url.rsplit_once('/').expect("ends with the name of the database");
    let denied = run(&["schema", "verify"], &[(URL, &format!("{server}/missing"))]).fails(1);
    assert!(denied.contains("check the database, the user"), "{denied}");
    let dry = schema.es(&["--dry-run", "schema", "migrate"]).succeeds();
    assert!(dry.starts_with("would create the schema"), "{dry}");
    schema.es(&["schema", "verify"]).exits(3);
    for _ in 0..2 {
        assert_eq!(schema.es(&["schema", "migrate", "--json"]).json(), json!({ "schema": schema.name }));
    }
    schema.es(&["schema", "verify"]).succeeds();
}

/// The printed statements are enough for an application whose user may not create tables.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_schema_of_a_keyring_is_printed_migrated_and_verified() {
    let (printed, migrated) = (Schema::new(), Schema::new());
    let pool = PostgresStore::connect(&url()).await.expect("connects").pool().clone();
    for schema in [&printed, &migrated] {
        let missing = schema.es(&["schema", "verify", "--keyring"]).exits(3);
        assert!(missing.contains("has no keyring: use `schema migrate --keyring`"), "{missing}");
    }
    let sql = printed.es(&["schema", "print", "--keyring"]).succeeds();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.expect("creates the schema");
    let dry = migrated.es(&["--dry-run", "schema", "migrate", "--keyring"]).succeeds();
    assert!(dry.starts_with("would create the schema"), "{dry}");
    for _ in 0..2 {
        let done = migrated.es(&["schema", "migrate", "--keyring", "--json"]).json();
        assert_eq!(done, json!({ "schema": migrated.name }));
    }
    for schema in [&printed, &migrated] {
        schema.es(&["schema", "verify", "--keyring"]).succeeds();
        let other = schema.es(&["schema", "verify"]).exits(3);
        assert!(other.contains("has no event store: use `schema migrate`"), "{other}");
        let keyring = PostgresKeyring::builder(pool.clone(), LocalMasterKey::new([7; 32]));
        let keyring = keyring.schema(&schema.name).build().expect("a valid name");
        keyring.keys_or_create(&[Subject::new("17").expect("valid")]).await.expect("creates a key");
    }
}

/// An application whose keys are in a schema beside that of the events.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn an_application_with_a_keyring_opens_personal_data() {
    let schema = Schema::new();
    let store = schema.store().await;
    let keys = format!("{}_keys", schema.name);
    let open = move |store: &PostgresStore| {
        let builder = PostgresKeyring::builder(store.pool().clone(), LocalMasterKey::new([7; 32]));
        builder.schema(&keys).build().expect("a valid name")
    };
    let keyring = open(&store);
    keyring.migrate().await.expect("creates the schema");
    let members: Repository<Member> = Repository::new(SealedStore::new(store.clone(), keyring.clone()));
    members.execute("17", Join).await.expect("accepted");
    all_are_indexed(&store).await;

    let with = || {
        let open = open.clone();
        application().keyring(move |store| Some(open(store.postgres()?)))
    };
    let url = url();
    for command in
        [&["state", "member", "17"][..], &["claim", "--personal", "name", NAME], &["rebuild", "directory"]]
    {
        let run = async |application| {
            let all = ["club", "--postgres", &url, "--schema", &schema.name];
            let code = es_tools::cli_from(application, all.iter().chain(command).copied()).await;
            code == std::process::ExitCode::SUCCESS
        };
        assert!(!run(application()).await, "{command:?} without the keyring");
        assert!(run(with()).await, "{command:?}");
    }
    let rows = ReadModel::<MemberRow>::of::<Directory>(&SealedStore::new(store.clone(), keyring.clone()));
    let row = rows.get("17").await.expect("reads").expect("a row");
    assert_eq!(row.name.value().map(String::as_str), Some(NAME));

    let known = page(store.clone(), with()).await;
    assert!(known.contains("(personal)") && !known.contains("cannot be"), "{known}");
    keyring.forget(&Subject::new("17").expect("valid")).await.expect("forgotten");
    let forgotten = page(store, with()).await;
    assert!(forgotten.contains("(forgotten)") && !forgotten.contains("(personal)"), "{forgotten}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn streams_keys_and_claims_are_shown() {
    let schema = Schema::new();
    let store = schema.store().await;
    deposit(&store, "ann", &[5, 700]).await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let decide = async |_: &Account, _: &Context<Account>| {
        Ok::<_, std::io::Error>(Events::from(Deposited { cents: 1 }).claim("email", "ann@example.com"))
    };
    accounts.once("message-1").decide("ann", decide).await.expect("accepted");
    all_are_indexed(&store).await;

    // From the environment, too.
    let shown = ["--schema", &schema.name, "--json", "stream", "show", "account#ann", "--payloads"];
    let shown = lines(&run(&shown, &[(URL, &url())]).succeeds());
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[1]["events"][0]["payload"], json!({ "cents": 700 }));
    assert_eq!(schema.es(&["claim", "email", "ann@example.com"]).succeeds(), "account#ann\n");
    let key = schema.es(&["key", "message-1", "--stream", "account#ann", "--json"]).json();
    assert_eq!(key["streams"], json!([{ "stream": "account#ann", "events": [3, 3] }]));

    let feed = lines(&schema.es(&["--json", "feed", "show", "0"]).succeeds());
    assert_eq!(feed.iter().map(|one| one["position"].clone()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        schema.es(&["--json", "feed", "lag"]).json()["slices"],
        json!([{ "slice": 0, "end": 3, "children": null }])
    );

    let exported = schema.es(&["stream", "export", "--all"]).succeeds();
    let file = std::env::temp_dir().join(format!("{}.jsonl", schema.name));
    std::fs::write(&file, exported).expect("writes");
    let to = Schema::new();
    to.store().await;
    let imported = to.es(&["--json", "import", file.to_str().expect("UTF-8")]).json();
    std::fs::remove_file(&file).expect("exists");
    assert_eq!(imported, json!({ "streams": 1, "events": 3, "new": 3 }));

    schema.es(&["--yes", "stream", "delete", "account#ann"]).succeeds();
    assert!(accounts.load("ann").await.is_err(), "is deleted");
    assert_eq!(store.head(&"account#ann".parse().expect("valid")).await.expect("reads").version, 4);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn commands_for_dynamodb_are_refused() {
    let schema = Schema::new();
    schema.store().await;
    for (arguments, reason) in [
        (&["table", "create"][..], "`table` is for DynamoDB: `schema` creates"),
        (&["table", "verify"], "`table` is for DynamoDB: `schema` creates"),
        (&["--yes", "table", "reset"], "`table` is for DynamoDB: `schema` creates"),
        (&["feed", "audit"], "`feed audit` is for DynamoDB: on PostgreSQL, the feed consists"),
        (&["feed", "reconcile"], "`feed reconcile` is for DynamoDB"),
        (&["--yes", "feed", "pass-over", "account#ann"], "`feed pass-over` is for DynamoDB"),
    ] {
        let refused = schema.es(arguments).fails(1);
        assert!(refused.contains(reason), "{refused}");
    }
}

/// An open transaction that holds back the feed is shown with the lag.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_transaction_that_delays_the_feed_is_shown() {
    let schema = Schema::new();
    let store = schema.store().await;
    let mut open = store.pool().begin().await.expect("begins");
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *open).await.expect("assigns an id");
    deposit(&store, "ann", &[1]).await;
    let lag = schema.es(&["--json", "feed", "lag"]).json();
    assert_eq!(lag["delay"]["waiting"], 1, "{lag}");
    let lag = schema.es(&["feed", "lag"]).succeeds();
    assert!(lag.contains("1 commit held back by the session"), "{lag}");
    open.rollback().await.expect("ends");
}

/// A file, a schema, another schema, and a file again: all have the same content.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_store_is_copied_to_postgresql_and_back() {
    let (place, back) = (Place::new("copy-to-postgres"), Place::new("copy-from-postgres"));
    fill(&place).await;
    back.es(&["table", "create"]).succeeds();
    let digests = digests(&place, &address(&place));
    let (first, second) = (Schema::new(), Schema::new());
    let missing = place.es(&["copy", "--from", &address(&place), "--to", &first.address()]).fails(1);
    assert!(missing.contains("has no event store"), "{missing}");
    first.store().await;
    let store = second.store().await;
    let steps = [address(&place), first.address(), second.address(), address(&back)];
    for step in steps.windows(2) {
        let copy = ["--json", "copy", "--from", &step[0], "--to", &step[1]];
        for expected in [12, 0] {
            let copied = place.es(&copy).json();
            assert_eq!(
                (&copied["copied"], &copied["verified"]),
                (&json!(expected), &json!(true)),
                "{copied}"
            );
            assert_eq!((&copied["claims"], &copied["idempotency_keys"]), (&json!(2), &json!(2)), "{copied}");
        }
        assert_eq!(self::digests(&place, &step[0]), digests, "{}", step[0]);
    }
    // The feeds have the same order.
    all_are_indexed(&store).await;
    let order = |schema: &Schema| {
        let shown = lines(&schema.es(&["--json", "feed", "show", "0"]).succeeds());
        shown.iter().map(|one| (one["position"].clone(), one["commit"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(order(&first).len(), 8, "without lifecycle commits and erased events");
    assert_eq!(order(&first), order(&second));
    assert_eq!(second.es(&["claim", "email", "bob"]).succeeds(), "account#bob\n");
    let accounts: Repository<Account> = Repository::new(store);
    for id in ["closed", "deleted"] {
        let error = accounts.execute(id, Deposit(1)).await.expect_err("has ended");
        assert!(error.closed().is_some(), "{error:?}");
    }
}

/// Large events are objects of a payload store in a table, and part of their rows on PostgreSQL.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn large_events_are_copied_to_postgresql_and_back() {
    let (place, back) = (Place::new("large-to-postgres"), Place::new("large-from-postgres"));
    fill_with_large_events(&place).await;
    back.es(&["table", "create"]).succeeds();
    let schema = Schema::new();
    schema.store().await;
    let objects = |place: &Place| place.path("objects").to_str().expect("UTF-8").to_owned();
    let copy = |from: &str, to: &str, more: &[&str]| {
        place.es(&[&["--json", "copy", "--from", from, "--to", to][..], more].concat())
    };
    let (of_source, of_target) = (objects(&place), objects(&back));
    let without = copy(&address(&place), &schema.address(), &[]).fails(1);
    assert!(without.contains("--payload-store"), "{without}");
    let from = ["--from-payload-store", &of_source];
    let misplaced = copy(&schema.address(), &address(&back), &from).fails(1);
    assert!(misplaced.contains("files and PostgreSQL contain large events themselves"), "{misplaced}");
    for expected in [4, 0] {
        let copied = copy(&address(&place), &schema.address(), &from).json();
        assert_eq!((&copied["copied"], &copied["verified"]), (&json!(expected), &json!(true)), "{copied}");
    }
    let without = copy(&schema.address(), &address(&back), &[]).fails(1);
    assert!(without.contains("--to-payload-store"), "{without}");
    let to = ["--to-payload-store", &of_target];
    for expected in [4, 0] {
        let copied = copy(&schema.address(), &address(&back), &to).json();
        assert_eq!((&copied["copied"], &copied["verified"]), (&json!(expected), &json!(true)), "{copied}");
    }
    let names = |place: &Place| {
        let paths = crate::copy::objects(place);
        paths.iter().filter_map(|path| path.file_name().map(OsString::from)).collect::<BTreeSet<_>>()
    };
    assert_eq!((names(&back).len(), names(&back)), (3, names(&place)));
    let show = ["--json", "stream", "show", "document#a", "--payloads"];
    let shown = schema.es(&show).succeeds();
    assert!(shown.contains("larger than before larger than before") && shown.contains("small"));
    for table in [&place, &back] {
        let from_table = table.es(&[&["--payload-store", "objects"][..], &show].concat()).succeeds();
        assert!(from_table == shown, "the streams are equal");
    }
}

#[derive(Clone, Projection)]
#[projection(name = "balances", events(Account(Deposited)))]
struct Balances {
    #[read_model]
    tables: SqlReadModel,
}

#[handlers]
impl Balances {
    #[project]
    async fn deposited(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let add = "INSERT INTO balances VALUES ($1, $2) \
                   ON CONFLICT (account) DO UPDATE SET cents = balances.cents + excluded.cents";
        let query = sqlx::query(add).bind(ctx.id()).bind(event.cents as i64);
        query.execute(self.tables.transaction().await?).await?;
        Ok(())
    }
}

/// The untyped commands operate a projection that they do not know, and drop its tables.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn projections_are_operated_and_their_tables_are_dropped() {
    let schema = Schema::new();
    let store = schema.store().await;
    deposit(&store, "ann", &[5, 700]).await;
    all_are_indexed(&store).await;
    let tables = "CREATE TABLE balances (account text PRIMARY KEY, cents bigint NOT NULL)";
    let balances = Balances { tables: SqlReadModel::of::<Balances>(&store, tables) };
    let projector = Projector::builder(store.clone(), balances).retry(RetryPolicy::never()).build();
    projector.run_until_caught_up().await.expect("runs");

    let list = schema.es(&["--json", "projection", "list"]).json();
    assert_eq!((&list[0]["name"], &list[0]["lag"]), (&json!("balances"), &json!(0)), "{list}");
    let unknown = schema.es(&["projection", "pause", "mails"]).fails(1);
    let place = format!("no projection `mails` has run on the schema `{}`", schema.name);
    assert!(unknown.contains(&place), "{unknown}");
    schema.es(&["projection", "pause", "balances"]).succeeds();
    assert_eq!(schema.es(&["--json", "projection", "list"]).json()[0]["state"], "paused");
    schema.es(&["projection", "resume", "balances"]).succeeds();

    let done = schema.es(&["--json", "projection", "rebuild", "balances"]).json();
    assert_eq!(done["replaced_builds"], Value::Null, "{done}");
    projector.run_until_caught_up().await.expect("runs");
    let done = schema.es(&["projection", "switch", "balances"]).succeeds();
    assert!(done.contains("The data of the replaced build 1 is stored until you delete it"), "{done}");
    let schemas = async || store.projection_schemas("balances").await.expect("reads");
    assert_eq!(schemas().await, [1, 2].map(|build| format!("{}_balances_{build}", schema.name)));
    schema.es(&["--yes", "projection", "delete-replaced", "balances"]).succeeds();
    assert_eq!(schemas().await, [format!("{}_balances_2", schema.name)]);
    let done = schema.es(&["--yes", "--json", "projection", "reset", "balances"]).json();
    assert_eq!(done["replaced_builds"], json!([2]));
    schema.es(&["--yes", "projection", "remove", "balances"]).succeeds();
    assert_eq!(schemas().await, [""; 0]);
    assert_eq!(schema.es(&["--json", "projection", "list"]).json(), json!([]));
}

/// The pages show a store on PostgreSQL, without write units.
#[cfg(feature = "explorer")]
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_explorer_shows_a_schema() {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    let schema = Schema::new();
    let store = schema.store().await;
    deposit(&store, "ann", &[5, 700]).await;
    all_are_indexed(&store).await;
    let explorer = es_tools::Explorer::new(store, es_tools::Application::new("bank")).show_payloads();
    let router = explorer.into_router();
    let page = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("valid");
        let response = router.clone().oneshot(request).await.expect("answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8(body.to_vec()).expect("UTF-8")
    };
    let start = page("/").await;
    assert!(start.contains(&format!("Schema {}", schema.name)) && start.contains("account#ann"), "{start}");
    let stream = page("/streams/account%23ann").await;
    assert!(stream.contains("Deposited") && !stream.contains("write units"), "{stream}");
    let event = page("/streams/account%23ann/2").await;
    assert!(event.contains("700") && !event.contains("write units"), "{event}");
    assert!(page("/feed").await.contains("account#ann"));
}

/// Runs the query of the chapter on migration on a table of postgres-es, and imports its result.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_table_of_postgres_es_is_imported() {
    let schema = Schema::new();
    let store = schema.store().await;
    let old = format!("old_{}", Uuid::new_v4().simple());
    let tables = format!(
        "CREATE SCHEMA {old}; SET search_path TO {old}; CREATE TABLE events (aggregate_type text NOT NULL, \
         aggregate_id text NOT NULL, sequence bigint NOT NULL, event_type text NOT NULL, event_version text NOT NULL, \
         payload json NOT NULL, metadata json NOT NULL, PRIMARY KEY (aggregate_type, aggregate_id, sequence)); \
         INSERT INTO events VALUES \
         ('account', 'ann', 2, 'Deposited', '1.0', '{{\"Deposited\": {{\"cents\": 700}}}}', '{{\"at\": \"2026-01-02T03:04:05Z\"}}'), \
         ('account', 'ann', 1, 'Deposited', '1.0', '{{\"Deposited\": {{\"cents\": 5}}}}', '{{}}')"
    );
    let mut connection = store.pool().acquire().await.expect("connects");
    sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(&mut *connection).await.expect("creates the table");

    let chapter = include_str!("../../../docs/src/migration.md");
    let query = chapter.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a query");
    let lines: Vec<String> =
        sqlx::query_scalar(query).fetch_all(&mut *connection).await.expect("executes the query");
    let file = tempfile::NamedTempFile::new().expect("creates a file");
    std::fs::write(file.path(), lines.join("\n")).expect("writes the file");

    let path = file.path().to_str().expect("is text");
    assert_eq!(schema.es(&["import", path]).succeeds(), "imported 2 events; already stored: 0 events\n");
    assert_eq!(schema.es(&["import", path]).succeeds(), "imported 0 events; already stored: 2 events\n");
    let accounts: Repository<Account> = Repository::new(store);
    let past = accounts.history("ann").all().await.expect("reads");
    assert_eq!(past.len(), 2);
    assert_eq!(past[0].time.to_rfc3339(), "2020-01-01T00:00:00+00:00");
    assert_eq!(past[1].time.to_rfc3339(), "2026-01-02T03:04:05+00:00");
    assert_eq!(past[1].metadata.get("at").and_then(Value::as_str), Some("2026-01-02T03:04:05Z"));
    let AccountEvent::Deposited(deposited) = &past[1].event;
    assert_eq!(deposited.cents, 700);

    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP SCHEMA {old} CASCADE")))
        .execute(&mut *connection)
        .await
        .expect("removes the table");
}
